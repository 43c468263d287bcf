"""The calls an agent makes of its station: ABI version 1, the imports of the module `portcall`.

Each call exists once, as a function over Python values (`go(ctx, host)`, `recv(ctx, timeout_ns)` ...). There are two
ways to it: the imports below (`IMPORTS`), which read and write the guest's memory, and the files
under `/portcall/` of the virtual WASI. Both therefore give the same answers and the same errors.

Not here: the station (that is an `Ambient`, passed in) and the network: `go` ends as a value.

A value function returns its result, or `Suspend(wait)` when the agent has to wait. It is then called again,
with the same arguments and `ctx.event` set, and returns the result that the guest sees. It raises
`CallFailed(errno)` for what the guest sees as an error, and `EndOfRun` when the agent has ended.

Invariants: no call blocks; nothing here reads a clock or a random source except through the ambient; every
length that comes from the guest is bounded before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

import attrs

from .errors import CallFailed, EndOfRun, GuestFault
from .waits import (
    FOREVER_NS,
    MAX_ASK_ID_BYTES,
    MAX_ATTRIBUTES_BYTES,
    MAX_BODY_BYTES,
    MAX_ENTRY_BYTES,
    MAX_FORKED,
    MAX_HOST_BYTES,
    MAX_OPEN_REQUESTS,
    MAX_REQUEST_ID_BYTES,
    MAX_SERVICE_BYTES,
    MAX_TOPIC_BYTES,
    Accept,
    Answer,
    Arrived,
    Ask,
    Call,
    Clone,
    Cloned,
    Event,
    Failed,
    Find,
    Fork,
    Forked,
    Go,
    GoAt,
    Input,
    InputReady,
    Kept,
    Listen,
    Message,
    Posed,
    Recv,
    Refused,
    Reply,
    Request,
    Select,
    Sleep,
    Suspend,
    TimedOut,
    Wait,
    Woke,
    Yield,
)

ABI_VERSION = 1
MAX_REPORT_KEY_BYTES = 256  # bytes of UTF-8 in the key of a result
MAX_LOG_BYTES = 8192  # bytes of one log line; longer ones are cut, so that a flood costs the agent's time, not ours
_U32 = 0xFFFFFFFF

# WASI preview 1 error numbers (witx `errno`) that the calls themselves return.
EACCES, EAGAIN, EBUSY, EFAULT, EHOSTUNREACH, EILSEQ, EINVAL = 2, 6, 10, 21, 23, 25, 28
EIO, EMSGSIZE, ENAMETOOLONG, ENOENT, ENOSPC, ENOSYS, ENOTSUP, ETIMEDOUT = 29, 35, 37, 44, 51, 52, 58, 73


class ComesLater(Protocol):
    """What a memory needs of its missing pages; see `agents.engines.missing`."""

    def make_present(self, offset: int, size: int) -> None:
        """Wait until nothing of this range is missing."""


class GuestMemory:
    """The agent's own memory, as host functions see it: every access is checked against its current size.

    direct: a writable memoryview of its bytes; to touch a range of it, `reach` it first
    missing: pages that are still on their way, None if all are here
    """

    __slots__ = ("direct", "missing")

    def __init__(self, view: memoryview) -> None:
        self.direct = view
        self.missing: ComesLater | None = None

    @property
    def view(self) -> memoryview:
        """A writable memoryview of all its bytes; if some are on their way, this waits for them all."""
        self.reach(0, len(self.direct))
        return self.direct

    def reach(self, pointer: int, size: int) -> None:
        """Wait until what is on its way of this range is here."""
        if self.missing is not None:
            self.missing.make_present(pointer, size)

    def __len__(self) -> int:
        """Size in bytes."""
        return len(self.direct)

    def read(self, pointer: int, size: int) -> bytes:
        """`size` bytes at `pointer`. Raises `GuestFault` if any lies outside."""
        if pointer < 0 or size < 0 or pointer + size > len(self.direct):
            raise GuestFault(f"{size} bytes at {pointer} lie outside the memory of {len(self.direct)}")
        self.reach(pointer, size)
        return bytes(self.direct[pointer : pointer + size])

    def write(self, pointer: int, data: bytes | bytearray | memoryview) -> None:
        """Put `data` at `pointer`. Raises `GuestFault`, and writes nothing, if any would lie outside."""
        if pointer < 0 or pointer + len(data) > len(self.direct):
            raise GuestFault(f"{len(data)} bytes at {pointer} lie outside the memory of {len(self.direct)}")
        self.reach(pointer, len(data))
        self.direct[pointer : pointer + len(data)] = data

    def u32(self, pointer: int) -> int:
        """The little-endian 32-bit number at `pointer`."""
        return int.from_bytes(self.read(pointer, 4), "little")

    def u64(self, pointer: int) -> int:
        """The little-endian 64-bit number at `pointer`."""
        return int.from_bytes(self.read(pointer, 8), "little")

    def put_u8(self, pointer: int, value: int) -> None:
        """Put the low 8 bits of `value` at `pointer`."""
        self.write(pointer, (value & 0xFF).to_bytes(1, "little"))

    def put_u16(self, pointer: int, value: int) -> None:
        """Put the low 16 bits of `value` at `pointer`, little endian."""
        self.write(pointer, (value & 0xFFFF).to_bytes(2, "little"))

    def put_u32(self, pointer: int, value: int) -> None:
        """Put the low 32 bits of `value` at `pointer`, little endian."""
        self.write(pointer, (value & _U32).to_bytes(4, "little"))

    def put_u64(self, pointer: int, value: int) -> None:
        """Put the low 64 bits of `value` at `pointer`, little endian."""
        self.write(pointer, (value & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little"))


class Ambient(Protocol):
    """The station's side of the calls that do not wait. The station supplies it; none of it travels."""

    @property
    def station(self) -> str:
        """This station's name."""

    @property
    def agent_id(self) -> str:
        """This agent's id."""

    @property
    def next_stop(self) -> str:
        """The itinerary's next stop; empty at its end."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that never goes back, from any origin."""

    def random(self, size: int) -> bytes:
        """`size` random bytes."""

    def log(self, level: int, text: str) -> None:
        """Log one line of the agent; level 0 error, 1 warning, 2 information, 3 detail."""

    def output(self, fd: int, data: bytes) -> None:
        """Take bytes that the agent wrote to standard output (`fd` 1) or error (2), at most a few MB."""

    def report(self, key: str, value: bytes) -> None:
        """Append a result. Raises `CallFailed` if the permit's budget is used up."""

    def lookup(self, service: str) -> tuple[str, ...]:
        """Names of stations that offer `service`, best first."""

    def send(self, to: str, body: bytes) -> None:
        """Accept a message for delivery. Raises `CallFailed` if it cannot be accepted."""


