"""The specification's own scripts, rewritten and run with a hop at every opportunity.

    python -m tests.oracle.spec_scripts [--budget SECONDS] [--hops N] [--everywhere] [--canonical] [SCRIPT ..]

Each module runs twice: as it is, and rewritten with polls at every entry and loop, suspended at every poll and
every host call, captured, restored into a fresh instance and resumed. With ``--everywhere`` there is a suspending
call between any two instructions instead (`tests.oracle.interposed`). With ``--canonical`` it is packed with canonical
NaNs and runs on an engine that leaves them as they are, against one that makes each canonical. The results must be
those that the script expects and, to the bit, those of the undisturbed run; after each action memories and globals are
compared too. A module that the rewriter refuses, and one from which another module of the script imports, stays as it
is and is counted.
"""

from __future__ import annotations

import collections
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import wasmtime

from agents.errors import MalformedModule, UnsupportedFeature
from agents.wasm.decode import decode_module
from agents.wasm.syntax import Import
from tests.wasm.tools import run_tool, spec_folder, spec_scripts

from . import bits
from .bits import Value
from .interposed import HERE, switch_module
from .pairs import compare_state, outcome_of, packed_for, same
from .script_values import argument, check
from .traveller import Traveller, engine, exposing, new_store

_PRINTS = {
    "print": "",
    "print_i32": "i",
    "print_i64": "I",
    "print_f32": "f",
    "print_f64": "F",
    "print_i32_f32": "if",
    "print_f64_f64": "FF",
}
_SUSPENDING = frozenset([HERE, *(("spectest", name) for name in _PRINTS)])
_ENGINE_TYPES = {
    "i": wasmtime.ValType.i32,
    "I": wasmtime.ValType.i64,
    "f": wasmtime.ValType.f32,
    "F": wasmtime.ValType.f64,
}


@attrs.define
class Tally:
    """What was checked. `plain`: assertions on modules that stayed as they are, by reason."""

    passed: int = 0
    hops: int = 0
    cut: int = 0
    plain: collections.Counter[str] = attrs.field(factory=collections.Counter)
    failures: list[str] = attrs.field(factory=list)

    def add(self, other: Tally) -> None:
        """Sum."""
        self.passed += other.passed
        self.hops += other.hops
        self.cut += other.cut
        self.plain.update(other.plain)
        self.failures += other.failures


class World:
    """One store with the modules that a script made in it, and the test host of the scripts."""

    def __init__(self, on: wasmtime.Engine) -> None:
        self.engine = on
        self.store = new_store(on)
        self.registry: dict[tuple[str, str], Any] = {}
        self._switch = switch_module(on)
        self._host = wasmtime.Module(on, self._spectest())
        self.register("spectest", wasmtime.Instance(self.store, self._host, []))

    @staticmethod
    def _spectest() -> str:
        return """(module
            (global (export "global_i32") i32 (i32.const 666))
            (global (export "global_i64") i64 (i64.const 666))
            (global (export "global_f32") f32 (f32.const 666.6))
            (global (export "global_f64") f64 (f64.const 666.6))
            (table (export "table") 10 20 funcref) (table (export "table64") i64 10 20 funcref)
            (memory (export "memory") 1 2)
            (func (export "print")) (func (export "print_i32") (param i32))
            (func (export "print_i64") (param i64)) (func (export "print_f32") (param f32))
            (func (export "print_f64") (param f64)) (func (export "print_i32_f32") (param i32 f32))
            (func (export "print_f64_f64") (param f64 f64)))"""

    def register(self, name: str, instance: wasmtime.Instance) -> None:
        """Let later modules import from this one."""
        for key, extern in instance.exports(self.store).items():
            self.registry[name, key] = extern

    def link(self, module: wasmtime.Module) -> list[Any]:
        """The imports of `module`. Raises KeyError when one is missing."""
        return [self.registry[entry.module, entry.name or ""] for entry in module.imports]

    def fresh_store(self, wasm: bytes) -> Callable[[], wasmtime.Store] | None:
        """What makes a store for each hop; None for a module that needs what lives in this one."""
        alone = all(entry.module == "spectest" or (entry.module, entry.name) == HERE for entry in imports(wasm))
        return (lambda: new_store(self.engine)) if alone else None

    def link_suspending(self, traveller: Traveller) -> list[Any]:
        """The imports of a module that travels: prints and `oracle.here` suspend, as long as it takes hops."""
        registry = self.registry
        keys = [(entry.module, entry.name or "") for entry in traveller.module.imports]
        if traveller.store is not self.store and not set(keys) <= _SUSPENDING:
            host = wasmtime.Instance(traveller.store, self._host, []).exports(traveller.store)
            registry = {("spectest", name): extern for name, extern in host.items()}
        found: list[Any] = []
        for key in keys:
            if key == HERE:
                found.append(traveller.here(self._switch))
            elif key in _SUSPENDING:
                found.append(self._suspending(traveller, _PRINTS[key[1]]))
            else:
                found.append(registry[key])
        return found

    def _suspending(self, traveller: Traveller, kinds: str) -> wasmtime.Func:
        def host(*args: float) -> None:
            if traveller.may_hop():
                traveller.suspend(lambda: ())

        params = [_ENGINE_TYPES[kind]() for kind in kinds]
        return wasmtime.Func(traveller.store, wasmtime.FuncType(params, []), host)


