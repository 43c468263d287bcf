"""The metadata of a rewritten module, in its custom section ``portcall``.

It lists, for each function that may be suspended, its sites and the layout of the frame at each, so that frames from
elsewhere can be checked before anything runs, and suspended agents can be inspected. It costs nothing at run time.
Frames are untrusted input: only a resume index, a site and a length that this metadata lists are accepted, and the
machine code that then runs is the image's own, inside its sandbox. A bad frame can make an agent compute nonsense, and
no more.

Encoding: deterministic CBOR; sites as LEB128 numbers in one byte string per function, since there are many.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from agents import canonical
from agents.brief import brief
from agents.errors import BadImage, BadSnapshot, FormatError
from agents.rewrite.machinery import HEADER_BYTES, frame_width

METADATA_SECTION = "portcall"
RESUME_SECTION = "portcall.resume"  # the resume module: agents.rewrite.resume_module
METADATA_VERSION = 2  # 1: the resume copies are in the module itself

#: A continuation longer than this is refused: it bounds what a peer can make a station allocate.
MAX_CONTINUATION_BYTES = 1 << 30
#: A larger section is refused before it is parsed: CPython's has about 5 MB.
METADATA_BOUNDS = canonical.DecodeBounds(max_bytes=1 << 24, max_items=2_000_000)
#: What engines allow in one function; bounds what a short count can make the decoder build.
MAX_LOCALS = 50_000
_LETTERS = "iIfFvx"
_FRAME = struct.Struct("<IIII")
_POLL, _INDIRECT = 0, 1  # values of the callee field below the functions' own


@attrs.frozen
class ValueInfo:
    """One value in a frame: its type letter, and the local it belongs to, or None for an operand."""

    type: str
    local: int | None


@attrs.frozen
class Layout:
    """The frame layout of a group of sites: operands, then locals. ``size`` in bytes, header included."""

    below: str
    live: tuple[int, ...] = attrs.field(repr=brief)
    types: str
    covered: bool
    size: int = attrs.field(init=False)

    @size.default
    def _size(self) -> int:
        return HEADER_BYTES + sum(frame_width(letter) for letter in self.below + self.types)

    @property
    def values(self) -> tuple[ValueInfo, ...]:
        operands = tuple(ValueInfo(letter, None) for letter in self.below)
        return operands + tuple(ValueInfo(letter, local) for letter, local in zip(self.types, self.live, strict=True))


@attrs.frozen
class SiteInfo:
    """One site. ``position`` counts instructions in the original body, -1 is the entry; ``callee`` is a function index.

    ``kind`` is "call" or "poll"; ``callee`` is None for polls and for calls through a table or reference.
    ``results``: letters of what the site waits for.
    """

    kind: str
    position: int
    callee: int | None
    layout: Layout
    results: str


@attrs.frozen
class ResumeInfo:
    """One function that may be suspended; its place in ``Metadata.resumes`` is its resume index."""

    function: int
    results: str
    sites: tuple[SiteInfo, ...] = attrs.field(repr=brief)


@attrs.frozen
class Metadata:
    """The section's content.

    ``tables``: indices of tables that the module may change. ``suspending``: indices of imports whose callers unwind
    when the state says so; in another import the host must not suspend.
    """

    profile: str
    polls: str
    base: int
    resumes: tuple[ResumeInfo, ...] = attrs.field(repr=brief)
    memories: int
    globals: tuple[int, ...] = attrs.field(repr=brief)
    tables: tuple[int, ...] = attrs.field(repr=brief)
    functions: tuple[int, ...] = attrs.field(repr=brief)
    suspending: tuple[int, ...] = attrs.field(repr=brief)
    start: bool
    drops: bool

    def site(self, resume: int, site: int) -> SiteInfo:
        """Raises BadSnapshot when there is no such site."""
        if not 0 <= resume < len(self.resumes):
            raise BadSnapshot(f"a frame names function {resume} of {len(self.resumes)} that can be resumed")
        sites = self.resumes[resume].sites
        if not 1 <= site <= len(sites):
            raise BadSnapshot(f"a frame names site {site} of {len(sites)} in function {self.resumes[resume].function}")
        return sites[site - 1]


@attrs.frozen
class Frame:
    """One frame: where to resume, and its values as the machinery lays them out."""

    resume: int
    site: int
    values: bytes = attrs.field(repr=brief)


# --- frames --------------------------------------------------------------------------------------------------


def split_frames(metadata: Metadata, data: bytes | memoryview) -> tuple[Frame, ...]:
    """Cut the bytes of a continuation into frames, innermost first.

    Raises BadSnapshot when they are not a list of frames of this image.
    """
    view = memoryview(data)
    if len(view) > MAX_CONTINUATION_BYTES:
        raise BadSnapshot(f"a continuation of {len(view)} bytes; at most {MAX_CONTINUATION_BYTES} are taken")
    frames = []
    offset = 0
    while offset < len(view):
        if offset + HEADER_BYTES > len(view):
            raise BadSnapshot("a continuation ends inside a frame")
        resume, site, size, flags = _FRAME.unpack_from(view, offset)
        layout = metadata.site(resume, site).layout
        if size != layout.size or flags != layout.covered or offset + size > len(view):
            raise BadSnapshot(f"a frame of {size} bytes where site {site} of function {resume} needs {layout.size}")
        frames.append(Frame(resume, site, bytes(view[offset + HEADER_BYTES : offset + size])))
        offset += size
    check_frames(metadata, frames)
    return tuple(frames)


def check_frames(metadata: Metadata, frames: Iterable[Frame]) -> None:
    """Check that each frame names a site, has its length, and waits for the result types of the frame inside it.

    Raises BadSnapshot.
    """
    inner: ResumeInfo | None = None
    total = 0
    for frame in frames:
        site = metadata.site(frame.resume, frame.site)
        if len(frame.values) != site.layout.size - HEADER_BYTES:
            raise BadSnapshot(f"a frame holds {len(frame.values)} bytes, not {site.layout.size - HEADER_BYTES}")
        if inner is not None:
            if site.kind == "poll":
                raise BadSnapshot("a frame that waits for nothing has another inside it")
            # A tail call replaces the callee's frame, so the functions may differ, but the result types must not.
            if site.results != inner.results:
                raise BadSnapshot(f"a frame returns {inner.results!r} to one that waits for {site.results!r}")
        inner = metadata.resumes[frame.resume]
        total += site.layout.size
        if total > MAX_CONTINUATION_BYTES:
            raise BadSnapshot(f"a continuation of more than {MAX_CONTINUATION_BYTES} bytes")


def join_frames(metadata: Metadata, frames: Iterable[Frame]) -> bytes:
    """The bytes of a continuation, as the standard profile keeps them. Raises BadSnapshot."""
    frames = tuple(frames)
    check_frames(metadata, frames)
    parts = []
    for frame in frames:
        layout = metadata.site(frame.resume, frame.site).layout
        parts += [_FRAME.pack(frame.resume, frame.site, layout.size, layout.covered), frame.values]
    return b"".join(parts)


def frame_values(site: SiteInfo, frame: Frame) -> Iterator[tuple[ValueInfo, int | float | bytes]]:
    """The values of a frame, for display: integers signed, v128 as bytes, an exception as its tag's index plus one."""
    formats = {"i": "<i4x", "I": "<q", "f": "<f4x", "F": "<d", "v": "16s", "x": "<I60x"}
    offset = 0
    for info in site.layout.values:
        yield info, struct.unpack_from(formats[info.type], frame.values, offset)[0]
        offset += frame_width(info.type)


