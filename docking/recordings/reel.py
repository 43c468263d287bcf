"""Files of recordings: frames, one after the other, that are only ever added to.

    "portcall reel 1\\n", then frames: kind (1 byte), visit (4), length (4), CRC-32 (4), a CBOR value

    BEGIN  [record of the stay without tape, size of the state, offset of an earlier BEGIN or 0]; with an offset, the
           state in the record is a difference to the one there (`docking.differences`)
    CALLS  [entries, tape]
    END    [time, entries that were dropped]

Invariants: a frame that is cut off or damaged is the end of what is read, since a crash may cut the last one; a reader
holds one frame at a time.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from attrs import evolve, frozen

from agents import canonical
from agents.credentials.fields import AMOUNT, array, byte_string, uint
from agents.errors import BadRecord, CredentialError, NotCanonical
from agents.recording import MAX_TAPE_BYTES, MAX_TAPE_ENTRIES
from docking.differences import MIN_DELTA_BYTES, completed, difference
from docking.recordings.record import MAX_STAY_BYTES, StayRecord

MAGIC = b"portcall reel 1\n"
BEGIN, CALLS, END = 1, 2, 3
HEAD = struct.Struct(">BIII")
MAX_FRAMES = 1_000_000  # of one file that are looked at
_BOUNDS = canonical.DecodeBounds(MAX_STAY_BYTES, 6, 2000)


@frozen
class Frame:
    """Where a frame is. `at`: the offset of its head; `size`: of its value, in bytes."""

    kind: int
    visit: int
    at: int
    size: int


@frozen
class Summary:
    """What there is of one stay. `began`: ms since 1970; `ended`: whether it is over; `size`: bytes, about."""

    visit: int
    began: int
    ended: bool
    entries: int
    size: int

    def value(self) -> list[object]:
        """As a list for CBOR."""
        return [self.visit, self.began, self.ended, self.entries, self.size]

    @classmethod
    def of(cls, value: object) -> Summary:
        """The inverse of `value`. Raises `MalformedCredential`, `BadRecord`."""
        visit, began, ended, entries, size = (*array(value, "summary", 5), *[None] * 5)[:5]
        if not isinstance(ended, bool):
            raise BadRecord("neither true nor false")
        return cls(
            uint(visit, "visit"),
            uint(began, "time", AMOUNT),
            ended,
            uint(entries, "entries", AMOUNT),
            uint(size, "size", AMOUNT),
        )


def frame(kind: int, visit: int, value: object) -> bytes:
    """A frame as bytes."""
    data = canonical.encode(value)
    return HEAD.pack(kind, visit, len(data), zlib.crc32(data)) + data


def frames(file: BinaryIO) -> Iterator[Frame]:
    """The frames of a file whose length fits; their values are not looked at."""
    end = file.seek(0, 2)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        return
    at = len(MAGIC)
    for _ in range(MAX_FRAMES):
        file.seek(at)
        head = file.read(HEAD.size)
        if len(head) < HEAD.size:
            return
        kind, visit, size, _ = HEAD.unpack(head)
        if kind not in (BEGIN, CALLS, END) or at + HEAD.size + size > end:
            return
        yield Frame(kind, visit, at, size)
        at += HEAD.size + size


def value_at(file: BinaryIO, at: int) -> object:
    """The value of the frame at an offset. Raises `BadRecord`."""
    file.seek(at)
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        raise BadRecord("a recording that is cut off")
    _, _, size, crc = HEAD.unpack(head)
    data = file.read(size) if size <= MAX_STAY_BYTES else b""
    if len(data) != size or zlib.crc32(data) != crc:
        raise BadRecord("a recording that was damaged")
    try:
        return canonical.decode(data, _BOUNDS)
    except NotCanonical as error:
        raise BadRecord(f"a recording that was damaged: {error}") from None


def begin_frame(record: StayRecord, base: tuple[int, bytes] | None) -> tuple[bytes, bool]:
    """The frame with which a stay begins, and whether its state is whole. `base`: offset and state of another."""
    if base is not None and len(record.state) >= MIN_DELTA_BYTES:
        delta = difference(base[1], record.state)
        if delta is not None:
            return frame(BEGIN, record.visit, [evolve(record, state=delta).encode(), len(record.state), base[0]]), False
    return frame(BEGIN, record.visit, [record.encode(), len(record.state), 0]), True


def _begun(file: BinaryIO, at: int) -> StayRecord:
    """The record that begins at an offset, with its state. Raises `BadRecord`."""
    data, size, base = array(value_at(file, at), "frame", 3)
    record = StayRecord.decode(byte_string(data, "record", 1, MAX_STAY_BYTES))
    if not base:
        return record
    found, _, further = array(value_at(file, uint(base, "offset", at - 1)), "frame", 3)
    if further:
        raise BadRecord("a difference to a difference")
    earlier = StayRecord.decode(byte_string(found, "record", 1, MAX_STAY_BYTES))
    state = completed(earlier.state, record.state, uint(size, "size", MAX_STAY_BYTES))
    if state is None or earlier.agent != record.agent:
        raise BadRecord("a state that cannot be put together")
    return evolve(record, state=state)


def summaries(path: Path) -> dict[int, Summary]:
    """What a file has, by visit. Raises `OSError`."""
    found: dict[int, Summary] = {}
    with path.open("rb") as file:
        for each in list(frames(file)):
            now = found.get(each.visit)
            if each.kind == BEGIN:
                try:
                    record = _begun_head(file, each)
                except (BadRecord, CredentialError):
                    continue
                found[each.visit] = Summary(each.visit, record, False, 0, each.size)
            elif now is not None and each.kind == CALLS:
                # An entry has some twenty bytes; the exact count is in the record.
                found[each.visit] = evolve(now, entries=now.entries + each.size // 20, size=now.size + each.size)
            elif now is not None:
                found[each.visit] = evolve(now, ended=True)
    return found


def _begun_head(file: BinaryIO, each: Frame) -> int:
    data, _, _ = array(value_at(file, each.at), "frame", 3)
    return StayRecord.decode(byte_string(data, "record", 1, MAX_STAY_BYTES)).began


def read_stay(path: Path, visit: int) -> StayRecord | None:
    """The record of a visit in a file, as far as it goes; the last one where the station was restarted in it.

    Raises `OSError`, and `BadRecord` for one that was damaged.
    """
    with path.open("rb") as file:
        found: StayRecord | None = None
        try:
            for each in [each for each in frames(file) if each.visit == visit]:
                if each.kind == BEGIN:
                    again = found is not None
                    found = _begun(file, each.at)
                    found = evolve(found, restarted=found.restarted or again)
                elif found is not None and each.kind == CALLS:
                    count, tape = array(value_at(file, each.at), "frame", 2)
                    found = evolve(
                        found,
                        entries=uint(count, "entries", MAX_TAPE_ENTRIES) + found.entries,
                        tape=found.tape + byte_string(tape, "tape", 0, MAX_TAPE_BYTES),
                    )
                elif found is not None:
                    ended, dropped = array(value_at(file, each.at), "frame", 2)
                    found = evolve(found, ended=uint(ended, "time", AMOUNT), dropped=uint(dropped, "entries", AMOUNT))
        except (CredentialError, ValueError) as error:
            raise BadRecord(f"a recording that was damaged: {error}") from None
        return found
