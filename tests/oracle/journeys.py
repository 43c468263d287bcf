"""Programs of the corpora on a journey: suspended at every opportunity, moved at every Nth.

    python -m tests.oracle.journeys [--hops N] [--every N] [--polls loops|calls] [--budget SECONDS] [NAME ..]

An opportunity is a poll (loop turn, function entry) or a call of a suspending host function. At *every*
one the whole stack unwinds and is resumed; a small module of our own, the stepper, does that inside the
engine, so that a million opportunities take a second. At every Nth, and at every suspending host call,
the program leaves its instance as bytes and goes on in a fresh one, in a fresh store. Output and exit
code must be those of the undisturbed run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import click
import wasmtime

from agents.rewrite import DEFAULT_SUSPENDING, Options, rewrite
from agents.rewrite.options import Polls
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from tests import programs
from tests.programs import Program

from . import bits
from .bits import Value
from .small_wasi import Exit, SmallWasi
from .traveller import Compiler, Traveller

WITH_FILES = {"luggage"}  # scripts that need a file system, which `small_wasi` has not
ENDLESS = (1 << 31) - 1
STEPPER = """(module
    (import "agent" "resume" (func $resume))
    (import "agent" "frames" (memory 0))
    (import "agent" "state" (global $state (mut i32)))
    (global $pending (export "pending") (mut i32) (i32.const 0))
    (global $passed (export "passed") (mut i32) (i32.const 0))
    ;; resume and suspend until n opportunities have passed, the program ends, or a host call waits
    (func (export "step") (param $n i32)
      (loop $again
        (i32.store (i32.const 0) (i32.const 1))
        (call $resume)
        (if (i32.or (i32.eqz (global.get $state)) (global.get $pending)) (then (return)))
        (global.set $passed (i32.add (global.get $passed) (i32.const 1)))
        (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"""


@attrs.frozen
class Ended:
    """How a run ended: what it wrote, its exit code or its trap, and how often it was suspended and moved."""

    out: bytes
    err: bytes
    end: str
    opportunities: int = attrs.field(default=0, eq=False)
    hops: int = attrs.field(default=0, eq=False)


@attrs.define
class _InstanceMemory:
    store: wasmtime.Store
    memory: wasmtime.Memory

    def read(self, at: int, size: int) -> bytes:
        return bits.read(self.store, self.memory, at, size)

    def write(self, at: int, data: bytes) -> None:
        bits.write(self.store, self.memory, at, data)


def _world(program: Program) -> SmallWasi:
    return SmallWasi((program.name, *program.arguments), program.environment, program.stdin)


def _host_function(world: SmallWasi, module: str, name: str) -> Callable[..., int | None]:
    if module == "wasi_snapshot_preview1":
        return world.function(name)
    return {"host_result_cap": lambda: 65536, "host_call": lambda *_: -1}[name]


def _ending(run: Callable[[], object]) -> str:
    try:
        run()
    except Exit as end:
        return f"exit {end.code}"
    except wasmtime.Trap as trap:
        return f"trap {trap.trap_code.name if trap.trap_code else trap.message.splitlines()[0]}"
    return "exit 0"


def undisturbed(on: Compiler, program: Program) -> Ended:
    """Run the program as it is."""
    world, store = _world(program), on.store()
    module = on.module(program.wasm)
    externs = [
        wasmtime.Func(store, entry.type, _host_function(world, entry.module, entry.name or ""))  # type: ignore[arg-type]
        for entry in module.imports
    ]
    instance = wasmtime.Instance(store, module, externs)
    exports = instance.exports(store)
    world.memory = _InstanceMemory(store, exports["memory"])  # type: ignore[arg-type]
    end = _ending(lambda: exports["_start"](store))  # type: ignore[operator]
    return Ended(bytes(world.out[1]), bytes(world.out[2]), end)


def packed(program: Program, polls: Polls) -> bytes:
    """The rewritten program."""
    return encode_module(rewrite(decode_module(program.wasm), Options(polls=polls)))


class Journey:
    """One run of a rewritten program that is moved at every `every`-th opportunity, at most `hops` times."""

    def __init__(self, on: Compiler, program: Program, wasm: bytes, every: int, hops: int) -> None:
        self.every = every
        self.world = _world(program)
        self.stepper = on.module(STEPPER.encode())
        self.opportunities = 0
        self.pending: Any = None
        self.traveller = Traveller(on.store(), on.module(wasm), wasm, self._link, hops, on.store)
        self._arrived()

    def _arrived(self) -> None:
        traveller = self.traveller
        exports = traveller.instance.exports(traveller.store)
        self.world.memory = _InstanceMemory(traveller.store, exports["memory"])  # type: ignore[arg-type]
        link = [traveller.export(name) for name in ("resume", "frames", "state")]
        made = wasmtime.Instance(traveller.store, self.stepper, link).exports(traveller.store)
        self.step, self.pending, self.passed = made["step"], made["pending"], made["passed"]

    def _link(self, traveller: Traveller) -> Sequence[Any]:
        return [
            wasmtime.Func(traveller.store, entry.type, self._host(entry.module, entry.name or ""))  # type: ignore[arg-type]
            for entry in traveller.module.imports
        ]

    def _host(self, module: str, name: str) -> Callable[..., int | None]:
        function = _host_function(self.world, module, name)
        if (module, name) not in DEFAULT_SUSPENDING:
            return function

        def suspending(*args: int) -> int:
            self.opportunities += 1
            if not self.traveller.may_hop():
                return function(*args) or 0
            # The call happens at the destination, on the memory there.
            self.traveller.suspend(lambda: [Value("i", (function(*args) or 0) % (1 << 32))])
            bits.set_global(self.traveller.store, self.pending, Value("i", 1))
            return 0

        return suspending

    def run(self) -> Ended:
        """To the end."""
        end = _ending(self._run)
        out = self.world.out
        self._count()
        return Ended(bytes(out[1]), bytes(out[2]), end, self.opportunities, self.traveller.hopped)

    def _count(self) -> None:
        self.opportunities += bits.get_global(self.traveller.store, self.passed).bits

    def _run(self) -> None:
        traveller = self.traveller
        assert not traveller.metadata.start
        traveller.ask(True)
        start = traveller.instance.exports(traveller.store)["_start"]
        bits.call(traveller.store, start, (), 0)  # type: ignore[arg-type]
        while traveller.suspended():
            if traveller.may_hop():
                self._count()
                traveller.hop()
                self._arrived()
            elif traveller.pending is not None:
                bits.set_global(traveller.store, self.pending, Value("i", 0))
            traveller.complete()
            turns = self.every if traveller.may_hop() else ENDLESS
            bits.call(traveller.store, self.step, [Value("i", turns)], 0)


def corpus() -> list[str]:
    """All names: C programs, then MicroPython scripts as ``micropython/NAME``."""
    scripts = [name for name in programs.script_names() if name not in WITH_FILES]
    return programs.c_names() + [f"micropython/{name}" for name in scripts]


def load(name: str) -> Program:
    """A program of the corpora. Raises ToolMissing."""
    if not name.startswith("micropython/"):
        return programs.c_program(name)
    script = programs.script_path(name.partition("/")[2])
    given = script.with_suffix(".stdin")
    stdin = given.read_bytes() if given.exists() else b""
    return Program(name, programs.micropython(), ("-c", script.read_text()), stdin=stdin)


def compare(on: Compiler, program: Program, wasm: bytes, every: int, hops: int) -> tuple[Ended, Ended]:
    """The undisturbed run, and the journey."""
    return undisturbed(on, program), Journey(on, program, wasm, every, hops).run()


def spread(on: Compiler, program: Program, wasm: bytes, hops: int) -> int:
    """The N for which hopping at every Nth opportunity makes about `hops` hops over the whole run."""
    counted = Journey(on, program, wasm, ENDLESS, 0).run()
    return max(1, counted.opportunities // hops)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--hops", default=200, show_default=True, help="About this many hops, spread over each run.")
@click.option("--every", type=int, help="Instead: hop at every Nth opportunity.")
@click.option("--polls", type=click.Choice(["none", "loops", "calls"]), default="calls", show_default=True)
@click.option("--budget", default=600.0, show_default=True, help="Seconds.")
def main(names: tuple[str, ...], hops: int, every: int | None, polls: Polls, budget: float) -> None:
    """Run the corpora with a suspension at every opportunity."""
    deadline, on, failed = time.monotonic() + budget, Compiler(), 0
    packed_of: dict[bytes, bytes] = {}
    for name in names or corpus():
        if time.monotonic() > deadline:
            break
        try:
            program = load(name)
        except programs.ToolMissing as reason:
            click.echo(f"{name}: skipped, {reason}")
            continue
        if program.wasm not in packed_of:
            packed_of[program.wasm] = packed(program, polls)
        wasm = packed_of[program.wasm]
        turn = every or spread(on, program, wasm, hops)
        expected, found = compare(on, program, wasm, turn, ENDLESS)
        same = found == expected
        failed += not same
        counts = f"{found.opportunities} opportunities, {found.hops} hops"
        click.echo(f"{name}: {'same' if same else 'DIFFERENT'}, {counts}, {found.end}")
        if not same:
            click.echo(f"expected {expected}\nfound    {found}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