# --- encoding ------------------------------------------------------------------------------------------------


def encode_metadata(metadata: Metadata) -> bytes:
    """Deterministic bytes of the section."""
    texts = sorted({site.results for resume in metadata.resumes for site in resume.sites})
    return canonical.encode(
        {
            "version": METADATA_VERSION,
            "profile": metadata.profile,
            "polls": metadata.polls,
            "base": metadata.base,
            "memories": metadata.memories,
            "globals": list(metadata.globals),
            "tables": list(metadata.tables),
            "functions": list(metadata.functions),
            "suspending": list(metadata.suspending),
            "start": metadata.start,
            "drops": metadata.drops,
            "results": texts,
            "resumes": [_encode_resume(resume, texts) for resume in metadata.resumes],
        }
    )


def _encode_resume(resume: ResumeInfo, texts: list[str]) -> list[Any]:
    layouts: list[Layout] = []
    numbers: list[int] = []
    position = -1
    for site in resume.sites:
        if site.layout not in layouts:
            layouts.append(site.layout)
        callee = _POLL if site.kind == "poll" else _INDIRECT if site.callee is None else site.callee + 2
        kind = layouts.index(site.layout) * len(texts) + texts.index(site.results)
        numbers += [site.position - position, callee, kind]
        position = site.position
    packed = [number for layout in layouts for number in _encode_layout(layout)]
    return [resume.function, resume.results, _leb([len(layouts), *packed, *numbers])]


