"""Runs one stay of an agent again, from its state and its tape, and stops it wherever one likes.

    with Replayed(image, snapshot, read_tape(data, count)) as stay:
        for step in stay.steps:
            frozen = stay.at(step.entry)    # its state right after this call

A stay is run again only as far as it is asked for, and states on the way are kept, so that going back is not running
all of it again. The agent is frozen at its next opportunity after a call: the head of a loop, or another call;
`Frozen.after` says how many entries it had taken by then.

Invariants: the agent is told what the tape says and nothing else; where it asks for something else, the replay ends
there with `Diverged`, which says where; a replay takes no more than its budget, and keeps no more than `KEPT_BYTES` of
states.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import attrs

from agents.brief import brief

from .budget import TimeBudget
from .engines import Engine, Limits
from .errors import CallFailed, Diverged, PortcallError
from .execution import Execution
from .image import AgentImage
from .outcomes import Asked, Exhausted, Finished, Spent, Stop, Trapped
from .recording import CLOCKS, STOP, TURN, Entry, abridged, stop_value
from .snapshot import ONWARD, Snapshot
from .waits import Event
from .wasi.limits import WasiLimits

KEPT_BYTES = 64 << 20  # of states on the way, of one stay
KEPT_STATES = 256
WAYPOINTS = 8  # states that are kept on the way to one
REPLAY_CPU_S = 60.0  # of one run from a kept state


@attrs.frozen
class Step:
    """A call that the agent made, or a wait, or its end.

    entry: its index on the tape
    name: of the call, or of the wait: "call", "sleep", "recv", "go" ...; or "finished", "trapped", "exhausted"
    args: its arguments; what went out is abridged, see `agents.recording.abridged`
    result: what it returned: a plain value, or the event that ended the wait
    errno, reason: if it failed
    answered: whether its end is on the tape
    """

    entry: int
    name: str
    args: tuple[Any, ...] = attrs.field(repr=brief)
    result: Any = attrs.field(default=None, repr=brief)
    errno: int = 0
    reason: str = ""
    answered: bool = True


def steps_of(entries: Sequence[Entry]) -> tuple[Step, ...]:
    """What the agent did, from its tape: without readings of the clocks that it did not see, and without stops of which
    it knows nothing.
    """
    found = []
    at = 0
    while at < len(entries):
        entry = entries[at]
        if entry.name == TURN:
            if entry.args[0]:
                at = _past_clocks(entries, at + 1, CLOCKS) - 1
        elif entry.name == STOP:
            after = _past_clocks(entries, at + 1, None)
            if entry.args[0] == "wait":
                found.append(_waited(at, entry, entries[after] if after < len(entries) else None))
            elif entry.args[0] != "asked":
                found.append(Step(at, entry.args[0], entry.args[1:]))
            at = after - 1
        elif entry.name == "output" and found and _goes_on(found[-1], at, entry):
            found[-1] = _joined(found[-1], at, entry)
        else:
            found.append(Step(at, entry.name, entry.args, entry.result, entry.errno, entry.reason))
        at += 1
    return tuple(found)


def _goes_on(last: Step, at: int, entry: Entry) -> bool:
    """Whether a piece of output goes on with the line of the last step: interpreters write some bytes at a time."""
    whole = last.name == "output" and last.args[0] == entry.args[0] and not (last.errno or entry.errno)
    return whole and last.entry == at - 1 and not last.args[1][2] and not last.args[1][0].endswith(b"\n")


def _joined(last: Step, at: int, entry: Entry) -> Step:
    (fd, (before, _, _)), (head, size, rest) = last.args, entry.args[1]
    return Step(at, "output", (fd, [before + head, len(before) + size, rest]))


def _past_clocks(entries: Sequence[Entry], at: int, once: tuple[str, ...] | None) -> int:
    """The index after readings of clocks that begin at `at`; each of `once` at most once, in this order."""
    for name in once if once is not None else ():
        if at < len(entries) and entries[at].name == name:
            at += 1
    while once is None and at < len(entries) and entries[at].name in CLOCKS:
        at += 1
    return at


def _waited(at: int, entry: Entry, turn: Entry | None) -> Step:
    wait = entry.args[1] if len(entry.args) == 2 and isinstance(entry.args[1], list) and entry.args[1] else ["wait"]
    if turn is None or turn.name != TURN:
        return Step(at, str(wait[0]), tuple(wait[1:]), answered=False)
    return Step(at, str(wait[0]), tuple(wait[1:]), turn.event)


@attrs.frozen
class Frozen:
    """The agent's state in a replay.

    snapshot: the state
    after: entries of the tape that it had taken
    """

    snapshot: Snapshot = attrs.field(repr=False)
    after: int
    _times: tuple[int, int | None, int | None] | None = attrs.field(default=None, repr=False)
    _clocks: tuple[int, int] = attrs.field(default=(0, 0), repr=False)
    _logged: int = attrs.field(default=0, repr=False)

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return len(self.snapshot.wasi) + sum(len(b) for memory in self.snapshot.memories for b in memory.blocks) + 4096


class _TapeOver(PortcallError):
    """The run wants more than there is on the tape."""


@attrs.define(eq=False, repr=False)
class _Player:
    """Tells a run what the tape says: see `agents.hostcalls.Ambient`."""

    entries: Sequence[Entry]
    at: int = 0
    freeze_after: int | None = None  # an entry after which the agent is to be frozen
    quiet: bool = False  # it is captured for the replay, of which the tape knows nothing
    wall: int = 0
    monotonic: int = 0
    life: Execution | None = None
    native: bool = False

    def next(self) -> Entry:
        """The next entry. Raises `_TapeOver`."""
        if self.at >= len(self.entries):
            raise _TapeOver("the record ends here")
        return self.entries[self.at]

    def turn(self) -> Event | None:
        """Begin a turn: the event with which it began."""
        entry = self.next()
        if entry.name != TURN:
            raise Diverged(f"entry {self.at} is {entry.name}: the record says that the agent ran on")
        self.at += 1
        wasi = None if self.life is None else self.life.wasi
        if entry.args[0] and wasi is not None:
            elapsed, captured, _ = wasi.times
            wasi.times = (elapsed, captured, None)
            wasi.begin(self)
        return entry.event

    def stopped(self) -> None:
        """The clocks that were read when the agent stood still."""
        wasi = None if self.life is None else self.life.wasi
        while self.at < len(self.entries) and self.entries[self.at].name in CLOCKS:
            if wasi is None:
                raise Diverged(f"entry {self.at}: an agent without clocks reads one")
            with suppress(_TapeOver):  # it was full in between
                wasi.pause(self)

    def through(self) -> None:
        """Go past stops that the agent did not notice."""
        while (entry := self.next()).name == STOP and entry.args[0] == "asked":
            self.at += 1
            self.stopped()
            self.turn()

    def goes_on(self) -> bool:
        """Whether the agent was sent on after what it has done."""
        self.through()
        entry = self.next()
        return entry.name == STOP and list(entry.args) == stop_value("wait", ONWARD)

    def ends(self, wanted: list[Any]) -> int:
        """The turn ends as the replayed one did: the index of that entry."""
        self.through()
        entry = self.next()
        if entry.name != STOP or list(entry.args[: len(wanted)]) != wanted:
            raise Diverged(f"the agent stops here ({wanted[-1]!r:.80}), and entry {self.at} is {_said(entry)}")
        self.at += 1
        return self.at - 1

    def _told(self, name: str, args: list[Any]) -> Any:
        self.through()
        entry = self.next()
        if entry.name != name or list(entry.args) != args:
            raise Diverged(f"the agent calls {name}{tuple(args)!r:.80}, and entry {self.at} is {_said(entry)}")
        self.at += 1
        if self.freeze_after is not None and self.at > self.freeze_after and self.life is not None:
            self.life.suspend()
        if entry.errno:
            raise CallFailed(entry.errno, entry.reason)
        return entry.result

    @property
    def station(self) -> str:
        return str(self._told("station", []))

    @property
    def agent_id(self) -> str:
        return str(self._told("agent_id", []))

    @property
    def next_stop(self) -> str:
        return str(self._told("next_stop", []))

    def wall_ns(self) -> int:
        if not self.quiet:
            self.wall = int(self._told("wall_ns", []))
        return self.wall

    def monotonic_ns(self) -> int:
        if not self.quiet:
            self.monotonic = int(self._told("monotonic_ns", []))
        return self.monotonic

    def random(self, size: int) -> bytes:
        found = bytes(self._told("random", [size]))
        if len(found) != size:
            raise Diverged(f"entry {self.at - 1} has {len(found)} random bytes where {size} were asked for")
        return found

    def log(self, level: int, text: str) -> None:
        self._told("log", [level, abridged(text.encode("utf-8", "replace"))])

    def output(self, fd: int, data: bytes) -> None:
        self._told("output", [fd, abridged(data)])

    def report(self, key: str, value: bytes) -> None:
        self._told("report", [key, abridged(value, 0)])

    def lookup(self, service: str) -> tuple[str, ...]:
        return tuple(self._told("lookup", [service]))

    def send(self, to: str, body: bytes) -> None:
        self._told("send", [to, abridged(body)])

    def reply(self, ident: str, response: bytes) -> None:
        self._told("reply", [ident, abridged(response)])

    def offer(self, service: str, attributes: str | None) -> None:
        self._told("offer", [service, "" if attributes is None else attributes])

    def send_here(self, to: str, body: bytes) -> None:
        self._told("send_here", [to, abridged(body)])

    def subscribe(self, topic: str) -> None:
        self._told("subscribe", [topic])

    def unsubscribe(self, topic: str) -> None:
        self._told("unsubscribe", [topic])

    def publish(self, topic: str, body: bytes, everywhere: bool) -> int:
        return int(self._told("publish", [topic, abridged(body), int(everywhere)]))

    def notice(self) -> str:
        return str(self._told("notice", []))


def _said(entry: Entry) -> str:
    return f"{entry.name}{entry.args!r:.80}"


class Replayed:
    """One stay, to be run again from its beginning to any of its steps.

    image: of the agent
    snapshot: its state when the tape begins
    entries: of the tape
    engine: what runs its code, from `agents.load`
    limits: bounds on its memory, as where it ran
    wasi_limits: bounds on its files, as where it ran
    tasks: whether stations call its exports, and send it on when one has returned

    Raises `BadSnapshot` for the state of another image, and for one whose memories are elsewhere.
    """

    def __init__(
        self,
        image: AgentImage,
        snapshot: Snapshot,
        entries: Sequence[Entry],
        *,
        engine: Engine,
        limits: Limits | None = None,
        wasi_limits: WasiLimits | None = None,
        tasks: bool = False,
    ) -> None:
        snapshot.check(image)
        self.image, self.entries, self.steps = image, entries, steps_of(entries)
        self.problem: Diverged | None = None
        """Where the run departed from the record, once it did."""
        self.ended: Stop | None = None
        """How the agent ended, once the replay has come there, if it did."""
        self._engine, self._limits, self._wasi_limits = engine, limits, wasi_limits
        self._tasks = tasks
        self._frozen: OrderedDict[int, Frozen] = OrderedDict({0: Frozen(snapshot, 0)})
        self._kept = 0
        self._end: Frozen | None = None
        self._player = _Player(entries)
        self._life: Execution | None = None

    def close(self) -> None:
        """Give up what it runs in."""
        life, self._life = self._life, None
        if life is not None:
            life.close()

    def __enter__(self) -> Replayed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def start(self) -> Frozen:
        """The state in which the tape begins."""
        return self._frozen[0]

    def at(self, entry: int) -> Frozen:
        """The state when the tape's `entry` has been taken: right after a call, in a wait, or the last one that there
        is before an end.

        Raises `Diverged` if the run does not come there.
        """
        if not 0 <= entry < len(self.entries):
            raise ValueError(f"the record has {len(self.entries)} entries")
        known = self._known(entry)
        if known.after > entry:
            return known
        return self._reached(entry, known, max(1, (entry - known.after) // WAYPOINTS))

    def _reached(self, entry: int, known: Frozen, stride: int) -> Frozen:
        if self.problem is not None:
            raise self.problem
        try:
            return self._run(entry, known, stride)
        except PortcallError as error:
            self.close()
            said = str(error) if isinstance(error, _TapeOver) else f"it cannot be run again: {error}"
            self.problem = error if isinstance(error, Diverged) else Diverged(said)
            raise self.problem from error

    def end(self) -> Frozen:
        """The state in which the stay ended, or the last one before the agent's end. Raises `Diverged`.

        Runs all of it at once: where an agent is frozen on its way, gaps between values in its frames may differ.
        """
        if not self.entries:
            return self.start
        if self._end is None:
            self.close()
            self._end = self._reached(len(self.entries) - 1, self.start, len(self.entries))
        return self._end

    def _known(self, entry: int) -> Frozen:
        """The latest kept state that is not after what follows `entry`."""
        starts = sorted(self._frozen)
        first = starts[bisect_right(starts, entry + 1) - 1]
        if first:
            self._frozen.move_to_end(first)
        return self._frozen[first]

    def _keep(self, key: int, state: Frozen) -> None:
        """Keep a state for all entries from `key - 1` on, up to those that it has taken."""
        if key not in self._frozen:
            self._frozen[key] = state
            self._kept += state.size
        while len(self._frozen) > KEPT_STATES or (self._kept > KEPT_BYTES and len(self._frozen) > 2):
            oldest = next(each for each in self._frozen if each not in (0, key))
            self._kept -= self._frozen.pop(oldest).size

    def _run(self, entry: int, known: Frozen, stride: int) -> Frozen:
        if self._life is None or not known.after <= self._player.at <= entry:
            self._open(known)
        last = known
        while True:
            goal = min(entry, self._player.at + stride - 1)
            last = self._forward(goal, last)
            self._keep(goal + 1, last)
            if last.after > entry:
                return last

    def _open(self, known: Frozen) -> None:
        self.close()
        player = self._player = _Player(self.entries, known.after)
        player.wall, player.monotonic = known._clocks
        budget = TimeBudget(cpu_ns=int(REPLAY_CPU_S * 1e9))
        self._life = player.life = life = Execution(
            self.image,
            engine=self._engine,
            ambient=player,
            snapshot=known.snapshot,
            wasi_limits=self._wasi_limits,
            limits=self._limits,
            budget=budget,
        )
        if life.wasi is not None and known._times is not None:
            life.wasi.times, life.wasi.logged = known._times, known._logged

    def _forward(self, goal: int, last: Frozen) -> Frozen:
        """Run until the entry `goal` has been taken; the state there."""
        player, life = self._player, self._life
        assert life is not None
        while True:
            event = player.turn() if player.next().name == TURN else None
            player.freeze_after = goal
            stop = life.advance(event)
            if isinstance(stop, Asked):
                if player.at > goal:
                    return self._freeze()
                continue
            if isinstance(stop, Spent):
                raise Diverged(f"it takes more than {REPLAY_CPU_S:g} s of processor time")
            if isinstance(stop, Finished) and self._tasks and player.goes_on():
                stop = life.onward() or stop
            if isinstance(stop, Finished | Trapped | Exhausted):
                player.ends([type(stop).__name__.lower()])
                player.at = len(self.entries)
                self.ended = stop
                return attrs.evolve(last, after=player.at)
            player.ends(stop_value("wait", stop))
            player.stopped()
            if player.at > goal:
                return self._freeze()

    def _freeze(self) -> Frozen:
        player, life = self._player, self._life
        assert life is not None
        times = None if life.wasi is None else life.wasi.times
        player.quiet = True
        try:
            snapshot = life.snapshot()
        finally:
            player.quiet = False
        if life.wasi is not None and times is not None:
            life.wasi.times = times
        logged = 0 if life.wasi is None else life.wasi.logged
        return Frozen(snapshot, player.at, times, (player.wall, player.monotonic), logged)


__all__ = ["Frozen", "Replayed", "Step", "steps_of"]
