"""A store whose disk is full: what does not fit fails alone, what must be written waits, and nothing breaks."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agents import canonical
from docking.errors import StoreFull
from docking.handoff.messages import Part
from docking.store.changes import Change, Learn, Link, PostLetter, PutCheckpoint, PutFact, StoredPart
from docking.store.group_commit import GroupCommit
from docking.store.reserve import RESERVE_BYTES, Reserve
from docking.store.sqlite import SqliteBackend
from docking.store.store import Store
from tests.patience import PATIENCE

KEY = b"k" * 32


def opened(path: Path) -> Store:
    return Store.open(path / "station.db", new_epoch=bytes(16), clock=lambda: 1)


def pages(store: Store, more: int | None) -> None:
    """Let the store's file have no more than so many pages beyond those it has; None: as many as it likes."""
    tables = store.tables
    assert isinstance(tables, SqliteBackend)
    (now,) = tables.writer.execute("PRAGMA page_count").fetchone()
    tables.writer.execute(f"PRAGMA max_page_count = {2**30 if more is None else now + more}").fetchone()


def letter(size: int) -> PostLetter:
    return PostLetter(KEY, "message", os.urandom(size), 10)


def state(number: int, size: int) -> PutCheckpoint:
    body = os.urandom(size)
    part = Part("state", canonical.digest(body), size)
    return PutCheckpoint(number.to_bytes(32, "big"), 0, (StoredPart(part, body),), b"")


def test_what_does_not_fit_fails_alone_and_certainly(tmp_path: Path) -> None:
    store = opened(tmp_path)
    pages(store, 8)
    groups = [[PutFact("one", b"1")], [state(1, 1 << 20)], [PutFact("two", b"2")]]
    one, large, two = store.commit(groups)
    assert (one, two) == (None, None)
    assert isinstance(large, StoreFull)
    assert store.capsule((1).to_bytes(32, "big"), 0) is None
    pages(store, None)
    assert store.commit([groups[1]]) == [None]
    store.close()
    again = opened(tmp_path)
    assert again.capsule((1).to_bytes(32, "big"), 0) is not None
    assert (again.fact("one"), again.fact("two")) == (b"1", b"2")
    again.close()


def learnt(size: int) -> Learn:
    """Links of a trail: peers send only what comes after those that we knew."""
    body = os.urandom(size)
    return Learn(KEY, 10, (Link(canonical.digest(body), bytes(32), body),), canonical.digest(body), 1, b"point")


@pytest.mark.parametrize("change", [letter(200_000), learnt(200_000)], ids=["letter", "trail"])
def test_what_must_be_written_waits_for_room_and_the_order_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    monkeypatch.setattr("docking.store.group_commit.FULL_RETRY_S", 0.01)

    async def main() -> None:
        store = opened(tmp_path)
        journal = GroupCommit(store)
        pages(store, 2)
        optional = journal.write([state(1, 1 << 20)], True)
        with pytest.raises(StoreFull):
            await optional
        first = journal.write([change], False)
        then = journal.write([PutFact("then", b"x")], True)
        await asyncio.sleep(0.2)
        assert not first.done()
        assert not then.done()
        assert store.fact("then") is None
        pages(store, None)
        await asyncio.wait_for(asyncio.gather(first, then), PATIENCE)
        if isinstance(change, Learn):
            assert store.links(change.head, bytes(32), 9) == [change.links[0].body]
        else:
            assert len(store.letters(2, 9)) == 1
        # A station that stops does not wait for room.
        pages(store, 0)
        last = journal.write([letter(200_000)], True)
        await asyncio.sleep(0.05)
        await asyncio.wait_for(journal.close(), PATIENCE)
        await asyncio.sleep(0)
        assert isinstance(last.exception(), StoreFull)
        store.close()

    asyncio.run(main())


def test_room_is_kept_and_given_up_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    kept = tmp_path / "station.db.reserve"
    assert kept.stat().st_size == RESERVE_BYTES
    assert store.make_room()
    assert not kept.exists()
    assert not store.make_room()
    store.empty_log()
    assert kept.exists()  # there is room again
    store.close()
    assert Reserve(tmp_path / "no" / "folder").give_up() is False
    Reserve(tmp_path / "no" / "folder").keep()


def test_a_store_in_memory_keeps_no_room() -> None:
    store = Store.open(None, new_epoch=bytes(16), clock=lambda: 1)
    assert not store.make_room()
