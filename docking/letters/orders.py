"""Orders for an agent, from its home: retract, dispose, sleep, wake, clone, upgrade.

An order for an agent that is elsewhere is a statement signed by its home, which follows the agent along its route. Not
here: carrying orders out (the station does that). Invariant: an agent obeys only its home and the operator of its
current station.
"""

from __future__ import annotations

import enum
from typing import ClassVar

from attrs import field, frozen

from agents.brief import brief
from agents.credentials import envelope
from agents.credentials.fields import Fields
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.upgrades import MAX_UPGRADE_STATEMENT_BYTES
from agents.errors import CredentialError, MalformedCredential

# Milliseconds: an order that is older than this is not obeyed, so an old one cannot be replayed.
ORDER_LIFETIME_MS = 3_600_000


class OrderKind(str, enum.Enum):
    """What an order asks for. The values are stored and signed."""

    RETRACT = "retract"
    DISPOSE = "dispose"
    SLEEP = "sleep"
    WAKE = "wake"
    CLONE = "clone"
    UPGRADE = "upgrade"

    __str__ = str.__str__


class OrderOutcome(str, enum.Enum):
    """What became of an order. Each is also that word, as `str`."""

    OBEYED = "obeyed"
    """The agent is here: the order is carried out, at the latest when the agent's turn has ended."""
    SENT = "sent"
    """The agent is elsewhere: the order travels after it, for up to an hour."""

    __str__ = str.__str__


class SendOutcome(str, enum.Enum):
    """What became of a message that was sent from this station. Each is also that word, as `str`."""

    DELIVERED = "delivered"
    """The agent is here, and the message is in its inbox."""
    SENT = "sent"
    """The message travels after the agent, for up to seven days."""
    UNKNOWN = "unknown"
    """Nothing is known about the agent here."""

    __str__ = str.__str__


@frozen
class Order:
    """The statement. `agent`: its id; `time`: ms since 1970; `until`: of a sleep, when it ends (ms); 0 for never;
    `statement`: of an upgrade, the owner's.
    """

    KIND: ClassVar[str] = "order"

    agent: bytes
    what: OrderKind
    time: int
    until: int = 0
    statement: bytes = field(default=b"", repr=brief)

    def payload(self) -> dict[int, object]:
        """As a map for CBOR."""
        value: dict[int, object] = {1: self.agent, 2: self.what.value, 3: self.time}
        value |= {4: self.until} if self.until else {}
        return value | {5: self.statement} if self.statement else value

    @classmethod
    def from_payload(cls, value: object) -> Order:
        """The inverse of `payload`; `MalformedCredential`."""
        read = Fields.of(value, "order")
        agent, what, time = read.digest(1, "agent id"), read.text(2, "what", 16), read.time(3, "time")
        until = read.time(4, "until") if read.has(4) else 0
        statement = read.octets(5, "statement", 1, MAX_UPGRADE_STATEMENT_BYTES) if read.has(5) else b""
        read.done()
        try:
            order = cls(agent, OrderKind(what), time, until, statement)
        except ValueError:
            raise MalformedCredential("order: not one that is known") from None
        if (order.what is OrderKind.UPGRADE) is not bool(statement):
            raise MalformedCredential("order: an upgrade has its owner's statement, and nothing else has")
        return order


def sign_order(
    agent: bytes, what: OrderKind, now: int, home: SecretKey, until: int = 0, statement: bytes = b""
) -> bytes:
    """The envelope of an order."""
    return envelope.sign(Order(agent, what, now, until, statement), home).envelope


def read_order(data: bytes, now: int) -> tuple[Order, PublicKey]:
    """An order and who signed it. Raises `CredentialError`."""
    signed = envelope.verify(Order, data)
    if abs(now - signed.body.time) > ORDER_LIFETIME_MS:
        raise CredentialError("order-old", "the order is too old, or from the future")
    return signed.body, signed.signer
