"""What can be opened in the agent's luggage: its files and directories, and where a path leads.

Invariant: a walk never leaves the directory where it starts; '..' beyond it, an absolute path or link gives EPERM.
Reading does not change the access time (as under `noatime`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import attrs

from agents.blocks import BLOCK_BYTES
from agents.errors import CallFailed

from .abi import (
    CREAT,
    DIRECTORY,
    EBUSY,
    EEXIST,
    EFBIG,
    EINVAL,
    EISDIR,
    ELOOP,
    ENAMETOOLONG,
    ENOENT,
    ENOSPC,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    EXCL,
    EXDEV,
    O_DIRECTORY,
    REGULAR_FILE,
    SYMBOLIC_LINK,
    TRUNC,
)
from .nodes import Luggage, Node
from .paths import Route, parse_text
from .vfs import Bytes, DirectoryEntry, ResolvedPath, Stat

_ZEROS = bytes(1 << 20)


def open_node(luggage: Luggage, node: Node) -> LuggageFile | LuggageDirectory:
    """An open file or directory over `node`."""
    node.opened += 1
    return LuggageDirectory(luggage, node) if node.folder is not None else LuggageFile(luggage, node)


def open_root(luggage: Luggage) -> LuggageDirectory:
    """The root, opened."""
    luggage.root.opened += 1
    return LuggageDirectory(luggage, luggage.root)


def top_directories(luggage: Luggage) -> list[tuple[str, LuggageDirectory]]:
    """The directories in the root, opened, by name."""
    folder = luggage.root.folder
    assert folder is not None
    found = [(name, open_node(luggage, node)) for name, (_, node) in folder.entries.items() if node.folder is not None]
    return [(name, each) for name, each in found if isinstance(each, LuggageDirectory)]


def walk_luggage(luggage: Luggage, start: Node, route: Route, follow: bool) -> ResolvedPath:
    """Where `route` leads from the directory `start` (see `Directory.walk`)."""
    if start.folder is None:
        raise CallFailed(ENOTDIR, "not a directory")
    trail, todo, steps, expanded = [start], list(reversed(route.names)), 0, 0
    directory = route.directory
    while todo:
        name, here = todo.pop(), trail[-1]
        steps += 1
        if steps > luggage.limits.depth:
            raise CallFailed(ENAMETOOLONG, f"a path of more than {luggage.limits.depth} steps")
        folder = here.folder
        if folder is None:
            raise CallFailed(ENOTDIR, name)
        if name == "..":
            if len(trail) == 1:
                raise CallFailed(EPERM, "a path that leads out of its directory")
            trail.pop()
            continue
        if name == ".":
            continue
        if here is luggage.root and name in luggage.mounts:
            rest = Route(tuple(reversed(todo)), directory)
            return luggage.mounts[name].walk(rest, follow)
        found = folder.entries.get(name)
        if found is None:
            if todo:
                raise CallFailed(ENOENT, name)
            return ResolvedLuggagePath(luggage, here, name, None, directory)
        node = found[1]
        if node.kind == SYMBOLIC_LINK and (todo or follow or directory):
            expanded += 1
            if expanded > luggage.limits.symlinks:
                raise CallFailed(ELOOP, f"more than {luggage.limits.symlinks} links in one path")
            link = parse_text(bytes(node.data).decode(), luggage.limits)
            directory = directory or (link.directory and not todo)
            todo.extend(reversed(link.names))
            continue
        if not todo:
            if directory and node.folder is None:
                raise CallFailed(ENOTDIR, name)
            return ResolvedLuggagePath(luggage, here, name, node, directory)
        trail.append(node)
    return ResolvedLuggagePath(luggage, None, "", trail[-1], True)


@attrs.define(eq=False, repr=False)
class LuggageFile:
    """An open file of the luggage."""

    luggage: Luggage
    node: Node

    def pread(self, offset: int, size: int) -> Bytes:
        """See `vfs.File`."""
        return self.node.data[offset : offset + size]

    def pwrite(self, offset: int, data: bytes, now: int) -> int:
        """See `vfs.File`. Bytes that do not fit are not accepted."""
        node = self.node
        old = len(node.data)
        end = offset + len(data)
        if end > old:
            room = self.luggage.limits.luggage_bytes - self.luggage.used
            if end - old > room:
                data = data[: max(old + room - offset, 0)]
                if not data:
                    raise CallFailed(ENOSPC, f"{self.luggage.used} bytes in the luggage")
                end = offset + len(data)
        if not data:
            return 0
        contents = node.data
        if not isinstance(contents, bytearray):
            contents = node.data = bytearray(contents)
        if end > old:
            self.luggage.used += end - old
            _lengthen(contents, offset - old)
        contents[offset:end] = data
        _note(node, min(offset, old), end)
        node.mtim = node.ctim = now
        return len(data)

    def append(self, data: bytes, now: int) -> tuple[int, int]:
        """See `vfs.File`."""
        end = len(self.node.data)
        return end, self.pwrite(end, data, now)

    def size(self) -> int:
        """See `vfs.File`."""
        return len(self.node.data)

    def resize(self, size: int, now: int) -> None:
        """See `vfs.File`."""
        node, old = self.node, len(self.node.data)
        if size > old:
            if size - old > self.luggage.limits.luggage_bytes - self.luggage.used:
                raise CallFailed(EFBIG if size >> 63 else ENOSPC, f"a file of {size} bytes")
            if not isinstance(node.data, bytearray):
                node.data = bytearray(node.data)
            _lengthen(node.data, size - old)
            _note(node, old, size)
        elif isinstance(node.data, bytearray):
            del node.data[size:]
        else:
            node.data = node.data[:size]
        self.luggage.used += size - old
        node.mtim = node.ctim = now

    def stat(self) -> Stat:
        """See `vfs.File`."""
        return self.node.stat()

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `vfs.File`."""
        self.node.set_times(atim, mtim, now)

    def sync(self) -> None:
        """Memory is as durable as the agent."""

    def close(self) -> None:
        """See `vfs.File`."""
        self.node.opened -= 1
        self.luggage.drop(self.node)

    def encode(self) -> list[Any]:
        """See `vfs.File`."""
        return ["file", self.node.inode]


