"""The specification's scripts through the product, on one engine after the other, with a hop at every opportunity.

    python -m tests.oracle.spec_engines [--engines v8,wasmtime] [--budget SECONDS] [--hops N] [SCRIPT ..]

`tests.oracle.spec_scripts` is the same for the rewriting, in wasmtime alone. Here each module becomes an image, each
action of a script an execution, which is captured at every function entry, loop turn and print, and goes on from these
bytes in a fresh instance of the next engine. What it gives must be what the script expects. A module that imports from
others, or that no packer takes, and values that cannot cross, are left out and counted.
"""

from __future__ import annotations

import collections
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click

import agents
from agents import AgentImage
from agents.ambient import StandaloneHost
from agents.capture import capture
from agents.engines import Engine
from agents.engines.interface import interface
from agents.engines.v8.bits import as_bits, call_of
from agents.errors import EngineError, ModuleError, PortcallError
from agents.execution import Execution
from agents.hostcalls import HostImport
from agents.outcomes import Asked, Exhausted, Finished, Trapped
from agents.snapshot import Snapshot
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from tests.wasm.tools import run_tool, spec_scripts

from .bits import Value
from .script_values import argument, check
from .spec_scripts import _PRINTS, _binary, _imported_names, _is_shared

_IMPORTS = {("spectest", name): HostImport(kinds, "", lambda ctx, *args: None) for name, kinds in _PRINTS.items()}
_LETTERS = {"i32": "i", "i64": "I", "f32": "f", "f64": "F", "v128": "v"}
_BITS = "bits of "
_WORD = (1 << 64) - 1
_ENDS = ("assert_trap", "assert_exhaustion", "assert_exception")


@attrs.define
class Tally:
    """What was checked. `left`: actions that were left out, by reason."""

    passed: int = 0
    hops: int = 0
    left: collections.Counter[str] = attrs.field(factory=collections.Counter)
    failures: list[str] = attrs.field(factory=list)


@attrs.define
class Subject:
    """A module of a script, and the state that the last action left. `why` it is left out."""

    image: AgentImage | None
    state: Snapshot | None = None
    why: str = ""


class Script:
    """One script."""

    def __init__(self, path: Path, engines: Sequence[Engine], hops: int, deadline: float) -> None:
        self.path, self.hops, self.deadline = path, hops, deadline
        self.engines = itertools.cycle(engines)
        self.engine = next(self.engines)
        self.tally = Tally()
        self.subjects: dict[str | None, Subject] = {}

    def run(self) -> Tally:
        """All its commands, in order."""
        with tempfile.TemporaryDirectory() as scratch:
            listing = Path(scratch, "script.json")
            made = run_tool("json-from-wast", str(self.path), "--wasm-dir", scratch, "-o", str(listing))
            assert made is not None, f"{self.path} cannot be read"
            commands = json.loads(listing.read_text())["commands"]
            imported = _imported_names(commands, Path(scratch))
            for number, command in enumerate(commands):
                shared = _is_shared(commands, number, imported)
                if time.monotonic() > self.deadline:
                    break
                try:
                    self._command(command, Path(scratch), shared)
                except (AssertionError, PortcallError) as error:
                    field = command.get("action", {}).get("field", "")
                    where = f"{self.path.stem}:{command['line']} {command['type']} {field}"
                    self.tally.failures.append(f"{where} on {self.engine.name}: {str(error)[:400]}")
        return self.tally

    def _command(self, command: dict[str, Any], folder: Path, shared: bool) -> None:
        kind = command["type"]
        if kind == "module":
            made = Subject(None, why="shared with another module")
            made = made if shared else self._subject(_binary(command, folder))
            self.subjects[None] = self.subjects[command.get("name")] = made
        elif kind in ("action", "assert_return", *_ENDS) and command["action"]["type"] == "invoke":
            self._action(command)

    def _subject(self, wasm: bytes) -> Subject:
        try:
            # A snapshot has no vectors among its arguments: they come as integers.
            image = agents.pack(_with_bits(wasm), polls="calls", suspending=None, nans="canonical", entry=_first(wasm))
            program = self.engine.program(image.code, image.code_digest)
        except (ModuleError, EngineError) as error:
            return Subject(None, why=f"refused: {str(error).partition(' in function')[0][:60]}")
        if not {(entry.module, entry.name) for entry in program.imports} <= _IMPORTS.keys():
            return Subject(None, why="imports from another module")
        return Subject(image)

    def _action(self, command: dict[str, Any]) -> None:
        action = command["action"]
        subject = self.subjects.get(action.get("module"), Subject(None, why="no module"))
        given = [argument(entry) for entry in action.get("args", [])]
        wanted = [entry["type"] for entry in command.get("expected", [])]
        if subject.image is None:
            self.tally.left[subject.why] += 1
        elif len(action["field"].encode()) > 200:
            self.tally.left["a name that is too long for an entry"] += 1
        elif any(value is None or value.letter in "rx" for value in given) or any("ref" in kind for kind in wanted):
            self.tally.left["references that cannot cross"] += 1
        else:
            field, args = action["field"], [value for value in given if value is not None]
            letters = "".join(_LETTERS[kind] for kind in wanted if kind in _LETTERS)
            if "v" in letters or any(value.letter == "v" for value in args):
                field = _BITS + field
                args = [Value("I", word) for value in args for word in _words(value)]
            found = self._invoke(subject, subject.image, field, [value.bits for value in args])
            if command["type"] == "assert_return":
                assert isinstance(found, Finished), f"{found}"
                check(_joined(found.results, letters, found.types), command["expected"])
            elif command["type"] in _ENDS:
                assert isinstance(found, Trapped | Exhausted), f"{found} where the script expects {command['text']}"
            self.tally.passed += 1

    def _invoke(self, subject: Subject, image: AgentImage, field: str, args: Sequence[int]) -> object:
        """Call an export in the state that the last action left, hopping; keeps the state."""
        before = subject.state
        fresh = Snapshot(image.digest, field, tuple(args))
        given = fresh if before is None else attrs.evolve(before, entry=field, args=tuple(args), stage="start")
        place = StandaloneHost(lambda: 0, lambda: 0, bytes)
        with Execution(image, engine=self.engine, ambient=place, snapshot=given, imports=_IMPORTS) as life:
            life.always, hops = True, 0
            while isinstance(stop := life.advance(), Asked):
                self.engine = next(self.engines)
                life.hop(self.engine)
                hops += 1
                life.always = hops < self.hops
            self.tally.hops += hops
            if life.instance is not None:
                state = capture(life.instance, life._prepared)
                subject.state = attrs.evolve(
                    fresh, globals=state.globals, memories=state.memories, tables=state.tables, stage="run"
                )
            return stop


