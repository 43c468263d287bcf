"""Guests that want more than there is: each answer is an errno, and the station's memory stays flat."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agents import canonical
from agents.wasi import WasiLimits, WasiState
from agents.wasi.abi import EBADF, EFAULT, EFBIG, EILSEQ, EINVAL, EMFILE, ENAMETOOLONG, ENOSPC
from agents.wasi.calls import SIGNATURES

from .rig import DIRECTORY, PAGES, READ_WRITE, Virtual

CREAT, TRUNC, O_DIRECTORY = 1, 8, 2
MIB = 1 << 20


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Fails when more than `size` bytes are allocated at any moment inside."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= size, f"{peak >> 20} MiB"


def overlapping(guest: Virtual, count: int) -> tuple[int, int]:
    """A vector of `count` buffers over the same 448 KiB: its sum is what the guest pretends to have."""
    size = PAGES * 65536 - 65536
    guest.put(4096, struct.pack("<II", 65536, size) * count)
    return 4096, count


def test_gigabyte_writes_stop_at_the_bound() -> None:
    guest = Virtual(limits=WasiLimits(luggage_bytes=8 * MIB, io_bytes=MIB))
    _, fd = guest.open("f", CREAT, READ_WRITE)
    vector = overlapping(guest, 1024)  # 448 MiB a call
    with at_most(24 * MIB):
        written, error = 0, 0
        while not error:
            error = guest.raw("fd_write", fd, *vector, 16)
            written += 0 if error else guest.number()
    assert error == ENOSPC
    assert written == 8 * MIB == guest.state.luggage.used
    assert guest.open("g", CREAT, READ_WRITE)[0] == 0
    assert guest.write(5, b"x")[0] == ENOSPC
    assert guest.unlink("f") == 0
    assert guest.write(5, b"x")[0] == ENOSPC  # the open file still counts
    assert guest.close(fd) == 0
    assert guest.write(5, b"x") == (0, 1)


def test_nothing_is_sparse() -> None:
    guest = Virtual(limits=WasiLimits(luggage_bytes=MIB))
    _, fd = guest.open("f", CREAT, READ_WRITE)
    with at_most(4 * MIB):
        assert guest.pwrite(fd, b"x", 1 << 40)[0] == ENOSPC
        assert guest.pwrite(fd, b"x", (1 << 63) - 1)[0] == ENOSPC
        assert guest.pwrite(fd, b"x", 1 << 63)[0] == EINVAL
        assert guest.raw("fd_filestat_set_size", fd, 1 << 30) == ENOSPC
        assert guest.raw("fd_filestat_set_size", fd, 1 << 63) == EFBIG
        assert guest.raw("fd_allocate", fd, 1 << 62, 1 << 62) == EFBIG
        assert guest.raw("fd_allocate", fd, 0, 2 * MIB) == ENOSPC
        assert guest.seek(fd, (1 << 63) - 1, 0)[0] == 0
        assert guest.write(fd, b"x")[0] == ENOSPC
    assert guest.fstat(fd)[1][2] == 0
    assert guest.pwrite(fd, b"12345", MIB - 3) == (0, 3)  # what fits is taken


def test_a_hundred_thousand_files() -> None:
    guest = Virtual()
    made = 0
    with at_most(24 * MIB):
        for index in range(100_000):
            error, fd = guest.open(f"file-{index}", CREAT, READ_WRITE)
            if error:
                break
            made += 1
            guest.close(fd)
    assert (error, made) == (ENOSPC, 10_000)
    assert guest.mkdir("d") == ENOSPC
    assert guest.symlink("x", "l") == ENOSPC
    assert guest.link("file-1", "hard") == ENOSPC
    assert guest.rename("file-1", "renamed") == 0
    assert len(guest.listing()) == 10_002
    assert guest.unlink("file-2") == 0
    assert guest.mkdir("d") == 0
    assert len(WasiState.decode(guest.state.encode()).luggage.root.folder.entries) == 10_000  # type: ignore[union-attr]


def test_files_that_come_and_go_leave_nothing() -> None:
    guest = Virtual()
    with at_most(MIB):
        for index in range(6_000):
            _, fd = guest.open(f"f{index}", CREAT, READ_WRITE)
            guest.write(fd, b"some text")
            guest.unlink(f"f{index}")
            guest.close(fd)
    assert guest.state.luggage.used == guest.state.luggage.names == 0
    assert len(canonical.encode(guest.state.encode())) < 500


def test_directories_as_deep_as_they_can_be() -> None:
    guest = Virtual(limits=WasiLimits(files=3000))
    fd = 3
    for _ in range(3000):  # deeper than any path, and than Python's own stack
        assert guest.mkdir("d", fd=fd) == 0
        error, inner = guest.open("d", O_DIRECTORY, DIRECTORY, fd=fd)
        assert error == 0
        if fd != 3:
            guest.close(fd)
        fd = inner
    assert guest.mkdir("d", fd=fd) == ENOSPC
    assert guest.stat("/".join("d" * 300))[0] == ENAMETOOLONG
    assert guest.stat("/".join("d" * 200))[0] == 0
    state = WasiState.decode(canonical.decode(canonical.encode(guest.state.encode())), WasiLimits(files=3000))
    assert state.encode() == guest.state.encode()
    assert guest.rename("d", "e", new_fd=fd) == EINVAL


def test_log_floods() -> None:
    guest = Virtual(limits=WasiLimits(log_bytes=2 * MIB, io_bytes=MIB))
    vector = overlapping(guest, 1024)
    taken, error = 0, 0
    while not error:
        error = guest.raw("fd_write", 1, *vector, 16)
        taken += 0 if error else guest.number()
    assert error == ENOSPC
    assert taken == 2 * MIB == len(guest.stdout())
    assert guest.write(2, b"x")[0] == ENOSPC


def test_descriptors_are_bounded() -> None:
    guest = Virtual(files={"f": b""})
    opened = 0
    while guest.open("f")[0] == 0:
        opened += 1
    assert opened == WasiLimits().descriptors - 4
    assert guest.open("portcall/here")[0] == EMFILE
    assert guest.raw("fd_renumber", 5, 1 << 30) == EBADF  # a number is taken, never chosen


@pytest.mark.parametrize("name", [b"\xff\xfe", b"caf\xe9", b"\xc0\xaf", b"\xed\xa0\x80", b"ok/\x80"])
def test_names_that_are_not_text(name: bytes) -> None:
    guest = Virtual()
    assert guest.open(name, CREAT, READ_WRITE)[0] == EILSEQ
    assert guest.mkdir(name) == EILSEQ
    assert guest.symlink(name, "l") == EILSEQ
    assert guest.stat(name)[0] == EILSEQ


def test_a_flood_of_buffers_and_subscriptions() -> None:
    guest = Virtual()
    assert guest.raw("fd_write", 1, 4096, 1025, 16) == EINVAL
    assert guest.raw("fd_read", 0, 4096, 0xFFFFFFFF, 16) == EINVAL
    assert guest.raw("poll_oneoff", 4096, 65536, 257, 16) == EINVAL
    assert guest.raw("poll_oneoff", 4096, 65536, 0xFFFFFFFF, 16) == EINVAL


def test_random_bytes_for_all_of_the_memory() -> None:
    guest = Virtual()
    with at_most(MIB):
        assert guest.raw("random_get", 0, PAGES * 65536) == 0
    assert guest.raw("random_get", 1, PAGES * 65536) == EFAULT


POINTERS = [PAGES * 65536 - 1, PAGES * 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


@pytest.mark.parametrize("pointer", POINTERS)
@pytest.mark.parametrize("name", sorted(set(SIGNATURES) - {"proc_exit"}))
def test_wild_pointers_change_nothing(name: str, pointer: int) -> None:
    """Every 32-bit argument that is not a descriptor is, in turn, a pointer out of the memory."""
    params = SIGNATURES[name][0]
    for position, letter in enumerate(params):
        guest = Virtual(files={"f": b"abc", "d/": b""}, stdin=b"input")
        guest.open("f", 0, READ_WRITE)
        guest.put(1024, b"f")
        guest.put(32, struct.pack("<II", 2048, 8))
        args = [4 if name.startswith("fd_") else 3] + [1024 if index % 2 else 1 for index in range(1, len(params))]
        args = args[: len(params)]
        if letter == "i":
            args[position] = pointer
        before = guest.state.encode()
        answer = guest.raw(name, *args)
        if answer == EFAULT:
            assert guest.state.encode() == before, (name, position)
        assert isinstance(answer, int) or name in ("sched_yield", "poll_oneoff")


def test_a_listing_of_everything_again_and_again_is_quick() -> None:
    guest = Virtual(files={f"f{index}": b"" for index in range(5000)})
    for _ in range(20):  # removing the first and listing anew was quadratic once
        _, lines = guest.readdir(3, 300)
        assert guest.unlink(lines[2][2].decode()) == 0
    cookie, count = 0, 0
    while lines := guest.readdir(3, 60, cookie)[1]:  # one line a call
        cookie, count = lines[-1][0], count + len(lines)
    assert count == 4982
