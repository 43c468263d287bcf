"""What goes into the machines besides messages, and what comes out: plain values.

A machine does nothing itself. Each step gives actions, to be carried out in their order; after a `Persist`
that was written, its record goes back to the machine (`written`), which is when what depends on it comes
out.

Not here: how an action is carried out (`docking.courier`). Invariant: a `Record` is all that a machine
needs to go on after a crash; a `Cargo` is complete and within the sizes that its offer announced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from attrs import field, frozen

from docking.handoff.messages import Body, Buffer, Message, Offer, Side
from docking.handoff.states import Destination, Source
from docking.refusal import Refusal

T = TypeVar("T")


@frozen
class Record:
    """A row of the ledger: one handoff, as one side knows it.

    `peer`: the other station's key; `epoch`: of the source's store; `expires`: of the passport,
    milliseconds since 1970, until when the row is kept; `receipt`, `commit`: the signed statements, empty
    until there; `code`, `reason`: why it was refused or given up, empty otherwise.
    """

    hid: bytes
    side: Side
    state: Source | Destination
    agent: bytes
    hop: int
    peer: bytes
    epoch: bytes
    visit: bytes
    expires: int
    receipt: bytes = field(default=b"", repr=False)
    commit: bytes = field(default=b"", repr=False)
    code: str = ""
    reason: str = ""


@frozen
class Cargo:
    """The bodies that came with an offer, each of the digest that was announced.

    A part that is not among them is one that this station said it has.
    """

    offer: Offer
    bodies: tuple[Body, ...]

    def body(self, kind: str) -> Buffer | None:
        """The body of the first part of this kind, or None if it did not come."""
        parts = self.offer.parts
        return next((body.data for body in self.bodies if parts[body.index].kind == kind), None)


@frozen
class Departure:
    """An agent that is to leave. `offer` with the bodies to send unasked; `bodies`: all that may be wanted.

    `patience`: seconds until the handoff is given up if no receipt has come.
    """

    offer: Offer
    bodies: tuple[Body, ...]
    patience: float


@frozen
class SourceTrust:
    """The source's judgement and signature. Pure functions."""

    verify_receipt: Callable[[Record, bytes], Refusal | None]
    """None if these bytes are the destination's receipt for this handoff."""
    sign_commit: Callable[[Record, bytes], bytes]
    """The commit statement for this receipt."""


@frozen
class DestinationTrust(Generic[T]):
    """The destination's judgement and signature. Pure functions over what the station knew when it made them.

    `consider(offer)` gives the indexes of parts that are needed and did not come with it, or a refusal;
    `admit(cargo)` gives the admission, of a type that is the station's business, or a refusal;
    `sign_receipt(cargo, admission)`; `verify_commit(record, commit)` gives None if these bytes are the
    source's commit for this handoff and its receipt.
    """

    consider: Callable[[Offer], tuple[int, ...] | Refusal]
    admit: Callable[[Cargo], T | Refusal]
    sign_receipt: Callable[[Cargo, T], bytes]
    verify_commit: Callable[[Record, bytes], Refusal | None]


@frozen
class Timing:
    """Seconds. Each wait doubles from its first to `longest`."""

    offer_again: float = 2.0
    offer_soon: float = 0.05
    commit_again: float = 0.5
    ask_again: float = 1.0
    want_kept: float = 60.0  # an offer whose parts do not come is forgotten: memory of the undecided
    longest: float = 60.0
    doubt_after: int = 3  # unanswered questions until a held agent is shown as in doubt


@frozen
class Persist:
    """Write `record`, and `cargo` with it. `durable`: now, somebody waits; else with the next write."""

    record: Record
    cargo: Cargo | None
    durable: bool


@frozen
class Send:
    """Send `message` to the station with the key `to`."""

    to: bytes
    message: Message


@frozen
class Start(Generic[T]):
    """The agent is this station's: start it.

    `admission` and `cargo` are None if they were before a restart.
    """

    record: Record
    cargo: Cargo | None
    admission: T | None


@frozen
class Expect(Generic[T]):
    """The agent is held, durably, and its receipt is on its way: what its start takes can be made ready.

    It is not this station's yet, and may never be: a `Start` or a `Drop` follows, or nothing for long.
    """

    record: Record
    cargo: Cargo
    admission: T


@frozen
class Left:
    """The agent is the destination's, durably: the commit point. It must never run here again."""

    record: Record


@frozen
class Resume:
    """The agent did not leave: resume it here with an error from `go`, or try the next alternative."""

    record: Record
    refused: Refusal


@frozen
class Release:
    """The agent is elsewhere, for certain: its state here may be dropped."""

    record: Record


@frozen
class Drop:
    """What was held is dropped: the agent stays at the source."""

    record: Record


@frozen
class Alarm:
    """Something that a person should see. `code` is stable."""

    hid: bytes
    code: str
    reason: str


Notice: TypeAlias = "Expect[T] | Start[T] | Left | Resume | Release | Drop | Alarm"
"""What the station is told."""
Action: TypeAlias = "Persist | Send | Notice[T]"