def reply_of(ambient: Ambient) -> Callable[[str, bytes], None]:
    """How answers reach clients: the ambient's method `reply(ident, response)`. Raises `CallFailed` if it has none."""
    answer: Callable[[str, bytes], None] | None = getattr(ambient, "reply", None)
    if answer is None:
        raise CallFailed(ENOTSUP, "agents have no clients here")
    return answer


def native(ambient: Ambient) -> bool:
    """Whether the engine may answer for the station, as its attribute `native` says; without one it may not.

    Then its clocks are `time.time_ns` and `time.monotonic_ns`, its random bytes may be drawn in advance, and it takes
    output in larger pieces, some hundredths of a second later, but before anything else that the agent does.
    """
    return bool(getattr(ambient, "native", False))


@attrs.define
class CallContext:
    """What a host function receives: the guest's memory, its virtual WASI, the station, the event that woke it.

    `call(export, *args)` runs an export of the agent from inside a host function. While it runs, the agent
    cannot suspend (its frames would lie under one of the station's), and waits fail with EBUSY. `happens(event)` does
    the same with the export for an event of its life, if there is one (`agents.life_events`).
    """

    memory: GuestMemory
    ambient: Ambient
    wasi: Any = None
    event: Event | None = None
    kept: Kept = attrs.field(factory=Kept)
    call: Callable[..., Any] | None = None
    has_export: Callable[[str], bool] | None = None
    happens: Callable[[str], None] | None = None


# `(ctx, *args) -> result`. Arguments and results are bits, never negative: an i32 is 0 .. 2**32 - 1 (so a
# pointer is an index as it is), an i64 0 .. 2**64 - 1, a float its bit pattern. A negative result is
# taken modulo 2**32 or 2**64.
HostFunction = Callable[..., int | Suspend | None]


@attrs.frozen
class HostImport:
    """One import: parameter and result types as letters (i i32, I i64, f f32, F f64), and its function."""

    params: str
    results: str
    function: HostFunction


# --- the calls, over Python values ---


