"""A store on the disk and one in memory take and leave the same changes, and tell the same of them.

No row is left over. The one has a reader of its own and files for large bodies; the other has neither, and takes other
bodies for large.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from docking.handoff.actions import Cargo, Persist, Record
from docking.handoff.messages import Body, Offer, Part, Side
from docking.handoff.states import Destination, Source
from docking.store.changes import (
    Annotate,
    Change,
    DropCapsule,
    DropLetter,
    KeepPart,
    Learn,
    Link,
    PostLetter,
    Purge,
    PutCheckpoint,
    PutFact,
    PutJourney,
    RetryLetter,
    StoredPart,
)
from docking.store.sqlite import APPLICATION_ID, SCHEMA_FILE, schema_steps
from docking.store.store import Store
from tests.thorough import examples

EPOCH = b"e" * 16
PEER = b"p" * 32
AGENTS = [b"a" * 32, b"b" * 32]
HEADS = [bytes([number]) * 32 for number in range(12)]
HOPS = range(3)
BODIES = [b"", b"one", b"two", b"longer" * 100, b"even longer" * 200]
KINDS = ["state", "image", "passport"]
ODD = b"short"  # no digest, no id


class Clock:
    now = 1_000

    def __call__(self) -> int:
        return self.now


# Small worlds, so that changes meet: few agents, few hops, few bodies, and now and then what cannot be.
agents = st.sampled_from([*AGENTS, AGENTS[0], AGENTS[1], ODD])
hops = st.sampled_from(HOPS)
times = st.integers(990, 1_060)
small = st.binary(max_size=3)


@st.composite
def parts(draw: st.DrawFn) -> StoredPart:
    body = draw(st.sampled_from(BODIES))
    part = Part(draw(st.sampled_from(KINDS)), canonical.digest(body), len(body))
    return StoredPart(part, draw(st.sampled_from([body, bytearray(body), memoryview(b"_" + body)[1:], None])))


@st.composite
def persists(draw: st.DrawFn) -> Persist:
    state = draw(st.sampled_from([*Source, *Destination]))
    side = Side.SOURCE if isinstance(state, Source) else Side.DESTINATION
    if draw(st.integers(0, 15)) == 0:
        side = Side.SOURCE if side is Side.DESTINATION else Side.DESTINATION
    agent, hop = draw(st.sampled_from(AGENTS)), draw(hops)
    hid = draw(st.sampled_from([b"h" * 32, *[canonical.digest(agent, bytes([hop]))] * 5, ODD]))
    record = Record(hid, side, state, agent, hop, PEER, EPOCH, b"v" * 32, draw(times), draw(small), draw(small))
    cargo = None
    if state is Destination.HELD:
        stored = draw(st.lists(parts(), min_size=1, max_size=3))
        given = tuple(Body(i, each.body) for i, each in enumerate(stored) if each.body is not None)
        names = tuple(each.part for each in stored)
        offer = Offer(b"h" * 32, agent, hop, PEER, PEER, bytes(16), EPOCH, b"v" * 32, 5_000, names, given)
        cargo = Cargo(offer, given)
    return Persist(record, cargo, durable=True)


@st.composite
def learned(draw: st.DrawFn) -> Learn:
    first = draw(st.integers(0, len(HEADS) - 1))
    heads = HEADS[first : first + draw(st.integers(0, 3))]
    links = tuple(Link(head, bytes([head[0] - 1]) * 32 if head[0] else ODD, bytes(head[:2])) for head in heads)
    head = draw(st.sampled_from([*HEADS, *HEADS, ODD]))
    return Learn(draw(agents), draw(times), links, head, draw(st.integers(0, 150)), draw(small))


changes: st.SearchStrategy[Change] = st.one_of(
    persists(),
    persists(),
    persists(),
    learned(),
    st.builds(PutCheckpoint, agents, hops, st.lists(parts(), max_size=3).map(tuple), small),
    st.builds(Annotate, st.sampled_from(AGENTS), hops, small),
    st.builds(DropCapsule, st.sampled_from(AGENTS), hops),
    parts().filter(lambda each: each.body is not None).map(lambda each: KeepPart(each.part, each.body or b"")),
    st.builds(PostLetter, st.sampled_from(AGENTS), st.sampled_from(["home", "mail"]), small, times),
    st.builds(RetryLetter, st.integers(1, 6), times),
    st.builds(DropLetter, st.integers(1, 6)),
    st.builds(PutFact, st.sampled_from(["name", "peers"]), st.one_of(st.none(), small)),
    st.builds(PutJourney, agents, times, small, st.one_of(st.none(), small)),
    st.builds(Purge, st.sampled_from([0, 600, 10_000])),
)
batches = st.tuples(st.lists(st.lists(changes, max_size=4), min_size=1, max_size=4), st.integers(0, 20))


def told(store: Store) -> dict[str, Any]:
    """All that can be read."""
    found: dict[str, Any] = {
        "unfinished": store.unfinished(),
        "journeys": store.journeys(),
        "letters": [store.letters(now, most) for now in (995, 1_030, 9_999) for most in (2, 100)],
        "facts": [store.fact(name) for name in ("epoch", "name", "peers")],
        "capsules": [store.capsules(standing) for standing in ("held", "live", "departed")],
        "parts": [(store.has_part(digest), store.part(digest)) for digest in map(canonical.digest, BODIES)],
        "points": [store.point(head) for head in HEADS],
        "links": [store.links(h, after, n) for h in HEADS for after in (ODD, *HEADS[::4]) for n in (2, 100)],
    }
    for agent in AGENTS:
        found[f"of {agent[:1]!r}"] = (
            store.history(agent),
            store.last_point(agent),
            store.journey(agent),
            [(store.copies(agent, hop), store.capsule(agent, hop)) for hop in range(5)],
        )
        hids = [b"h" * 32, *(canonical.digest(agent, bytes([hop])) for hop in HOPS)]
        found[f"records of {agent[:1]!r}"] = [store.record(hid, side) for hid in hids for side in Side]
    return found


@contextmanager
def both(clock: Clock) -> Iterator[tuple[Store, Store]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.db"
        disk = Store.open(path, new_epoch=EPOCH, clock=clock, large_from=1000)
        memory = Store.open(None, new_epoch=EPOCH, clock=clock, large_from=500)
        try:
            yield disk, memory
        finally:
            disk.close()
            memory.close()


@settings(max_examples=examples(30))
@given(st.lists(batches, max_size=12))
def test_disk_and_memory_tell_the_same(steps: list[tuple[list[list[Change]], int]]) -> None:
    clock = Clock()
    with both(clock) as (disk, memory):
        for groups, passed in steps:
            clock.now += passed
            outcomes = [[type(each) for each in store.commit(groups)] for store in (disk, memory)]
            assert outcomes[0] == outcomes[1]
            assert told(disk) == told(memory)
        # Nothing is kept that nothing names, and every use is counted.
        for each in (disk, memory):
            tables = each.tables
            assert tables.read("SELECT number FROM bodies EXCEPT SELECT number FROM parts", ()) == []
            counted = tables.read("SELECT digest, count(*) FROM cargo GROUP BY digest ORDER BY digest", ())
            assert tables.read("SELECT digest, uses FROM parts WHERE uses > 0 ORDER BY digest", ()) == counted
            large = {digest for (digest,) in tables.read("SELECT digest FROM parts WHERE number IS NULL", ())}
            assert tables.large.here == large
        assert set(os.listdir(disk.tables.large.folder)) == {each.hex() for each in disk.tables.large.here}
        assert set(memory.tables.large.bodies) == memory.tables.large.here


def test_a_small_part_does_not_keep_its_message_alive() -> None:
    store = Store.open(None, new_epoch=EPOCH, clock=Clock())
    message = bytearray(300_000)
    large, rest = (
        memoryview(message)[:200_000],
        memoryview(message)[250_000:],
    )  # large in itself, and little of the whole
    for body in (large, rest):
        part = Part("image", canonical.digest(body), len(body))
        assert store.commit([[KeepPart(part, body)]]) == [None]
        assert store.part(part.digest) == body
    kept = store.tables.large.bodies.values()
    assert [isinstance(body, memoryview) for body in kept] == [True, False]
    store.close()


def test_what_breaks_off_in_memory_leaves_no_trace() -> None:
    """A change that is none, in the middle of a group: a mistake of ours is no half-written group."""
    clock = Clock()
    store = Store.open(None, new_epoch=EPOCH, clock=clock)
    store.commit([[PostLetter(PEER, "home", b"first", 2_000)]])
    before = told(store)
    bad = Persist(
        Record(b"h" * 32, Side.DESTINATION, Destination.HELD, AGENTS[0], 0, PEER, EPOCH, b"v" * 32, 5), None, True
    )
    with pytest.raises(AssertionError):
        store.commit([[PutFact("name", b"x"), DropLetter(1), PostLetter(PEER, "home", b"", 5), bad]])
    assert told(store) == before
    store.close()


def test_a_store_of_the_version_before_is_brought_forward(tmp_path: Path) -> None:
    """Bodies got rows of their own: small, empty and large ones are where they were."""
    path, bodies = tmp_path / "s.db", tmp_path / "s.db.bodies"
    large = b"large" * 1000
    old = sqlite3.connect(path, isolation_level=None)
    for step in schema_steps(SCHEMA_FILE.read_text("utf-8"))[:2]:
        old.executescript(step)
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.execute("PRAGMA user_version = 2")
    old.execute("INSERT INTO facts VALUES ('epoch', ?)", (EPOCH,))
    bodies.mkdir()
    (bodies / canonical.digest(large).hex()).write_bytes(large)
    given = [(b"state", b"state"), (b"", b""), (large, b"")]
    for number, (body, stored) in enumerate(given):
        digest = canonical.digest(body)
        old.execute("INSERT INTO parts VALUES (?, ?, 1, NULL, ?)", (digest, len(body), stored))
        old.execute("INSERT INTO cargo VALUES (?, 0, ?, 'state', ?, ?)", (AGENTS[0], number, digest, len(body)))
    old.execute("INSERT INTO capsules VALUES (?, 0, 'live', 1, x'')", (AGENTS[0],))
    old.close()

    store = Store.open(path, new_epoch=bytes(16), clock=Clock())
    assert store.epoch == EPOCH
    (capsule,) = store.capsules()
    assert [store.part(part.digest) for part in capsule.parts] == [body for body, _ in given]
    new = b"new"
    state = StoredPart(Part("state", canonical.digest(new), len(new)), new)
    assert store.commit([[DropCapsule(AGENTS[0], 0)], [PutCheckpoint(AGENTS[0], 1, (state,))]]) == [None, None]
    assert [store.part(canonical.digest(body)) for body, _ in given] == [None, None, None]
    assert store.part(canonical.digest(new)) == new
    assert list(bodies.iterdir()) == []
    store.close()
