"""The author's side: makes an image from a WebAssembly module. Stations never need this.

`pack` decodes, validates, rewrites and encodes; the result is what is signed and run. Sources in other languages
(`.py`, `.c`) are first compiled to modules elsewhere; this module takes `.wasm` and `.wat`.

Invariants: deterministic, the same source and options give the same image everywhere; what cannot be supported is
refused now, with a reason, and not when the agent is on its way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs

from .binding import INITIALIZE, UNINITIALIZED
from .demangle import readable
from .engines.protocols import Limits
from .errors import BadDwarf, EngineError, InvalidModule, ModuleError, ModuleTooLarge
from .hostcalls import ABI_VERSION
from .image import MAX_TEXT_BYTES, AgentImage, ImageProfile, Manifest
from .life_events import misfit
from .lines.building import with_lines
from .rewrite.nans import canonical_nans
from .rewrite.options import DEFAULT_SUSPENDING, Nans, Options, Polls
from .rewrite.relaxed import exact
from .rewrite.rewriter import rewrite
from .rewrite.spill import spill_pointers as spill
from .wasm import opcodes as op
from .wasm.bounds import ModuleBounds
from .wasm.decode import WASM_MAGIC, custom_section, decode_module
from .wasm.encode import encode_module
from .wasm.names import NAME_SECTION, decode_names
from .wasm.syntax import Func, FuncType, Instr, Module
from .wasm.validate import validate_module

_ENTRIES = ("_start", "run", "main")


_LANGUAGES = {".py", ".js", ".c", ".zig", ".rs", ".ts"}  # source files that people try to pack


def pack(
    source: bytes | str | os.PathLike[str],
    *,
    name: str | None = None,
    entry: str | None = None,
    profile: ImageProfile = "standard",
    polls: Polls | None = None,
    suspending: frozenset[tuple[str, str]] | None = DEFAULT_SUSPENDING,
    spill_pointers: bool = False,
    nans: Nans = "any",
    luggage: bytes = b"",
    language: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
    bounds: ModuleBounds | None = None,
) -> AgentImage:
    """Make an image of a program.

        image = agents.pack(Path("hello.wasm"))

    source: a module's bytes, its text (WAT), or the `Path` of a file with either; text is never taken for a path
    name: for people; by default the file's, else "agent"
    entry: the export to call first; by default `_start`, `run`, `main` or the only exported function
    profile: "standard", "portable" (engines with one memory; no polls), or "none": not rewritten, so that it can
        migrate weakly at best
    polls: where it checks whether it has to leave: "loops" (the default where the profile has polls), "calls", "none"
    suspending: the (module, name) of imports that may suspend; None means all
    spill_pointers: for a program whose garbage collector scans its stack, see `agents.rewrite.spill`
    nans: "canonical": each NaN has the same bits on every processor and engine, see `agents.rewrite.nans`; "any": those
        that the processor gives it
    luggage: the first state of its files, arguments and variables, encoded; see `agents.sdk`
    language: what it was written in; by default "wasm" or "wat"
    progress: called now and then with (functions done, functions in all)
    warn: called with a sentence about what the image has to do without: source lines that cannot be read
    bounds: how large the module may be

    Raises `ModuleError` (malformed, invalid, unsupported, too large), `EngineError` for text that cannot be
    assembled, or that names a file; `OSError` for a file that cannot be read, TypeError.
    """
    if isinstance(source, os.PathLike):
        source = Path(source)
        name = name or source.stem
        if source.suffix in _LANGUAGES:
            raise EngineError(f"{source.name} is no module: agents.sdk.sources.load_image makes an image of it")
        source = source.read_bytes()
    elif isinstance(source, str) and not source.lstrip().startswith(("(", ";;")):
        shown = source.strip()[:80]
        raise EngineError(
            f"{shown!r} is no text of a module; to name a file, give a pathlib.Path: agents.pack(Path({shown!r}))"
        )
    elif not isinstance(source, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"source is bytes, text or a pathlib.Path, not {type(source).__name__}")
    if isinstance(source, str) or source[: len(WASM_MAGIC)] != WASM_MAGIC:
        source, language = _assemble(source), language or "wat"
    try:
        start, polls, code = _code(
            source, entry, profile, polls, suspending, spill_pointers, nans, progress, warn, bounds or ModuleBounds()
        )
    except ModuleError as error:
        _name(error, source)
        raise
    # Cut, and made valid UTF-8: a file may have any name, but no station accepts an image with a longer one.
    shown = (name or "agent").encode(errors="replace")[:MAX_TEXT_BYTES].decode(errors="ignore")
    manifest = Manifest(shown, start, language or "wasm", profile, polls, ABI_VERSION)
    return AgentImage(manifest, code, luggage)


def _code(
    source: bytes,
    entry: str | None,
    profile: ImageProfile,
    polls: Polls | None,
    suspending: frozenset[tuple[str, str]] | None,
    spill_pointers: bool,
    nans: Nans,
    progress: Callable[[int, int], None] | None,
    warn: Callable[[str], None] | None,
    bounds: ModuleBounds,
) -> tuple[str, Polls, bytes]:
    """The entry, where it polls, and the code to run."""
    module = original = decode_module(source, bounds)
    _check_number(module)
    start = _entry(module, entry)
    _check_callbacks(module)
    if len(start.encode(errors="replace")) > MAX_TEXT_BYTES:
        raise InvalidModule(f"the name of the export that is called first has more than {MAX_TEXT_BYTES} bytes")
    if spill_pointers:
        module = spill(module)
    if nans == "canonical":
        module = canonical_nans(module)
    if module is not original:
        source = encode_module(module)
    if profile == "none":
        validate_module(module)
        return start, "none", source
    polls = polls or ("none" if profile == "portable" else "loops")
    options = Options(polls=polls, profile=profile, suspending=suspending)
    module = _initialized_first(exact(module), start)
    packed = rewrite(module, options, progress)
    try:
        packed = with_lines(packed, original, module)
    except BadDwarf as error:
        if warn is not None:
            warn(f"its stack will be shown without source lines: the debug information cannot be read: {error}")
    return start, polls, encode_module(packed)


def _check_number(module: Module) -> None:
    """What is packed can be run: with the limits that everybody has who sets none."""
    limits = Limits()
    for what, found, most in (
        ("memories", len(module.mem_types), limits.memories),
        ("tables", len(module.table_types), limits.tables),
    ):
        if found > most:
            raise ModuleTooLarge(f"{found} {what}, where an agent may have {most}")


def _check_callbacks(module: Module) -> None:
    """Functions for events of the agent's life are for such that there are, and of the right type."""
    for export in module.exports:
        wrong = misfit(export.name, _takes_nothing(module, export.index)) if export.kind == "func" else ""
        if wrong:
            raise InvalidModule(wrong)


