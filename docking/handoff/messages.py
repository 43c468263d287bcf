"""The messages of a handoff, as values, and the bounds of their fields.

Not their bytes (`codec`), not what follows from them (`states`, `sender`, `receiver`), and not who sent
them: the carrier authenticates the sender, and tells its key beside the message.

Invariants: a message that exists is within the bounds below, since its fields are checked when it is made,
by us as by the codec; every message names its handoff by `hid`; bodies are buffers that are never copied
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
from docking.errors import MalformedMessage
from docking.handoff.states import Word

Buffer: TypeAlias = "bytes | bytearray | memoryview"
Check: TypeAlias = Callable[[Any, "Attribute[Any]", Any], None]

DIGEST_SIZE = 32
KEY_SIZE = 32
NONCE_SIZE = 16
EPOCH_SIZE = 16
# Memory before admission: an offer is read before anything about its sender's rights is known.
MAX_PARTS = 64
# Twice what a 32-bit Wasm memory can hold. A bound for arithmetic: what is read at all is bounded by
# `codec.Limits`.
MAX_PART_SIZE = 2**33
# A receipt or commit is one COSE_Sign1 statement of a few hundred bytes.
MAX_PROOF = 4096
# A reason is shown to people: long enough for a sentence or two.
MAX_REASON = 1024
MAX_HOP = 2**32 - 1
# Milliseconds since 1970, to the year 9999: a time beyond cannot be shown.
MAX_TIME = 253_402_300_799_000
# A peer that refuses must not make us wait for ever.
MAX_RETRY_AFTER = 24 * 3600

_KIND = re.compile(r"[a-z][a-z-]{0,15}\Z")
_CODE = re.compile(r"[a-z][a-z0-9-]{0,47}\Z")


class Side(Word):
    """The two roles in a handoff."""

    SOURCE = "source"
    DESTINATION = "destination"


class Standing(Word):
    """What a side says of a handoff when it has no decisive message to repeat."""

    PENDING = "pending"  # not decided here yet: ask again
    UNKNOWN = "unknown"  # no record of it, and no right to conclude anything from that
    SETTLED = "settled"  # over: the destination took the agent, and has confirmed it
    DISCARDED = "discarded"  # over: what was held here, if anything, is dropped


def exactly(size: int) -> Check:
    """A check that a field is `size` bytes."""

    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if type(value) is not bytes or len(value) != size:
            raise MalformedMessage(f"{attribute.name}: not {size} bytes")

    return check


def between(least: int, most: int) -> Check:
    """A check that a field is an integer from `least` to `most`."""

    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if type(value) is not int or not least <= value <= most:
            raise MalformedMessage(f"{attribute.name}: not an integer from {least} to {most}")

    return check


def word(pattern: re.Pattern[str]) -> Check:
    """A check that a field is a short word."""

    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if type(value) is not str or not pattern.match(value):
            raise MalformedMessage(f"{attribute.name}: not a short word in lower case")

    return check


def _sentence(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    # Terminal injection: a reason is printed on somebody's terminal.
    if type(value) is not str or not value.isprintable() or len(value.encode()) > MAX_REASON:
        raise MalformedMessage(f"{attribute.name}: not a printable text of at most {MAX_REASON} bytes")


def _proof(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if type(value) is not bytes or not 1 <= len(value) <= MAX_PROOF:
        raise MalformedMessage(f"{attribute.name}: not 1 to {MAX_PROOF} bytes")


_digest, _key = exactly(DIGEST_SIZE), exactly(KEY_SIZE)


@frozen
class Part:
    """One thing that an agent carries. `kind`: state, image, passport, trail, ...; `size` in bytes."""

    kind: str = field(validator=word(_KIND))
    digest: bytes = field(validator=_digest)
    size: int = field(validator=between(0, MAX_PART_SIZE))


@frozen
class Body:
    """The bytes of the part at `index` of the offer."""

    index: int = field(validator=between(0, MAX_PARTS - 1))
    data: Buffer = field(repr=lambda data: f"<{len(data)} bytes>")


def _parts(instance: Any, attribute: Attribute[Any], value: tuple[Part, ...]) -> None:
    if not 1 <= len(value) <= MAX_PARTS:
        raise MalformedMessage(f"{attribute.name}: not 1 to {MAX_PARTS} of them")


def _ascending(instance: Any, attribute: Attribute[Any], value: tuple[Body, ...]) -> None:
    # A part that arrives twice could be verified once and used the other time.
    if any(a.index >= b.index for a, b in itertools.pairwise(value)):
        raise MalformedMessage(f"{attribute.name}: not in ascending order of their indexes")


def _wanted(instance: Any, attribute: Attribute[Any], value: tuple[int, ...]) -> None:
    if not 1 <= len(value) <= MAX_PARTS or any(a >= b for a, b in itertools.pairwise(value)):
        raise MalformedMessage(f"{attribute.name}: not 1 to {MAX_PARTS} indexes in ascending order")
    if value[0] < 0 or value[-1] >= MAX_PARTS or any(type(index) is not int for index in value):
        raise MalformedMessage(f"{attribute.name}: an index beyond {MAX_PARTS - 1}")


@frozen
class Offer:
    """OFFER: the source would hand this agent over. Small parts, or all of them, may come along in `bodies`.

    `agent`: its id; `hop`: the index of the visit that ends here (0 where it was launched); `source`,
    `destination`: station keys; `epoch`: names the life of the source's store, so that its silence can be
    told from its amnesia; `visit`: digest of the signed visit; `expires`: of the passport, in milliseconds
    since 1970.
    """

    hid: bytes = field(validator=_digest)
    agent: bytes = field(validator=_digest)
    hop: int = field(validator=between(0, MAX_HOP))
    source: bytes = field(validator=_key)
    destination: bytes = field(validator=_key)
    nonce: bytes = field(validator=exactly(NONCE_SIZE))
    epoch: bytes = field(validator=exactly(EPOCH_SIZE))
    visit: bytes = field(validator=_digest)
    expires: int = field(validator=between(0, MAX_TIME))
    parts: tuple[Part, ...] = field(validator=_parts)
    bodies: tuple[Body, ...] = field(validator=_ascending, default=())

    def __attrs_post_init__(self) -> None:
        check_bodies(self.parts, self.bodies)


@frozen
class Want:
    """WANT: the destination would take the agent, and needs the parts at these indexes of the offer."""

    hid: bytes = field(validator=_digest)
    parts: tuple[int, ...] = field(validator=_wanted)


@frozen
class Refuse:
    """REFUSE: the destination will not take the agent. `retry_after`:

    seconds after which it may, or 0 for never.
    """

    hid: bytes = field(validator=_digest)
    code: str = field(validator=word(_CODE))
    reason: str = field(validator=_sentence)
    retry_after: int = field(validator=between(0, MAX_RETRY_AFTER), default=0)


@frozen
class Transfer:
    """TRANSFER: the parts that were wanted."""

    hid: bytes = field(validator=_digest)
    bodies: tuple[Body, ...] = field(validator=_ascending)


@frozen
class Receipt:
    """RECEIPT: the agent is held, durably, and does not run. `receipt`:

    the destination's signed statement.
    """

    hid: bytes = field(validator=_digest)
    epoch: bytes = field(validator=exactly(EPOCH_SIZE))
    receipt: bytes = field(validator=_proof, repr=False)


@frozen
class Commit:
    """COMMIT: the agent is the destination's. `commit`: the source's signed statement."""

    hid: bytes = field(validator=_digest)
    commit: bytes = field(validator=_proof, repr=False)


@frozen
class Done:
    """DONE: the destination has recorded, durably, that the agent is its own.

    The source may forget the state.
    """

    hid: bytes = field(validator=_digest)


@frozen
class Abort:
    """ABORT: the agent stays at the source. What the destination holds is to be dropped."""

    hid: bytes = field(validator=_digest)


@frozen
class Status:
    """STATUS: what has become of this handoff? `of`: the side that is asked; `epoch`:

    the source's, from the offer.
    """

    hid: bytes = field(validator=_digest)
    of: Side
    epoch: bytes = field(validator=exactly(EPOCH_SIZE))


@frozen
class State:
    """STATE: the answer where no other message says it better. `of`: the side that speaks."""

    hid: bytes = field(validator=_digest)
    of: Side
    standing: Standing


Message: TypeAlias = "Offer | Want | Refuse | Transfer | Receipt | Commit | Done | Abort | Status | State"


def hears(message: Message) -> Side:
    """The side that the message is for."""
    if isinstance(message, Status):
        return message.of
    if isinstance(message, State):
        return Side.SOURCE if message.of is Side.DESTINATION else Side.DESTINATION
    return Side.DESTINATION if isinstance(message, Offer | Transfer | Commit | Abort) else Side.SOURCE


def check_bodies(parts: tuple[Part, ...], bodies: tuple[Body, ...]) -> None:
    """Each body belongs to a part and has its size, or `MalformedMessage`."""
    for body in bodies:
        if body.index >= len(parts) or len(body.data) != parts[body.index].size:
            raise MalformedMessage(f"body {body.index}: no such part, or not of its size")


def handoff_id(agent: bytes, hop: int, source: bytes, destination: bytes, nonce: bytes) -> bytes:
    """The id of one attempt (32 bytes). Another attempt has another nonce, and so another id."""
    return canonical.digest(canonical.encode(["portcall handoff", agent, hop, source, destination, nonce]))