def go(ctx: CallContext, host: str, wait_ns: int = 0) -> Suspend | None:
    """Move to `host`, stack and all; returns None there. Sleeps up to `wait_ns` while it cannot be gone to."""
    if ctx.event is None:
        wait = Go(_name(host, MAX_HOST_BYTES), wait_ns)
        _happens(ctx, "departing")
        return Suspend(wait)
    _expect(ctx, Arrived)
    _happens(ctx, "arrived")
    return None


def go_at(ctx: CallContext, host: str, entry: str) -> Suspend:
    """Move to `host` without the stack, and call the export `entry` there. Never returns on success."""
    if ctx.event is not None:
        _expect(ctx)
    if ctx.has_export is not None and not ctx.has_export(_name(entry, MAX_ENTRY_BYTES)):
        raise CallFailed(ENOENT, f"the agent exports no function {entry!r} that can be called on arrival")
    wait = GoAt(_name(host, MAX_HOST_BYTES), _name(entry, MAX_ENTRY_BYTES))
    _happens(ctx, "departing")
    return Suspend(wait)


def here(ctx: CallContext) -> str:
    """This station's name."""
    return ctx.ambient.station


def me(ctx: CallContext) -> str:
    """This agent's id."""
    return ctx.ambient.agent_id


def next_stop(ctx: CallContext) -> str:
    """The itinerary's next stop; empty at its end."""
    return ctx.ambient.next_stop


def call(ctx: CallContext, service: str, request: bytes) -> Suspend | bytes:
    """The reply of the station's service `service` to `request`."""
    if ctx.event is None:
        _bounded(request, MAX_BODY_BYTES)
        return Suspend(Call(_name(service, MAX_SERVICE_BYTES), bytes(request)))
    return _expect(ctx, Reply).body  # type: ignore[no-any-return]


def send(ctx: CallContext, to: str, body: bytes) -> None:
    """Send `body` to the agent `to`."""
    ctx.ambient.send(_name(to, MAX_HOST_BYTES), _bounded(body, MAX_BODY_BYTES))


def recv(ctx: CallContext, timeout_ns: int | None = None) -> Suspend | Message | None:
    """The next message; None if none came within `timeout_ns` nanoseconds (None waits for ever)."""
    if ctx.event is None:
        _wait_begins(ctx)
        return Suspend(Recv(timeout_ns))
    _waited(ctx, timeout_ns if isinstance(ctx.event, TimedOut) else None)
    if isinstance(ctx.event, TimedOut):
        return None
    message: Message = _expect(ctx, Message)
    received(ctx, message)
    return message


def select(ctx: CallContext, sender: str, topic: str, timeout_ns: int | None = None) -> Suspend | Message | None:
    """The next message of this sender and about this topic (empty: any); None if none came in time, as for `recv`."""
    if ctx.event is None:
        _named(sender, MAX_HOST_BYTES)
        _named(topic, MAX_TOPIC_BYTES)
        _wait_begins(ctx)
        return Suspend(Select(sender, topic, timeout_ns))
    return recv(ctx, timeout_ns)


def received(ctx: CallContext, message: Message) -> None:
    """Note the message received last: who sent it, and how it is answered."""
    kept = ctx.kept
    kept.sender, kept.topic, kept.reply_to = message.sender, message.topic, message.reply_to
    if message.reply_to:
        kept.requests = (*kept.requests, message.reply_to)[-MAX_OPEN_REQUESTS:]
    _happens(ctx, "message")


def about(ctx: CallContext) -> tuple[str, str, str]:
    """Of the message received last: who sent it, its topic, and what `reply` takes; empty if it is no question."""
    return ctx.kept.sender, ctx.kept.topic, ctx.kept.reply_to


def ask(ctx: CallContext, to: str, question: bytes, topic: str = "", timeout_ns: int | None = None) -> Suspend | str:
    """Ask the agent `to`; returns the question's name, for `answer`. After `timeout_ns` an answer comes too late."""
    if ctx.event is None:
        _bounded(question, MAX_BODY_BYTES)
        _named(topic, MAX_TOPIC_BYTES)
        return Suspend(Ask(_name(to, MAX_HOST_BYTES), topic, bytes(question), timeout_ns))
    return _expect(ctx, Posed).ident  # type: ignore[no-any-return]


def answer(ctx: CallContext, ident: str, timeout_ns: int | None = None) -> Suspend | bytes | None:
    """The answer to the question `ident`, here or elsewhere, once; None if none came within `timeout_ns` nanoseconds
    (None waits as long as it may be answered).
    """
    if ctx.event is None:
        _wait_begins(ctx)
        return Suspend(Answer(_name(ident, MAX_ASK_ID_BYTES), timeout_ns))
    _waited(ctx, timeout_ns if isinstance(ctx.event, TimedOut) else None)
    if isinstance(ctx.event, TimedOut):
        return None
    return _expect(ctx, Reply).body  # type: ignore[no-any-return]


