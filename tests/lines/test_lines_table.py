"""The custom section `portcall.lines`: what is written is read again, and what is not ours is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from agents.dwarf import SourcePlace
from agents.errors import FormatError, NotCanonical
from agents.lines import LINES_SECTION, Lines, lines_of
from agents.lines.building import _Table
from agents.lines.table import MAX_TEXT_CHARS, decode_lines, encode_lines
from agents.wasm.encode import encode_module
from agents.wasm.syntax import Custom, Module
from tests.thorough import examples

ROOT = Path(__file__).resolve().parents[2]
TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), max_size=20)
NUMBERS = st.integers(0, 1000) | st.integers(0, 1 << 33)
INLINED = st.builds(SourcePlace, TEXTS.filter(bool), TEXTS.filter(bool), NUMBERS)
ITSELF = st.builds(SourcePlace, st.just(""), TEXTS.filter(bool), NUMBERS)
CHAINS = st.builds(lambda inlined, itself: (*inlined, itself), st.lists(INLINED, max_size=5), ITSELF)
FUNCTIONS = st.lists(st.lists(CHAINS | st.just(()), max_size=6), max_size=6)


def table(functions: list[list[tuple[SourcePlace, ...]]]) -> bytes:
    made = _Table()
    for sites in functions:
        made.add(sites)
    return made.encode()


def with_known_line(place: SourcePlace) -> SourcePlace:
    return SourcePlace(place.function, place.file, place.line if place.line < 1 << 32 else 0)


@settings(max_examples=examples(100), deadline=None)
@given(FUNCTIONS)
def test_what_is_written_is_read(functions: list[list[tuple[SourcePlace, ...]]]) -> None:
    encoded = table(functions)
    lines = decode_lines(encoded)
    assert encode_lines(lines) == encoded
    for resume, sites in enumerate(functions):
        for site, chain in enumerate(sites, 1):
            assert lines.places(resume, site) == tuple(map(with_known_line, chain))
        assert lines.places(resume, 0) == lines.places(resume, len(sites) + 1) == ()
    assert lines.places(len(functions), 1) == lines.places(-1, 1) == ()


def test_long_and_unprintable_texts_are_cut_and_cleaned() -> None:
    long = SourcePlace("", "a/" * 100 + "main.c", 3)
    odd = SourcePlace("f\x1b[2J" + "g" * 200, "x\n.c", 4)
    lines = decode_lines(table([[(odd, long)]]))
    inner, outer = lines.places(0, 1)
    assert inner == SourcePlace(("f?[2J" + "g" * 200)[:MAX_TEXT_CHARS], "x?.c", 4)
    assert outer.file == long.file[-MAX_TEXT_CHARS:]


@settings(max_examples=examples(300), deadline=None)
@given(FUNCTIONS, st.data())
def test_a_damaged_table_is_refused_or_names_what_it_has(
    functions: list[list[tuple[SourcePlace, ...]]], data: st.DataObject
) -> None:
    encoded = bytearray(table(functions))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        lines = decode_lines(bytes(encoded))
    except FormatError:
        return
    for resume in range(len(lines.sites)):
        for site in range(1, 8):
            for place in lines.places(resume, site):
                assert place.function in ("", *lines.names)
                assert place.file in ("", *lines.files)


VALUE = {"version": 1, "files": ["a.c"], "names": ["f"], "calls": b"\1\0\1\5", "sites": [b"\x15\1\1"]}


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"files": []},
        {"names": []},
        {"files": ["a.c\n"]},
        {"files": ["a" * (MAX_TEXT_CHARS + 1)]},
        {"files": [1]},
        {"files": "a.c"},
        {"calls": b"\1\1\1\5"},
        {"calls": b"\1\0\1"},
        {"calls": b"\1\0\1\x80"},
        {"calls": b"\1\0\1\xff\xff\xff\xff\xff\xff\x01"},
        {"calls": []},
        {"sites": [[]]},
        {"sites": b""},
        {"other": 1},
    ],
)
def test_a_table_that_contradicts_itself_counts_as_absent(changed: dict[str, object]) -> None:
    good = canonical.encode(VALUE)
    assert decode_lines(good).places(0, 1) == (SourcePlace("f", "a.c", 5), SourcePlace("", "a.c", 5))
    bad = canonical.encode({**VALUE, **changed})
    with pytest.raises(FormatError):
        decode_lines(bad)
    assert lines_of(code(bad)) == lines_of(code(b"noise")) == Lines()
    assert lines_of(code(good)) == decode_lines(good)
    assert lines_of(encode_module(Module())) == Lines()


@pytest.mark.parametrize("sites", [b"\x15\2\1", b"\x15\1\2", b"\x15\1", b"\x03\1\1", b"\x15\1\1\x80", b"\0"])
def test_sites_that_cannot_be_read_count_as_unknown(sites: bytes) -> None:
    lines = decode_lines(canonical.encode({**VALUE, "sites": [sites, b"\x15\1\1"]}))
    assert lines.places(0, 1) == ()
    assert lines.places(1, 1) == (SourcePlace("f", "a.c", 5), SourcePlace("", "a.c", 5))


def code(section: bytes) -> bytes:
    return encode_module(Module(customs=(Custom(LINES_SECTION, section, 0),)))


def test_a_table_is_read_only_to_a_bound() -> None:
    with pytest.raises(NotCanonical, match="items"):
        decode_lines(canonical.encode({**VALUE, "files": ["a"] * 2_000_001}))
