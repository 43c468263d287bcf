"""`poll_oneoff`, sleeping and input: what suspends, what wakes, and what the guest then sees."""

from __future__ import annotations

import struct

import pytest

from agents.waits import (
    Failed,
    Input,
    InputReady,
    Listen,
    Message,
    Recv,
    Refused,
    Sleep,
    Suspend,
    TimedOut,
    Woke,
    Yield,
)
from agents.wasi.abi import EAGAIN, EBADF, EINVAL

from .rig import READ_WRITE, Station, Virtual

CLOCK, READ, WRITE = 0, 1, 2
REALTIME, MONOTONIC, ABSOLUTE = 0, 1, 1
MS = 1_000_000


def clock(userdata: int, timeout: int, which: int = MONOTONIC, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, CLOCK, which, timeout, 0, flags)


def descriptor(userdata: int, kind: int, fd: int) -> bytes:
    return struct.pack("<QB7xI28x", userdata, kind, fd)


def poll(guest: Virtual, *wanted: bytes) -> object:
    guest.put(1024, b"".join(wanted))
    return guest.raw("poll_oneoff", 1024, 4096, len(wanted), 16)


def events(guest: Virtual) -> list[tuple[int, int, int, int, int]]:
    """userdata, error, kind, bytes, flags"""
    return [struct.unpack("<QHB5xQH6x", guest.get(4096 + 32 * index, 32)) for index in range(guest.number())]


def monotonic(guest: Virtual) -> int:
    assert guest.raw("clock_time_get", MONOTONIC, 0, 64) == 0
    return guest.number(64, 8)


def test_a_sleep_suspends_and_its_time_passes_wherever_it_ends() -> None:
    guest = Virtual()
    guest.station.mono += 1000
    assert poll(guest, clock(7, 500 * MS)) == Suspend(Sleep(500 * MS))
    began = guest.state.elapsed_ns
    there = guest.hop()  # a station whose clock has hardly moved
    assert there.resume(Woke()) == 0
    assert events(there) == [(7, 0, CLOCK, 0, 0)]
    assert monotonic(there) >= began + 500 * MS
    assert there.state.polling is None


def test_the_earliest_clock_decides() -> None:
    guest = Virtual()
    now = monotonic(guest)
    wanted = [
        clock(1, 900 * MS),
        clock(2, now + 300 * MS, flags=ABSOLUTE),
        clock(3, guest.station.wall + 400 * MS, REALTIME, ABSOLUTE),
    ]
    assert poll(guest, *wanted) == Suspend(Sleep(300 * MS))
    assert guest.resume(Woke()) == 0
    assert [event[0] for event in events(guest)] == [2]
    guest.station.mono += 350 * MS
    assert poll(guest, *wanted[1:2]) == 0


def test_a_sleep_until_a_time_on_the_wall() -> None:
    guest = Virtual()
    assert poll(guest, clock(1, guest.station.wall + 5, REALTIME, ABSOLUTE)) == Suspend(Sleep(5))
    far = Station()
    far.wall = 0  # a station whose calendar is wrong must not put the agent to sleep for ever
    there = guest.hop(station=far)
    assert there.resume(Woke()) == 0
    assert [event[0] for event in events(there)] == [1]
    assert poll(guest, clock(1, guest.station.wall - 5, REALTIME, ABSOLUTE)) == 0


def test_what_is_ready_at_once_does_not_suspend() -> None:
    guest = Virtual(files={"f": b"abc"}, stdin=b"12")
    _, fd = guest.open("f", 0, READ_WRITE)
    guest.read(fd, 1)
    answer = poll(guest, clock(1, 1000 * MS), descriptor(2, WRITE, 1), descriptor(3, READ, fd), descriptor(4, READ, 0))
    assert answer == 0
    assert events(guest) == [(2, 0, WRITE, 1, 0), (3, 0, READ, 2, 0), (4, 0, READ, 2, 0)]
    guest.read(0, 5)
    assert poll(guest, descriptor(1, READ, 0)) == 0
    assert events(guest) == [(1, 0, READ, 0, 1)]  # the end of the input: hang-up


def test_bad_descriptors_are_events_of_their_own() -> None:
    guest = Virtual()
    assert (
        poll(guest, descriptor(1, READ, 99), descriptor(2, READ, 3), descriptor(3, WRITE, 0), descriptor(4, READ, 1))
        == 0
    )
    assert [(event[0], event[1]) for event in events(guest)] == [(1, EBADF), (2, EBADF), (3, EBADF), (4, EBADF)]


@pytest.mark.parametrize(
    "record",
    [
        struct.pack("<QB7xI28x", 1, 3, 0),
        clock(1, 5, 2),
        clock(1, 5, 99),
        clock(1, 5, flags=2),
    ],
)
def test_impossible_subscriptions(record: bytes) -> None:
    assert poll(Virtual(), record) == EINVAL


def test_input_that_comes_later() -> None:
    guest = Virtual(live_stdin=True)
    assert poll(guest, descriptor(1, READ, 0), clock(2, 50 * MS)) == Suspend(Input(0, 50 * MS))
    there = guest.hop()
    assert there.resume(InputReady(b"line\n")) == 0
    assert events(there) == [(1, 0, READ, 5, 0)]
    assert there.read(0, 100) == (0, b"line\n")
    assert there.read(0, 100) == Suspend(Input(0, None))
    assert there.resume(InputReady(b"more")) == 0
    assert there.get(65536, there.number()) == b"more"
    assert poll(there, descriptor(1, READ, 0), clock(2, 50 * MS)) == Suspend(Input(0, 50 * MS))
    assert there.resume(TimedOut()) == 0
    assert events(there) == [(2, 0, CLOCK, 0, 0)]
    assert there.read(0, 100) == Suspend(Input(0, None))
    assert there.resume(InputReady(b"")) == 0
    assert there.number() == 0
    assert there.read(0, 100) == (0, b"")  # the end stays the end


