"""From a source file, in whatever language, to an image: the first step of `portcall pack` and `launch`.

Chooses between the compilers and interpreters of this package by the file's content and suffix. Packing takes
seconds for a large module and is deterministic, so its result is kept in a cache that belongs to the user.
The cache key covers the source, the options and the code of the rewriter itself.

Invariant: the result is what `agents.packing.pack` gives, from the cache or not.
"""

from __future__ import annotations

import functools
import os
import posixpath
import stat
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from agents import canonical
from agents.brief import brief
from agents.engines import default_cache
from agents.engines.codecache import CodeCache
from agents.errors import EngineError, PortcallError, ToolchainError, ToolchainMissing
from agents.image import IMAGE_MAGICS, AgentImage, ImageProfile
from agents.rewrite.options import Nans, Polls, Progress
from agents.sdk import cpython, micropython, quickjs, toolchains
from agents.sdk.carried import check_amount, modules_beside, scripts_beside, utf8
from agents.sdk.packages import needs
from agents.sdk.recursion import deeper
from agents.sdk.started import started

AGENTS = Path(__file__).resolve().parent.parent
MAX_SOURCE_BYTES = 1 << 30  # bytes; a file named by mistake must not fill the memory
MAX_DEVICE_BYTES = 64 << 20  # bytes of a pipe or device, whose size cannot be asked for
COMPILERS: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    ".c": ("c", toolchains.compile_c),
    ".zig": ("zig", toolchains.compile_zig),
    ".rs": ("rust", toolchains.compile_rust),
    ".go": ("go", toolchains.compile_go),
    ".ts": ("assemblyscript", toolchains.compile_assemblyscript),
}
NOT_FOR_FILES = {"", "portcall", "dev", "lib"}  # folders at the guest's root that a file is not put in
ENDINGS = ".wasm, .wat, .py, .js, .c, .zig, .rs, .go or .ts"


@attrs.frozen
class Choices:
    """How a source is packed; see `agents.packing.pack`. None: whatever suits the source.

    files: data that goes along, guest path -> file here; a relative guest path is in /agent, as the script is
    packages: of this environment, in pure Python, that an agent in Python takes along; see `agents.sdk.packages`
    """

    entry: str | None = None
    profile: ImageProfile = "standard"
    polls: Polls | None = None
    spill_pointers: bool = False  # MicroPython needs it, so there it is always on
    nans: Nans = "any"
    python: Path | None = None  # a WASI build of CPython, for an agent in Python; None: MicroPython
    files: Mapping[str, Path] = attrs.field(factory=dict, repr=brief)
    packages: tuple[str, ...] = attrs.field(default=(), repr=brief)


