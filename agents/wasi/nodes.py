"""The agent's luggage, an in-memory file system that travels with it: its nodes and its accounting.

What can be opened in it is in `luggage`, its encoding in `luggage_codec`. Nothing here touches the station's
disk, a clock or the guest's memory; times are arguments.

Invariants, which `luggage_codec` checks on arrival and every operation keeps:
- the root is a directory; every other directory has exactly one name, and following parents ends at the root;
- `used` is the sum of all files' and links' bytes, `names` the number of names in all directories; both stay
  within `WasiLimits`, also when a file is written far beyond its end (nothing is sparse);
- a node lives while it has a name or is open.

A name in the root may be a *mount*: a folder that consists of calls, or a granted host directory. A walk that reaches
one goes on there and cannot come back. Mounts are not stored and do not appear in a listing.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from agents.errors import CallFailed

from .abi import DIRECTORY, ENOENT, ENOSPC, ENOTDIR
from .limits import WasiLimits
from .vfs import Directory, Stat

LUGGAGE_DEVICE = 1
ROOT = 1  # the root's inode
FIRST_SERIAL = 2  # cookies 0 and 1 are '.' and '..'


@attrs.define(eq=False, repr=False)
class Folder:
    """The contents of a directory. An entry's serial number is its readdir cookie: it never changes and is never
    reused, so a listing that goes on while names come and go neither misses nor repeats any of the others."""

    parent: Node | None
    entries: dict[str, tuple[int, Node]] = attrs.field(factory=dict)
    next_serial: int = FIRST_SERIAL
    order: list[tuple[int, str]] = attrs.field(factory=list)  # by serial; deleted names stay a while

    def add(self, name: str, node: Node) -> None:
        """Add a name that is free."""
        self.entries[name] = (self.next_serial, node)
        self.order.append((self.next_serial, name))
        self.next_serial += 1

    def remove(self, name: str) -> None:
        """Remove an existing name."""
        del self.entries[name]
        if len(self.order) > 2 * len(self.entries) + 16:
            self.order = [(serial, each) for each, (serial, _) in self.entries.items()]


@attrs.define(eq=False, repr=False)
class Node:
    """One file, directory or symbolic link. `data`: a file's contents, or a link's text in UTF-8. Contents
    that were never written stay the (shared) bytes they arrived as."""

    inode: int
    kind: int
    atim: int
    mtim: int
    ctim: int
    data: bytes | bytearray | memoryview = b""
    folder: Folder | None = None
    links: int = 0
    opened: int = 0
    written: set[int] | None = None
    """Where somebody watches its writes (`file_blocks`): the numbers of the blocks that were written."""

    def stat(self) -> Stat:
        """The node's attributes."""
        return Stat(LUGGAGE_DEVICE, self.inode, self.kind, self.links, len(self.data), self.atim, self.mtim, self.ctim)

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """Set the times that are not None."""
        self.atim = self.atim if atim is None else atim
        self.mtim = self.mtim if mtim is None else mtim
        self.ctim = now


@attrs.define(eq=False, repr=False)
class Luggage:
    """The file system: its root, its accounting, its mounts."""

    limits: WasiLimits
    root: Node
    next_inode: int = ROOT + 1
    used: int = 0  # bytes
    names: int = 0
    mounts: dict[str, Directory] = attrs.field(factory=dict)

    @classmethod
    def empty(cls, limits: WasiLimits, now: int) -> Luggage:
        """An empty luggage."""
        return cls(limits, Node(ROOT, DIRECTORY, now, now, now, folder=Folder(None), links=1))

    def make(self, parent: Node, name: str, kind: int, now: int, data: bytes = b"") -> Node:
        """Create a node under a free name. Raises ENOSPC, and ENOENT in a directory that was removed."""
        self.need(data)
        folder = Folder(parent) if kind == DIRECTORY else None
        node = Node(self.next_inode, kind, now, now, now, data, folder)
        self.enter(parent, name, node, now)
        self.next_inode += 1
        self.used += len(data)
        return node

    def enter(self, parent: Node, name: str, node: Node, now: int) -> None:
        """Give `node` the free name `name`."""
        folder = parent.folder
        if folder is None:
            raise CallFailed(ENOTDIR, name)
        if parent.links == 0:
            raise CallFailed(ENOENT, "the directory was removed")
        if self.names >= self.limits.files:
            raise CallFailed(ENOSPC, f"{self.names} names in the luggage")
        folder.add(name, node)
        self.names += 1
        node.links += 1
        parent.mtim = parent.ctim = node.ctim = now

    def leave(self, parent: Node, name: str, now: int) -> None:
        """Remove the existing name `name` from `parent`."""
        folder = parent.folder
        assert folder is not None
        _, node = folder.entries[name]
        folder.remove(name)
        self.names -= 1
        node.links -= 1
        parent.mtim = parent.ctim = node.ctim = now
        self.drop(node)

    def drop(self, node: Node) -> None:
        """Delete the contents of a node with neither name nor descriptor."""
        if node.links == 0 and node.opened == 0:
            self.used -= len(node.data)
            node.data = b""

    def reachable(self, open_nodes: Iterable[Node]) -> dict[int, Node]:
        """By inode, everything that has a name or is in `open_nodes`.

        Raises `RuntimeError` if the agent runs and changes what is looked at.
        """
        found = {node.inode: node for node in open_nodes}
        todo = [self.root]
        while todo:
            node = todo.pop()
            found[node.inode] = node
            if node.folder is not None:
                for _, child in list(node.folder.entries.values()):
                    if child.folder is not None:
                        todo.append(child)
                    else:
                        found[child.inode] = child
        return found

    def need(self, data: bytes) -> None:
        """Raises ENOSPC if there is no room for `data`."""
        if self.used + len(data) > self.limits.luggage_bytes:
            raise CallFailed(ENOSPC, f"{self.used} bytes in the luggage")
