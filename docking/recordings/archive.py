"""The recordings that a station keeps: written by a thread of its own, bounded, the oldest gone first.

A file belongs to one agent and holds some of its stays, one after the other (`docking.recordings.reel`); what is
removed is a whole file. Nothing is synced: what a power cut takes of a recording is missed by nobody but who looks at
it.

Invariants: whoever runs agents only puts bytes into a queue, never waits for the disk, and loses the recording where
the disk does not keep up; the files hold no more than the policy says; a folder with foreign or damaged files is read
as far as it makes sense.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from attrs import define, evolve, field, frozen

from docking.recordings.record import StayRecord
from docking.recordings.reel import BEGIN, CALLS, END, MAGIC, Summary, begin_frame, frame, frames, read_stay, summaries
from docking.trust.keeping import Keeping

_log = logging.getLogger(__name__)
BACKLOG_BYTES = 64 << 20  # that wait to be written; what comes then is not recorded
REEL_BYTES = 8 << 20  # of a file, from which on another one is begun; or an eighth of all that is kept
SWEEP_S = 60.0  # seconds between two looks for what is too old
MAX_CURRENT = 4096  # agents whose file is known without looking


@frozen
class _Begin:
    record: StayRecord = field(repr=False)
    snapshot: Callable[[], bytes] = field(repr=False)
    size: int


@frozen
class _Add:
    agent: bytes
    visit: int
    kind: int
    value: list[object] = field(repr=False)
    size: int


@define(eq=False, repr=False)
class _Reel:
    path: Path
    size: int
    stays: int
    began: int
    base: tuple[int, bytes] | None = None  # offset and state of the last whole one, while it is being added to


@define(eq=False, repr=False)
class Archive:
    """The recordings in a folder. `keeping()`: what may be kept now; `clock`: ms since 1970."""

    _folder: Path
    _keeping: Callable[[], Keeping]
    _clock: Callable[[], int]
    lost: int = 0
    """Stays of which something was not recorded, since the disk did not keep up or failed."""
    size: int = 0
    """Bytes of all files."""
    _queue: queue.SimpleQueue[_Begin | _Add | threading.Event | None] = field(factory=queue.SimpleQueue)
    _waiting: int = 0
    _reels: OrderedDict[Path, _Reel] = field(factory=OrderedDict)
    _current: OrderedDict[bytes, _Reel] = field(factory=OrderedDict)
    _stays: int = 0
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return self._keeping().bytes > 0

    @property
    def calls(self) -> int:
        """Bytes of the calls of one stay that may be kept."""
        return self._keeping().calls

    # From any thread

    def begin(self, record: StayRecord, snapshot: Callable[[], bytes], size: int) -> bool:
        """A stay begins. `snapshot()`: its state, encoded; `size`: of that, about. False if there is no room for it."""
        return self._put(_Begin(record, snapshot, size))

    def calls_made(self, agent: bytes, visit: int, tape: bytes, count: int) -> None:
        """A piece of the stay's tape."""
        self._put(_Add(agent, visit, CALLS, [count, tape], len(tape)))

    def ended(self, agent: bytes, visit: int, time: int, dropped: int) -> None:
        """The stay is over. `time`: ms; `dropped`: entries for which there was no room."""
        self._put(_Add(agent, visit, END, [time, dropped], 32))

    def _put(self, work: _Begin | _Add) -> bool:
        with self._lock:
            if self._waiting + work.size > BACKLOG_BYTES:
                self.lost += 1
                return False
            self._waiting += work.size
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="portcall-recordings", daemon=True)
                self._thread.start()
        self._queue.put(work)
        return True

    def settle(self, timeout_s: float = 10.0) -> None:
        """Wait until everything so far is written."""
        if self._thread is not None and self._thread.is_alive():
            done = threading.Event()
            self._queue.put(done)
            done.wait(timeout_s)

    def close(self) -> None:
        """Write what waits, and stop."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(10.0)
            self._thread = None

    # Reading: in a thread, since it takes time

    def visits(self, agent: bytes) -> dict[int, Summary]:
        """What there is of an agent, by visit."""
        found: dict[int, Summary] = {}
        for path in self._of(agent):
            with contextlib.suppress(OSError):  # removed by now
                found.update(summaries(path))
        return found

    def read(self, agent: bytes, visit: int) -> StayRecord | None:
        """The record of one stay, or None. Raises `BadRecord`."""
        found = None
        for path in self._of(agent):
            with contextlib.suppress(OSError):
                again = read_stay(path, visit)
                if again is not None and found is not None:
                    again = evolve(again, restarted=True)
                found = again or found
        return None if found is None or found.agent != agent else found

    def _of(self, agent: bytes) -> list[Path]:
        self.settle()
        oldest = self._clock() - 1000 * self._keeping().age_s
        found = []
        for path in self._folder.glob(f"{agent.hex()}.*.reel"):
            with contextlib.suppress(OSError, ValueError):
                if path.stat().st_mtime * 1000 >= oldest:
                    found.append((int(path.name.split(".")[1]), path))
        return [path for _, path in sorted(found)]

    # In its own thread

    def _write(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._look()
        except OSError as error:
            _log.error("recordings cannot be kept in %s: %s", self._folder, error.strerror)
        while True:
            try:
                work = self._queue.get(timeout=SWEEP_S)
            except queue.Empty:
                self._sweep()
                continue
            if work is None:
                return
            if isinstance(work, threading.Event):
                work.set()
                continue
            with self._lock:
                self._waiting -= work.size
            try:
                self._do(work)
            except Exception as error:  # the next one may succeed; a recording is worth no failure
                self.lost += 1
                _log.warning("a recording could not be written: %s", error)

    def _look(self) -> None:
        """What earlier runs have left."""
        found = []
        for path in self._folder.glob("*.reel"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                status = os.fstat(file.fileno())
                stays = sum(each.kind == BEGIN for each in frames(file))
                found.append(_Reel(path, status.st_size, stays, int(status.st_mtime * 1000)))
        for reel in sorted(found, key=lambda each: each.began):
            self._enter(reel)
        self._sweep()

    def _enter(self, reel: _Reel) -> None:
        self._reels[reel.path] = reel
        self.size += reel.size
        self._stays += reel.stays

    def _do(self, work: _Begin | _Add) -> None:
        if isinstance(work, _Begin):
            state = work.snapshot()
            record = evolve(work.record, state=state)
            reel = self._reel(record.agent)
            data, whole = begin_frame(record, reel.base)
            if whole:
                reel.base = (reel.size, state)
            reel.stays += 1
            self._stays += 1
            self._append(reel, data)
        else:
            current = self._current.get(work.agent)
            if current is not None and current.path in self._reels:
                self._append(current, frame(work.kind, work.visit, work.value))
        self._sweep()

    def _reel(self, agent: bytes) -> _Reel:
        """The file for the next stay of an agent."""
        reel, most = self._current.get(agent), min(REEL_BYTES, self._keeping().bytes // 8)
        if reel is None or reel.size >= most or reel.path not in self._reels:
            numbers = [int(path.name.split(".")[1]) for path in self._folder.glob(f"{agent.hex()}.*.reel")]
            reel = _Reel(self._folder / f"{agent.hex()}.{max(numbers, default=0) + 1}.reel", 0, 0, self._clock())
            self._enter(reel)
            self._append(reel, MAGIC)
        self._current[agent] = reel
        self._current.move_to_end(agent)
        while len(self._current) > MAX_CURRENT:
            self._current.popitem(last=False)
        return reel

    def _append(self, reel: _Reel, data: bytes) -> None:
        handle = os.open(reel.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(data)
        reel.size += len(data)
        self.size += len(data)

    def _sweep(self) -> None:
        """Remove the oldest files, until what is left may stay."""
        keeping = self._keeping()
        oldest = self._clock() - 1000 * keeping.age_s
        while self._reels:
            reel = next(iter(self._reels.values()))
            if self.size <= keeping.bytes and self._stays <= keeping.stays and reel.began >= oldest:
                return
            del self._reels[reel.path]
            self.size -= reel.size
            self._stays -= reel.stays
            with contextlib.suppress(OSError):
                reel.path.unlink()