def subscribe(ctx: CallContext, topic: str) -> None:
    """Receive what is published to a topic, from now on and wherever the agent goes."""
    offered(ctx.ambient, "subscribe")(_topic(topic))


def unsubscribe(ctx: CallContext, topic: str) -> None:
    """Receive it no more."""
    offered(ctx.ambient, "unsubscribe")(_topic(topic))


def publish(ctx: CallContext, topic: str, body: bytes, everywhere: bool) -> int:
    """Send a message to the other agents here that subscribe to a topic, or also to those at other stations; returns
    how many got it here.
    """
    done = offered(ctx.ambient, "publish")(_topic(topic), _bounded(body, MAX_BODY_BYTES), everywhere)
    return int(done)


def offer(ctx: CallContext, service: str, attributes: str) -> None:
    """Offer a service to other agents while this one is here; `attributes` is what they are told of it."""
    if len(attributes.encode("utf-8", "replace")) > MAX_ATTRIBUTES_BYTES:
        raise CallFailed(ENAMETOOLONG, f"attributes of more than {MAX_ATTRIBUTES_BYTES} bytes")
    offered(ctx.ambient, "offer")(_name(service, MAX_SERVICE_BYTES), _named(attributes, MAX_ATTRIBUTES_BYTES))


def withdraw(ctx: CallContext, service: str) -> None:
    """Offer a service no more."""
    offered(ctx.ambient, "offer")(_name(service, MAX_SERVICE_BYTES), None)


def find(ctx: CallContext, service: str, label: str, everywhere: bool) -> Suspend | bytes:
    """The other agents here, or everywhere, that offer a service and have a label (both empty: any), a line each: id,
    station, label and attributes, with a tab between.
    """
    if ctx.event is None:
        _named(service, MAX_SERVICE_BYTES)
        return Suspend(Find(service, _named(label, MAX_HOST_BYTES), int(everywhere)))
    return _expect(ctx, Reply).body  # type: ignore[no-any-return]


def send_here(ctx: CallContext, to: str, body: bytes) -> None:
    """As `send`, but only to an agent that is at this station."""
    offered(ctx.ambient, "send_here")(_name(to, MAX_HOST_BYTES), _bounded(body, MAX_BODY_BYTES))


def offered(ambient: Ambient, name: str) -> Callable[..., Any]:
    """A method that not every ambient has. Raises `CallFailed` if this one has not."""
    found: Callable[..., Any] | None = getattr(ambient, name, None)
    if found is None:
        raise CallFailed(ENOTSUP, f"{name} is for agents at stations")
    return found


def _topic(text: str) -> str:
    return _name(_named(text, MAX_TOPIC_BYTES), MAX_TOPIC_BYTES)


def accept(ctx: CallContext, timeout_ns: int | None = None) -> Suspend | Request | None:
    """The next request of a client; None if none came within `timeout_ns` nanoseconds (None waits for ever)."""
    if ctx.event is None:
        next_request = getattr(ctx.ambient, "next_request", None)
        request: Request | None = None if next_request is None else next_request()
        if request is None:
            _wait_begins(ctx)
            return Suspend(Accept(timeout_ns))
    else:
        _waited(ctx, timeout_ns if isinstance(ctx.event, TimedOut) else None)
        if isinstance(ctx.event, TimedOut):
            return None
        request = _expect(ctx, Request)
        assert request is not None
    ctx.kept.requests = (*ctx.kept.requests, request.ident)[-MAX_OPEN_REQUESTS:]
    return request


def reply(ctx: CallContext, ident: str, response: bytes) -> None:
    """Answer the request `ident` that the agent accepted, or the question that it received, here or elsewhere: once."""
    _bounded(response, MAX_BODY_BYTES)
    if ident not in ctx.kept.requests:
        raise CallFailed(ENOENT, "the agent has no request of this id to answer")
    reply_of(ctx.ambient)(ident, bytes(response))
    ctx.kept.requests = tuple(each for each in ctx.kept.requests if each != ident)


def sleep(ctx: CallContext, ns: int) -> Suspend | None:
    """Sleep for `ns` nanoseconds."""
    if ctx.event is None:
        _happens(ctx, "sleeping")
        _wait_begins(ctx)
        return Suspend(Sleep(ns))
    _waited(ctx, ns if isinstance(ctx.event, Woke) else None)
    _expect(ctx, Woke)
    _happens(ctx, "woken")
    return None


