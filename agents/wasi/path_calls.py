"""The functions of WASI preview 1 whose names begin with `path_`.

Each path is relative to a directory descriptor and never leads out of it. `fd_calls` describes how functions
return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from agents.errors import CallFailed

from .abi import (
    ALL_RIGHTS,
    CREAT,
    DIRECTORY_RIGHTS,
    EILSEQ,
    EINVAL,
    ENAMETOOLONG,
    ENOTCAPABLE,
    ENOTDIR,
    EXCL,
    FD_READ,
    FD_READDIR,
    FD_WRITE,
    FILE_RIGHTS,
    O_DIRECTORY,
    PATH_CREATE_DIRECTORY,
    PATH_CREATE_FILE,
    PATH_FILESTAT_GET,
    PATH_FILESTAT_SET_SIZE,
    PATH_FILESTAT_SET_TIMES,
    PATH_LINK_SOURCE,
    PATH_LINK_TARGET,
    PATH_OPEN,
    PATH_READLINK,
    PATH_REMOVE_DIRECTORY,
    PATH_RENAME_SOURCE,
    PATH_RENAME_TARGET,
    PATH_SYMLINK,
    PATH_UNLINK_FILE,
    SYMLINK_FOLLOW,
    TRUNC,
)
from .buffers import check_range, read_route
from .descriptors import Descriptor
from .fd_calls import new_times, put_stat
from .paths import parse_text
from .vfs import Directory, File, ResolvedPath

if TYPE_CHECKING:
    from agents.hostcalls import CallContext


def _directory(ctx: CallContext, fd: int, rights: int) -> tuple[Descriptor, Directory]:
    found: Descriptor = ctx.wasi.table.get(fd)
    if found.directory is None:
        raise CallFailed(ENOTDIR, f"descriptor {fd} is not a directory")
    ctx.wasi.table.get(fd, rights)
    return found, found.directory


def _spot(ctx: CallContext, fd: int, rights: int, path: int, size: int, flags: int = 0) -> ResolvedPath:
    """Where the path leads, from a directory with these rights."""
    _, directory = _directory(ctx, fd, rights)
    if flags > SYMLINK_FOLLOW:
        raise CallFailed(EINVAL, f"lookup flags {flags:#x}")
    return directory.walk(read_route(ctx, path, size), bool(flags & SYMLINK_FOLLOW))


def path_open(
    ctx: CallContext, fd: int, lookup: int, path: int, size: int, oflags: int, base: int, inheriting: int,
    flags: int, result: int,
) -> int:  # fmt: skip
    """Open a file or directory; may create or truncate it."""
    needed = PATH_OPEN
    needed |= PATH_CREATE_FILE if oflags & CREAT else 0
    needed |= PATH_FILESTAT_SET_SIZE if oflags & TRUNC else 0
    found, directory = _directory(ctx, fd, needed)
    if lookup > SYMLINK_FOLLOW or oflags > 15 or flags > 31 or (base | inheriting) & ~ALL_RIGHTS:
        raise CallFailed(EINVAL, "flags or rights that do not exist")
    if oflags & CREAT and oflags & O_DIRECTORY:
        raise CallFailed(EINVAL, "a directory is not made by opening it")
    if (base | inheriting) & ~found.inheriting:
        raise CallFailed(ENOTCAPABLE, "more rights than the directory hands on")
    check_range(ctx.memory, result, 4)
    ctx.wasi.table.check_room()
    exclusive = oflags & CREAT and oflags & EXCL  # then a link is in the way, wherever it leads
    with directory.walk(read_route(ctx, path, size), bool(lookup) and not exclusive) as spot:
        opened = spot.open(oflags, bool(base & (FD_READ | FD_READDIR)), bool(base & FD_WRITE), ctx.ambient.wall_ns())
    descriptor = Descriptor(base, inheriting, flags)
    if hasattr(opened, "pread"):
        descriptor.file, allowed = cast(File, opened), FILE_RIGHTS
    elif hasattr(opened, "walk"):
        descriptor.directory, allowed = cast(Directory, opened), DIRECTORY_RIGHTS
    else:
        descriptor.channel, allowed = opened, opened.rights()
    descriptor.rights &= allowed
    ctx.memory.put_u32(result, ctx.wasi.table.add(descriptor))
    return 0


def path_create_directory(ctx: CallContext, fd: int, path: int, size: int) -> int:
    """Make a directory."""
    with _spot(ctx, fd, PATH_CREATE_DIRECTORY, path, size) as spot:
        spot.mkdir(ctx.ambient.wall_ns())
    return 0


def path_remove_directory(ctx: CallContext, fd: int, path: int, size: int) -> int:
    """Remove an empty directory."""
    with _spot(ctx, fd, PATH_REMOVE_DIRECTORY, path, size) as spot:
        spot.rmdir(ctx.ambient.wall_ns())
    return 0


def path_unlink_file(ctx: CallContext, fd: int, path: int, size: int) -> int:
    """Remove a file's name."""
    with _spot(ctx, fd, PATH_UNLINK_FILE, path, size) as spot:
        spot.unlink(ctx.ambient.wall_ns())
    return 0


