"""Running an agent: `run(image, ...)` gives an outcome; a `Life` is a run that can also be stopped from
outside.

The runtime ties image, engine, host functions and snapshot together. It calls no network: a departure is
an outcome like a trap or an end. Whoever runs an agent decides what then happens, and continues it with
an event.

How a suspension goes: a host function returns `Suspend(wait)`, or the station writes the poll flag; the
agent's calls return, saving their frames; the export that was called returns; state and frames become a
snapshot. To continue, the same host function is called again with the event, and its result is handed to
the innermost frame.

Invariants: every way in which an agent's code can end is an outcome, and the process goes on; an
exception out of a run is a bug, or bytes or an image that do not fit (`FormatError`, `EngineError`). A
life is one thread's at a time; `suspend` may be called from any.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from . import canonical
from .ambient import Alone
from .binding import WASI, Bound, Imports, bind, prepare
from .budget import Budget, Clock
from .capture import capture, restore
from .engines import Engine, Instance, Limits, load
from .engines.interface import unfit
from .engines.watch import Alarm
from .errors import (
    BadSnapshot,
    EndOfRun,
    EngineError,
    LimitReached,
    ModuleError,
    NotCanonical,
    PortcallError,
    WasmTrap,
)
from .hostcalls import EBUSY, EIO, ENOTSUP, Ambient, Context, GuestMemory
from .image import MAX_LUGGAGE, AgentImage
from .interruption import Interruption
from .outcomes import Departing, Exhausted, Finished, Outcome, Suspended, Trapped, Usage, Waiting
from .outcomes import bits as to_bits
from .snapshot import MAX_WASI, Pending, Snapshot
from .unwinding import Stack, stack_of
from .waits import Event, Failed, Go, GoAt, Refused, Suspend, Wait
from .wasi.limits import Limits as WasiLimits
from .wasi.state import WasiState

T = TypeVar("T")

_GRACE = 50_000_000  # ns to reach a poll when the budget is used up, before the agent is stopped hard
_HEARTBEAT = 100_000_000  # ns until the first look at the clocks: an interrupt from the keyboard is seen then
_AGAIN = 10_000_000  # ns between looks after the first
_WASI_BOUNDS = canonical.Bounds(max_bytes=max(MAX_WASI, MAX_LUGGAGE), max_depth=64, max_items=4_000_000)


@attrs.frozen
class Asked:
    """The agent unwound because the station asked for it."""


@attrs.frozen
class Spent:
    """The agent unwound because its budget is used up."""

    error: LimitReached


Stop = Finished | Trapped | Exhausted | Wait | Asked | Spent  # how `Life.advance` ends


class _Dropped(PortcallError):
    """The agent leaves its stack behind: passes out of its code, through the engine."""

    def __init__(self, pending: Pending) -> None:
        super().__init__("the stack is dropped")
        self.pending = pending


class Life:
    """One agent, from a start or a snapshot to an outcome, and on from there if it can go on."""

    def __init__(
        self,
        image: AgentImage,
        *,
        engine: Engine,
        ambient: Ambient,
        snapshot: Snapshot | None = None,
        entry: str | None = None,
        args: Sequence[int | float] = (),
        wasi: WasiState | None = None,
        wasi_limits: WasiLimits | None = None,
        grants: Mapping[str, Any] | None = None,
        imports: Imports | None = None,
        limits: Limits | None = None,
        budget: Budget | None = None,
        interruptible: bool = True,
    ) -> None:
        """Compile and link; nothing of the agent runs yet.

        entry, args: what to call, when there is no snapshot; wasi: the state to use instead of the snapshot's
        or the luggage's; grants: guest name -> host directory; imports: answers beside the known ones;
        interruptible: False only for code that is known to poll at every loop turn.

        Raises `BadSnapshot`, `BadImage`, `EngineError`; `ValueError` for arguments of the wrong types.
        """
        self.image, self.limits, self.budget = image, limits or Limits(), budget or Budget()
        self.always = False  # take every opportunity to suspend
        self._imports, self._interruptible = imports or {}, interruptible
        self._wasi_limits, self._grants = wasi_limits, grants
        self._ctx = Context(GuestMemory(memoryview(b"")), ambient, call=self._nested, has_export=self._arrival)
        self._interruption = Interruption(self._raise_flag)
        self._over = False  # it ended: what is left of it means nothing
        self._lock = threading.RLock()  # again by the same thread: `suspend` in a signal handler
        self._asked = False
        self._flag = 0  # address of the poll flag, while the agent's code runs
        self._depth = 0  # exports of the agent that are being called, one inside the other
        self._spent: LimitReached | None = None
        self._clock = Clock()
        self._patience = 0  # until when an agent whose budget is used up may reach a poll
        self._instance: Instance | None = None
        self._stack: Stack | None = None
        self._use(engine)
        if snapshot is None:
            name = image.manifest.entry if entry is None else entry
            snapshot = Snapshot(image.digest, name, self._arguments(name, args))
        self._load(snapshot, wasi)

    def _use(self, engine: Engine) -> None:
        metadata = self.image.metadata
        if metadata is not None and metadata.profile not in engine.profiles:
            raise EngineError(f"{engine.name} cannot run the profile {metadata.profile}")
        program = engine.program(self.image.code, self.image.code_digest, interruptible=self._interruptible)
        self._engine, self._program = engine, program
        self._prepared = prepare(program, metadata)
        self._bound = bind(program, self._prepared, self._imports)
        self._polls = metadata is not None and "portcall.frames" in program.exports

    def _arguments(self, name: str, args: Sequence[int | float]) -> tuple[int, ...]:
        exported = self._program.exports.get(name)
        if exported is None or exported.kind != "func":
            raise EngineError(f"the agent exports no function {name!r}")
        if len(args) != len(exported.params):
            raise ValueError(f"{name} takes {len(exported.params)} arguments, not {len(args)}")
        return tuple(map(to_bits, exported.params, args))

    def _load(self, snapshot: Snapshot, wasi: WasiState | None) -> None:
        snapshot.check(self.image)
        exported = self._program.exports.get(snapshot.entry)
        if exported is None or exported.kind != "func" or len(snapshot.args) != len(exported.params):
            raise BadSnapshot(f"the agent exports no function {snapshot.entry!r} with so many parameters")
        self._snapshot, self._pending, self._stage = snapshot, snapshot.pending, snapshot.stage
        self._entry, self._args = snapshot.entry, snapshot.args
        self._ctx.kept = attrs.evolve(snapshot.kept)
        self._ctx.wasi = wasi
        if wasi is None and any(entry.module == WASI for entry in self._program.imports):
            self._ctx.wasi = self._read_wasi(snapshot.wasi)

    def _read_wasi(self, encoded: bytes) -> WasiState:
        if not encoded and self._stage == "new":
            encoded = self.image.luggage
        if not encoded:
            return WasiState.launch(limits=self._wasi_limits, grants=self._grants)
        try:
            value = canonical.decode(encoded, _WASI_BOUNDS)
        except NotCanonical as error:
            raise BadSnapshot(f"the WASI state cannot be read: {error}") from None
        return WasiState.decode(value, self._wasi_limits, self._grants)

    # --- from outside ---

    @property
    def wasi(self) -> WasiState | None:
        """The agent's virtual WASI, if it has one."""
        state: WasiState | None = self._ctx.wasi
        return state

    def suspend(self) -> None:
        """Ask the agent to suspend at its next loop turn or suspending call. From any thread."""
        with self._lock:
            self._asked = True
            self._raise_flag()

    def interrupt(self) -> None:
        """Have what runs the agent now raise `KeyboardInterrupt`, soon: for a handler of signals."""
        self._interruption.note()

    def run(self, event: Event | None = None) -> Outcome:
        """Until an outcome. After one with a snapshot, call it again with the event that answers it."""
        return self.outcome(self.advance(event))

    def outcome(self, stop: Stop) -> Outcome:
        """What `advance` ended with, with the snapshot if there can be one."""
        usage = self.usage()
        if isinstance(stop, (Finished, Trapped, Exhausted)):
            return attrs.evolve(stop, usage=usage)
        if isinstance(stop, Spent):
            return Exhausted(stop.error.what, stop.error.reason, self.snapshot(), usage)
        if isinstance(stop, Asked):
            return Suspended(self.snapshot(), usage)
        if isinstance(stop, Go):
            return Departing(stop.host, None, self.snapshot(), usage)
        if isinstance(stop, GoAt):
            return Departing(stop.host, stop.entry, self.snapshot(), usage)
        return Waiting(stop, self.snapshot(), usage)

    def snapshot(self) -> Snapshot:
        """The state of the suspended agent. Raises `EngineError` for state that cannot travel."""
        state = self._snapshot
        if self._instance is not None:
            captured = capture(self._instance, self._prepared)
            weak = self._pending is not None and isinstance(self._pending.wait, GoAt)
            state = attrs.evolve(
                state,
                entry=self._entry,
                args=self._args,
                stage=self._stage,
                globals=captured.globals,
                memories=captured.memories,
                tables=captured.tables,
                frames=() if weak or self._stack is None else self._stack.frames(),
            )
        wasi = state.wasi if self.wasi is None else canonical.encode(self.wasi.encode())
        return attrs.evolve(state, pending=self._pending, kept=attrs.evolve(self._ctx.kept), wasi=wasi)

    def hop(self, engine: Engine | None = None) -> bytes:
        """Go on in a fresh instance, of `engine` if given, from the bytes of a snapshot; these are returned."""
        encoded = self.snapshot().encode()
        self.close()
        if engine is not None and engine is not self._engine:
            self._use(engine)
        self._load(Snapshot.decode(encoded), None)
        return encoded

    def usage(self) -> Usage:
        """What the agent took so far."""
        memory = 0
        if self._instance is not None:
            memory = sum(self._instance.memory_pages(name) for name in self._prepared.memories.values())
        return Usage(self._clock.cpu, self._clock.wall, memory << 16)

    def close(self) -> None:
        """Give up the instance, and what the station lent the agent."""
        with self._lock:
            self._flag = 0
        self._ctx.memory.rebind(memoryview(b""))
        instance, self._instance, self._stack = self._instance, None, None
        if instance is not None:
            instance.close()
        if self.wasi is not None:
            self.wasi.close()

    def __enter__(self) -> Life:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the run ---

    def advance(self, event: Event | None = None) -> Stop:
        """Run until something is to be decided. `run` is this with a snapshot at its end.

        Raises `ValueError` for an event that nothing waits for, and when the agent has ended.
        """
        if self._over:
            raise ValueError("the agent has ended")
        self._spent = None
        self._clock.start()
        try:
            stop = self._go_on(event)
            self._over = isinstance(stop, Finished)
            return stop
        except EndOfRun as end:
            self._over = True
            return Finished(exit_code=end.exit_code)
        except _Dropped as dropped:
            self._pending = dropped.pending
            if self._stack is not None:
                self._stack.clear()
            assert isinstance(dropped.pending.wait, GoAt)
            return dropped.pending.wait
        except WasmTrap as trap:
            self._over = True
            return Trapped(trap.code, trap.reason)
        except LimitReached as limit:
            self._over = True
            return Exhausted(limit.what, limit.reason)
        finally:
            self._asked = False
            self._clock.stop()

    def _go_on(self, event: Event | None) -> Stop:
        if event is not None and (self._pending is None or self._pending.wait is None):
            raise ValueError("an event for an agent that waits for none")
        instance, stack = self._open()
        returned: tuple[int, ...] | None = None  # what an export gave that returned instead of unwinding
        if self._pending is not None and isinstance(self._pending.wait, GoAt):
            returned = self._arrive(instance, self._pending.wait.entry, event)
        elif self._stage == "new":
            self._stage = "start" if instance.has("portcall.start") else "run"
            if self._stage == "start":
                self._guest(lambda: instance.call("portcall.start"))
            else:
                returned = self._guest(lambda: instance.call(self._entry, self._args))
        elif self._pending is not None:
            answer = self._complete(self._pending, event)
            if isinstance(answer, Suspend):
                return answer.wait
            self._resume(stack, *answer)
        else:
            self._resume(stack)
        while True:
            if stack is not None and stack.suspended():
                stack.unwound()
                stop = self._why()
                if stop is not None:
                    return stop
                over = self._clock.over(self.budget)  # code that unwinds for no reason must not go on for ever
                if over is not None:
                    raise over
                returned = None
                self._resume(stack)
            elif self._stage == "start":
                self._stage = "run"
                returned = self._guest(lambda: instance.call(self._entry, self._args))
            else:
                types = self._program.exports[self._entry].results
                if returned is None:
                    assert stack is not None
                    returned = stack.results(types)
                return Finished(returned, types)

    def _why(self) -> Stop | None:
        """Why the agent unwound; None when the reason is gone."""
        if self._pending is not None and self._pending.wait is not None:
            return self._pending.wait
        if self._spent is not None:
            return Spent(self._spent)
        return Asked() if self._asked or self.always else None

    def _open(self) -> tuple[Instance, Stack | None]:
        """The instance, fresh or restored if there is none."""
        if self._instance is not None:
            return self._instance, self._stack
        # Depth 2: nothing may suspend in here, whatever an image has put there.
        make = self._program.instantiate
        instance = self._guest(lambda: make(self._host, self._tick, self.limits), depth=2)
        self._instance = instance
        metadata = self.image.metadata
        self._stack = None if metadata is None else stack_of(instance, metadata)
        if self._stage != "new":
            try:
                self._guest(lambda: restore(instance, self._prepared, self._snapshot), depth=2)
                if self._snapshot.frames and self._stack is not None:
                    self._stack.restore(self._snapshot.frames)
            except BaseException:
                self.close()
                raise
        return instance, self._stack

    def _arrive(self, instance: Instance, entry: str, event: Event | None) -> tuple[int, ...]:
        """After a weak migration, or after it failed: call the entry, which may take 0 or minus an errno."""
        if not self._arrival(entry):
            raise BadSnapshot(f"the agent exports no function {entry!r} that can be called on arrival")
        self._pending, self._entry, self._stage = None, entry, "run"
        status = -event.errno if isinstance(event, (Refused, Failed)) else 0
        self._args = (status & 0xFFFFFFFF,)[: len(self._program.exports[entry].params)]
        return self._guest(lambda: instance.call(entry, self._args))

    def _arrival(self, name: str) -> bool:
        exported = self._program.exports.get(name)
        return exported is not None and exported.kind == "func" and exported.params in ("", "i")

    def _complete(self, pending: Pending, event: Event | None) -> Suspend | tuple[str, list[int]]:
        """Make the call that the agent waits in, now with the event: its result's type and bits."""
        bound = next((b for b in self._bound if (b.module, b.name) == (pending.module, pending.name)), None)
        if bound is None or not bound.suspends or len(pending.args) != len(bound.params):
            raise BadSnapshot(f"the agent waits in {pending.module}.{pending.name}, where it cannot")
        ctx = self._ctx
        self._see_memory()
        ctx.event = event
        answer = bound.call(ctx, tuple(map(_masked, bound.params, pending.args)))
        ctx.event = None
        if isinstance(answer, Suspend):
            self._pending = attrs.evolve(pending, wait=answer.wait)
            return answer
        self._pending = None
        return bound.result, [_masked(bound.result, answer)][: len(bound.result)]

    def _resume(self, stack: Stack | None, types: str = "", results: Sequence[int] = ()) -> None:
        if stack is None:
            raise BadSnapshot("an agent that was not rewritten cannot be resumed")
        self._guest(lambda: stack.resume(types, results))

    # --- around the agent's code ---

    def _guest(self, code: Callable[[], T], depth: int = 1) -> T:
        """Run agent code: with the poll flag within reach, and watched."""
        outer, self._depth = self._depth, depth
        alarm = self._watch()
        self._interruption.hold()
        try:
            with self._lock:
                if self._polls and self._instance is not None and depth == 1:
                    self._flag = self._instance.memory_address("portcall.frames")
                    _write_flag(self._flag, self._leaving())
            return code()
        finally:
            self._depth = outer
            with self._lock:
                self._flag = 0
            if alarm is not None:
                alarm.cancel()
            self._interruption.release()

    def _leaving(self) -> bool:
        return self._asked or self.always or self._spent is not None or self._interruption.noted

    def _raise_flag(self) -> None:
        if self._flag:
            _write_flag(self._flag, True)

    def _watch(self) -> Alarm | None:
        """Look at the clocks when the budget may be used up, and again and again from then on.

        An engine may miss an interruption that falls into the answer to the one before, so one is not enough.
        """
        left = self._clock.left(self.budget)
        if self._program.interruptible:
            first = _HEARTBEAT if left is None else min(left, _HEARTBEAT)
            return self._engine.watch.after(first, self._program.interrupt, _AGAIN)
        if left is not None and self._polls:
            return self._engine.watch.after(left, self._overdue, _AGAIN)
        return None

    def _tick(self) -> None:
        """In the agent's thread, between two of its instructions."""
        self._interruption.check()
        if self._leaving():  # a signal handler may have asked just before the flag was set to the contrary
            self._raise_flag()
        over = self._clock.over(self.budget)
        if over is None:
            return
        if self._spent is None:
            self._overdue()
        if not self._polls or self._depth != 1 or time.monotonic_ns() > self._patience:
            raise over

    def _overdue(self) -> None:
        """Have the agent leave at its next poll if its budget is used up. From any thread."""
        over = self._clock.over(self.budget)
        if over is not None:
            with self._lock:
                if self._spent is None:
                    self._spent, self._patience = over, time.monotonic_ns() + _GRACE
                self._raise_flag()

    # --- host calls ---

    def _see_memory(self) -> None:
        if self._instance is None:
            raise EngineError("a host call from a start function: the module has to be packed")
        if self._prepared.main is not None:
            self._ctx.memory.rebind(self._instance.memory(self._prepared.main))

    def _host(self, index: int, args: Sequence[int]) -> int:
        """Answer an import."""
        bound = self._bound[index]
        ctx = self._ctx
        self._see_memory()
        if bound.suspends and self._depth == 1 and self._leaving():
            return self._unwind(Pending(bound.module, bound.name, tuple(args), None))
        ctx.event = None
        answer = bound.call(ctx, args)
        if isinstance(answer, Suspend):
            pending = Pending(bound.module, bound.name, tuple(args), answer.wait)
            ctx.event = self._refusal(bound, answer.wait)
            if ctx.event is None:
                if isinstance(answer.wait, GoAt):
                    raise _Dropped(pending)
                return self._unwind(pending)
            answer = bound.call(ctx, args)
            ctx.event = None
            if isinstance(answer, Suspend):
                answer = bound.errors(EIO)
        return _masked(bound.result, answer)

    def _refusal(self, bound: Bound, wait: Wait) -> Refused | None:
        """Why the agent cannot wait here."""
        if self._depth != 1:
            return Refused(EBUSY, "the agent is called by a host function and cannot leave")
        if isinstance(wait, GoAt):
            reason = "" if self._prepared.rewritten else self._unfit()
            return Refused(ENOTSUP, f"the agent was not packed: {reason}") if reason else None
        if not bound.suspends:
            return Refused(ENOTSUP, f"the agent was not packed so that {bound.name} can suspend it")
        return None

    def _unfit(self) -> str:
        try:
            return unfit(self.image.code)
        except (ModuleError, EngineError) as error:
            return str(error)

    def _unwind(self, pending: Pending) -> int:
        assert self._stack is not None
        self._pending = pending
        self._stack.begin()
        return 0

    def _nested(self, export: str, *args: int) -> tuple[int, ...]:
        """Call an export from inside a host function."""
        assert self._instance is not None
        parked = None if self._stack is None else self._stack.park()
        flag = self._flag
        with self._lock:
            if flag:
                self._flag = 0
                _write_flag(flag, False)  # no poll may unwind through the host function
        self._depth += 1
        try:
            return self._instance.call(export, args)
        finally:
            self._depth -= 1
            self._see_memory()
            if self._stack is not None:
                self._stack.unpark(parked)
            with self._lock:
                if flag:
                    self._flag = self._instance.memory_address("portcall.frames")
                    _write_flag(self._flag, self._leaving())


