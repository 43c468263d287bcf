"""Messages as bytes, and back. Bounded before anything is allocated, and without copies of bodies.

    b"PCH" version(1) | length of the head, u32 big-endian | head | bodies, one after the other

The head is deterministic CBOR: an array of the message's number and its fields in the order of the class.
Which bodies follow, and of what size, the head says: for OFFER by its parts and the indexes that come
along, for TRANSFER by pairs of index and size.

Not here: who sent it, and whether it is welcome. Invariants: `decode(b"".join(encode(m)))` equals `m`;
every message has one encoding; decoding raises `MalformedMessage` and nothing else, and allocates no more
than `Limits` allow, and for a `Reader` no more than announced sizes within `Limits`.
"""

from __future__ import annotations

import struct
from typing import Any

from attrs import frozen

from agents import canonical
from agents.errors import NotCanonical
from docking.errors import MalformedMessage
from docking.handoff.messages import (
    MAX_PARTS,
    Abort,
    Body,
    Buffer,
    Commit,
    Done,
    Message,
    Offer,
    Part,
    Receipt,
    Refuse,
    Side,
    Standing,
    State,
    Status,
    Transfer,
    Want,
)

VERSION = 1
MAGIC = b"PCH"
PREFIX = struct.Struct(">3sBI")
PREFIX_SIZE = PREFIX.size  # 8 bytes

_NUMBERS: dict[type[Message], int] = {
    Offer: 1,
    Want: 2,
    Refuse: 3,
    Transfer: 4,
    Receipt: 5,
    Commit: 6,
    Done: 7,
    Abort: 8,
    Status: 9,
    State: 10,
}
_CLASSES = {number: cls for cls, number in _NUMBERS.items()}
# An array's index is its number on the wire: order is for ever.
_SIDES = (Side.SOURCE, Side.DESTINATION)
_STANDINGS = (Standing.PENDING, Standing.UNKNOWN, Standing.SETTLED, Standing.DISCARDED)


@frozen
class Limits:
    """What is read at most, in bytes.

    `head` holds an offer of 64 parts; `bodies` is the station's policy.
    """

    head: int = 16 * 1024
    bodies: int = 1 << 30


DEFAULT_LIMITS = Limits()


def encode(message: Message) -> list[Buffer]:
    """The message as buffers to be sent one after the other:

    prefix and head in one, then each body as it is.
    """
    head = canonical.encode(_head(message))
    bodies = message.bodies if isinstance(message, Offer | Transfer) else ()
    return [PREFIX.pack(MAGIC, VERSION, len(head)) + head, *(body.data for body in bodies)]


def decode(data: Buffer, limits: Limits = DEFAULT_LIMITS) -> Message:
    """The message whose encoding `data` is, exactly. Its bodies are views of `data`.

    Raises `MalformedMessage`.
    """
    view = memoryview(data).cast("B")
    end = PREFIX_SIZE + head_size(view[:PREFIX_SIZE], limits)
    if len(view) < end:
        raise MalformedMessage("the message ends inside its head")
    head = _Head.of(view[PREFIX_SIZE:end], limits)
    if len(view) != end + head.bodies_size:
        raise MalformedMessage(f"{len(view) - end} bytes of bodies, where {head.bodies_size} were announced")
    return head.message(view[end:])


def head_size(prefix: Buffer, limits: Limits = DEFAULT_LIMITS) -> int:
    """The size in bytes of the head that follows this prefix of 8 bytes. Raises `MalformedMessage`."""
    if len(prefix) != PREFIX_SIZE:
        raise MalformedMessage("the message ends inside its prefix")
    magic, version, size = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise MalformedMessage("this is not a message of the handoff protocol")
    if version != VERSION:
        raise MalformedMessage(f"version {version} of the handoff protocol is not spoken here", "version")
    if size > limits.head:
        raise MalformedMessage(f"a head of {size} bytes; at most {limits.head} are read", "too-large")
    return int(size)


