"""The changes that can be written to a station's store, as values. `docking.handoff.actions.Persist` is one more.

Not here: how they are written (`docking.store.store`). Invariant: a change contains everything it needs, so it can
wait in a queue and be written by another thread.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen

from agents.brief import brief
from agents.canonical import Buffer
from docking.handoff.actions import Persist
from docking.handoff.messages import Part


@frozen
class StoredPart:
    """A part of a capsule. `body`: None if the store has it already."""

    part: Part
    body: Buffer | None = field(repr=False)


@frozen
class StoredCapsule:
    """An agent's state in the store.

    `hop`: index of the visit; `standing`: held, live or departed; `note`: bytes that only the station understands.
    """

    agent: bytes
    hop: int
    standing: str
    note: bytes = field(repr=brief)
    parts: tuple[Part, ...] = field(repr=brief)


@frozen
class PutCheckpoint:
    """Replace the state of an agent that lives here."""

    agent: bytes
    hop: int
    parts: tuple[StoredPart, ...] = field(repr=brief)
    note: bytes = field(default=b"", repr=brief)


@frozen
class Annotate:
    """Set the note of a capsule, and nothing else."""

    agent: bytes
    hop: int
    note: bytes = field(repr=brief)


@frozen
class DropCapsule:
    """The agent has ended here: finished, disposed of, or retracted."""

    agent: bytes
    hop: int


@frozen
class KeepPart:
    """Store a part that no capsule uses yet."""

    part: Part
    body: Buffer = field(repr=False)


@frozen
class Letter:
    """Something to deliver to another station at least once. Times in milliseconds since 1970."""

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
    """Remember a small fact about the station; None forgets it."""

    name: str
    value: bytes | None = field(repr=brief)


@frozen
class Link:
    """A verified link of a chain. `head`: the chain's head with it; `previous`: without it."""

    head: bytes
    previous: bytes
    body: bytes = field(repr=False)


@frozen
class Learn:
    """Remember links, and the point of the agent's trail where they end. Points far behind it are deleted.

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
    """What this station, as its home, knows of an agent. `capsule`: of a finished journey; None leaves it as it is."""

    agent: bytes
    expires: int
    record: bytes = field(repr=False)
    capsule: bytes | None = field(default=None, repr=False)


@frozen
class Prolong:
    """Remember an agent for longer: its points and handoffs, and the links of the chains with these heads.

    `expires`: ms since 1970; what is kept for longer already stays so.
    """

    agent: bytes
    heads: tuple[bytes, ...] = field(repr=lambda heads: f"<{len(heads)}>")
    expires: int


@frozen
class Purge:
    """Delete what is over and expired; then idle parts, oldest first, beyond `idle_bytes`."""

    idle_bytes: int


Change: TypeAlias = (
    "Persist | PutCheckpoint | Annotate | DropCapsule | KeepPart"
    " | PostLetter | RetryLetter | DropLetter | PutFact | Learn | PutJourney | Prolong | Purge"
)
