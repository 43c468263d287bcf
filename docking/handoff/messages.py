"""The messages of a handoff, as values, and the bounds of their fields.

Not here: their bytes (`codec`), their effects (`states`, `sender`, `receiver`), and who sent them: the carrier
authenticates the sender and passes its key beside the message.

Invariants: every message instance is within the bounds below, because its fields are checked on construction,
whether we or the codec make it; every message names its handoff by `hid`; bodies are buffers that are never copied
here.

    to the destination: OFFER  TRANSFER  COMMIT  ABORT  STATUS  STATE
    to the source:      WANT  REFUSE  RECEIPT  DONE  STATUS  STATE
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import Attribute, field, frozen

from agents import canonical
from agents.brief import brief
from agents.canonical import DIGEST_SIZE, Buffer
from agents.credentials.keys import KEY_SIZE
from docking.errors import MalformedMessage
from docking.handoff.states import StateName

Check: TypeAlias = Callable[[object, "Attribute[Any]", Any], None]

NONCE_SIZE = 16
EPOCH_SIZE = 16
# Bounds memory before admission: an offer is read before anything is known about its sender's rights.
MAX_PARTS = 64
# Twice what a 32-bit Wasm memory can hold. This only keeps arithmetic in range: `codec.MessageLimits` bounds
# what is actually read.
MAX_PART_BYTES = 2**33
# A receipt or commit is one COSE_Sign1 statement of a few hundred bytes.
MAX_PROOF_BYTES = 4096
# A reason is shown to people: a sentence or two.
MAX_REFUSAL_BYTES = 1024
MAX_HOP = 2**32 - 1
# Milliseconds since 1970, up to the year 9999: later times cannot be displayed.
MAX_TIME_MS = 253_402_300_799_000
# Seconds. A peer that refuses must not make us wait for ever.
MAX_RETRY_AFTER_S = 24 * 3600

_KIND = re.compile(r"[a-z][a-z-]{0,15}\Z")
_CODE = re.compile(r"[a-z][a-z0-9-]{0,47}\Z")


class Side(StateName):
    """The two roles in a handoff."""

    SOURCE = "source"
    DESTINATION = "destination"


class HandoffStanding(StateName):
    """A side's answer about a handoff when it has no decisive message to repeat."""

    PENDING = "pending"  # not decided here yet: ask again
    UNKNOWN = "unknown"  # no record of it, and the absence proves nothing
    SETTLED = "settled"  # over: the destination took the agent and has confirmed it
    DISCARDED = "discarded"  # over: what was held here, if anything, is deleted


def exactly(size: int) -> Check:
    """A check that a field is `size` bytes."""

    def check(instance: object, attribute: Attribute[Any], value: Any) -> None:
        if type(value) is not bytes or len(value) != size:
            raise MalformedMessage(f"{attribute.name}: not {size} bytes")

    return check


def between(least: int, most: int) -> Check:
    """A check that a field is an integer from `least` to `most`."""

    def check(instance: object, attribute: Attribute[Any], value: Any) -> None:
        if type(value) is not int or not least <= value <= most:
            raise MalformedMessage(f"{attribute.name}: not an integer from {least} to {most}")

    return check


def word(pattern: re.Pattern[str]) -> Check:
    """A check that a field is a short word."""

    def check(instance: object, attribute: Attribute[Any], value: Any) -> None:
        if type(value) is not str or not pattern.match(value):
            raise MalformedMessage(f"{attribute.name}: not a short word in lower case")

    return check


def _sentence(instance: object, attribute: Attribute[Any], value: Any) -> None:
    # Against terminal injection: a reason is printed on somebody's terminal.
    if type(value) is not str or not value.isprintable() or len(value.encode()) > MAX_REFUSAL_BYTES:
        raise MalformedMessage(f"{attribute.name}: not a printable text of at most {MAX_REFUSAL_BYTES} bytes")


