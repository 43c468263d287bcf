"""One agent at this station: its run, its budgets, its reports, and its state while it waits.

`Berth.turn` runs in a worker thread, from one wait to the next. Everything else runs in the event loop, and never
during
a turn (except `interrupt`). Nothing here decides where an agent goes, or writes to the store.

Invariants: an agent's code runs only inside `turn`; what it used is counted however the turn ends; what a berth holds
for
its agent (log, reports, messages) is bounded; a waiting berth holds no thread, and a parked one no instance.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping

from attrs import define, field, frozen

from agents import canonical
from agents.brief import brief
from agents.budget import TimeBudget as TimeBudget
from agents.budget import spent_ns
from agents.credentials.itinerary import Stop
from agents.credentials.keys import SecretKey, text_of
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import MAX_SEALED_BYTES, append
from agents.credentials.visits import Head
from agents.engines import Engine, Limits
from agents.errors import CallFailed, CompilingTooCostly, CredentialError, EngineLost, MemoryMissing, PortcallError
from agents.hostcalls import Ambient
from agents.image import AgentImage
from agents.life_events import LOW_PERCENT
from agents.outcomes import Exhausted, Finished, Trapped
from agents.runtime import Asked, Execution
from agents.runtime import Stop as Ending
from agents.snapshot import ONWARD, Snapshot
from agents.waits import (
    MAX_REASON_BYTES,
    Accept,
    Ask,
    Call,
    Clone,
    Event,
    Failed,
    Fork,
    Go,
    GoAt,
    Input,
    Message,
    Reply,
    Select,
    Sleep,
    Wait,
    Yield,
)
from agents.wasi.hostdirs import HostGrant
from agents.wasi.limits import WasiLimits
from docking.handoff.messages import Part
from docking.letters.orders import OrderKind
from docking.letters.packets import Packet, PacketKind
from docking.live.block_fetcher import FetchedAgent
from docking.recordings.stays import StayRecording
from docking.store.changes import Link
from docking.tracing import Span, TraceContext, Tracing
from docking.trust.agent_credentials import AgentCredentials
from docking.trust.labels import label_of
from docking.trust.mailbox import MAX_MAIL, MAX_TOPICS, Mailbox, Questions, Streams
from docking.trust.mailbox import Turn as Order

_log = logging.getLogger(__name__)
EDQUOT, EHOSTUNREACH, ENOENT, ENOSPC, EPERM, ETIMEDOUT = 19, 23, 44, 51, 63, 73
SPENT = "the agent has sent and called as often as its budget of messages allows"
# A shorter sleep keeps its instance: parking and restoring it would take as long.
PARK_NS = 50_000_000  # ns
# Bytes of memory from which on an agent's instance and states are not kept for the sake of speed.
LARGE = 4 << 20
# Reports of one stay: the station must hold and sign them.
MAX_REPORTS = 10_000
# Bytes of results that its home does not have yet: they go home in one letter, with the trail (`MAX_LETTER_BYTES`).
MAX_UNTOLD = 12 << 20
# Bytes of an entry beside what is sealed, at most.
ENTRY = 512
# Log lines kept per agent, the longest line, and characters in all: thousands of agents may be here, and the logs of
# hundreds that left are kept.
LOG_LINES = 1000
LOG_LINE_CHARS = 2000
# The least that a line counts for, in bytes: each is kept with a time and a name.
LOG_LINE_COST = 64
LOG_CHARS = 1 << 16
# Unread messages.
MAX_INBOX = 1000
MAX_INBOX_BYTES = 8 << 20


class Standing(enum.Enum):
    """What an agent is doing here."""

    READY = "ready"  # it runs, or queues for a thread
    WAITING = "waiting"  # for time, a message or a service
    LEAVING = "leaving"  # a handoff decides
    ASLEEP = "asleep"  # by order
    SUSPENDED = "suspended"  # the policy does not admit it any more
    STOPPED = "stopped"  # it trapped or used up its budget
    ENDED = "ended"


class Delivery(enum.Enum):
    """What became of a message for an agent."""

    TAKEN = "taken"  # it is in the agent's inbox
    AGAIN = "again"  # it was there before
    FULL = "full"  # the inbox has no room
    EARLY = "early"  # one that was sent before it has not come yet
    LATE = "late"  # nobody waits for it any more, or nobody ever did: it is dropped
    BUSY = "busy"  # the agent is leaving, or suspended by the policy
    AWAY = "away"  # the agent is not here


@frozen
class HostEnvironment:
    """What a station provides to its agents. Times in nanoseconds; `told(berth)`: it has new log lines (from any
    thread).

    `crowded()`: whether agents hold so much memory that none is kept for speed (any thread); `untold(own)`: bytes of
    the results with which an agent came and that its home does not know (any thread);
    `send(berth, to, body, number)`, in a worker: returns when the message is taken, durably. Raises `CallFailed`.
    `reply(berth, ident, response)`, in a worker: answers the request of a client, and `reply_to_agent` the question of
    an agent. Raises `CallFailed`. `publish(berth, topic, body, everywhere, most)`, likewise: how many copies were made,
    and how many of them for agents here.
    `record(berth)`: what records its stay, if anything does.
    """

    name: str
    key: SecretKey
    engine: Engine
    wall: Callable[[], int]
    monotonic: Callable[[], int]
    random: Callable[[int], bytes]
    lookup: Callable[[str], tuple[str, ...]]
    label: Callable[[Stop], str]
    told: Callable[[Berth], None]
    send: Callable[[Berth, str, bytes, int], None]
    reply: Callable[[Berth, str, bytes], None]
    reply_to_agent: Callable[[Berth, str, bytes, int], None]
    publish: Callable[[Berth, str, bytes, bool, int], tuple[int, int]]
    offer: Callable[[Berth, str, str | None], None]
    check_here: Callable[[str], None]
    crowded: Callable[[], bool] = lambda: False
    untold: Callable[[AgentCredentials], int] = lambda own: 0
    wasi: WasiLimits = field(factory=WasiLimits)
    directories: Mapping[str, HostGrant] = field(factory=dict, repr=brief)  # by the name that agents have for them
    record: Callable[[Berth], StayRecording | None] = lambda berth: None
    tracing: Tracing = field(factory=Tracing)


@frozen
class Turn:
    """How a turn ended. `state`: the encoded snapshot, if the agent gave up its instance; `digest`: of it, if it is
    large; `after`: takes the instance down, in the worker, once
    the event loop has handled the end of the turn.
    """

    stop: Ending
    state: bytes | None = field(default=None, repr=False)
    digest: bytes = b""
    after: Callable[[], None] | None = field(default=None, repr=False, eq=False)


@frozen
class LogLine:
    """A line of an agent's log. `time`: ms; `level`: 0 error, 1 warning, 2 information or output, 3 detail."""

    time: int
    level: int
    text: str


