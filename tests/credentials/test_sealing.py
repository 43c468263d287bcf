"""Sealed bytes: every size, whole and as a stream; every alteration is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.credentials import sealing
from agents.credentials.sealing import (
    HEADER_SIZE,
    PIECE_BYTES,
    SEALED_MAGIC,
    TAG_BYTES,
    Ephemeral,
    Opener,
    Recipient,
    Sealer,
    open_sealed,
    seal,
    sealed_size,
)
from agents.errors import CannotOpen, MalformedCredential
from tests.credentials.journeys import fresh, key, public
from tests.thorough import examples

BOX = public("alpha").box()
SECRET = key("alpha").box()
SIZES = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 3 * PIECE_BYTES + 5]


def plain(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def sealed(size: int, context: bytes = b"c") -> bytes:
    return seal(plain(size), BOX, context, fresh("ephemeral", size))


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_opens(size: int) -> None:
    data = sealed(size)
    assert len(data) == sealed_size(size)
    assert open_sealed(data, SECRET, b"c") == plain(size)
    assert open_sealed(memoryview(data), SECRET, b"c") == plain(size)


@settings(max_examples=examples(25))
@given(st.sampled_from(SIZES), st.lists(st.integers(1, 3 * PIECE_BYTES), max_size=8))
def test_a_stream_opens_however_it_is_cut(size: int, cuts: list[int]) -> None:
    data, opener, out, at = sealed(size), Opener(Recipient(SECRET), b"c"), [], 0
    for cut in [*cuts, len(data)]:
        out += opener.feed(data[at : at + cut])
        at += cut
    out.append(opener.finish())
    assert b"".join(out) == plain(size)


def test_the_last_byte_is_needed_to_finish_and_nothing_false_comes_before() -> None:
    data = sealed(3 * PIECE_BYTES)
    opener = Opener(Recipient(SECRET), b"c")
    assert b"".join(opener.feed(data[:-1])) == plain(2 * PIECE_BYTES)
    with pytest.raises(CannotOpen, match="altered"):
        opener.finish()


@pytest.mark.parametrize("size", [0, 5, PIECE_BYTES + 5])
def test_every_altered_byte_is_noticed(size: int) -> None:
    data = sealed(size)
    places = [*range(0, len(data), 997), *range(HEADER_SIZE + 3), *range(len(data) - TAG_BYTES, len(data))]
    for at in places:
        bent = bytearray(data)
        bent[at] ^= 1
        with pytest.raises(CannotOpen):
            open_sealed(bytes(bent), SECRET, b"c")


def test_cut_lengthened_and_reordered_pieces() -> None:
    data, size = sealed(3 * PIECE_BYTES), PIECE_BYTES + TAG_BYTES
    head, pieces = data[:HEADER_SIZE], [data[HEADER_SIZE + i * size :][:size] for i in range(3)]
    orders = [[], [0], [0, 1], [1, 2], [0, 2], [1, 0, 2], [0, 1, 1], [0, 1, 2, 2], [2], [0, 0, 1, 2]]
    for order in orders:
        with pytest.raises(CannotOpen, match="altered"):
            open_sealed(head + b"".join(pieces[i] for i in order), SECRET, b"c")
    for cut in range(0, len(data), 4999):
        with pytest.raises(CannotOpen):
            open_sealed(data[:cut], SECRET, b"c")
    with pytest.raises(CannotOpen):
        open_sealed(data + b"\0", SECRET, b"c")


def test_another_station_or_context() -> None:
    data = sealed(10)
    with pytest.raises(CannotOpen) as caught:
        open_sealed(data, key("beta").box(), b"c")
    assert caught.value.code == "not-for-us"
    with pytest.raises(CannotOpen) as caught:
        open_sealed(data, SECRET, b"d")
    assert caught.value.code == "altered"


def test_keys_of_small_order_are_refused() -> None:
    data = sealed(10)
    for point in (bytes(32), bytes([1]) + bytes(31)):
        with pytest.raises(CannotOpen):
            open_sealed(data[: HEADER_SIZE - 32] + point + data[HEADER_SIZE:], SECRET, b"c")
        with pytest.raises(MalformedCredential):
            seal(b"", point, b"c", fresh("e"))


def test_a_sealer_keeps_to_its_pieces() -> None:
    sealer = Sealer(Ephemeral(BOX, fresh("e")), b"c")
    for wrong in (b"short", bytes(PIECE_BYTES + 1)):
        with pytest.raises(ValueError, match="64 KiB"):
            sealer.piece(wrong)
    stream = sealer.header + sealer.piece(bytes(PIECE_BYTES)) + sealer.piece(b"end", last=True)
    assert open_sealed(stream, SECRET, b"c") == bytes(PIECE_BYTES) + b"end"
    with pytest.raises(ValueError, match="already"):
        sealer.piece(b"", last=True)


def test_an_opener_holds_one_piece_at_most() -> None:
    opener = Opener(Recipient(SECRET), b"c")
    data = sealed(3 * PIECE_BYTES + 5)
    for at in range(0, len(data), 1000):
        opener.feed(data[at : at + 1000])
        assert len(opener.held) <= PIECE_BYTES + TAG_BYTES


def test_equal_plaintexts_look_different() -> None:
    one, two = (seal(b"same", BOX, b"c", fresh(n)) for n in (1, 2))
    assert one[len(SEALED_MAGIC) + 15 :] != two[len(SEALED_MAGIC) + 15 :]
    assert b"same" not in one


def test_the_key_depends_on_everything() -> None:
    parts = [fresh(i) for i in range(4)]
    keys = {sealing._derive(*parts)}
    for i in range(4):
        keys.add(sealing._derive(*parts[:i], fresh("x"), *parts[i + 1 :]))
    assert len(keys) == 5


def test_one_ephemeral_key_serves_several_contexts() -> None:
    ephemeral, recipient = Ephemeral(BOX, fresh("e")), Recipient(SECRET)
    streams = []
    for context in (b"one", b"two"):
        sealer = Sealer(ephemeral, context)
        streams.append((context, sealer.header + sealer.piece(b"same", last=True)))
    assert streams[0][1] != streams[1][1]
    for context, data in streams:
        opener = Opener(recipient, context)
        assert opener.feed(data) == []
        assert opener.finish() == b"same"
        opener = Opener(recipient, context + b"!")
        opener.feed(data)
        with pytest.raises(CannotOpen):
            opener.finish()


def test_what_a_recipient_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "REMEMBERED_SECRETS", 3)
    recipient = Recipient(SECRET)
    shared = [recipient.shared(Ephemeral(BOX, fresh(str(n))).public) for n in range(5)]
    assert len(set(shared)) == 5
    assert len(recipient._shared) == 3
    assert [recipient.shared(Ephemeral(BOX, fresh(str(n))).public) for n in range(5)] == shared