class Reader:
    """Takes a message in pieces, as a connection gives them; each byte is copied once, into its place."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._start = bytearray()
        self._needed = PREFIX_SIZE
        self._head: _Head | None = None
        self._bodies = memoryview(b"")
        self._filled = 0

    def feed(self, chunk: Buffer) -> Message | None:
        """The message, when `chunk` was its last piece.

        Raises `MalformedMessage`, also for bytes after it.
        """
        view = memoryview(chunk).cast("B")
        while self._head is None:
            take = view[: self._needed - len(self._start)]
            self._start += take
            view = view[len(take) :]
            if len(self._start) < self._needed:
                return None
            if self._needed == PREFIX_SIZE:
                self._needed += head_size(self._start, self._limits)
                continue
            self._head = _Head.of(memoryview(self._start)[PREFIX_SIZE:], self._limits)
            self._bodies = memoryview(bytearray(self._head.bodies_size))
        end = self._filled + len(view)
        if end > len(self._bodies):
            raise MalformedMessage("bytes after the message")
        self._bodies[self._filled : end] = view
        self._filled = end
        return self._head.message(self._bodies) if end == len(self._bodies) else None


@frozen
class _Head:
    """A decoded head: the class and fields of the message, and the index and size of each body to come."""

    cls: type[Message]
    fields: list[Any]
    sizes: list[tuple[int, int]]
    bodies_size: int

    @classmethod
    def of(cls, data: Buffer, limits: Limits) -> _Head:
        bounds = canonical.Bounds(max_bytes=limits.head, max_depth=4, max_items=5 * MAX_PARTS + 64)
        try:
            value = canonical.decode(data, bounds)
        except NotCanonical as error:
            raise MalformedMessage(f"head: {error}") from error
        if type(value) is not list or len(value) < 2 or type(value[0]) is not int:
            raise MalformedMessage("head: not an array of a number and fields")
        message = _CLASSES.get(value[0])
        if message is None:
            raise MalformedMessage(f"head: no message has the number {value[0]}")
        fields = value[1:]
        if len(fields) != len(message.__attrs_attrs__):
            raise MalformedMessage(f"head: {len(fields)} fields are not those of {message.__name__.upper()}")
        sizes = _sizes(message, fields)
        total = sum(size for _, size in sizes)
        if total > limits.bodies:
            # Endless bodies: the size is known, and bounded, before the first byte of them is read.
            raise MalformedMessage(f"{total} bytes of bodies; at most {limits.bodies} are read", "too-large")
        return cls(message, fields, sizes, total)

    def message(self, data: memoryview) -> Message:
        fields = self.fields
        if self.cls in (Offer, Transfer):
            bodies, at = [], 0
            for index, size in self.sizes:
                bodies.append(Body(index, data[at : at + size]))
                at += size
            fields = [*fields[:-1], tuple(bodies)]
        return self.cls(*fields)


def _head(message: Message) -> list[Any]:
    number = _NUMBERS[type(message)]
    match message:
        case Offer():
            return [
                number,
                message.hid,
                message.agent,
                message.hop,
                message.source,
                message.destination,
                message.nonce,
                message.epoch,
                message.visit,
                message.expires,
                [[part.kind, part.digest, part.size] for part in message.parts],
                [body.index for body in message.bodies],
            ]
        case Want(hid, parts):
            return [number, hid, list(parts)]
        case Refuse(hid, code, reason, retry_after):
            return [number, hid, code, reason, retry_after]
        case Transfer(hid, bodies):
            return [number, hid, [[body.index, len(body.data)] for body in bodies]]
        case Receipt(hid, epoch, receipt):
            return [number, hid, epoch, receipt]
        case Commit(hid, commit):
            return [number, hid, commit]
        case Done(hid) | Abort(hid):
            return [number, hid]
        case Status(hid, of, epoch):
            return [number, hid, _SIDES.index(of), epoch]
        case State(hid, of, standing):
            return [number, hid, _SIDES.index(of), _STANDINGS.index(standing)]


def _sizes(cls: type[Message], fields: list[Any]) -> list[tuple[int, int]]:
    """Puts values for what the head spells otherwise into `fields`; gives index and size of each body."""
    if cls is Offer:
        fields[9] = parts = tuple(Part(*_array(part, 3, "part")) for part in _array(fields[9], None, "parts"))
        indexes = _array(fields[10], None, "bodies")
        if not all(type(index) is int and 0 <= index < len(parts) for index in indexes):
            raise MalformedMessage("bodies: an index that is not of a part")
        return [(index, parts[index].size) for index in indexes]
    if cls is Transfer:
        pairs = [_array(pair, 2, "body") for pair in _array(fields[1], None, "bodies")]
        if not all(type(index) is int and type(size) is int and size >= 0 for index, size in pairs):
            raise MalformedMessage("bodies: not pairs of index and size")
        return [(index, size) for index, size in pairs]
    if cls is Want:
        fields[1] = tuple(_array(fields[1], None, "parts"))
        if not all(type(index) is int for index in fields[1]):
            raise MalformedMessage("parts: not indexes")
    if cls in (Status, State):
        fields[1] = _nth(_SIDES, fields[1], "of")
    if cls is State:
        fields[2] = _nth(_STANDINGS, fields[2], "standing")
    return []


def _array(value: Any, size: int | None, what: str) -> list[Any]:
    if type(value) is not list or len(value) > MAX_PARTS or size not in (None, len(value)):
        raise MalformedMessage(f"{what}: not an array of {'a bounded number of' if size is None else size} values")
    return value


def _nth(values: tuple[Any, ...], number: Any, what: str) -> Any:
    if type(number) is not int or not 0 <= number < len(values):
        raise MalformedMessage(f"{what}: not a number from 0 to {len(values) - 1}")
    return values[number]
