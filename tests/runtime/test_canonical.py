"""Deterministic CBOR: one encoding per value, and nothing else is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import canonical
from agents.canonical import DecodeBounds
from agents.errors import NotCanonical

LEAVES = (
    st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=40)
)
KEYS = st.sampled_from([st.text(max_size=30), st.binary(max_size=30), st.integers(0, (1 << 64) - 1)])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=6) | KEYS.flatmap(lambda k: st.dictionaries(k, inner, max_size=6)),
    max_leaves=30,
)


@given(VALUES)
def test_decode_gives_back_what_was_encoded(value):
    assert canonical.decode(canonical.encode(value), DecodeBounds(max_depth=40)) == value


@given(VALUES, st.data())
def test_mutated_bytes_are_refused_or_are_themselves_the_one_encoding(value, data):
    encoded = bytearray(canonical.encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = canonical.decode(bytes(encoded), DecodeBounds(max_depth=40))
    except NotCanonical:
        return
    assert canonical.encode(decoded) == encoded


@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_are_themselves_the_one_encoding(data):
    try:
        decoded = canonical.decode(data)
    except NotCanonical:
        return
    assert canonical.encode(decoded) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends"),
        (b"\x18\x17", "shortest"),
        (b"\x19\x00\xff", "shortest"),
        (b"\x1a\x00\x00\xff\xff", "shortest"),
        (b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff", "shortest"),
        (b"\x58\x01a", "shortest"),
        (b"\x5f\x41a\xff", "indefinite"),
        (b"\x9f\xff", "indefinite"),
        (b"\x1c", "indefinite"),
        (b"\xc0\x61a", "tag"),
        (b"\xf9\x00\x00", "float"),
        (b"\xf7", "simple"),
        (b"\xe0", "simple"),
        (b"\x61\xff", "UTF-8"),
        (b"\x00\x00", "after"),
        (b"\xa2\x61b\x00\x61a\x00", "order"),
        (b"\xa2\x61a\x00\x61a\x00", "order"),
        (b"\xa2\x00\x00\x61a\x00", "keys"),
        (b"\xa1\x20\x00", "keys"),
        (b"\xa1\x80\x00", "keys"),
        (b"\xa1\xf4\x00", "keys"),
        (b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "larger"),
        (b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", "larger"),
        (b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", "ends"),
        (b"\x81" * 17 + b"\x00", "deep"),
    ],
)
def test_every_other_form_is_refused_by_name(data, why):
    with pytest.raises(NotCanonical, match=why):
        canonical.decode(data)


def test_size_and_item_count_are_bounded():
    with pytest.raises(NotCanonical, match="at most 3"):
        canonical.decode(b"\x44aaaa", DecodeBounds(max_bytes=3))
    with pytest.raises(NotCanonical, match="items"):
        canonical.decode(canonical.encode([0] * 20), DecodeBounds(max_items=20))
    assert canonical.decode(canonical.encode([0] * 20), DecodeBounds(max_items=21)) == [0] * 20


@given(st.integers(0, 70_000))
def test_a_byte_string_can_be_joined_and_found_without_decoding(size):
    data = b"\x00" + canonical.byte_string_head(size) + bytes(size) + b"x"
    start, end = canonical.byte_string_at(memoryview(data), 1)
    assert (end - start, end) == (size, len(data) - 1)
    assert data[1:-1] == canonical.encode(bytes(size))


def test_a_byte_string_that_is_cut_short_is_refused():
    with pytest.raises(NotCanonical):
        canonical.byte_string_at(memoryview(b"\x45aaaa"), 0)


def test_digest_is_blake3_of_the_joined_parts():
    # The first bytes of BLAKE3 of the empty input, from the reference test vectors.
    assert canonical.digest().hex().startswith("af1349b9f5f9a1a6a0404dea36dcc949")
    assert canonical.digest(b"ab", b"c") == canonical.digest(b"abc") != canonical.digest(b"abd")
