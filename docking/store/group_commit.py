"""Group commit: waits for the disk outside the event loop, and lets many writers share one wait.

A thread writes what has been queued, in order, as one transaction per turn. While the disk is busy, the queue grows,
and the next turn takes all of it. Writes that nobody waits for (`durable=False`) linger a moment, so that they join
the next one that somebody waits for.

Not the store, and it decides nothing. Invariants: a future completes only when its changes are on
disk, or never will be; changes are written in the order they were queued, so a crash loses a tail of the queue and
never a middle; after a write whose outcome is unknown, nothing more is written; on a full disk, essential
changes wait for space, and the others fail alone. A volatile store has no disk to wait for: the event loop writes it,
at once what somebody waits for, and the rest a moment later or with `catch_up`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from attrs import define, field, frozen

from docking.aio.threads import in_thread
from docking.aio.timers import call_at
from docking.errors import StoreError, StoreFull, WriteFailed
from docking.handoff.actions import Persist
from docking.handoff.states import Destination, Source
from docking.store.changes import Change, DropCapsule, KeepPart, Learn, PostLetter, PutCheckpoint
from docking.store.store import LOG_BYTES, Store

_log = logging.getLogger(__name__)
# The most groups in one transaction: bounds memory and latency.
MAX_GROUPS = 256
# Check the size of the write-ahead log every so many transactions, or when the file has grown.
LOG_CHECK_INTERVAL = 16
# Bytes of a body that is counted while it waits.
HEAVY = 1 << 20
# Seconds between two attempts to write essential changes to a full disk.
FULL_RETRY_S = 0.5


def _must_be_written(change: Change) -> bool:
    """Whether somebody relies on it once it is decided or known: the ledger, an agent's end, a letter, a trail."""
    if isinstance(change, Persist):
        return change.record.state not in (Destination.HELD, Source.FROZEN)
    return isinstance(change, (DropCapsule, Learn, PostLetter))


def _is_large(change: Change) -> bool:
    """Whether it contains bodies that need not be written now."""
    held = isinstance(change, Persist) and change.record.state is Destination.HELD
    return held or isinstance(change, (PutCheckpoint, KeepPart))


def _decides(changes: Sequence[Change]) -> bool:
    """Whether it is the decision that an agent is given away, and nothing else."""
    return len(changes) == 1 and isinstance(changes[0], Persist) and changes[0].record.state is Source.COMMITTED


def _weight(changes: Sequence[Change]) -> int:
    """Bytes of the states in them that are large."""
    bodies = [part.body for change in changes if isinstance(change, PutCheckpoint) for part in change.parts]
    return sum(len(body) for body in bodies if body is not None and len(body) >= HEAVY)


@frozen(eq=False, repr=False)
class _Entry:
    changes: Sequence[Change]
    due: float
    future: asyncio.Future[None]
    weight: int