def clone(ctx: CallContext) -> Suspend | Cloned:
    """Become two agents: the original gets `Cloned(child id)`, the clone `Cloned(None)`."""
    if ctx.event is None:
        return Suspend(Clone())
    done: Cloned = _expect(ctx, Cloned)
    _happens(ctx, "cloned")
    return done


def fork(ctx: CallContext, count: int) -> Suspend | Forked:
    """Become `count` agents more, all from here, or none: the original gets their ids, each of them its number."""
    if ctx.event is None:
        if not 1 <= count <= MAX_FORKED:
            raise CallFailed(EINVAL, f"an agent forks into 1 to {MAX_FORKED} more")
        return Suspend(Fork(count))
    done: Forked = _expect(ctx, Forked)
    _happens(ctx, "cloned")
    return done


def notice(ctx: CallContext) -> str:
    """What the station has to tell the agent by itself, once; empty if there is nothing.

    It is `retracted`, `budget_low cpu` or `budget_low messages`.
    """
    found: Callable[[], str] | None = getattr(ctx.ambient, "notice", None)
    return "" if found is None else found()


def report(ctx: CallContext, key: str, value: bytes) -> None:
    """Append a result to the agent's signed chain."""
    ctx.ambient.report(_name(key, MAX_REPORT_KEY_BYTES), _bounded(value, MAX_BODY_BYTES))


def log(ctx: CallContext, level: int, text: str) -> None:
    """One line for the station's log: level 0 error, 1 warning, 2 information, 3 detail."""
    ctx.ambient.log(min(level, 3), text)


def lookup(ctx: CallContext, service: str) -> tuple[str, ...]:
    """Names of stations that offer `service`, best first; empty if none is known."""
    return ctx.ambient.lookup(_name(service, MAX_SERVICE_BYTES))


def exit(ctx: CallContext, code: int) -> NoReturn:
    """End the agent with exit code `code`."""
    raise EndOfRun(code & _U32)


def _happens(ctx: CallContext, event: str) -> None:
    if ctx.happens is not None:
        ctx.happens(event)


def _wait_begins(ctx: CallContext) -> None:
    """Record when the wait begins, for `_waited`."""
    if ctx.wasi is not None:
        ctx.wasi.wait_begins(ctx.ambient)


def _waited(ctx: CallContext, ns: int | None = None) -> None:
    """Advance the agent's monotonic clock by the wait, at least by `ns` if given, wherever the agent was."""
    if ctx.wasi is not None:
        ctx.wasi.waited(ctx.ambient, ns)


def _name(text: str, most: int) -> str:
    """`text`, if it is a valid name. Raises `CallFailed`."""
    if not text or "\0" in text:
        raise CallFailed(EINVAL, "an empty name, or one with a NUL in it")
    if len(text.encode("utf-8", "replace")) > most:
        raise CallFailed(ENAMETOOLONG, f"a name of more than {most} bytes")
    return text


def _named(text: str, most: int) -> str:
    """`text`, if it is empty or a valid name that can be shown. Raises `CallFailed`."""
    if not text.isprintable():
        raise CallFailed(EINVAL, "a name with characters that cannot be shown")
    return _name(text, most) if text else text


def _bounded(body: bytes, most: int) -> bytes:
    if len(body) > most:
        raise CallFailed(EMSGSIZE, f"{len(body)} bytes where at most {most} are taken")
    return body


def _expect(ctx: CallContext, kind: type[Any] | None = None) -> Any:
    """The event, of class `kind`. Turns a refusal or a failure into `CallFailed`."""
    event = ctx.event
    if isinstance(event, (Refused, Failed)):
        raise CallFailed(event.errno, event.reason)
    if kind is None or not isinstance(event, kind):
        raise CallFailed(EIO, f"{type(event).__name__} is not the event that this call waits for")
    return event


# --- the same calls as imports ---


def _text(ctx: CallContext, pointer: int, size: int, most: int) -> str:
    """A string in guest memory. Raises `CallFailed` or `GuestFault`."""
    size &= _U32
    if size > most:
        raise CallFailed(ENAMETOOLONG, f"a name of {size} bytes where at most {most} are taken")
    try:
        return ctx.memory.read(pointer & _U32, size).decode()
    except UnicodeDecodeError:
        raise CallFailed(EILSEQ, "a string that is not UTF-8") from None


