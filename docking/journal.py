"""Waits for the disk instead of the event loop, and lets many writers share one wait: group commit.

A thread writes what has been queued, in the order it was queued, as one transaction per turn; while the
disk is busy, the queue grows, and the next turn takes all of it. Writes that nobody waits for
(`durable=False`) linger a moment, so that they ride with the next that somebody waits for.

It is not the store, and decides nothing. Invariants: a future is done only when its changes are on the
disk, or will not be; what was queued first is written first, so a crash loses a tail of the queue and never
a middle; after a write whose fate is unknown, nothing is written any more; on a disk that is full, what
must be written is waited for, and the rest fails alone. A volatile store has no disk to wait for: it is
written at once.
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

from docking.changes import Change, Checkpoint, DropCapsule, KeepPart, PostLetter
from docking.errors import StoreError, StoreFull, WriteFailed
from docking.handoff.actions import Persist
from docking.handoff.states import Destination, Source
from docking.store import LOG_BYTES, Store

_log = logging.getLogger(__name__)
# Memory and latency: one transaction does not take more than this many groups.
MAX_GROUPS = 256
# Every so many transactions, or when the file has grown, somebody looks how full the log is.
LOOK = 16
# Seconds between two attempts to write to a disk that is full what must be written.
AGAIN = 0.5


def _must_be_written(change: Change) -> bool:
    """Whether somebody relies on it as soon as it was decided: what the ledger says, an agent's end, a letter."""
    if isinstance(change, Persist):
        return change.record.state not in (Destination.HELD, Source.FROZEN)
    return isinstance(change, (DropCapsule, PostLetter))


def _is_large(change: Change) -> bool:
    """Whether it brings bodies that nobody has to write now."""
    held = isinstance(change, Persist) and change.record.state is Destination.HELD
    return held or isinstance(change, (Checkpoint, KeepPart))


@frozen(eq=False)
class _Entry:
    changes: Sequence[Change]
    due: float
    future: asyncio.Future[None]


@define(eq=False)
class Journal:
    """The only writer of `store`, for one event loop. `linger`:

    seconds that an undemanding write may wait for company.
    """

    store: Store
    failed: Callable[[str], None] = lambda reason: None
    """Told once, in the loop, when the store does not write any more; before those are told who wait for it."""
    _linger: float = 0.005
    _queue: deque[_Entry] = field(factory=deque)
    _wake: threading.Condition = field(factory=threading.Condition)
    _hurry: bool = False
    _timer: asyncio.TimerHandle | None = None
    _closing: bool = False
    _thread: threading.Thread | None = None
    _mover: threading.Thread | None = None
    _commits: int = 0
    _size: int = 0
    _moved_at: int = 0
    _tight: bool = False
    _given_up: bool = False

    def write(self, changes: Sequence[Change], durable: bool) -> asyncio.Future[None]:
        """Queue a group of changes.

        The future ends with None, with `StoreError` (not written) or with `WriteFailed` (nobody knows).
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if self.store.volatile:
            entry = _Entry(changes, 0.0, future)
            self._settle([entry], self._commit([entry]))
            return future
        entry = _Entry(changes, loop.time() + self._linger, future)
        with self._wake:
            if self._closing:
                raise WriteFailed("the journal is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, args=(loop,), name="journal", daemon=True)
                self._thread.start()
            self._queue.append(entry)
            if durable or len(self._queue) >= MAX_GROUPS:
                self._hurry = True
                self._wake.notify()
        # Not the thread's to wait for: woken only to wait, it would be in the way of the agent that runs now.
        if not self._hurry and self._timer is None:
            self._timer = loop.call_at(entry.due, self._look, loop)
        return future

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write what has lingered long enough."""
        self._timer = None
        with self._wake:
            if not self._queue or self._hurry:
                return
            if self._queue[0].due > loop.time():
                self._timer = loop.call_at(self._queue[0].due, self._look, loop)
                return
            self._hurry = True
            self._wake.notify()

    async def close(self) -> None:
        """Write what is queued, and end the thread. The store stays open."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._timer is not None:
            self._timer.cancel()
        for name in ("_thread", "_mover"):  # the one may start the other while it ends
            if (thread := getattr(self, name)) is not None:
                await asyncio.get_running_loop().run_in_executor(None, thread.join)

    # In the thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while entries := self._take():
            outcome = self._commit(entries)
            try:
                loop.call_soon_threadsafe(self._settle, entries, outcome)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            self._move_log()

    def _take(self) -> list[_Entry]:
        """The next entries in order, when they are due; none when the journal is closed and empty."""
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
            return self._write_all(entries)
        # The room that was kept for ends and decisions is not for states.
        outcome: list[StoreError | None] = [StoreFull("the store's disk is full")] * len(entries)
        written = [index for index, entry in enumerate(entries) if not any(map(_is_large, entry.changes))]
        found = self._write_all([entries[index] for index in written]) if written else []
        if found and isinstance(found[0], WriteFailed):
            return [found[0]] * len(entries)
        for index, result in zip(written, found, strict=True):
            outcome[index] = result
        return outcome

    def _write_all(self, entries: Sequence[_Entry]) -> list[StoreError | None]:
        try:
            return self.store.commit([entry.changes for entry in entries], self._full)
        except WriteFailed as error:
            return [error] * len(entries)
        except Exception as error:  # whoever waits must be told, and a thread that ended would write for nobody
            _log.exception("the store failed")
            self.store.fail(f"it failed: {error!r}")
            return [WriteFailed(f"the store failed: {error!r}")] * len(entries)

    def _full(self, changes: Sequence[Change], error: StoreError | None) -> StoreError | None:
        """Write what nobody can do without as soon as there is room; nothing is written before it."""
        if not any(map(_must_be_written, changes)):
            return error
        waited = False
        while isinstance(error, StoreFull):
            if self._mover is not None:
                self._mover.join()  # it would take the room, to move what needs none where it is
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
                time.sleep(AGAIN)
            error = self.store.commit([changes])[0]
        if waited:
            _log.warning("the disk of the store has room again")
        return error

    def _settle(self, entries: Sequence[_Entry], outcome: Sequence[StoreError | None]) -> None:
        if not self._given_up and isinstance(outcome[0], WriteFailed):  # then it is what all are told
            self._given_up = True
            self.failed(str(outcome[0]))
        for entry, error in zip(entries, outcome, strict=True):
            if entry.future.cancelled():
                continue
            if error is None:
                entry.future.set_result(None)
            else:
                entry.future.set_exception(error)

    def _move_log(self) -> None:
        """Empty the write-ahead log now and then:

        beside the commits, or between them if that was not enough.
        """
        if self._tight:
            return  # moving it into the file makes the file grow
        self._commits += 1
        size = self.store.log_size()
        if self._commits % LOOK and size < self._size + LOG_BYTES:
            return
        self._size, used = size, self.store.log_used()
        if used >= 8 * LOG_BYTES:
            # While others write, moving never catches up: now they wait once. Two movers are in each other's way.
            if self._mover is not None:
                self._mover.join()
            self._move(wholly=True)
            used = 0
        if used < self._moved_at:
            self._moved_at = 0
        if used >= self._moved_at + LOG_BYTES and (self._mover is None or not self._mover.is_alive()):
            self._moved_at = used
            self._mover = threading.Thread(target=self._move, name="journal-log", daemon=True)
            self._mover.start()

    def _move(self, wholly: bool = False) -> None:
        # An error here loses nothing: the log holds all, and the next commit will tell of a failing disk.
        with contextlib.suppress(StoreError):
            self.store.empty_log(wholly)
