"""Guest memory as the WASI functions use it: buffer lists, names, results.

Invariants: every pointer is checked before the call has any effect, so EFAULT means that nothing
happened; `Limits.io_bytes` bounds what one call can make the host copy, however the buffers overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.errors import CallFailed, GuestFault

from .abi import EINVAL, ENAMETOOLONG, IOVEC
from .paths import Route, parse
from .vfs import Bytes

if TYPE_CHECKING:
    from agents.hostcalls import CallContext, GuestMemory


def check_range(memory: GuestMemory, pointer: int, size: int) -> None:
    """Raises `GuestFault` if the range is outside the memory."""
    if pointer + size > len(memory):
        raise GuestFault(f"{size} bytes at {pointer} lie outside the memory of {len(memory)}")


def buffers(ctx: CallContext, vector: int, count: int) -> list[tuple[int, int]]:
    """The (pointer, size) pairs of an iovec array, all inside the memory, cut to `Limits.io_bytes` in total."""
    view, limits = ctx.memory.direct, ctx.wasi.limits
    if count > limits.buffers:
        raise CallFailed(EINVAL, f"{count} buffers in one call")
    end = vector + 8 * count
    if end > len(view):
        raise GuestFault("a list of buffers outside the memory")
    ctx.memory.reach(vector, 8 * count)
    found, room = [], limits.io_bytes
    for pointer, size in IOVEC.iter_unpack(view[vector:end]):
        if pointer + size > len(view):
            raise GuestFault("a buffer outside the memory")
        found.append((pointer, min(size, room)))
        room -= found[-1][1]
    return found


def gather(ctx: CallContext, vector: int, count: int) -> bytes:
    """The bytes that a ciovec array points to, at most `Limits.io_bytes`."""
    memory = ctx.memory
    view = memory.direct
    if count == 1:  # nearly every write
        if vector + 8 > len(view):
            raise GuestFault("a list of buffers outside the memory")
        memory.reach(vector, 8)
        pointer, size = IOVEC.unpack_from(view, vector)
        end = pointer + size
        if end > len(view):
            raise GuestFault("a buffer outside the memory")
        if size <= ctx.wasi.limits.io_bytes:
            memory.reach(pointer, size)
            return bytes(view[pointer:end])
    found = buffers(ctx, vector, count)
    for pointer, size in found:
        memory.reach(pointer, size)
    return b"".join([view[pointer : pointer + size] for pointer, size in found])


def scatter(memory: GuestMemory, targets: list[tuple[int, int]], data: Bytes) -> None:
    """Put `data` into the buffers, in order. It must not be longer than the buffers together."""
    view, start = memory.direct, 0
    for pointer, size in targets:
        part = data[start : start + size] if start or size < len(data) else data
        memory.reach(pointer, len(part))
        view[pointer : pointer + len(part)] = part
        start += len(part)
        if start >= len(data):
            return


def read_route(ctx: CallContext, pointer: int, size: int) -> Route:
    """The path at `pointer`. Raises what `paths.parse` raises."""
    if size > ctx.wasi.limits.path_bytes:
        raise CallFailed(ENAMETOOLONG, f"a path of {size} bytes")
    return parse(ctx.memory.read(pointer, size), ctx.wasi.limits)


def strings(ctx: CallContext, texts: tuple[bytes, ...], vector: int, pointer: int) -> None:
    """Put NUL-terminated `texts` at `pointer`, and the address of each into the array at `vector`."""
    memory = ctx.memory
    check_range(memory, vector, 4 * len(texts))
    check_range(memory, pointer, sum(len(text) + 1 for text in texts))
    for index, text in enumerate(texts):
        memory.put_u32(vector + 4 * index, pointer)
        memory.write(pointer, text + b"\0")
        pointer += len(text) + 1
