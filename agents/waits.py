"""What a suspended agent waits for, and what ends the wait.

A *wait* is the reason a host call gave for suspending; an *event* is what the station passes when the agent
resumes. Both are plain data. A wait is part of the snapshot and may cross the network, so decoding
treats its bytes as hostile.

Not here: the calls themselves (`agents.hostcalls`), and carrying them out (the station).

Invariants: `decode_wait(encode_wait(w)) == w`; every text and byte field has a bound, below; decoding raises
only `BadSnapshot`.
"""

from __future__ import annotations

from typing import Any

import attrs

from agents.brief import brief

from .errors import BadSnapshot

# What `go` may be given instead of a station: where the itinerary leads next, and the agent's home.
NEXT_STOP, HOME_STOP = "next", "home"
MAX_HOST_BYTES = 1024  # bytes of UTF-8 in the name of a station or an agent
MAX_SERVICE_BYTES = 256  # bytes of UTF-8 in the name of a service
MAX_ENTRY_BYTES = 256  # bytes of UTF-8 in the name of an exported function
MAX_BODY_BYTES = 1 << 20  # bytes of one message, request or reply: what a station must hold for one waiting agent
MAX_FORKED = 16  # new agents of one fork: a passport allows no more clones of one agent
MAX_REASON_BYTES = 1024  # characters of a reason shown to people
MAX_REQUEST_ID_BYTES = 128  # bytes of ASCII in the id of a client's request
MAX_ATTRIBUTES_BYTES = 1024  # bytes of UTF-8 that an agent says of a service that it offers
MAX_TOPIC_BYTES = 256  # bytes of UTF-8 in the name of a topic
MAX_ASK_ID_BYTES = 64  # bytes of ASCII in the name of a question that the agent has asked
MAX_OPEN_REQUESTS = 64  # requests that an agent has accepted and not answered; of more, the oldest is forgotten
_U64 = (1 << 64) - 1
FOREVER_NS = _U64  # as `wait_ns`: as long as it takes


@attrs.frozen
class Go:
    """Strong migration to the station named `host`; while it cannot be gone to, the agent sleeps, at most `wait_ns`."""

    host: str
    wait_ns: int = 0


@attrs.frozen
class GoAt:
    """Weak migration: the stack is dropped and the export `entry` is called on arrival."""

    host: str
    entry: str


@attrs.frozen
class Sleep:
    """Sleep for `ns` nanoseconds (from the moment the station learns of it)."""

    ns: int


@attrs.frozen
class Recv:
    """Wait for a message, at most `timeout_ns` nanoseconds; None waits for ever."""

    timeout_ns: int | None


@attrs.frozen
class Select:
    """Wait for a message of one sender, or about one topic (both empty: any), at most `timeout_ns`; None: for ever."""

    sender: str
    topic: str
    timeout_ns: int | None

    def wants(self, message: Message) -> bool:
        """Whether the message is one of those."""
        return self.sender in ("", message.sender) and self.topic in ("", message.topic)


@attrs.frozen
class Ask:
    """Wait until the station has taken a question to the agent `to`, which may be answered for `timeout_ns`; None: as
    long as a station allows.
    """

    to: str
    topic: str
    request: bytes = attrs.field(repr=brief)
    timeout_ns: int | None


@attrs.frozen
class Answer:
    """Wait for the answer to the question `ident`, at most `timeout_ns`; None: as long as it may be answered."""

    ident: str
    timeout_ns: int | None


@attrs.frozen
class Find:
    """Wait for the agents that offer a service and have a label (both empty: any); `everywhere` is 0 or 1."""

    service: str
    label: str
    everywhere: int


@attrs.frozen
class Call:
    """Wait for the reply of a service of this station."""

    service: str
    request: bytes = attrs.field(repr=brief)


@attrs.frozen
class Clone:
    """Wait until the station has made a second agent of this one."""


@attrs.frozen
class Fork:
    """Wait until the station has made `count` more agents of this one."""

    count: int


@attrs.frozen
class Input:
    """Wait for bytes on descriptor `fd`, at most `timeout_ns` nanoseconds; None waits for ever."""

    fd: int
    timeout_ns: int | None = None


@attrs.frozen
class Listen:
    """Wait for bytes on descriptor `fd` or for a message, whichever comes first; otherwise like `Input`."""

    fd: int
    timeout_ns: int | None = None


@attrs.frozen
class Accept:
    """Wait for the request of a client, at most `timeout_ns` nanoseconds; None waits for ever."""

    timeout_ns: int | None


@attrs.frozen
class Yield:
    """Let others use the thread; resume at any time."""


Wait = Go | GoAt | Sleep | Recv | Select | Ask | Answer | Find | Call | Clone | Fork | Input | Listen | Accept | Yield


@attrs.frozen
class Arrived:
    """The agent is now at another station (or at the same one, after a `go` to itself)."""


@attrs.frozen
class Refused:
    """The wait was refused: `errno` (WASI number, above 0) and a sentence for people."""

    errno: int
    reason: str


@attrs.frozen
class Woke:
    """A `Sleep` is over, or it is the turn of a `Yield`."""