@define(eq=False, repr=False)
class GroupCommit:
    """The only writer of `store`, for one event loop. `linger_s`: how long a non-durable write may wait for more."""

    store: Store
    failed: Callable[[str], None] = lambda reason: None
    """Called once, in the event loop, when the store has failed, before waiting writers get their error."""
    _linger_s: float = 0.005
    _queue: deque[_Entry] = field(factory=deque)
    _wake: threading.Condition = field(factory=threading.Condition)
    backlog: int = 0
    """Bytes of large bodies that wait to be written."""
    _hurry: bool = False
    _timer: asyncio.Handle | None = None
    _closing: bool = False
    _thread: threading.Thread | None = None
    mover: threading.Thread | None = None
    """The thread that moves the log into the tables, if it was ever needed."""
    _commits: int = 0
    _size: int = 0
    _moved_at: int = 0
    _tight: bool = False
    _given_up: bool = False

    def write(self, changes: Sequence[Change], durable: bool) -> asyncio.Future[None]:
        """Queue a group of changes.

        The future completes with None, `StoreError` (not written) or `WriteFailed` (unknown).
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        entry = _Entry(changes, loop.time() + self._linger_s, future, _weight(changes))
        self.backlog += entry.weight
        if self.store.volatile:
            self._write_in_memory(entry, durable, loop)
            return future
        with self._wake:
            if self._closing:
                self.backlog -= entry.weight
                raise WriteFailed("the journal is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, args=(loop,), name="journal", daemon=True)
                self._thread.start()
            self._queue.append(entry)
            if durable or len(self._queue) >= MAX_GROUPS:
                self._hurry = True
                self._wake.notify()
        # A timer of the loop, not a wait of the thread: waking the thread only to wait would delay the running agent.
        if not self._hurry and self._timer is None:
            self._timer = call_at(loop, entry.due, self._look, loop)
        return future

    def _write_in_memory(self, entry: _Entry, durable: bool, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing here outlives the process, so a decision counts when it is queued (docs/adr/writes-in-memory)."""
        self._queue.append(entry)
        decides = _decides(entry.changes)
        if decides:
            entry.future.set_result(None)
        if self._closing or (durable and not decides) or len(self._queue) >= MAX_GROUPS:
            self.catch_up()
        elif self._timer is None:
            self._timer = call_at(loop, entry.due, self.catch_up)

    def catch_up(self) -> None:
        """Write what is queued for a volatile store, since the event loop has nothing better to do.

        The thread that writes to a disk needs no such hint.
        """
        if not self.store.volatile:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if entries := list(self._queue):
            self._queue.clear()
            self._settle(entries, self._commit(entries))

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write what has lingered long enough."""
        self._timer = None
        with self._wake:
            if not self._queue or self._hurry:
                return
            if self._queue[0].due > loop.time():
                self._timer = call_at(loop, self._queue[0].due, self._look, loop)
                return
            self._hurry = True
            self._wake.notify()

    async def close(self) -> None:
        """Write what is queued, and end the thread. The store stays open."""
        self.catch_up()
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._timer is not None:
            self._timer.cancel()
        for name in ("_thread", "mover"):  # the first may start the second while it ends
            if (thread := getattr(self, name)) is not None:
                await in_thread(thread.join)

    # In the writer thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while entries := self._take():
            outcome = self._commit(entries)
            try:
                loop.call_soon_threadsafe(self._settle, entries, outcome)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            self._move_log()

    def _take(self) -> list[_Entry]:
        """The next entries in order, once they are due; none when this is closed and the queue empty."""
        with self._wake:
            while not (self._hurry or self._closing):
                self._wake.wait()
            entries = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_GROUPS))]
            self._hurry = bool(self._queue)
            return entries

    def _commit(self, entries: Sequence[_Entry]) -> list[StoreError | None]:
        if self._tight and self.store.has_room():
            self._tight = False
        if not self._tight:
            return self._write_all([entry.changes for entry in entries])
        # The reserve is for ends and decisions, not for states.
        outcome: list[StoreError | None] = [StoreFull("the store's disk is full")] * len(entries)
        written = [index for index, entry in enumerate(entries) if not any(map(_is_large, entry.changes))]
        found = self._write_all([entries[index].changes for index in written]) if written else []
        if found and isinstance(found[0], WriteFailed):
            return [found[0]] * len(entries)
        for index, result in zip(written, found, strict=True):
            outcome[index] = result
        return outcome

    def _write_all(self, groups: Sequence[Sequence[Change]]) -> list[StoreError | None]:
        try:
            return self.store.commit(groups, self._full)
        except WriteFailed as error:
            return [error] * len(groups)
        except Exception as error:  # waiting writers must be told, and if the thread ended, nothing would be written
            _log.exception("the store failed")
            self.store.fail(f"it failed: {error!r}")
            return [WriteFailed(f"the store failed: {error!r}")] * len(groups)

    def _full(self, changes: Sequence[Change], error: StoreError | None) -> StoreError | None:
        """Write an essential group as soon as there is space; nothing is written before it."""
        if not any(map(_must_be_written, changes)):
            return error
        waited = False
        while isinstance(error, StoreFull):
            if self.mover is not None:
                self.mover.join()  # moving the log would only use up the space
            if self.store.make_room():
                self._tight = True
            else:
                with self._wake:
                    if self._closing:
                        return error
                if not waited:
                    _log.error(
                        "the disk of the store is full: this station waits for room, and loses nothing meanwhile"
                    )
                waited = True
                time.sleep(FULL_RETRY_S)
            error = self.store.commit([changes])[0]
        if waited:
            _log.warning("the disk of the store has room again")
        return error

    def _settle(self, entries: Sequence[_Entry], outcome: Sequence[StoreError | None]) -> None:
        for entry, error in zip(entries, outcome, strict=True):
            self.backlog -= entry.weight
            self._answer(entry.future, error)

    def _answer(self, future: asyncio.Future[None], error: StoreError | None) -> None:
        if isinstance(error, WriteFailed) and not self._given_up:  # every writer is told this from now on
            self._given_up = True
            self.failed(str(error))
        if future.done():
            if error is not None and not future.cancelled() and not self._given_up:  # a decision that counted already
                self._given_up = True
                self.failed(f"the store does not take what was decided: {error}")
        elif error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def _move_log(self) -> None:
        """Empty the write-ahead log now and then: beside the commits, or between them if that was not enough."""
        if self._tight:
            return  # moving the log into the file makes the file grow
        self._commits += 1
        size = self.store.log_size()
        if self._commits % LOG_CHECK_INTERVAL and size < self._size + LOG_BYTES:
            return
        self._size, used = size, self.store.log_used()
        if used >= 8 * LOG_BYTES:
            # While others write, moving never catches up: make them wait once. Two movers would hinder each other.
            if self.mover is not None:
                self.mover.join()
            self._move(wholly=True)
            used = 0
        if used < self._moved_at:
            self._moved_at = 0
        if used >= self._moved_at + LOG_BYTES and (self.mover is None or not self.mover.is_alive()):
            self._moved_at = used
            self.mover = threading.Thread(target=self._move, name="journal-log", daemon=True)
            self.mover.start()

    def _move(self, wholly: bool = False) -> None:
        # An error here loses nothing: the log has all data, and the next commit will report a failing disk.
        with contextlib.suppress(StoreError):
            self.store.empty_log(wholly)
