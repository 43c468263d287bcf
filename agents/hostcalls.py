"""The calls an agent makes of its station: ABI version 1, the imports of the module `portcall`.

Each call exists once, as a function over Python values (`go(ctx, host)`, `recv(ctx, timeout_ns)` ...). Two
roads lead to them: the imports below (`IMPORTS`), which read and write the guest's memory, and the files
under `/portcall/` of the virtual WASI. So both give the same answers and the same errors.

This is neither the station (that is an `Ambient`, given from outside) nor the network: `go` ends as a value.

A value function returns its result, or `Suspend(wait)` when the agent has to wait. It is then called again,
with the same arguments and `ctx.event` set, and returns the result that the guest sees. It raises
`CallFailed(errno)` for what the guest sees as an error, and `EndOfRun` when the agent is over.

Invariants: no call blocks; nothing here reads a clock or a random source except through the ambient; every
length that comes from the guest is bounded before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

import attrs

from .errors import CallFailed, EndOfRun, GuestFault
from .waits import (
    BODY_MAX,
    ENTRY_MAX,
    HOST_MAX,
    SERVICE_MAX,
    Arrived,
    Call,
    Clone,
    Cloned,
    Event,
    Failed,
    Go,
    GoAt,
    Input,
    InputReady,
    Kept,
    Listen,
    Message,
    Recv,
    Refused,
    Reply,
    Sleep,
    Suspend,
    TimedOut,
    Wait,
    Woke,
    Yield,
)

ABI_VERSION = 1
KEY_MAX = 256  # bytes of UTF-8 in the key of a result
LOG_MAX = 8192  # bytes of one log line; longer ones are cut, so that a flood costs the agent's time, not ours
_U32 = 0xFFFFFFFF

# WASI preview 1 error numbers (witx `errno`) that the calls themselves answer with.
EACCES, EAGAIN, EBUSY, EFAULT, EHOSTUNREACH, EILSEQ, EINVAL = 2, 6, 10, 21, 23, 25, 28
EIO, EMSGSIZE, ENAMETOOLONG, ENOENT, ENOSPC, ENOSYS, ENOTSUP, ETIMEDOUT = 29, 35, 37, 44, 51, 52, 58, 73


class GuestMemory:
    """The agent's own memory, as host functions see it: every access is checked against its present size.

    `view` is a writable memoryview of bytes. The runtime calls `rebind` when the memory has moved or grown.
    """

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view

    def rebind(self, view: memoryview) -> None:
        """From now on, look at `view`."""
        self.view = view

    def __len__(self) -> int:
        """Size in bytes."""
        return len(self.view)

    def read(self, pointer: int, size: int) -> bytes:
        """`size` bytes at `pointer`. Raises `GuestFault` when any lies outside."""
        if pointer < 0 or size < 0 or pointer + size > len(self.view):
            raise GuestFault(f"{size} bytes at {pointer} lie outside the memory of {len(self.view)}")
        return bytes(self.view[pointer : pointer + size])

    def write(self, pointer: int, data: bytes | bytearray | memoryview) -> None:
        """Put `data` at `pointer`. Raises `GuestFault`, and writes nothing, when any would lie outside."""
        if pointer < 0 or pointer + len(data) > len(self.view):
            raise GuestFault(f"{len(data)} bytes at {pointer} lie outside the memory of {len(self.view)}")
        self.view[pointer : pointer + len(data)] = data

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
    """The station's side of the calls that do not wait. Given by the station; nothing in it travels."""

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
        """Take one line of the agent's log; level 0 error, 1 warning, 2 information, 3 detail."""

    def output(self, fd: int, data: bytes) -> None:
        """Take bytes that the agent wrote to its standard output (`fd` 1) or error (2), at most a few MB."""

    def report(self, key: str, value: bytes) -> None:
        """Append a result. Raises `CallFailed` when the permit's budget is used up."""

    def lookup(self, service: str) -> tuple[str, ...]:
        """Names of stations that offer `service`, best first."""

    def send(self, to: str, body: bytes) -> None:
        """Hand a message over for delivery. Raises `CallFailed` when it cannot be taken."""


