"""Names of functions for people, from what compilers make of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.demangle import demangled, readable
from tests.thorough import examples

NAMES = {
    "main": "main",
    "__original_main": "main",
    "trip.main": "trip.main",
    "_ZN4trip4main17h2e654cd6d7626c85E": "trip::main",
    "_ZN4trip4main17h2e654cd6d7626c85E.llvm.8238516011842214276": "trip::main",
    "_ZN3std2rt10lang_start28_$u7b$$u7b$closure$u7d$$u7d$17h0d61594b7e47f5cbE": "std::rt::lang_start::{{closure}}",
    "_ZN70_$LT$core..result..Result$LT$T$C$E$GT$$u20$as$u20$core..fmt..Debug$GT$3fmt17hcd0d80f49b14aa87E": (
        "<core::result::Result<T,E> as core::fmt::Debug>::fmt"
    ),
    "_ZN5beach5visitEv": "beach::visit",
    "_RNvCskK7mfDs1mzF_1m4main": "m::main",
    "_RNCNvCskK7mfDs1mzF_1m4mains_0B3_": "m::main::{closure#1}",
    "_RINvNtCsgEmfK2I1SDS_4core3ptr13drop_in_placeNtNtCslNYArtu3iFV_5alloc6string6StringECs1_1m": (
        "core::ptr::drop_in_place"
    ),
    "_RNvMs2_NtCslNYArtu3iFV_5alloc7raw_vecNtB5_11RawVecInner10deallocateCsduwmD7cSIQq_5gimli": (
        "<alloc::raw_vec::RawVecInner>::deallocate"
    ),
    "_RNvXCs1_1mNtB2_5BeachNtB2_5Visit5visit": "<m::Beach as m::Visit>::visit",
    "_RNvXCs1_1mAhj4_NtB2_5Visit5visit": "<[u8; _] as m::Visit>::visit",
    "_RNvXCs1_1mTRhQSlPvOeEDNtB2_5VisitEL_5visit": "",
    "_RNvXCs1_1mTRhQSlPeOeFKCmEuDNtB2_5VisitEL_ENtB2_5Visit5visit": (
        "<(&u8, &mut [i32], *const str, *mut str, fn, dyn m::Visit) as m::Visit>::visit"
    ),
    "_RNvNtCs1_1mu8gdel_5qa4main": "m::gödel::main",
    "_Z3foov": "",
    "_ZN5beachI3fooEvE": "",
    "_RNvB_4main": "",
    "_R": "",
    "_ZN": "",
    "_ZN9999xE": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_read(name: str) -> None:
    assert demangled(name) == NAMES[name]
    assert readable(name) == (NAMES[name] or name)


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from([*NAMES]), st.data())
def test_damaged_names_are_read_or_left(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name)))
    readable(name[:at] + data.draw(st.text(max_size=3)) + name[at + data.draw(st.integers(0, 2)) :])
