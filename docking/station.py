"""The use-cases of a station: agents begin, come, run, wait, leave, end. No HTTP and no mDNS here.

What each part does is its own module's; the office decides what follows what. Its inputs are what the courier tells
(`_notify`), how turns of agents end (`_turned`), what peers say (`Correspondence`) and what people ask for. All of it
runs in one event loop; agents run in workers.

Invariants: an agent runs only if the ledger says that it is this station's; what an agent waits for is known before it
is put away; everything that a person should know is an event.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import shutil
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from attrs import define, evolve, field

from agents import canonical
from agents.credentials import envelope
from agents.credentials.keys import PublicKey, SecretKey, text_of
from agents.credentials.passport import verify_passport
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import Opening
from agents.engines import Engine
from agents.errors import CredentialError
from agents.snapshot import Snapshot
from agents.wasi.hostdirs import HostGrant
from docking import eager, papers, resting
from docking.admission import Load, grant, shed
from docking.arrivals import Arrivals
from docking.berth import Berth, Ground, Standing
from docking.certificates import Certificates
from docking.changes import Change, Purge, PutFact, StoredPart
from docking.config import Policy
from docking.correspondence import Correspondence
from docking.courier import Courier
from docking.customs import Admitted, Customs, check_wasi
from docking.deltas import Deltas
from docking.departures import Departures
from docking.endings import Endings
from docking.errors import StationError
from docking.events import Event as Told
from docking.events import Events
from docking.handoff.actions import Alarm, Drop, Expect, Left, Record, Release, Resume, Start, Timing
from docking.handoff.desk import Desk, Ledger
from docking.images import Images
from docking.journal import Journal
from docking.knowledge import Knowledge
from docking.launching import Launch
from docking.lookout import Lookout
from docking.mailbox import Mailbox
from docking.papers import part
from docking.peers import Peers
from docking.recovery import Recovery
from docking.refusal import Refusal
from docking.register import Register
from docking.residence import Residence, seen
from docking.steering import Steering
from docking.store import Failpoint, Store, never
from docking.workers import Workers
from docking.yellowpages import YellowPages

_log = logging.getLogger(__name__)
# Seconds until the first look for what can be forgotten, and between two; bytes of images and passports not in use.
FIRST_TIDY, TIDY, IDLE_BYTES = 600.0, 3600.0, 512 << 20
# Seconds for which work waits at most that nobody waits for.
ASIDE = 0.02
# Milliseconds that an agent may stay after its passport has expired.
EXPIRED = 3_600_000
# Several events a hop name one agent.
_text = functools.lru_cache(maxsize=1024)(text_of)


@define(eq=False)
class Clocks:
    """Where time and chance come from. `wall`, `monotonic`: ns."""

    wall: Callable[[], int]
    monotonic: Callable[[], int]
    random: Callable[[int], bytes]

    def now(self) -> int:
        """Milliseconds since 1970."""
        return self.wall() // 1_000_000


@define(eq=False)
class Office:
    """The use-cases of the station called `name` with `key`."""

    name: str
    key: SecretKey
    policy: Policy
    store: Store
    engine: Engine
    network: Any
    peers: Peers
    clocks: Clocks
    pages: YellowPages = field(factory=YellowPages)
    events: Events = field(factory=Events)
    threads: int = 2
    timing: Timing = field(factory=Timing)
    patience: float = 30.0
    failpoint: Failpoint = never
    certificates: Certificates = field(factory=Certificates)
    directories: Mapping[str, HostGrant] = field(factory=dict)
    """Of this machine, lent to agents: opened, and closed, by whoever makes the office."""
    berths: dict[bytes, Berth] = field(factory=dict)
    active: dict[bytes, Berth] = field(factory=dict)
    """The agents that may have an instance now: few, where thousands sleep."""
    counts: Counter[str] = field(factory=Counter)
    in_doubt: dict[bytes, str] = field(factory=dict)
    deltas: Deltas = field(factory=Deltas)
    closing: bool = False
    failure: str = ""
    """Why the station cannot go on: its store does not write. It must be started again."""
    failed: Callable[[], None] = lambda: None
    """Told once when there is a failure."""
    journal: Journal = field(init=False)
    knowledge: Knowledge = field(init=False)
    images: Images = field(init=False)
    register: Register = field(init=False)
    workers: Workers = field(init=False)
    customs: Customs = field(init=False)
    courier: Courier[Admitted] = field(init=False)
    arrivals: Arrivals = field(init=False)
    departures: Departures = field(init=False)
    mailbox: Mailbox = field(init=False)
    ground: Ground = field(init=False)
    endings: Endings = field(init=False)
    recovery: Recovery = field(init=False)
    letters: Correspondence = field(init=False)
    residence: Residence = field(init=False)
    steering: Steering = field(init=False)
    timers: dict[bytes, asyncio.TimerHandle] = field(factory=dict)
    _tasks: set[asyncio.Future[Any]] = field(factory=set)
    _left: dict[bytes, Callable[[], None]] = field(factory=dict)
    past: dict[bytes, Berth] = field(factory=dict)
    owners: Counter[PublicKey] = field(factory=Counter)
    loop: asyncio.AbstractEventLoop | None = None
    _tidying: asyncio.TimerHandle | None = None
    _overdue: set[bytes] = field(factory=set)
    _later: deque[Callable[[], None]] = field(factory=deque)
    _catching_up: asyncio.TimerHandle | None = None

    def __attrs_post_init__(self) -> None:
        clock, random = self.clocks.now, self.clocks.random
        self.residence, self.steering, self.arrivals = Residence(self), Steering(self), Arrivals(self)
        self.journal = Journal(self.store, self._store_failed)
        self.knowledge = Knowledge(self.store)
        self.images = Images(self.store, self.engine)
        self.register = Register(self.key.public, self.store, self.knowledge, clock)
        self.workers = Workers(self.threads)
        self.customs = Customs(
            self.key,
            self.policy,
            self.store,
            self.images,
            self.knowledge,
            clock,
            self.load,
            lambda hid: self.departures.leaving(hid),
            self.certificates,
        )
        desk: Desk[Admitted] = Desk(
            self.key.public.raw,
            self.store.epoch,
            Ledger(self.store.record, self.store.copies),
            self.customs.source(),
            self.customs.destination(),
            self.timing,
        )
        # Where a disk is waited for, its writer needs the processor more than who looks out for the answer.
        lookout = Lookout(lambda: not self.workers.busy) if self.store.volatile else None
        self.courier = Courier(desk, self.journal, self.network, self._notify, self.failpoint, lookout=lookout)
        self.departures = Departures(
            self.key,
            self.courier,
            self.peers,
            self.knowledge,
            self.images,
            clock,
            random,
            self.store.epoch,
            self.network.find,
            self.deltas,
            self.patience,
        )
        self.endings = Endings(self.key, self.knowledge, self.register, clock)
        self.recovery = Recovery(
            self.key.public,
            self.policy,
            self.store,
            self.images,
            self.knowledge,
            lambda: self.ground,
            self.certificates,
        )
        self.letters = Correspondence(self)
        self.mailbox = Mailbox(self.journal, self.network.letter, clock, self.letters.not_taken)
        self.ground = Ground(
            name=self.name,
            key=self.key,
            engine=self.engine,
            wall=self.clocks.wall,
            monotonic=self.clocks.monotonic,
            random=random,
            lookup=self._lookup,
            label=lambda stop: self.peers.label(stop.station),
            told=self.residence.told,
            wasi=self.policy.wasi,
            directories=self.directories,
        )

    # Its life

    def start(self) -> None:
        """Take up what the store says, and begin."""
        self.loop = asyncio.get_running_loop()
        self.peers.restore(self.store.fact("peers") or b"")
        recovered = self.courier.recover()
        for capsule in recovered.residents:
            self.arrivals.resume(capsule)
        for record in recovered.held:
            self.tell("alarm", record.agent, text="held: the station was stopped before the source had said commit")
        self.mailbox.start()
        # Not at once: the clock of a machine that has just started may still be set.
        self._tidying = asyncio.get_running_loop().call_later(FIRST_TIDY, self._tidy)

    def note_peers(self) -> None:
        """Remember where stations are."""
        self.write([PutFact("peers", self.peers.encode())])

    def _tidy(self) -> None:
        """Forget what is over and expired, now and then; end agents that may not travel any more."""
        self.write([Purge(IDLE_BYTES)])
        now = self.clocks.now()
        before, self._overdue = self._overdue, set()
        for berth in tuple(self.berths.values()):
            if now > berth.papers.passport.body.expires + EXPIRED and berth.standing is not Standing.LEAVING:
                self._overdue.add(berth.agent)
                # At two looks in a row: a clock that was wrong for a while must not end everybody.
                if berth.agent in before:
                    self.steering.obey(berth, "dispose")
        self._tidying = asyncio.get_running_loop().call_later(TIDY, self._tidy)

    def _store_failed(self, reason: str) -> None:
        """Nothing that happens from now on would last: no agent runs on, calls, sends or leaves. What was written is
        what is true, and a restart goes on from it.
        """
        self.failure = f"{reason}. Nothing is lost that was written: see to the disk, and start the station again"
        self.tell("alarm", text=f"this station cannot go on: {self.failure}")
        self.closing = True
        self.workers.interrupt_all()
        self.courier.fail()
        if self.loop is not None:  # else it has not begun
            self.run(self.mailbox.close())
        self.events.close()
        self.failed()

    async def close(self) -> None:
        """Suspend every agent, write all down, and stop. The next start goes on from there."""
        self.closing = True
        for timer in (self._tidying, *self.timers.values()):
            if timer is not None:
                timer.cancel()
        self.workers.interrupt_all()
        await self.workers.close()
        self.arrivals.close()
        await asyncio.sleep(0)  # what the workers' last turns tell
        self.catch_up()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for berth in tuple(self.berths.values()):
            self.residence.put_away(berth)
        self.note_peers()
        await self.mailbox.close()
        await self.courier.close()
        self.events.close()

    def aside(self, work: Callable[[], None]) -> None:
        """Do this a moment later: nobody waits for it, and an agent that runs or leaves needs the processor now."""
        self._later.append(work)
        if self._catching_up is None:
            self._catching_up = asyncio.get_running_loop().call_later(ASIDE, self.catch_up)

    def catch_up(self) -> None:
        """Do now what was put aside."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            self._catching_up = None
        while self._later:
            self._later.popleft()()

    def load(self) -> Load:
        """What the station holds now. From any thread."""
        memory = sum(berth.memory for berth in tuple(self.active.values()))
        path = self.store.path
        free = None if path is None else shutil.disk_usage(path.parent).free
        return Load(len(self.berths), self.workers.busy, memory, self.owners, free)

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run this beside everything else; it is cancelled when the station stops."""
        self._watch(asyncio.get_running_loop().create_task(work))

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run this too, and all that comes before its first wait now."""
        self._watch(eager.begin(work, asyncio.get_running_loop()))

    def _watch(self, task: asyncio.Future[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("something failed", exc_info=task.exception())

    def tell(self, kind: Any, agent: bytes = b"", place: str = "", text: str = "", label: str = "") -> None:
        """Something happened: to whoever listens, and to the log."""
        berth = self.berths.get(agent) or self.past.get(agent)
        name = _text(agent) if agent else ""
        shown = label or (berth.label if berth is not None else "")
        self.counts[kind] += 1
        self.events.tell(Told(self.clocks.now(), kind, name, shown, place, text))
        level = logging.WARNING if kind in ("alarm", "stopped") else logging.DEBUG if kind == "log" else logging.INFO
        if not _log.isEnabledFor(level):
            return
        extra = {"station": self.name, "agent": name, "label": shown, "place": place, "event": kind}
        _log.log(level, "%s %s %s %s", kind, shown or name[:12], place, text, extra=extra)

    # Agents begin

    async def launch(self, launch: Launch) -> Berth:
        """Begin an agent whose home is here; returns when it is durable. Raises `StationError`, `CredentialError`."""
        passport = verify_passport(launch.passport)
        opening = envelope.verify(Opening, launch.opening, passport.body.owner).body
        now = self.clocks.now()
        if (opening.agent, opening.passport) != (passport.body.agent, passport.digest):
            raise CredentialError("results-chain", "the opening of the results belongs to another agent")
        carried = canonical.digest(launch.image), canonical.digest(launch.state)
        if carried != (passport.body.image, passport.body.state):
            raise CredentialError("image-digest", "image or state are not those that the passport names")
        if now > passport.body.expires:
            raise CredentialError("expired", "the agent's passport has expired")
        granted = grant(passport.body, Budget(), self.policy)
        refusal = shed(self.policy, self.load())
        for each in (granted, refusal):
            if isinstance(each, Refusal):
                raise CredentialError(each.code, each.reason)
        assert isinstance(granted, Permit)
        agent = passport.body.agent
        if agent in self.berths or self.register.get(agent) is not None:
            raise StationError("this agent was launched already")
        found = self.images.get(passport.body.image)
        if found is None:
            image = await asyncio.get_running_loop().run_in_executor(None, self.images.validate, launch.image)
        else:
            image = found[0]
        snapshot = Snapshot.decode(launch.state)
        snapshot.check(image)
        check_wasi(snapshot, self.policy)
        own = papers.launched(passport, launch.opening, self.key.public, self.clocks.now())
        berth = Berth(self.ground, own, granted, image, part("image", launch.image), snapshot)
        first = resting.checkpoint(berth, launch.state)
        parts = tuple(StoredPart(s.part, launch.image) if s.part.kind == "image" else s for s in first.parts)
        await self.journal.write(
            [
                self.knowledge.learn(own.known, own.entries, passport.body.expires),
                evolve(first, parts=parts),
                self.register.opened(own.agent, passport, self.key.public),
            ],
            True,
        )
        self.residence.settle(berth)
        self.tell("launched", berth.agent)
        self.residence.go_on(berth, None)
        return berth

    # Agents come: what the courier tells

    def _notify(self, notice: Any) -> None:
        try:
            self._hear_courier(notice)
        except Exception:
            # The ledger has decided, and the store has the agent: a restart takes it up.
            _log.exception("a notice of the courier could not be followed")
            self.tell("alarm", text=f"{type(notice).__name__.lower()}: not followed; see the station's log")

    def _hear_courier(self, notice: Any) -> None:
        match notice:
            case Expect(record, cargo, admission):
                # Not before the receipt is on its way.
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, self.arrivals.expect, record, cargo, admission)
            case Start(record, cargo, admission):
                self.arrivals.arrive(record, cargo, admission)
            case Left(record):
                # Not before the commit is on its way: the agent waits for it, and nobody for this.
                self._left[record.agent] = functools.partial(self._gone, record, self.departures.left(record))
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, self.see_off, record.agent)
            case Resume(record):
                self.in_doubt.pop(record.hid, None)
                if self.departures.leaving(record.hid) is None:
                    self.arrivals.stays(record)
            case Alarm(hid, code, reason):
                if code in ("in-doubt", "destination-lost-agent"):
                    self.in_doubt[hid] = reason
                self.tell("alarm", text=f"{code}: {reason}")
            case Drop(record):
                self.in_doubt.pop(record.hid, None)
                self.arrivals.expect_no_more(record.hid)
            case Release(record):
                self.in_doubt.pop(record.hid, None)

    # Agents leave

    def see_off(self, agent: bytes) -> None:
        """Do what is still to be done about an agent that has left: at the latest when it comes back, which builds on
        what was learnt when it left.
        """
        gone = self._left.pop(agent, None)
        if gone is not None:
            gone()

    def _gone(self, record: Record, learnt: Callable[[], list[Change]]) -> None:
        """The agent is another station's, durably."""
        if changes := learnt():
            self.write(changes)
        berth = self.berths.get(record.agent)
        if berth is not None and berth.visit == record.hop:
            self.residence.unsettle(berth, Standing.ENDED)
            self.tell("left", record.agent, place=self.peers.label(PublicKey(record.peer)))
            berth.inbox.clear()

    # Agents end

    def tell_home(self, berth: Berth, standing: str, said: str = "") -> None:
        """Let the agent's home know that it is here, and what it does."""
        if changes := self.word_home(berth, standing, said):
            self.write(changes)

    def word_home(self, berth: Berth, standing: str, said: str) -> list[Change]:
        """The same, but what is to be written here for it is given back."""
        own = berth.papers
        word = self.register.word(own.agent, own.passport.digest, own.visit, standing, said)
        home = own.passport.body.home.station
        if home != self.key.public:
            self.peers.hint(home, own.passport.body.home.addresses)
            self.mailbox.say(home, own.agent, word)
            return []
        change = self.register.told(self.key.public, word)
        return [] if change is None else [change]

    # What agents say while they run

    def _lookup(self, service: str) -> tuple[str, ...]:
        """In a worker: stations that offer a service."""
        here = [self.name] if service in self.pages.names else []
        return tuple(here + [peer.name for peer in self.peers.offering(service)])[:64]

    # What is written

    def write(self, changes: list[Change]) -> None:
        """Write, some time soon."""
        self.journal.write(changes, False).add_done_callback(seen)

    def post(self, letter: Change) -> None:
        """Put a letter into the outbox, and send it when it is there: a nudge before would find nothing."""

        def written(future: asyncio.Future[None]) -> None:
            if seen(future):
                self.mailbox.nudge()

        self.journal.write([letter], False).add_done_callback(written)