@attrs.define
class Subject:
    """One module of a script: undisturbed in one world; in the other it travels, or stays (`why`)."""

    wasm: bytes
    undisturbed: wasmtime.Instance
    traveller: Traveller | None = None
    staying: wasmtime.Instance | None = None
    why: str = ""


class Script:
    """Runs one script."""

    def __init__(
        self, on: wasmtime.Engine, path: Path, hops: int, everywhere: bool, deadline: float, canonical: bool = False
    ) -> None:
        self.everywhere, self.canonical = everywhere, canonical
        self.engine, self.path, self.hops, self.deadline = on, path, hops, deadline
        self.tally = Tally()
        self.still, self.moving = World(on), World(engine(nans=False) if canonical else on)
        self.subjects: dict[str | None, Subject | None] = {}
        self.definitions: dict[str, bytes] = {}

    def run(self) -> Tally:
        """All commands, in order."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            listing = folder / "script.json"
            made = run_tool("json-from-wast", str(self.path), "--wasm-dir", scratch, "-o", str(listing))
            assert made is not None, f"{self.path} cannot be read"
            commands: list[dict[str, Any]] = json.loads(listing.read_text())["commands"]
            imported = _imported_names(commands, folder)
            for number, command in enumerate(commands):
                if time.monotonic() > self.deadline:
                    break
                shared = _is_shared(commands, number, imported)
                try:
                    self._command(command, folder, shared)
                except AssertionError as error:
                    self._fail(command, str(error))
                except Exception as error:  # one command's failure, whatever it is; the others still count
                    self._fail(command, f"{type(error).__name__}: {error}")
        return self.tally

    def _fail(self, command: dict[str, Any], what: str) -> None:
        field = command.get("action", {}).get("field", "")
        where = f"{self.path.stem}:{command['line']} {command['type']} {field}"
        self.tally.failures.append(f"{where}: {what[:400]}")

    def _command(self, command: dict[str, Any], folder: Path, shared: bool) -> None:
        kind = command["type"]
        if kind == "module_definition":
            self.definitions[command.get("name", "")] = (folder / command["filename"]).read_bytes()
        elif kind == "module_instance":
            self._module(self.definitions[command.get("module", "")], command.get("instance"), shared)
        elif kind == "module":
            self._module(_binary(command, folder), command.get("name"), shared)
        elif kind == "register":
            subject = self.subjects[command.get("name")]
            if subject is not None:
                self.still.register(command["as"], subject.undisturbed)
                if subject.staying is not None:
                    self.moving.register(command["as"], subject.staying)
        elif kind in ("action", "assert_return", "assert_trap", "assert_exhaustion", "assert_exception"):
            self._action(command)
        elif kind == "assert_uninstantiable":
            self._uninstantiable(_binary(command, folder))

    # --- modules -----------------------------------------------------------------------------------------

    def _module(self, wasm: bytes, name: str | None, shared: bool) -> None:
        self.subjects[None] = self.subjects[name] = None
        subject = self._subject(wasm, shared)
        self.subjects[None] = self.subjects[name] = subject

    def _subject(self, wasm: bytes, shared: bool) -> Subject:
        try:
            compared, why = exposing(wasm), ""
        except UnsupportedFeature as error:
            compared, why = wasm, f"refused: {error.feature}"
        still = wasmtime.Module(self.engine, compared)
        subject = Subject(wasm, wasmtime.Instance(self.still.store, still, self.still.link(still)))
        if shared and not why:
            why = "shared with another module"
        packed = None
        if not why:
            try:
                packed = packed_for(wasm, self.everywhere, _SUSPENDING, self.canonical)
            except UnsupportedFeature as error:
                why = f"refused: {error.feature}"
        if packed is None:
            subject.why = why
            module = wasmtime.Module(self.moving.engine, wasm)
            subject.staying = wasmtime.Instance(self.moving.store, module, self.moving.link(module))
            return subject
        subject.traveller = self._traveller(packed)
        if subject.traveller.start_pending:
            self._travel(subject, lambda traveller: traveller.invoke("portcall.start", ()))
        return subject

    def _traveller(self, packed: bytes) -> Traveller:
        module = wasmtime.Module(self.moving.engine, packed)
        fresh = self.moving.fresh_store(packed)
        store = self.moving.store if fresh is None else fresh()
        return Traveller(store, module, packed, self.moving.link_suspending, self.hops, fresh)

    def _uninstantiable(self, wasm: bytes) -> None:
        """The start function or a segment traps: then the rewritten one must not come to life either."""
        try:
            packed = packed_for(wasm, self.everywhere, _SUSPENDING, self.canonical)
        except UnsupportedFeature as error:
            self.tally.plain[f"refused: {error.feature}"] += 1
            return
        try:
            traveller = self._traveller(packed)
            if traveller.start_pending:
                traveller.invoke("portcall.start", ())
        except (wasmtime.Trap, wasmtime.WasmtimeError):
            self.tally.passed += 1
            return
        raise AssertionError("it came to life")

    # --- actions -----------------------------------------------------------------------------------------

    def _action(self, command: dict[str, Any]) -> None:
        action = command["action"]
        subject = self.subjects.get(action.get("module"))
        if subject is None:
            self.tally.plain["module not instantiated"] += 1
            return
        if action["type"] == "get":
            self._get(subject, action["field"], command)
            return
        arguments = [argument(entry) for entry in action.get("args", [])]
        if None in arguments:
            self.tally.plain["argument that cannot be made here"] += 1
            return
        args = [value for value in arguments if value is not None]
        results = _result_count(subject.wasm, action["field"])
        function = subject.undisturbed.exports(self.still.store)[action["field"]]
        expected = outcome_of(lambda: bits.call(self.still.store, function, args, results))
        if subject.traveller is None:
            assert subject.staying is not None
            function = subject.staying.exports(self.moving.store)[action["field"]]
            outcome = outcome_of(lambda: bits.call(self.moving.store, function, args, results))
            assert self.canonical or same(outcome, expected), "two undisturbed runs differ"
            self.tally.plain[subject.why] += 1
            return
        if command["type"] == "assert_exhaustion":  # each hop starts with an empty native stack
            subject.traveller.limit = 20
        outcome = self._travel(subject, lambda traveller: traveller.invoke(action["field"], args))
        subject.traveller.limit = self.hops
        assert same(outcome, expected), f"{outcome} where the undisturbed run gives {expected}"
        if command["type"] == "assert_return":
            assert isinstance(outcome, list), f"{outcome}"
            check(outcome, command["expected"])
        elif command["type"] != "action":
            assert isinstance(outcome, str), f"{outcome} where the script expects {command.get('text')}"
        self.tally.passed += 1

    def _travel(self, subject: Subject, go: Callable[[Traveller], list[Value]]) -> list[Value] | str:
        traveller = subject.traveller
        assert traveller is not None
        outcome = outcome_of(lambda: go(traveller))
        if isinstance(outcome, str):
            traveller.reset()
        self.tally.hops += traveller.hopped
        self.tally.cut += traveller.cut
        compare_state(self.still.store, subject.undisturbed, traveller)
        return outcome

    def _get(self, subject: Subject, field: str, command: dict[str, Any]) -> None:
        if subject.traveller is None:
            self.tally.plain[subject.why] += 1
            return
        store = subject.traveller.store
        value = bits.get_global(store, subject.traveller.instance.exports(store)[field])
        check([value], command.get("expected", []))
        self.tally.passed += 1


def imports(wasm: bytes) -> Sequence[Import]:
    """What a module imports. Raises UnsupportedFeature, MalformedModule."""
    return decode_module(wasm).imports


def _binary(command: dict[str, Any], folder: Path) -> bytes:
    path = folder / command["filename"]
    if path.suffix == ".wasm":
        return path.read_bytes()
    made = run_tool("parse", str(path))
    assert made is not None, "does not parse"
    return made


def _imported_names(commands: Sequence[dict[str, Any]], folder: Path) -> set[str]:
    """The module names that anything in the script imports from."""
    names: set[str] = set()
    for command in commands:
        if command["type"] in ("module", "module_definition", "assert_uninstantiable", "assert_unlinkable"):
            try:
                names |= {entry.module for entry in imports(_binary(command, folder))}
            except (UnsupportedFeature, MalformedModule, AssertionError):
                names.add("*")  # unknown, so everything that is registered counts as shared
    return names


def _is_shared(commands: Sequence[dict[str, Any]], number: int, imported: set[str]) -> bool:
    """Whether the module that command `number` makes is registered under a name that is imported from."""
    command = commands[number]
    if command["type"] not in ("module", "module_instance"):
        return False
    name = command.get("name", command.get("instance"))
    for later in commands[number + 1 :]:
        if later["type"] in ("module", "module_instance"):
            if name is None or later.get("name", later.get("instance")) == name:
                return False
        elif later["type"] == "register" and later.get("name") in (None, name):
            return later["as"] in imported or "*" in imported
    return False


def _result_count(wasm: bytes, field: str) -> int:
    try:
        module = decode_module(wasm)
    except UnsupportedFeature:  # ask the engine: these modules stay as they are
        found = [entry for entry in wasmtime.Module(engine(), wasm).exports if entry.name == field]
        return len(found[0].type.results)  # type: ignore[union-attr]
    (export,) = [export for export in module.exports if export.name == field]
    return len(module.func_type(export.index).results)


def run_script(
    path: Path, hops: int, everywhere: bool = False, deadline: float = float("inf"), canonical: bool = False
) -> Tally:
    """Run one script; `hops` bounds the hops of one call, `deadline` is of the monotonic clock."""
    return Script(engine(), path, hops, everywhere, deadline, canonical).run()


def run_all(
    paths: Sequence[Path], hops: int, everywhere: bool, deadline: float, canonical: bool
) -> Iterator[tuple[Path, Tally]]:
    """Each script's tally, until the time is over."""
    for path in paths:
        if time.monotonic() > deadline:
            return
        yield path, run_script(path, hops, everywhere, deadline, canonical)


