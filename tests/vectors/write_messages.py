"""Writes `messages.json`:

messages of the handoff as bytes, and bytes that are none, each with its expected verdict.

Another implementation reads the file; `tests/handoff/test_message_vectors.py` holds this one to it.
Run as `python -m tests.vectors.write_messages`, only when the protocol has a new version.
"""

from __future__ import annotations

import json
from pathlib import Path

from agents import canonical
from docking.handoff import codec
from docking.handoff.messages import (
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
    handoff_id,
)

FILE = Path(__file__).with_name("messages.json")
AGENT, SOURCE, DESTINATION = b"\xaa" * 32, b"\x01" * 32, b"\x02" * 32
NONCE, EPOCH = bytes(range(16)), b"\xee" * 16
HID = handoff_id(AGENT, 7, SOURCE, DESTINATION, NONCE)
STATE, IMAGE = b"a state", b"an image"
PARTS = tuple(Part(kind, canonical.digest(body), len(body)) for kind, body in (("state", STATE), ("image", IMAGE)))


def messages() -> dict[str, Message]:
    """One of each, all of one handoff."""
    offer = Offer(HID, AGENT, 7, SOURCE, DESTINATION, NONCE, EPOCH, b"\x33" * 32, 1_893_456_000_000, PARTS)
    return {
        "OFFER": offer,
        "OFFER with a body": Offer(*list(_values(offer))[:-1], (Body(0, STATE),)),
        "WANT": Want(HID, (1,)),
        "REFUSE": Refuse(HID, "busy", "come again later", 30),
        "TRANSFER": Transfer(HID, (Body(1, IMAGE),)),
        "RECEIPT": ReceiptMessage(HID, EPOCH, b"a signed receipt"),
        "COMMIT": CommitMessage(HID, b"a signed commit"),
        "DONE": Done(HID),
        "ABORT": Abort(HID),
        "STATUS of the source": Status(HID, Side.SOURCE, EPOCH),
        "STATE pending": StateAnswer(HID, Side.SOURCE, HandoffStanding.PENDING),
        "STATE discarded": StateAnswer(HID, Side.DESTINATION, HandoffStanding.DISCARDED),
    }


def _values(offer: Offer) -> list[object]:
    return [getattr(offer, field.name) for field in Offer.__attrs_attrs__]  # type: ignore[attr-defined]


def _framed(value: object, version: int = codec.PROTOCOL_VERSION) -> bytes:
    head = canonical.encode(value)
    return codec.FRAME_PREFIX.pack(codec.MAGIC, version, len(head)) + head


def refused() -> dict[str, tuple[bytes, str]]:
    """What is not a message, and the code of its refusal."""
    done = b"".join(codec.encode_message(Done(HID)))
    return {
        "another protocol": (b"GET /dock HTTP/1.1\r\n\r\n", "malformed-message"),
        "a later version": (_framed([7, HID], 2), "version"),
        "cut inside the prefix": (done[:7], "malformed-message"),
        "cut inside the head": (done[:-1], "malformed-message"),
        "a byte too many": (done + b"\0", "malformed-message"),
        "a head that would be too large": (codec.FRAME_PREFIX.pack(codec.MAGIC, 1, 1 << 31), "too-large"),
        "bodies that would be too large": (_framed([4, HID, [[0, 1 << 40]]]), "too-large"),
        "an unknown message": (_framed([11, HID]), "malformed-message"),
        "a field too many": (_framed([7, HID, 0]), "malformed-message"),
        "a handoff id of 31 bytes": (_framed([7, HID[:-1]]), "malformed-message"),
        "indexes out of order": (_framed([2, HID, [1, 0]]), "malformed-message"),
        "an index twice": (_framed([4, HID, [[1, 0], [1, 0]]]), "malformed-message"),
        "a reason with a terminal's escapes": (_framed([3, HID, "busy", "\x1b[2J", 0]), "malformed-message"),
        "a code that is no word": (_framed([3, HID, "Busy!", "no", 0]), "malformed-message"),
        "a number in two bytes where one would do": (
            codec.FRAME_PREFIX.pack(codec.MAGIC, 1, 37) + b"\x82\x18\x07\x58\x20" + HID,
            "malformed-message",
        ),
    }


def document() -> dict[str, object]:
    """The file's content."""
    return {
        "messages": [
            {"name": name, "bytes": b"".join(codec.encode_message(message)).hex()}
            for name, message in messages().items()
        ],
        "refused": [{"name": name, "bytes": data.hex(), "code": code} for name, (data, code) in refused().items()],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(document(), indent=1) + "\n", "utf-8")
