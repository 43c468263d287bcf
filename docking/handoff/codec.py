"""Messages as bytes, and back. Sizes are checked before anything is allocated, and bodies are not copied.

    b"PCH" version(1) | length of the head, u32 big-endian | head | bodies, one after the other

The head is deterministic CBOR: an array of the message's number and its fields, in the order of the class.
It also says which bodies follow and how large they are: for OFFER through its parts and the indexes of those
included, for TRANSFER through pairs of index and size.

Not here: who sent the message, and whether to accept it. Invariants: `decode(b"".join(encode(m)))` equals `m`;
every message has one encoding; decoding raises `MalformedMessage` and nothing else; it allocates no more
than `MessageLimits` allow, and a `MessageReader` no more than the announced sizes within `MessageLimits`.
"""

from __future__ import annotations

import enum
import struct
from typing import Any

from attrs import field, frozen

from agents import canonical
from agents.brief import brief
from agents.canonical import Buffer
from agents.errors import NotCanonical
from docking.errors import MalformedMessage
from docking.handoff.messages import (
    MAX_PARTS,
    MESSAGE_NAMES,
    Abort,
    Body,
    CommitMessage,
    Done,
    HandoffStanding,
    Message,
    Offer,
    Part,
    ReceiptMessage,
    Refuse,
    Side,
    StateAnswer,
    Status,
    Transfer,
    Want,
)

PROTOCOL_VERSION = 1
MAGIC = b"PCH"
FRAME_PREFIX = struct.Struct(">3sBI")
FRAME_PREFIX_SIZE = FRAME_PREFIX.size  # 8 bytes

_NUMBERS: dict[type[Message], int] = {
    Offer: 1,
    Want: 2,
    Refuse: 3,
    Transfer: 4,
    ReceiptMessage: 5,
    CommitMessage: 6,
    Done: 7,
    Abort: 8,
    Status: 9,
    StateAnswer: 10,
}
_CLASSES = {number: cls for cls, number in _NUMBERS.items()}
# The index is the number on the wire: the order never changes.
_SIDES = (Side.SOURCE, Side.DESTINATION)
_STANDINGS = (HandoffStanding.PENDING, HandoffStanding.UNKNOWN, HandoffStanding.SETTLED, HandoffStanding.DISCARDED)


@frozen
class MessageLimits:
    """The largest head and bodies that are read, in bytes.

    The default `head_bytes` has room for an offer of 64 parts; `body_bytes` comes from the station's policy.
    """

    head_bytes: int = 16 * 1024
    body_bytes: int = 1 << 30


DEFAULT_LIMITS = MessageLimits()


def encode_message(message: Message) -> list[Buffer]:
    """The message as a list of buffers to send in order: prefix and head in one, then each body as it is."""
    head = canonical.encode(_head(message))
    bodies = message.bodies if isinstance(message, Offer | Transfer) else ()
    return [FRAME_PREFIX.pack(MAGIC, PROTOCOL_VERSION, len(head)) + head, *(body.data for body in bodies)]


def decode_message(data: Buffer, limits: MessageLimits = DEFAULT_LIMITS) -> Message:
    """The message that `data` encodes, with nothing left over. Its bodies are views of `data`.

    Raises `MalformedMessage`.
    """
    view = memoryview(data).cast("B")
    end = FRAME_PREFIX_SIZE + head_size(view[:FRAME_PREFIX_SIZE], limits)
    if len(view) < end:
        raise MalformedMessage("the message ends inside its head")
    head = _Head.of(view[FRAME_PREFIX_SIZE:end], limits)
    if len(view) != end + head.bodies_size:
        raise MalformedMessage(f"{len(view) - end} bytes of bodies, where {head.bodies_size} were announced")
    return head.message(view[end:])


def head_size(prefix: Buffer, limits: MessageLimits = DEFAULT_LIMITS) -> int:
    """The size in bytes of the head that follows this prefix of 8 bytes. Raises `MalformedMessage`."""
    if len(prefix) != FRAME_PREFIX_SIZE:
        raise MalformedMessage("the message ends inside its prefix")
    magic, version, size = FRAME_PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise MalformedMessage("this is not a message of the handoff protocol")
    if version != PROTOCOL_VERSION:
        raise MalformedMessage(f"version {version} of the handoff protocol is not spoken here", "version")
    if size > limits.head_bytes:
        raise MalformedMessage(f"a head of {size} bytes; at most {limits.head_bytes} are read", "too-large")
    return int(size)