def _proof(instance: object, attribute: Attribute[Any], value: Any) -> None:
    if type(value) is not bytes or not 1 <= len(value) <= MAX_PROOF_BYTES:
        raise MalformedMessage(f"{attribute.name}: not 1 to {MAX_PROOF_BYTES} bytes")


_digest = exactly(DIGEST_SIZE)
_OFFER_SIZES = (
    *(("hid", DIGEST_SIZE), ("agent", DIGEST_SIZE), ("source", KEY_SIZE), ("destination", KEY_SIZE)),
    *(("nonce", NONCE_SIZE), ("epoch", EPOCH_SIZE), ("visit", DIGEST_SIZE)),
)
_OFFER_AMOUNTS = (("hop", MAX_HOP), ("expires", MAX_TIME_MS))


@frozen
class Part:
    """One thing that an agent carries. `kind`: state, image, passport, trail, ...; `size`: in bytes."""

    kind: str
    digest: bytes
    size: int

    def __attrs_post_init__(self) -> None:
        # All fields in one condition, here and in `Offer`: a hop makes a dozen of these.
        if type(self.kind) is not str or not _KIND.match(self.kind):
            raise MalformedMessage("kind: not a short word in lower case")
        if type(self.digest) is not bytes or len(self.digest) != DIGEST_SIZE:
            raise MalformedMessage(f"digest: not {DIGEST_SIZE} bytes")
        if type(self.size) is not int or not 0 <= self.size <= MAX_PART_BYTES:
            raise MalformedMessage(f"size: not an integer from 0 to {MAX_PART_BYTES}")


@frozen
class Body:
    """The bytes of the part at `index` of the offer."""

    index: int = field(validator=between(0, MAX_PARTS - 1))
    data: Buffer = field(repr=lambda data: f"<{len(data)} bytes>")


def check_ascending(bodies: tuple[Body, ...]) -> None:
    """Raises `MalformedMessage` unless the indexes of `bodies` strictly ascend."""
    # A part sent twice could be verified in one copy and used from the other.
    before = -1
    for body in bodies:
        if body.index <= before:
            raise MalformedMessage("bodies: not in ascending order of their indexes")
        before = body.index


def _ascending(instance: object, attribute: Attribute[Any], value: tuple[Body, ...]) -> None:
    check_ascending(value)


def _wanted(instance: object, attribute: Attribute[Any], value: tuple[int, ...]) -> None:
    if not 1 <= len(value) <= MAX_PARTS or any(a >= b for a, b in itertools.pairwise(value)):
        raise MalformedMessage(f"{attribute.name}: not 1 to {MAX_PARTS} indexes in ascending order")
    if value[0] < 0 or value[-1] >= MAX_PARTS or any(type(index) is not int for index in value):
        raise MalformedMessage(f"{attribute.name}: an index beyond {MAX_PARTS - 1}")


@frozen
class Offer:
    """OFFER: the source wants to hand this agent over. `bodies` may already contain some of the parts, or all.

    `agent`: its id; `hop`: the index of the visit that ends here (0 where it was launched); `source`,
    `destination`: station keys; `epoch`: identifies the source's store, so that a source that lost its data can be
    told from one that never committed; `visit`: digest of the signed visit; `expires`: when the passport
    does, in milliseconds since 1970.
    """

    hid: bytes
    agent: bytes
    hop: int
    source: bytes
    destination: bytes
    nonce: bytes
    epoch: bytes
    visit: bytes
    expires: int
    parts: tuple[Part, ...] = field(repr=brief)
    bodies: tuple[Body, ...] = field(default=(), repr=brief)

    def __attrs_post_init__(self) -> None:
        for name, size in _OFFER_SIZES:
            value = getattr(self, name)
            if type(value) is not bytes or len(value) != size:
                raise MalformedMessage(f"{name}: not {size} bytes")
        for name, most in _OFFER_AMOUNTS:
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= most:
                raise MalformedMessage(f"{name}: not an integer from 0 to {most}")
        if not 1 <= len(self.parts) <= MAX_PARTS:
            raise MalformedMessage(f"parts: not 1 to {MAX_PARTS} of them")
        check_ascending(self.bodies)
        check_bodies(self.parts, self.bodies)


