"""Frames of a channel: only the two stations whose keys are in it make and read them, in their order, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from agents.credentials.keys import SecretKey
from agents.credentials.sealing import TAG_BYTES
from agents.errors import CredentialError
from docking.http import channel
from docking.http.channel import BrokenChannel, ChannelHello, ChannelKeys, Frames
from docking.http.sealing import SharedKeys

CALLER, CALLED, THIRD = (SecretKey(canonical.digest(name)) for name in (b"caller", b"called", b"third"))
# A request and an answer, from these keys.
FROZEN = (
    "000000291c56a98fd59d50b961d5a9ecd880d377aab50f9f5418df67dc0f22fcce83bcd1956cddd3e69782fa83"
    "000000260f0c1f0bc5e9d78613a5d17b79caf6e5dd35bafcd813969803647980b8ddce160ba58239e717"
)
FRESH, FRESH_TOO = (
    channel.EphemeralKey(canonical.digest(b"fresh")),
    channel.EphemeralKey(canonical.digest(b"fresh too")),
)


def ends(
    caller: SecretKey = CALLER, called: SecretKey = CALLED, to: SecretKey = CALLED
) -> tuple[ChannelKeys, ChannelKeys]:
    """The ends of a channel: of `caller`, who means to call `to`, and of `called`, who believes it is `CALLER`."""
    mine, theirs = FRESH.public, FRESH_TOO.public
    here = channel.calling(SharedKeys(caller), to.public, theirs, FRESH)
    return here, channel.called(SharedKeys(called), CALLER.public, mine, FRESH_TOO)


def taken(frame: bytes) -> bytes:
    """The sealed bytes of a frame."""
    frames = Frames(1 << 20)
    frames.feed(frame)
    found = frames.next()
    assert found is not None
    return found


def test_what_one_seals_the_other_opens_both_ways() -> None:
    here, there = ends()
    for text in (b"", b"a", bytes(channel.MAX_REQUEST_BODY_BYTES)):
        assert there.receive.open(taken(here.send.seal([text, b"!"]))) == text + b"!"
        assert here.receive.open(taken(there.send.seal([text]))) == text


def test_the_format_does_not_change() -> None:
    here, there = ends()
    sealed = here.send.seal([channel.REQUEST_HEAD.pack(7, 0), b"body"]) + there.send.seal(
        [channel.ANSWER_HEAD.pack(7, 200)]
    )
    assert sealed.hex() == FROZEN


@pytest.mark.parametrize("bend", ["altered", "repeated", "left out", "sent back", "cut"])
def test_frames_that_are_not_as_they_were_sent_break_the_channel(bend: str) -> None:
    here, there = ends()
    first, second = (taken(here.send.seal([text])) for text in (b"first", b"second"))
    bent = {"altered": first[:-1] + bytes([first[-1] ^ 1]), "left out": second, "cut": first[:-1]}
    if bend == "repeated":
        there.receive.open(first)
    end = here if bend == "sent back" else there
    with pytest.raises(BrokenChannel):
        end.receive.open(bent.get(bend, first))


@pytest.mark.parametrize(
    ("caller", "called", "to"), [(THIRD, CALLED, CALLED), (CALLER, THIRD, CALLED), (CALLER, CALLED, THIRD)]
)
def test_no_other_station_can_be_at_either_end(caller: SecretKey, called: SecretKey, to: SecretKey) -> None:
    here, there = ends(caller, called, to)
    with pytest.raises(BrokenChannel):
        there.receive.open(taken(here.send.seal([b""])))
    with pytest.raises(BrokenChannel):
        here.receive.open(taken(there.send.seal([b""])))


def test_two_channels_of_the_same_stations_share_nothing() -> None:
    here, _ = ends()
    another = channel.EphemeralKey(canonical.digest(b"another"))
    again = channel.called(SharedKeys(CALLED), CALLER.public, FRESH.public, another)
    with pytest.raises(BrokenChannel):
        again.receive.open(taken(here.send.seal([b""])))


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)])
def test_keys_of_small_order_make_no_channel(point: bytes) -> None:
    with pytest.raises(CredentialError):
        channel.called(SharedKeys(CALLED), CALLER.public, point, FRESH)
    with pytest.raises(CredentialError):
        channel.calling(SharedKeys(CALLER), CALLED.public, point, FRESH)


@given(st.lists(st.binary(max_size=300), max_size=20), st.lists(st.integers(1, 500), max_size=40))
@settings(deadline=None)
def test_frames_come_whole_however_the_bytes_come(texts: list[bytes], cuts: list[int]) -> None:
    here, there = ends()
    data = b"".join(here.send.seal([text]) for text in texts)
    frames, found = Frames(300), []
    for size in [*cuts, len(data)]:
        piece, data = data[:size], data[size:]
        frames.feed(piece)
        while (sealed := frames.next()) is not None:
            found.append(there.receive.open(sealed))
    assert found == texts
    assert not frames.inside


@pytest.mark.parametrize("size", [0, TAG_BYTES - 1, 100 + TAG_BYTES + 1, 0xFFFFFFFF])
def test_a_frame_of_a_size_that_cannot_be_is_not_waited_for(size: int) -> None:
    frames = Frames(100)
    frames.feed(size.to_bytes(4, "big"))
    with pytest.raises(BrokenChannel):
        frames.next()


def test_heads_say_what_was_put_into_them() -> None:
    head = channel.greeting("host:1", CALLER.public.text.encode(), CALLED.public, bytes(range(32)))
    assert head.endswith(b"\r\n\r\n")
    assert len(head) < channel.MAX_HEAD_BYTES
    said = channel.read_greeting(head[:-4])
    assert said == ChannelHello(CALLER.public.text.encode(), CALLED.public.text.encode(), bytes(range(32)))
    assert channel.read_welcome(channel.welcome(bytes(range(32)))[:-4]) == bytes(range(32))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GET ", b"POST "),
        (b"portcall-channel", b"websocket"),
        (b"upgrade: ", b"x: "),
        (b"portcall-ephemeral: 00", b"portcall-ephemeral: 0"),
        (b"portcall-ephemeral: 00", b"portcall-ephemeral: gg"),
        (b"portcall-ephemeral", b"portcall-else"),
        (b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_heads_that_are_bent_ask_for_nothing(old: bytes, new: bytes) -> None:
    head = channel.greeting("host:1", CALLER.public.text.encode(), CALLED.public, bytes(range(32)))[:-4]
    assert old in head
    assert channel.read_greeting(head.replace(old, new)) is None
    back = channel.welcome(bytes(range(32)))[:-4]
    if old in back:
        assert channel.read_welcome(back.replace(old, new)) is None
