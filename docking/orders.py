"""Orders for an agent, from its home: retract, dispose, sleep, wake, clone.

An order for an agent that is elsewhere is a statement signed by its home, sent after it along its way. Not the carrying
out (the station does that). Invariant: an agent obeys only its home, and whoever runs the station where it is.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from agents.credentials import envelope
from agents.credentials.fields import Fields
from agents.credentials.keys import PublicKey, SecretKey
from agents.errors import CredentialError, MalformedCredential

WORDS = ("retract", "dispose", "sleep", "wake", "clone")
# Milliseconds: an order that was on its way for longer is not obeyed any more, so an old one cannot be used again.
FRESH = 3_600_000


@frozen
class Order:
    """The statement. `agent`: its id; `time`: ms; `what`: one of `WORDS`."""

    KIND: ClassVar[str] = "order"

    agent: bytes
    what: str
    time: int

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {1: self.agent, 2: self.what, 3: self.time}

    @classmethod
    def from_payload(cls, value: object) -> Order:
        """The inverse of `payload`; `MalformedCredential`."""
        read = Fields.of(value, "order")
        order = cls(read.digest(1, "agent id"), read.text(2, "what", 16), read.time(3, "time"))
        read.done()
        if order.what not in WORDS:
            raise MalformedCredential("order: not one that is known")
        return order


def sign_order(agent: bytes, what: str, now: int, home: SecretKey) -> bytes:
    """The envelope of an order."""
    return envelope.sign(Order(agent, what, now), home).envelope


def read_order(data: bytes, now: int) -> tuple[Order, PublicKey]:
    """An order and who signed it. Raises `CredentialError`."""
    signed = envelope.verify(Order, data)
    if abs(now - signed.body.time) > FRESH:
        raise CredentialError("order-old", "the order is too old, or from the future")
    return signed.body, signed.signer
