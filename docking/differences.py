"""An encoded snapshot as a difference to an earlier one of the same agent: references to its pieces, and what is new.

The blocks of a snapshot begin at fixed places, so unchanged memory is the same bytes. Invariants: a difference makes
the state it was made of, or nothing; it never expands to more than is announced.
"""

from __future__ import annotations

from agents import canonical
from agents.canonical import Buffer
from agents.errors import BadSnapshot, NotCanonical
from agents.snapshot import Snapshot

# Comparing a smaller state takes longer than sending it.
MIN_DELTA_BYTES = 192 << 10
# A difference is used if it is at most this fraction of the state.
MAX_DELTA_RATIO = 0.75
MAX_STATE_BYTES = 64 << 20
# Shorter pieces are not matched: a reference costs as much as the bytes.
_PIECE = 256
_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_STATE_BYTES, max_depth=4, max_items=500_000)


def pieces(state: Buffer) -> list[tuple[int, memoryview]]:
    """Offset and bytes of each block in an encoded snapshot. Raises `BadSnapshot`."""
    found, at = [], 0
    for part in Snapshot.decode(memoryview(state)).parts():
        found.append((at, memoryview(part)))
        at += len(part)
    return found


def difference(base: Buffer, state: Buffer) -> bytes | None:
    """`state` as a difference to `base`; None if that saves too little."""
    try:
        have = {_look(piece): (at, piece) for at, piece in pieces(base) if len(piece) >= _PIECE}
        parts: list[list[int] | memoryview] = []
        room = MAX_DELTA_RATIO * len(state)
        for _, piece in pieces(state):
            at, known = have.get(_look(piece), (0, None))
            if known is not None and known == piece:
                parts.append([at, len(piece)])
                continue
            parts.append(piece)
            room -= len(piece)
            if room <= 0:
                return None
    except BadSnapshot:
        return None
    return canonical.encode([1, _joined(parts)])


def _look(piece: memoryview) -> tuple[int, bytes, bytes]:
    """The key by which pieces that may be equal are matched."""
    return len(piece), bytes(piece[:64]), bytes(piece[-64:])


def _joined(parts: list[list[int] | memoryview]) -> list[list[int] | bytes]:
    """Merges neighbours of one kind."""
    found: list[list[int] | bytes] = []
    fresh: list[memoryview] = []
    for part in parts:
        if isinstance(part, memoryview):
            fresh.append(part)
            continue
        if fresh:
            found.append(b"".join(fresh))
            fresh.clear()
        last = found[-1] if found else None
        if isinstance(last, list) and last[0] + last[1] == part[0]:
            last[1] += part[1]
        else:
            found.append(part)
    return [*found, b"".join(fresh)] if fresh else found


def completed(base: Buffer, delta: Buffer, size: int) -> bytes | None:
    """The state of `size` bytes that `delta` makes of `base`, or None if it does not make one."""
    view = memoryview(base)
    try:
        version, parts = canonical.decode(delta, _BOUNDS)
        if type(version) is not int or version != 1:
            return None
        found: list[Buffer] = []
        left = size
        for part in parts:
            if isinstance(part, bytes):
                piece: Buffer = part
            else:
                at, length = part
                if type(at) is not int or type(length) is not int or not 0 <= at <= at + length <= len(view):
                    return None
                piece = view[at : at + length]
            # A small difference could reference one piece a thousand times: never exceed the announced size.
            left -= len(piece)
            if left < 0:
                return None
            found.append(piece)
    except (NotCanonical, ValueError, TypeError):
        return None
    return b"".join(found) if left == 0 else None