@attrs.define
class Context:
    """What a host function gets: the guest's memory, its virtual WASI, the station, the event that woke it.

    `call(export, *args)` runs an export of the agent from inside a host function; while it runs, the agent
    cannot suspend (its frames would lie under one of the station's), and waits are answered with EBUSY.
    """

    memory: GuestMemory
    ambient: Ambient
    wasi: Any = None
    event: Event | None = None
    kept: Kept = attrs.field(factory=Kept)
    call: Callable[..., Any] | None = None
    has_export: Callable[[str], bool] | None = None


# `(ctx, *args) -> result`. Arguments and results are bits, never negative: an i32 is 0 .. 2**32 - 1 (a
# pointer is an index as it stands), an i64 0 .. 2**64 - 1, a float its pattern. A negative result is
# taken modulo 2**32 or 2**64.
HostFunction = Callable[..., int | Suspend | None]


@attrs.frozen
class HostImport:
    """One import: its parameter and result types as letters (i i32, I i64, f f32, F f64) and its function."""

    params: str
    results: str
    function: HostFunction


# --- the calls, over Python values ---


def go(ctx: Context, host: str) -> Suspend | None:
    """Move to `host`, stack and all. None means: arrived there."""
    if ctx.event is None:
        return Suspend(Go(_name(host, HOST_MAX)))
    _expect(ctx, Arrived)
    return None


def go_at(ctx: Context, host: str, entry: str) -> Suspend:
    """Move to `host` without the stack; the export `entry` is called there. Never returns on success."""
    if ctx.event is not None:
        _expect(ctx)
    if ctx.has_export is not None and not ctx.has_export(_name(entry, ENTRY_MAX)):
        raise CallFailed(ENOENT, f"the agent exports no function {entry!r} that can be called on arrival")
    return Suspend(GoAt(_name(host, HOST_MAX), _name(entry, ENTRY_MAX)))


def here(ctx: Context) -> str:
    """This station's name."""
    return ctx.ambient.station


def me(ctx: Context) -> str:
    """This agent's id."""
    return ctx.ambient.agent_id


def next_stop(ctx: Context) -> str:
    """The itinerary's next stop; empty at its end."""
    return ctx.ambient.next_stop


def call(ctx: Context, service: str, request: bytes) -> Suspend | bytes:
    """The reply of the station's service `service` to `request`."""
    if ctx.event is None:
        _bounded(request, BODY_MAX)
        return Suspend(Call(_name(service, SERVICE_MAX), bytes(request)))
    return _expect(ctx, Reply).body  # type: ignore[no-any-return]


def send(ctx: Context, to: str, body: bytes) -> None:
    """Hand `body` over for delivery to the agent `to`."""
    ctx.ambient.send(_name(to, HOST_MAX), _bounded(body, BODY_MAX))


def recv(ctx: Context, timeout_ns: int | None = None) -> Suspend | Message | None:
    """The next message; None when `timeout_ns` nanoseconds passed without one (None waits for ever)."""
    if ctx.event is None:
        _look_at_clock(ctx)
        return Suspend(Recv(timeout_ns))
    if isinstance(ctx.event, TimedOut):
        _let_pass(ctx, timeout_ns or 0)
        return None
    message: Message = _expect(ctx, Message)
    ctx.kept.sender = message.sender
    return message


def sleep(ctx: Context, ns: int) -> Suspend | None:
    """Sleep for `ns` nanoseconds."""
    if ctx.event is None:
        _look_at_clock(ctx)
        return Suspend(Sleep(ns))
    _expect(ctx, Woke)
    _let_pass(ctx, ns)
    return None


def clone(ctx: Context) -> Suspend | Cloned:
    """Become two agents: the original gets `Cloned(child id)`, the clone `Cloned(None)`."""
    if ctx.event is None:
        return Suspend(Clone())
    return _expect(ctx, Cloned)  # type: ignore[no-any-return]


def report(ctx: Context, key: str, value: bytes) -> None:
    """Append a result to the agent's signed chain."""
    ctx.ambient.report(_name(key, KEY_MAX), _bounded(value, BODY_MAX))


