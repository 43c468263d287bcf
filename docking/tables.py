"""What a store keeps its rows in: on the disk (`docking.disk`) or in memory (`docking.memory`).

Not when something is written, or what a failure means for the station: that is `docking.store`, which is also where
the reads are described. Invariants, of both kinds alike: the rules below, and whatever `docking.changes` says; what
is read is what whole groups have written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from docking.changes import Capsule, Change, Learn, Letter, StoredPart
from docking.errors import StoreError
from docking.handoff.actions import Persist, Record
from docking.handoff.messages import Side
from docking.handoff.states import Destination, Source

# Images are what the next agent of the same kind needs; a passport is needed when its agent comes again.
KEPT_KINDS = frozenset({"image", "passport"})
# What a restart has to take up; what is over may be purged.
OPEN: tuple[Source | Destination, ...] = (Source.FROZEN, Source.COMMITTED, Destination.HELD)
OVER: tuple[Source | Destination, ...] = (Source.GONE, Source.ABORTED, Destination.RUNNING, Destination.DISCARDED)
# A peer counts on the point where the agent last left us, a few links back; older ones nobody names.
_LINKS_BACK = 64
# Points are looked through for old ones once in as many links.
_LINKS_BETWEEN = 16


def forgotten(change: Learn) -> int | None:
    """The number of links below which points of this agent are forgotten now; None for not now."""
    before = change.number - len(change.links)
    return None if change.number // _LINKS_BETWEEN == before // _LINKS_BETWEEN else change.number - _LINKS_BACK


def capsules_follow(
    change: Persist,
    stand: Callable[[bytes, int, str], None],
    put: Callable[[bytes, int, str, tuple[StoredPart, ...], bytes], None],
    drop: Callable[[bytes, int], None],
) -> None:
    """Have the capsules say what the ledger says from this change on, in the same transaction.

    `stand(agent, hop, standing)`, `put(agent, hop, standing, parts, note)` and `drop(agent, hop)` change a capsule.
    """
    record = change.record
    leaving, arriving = (record.agent, record.hop), (record.agent, record.hop + 1)
    match record.state:
        case Source.COMMITTED:
            stand(*leaving, "departed")
        case Source.ABORTED:
            stand(*leaving, "live")
        case Source.GONE:
            drop(*leaving)
        case Destination.HELD:
            assert change.cargo is not None
            bodies = {body.index: body.data for body in change.cargo.bodies}
            parts = change.cargo.offer.parts
            put(*arriving, "held", tuple(StoredPart(part, bodies.get(index)) for index, part in enumerate(parts)), b"")
        case Destination.RUNNING:
            stand(*arriving, "live")
        case Destination.DISCARDED:
            drop(*arriving)
        case _:
            pass


class Tables(Protocol):
    """The rows of one store. `write` and `commit` from one thread at a time; everything else from any.

    The reads are those of `docking.store.Store`, where they are described. They raise `StoreUnusable`.
    """

    def write(self, groups: Sequence[Sequence[Change]]) -> list[StoreError | None]:
        """Write groups of changes; for each, None, or why it alone was left out. To be followed by `commit`.

        Raises `StoreError` if none of them was written; then `commit` must not follow.
        """
        ...

    def commit(self) -> None:
        """What was written lasts. Raises `WriteFailed`: then nobody knows."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...

    def log_size(self) -> int:
        """Bytes of the write-ahead log; 0 if there is none."""
        ...

    def log_used(self) -> int:
        """Bytes in it since it began anew."""
        ...

    def empty_log(self, wholly: bool) -> None:
        """Move what is in the log to where it belongs. Raises `StoreError`."""
        ...

    def record(self, hid: bytes, side: Side) -> Record | None: ...

    def copies(self, agent: bytes, hop: int) -> list[Record]: ...

    def history(self, agent: bytes) -> list[Record]: ...

    def unfinished(self) -> list[Record]: ...

    def capsule(self, agent: bytes, hop: int) -> Capsule | None: ...

    def capsules(self, standing: str) -> list[Capsule]: ...

    def has_part(self, digest: bytes) -> bool: ...

    def part(self, digest: bytes) -> bytes | None: ...

    def point(self, head: bytes) -> bytes | None: ...

    def last_point(self, agent: bytes) -> bytes | None: ...

    def links(self, head: bytes, after: bytes, most: int) -> list[bytes] | None: ...

    def journey(self, agent: bytes) -> tuple[bytes, bytes] | None: ...

    def journeys(self) -> list[tuple[bytes, bytes]]: ...

    def letters(self, now: int, most: int) -> list[Letter]: ...

    def fact(self, name: str) -> bytes | None: ...