def _write_flag(address: int, raised: bool) -> None:
    ctypes.c_uint32.from_address(address).value = raised


def _masked(letter: str, value: object) -> int:
    """A host function's answer as bits of its type."""
    if not isinstance(value, int):
        return 0
    return value & (0xFFFFFFFF if letter in ("i", "f") else 0xFFFFFFFFFFFFFFFF)


def run(
    image: AgentImage,
    *,
    engine: Engine | str | Sequence[Engine | str] = "wasmtime",
    ambient: Ambient | None = None,
    snapshot: Snapshot | bytes | None = None,
    event: Event | None = None,
    hop_every: int | None = None,
    hops: int | None = None,
    answer: Callable[[Wait], Event | None] | None = None,
    on_hop: Callable[[bytes], None] | None = None,
    **options: Any,
) -> Outcome:
    """Run an agent from its start, or from `snapshot` with `event`, until an outcome. Options: see `Life`.

    hop_every: the oracle. Take every opportunity to suspend, and at each Nth go on in a fresh instance, from
    the encoded snapshot, on the next of the engines; at most `hops` times. answer: gives the event for a wait,
    so that the run goes on; None for a wait leaves it as the outcome. on_hop: sees the bytes of each hop.

    Raises `FormatError` for an image or snapshot that is bad, `EngineError` for one that cannot run here.
    """
    named = [engine] if isinstance(engine, str) or not isinstance(engine, Sequence) else list(engine)
    engines = itertools.cycle([_engine(each) if isinstance(each, str) else each for each in named])
    if snapshot is not None and not isinstance(snapshot, Snapshot):
        snapshot = Snapshot.decode(snapshot)
    place = _alone() if ambient is None else ambient
    with Life(image, engine=next(engines), ambient=place, snapshot=snapshot, **options) as life:
        life.always = hop_every is not None and hops != 0
        for opportunity in itertools.count(1):
            stop = life.advance(event)
            event = None
            if isinstance(stop, (Finished, Trapped, Exhausted, Spent)):
                return life.outcome(stop)
            if not isinstance(stop, Asked):
                event = None if answer is None else answer(stop)
                if event is None:
                    return life.outcome(stop)
            elif not life.always:
                return life.outcome(stop)
            if life.always and hop_every is not None and opportunity % hop_every == 0:
                encoded = life.hop(next(engines))
                hops = None if hops is None else hops - 1
                life.always = hops != 0
                if on_hop is not None:
                    on_hop(encoded)
    raise AssertionError("an endless count ended")


@functools.cache
def _engine(name: str) -> Engine:
    return load(name)


def _alone() -> Ambient:
    return Alone(time.time_ns, time.monotonic_ns, os.urandom)