def _name(error: ModuleError, source: bytes) -> None:
    """Add the function's name from the module's name section to the error."""
    if not isinstance(error.function, int):
        return
    with suppress(ModuleError):  # of the name section, which is optional, or of what precedes it
        names = decode_names(custom_section(source, NAME_SECTION) or b"")
        called = names.function(error.function)
        if called:
            error.name(readable(called))


def _initialized_first(module: Module, entry: str) -> Module:
    """A WASI reactor, changed so that its start function is or calls `_initialize`: once per agent, and it may suspend.

    A command is left alone: a program that begins with `_start`, or with `_initialize` itself, calls what it needs.
    """
    found = next((each for each in module.exports if (each.name, each.kind) == (INITIALIZE, "func")), None)
    if found is None or entry in UNINITIALIZED or not _takes_nothing(module, found.index):
        return module
    if module.start is None:
        return attrs.evolve(module, start=found.index)
    calls = (Instr(op.CALL, module.start), Instr(op.CALL, found.index), Instr(op.END, None))
    both = Func(len(module.types), (), calls)
    index = module.imported("func") + len(module.funcs)
    types = (*module.types, FuncType((), ()))
    return attrs.evolve(module, types=types, funcs=(*module.funcs, both), start=index)


def _takes_nothing(module: Module, index: int) -> bool:
    """Whether the function exists, without parameters and results. Runs before the module is validated."""
    try:
        return module.func_type(index) == FuncType((), ())
    except IndexError:
        return False


def _assemble(text: bytes | str) -> bytes:
    """Text to binary, with the engine's assembler."""
    from .engines.wasmtime import assemble  # an author has an engine; the core does not need one

    return assemble(text if isinstance(text, str) else text.decode("utf-8", "replace"))


def _entry(module: Module, wanted: str | None) -> str:
    functions = [export.name for export in module.exports if export.kind == "func"]
    if wanted is not None:
        if wanted not in functions:
            raise InvalidModule(f"the module exports no function {wanted!r}; it exports {_listed(functions)}")
        return wanted
    for name in _ENTRIES:
        if name in functions:
            return name
    if len(functions) == 1:
        return functions[0]
    raise InvalidModule(f"which export is called first? The module exports {_listed(functions)}")


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown + (" ..." if len(names) > 8 else "") if names else "no functions"
