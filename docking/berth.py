"""The place of one agent at this station: its run, its budgets, its reports, its state while it waits.

`Berth.turn` runs in a worker thread, from one wait to the next; all else in the event loop, and never at the same time
(except `interrupt`). Nothing here decides where an agent goes, or writes to the store.

Invariants: an agent's code runs only inside `turn`; what it used is added up whatever happened; what a berth holds for
its agent (lines of log, reports, messages) is bounded; a waiting berth holds no thread, and a parked one no instance.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

from attrs import define, field, frozen

from agents.budget import Budget as TimeBudget
from agents.credentials.itinerary import Stop
from agents.credentials.keys import SecretKey, text_of
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import append
from agents.credentials.visits import Head
from agents.engines import Engine
from agents.engines import Limits as EngineLimits
from agents.errors import CallFailed, CredentialError, PortcallError
from agents.image import AgentImage
from agents.outcomes import Exhausted, Finished, Trapped
from agents.runtime import Life
from agents.runtime import Stop as Ending
from agents.snapshot import Snapshot
from agents.waits import Call, Event, Input, Message, Sleep, Wait, Yield
from agents.wasi.hostdirs import HostGrant
from agents.wasi.limits import Limits as WasiLimits
from docking.changes import Link
from docking.handoff.messages import Part
from docking.papers import Papers

_log = logging.getLogger(__name__)
EDQUOT, ENOSPC, EPERM = 19, 51, 63
# A sleep that is shorter keeps its instance: to put it away and fetch it again would take as long.
PARK = 50_000_000  # ns
# Reports of one stay: what a station must hold, and sign, for one agent.
MAX_REPORTS = 10_000
MAX_REPORT_BYTES = 16 << 20
# Lines of log kept per agent, the longest, and characters of all: thousands of agents may be here, and hundreds that
# are gone are remembered.
LOG_LINES = 1000
LOG_LINE = 2000
# What each line counts for at least, in bytes: one that is kept somewhere has a time and a name.
LOG_LEAST = 64
LOG_TEXT = 1 << 16
# Messages that wait to be received.
INBOX = 1000
INBOX_BYTES = 8 << 20


class Standing(enum.Enum):
    """What an agent does here."""

    READY = "ready"  # it runs, or queues for a thread
    WAITING = "waiting"  # for time, a message or a service
    LEAVING = "leaving"  # a handoff decides
    ASLEEP = "asleep"  # a person put it to sleep
    STOPPED = "stopped"  # it trapped or used up its budget
    ENDED = "ended"


@frozen
class Ground:
    """What a station lends to its agents. Times in nanoseconds; `told(berth)`: it has lines or letters (any thread)."""

    name: str
    key: SecretKey
    engine: Engine
    wall: Callable[[], int]
    monotonic: Callable[[], int]
    random: Callable[[int], bytes]
    lookup: Callable[[str], tuple[str, ...]]
    label: Callable[[Stop], str]
    told: Callable[[Berth], None]
    wasi: WasiLimits = field(factory=WasiLimits)
    directories: Mapping[str, HostGrant] = field(factory=dict)  # by the name that agents have for them


@frozen
class Turn:
    """How a turn ended. `state`: the encoded snapshot, where the agent leaves its instance; `after`: gives that up, in
    the worker, when the end of the turn has been told.
    """

    stop: Ending
    state: bytes | None = field(default=None, repr=False)
    after: Callable[[], None] | None = field(default=None, repr=False, eq=False)


@frozen
class Line:
    """A line of an agent's log. `time`: ms; `level`: 0 error, 1 warning, 2 information or output, 3 detail."""

    time: int
    level: int
    text: str