def _data(ctx: CallContext, pointer: int, size: int) -> bytes:
    size &= _U32
    if size > MAX_BODY_BYTES:
        raise CallFailed(EMSGSIZE, f"{size} bytes where at most {MAX_BODY_BYTES} are taken")
    return ctx.memory.read(pointer & _U32, size)


def _give(ctx: CallContext, pointer: int, capacity: int, data: bytes) -> int:
    """Write as much of `data` as fits; returns its full length."""
    ctx.memory.write(pointer & _U32, data[: capacity & _U32])
    return len(data)


def _go(ctx: CallContext, host: int, size: int) -> int | Suspend:
    return go(ctx, _text(ctx, host, size, MAX_HOST_BYTES)) or 0


def _go_wait(ctx: CallContext, host: int, size: int, wait_ms: int) -> int | Suspend:
    forever = wait_ms & 0x80000000  # any negative number of milliseconds
    return go(ctx, _text(ctx, host, size, MAX_HOST_BYTES), FOREVER_NS if forever else wait_ms * 1_000_000) or 0


def _go_at(ctx: CallContext, host: int, size: int, entry: int, entry_size: int) -> int | Suspend:
    return go_at(ctx, _text(ctx, host, size, MAX_HOST_BYTES), _text(ctx, entry, entry_size, MAX_ENTRY_BYTES))


def _here(ctx: CallContext, buffer: int, capacity: int) -> int:
    return _give(ctx, buffer, capacity, here(ctx).encode())


def _me(ctx: CallContext, buffer: int, capacity: int) -> int:
    return _give(ctx, buffer, capacity, me(ctx).encode())


def _next_stop(ctx: CallContext, buffer: int, capacity: int) -> int:
    return _give(ctx, buffer, capacity, next_stop(ctx).encode())


def _call(
    ctx: CallContext, service: int, size: int, request: int, request_size: int, reply: int, capacity: int
) -> int | Suspend:
    name, body = _text(ctx, service, size, MAX_SERVICE_BYTES), _data(ctx, request, request_size)
    if ctx.kept.reply is not None and ctx.event is None:
        if ctx.kept.reply[:2] == (name, body):
            return _give_or_keep_reply(ctx, reply, capacity, name, body, ctx.kept.reply[2])
        ctx.kept.reply = None
    answer = call(ctx, name, body)
    if isinstance(answer, Suspend):
        return answer
    return _give_or_keep_reply(ctx, reply, capacity, name, body, answer)


def _give_or_keep_reply(ctx: CallContext, reply: int, capacity: int, name: str, body: bytes, answer: bytes) -> int:
    ctx.kept.reply = (name, body, answer) if len(answer) > capacity & _U32 else None
    return _give(ctx, reply, capacity, answer)


def _send(ctx: CallContext, to: int, size: int, message: int, message_size: int) -> int:
    send(ctx, _text(ctx, to, size, MAX_HOST_BYTES), _data(ctx, message, message_size))
    return 0


def _recv(ctx: CallContext, buffer: int, capacity: int, timeout_ms: int) -> int | Suspend:
    message: Suspend | Message | None = ctx.kept.message
    if message is None or ctx.event is not None:
        forever = timeout_ms & 0x80000000  # any negative number of milliseconds
        message = recv(ctx, None if forever else timeout_ms * 1_000_000)
    if isinstance(message, Suspend):
        return message
    if message is None:
        raise CallFailed(ETIMEDOUT, "no message came in time")
    ctx.kept.message = message if len(message.body) > capacity & _U32 else None
    return _give(ctx, buffer, capacity, message.body)


def _select(
    ctx: CallContext, sender: int, size: int, topic: int, topic_size: int, buffer: int, capacity: int, timeout_ms: int
) -> int | Suspend:
    message: Suspend | Message | None = ctx.kept.message
    if message is None or ctx.event is not None:
        who, what = _text(ctx, sender, size, MAX_HOST_BYTES), _text(ctx, topic, topic_size, MAX_TOPIC_BYTES)
        message = select(ctx, who, what, _timeout(timeout_ms))
    if isinstance(message, Suspend):
        return message
    if message is None:
        raise CallFailed(ETIMEDOUT, "no such message came in time")
    ctx.kept.message = message if len(message.body) > capacity & _U32 else None
    return _give(ctx, buffer, capacity, message.body)


def _timeout(timeout_ms: int) -> int | None:
    """Nanoseconds; None for any negative number of milliseconds."""
    return None if timeout_ms & 0x80000000 else timeout_ms * 1_000_000


