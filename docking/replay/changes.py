"""What is different between two states of an agent: variables, globals, ranges of memory, files, results.

Also whether two states are the same, which their bytes do not say: a frame's values have gaps between them, in which an
engine leaves what was there before. Invariants: memory is compared only where its blocks differ; everything that is
listed is bounded, and the sums are not.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve, field, frozen

from agents.brief import brief
from agents.errors import FormatError, PortcallError, Unreadable
from agents.image import AgentImage
from agents.rewrite.metadata import frame_values
from agents.snapshot import CHUNK_BYTES, PAGE_BYTES, MemoryState, Snapshot
from agents.stack import Stack
from agents.stack.memory import FrozenMemory, Segments, data_segments
from docking.replay.moments import files_of, globals_of

MAX_RANGES = 200  # of memory that are listed
MAX_LISTED = 200  # of everything else
LINE_BYTES = 16  # in which memory is compared


@frozen
class MemoryRange:
    """A range of a memory that differs. memory: its index; address, size: in bytes"""

    memory: int
    address: int
    size: int


@frozen
class Changes:
    """What changed from one state to another.

    variables: (function, name, before, after), of functions that are in both stacks; empty text where there was none
    entered, left: functions that were called, and those that returned, outermost first
    globals: (index, before, after)
    memory: ranges, by address, the first of them; memory_bytes: bytes of all of them
    grown: bytes that memories grew by
    files: path -> "new", "changed" or "gone"
    results: keys of new results
    """

    variables: tuple[tuple[str, str, str, str], ...] = field(default=(), repr=brief)
    entered: tuple[str, ...] = field(default=(), repr=brief)
    left: tuple[str, ...] = field(default=(), repr=brief)
    globals: tuple[tuple[int, Any, Any], ...] = field(default=(), repr=brief)
    memory: tuple[MemoryRange, ...] = field(default=(), repr=brief)
    memory_bytes: int = 0
    grown: int = 0
    files: dict[str, str] = field(factory=dict, repr=brief)
    results: tuple[str, ...] = field(default=(), repr=brief)

    def value(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        names = ("function", "name", "before", "after")
        return {
            "variables": [dict(zip(names, each, strict=True)) for each in self.variables],
            "entered": list(self.entered),
            "left": list(self.left),
            "globals": [{"index": index, "before": was, "after": now} for index, was, now in self.globals],
            "memory": [{"memory": r.memory, "address": r.address, "bytes": r.size} for r in self.memory],
            "memory_bytes": self.memory_bytes,
            "grown": self.grown,
            "files": self.files,
            "results": list(self.results),
        }


def changes_between(
    image: AgentImage, before: Snapshot, after: Snapshot, stacks: tuple[Stack, Stack], results: tuple[str, ...] = ()
) -> Changes:
    """What changed. `stacks`: of both; `results`: keys of those that are new."""
    if before is after:
        return Changes(results=results)
    variables, entered, left = _stacks(*stacks)
    ranges, total, grown = memory_changes(image, before, after)
    was, now = globals_of(before), globals_of(after)
    moved = [(i, was.get(i), now.get(i)) for i in sorted({*was, *now}) if was.get(i) != now.get(i)]
    return Changes(
        tuple(variables[:MAX_LISTED]),
        tuple(entered[:MAX_LISTED]),
        tuple(left[:MAX_LISTED]),
        tuple(moved[:MAX_LISTED]),
        tuple(ranges),
        total,
        grown,
        _files(before, after),
        results,
    )


def _stacks(before: Stack, after: Stack) -> tuple[list[tuple[str, str, str, str]], list[str], list[str]]:
    """Variables that changed, functions that were entered and left, compared from the outermost function on."""
    old, new = before.frames[::-1], after.frames[::-1]
    same = 0
    while same < min(len(old), len(new)) and (old[same].function, old[same].file) == (
        new[same].function,
        new[same].file,
    ):
        same += 1
    variables = []
    for a, b in zip(old[:same], new[:same], strict=True):
        was, now = ({each.name: each.value for each in frame.variables} for frame in (a, b))
        for name in {**was, **now}:
            if was.get(name) != now.get(name):
                variables.append((b.function, name, was.get(name, ""), now.get(name, "")))
    for frame in new[same:]:
        variables += [(frame.function, each.name, "", each.value) for each in frame.variables]
    return variables[::-1], [each.function for each in new[same:]], [each.function for each in old[same:]]


def _files(before: Snapshot, after: Snapshot) -> dict[str, str]:
    if before.wasi == after.wasi:
        return {}
    was, now = files_of(before), files_of(after)
    found = {path: "new" for path in now if path not in was}
    found |= {path: "gone" for path in was if path not in now}
    found |= {path: "changed" for path in now if path in was and now[path] != was[path]}
    return dict(sorted(found.items())[:MAX_LISTED])


def memory_changes(image: AgentImage, before: Snapshot, after: Snapshot) -> tuple[list[MemoryRange], int, int]:
    """The first ranges of memory that differ, bytes of all, and by how much the memories grew."""
    ranges: list[MemoryRange] = []
    total = grown = 0
    try:
        segments = data_segments(image)
    except PortcallError:
        segments = ()
    for index, (a, b) in enumerate(zip(before.memories, after.memories, strict=False)):
        grown += (b.pages - a.pages) << 16
        for address, size in _differing(a, b, segments if index == 0 else ()):
            total += size
            last = ranges[-1] if ranges else None
            if last is not None and (last.memory, last.address + last.size) == (index, address):
                ranges[-1] = evolve(last, size=last.size + size)
            elif len(ranges) < MAX_RANGES:
                ranges.append(MemoryRange(index, address, size))
    return ranges, total, grown


def _differing(before: MemoryState, after: MemoryState, segments: Segments) -> list[tuple[int, int]]:
    """Address and size of what differs, in lines of `LINE_BYTES`, where both are."""
    old, new = before.changed(), after.changed()
    was, now = FrozenMemory(segments, before), FrozenMemory(segments, after)
    found: list[tuple[int, int]] = []
    for chunk in sorted({*old, *new}):
        a, b = old.get(chunk), new.get(chunk)
        if a is not None and b is not None and a.parts == b.parts and a.block == b.block:
            continue
        end = min((chunk + 1) * CHUNK_BYTES, was.size, now.size)
        for address in range(chunk * CHUNK_BYTES, end, PAGE_BYTES):
            try:
                one, other = was.read(address, PAGE_BYTES), now.read(address, PAGE_BYTES)
            except Unreadable:
                return found
            if one != other:
                found += [
                    (address + at, LINE_BYTES)
                    for at in range(0, PAGE_BYTES, LINE_BYTES)
                    if one[at : at + LINE_BYTES] != other[at : at + LINE_BYTES]
                ]
    return found


def difference_of(image: AgentImage, one: Snapshot, other: Snapshot) -> str:
    """In what two states differ, for people; empty if they are the same."""
    try:
        a, b = (evolve(each, frames=(), memories=()) for each in (one, other))
        if a != b:
            names = ("stage", "globals", "tables", "pending", "kept", "wasi", "entry", "args", "image")
            wrong = [name for name in names if getattr(a, name) != getattr(b, name)]
            return f"its {', '.join({'wasi': 'files or clocks'}.get(name, name) for name in wrong)}"
        if _values(image, one) != _values(image, other):
            return "its stack"
        if one.memory_pages != other.memory_pages or one.memories != other.memories:
            ranges, total, grown = memory_changes(image, one, other)
            if total or grown:
                where = f", first at {ranges[0].address:#x}" if ranges else ""
                return f"{total} bytes of its memory{where}"
        return ""
    except FormatError as error:
        return f"what cannot be read: {error}"


def _values(image: AgentImage, snapshot: Snapshot) -> list[Any]:
    """The frames, without the gaps between their values."""
    metadata = image.metadata
    if metadata is None:
        return []
    return [
        (
            frame.resume,
            frame.site,
            [str(value) for _, value in frame_values(metadata.site(frame.resume, frame.site), frame)],
        )
        for frame in snapshot.frames
    ]
