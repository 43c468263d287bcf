"""From a source file, in whatever language, to an image: what `portcall pack` and `launch` begin with.

Chooses between the compilers and interpreters of this package by the file's content and ending. Packing takes
seconds for a large module and is deterministic, so its outcome is kept in a cache that belongs to the user:
the key holds the source, the options and the very code of the rewriter.

Invariant: what comes out is what `agents.packing.pack` gives, from the cache or not.
"""

from __future__ import annotations

import functools
import os
import stat
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path

import attrs

from agents import canonical
from agents.engines import default_cache
from agents.engines.codecache import CodeCache
from agents.errors import EngineError, PortcallError, ToolchainError, ToolchainMissing
from agents.image import IMAGE, PACKED, AgentImage, Polls, Profile
from agents.sdk import cpython, micropython, quickjs, toolchains
from agents.sdk.carried import modules_beside

AGENTS = Path(__file__).resolve().parent.parent
SOURCE_MAX = 1 << 30  # bytes; a file named by mistake must not fill the memory
DEVICE_MAX = 64 << 20  # bytes of a pipe or device, which has no size that one could ask for
COMPILERS: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    ".c": ("c", toolchains.compile_c),
    ".zig": ("zig", toolchains.compile_zig),
    ".rs": ("rust", toolchains.compile_rust),
    ".ts": ("assemblyscript", toolchains.compile_assemblyscript),
}
ENDINGS = ".wasm, .wat, .py, .js, .c, .zig, .rs or .ts"
Progress = Callable[[int, int], None]


@attrs.frozen
class Choices:
    """How a source is packed; see `agents.packing.pack`. None: what suits the source."""

    entry: str | None = None
    profile: Profile = "standard"
    polls: Polls | None = None
    python: Path | None = None  # a WASI build of CPython, for an agent in Python; None: MicroPython


def load_image(
    path: Path,
    choices: Choices | None = None,
    *,
    cache: CodeCache | None = None,
    progress: Progress | None = None,
) -> AgentImage:
    """The image of a source file, or the one that the file is.

    `cache`: where packed modules are kept, see `user_cache`. `progress(done, total)`: called now and then.
    Raises `ToolchainError`, `ModuleError`, `BadImage`, `EngineError`; `OSError` for a file that cannot be read.
    """
    choices = choices or Choices()
    source = read_bounded(path)
    if source.startswith((IMAGE, PACKED)):
        return AgentImage.unpack(source)
    name, ending = _utf8(path.stem), path.suffix
    if ending == ".py":
        return _python(path, source, choices, cache, progress)
    if ending == ".js":
        # Here, too, one image for all.
        image = _packed(quickjs.interpreter(), "quickjs", "javascript", choices, cache, progress)
        return image.with_luggage(quickjs.luggage(source))
    if ending in COMPILERS:
        language, compile_source = COMPILERS[ending]
        return _packed(compile_source(path), name, language, choices, cache, progress)
    if ending == ".wat" or source.startswith(b"\0asm"):
        return _packed(source, name, None, choices, cache, progress)
    raise ToolchainError(f"{path.name} is neither an image nor a source that is known: {ENDINGS}")


def read_bounded(path: Path) -> bytes:
    """The bytes of a file. Raises `ToolchainError` for too many of them, `OSError`."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        most = SOURCE_MAX if stat.S_ISREG(status.st_mode) else DEVICE_MAX
        data = b"" if status.st_size > most else file.read() if most == SOURCE_MAX else file.read(most + 1)
        if max(len(data), status.st_size) > most:
            raise ToolchainError(f"{path} is larger than {most >> 20} MiB: name another file")
        return data


def user_cache() -> CodeCache | None:
    """The user's cache of packed modules; None where there cannot be one."""
    try:
        return CodeCache(default_cache().with_name("packed"))
    except EngineError:
        return None


def _utf8(name: str) -> str:
    """A file's name, of any bytes, as what a manifest and a guest can hold."""
    return os.fsencode(name).decode(errors="replace")


def _python(
    path: Path, source: bytes, choices: Choices, cache: CodeCache | None, progress: Progress | None
) -> AgentImage:
    """An interpreter, and the script in its luggage. The image's name must not depend on the script."""
    source = source.removeprefix(BOM_UTF8)
    files = modules_beside(path, source)
    if choices.python is None:
        micropython.check(_utf8(path.name), source)
        image = _packed(micropython.interpreter(), "micropython", "python", choices, cache, progress)
        return image.with_luggage(micropython.luggage(_utf8(path.name), source, files=files))
    try:
        build = read_bounded(choices.python)
    except OSError as error:
        raise ToolchainMissing(f"the build of CPython cannot be read: {choices.python}: {error.strerror}") from None
    if not build.startswith(b"\0asm"):
        raise ToolchainError(f"{choices.python} is no WebAssembly build of CPython")
    image = _packed(build, "cpython", "python", choices, cache, progress)
    return image.with_luggage(cpython.luggage(_utf8(path.name), source, choices.python, files=files))


def _packed(
    source: bytes,
    name: str,
    language: str | None,
    choices: Choices,
    cache: CodeCache | None,
    progress: Progress | None,
) -> AgentImage:
    options = f"{name} {language} {attrs.evolve(choices, python=None)}"
    key = canonical.digest(_packer(), options.encode(), b"\0", source).hex()
    kept = None if cache is None else cache.load(key)
    if kept is not None:
        try:
            return AgentImage.decode(kept)
        except PortcallError:
            pass  # written by a version whose format was another
    from agents.packing import pack  # which brings the rewriter: not paid for when the cache has the image

    image = pack(
        source,
        name=name,
        language=language,
        entry=choices.entry,
        profile=choices.profile,
        polls=choices.polls,
        progress=progress,
    )
    if cache is not None:
        cache.store(key, image.encode())
    return image


@functools.cache
def _packer() -> bytes:
    """A digest of the code that packs: a changed rewriter never meets what an older one wrote."""
    files = [AGENTS / "packing.py", AGENTS / "image.py", *sorted((AGENTS / "wasm").glob("*.py"))]
    files += sorted((AGENTS / "rewrite").glob("*.py"))
    return canonical.digest(*(file.read_bytes() for file in files))
