"""The functions of WASI preview 1 whose names begin with `fd_`, and the socket functions, which all fail.

Each takes the context and the guest's numbers (never negative) and returns an errno or `Suspend`; it raises
`CallFailed` and `GuestFault`, which the runtime turns into an errno. This is the hot path of every agent that
prints: `fd_write` and `fd_read` avoid everything that a small buffer does not need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.errors import CallFailed, GuestFault
from agents.waits import Suspend

from .abi import (
    APPEND,
    ATIM,
    ATIM_NOW,
    DIRECTORY,
    DIRENT,
    EBADF,
    EFBIG,
    EINVAL,
    ENAMETOOLONG,
    ENOTCAPABLE,
    ENOTDIR,
    ENOTSOCK,
    ESPIPE,
    FD_ADVISE,
    FD_ALLOCATE,
    FD_DATASYNC,
    FD_FDSTAT_SET_FLAGS,
    FD_FILESTAT_GET,
    FD_FILESTAT_SET_SIZE,
    FD_FILESTAT_SET_TIMES,
    FD_READ,
    FD_READDIR,
    FD_SEEK,
    FD_SYNC,
    FD_TELL,
    FD_WRITE,
    FDSTAT,
    FILESTAT,
    MTIM,
    MTIM_NOW,
    NONBLOCK,
    OFFSET_MAX,
    PRESTAT,
    REGULAR_FILE,
    SIZE,
    WHENCE_CUR,
    WHENCE_END,
    WHENCE_SET,
)
from .buffers import buffers, check_range, gather, scatter
from .descriptors import Descriptor
from .vfs import File, Stat

if TYPE_CHECKING:
    from agents.hostcalls import CallContext

_ADVICES = 6


def new_times(ctx: CallContext, atim: int, mtim: int, flags: int) -> tuple[int | None, int | None, int]:
    """The times to set, and the current time. Raises EINVAL for contradictory flags."""
    if flags > 15 or (flags & ATIM and flags & ATIM_NOW) or (flags & MTIM and flags & MTIM_NOW):
        raise CallFailed(EINVAL, "a time given and now as well")
    now = ctx.ambient.wall_ns()
    return (
        now if flags & ATIM_NOW else atim if flags & ATIM else None,
        now if flags & MTIM_NOW else mtim if flags & MTIM else None,
        now,
    )


def put_stat(ctx: CallContext, pointer: int, stat: Stat) -> int:
    """Put a `filestat` at `pointer`; returns success."""
    ctx.memory.write(pointer, FILESTAT.pack(*stat))
    return 0


def _file(ctx: CallContext, fd: int, rights: int) -> tuple[Descriptor, File]:
    """A descriptor with these rights, and its file. Raises ESPIPE for a stream, EBADF for a directory."""
    found = ctx.wasi.table.get(fd)
    if found.channel is not None:
        raise CallFailed(ESPIPE, f"descriptor {fd} has no offsets")
    if found.file is None:
        raise CallFailed(EBADF, f"descriptor {fd} is a directory")
    ctx.wasi.table.get(fd, rights)
    return found, found.file


# --- reading and writing ---


def fd_write(ctx: CallContext, fd: int, vector: int, count: int, result: int) -> int | Suspend:
    """Write the buffers at the offset, or at the end if the descriptor appends."""
    found: Descriptor | None = ctx.wasi.table.open.get(fd)
    if found is None or not found.rights & FD_WRITE:
        found = ctx.wasi.table.get(fd, FD_WRITE)
    data = gather(ctx, vector, count)
    view = ctx.memory.direct
    if result + 4 > len(view):
        raise GuestFault("a result outside the memory")
    ctx.memory.reach(result, 4)
    channel, file = found.channel, found.file
    if channel is not None:
        taken = channel.write(ctx, data)
        if isinstance(taken, Suspend):
            return taken
    elif file is not None:
        if found.flags & APPEND:
            found.offset, taken = file.append(data, ctx.ambient.wall_ns())
        else:
            taken = file.pwrite(found.offset, data, ctx.ambient.wall_ns())
    else:
        raise CallFailed(EBADF, f"descriptor {fd} is a directory, or lost")
    found.offset = min(found.offset + taken, OFFSET_MAX)
    SIZE.pack_into(view, result, taken)
    return 0


def fd_read(ctx: CallContext, fd: int, vector: int, count: int, result: int) -> int | Suspend:
    """Read from the offset into the buffers."""
    found: Descriptor | None = ctx.wasi.table.open.get(fd)
    if found is None or not found.rights & FD_READ:
        found = ctx.wasi.table.get(fd, FD_READ)
    targets = buffers(ctx, vector, count)
    view = ctx.memory.direct
    if result + 4 > len(view):
        raise GuestFault("a result outside the memory")
    ctx.memory.reach(result, 4)
    size = targets[0][1] if count == 1 else sum(size for _, size in targets)
    if found.channel is not None:
        data = found.channel.read(ctx, size, not found.flags & NONBLOCK)
        if isinstance(data, Suspend):
            return data
    elif found.file is not None:
        data = found.file.pread(found.offset, size)
    else:
        raise CallFailed(EBADF, f"descriptor {fd} is a directory, or lost")
    if count == 1:
        ctx.memory.reach(targets[0][0], len(data))
        view[targets[0][0] : targets[0][0] + len(data)] = data
    else:
        scatter(ctx.memory, targets, data)
    found.offset = min(found.offset + len(data), OFFSET_MAX)
    SIZE.pack_into(view, result, len(data))
    return 0


def fd_pwrite(ctx: CallContext, fd: int, vector: int, count: int, offset: int, result: int) -> int:
    """Write at `offset`; does not move the descriptor's own."""
    _, file = _file(ctx, fd, FD_WRITE | FD_SEEK)
    data = gather(ctx, vector, count)
    check_range(ctx.memory, result, 4)
    if offset > OFFSET_MAX:
        raise CallFailed(EINVAL, "a negative offset")
    ctx.memory.put_u32(result, file.pwrite(offset, data, ctx.ambient.wall_ns()))
    return 0


