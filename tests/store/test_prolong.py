"""An agent that was given more time is remembered for longer: its points, and every link that they stand on."""

from __future__ import annotations

from docking.store.changes import Learn, Link, Prolong, Purge
from docking.store.store import Store

AGENT, OTHER = b"a" * 32, b"b" * 32


def chain(start: bytes, *names: bytes) -> tuple[Link, ...]:
    links, before = [], start
    for name in names:
        links.append(Link(name * 32, before, b"link " + name))
        before = name * 32
    return tuple(links)


def test_a_purge_leaves_what_was_prolonged_and_takes_the_rest() -> None:
    now = 1000
    store = Store.open(None, new_epoch=bytes(16), clock=lambda: now)
    mine, others = chain(bytes(32), b"1", b"2", b"3"), chain(bytes(32), b"7", b"8")
    results = chain(bytes(32), b"r")
    changes = [
        Learn(AGENT, 2000, (*mine, *results), mine[-1].head, 3, b"point"),
        Learn(OTHER, 2000, others, others[-1].head, 2, b"point"),
    ]
    assert store.commit([changes]) == [None]
    assert store.commit([[Prolong(AGENT, (mine[-1].head, results[-1].head), 9000)]]) == [None]
    assert store.commit([[Prolong(AGENT, (mine[-1].head,), 3000)]]) == [None]  # nothing is shortened
    now = 5000
    assert store.commit([[Purge(0)]]) == [None]
    assert store.links(mine[-1].head, bytes(32), 100) == [link.body for link in mine]
    assert store.links(results[-1].head, bytes(32), 100) == [b"link r"]
    assert store.last_point(AGENT) == b"point"
    assert store.last_point(OTHER) is None
    assert store.links(others[-1].head, bytes(32), 100) is None
    store.close()
