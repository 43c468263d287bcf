"""Encodes luggage as plain values and back, and makes luggage from a mapping of paths to contents.

A snapshot's luggage may be an attacker's: `decode_luggage` recomputes the accounting instead of believing it,
checks the tree's shape without recursion, and raises only `BadSnapshot`.

Layout: `[next inode, nodes]`, nodes by ascending inode, each `[inode, kind, atim, mtim, ctim, payload]`; the
payload of a file or link is its bytes, of a file whose contents travel as blocks `[size, numbers of the blocks]`
(`file_blocks`), of a directory `[next serial, [[serial, name, inode], ...]]` by ascending
serial.
Invariant: `encode_luggage(decode_luggage(v)[0]) == v` for every `v` that is accepted and has all contents itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agents import canonical
from agents.blocks import BLOCK_BYTES, packed, unpacked
from agents.errors import BadSnapshot, CallFailed, NotCanonical

from .abi import CREAT, DIRECTORY, EINVAL, EXCL, REGULAR_FILE, SYMBOLIC_LINK, U64
from .file_blocks import FileBlocks, FileContents
from .limits import WasiLimits
from .luggage import LuggageFile, ResolvedLuggagePath, walk_luggage
from .nodes import FIRST_SERIAL, ROOT, Folder, Luggage, Node
from .paths import Route, parse_text, valid_name
from .vfs import Bytes

_COUNTER_MAX = 1 << 62  # of inodes and cookies: room to count on, whatever a snapshot begins with
_NODES_MAX_EXTRA = 1  # the root has no name; the number of descriptors bounds open nodes without a name


def encode_luggage(luggage: Luggage, open_nodes: Iterable[Node], files: FileBlocks | None = None) -> list[Any]:
    """Plain values for everything that has a name or is in `open_nodes`. `files`: what travels as blocks."""
    nodes = []
    for inode, node in sorted(luggage.reachable(open_nodes).items()):
        payload: Any
        if node.folder is None:
            blocks = None if files is None else files.blocks_of(node)
            payload = bytes(node.data) if blocks is None else [len(node.data), packed(blocks)]
        else:
            lines = [[serial, name, child.inode] for name, (serial, child) in node.folder.entries.items()]
            payload = [node.folder.next_serial, lines]
        nodes.append([inode, node.kind, node.atim, node.mtim, node.ctim, payload])
    return [luggage.next_inode, nodes]


def checked_int(value: object, least: int = 0, most: int = U64) -> int:
    """`value`, if it is an integer in the range. Raises `BadSnapshot`."""
    if type(value) is not int or not least <= value <= most:
        raise BadSnapshot("a number in the WASI state is missing or out of range")
    return value


def fields(value: object, count: int) -> list[Any]:
    """`value`, if it is a list of `count` items. Raises `BadSnapshot`."""
    if not isinstance(value, list) or len(value) != count:
        raise BadSnapshot(f"a record of {count} fields in the WASI state has another shape")
    return value


def _contents(payload: list[Any], contents: FileContents | None, most: int) -> Bytes:
    """What travels as blocks. Raises `BadSnapshot`."""
    size, numbers = fields(payload, 2)
    if contents is None:
        raise BadSnapshot("a file of the luggage whose contents are not here")
    if not isinstance(numbers, bytes) or checked_int(size, 1) > most:
        raise BadSnapshot("a file in the luggage that is larger than this station takes, or has no blocks")
    blocks = unpacked(numbers, -(-size // BLOCK_BYTES), ascending=False)
    if len(blocks) != -(-size // BLOCK_BYTES) or max(blocks) >= contents.blocks:
        raise BadSnapshot("a file in the luggage with other blocks than it needs")
    return contents.take(blocks, size)


def _decode_node(item: object, limits: WasiLimits, contents: FileContents | None, left: int) -> tuple[Node, list[Any]]:
    """A node, and for a directory its entries, which may refer to nodes not decoded yet."""
    inode, kind, atim, mtim, ctim, payload = fields(item, 6)
    node = Node(checked_int(inode, ROOT), checked_int(kind), checked_int(atim), checked_int(mtim), checked_int(ctim))
    if node.kind in (REGULAR_FILE, SYMBOLIC_LINK):
        if node.kind == REGULAR_FILE and isinstance(payload, list):
            payload = _contents(payload, contents, left)
        elif not isinstance(payload, bytes):
            raise BadSnapshot("a file without bytes in the luggage")
        node.data = payload
        if node.kind == SYMBOLIC_LINK:
            check_link(payload, limits)
        return node, []
    if node.kind != DIRECTORY:
        raise BadSnapshot(f"a node of kind {node.kind} in the luggage")
    next_serial, lines = fields(payload, 2)
    if not isinstance(lines, list):
        raise BadSnapshot("a directory without lines in the luggage")
    node.folder = Folder(None, next_serial=checked_int(next_serial, FIRST_SERIAL, _COUNTER_MAX))
    return node, lines


def check_link(text: Bytes, limits: WasiLimits) -> None:
    """Raises `BadSnapshot` if a guest could not have stored this text as a link."""
    try:
        parse_text(bytes(text).decode(), limits)
    except (CallFailed, UnicodeDecodeError):
        raise BadSnapshot("a symbolic link in the luggage holds an impossible path") from None


def decode_luggage(
    value: object, limits: WasiLimits, contents: FileContents | None = None
) -> tuple[Luggage, dict[int, Node]]:
    """The luggage and its nodes by inode; the caller reopens what was open, then calls `check_open`.

    contents: of the files that travel as blocks
    """
    next_inode, items = fields(value, 2)
    if not isinstance(items, list) or len(items) > limits.files + limits.descriptors + _NODES_MAX_EXTRA:
        raise BadSnapshot("more nodes in the luggage than this station takes")
    nodes: dict[int, Node] = {}
    directories: list[tuple[Node, list[Any]]] = []
    used = last = 0
    for item in items:
        node, lines = _decode_node(item, limits, contents, limits.luggage_bytes - used)
        if node.inode <= last:
            raise BadSnapshot("nodes of the luggage out of order")
        last = node.inode
        nodes[node.inode] = node
        used += len(node.data)
        if node.folder is not None:
            directories.append((node, lines))
    if used > limits.luggage_bytes:
        raise BadSnapshot(f"{used} bytes of luggage where this station takes {limits.luggage_bytes}")
    root = nodes.get(ROOT)
    if root is None or root.folder is None or checked_int(next_inode, 0, _COUNTER_MAX) <= last:
        raise BadSnapshot("luggage without a root, or that would number two files alike")
    luggage = Luggage(limits, root, next_inode, used)
    for node, lines in directories:
        _decode_lines(luggage, node, lines, nodes)
    _check_shape(luggage, [node for node, _ in directories])
    return luggage, nodes


def _decode_lines(luggage: Luggage, node: Node, lines: list[Any], nodes: dict[int, Node]) -> None:
    folder = node.folder
    assert folder is not None
    last = FIRST_SERIAL - 1
    luggage.names += len(lines)
    if luggage.names > luggage.limits.files:
        raise BadSnapshot("more names in the luggage than this station takes")
    for line in lines:
        serial, name, inode = fields(line, 3)
        child = nodes.get(checked_int(inode))
        if child is None or child is luggage.root or checked_int(serial) <= last or serial >= folder.next_serial:
            raise BadSnapshot("a name in the luggage that leads nowhere, or is out of order")
        if not valid_name(name, luggage.limits) or name in folder.entries:
            raise BadSnapshot("an impossible name in the luggage, or one twice")
        last = serial
        if child.folder is not None:
            if child.folder.parent is not None:
                raise BadSnapshot("a directory with two names in the luggage")
            child.folder.parent = node
        folder.entries[name] = (serial, child)
        folder.order.append((serial, name))
        child.links += 1


def _check_shape(luggage: Luggage, directories: list[Node]) -> None:
    """Check that every directory with a name is below the root, and that the others (open, removed) are empty."""
    luggage.root.links = 1
    found, todo = 0, [luggage.root]
    while todo:
        node = todo.pop()
        found += 1
        assert node.folder is not None
        todo.extend(child for _, child in node.folder.entries.values() if child.folder is not None)
    for node in directories:
        if node.links == 0:
            found += 1
            if node.folder is not None and node.folder.entries:
                raise BadSnapshot("a removed directory with something in it")
    if found != len(directories):
        raise BadSnapshot("directories of the luggage that hold each other")


def check_open(nodes: Mapping[int, Node]) -> None:
    """Raises `BadSnapshot` for a node with neither name nor descriptor."""
    if any(node.links == 0 and node.opened == 0 for node in nodes.values()):
        raise BadSnapshot("a file that nothing refers to in the luggage")


def fill(luggage: Luggage, files: Mapping[str, bytes], now: int) -> None:
    """Put `files` (path from the root, without a leading slash, to contents) into the luggage, and make the
    directories that they need. A path that ends in a slash is a directory. Raises `CallFailed`."""
    for path, data in files.items():
        route = parse_text(path.removeprefix("/"), luggage.limits)
        if not route.names or route.names[0] in luggage.mounts:
            raise CallFailed(EINVAL, f"{path} cannot be packed into the luggage")
        above = len(route.names) if route.directory else len(route.names) - 1
        for count in range(1, above + 1):
            with walk_luggage(luggage, luggage.root, Route(route.names[:count]), True) as spot:
                if isinstance(spot, ResolvedLuggagePath) and spot.node is None:
                    spot.mkdir(now)
        if route.directory:
            continue
        with walk_luggage(luggage, luggage.root, route, True) as spot:
            opened = spot.open(CREAT | EXCL, False, True, now)
            assert isinstance(opened, LuggageFile)
            luggage.need(data)
            opened.node.data = data
            luggage.used += len(data)
            opened.close()


def with_contents(encoded: bytes, contents: FileContents, most: int) -> bytes:
    """An encoded WASI state (`WasiState.encode`) that has the contents of all its files itself.

    contents: of the files that travel as blocks; most: bytes of the result

    Raises `BadSnapshot`.
    """
    try:
        value = canonical.decode(encoded, canonical.DecodeBounds(max_bytes=most, max_depth=16, max_items=4_000_000))
    except NotCanonical as error:
        raise BadSnapshot(f"the WASI state cannot be read: {error}") from None
    match value:
        case [_, _, _, [_, list(items)], *_]:
            left = most
            for item in items:
                if isinstance(item, list) and len(item) == 6 and item[1] == REGULAR_FILE and isinstance(item[5], list):
                    item[5] = bytes(_contents(item[5], contents, left))
                    left -= len(item[5])
            return canonical.encode(value)
    raise BadSnapshot("not a WASI state")