@frozen
class Want:
    """WANT: the destination would take the agent and needs the parts at these indexes of the offer."""

    hid: bytes = field(validator=_digest)
    parts: tuple[int, ...] = field(validator=_wanted, repr=brief)


@frozen
class Refuse:
    """REFUSE: the destination does not take the agent.

    `code`: stable, for programs; `reason`: a sentence for people; `retry_after`: seconds after which another
    attempt may succeed, or 0 for never.
    """

    hid: bytes = field(validator=_digest)
    code: str = field(validator=word(_CODE))
    reason: str = field(validator=_sentence)
    retry_after: int = field(validator=between(0, MAX_RETRY_AFTER_S), default=0)


@frozen
class Transfer:
    """TRANSFER: the requested parts."""

    hid: bytes = field(validator=_digest)
    bodies: tuple[Body, ...] = field(validator=_ascending, repr=brief)


@frozen
class ReceiptMessage:
    """RECEIPT: the agent is held durably, and does not run. `receipt`: the destination's signed statement."""

    hid: bytes = field(validator=_digest)
    epoch: bytes = field(validator=exactly(EPOCH_SIZE))
    receipt: bytes = field(validator=_proof, repr=False)


@frozen
class CommitMessage:
    """COMMIT: the agent now belongs to the destination. `commit`: the source's signed statement."""

    hid: bytes = field(validator=_digest)
    commit: bytes = field(validator=_proof, repr=False)


@frozen
class Done:
    """DONE: the destination has durably recorded that the agent is its own. The source may delete the state."""

    hid: bytes = field(validator=_digest)


@frozen
class Abort:
    """ABORT: the agent stays at the source. The destination deletes what it holds."""

    hid: bytes = field(validator=_digest)


@frozen
class Status:
    """STATUS: what became of this handoff? `of`: the side that is asked; `epoch`: the source's, from the offer."""

    hid: bytes = field(validator=_digest)
    of: Side
    epoch: bytes = field(validator=exactly(EPOCH_SIZE))


@frozen
class StateAnswer:
    """STATE: the answer when no other message fits. `of`: the side that answers."""

    hid: bytes = field(validator=_digest)
    of: Side
    standing: HandoffStanding


Message: TypeAlias = (
    "Offer | Want | Refuse | Transfer | ReceiptMessage | CommitMessage | Done | Abort | Status | StateAnswer"
)

# The protocol's name of each message, for logs, errors and failpoints.
MESSAGE_NAMES: dict[type[Any], str] = {
    Offer: "OFFER",
    Want: "WANT",
    Refuse: "REFUSE",
    Transfer: "TRANSFER",
    ReceiptMessage: "RECEIPT",
    CommitMessage: "COMMIT",
    Done: "DONE",
    Abort: "ABORT",
    Status: "STATUS",
    StateAnswer: "STATE",
}


def hears(message: Message) -> Side:
    """The side that receives this message."""
    if isinstance(message, Status):
        return message.of
    if isinstance(message, StateAnswer):
        return Side.SOURCE if message.of is Side.DESTINATION else Side.DESTINATION
    return Side.DESTINATION if isinstance(message, Offer | Transfer | CommitMessage | Abort) else Side.SOURCE


def check_bodies(parts: tuple[Part, ...], bodies: tuple[Body, ...]) -> None:
    """Raises `MalformedMessage` unless each body belongs to a part and has its size."""
    for body in bodies:
        if body.index >= len(parts) or len(body.data) != parts[body.index].size:
            raise MalformedMessage(f"body {body.index}: no such part, or not of its size")


def handoff_id(agent: bytes, hop: int, source: bytes, destination: bytes, nonce: bytes) -> bytes:
    """The id of one attempt (32 bytes). Another attempt has another nonce, and so another id."""
    return canonical.digest(canonical.encode(["portcall handoff", agent, hop, source, destination, nonce]))