def _encode_layout(layout: Layout) -> Iterator[int]:
    """``below`` and ``covered``, then the live locals as runs of one type, each as its length and index steps."""
    yield len(layout.below) << 1 | layout.covered
    for letter in layout.below:
        yield _LETTERS.index(letter)
    runs = [(letter, layout.types.count(letter)) for letter in _LETTERS if letter in layout.types]
    yield len(runs)
    at = 0
    for letter, count in runs:
        yield count * len(_LETTERS) + _LETTERS.index(letter)
        last = 0
        for local in layout.live[at : at + count]:
            yield local - last
            last = local
        at += count


def decode_metadata(data: bytes) -> Metadata:
    """Read the section. Raises BadImage."""
    try:
        value = canonical.decode(data, METADATA_BOUNDS)
        if not 1 <= _number(value["version"]) <= METADATA_VERSION:
            raise BadImage(f"rewriting of version {value['version']}; this station knows 1 to {METADATA_VERSION}")
        texts = [_letters(text) for text in value["results"]]
        return Metadata(
            profile=_one_of(value["profile"], ("standard", "portable")),
            polls=_one_of(value["polls"], ("none", "loops", "calls")),
            base=_number(value["base"]),
            resumes=tuple(_decode_resume(entry, texts) for entry in value["resumes"]),
            memories=_number(value["memories"]),
            globals=tuple(map(_number, value["globals"])),
            tables=tuple(map(_number, value["tables"])),
            functions=tuple(map(_number, value["functions"])),
            suspending=tuple(map(_number, value["suspending"])),
            start=bool(value["start"]),
            drops=bool(value["drops"]),
        )
    except BadImage:
        raise
    except (
        FormatError,
        KeyError,
        TypeError,
        ValueError,
        ArithmeticError,
        IndexError,
        AttributeError,
        StopIteration,
        RuntimeError,
    ) as error:
        raise BadImage(f"the section {METADATA_SECTION!r} is not what the rewriter writes: {error}") from error


def _decode_resume(entry: Sequence[Any], texts: list[str]) -> ResumeInfo:
    function, results, packed = entry
    numbers = _unleb(packed)
    layouts = [_decode_layout(numbers) for _ in range(next(numbers, 0))]
    sites = []
    position = -1
    for step in numbers:
        callee = next(numbers)
        layout, text = divmod(next(numbers), len(texts))
        position += step
        kind = "poll" if callee == _POLL else "call"
        sites.append(SiteInfo(kind, position, callee - 2 if callee > 1 else None, layouts[layout], texts[text]))
    return ResumeInfo(_number(function), _letters(results), tuple(sites))


def _decode_layout(numbers: Iterator[int]) -> Layout:
    head = next(numbers)
    below = "".join(_LETTERS[next(numbers)] for _ in range(head >> 1))
    live: list[int] = []
    types = ""
    for _ in range(next(numbers)):
        count, letter = divmod(next(numbers), len(_LETTERS))
        types += _LETTERS[letter] * min(count, MAX_LOCALS)
        last = 0
        for _ in range(count):
            last += next(numbers)
            live.append(last)
    return Layout(below, tuple(live), types, bool(head & 1))


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise ValueError(f"{value!r} is not an index")
    return value


def _letters(value: Any) -> str:
    if type(value) is not str or not set(value) <= set(_LETTERS):
        raise ValueError(f"{value!r} names no types")
    return value


def _one_of(value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none of {known}")
    return str(value)


def _leb(numbers: Iterable[int]) -> bytes:
    out = bytearray()
    for number in numbers:
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
    return bytes(out)


def _unleb(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if shift > 42:
            raise ValueError("a number longer than six bytes")
        if byte < 128:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("a number that does not end")
