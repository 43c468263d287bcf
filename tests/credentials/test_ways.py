"""The language of ways: what it means against an expansion by hand, its errors with their places, its bounds."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.credentials.itinerary import (
    MAX_DEPTH,
    START,
    Alt,
    CertifiedStop,
    FreeStop,
    Itinerary,
    Loop,
    Node,
    Opt,
    Position,
    Seq,
    Set,
    Stop,
)
from agents.credentials.ways import MAX_NESTING, MAX_WAY_CHARS, Way, written
from agents.errors import CredentialError, WayError
from tests.credentials.journeys import NOW, public
from tests.thorough import examples

NAMES = ("a", "b", "c")
KEYS = {name: public(name) for name in NAMES}
MOST = 4  # stops of the words that are compared


@frozen
class Meant:
    """A text, and the words of up to `MOST` stops that it means, made without the code under test."""

    text: str
    words: frozenset[str]
    level: int  # 0: a sequence, 1: alternatives, 2: one part


def joined(first: frozenset[str], second: frozenset[str]) -> frozenset[str]:
    return frozenset(a + b for a in first for b in second if len(a + b) <= MOST)


def put(part: Meant, level: int) -> str:
    return part.text if part.level >= level else f"({part.text})"


def sequence(parts: list[Meant]) -> Meant:
    words = frozenset({""})
    for part in parts:
        words = joined(words, part.words)
    return Meant(",".join(put(part, 1) for part in parts), words, 0)


def choice(parts: list[Meant]) -> Meant:
    return Meant("|".join(put(part, 2) for part in parts), frozenset().union(*(part.words for part in parts)), 1)


def any_order(parts: list[Meant]) -> Meant:
    words: frozenset[str] = frozenset()
    for order in itertools.permutations(parts):
        found = frozenset({""})
        for part in order:
            found = joined(found, part.words)
        words |= found
    return Meant(f"{{{','.join(put(part, 1) for part in parts)}}}", words, 2)


def loop(part: Meant, turns: int) -> Meant:
    words = turn = part.words
    for _ in range(turns - 1):
        turn = joined(turn, part.words)
        words |= turn
    return Meant(f"{put(part, 2)}*{turns}", words, 2)


def optional(part: Meant) -> Meant:
    return Meant(f"{put(part, 2)}?", part.words | {""}, 2)


def every(most: int) -> frozenset[str]:
    return frozenset("".join(w) for size in range(most + 1) for w in itertools.product(NAMES, repeat=size))


LEAVES = [Meant(name, frozenset({name}), 2) for name in NAMES]
LEAVES += [Meant("any", frozenset(NAMES), 2), Meant("roam", every(MOST), 2)]


def parts(children: st.SearchStrategy[Meant]) -> st.SearchStrategy[Meant]:
    lists = st.lists(children, min_size=2, max_size=3)
    return st.one_of(
        lists.map(sequence),
        lists.map(choice),
        st.lists(children, min_size=1, max_size=3).map(any_order),
        st.builds(loop, children, st.integers(1, 3)),
        children.map(optional),
    )


meanings = st.recursive(st.sampled_from(LEAVES), parts, max_leaves=6)


def walk(itinerary: Itinerary, word: str) -> set[Position]:
    here = {START}
    for name in word:
        here = {s.position for position in here for s in itinerary.steps(position) if s.admits(KEYS[name], NOW)}
    return here


@settings(max_examples=examples(80))
@given(meanings)
def test_what_is_signed_allows_the_words_that_the_text_means_and_no_others(meant: Meant) -> None:
    way = Way.read(meant.text)
    assert str(way) == meant.text
    itinerary = way.itinerary(KEYS)
    assert written(itinerary, lambda key: next(name for name in NAMES if KEYS[name] == key)) == meant.text
    for word in every(MOST):
        assert any(map(itinerary.complete, walk(itinerary, word))) == (word in meant.words), word


texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text.strip() != "")
leaves = st.one_of(
    texts.map(lambda name: ("station", name)),
    texts.map(lambda name: ("certified", name)),
    st.just(("free", "")),
)
times = st.one_of(st.none(), st.integers(0, 253_402_300_799_000))


@st.composite
def ways(draw: st.DrawFn) -> Way:
    """Any way, with any names, made without reading one."""
    names: list[str] = []
    certifiers: list[str] = []

    def leaf(kind: tuple[str, str], until: int | None) -> Node:
        if kind[0] == "free":
            return FreeStop(until)
        known = names if kind[0] == "station" else certifiers
        if kind[1] not in known:
            known.append(kind[1])
        key = Way.key(known.index(kind[1]))
        return Stop(key, until) if known is names else CertifiedStop(key, until)

    def several(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        lists = st.lists(children, min_size=2, max_size=3)
        kinds = st.sampled_from([Seq, Alt, Set])
        loops = st.tuples(st.just(Loop), st.integers(1, 2**32 - 1), children)
        return st.one_of(st.tuples(kinds, lists), loops, st.tuples(st.just(Opt), children))

    def made(drawn: Any) -> Node:
        if drawn[0] == "leaf":
            return leaf(*drawn[1:])
        if drawn[0] is Loop:
            return Loop(drawn[1], made(drawn[2]))
        if drawn[0] is Opt:
            return Opt(made(drawn[1]))
        return drawn[0]([made(each) for each in drawn[1]])

    tree = made(draw(st.recursive(st.tuples(st.just("leaf"), leaves, times), several, max_leaves=6)))
    try:
        itinerary = Itinerary(tree)
    except CredentialError:  # too deep
        itinerary = Itinerary(FreeStop())
        names, certifiers = [], []
    return Way(itinerary, tuple(names), tuple(certifiers))


@settings(max_examples=examples(150))
@given(ways())
def test_what_is_written_is_read_again(way: Way) -> None:
    text = str(way)
    again = Way.read(text)
    assert again == way, text
    assert str(again) == text
    json.dumps(way.value())


@settings(max_examples=examples(300))
@given(st.one_of(st.text(st.sampled_from('ab,|?*(){}<>"@\\ \t19any:TZ-'), max_size=40), st.text(max_size=40)))
def test_any_text_is_read_or_refused_with_its_place(text: str) -> None:
    try:
        way = Way.read(text)
    except WayError as error:
        assert error.at is None or 0 <= error.at <= len(text)
        assert all(line.isprintable() for line in str(error).split("\n"))
        return
    assert Way.read(str(way)) == way


@pytest.mark.parametrize(
    ("text", "canonical", "names"),
    [
        ("alpha", "alpha", ("alpha",)),
        (" alpha , beta,alpha ", "alpha,beta,alpha", ("alpha", "beta")),
        ("b,b", "b,b", ("b",)),
        ("((alpha))", "alpha", ("alpha",)),
        ("a|b,c", "a|b,c", ("a", "b", "c")),
        ("a|(b,c)", "a|(b,c)", ("a", "b", "c")),
        ("127.0.0.1:7707,[::1]:80,ed25519:aa", "127.0.0.1:7707,[::1]:80,ed25519:aa", ()),
        ("alpha:one , beta:two?", "alpha:one,beta:two?", ("alpha", "beta")),
        ("h:7707:go,[::1]:80:go", "h:7707:go,[::1]:80:go", ("h:7707", "[::1]:80")),
        ("ed25519:aa:go<2026-12-01T12:00Z", "ed25519:aa:go<2026-12-01T12:00Z", ("ed25519:aa",)),
        ("http://h:80", "http://h:80", ("http://h:80",)),
        ('"a b":go,"x:y":"do \\"it\\""', '"a b":go,"x:y":"do \\"it\\""', ("a b", "x:y")),
        ('"lab:alpha",beta', '"lab:alpha",beta', ("lab:alpha", "beta")),
        ('"any","roam",roamer', '"any","roam",roamer', ("any", "roam", "roamer")),
        ('"a\\"b|c"', '"a\\"b|c"', ('a"b|c',)),
        ("roam", "roam", ()),
        ("any*4294967295", "any*4294967295", ()),
        ("a<2026-12-01T12:00:00.000Z?", "a<2026-12-01T12:00Z?", ("a",)),
        ("any@me<2026-12-01T12:00:01.5Z", "any@me<2026-12-01T12:00:01.500Z", ()),
    ],
)
def test_ways_as_people_write_them(text: str, canonical: str, names: tuple[str, ...]) -> None:
    way = Way.read(text)
    assert str(way) == canonical
    assert not names or way.names == names


@pytest.mark.parametrize(
    ("text", "at", "said"),
    [
        ("", 0, "a station's name is missing here"),
        ("alpha,,beta", 6, "a station's name is missing here"),
        ("alpha,", 6, "a station's name is missing here"),
        ("?", 0, "a station's name is missing here"),
        ("()", 1, "a station's name is missing here"),
        ('" "', 0, "a station's name is missing here"),
        ("a?b", 2, "a comma or | belongs between"),
        ("(a (b))", 3, "a comma or | belongs between"),
        ("a)", 1, r"no \( is open here"),
        ("a}", 1, r"no \{ is open here"),
        ("a,(b,c", 2, r"this \( is not closed"),
        ("{a,(b}", 3, r"this \( is not closed"),
        ("a*", 2, "how many times"),
        ("a*0", 2, "how many times"),
        ("a*4294967296", 2, "how many times"),
        ("a*" + "9" * 5000, 2, "how many times"),
        ('a,"b', 2, 'this " is not closed'),
        ("any@", 4, "after any@ comes a key"),
        ("@me", 0, "write any@KEY"),
        ("a:" + "x" * 65, 67, "name of an export"),
        ("a<noon", 2, "the latest arrival"),
        ("a<2026-13-01T12:00Z", 2, "the latest arrival"),
        ("a<1969-12-01T12:00Z", 2, "the latest arrival"),
        ("a" + "?" * 20, 13, "nested deeper"),
        ("(" * 30 + "a" + ")" * 30, MAX_NESTING, "within each other"),
    ],
)
def test_mistakes_are_shown_at_their_place(text: str, at: int, said: str) -> None:
    with pytest.raises(WayError, match=said) as caught:
        Way.read(text)
    assert caught.value.at == at
    if len(text) < 60:
        assert str(caught.value).splitlines()[1:] == [f"  {text}", "  " + " " * at + "^"]


def test_the_caret_stands_below_wide_and_after_strange_signs() -> None:
    with pytest.raises(WayError) as caught:
        Way.read("日本e\u0301\x1b,,x")
    assert str(caught.value).splitlines()[1:] == ["  日本e\u0301?,,x", "  " + " " * 7 + "^"]
    with pytest.raises(WayError) as caught:
        Way.read("a," * 500 + "," + "b," * 500)
    assert [len(line) for line in str(caught.value).splitlines()[1:]] == [128, 66]


def test_ways_are_bounded_and_refusing_takes_no_time() -> None:
    with pytest.raises(WayError, match="characters"):
        Way.read("a" * (MAX_WAY_CHARS + 1))
    with pytest.raises(WayError, match="more than 1024 parts"):
        Way.read(",".join("a" * 1024))
    with pytest.raises(WayError, match="from 1 to 64"):
        Way.read("{" + ",".join("a" * 65) + "}")
    with pytest.raises(WayError, match="deeper"):
        Way.read("{" * MAX_DEPTH + "a" + "}" * MAX_DEPTH)
    assert len(Way.read(",".join(f"s{n}" for n in range(1023))).names) == 1023
    began = time.process_time()
    for hostile in ("(" * MAX_WAY_CHARS, "a|" * (MAX_WAY_CHARS // 2), '"' + "\\" * (MAX_WAY_CHARS - 1), "a<" * 50_000):
        with pytest.raises(WayError):
            Way.read(hostile)
    assert time.process_time() - began < 20  # milliseconds; quadratic would be minutes


@pytest.mark.parametrize("task", ["\x1b[2J", "a\u202eb", "\n", "é" * 33, "\ud800"])
def test_a_task_has_a_short_printable_name(task: str) -> None:
    with pytest.raises(WayError, match="name of an export"):
        Way.read(f'alpha:"{task}"')


def test_tasks_are_in_json_and_in_what_is_signed() -> None:
    way = Way.read("alpha:one,beta:two?")
    assert way.value() == {
        "sequence": [{"station": "alpha", "task": "one"}, {"optional": {"station": "beta", "task": "two"}}]
    }
    signed = way.itinerary({"alpha": public("alpha"), "beta": public("beta")})
    assert signed.root == Seq([Stop(public("alpha"), task="one"), Opt(Stop(public("beta"), task="two"))])
    with pytest.raises(WayError, match="each stop is a station with a task"):
        Way.read("alpha:one,any")


def test_names_need_keys() -> None:
    way = Way.read("a,any@fleet")
    itinerary = way.itinerary(KEYS, {"fleet": public("certifier")})
    assert itinerary.root == Seq([Stop(KEYS["a"]), CertifiedStop(public("certifier"))])
    whole = Way.read(f"a,any@{public('certifier').text}")
    assert whole.itinerary(KEYS) == itinerary
    with pytest.raises(WayError, match="'z'"):
        Way.read("z").itinerary(KEYS)
    with pytest.raises(WayError, match="any@fleet; write the whole key"):
        way.itinerary(KEYS)


def test_json_has_every_part() -> None:
    text = "alpha<1970-01-01T00:00:01Z,(beta|any)?,{gamma,any@fleet}*3"
    assert Way.read(text).value() == {
        "sequence": [
            {"station": "alpha", "until_ms": 1000},
            {"optional": {"alternatives": [{"station": "beta"}, {"any": True}]}},
            {"loop": {"any_order": [{"station": "gamma"}, {"any": True, "certified_by": "fleet"}]}, "turns": 3},
        ]
    }
