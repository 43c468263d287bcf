"""Which pages changed: by the kernel's word or by looking, the answer is the same."""

from __future__ import annotations

import ctypes
import mmap
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engines import pages
from agents.engines.pages import HOST_PAGE_BYTES, Initial
from tests.thorough import examples

SIZE = 64 * HOST_PAGE_BYTES


class Region:
    """Private memory, as engines have it."""

    def __init__(self, size=SIZE):
        self.bytes = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))

    def view(self):
        return memoryview(self.bytes)


def slowly(before, now):
    runs = []
    for page in range(len(now) // HOST_PAGE_BYTES):
        part = slice(page * HOST_PAGE_BYTES, (page + 1) * HOST_PAGE_BYTES)
        if now[part] == before[part]:
            continue
        if runs and sum(runs[-1]) == page:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((page, 1))
    return runs


@given(
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, 255)), max_size=12),
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, 255)), max_size=40),
    st.integers(0, 64),
    st.booleans(),
)
@settings(max_examples=examples(50))
def test_exactly_the_pages_that_differ_are_found(before, after, held, ask_kernel):
    region = Region()
    for at, value in before:
        if at < held * HOST_PAGE_BYTES:
            region.bytes[at] = value
    initial = Initial(region.view()[: held * HOST_PAGE_BYTES], region.address)
    old = bytes(region.bytes)
    for at, value in after:
        region.bytes[at] = value
    expected = slowly(old, bytes(region.bytes))
    if ask_kernel:
        assert initial.changed(region.address, SIZE) == expected
    else:
        assert pages._compare([(0, SIZE // HOST_PAGE_BYTES)], region.address, initial.address, held) == expected


def test_bytes_that_were_changed_back_are_not_a_change():
    region = Region()
    initial = Initial(region.view(), region.address)
    region.bytes[5000] = 1
    assert initial.changed(region.address, SIZE) == [(1, 1)]
    region.bytes[5000] = 0
    assert initial.changed(region.address, SIZE) == []


def test_without_the_page_map_everything_is_compared(monkeypatch):
    region = Region()
    initial = Initial(region.view(), region.address)
    region.bytes[3 * HOST_PAGE_BYTES] = 9
    monkeypatch.setattr(pages, "pagemap_works", lambda: False)
    assert initial.changed(region.address, SIZE) == [(3, 1)]


def test_an_unreadable_page_map_is_no_answer(monkeypatch):
    monkeypatch.setattr(os, "pread", lambda *_: b"")
    assert pages._touched(0, 5) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_sees_its_own_pages():
    region = Region()
    initial = Initial(region.view(), region.address)
    child = os.fork()
    if child == 0:
        try:
            region.bytes[7 * HOST_PAGE_BYTES] = 1
            os._exit(0 if initial.changed(region.address, SIZE) == [(7, 1)] else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert initial.changed(region.address, SIZE) == []


def test_large_pages_may_be_expected_anywhere():
    region = Region(8 << 20)
    pages.expect(region.address, 8 << 20)
    pages.expect(region.address + HOST_PAGE_BYTES, 100)
    region.bytes[5 << 20] = 1
    assert region.bytes[5 << 20] == 1