def test_input_without_waiting() -> None:
    guest = Virtual(live_stdin=True)
    assert guest.raw("fd_fdstat_set_flags", 0, 4) == 0
    assert guest.read(0, 9) == Suspend(Input(0, 0))
    assert guest.resume(TimedOut()) == EAGAIN
    assert guest.read(0, 0) == (0, b"")


def test_messages_that_come_later() -> None:
    guest = Virtual()
    _, fd = guest.open("portcall/inbox")
    assert poll(guest, descriptor(1, READ, fd)) == Suspend(Recv(None))
    guest = guest.hop()
    assert guest.resume(Message("bob", b"hello")) == 0
    assert events(guest) == [(1, 0, READ, 5, 0)]
    assert guest.read(fd, 99) == (0, b"hello")
    assert poll(guest, clock(2, 5), descriptor(1, READ, fd)) == 0  # the end of this message
    assert guest.read(fd, 99) == (0, b"")
    assert poll(guest, clock(2, 5), descriptor(1, READ, fd)) == Suspend(Recv(5))
    assert guest.resume(TimedOut()) == 0
    assert events(guest) == [(2, 0, CLOCK, 0, 0)]


def inbox_and_input() -> tuple[Virtual, int]:
    guest = Virtual(live_stdin=True)
    return guest, guest.open("portcall/inbox")[1]


def test_input_and_inbox_at_once_when_a_message_comes() -> None:
    guest, fd = inbox_and_input()
    assert poll(guest, descriptor(1, READ, 0), descriptor(2, READ, fd)) == Suspend(Listen(0, None))
    guest = guest.hop()
    assert guest.resume(Message("bob", b"hello")) == 0
    assert events(guest) == [(2, 0, READ, 5, 0)]
    assert guest.read(fd, 99) == (0, b"hello")
    assert guest.read(fd, 99) == (0, b"")
    assert poll(guest, descriptor(1, READ, 0), descriptor(2, READ, fd)) == Suspend(Listen(0, None))


def test_input_and_inbox_at_once_when_input_comes() -> None:
    guest, fd = inbox_and_input()
    _, other = guest.open("portcall/inbox/5")
    wanted = [descriptor(1, READ, fd), descriptor(2, READ, 0), descriptor(3, READ, other), clock(4, 70 * MS)]
    assert poll(guest, *wanted) == Suspend(Listen(0, 70 * MS))
    assert guest.resume(InputReady(b"xy")) == 0
    assert events(guest) == [(2, 0, READ, 2, 0)]
    assert guest.read(0, 9) == (0, b"xy")
    assert poll(guest, *wanted) == Suspend(Listen(0, 70 * MS))
    assert guest.resume(InputReady(b"")) == 0
    assert events(guest) == [(2, 0, READ, 0, 1)]
    assert poll(guest, *wanted[:1], *wanted[2:]) == Suspend(Recv(70 * MS))


def test_input_and_inbox_at_once_when_neither_comes() -> None:
    guest, fd = inbox_and_input()
    assert poll(guest, clock(1, 9 * MS), descriptor(2, READ, 0), descriptor(3, READ, fd)) == Suspend(Listen(0, 9 * MS))
    guest = guest.hop()
    assert guest.resume(TimedOut()) == 0
    assert events(guest) == [(1, 0, CLOCK, 0, 0)]
    assert guest.state.polling is None


def test_two_descriptors_of_one_inbox_are_both_ready() -> None:
    guest, fd = inbox_and_input()
    _, other = guest.open("portcall/inbox")
    assert poll(guest, descriptor(1, READ, fd), descriptor(2, READ, other)) == Suspend(Recv(None))
    assert guest.resume(Message("bob", b"one")) == 0
    assert events(guest) == [(1, 0, READ, 3, 0), (2, 0, READ, 3, 0)]
    assert guest.read(other, 9) == (0, b"one")
    assert guest.read(fd, 9) == Suspend(Recv(None))
    assert guest.resume(Message("bob", b"two")) == 0
    assert guest.get(65536, guest.number()) == b"two"


def test_a_wait_that_is_refused() -> None:
    guest = Virtual()
    assert poll(guest, clock(1, 5)) == Suspend(Sleep(5))
    assert guest.resume(Refused(58, "no sleeping here")) == 58
    assert poll(guest, clock(1, 5)) == Suspend(Sleep(5))
    assert guest.resume(Failed(29, "broken")) == 29
    assert guest.state.polling is None


def test_a_poll_that_was_never_answered_is_forgotten() -> None:
    guest = Virtual()
    assert poll(guest, clock(1, 100 * MS)) == Suspend(Sleep(100 * MS))
    guest.station.mono += 90 * MS
    assert poll(guest, clock(1, 100 * MS)) == Suspend(Sleep(100 * MS))


def test_yielding() -> None:
    guest = Virtual()
    assert guest.raw("sched_yield") == Suspend(Yield())
    assert guest.resume(Woke()) == 0
