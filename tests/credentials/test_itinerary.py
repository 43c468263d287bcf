"""Itineraries: positions against a definition of the same language by sets of words; bounds."""

from __future__ import annotations

import itertools

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from agents.credentials.itinerary import (
    HOME,
    MAX_DEPTH,
    MAX_NODES,
    MOST_STAYS,
    START,
    Alt,
    CertifiedStop,
    FreeStop,
    Itinerary,
    Loop,
    Node,
    Opt,
    Position,
    PositionKind,
    Seq,
    Set,
    Stop,
)
from agents.errors import CredentialError, MalformedCredential
from tests.credentials.journeys import NOW, public
from tests.thorough import examples

NAMES = ("a", "b", "c")
KEYS = {name: public(name) for name in NAMES}
HOMEKEY = public("home")

stops = st.one_of(st.sampled_from(NAMES).map(lambda name: Stop(KEYS[name])), st.just(FreeStop()))


def parts(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    lists = st.lists(children, min_size=1, max_size=3)
    loops = st.builds(Loop, st.integers(1, 3), children)
    return st.one_of(lists.map(Seq), lists.map(Alt), lists.map(Set), loops, children.map(Opt))


trees = st.recursive(stops, parts, max_leaves=5)


def words(node: Node, most: int) -> set[str]:
    """All ways through `node` of at most `most` stops: the definition, without positions."""
    if isinstance(node, Stop):
        return {next(n for n in NAMES if KEYS[n] == node.station)}
    if isinstance(node, FreeStop):
        return set(NAMES)
    if isinstance(node, Opt):
        return {"", *words(node.part, most)}
    if isinstance(node, Alt):
        return set().union(*(words(p, most) for p in node.parts))
    if isinstance(node, Loop):
        once = words(node.part, most)
        found, turn = set(once), once
        for _ in range(node.turns - 1):
            turn = {a + b for a in turn for b in once if len(a + b) <= most}
            found |= turn
        return found
    assert isinstance(node, (Seq, Set))
    orders = [node.parts] if isinstance(node, Seq) else itertools.permutations(node.parts)
    found = set()
    for order in orders:
        ways = {""}
        for part in order:
            ways = {a + b for a in ways for b in words(part, most) if len(a + b) <= most}
        found |= ways
    return found


def walk(itinerary: Itinerary, word: str) -> set[Position]:
    """The positions after `word`, over all choices."""
    here = {START}
    for name in word:
        here = {
            step.position for position in here for step in itinerary.steps(position) if step.admits(KEYS[name], NOW)
        }
    return here


@settings(max_examples=examples(50))
@given(trees)
def test_positions_spell_exactly_the_words_of_the_tree(tree: Node) -> None:
    itinerary, most = Itinerary(tree), 4
    language = words(tree, 12)
    assert itinerary.complete(START) == ("" in language)
    prefixes = {word[:size] for word in language for size in range(len(word) + 1)}
    for size in range(1, most + 1):
        for letters in itertools.product(NAMES, repeat=size):
            word = "".join(letters)
            here = walk(itinerary, word)
            assert bool(here) == (word in prefixes)
            assert any(itinerary.complete(p) for p in here) == (word in language)


@settings(max_examples=examples(40))
@given(trees, st.lists(st.integers(0, 10), max_size=6))
def test_any_walk_stays_within_its_bounds(tree: Node, choices: list[int]) -> None:
    itinerary = Itinerary(tree)
    assert Itinerary.from_value(canonical.decode(canonical.encode(itinerary.value()))) == itinerary
    position = START
    for choice in choices:
        steps = list(itinerary.steps(position))
        if not steps:
            assert itinerary.complete(position)
            break
        step = steps[choice % len(steps)]
        position = step.position
        assert itinerary.stop(position) == step.stop
        assert Position.from_value(position.value()) == position


def test_ambiguous_sets_and_loops_do_not_blow_up() -> None:
    """As an automaton, this itinerary has some 2^40 states for each turn."""
    anyone = CertifiedStop(public("certifier"))
    tree = Itinerary(Loop(10**9, Set([Alt([anyone, Seq([anyone, Loop(1000, anyone)])]) for _ in range(40)])))
    position = START
    for turn in range(200):
        found = tree.reach(position, public("guest"), NOW, HOMEKEY, [public("certifier")])
        assert 0 < len(found) <= MAX_NODES
        position = found[turn % len(found)]
    assert len(position.path) <= 2 * MAX_DEPTH


def test_parts_that_may_be_left_out_do_not_blow_up() -> None:
    """What may be skipped leaves no trace in a position: a hundred of them in a row, a thousand times."""
    a = Stop(public("a"))
    tree = Itinerary(Loop(1000, Seq([Opt(a)] * 100)))
    position = START
    for turn in range(200):
        steps = list(tree.steps(position))
        assert len(steps) <= MAX_NODES
        position = steps[turn % len(steps)].position
        assert len(position.path) == 2
        assert tree.complete(position)


def test_a_free_stop_is_any_station_until_it_closes() -> None:
    tree = Itinerary(Seq([FreeStop(NOW), Stop(public("b"))]))
    assert tree.reach(START, public("guest"), NOW, HOMEKEY)
    assert not tree.reach(START, public("guest"), NOW + 1, HOMEKEY)
    # A launch is no choice: home does not stand for it, unless it is named.
    assert tree.begin(HOMEKEY, NOW) == (START,)
    assert Itinerary(Alt([FreeStop(), Stop(HOMEKEY)])).begin(HOMEKEY, NOW) != (START,)


def test_widest_tree() -> None:
    tree = Itinerary(Alt([Stop(public("a"))] * (MAX_NODES - 1)))
    assert sum(1 for _ in tree.steps(START)) == MAX_NODES - 1
    with pytest.raises(MalformedCredential, match="parts"):
        Itinerary(Alt([Stop(public("a"))] * MAX_NODES))


def deep(levels: int) -> Node:
    node: Node = Stop(public("a"))
    for _ in range(levels - 1):
        node = Loop(2, node)
    return node


def test_depth_is_bounded() -> None:
    Itinerary(deep(MAX_DEPTH))
    with pytest.raises(MalformedCredential, match="deeper"):
        Itinerary(deep(MAX_DEPTH + 1))


@pytest.mark.parametrize(
    "value",
    [
        [],
        [0],
        [0, b"short"],
        [0, bytes(32), -1],
        [0, bytes(32), 1, 2],
        [1, []],
        [1],
        [1, [[0, bytes(32)]], 3],
        [3, [[0, bytes(32)]] * 65],
        [4, 0, [0, bytes(32)]],
        [4, 2**40, [0, bytes(32)]],
        [4, True, [0, bytes(32)]],
        [6],
        [6, bytes(32)],
        [6, [0, bytes(32)], 1],
        [7, -1],
        [7, 1, 2],
        [8, bytes(32)],
        [8, bytes(32), ""],
        [8, bytes(32), "x" * 65],
        [8, bytes(32), "a\x1b[2J"],
        [8, bytes(32), "a\u202eb"],
        [8, bytes(32), b"a"],
        [8, bytes(32), "a", -1],
        [8, b"short", "a"],
        [9, bytes(32), "a"],
        [5, bytes(32), 1, 2],
        [1, [[8, bytes(32), "a"], [0, bytes(32)]]],
        [1, [[8, bytes(32), "a"], [7]]],
        [1, [[8, bytes(32), "a"], [8, bytes(32), "b"]]],
        [4, 2, [8, bytes(32), "a"]],
        ["x"],
        b"",
        {},
        None,
    ],
)
def test_malformed_trees_are_refused(value: object) -> None:
    with pytest.raises(MalformedCredential):
        Itinerary.from_value(value)


def test_wide_and_deep_trees_are_refused_while_they_are_read() -> None:
    wide: object = [1, [[0, bytes(32)]] * MAX_NODES]
    nested: object = [0, bytes(32)]
    for _ in range(500):
        nested = [1, [nested]]
    for value in (wide, nested):
        with pytest.raises(MalformedCredential, match="more than"):
            Itinerary.from_value(value)


@pytest.mark.parametrize("value", [[], [3], [0, 1], [2, 0], [1, -1], [1, 2**64], [1] * 40, ["x"], 5, [True]])
def test_malformed_positions_are_refused(value: object) -> None:
    with pytest.raises(MalformedCredential):
        Position.from_value(value)


@pytest.mark.parametrize("path", [(), (5,), (0,), (0, 0), (0, 2), (0, 5), (1, 2, 9), (2, 2), (0, 2**64)])
def test_positions_that_are_not_in_the_tree(path: tuple[int, ...]) -> None:
    tree = Itinerary(Set([Stop(public("a")), Loop(2, Stop(public("b")))]))
    with pytest.raises(CredentialError) as caught:
        list(tree.steps(Position(PositionKind.STOP, path)))
    assert caught.value.code == "itinerary"


def test_home_is_reached_from_everywhere_and_leads_nowhere() -> None:
    tree = Itinerary.via([public("a"), public("b")])
    first = tree.reach(START, public("a"), NOW, HOMEKEY)
    assert tree.reach(START, HOMEKEY, NOW, HOMEKEY) == ()
    assert tree.reach(first[0], HOMEKEY, NOW, HOMEKEY) == (HOME,)
    assert list(tree.steps(HOME)) == []
    assert not tree.complete(HOME)
    assert tree.stop(HOME) is None
    # where home is a stop, it is that stop
    tree = Itinerary.via([public("a"), HOMEKEY, public("b")])
    home = tree.reach(tree.reach(START, public("a"), NOW, HOMEKEY)[0], HOMEKEY, NOW, HOMEKEY)
    assert home != (HOME,)
    assert tree.reach(home[0], public("b"), NOW, HOMEKEY)


def test_preference_is_the_order() -> None:
    tree = Itinerary(Alt([Stop(public("a")), Stop(public("b")), Loop(3, Stop(public("c")))]))
    assert [step.stop for step in tree.steps(START)] == [Stop(public(n)) for n in "abc"]
    there = tree.reach(START, public("c"), NOW, HOMEKEY)[0]
    assert [s.position.path for s in tree.steps(there)] == [(2, 1)]
    assert evolve(there, path=(2, 2)) in walk(tree, "ccc")
    assert walk(tree, "cccc") == set()


def test_stops_at_one_station_after_each_other_are_one_visit_and_bounded() -> None:
    a, b = (Stop(KEYS[name]) for name in "ab")
    arrive = Itinerary(Seq([a, a, b])).reach(START, KEYS["a"], NOW, HOMEKEY)
    assert arrive == (Position(PositionKind.STOP, (0,)), Position(PositionKind.STOP, (1,)))
    turns = Itinerary(Seq([Loop(2**32 - 1, a), b]))
    stays = turns.reach(START, KEYS["a"], NOW, HOMEKEY)
    assert len(stays) == MOST_STAYS
    assert all(turns.reach(each, KEYS["b"], NOW, HOMEKEY) for each in stays)
    wide = Itinerary(Alt([a] * (MAX_NODES - 1)))  # as many as it has stops, where all are reached in one step
    assert len(wide.reach(START, KEYS["a"], NOW, HOMEKEY)) == MAX_NODES - 1


def test_tasks_are_signed_with_their_stops() -> None:
    a, b, c = (KEYS[name] for name in "abc")
    way = Itinerary(Seq([Stop(a, task="one"), Opt(Stop(b, NOW, "two")), Stop(c, task="x" * 64)]))
    assert way.value()[1][:2] == [[8, a.raw, "one"], [6, [8, b.raw, "two", NOW]]]
    assert Itinerary.from_value(way.value()) == way
    assert way.has_tasks
    assert way.all_tasks == {"one", "two", "x" * 64}
    assert way.tasks([step.position for step in way.steps(START)]) == {"one"}
    assert not Itinerary(Seq([Stop(a), Stop(a)])).has_tasks


@pytest.mark.parametrize("name", ["Seq", "Opt", "Set", "Loop"])
def test_no_station_has_two_tasks_in_a_row(name: str) -> None:
    a, b, c = (Stop(KEYS[name], task="t") for name in "abc")
    ways: dict[str, Node] = {
        "Seq": Seq([b, Alt([b, c])]),
        "Opt": Seq([a, Opt(b), Opt(c), a]),
        "Set": Set([Seq([a, b]), Seq([b, c])]),
        "Loop": Loop(2, Seq([a, b, Alt([c, a])])),
    }
    with pytest.raises(MalformedCredential, match="two stops in a row"):
        Itinerary(ways[name])
    Itinerary(Loop(1, Seq([a, b, Alt([c, a])])))