@define(eq=False)
class Berth:
    """One agent, here. `state` is None while it has an instance, or while its state is only in the store."""

    ground: Ground
    papers: Papers
    grant: Permit
    image: AgentImage
    image_part: Part
    state: bytes | Snapshot | None = field(default=None, repr=False)
    standing: Standing = Standing.READY
    wait: Wait | None = None
    until: int = 0  # ms since 1970, when `wait` has an end
    text: str = ""  # why it stopped
    head: Head = field(init=False)
    reports: list[Link] = field(factory=list, repr=False)
    report_bytes: int = 0
    calls: int = 0
    sent: int = 0
    cloned: int = 0  # clones of this agent so far, on all its way
    cpu: int = 0  # us, in this stay
    memory: int = 0  # bytes, the most
    inbox: deque[Message] = field(factory=deque, repr=False)
    taken: list[Message] = field(factory=list, repr=False)
    """Messages received since the last checkpoint: a crash gives them back."""
    seen: OrderedDict[bytes, None] = field(factory=OrderedDict, repr=False)
    lines: deque[Line] = field(factory=lambda: deque(maxlen=LOG_LINES), repr=False)
    fresh: deque[Line] = field(factory=lambda: deque(maxlen=LOG_LINES), repr=False)
    outgoing: deque[tuple[str, bytes, int]] = field(factory=deque, repr=False)
    life: Life | None = field(default=None, repr=False)
    running: bool = False
    begun: bool = False  # it has had a turn here: what the store has of its arrival is the past
    order: str = ""  # what a person asked for, to be done when the turn has ended
    to: str = ""  # where it is leaving to
    astray: bool = False  # a person was told that it may live twice
    saved: object = None  # what the store has of it: `docking.resting.Saved`
    _hurry: bool = False
    _lock: threading.Lock = field(factory=threading.Lock, repr=False)
    _opening: threading.Lock = field(factory=threading.Lock, repr=False)
    _kept: int = 0  # characters of `lines`
    _partial: dict[int, bytes] = field(factory=dict, repr=False)
    _told: bool = False
    _written: int = 0  # bytes of output in this stay: an agent that is put away and fetched again has no new budget
    _logged: int = 0

    def __attrs_post_init__(self) -> None:
        self.head = self.papers.results
        self.cloned = self.papers.point.cloned

    @property
    def agent(self) -> bytes:
        """The agent's id."""
        return self.papers.agent

    @property
    def visit(self) -> int:
        """The index of this visit."""
        return self.papers.visit

    @property
    def label(self) -> str:
        """What people call it."""
        return self.papers.passport.body.label

    @property
    def used(self) -> Budget:
        """What it used in this stay; `carried` is known only when it leaves."""
        # It was stopped when its time was used up; what it took to stop it is ours.
        cpu = min(self.cpu, self.grant.budget.cpu)
        return Budget(cpu, self.memory, 0, self.sent + self.calls)

    # In a worker

    def ready(self) -> None:
        """Have the instance made before the agent is this station's. Nothing of it runs."""
        with self._opening:
            if self.life is None and self.state is not None:
                # What is wrong with it is found again, and told, when it shall run.
                with contextlib.suppress(PortcallError):
                    self._open().open()

    def fetch(self, stored: Callable[[Berth], bytes]) -> None:
        """Have the stored state at hand, if there is neither another nor an instance."""
        with self._opening:
            if self.life is None and self.state is None:
                self.state = stored(self)

    def unready(self) -> None:
        """It does not become this station's."""
        with self._opening:
            self.close()

    def turn(self, event: Event | None) -> Turn:
        """Run until the agent waits, leaves or ends."""
        try:
            with self._opening:
                life = self._open()
            self.begun = True
            before = life.usage().cpu_ns
            try:
                stop = life.advance(event)
            finally:
                usage = life.usage()
                # Rounded up: a turn of less than a microsecond is not free.
                self.cpu += -((before - usage.cpu_ns) // 1000)
                self.memory = max(self.memory, usage.memory)
                self._written = 0 if life.wasi is None else life.wasi.logged
                self._flush()
            if isinstance(stop, Finished | Trapped | Exhausted):
                self.close()
                return Turn(stop)
            if self._stays(stop):
                return Turn(stop)
            state = life.snapshot().encode()
            with self._lock:
                self.life = None
            return Turn(stop, state, life.close)
        except PortcallError as error:
            # A state that came from elsewhere and does not fit, or one that cannot travel.
            self.close()
            return Turn(Trapped("state", str(error)))

    def _open(self) -> Life:
        life = self.life
        if life is None:
            assert self.state is not None
            snapshot = self.state if isinstance(self.state, Snapshot) else Snapshot.decode(self.state)
            life = Life(
                self.image,
                engine=self.ground.engine,
                ambient=self,
                snapshot=snapshot,
                wasi_limits=self.ground.wasi,
                grants=self._directories(),
                limits=EngineLimits(memory=self.grant.budget.memory),
                budget=TimeBudget(cpu_ns=max(1, self.grant.budget.cpu - self.cpu) * 1000),
            )
            if life.wasi is not None:
                life.wasi.logged = self._written
            self.state = None
        with self._lock:
            self.life = life
            if self._hurry:
                self._hurry = False
                life.suspend()
        return life

    def _directories(self) -> dict[str, HostGrant]:
        """Those of this machine that its permit covers here."""
        allowed = self.grant.allows
        return {f"/{name}": found for name, found in self.ground.directories.items() if allowed(f"dir:{name}")}

    @staticmethod
    def _stays(stop: Ending) -> bool:
        """Whether the agent keeps its instance while it waits."""
        match stop:
            case Call() | Yield() | Input():
                return True
            case Sleep(ns):
                return ns < PARK
            case _:
                return False

    def close(self) -> None:
        """Give up the instance."""
        with self._lock:
            life, self.life = self.life, None
        if life is not None:
            life.close()

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
        return self.ground.name

    @property
    def agent_id(self) -> str:
        """See `Ambient`."""
        return text_of(self.agent)

    @property
    def next_stop(self) -> str:
        """See `Ambient`."""
        for stop in self.papers.next_stops():
            return self.ground.label(stop) if isinstance(stop, Stop) else ""
        return ""

    def wall_ns(self) -> int:
        """See `Ambient`."""
        return self.ground.wall()

    def monotonic_ns(self) -> int:
        """See `Ambient`."""
        return self.ground.monotonic()

    def random(self, size: int) -> bytes:
        """See `Ambient`."""
        return self.ground.random(size)

    def log(self, level: int, text: str) -> None:
        """See `Ambient`. As much of it as of output, which is counted where it is written."""
        self._logged += len(text) + LOG_LEAST * (1 + text.count("\n"))
        if self._logged > self.ground.wasi.log_bytes:
            raise CallFailed(ENOSPC, "the log of this visit is full")
        for line in text.rsplit("\n", LOG_LINES + 1)[-LOG_LINES:]:
            self._line(level, line)

    def remark(self, text: str) -> None:
        """In the loop, while it does not run: a line of the station's among the agent's, since a call tells it only a
        number."""
        self._line(1, text)

    def output(self, fd: int, data: bytes) -> None:
        """See `Ambient`."""
        # Of a flood no more is looked at than is kept: one write may have megabytes, of nothing but line ends.
        written = self._partial.get(fd, b"") + data[-LOG_LINES * LOG_LINE :]
        *whole, rest = written.rsplit(b"\n", LOG_LINES + 1)
        for line in whole[-LOG_LINES:]:
            self._pieces(fd, line)
        # The end of a line that is too long already waits for more.
        begun = max(len(rest) - 1, 0) // LOG_LINE * LOG_LINE
        if begun:
            self._pieces(fd, rest[:begun])
        self._partial[fd] = rest[begun:]

    def _pieces(self, fd: int, line: bytes) -> None:
        for at in range(0, max(len(line), 1), LOG_LINE):
            self._line(2 if fd == 1 else 1, line[at : at + LOG_LINE].decode("utf-8", "replace"))

    def _flush(self) -> None:
        for fd, rest in self._partial.items():
            if rest:
                self._line(2 if fd == 1 else 1, rest.decode("utf-8", "replace"))
        self._partial.clear()

    def _line(self, level: int, text: str) -> None:
        shown = "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text[:LOG_LINE])
        line = Line(self.ground.wall() // 1_000_000, level, shown)
        if len(self.lines) == LOG_LINES:
            self._kept -= len(self.lines[0].text)
        self.lines.append(line)
        self._kept += len(shown)
        while self._kept > LOG_TEXT:
            self._kept -= len(self.lines.popleft().text)
        self.fresh.append(line)
        self._tell()

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self.ground.told(self)

    def listen(self) -> list[Line]:
        """In the loop: the lines that are new."""
        self._told = False
        fresh = []
        while self.fresh:
            fresh.append(self.fresh.popleft())
        return fresh

    def report(self, key: str, value: bytes) -> None:
        """See `Ambient`."""
        size = len(key) + len(value)
        if len(self.reports) >= MAX_REPORTS or self.report_bytes + size > MAX_REPORT_BYTES:
            raise CallFailed(ENOSPC, "the agent has reported as much as it may in one stay")
        ground = self.ground
        try:
            signed, head = append(
                self.head,
                self.agent,
                self.visit,
                ground.wall() // 1_000_000,
                (key, value),
                self.papers.passport.body.results,
                ground.key,
                ground.random(32),
            )
        except CredentialError as error:
            raise CallFailed(ENOSPC, error.reason) from error
        self.reports.append(Link(head.digest, self.head.digest, signed.envelope))
        self.head = head
        self.report_bytes += size

    def lookup(self, service: str) -> tuple[str, ...]:
        """See `Ambient`."""
        return self.ground.lookup(service)

    def send(self, to: str, body: bytes) -> None:
        """See `Ambient`."""
        if not self.grant.allows("host:send"):
            raise CallFailed(EPERM, "the agent's permit here does not cover host:send")
        if self.sent + self.calls >= self.grant.budget.messages:
            raise CallFailed(EDQUOT, "the agent has sent as many messages as it may")
        if len(self.outgoing) >= INBOX:
            raise CallFailed(ENOSPC, "too many messages at once")
        self.sent += 1
        self.outgoing.append((to, body, self.sent))
        self._tell()

    # Messages

    def deliver(self, message: Message, ident: bytes) -> str:
        """Take a message for the agent: "taken", "again" (it was taken before), or "full"."""
        if ident in self.seen:
            return "again"
        # What the agent has read counts until it is stored: a crash gives it back.
        size = sum(len(each.body) for each in (*self.inbox, *self.taken))
        if len(self.inbox) + len(self.taken) >= INBOX or size + len(message.body) > INBOX_BYTES:
            return "full"
        self.see(ident)
        self.inbox.append(message)
        return "taken"

    def see(self, ident: bytes) -> None:
        """Know a letter again, of those that came last."""
        self.seen[ident] = None
        while len(self.seen) > 2 * INBOX:
            self.seen.popitem(last=False)

    def receive(self) -> Message:
        """The next message, for the agent."""
        message = self.inbox.popleft()
        self.taken.append(message)
        return message