@click.command()
@click.argument("scripts", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--budget", default=600.0, show_default=True, help="Seconds.")
@click.option("--hops", default=1000, show_default=True, help="At most this many in one call.")
@click.option("--everywhere", is_flag=True, help="A site between any two instructions.")
@click.option("--canonical", is_flag=True, help="Canonical NaNs.")
@click.option("--verbose", is_flag=True, help="A line for each script.")
def main(scripts: tuple[Path, ...], budget: float, hops: int, everywhere: bool, canonical: bool, verbose: bool) -> None:
    """Run the specification's scripts with a hop at every opportunity."""
    paths = list(scripts) or spec_scripts()
    if not paths:
        raise click.ClickException("the specification's scripts are absent (PORTCALL_WASM_SPEC)")
    total, done = Tally(), 0
    root = spec_folder()
    for path, tally in run_all(paths, hops, everywhere, time.monotonic() + budget, canonical):
        done += 1
        total.add(tally)
        if verbose:
            name = path.relative_to(root) if root and root in path.parents else path
            click.echo(f"{name}: {tally.passed} passed, {tally.hops} hops, {len(tally.failures)} failed")
        for failure in tally.failures:
            click.echo(f"FAILED {failure}")
    click.echo(f"{done} of {len(paths)} scripts: {total.passed} assertions hold after {total.hops} hops;")
    click.echo(f"  {total.cut} calls had more opportunities than {hops}; {len(total.failures)} failed")
    for why, count in total.plain.most_common():
        click.echo(f"  not rewritten: {count:6} {why}")
    sys.exit(1 if total.failures else 0)


if __name__ == "__main__":
    main()
