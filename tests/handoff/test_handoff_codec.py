"""Messages as bytes:

every message comes back, nothing else does, and nothing is allocated on a peer's word.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from docking.errors import MalformedMessage
from docking.handoff import codec
from docking.handoff.messages import (
    MAX_PARTS,
    Abort,
    Body,
    CommitMessage,
    Done,
    HandoffStanding,
    Message,
    Offer,
    Part,
    ReceiptMessage,
    Refuse,
    Side,
    StateAnswer,
    Status,
    Transfer,
    Want,
    hears,
)
from tests.thorough import examples
from tests.vectors import write_messages
from tests.wrong_types import bent, booleans

digests = st.binary(min_size=32, max_size=32)
epochs = st.binary(min_size=16, max_size=16)
proofs = st.binary(min_size=1, max_size=300)
indexes = st.lists(st.integers(0, MAX_PARTS - 1), min_size=1, max_size=8, unique=True).map(sorted)
sentences = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=60)


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    blobs = draw(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
    parts = tuple(
        Part(draw(st.sampled_from(["state", "image", "trail"])), canonical.digest(blob), len(blob)) for blob in blobs
    )
    carried = draw(st.sets(st.integers(0, len(blobs) - 1)))
    bodies = tuple(Body(index, blobs[index]) for index in sorted(carried))
    keys = [draw(digests) for _ in range(4)]
    return Offer(
        keys[0],
        keys[1],
        draw(st.integers(0, 2**32 - 1)),
        keys[2],
        keys[3],
        draw(epochs),
        draw(epochs),
        draw(digests),
        draw(st.integers(0, 253_402_300_799_000)),
        parts,
        bodies,
    )


@st.composite
def transfers(draw: st.DrawFn) -> Transfer:
    bodies = tuple(Body(index, draw(st.binary(max_size=40))) for index in draw(indexes))
    return Transfer(draw(digests), bodies)


messages: st.SearchStrategy[Message] = st.one_of(
    offers(),
    transfers(),
    st.builds(Want, digests, indexes.map(tuple)),
    st.builds(Refuse, digests, st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True), sentences, st.integers(0, 86_400)),
    st.builds(ReceiptMessage, digests, epochs, proofs),
    st.builds(CommitMessage, digests, proofs),
    st.builds(Done, digests),
    st.builds(Abort, digests),
    st.builds(Status, digests, st.sampled_from(Side), epochs),
    st.builds(StateAnswer, digests, st.sampled_from(Side), st.sampled_from(HandoffStanding)),
)


def joined(message: Message) -> bytes:
    return b"".join(codec.encode_message(message))


@given(messages)
def test_a_message_comes_back(message: Message) -> None:
    data = joined(message)
    assert codec.decode_message(data) == message
    assert joined(codec.decode_message(data)) == data
    assert hears(message) in Side


@given(messages, st.data())
def test_a_message_comes_back_in_pieces(message: Message, data: st.DataObject) -> None:
    whole = joined(message)
    reader, at, result = codec.MessageReader(), 0, None
    while result is None:
        assert at < len(whole)
        size = data.draw(st.integers(1, 50))
        result = reader.feed(whole[at : at + size])
        at += size
    assert result == message
    with pytest.raises(MalformedMessage):
        reader.feed(b"x")


@given(messages, st.data())
def test_a_part_of_a_message_is_none(message: Message, data: st.DataObject) -> None:
    whole = joined(message)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(MalformedMessage):
        codec.decode_message(whole[:cut])
    with pytest.raises(MalformedMessage):
        codec.decode_message(whole + b"\0")


@settings(max_examples=examples(120))
@given(messages, st.data())
def test_an_altered_message_is_refused_or_canonical(message: Message, data: st.DataObject) -> None:
    """Whatever arrives, only the declared error is raised; and what is accepted has one spelling."""
    whole = bytearray(joined(message))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = codec.decode_message(whole)
    except MalformedMessage:
        return
    assert joined(decoded) == whole


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    head = codec.FRAME_PREFIX.pack(codec.MAGIC, codec.PROTOCOL_VERSION, len(noise)) + noise
    for data in (noise, head):
        with pytest.raises(MalformedMessage):
            codec.decode_message(data)


HID = bytes(32)
PART = ["state", HID, 1 << 32]


def framed(value: object) -> bytes:
    head = canonical.encode(value)
    return codec.FRAME_PREFIX.pack(codec.MAGIC, codec.PROTOCOL_VERSION, len(head)) + head


def offer_head(parts: object, bodies: object) -> list[object]:
    return [1, HID, HID, 0, HID, HID, bytes(16), bytes(16), HID, 0, parts, bodies]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"PCH\x02\0\0\0\1\0", "version"),
        (b"PCH\x01\xff\xff\xff\xff", "too-large"),
        (b"GET / HT", "malformed-message"),
        (framed(offer_head([PART], [0])), "too-large"),
        (framed([4, HID, [[0, 1 << 40]]]), "too-large"),
        (framed([4, HID, [[0, -1]]]), "malformed-message"),
        (framed(offer_head([], [])), "malformed-message"),
        (framed(offer_head([["state", HID, 0]], [1])), "malformed-message"),
        (framed(offer_head([["state", HID, 0]], [0, 0])), "malformed-message"),
        (framed(offer_head([["../state", HID, 0]], [])), "malformed-message"),
        (framed([2, HID, []]), "malformed-message"),
        (framed([2, HID, [1, 0]]), "malformed-message"),
        (framed([2, HID, list(range(MAX_PARTS + 1))]), "malformed-message"),
        (framed([3, HID, "policy", "\x1b[2J", 0]), "malformed-message"),
        (framed([3, HID, "policy", "x" * 2000, 0]), "malformed-message"),
        (framed([5, HID, bytes(16), bytes(5000)]), "malformed-message"),
        (framed([9, HID, 2, bytes(16)]), "malformed-message"),
        (framed([9, HID, True, bytes(16)]), "malformed-message"),
        (framed([99, HID]), "malformed-message"),
        (framed([7, HID, HID]), "malformed-message"),
        (framed([7, HID[:-1]]), "malformed-message"),
        (framed({}), "malformed-message"),
        (framed([]), "malformed-message"),
    ],
)
def test_what_is_out_of_bounds_is_refused_before_it_is_read(data: bytes, code: str) -> None:
    with pytest.raises(MalformedMessage) as whole:
        codec.decode_message(data)
    with pytest.raises(MalformedMessage) as piecewise:
        codec.MessageReader().feed(data)
    assert (whole.value.code, piecewise.value.code) == (code, code)


def test_a_reader_allocates_what_the_limits_allow() -> None:
    """A head that announces four gigabytes costs its sender more than its receiver."""
    data = framed([4, HID, [[0, 1 << 32]]])
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            codec.MessageReader(codec.MessageLimits(body_bytes=1 << 20)).feed(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_bodies_are_not_copied() -> None:
    body = bytes(1 << 20)
    message = Transfer(HID, (Body(0, body),))
    assert codec.encode_message(message)[1] is body
    data = b"".join(codec.encode_message(message))
    decoded = codec.decode_message(data)
    assert isinstance(decoded, Transfer)
    view = decoded.bodies[0].data
    assert isinstance(view, memoryview)
    assert view.obj is data


@pytest.mark.parametrize("name", sorted(write_messages.messages()))
def test_values_of_other_types_in_a_message_are_refused(name: str) -> None:
    head, *bodies = codec.encode_message(write_messages.messages()[name])
    value = canonical.decode(bytes(head[codec.FRAME_PREFIX_SIZE :]))

    def read(other: Any) -> None:
        data = canonical.encode(other)
        codec.decode_message(
            codec.FRAME_PREFIX.pack(codec.MAGIC, codec.PROTOCOL_VERSION, len(data)) + data + b"".join(bodies)
        )

    read(value)
    for other in bent(value):
        try:
            read(other)
        except MalformedMessage:
            continue
    for other in booleans(value):
        with pytest.raises(MalformedMessage):
            read(other)
