"""A station's name with dots is one label on the wire, and is found by it."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import DNSAddress, DNSIncoming, DNSOutgoing, DNSPointer, DNSQuestion, DNSService, DNSText

from docking import Policy, Station
from docking.peers.directory import SERVICE, STAND_IN
from docking.peers.dotted_labels import with_dots, without_dots
from docking.peers.mdns import has_multicast, look_around
from tests.aio import loops
from tests.station.harbour import OWNER, TIMING

NAME = f"pi{STAND_IN}lab abcdefgh.{SERVICE}"
HOST = "abcdefgh.local."


def answer() -> bytes:
    """A message about one station, as python-zeroconf writes it, with compression."""
    out = DNSOutgoing(0x8400)
    out.add_answer_at_time(DNSPointer(SERVICE, 12, 1, 60, NAME), 0)
    out.add_answer_at_time(DNSService(NAME, 33, 1, 60, 0, 0, 7707, HOST), 0)
    out.add_answer_at_time(DNSText(NAME, 16, 1, 60, b"\x0fname=pi.lab/a.b"), 0)
    out.add_answer_at_time(DNSAddress(HOST, 1, 1, 60, socket.inet_aton("46.47.46.47")), 0)  # bytes that are "./"
    (message,) = out.packets()
    return message


def test_a_dot_is_within_the_label_and_nothing_else_changes() -> None:
    message = answer()
    sent = with_dots(message)
    label = b"\x0fpi.lab abcdefgh"
    assert sent.count(label) == 1  # the other names point to it
    assert sent == message.replace(b"\x0fpi/lab abcdefgh", label)
    assert without_dots(sent) == message
    assert {each.name for each in DNSIncoming(without_dots(sent)).answers()} == {SERVICE, NAME, HOST}


def test_a_question_too() -> None:
    out = DNSOutgoing(0)
    out.add_question(DNSQuestion(NAME, 33, 1))
    (message,) = out.packets()
    assert b"\x0fpi.lab abcdefgh" in with_dots(message)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_keep_their_length_and_end(data: bytes, after: bool) -> None:
    message = answer()[:60] + data if after else data
    assert len(without_dots(message)) == len(with_dots(message)) == len(message)


@given(st.integers(0, 400), st.integers(0, 255))
def test_damaged_messages_too(at: int, byte: int) -> None:
    message = bytearray(with_dots(answer()))
    message[at % len(message)] = byte
    assert len(without_dots(bytes(message))) == len(message)
    assert len(without_dots(bytes(message[: at % len(message)]))) == at % len(message)


def instance_labels(data: bytes) -> list[bytes]:
    """The first labels of all that PTR records of this answer lead to, if they are written there."""
    found = []
    questions, answers = struct.unpack_from(">2H", data, 4)

    def after(at: int) -> int:
        while data[at] and data[at] < 192:
            at += 1 + data[at]
        return at + (2 if data[at] else 1)

    at = 12
    for _ in range(questions):
        at = after(at) + 4
    for _ in range(answers):
        at = after(at)
        kind, _, _, size = struct.unpack_from(">2HIH", data, at)
        at += 10
        if kind == 12 and data[at] < 192:
            found.append(data[at + 1 : at + 1 + data[at]])
        at += size
    return found


@pytest.mark.skipif(not has_multicast(), reason="no multicast on this machine")
@pytest.mark.parametrize("loop", loops.LOOPS, ids=loops.kind)
def test_a_station_is_one_label_on_the_wire_and_is_found(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    loops.run(loop, announced_and_found())


async def announced_and_found() -> None:
    name = f"pi.lab.{secrets.token_hex(4)}"
    async with Station(name, policy=Policy(owners=[OWNER.public]), host="127.0.0.1", timing=TIMING) as one:
        expected = f"{name} {one.key.id[:8]}".encode()
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        asking.bind(("127.0.0.1", 0))
        asking.setblocking(False)
        question = (
            struct.pack(">6H", 7, 0, 1, 0, 0, 0) + b"\x09_portcall\x04_tcp\x05local\0" + struct.pack(">2H", 12, 1)
        )
        heard: list[bytes] = []
        with asking:
            while expected not in heard:
                asking.sendto(question, ("224.0.0.251", 5353))
                for _ in range(10):  # others on this machine may answer too
                    await asyncio.sleep(0.05)
                    try:
                        heard += instance_labels(asking.recv(9000))
                    except BlockingIOError:
                        continue
        sightings: list[str] = []
        while name not in sightings:
            sightings = [each.name for each in await look_around(1.0)]
