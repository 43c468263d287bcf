"""The journal: futures tell the truth, order is kept, many share one wait, and nothing blocks the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from docking.errors import StoreError, WriteFailed
from docking.handoff.actions import Persist, Record
from docking.handoff.messages import Side
from docking.handoff.states import Source
from docking.store.changes import Annotate, PutFact
from docking.store.group_commit import GroupCommit
from docking.store.store import LOG_BYTES, Store, never
from tests.patience import PATIENCE


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, PATIENCE))


def opened(path: Path | None, failpoint: Any = never) -> Store:
    return Store.open(path, new_epoch=bytes(16), clock=lambda: 0, failpoint=failpoint)


def test_many_writers_share_one_commit(tmp_path: Path) -> None:
    gate, commits = threading.Event(), []

    def failpoint(place: str) -> None:
        if place == "store.before-commit":
            gate.wait(PATIENCE)
            commits.append(place)

    async def main() -> None:
        store = opened(tmp_path / "s.db", failpoint)
        journal = GroupCommit(store)
        futures = [journal.write([PutFact(str(n), b"x")], durable=True) for n in range(50)]
        gate.set()
        await asyncio.gather(*futures)
        # The first was taken alone; all that came while the disk was busy was taken together.
        assert len(commits) <= 3
        assert all(store.fact(str(n)) == b"x" for n in range(50))
        await journal.close()
        store.close()

    run(main())


def test_a_write_that_nobody_waits_for_rides_with_the_next(tmp_path: Path) -> None:
    commits: list[str] = []

    async def main() -> None:
        store = opened(tmp_path / "s.db", lambda place: commits.append(place))
        journal = GroupCommit(store, linger_s=60.0)
        soon = journal.write([PutFact("a", b"1")], durable=False)
        await journal.write([PutFact("b", b"2")], durable=True)
        assert soon.done()
        assert commits.count("store.before-commit") == 1
        await journal.close()
        store.close()

    run(main())


def test_a_write_that_nobody_waits_for_is_written_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        store = opened(tmp_path / "s.db")
        journal = GroupCommit(store)
        await journal.write([PutFact("a", b"1")], durable=False)
        assert store.fact("a") == b"1"
        await journal.close()
        store.close()

    run(main())


@pytest.mark.parametrize("durable", [True, False])
def test_closing_writes_what_is_queued(tmp_path: Path, durable: bool) -> None:
    async def main() -> None:
        store = opened(tmp_path / "s.db")
        journal = GroupCommit(store, linger_s=60.0)
        future = journal.write([PutFact("a", b"1")], durable)
        await journal.close()
        await future
        assert store.fact("a") == b"1"
        with pytest.raises(WriteFailed):
            journal.write([PutFact("b", b"1")], durable=True)
        store.close()

    run(main())


def test_the_loop_goes_on_while_the_disk_is_busy(tmp_path: Path) -> None:
    gate = threading.Event()

    async def main() -> None:
        store = opened(tmp_path / "s.db", lambda place: gate.wait(PATIENCE) and None)
        journal = GroupCommit(store)
        future = journal.write([PutFact("a", b"1")], durable=True)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not future.done()
        gate.set()
        await future
        await journal.close()
        store.close()

    run(main())


@pytest.mark.parametrize("path", ["s.db", None])
def test_one_bad_group_fails_alone(tmp_path: Path, path: str | None) -> None:
    async def main() -> None:
        store = opened(path and tmp_path / path)
        journal = GroupCommit(store)
        bad = journal.write([Annotate(bytes(32), 0, b"")], durable=True)
        good = journal.write([PutFact("a", b"1")], durable=True)
        await good
        with pytest.raises(StoreError):
            await bad
        await journal.close()
        store.close()

    run(main())


def test_after_a_write_of_unknown_fate_nothing_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        store = opened(tmp_path / "s.db")
        journal = GroupCommit(store)
        store.fail("as if the disk had failed")
        futures = [journal.write([PutFact("a", b"1")], durable=True) for _ in range(3)]
        for future in futures:
            with pytest.raises(WriteFailed):
                await future
        await journal.close()
        store.close()

    run(main())


def test_a_cancelled_wait_does_not_cancel_the_write(tmp_path: Path) -> None:
    async def main() -> None:
        store = opened(tmp_path / "s.db")
        journal = GroupCommit(store, linger_s=60.0)
        future = journal.write([PutFact("a", b"1")], durable=False)
        future.cancel()
        await journal.write([PutFact("b", b"2")], durable=True)
        assert store.fact("a") == b"1"
        await journal.close()
        store.close()

    run(main())


def test_the_log_does_not_grow_without_end(tmp_path: Path) -> None:
    """Under a load that never pauses: the log is moved beside the commits, and now and then begun anew."""

    async def main() -> None:
        store = opened(tmp_path / "s.db")
        journal = GroupCommit(store)
        for number in range(20):
            await journal.write([PutFact("big", bytes([number]) * (LOG_BYTES - 100_000))], durable=True)
        await journal.close()
        assert store.log_size() < 10 * LOG_BYTES  # of 20 that were written
        assert store.fact("big") == bytes([19]) * (LOG_BYTES - 100_000)
        store.close()

    run(main())


def test_the_log_is_overwritten_in_place(tmp_path: Path) -> None:
    """With a pause now and then, as between hops: a file that does not grow is on the disk sooner."""

    async def main() -> None:
        store = opened(tmp_path / "s.db")
        journal = GroupCommit(store)
        for number in range(200):
            await journal.write([PutFact("big", bytes([number]) * 200_000)], durable=True)
            while journal.mover is not None and journal.mover.is_alive():
                await asyncio.sleep(0)
        # Of 40 MB that were written; on a busy machine a write or two come before the thread that moves the log.
        assert LOG_BYTES < store.log_size() < 3 * LOG_BYTES
        await journal.close()
        store.close()

    run(main())


def test_an_undemanding_write_lingers_as_long_as_it_may_and_no_longer(tmp_path: Path) -> None:
    async def main() -> None:
        store = opened(tmp_path / "s.db")
        journal = GroupCommit(store, linger_s=0.1)
        loop = asyncio.get_running_loop()
        first = journal.write([PutFact("a", b"1")], durable=False)
        await journal.write([PutFact("b", b"1")], durable=True)
        assert first.done()
        # The moment that was meant for the first comes, and is too early for this one.
        await asyncio.sleep(0.05)
        began = loop.time()
        await journal.write([PutFact("c", b"1")], durable=False)
        assert loop.time() - began >= 0.099
        await journal.close()
        store.close()

    run(main())


def committed(hid: bytes = b"h" * 32) -> Persist:
    row = Record(hid, Side.SOURCE, Source.COMMITTED, b"a" * 32, 3, b"p" * 32, bytes(16), b"v" * 32, 5_000)
    return Persist(row, None, durable=True)


def test_in_memory_what_nobody_waits_for_is_written_with_the_next_or_when_there_is_time() -> None:
    async def main() -> None:
        store = opened(None)
        journal = GroupCommit(store, linger_s=60.0)
        soon = journal.write([PutFact("a", b"1")], durable=False)
        assert not soon.done()
        assert journal.write([PutFact("b", b"2")], durable=True).done()
        assert soon.done()
        later = journal.write([PutFact("a", b"3")], durable=False)
        assert store.fact("a") == b"1"
        journal.catch_up()
        assert later.done()
        assert store.fact("a") == b"3"
        last = journal.write([PutFact("a", b"4")], durable=False)
        await journal.close()
        assert last.done()
        assert store.fact("a") == b"4"
        store.close()

    run(main())


def test_in_memory_a_decision_counts_when_it_is_queued() -> None:
    async def main() -> None:
        store = opened(None)
        journal = GroupCommit(store, linger_s=60.0)
        before, decided = journal.write([PutFact("a", b"1")], durable=False), journal.write([committed()], durable=True)
        assert decided.done()
        assert not before.done()
        journal.catch_up()
        assert before.done()
        row = store.record(b"h" * 32, Side.SOURCE)
        assert row is not None
        assert row.state is Source.COMMITTED
        store.close()

    run(main())


def test_in_memory_a_decision_that_the_store_does_not_take_ends_the_station() -> None:
    async def main() -> None:
        store, failures = opened(None), list[str]()
        journal = GroupCommit(store, failures.append)
        assert journal.write([committed(b"too short")], durable=True).done()
        journal.catch_up()
        assert len(failures) == 1
        assert "decided" in failures[0]
        store.close()

    run(main())
