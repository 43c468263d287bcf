"""One agent's execution: from a start or a snapshot to an outcome, and on from there if it can go on.

How a suspension works: a host function returns `Suspend(wait)`, or the station writes the poll flag; the
agent's calls return, saving their frames; the export that was called returns; state and frames become a
snapshot. To continue, the same host function is called again with the event, and its result is passed to
the innermost frame.

Not here: the stack (`agents.unwinding`), the state (`agents.capture`) and the clocks (`agents.preemption`). This
module calls them in order.

Invariants: every way in which an agent's code can end is an outcome, and the process goes on; an
exception out of a run is a bug, or bytes or an image that do not fit (`FormatError`, `EngineError`). One thread
at a time uses an execution; `suspend` may be called from any.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from . import canonical
from .binding import INITIALIZE, UNINITIALIZED, WASI, Bound, Imports, bind, prepare_program
from .budget import TimeBudget, spent_ns
from .capture import capture, restore
from .engines import REBINDABLE, CompileLimits, Engine, Instance, Limits
from .engines.interface import unfit
from .engines.pages import Initial
from .errors import (
    BadSnapshot,
    CallFailed,
    CompilingTooCostly,
    EndOfRun,
    EngineError,
    LimitReached,
    ModuleError,
    PortcallError,
    WasmTrap,
)
from .evolve import evolve
from .heap import fitted
from .hostcalls import EBUSY, EIO, ENOTSUP, Ambient, CallContext, GuestMemory, native, notice
from .image import AgentImage
from .life_events import CALLBACK_PREFIX, NOTICES, callbacks
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
from .preemption import Preemption
from .snapshot import ONWARD, TASK_CALL, MemoryRoot, Pending, Snapshot, started_state
from .unwinding import Stack, stack_of
from .waits import Event, Failed, Go, GoAt, Refused, Suspend, Wait, Woke
from .wasi.fast_path import CALLED_OFTEN, MODULE, FastPath
from .wasi.file_blocks import FileBlocks, FileContents
from .wasi.limits import WasiLimits
from .wasi.state import WasiState

T = TypeVar("T")

_CALLS_TO_FAST = 16  # such calls in Python take as long as making the module that answers them
_MAX_NOTICES = 4  # told at the end of one call
_MAX_DEPTH = 16  # nested exports called inside host functions: each level takes native stack and Python's own


class _Dropped(PortcallError):
    """The agent drops its stack: this exception passes out of its code, through the engine."""

    def __init__(self, pending: Pending) -> None:
        super().__init__("the stack is dropped")
        self.pending = pending


class Execution:
    """One agent, from a start or a snapshot to an outcome, and on from there if it can go on.

        with Execution(image, engine=agents.load(), ambient=place) as life:
            outcome = life.outcome(life.advance())

    image: the agent's image
    engine: what runs its code, from `agents.load`
    ambient: what it can ask its host: clocks, randomness, log, messages (`agents.hostcalls.Ambient`)
    snapshot: where it goes on; None to start it
    entry, args: what to call if there is no snapshot; by default the manifest's entry, without arguments
    wasi: the WASI state to use instead of the snapshot's or the luggage's
    wasi_limits: bounds on files and descriptors
    grants: guest name -> host directory that it may use
    imports: host functions besides the known ones: (module, name) -> function
    limits: bounds on memories, tables and stack
    budget: CPU time and wall-clock time; by default no limit
    interruptible: whether it can be stopped in any loop; False only for code that is known to poll at every loop turn
    awaiting: its state comes later, by `adopt`, when its memories have been written: see `prepare`

    Compiling counts as the agent's time. Raises `BadSnapshot`, `BadImage`, `EngineError` (of these `CompilingTooCostly`
    for what takes more than its budget, or more than 60 s of CPU time); `ValueError` for arguments of the wrong types.
    """

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
        budget: TimeBudget | None = None,
        interruptible: bool = True,
        awaiting: bool = False,
    ) -> None:
        """Compile and link; nothing of the agent runs yet."""
        self.image, self.limits = image, limits or Limits()
        self._imports, self._interruptible = imports or {}, interruptible
        self._wasi_limits, self._grants = wasi_limits, grants
        # Without a cycle, everything is freed when its last user drops it, without the garbage collector.
        me = weakref.proxy(self)
        self._ctx = CallContext(
            GuestMemory(memoryview(b"")),
            ambient,
            call=lambda export, *args: me._nested(export, *args),
            has_export=lambda name: me._arrival(name),
            happens=lambda event: me._tell(event),
        )
        self._telling = False  # whether it is being told an event
        self._told: set[str] = set()  # the calls for which its log already says why they cannot suspend it
        self._over = False  # it has ended: what is left of it means nothing
        self._returned = False  # its export returned, and nothing was called since
        self.instance: Instance | None = None
        """Where it runs; None before it is made, and once it is closed."""
        self.contents: FileContents | None = None
        """Until `adopt`: those of its large files, where they came by themselves."""
        self._stack: Stack | None = None
        self._fast: FastPath | None = None
        self._to_fast = _CALLS_TO_FAST  # calls until there is one; 0 if there is, or cannot be
        budget, began = budget or TimeBudget(), spent_ns()
        self._compiling = None
        if budget.cpu_ns is not None:
            self._compiling = CompileLimits(min(budget.cpu_ns, CompileLimits().cpu_ns))
        self._use(engine)
        self._leaving = Preemption(engine, self._program, budget)
        self._leaving.clock.cpu = spent_ns() - began
        self._first: Event | None = None
        self._awaiting = awaiting
        if awaiting:
            self._take(Snapshot(image.digest, ""))
            return
        if snapshot is None and not args:
            snapshot = started_state(image, entry=entry, granted=bool(grants))
            self._first = None if snapshot is None else Woke()
        if snapshot is None:
            name = image.manifest.entry if entry is None else entry
            snapshot = Snapshot(image.digest, name, self._arguments(name, args))
        self._load(snapshot, wasi)

    def _use(self, engine: Engine) -> None:
        metadata = self.image.metadata
        if metadata is not None and metadata.profile not in engine.profiles:
            raise EngineError(f"{engine.name} cannot run the profile {metadata.profile}")
        program = engine.program(
            self.image.code, self.image.code_digest, interruptible=self._interruptible, limits=self._compiling
        )
        self._engine, self._program, self._extended = engine, program, False
        self._prepared = prepare_program(program, metadata)
        self._bound = bind(program, self._prepared, self._imports)
        self._callbacks = callbacks(program.exports)
        self._notified = not self._callbacks.isdisjoint(NOTICES)

    def _arguments(self, name: str, args: Sequence[int | float]) -> tuple[int, ...]:
        exported = self._program.exports.get(name)
        if exported is None or exported.kind != "func":
            raise EngineError(f"the agent exports no function {name!r}")
        if len(args) != len(exported.params):
            many = len(exported.params)
            raise ValueError(f"{name} takes {many} argument{'' if many == 1 else 's'}, not {len(args)}")
        return tuple(map(to_bits, exported.params, args))

    def _load(self, snapshot: Snapshot, wasi: WasiState | None, contents: FileContents | None = None) -> None:
        snapshot.check(self.image)
        exported = self._program.exports.get(snapshot.entry)
        if exported is None or exported.kind != "func" or len(snapshot.args) != len(exported.params):
            raise BadSnapshot(f"the agent exports no function {snapshot.entry!r} with so many parameters")
        self._take(snapshot)
        self._ctx.kept = evolve(snapshot.kept)
        self._ctx.wasi = wasi
        if wasi is None and any(entry.module == WASI for entry in self._program.imports):
            self._ctx.wasi = self._read_wasi(snapshot.wasi, contents)
        self._fit(self._ctx.wasi)

    def _take(self, snapshot: Snapshot) -> None:
        self._snapshot, self._pending, self._stage = snapshot, snapshot.pending, snapshot.stage
        self._given = False  # whether an instance has this state, which is not in `_snapshot` any more
        self._entry, self._args = snapshot.entry, snapshot.args

    def _read_wasi(self, encoded: bytes, contents: FileContents | None) -> WasiState:
        if not encoded and self._stage == "new":
            encoded = self.image.luggage
        if not encoded:
            return WasiState.launch(limits=self._wasi_limits, grants=self._grants)
        return WasiState.read(encoded, self._wasi_limits, self._grants, contents)

    def _fit(self, state: WasiState | None) -> None:
        """Make an interpreter that has not started ask for no more heap than there is memory for."""
        if state is not None and self._stage == "new":
            state.args = tuple(fitted(state.args, self.limits.memory))

    # --- from outside ---

    @property
    def wasi(self) -> WasiState | None:
        """The agent's virtual WASI, if it has one."""
        state: WasiState | None = self._ctx.wasi
        return state

    @property
    def budget(self) -> TimeBudget:
        """What the agent may use; can be set between two runs."""
        return self._leaving.budget

    @budget.setter
    def budget(self, budget: TimeBudget) -> None:
        self._leaving.budget = budget

    def left_ns(self) -> int | None:
        """How much of the budget is left, in nanoseconds: the least amount. From any thread; None if it has none."""
        return self._leaving.clock.left(self.budget)

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
        """Have whatever runs the agent now raise `KeyboardInterrupt` soon: for a signal handler."""
        self._leaving.interrupt()

    def run(self, event: Event | None = None) -> Outcome:
        """Run until an outcome. After one with a snapshot, call it again with the event that answers it."""
        return self.outcome(self.advance(event))

    def outcome(self, stop: Stop) -> Outcome:
        """The outcome for `stop`, the result of `advance`, with the snapshot if there can be one."""
        if isinstance(stop, (Finished, Trapped, Exhausted)):
            return evolve(stop, usage=self.usage())
        snapshot = self.snapshot()
        usage = self.usage()
        if isinstance(stop, Spent):
            return Exhausted(stop.error.what, stop.error.reason, snapshot, usage)
        if isinstance(stop, Asked):
            return Suspended(snapshot, usage)
        if isinstance(stop, Go):
            return Departing(stop.host, None, snapshot, usage)
        if isinstance(stop, GoAt):
            return Departing(stop.host, stop.entry, snapshot, usage)
        return Waiting(stop, snapshot, usage)

    def snapshot(
        self, roots: Sequence[MemoryRoot] = (), files: tuple[FileBlocks, MemoryRoot] | None = None
    ) -> Snapshot:
        """The state of the suspended agent; counts as its time. Raises `EngineError` for state that cannot travel.

        roots: of its memories, if their contents travel by themselves: they are in the snapshot instead
        files: the same of the contents of its large files, and which blocks have them
        """
        with self._leaving.preparation():
            return self._capture(tuple(roots), files)

    def _capture(self, roots: tuple[MemoryRoot, ...], files: tuple[FileBlocks, MemoryRoot] | None) -> Snapshot:
        state = self._snapshot
        if self.instance is None:
            self._check_given()
        else:
            captured = capture(self.instance, self._prepared, memories=not roots)
            pending = self._pending
            weak = pending is not None and (
                isinstance(pending.wait, GoAt) or (pending.module, pending.name) == TASK_CALL
            )
            state = evolve(
                state,
                entry=self._entry,
                args=self._args,
                stage=self._stage,
                globals=captured.globals,
                memories=captured.memories,
                roots=roots,
                tables=captured.tables,
                frames=() if weak or self._stack is None else self._stack.frames(),
            )
        if self.wasi is not None:
            self.wasi.pause(self._ctx.ambient)
        blocks, root = (None, None) if files is None else files
        wasi = state.wasi if self.wasi is None else canonical.encode(self.wasi.encode(blocks))
        return evolve(state, pending=self._pending, kept=evolve(self._ctx.kept), wasi=wasi, files=root)

    def hop(self, engine: Engine | None = None) -> bytes:
        """Go on in a fresh instance, of `engine` if given, from the bytes of a snapshot; returns these bytes."""
        encoded = self.snapshot().encode()
        self.close()
        if engine is not None and engine is not self._engine:
            self._use(engine)
            self._leaving.use(engine, self._program)
        self._load(Snapshot.decode(encoded), None)
        return encoded

    @property
    def memories(self) -> tuple[str, ...]:
        """The exports by which its memories are reached, in the order of a snapshot."""
        return tuple(self._prepared.memories.values())

    def initial(self, name: str) -> Initial:
        """A memory as it is in a fresh instance; `name`: of its export, one of `memories`."""
        return self._program.initial(name)

    def prepare(self) -> Instance:
        """Make the instance of an agent that is on its way: its memories are written from outside, until `adopt`.

        None of its code runs. Raises what `open` raises; `EngineError` for an image that cannot be suspended.
        """
        if self.image.metadata is None:
            raise EngineError("an agent that was not rewritten cannot be moved while it runs")
        with self._leaving.preparation():
            return self._made()

    def adopt(
        self,
        snapshot: Snapshot,
        *,
        ambient: Ambient,
        wasi_limits: WasiLimits | None = None,
        grants: Mapping[str, Any] | None = None,
        budget: TimeBudget | None = None,
    ) -> None:
        """Go on from `snapshot`, whose memories the prepared instance has, and whose files are in `contents`.

        ambient, wasi_limits, grants, budget: as of the class

        Whoever wrote the memories has compared them with their roots. Raises `BadSnapshot`, `RunStopped`.
        """
        instance = self.instance
        if instance is None or not self._awaiting:
            raise ValueError("nothing was prepared, or it has been adopted")
        self._awaiting, self._ctx.ambient = False, ambient
        self._wasi_limits, self._grants = wasi_limits, grants
        self.budget = budget or TimeBudget()
        self._load(snapshot, None, self.contents)
        self.contents = None
        if [memory.pages for memory in snapshot.roots] != [instance.memory_pages(name) for name in self.memories]:
            raise BadSnapshot("the memories are not as large as the snapshot says")
        with self._leaving.preparation():
            self._restore(instance)

    def usage(self) -> Usage:
        """What the agent has used so far."""
        memory = 0
        if self.instance is not None:
            memory = sum(self.instance.memory_pages(name) for name in self._prepared.memories.values())
        return Usage(self._leaving.clock.cpu, self._leaving.clock.wall, memory << 16)

    def close(self) -> None:
        """Free the instance, and whatever the station lent the agent."""
        self._leaving.forget()
        self._ctx.memory.direct = memoryview(b"")
        instance, self.instance, self._stack = self.instance, None, None
        self._extended, self._fast, self._to_fast = False, None, _CALLS_TO_FAST
        if instance is not None:
            instance.close()
        if self.wasi is not None:
            self.wasi.close()

    def __enter__(self) -> Execution:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the run ---

    def open(self) -> None:
        """Make the instance and restore its state now, so that `advance` goes on at once. No agent code runs.

        Does nothing for an image that may have a start function. Raises what `advance` would raise.
        """
        if self.image.metadata is not None:
            with self._leaving.preparation():
                self._open()

    def advance(self, event: Event | None = None) -> Stop:
        """Run until something has to be decided. `run` is this plus a snapshot at the end.

        Raises `ValueError` for an event that nothing waits for, and if the agent has ended.
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
        except (LimitReached, CompilingTooCostly) as limit:
            stop = Exhausted(limit.what, limit.reason)
        self._over = isinstance(stop, (Finished, Trapped, Exhausted))
        return stop

    def onward(self) -> Go | None:
        """After an export returned: have the agent wait to be sent to its next stop, without a stack, where another
        export is called. None if it cannot, since it ended itself.
        """
        if not self._returned or self.instance is None:
            return None
        if self._stack is not None:
            self._stack.clear()
        self._over = self._returned = False
        self._pending = Pending(*TASK_CALL, (), ONWARD)
        return ONWARD

    def _go_on(self, event: Event | None) -> Stop:
        event, self._first = event or self._first, None
        if event is not None and (self._pending is None or self._pending.wait is None):
            raise ValueError("an event for an agent that waits for none")
        if self.wasi is not None:
            self.wasi.begin(self._ctx.ambient)
        instance, stack = self._open()
        returned: tuple[int, ...] | None = None  # the result of an export that returned instead of unwinding
        if self._pending is not None and isinstance(self._pending.wait, GoAt):
            returned = self._arrive(instance, self._pending.wait.entry, event)
        elif self._stage == "new":
            self._leaving.check()  # compiling may have used it up
            first = self._before_entry(instance)
            self._stage = "run" if first is None else "start"
            if first is not None:
                self._guest(lambda: instance.call(first))
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
                self._returned = True
                return Finished(returned, types)

    def _before_entry(self, instance: Instance) -> str | None:
        """The export to call once per agent, before the entry; in a rewritten image, `portcall.start`."""
        if self.image.metadata is not None:
            return "portcall.start" if instance.has("portcall.start") else None
        exported = self._program.exports.get(INITIALIZE)
        if exported is None or exported.kind != "func" or self._entry in UNINITIALIZED:
            return None
        return None if exported.params or exported.results else INITIALIZE

    def _why(self) -> Stop | None:
        """Why the agent unwound; None if the reason is gone."""
        if self._pending is not None and self._pending.wait is not None:
            return self._pending.wait
        if self._leaving.spent is not None:
            return Spent(self._leaving.spent)
        return Asked() if self._leaving.asked or self.always else None

    def _check_given(self) -> None:
        if self._given:
            raise EngineError("this execution was closed: its state is gone")

    def _open(self) -> tuple[Instance, Stack | None]:
        """The instance; if there is none, a fresh or restored one."""
        if self.instance is not None:
            return self.instance, self._stack
        self._check_given()
        if self._awaiting or self._snapshot.roots:
            raise BadSnapshot("the memories of this agent are not here")
        instance = self._made()
        self._restore(instance)
        return instance, self._stack

    def _made(self) -> Instance:
        """A fresh instance."""
        # Depth 2: nothing may suspend in here, whatever the image contains.
        make = self._program.instantiate
        instance = self._guest(lambda: make(self._host, self._tick, self.limits), depth=2)
        self.instance = instance
        metadata = self.image.metadata
        self._stack = None if metadata is None else stack_of(instance, metadata)
        return instance

    def _restore(self, instance: Instance) -> None:
        """Put the agent's state into a fresh instance, or what is missing of it into a prepared one."""
        if self._stage != "new":
            try:
                self._guest(lambda: restore(instance, self._prepared, self._snapshot), depth=2)
                if self._snapshot.frames and self._stack is not None:
                    self._stack.restore(self._snapshot.frames)
                    self._extend(instance)
            except BaseException:
                self.close()
                raise
        # The instance has it now: as large as the memory again, it is not kept beside.
        given = self._snapshot
        self._given, wasi = True, given.wasi if self.wasi is None else b""
        if given.memories or given.roots:
            self._snapshot = evolve(
                given, globals={}, memories=(), roots=(), tables={}, frames=(), wasi=wasi, files=None
            )

    def _arrive(self, instance: Instance, entry: str, event: Event | None) -> tuple[int, ...]:
        """After a weak migration, or after one failed: call the entry, which may take 0 or minus an errno."""
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
        """Repeat the call that the agent waits in, now with the event: its result's type and bits."""
        bound = next((b for b in self._bound if (b.module, b.name) == (pending.module, pending.name)), None)
        if bound is None or not bound.suspends or len(pending.args) != len(bound.params):
            raise BadSnapshot(f"the agent waits in {pending.module}.{pending.name}, where it cannot")
        ctx = self._ctx
        self._see_memory()
        ctx.event = event
        answer = bound.call(ctx, tuple(map(_masked, bound.params, pending.args)))
        ctx.event = None
        if isinstance(answer, Suspend):
            self._pending = evolve(pending, wait=answer.wait)
            return answer
        self._pending = None
        if self._notified:
            self._notify(bound)
        return bound.result, [_masked(bound.result, answer)][: len(bound.result)]

    def _extend(self, instance: Instance) -> None:
        """Add the code that continues frames: only now, since many agents end without a suspension."""
        code = self.image.resumption
        if self._extended or code is None:
            return
        limits = self._compiling
        if limits is not None:
            left = self._leaving.clock.left(self.budget)
            limits = evolve(limits, cpu_ns=limits.cpu_ns if left is None else max(1, min(limits.cpu_ns, left)))
        extension = self._engine.extension(self._program, code, self.image.resumption_digest, limits=limits)
        instance.extend(extension)
        self._extended = True

    def _resume(self, stack: Stack | None, types: str = "", results: Sequence[int] = ()) -> None:
        if stack is None or self.instance is None:
            raise BadSnapshot("an agent that was not rewritten cannot be resumed")
        self._extend(self.instance)
        self._guest(lambda: stack.resume(types, results))

    def _guest(self, code: Callable[[], T], depth: int = 1) -> T:
        """Run agent code."""
        fast = self._fast
        if fast is not None:
            fast.resume()
        try:
            return self._leaving.guest(code, self.instance, depth)
        finally:
            self._take_back()

    def _tick(self) -> None:
        """Between two of its instructions."""
        if self._fast is not None:
            self._fast.flush()
        self._leaving.tick()

    def _take_back(self) -> None:
        """The state is all in Python, and what the agent wrote at the station."""
        if self._fast is not None:
            self._fast.take_back()

    def _go_fast(self) -> None:
        """Have calls that are made often answered without Python, if that is possible here."""
        assert self.instance is not None
        ctx = self._ctx
        ours = REBINDABLE.keys().isdisjoint(self._imports)
        if ours and native(ctx.ambient) and self._program.interruptible:
            with suppress(EngineError, LimitReached):  # no room for it
                rebound = self.instance.rebind(MODULE)
                self._fast = None if rebound is None else FastPath(rebound, ctx)

    # --- host calls ---

    def _see_memory(self) -> None:
        instance, main = self.instance, self._prepared.main
        if instance is None:
            raise EngineError("a host call from a start function: the module has to be packed")
        if main is not None:
            memory = self._ctx.memory
            memory.direct, memory.missing = instance.on_demand(main)

    def _host(self, index: int, args: Sequence[int]) -> int:
        """Handle a call of an import."""
        bound = self._bound[index]
        ctx = self._ctx
        self._see_memory()
        if self._fast is not None:
            self._fast.take_back()
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
        if self._notified:
            self._notify(bound)
        if self._to_fast and bound.function in CALLED_OFTEN:
            self._to_fast -= 1
            if not self._to_fast:
                self._go_fast()
        if self._fast is not None:
            self._fast.returns(bound.function, args, not answer)
        return _masked(bound.result, answer)

    def _refusal(self, bound: Bound, wait: Wait) -> Refused | None:
        """Why the agent cannot wait here, or None."""
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
        """The refusal; its reason goes into the agent's log once, since the call returns only a number."""
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
        instance, stack, ctx = self.instance, self._stack, self._ctx
        assert instance is not None
        if self._leaving.depth >= _MAX_DEPTH:
            raise CallFailed(EBUSY, "host functions and the agent call each other too deeply")
        parked, event = None if stack is None else stack.park(), ctx.event
        try:
            if self._leaving.depth:
                return self._leaving.nested(lambda: instance.call(export, args), instance)
            # The host function was called again with what the agent waited for: no code of its runs below.
            return self._guest(lambda: instance.call(export, args), depth=2)
        finally:
            self._take_back()
            self._see_memory()
            ctx.event = event
            if stack is not None:
                stack.unpark(parked)

    def _tell(self, event: str) -> None:
        """Inside a host function: call the agent's export for an event of its life, if it has one."""
        if event not in self._callbacks or self._telling or self._leaving.depth > 1:
            return
        self._telling = True
        try:
            self._nested(CALLBACK_PREFIX + event)
        finally:
            self._telling = False

    def _notify(self, bound: Bound) -> None:
        """At the end of a call of the station: tell what the station has to tell by itself."""
        if bound.module != "portcall" or bound.name == "notice" or self._telling or self._leaving.depth > 1:
            return
        for _ in range(_MAX_NOTICES):
            said = notice(self._ctx)
            if not said:
                return
            self._tell(said.partition(" ")[0])


def _masked(letter: str, value: object) -> int:
    """A host function's result as bits of its type."""
    if not isinstance(value, int):
        return 0
    return value & (0xFFFFFFFF if letter in ("i", "f") else 0xFFFFFFFFFFFFFFFF)


Life = Execution
"""The public name of `Execution`."""
