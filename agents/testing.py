"""Runs that can be repeated exactly, for tests and teaching: from a seed, or from a record of an earlier run.

`Seeded` is a deterministic station: its clocks start at fixed times and advance by themselves, its random bytes
come from the seed, its services, messages and input are given. `Recording` stands between an agent and any
station and records everything that the agent was told; `Replaying` tells another run the same again and detects when
that run asks for something else.

Each is an `Ambient` and has an `answer` for the waits, for use in `agents.run(image, ambient=x,
answer=x.answer)`. Nothing here reads a clock or a random source.

Invariant: whatever an agent learns of the world comes through its ambient and its events, so two runs of one image
with the same answers do the same; engines differ at most in the bits of NaNs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from agents.brief import brief

from .errors import BadRecord, CallFailed, Diverged
from .hostcalls import ENOENT, Ambient, reply_of
from .recording import decode_event, encode_event
from .waits import (
    Accept,
    Answer,
    Arrived,
    Ask,
    Call,
    Clone,
    Cloned,
    Event,
    Failed,
    Fork,
    Forked,
    Go,
    GoAt,
    Input,
    InputReady,
    Listen,
    Message,
    Posed,
    Recv,
    Refused,
    Reply,
    Request,
    Select,
    Sleep,
    TimedOut,
    Wait,
    Woke,
    encode_wait,
)

EPOCH_NS = 1_600_000_000_000_000_000  # ns since 1970: a Sunday in September 2020
TICK_NS = 1000  # ns that pass at each reading of a clock, so that a loop that waits for time to pass ends
Service = Callable[[bytes], bytes]


@attrs.define
class Seeded:
    """A deterministic station, to test an agent against: give it to `agents.run` as `ambient`, and its `answer` too.

        place = Seeded(7, services={"echo": lambda request: request})
        outcome = agents.run(image, ambient=place, answer=place.answer)
        assert bytes(place.out[1]) == b"hello"

    seed: decides what the agent draws at random
    station: this station's name; a `go` changes it
    agent_id, next_stop: what the agent is told of itself, and of its itinerary
    services: name -> function of the request
    stations: service -> names of stations that offer it, for `lookup`
    peers: agent's id -> function of the question, for `ask`
    messages: (sender, body), delivered in order
    requests: (id, request) of clients, delivered in order; replied: (id, response), what the agent answered
    input: pieces of standard input; then it ends
    out: what the agent wrote, by descriptor (1 and 2); logged: its lines, as (level, text)
    reported: its results, as (key, value); sent: its messages, as (receiver, body)
    passed, drawn, left: for going on from another one: nanoseconds that have passed, random blocks and bytes used
    """

    seed: int
    station: str = "here"
    agent_id: str = "agent"
    next_stop: str = ""
    services: Mapping[str, Service] = attrs.field(factory=dict, repr=brief)
    stations: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, repr=brief)  # service -> stations that offer it
    peers: Mapping[str, Service] = attrs.field(factory=dict, repr=brief)
    messages: list[tuple[str, bytes]] = attrs.field(factory=list, repr=brief)
    requests: list[tuple[str, bytes]] = attrs.field(factory=list, repr=brief)
    input: list[bytes] = attrs.field(factory=list, repr=brief)
    out: dict[int, bytearray] = attrs.field(factory=lambda: {1: bytearray(), 2: bytearray()}, repr=brief)
    logged: list[tuple[int, str]] = attrs.field(factory=list, repr=brief)
    reported: list[tuple[str, bytes]] = attrs.field(factory=list, repr=brief)
    sent: list[tuple[str, bytes]] = attrs.field(factory=list, repr=brief)
    replied: list[tuple[str, bytes]] = attrs.field(factory=list, repr=brief)
    _asked: dict[str, Event] = attrs.field(factory=dict, init=False, repr=brief)
    _passed: int = 0  # ns
    _drawn: int = 0  # blocks of random bytes used
    _left: bytes = b""

    def wall_ns(self) -> int:
        """See `Ambient`."""
        return EPOCH_NS + self.monotonic_ns()

    def monotonic_ns(self) -> int:
        """See `Ambient`."""
        self._passed += TICK_NS
        return self._passed

    def random(self, size: int) -> bytes:
        """`size` bytes of BLAKE2b of the seed and a counter: the same on every machine, and not secret."""
        found = bytearray(self._left)
        while len(found) < size:
            block = f"{self.seed} {self._drawn}".encode()
            found += hashlib.blake2b(block, person=b"portcall seeded").digest()
            self._drawn += 1
        self._left = bytes(found[size:])
        return bytes(found[:size])

    def log(self, level: int, text: str) -> None:
        """The agent logs `text` at `level`; see `Ambient`."""
        self.logged.append((level, text))

    def output(self, fd: int, data: bytes) -> None:
        """The agent writes `data` to `fd`; see `Ambient`."""
        self.out[fd] += data

    def report(self, key: str, value: bytes) -> None:
        """The agent reports `value` under `key`; see `Ambient`."""
        self.reported.append((key, value))

    def lookup(self, service: str) -> tuple[str, ...]:
        """The stations that offer `service`; see `Ambient`."""
        return self.stations.get(service, ())

    def send(self, to: str, body: bytes) -> None:
        """The agent sends `body` to the agent `to`; see `Ambient`."""
        self.sent.append((to, body))

    def reply(self, ident: str, response: bytes) -> None:
        """The agent answers the request `ident` with `response`; see `agents.hostcalls.reply`."""
        self.replied.append((ident, response))

    def answer(self, wait: Wait) -> Event:
        """The event for a wait: every move succeeds, every sleep takes exactly its time."""
        if isinstance(wait, (Go, GoAt)):
            self.station = wait.host
            return Arrived()
        if isinstance(wait, Sleep):
            self._passed += wait.ns
            return Woke()
        if isinstance(wait, Call):
            return self._replied(self.services.get(wait.service), wait.request, f"no service {wait.service!r} here")
        if isinstance(wait, Clone):
            return Cloned(f"{self.agent_id}-clone")
        if isinstance(wait, Fork):
            return Forked(0, tuple(f"{self.agent_id}-{number + 1}" for number in range(wait.count)))
        if isinstance(wait, Ask):
            ident = f"question-{len(self.sent)}"
            self.sent.append((wait.to, wait.request))
            self._asked[ident] = self._replied(self.peers.get(wait.to), wait.request, f"no agent {wait.to!r}")
            return Posed(ident)
        if isinstance(wait, Answer):
            return self._asked.pop(wait.ident, Failed(ENOENT, "no such question"))
        if isinstance(wait, Select):
            found = next((each for each in self.messages if wait.wants(Message(*each))), None)
            if found is None:
                return self._nothing_comes(wait.timeout_ns)
            self.messages.remove(found)
            return Message(*found)
        if isinstance(wait, Accept):
            return Request(*self.requests.pop(0)) if self.requests else self._nothing_comes(wait.timeout_ns)
        if isinstance(wait, Recv) or (isinstance(wait, Listen) and self.messages):
            return Message(*self.messages.pop(0)) if self.messages else self._nothing_comes(wait.timeout_ns)
        if isinstance(wait, (Input, Listen)):
            return InputReady(self.input.pop(0) if self.input else b"")
        return Woke()

    @staticmethod
    def _replied(function: Service | None, request: bytes, missing: str) -> Event:
        if function is None:
            return Failed(ENOENT, missing)
        try:
            return Reply(function(request))
        except CallFailed as error:
            return Failed(error.errno, error.reason)

    def _nothing_comes(self, timeout_ns: int | None) -> Event:
        """Time out; a wait without a timeout is refused, since nothing will ever come."""
        if timeout_ns is None:
            return Refused(ENOENT, "no further messages or requests in this run")
        self._passed += timeout_ns
        return TimedOut()


Record = list[list[Any]]  # plain values that `agents.canonical` can encode


class Recording:
    """Passes everything on to another station, and keeps what that returned in `record`.

    The record grows with the run, without bound: it is for tests, not for stations.

    ambient: the other station
    answer: called with each wait of the agent; returns the event that ends it, or None
    """

    def __init__(self, ambient: Ambient, answer: Callable[[Wait], Event | None]) -> None:
        self.record: Record = []
        self._ambient, self._answer = ambient, answer

    def _keep(self, name: str, args: list[Any], call: Callable[[], Any]) -> Any:
        try:
            value = call()
        except CallFailed as error:
            self.record.append([name, args, error.errno, error.reason])
            raise
        self.record.append([name, args, 0, list(value) if isinstance(value, tuple) else value])
        return value

    @property
    def station(self) -> str:
        """See `Ambient`."""
        return str(self._keep("station", [], lambda: self._ambient.station))

    @property
    def agent_id(self) -> str:
        """See `Ambient`."""
        return str(self._keep("agent_id", [], lambda: self._ambient.agent_id))

    @property
    def next_stop(self) -> str:
        """See `Ambient`."""
        return str(self._keep("next_stop", [], lambda: self._ambient.next_stop))

    def wall_ns(self) -> int:
        """See `Ambient`."""
        return int(self._keep("wall_ns", [], self._ambient.wall_ns))

    def monotonic_ns(self) -> int:
        """See `Ambient`."""
        return int(self._keep("monotonic_ns", [], self._ambient.monotonic_ns))

    def random(self, size: int) -> bytes:
        """`size` bytes; see `Ambient`."""
        return bytes(self._keep("random", [size], lambda: self._ambient.random(size)))

    def log(self, level: int, text: str) -> None:
        """The agent logs `text` at `level`; see `Ambient`."""
        self._keep("log", [level, text], lambda: self._ambient.log(level, text))

    def output(self, fd: int, data: bytes) -> None:
        """The agent writes `data` to `fd`; see `Ambient`."""
        self._keep("output", [fd, bytes(data)], lambda: self._ambient.output(fd, data))

    def report(self, key: str, value: bytes) -> None:
        """The agent reports `value` under `key`; see `Ambient`."""
        self._keep("report", [key, bytes(value)], lambda: self._ambient.report(key, value))

    def lookup(self, service: str) -> tuple[str, ...]:
        """The stations that offer `service`; see `Ambient`."""
        return tuple(self._keep("lookup", [service], lambda: self._ambient.lookup(service)))

    def send(self, to: str, body: bytes) -> None:
        """The agent sends `body` to the agent `to`; see `Ambient`."""
        self._keep("send", [to, bytes(body)], lambda: self._ambient.send(to, body))

    def reply(self, ident: str, response: bytes) -> None:
        """The agent answers the request `ident` with `response`; see `agents.hostcalls.reply`."""
        self._keep("reply", [ident, bytes(response)], lambda: reply_of(self._ambient)(ident, response))

    def answer(self, wait: Wait) -> Event | None:
        """The event that `answer` returns for the wait. None, which leaves the wait as the outcome, is not recorded."""
        event = self._answer(wait)
        if event is not None:
            self.record.append(["event", encode_wait(wait), 0, encode_event(event)])
        return event


class Replaying:
    """Tells a run what a record says, and nothing else.

    record: the `Recording.record` of an earlier run

    Raises `Diverged`, out of the run, if the run asks for something else, and `BadRecord` if the record is invalid.
    """

    def __init__(self, record: Record) -> None:
        self._record, self._next = record, 0

    @property
    def left(self) -> int:
        """The number of entries that no call has asked for yet."""
        return len(self._record) - self._next

    def _told(self, name: str, args: list[Any]) -> Any:
        if not self.left:
            raise Diverged(f"the run asks for {name} after the end of the record")
        entry = self._record[self._next]
        if not isinstance(entry, list) or len(entry) != 4:
            raise BadRecord(f"entry {self._next} of the record has another shape")
        wanted, wanted_args, errno, value = entry
        if [wanted, wanted_args] != [name, args]:
            raise Diverged(f"entry {self._next} is {wanted}{wanted_args!r:.80}; the run asks for {name}{args!r:.80}")
        self._next += 1
        if errno:
            raise CallFailed(errno, str(value))
        return value

    @property
    def station(self) -> str:
        """See `Ambient`."""
        return str(self._told("station", []))

    @property
    def agent_id(self) -> str:
        """See `Ambient`."""
        return str(self._told("agent_id", []))

    @property
    def next_stop(self) -> str:
        """See `Ambient`."""
        return str(self._told("next_stop", []))

    def wall_ns(self) -> int:
        """See `Ambient`."""
        return int(self._told("wall_ns", []))

    def monotonic_ns(self) -> int:
        """See `Ambient`."""
        return int(self._told("monotonic_ns", []))

    def random(self, size: int) -> bytes:
        """`size` bytes; see `Ambient`."""
        return bytes(self._told("random", [size]))

    def log(self, level: int, text: str) -> None:
        """The agent logs `text` at `level`; see `Ambient`."""
        self._told("log", [level, text])

    def output(self, fd: int, data: bytes) -> None:
        """The agent writes `data` to `fd`; see `Ambient`."""
        self._told("output", [fd, bytes(data)])

    def report(self, key: str, value: bytes) -> None:
        """The agent reports `value` under `key`; see `Ambient`."""
        self._told("report", [key, bytes(value)])

    def lookup(self, service: str) -> tuple[str, ...]:
        """The stations that offer `service`; see `Ambient`."""
        return tuple(self._told("lookup", [service]))

    def send(self, to: str, body: bytes) -> None:
        """The agent sends `body` to the agent `to`; see `Ambient`."""
        self._told("send", [to, bytes(body)])

    def reply(self, ident: str, response: bytes) -> None:
        """The agent answers the request `ident` with `response`; see `agents.hostcalls.reply`."""
        self._told("reply", [ident, bytes(response)])

    def answer(self, wait: Wait) -> Event:
        """The event that the recorded run received for this wait."""
        return decode_event(self._told("event", encode_wait(wait)))


__all__ = ["EPOCH_NS", "TICK_NS", "Record", "Recording", "Replaying", "Seeded"]
