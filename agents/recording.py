"""What a run was told by its station, as bytes: enough to run it again, and not a byte more than is allowed.

A `Tape` takes the entries of one stay in order. A `Recorder` stands between an agent and its station, and writes down
what the agent's calls returned, the events that ended its waits, and where it stopped:

    ["turn", [fresh], event]            it was given this event; `fresh`: in a new instance
    [name, [arguments], result]         it made this call (`CALLS`)
    [name, [arguments], None, errno, reason]   and this one failed
    ["stop", [how], None]               why the turn ended

What only goes out (output, bodies of messages) is abridged to its beginning, size and digest: a replay compares it, and
does not need it. Of results nothing but size and digest is kept: they are sealed to the owner where they are stored.

Invariants: a tape is a prefix of what happened, never one with a hole; a station's calls are passed on unchanged,
whether there is room or not; `read_tape` accepts what a `Tape` writes, in the shapes of `CALLS`, and raises `BadRecord`
for everything else.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, get_args

import attrs

from agents.brief import brief

from . import canonical
from .errors import BadRecord, CallFailed, NotCanonical
from .hostcalls import Ambient, native, offered, reply_of
from .waits import Ask, Call, Event, encode_wait

MAX_TAPE_BYTES = 64 << 20  # of one tape that is read
MAX_TAPE_ENTRIES = 1_000_000
SHOWN_BYTES = 256  # of what goes out, that are kept
TURN, STOP = "turn", "stop"
# The calls, and the types of their arguments and of their result. A pair is what `abridged` makes.
CALLS: dict[str, tuple[tuple[type, ...], type | None]] = {
    "station": ((), str),
    "agent_id": ((), str),
    "next_stop": ((), str),
    "wall_ns": ((), int),
    "monotonic_ns": ((), int),
    "random": ((int,), bytes),
    "log": ((int, list), None),
    "output": ((int, list), None),
    "report": ((str, list), None),
    "lookup": ((str,), list),
    "send": ((str, list), None),
    "reply": ((str, list), None),
    "offer": ((str, str), None),
    "send_here": ((str, list), None),
    "subscribe": ((str,), None),
    "unsubscribe": ((str,), None),
    "publish": ((str, list, int), int),
    "notice": ((), str),
}
CLOCKS = ("wall_ns", "monotonic_ns")
_EVENTS: dict[str, type[Any]] = {cls.__name__: cls for cls in get_args(Event)}
# An entry has at most eight values, and an abridged argument four.
_BOUNDS = canonical.DecodeBounds(MAX_TAPE_BYTES + 16, 6, 12 * MAX_TAPE_ENTRIES)


def encode_event(event: Event) -> list[Any]:
    """The event as a list that `agents.canonical` can encode: its name, then its fields in order."""
    values = attrs.astuple(event, recurse=False)
    return [type(event).__name__, *(list(each) if isinstance(each, tuple) else each for each in values)]


def decode_event(value: object) -> Event:
    """The event that `encode_event` wrote. Raises `BadRecord` for anything else."""
    kinds: dict[str, type] = {"str": str, "int": int, "bytes": bytes}
    if not isinstance(value, list) or not value or not isinstance(value[0], str) or value[0] not in _EVENTS:
        raise BadRecord("an event of no known kind")
    cls = _EVENTS[value[0]]
    fields, values = attrs.fields(cls), list[Any]()
    if len(fields) != len(value) - 1:
        raise BadRecord(f"an event {value[0]} of another shape")
    for field, item in zip(fields, value[1:], strict=True):
        if str(field.type) == "tuple[str, ...]":
            fits = isinstance(item, list) and all(isinstance(each, str) for each in item)
            values.append(tuple(item) if fits else None)
        else:
            fits = type(item) is kinds[str(field.type).removesuffix(" | None")]
            fits = fits or (item is None and "None" in str(field.type))
            values.append(item)
        if not fits:
            raise BadRecord(f"an event {value[0]} with a bad field {field.name}")
    event: Event = cls(*values)
    return event


def abridged(data: bytes, shown: int = SHOWN_BYTES) -> list[Any]:
    """What is kept of bytes that go out: their beginning, their size, and their digest where that is not all."""
    head = bytes(data[:shown])
    return [head, len(data), b"" if len(head) == len(data) else canonical.digest(data)]


def stop_value(how: str, wait: Any = None) -> list[Any]:
    """How a turn ended, as a value: `how` is "wait", with the wait, "asked", "finished", "trapped" or "exhausted"."""
    if wait is None:
        return [how]
    encoded = encode_wait(wait)
    if isinstance(wait, Call):
        encoded[-1] = abridged(wait.request)
    if isinstance(wait, Ask):
        encoded[3] = abridged(wait.request)
    return [how, encoded]


@attrs.frozen
class Entry:
    """One entry of a tape.

    name: of the call, or `TURN` or `STOP`
    args: its arguments
    result: what it returned, as a plain value
    errno, reason: of a call that failed; 0 and empty otherwise
    """

    name: str
    args: tuple[Any, ...] = attrs.field(repr=brief)
    result: Any = attrs.field(default=None, repr=brief)
    errno: int = 0
    reason: str = ""

    @property
    def event(self) -> Event | None:
        """What ended the wait before a turn, None if there was none."""
        return None if self.result is None else decode_event(self.result)


@attrs.define(eq=False, repr=False)
class Tape:
    """The entries of one stay, as they come, in at most `most` bytes.

    taken(data, count): given each piece of the tape when it has `piece` bytes, and the rest by `flush`
    count, size: entries and bytes so far; dropped: entries for which there was no room
    """

    most: int
    taken: Callable[[bytes, int], None]
    piece: int = 64 << 10
    count: int = 0
    size: int = 0
    dropped: int = 0
    _held: bytearray = attrs.field(factory=bytearray)
    _here: int = 0

    def add(self, name: str, args: list[Any], result: Any = None, errno: int = 0, reason: str = "") -> None:
        """Write down one entry, unless the tape is full."""
        if self.dropped:
            self.dropped += 1
            return
        value = [name, args, result] if not errno else [name, args, None, errno, reason[:1024]]
        try:
            data = canonical.encode(value, ordered=True)
        except NotCanonical:
            data = b""
        if not data or self.size + len(data) > self.most or self.count >= MAX_TAPE_ENTRIES:
            self.dropped = 1
            return
        self._held += data
        self._here += 1
        self.count, self.size = self.count + 1, self.size + len(data)
        if len(self._held) >= self.piece:
            self.flush()

    def flush(self) -> None:
        """Give away what is held."""
        if self._here:
            data, count = bytes(self._held), self._here
            self._held, self._here = bytearray(), 0
            self.taken(data, count)


def read_tape(data: bytes, count: int) -> tuple[Entry, ...]:
    """The entries of a tape of `count` of them, whose pieces are joined in `data`. Raises `BadRecord`."""
    if not 0 <= count <= MAX_TAPE_ENTRIES or len(data) > MAX_TAPE_BYTES:
        raise BadRecord("a record that is longer than any that is read")
    head = canonical.encode(count)
    try:
        rows = canonical.decode(bytes([head[0] | 0x80]) + head[1:] + data, _BOUNDS)
    except NotCanonical as error:
        raise BadRecord(f"not the record of a run: {error}") from None
    return tuple(_entry(row, number) for number, row in enumerate(rows))


def _entry(row: Any, number: int) -> Entry:
    if not isinstance(row, list) or len(row) not in (3, 5) or not isinstance(row[1], list):
        raise BadRecord(f"entry {number} of the record has another shape")
    name, args, result, *failed = row
    if failed and not (type(failed[0]) is int and 0 < failed[0] < 1 << 16 and isinstance(failed[1], str)):
        raise BadRecord(f"entry {number} of the record fails in a way that is none")
    if name == TURN and not failed and len(args) == 1 and isinstance(args[0], bool):
        if result is not None:
            decode_event(result)
        return Entry(name, tuple(args), result)
    if name == STOP and not failed and result is None and 0 < len(args) <= 2 and isinstance(args[0], str):
        return Entry(name, tuple(args))
    types, returns = CALLS.get(name, ((), None)) if isinstance(name, str) else ((), None)
    fits = isinstance(name, str) and name in CALLS and len(args) == len(types)
    fits = fits and all(type(arg) is kind for arg, kind in zip(args, types, strict=True))
    fits = fits and all(_short(arg) for arg, kind in zip(args, types, strict=True) if kind is list)
    returned = result is None if failed or returns is None else type(result) is returns
    if returns is list and not failed and returned:
        returned = all(isinstance(each, str) for each in result)
    if not fits or not returned:
        raise BadRecord(f"entry {number} of the record is no call that an agent can make")
    return Entry(name, tuple(args), result, *failed)


def _short(value: list[Any]) -> bool:
    kinds = [type(each) for each in value]
    return kinds == [bytes, int, bytes]


class Recorder:
    """An agent's station, which also writes down what the agent is told.

    inner: the station
    tape: where it is written
    """

    def __init__(self, inner: Ambient, tape: Tape) -> None:
        self.inner, self.tape = inner, tape
        self._run: Callable[[], object] = lambda: None

    # Called by whoever runs the agent

    def turn(self, run: object, event: Event | None) -> None:
        """A turn begins, in the execution `run`, with `event`."""
        fresh = self._run() is not run
        self._run = weakref.ref(run)
        self.tape.add(TURN, [fresh], None if event is None else encode_event(event))

    def stopped(self, how: str, wait: Any = None) -> None:
        """The turn has ended; see `stop_value`."""
        self.tape.add(STOP, stop_value(how, wait))

    # See `agents.hostcalls.Ambient`

    def _kept(self, name: str, args: list[Any], call: Callable[[], Any]) -> Any:
        try:
            value = call()
        except CallFailed as error:
            self.tape.add(name, args, None, error.errno, error.reason)
            raise
        self.tape.add(name, args, list(value) if isinstance(value, tuple) else value)
        return value

    @property
    def native(self) -> bool:
        """See `agents.hostcalls.native`: calls that the engine answers are not seen here."""
        return bool(self.tape.dropped) and native(self.inner)

    @property
    def station(self) -> str:
        """See `Ambient`."""
        return str(self._kept("station", [], lambda: self.inner.station))

    @property
    def agent_id(self) -> str:
        """See `Ambient`."""
        return str(self._kept("agent_id", [], lambda: self.inner.agent_id))

    @property
    def next_stop(self) -> str:
        """See `Ambient`."""
        return str(self._kept("next_stop", [], lambda: self.inner.next_stop))

    def wall_ns(self) -> int:
        """See `Ambient`."""
        value = self.inner.wall_ns()
        self.tape.add("wall_ns", [], value)
        return value

    def monotonic_ns(self) -> int:
        """See `Ambient`."""
        value = self.inner.monotonic_ns()
        self.tape.add("monotonic_ns", [], value)
        return value

    def random(self, size: int) -> bytes:
        """`size` bytes; see `Ambient`."""
        return bytes(self._kept("random", [size], lambda: self.inner.random(size)))

    def log(self, level: int, text: str) -> None:
        """A line `text` at `level`; see `Ambient`."""
        self._kept("log", [level, abridged(text.encode("utf-8", "replace"))], lambda: self.inner.log(level, text))

    def output(self, fd: int, data: bytes) -> None:
        """`data` for the descriptor `fd`; see `Ambient`."""
        self._kept("output", [fd, abridged(data)], lambda: self.inner.output(fd, data))

    def report(self, key: str, value: bytes) -> None:
        """The result `value` under `key`, of which only size and digest are kept; see `Ambient`."""
        self._kept("report", [key, abridged(value, 0)], lambda: self.inner.report(key, value))

    def lookup(self, service: str) -> tuple[str, ...]:
        """The stations that offer `service`; see `Ambient`."""
        found: Sequence[str] = self._kept("lookup", [service], lambda: self.inner.lookup(service))
        return tuple(found)

    def send(self, to: str, body: bytes) -> None:
        """A message `body` for the agent `to`; see `Ambient`."""
        self._kept("send", [to, abridged(body)], lambda: self.inner.send(to, body))

    def reply(self, ident: str, response: bytes) -> None:
        """The answer `response` to the request `ident`; see `agents.hostcalls.reply`."""
        self._kept("reply", [ident, abridged(response)], lambda: reply_of(self.inner)(ident, response))

    def offer(self, service: str, attributes: str | None) -> None:
        """It offers a service, or withdraws it; see `agents.hostcalls.offer`."""
        args = [service, "" if attributes is None else attributes]
        self._kept("offer", args, lambda: offered(self.inner, "offer")(service, attributes))

    def send_here(self, to: str, body: bytes) -> None:
        """It sends `body` to an agent here; see `agents.hostcalls.send_here`."""
        self._kept("send_here", [to, abridged(body)], lambda: offered(self.inner, "send_here")(to, body))

    def subscribe(self, topic: str) -> None:
        """It subscribes to `topic`; see `agents.hostcalls.subscribe`."""
        self._kept("subscribe", [topic], lambda: offered(self.inner, "subscribe")(topic))

    def unsubscribe(self, topic: str) -> None:
        """It subscribes to `topic` no more; see `agents.hostcalls.unsubscribe`."""
        self._kept("unsubscribe", [topic], lambda: offered(self.inner, "unsubscribe")(topic))

    def publish(self, topic: str, body: bytes, everywhere: bool) -> int:
        """It publishes `body` to `topic`, perhaps `everywhere`; see `agents.hostcalls.publish`."""
        args = [topic, abridged(body), int(everywhere)]
        return int(self._kept("publish", args, lambda: offered(self.inner, "publish")(topic, body, everywhere)))

    def notice(self) -> str:
        """What the station has to tell by itself; see `agents.hostcalls.notice`."""
        inner: Callable[[], str] = getattr(self.inner, "notice", str)
        return str(self._kept("notice", [], inner))


__all__ = ["Entry", "Recorder", "Tape", "abridged", "decode_event", "encode_event", "read_tape"]
