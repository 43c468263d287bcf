"""One agent's life: from a start or a snapshot to an outcome, and on from there if it can go on.

How a suspension goes: a host function returns `Suspend(wait)`, or the station writes the poll flag; the
agent's calls return, saving their frames; the export that was called returns; state and frames become a
snapshot. To continue, the same host function is called again with the event, and its result is handed to
the innermost frame.

Not the stack (`agents.unwinding`), the state (`agents.capture`) or the clocks (`agents.leaving`): this
has them act in their order.

Invariants: every way in which an agent's code can end is an outcome, and the process goes on; an
exception out of a run is a bug, or bytes or an image that do not fit (`FormatError`, `EngineError`). A
life is one thread's at a time; `suspend` may be called from any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import attrs

from . import canonical
from .binding import WASI, Bound, Imports, bind, prepare
from .budget import Budget
from .capture import capture, restore
from .engines import Engine, Instance, Limits
from .engines.interface import unfit
from .errors import (
    BadSnapshot,
    CallFailed,
    EndOfRun,
    EngineError,
    LimitReached,
    ModuleError,
    PortcallError,
    WasmTrap,
)
from .hostcalls import EBUSY, EIO, ENOTSUP, Ambient, Context, GuestMemory
from .image import AgentImage
from .leaving import Leaving
from .outcomes import (
    Asked,
    Departing,
    Exhausted,
    Finished,
    Outcome,
    Spent,
    Stop,
    Suspended,
    Trapped,
    Usage,
    Waiting,
)
from .outcomes import bits as to_bits
from .snapshot import Pending, Snapshot
from .unwinding import Stack, stack_of
from .waits import Event, Failed, Go, GoAt, Refused, Suspend, Wait
from .wasi.limits import Limits as WasiLimits
from .wasi.state import WasiState

T = TypeVar("T")

_MAX_DEPTH = 16  # exports called inside host functions: each level is native stack and Python's own


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
        self.image, self.limits = image, limits or Limits()
        self._imports, self._interruptible = imports or {}, interruptible
        self._wasi_limits, self._grants = wasi_limits, grants
        self._ctx = Context(GuestMemory(memoryview(b"")), ambient, call=self._nested, has_export=self._arrival)
        self._told: set[str] = set()  # the calls of which its log says why they cannot suspend it
        self._over = False  # it ended: what is left of it means nothing
        self._instance: Instance | None = None
        self._stack: Stack | None = None
        self._use(engine)
        self._leaving = Leaving(engine, self._program, budget or Budget())
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

    def _arguments(self, name: str, args: Sequence[int | float]) -> tuple[int, ...]:
        exported = self._program.exports.get(name)
        if exported is None or exported.kind != "func":
            raise EngineError(f"the agent exports no function {name!r}")
        if len(args) != len(exported.params):
            many = len(exported.params)
            raise ValueError(f"{name} takes {many} argument{'' if many == 1 else 's'}, not {len(args)}")
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
        return WasiState.read(encoded, self._wasi_limits, self._grants)

    # --- from outside ---

    @property
    def wasi(self) -> WasiState | None:
        """The agent's virtual WASI, if it has one."""
        state: WasiState | None = self._ctx.wasi
        return state

    @property
    def budget(self) -> Budget:
        """What the agent may use; can be set between two runs."""
        return self._leaving.budget

    @budget.setter
    def budget(self, budget: Budget) -> None:
        self._leaving.budget = budget

    @property
    def always(self) -> bool:
        """Whether the agent takes every opportunity to suspend; can be set between two runs."""
        return self._leaving.always

    @always.setter
    def always(self, always: bool) -> None:
        self._leaving.always = always

    def suspend(self) -> None:
        """Ask the agent to suspend at its next loop turn or suspending call. From any thread."""
        self._leaving.ask()

    def interrupt(self) -> None:
        """Have what runs the agent now raise `KeyboardInterrupt`, soon: for a handler of signals."""
        self._leaving.interrupt()

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
            self._leaving.use(engine, self._program)
        self._load(Snapshot.decode(encoded), None)
        return encoded

    def usage(self) -> Usage:
        """What the agent took so far."""
        memory = 0
        if self._instance is not None:
            memory = sum(self._instance.memory_pages(name) for name in self._prepared.memories.values())
        return Usage(self._leaving.clock.cpu, self._leaving.clock.wall, memory << 16)

    def close(self) -> None:
        """Give up the instance, and what the station lent the agent."""
        self._leaving.forget()
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

    def open(self) -> None:
        """Make the instance and restore its state now: `advance` then goes on at once. No code of the agent runs.

        Nothing happens for an image that may have a start function. Raises what `advance` would find.
        """
        if self.image.metadata is not None:
            with self._leaving.preparation():
                self._open()

    def advance(self, event: Event | None = None) -> Stop:
        """Run until something is to be decided. `run` is this with a snapshot at its end.

        Raises `ValueError` for an event that nothing waits for, and when the agent has ended.
        """
        if self._over:
            raise ValueError("the agent has ended")
        try:
            with self._leaving.run():
                stop = self._go_on(event)
        except EndOfRun as end:
            stop = Finished(exit_code=end.exit_code)
        except _Dropped as dropped:
            self._pending = dropped.pending
            assert isinstance(dropped.pending.wait, GoAt)
            stop = dropped.pending.wait
        except WasmTrap as trap:
            stop = Trapped(trap.code, trap.reason)
        except LimitReached as limit:
            stop = Exhausted(limit.what, limit.reason)
        self._over = isinstance(stop, (Finished, Trapped, Exhausted))
        return stop

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
                self._leaving.check()  # code that unwinds for no reason must not go on for ever
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
        if self._leaving.spent is not None:
            return Spent(self._leaving.spent)
        return Asked() if self._leaving.asked or self.always else None

    def _open(self) -> tuple[Instance, Stack | None]:
        """The instance, fresh or restored if there is none."""
        if self._instance is not None:
            return self._instance, self._stack
        # Depth 2: nothing may suspend in here, whatever an image has put there.
        make = self._program.instantiate
        instance = self._guest(lambda: make(self._host, self._leaving.tick, self.limits), depth=2)
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
        if self._stack is not None:
            self._stack.clear()
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

    def _guest(self, code: Callable[[], T], depth: int = 1) -> T:
        """Run agent code."""
        return self._leaving.guest(code, self._instance, depth)

    # --- host calls ---

    def _see_memory(self) -> None:
        instance, main = self._instance, self._prepared.main
        if instance is None:
            raise EngineError("a host call from a start function: the module has to be packed")
        if main is not None:
            self._ctx.memory.view = instance.memory(main)

    def _host(self, index: int, args: Sequence[int]) -> int:
        """Answer an import."""
        bound = self._bound[index]
        ctx = self._ctx
        self._see_memory()
        if bound.suspends and self._leaving.depth == 1 and self._leaving.due:
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
        if self._leaving.depth != 1:
            return Refused(EBUSY, "the agent is called by a host function and cannot leave")
        if isinstance(wait, GoAt):
            reason = "" if self._prepared.rewritten else self._unfit()
            return self._unable(wait, f"the agent was not packed: {reason}") if reason else None
        if not bound.suspends:
            if not self._prepared.rewritten:
                return self._unable(wait, "the agent was packed without being rewritten, so nothing can suspend it")
            return self._unable(wait, f"the agent was not packed so that {bound.name} can suspend it")
        return None

    def _unable(self, wait: Wait, reason: str) -> Refused:
        """The refusal; its reason is in the agent's log once, since the call gives only a number."""
        call = "go_at" if isinstance(wait, GoAt) else type(wait).__name__.lower()
        if call not in self._told:
            self._told.add(call)
            with suppress(CallFailed):  # the log is full
                self._ctx.ambient.log(1, f"{call} failed: {reason}")
        return Refused(ENOTSUP, reason)

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
        instance, stack = self._instance, self._stack
        assert instance is not None
        if self._leaving.depth >= _MAX_DEPTH:
            raise CallFailed(EBUSY, "host functions and the agent call each other too deeply")
        parked = None if stack is None else stack.park()
        try:
            return self._leaving.nested(lambda: instance.call(export, args), instance)
        finally:
            self._see_memory()
            if stack is not None:
                stack.unpark(parked)


def _masked(letter: str, value: object) -> int:
    """A host function's answer as bits of its type."""
    if not isinstance(value, int):
        return 0
    return value & (0xFFFFFFFF if letter in ("i", "f") else 0xFFFFFFFFFFFFFFFF)
