"""The contents of large files as blocks: whatever an agent does to its files, the state and the blocks that were sent
make the same files.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from agents.blocks import BLOCK_BYTES, packed
from agents.errors import BadSnapshot, CallFailed
from agents.wasi.abi import CREAT
from agents.wasi.file_blocks import LEAST_FILE_BYTES, ContentsElsewhere, ContentsHere, FileBlocks, room_for
from agents.wasi.limits import WasiLimits
from agents.wasi.luggage import LuggageFile, ResolvedLuggagePath, walk_luggage
from agents.wasi.luggage_codec import decode_luggage, encode_luggage, with_contents
from agents.wasi.nodes import Luggage
from agents.wasi.paths import Route
from agents.wasi.state import WasiState

LIMITS = WasiLimits(luggage_bytes=600 << 10)
NAMES = ("a", "b", "c")
KIB = 1 << 10


class Row:
    """The blocks as the destination has them."""

    def __init__(self, most: int) -> None:
        self.bytes = bytearray(most * BLOCK_BYTES)

    def take(self, files: FileBlocks, luggage: Luggage) -> int:
        """Send what was written."""
        found = files.written(luggage, list)
        for block in found:
            self.bytes[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = files.read(block)
        return len(found)


def opened(luggage: Luggage, name: str) -> LuggageFile:
    with walk_luggage(luggage, luggage.root, Route([name]), True) as spot:
        assert isinstance(spot, ResolvedLuggagePath)
        file = spot.open(CREAT, False, True, 0)
    assert isinstance(file, LuggageFile)
    return file


def remove(luggage: Luggage, name: str) -> None:
    if name in luggage.root.folder.entries:  # type: ignore[union-attr]
        luggage.leave(luggage.root, name, 0)


def contents(luggage: Luggage) -> dict[str, bytes]:
    folder = luggage.root.folder
    assert folder is not None
    return {name: bytes(node.data) for name, (_, node) in folder.entries.items()}


def act(luggage: Luggage, action: tuple[Any, ...]) -> None:
    what, name, *rest = action
    if what == "remove":
        remove(luggage, name)
        return
    file = opened(luggage, name)
    try:
        if what == "write":
            at, data = rest
            file.pwrite(at, data, 0)
        else:
            file.resize(rest[0], 0)
    except CallFailed:
        pass  # it does not fit
    finally:
        file.close()


SIZES = st.integers(0, 300 * KIB) | st.sampled_from([0, LEAST_FILE_BYTES - 1, LEAST_FILE_BYTES, 100 * KIB])
DATA = st.tuples(st.integers(0, 255), st.integers(1, 120 * KIB)).map(lambda pair: bytes([pair[0]]) * pair[1])
ACTIONS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), SIZES, DATA),
    st.tuples(st.just("resize"), st.sampled_from(NAMES), SIZES),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.just(("send",)),
)


@settings(max_examples=60)
@given(st.lists(ACTIONS, max_size=25), st.sampled_from([room_for(LIMITS.luggage_bytes), 12, 0]))
def test_state_and_blocks_make_the_same_files(actions: list[tuple[Any, ...]], most: int) -> None:
    luggage, files, row = Luggage.empty(LIMITS, 0), FileBlocks(most), Row(most)
    for action in actions:
        if action == ("send",):
            row.take(files, luggage)
        else:
            act(luggage, action)
    row.take(files, luggage)
    assert row.take(files, luggage) == 0  # nothing twice
    assert files.blocks <= most
    value = canonical.decode(canonical.encode(encode_luggage(luggage, [], files)))
    here = ContentsHere(memoryview(row.bytes))
    there, _ = decode_luggage(value, LIMITS, here)
    assert contents(there) == contents(luggage)
    assert (there.used, there.names) == (luggage.used, luggage.names)
    assert encode_luggage(there, []) == encode_luggage(luggage, [])
    decode_luggage(value, LIMITS, ContentsElsewhere(most))
    # It goes on there: a file that came as a view of the row can be written.
    for action in actions:
        if action != ("send",):
            act(there, action)
            act(luggage, action)
    assert contents(there) == contents(luggage)


def test_only_what_was_written_is_read_again() -> None:
    luggage, files = Luggage.empty(LIMITS, 0), FileBlocks(room_for(LIMITS.luggage_bytes))
    file = opened(luggage, "a")
    file.pwrite(0, bytes(200 * KIB), 0)
    assert len(files.written(luggage, list)) == 13
    file.pwrite(3 * BLOCK_BYTES - 1, b"xx", 0)
    assert files.written(luggage, list) == [2, 3]
    small = opened(luggage, "b")
    small.pwrite(0, bytes(LEAST_FILE_BYTES - 1), 0)
    assert files.written(luggage, list) == []
    file.close()
    remove(luggage, "a")
    small.pwrite(0, bytes(LEAST_FILE_BYTES), 0)
    assert files.written(luggage, list) == [0, 1, 2, 3]  # in the places of the one that is gone
    files.close()
    assert small.node.written is None


def test_a_whole_state_is_made_of_both() -> None:
    state = WasiState.launch(["x"], files={"big": b"y" * 100 * KIB, "small": b"z"})
    files, row = FileBlocks(room_for(state.limits.luggage_bytes)), bytearray(16 * BLOCK_BYTES)
    for block in state.written(files):
        row[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = files.read(block)
    short = canonical.encode(state.encode(files))
    assert len(short) < 2 * KIB
    assert with_contents(short, ContentsHere(memoryview(row)), 1 << 20) == canonical.encode(state.encode())
    with pytest.raises(BadSnapshot, match="not here"):
        WasiState.read(short)
    with pytest.raises(BadSnapshot):
        with_contents(short, ContentsHere(memoryview(row)), 50 * KIB)
    for junk in (b"", b"\x80", canonical.encode([1, 2, 3, [1, 2]]), canonical.encode([1, 2, 3, 4])):
        with pytest.raises(BadSnapshot):
            with_contents(junk, ContentsHere(memoryview(row)), 1 << 20)


@pytest.mark.parametrize(
    "payload",
    [
        [100 * KIB],
        [100 * KIB, packed([0, 1, 2, 3, 4, 5])],
        [100 * KIB, packed([0, 1, 2, 3, 4, 5, 6, 7])],
        [100 * KIB, packed([0, 1, 2, 3, 4, 5, 20])],
        [100 * KIB, b"abc"],
        [100 * KIB, "text"],
        [0, b""],
        [-1, b""],
        [True, packed([0])],
        [1 << 40, packed(range(10))],
        [601 * KIB, packed(range(38))],
    ],
    ids=str,
)
def test_other_blocks_than_a_file_needs_are_refused(payload: list[Any]) -> None:
    state = WasiState.launch(["x"], files={"big": b"y" * 100 * KIB}, limits=LIMITS)
    value = state.encode()
    (node,) = [item for item in value[3][1] if item[1] != 3]
    node[5] = payload
    encoded = canonical.encode(value)
    with pytest.raises(BadSnapshot):
        WasiState.read(encoded, LIMITS, contents=ContentsElsewhere(20))
    with pytest.raises(BadSnapshot):
        with_contents(encoded, ContentsHere(memoryview(bytes(20 * BLOCK_BYTES))), 600 * KIB)


def test_what_refers_to_one_block_many_times_is_counted_each_time() -> None:
    state = WasiState.launch(["x"], files=dict.fromkeys("abcdefgh", b"y"), limits=LIMITS)
    value = state.encode()
    for item in value[3][1]:
        if item[1] != 3:
            item[5] = [100 * KIB, packed([0] * 7)]
    with pytest.raises(BadSnapshot, match="larger than this station takes"):
        WasiState.read(canonical.encode(value), LIMITS, contents=ContentsElsewhere(1))
