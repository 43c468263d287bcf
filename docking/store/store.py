"""The station's durable memory: the ledger, the parts, the capsules, the outbox, and what was verified.

What it is not: a cache in front of anything, or a place for decisions. It does what it is told, in
transactions; who waits for them, and how, is `docking.store.group_commit`'s business; what the rows are kept in, that
of `docking.store.sqlite`.

Invariants:
- A commit that returned is on the disk. A store without a path is volatile: the same tables in memory, which end with
  their process.
- Changes of one group are written together or not at all; a group that cannot be written does not hinder
  its neighbours.
- What the ledger says and what the capsules say changes in the same transaction.
- A part is kept as long as a capsule needs it; one of a kind worth keeping (an image) longer, until `Purge`.
- One process has a store open at a time. A store has an epoch, drawn when it was made: the life that its
  memory spans.
- After a write whose fate is unknown, nothing is written any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from attrs import define

from docking.errors import StoreError, StoreFull, StoreUnusable, WriteFailed
from docking.handoff.actions import Record
from docking.handoff.messages import EPOCH_SIZE, Side
from docking.store.changes import Change, Letter, StoredCapsule
from docking.store.reserve import Reserve
from docking.store.sqlite import LOG_BYTES, SCHEMA_FILE, SqliteBackend

Failpoint: TypeAlias = Callable[[str], None]
"""Called with the name of a place where a crash is interesting; tests crash there."""

Full: TypeAlias = "Callable[[Sequence[Change], StoreFull], StoreError | None]"

# Later than any time (ms since 1970).
NEVER = 2**62
# SQLite takes 999 values in a statement, in its older versions.
RECIPIENTS_LEFT_OUT = 900

# From this size on (bytes), copying a body through the tables costs more than two more waits for the disk.
LARGE_BYTES = 4 << 20
# And from this size on, it takes longer than keeping the body as it came, where there is no disk.
LARGE_IN_MEMORY_BYTES = 16 << 10


def never(place: str) -> None:
    """The failpoint of real life."""


def left_out(group: Sequence[Change], error: StoreFull) -> StoreError | None:
    """A group that does not fit is left out."""
    return error


@define(eq=False, repr=False)
class Store:
    """An open store. `commit` from one thread at a time; everything else from any. `tables`: what it keeps, as rows."""

    path: Path | None
    epoch: bytes
    _failpoint: Failpoint
    tables: SqliteBackend
    _reserve: Reserve | None = None
    _broken: str | None = None

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        new_epoch: bytes,
        clock: Callable[[], int],
        failpoint: Failpoint = never,
        schema: str | None = None,
        large_from: int | None = None,
    ) -> Store:
        """Open the store at `path`, or make it; None for one in memory.

        `new_epoch`: 16 random bytes, for a store that is made now; `clock`: milliseconds since 1970;
        `large_from`: the size (bytes) from which on a body is kept beside the tables, on the disk in a file of its own;
        None for what is fastest. Raises `StoreUnusable`.
        """
        if len(new_epoch) != EPOCH_SIZE:
            raise ValueError(f"an epoch has {EPOCH_SIZE} bytes")
        schema = SCHEMA_FILE.read_text("utf-8") if schema is None else schema
        if large_from is None:
            large_from = LARGE_IN_MEMORY_BYTES if path is None else LARGE_BYTES
        tables = SqliteBackend.open(
            path, new_epoch=new_epoch, clock=clock, failpoint=failpoint, schema=schema, large_from=large_from
        )
        epoch = tables.fact("epoch")
        if epoch is None or len(epoch) != EPOCH_SIZE:
            tables.close()
            raise StoreUnusable(f"{path} does not know its epoch: it is damaged")
        reserve = None if path is None else Reserve(path.with_name(path.name + ".reserve"))
        if reserve is not None:
            reserve.keep()
        return cls(path, epoch, failpoint, tables, reserve)

    @property
    def volatile(self) -> bool:
        """Whether nothing of it survives the process."""
        return self.path is None

    def fail(self, reason: str) -> None:
        """Write nothing any more: whoever writes has lost track."""
        self._broken = self._broken or reason

    def close(self) -> None:
        """Close the file. What was not committed is lost."""
        self._broken = "it is closed"
        self.tables.close()

    # Writing

    def commit(self, groups: Sequence[Sequence[Change]], full: Full = left_out) -> list[StoreError | None]:
        """Write groups of changes in one transaction; for each, None, or why it alone was left out.

        `full(group, error)` says what becomes of a group for which the disk has no room, before the next is tried.
        Raises `WriteFailed` if it is not known what was written: the store must be closed, and opened again.
        """
        if self._broken is not None:
            raise WriteFailed(f"the store does not write any more: {self._broken}")
        try:
            results = self.tables.commit(groups)
        except WriteFailed as error:
            self._broken = str(error)
            raise
        except StoreError as error:
            if len(groups) == 1:
                return [full(groups[0], error) if isinstance(error, StoreFull) else error]
            # One may be too large for the disk, and the others not.
            return [result for group in groups for result in self.commit([group], full)]
        self._failpoint("store.after-commit")
        return results

    def make_room(self) -> bool:
        """The disk is full: give up what was kept for this; whether there was something."""
        return self._reserve is not None and self._reserve.give_up()

    def has_room(self) -> bool:
        """Whether there is so much room again that some of it is kept for the next time."""
        return self._reserve is None or self._reserve.keep()

    # Reading

    def record(self, hid: bytes, side: Side) -> Record | None:
        """The row of the ledger for this handoff, or None."""
        return self.tables.record(hid, side)

    def copies(self, agent: bytes, hop: int) -> list[Record]:
        """The handoffs by which this agent arrived here when it left visit `hop`."""
        return self.tables.copies(agent, hop)

    def history(self, agent: bytes) -> list[Record]:
        """All handoffs of this agent here, by hop."""
        return self.tables.history(agent)

    def unfinished(self) -> list[Record]:
        """The handoffs that a restart has to take up."""
        return self.tables.unfinished()

    def settled_with(self, peer: bytes, now: int, most: int) -> list[Record]:
        """The last handoffs with this peer that are over, and of which it has signed its part. Looks through all."""
        return self.tables.settled_with(peer, now, most)

    def capsule(self, agent: bytes, hop: int) -> StoredCapsule | None:
        """The capsule of this agent and visit, or None."""
        return self.tables.capsule(agent, hop)

    def capsules(self, standing: str = "live") -> list[StoredCapsule]:
        """All capsules of this standing, longest unchanged first."""
        return list(self.tables.capsules(standing))

    def each_capsule(self, standing: str = "live") -> Iterator[StoredCapsule]:
        """The same, each read when it is asked for: those that are gone by then are left out."""
        return self.tables.capsules(standing)

    def has_part(self, digest: bytes) -> bool:
        """Whether the store has the body of this digest."""
        return self.tables.has_part(digest)

    def parts_of(self, kind: str) -> list[bytes]:
        """The digests of all parts of this kind that a capsule needs. Looks through all."""
        return self.tables.parts_of(kind)

    def part(self, digest: bytes) -> bytes | None:
        """The body of this digest, or None."""
        return self.tables.part(digest)

    def point(self, head: bytes) -> bytes | None:
        """The encoded point of a verified trail with this head, or None."""
        return self.tables.point(head)

    def last_point(self, agent: bytes) -> bytes | None:
        """The farthest point of this agent's trail that is known, or None."""
        return self.tables.last_point(agent)

    def links(self, head: bytes, after: bytes, most: int) -> list[bytes] | None:
        """The links of a chain after the head `after` up to `head`, in order; None if they are not all here."""
        return self.tables.links(head, after, most)

    def journey(self, agent: bytes) -> tuple[bytes, bytes] | None:
        """What was noted of the journey of this agent: record and capsule (empty while it is not over)."""
        return self.tables.journey(agent)

    def journeys(self) -> list[tuple[bytes, bytes]]:
        """The agents that were launched here, and what was noted of each."""
        return self.tables.journeys()

    def letters(self, now: int, most: int, far: int = NEVER, without: Sequence[bytes] = ()) -> list[Letter]:
        """Up to `most` letters, the earliest due first.

        now, far: ms since 1970; those that are due at `now`, and those that are due only after `far`
        without: recipients whose letters are left out
        """
        return self.tables.letters(now, far, most, without[:RECIPIENTS_LEFT_OUT])

    def copy_to(self, path: Path) -> None:
        """Copy the tables to a new file, without the bodies beside them. From any thread. Raises `sqlite3.Error`."""
        self.tables.copy_to(path)

    def kept_for(self, recipient: bytes, kind: str) -> tuple[int, int]:
        """How many letters of a kind there are for a station, and how many bytes they have."""
        return self.tables.kept_for(recipient, kind)

    def first_kept(self, recipient: bytes, kind: str, number: int) -> Letter | None:
        """The first letter of a kind for a station with at least this number, or None."""
        return self.tables.first_kept(recipient, kind, number)

    def fact(self, name: str) -> bytes | None:
        """What was remembered under this name, or None."""
        return self.tables.fact(name)

    # Care of the file

    def log_size(self) -> int:
        """The size of the write-ahead log, in bytes; 0 if there is none."""
        return self.tables.log_size()

    def log_used(self) -> int:
        """How many of them were written since the log began anew: it is overwritten from its start.

        Between commits, in their thread.
        """
        return self.tables.log_used()

    def empty_log(self, wholly: bool = False) -> None:
        """Move what the write-ahead log holds into the file.

        May run beside `commit`, in another thread; with `wholly` between commits, and then the next commit
        begins the log anew. Raises `StoreError`; nothing is lost then.
        """
        self.tables.empty_log(wholly)
        if self._reserve is not None:
            self._reserve.keep()


__all__ = ["LARGE_BYTES", "LOG_BYTES", "SCHEMA_FILE", "Failpoint", "Store", "never"]