def _about(ctx: CallContext, buffer: int, capacity: int) -> int:
    return _give(ctx, buffer, capacity, "\n".join(about(ctx)).encode())


def _ask(
    ctx: CallContext,
    to: int,
    size: int,
    topic: int,
    topic_size: int,
    question: int,
    question_size: int,
    timeout_ms: int,
    id: int,
    capacity: int,
) -> int | Suspend:
    who, what = _text(ctx, to, size, MAX_HOST_BYTES), _text(ctx, topic, topic_size, MAX_TOPIC_BYTES)
    name = ask(ctx, who, _data(ctx, question, question_size), what, _timeout(timeout_ms))
    return name if isinstance(name, Suspend) else _give(ctx, id, capacity, name.encode())


def _subscribe(ctx: CallContext, topic: int, size: int) -> int:
    subscribe(ctx, _text(ctx, topic, size, MAX_TOPIC_BYTES))
    return 0


def _unsubscribe(ctx: CallContext, topic: int, size: int) -> int:
    unsubscribe(ctx, _text(ctx, topic, size, MAX_TOPIC_BYTES))
    return 0


def _publish(ctx: CallContext, topic: int, size: int, message: int, message_size: int, everywhere: int) -> int:
    body = _data(ctx, message, message_size)
    return publish(ctx, _text(ctx, topic, size, MAX_TOPIC_BYTES), bytes(body), bool(everywhere & _U32))


def _offer(ctx: CallContext, service: int, size: int, attributes: int, attributes_size: int) -> int:
    said = _text(ctx, attributes, attributes_size, MAX_ATTRIBUTES_BYTES)
    offer(ctx, _text(ctx, service, size, MAX_SERVICE_BYTES), said)
    return 0


def _withdraw(ctx: CallContext, service: int, size: int) -> int:
    withdraw(ctx, _text(ctx, service, size, MAX_SERVICE_BYTES))
    return 0


def _find(
    ctx: CallContext, service: int, size: int, label: int, label_size: int, everywhere: int, buffer: int, capacity: int
) -> int | Suspend:
    what, who = _text(ctx, service, size, MAX_SERVICE_BYTES), _text(ctx, label, label_size, MAX_HOST_BYTES)
    found = find(ctx, what, who, bool(everywhere & _U32))
    return found if isinstance(found, Suspend) else _give(ctx, buffer, capacity, found)


def _send_here(ctx: CallContext, to: int, size: int, message: int, message_size: int) -> int:
    send_here(ctx, _text(ctx, to, size, MAX_HOST_BYTES), _data(ctx, message, message_size))
    return 0


def _answer(ctx: CallContext, id: int, size: int, buffer: int, capacity: int, timeout_ms: int) -> int | Suspend:
    ident = _text(ctx, id, size, MAX_ASK_ID_BYTES)
    if ctx.event is None and ctx.kept.reply is not None and ctx.kept.reply[:2] == (ident, b""):
        return _give_or_keep_reply(ctx, buffer, capacity, ident, b"", ctx.kept.reply[2])
    given = answer(ctx, ident, _timeout(timeout_ms))
    if isinstance(given, Suspend):
        return given
    if given is None:
        raise CallFailed(ETIMEDOUT, "no answer came in time")
    return _give_or_keep_reply(ctx, buffer, capacity, ident, b"", given)


def _sender(ctx: CallContext, buffer: int, capacity: int) -> int:
    return _give(ctx, buffer, capacity, ctx.kept.sender.encode())


def _accept(ctx: CallContext, buffer: int, capacity: int, timeout_ms: int) -> int | Suspend:
    body = ctx.kept.request
    if body is None or ctx.event is not None:
        forever = timeout_ms & 0x80000000  # any negative number of milliseconds
        request = accept(ctx, None if forever else timeout_ms * 1_000_000)
        if isinstance(request, Suspend):
            return request
        if request is None:
            raise CallFailed(ETIMEDOUT, "no request came in time")
        body = request.body
    ctx.kept.request = body if len(body) > capacity & _U32 else None
    return _give(ctx, buffer, capacity, body)


def _reply(ctx: CallContext, id: int, size: int, response: int, response_size: int) -> int:
    reply(ctx, _text(ctx, id, size, MAX_REQUEST_ID_BYTES), _data(ctx, response, response_size))
    return 0


def _sleep(ctx: CallContext, ms: int) -> int | Suspend:
    return sleep(ctx, (ms & _U32) * 1_000_000) or 0


