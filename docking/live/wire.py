"""What two stations say to each other before the handoff of an agent that is moved while it runs.

    PREPARE  an offer without its state, and the sizes of the agent's memories
             answer: OPEN with the session's name; WANT, the image is missing; or REFUSED
    BLOCKS   a batch of blocks of a memory; answer: OK or REFUSED
    CANCEL   the session is not needed any more; answer: OK

All of it is outside the promise of the handoff: what is lost costs bytes, and nothing else. The rest of the blocks
comes with the handoff's offer, in its part `blocks`.

Not here: what they cause (`sessions`), and who sent them: the carrier authenticates the sender. Invariants: every
value that is accepted is within these bounds; reading raises `MalformedMessage` and nothing else.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from attrs import field, frozen

from agents import canonical
from agents.blocks import MAX_BATCH_BYTES, BlockBatch, decode_batches, encode_batches
from agents.brief import brief
from agents.canonical import Buffer
from agents.errors import BadSnapshot
from agents.snapshot import MAX_MEMORIES
from docking.errors import MalformedMessage
from docking.handoff import codec
from docking.handoff.messages import Offer
from docking.handoff.refusal import Refusal

VERSION = 1
SESSION_BYTES = 16
# Of a session's largest message, which brings an image.
MAX_SESSION_MESSAGE_BYTES = 128 << 20
MAX_PAGES = 1 << 17  # of one memory: 8 GiB
# Of the rest, which comes with the offer.
MAX_REST_BYTES = 1 << 30
_CODE = re.compile(r"[a-z][a-z0-9-]{0,47}\Z")
_REST = b"portcall blocks 1\n"


@frozen
class Prepare:
    """PREPARE. `offer`: its state has no body; `pages`: of each memory, in 64 KiB."""

    offer: Offer
    pages: tuple[int, ...] = field(repr=brief)


@frozen
class Blocks:
    """BLOCKS: of the session with this name."""

    session: bytes
    batch: BlockBatch


@frozen
class Cancel:
    """CANCEL."""

    session: bytes


@frozen
class Opened:
    """OPEN: the destination has an instance for the agent. `session`: its name, 16 bytes."""

    session: bytes


@frozen
class ImageWanted:
    """WANT: the destination needs the image with the offer."""


Request: TypeAlias = "Prepare | Blocks | Cancel"
Answer: TypeAlias = "Opened | ImageWanted | Refusal | None"


def write_request(request: Request) -> list[Buffer]:
    """A request as buffers to send in order: a value in deterministic CBOR. The contents of blocks are not copied."""
    match request:
        case Prepare(offer, pages):
            return [canonical.encode(["prepare", VERSION, b"".join(codec.encode_message(offer)), list(pages)])]
        case Blocks(session, batch):
            parts = batch.parts()
            head = canonical.encode(["blocks", session, b""])[:-1]
            return [head + canonical.byte_string_head(sum(map(len, parts))), *parts]
        case Cancel(session):
            return [canonical.encode(["cancel", session])]


def read_request(value: object, limits: codec.MessageLimits) -> Request:
    """The inverse. Raises `MalformedMessage`."""
    match value:
        case ["prepare", int(version), bytes(data), list(pages)]:
            if version is True or version != VERSION:
                raise MalformedMessage(f"version {version} of live moves is not spoken here", "version")
            offer = codec.decode_message(data, limits)
            sizes = tuple(pages)
            if not 0 < len(sizes) <= MAX_MEMORIES or not all(type(n) is int and 0 <= n <= MAX_PAGES for n in sizes):
                raise MalformedMessage(f"pages: not the sizes of 1 to {MAX_MEMORIES} memories")
            if not isinstance(offer, Offer):
                raise MalformedMessage("prepare: not an offer")
            return Prepare(offer, sizes)
        case ["blocks", bytes(session), bytes(batch)] if len(session) == SESSION_BYTES:
            if len(batch) > MAX_BATCH_BYTES:
                raise MalformedMessage(f"a batch of {len(batch)} bytes; at most {MAX_BATCH_BYTES} are read")
            try:
                return Blocks(session, BlockBatch.decode(batch))
            except BadSnapshot as error:
                raise MalformedMessage(str(error)) from error
        case ["cancel", bytes(session)] if len(session) == SESSION_BYTES:
            return Cancel(session)
        case _:
            raise MalformedMessage("no message of a live move")


def write_answer(answer: Answer) -> list[object]:
    """An answer as a value to send."""
    match answer:
        case Opened(session):
            return ["open", session]
        case ImageWanted():
            return ["want"]
        case Refusal():
            return ["refused", answer.code, answer.reason[:500], answer.retry_after]
        case None:
            return ["ok"]


def read_answer(value: object) -> Answer:
    """The inverse. Raises `MalformedMessage`."""
    match value:
        case ["open", bytes(session)] if len(session) == SESSION_BYTES:
            return Opened(session)
        case ["want"]:
            return ImageWanted()
        case ["refused", str(code), str(reason), int(again)] if _fits(code, again):
            # It is shown to people.
            shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in reason[:500])
            return Refusal(code, shown, again)
        case ["ok"]:
            return None
        case _:
            raise MalformedMessage("no answer of a live move")


def _fits(code: str, again: int) -> bool:
    return _CODE.match(code) is not None and type(again) is int and 0 <= again <= 86_400


@frozen
class Rest:
    """The part `blocks` of an offer: what the session with this name still lacks."""

    session: bytes
    batches: tuple[BlockBatch, ...] = field(repr=brief)

    def encode(self) -> bytes:
        """As bytes."""
        return b"".join((_REST, self.session, encode_batches(self.batches)))

    @classmethod
    def decode(cls, data: Buffer) -> Rest:
        """The inverse. Raises `BadSnapshot`."""
        session = session_of(data)
        return cls(session, tuple(decode_batches(memoryview(data)[len(_REST) + SESSION_BYTES :])))


def session_of(data: Buffer) -> bytes:
    """The session's name in a part `blocks`. Raises `BadSnapshot`."""
    view = memoryview(data)
    if bytes(view[: len(_REST)]) != _REST or len(view) < len(_REST) + SESSION_BYTES or len(view) > MAX_REST_BYTES:
        raise BadSnapshot("not the blocks of a live move of format version 1")
    return bytes(view[len(_REST) : len(_REST) + SESSION_BYTES])
