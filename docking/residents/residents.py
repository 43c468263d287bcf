"""The table of agents that are here, and what all parts that handle them share: tell, write, run, later.

Decides nothing, and knows none of its users. Invariants: an agent is in `berths` exactly while it belongs to this
station; everything that an operator should know is told through here.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import shutil
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from attrs import define, field

from agents import canonical
from agents.credentials.keys import PublicKey, SecretKey, text_of
from agents.errors import BadSnapshot, PortcallError
from agents.snapshot import ROOTED_MAGIC, Snapshot
from docking.aio import eager
from docking.aio.clocks import Clocks
from docking.aio.deadlines import Deadlines
from docking.aio.failures import log_failure
from docking.errors import LocalProtocolError, StationError, WriteFailed
from docking.events import Event, EventKind, Events
from docking.letters.journeys import Journeys, JourneyStanding
from docking.letters.outbox import Outbox
from docking.peers.directory import PeerDirectory
from docking.residents import checkpoints
from docking.residents.berth import LARGE, Berth, Standing
from docking.residents.unmapping import Unmapping
from docking.residents.workers import Workers
from docking.store.changes import Change, StoredCapsule
from docking.store.group_commit import GroupCommit
from docking.store.store import Store
from docking.trust.admission import Load

T = TypeVar("T")
# The logger's name is public, and independent of the module's.
_log = logging.getLogger("portcall.station")
# The logs of so many agents that ended or left are kept.
REMEMBERED_LOGS = 256
# Share of the memory that agents may hold from which on no state is kept in it that can be fetched again.
CROWDED = 0.5
# Bytes of a state that counts as held where the store is in memory too.
NOTED = 64 << 10
# The longest delay of work that nobody waits for, seconds.
WRITE_DELAY_S = 0.02
# Several events of a hop name the same agent.
_text = functools.lru_cache(maxsize=1024)(text_of)


def seen(future: asyncio.Future[None]) -> bool:
    """Whether a write succeeded. Its error is logged here, not raised."""
    if future.cancelled():
        return False
    error = future.exception()
    if error is not None and not isinstance(error, WriteFailed):  # for those, the station itself fails, and says so
        _log.error("a write to the store failed: %s", error)
    return error is None


def _stored(berth: Berth) -> int:
    """Bytes of its state in the store."""
    return berth.saved.state.size if isinstance(berth.saved, checkpoints.StoredState) else 0


@define(eq=False, repr=False)
class Residents:
    """The residents of the station called `name` with `key`."""

    name: str
    key: SecretKey
    store: Store
    journal: GroupCommit
    peers: PeerDirectory
    clocks: Clocks
    events: Events
    workers: Workers
    journeys: Journeys
    outbox: Outbox
    berths: dict[bytes, Berth] = field(factory=dict)
    active: dict[bytes, Berth] = field(factory=dict)
    """The agents that may have an instance now: few, where thousands sleep."""
    past: dict[bytes, Berth] = field(factory=dict)
    owners: Counter[PublicKey] = field(factory=Counter)
    counts: Counter[str] = field(factory=Counter)
    unmapping: Unmapping = field(factory=Unmapping)
    """Gives the memory of large agents back that have left."""
    in_doubt: dict[bytes, str] = field(factory=dict)
    timers: Deadlines = field(factory=Deadlines)
    """For agents that wait: what is to be done when their time is over."""
    whole: Callable[[Snapshot, bytes], Snapshot] = field(init=False)
    """Makes a stored state whole whose blocks were stored beside (`docking.live.sessions`). From any thread."""
    prepared_bytes: Callable[[], int] = lambda: 0
    """Bytes of memory that is held for agents on their way here."""
    memory: Callable[[], int] = lambda: 4 << 30
    """Bytes that agents may hold, says the policy."""
    closing: bool = False
    failure: str = ""
    """Why the station cannot go on: its store does not write. It must be started again."""
    loop: asyncio.AbstractEventLoop | None = None
    tasks: set[asyncio.Future[Any]] = field(factory=set)
    changed: Callable[[bytes], None] = lambda agent: None
    """Called when an agent has come here, has left, or stays after it was about to leave."""
    came: Callable[[Berth], None] = lambda berth: None
    """Called when an agent has come from another station, before it goes on."""
    hear: Callable[[Berth], None] = field(init=False)
    """Called in the loop when an agent has logged or sent something."""
    _later: deque[Callable[[], None]] = field(factory=deque)
    _catching_up: asyncio.Handle | None = None

    def tell(self, kind: EventKind, agent: bytes = b"", place: str = "", text: str = "", label: str = "") -> None:
        """Publish an event, and log it."""
        berth = self.berths.get(agent) or self.past.get(agent)
        name = _text(agent) if agent else ""
        shown = label or (berth.label if berth is not None else "")
        self.counts[kind] += 1
        self.events.tell(Event(self.clocks.now(), kind, name, shown, place, text))
        level = logging.WARNING if kind in ("alarm", "stopped") else logging.DEBUG if kind == "log" else logging.INFO
        if not _log.isEnabledFor(level):
            return
        extra = {"station": self.name, "agent": name, "label": shown, "place": place, "event": kind}
        _log.log(level, "%s %s %s %s", kind, shown or name[:12], place, text, extra=extra)

    def tell_home(self, berth: Berth, standing: JourneyStanding, said: str = "") -> None:
        """Tell the agent's home that it is here, and what it does."""
        if changes := self.word_home(berth, standing, said):
            self.write(changes)

    def word_home(self, berth: Berth, standing: JourneyStanding, said: str) -> list[Change]:
        """The same, but returns what is to be written here instead of writing it."""
        own = berth.credentials
        word = self.journeys.word(own.agent, own.passport.digest, own.visit, standing, said)
        home = own.passport.body.home.station
        if home != self.key.public:
            self.peers.hint(home, own.passport.body.home.addresses)
            self.outbox.say(home, own.agent, word)
            return []
        change = self.journeys.told(self.key.public, word)
        return [] if change is None else [change]

    def told(self, berth: Berth) -> None:
        """From a worker: the agent has logged or sent something."""
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.hear, berth)

    def write(self, changes: list[Change]) -> None:
        """Write soon, without waiting."""
        eager.when_done(self.journal.write(changes, False), seen)

    def post(self, letter: Change) -> None:
        """Put a letter into the outbox, and start sending once it is there."""

        def written(future: asyncio.Future[None]) -> None:
            if seen(future):
                self.outbox.nudge()

        self.journal.write([letter], False).add_done_callback(written)

    def run(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run a coroutine in the background; it is cancelled when the station stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._watch(task)
        return task

    def begin(self, work: Coroutine[object, object, object]) -> None:
        """The same, but runs up to its first wait now."""
        self._watch(eager.start_eagerly(work, asyncio.get_running_loop()))

    def _watch(self, task: asyncio.Future[Any]) -> None:
        self.tasks.add(task)
        eager.when_done(task, self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self.tasks.discard(task)
        log_failure(task)

    def aside(self, work: Callable[[], None]) -> None:
        """Do this a moment later: nobody waits for it, and agents that run or leave need the processor now."""
        self._later.append(work)
        if self._catching_up is None:
            self._catching_up = asyncio.get_running_loop().call_later(WRITE_DELAY_S, self.catch_up)

    def catch_up(self) -> None:
        """Do the postponed work now."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            self._catching_up = None
        while self._later:
            self._later.popleft()()

    def idle(self) -> None:
        """The agent that was here is on its way to others: do and write now what was postponed."""
        self.catch_up()
        self.journal.catch_up()

    def load(self) -> Load:
        """What the station holds now. From any thread."""
        memory_of: Counter[PublicKey] = Counter()
        for berth in tuple(self.active.values()):
            memory_of[berth.credentials.passport.body.owner] += self._held_by(berth)
        memory = memory_of.total() + self.journal.backlog + self.prepared_bytes()
        path = self.store.path
        free = None if path is None else shutil.disk_usage(path.parent).free
        return Load(len(self.berths), self.workers.busy, memory, self.owners, memory_of, free)

    def held(self) -> int:
        """Bytes of memory that agents hold here: instances, states, copies of these, and what is being written. From
        any thread."""
        return sum(map(self._held_by, tuple(self.active.values()))) + self.journal.backlog

    def _held_by(self, berth: Berth) -> int:
        return berth.held if berth.state is not None or not self.store.volatile else berth.held + _stored(berth)

    def crowded(self) -> bool:
        """Whether so much is held that states are written down and forgotten, where there are stores for them."""
        return not self.store.volatile and self.held() >= self.memory() * CROWDED

    def look_at(self, berth: Berth) -> None:
        """Whether an agent that stands still is still among those that hold memory."""
        if berth.life is not None or berth.state is not None or berth.running:
            return
        if not self.store.volatile or _stored(berth) < NOTED:
            self.active.pop(berth.agent, None)

    def settle(self, berth: Berth) -> None:
        self.berths[berth.agent] = berth
        earlier = self.past.pop(berth.agent, None)
        if earlier is not None:
            berth.recall(earlier)
        self.owners[berth.credentials.passport.body.owner] += 1
        self.changed(berth.agent)

    def unsettle(self, berth: Berth, standing: Standing) -> None:
        """Take an agent off the table."""
        self._free(berth)
        if berth.recording is not None:
            berth.recording.end()
        berth.standing = standing
        berth.state, berth.saved = None, None
        self.active.pop(berth.agent, None)
        if self.berths.pop(berth.agent, None) is not None:
            self.owners[berth.credentials.passport.body.owner] -= 1
        self.timers.stop(berth.agent)
        self.past[berth.agent] = berth
        while len(self.past) > REMEMBERED_LOGS:
            del self.past[next(iter(self.past))]
        self.changed(berth.agent)

    def _free(self, berth: Berth) -> None:
        """Give up its instance; a large one slowly, see `docking.residents.unmapping`."""
        if berth.occupied < LARGE or self.closing:
            berth.close()
        elif (life := berth.detach()) is not None:
            self.run(self.unmapping.close(life))

    def state_of(self, berth: Berth) -> bytes:
        """The stored state of a berth. From any thread. Raises `StationError` if the store is damaged."""
        assert isinstance(berth.saved, checkpoints.StoredState)
        state = self.store.part(berth.saved.state.digest)
        if state is None:
            raise StationError("the agent's state is not in the store")
        if canonical.digest(state) != berth.saved.state.digest:
            raise StationError("the agent's state was damaged in the store")
        if not state.startswith(ROOTED_MAGIC):
            return state
        try:
            berth.become_whole()
        except PortcallError as error:
            raise StationError(f"the agent's state is not whole: {error}") from error
        if isinstance(berth.state, Snapshot) and not berth.state.roots:
            return berth.state.encode()
        capsule = self.store.capsule(berth.agent, berth.visit)
        rest = None if capsule is None else self._blocks_of(capsule)
        if rest is None:
            raise StationError("the last blocks of the agent's memories are not in the store, or were damaged there")
        try:
            return self.whole(Snapshot.decode(state), rest).encode()
        except (BadSnapshot, LocalProtocolError) as error:
            raise StationError(f"the agent's state is not whole: {error}") from error

    def _blocks_of(self, capsule: StoredCapsule) -> bytes | None:
        """The blocks that came last, if they are as they were stored: those on the disk are overwritten with them."""
        for part in capsule.parts:
            if part.kind == "blocks":
                body = self.store.part(part.digest)
                return body if body is not None and canonical.digest(body) == part.digest else None
        return None
