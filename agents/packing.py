"""The author's side: a WebAssembly module becomes an image. Stations never need this.

`pack` decodes, validates, rewrites and encodes; what then is signed is what runs. Sources in other languages
(`.py`, `.c`) become modules first, elsewhere; here are `.wasm` and `.wat`.

Invariants: deterministic, the same source and options give the same image everywhere; what cannot be supported is
refused now, with a reason, and not when the agent is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .errors import EngineError, InvalidModule
from .hostcalls import ABI_VERSION
from .image import TEXT_MAX, AgentImage, Manifest, Polls, Profile
from .rewrite.options import DEFAULT_SUSPENDING, Options
from .rewrite.rewriter import rewrite
from .wasm.bounds import Bounds
from .wasm.decode import MAGIC, decode_module
from .wasm.encode import encode_module
from .wasm.syntax import Module
from .wasm.validate import validate_module

_ENTRIES = ("_start", "run", "main")


_LANGUAGES = {".py", ".js", ".c", ".zig", ".rs", ".ts"}  # which people try to pack


def pack(
    source: bytes | str | Path,
    *,
    name: str | None = None,
    entry: str | None = None,
    profile: Profile = "standard",
    polls: Polls | None = None,
    suspending: frozenset[tuple[str, str]] | None = DEFAULT_SUSPENDING,
    luggage: bytes = b"",
    language: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    bounds: Bounds | None = None,
) -> AgentImage:
    """Make an image of `source`: a module's bytes, its text (WAT), or the path of a file with either.

    entry: the export to call first; by default `_start`, `run`, `main` or the only exported function.
    profile: "standard", "portable" (engines with one memory; no polls), or "none": not rewritten, so that it can
    migrate weakly at best. polls: where it looks whether it shall leave; "loops" unless the profile has none.
    suspending: imports that may suspend; None means all. progress(done, total): called now and then.

    Raises `ModuleError` (malformed, invalid, unsupported, too large), `EngineError` for text that cannot be
    assembled, `OSError` for a file that cannot be read.
    """
    if isinstance(source, Path):
        name = name or source.stem
        if source.suffix in _LANGUAGES:
            raise EngineError(f"{source.name} is no module: agents.sdk.sources.load_image makes an image of it")
        source = source.read_bytes()
    elif isinstance(source, str) and "(" not in source:
        raise EngineError(f"{source[:80]!r} is no text of a module; to name a file, give a pathlib.Path")
    if isinstance(source, str) or source[: len(MAGIC)] != MAGIC:
        source, language = _assemble(source), language or "wat"
    module = decode_module(source, bounds or Bounds())
    start = _entry(module, entry)
    if len(start.encode(errors="replace")) > TEXT_MAX:
        raise InvalidModule(f"the name of the export that is called first has more than {TEXT_MAX} bytes")
    if profile == "none":
        validate_module(module)
        polls, code = "none", source
    else:
        polls = polls or ("none" if profile == "portable" else "loops")
        options = Options(polls=polls, profile=profile, suspending=suspending)
        code = encode_module(rewrite(module, options, progress))
    # Cut, and UTF-8: a file may be called anything, and an image with a longer name would be accepted nowhere.
    shown = (name or "agent").encode(errors="replace")[:TEXT_MAX].decode(errors="ignore")
    manifest = Manifest(shown, start, language or "wasm", profile, polls, ABI_VERSION)
    return AgentImage(manifest, code, luggage)


def _assemble(text: bytes | str) -> bytes:
    """Text to binary, by the engine's assembler."""
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