def _with_bits(wasm: bytes) -> bytes:
    """The module, and each export that takes or gives a float or a vector also with their bits."""
    module = as_bits(decode_module(wasm), extension=True)
    reserved = {call_of(export.name): _BITS + export.name for export in module.exports}
    kept = [attrs.evolve(each, name=reserved.get(each.name, each.name)) for each in module.exports]
    exports = tuple(each for each in kept if not each.name.startswith("portcall."))
    return encode_module(attrs.evolve(module, exports=exports))


def _words(value: Value) -> tuple[int, ...]:
    return (value.bits & _WORD, value.bits >> 64) if value.letter == "v" else (value.bits,)


def _joined(words: Sequence[int], letters: str, types: str) -> list[Value]:
    """Results of the types `letters`, from those of the types `types`."""
    if types == letters or not letters:
        return [Value(*pair) for pair in zip(types, words, strict=True)]
    rest = iter(words)
    return [Value(each, next(rest) | (next(rest) << 64 if each == "v" else 0)) for each in letters]


def _first(wasm: bytes) -> str:
    """Some exported function: images have an entry, whatever is called."""
    return next((name for name, each in interface(wasm).exports.items() if each.kind == "func"), "")


@click.command()
@click.argument("scripts", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--engines", default="v8,wasmtime", show_default=True, help="Taken in turn at each hop.")
@click.option("--budget", default=600.0, show_default=True, help="Seconds.")
@click.option("--hops", default=100, show_default=True, help="At most this many in one call.")
@click.option("--verbose", is_flag=True, help="A line for each script.")
def main(scripts: tuple[Path, ...], engines: str, budget: float, hops: int, verbose: bool) -> None:
    """Run the specification's scripts on engines in turn."""
    paths, deadline = list(scripts) or spec_scripts(), time.monotonic() + budget
    loaded = [agents.load(name) for name in engines.split(",")]
    total, done = Tally(), 0
    for path in paths:
        if time.monotonic() > deadline:
            break
        tally = Script(path, loaded, hops, deadline).run()
        done += 1
        total.passed += tally.passed
        total.hops += tally.hops
        total.left.update(tally.left)
        total.failures += tally.failures
        if verbose:
            click.echo(f"{path.stem}: {tally.passed} passed, {tally.hops} hops, {len(tally.failures)} failed")
        for failure in tally.failures:
            click.echo(f"FAILED {failure}")
    click.echo(f"{done} of {len(paths)} scripts: {total.passed} actions, {total.hops} hops between {engines}")
    click.echo(f"  {len(total.failures)} failed")
    for why, count in total.left.most_common():
        click.echo(f"  left out: {count:6} {why}")
    sys.exit(1 if total.failures else 0)


if __name__ == "__main__":
    main()