def path_filestat_get(ctx: CallContext, fd: int, flags: int, path: int, size: int, result: int) -> int:
    """Attributes of what a path names."""
    with _spot(ctx, fd, PATH_FILESTAT_GET, path, size, flags) as spot:
        return put_stat(ctx, result, spot.stat())


def path_filestat_set_times(
    ctx: CallContext, fd: int, flags: int, path: int, size: int, atim: int, mtim: int, which: int
) -> int:
    """Set the times of what a path names."""
    times = new_times(ctx, atim, mtim, which)
    with _spot(ctx, fd, PATH_FILESTAT_SET_TIMES, path, size, flags) as spot:
        spot.set_times(*times)
    return 0


def path_link(
    ctx: CallContext, fd: int, flags: int, path: int, size: int, new_fd: int, new_path: int, new_size: int
) -> int:
    """Give a file a second name."""
    _directory(ctx, new_fd, PATH_LINK_TARGET)
    with (
        _spot(ctx, fd, PATH_LINK_SOURCE, path, size, flags) as spot,
        _spot(ctx, new_fd, PATH_LINK_TARGET, new_path, new_size) as target,
    ):
        spot.link_to(target, ctx.ambient.wall_ns())
    return 0


def path_rename(ctx: CallContext, fd: int, path: int, size: int, new_fd: int, new_path: int, new_size: int) -> int:
    """Move a file or directory."""
    _directory(ctx, new_fd, PATH_RENAME_TARGET)
    with (
        _spot(ctx, fd, PATH_RENAME_SOURCE, path, size) as spot,
        _spot(ctx, new_fd, PATH_RENAME_TARGET, new_path, new_size) as target,
    ):
        spot.rename_to(target, ctx.ambient.wall_ns())
    return 0


def path_symlink(ctx: CallContext, text: int, text_size: int, fd: int, path: int, size: int) -> int:
    """Make a symbolic link. An absolute path in it would lead out and gives EPERM."""
    _directory(ctx, fd, PATH_SYMLINK)
    limits = ctx.wasi.limits
    if text_size > limits.path_bytes:
        raise CallFailed(ENAMETOOLONG, f"a link of {text_size} bytes")
    try:
        target = ctx.memory.read(text, text_size).decode()
    except UnicodeDecodeError:
        raise CallFailed(EILSEQ, "a link that is not UTF-8") from None
    parse_text(target, limits)
    with _spot(ctx, fd, PATH_SYMLINK, path, size) as spot:
        spot.symlink(target, ctx.ambient.wall_ns())
    return 0


def path_readlink(ctx: CallContext, fd: int, path: int, size: int, buffer: int, capacity: int, result: int) -> int:
    """The text of a symbolic link, truncated if the buffer is too short."""
    with _spot(ctx, fd, PATH_READLINK, path, size) as spot:
        text = spot.readlink()[:capacity]
    check_range(ctx.memory, result, 4)
    ctx.memory.write(buffer, text)
    ctx.memory.put_u32(result, len(text))
    return 0
