"""The store: what was committed is there, whole; what was not is not; and nothing else may touch it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents import canonical
from docking.errors import StoreError, StoreFull, StoreUnusable, WriteFailed
from docking.handoff.actions import Cargo, Persist, Record
from docking.handoff.messages import Body, Offer, Part, Side
from docking.handoff.states import Destination, Source
from docking.store.changes import (
    Annotate,
    Change,
    DropCapsule,
    DropLetter,
    KeepPart,
    PostLetter,
    Purge,
    PutCheckpoint,
    PutFact,
    RetryLetter,
    StoredPart,
)
from docking.store.store import SCHEMA_FILE, Store
from tests.thorough import examples

EPOCH = b"e" * 16
AGENT = b"a" * 32
PEER = b"p" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


def opened(path: Path | None, clock: Clock | None = None, **more: Any) -> Store:
    return Store.open(path, new_epoch=EPOCH, clock=clock or Clock(), **more)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    result = opened(tmp_path / "s.db" if request.param == "file" else None, clock)
    yield result
    result.close()


def part(kind: str, body: bytes) -> StoredPart:
    return StoredPart(Part(kind, canonical.digest(body), len(body)), body)


def known(kind: str, body: bytes) -> StoredPart:
    return StoredPart(Part(kind, canonical.digest(body), len(body)), None)


def record(state: Source | Destination, hid: bytes = b"h" * 32, hop: int = 3, **more: Any) -> Record:
    side = Side.SOURCE if isinstance(state, Source) else Side.DESTINATION
    return Record(hid, side, state, AGENT, hop, PEER, EPOCH, b"v" * 32, 5_000, **more)


def held(state: bytes, *, image: bytes | None = b"image", hid: bytes = b"h" * 32, hop: int = 3) -> Persist:
    parts = (part("state", state).part, part("image", b"image").part)
    bodies = (Body(0, state),) if image is None else (Body(0, state), Body(1, image))
    offer = Offer(hid, AGENT, hop, PEER, b"m" * 32, EPOCH, EPOCH, b"v" * 32, 5_000, parts, bodies)
    return Persist(record(Destination.HELD, hid, hop, receipt=b"r"), Cargo(offer, bodies), durable=True)


def ok(store: Store, *changes: Change) -> None:
    assert store.commit([changes]) == [None]


def test_a_store_keeps_its_epoch_and_what_it_was_told(tmp_path: Path) -> None:
    first = opened(tmp_path / "s.db")
    ok(first, PutFact("name", b"alpha"), held(b"state"))
    first.close()
    second = Store.open(tmp_path / "s.db", new_epoch=b"x" * 16, clock=Clock())
    assert second.epoch == EPOCH
    assert second.fact("name") == b"alpha"
    assert second.unfinished() == [record(Destination.HELD, receipt=b"r")]
    capsule = second.capsule(AGENT, 4)
    assert capsule is not None
    assert [second.part(p.digest) for p in capsule.parts] == [b"state", b"image"]
    second.close()


def test_a_new_store_is_another_life(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store = Store.open(tmp_path / name, new_epoch=name.encode().ljust(16), clock=Clock())
        assert store.epoch == name.encode().ljust(16)
        store.close()


def test_the_ledger_says_what_was_persisted(store: Store) -> None:
    for state in (Source.FROZEN, Source.COMMITTED, Source.GONE):
        row = record(state, commit=b"k", code="code", reason="why")
        ok(store, Persist(row, None, durable=True))
        assert store.record(row.hid, Side.SOURCE) == row
        assert store.record(row.hid, Side.DESTINATION) is None
    assert store.unfinished() == []
    assert store.history(AGENT) == [row]


@pytest.mark.parametrize(
    ("then", "standing"),
    [(Destination.RUNNING, "live"), (Destination.DISCARDED, None)],
)
def test_a_held_capsule_follows_the_ledger(store: Store, then: Destination, standing: str | None) -> None:
    ok(store, held(b"state"))
    assert [c.standing for c in store.capsules("held")] == ["held"]
    assert store.copies(AGENT, 3) == [record(Destination.HELD, receipt=b"r")]
    ok(store, Persist(record(then), None, durable=False))
    capsule = store.capsule(AGENT, 4)
    assert (capsule and capsule.standing) == standing
    assert store.has_part(canonical.digest(b"state")) == (standing is not None)
    assert store.has_part(canonical.digest(b"image"))  # worth keeping


def test_a_leaving_capsule_follows_the_ledger(store: Store) -> None:
    ok(store, PutCheckpoint(AGENT, 3, (part("state", b"one"),), b"note"))
    ok(store, Persist(record(Source.FROZEN), None, durable=False))
    assert [c.note for c in store.capsules("live")] == [b"note"]
    ok(store, Persist(record(Source.COMMITTED), None, durable=True))
    assert [c.standing for c in store.capsules("departed")] == ["departed"]
    # What has left is not written again: it would be two agents.
    (error,) = store.commit([[PutCheckpoint(AGENT, 3, (part("state", b"two"),))]])
    assert isinstance(error, StoreError)
    ok(store, Persist(record(Source.GONE), None, durable=False))
    assert store.capsule(AGENT, 3) is None
    assert not store.has_part(canonical.digest(b"one"))


def test_an_agent_comes_back(store: Store) -> None:
    """There, and here again: two visits, two capsules, never confused."""
    ok(store, PutCheckpoint(AGENT, 3, (part("state", b"leaving"), part("image", b"image"))))
    ok(store, Persist(record(Source.COMMITTED), None, durable=True))
    ok(store, held(b"back", image=None, hid=b"i" * 32, hop=4))
    ok(store, Persist(record(Destination.RUNNING, b"i" * 32, 4), None, durable=False))
    ok(store, Persist(record(Source.GONE), None, durable=False))
    assert [c.hop for c in store.capsules("live")] == [5]
    assert [r.hop for r in store.history(AGENT)] == [3, 4]


def test_a_group_that_cannot_be_written_hinders_no_other(store: Store) -> None:
    groups: list[list[Change]] = [
        [PutFact("a", b"1")],
        [PutFact("b", b"2"), held(b"state", image=None)],  # the image is not here
        [PutFact("c", b"3"), Annotate(AGENT, 9, b"")],  # nor is that capsule
        [PutFact("d", b"4")],
    ]
    results = store.commit(groups)
    assert [type(result) for result in results] == [type(None), StoreError, StoreError, type(None)]
    assert [store.fact(name) for name in "abcd"] == [b"1", None, None, b"4"]
    assert store.unfinished() == []


def test_a_body_of_the_wrong_size_is_not_taken_for_a_known_part(store: Store) -> None:
    ok(store, KeepPart(part("image", b"image").part, b"image"))
    liar = StoredPart(Part("image", canonical.digest(b"image"), 99), None)
    assert store.commit([[PutCheckpoint(AGENT, 0, (liar,))]]) != [None]
    ok(store, PutCheckpoint(AGENT, 0, (known("image", b"image"),)))


def test_a_full_disk_refuses_the_large_and_takes_the_small(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    writer: Any = store.tables.writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 20}")
    results = store.commit([[PutFact("a", b"1")], [held(bytes(1 << 20))], [PutFact("b", b"2")]])
    assert [type(result) for result in results] == [type(None), StoreFull, type(None)]
    assert (store.fact("a"), store.fact("b"), store.unfinished()) == (b"1", b"2", [])
    store.close()


def test_a_failed_commit_ends_all_writing(tmp_path: Path) -> None:
    """Nobody knows what a failed commit wrote:

    to go on as if it had written nothing could make two agents.
    """

    class Failing(sqlite3.Connection):
        fail = False

        def execute(self, sql: str, *values: Any) -> Any:  # type: ignore[override]
            if self.fail and sql == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)

    store = opened(tmp_path / "s.db")
    tables: Any = store.tables
    tables.writer.close()
    writer = sqlite3.connect(tmp_path / "s.db", isolation_level=None, factory=Failing)
    tables.writer = tables.writing.connection = writer
    writer.fail = True
    with pytest.raises(WriteFailed, match="disk I/O error"):
        store.commit([[PutFact("a", b"1")]])
    writer.fail = False
    with pytest.raises(WriteFailed):
        store.commit([[PutFact("a", b"1")]])
    store.close()


def test_letters_are_due_until_dropped(store: Store) -> None:
    ok(store, PostLetter(PEER, "home", b"one", 9_000), PostLetter(PEER, "mail", b"two", 2_000))
    one, two = store.letters(1_000, 10)
    assert (one.kind, one.body, one.attempts, two.body) == ("home", b"one", 0, b"two")
    ok(store, RetryLetter(one.number, 4_000), DropLetter(two.number))
    assert store.letters(3_999, 10) == []
    (again,) = store.letters(4_000, 10)
    assert (again.number, again.attempts, again.due) == (one.number, 1, 4_000)


def test_what_is_over_and_expired_is_purged(store: Store, clock: Clock) -> None:
    ok(store, held(b"state"), PostLetter(PEER, "mail", b"", 2_000))
    for number, state in enumerate((Source.GONE, Source.ABORTED, Source.COMMITTED, Source.FROZEN)):
        ok(store, Persist(record(state, bytes([number]) * 32), None, durable=False))
    clock.now = 4_999
    ok(store, Purge(0))
    assert len(store.history(AGENT)) == 5
    clock.now = 5_001
    ok(store, Purge(0))
    assert {row.state for row in store.history(AGENT)} == {Destination.HELD, Source.COMMITTED, Source.FROZEN}
    assert store.letters(9_999, 9) == []


def test_idle_parts_are_purged_oldest_first(store: Store, clock: Clock) -> None:
    for number in range(4):
        clock.now += 1
        body = bytes([number]) * 100
        ok(store, KeepPart(part("image", body).part, body))
    ok(store, PutCheckpoint(AGENT, 0, (known("image", bytes([0]) * 100),)))
    ok(store, Purge(200))
    there = [store.has_part(canonical.digest(bytes([number]) * 100)) for number in range(4)]
    assert there == [True, False, True, True]


def test_a_store_has_one_owner(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    with pytest.raises(StoreUnusable, match="in use"):
        opened(tmp_path / "s.db")
    store.close()
    opened(tmp_path / "s.db").close()


def test_what_is_not_a_store_is_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE precious (x)")
    other.close()
    noise = tmp_path / "noise.db"
    noise.write_bytes(b"no database at all" * 100)
    for name, word in (
        ("other.db", "another program"),
        ("noise.db", "cannot be used"),
        ("no/such/dir.db", "cannot be opened"),
    ):
        with pytest.raises(StoreUnusable, match=word):
            opened(tmp_path / name)
    assert noise.read_bytes() == b"no database at all" * 100


def test_only_its_user_reads_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = opened(tmp_path / "s.db")
        ok(store, PutFact("a", b"1"))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(old)
    assert modes.pop("s.db.bodies") == 0o700
    assert set(modes.values()) == {0o600}, modes


def test_migrations_keep_what_is_there(tmp_path: Path) -> None:
    schema = SCHEMA_FILE.read_text("utf-8")
    old = opened(tmp_path / "s.db", schema=schema)
    ok(old, PutFact("name", b"alpha"))
    old.close()
    newer = schema + "\n-- version 4\nALTER TABLE facts ADD COLUMN since INTEGER NOT NULL DEFAULT 7;\n"
    store = opened(tmp_path / "s.db", schema=newer)
    assert store.tables.read("SELECT value, since FROM facts WHERE name = 'name'", ()) == [(b"alpha", 7)]
    store.close()
    with pytest.raises(StoreUnusable, match="newer release"):
        opened(tmp_path / "s.db", schema=schema)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    schema = SCHEMA_FILE.read_text("utf-8")
    opened(tmp_path / "s.db", schema=schema).close()
    broken = schema + "\n-- version 4\nALTER TABLE facts ADD COLUMN since INTEGER;\nALTER TABLE nothing ADD COLUMN x;\n"
    with pytest.raises(StoreUnusable):
        opened(tmp_path / "s.db", schema=broken)
    store = opened(tmp_path / "s.db", schema=schema)
    assert len(store.tables.read("SELECT * FROM facts LIMIT 1", ())[0]) == 2
    store.close()


def test_the_log_is_emptied_beside_the_commits(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    size = (tmp_path / "s.db").stat().st_size
    for number in range(10):
        ok(store, KeepPart(part("image", bytes([number]) * 100_000).part, bytes([number]) * 100_000))
    assert (tmp_path / "s.db").stat().st_size == size
    assert (log := store.log_size()) > 1_000_000
    assert store.log_used() == log - 32  # without its head
    store.empty_log()
    assert (tmp_path / "s.db").stat().st_size > size + 1_000_000
    ok(store, PutFact("name", b"alpha"))
    assert store.log_size() == log  # it begins anew in the room it has: no new blocks for the disk to find
    assert 0 < store.log_used() < 100_000
    store.close()


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 4), max_size=4), st.booleans()), max_size=25))
def test_parts_are_kept_as_long_as_a_capsule_needs_them(steps: list[tuple[int, list[int], bool]]) -> None:
    """Against a model: who uses what."""
    store = opened(None)
    uses: dict[int, list[int]] = {}
    for hop, bodies, drop in steps:
        if drop:
            ok(store, DropCapsule(AGENT, hop))
            uses.pop(hop, None)
        else:
            ok(store, PutCheckpoint(AGENT, hop, tuple(part("state", bytes([b]) * 10) for b in bodies)))
            uses[hop] = bodies
        needed = {body for bodies in uses.values() for body in bodies}
        for body in range(5):
            assert store.has_part(canonical.digest(bytes([body]) * 10)) == (body in needed)
    for hop, bodies in uses.items():
        capsule = store.capsule(AGENT, hop)
        assert capsule is not None
        assert [store.part(p.digest) for p in capsule.parts] == [bytes([b]) * 10 for b in bodies]
    store.close()


def test_a_power_cut_loses_a_tail_and_never_a_middle(tmp_path: Path) -> None:
    """The log cut at, before and after every page, with noise behind the cut:

    what is read is a prefix of the commits.
    """
    store = opened(tmp_path / "s.db")
    for number in range(12):
        fact = PutFact("count", str(number).encode())
        ok(store, fact, PutCheckpoint(AGENT, 0, (part("state", str(number).encode() * 500),)))
    log = (tmp_path / "s.db-wal").read_bytes()
    seen = set()
    frame = 24 + store.tables.read("PRAGMA page_size", ())[0][0]
    for at in range(32, len(log) + 1, frame):
        for cut in (at - 7, at, at + 11):
            folder = tmp_path / f"cut-{cut}"
            folder.mkdir()
            shutil.copy(tmp_path / "s.db", folder)
            (folder / "s.db-wal").write_bytes(log[:cut] + b"\xa5" * (len(log) - cut))
            # Before its first commit the store is not one yet, and becomes one.
            cut_store = opened(folder / "s.db")
            count = cut_store.fact("count")
            capsules = cut_store.capsules()
            if count is None:
                assert capsules == []
            else:
                assert [cut_store.part(c.parts[0].digest) for c in capsules] == [count * 500]
            (verdict,) = cut_store.tables.read("PRAGMA integrity_check", ())
            assert verdict == ("ok",)
            seen.add(None if count is None else int(count))
            cut_store.close()
            shutil.rmtree(folder)
    store.close()
    assert seen == {None, *range(12)}


LARGE = b"a large body" * 1000


def large(path: Path | None, **more: Any) -> Store:
    return opened(path, large_from=1000, **more)


def bodies(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "s.db.bodies").iterdir()}


@pytest.mark.parametrize("name", ["s.db", None])
def test_large_bodies_come_and_go_with_their_rows(tmp_path: Path, name: str | None) -> None:
    store = large(name and tmp_path / name)
    digest = canonical.digest(LARGE)
    ok(store, PutCheckpoint(AGENT, 0, (part("state", memoryview(LARGE)), part("state", b"small"))))  # type: ignore[arg-type]
    ok(store, PutCheckpoint(AGENT, 1, (known("state", LARGE),)))
    ok(store, DropCapsule(AGENT, 0))
    assert store.has_part(digest)
    assert store.part(digest) == LARGE
    if name:
        assert bodies(tmp_path) == {digest.hex()}
        store.close()
        store = opened(tmp_path / name)  # what counts as large may change between releases
        assert store.part(digest) == LARGE
    ok(store, PutCheckpoint(AGENT, 1, (part("state", LARGE),)))  # the same again
    assert store.part(digest) == LARGE
    ok(store, DropCapsule(AGENT, 1))
    assert store.part(digest) is None
    assert not store.has_part(digest)
    if name:
        assert bodies(tmp_path) == set()
    store.close()


@pytest.mark.parametrize("name", ["s.db", None])
def test_a_large_body_of_a_group_that_fails_is_removed(tmp_path: Path, name: str | None) -> None:
    store = large(name and tmp_path / name)
    bad: list[Change] = [PutCheckpoint(AGENT, 0, (part("state", LARGE),)), Annotate(AGENT, 9, b"")]
    assert isinstance(store.commit([bad])[0], StoreError)
    assert [type(result) for result in store.commit([bad, [PutFact("a", b"1")]])] == [StoreError, type(None)]
    assert store.part(canonical.digest(LARGE)) is None
    if name:
        assert bodies(tmp_path) == set()
    store.close()


def test_a_crash_before_the_commit_leaves_a_body_that_is_removed_later(tmp_path: Path) -> None:
    class Crash(BaseException):
        pass

    def crash(place: str) -> None:
        if place == "store.before-commit":
            raise Crash

    store = large(tmp_path / "s.db", failpoint=crash)
    with pytest.raises(Crash):
        store.commit([[PutCheckpoint(AGENT, 0, (part("state", LARGE),))]])
    assert len(bodies(tmp_path)) == 1  # it was on the disk before its row
    store.close()
    store = large(tmp_path / "s.db")
    assert bodies(tmp_path) == set()
    ok(store, PutCheckpoint(AGENT, 0, (part("state", LARGE),)))
    store.close()


def test_a_disk_that_is_full_of_bodies_refuses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = large(tmp_path / "s.db")

    def full(descriptor: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    results = store.commit([[PutFact("a", b"1")], [held(LARGE)], [PutFact("b", b"2")]])
    monkeypatch.undo()
    assert [type(result) for result in results] == [type(None), StoreFull, type(None)]
    assert bodies(tmp_path) == set()
    ok(store, held(LARGE))
    store.close()


def test_purged_bodies_leave_no_file(tmp_path: Path) -> None:
    store = large(tmp_path / "s.db")
    ok(store, KeepPart(part("image", LARGE).part, LARGE))
    assert len(bodies(tmp_path)) == 1
    ok(store, Purge(0))
    assert bodies(tmp_path) == set()
    store.close()