def fd_pread(ctx: CallContext, fd: int, vector: int, count: int, offset: int, result: int) -> int:
    """Read from `offset`; does not move the descriptor's own."""
    _, file = _file(ctx, fd, FD_READ | FD_SEEK)
    targets = buffers(ctx, vector, count)
    check_range(ctx.memory, result, 4)
    if offset > OFFSET_MAX:
        raise CallFailed(EINVAL, "a negative offset")
    data = file.pread(offset, sum(size for _, size in targets))
    scatter(ctx.memory, targets, data)
    ctx.memory.put_u32(result, len(data))
    return 0


def fd_seek(ctx: CallContext, fd: int, offset: int, whence: int, result: int) -> int:
    """Move the offset; `offset` is signed."""
    found: Descriptor = ctx.wasi.table.get(fd)
    if found.directory is not None:
        raise CallFailed(EBADF, f"descriptor {fd} is a directory")
    if whence not in (WHENCE_SET, WHENCE_CUR, WHENCE_END):
        raise CallFailed(EINVAL, f"whence {whence}")
    delta = offset - (1 << 64) if offset >> 63 else offset
    if found.channel is not None and not found.rights & FD_SEEK:
        raise CallFailed(ESPIPE, f"descriptor {fd} has no offsets")
    asking = whence == WHENCE_CUR and not delta
    if not found.rights & (FD_SEEK | FD_TELL if asking else FD_SEEK):
        raise CallFailed(ENOTCAPABLE, f"descriptor {fd} may not be moved")
    start = 0 if whence == WHENCE_SET else found.offset
    if whence == WHENCE_END:
        start = found.file.size() if found.file is not None else found.offset
    target = start + delta
    if not 0 <= target <= OFFSET_MAX:
        raise CallFailed(EINVAL, "an offset before the start, or beyond all files")
    check_range(ctx.memory, result, 8)
    if found.channel is not None and not found.channel.seek(found.offset, target):
        raise CallFailed(ESPIPE, f"descriptor {fd} has no offsets")
    found.offset = target
    ctx.memory.put_u64(result, target)
    return 0


def fd_tell(ctx: CallContext, fd: int, result: int) -> int:
    """The offset."""
    found: Descriptor = ctx.wasi.table.get(fd)
    if found.directory is not None:
        raise CallFailed(EBADF, f"descriptor {fd} is a directory")
    if found.channel is not None and not found.rights & FD_TELL:
        raise CallFailed(ESPIPE, f"descriptor {fd} has no offsets")
    ctx.wasi.table.get(fd, FD_TELL)
    ctx.memory.put_u64(result, found.offset)
    return 0


def fd_readdir(ctx: CallContext, fd: int, buffer: int, size: int, cookie: int, result: int) -> int:
    """Fill the buffer with directory entries from `cookie` on; the last may be cut. A buffer not filled is the end."""
    found: Descriptor = ctx.wasi.table.get(fd)
    if found.directory is None:
        raise CallFailed(ENOTDIR, f"descriptor {fd} is not a directory")
    ctx.wasi.table.get(fd, FD_READDIR)
    check_range(ctx.memory, buffer, size)
    check_range(ctx.memory, result, 4)
    lines, most = bytearray(), min(size, ctx.wasi.limits.io_bytes)
    for following, inode, kind, name in found.directory.entries(cookie):
        lines += DIRENT.pack(following, inode, len(name), kind)
        lines += name
        if len(lines) >= most:
            break
    ctx.memory.write(buffer, lines[:most])
    ctx.memory.put_u32(result, min(len(lines), most))
    return 0


# --- attributes ---


def fd_fdstat_get(ctx: CallContext, fd: int, result: int) -> int:
    """Filetype, flags and rights of a descriptor."""
    found: Descriptor = ctx.wasi.table.get(fd)
    kind = REGULAR_FILE if found.file is not None else DIRECTORY
    if found.channel is not None:
        kind = found.channel.stat().kind
    ctx.memory.write(result, FDSTAT.pack(kind, found.flags, found.rights, found.inheriting))
    return 0


