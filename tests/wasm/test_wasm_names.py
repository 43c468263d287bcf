"""The name section: in and out, damaged, and replaced in its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import MalformedModule, ModuleTooLarge
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.names import NAME_SECTION, Names, decode_names, encode_names, module_names, with_names
from agents.wasm.syntax import Custom, Module

INDEX = st.integers(0, 0xFFFFFFFF)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
MAP = st.dictionaries(INDEX, TEXT, max_size=4)
INDIRECT = st.dictionaries(INDEX, MAP.filter(bool), max_size=3)
NAMES = st.builds(
    Names,
    module=st.none() | TEXT,
    functions=MAP,
    locals=INDIRECT,
    labels=INDIRECT,
    types=MAP,
    tables=MAP,
    memories=MAP,
    globals=MAP,
    elems=MAP,
    datas=MAP,
    fields=INDIRECT,
    tags=MAP,
    unknown=st.dictionaries(st.integers(12, 127), st.binary(max_size=5), max_size=2),
)


@given(NAMES)
def test_names_come_back(names: Names) -> None:
    assert decode_names(encode_names(names)) == names


def test_known_bytes() -> None:
    """Module "m", function 1 "f", local 0 of function 1 "x"; the appendix's layout."""
    payload = b"\0\2\1m" + b"\1\4\1\1\1f" + b"\2\6\1\1\1\0\1x"
    names = Names(module="m", functions={1: "f"}, locals={1: {0: "x"}})
    assert decode_names(payload) == names
    assert encode_names(names) == payload
    assert names.function(1) == "f"
    assert names.function(2) is None


@given(NAMES, st.data())
def test_damage_is_declared(names: Names, data: st.DataObject) -> None:
    payload = bytearray(encode_names(names))
    for _ in range(data.draw(st.integers(1, 4))):
        if payload:
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_names(bytes(payload), 1000)
    except (MalformedModule, ModuleTooLarge) as error:
        assert error.offset is not None
        assert error.offset >= 1000


@pytest.mark.parametrize(
    ("payload", "offset"),
    [(b"\1\x05\1", 2), (b"\1\5\1\1\2\xc3\x28", 5), (b"\1\2\0\0", 3), (b"\1\5\xff\xff\xff\xff\x0f", 2)],
)
def test_malformed(payload: bytes, offset: int) -> None:
    with pytest.raises(MalformedModule) as caught:
        decode_names(payload)
    assert caught.value.offset == offset
    # In a module, names that cannot be read are no names, and no error (A.7).
    assert module_names(Module(customs=(Custom(NAME_SECTION, payload, 0),))) == Names()


def test_a_name_section_is_replaced_in_its_place() -> None:
    old, other = Custom(NAME_SECTION, b"", 1), Custom("other", b"x", 11)
    names = Names(functions={0: "new"})
    changed = with_names(Module(customs=(old, other)), names)
    assert changed.customs == (Custom(NAME_SECTION, encode_names(names), 1), other)
    assert module_names(decode_module(encode_module(changed))) == names
    added = with_names(Module(customs=(other,)), names)
    assert module_names(added) == names
    assert added.customs[0] == other
