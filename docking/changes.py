"""What can be written to a station's store, as values; `docking.handoff.actions.Persist` is the other one.

Not how it is written (`docking.store`). Invariant: a change says all that it needs, so that it can wait in
a queue and be written by another thread.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen

from docking.handoff.actions import Persist
from docking.handoff.messages import Buffer, Part


@frozen
class StoredPart:
    """A part of a capsule; `body` is None for one that the store has already."""

    part: Part
    body: Buffer | None = field(repr=False)


@frozen
class Capsule:
    """An agent's state in the store. `hop`: index of the visit; `standing`: held, live or departed; `note`:

    the station's.
    """

    agent: bytes
    hop: int
    standing: str
    note: bytes
    parts: tuple[Part, ...]


@frozen
class Checkpoint:
    """Set the state of an agent that lives here, in place of what was there."""

    agent: bytes
    hop: int
    parts: tuple[StoredPart, ...]
    note: bytes = b""


@frozen
class Annotate:
    """Set the note of a capsule, and nothing else."""

    agent: bytes
    hop: int
    note: bytes


@frozen
class DropCapsule:
    """The agent is over here: finished, disposed, retracted."""

    agent: bytes
    hop: int


@frozen
class KeepPart:
    """Store a part that no capsule uses yet."""

    part: Part
    body: Buffer = field(repr=False)


@frozen
class Letter:
    """Something to be delivered to another station at least once. Times in milliseconds since 1970."""

    number: int
    recipient: bytes
    kind: str
    body: bytes = field(repr=False)
    due: int
    expires: int
    attempts: int


@frozen
class PostLetter:
    """Put a letter into the outbox, due at once."""

    recipient: bytes
    kind: str
    body: bytes = field(repr=False)
    expires: int


@frozen
class RetryLetter:
    """The letter was not delivered: try again at `due`."""

    number: int
    due: int


@frozen
class DropLetter:
    """The letter was delivered, or is given up."""

    number: int


@frozen
class PutFact:
    """Remember (or with None forget) something small about the station."""

    name: str
    value: bytes | None


@frozen
class Link:
    """A link of a chain that was verified here. `head`: the chain's head with it; `previous`: without it."""

    head: bytes
    previous: bytes
    body: bytes = field(repr=False)


@frozen
class Learn:
    """Remember links, and the point of the agent's trail where they end. Points far behind it are forgotten.

    `number`: of links before the point; `point`: encoded; `expires`: ms since 1970.
    """

    agent: bytes
    expires: int
    links: tuple[Link, ...] = field(repr=lambda links: f"<{len(links)}>")
    head: bytes
    number: int
    point: bytes = field(repr=False)


@frozen
class PutJourney:
    """What this station, as its home, knows of an agent. `capsule`: of a journey that is over; None: as it is."""

    agent: bytes
    expires: int
    record: bytes = field(repr=False)
    capsule: bytes | None = field(default=None, repr=False)


@frozen
class Purge:
    """Forget what is over and expired, and idle parts, oldest first, beyond `idle_bytes`."""

    idle_bytes: int


Change: TypeAlias = (
    "Persist | Checkpoint | Annotate | DropCapsule | KeepPart"
    " | PostLetter | RetryLetter | DropLetter | PutFact | Learn | PutJourney | Purge"
)