def log(ctx: Context, level: int, text: str) -> None:
    """One line for the station's log: level 0 error, 1 warning, 2 information, 3 detail."""
    ctx.ambient.log(min(level, 3), text)


def lookup(ctx: Context, service: str) -> tuple[str, ...]:
    """Names of stations that offer `service`, best first; empty when none is known."""
    return ctx.ambient.lookup(_name(service, SERVICE_MAX))


def exit(ctx: Context, code: int) -> NoReturn:
    """End the agent with exit code `code`."""
    raise EndOfRun(code & _U32)


def _look_at_clock(ctx: Context) -> None:
    """So that `_let_pass` knows when the wait began."""
    if ctx.wasi is not None:
        ctx.wasi.monotonic(ctx.ambient)


def _let_pass(ctx: Context, ns: int) -> None:
    """The agent's monotonic clock shows that it slept, wherever it was meanwhile."""
    if ctx.wasi is not None:
        ctx.wasi.slept(ctx.ambient, ns)


def _name(text: str, most: int) -> str:
    """`text`, when it may name something. Raises `CallFailed`."""
    if not text or "\0" in text:
        raise CallFailed(EINVAL, "an empty name, or one with a NUL in it")
    if len(text.encode("utf-8", "replace")) > most:
        raise CallFailed(ENAMETOOLONG, f"a name of more than {most} bytes")
    return text


def _bounded(body: bytes, most: int) -> bytes:
    if len(body) > most:
        raise CallFailed(EMSGSIZE, f"{len(body)} bytes where at most {most} are taken")
    return body


def _expect(ctx: Context, kind: type[Any] | None = None) -> Any:
    """The event, of class `kind`. A refusal or a failure becomes `CallFailed`."""
    event = ctx.event
    if isinstance(event, (Refused, Failed)):
        raise CallFailed(event.errno, event.reason)
    if kind is None or not isinstance(event, kind):
        raise CallFailed(EIO, f"{type(event).__name__} is not the event that this call waits for")
    return event


# --- the same calls as imports ---


def _text(ctx: Context, pointer: int, size: int, most: int) -> str:
    """A string of the guest's. Raises `CallFailed` or `GuestFault`."""
    size &= _U32
    if size > most:
        raise CallFailed(ENAMETOOLONG, f"a name of {size} bytes where at most {most} are taken")
    try:
        return ctx.memory.read(pointer & _U32, size).decode()
    except UnicodeDecodeError:
        raise CallFailed(EILSEQ, "a string that is not UTF-8") from None


def _data(ctx: Context, pointer: int, size: int) -> bytes:
    size &= _U32
    if size > BODY_MAX:
        raise CallFailed(EMSGSIZE, f"{size} bytes where at most {BODY_MAX} are taken")
    return ctx.memory.read(pointer & _U32, size)


def _give(ctx: Context, pointer: int, capacity: int, data: bytes) -> int:
    """Put as much of `data` as fits; the result is its full length."""
    ctx.memory.write(pointer & _U32, data[: capacity & _U32])
    return len(data)


def _go(ctx: Context, host: int, size: int) -> int | Suspend:
    return go(ctx, _text(ctx, host, size, HOST_MAX)) or 0


def _go_at(ctx: Context, host: int, size: int, entry: int, entry_size: int) -> int | Suspend:
    return go_at(ctx, _text(ctx, host, size, HOST_MAX), _text(ctx, entry, entry_size, ENTRY_MAX))


def _here(ctx: Context, buffer: int, capacity: int) -> int:
    return _give(ctx, buffer, capacity, here(ctx).encode())


def _me(ctx: Context, buffer: int, capacity: int) -> int:
    return _give(ctx, buffer, capacity, me(ctx).encode())


def _next_stop(ctx: Context, buffer: int, capacity: int) -> int:
    return _give(ctx, buffer, capacity, next_stop(ctx).encode())