def fd_fdstat_set_flags(ctx: CallContext, fd: int, flags: int) -> int:
    """Set APPEND and NONBLOCK. The synchronous flags can only be set at open."""
    found: Descriptor = ctx.wasi.table.get(fd, FD_FDSTAT_SET_FLAGS)
    if flags > 31 or (flags ^ found.flags) & ~(APPEND | NONBLOCK):
        raise CallFailed(EINVAL, f"flags {flags:#x}")
    found.flags = flags
    return 0


def fd_fdstat_set_rights(ctx: CallContext, fd: int, base: int, inheriting: int) -> int:
    """Drop rights. Asking for more than there are gives ENOTCAPABLE."""
    found: Descriptor = ctx.wasi.table.get(fd)
    if base & ~found.rights or inheriting & ~found.inheriting:
        raise CallFailed(ENOTCAPABLE, "rights only become fewer")
    found.rights, found.inheriting = base, inheriting
    return 0


def fd_filestat_get(ctx: CallContext, fd: int, result: int) -> int:
    """Attributes of what is open."""
    thing = ctx.wasi.table.get(fd, FD_FILESTAT_GET).thing
    return put_stat(ctx, result, thing.stat())


def fd_filestat_set_size(ctx: CallContext, fd: int, size: int) -> int:
    """Truncate a file, or extend it with zeros."""
    _, file = _file(ctx, fd, FD_FILESTAT_SET_SIZE)
    if size > OFFSET_MAX:
        raise CallFailed(EFBIG, f"a file of {size} bytes")
    file.resize(size, ctx.ambient.wall_ns())
    return 0


def fd_filestat_set_times(ctx: CallContext, fd: int, atim: int, mtim: int, flags: int) -> int:
    """Set the times of a file or directory."""
    times = new_times(ctx, atim, mtim, flags)
    found: Descriptor = ctx.wasi.table.get(fd, FD_FILESTAT_SET_TIMES)
    where = found.file or found.directory
    if where is None:
        raise CallFailed(EBADF, f"descriptor {fd} has no times")
    where.set_times(*times)
    return 0


def fd_allocate(ctx: CallContext, fd: int, offset: int, size: int) -> int:
    """Make the file at least `offset + size` bytes long (posix_fallocate)."""
    _, file = _file(ctx, fd, FD_ALLOCATE)
    if not size or offset > OFFSET_MAX:
        raise CallFailed(EINVAL, "nothing to allocate")
    if offset + size > OFFSET_MAX:
        raise CallFailed(EFBIG, f"a file of {offset + size} bytes")
    if offset + size > file.size():
        file.resize(offset + size, ctx.ambient.wall_ns())
    return 0


def fd_advise(ctx: CallContext, fd: int, offset: int, size: int, advice: int) -> int:
    """Advice is accepted and ignored."""
    _file(ctx, fd, FD_ADVISE)
    if advice >= _ADVICES or offset > OFFSET_MAX:
        raise CallFailed(EINVAL, f"advice {advice}")
    return 0


def _sync(ctx: CallContext, fd: int, right: int) -> int:
    found: Descriptor = ctx.wasi.table.get(fd)
    if found.channel is None:
        ctx.wasi.table.get(fd, right)
    if found.file is not None:
        found.file.sync()
    return 0


def fd_sync(ctx: CallContext, fd: int) -> int:
    """Make a file durable. Streams and directories always are."""
    return _sync(ctx, fd, FD_SYNC)


def fd_datasync(ctx: CallContext, fd: int) -> int:
    """Make a file's bytes durable."""
    return _sync(ctx, fd, FD_DATASYNC)


# --- the table ---


def fd_close(ctx: CallContext, fd: int) -> int:
    """Close a descriptor."""
    ctx.wasi.table.close(fd)
    return 0


def fd_renumber(ctx: CallContext, fd: int, to: int) -> int:
    """Close `to` and give its number to `fd`."""
    ctx.wasi.table.renumber(fd, to)
    return 0


def fd_prestat_get(ctx: CallContext, fd: int, result: int) -> int:
    """The length of the name of a preopened directory; EBADF for any other descriptor."""
    found: Descriptor = ctx.wasi.table.get(fd)
    if found.preopen is None:
        raise CallFailed(EBADF, f"descriptor {fd} was not there at the start")
    ctx.memory.write(result, PRESTAT.pack(0, len(found.preopen.encode())))
    return 0


def fd_prestat_dir_name(ctx: CallContext, fd: int, pointer: int, size: int) -> int:
    """That name."""
    found: Descriptor = ctx.wasi.table.get(fd)
    if found.preopen is None:
        raise CallFailed(ENOTDIR, f"descriptor {fd} was not there at the start")
    name = found.preopen.encode()
    if len(name) > size:
        raise CallFailed(ENAMETOOLONG, f"a name of {len(name)} bytes")
    ctx.memory.write(pointer, name)
    return 0


def sock_call(ctx: CallContext, fd: int, *_: int) -> int:
    """`sock_accept`, `sock_recv`, `sock_send`, `sock_shutdown`: an agent has no sockets; it moves instead."""
    ctx.wasi.table.get(fd)
    return ENOTSOCK
