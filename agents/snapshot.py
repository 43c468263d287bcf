"""Snapshot: the whole state of a suspended agent as bytes.

Memories (only the pages that differ from the image's own initial memory, compressed), mutable globals,
tables that changed, the continuation as a list of frames, innermost first, the call that the agent waits
in, and the state of its virtual WASI. An agent that has not started has a snapshot too: its luggage and
arguments.

Format only; nothing is executed, and no engine is known here. A line with the version, then CBOR byte
strings: a header, the WASI state, and the compressed blocks of each memory. Large parts are outside the
header, so that reading them needs no copy.

Invariants: `Snapshot.decode(s.encode()) == s`; `Snapshot.decode(b).encode() == b` for every accepted `b`;
`decode` raises only `BadSnapshot`, and so does `check`, which compares it with its image. Nothing may be
restored unless both passed. A peer that lies within these limits can make its agent compute nonsense, and
nothing more.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

import attrs

from agents.brief import brief
from agents.wasm.bounds import WASM_PAGE_BYTES

from . import canonical
from .canonical import DIGEST_SIZE, Buffer, DecodeBounds
from .errors import BadSnapshot, NotCanonical
from .evolve import evolve
from .image import AgentImage
from .rewrite.metadata import Frame, check_frames
from .waits import (
    FOREVER_NS,
    MAX_BODY_BYTES,
    MAX_ENTRY_BYTES,
    MAX_HOST_BYTES,
    MAX_OPEN_REQUESTS,
    MAX_REQUEST_ID_BYTES,
    MAX_SERVICE_BYTES,
    MAX_TOPIC_BYTES,
    NEXT_STOP,
    Go,
    GoAt,
    Kept,
    Message,
    Wait,
    decode_wait,
    encode_wait,
)

try:
    import zstandard
except ImportError:  # it has no build for a browser's Python
    from . import zstandard_fallback as zstandard  # type: ignore[no-redef]

T = TypeVar("T")
U = TypeVar("U")

SNAPSHOT_MAGIC = b"portcall snapshot 1\n"
# Its memories are not in it, but named by their roots (`agents.blocks`): of an agent that is moved while it runs.
ROOTED_MAGIC = b"portcall snapshot 2\n"
PAGE_BYTES = 4096  # bytes: the unit in which memories are compared and travel
# Bytes of memory compressed at once. Pieces can be compressed in parallel. They begin at multiples of this, so
# unchanged memory gives the same block as before, and a peer that has the block need not receive it again.
CHUNK_BYTES = 128 << 10
MAX_SNAPSHOT_BYTES = 1 << 30  # of an encoded snapshot: what a peer can make a station hold for one agent
MAX_WASI_BYTES = 128 << 20  # bytes of encoded WASI state
MAX_MEMORIES = 64
MAX_NAME_BYTES = 1024  # bytes of UTF-8 in the name of an import
# Bytes of memory from which on its blocks are kept as one object: thousands of small ones leave the allocator's heaps
# in pieces, which stay with the process when they are freed.
_IN_ONE = 4 << 20
_LEVEL = 1  # of zstd: a hop waits for it, and the network is seldom slower than level 3
_HEADER = DecodeBounds(max_bytes=128 << 20, max_depth=8, max_items=4_000_000)
_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1

# What an agent between two tasks waits in: no import, and so no call of its own; and what for.
TASK_CALL = ("portcall", "(task)")
ONWARD = Go(NEXT_STOP, FOREVER_NS)

Stage = Literal["new", "start", "run"]  # not started; inside the start function; inside the entry


Map = Callable[[Callable[[T], U], Iterable[T]], Iterable[U]]  # like `map`; may use threads


def _joined(blocks: Iterable[bytes | memoryview]) -> bytes:
    return b"".join(blocks)


@attrs.frozen
class Changed:
    """The pages that differ in `CHUNK_BYTES` of memory: their compressed contents, and the parts that they are of,
    each as its address and its size in bytes.
    """

    block: bytes | memoryview = attrs.field(repr=False)
    parts: tuple[tuple[int, int], ...] = attrs.field(repr=brief)

    def contents(self) -> list[bytearray]:
        """The contents of the parts. Raises `BadSnapshot` unless the block holds exactly these."""
        made = [bytearray(size) for _, size in self.parts]
        _expand((self.block, [memoryview(part) for part in made]))
        return made


@attrs.frozen
class MemoryState:
    """One memory: its size in 64 KiB pages, and what differs.

    runs: (first page, number of pages) of 4 KiB, ascending and not adjacent. blocks: these pages, cut at multiples of
    `CHUNK_BYTES` of memory, with the pages of each piece joined and compressed on their own.
    """

    pages: int
    runs: tuple[tuple[int, int], ...] = attrs.field(repr=brief)
    blocks: tuple[bytes | memoryview, ...] = attrs.field(repr=False, eq=_joined)

    @property
    def size(self) -> int:
        """Bytes of the pages that differ."""
        return PAGE_BYTES * sum(count for _, count in self.runs)

    @classmethod
    def capture(cls, memory: memoryview, runs: Iterable[tuple[int, int]], each: Map[Any, Any] = map) -> MemoryState:
        """The state of a memory whose pages `runs` differ."""
        kept = tuple(runs)
        blocks = each(_compress, _pieces(memory, kept))
        if sum(count for _, count in kept) * PAGE_BYTES >= _IN_ONE:
            blocks = _in_one(blocks)
        return cls(len(memory) // WASM_PAGE_BYTES, kept, tuple(blocks))

    def changed(self) -> dict[int, Changed]:
        """What differs in each `CHUNK_BYTES` of memory, by their number. Nothing is decompressed yet."""
        pieces = zip(self.blocks, _spans(self.runs), strict=True)
        return {parts[0][0] // CHUNK_BYTES: Changed(block, tuple(parts)) for block, parts in pieces}

    def restore(self, memory: memoryview, each: Map[Any, Any] = map) -> None:
        """Put the pages back. Raises `BadSnapshot` unless the blocks hold exactly these pages."""
        for _ in each(_expand, zip(self.blocks, _pieces(memory, self.runs), strict=True)):
            pass


def _in_one(blocks: Iterable[bytes]) -> list[memoryview]:
    """These blocks, as parts of one object."""
    buffer, lengths = io.BytesIO(), []
    for block in blocks:
        lengths.append(buffer.write(block))
    rest = memoryview(buffer.getvalue())
    found = []
    for length in lengths:
        found.append(rest[:length])
        rest = rest[length:]
    return found


def _pieces(memory: memoryview, runs: Iterable[tuple[int, int]]) -> list[list[memoryview]]:
    """The pages of `runs`, as one piece for each `CHUNK_BYTES` of memory that has any; each a list of parts."""
    return [[memory[at : at + size] for at, size in parts] for parts in _spans(runs)]


def _spans(runs: Iterable[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """As `_pieces`, each part as its address and its size."""
    pieces: list[list[tuple[int, int]]] = []
    last = -1
    for first, count in runs:
        at, end = first * PAGE_BYTES, (first + count) * PAGE_BYTES
        while at < end:
            number = at // CHUNK_BYTES
            if number != last:
                pieces.append([])
                last = number
            size = min(end, (number + 1) * CHUNK_BYTES) - at
            pieces[-1].append((at, size))
            at += size
    return pieces


def _count(runs: Iterable[tuple[int, int]]) -> int:
    """The number of pieces in `runs`."""
    found, last = 0, -1
    for first, count in runs:
        begins, ends = first * PAGE_BYTES // CHUNK_BYTES, ((first + count) * PAGE_BYTES - 1) // CHUNK_BYTES
        found += ends - begins + (begins != last)
        last = ends
    return found


class _Contexts(threading.local):
    """One compressor and decompressor per thread: making them takes longer than compressing a small memory."""

    def __init__(self) -> None:
        # As for a large memory, however small the piece: otherwise the compressor takes more time and saves less.
        large = zstandard.ZstdCompressionParameters.from_level(_LEVEL, source_size=4 << 20)
        self.compressor = zstandard.ZstdCompressor(compression_params=large)
        # A larger window would demand memory that no piece needs.
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=2 * CHUNK_BYTES)


_CONTEXTS = _Contexts()


def _compress(parts: list[memoryview]) -> bytes:
    return _CONTEXTS.compressor.compress(parts[0] if len(parts) == 1 else b"".join(parts))


def _expand(work: tuple[bytes | memoryview, list[memoryview]]) -> None:
    """Decompress one block into its parts, and never more than they hold."""
    block, parts = work
    size = sum(map(len, parts))
    try:
        if zstandard.get_frame_parameters(block).content_size != size:
            raise BadSnapshot("a block of a memory is not as long as its pages")
        if len(parts) == 1:
            reader = _CONTEXTS.decompressor.stream_reader(block)
            target = parts[0]
            while target:
                got = reader.readinto(target)
                if not got:
                    raise BadSnapshot("a block of a memory is shorter than its pages")
                target = target[got:]
            if reader.read(1):
                raise BadSnapshot("a block of a memory is longer than its pages")
        else:
            data = memoryview(_CONTEXTS.decompressor.decompress(block, max_output_size=size))
            for part in parts:
                part[:], data = data[: len(part)], data[len(part) :]
    except (zstandard.ZstdError, ValueError) as error:
        raise BadSnapshot(f"a block of a memory cannot be decompressed: {error}") from None


@attrs.frozen
class MemoryRoot:
    """A memory that is elsewhere: its size in 64 KiB pages, and the root of its blocks (`agents.blocks`)."""

    pages: int
    root: bytes


@attrs.frozen
class TableState:
    """A table that the agent's code may change: its size, and (element, function) for each changed element.

    A function is named by its position in the export `portcall.functions`; None is null.
    """

    size: int
    changed: tuple[tuple[int, int | None], ...] = attrs.field(repr=brief)


@attrs.frozen
class Pending:
    """The host call that the agent is in. `wait` is None if it was stopped before the call was made."""

    module: str
    name: str
    args: tuple[int, ...] = attrs.field(repr=brief)
    wait: Wait | None


@attrs.frozen
class Snapshot:
    """A suspended agent.

    image: digest of its image
    entry: the export that was called first
    args: with these arguments, as bits
    stage: how far it has come: "new" before its first instruction
    globals: index -> (type letter, bits); for a reference (letter r) the function's position, or None for null
    memories: their contents, by index
    tables: index -> state
    frames: the stack, innermost first
    pending: the host call that it is in, or None
    kept: a message or reply that it has not read whole yet
    wasi: its WASI state, encoded; empty if it has none
    roots: of its memories, in place of their contents: format version 2
    files: of the contents of its large files, where they too are elsewhere (`agents.wasi.file_blocks`)
    """

    image: bytes
    entry: str
    args: tuple[int, ...] = attrs.field(default=(), repr=brief)
    stage: Stage = "new"
    globals: Mapping[int, tuple[str, int | None]] = attrs.field(factory=dict, repr=brief)
    memories: tuple[MemoryState, ...] = attrs.field(default=(), repr=brief)
    tables: Mapping[int, TableState] = attrs.field(factory=dict, repr=brief)
    frames: tuple[Frame, ...] = attrs.field(default=(), repr=brief)
    pending: Pending | None = None
    kept: Kept = attrs.field(factory=Kept)
    wasi: bytes = attrs.field(default=b"", repr=False)
    roots: tuple[MemoryRoot, ...] = attrs.field(default=(), repr=brief)
    files: MemoryRoot | None = None

    @property
    def memory_pages(self) -> tuple[int, ...]:
        """The sizes of its memories, in 64 KiB pages."""
        return (*(memory.pages for memory in self.memories), *(memory.pages for memory in self.roots))

    def with_memories(self, memories: tuple[MemoryState, ...], wasi: bytes) -> Snapshot:
        """The same state, with the contents of its memories in place of roots. `wasi`: with those of its files."""
        return evolve(self, memories=memories, roots=(), wasi=wasi, files=None)

    @property
    def weak(self) -> str | None:
        """The export to call on arrival, if the stack was left behind."""
        if self.pending is not None and isinstance(self.pending.wait, GoAt):
            return self.pending.wait.entry
        return None

    @property
    def between_tasks(self) -> bool:
        """Whether a task of its itinerary has returned, and the next has not begun."""
        return self.pending is not None and (self.pending.module, self.pending.name) == TASK_CALL

    def calling(self, to: str, task: str) -> Snapshot:
        """The state, between two tasks or before the first, that goes to a station and has it call the next.

        to: the station's key in text form
        task: the export
        """
        if self.stage == "new":
            return evolve(self, entry=task, args=())
        return evolve(self, pending=Pending(*TASK_CALL, (), GoAt(to, task)))

    def encode(self) -> bytes:
        """Deterministic bytes."""
        return b"".join(self.parts())

    def parts(self) -> list[bytes | memoryview]:
        """The same bytes in parts: the headers, the WASI state, and each block of a memory."""
        header: dict[str, Any] = {
            "image": self.image,
            "entry": self.entry,
            "args": list(self.args),
            "stage": self.stage,
            "globals": {index: _encode_global(*value) for index, value in self.globals.items()},
            "memories": [
                [memory.pages, _encode_runs(memory.runs), list(map(len, memory.blocks))] for memory in self.memories
            ],
            "tables": {index: [table.size, dict(table.changed)] for index, table in self.tables.items()},
            "frames": [[frame.resume, frame.site, frame.values] for frame in self.frames],
            "pending": None if self.pending is None else _encode_pending(self.pending),
            "kept": _encode_kept(self.kept),
        }
        if self.roots:
            header["roots"] = [[memory.pages, memory.root] for memory in self.roots]
        if self.files is not None:
            header["files"] = [self.files.pages, self.files.root]
        parts: list[bytes | memoryview] = [ROOTED_MAGIC if self.roots else SNAPSHOT_MAGIC]
        for contents in ((canonical.encode(header),), (self.wasi,), *(memory.blocks for memory in self.memories)):
            parts += [canonical.byte_string_head(sum(map(len, contents))), *contents]
        return parts

    @classmethod
    def decode(cls, data: Buffer) -> Snapshot:
        """The snapshot that `encode` wrote as `data`; it keeps views of `data`. Raises `BadSnapshot`."""
        if len(data) > MAX_SNAPSHOT_BYTES:
            raise BadSnapshot(f"{len(data)} bytes; at most {MAX_SNAPSHOT_BYTES} are accepted")
        view = memoryview(data)
        magic = bytes(view[: len(SNAPSHOT_MAGIC)])
        if magic not in (SNAPSHOT_MAGIC, ROOTED_MAGIC):
            raise BadSnapshot("not a snapshot of format version 1 or 2")
        try:
            start, end = canonical.byte_string_at(view, len(SNAPSHOT_MAGIC))
            header = canonical.decode(view[start:end], _HEADER)
            memories = header.get("memories") if isinstance(header, dict) else None
            if not isinstance(memories, list) or len(memories) > MAX_MEMORIES:
                raise BadSnapshot(f"a snapshot without a list of at most {MAX_MEMORIES} memories")
            wasi, *blocks = canonical.byte_strings(view, end, 1 + len(memories))
        except NotCanonical as error:
            raise BadSnapshot(f"not a snapshot: {error}") from None
        if len(wasi) > MAX_WASI_BYTES:
            raise BadSnapshot(f"{len(wasi)} bytes of WASI state; at most {MAX_WASI_BYTES} are accepted")
        return _read(header, bytes(wasi), blocks, magic == ROOTED_MAGIC)

    def check(self, image: AgentImage) -> None:
        """Check that it belongs to `image`, and that the image can have such frames. Raises `BadSnapshot`."""
        if self.image != image.digest:
            raise BadSnapshot("the snapshot belongs to another image")
        metadata = image.metadata
        if self.frames:
            if metadata is None:
                raise BadSnapshot("a snapshot with frames of an image that cannot be suspended")
            check_frames(metadata, self.frames)
            innermost = metadata.site(self.frames[0].resume, self.frames[0].site)
            # Functions that only return what the call returns leave no frame, so either may be missing
            # (docs/adr/no-frame-for-a-last-call).
            if innermost.kind == "poll" and self.pending is not None:
                raise BadSnapshot("the innermost frame waits for nothing, and the agent in a call")
        elif self.pending is not None and self.weak is None and not self.between_tasks and metadata is None:
            raise BadSnapshot("an agent that waits in a call, of an image that cannot be suspended")
        state = self.frames or self.pending or self.memories or self.globals or self.tables or self.roots
        if self.stage == "new" and state:
            raise BadSnapshot("an agent that has not begun, and has state")


# --- the header ---


def _encode_global(letter: str, value: int | None) -> list[Any]:
    return [letter, value.to_bytes(16, "little") if letter == "v" and value is not None else value]


def _encode_runs(runs: tuple[tuple[int, int], ...]) -> list[int]:
    """Gap before each run and its length, alternating."""
    numbers, end = [], 0
    for first, count in runs:
        numbers += [first - end, count]
        end = first + count
    return numbers


def _encode_pending(pending: Pending) -> list[Any]:
    wait = None if pending.wait is None else encode_wait(pending.wait)
    return [pending.module, pending.name, list(pending.args), wait]


def _encode_kept(kept: Kept) -> list[Any]:
    message = None if kept.message is None else [kept.message.sender, kept.message.body]
    if message is not None and kept.message is not None and (kept.message.topic or kept.message.reply_to):
        message += [kept.message.topic, kept.message.reply_to]
    encoded: list[Any] = [message, None if kept.reply is None else list(kept.reply), kept.sender]
    last = [kept.topic, kept.reply_to] if kept.topic or kept.reply_to else []
    if kept.request is not None or kept.requests or last:  # of agents with clients, or that are asked, only
        encoded += [kept.request, list(kept.requests), *last]
    return encoded


_FIELDS = {
    *("image", "entry", "args", "stage", "globals", "memories", "tables", "frames", "pending", "kept"),
}


def _read(header: Any, wasi: bytes, blocks: list[memoryview], rooted: bool) -> Snapshot:
    given = set(header) if isinstance(header, dict) else set()
    if given - {"files"} != (_FIELDS | {"roots"} if rooted else _FIELDS) or ("files" in given and not rooted):
        raise BadSnapshot("the fields are not those of a snapshot")
    if not isinstance(header["image"], bytes) or len(header["image"]) != DIGEST_SIZE:
        raise BadSnapshot("the image's digest is none")
    if header["stage"] not in ("new", "start", "run"):
        raise BadSnapshot(f"the stage {header['stage']!r} is unknown")
    return Snapshot(
        image=header["image"],
        entry=_text(header["entry"], MAX_ENTRY_BYTES, "the entry"),
        args=_numbers(header["args"], 1000, (1 << 128) - 1, "the entry's arguments"),
        stage=header["stage"],
        globals={
            _number(index, _U32, "a global's index"): _read_global(value)
            for index, value in _map(header["globals"], "the globals").items()
        },
        memories=tuple(_read_memory(value, block) for value, block in zip(header["memories"], blocks, strict=True)),
        tables={
            _number(index, _U32, "a table's index"): _read_table(value)
            for index, value in _map(header["tables"], "the tables").items()
        },
        frames=tuple(_read_frame(value) for value in _list(header["frames"], None, "the frames")),
        pending=None if header["pending"] is None else _read_pending(header["pending"]),
        kept=_read_kept(header["kept"]),
        wasi=wasi,
        roots=_read_roots(header) if rooted else (),
        files=_read_root(header["files"]) if "files" in given else None,
    )


def _read_roots(header: dict[str, Any]) -> tuple[MemoryRoot, ...]:
    rows = _list(header["roots"], None, "the roots of memories")
    if header["memories"] or not 0 < len(rows) <= MAX_MEMORIES:
        raise BadSnapshot(f"not the roots of 1 to {MAX_MEMORIES} memories, in place of the memories")
    return tuple(map(_read_root, rows))


def _read_root(row: Any) -> MemoryRoot:
    pages, root = _list(row, 2, "a memory's root")
    if not isinstance(root, bytes) or len(root) != DIGEST_SIZE:
        raise BadSnapshot("a memory's root is none")
    return MemoryRoot(_number(pages, 1 << 32, "a memory's size"), root)


def _read_global(value: Any) -> tuple[str, int | None]:
    letter, bits = _list(value, 2, "a global")
    if letter == "v":
        if not isinstance(bits, bytes) or len(bits) != 16:
            raise BadSnapshot("a vector that is not 16 bytes")
        return "v", int.from_bytes(bits, "little")
    if letter == "r":
        return "r", None if bits is None else _number(bits, _U32, "a function's position")
    if letter not in ("i", "f", "I", "F"):
        raise BadSnapshot("a global of no known type")
    return letter, _number(bits, _U32 if letter in "if" else _U64, "a global's value")


def _read_memory(value: Any, block: memoryview) -> MemoryState:
    pages, numbers, lengths = _list(value, 3, "a memory")
    size = _number(pages, 1 << 32, "a memory's size")
    items = _numbers(numbers, None, 1 << 36, "a memory's runs")
    if len(items) % 2:
        raise BadSnapshot("a run of pages without a length")
    runs, end = [], 0
    for gap, count in zip(items[::2], items[1::2], strict=True):
        # Runs are not adjacent, so a list of pages has one form, and is no longer than the pages it names.
        if not count or (not gap and end):
            raise BadSnapshot("an empty run of pages, or one that belongs to the run before it")
        runs.append((end + gap, count))
        end += gap + count
    if end * PAGE_BYTES > size * WASM_PAGE_BYTES:
        raise BadSnapshot("pages beyond the end of their memory")
    sizes = _numbers(lengths, None, MAX_SNAPSHOT_BYTES, "a memory's blocks")
    if len(sizes) != _count(runs) or sum(sizes) != len(block):
        raise BadSnapshot("other blocks than a memory's pages need")
    blocks = []
    for length in sizes:
        blocks.append(block[:length])
        block = block[length:]
    return MemoryState(size, tuple(runs), tuple(blocks))


def _read_table(value: Any) -> TableState:
    size, changed = _list(value, 2, "a table")
    elements = []
    for element, function in _map(changed, "a table's elements").items():
        if function is not None:
            _number(function, _U32, "a function's position")
        elements.append((_number(element, _U32, "an element's index"), function))
    if elements and elements[-1][0] >= _number(size, _U32, "a table's size"):
        raise BadSnapshot("an element beyond the end of its table")
    return TableState(_number(size, _U32, "a table's size"), tuple(elements))


def _read_frame(value: Any) -> Frame:
    resume, site, values = _list(value, 3, "a frame")
    if not isinstance(values, bytes):
        raise BadSnapshot("a frame without values")
    return Frame(_number(resume, _U32, "a frame's function"), _number(site, _U32, "a frame's site"), values)


def _read_pending(value: Any) -> Pending:
    module, name, args, wait = _list(value, 4, "the pending call")
    return Pending(
        _text(module, MAX_NAME_BYTES, "an import's module"),
        _text(name, MAX_NAME_BYTES, "an import's name"),
        _numbers(args, 1000, _U64, "the pending call's arguments"),
        None if wait is None else decode_wait(wait),
    )


def _read_kept(value: Any) -> Kept:
    size = len(value) if isinstance(value, list) and len(value) in (5, 7) else 3
    message, reply, sender, *served = _list(value, size, "what a call kept")
    kept = Kept(sender=_text(sender, MAX_HOST_BYTES, "a sender"))
    if message is not None:
        whole = isinstance(message, list) and len(message) == 4
        who, body, *more = _list(message, 4 if whole else 2, "a message")
        kept.message = Message(_text(who, MAX_HOST_BYTES, "a sender"), _body(body), *_topic(more or ["", ""]))
    if reply is not None:
        service, request, answer = _list(reply, 3, "a reply")
        kept.reply = (_text(service, MAX_SERVICE_BYTES, "a service"), _body(request), _body(answer))
    if served:
        request, idents, *last = served
        kept.topic, kept.reply_to = _topic(last or ["", ""])
        if len(_list(idents, None, "requests")) > MAX_OPEN_REQUESTS or (request is None and not idents and not last):
            raise BadSnapshot("no requests, or more than an agent can have accepted")
        kept.request = None if request is None else _body(request)
        kept.requests = tuple(_text(each, MAX_REQUEST_ID_BYTES, "a request") for each in idents)
    return kept


def _topic(value: list[Any]) -> tuple[str, str]:
    topic, reply_to = value
    return _text(topic, MAX_TOPIC_BYTES, "a topic"), _text(reply_to, MAX_REQUEST_ID_BYTES, "a question")


def _list(value: Any, size: int | None, what: str) -> list[Any]:
    if not isinstance(value, list) or size not in (None, len(value)):
        raise BadSnapshot(f"{what}: not a list of the right length")
    return value


def _map(value: Any, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise BadSnapshot(f"{what}: not a map")
    return value


def _number(value: Any, most: int, what: str) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise BadSnapshot(f"{what}: {value!r} is no number from 0 to {most}")
    return value


def _numbers(value: Any, most_items: int | None, most: int, what: str) -> tuple[int, ...]:
    items = _list(value, None, what)
    if most_items is not None and len(items) > most_items:
        raise BadSnapshot(f"{what}: more than {most_items}")
    for item in items:
        if type(item) is not int or not 0 <= item <= most:
            _number(item, most, what)  # it says what is wrong
    return tuple(items)


def _text(value: Any, most: int, what: str) -> str:
    if not isinstance(value, str) or len(value.encode()) > most:
        raise BadSnapshot(f"{what}: not a text of at most {most} bytes")
    return value


def _body(value: Any) -> bytes:
    if not isinstance(value, bytes) or len(value) > MAX_BODY_BYTES:
        raise BadSnapshot(f"not at most {MAX_BODY_BYTES} bytes")
    return value


def started_state(image: AgentImage, *, entry: str | None = None, granted: bool = False) -> Snapshot | None:
    """The state of an interpreter that was packed when it had started; None if the agent begins anew.

    entry: the export that is called first; None for the manifest's
    granted: whether it gets directories, which an interpreter that has started would not see

    Raises `BadSnapshot`.
    """
    if not image.started or granted or entry not in (None, image.manifest.entry):
        return None
    snapshot = Snapshot.decode(image.started)
    snapshot.check(image)
    return snapshot