@define(eq=False, repr=False)
class Berth:
    """One agent that is here. `state` is None while it has an instance, or while only the store has its state."""

    environment: HostEnvironment
    credentials: AgentCredentials
    grant: Permit
    image: AgentImage
    image_part: Part
    _state: bytes | Snapshot | None = field(default=None, repr=False)
    standing: Standing = Standing.READY
    wait: Wait | None = None
    until: int = 0  # ms since 1970, when `wait` has an end
    text: str = ""  # why it stopped
    spent: int = 0  # when it stopped because its budget was used up (ms): it goes on when it gets more; 0: it did not
    agent: bytes = field(init=False)
    head: Head = field(init=False)
    reports: list[Link] = field(factory=list, repr=False)
    report_bytes: int = 0
    calls: int = 0
    sent: int = 0
    cloned: int = 0  # clones of this agent so far, over its whole journey
    cpu_us: int = 0  # in this stay
    turn_cpu: int = 0  # what it was granted of that when its turn began
    memory_bytes: int = 0  # peak
    inbox: list[Message] = field(factory=list, repr=False)
    taken: list[Message] = field(factory=list, repr=False)
    """Messages received since the last checkpoint: a crash gives them back."""
    seen: OrderedDict[bytes, None] = field(factory=OrderedDict, repr=False)
    streams: Streams = field(factory=Streams)
    topics: dict[str, None] = field(factory=dict, repr=False)
    offers: dict[str, str] = field(factory=dict, repr=False)
    """The services that it offers while it is here, and what it says of them."""
    questions: Questions = field(factory=dict, repr=False)
    """Those that it has asked, and of which it has not taken the answers."""
    # Made with the first line: an empty deque is as large as the rest of an agent that sleeps and says nothing.
    _lines: deque[LogLine] | None = field(default=None, repr=False)
    _fresh: deque[LogLine] | None = field(default=None, repr=False)
    life: Execution | None = field(default=None, repr=False)
    running: bool = False
    begun: bool = False  # it has had a turn here, so its state at arrival is outdated
    turned: list[asyncio.Future[bytes | None]] = field(factory=list, repr=False)
    """Each is given the state at the end of its turn, or None if it keeps its instance or ends then."""
    order: OrderKind | None = None  # what an operator or the home asked for, to be done when the turn has ended
    order_until: int = 0  # of an order to sleep: when that ends (ms); 0 for never
    to: str = ""  # where it is leaving to
    moving: bool = False  # it is being moved while it runs: it keeps its instance
    halting: asyncio.Future[Ending] | None = field(default=None, repr=False)
    """Whoever moves it waits for the end of its turn; it stands still then."""
    prepared: Callable[[], Execution] | None = field(default=None, repr=False)
    """Gives the instance in which its memories arrived, once; its state has only their roots."""
    ahead: bool = False  # its memory is being sent to its next stop: it goes from its instance
    owed: FetchedAgent | None = field(default=None, repr=False)
    """Blocks of its memory that are still on their way (post-copy): until they are here it has no state as a whole, so
    that it keeps its instance, and neither leaves nor is stored.
    """
    put_aside: bool = False  # its state is being stored while it waits: nothing of it runs, although a worker is busy
    lost: int = 0  # how often an engine was lost in which it ran, in this stay
    barred: str = ""  # why the policy suspends it here
    astray: bool = False  # an alarm said that it may live twice
    held_up: object = None  # why it waits for a station: `docking.residents.queued.HeldUp`
    saved: object = None  # what the store has of it: `docking.residents.checkpoints.StoredState`
    occupied: int = 0  # bytes that its instance takes, and what is being made of it
    recording: StayRecording | None = field(init=False, default=None, repr=False)
    trace: TraceContext | None = None
    """Of the trace to which its journey belongs, if it does to any."""
    onward: bool = False
    """Whether a task of its itinerary is over, and it is to be sent to the next stop."""

    brought: bool = False
    """Whether it was brought to its home by an order, not by its own `go`, and has not been told."""

    _began: int = 0  # what its thread had spent when its turn began
    _low: dict[str, None] = field(factory=dict, repr=brief)  # the budgets of which it was told
    _digest: bytes = b""  # of `state`, if it is known
    _label: str = ""
    _hurry: bool = False
    _lock: threading.Lock = field(factory=threading.Lock, repr=False)
    _opening: threading.Lock = field(factory=threading.Lock, repr=False)
    _kept: int = 0  # characters of `lines`
    spent_said: bool = False  # that its budget of messages is used up
    warned: Mapping[str, int] = field(factory=dict, repr=False)
    """The amounts of which it is said that little is left, and of how much."""
    _came_with: int | None = None
    _partial: dict[int, bytes] = field(factory=dict, repr=False)
    _told: bool = False
    _written: int = 0  # bytes of output in this stay: parking does not renew the budget
    _logged: int = 0

    def __attrs_post_init__(self) -> None:
        self.agent = self.credentials.agent
        self.head = self.credentials.results
        self.cloned = self.credentials.point.cloned
        self._label = label_of(self.credentials.passport.body, self.agent)
        self.recording = self.environment.record(self)

    @property
    def state(self) -> bytes | Snapshot | None:
        """Its state, where it has no instance and the store alone does not have it."""
        return self._state

    @state.setter
    def state(self, state: bytes | Snapshot | None) -> None:
        self._state, self._digest = state, b""

    def regrant(self, granted: Permit) -> None:
        """From now on it has this grant: its instance too, where that is of more time."""
        with self._lock:
            more, self.grant = granted.budget.cpu - self.grant.budget.cpu, granted
            budget = None if self.life is None else self.life.budget.cpu_ns
            if self.life is not None and budget is not None and more > 0:
                self.life.budget = TimeBudget(cpu_ns=budget + more * 1000)

    def put(self, state: bytes, digest: bytes = b"") -> None:
        """It stands still in this state. `digest`: of it, where that is known."""
        self._state, self._digest = state, digest

    def digest_of(self, state: bytes) -> bytes:
        """The digest of its state: computed once, in the worker if the state is large."""
        if state is not self._state:
            return canonical.digest(state)
        self._digest = self._digest or canonical.digest(state)
        return self._digest

    @property
    def held(self) -> int:
        """Bytes of memory that the station holds for it now: its instance, its state, copies. From any thread."""
        state = self._state
        if isinstance(state, Snapshot):
            return self.occupied + sum(len(block) for memory in state.memories for block in memory.blocks)
        return self.occupied + (0 if state is None else len(state))

    @property
    def cpu_now(self) -> int:
        """Microseconds of computing in this stay, up to now. From any thread."""
        with self._lock:
            life, granted = self.life, self.grant.budget.cpu
            left = None if life is None else life.left_ns()
        return self.cpu_us if left is None else max(self.cpu_us, granted - left // 1000)

    @property
    def got_more(self) -> bool:
        """Whether it was granted more time in the turn that has ended."""
        return self.has_time and self.grant.budget.cpu > self.turn_cpu

    @property
    def has_time(self) -> bool:
        """Whether it may run on, of the time that it is granted here."""
        return self.cpu_us < self.grant.budget.cpu

    @property
    def visit(self) -> int:
        """The index of this visit."""
        return self.credentials.visit

    @property
    def label(self) -> str:
        """What people call it."""
        return self._label

    @property
    def used(self) -> Budget:
        """What it used in this stay; `carried` is known only when it leaves."""
        # It was stopped when its time was used up. Stopping takes a moment more, which is not charged.
        cpu = min(self.cpu_us, self.grant.budget.cpu)
        # Refused calls have numbers too, and do not count.
        messages = min(self.sent + self.calls, self.grant.budget.messages)
        return Budget(cpu, self.memory_bytes, 0, messages)

    # In a worker

    def ready(self) -> None:
        """Make the instance before the agent belongs to this station. None of its code runs."""
        with self._opening:
            if self.life is None and self.state is not None:
                # The same error is raised, and handled, when it should run.
                with contextlib.suppress(PortcallError):
                    self._open().open()

    def become_whole(self) -> None:
        """Of an agent that came by a live move and has not run here: its whole state, instead of its instance.

        From any thread. Raises `PortcallError`.
        """
        with self._opening:
            if self.prepared is not None:
                whole = self._open().snapshot()
                self.close()
                self.state = whole

    def fetch(self, stored: Callable[[Berth], bytes]) -> None:
        """Load the stored state, unless there is another one or an instance."""
        with self._opening:
            if self.life is None and self.state is None:
                self.state = stored(self)

    def unready(self) -> None:
        """It will not belong to this station: give up the instance."""
        with self._opening:
            self.close()

    def turn(self, event: Event | None) -> Turn:
        """Run until the agent waits, leaves or ends. All that this takes is its own time: decoding and making its
        instance, running, capturing, compressing.

        Raises `MemoryMissing` if it was given up while it waited for its memory.
        """
        turn = self._turn(event) if self.trace is None else self._turn_traced(event)
        if self.owed is not None and self.owed.abandoned:
            self.close()
            raise MemoryMissing  # whatever it did on memory that it did not have
        return turn

    def traced(self) -> dict[str, object]:
        """The attributes that all its spans have."""
        ident = text_of(self.agent)
        return {"portcall.agent.id": ident, "portcall.agent.label": self.label, "portcall.visit": self.visit}

    def _turn_traced(self, event: Event | None) -> Turn:
        span, error = self.environment.tracing.start("run", self.trace, self.traced()), "lost"
        try:
            turn = self._turn(event)
            error = turn.stop.code if isinstance(turn.stop, Trapped) else ""
            if span is not None:
                span.set("portcall.stop", type(turn.stop).__name__.lower())
            return turn
        finally:
            if span is not None:
                span.end(error)

    def _turn(self, event: Event | None) -> Turn:
        began = self._began = spent_ns()
        try:
            with self._opening:
                life = self._open()
            self.begun = True
            if self.recording is not None:
                self.recording.turn(life, event)
            try:
                stop = life.advance(event)
            finally:
                usage = life.usage()
                self.memory_bytes = max(self.memory_bytes, usage.memory)
                self.occupied = usage.memory
                self._written = 0 if life.wasi is None else life.wasi.logged
                self._flush()
            if isinstance(stop, Finished) and self.travels_by_tasks and self.credentials.next_stops():
                stop = life.onward() or stop
                self.onward = stop is ONWARD
            if self.recording is not None:
                self.recording.stopped(stop)
            if isinstance(stop, Finished | Trapped | Exhausted):
                self.close()
                return Turn(stop)
            if self._stays(stop):
                return Turn(stop)
            return self._leave_instance(life, stop)
        except CompilingTooCostly as error:
            return Turn(Exhausted(error.what, error.reason))
        except (MemoryMissing, EngineLost):
            # What it did last says nothing about the agent.
            self.close()
            raise
        except PortcallError as error:
            # A foreign state that does not fit its image, or a state that cannot travel.
            self.close()
            return Turn(Trapped("state", str(error)))
        finally:
            # Rounded up: a turn of less than a microsecond is not free.
            self.cpu_us += -((began - spent_ns()) // 1000)

    @property
    def travels_by_tasks(self) -> bool:
        """Whether its itinerary names a task for each stop."""
        return self.credentials.passport.body.itinerary.has_tasks

    def state_while_it_waits(self) -> bytes | None:
        """Its state, encoded; it keeps its instance. None if it has none."""
        began, life = spent_ns(), self.life
        try:
            return None if life is None else life.snapshot().encode()
        finally:
            self.cpu_us += -((began - spent_ns()) // 1000)

    def put_down(self, stop: Ending) -> Turn:
        """Give up its instance, now that all of its memory is here. In a worker; nothing of the agent runs."""
        began, life = spent_ns(), self.life
        if life is None:
            raise MemoryMissing
        try:
            return self._leave_instance(life, stop)
        except PortcallError as error:
            self.close()
            return Turn(Trapped("state", str(error)))
        finally:
            self.cpu_us += -((began - spent_ns()) // 1000)

    def _leave_instance(self, life: Execution, stop: Ending) -> Turn:
        large = self.occupied >= LARGE
        if large:
            self.occupied *= 2
        snapshot = life.snapshot()
        if not large:
            with self._lock:
                self.life = None
            self.occupied = 0
            return Turn(stop, snapshot.encode(), after=life.close)
        # Memory, its compressed copy, and that as one: only two of the three at once.
        self.close()
        self.occupied = sum(len(block) for memory in snapshot.memories for block in memory.blocks)
        state = snapshot.encode()
        del snapshot
        self.occupied = 0
        return Turn(stop, state, canonical.digest(state))

    def _open(self) -> Execution:
        life = self.life
        if life is None and self.prepared is not None:
            life = self._adopt(self.prepared)
        if life is None:
            assert self.state is not None
            snapshot = self.state if isinstance(self.state, Snapshot) else Snapshot.decode(self.state)
            life = Execution(
                self.image,
                engine=self.environment.engine,
                ambient=self._ambient,
                snapshot=snapshot,
                wasi_limits=self.environment.wasi,
                grants=self._directories(),
                limits=Limits(memory=self.grant.budget.memory),
                budget=TimeBudget(cpu_ns=max(1, self.grant.budget.cpu - self.cpu_us) * 1000),
            )
            if life.wasi is not None:
                life.wasi.logged = self._written
            if self.recording is not None:
                self.recording.opened(snapshot)
            self.state = None
        with self._lock:
            self.life = life
            if self._hurry:
                self._hurry = False
                life.suspend()
        return life

    def _adopt(self, prepared: Callable[[], Execution]) -> Execution:
        self.prepared = None
        assert isinstance(self.state, Snapshot)
        life = prepared()
        if self.recording is not None:
            self.recording.opened(self.state)
        life.adopt(
            self.state,
            ambient=self._ambient,
            wasi_limits=self.environment.wasi,
            grants=self._directories(),
            budget=TimeBudget(cpu_ns=max(1, self.grant.budget.cpu - self.cpu_us) * 1000),
        )
        self.state = None
        return life

    @property
    def _ambient(self) -> Ambient:
        return self if self.recording is None else self.recording.ambient

    def _directories(self) -> dict[str, HostGrant]:
        """The directories of this machine that its permit covers."""
        allowed = self.grant.allows
        return {f"/{name}": found for name, found in self.environment.directories.items() if allowed(f"dir:{name}")}

    def _stays(self, stop: Ending) -> bool:
        """Whether the agent keeps its instance while it waits."""
        if self.owed is not None or (self.ahead and isinstance(stop, Go | GoAt | Asked)):
            return True
        if self.moving:
            return not isinstance(stop, Go | GoAt | Clone | Fork | Ask)
        if self.occupied >= LARGE and self.environment.crowded():
            return False
        match stop:
            case Call() | Yield() | Input() | Accept():
                return True
            case Sleep(ns):
                return ns < PARK_NS
            case _:
                return False

    def close(self) -> None:
        """Give up the instance."""
        life = self.detach()
        if life is not None:
            life.close()

    def detach(self) -> Execution | None:
        """Its instance, which is not its own any more."""
        with self._lock:
            life, self.life = self.life, None
        if life is not None:
            self.occupied = 0
        return life

    def interrupt(self) -> None:
        """Ask the agent to suspend at its next loop turn. From any thread."""
        with self._lock:
            if self.life is not None:
                self.life.suspend()
            else:
                self._hurry = True

    # What the agent asks for while it runs: `agents.hostcalls.Ambient`

    @property
    def station(self) -> str:
        """See `Ambient`."""
        return self.environment.name

    @property
    def agent_id(self) -> str:
        """See `Ambient`."""
        return text_of(self.agent)

    @property
    def next_stop(self) -> str:
        """See `Ambient`."""
        named = (stop for stop in self.credentials.next_stops() if isinstance(stop, Stop))
        return next(map(self.environment.label, named), "")

    @property
    def native(self) -> bool:
        """See `agents.hostcalls.native`."""
        return self.environment.wall is time.time_ns and self.environment.monotonic is time.monotonic_ns

    def wall_ns(self) -> int:
        """See `Ambient`."""
        return self.environment.wall()

    def monotonic_ns(self) -> int:
        """See `Ambient`."""
        return self.environment.monotonic()

    def random(self, size: int) -> bytes:
        """See `Ambient`."""
        return self.environment.random(size)

    def log(self, level: int, text: str) -> None:
        """See `Ambient`. Log lines share the budget of output, which is charged in `output`."""
        self._logged += len(text) + LOG_LINE_COST * (1 + text.count("\n"))
        if self._logged > self.environment.wasi.log_bytes:
            raise CallFailed(ENOSPC, "the log of this visit is full")
        for line in text.rsplit("\n", LOG_LINES + 1)[-LOG_LINES:]:
            self._line(level, line)

    def remark(self, text: str) -> None:
        """In the loop, while the agent does not run: add a line of the station to its log, since a failed call gives it
        only a number.
        """
        self._line(1, text)

    def remark_spent(self) -> None:
        """Its budget of messages is used up: once a visit, however often it tries."""
        if not self.spent_said:
            self.spent_said = True
            self.remark(SPENT)

    def recall(self, earlier: Berth) -> None:
        """It was here before: what it logged then stands before what it logs now."""
        now, self._lines, self._kept = tuple(self.lines), earlier._lines, earlier._kept
        for line in now:
            self._keep(line)

    def output(self, fd: int, data: bytes) -> None:
        """See `Ambient`."""
        # Look at no more of a flood than is kept: one write may have megabytes of nothing but line ends.
        written = self._partial.get(fd, b"") + data[-LOG_LINES * LOG_LINE_CHARS :]
        *whole, rest = written.rsplit(b"\n", LOG_LINES + 1)
        for line in whole[-LOG_LINES:]:
            self._pieces(fd, line)
        # An overlong line is already cut; its last piece waits for more.
        begun = max(len(rest) - 1, 0) // LOG_LINE_CHARS * LOG_LINE_CHARS
        if begun:
            self._pieces(fd, rest[:begun])
        self._partial[fd] = rest[begun:]

    def _pieces(self, fd: int, line: bytes) -> None:
        for at in range(0, max(len(line), 1), LOG_LINE_CHARS):
            self._line(2 if fd == 1 else 1, line[at : at + LOG_LINE_CHARS].decode("utf-8", "replace"))

    def _flush(self) -> None:
        for fd, rest in self._partial.items():
            if rest:
                self._line(2 if fd == 1 else 1, rest.decode("utf-8", "replace"))
        self._partial.clear()

    def _line(self, level: int, text: str) -> None:
        shown = "".join(
            c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text[:LOG_LINE_CHARS]
        )
        line = LogLine(self.environment.wall() // 1_000_000, level, shown)
        self._keep(line)
        if self._fresh is None:
            self._fresh = deque(maxlen=LOG_LINES)
        self._fresh.append(line)
        self._tell()

    @property
    def lines(self) -> Collection[LogLine]:
        """What it has logged: the last lines."""
        return () if self._lines is None else self._lines

    def _keep(self, line: LogLine) -> None:
        lines = self._lines
        if lines is None:
            lines = self._lines = deque(maxlen=LOG_LINES)
        if len(lines) == LOG_LINES:
            self._kept -= len(lines[0].text)
        lines.append(line)
        self._kept += len(line.text)
        while self._kept > LOG_CHARS:
            self._kept -= len(lines.popleft().text)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self.environment.told(self)

    def listen(self) -> list[LogLine]:
        """In the loop: the new lines."""
        self._told = False
        fresh = []
        while self._fresh:
            fresh.append(self._fresh.popleft())
        return fresh

    def report(self, key: str, value: bytes) -> None:
        """See `Ambient`."""
        size = len(key) + len(value)
        if len(self.reports) >= MAX_REPORTS or self._untold(size) > MAX_UNTOLD:
            raise CallFailed(ENOSPC, "the agent has reported as much as it may before its home knows of it")
        environment = self.environment
        try:
            signed, head = append(
                self.head,
                self.agent,
                self.visit,
                environment.wall() // 1_000_000,
                (key, value),
                self.credentials.passport.body.results,
                environment.key,
                environment.random(32),
            )
        except CredentialError as error:
            raise CallFailed(ENOSPC, error.reason) from error
        self.reports.append(Link(head.digest, self.head.digest, signed.envelope))
        self.head = head
        self.report_bytes += len(signed.envelope)

    def _untold(self, size: int) -> int:
        """Bytes of its results that home does not know, with another of this size: they come there in one letter."""
        own = self.credentials
        if self._came_with is None:
            # They are counted only where they can matter.
            most = own.results.count * (MAX_SEALED_BYTES + ENTRY)
            if self.report_bytes + most + size <= MAX_UNTOLD:
                return self.report_bytes + size
            self._came_with = self.environment.untold(own)
        return self.report_bytes + self._came_with + size

    def lookup(self, service: str) -> tuple[str, ...]:
        """See `Ambient`."""
        return self.environment.lookup(service)

    def send(self, to: str, body: bytes) -> None:
        """See `Ambient`."""
        if not self.grant.allows("host:send"):
            raise CallFailed(EPERM, "the agent's permit here does not cover host:send")
        if self.sent + self.calls >= self.grant.budget.messages:
            self.remark_spent()
            raise CallFailed(EDQUOT, SPENT)
        # The number is part of the letter's identity, so it is used up only when the message was taken.
        if self.trace is None:
            self.environment.send(self, to, body, self.sent + 1)
        else:
            self._send_traced(to, body)
        self.sent += 1

    def _message_span(self, what: str, size: int, **more: str) -> Span | None:
        said = {
            "messaging.system": "portcall",
            "messaging.operation.name": what,
            "messaging.operation.type": what,
            "messaging.message.body.size": size,
        }
        kind = "PRODUCER" if what == "send" else "CONSUMER"
        return self.environment.tracing.start(what, self.trace, {**self.traced(), **said, **more}, kind)

    def _send_traced(self, to: str, body: bytes) -> None:
        span = self._message_span("send", len(body), **{"messaging.destination.name": to[:200]})
        error = ""
        try:
            self.environment.send(self, to, body, self.sent + 1)
        except CallFailed as failed:
            error = f"errno {failed.errno}"
            raise
        finally:
            if span is not None:
                span.end(error)

    def reply(self, ident: str, response: bytes) -> None:
        """See `agents.hostcalls.reply`."""
        if "." in ident:
            self.environment.reply(self, ident, response)
            return
        if self.sent + self.calls >= self.grant.budget.messages:
            self.remark_spent()
            raise CallFailed(EDQUOT, SPENT)
        self.environment.reply_to_agent(self, ident, response, self.sent + 1)
        self.sent += 1

    def notice(self) -> str:
        """See `agents.hostcalls.notice`."""
        if self.brought:
            self.brought = False
            return "retracted"
        budget = self.grant.budget
        cpu = self.cpu_us + (spent_ns() - self._began) // 1000
        for what, used, most in (("cpu", cpu, budget.cpu), ("messages", self.sent + self.calls, budget.messages)):
            if what not in self._low and 100 * used >= LOW_PERCENT * most:
                self._low[what] = None
                return f"budget_low {what}"
        return ""

    def subscribe(self, topic: str) -> None:
        """See `agents.hostcalls.subscribe`."""
        if topic not in self.topics and len(self.topics) >= MAX_TOPICS:
            raise CallFailed(ENOSPC, f"an agent subscribes to at most {MAX_TOPICS} topics")
        self.topics = {**self.topics, topic: None}  # the event loop may be reading it

    def unsubscribe(self, topic: str) -> None:
        """See `agents.hostcalls.unsubscribe`."""
        self.topics = {each: None for each in self.topics if each != topic}

    def offer(self, service: str, attributes: str | None) -> None:
        """See `agents.hostcalls.offer` and `withdraw`."""
        self.environment.offer(self, service, attributes)

    def send_here(self, to: str, body: bytes) -> None:
        """See `agents.hostcalls.send_here`."""
        self.environment.check_here(to)
        self.send(to, body)

    def publish(self, topic: str, body: bytes, everywhere: bool) -> int:
        """See `agents.hostcalls.publish`. Each copy that is made here is a message of its budget."""
        if not self.grant.allows("host:send"):
            raise CallFailed(EPERM, "the agent's permit here does not cover host:send")
        left = self.grant.budget.messages - self.sent - self.calls
        if left <= 0:
            self.remark_spent()
            raise CallFailed(EDQUOT, SPENT)
        copies, here = self.environment.publish(self, topic, body, everywhere, left)
        self.sent += copies
        return here

    # Messages

    def deliver(self, packet: Packet, ident: bytes, now: int) -> Delivery:
        """Take a message for the agent: TAKEN, AGAIN, EARLY or FULL. `now`: ms since 1970."""
        streams = self.streams
        if packet.stream:
            order = streams.turn(packet.stream, packet.number, ident, packet.waited(now))
            if order is not Order.NEW:
                return Delivery.AGAIN if order is Order.AGAIN else Delivery.EARLY
        elif ident in self.seen:
            return Delivery.AGAIN
        if packet.kind in (PacketKind.REPLY, PacketKind.FAILED):
            return self._answered(packet, now)
        if packet.kind is PacketKind.ASK and now > packet.until:
            if packet.stream:
                streams.take(packet.stream, packet.number, ident)
            return Delivery.LATE
        size = self._mail_bytes()
        if len(self.inbox) + len(self.taken) >= MAX_INBOX or size + len(packet.body) > MAX_INBOX_BYTES:
            return Delivery.FULL
        if packet.stream:
            streams.take(packet.stream, packet.number, ident)
        else:
            self.see(ident)
        self.inbox.append(packet.message)
        return Delivery.TAKEN

    def took(self, packet: Packet, ident: bytes, now: int) -> bool:
        """Whether it took this message before. `now`: ms since 1970."""
        if not packet.stream:
            return ident in self.seen
        return self.streams.turn(packet.stream, packet.number, ident, packet.waited(now)) is Order.AGAIN

    def _mail_bytes(self) -> int:
        # Messages that were read count until the state is stored: a crash brings them back.
        answers = sum(len(each.answer) for each in self.questions.values() if each.answer is not None)
        return answers + sum(len(each.body) for each in (*self.inbox, *self.taken))

    def _answered(self, packet: Packet, now: int) -> Delivery:
        """Take the answer to a question: of who was asked, once, in time, and by the question's secret name."""
        question = self.questions.get(packet.token)
        if question is None or question.answer is not None or question.taken or now > question.until:
            return Delivery.LATE
        if packet.kind is PacketKind.REPLY and packet.sender != text_of(question.to):
            return Delivery.LATE
        if self._mail_bytes() + len(packet.body) > MAX_INBOX_BYTES:
            return Delivery.FULL
        question.errno = EHOSTUNREACH if packet.kind is PacketKind.FAILED else 0
        question.answer = packet.body
        return Delivery.TAKEN

    def answer(self, ident: str, now: int) -> Event | None:
        """The answer to the question of this name, for the agent; None if it may still come."""
        try:
            question = self.questions[bytes.fromhex(ident)]
        except (KeyError, ValueError):
            return Failed(ENOENT, "the agent has no such question to take the answer of")
        if question.taken:
            return Failed(ENOENT, "the agent has taken the answer to this question")
        if question.answer is None and now <= question.until:
            return None
        question.taken = True
        if question.answer is None:
            return Failed(ETIMEDOUT, "no answer came in time")
        if question.errno:
            return Failed(question.errno, question.answer.decode("utf-8", "replace")[:MAX_REASON_BYTES])
        return Reply(question.answer)

    def stored(self) -> None:
        """Its state is being stored: what it has received is not given again after a crash."""
        self.taken.clear()
        for name in [name for name, each in self.questions.items() if each.taken]:
            del self.questions[name]
        for each in self.questions.values():
            each.stored_known = each.known

    def open_mailbox(self, mailbox: Mailbox) -> None:
        """Take the messages that came with the agent, or were stored with it."""
        self.inbox.extend(mailbox.messages)
        self.streams, self.questions = mailbox.streams, mailbox.questions
        self.topics.update(dict.fromkeys(mailbox.topics))
        for ident in mailbox.seen:
            self.see(ident)

    def see(self, ident: bytes) -> None:
        """Remember a letter, so that a repeated one is recognized. The oldest are forgotten."""
        self.seen[ident] = None
        while len(self.seen) > MAX_MAIL:
            self.seen.popitem(last=False)

    def receive(self) -> Message:
        """The next message, for the agent."""
        message = self.inbox.pop(0)
        self.taken.append(message)
        if self.trace is not None:
            span = self._message_span("receive", len(message.body))
            if span is not None:
                span.end()
        return message

    def select(self, wanted: Select) -> Message | None:
        """The next message of those, for the agent; None if there is none."""
        message = next((each for each in self.inbox if wanted.wants(each)), None)
        if message is not None:
            self.inbox.remove(message)
            self.taken.append(message)
        return message