def _note(node: Node, begin: int, end: int) -> None:
    """The bytes from `begin` to `end` were written: after that, so that who reads what is noted reads what is new."""
    if node.written is not None:
        node.written.update(range(begin // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1))


def _lengthen(data: bytearray, size: int) -> None:
    """Append `size` zeros (none if negative), in pieces: at once they would be in memory twice."""
    while size > 0:
        data += _ZEROS[:size]
        size -= len(_ZEROS)


@attrs.define(eq=False, repr=False)
class LuggageDirectory:
    """An open directory of the luggage."""

    luggage: Luggage
    node: Node

    def walk(self, route: Route, follow: bool) -> ResolvedPath:
        """See `vfs.Directory`."""
        return walk_luggage(self.luggage, self.node, route, follow)

    def entries(self, cookie: int) -> Iterator[DirectoryEntry]:
        """See `vfs.Directory`."""
        folder = self.node.folder
        assert folder is not None
        if cookie == 0:
            yield DirectoryEntry(1, self.node.inode, DIRECTORY, b".")
        if cookie <= 1:
            yield DirectoryEntry(2, (folder.parent or self.node).inode, DIRECTORY, b"..")
        order = folder.order
        for index in range(bisect_left(order, (cookie, "")), len(order)):
            serial, name = order[index]
            found = folder.entries.get(name)
            if found is not None and found[0] == serial:
                yield DirectoryEntry(serial + 1, found[1].inode, found[1].kind, name.encode())

    def stat(self) -> Stat:
        """See `vfs.Directory`."""
        return self.node.stat()

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `vfs.Directory`."""
        self.node.set_times(atim, mtim, now)

    def close(self) -> None:
        """See `vfs.Directory`."""
        self.node.opened -= 1
        self.luggage.drop(self.node)

    def encode(self) -> list[Any]:
        """See `vfs.Directory`."""
        return ["directory", self.node.inode]


@attrs.define(eq=False, repr=False)
class ResolvedLuggagePath:
    """Where a path leads in the luggage. `parent` is None if the path ended in '.' or '..'; `node` is None
    if the name is free."""

    luggage: Luggage
    parent: Node | None
    name: str
    node: Node | None
    directory: bool

    def __enter__(self) -> ResolvedLuggagePath:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _there(self) -> Node:
        if self.node is None:
            raise CallFailed(ENOENT, self.name)
        return self.node

    def _free(self) -> Node:
        """The directory in which this path's name is free."""
        if self.node is not None or self.parent is None:
            raise CallFailed(EEXIST, self.name)
        return self.parent

    def stat(self) -> Stat:
        """See `vfs.ResolvedPath`."""
        return self._there().stat()

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        self._there().set_times(atim, mtim, now)

    def open(self, oflags: int, read: bool, write: bool, now: int) -> LuggageFile | LuggageDirectory:
        """See `vfs.ResolvedPath`."""
        node = self.node
        if node is None:
            if not oflags & CREAT:
                raise CallFailed(ENOENT, self.name)
            if self.directory:
                raise CallFailed(EISDIR, self.name)
            return open_node(self.luggage, self.luggage.make(self._free(), self.name, REGULAR_FILE, now))
        if oflags & CREAT and oflags & EXCL:
            raise CallFailed(EEXIST, self.name)
        if node.kind == SYMBOLIC_LINK:
            raise CallFailed(ELOOP, f"{self.name} is a link, and links are not followed")
        if node.folder is not None:
            if write or oflags & (CREAT | TRUNC):
                raise CallFailed(EISDIR, self.name)
        elif oflags & O_DIRECTORY:
            raise CallFailed(ENOTDIR, self.name)
        opened = open_node(self.luggage, node)
        if oflags & TRUNC and isinstance(opened, LuggageFile):
            opened.resize(0, now)
        return opened

    def mkdir(self, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        self.luggage.make(self._free(), self.name, DIRECTORY, now)

    def rmdir(self, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        node = self._there()
        if node.folder is None:
            raise CallFailed(ENOTDIR, self.name)
        if self.parent is None:
            raise CallFailed(EINVAL, "'.' and '..' cannot be removed")
        if node.folder.entries:
            raise CallFailed(ENOTEMPTY, self.name)
        node.folder.parent = None
        self.luggage.leave(self.parent, self.name, now)

    def unlink(self, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        node = self._there()
        if node.folder is not None or self.parent is None:
            raise CallFailed(EISDIR, self.name)
        self.luggage.leave(self.parent, self.name, now)

    def readlink(self) -> bytes:
        """See `vfs.ResolvedPath`."""
        node = self._there()
        if node.kind != SYMBOLIC_LINK:
            raise CallFailed(EINVAL, f"{self.name} is not a link")
        return bytes(node.data)

    def symlink(self, text: str, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        if self.node is None and self.directory:
            raise CallFailed(ENOENT, self.name)
        self.luggage.make(self._free(), self.name, SYMBOLIC_LINK, now, text.encode())

    def rename_to(self, target: ResolvedPath, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        if not isinstance(target, ResolvedLuggagePath):
            raise CallFailed(EXDEV, "between file systems")
        node, old = self._there(), target.node
        if self.parent is None or target.parent is None:
            raise CallFailed(EBUSY, "'.' and '..' cannot be renamed")
        if node is old:
            return
        if node.folder is not None:
            self._check_not_inside(node, target.parent)
            if old is not None and old.folder is None:
                raise CallFailed(ENOTDIR, target.name)
        elif target.directory and old is None:
            raise CallFailed(ENOTDIR, target.name)
        elif old is not None and old.folder is not None:
            raise CallFailed(EISDIR, target.name)
        if target.parent.links == 0:
            raise CallFailed(ENOENT, "the directory was removed")
        if old is not None and old.folder is not None:
            target.rmdir(now)
        elif old is not None:
            target.unlink(now)
        node.links += 1  # so that removing its old name does not delete it
        self.luggage.leave(self.parent, self.name, now)
        node.links -= 1
        self.luggage.enter(target.parent, target.name, node, now)
        if node.folder is not None:
            node.folder.parent = target.parent

    def _check_not_inside(self, node: Node, directory: Node) -> None:
        above: Node | None = directory
        while above is not None and above.folder is not None:
            if above is node:
                raise CallFailed(EINVAL, "a directory cannot move into itself")
            above = above.folder.parent

    def link_to(self, target: ResolvedPath, now: int) -> None:
        """See `vfs.ResolvedPath`."""
        if not isinstance(target, ResolvedLuggagePath):
            raise CallFailed(EXDEV, "between file systems")
        node = self._there()
        if node.folder is not None:
            raise CallFailed(EPERM, "a directory has one name")
        if target.node is None and target.directory:
            raise CallFailed(ENOENT, target.name)
        self.luggage.enter(target._free(), target.name, node, now)
