"""`poll_oneoff`: waiting for time, for input and for messages, without holding a thread.

If nothing is ready, the agent suspends with one wait: a sleep, or for input, for a message, or for whichever of
the two comes first, with the earliest timeout. Files and output are always ready.

Invariant: after a sleep the guest's monotonic clock has advanced at least by the time slept, so that a loop
"until the deadline has passed" ends, wherever it woke.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from agents.errors import CallFailed
from agents.hostcalls import received
from agents.waits import Failed, Input, InputReady, Listen, Message, Recv, Refused, Sleep, Suspend, TimedOut, Woke

from .abi import (
    ABSTIME,
    EBADF,
    EINVAL,
    EVENT,
    EVENT_CLOCK,
    EVENT_READ,
    EVENT_WRITE,
    FD_READ,
    FD_WRITE,
    HANGUP,
    MONOTONIC,
    REALTIME,
    SUBSCRIPTION,
    U64,
)
from .buffers import check_range
from .descriptors import Descriptor
from .streams import STDIN, InputStream

if TYPE_CHECKING:
    from agents.hostcalls import CallContext


@attrs.frozen
class PollSubscription:
    """What the guest waits for: a clock and a time, or a descriptor."""

    userdata: int
    kind: int
    clock_or_fd: int
    timeout: int
    flags: int


def poll_oneoff(ctx: CallContext, subscriptions: int, events: int, count: int, result: int) -> int | Suspend:
    """Wait until at least one subscription is ready, and report which are."""
    wanted = _subscriptions(ctx, subscriptions, count)
    check_range(ctx.memory, events, EVENT.size * count)
    check_range(ctx.memory, result, 4)
    state = ctx.wasi
    if ctx.event is not None:
        _take(ctx, wanted)
    monotonic, wall = state.monotonic(ctx.ambient), ctx.ambient.wall_ns()
    if ctx.event is None or state.polling is None:
        state.polling = (monotonic, wall)
    ready, first = _ready(ctx, wanted, monotonic)
    if not ready:
        if ctx.event is None:
            return _wait(ctx, wanted, first)
        ready = [_event(each, 0, 0) for each in wanted if each.kind == EVENT_CLOCK][:1]
    state.polling = None
    ctx.memory.write(events, b"".join(ready))
    ctx.memory.put_u32(result, len(ready))
    return 0


def _subscriptions(ctx: CallContext, pointer: int, count: int) -> list[PollSubscription]:
    if not 0 < count <= ctx.wasi.limits.subscriptions:
        raise CallFailed(EINVAL, f"{count} subscriptions")
    found = []
    for record in SUBSCRIPTION.iter_unpack(ctx.memory.read(pointer, SUBSCRIPTION.size * count)):
        userdata, kind, clock_or_fd, timeout, _, flags = record
        if kind > EVENT_WRITE or (kind == EVENT_CLOCK and (clock_or_fd > MONOTONIC or flags > ABSTIME)):
            raise CallFailed(EINVAL, "a subscription of no known kind, or to no clock")
        found.append(PollSubscription(userdata, kind, clock_or_fd, timeout, flags))
    return found


def _event(of: PollSubscription, error: int, size: int, flags: int = 0) -> bytes:
    return EVENT.pack(of.userdata, error, of.kind, size, flags)


def _left(ctx: CallContext, of: PollSubscription, monotonic: int) -> int:
    """Nanoseconds of the guest's time until a clock subscription is ready; 0 or less if it is."""
    began, began_wall = ctx.wasi.polling
    passed = monotonic - began
    if not of.flags & ABSTIME:
        return int(of.timeout - passed)
    now = began_wall + passed if of.clock_or_fd == REALTIME else monotonic
    return int(of.timeout - now)


def _ready(ctx: CallContext, wanted: list[PollSubscription], monotonic: int) -> tuple[list[bytes], int | None]:
    """The events of all ready subscriptions, and how long the first clock has left (None without a clock)."""
    ready: list[bytes] = []
    first: int | None = None
    for each in wanted:
        if each.kind == EVENT_CLOCK:
            left = _left(ctx, each, monotonic)
            if left <= 0:
                ready.append(_event(each, 0, 0))
            first = left if first is None else min(first, left)
            continue
        found: Descriptor | None = ctx.wasi.table.open.get(each.clock_or_fd)
        right = FD_READ if each.kind == EVENT_READ else FD_WRITE
        if found is None or found.directory is not None or found.thing is None or not found.rights & right:
            ready.append(_event(each, EBADF, 0))
        elif each.kind == EVENT_WRITE:
            ready.append(_event(each, 0, 1))
        elif found.file is not None:
            size = max(found.file.size() - found.offset, 0)
            ready.append(_event(each, 0, size, 0 if size else HANGUP))
        elif found.channel is not None:
            pending = found.channel.pending(ctx)
            if pending is not None:
                at_end = not pending and isinstance(found.channel, InputStream)
                ready.append(_event(each, 0, pending, HANGUP if at_end else 0))
    return ready, first


def _wait(ctx: CallContext, wanted: list[PollSubscription], first: int | None) -> Suspend:
    """What to wait for if nothing is ready; `polling` records when the wait began."""
    timeout = None if first is None else min(first, U64)
    channels = [ctx.wasi.table.open[each.clock_or_fd].channel for each in wanted if each.kind != EVENT_CLOCK]
    from_stdin = [isinstance(each, InputStream) for each in channels]
    if not from_stdin:
        return Suspend(Sleep(timeout or 0))
    if all(from_stdin):
        return Suspend(Input(STDIN, timeout))
    return Suspend(Listen(STDIN, timeout) if any(from_stdin) else Recv(timeout))


def _take(ctx: CallContext, wanted: list[PollSubscription]) -> None:
    """Take in the event's data, and advance the clock by the time slept."""
    event: Any = ctx.event
    if isinstance(event, (Refused, Failed)):
        ctx.wasi.polling = None
        raise CallFailed(event.errno, event.reason)
    if isinstance(event, (Woke, TimedOut)) and ctx.wasi.polling is not None:
        began = ctx.wasi.polling[0]
        left = [_left(ctx, each, began) for each in wanted if each.kind == EVENT_CLOCK]
        if left:
            ctx.wasi.pass_time(ctx.ambient, began + min(left))
    elif isinstance(event, Message):
        ctx.kept.message = event
        received(ctx, event)
    elif isinstance(event, InputReady):
        ctx.wasi.stdin.take(ctx)
