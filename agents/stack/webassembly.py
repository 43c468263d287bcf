"""The frames of a WebAssembly stack, by the names that the module has, and by its table of source lines.

Not here: what an interpreter's frames mean to the program that it interprets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice

from agents.demangle import readable
from agents.dwarf import SourcePlace
from agents.errors import ModuleError
from agents.image import AgentImage
from agents.lines import Lines, lines_of
from agents.rewrite.metadata import Frame, Metadata, frame_values
from agents.wasm.decode import EXPORT, IMPORT, TYPE, custom_section, decode_sections
from agents.wasm.names import Names, decode_names
from agents.wasm.syntax import Import, ImportFunc

from .frames import MAX_FRAMES, StackFrame, Variable
from .values import MAX_CHARS

MAX_VALUES = 1000  # of one frame that are shown; a hostile image could claim millions


def wasm_frames(image: AgentImage, frames: tuple[Frame, ...]) -> Iterator[tuple[StackFrame, ...]]:
    """For each frame of an image's WebAssembly stack, innermost first: the functions that were inlined where it was
    suspended, the innermost first, and the function itself.

    Raises `FormatError` for frames of another image.
    """
    metadata = image.metadata
    if metadata is None:
        return
    names, lines = FunctionNames(image.code), lines_of(image.code)
    for frame in frames[:MAX_FRAMES]:
        yield _frame(frame, metadata, names, lines)


def _frame(frame: Frame, metadata: Metadata, names: FunctionNames, lines: Lines) -> tuple[StackFrame, ...]:
    site = metadata.site(frame.resume, frame.site)
    function = metadata.resumes[frame.resume].function
    *inlined, place = lines.places(frame.resume, frame.site) or (SourcePlace("", "", 0),)
    variables = tuple(
        Variable(names.local(function, info.local), value.hex() if isinstance(value, bytes) else str(value))
        for info, value in islice(frame_values(site, frame), MAX_VALUES)
        if info.local is not None
    )
    itself = StackFrame(names.function(function), place.file, place.line or None, variables)
    return (*(StackFrame(each.function, each.file, each.line or None) for each in inlined), itself)


class FunctionNames:
    """What the functions and locals of a module are called: by its name section, its exports, or their numbers."""

    def __init__(self, code: bytes) -> None:
        """Raises `ModuleError` if the code cannot be read."""
        self._names = Names()
        # A name section that does not decode is ignored (spec, appendix A.7).
        with suppress(ModuleError):
            self._names = decode_names(custom_section(code, "name") or b"")
        module = decode_sections(code, TYPE, IMPORT, EXPORT)
        self._imported = [f"{e.module}.{e.name}" for e in module.imports if isinstance(e.desc, ImportFunc)]
        self._exported = {e.index: e.name for e in module.exports if e.kind == "func"}

    def function(self, index: int) -> str:
        """The name of a function; of an imported one, with its module."""
        if index < len(self._imported):
            return self._imported[index]
        return readable(self._names.function(index) or self._exported.get(index) or f"function {index}")[:MAX_CHARS]

    def local(self, function: int, index: int) -> str:
        """The name of a function's local."""
        names: Mapping[int, str] = self._names.locals.get(function, {})
        return (names.get(index) or f"local {index}")[:MAX_CHARS]


def imports_of(code: bytes) -> tuple[Import, ...]:
    """The imports, read without decoding the code. Raises `ModuleError`."""
    return decode_sections(code, TYPE, IMPORT).imports
