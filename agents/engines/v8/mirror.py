"""The bytes of a memory that lies elsewhere, fetched when they are needed, and taken back when they have been written.

While agent code does not run, ranges that were asked for lie here as they are there; nobody else can write them. Before
it runs again, what differs from what was fetched goes back. Invariant: a byte that was neither fetched nor announced as
about to be written whole says nothing, and is not taken back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

from agents.engines.pages import HOST_PAGE_BYTES, Runs, differing, zeros


class Mirror:
    """One memory. A `ComesLater` of the runtime."""

    def __init__(self, size: int, fetch: Callable[[int, int], memoryview]) -> None:
        """`size`: bytes. `fetch(offset, size)`: what lies there."""
        self.size, self._fetch = size, fetch
        self._bytes = zeros(max(size, HOST_PAGE_BYTES))
        self._owner = ctypes.c_char.from_buffer(self._bytes)
        self.address = ctypes.addressof(self._owner)
        self.view = memoryview(self._bytes)[:size]
        self._here: dict[int, None] = {}  # pages that are as they are there
        self._fetched: list[tuple[int, bytearray]] = []  # offset, what was there
        self._announced: list[tuple[int, int]] = []  # offset, size: to be taken back whatever they are

    def make_present(self, offset: int, size: int) -> None:
        """Have these bytes here, in whole pages."""
        first, end = offset // HOST_PAGE_BYTES, -(-min(offset + size, self.size) // HOST_PAGE_BYTES)
        here = self._here
        if end - first == 1 and first in here:
            return
        while first < end:
            if first in here:
                first += 1
                continue
            last = first
            while last < end and last not in here:
                last += 1
            at, length = first * HOST_PAGE_BYTES, (last - first) * HOST_PAGE_BYTES
            self.take(at, self._fetch(at, length))
            first = last

    def take(self, offset: int, contents: memoryview) -> None:
        """Take over what lies there; whole pages."""
        self.view[offset : offset + len(contents)] = contents
        self._fetched.append((offset, bytearray(contents)))
        first = offset // HOST_PAGE_BYTES
        self._here.update(dict.fromkeys(range(first, first + len(contents) // HOST_PAGE_BYTES)))

    def announce(self, offset: int, size: int) -> None:
        """These pages are about to be written whole."""
        self._announced.append((offset, size))
        first = offset // HOST_PAGE_BYTES
        self._here.update(dict.fromkeys(range(first, first + size // HOST_PAGE_BYTES)))

    def give_back(self) -> Iterator[tuple[int, memoryview]]:
        """What was written here, as offset and bytes; from now on nothing is here."""
        for offset, was in self._fetched:
            owner = ctypes.c_char.from_buffer(was)
            pages = len(was) // HOST_PAGE_BYTES
            for first, count in differing(self.address + offset, ctypes.addressof(owner), pages):
                at = offset + first * HOST_PAGE_BYTES
                yield at, self.view[at : at + count * HOST_PAGE_BYTES]
        for offset, size in self._announced:
            yield offset, self.view[offset : offset + size]
        self._fetched, self._announced, self._here = [], [], {}

    def runs_taken(self, runs: Runs, contents: memoryview) -> None:
        """Take over the pages of runs, which lie one after the other in `contents`."""
        for first, count in runs:
            size = count * HOST_PAGE_BYTES
            if first not in self._here:
                self.take(first * HOST_PAGE_BYTES, contents[:size])
            contents = contents[size:]