def _call(
    ctx: Context, service: int, size: int, request: int, request_size: int, reply: int, capacity: int
) -> int | Suspend:
    name, body = _text(ctx, service, size, SERVICE_MAX), _data(ctx, request, request_size)
    if ctx.kept.reply is not None and ctx.event is None:
        if ctx.kept.reply[:2] == (name, body):
            return _give_or_keep_reply(ctx, reply, capacity, name, body, ctx.kept.reply[2])
        ctx.kept.reply = None
    answer = call(ctx, name, body)
    if isinstance(answer, Suspend):
        return answer
    return _give_or_keep_reply(ctx, reply, capacity, name, body, answer)


def _give_or_keep_reply(
    ctx: Context, reply: int, capacity: int, name: str, body: bytes, answer: bytes
) -> int:
    ctx.kept.reply = (name, body, answer) if len(answer) > capacity & _U32 else None
    return _give(ctx, reply, capacity, answer)


def _send(ctx: Context, to: int, size: int, message: int, message_size: int) -> int:
    send(ctx, _text(ctx, to, size, HOST_MAX), _data(ctx, message, message_size))
    return 0


def _recv(ctx: Context, buffer: int, capacity: int, timeout_ms: int) -> int | Suspend:
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


def _sender(ctx: Context, buffer: int, capacity: int) -> int:
    return _give(ctx, buffer, capacity, ctx.kept.sender.encode())


def _sleep(ctx: Context, ms: int) -> int | Suspend:
    return sleep(ctx, (ms & _U32) * 1_000_000) or 0


def _clone(ctx: Context, buffer: int, capacity: int) -> int | Suspend:
    done = clone(ctx)
    if isinstance(done, Suspend):
        return done
    ident = (ctx.ambient.agent_id if done.child is None else done.child).encode() + b"\0"
    ctx.memory.write(buffer & _U32, ident[: capacity & _U32])
    return 0 if done.child is None else 1


def _report(ctx: Context, key: int, size: int, value: int, value_size: int) -> int:
    report(ctx, _text(ctx, key, size, KEY_MAX), _data(ctx, value, value_size))
    return 0


def _log(ctx: Context, level: int, text: int, size: int) -> int:
    line = ctx.memory.read(text & _U32, min(size & _U32, LOG_MAX))
    log(ctx, level, line.decode("utf-8", "replace"))
    return 0


def _lookup(ctx: Context, service: int, size: int, buffer: int, capacity: int) -> int:
    stations = lookup(ctx, _text(ctx, service, size, SERVICE_MAX))
    return _give(ctx, buffer, capacity, "\n".join(stations).encode())


def _exit(ctx: Context, code: int) -> NoReturn:
    exit(ctx, code)


# A module may declare any of these without its result.
IMPORTS: Mapping[str, HostImport] = {
    "go": HostImport("ii", "i", _go),
    "go_at": HostImport("iiii", "i", _go_at),
    "here": HostImport("ii", "i", _here),
    "me": HostImport("ii", "i", _me),
    "next_stop": HostImport("ii", "i", _next_stop),
    "call": HostImport("iiiiii", "i", _call),
    "send": HostImport("iiii", "i", _send),
    "recv": HostImport("iii", "i", _recv),
    "sender": HostImport("ii", "i", _sender),
    "sleep": HostImport("i", "i", _sleep),
    "clone": HostImport("ii", "i", _clone),
    "report": HostImport("iiii", "i", _report),
    "log": HostImport("iii", "i", _log),
    "lookup": HostImport("iiii", "i", _lookup),
    "exit": HostImport("i", "", _exit),
}

__all__ = [  # noqa: RUF022 - the calls in the ABI's order, then their types
    "go", "go_at", "here", "me", "next_stop", "call", "send", "recv", "sleep", "clone", "report", "log",
    "lookup", "exit", "ABI_VERSION", "IMPORTS", "HostImport", "HostFunction", "GuestMemory", "Ambient",
    "Context", "Kept", "CallFailed", "EndOfRun", "GuestFault", "Suspend", "Wait", "Event", "Go", "GoAt",
    "Sleep", "Recv", "Call", "Clone", "Input", "Listen", "Yield", "Arrived", "Refused", "Woke", "Message",
    "TimedOut", "Reply", "Failed", "Cloned", "InputReady",
]  # fmt: skip