class _At(enum.Enum):
    """What a `MessageReader` reads next."""

    PREFIX = enum.auto()
    HEAD = enum.auto()
    BODIES = enum.auto()
    END = enum.auto()
    """Nothing: the message was returned, or rejected."""


class MessageReader:
    """Reads a message in chunks, as a connection delivers them. Each byte is copied once, to its final place.

    The reader keeps an explicit stage; it cannot infer it from the bytes received, since each part may be empty.
    """

    def __init__(self, limits: MessageLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._head: _Head | None = None
        self._begin(_At.PREFIX, FRAME_PREFIX_SIZE)

    def _begin(self, at: _At, size: int) -> None:
        self._at, self._part, self._filled = at, memoryview(bytearray(size)), 0

    def feed(self, chunk: Buffer) -> Message | None:
        """Returns the message if `chunk` completes it.

        Raises `MalformedMessage`, also for bytes after the end, and again on every later call.
        """
        view = memoryview(chunk).cast("B")
        message: Message | None = None
        try:
            while self._at is not _At.END:
                take = view[: len(self._part) - self._filled]
                self._part[self._filled : self._filled + len(take)] = take
                self._filled += len(take)
                view = view[len(take) :]
                if self._filled < len(self._part):
                    return None
                message = self._next()
            if len(view):
                raise MalformedMessage("bytes after the message")
        except MalformedMessage:
            self._at = _At.END
            raise
        return message

    def _next(self) -> Message | None:
        """The current part is complete: begin the next one, or return the message."""
        match self._at:
            case _At.PREFIX:
                self._begin(_At.HEAD, head_size(self._part, self._limits))
            case _At.HEAD:
                self._head = _Head.of(self._part, self._limits)
                self._begin(_At.BODIES, self._head.bodies_size)
            case _At.BODIES:
                assert self._head is not None
                self._at = _At.END
                return self._head.message(self._part)
        return None


@frozen
class _Head:
    """A decoded head: the class and fields of the message, and the index and size of each body to come."""

    cls: type[Message]
    fields: list[Any] = field(repr=brief)
    sizes: list[tuple[int, int]] = field(repr=brief)
    bodies_size: int

    @classmethod
    def of(cls, data: Buffer, limits: MessageLimits) -> _Head:
        bounds = canonical.DecodeBounds(max_bytes=limits.head_bytes, max_depth=4, max_items=5 * MAX_PARTS + 64)
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
            raise MalformedMessage(f"head: {len(fields)} fields are not those of {MESSAGE_NAMES[message]}")
        sizes = _sizes(message, fields)
        total = sum([size for _, size in sizes])
        if total > limits.body_bytes:
            # Check the total now: nothing may be allocated for bodies whose size is unbounded.
            raise MalformedMessage(f"{total} bytes of bodies; at most {limits.body_bytes} are read", "too-large")
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
        case ReceiptMessage(hid, epoch, receipt):
            return [number, hid, epoch, receipt]
        case CommitMessage(hid, commit):
            return [number, hid, commit]
        case Done(hid) | Abort(hid):
            return [number, hid]
        case Status(hid, of, epoch):
            return [number, hid, _SIDES.index(of), epoch]
        case StateAnswer(hid, of, standing):
            return [number, hid, _SIDES.index(of), _STANDINGS.index(standing)]


def _sizes(cls: type[Message], fields: list[Any]) -> list[tuple[int, int]]:
    """Replaces, in `fields`, what the head encodes in another form; returns index and size of each body."""
    if cls is Offer:
        fields[9] = parts = tuple([Part(*_array(part, 3, "part")) for part in _array(fields[9], None, "parts")])
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
    if cls in (Status, StateAnswer):
        fields[1] = _nth(_SIDES, fields[1], "of")
    if cls is StateAnswer:
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
