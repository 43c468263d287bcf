"""Snapshots and images as bytes: what is written is read, and nothing else is."""

from __future__ import annotations

import attrs
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import agents
from agents import AgentImage, Snapshot, canonical
from agents.errors import BadImage, BadSnapshot
from agents.image import IMAGE_MAGIC, PACKED_MAGIC, Manifest
from agents.rewrite.metadata import Frame
from agents.snapshot import CHUNK_BYTES, PAGE_BYTES, SNAPSHOT_MAGIC, MemoryState, Pending, TableState
from agents.waits import (
    Accept,
    Call,
    Clone,
    Fork,
    Go,
    GoAt,
    Input,
    Kept,
    Listen,
    Message,
    Recv,
    Sleep,
    Yield,
    decode_wait,
    encode_wait,
)
from tests.thorough import examples

from .agents_at_work import FIB, WANDERER, packed, place

SMALL = st.integers(0, 1000)
NAMES = st.text(max_size=20)
WAITS = st.one_of(
    st.builds(Go, NAMES, st.integers(0, 2**64 - 1)),
    st.builds(GoAt, NAMES, NAMES),
    st.builds(Sleep, st.integers(0, 2**64 - 1)),
    st.builds(Recv, st.none() | st.integers(0, 2**64 - 1)),
    st.builds(Accept, st.none() | st.integers(0, 2**64 - 1)),
    st.builds(Call, NAMES, st.binary(max_size=50)),
    st.builds(Clone),
    st.builds(Fork, st.integers(0, 2**32 - 1)),
    st.builds(Input, st.integers(0, 2**32 - 1), st.none() | SMALL),
    st.builds(Listen, st.integers(0, 2**32 - 1), st.none() | SMALL),
    st.builds(Yield),
)
GLOBALS = st.one_of(
    st.tuples(st.sampled_from("if"), st.integers(0, 2**32 - 1)),
    st.tuples(st.sampled_from("IF"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("v"), st.integers(0, 2**128 - 1)),
    st.tuples(st.just("r"), st.none() | SMALL),
)


@st.composite
def memories(draw):
    pages = draw(st.integers(0, 3))
    memory = bytearray(pages << 16)
    runs, end = [], 0
    for gap, count in draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), max_size=4)):
        if (end + gap + count) * PAGE_BYTES > len(memory):
            break
        runs.append((end + gap, count))
        end += gap + count
    seed = draw(st.binary(min_size=1, max_size=30))
    for first, count in runs:
        memory[first * PAGE_BYTES : first * PAGE_BYTES + len(seed)] = seed
        memory[(first + count) * PAGE_BYTES - 1] = 1
    return MemoryState.capture(memoryview(memory), runs)


@st.composite
def tables(draw):
    changed = draw(st.dictionaries(SMALL, st.none() | SMALL, max_size=5))
    return TableState(1001 + draw(SMALL), tuple(sorted(changed.items())))


MESSAGES = st.builds(Message, NAMES, st.binary(max_size=30))
SNAPSHOTS = st.builds(
    Snapshot,
    image=st.binary(min_size=32, max_size=32),
    entry=NAMES,
    args=st.lists(st.integers(0, 2**64 - 1), max_size=3).map(tuple),
    stage=st.sampled_from(["new", "start", "run"]),
    globals=st.dictionaries(SMALL, GLOBALS, max_size=5),
    memories=st.lists(memories(), max_size=3).map(tuple),
    tables=st.dictionaries(SMALL, tables(), max_size=3),
    frames=st.lists(st.builds(Frame, SMALL, SMALL, st.binary(max_size=30)), max_size=4).map(tuple),
    pending=st.none()
    | st.builds(Pending, NAMES, NAMES, st.lists(st.integers(0, 2**64 - 1), max_size=4).map(tuple), st.none() | WAITS),
    kept=st.builds(
        Kept,
        st.none() | MESSAGES,
        st.none() | st.tuples(NAMES, st.binary(max_size=9), st.binary(max_size=9)),
        NAMES,
        st.none() | st.binary(max_size=9),
        st.lists(NAMES, max_size=3).map(tuple),
    ),
    wasi=st.binary(max_size=50),
)


