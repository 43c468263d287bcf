"""Streams: each message once and in order, whatever is lost, doubled, overtaken, set back or forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from agents.errors import CredentialError
from docking.letters.packets import ORDER_MS, Packet
from docking.trust.mailbox import MAX_STREAMS, RECENT, Outflow, Streams, Turn, read_mailbox, write_mailbox
from tests.thorough import examples

NAME = b"s" * 16
AGENT = b"a" * 32


def ident(number: int, what: str = "") -> bytes:
    return canonical.digest(f"{number} {what}".encode())


def stored(streams: Streams) -> Streams:
    """As it is after it travelled, or after a restart."""
    return read_mailbox(write_mailbox([], [], streams)).streams


@settings(max_examples=examples(200), deadline=None)
@given(st.data())
def test_each_is_taken_once_and_in_order(data: st.DataObject) -> None:
    """Letters of one sender come in any order, any number of times; the receiver moves, and is set back with what it
    had taken since; the sender is set back, and says the last ones again.
    """
    streams, got, most = Streams(), [], 25
    saved, had = stored(streams), 0
    said = 0
    steps = data.draw(st.lists(st.sampled_from(["say", "back", "come", "move", "save", "crash"]), max_size=150))
    for step in steps:
        if step == "say" and said < most:
            said += 1
        elif step == "back":
            said = max(0, said - data.draw(st.integers(0, 3)))
        elif step == "come" and said:
            number = data.draw(st.integers(1, said))
            if streams.turn(NAME, number, ident(number), waited=False) is Turn.NEW:
                streams.take(NAME, number, ident(number))
                got.append(number)
        elif step == "move":
            streams = stored(streams)
        elif step == "save":
            saved, had = stored(streams), len(got)
        elif step == "crash":
            streams, got = stored(saved), got[:had]
    assert got == list(range(1, len(got) + 1))
    while len(got) < said:  # whoever has them says them again
        number = len(got) + 1
        assert streams.turn(NAME, number, ident(number), waited=False) is Turn.NEW
        streams.take(NAME, number, ident(number))
        got.append(number)


def test_what_a_sender_that_was_set_back_says_instead_is_taken_too() -> None:
    streams = Streams()
    for number in (1, 2, 3):
        streams.take(NAME, number, ident(number))
    assert streams.turn(NAME, 3, ident(3), waited=False) is Turn.AGAIN
    assert streams.turn(NAME, 3, ident(3, "something else"), waited=False) is Turn.NEW
    streams.take(NAME, 3, ident(3, "something else"))
    assert streams.turn(NAME, 4, ident(4), waited=False) is Turn.NEW


def test_what_waited_for_a_day_is_taken_without_those_before_it() -> None:
    packet = Packet(AGENT, "x", b"", stream=NAME, number=5, time=1000)
    assert not packet.waited(1000 + ORDER_MS - 1)
    assert packet.waited(1000 + ORDER_MS)
    streams = Streams()
    assert streams.turn(NAME, 5, ident(5), waited=False) is Turn.EARLY
    assert streams.turn(NAME, 5, ident(5), waited=True) is Turn.NEW


def test_a_thousand_strange_streams_do_not_make_an_old_one_wait() -> None:
    streams = Streams()
    for number in range(1, 8):
        streams.take(NAME, number, ident(number))
    for other in range(4 * MAX_STREAMS):
        streams.take(other.to_bytes(16, "big"), 1, ident(other, "strange"))
    assert len(streams.came) == MAX_STREAMS
    assert stored(streams).turn(NAME, 8, ident(8), waited=False) is Turn.NEW


def test_what_is_remembered_has_a_bound() -> None:
    streams = Streams()
    for number in range(1, 10 * RECENT):
        streams.take(NAME, number, ident(number))
    for to in range(2 * MAX_STREAMS):
        streams.said(to.to_bytes(32, "big"), Outflow(NAME))
    assert len(streams.came[NAME].recent) == RECENT
    assert len(streams.sent) == MAX_STREAMS
    assert len(write_mailbox([], [], streams)) < 1 << 16
    assert stored(streams) == streams


@pytest.mark.parametrize(
    "flows",
    [
        [[[NAME, 1, b"x" * 31]], [], False],
        [[[NAME, 1, b"x" * 32 * (RECENT + 1)]], [], False],
        [[[NAME, -1, b""]], [], False],
        [[[NAME[1:], 1, b""]], [], False],
        [[], [[AGENT, NAME, 2**60]], False],
        [[], [[AGENT[1:], NAME, 1]], False],
        [[[NAME, 1, b""]] * (MAX_STREAMS + 1), [], False],
        [[], [], 1],
        [[], []],
    ],
)
def test_streams_that_are_none_are_refused(flows: list[object]) -> None:
    with pytest.raises(CredentialError, match="mailbox"):
        read_mailbox(canonical.encode([3, [], [], flows]))