def _clone(ctx: CallContext, buffer: int, capacity: int) -> int | Suspend:
    done = clone(ctx)
    if isinstance(done, Suspend):
        return done
    ident = (ctx.ambient.agent_id if done.child is None else done.child).encode() + b"\0"
    ctx.memory.write(buffer & _U32, ident[: capacity & _U32])
    return 0 if done.child is None else 1


def _fork(ctx: CallContext, count: int, buffer: int, capacity: int) -> int | Suspend:
    done = fork(ctx, count & _U32)
    if isinstance(done, Suspend):
        return done
    ids = "\n".join(done.children) if done.number == 0 else ctx.ambient.agent_id
    ctx.memory.write(buffer & _U32, (ids.encode() + b"\0")[: capacity & _U32])
    return done.number


def _notice(ctx: CallContext, buffer: int, capacity: int) -> int:
    return _give(ctx, buffer, capacity, notice(ctx).encode())


def _report(ctx: CallContext, key: int, size: int, value: int, value_size: int) -> int:
    report(ctx, _text(ctx, key, size, MAX_REPORT_KEY_BYTES), _data(ctx, value, value_size))
    return 0


def _log(ctx: CallContext, level: int, text: int, size: int) -> int:
    line = ctx.memory.read(text & _U32, min(size & _U32, MAX_LOG_BYTES))
    log(ctx, level, line.decode("utf-8", "replace"))
    return 0


def _lookup(ctx: CallContext, service: int, size: int, buffer: int, capacity: int) -> int:
    stations = lookup(ctx, _text(ctx, service, size, MAX_SERVICE_BYTES))
    return _give(ctx, buffer, capacity, "\n".join(stations).encode())


def _exit(ctx: CallContext, code: int) -> NoReturn:
    exit(ctx, code)


# A module may declare any of these without a result.
IMPORTS: Mapping[str, HostImport] = {
    "go": HostImport("ii", "i", _go),
    "go_wait": HostImport("iii", "i", _go_wait),
    "go_at": HostImport("iiii", "i", _go_at),
    "here": HostImport("ii", "i", _here),
    "me": HostImport("ii", "i", _me),
    "next_stop": HostImport("ii", "i", _next_stop),
    "call": HostImport("iiiiii", "i", _call),
    "send": HostImport("iiii", "i", _send),
    "recv": HostImport("iii", "i", _recv),
    "sender": HostImport("ii", "i", _sender),
    "select": HostImport("iiiiiii", "i", _select),
    "about": HostImport("ii", "i", _about),
    "ask": HostImport("iiiiiiiii", "i", _ask),
    "answer": HostImport("iiiii", "i", _answer),
    "subscribe": HostImport("ii", "i", _subscribe),
    "unsubscribe": HostImport("ii", "i", _unsubscribe),
    "publish": HostImport("iiiii", "i", _publish),
    "offer": HostImport("iiii", "i", _offer),
    "withdraw": HostImport("ii", "i", _withdraw),
    "find": HostImport("iiiiiii", "i", _find),
    "send_here": HostImport("iiii", "i", _send_here),
    "accept": HostImport("iii", "i", _accept),
    "reply": HostImport("iiii", "i", _reply),
    "sleep": HostImport("i", "i", _sleep),
    "clone": HostImport("ii", "i", _clone),
    "fork": HostImport("iii", "i", _fork),
    "notice": HostImport("ii", "i", _notice),
    "report": HostImport("iiii", "i", _report),
    "log": HostImport("iii", "i", _log),
    "lookup": HostImport("iiii", "i", _lookup),
    "exit": HostImport("i", "", _exit),
}

__all__ = [  # noqa: RUF022 - the calls in the ABI's order, then their types
    "go", "go_at", "here", "me", "next_stop", "call", "send", "recv", "select", "received", "about", "ask", "answer",
    "subscribe", "unsubscribe", "publish", "offer", "withdraw", "find", "send_here", "accept", "reply", "sleep",
    "clone", "fork", "notice",
    "report", "log", "lookup", "exit", "ABI_VERSION", "IMPORTS", "HostImport", "HostFunction",
    "GuestMemory", "Ambient", "CallContext", "Kept", "CallFailed", "EndOfRun", "GuestFault", "Suspend", "Wait",
    "Event", "Go", "GoAt", "Sleep", "Recv", "Select", "Ask", "Answer", "Call", "Clone", "Fork", "Input", "Listen",
    "Accept", "Yield", "Arrived", "Refused", "Woke", "Message", "TimedOut", "Request", "Posed", "Reply", "Failed",
    "Cloned", "Forked", "InputReady",
]  # fmt: skip