@attrs.frozen
class Message:
    """A message from the agent or station named `sender`, perhaps about a topic.

    reply_to: of a question, what `reply` takes; empty for any other message
    """

    sender: str
    body: bytes = attrs.field(repr=brief)
    topic: str = ""
    reply_to: str = attrs.field(default="", repr=brief)


@attrs.frozen
class TimedOut:
    """The time of a `Recv`, an `Input`, a `Listen` or an `Accept` has passed, and nothing came."""


@attrs.frozen
class Request:
    """A client's request: its id, for the answer, and the request itself, as `message/http` (RFC 9112)."""

    ident: str
    body: bytes = attrs.field(repr=brief)


@attrs.frozen
class Posed:
    """The station has taken the agent's question; `ident` is its name."""

    ident: str


@attrs.frozen
class Reply:
    """The answer of the service, or of the agent that was asked."""

    body: bytes = attrs.field(repr=brief)


@attrs.frozen
class Failed:
    """The service, or the question, failed: `errno` (WASI number, above 0) and a sentence for people."""

    errno: int
    reason: str


@attrs.frozen
class Cloned:
    """After `Clone`: the new agent's id in the original, None in the clone."""

    child: str | None


@attrs.frozen
class Forked:
    """After `Fork`: 0 and the ids of the new agents in the original; in these, the number of each, from 1."""

    number: int
    children: tuple[str, ...] = attrs.field(default=(), repr=brief)


@attrs.frozen
class InputReady:
    """Bytes for the descriptor; empty means end of file."""

    data: bytes = attrs.field(repr=brief)


Event = Arrived | Refused | Woke | Message | TimedOut | Request | Posed | Reply | Failed | Cloned | Forked | InputReady


@attrs.frozen
class Suspend:
    """What a host function returns to suspend the agent instead of returning a result."""

    wait: Wait


@attrs.define
class Kept:
    """What a call has received but could not deliver for lack of space: part of the snapshot.

    A reply, message or request longer than the guest's buffer stays here, so that a retry with more space neither
    calls the service twice nor loses the message.
    """

    message: Message | None = None
    reply: tuple[str, bytes, bytes] | None = attrs.field(default=None, repr=brief)  # service, request, reply
    sender: str = ""  # of the last message received
    request: bytes | None = attrs.field(default=None, repr=brief)
    requests: tuple[str, ...] = attrs.field(default=(), repr=brief)
    """The ids of the requests that it has accepted, and of the questions that it was asked, and has not answered."""
    topic: str = ""  # of the last message received
    reply_to: str = ""  # of that message


_WAITS: dict[str, type[Any]] = {
    "go": Go,
    "go_at": GoAt,
    "sleep": Sleep,
    "recv": Recv,
    "select": Select,
    "ask": Ask,
    "answer": Answer,
    "find": Find,
    "call": Call,
    "clone": Clone,
    "fork": Fork,
    "input": Input,
    "listen": Listen,
    "accept": Accept,
    "yield": Yield,
}
_NAMES = {cls: name for name, cls in _WAITS.items()}
_TEXT_MAX = {
    "host": MAX_HOST_BYTES,
    "to": MAX_HOST_BYTES,
    "sender": MAX_HOST_BYTES,
    "topic": MAX_TOPIC_BYTES,
    "label": MAX_HOST_BYTES,
    "ident": MAX_ASK_ID_BYTES,
    "entry": MAX_ENTRY_BYTES,
    "service": MAX_SERVICE_BYTES,
}


def encode_wait(wait: Wait) -> list[Any]:
    """The wait as a list that `agents.canonical` can encode: its name, then its fields in order.

    A `wait_ns` of 0 is left out, as before there was one.
    """
    value = [_NAMES[type(wait)], *attrs.astuple(wait, recurse=False)]
    return value[:-1] if isinstance(wait, Go) and not wait.wait_ns else value


def decode_wait(value: object) -> Wait:
    """The wait that `encode_wait` wrote. Raises `BadSnapshot` for anything else."""
    if not isinstance(value, list) or not value or not isinstance(value[0], str) or value[0] not in _WAITS:
        raise BadSnapshot("the pending wait is of no known kind")
    cls = _WAITS[value[0]]
    fields = attrs.fields(cls)
    if fields and fields[-1].name == "wait_ns" and (len(value) == len(fields) or value[-1] == 0):
        fields = fields[:-1]
    if len(value) != 1 + len(fields):
        raise BadSnapshot(f"a wait of kind {value[0]} has {len(fields)} fields, not {len(value) - 1}")
    for field, item in zip(fields, value[1:], strict=True):
        if not _fits(field.name, item):
            raise BadSnapshot(f"a wait of kind {value[0]} has a bad field {field.name}")
    return cls(*value[1:])  # type: ignore[no-any-return]


def _fits(name: str, item: object) -> bool:
    if name in _TEXT_MAX:
        return isinstance(item, str) and len(item.encode()) <= _TEXT_MAX[name]
    if name == "request":
        return isinstance(item, bytes) and len(item) <= MAX_BODY_BYTES
    if name == "timeout_ns" and item is None:
        return True
    most = 0xFFFFFFFF if name in ("fd", "count") else _U64
    return type(item) is int and 0 <= item <= most