@given(SNAPSHOTS)
@settings(max_examples=examples(50))
def test_decode_gives_back_what_was_encoded(snapshot):
    data = snapshot.encode()
    decoded = Snapshot.decode(data)
    assert decoded == snapshot
    assert decoded.encode() == data


@given(SNAPSHOTS, st.data())
@settings(max_examples=examples(100))
def test_mutated_bytes_are_refused_or_are_another_snapshots(snapshot, data):
    encoded = bytearray(snapshot.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del encoded[data.draw(st.integers(0, len(encoded))) :]
    try:
        decoded = Snapshot.decode(bytes(encoded))
    except BadSnapshot:
        return
    assert decoded.encode() == encoded


@given(WAITS)
def test_waits_are_plain_data(wait):
    assert decode_wait(canonical.decode(canonical.encode(encode_wait(wait)))) == wait


@pytest.mark.parametrize(
    "value",
    [None, [], ["fly"], ["go"], ["go", 1], ["go", "a", "b"], ["go", "a" * 1025], ["sleep", -1], ["sleep", True],
     ["sleep", 2**64], ["recv", "x"], ["call", "a", "b"], ["input", 2**32, None], [5], {"go": 1}],
)  # fmt: skip
def test_other_waits_are_refused(value):
    with pytest.raises(BadSnapshot):
        decode_wait(value)


def test_memory_is_restored_bit_by_bit_however_its_pages_lie():
    size = 12 << 20
    memory = bytearray(b"\x07\x01" * (size // 2))
    runs = [(0, 1), (3, 2), (700, 1000), (2000, 300), (size // PAGE_BYTES - 1, 1)]
    state = MemoryState.capture(memoryview(memory), runs)
    touched = {page * PAGE_BYTES // CHUNK_BYTES for first, count in runs for page in range(first, first + count)}
    assert len(state.blocks) == len(touched)
    fresh = bytearray(size)
    state.restore(memoryview(fresh))
    kept = bytearray(size)
    for first, count in runs:
        kept[first * PAGE_BYTES : (first + count) * PAGE_BYTES] = memory[
            first * PAGE_BYTES : (first + count) * PAGE_BYTES
        ]
    assert fresh == kept
    assert MemoryState.capture(memoryview(fresh), runs) == state


def squeezed(size, level=1):
    return zstandard.ZstdCompressor(level=level).compress(bytes(size))


@pytest.mark.parametrize(
    ("runs", "block"),
    [
        (((0, 1),), squeezed(PAGE_BYTES + 1)),
        (((0, 1),), squeezed(PAGE_BYTES - 1)),
        (((0, 1),), squeezed(1 << 26)),
        (((0, 1), (2, 1)), squeezed(3 * PAGE_BYTES)),
        (((0, 1),), b"nothing"),
        (((0, 1),), b""),
        (((0, 1),), squeezed(PAGE_BYTES)[:-1]),
        (((0, 1),), squeezed(PAGE_BYTES) + b"more"),
        (((0, 1), (2, 1)), squeezed(2 * PAGE_BYTES)[:-2]),
        (((0, 1),), zstandard.ZstdCompressor(write_content_size=False).compress(bytes(PAGE_BYTES))),
        (((0, 1),), zstandard.ZstdCompressor(write_checksum=True).compress(bytes(PAGE_BYTES))[:-1] + b"x"),
    ],
)
def test_a_block_that_is_not_exactly_its_pages_is_refused(runs, block):
    memory = bytearray(1 << 16)
    with pytest.raises(BadSnapshot):
        MemoryState(1, runs, (block,)).restore(memoryview(memory))


def test_a_block_that_wants_a_huge_window_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    block = compressor.compress(bytes(PAGE_BYTES)) + compressor.flush()
    with pytest.raises(BadSnapshot):
        MemoryState(1, ((0, 1),), (block,)).restore(memoryview(bytearray(1 << 16)))


def header(**changes):
    """An encoded snapshot whose header is changed, so that each field is tried by itself."""
    good = Snapshot(bytes(32), "run", memories=(MemoryState(1, (), ()),)).encode()
    start, end = canonical.byte_string_at(memoryview(good), len(SNAPSHOT_MAGIC))
    fields = canonical.decode(good[start:end]) | changes
    for name in [name for name, value in changes.items() if value is ...]:
        del fields[name]
    encoded = canonical.encode(fields)
    return SNAPSHOT_MAGIC + canonical.byte_string_head(len(encoded)) + encoded + good[end:]


def test_the_unchanged_header_is_good():
    assert Snapshot.decode(header()).entry == "run"


@pytest.mark.parametrize(
    "changes",
    [
        {"image": b"x"}, {"image": 5}, {"image": ...}, {"more": 1}, {"entry": 1}, {"entry": "x" * 257},
        {"args": [-1]}, {"args": [1 << 128]}, {"args": 1}, {"args": [0] * 1001}, {"stage": "old"}, {"stage": 1},
        {"globals": []}, {"globals": {"x": ["i", 1]}}, {"globals": {0: ["i"]}}, {"globals": {0: ["i", 1 << 32]}},
        {"globals": {0: ["I", 1 << 64]}}, {"globals": {0: ["v", b"short"]}}, {"globals": {0: ["v", 1]}},
        {"globals": {0: ["q", 1]}}, {"globals": {0: ["i", None]}}, {"globals": {0: ["r", -1]}},
        {"globals": {0: [[], 1]}}, {"memories": 1}, {"memories": []}, {"memories": [1]},
        {"memories": [[1, [], []], [1, [], []]]}, {"memories": [[1, [0, 1], []]]}, {"memories": [[1, [0], []]]},
        {"memories": [[1, [0, 0], []]]}, {"memories": [[1, [0, 17], [0]]]}, {"memories": [[1, [], [1]]]},
        {"memories": [[-1, [], []]]}, {"memories": [[1, [0, 1, 0, 1], [0]]]}, {"memories": [[1, [0, 1], [5]]]},
        {"memories": [[1 << 33, [0, 1 << 36], [0]]]}, {"memories": [[1, [], []]] * 65},
        {"tables": 1}, {"tables": {0: [1, {1: 0}]}}, {"tables": {0: [1, {0: "x"}]}}, {"tables": {0: [1]}},
        {"tables": {0: ["x", {}]}}, {"tables": {"a": [0, {}]}}, {"frames": 1}, {"frames": [[0, 0]]},
        {"frames": [[0, 0, 0]]}, {"frames": [[-1, 0, b""]]}, {"frames": [["x", 0, b""]]}, {"pending": []},
        {"pending": ["m", "n", [], ["fly"]]}, {"pending": ["m", "n", [1 << 64], None]},
        {"pending": [1, "n", [], None]}, {"pending": ["m", "n", 5, None]}, {"kept": None}, {"kept": [1, None, ""]},
        {"kept": [None, None, "", None, []]}, {"kept": [None, None, "", b"", ["a"] * 65]},
        {"kept": [None, None, "", "a", ["b"]]}, {"kept": [None, None, "", None, [1]]},
        {"kept": [None, None, "", None, ["a" * 129]]}, {"kept": [None, None, "", None]},
        {"kept": [None, 1, ""]}, {"kept": [None, None, 5]}, {"kept": [["a", "b"], None, ""]},
        {"kept": [None, ["s", b"", b"", b""], ""]}, {"kept": [["a", bytes((1 << 20) + 1)], None, ""]},
    ],
)  # fmt: skip
def test_each_wrong_field_is_refused(changes):
    with pytest.raises(BadSnapshot):
        Snapshot.decode(header(**changes))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        SNAPSHOT_MAGIC,
        b"portcall snapshot 2\n",
        SNAPSHOT_MAGIC + b"\x40",
        SNAPSHOT_MAGIC + b"\x41\xa0\x40",
        SNAPSHOT_MAGIC + b"\x58\x01",
    ],
)
def test_other_bytes_are_refused(data):
    with pytest.raises(BadSnapshot):
        Snapshot.decode(data)


def test_bytes_after_the_end_are_refused():
    with pytest.raises(BadSnapshot, match="after"):
        Snapshot.decode(header() + b"\x40")


@pytest.fixture(scope="module")
def departed():
    return agents.run(packed(FIB), engine="wasmtime", ambient=place(), args=(6,)).snapshot


@pytest.mark.parametrize(
    "change",
    [
        lambda s: attrs.evolve(s, image=bytes(32)),
        lambda s: attrs.evolve(s, frames=(Frame(9999, 1, b""), *s.frames)),
        lambda s: attrs.evolve(s, frames=(Frame(0, 999, b""), *s.frames)),
        lambda s: attrs.evolve(s, frames=(attrs.evolve(s.frames[0], values=b""), *s.frames[1:])),
        lambda s: attrs.evolve(s, frames=(attrs.evolve(s.frames[0], values=bytes(800)), *s.frames[1:])),
        lambda s: attrs.evolve(s, stage="new"),
        lambda s: attrs.evolve(s, entry="nowhere"),
        lambda s: attrs.evolve(s, args=()),
        lambda s: attrs.evolve(s, globals={77: ("i", 1)}),
        lambda s: attrs.evolve(s, memories=()),
        lambda s: attrs.evolve(s, memories=s.memories * 2),
        lambda s: attrs.evolve(s, memories=(attrs.evolve(s.memories[0], pages=0, runs=(), blocks=()),)),
        lambda s: attrs.evolve(s, tables={0: TableState(1, ())}),
        lambda s: attrs.evolve(s, pending=attrs.evolve(s.pending, name="fly")),
        lambda s: attrs.evolve(s, pending=attrs.evolve(s.pending, args=(1,))),
    ],
)
def test_a_snapshot_that_does_not_fit_its_image_is_refused_before_it_runs(departed, change):
    bad = change(departed)
    with pytest.raises(BadSnapshot):
        agents.run(packed(FIB), ambient=place(), snapshot=Snapshot.decode(bad.encode()))


def test_a_snapshot_larger_than_the_limits_is_an_outcome(departed):
    big = attrs.evolve(departed.memories[0], pages=1000)
    outcome = agents.run(
        packed(FIB),
        ambient=place(),
        snapshot=attrs.evolve(departed, memories=(big,)),
        limits=agents.Limits(memory=1 << 20),
    )
    assert isinstance(outcome, agents.Exhausted)
    assert outcome.what == "memory"


# --- images ---


def test_images_are_bytes_and_their_digest_is_theirs():
    image = packed(WANDERER)
    data = image.encode()
    assert AgentImage.decode(data) == image
    assert canonical.digest(data) == image.digest == AgentImage.decode(data).digest
    luggage = image.with_luggage(b"script")
    assert luggage.digest == image.digest
    assert luggage.encode() == data
    assert AgentImage.unpack(luggage.pack()) == luggage
    assert AgentImage.unpack(data) == image
    assert attrs.evolve(image, manifest=attrs.evolve(image.manifest, name="other")).digest != image.digest
    assert image.metadata is not None


def test_packing_is_deterministic():
    assert agents.pack(WANDERER).pack() == agents.pack(WANDERER).pack()


@given(st.data())
@settings(max_examples=examples(60))
def test_mutated_images_are_refused_or_are_other_images(data):
    encoded = bytearray(packed(FIB).with_luggage(b"xyz").pack())
    position = data.draw(st.integers(0, 200) | st.integers(0, len(encoded) - 1))
    encoded[position] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del encoded[data.draw(st.integers(0, len(encoded))) :]
    try:
        image = AgentImage.unpack(bytes(encoded))
        image.metadata  # noqa: B018 - read for its errors
    except BadImage:
        return
    assert image.pack() == encoded


@pytest.mark.parametrize(
    "changes",
    [{"abi": 0}, {"abi": "1"}, {"name": 5}, {"name": "x" * 257}, {"profile": "fast"}, {"polls": None}, {"more": 1}],
)
def test_each_wrong_field_of_a_manifest_is_refused(changes):
    fields = canonical.encode(attrs.asdict(Manifest()) | changes)
    data = IMAGE_MAGIC + canonical.byte_string_head(len(fields)) + fields + b"\x40"
    with pytest.raises(BadImage):
        AgentImage.decode(data)


@pytest.mark.parametrize(
    "data",
    [b"", IMAGE_MAGIC, PACKED_MAGIC, IMAGE_MAGIC + b"\x40", PACKED_MAGIC + b"\x40\x40", IMAGE_MAGIC + b"\x40\x40\x40"],
)
def test_other_bytes_are_no_image(data):
    with pytest.raises(BadImage):
        AgentImage.unpack(data)