def load_image(
    path: Path,
    choices: Choices | None = None,
    *,
    cache: CodeCache | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> AgentImage:
    """The image of a source file; a file that is an image already is read as it is.

    `cache`: where packed modules are kept, see `user_cache`. `progress(done, total)`: called now and then.
    `warn`: called with a sentence about what the image has to do without.
    Raises `ToolchainError`, `ModuleError`, `BadImage`, `EngineError`; `OSError` for a file that cannot be read.
    """
    choices = choices or Choices()
    source = read_bounded(path)
    if source.startswith(IMAGE_MAGICS):
        if choices.files or choices.packages:
            raise ToolchainError(f"{path.name} is packed already: files and packages go along with its source")
        return AgentImage.unpack(source)
    name, ending = utf8(path.stem), path.suffix
    if choices.packages and ending != ".py":
        raise ToolchainError(f"{path.name} is not in Python: packages are for agents in Python")
    files = data_files(choices.files)
    if ending == ".py":
        return _python(path, source, files, choices, cache, progress)
    if ending == ".js":
        # Again, one image for all agents.
        image = _packed(quickjs.interpreter(), "quickjs", "javascript", choices, cache, progress)
        beside = {**scripts_beside(path, source), posixpath.basename(quickjs.SCRIPT): source}
        return image.with_luggage(quickjs.luggage(source, _with_data(files, beside)))
    if ending in COMPILERS:
        language, compile_source = COMPILERS[ending]
        adapt = toolchains.without_debug if choices.profile == "none" else None
        image = _packed(compile_source(path), name, language, choices, cache, progress, adapt, warn)
    elif ending == ".wat" or source.startswith(b"\0asm"):
        image = _packed(source, name, None, choices, cache, progress, warn=warn)
    else:
        raise ToolchainError(f"{path.name} is neither an image nor a source that is known: {ENDINGS}")
    if not files:
        return image
    return image.with_luggage(micropython.pack_luggage([name], {}, files))


def data_files(files: Mapping[str, Path]) -> dict[str, bytes]:
    """Whole guest path -> contents. Raises `ToolchainError` for an impossible path and above the bounds; `OSError`."""
    taken: dict[str, bytes] = {}
    for guest, path in files.items():
        whole = posixpath.join(micropython.GUEST_FOLDER, utf8(guest))
        if posixpath.normpath(whole) != whole or whole.split("/")[1] in NOT_FOR_FILES:
            raise ToolchainError(f"{guest!r} is no path for a file of an agent: take one like data/prices.json")
        if whole in taken:
            raise ToolchainError(f"two files are called {whole}: give one another path")
        taken[whole] = read_bounded(path)
        check_amount(path, guest, taken)
    return taken


def _with_data(data: Mapping[str, bytes], beside: Mapping[str, bytes]) -> dict[str, bytes]:
    """Both, by whole guest path. Raises `ToolchainError` where one would hide the other."""
    modules = {f"{micropython.GUEST_FOLDER}/{path}": content for path, content in beside.items()}
    for path in modules.keys() & data.keys():
        raise ToolchainError(f"{path} is the agent's own code: give the file another path")
    return {**modules, **data}


def read_bounded(path: Path) -> bytes:
    """The bytes of a file. Raises `ToolchainError` if there are too many, `OSError`."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        most = MAX_SOURCE_BYTES if stat.S_ISREG(status.st_mode) else MAX_DEVICE_BYTES
        data = b"" if status.st_size > most else file.read() if most == MAX_SOURCE_BYTES else file.read(most + 1)
        if max(len(data), status.st_size) > most:
            raise ToolchainError(f"{path} is larger than {most >> 20} MiB: name another file")
        return data


def user_cache() -> CodeCache | None:
    """The user's cache of packed modules; None if there cannot be one."""
    try:
        return CodeCache(default_cache().with_name("packed"))
    except EngineError:
        return None


def _python(
    path: Path,
    source: bytes,
    data: Mapping[str, bytes],
    choices: Choices,
    cache: CodeCache | None,
    progress: Progress | None,
) -> AgentImage:
    """An interpreter, with the script in its luggage. The image's name must not depend on the script."""
    source = source.removeprefix(BOM_UTF8)
    beside = modules_beside(path, source)
    inside = micropython.inside() if choices.python is None else sys.stdlib_module_names
    needed = needs(path, source, beside, choices.packages, inside)
    packages = {f"{micropython.PACKAGES_FOLDER}/{name}": content for name, content in needed.packages.items()}
    files = {**packages, **_with_data(data, {**beside, utf8(path.name): source})}
    if choices.python is None:
        micropython.check_script(utf8(path.name), source)
        micropython.check_imports(needed.missing)
        for name, content in needed.read.items():
            micropython.check_script(name, content)
        choices = attrs.evolve(choices, spill_pointers=True)
        image = _packed(micropython.interpreter(), "micropython", "python", choices, cache, progress, deeper)
        return image.with_luggage(micropython.luggage(utf8(path.name), source, files=files))
    try:
        build = read_bounded(choices.python)
    except OSError as error:
        raise ToolchainMissing(f"the build of CPython cannot be read: {choices.python}: {error.strerror}") from None
    if not build.startswith(b"\0asm"):
        raise ToolchainError(f"{choices.python} is no WebAssembly build of CPython")
    image = _packed(build, "cpython", "python", choices, cache, progress, toolchains.without_debug)
    image = image.with_luggage(cpython.luggage(utf8(path.name), source, choices.python, files=files))
    return image.with_luggage(image.luggage, started(image))


def _packed(
    source: bytes,
    name: str,
    language: str | None,
    choices: Choices,
    cache: CodeCache | None,
    progress: Progress | None,
    adapt: Callable[[bytes], bytes] | None = None,
    warn: Callable[[str], None] | None = None,
) -> AgentImage:
    """`adapt`: changes the source before it is packed; not called if the cache has the image."""
    options = f"{name} {language} {attrs.evolve(choices, python=None, files={}, packages=())}"
    key = canonical.digest(_packer(), options.encode(), b"\0", source).hex()
    kept = None if cache is None else cache.load(key)
    if kept is not None:
        try:
            return AgentImage.decode(kept)
        except PortcallError:
            pass  # written by a version with another format
    from agents.packing import pack  # imports the rewriter; not needed if the cache has the image

    said: list[str] = []
    image = pack(
        source if adapt is None else adapt(source),
        name=name,
        language=language,
        entry=choices.entry,
        profile=choices.profile,
        polls=choices.polls,
        spill_pointers=choices.spill_pointers,
        nans=choices.nans,
        progress=progress,
        warn=said.append,
    )
    if warn is not None:
        for sentence in said:
            warn(sentence)
    if cache is not None and not (said and warn):  # the next time has to say it too
        cache.store(key, image.encode())
    return image


@functools.cache
def _packer() -> bytes:
    """A digest of the packing code, so that a changed rewriter never uses what an older one wrote."""
    files = [AGENTS / "packing.py", AGENTS / "image.py", AGENTS / "demangle.py", AGENTS / "sdk" / "recursion.py"]
    files.append(Path(__file__))
    for part in ("dwarf", "lines", "rewrite", "wasm"):
        files += sorted((AGENTS / part).glob("*.py"))
    return canonical.digest(*(file.read_bytes() for file in files))
