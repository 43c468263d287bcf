"""WASI preview 1 for an agent: every function of `wasi_snapshot_preview1`, by name.

The tables at the end are what a runtime links. A function takes a `hostcalls.CallContext` and the guest's numbers
and returns an errno or `Suspend`; when the wait is over, it is called again with `ctx.event`. It raises
`CallFailed` and `GuestFault`, which the runtime turns into an errno, and `EndOfRun`.

Nothing here belongs to the station: time, randomness and output go through `ctx.ambient`; state is in `ctx.wasi`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn

from agents.errors import CallFailed, EndOfRun
from agents.waits import Suspend, Yield

from . import fd_calls as fd
from . import path_calls as path
from .abi import EBADF, EINVAL, ENOTSUP, MONOTONIC, REALTIME
from .buffers import check_range, strings
from .poll import poll_oneoff

if TYPE_CHECKING:
    from agents.hostcalls import CallContext

WASI_MODULE = "wasi_snapshot_preview1"
_CLOCKS = 4
_RANDOM_CHUNK = 1 << 16  # even if a guest asks for its whole memory in random bytes, only this much is buffered here


def args_get(ctx: CallContext, vector: int, buffer: int) -> int:
    """The arguments."""
    strings(ctx, ctx.wasi.args, vector, buffer)
    return 0


def environ_get(ctx: CallContext, vector: int, buffer: int) -> int:
    """The environment, NAME=value."""
    strings(ctx, ctx.wasi.environ, vector, buffer)
    return 0


def _sizes(ctx: CallContext, texts: tuple[bytes, ...], count: int, size: int) -> int:
    check_range(ctx.memory, size, 4)
    ctx.memory.put_u32(count, len(texts))
    ctx.memory.put_u32(size, sum(len(text) + 1 for text in texts))
    return 0


def args_sizes_get(ctx: CallContext, count: int, size: int) -> int:
    """How many arguments there are, and their bytes with NULs."""
    return _sizes(ctx, ctx.wasi.args, count, size)


def environ_sizes_get(ctx: CallContext, count: int, size: int) -> int:
    """How many variables there are, and their bytes with NULs."""
    return _sizes(ctx, ctx.wasi.environ, count, size)


def _check_clock(clock: int) -> None:
    if clock >= _CLOCKS:
        raise CallFailed(EINVAL, f"clock {clock}")
    if clock > MONOTONIC:
        raise CallFailed(EBADF, "an agent's processor time is not shown to it")


def clock_res_get(ctx: CallContext, clock: int, result: int) -> int:
    """The resolution of a clock: a nanosecond, nominally."""
    _check_clock(clock)
    ctx.memory.put_u64(result, 1)
    return 0


def clock_time_get(ctx: CallContext, clock: int, precision: int, result: int) -> int:
    """The station's wall clock, or the agent's own monotonic one."""
    _check_clock(clock)
    now = ctx.ambient.wall_ns() if clock == REALTIME else ctx.wasi.monotonic(ctx.ambient)
    ctx.memory.put_u64(result, now)
    return 0


def random_get(ctx: CallContext, buffer: int, size: int) -> int:
    """Random bytes from the station; never part of a snapshot."""
    check_range(ctx.memory, buffer, size)
    for start in range(0, size, _RANDOM_CHUNK):
        ctx.memory.write(buffer + start, ctx.ambient.random(min(_RANDOM_CHUNK, size - start)))
    return 0


def sched_yield(ctx: CallContext) -> int | Suspend:
    """Let others run."""
    return Suspend(Yield()) if ctx.event is None else 0


def proc_exit(ctx: CallContext, code: int) -> NoReturn:
    """End the agent."""
    raise EndOfRun(code)


def proc_raise(ctx: CallContext, signal: int) -> int:
    """Fails: an agent has no signals."""
    return ENOTSUP


# Parameter and result types as letters: i i32, I i64.
SIGNATURES: Mapping[str, tuple[str, str]] = {
    "args_get": ("ii", "i"),
    "args_sizes_get": ("ii", "i"),
    "clock_res_get": ("ii", "i"),
    "clock_time_get": ("iIi", "i"),
    "environ_get": ("ii", "i"),
    "environ_sizes_get": ("ii", "i"),
    "fd_advise": ("iIIi", "i"),
    "fd_allocate": ("iII", "i"),
    "fd_close": ("i", "i"),
    "fd_datasync": ("i", "i"),
    "fd_fdstat_get": ("ii", "i"),
    "fd_fdstat_set_flags": ("ii", "i"),
    "fd_fdstat_set_rights": ("iII", "i"),
    "fd_filestat_get": ("ii", "i"),
    "fd_filestat_set_size": ("iI", "i"),
    "fd_filestat_set_times": ("iIIi", "i"),
    "fd_pread": ("iiiIi", "i"),
    "fd_prestat_dir_name": ("iii", "i"),
    "fd_prestat_get": ("ii", "i"),
    "fd_pwrite": ("iiiIi", "i"),
    "fd_read": ("iiii", "i"),
    "fd_readdir": ("iiiIi", "i"),
    "fd_renumber": ("ii", "i"),
    "fd_seek": ("iIii", "i"),
    "fd_sync": ("i", "i"),
    "fd_tell": ("ii", "i"),
    "fd_write": ("iiii", "i"),
    "path_create_directory": ("iii", "i"),
    "path_filestat_get": ("iiiii", "i"),
    "path_filestat_set_times": ("iiiiIIi", "i"),
    "path_link": ("iiiiiii", "i"),
    "path_open": ("iiiiiIIii", "i"),
    "path_readlink": ("iiiiii", "i"),
    "path_remove_directory": ("iii", "i"),
    "path_rename": ("iiiiii", "i"),
    "path_symlink": ("iiiii", "i"),
    "path_unlink_file": ("iii", "i"),
    "poll_oneoff": ("iiii", "i"),
    "proc_exit": ("i", ""),
    "proc_raise": ("i", "i"),
    "random_get": ("ii", "i"),
    "sched_yield": ("", "i"),
    "sock_accept": ("iii", "i"),
    "sock_recv": ("iiiiii", "i"),
    "sock_send": ("iiiii", "i"),
    "sock_shutdown": ("ii", "i"),
}

WASI_FUNCTIONS: Mapping[str, Callable[..., int | Suspend | None]] = {
    "args_get": args_get,
    "args_sizes_get": args_sizes_get,
    "clock_res_get": clock_res_get,
    "clock_time_get": clock_time_get,
    "environ_get": environ_get,
    "environ_sizes_get": environ_sizes_get,
    "poll_oneoff": poll_oneoff,
    "proc_exit": proc_exit,
    "proc_raise": proc_raise,
    "random_get": random_get,
    "sched_yield": sched_yield,
    **dict.fromkeys(("sock_accept", "sock_recv", "sock_send", "sock_shutdown"), fd.sock_call),
    **{name: getattr(fd, name) for name in SIGNATURES if name.startswith("fd_")},
    **{name: getattr(path, name) for name in SIGNATURES if name.startswith("path_")},
}
