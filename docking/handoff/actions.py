"""What else goes into the state machines besides messages, and what comes out: plain values.

A machine performs no effects itself. Each step returns actions, to be carried out in order. When the record of a
`Persist` is on disk, it goes back to the machine (`written`), which then returns what depends on it.

Not here: how an action is carried out (`docking.courier`). Invariants: a `Record` is all that a machine
needs to go on after a crash; a `Cargo` is complete and within the sizes that its offer announced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from attrs import field, frozen

from agents.brief import brief
from agents.canonical import Buffer
from agents.renamed import renamed
from docking.handoff.messages import Body, Message, Offer, Side
from docking.handoff.refusal import Refusal
from docking.handoff.states import Destination, Source

T = TypeVar("T")


@frozen
class Record:
    """A row of the ledger: one handoff, as one side knows it.

    `peer`: the other station's key; `epoch`: of the source's store; `expires`: when the passport does, in
    milliseconds since 1970; the row is kept until then; `receipt`, `commit`: the signed statements, empty
    until known; `code`, `reason`: why it was refused or given up, otherwise empty.
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
    """The bodies of an offered agent. Each matches its announced digest.

    A part that is missing here is one that this station said it already has.
    """

    offer: Offer
    bodies: tuple[Body, ...] = field(repr=brief)

    def body(self, kind: str) -> Buffer | None:
        """The body of the first part of this kind, or None if it was not sent."""
        parts = self.offer.parts
        return next((body.data for body in self.bodies if parts[body.index].kind == kind), None)


@frozen
class Departure:
    """An agent that is to leave. `offer`: with the bodies to include; `bodies`: everything that may be requested.

    `patience_s`: seconds to wait for a receipt before the handoff is given up.
    """

    offer: Offer
    bodies: tuple[Body, ...] = field(repr=brief)
    patience_s: float


@frozen
class SourceTrust:
    """How the source verifies and signs. Pure functions."""

    verify_receipt: Callable[[Record, bytes], Refusal | None]
    """None if these bytes are the destination's receipt for this handoff; else why not."""
    sign_commit: Callable[[Record, bytes], bytes]
    """The commit statement for this receipt."""


@frozen
class DestinationTrust(Generic[T]):
    """How the destination verifies, admits and signs. Pure functions of what the station knew when it made them.

    `consider(offer)` returns the indexes of needed parts that the offer did not include, or a refusal;
    `admit(cargo)` returns the admission, whose type only the station knows, or a refusal;
    `sign_receipt(cargo, admission)` returns the receipt; `verify_commit(record, commit)` returns None if these bytes
    are the source's commit for this handoff and its receipt, else why not.
    """

    consider: Callable[[Offer], tuple[int, ...] | Refusal]
    admit: Callable[[Cargo], T | Refusal]
    sign_receipt: Callable[[Cargo, T], bytes]
    verify_commit: Callable[[Record, bytes], Refusal | None]


@renamed(
    offer_again="offer_again_s",
    offer_soon="offer_soon_s",
    commit_again="commit_again_s",
    ask_again="ask_again_s",
    want_kept="want_kept_s",
    longest="longest_s",
    patience="patience_s",
)
@frozen
class Timing:
    """When handoffs are retried and given up, in seconds. Each delay doubles from its first value up to `longest_s`.

    offer_again_s: until an unanswered offer is repeated (2)
    offer_soon_s: until an offer that could not be delivered is repeated (0.05)
    commit_again_s: until an unanswered commit is repeated (0.5)
    ask_again_s: until a destination asks again what became of an agent that it holds (1)
    want_kept_s: until an offer whose parts do not arrive is forgotten (60)
    longest_s: the longest delay of any kind (60)
    doubt_after: unanswered questions after which a held agent is shown as in doubt (3)
    patience_s: until an attempt to depart is given up, and `go` returns an error (30)

    The names without `_s` are accepted too.
    """

    offer_again_s: float = 2.0
    offer_soon_s: float = 0.05
    commit_again_s: float = 0.5
    ask_again_s: float = 1.0
    want_kept_s: float = 60.0
    longest_s: float = 60.0
    doubt_after: int = 3
    patience_s: float = 30.0


@frozen
class Persist:
    """Write `record`, and `cargo` with it. `durable`: at once, since somebody waits; else with the next write."""

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
    """The agent now belongs to this station: start it.

    `admission` and `cargo` are None if the agent was admitted before a restart.
    """

    record: Record
    cargo: Cargo | None
    admission: T | None


@frozen
class Expect(Generic[T]):
    """The agent is held durably, its receipt is on its way: prepare its start (docs/adr/instances-before-the-commit).

    It does not belong to this station yet, and may never: a `Start` or a `Drop` follows, or neither for a long time.
    """

    record: Record
    cargo: Cargo
    admission: T


@frozen
class Left:
    """The agent durably belongs to the destination: the commit point. It must never run here again."""

    record: Record


@frozen
class Resume:
    """The agent did not leave: resume it here with an error from `go`, or try the next alternative."""

    record: Record
    refused: Refusal


@frozen
class Release:
    """The agent is certainly elsewhere: its state here may be deleted."""

    record: Record


@frozen
class Drop:
    """What was held is deleted: the agent stays at the source."""

    record: Record


@frozen
class RaiseAlarm:
    """Something that an operator should see. `code` is stable."""

    hid: bytes
    code: str
    reason: str


Notice: TypeAlias = "Expect[T] | Start[T] | Left | Resume | Release | Drop | RaiseAlarm"
"""The actions that notify the station."""
Action: TypeAlias = "Persist | Send | Notice[T]"
SourceAction: TypeAlias = "Persist | Send | Left | Resume | Release | RaiseAlarm"
"""The actions of a source, which admits nothing."""
