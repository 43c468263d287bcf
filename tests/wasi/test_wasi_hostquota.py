"""A granted directory that may be written: agents cannot fill the host's disk, whatever they do, nor use up the
station's descriptors."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.wasi.abi import EBADF, EMFILE, ENOSPC
from agents.wasi.hostdirs import HostGrant
from agents.wasi.hostquota import Quota
from tests.thorough import examples

from .rig import DIRECTORY, READ_WRITE, Virtual

CREAT, O_DIRECTORY, TRUNC = 1, 2, 8


def granted(folder: Path, size: int = 1000, names: int = 5, **options: Any) -> tuple[Virtual, Quota, HostGrant]:
    quota = Quota(size, names)
    grant = HostGrant(folder, "/data", quota=quota, **options)
    return Virtual(grants={"/data": grant}), quota, grant


def create(guest: Virtual, name: str) -> int:
    error, fd = guest.open(name, CREAT, READ_WRITE, fd=4)
    assert error == 0
    return fd


def measured(folder: Path) -> tuple[int, int]:
    """Bytes and names that are in the folder."""
    names = list(folder.rglob("*"))
    inodes = {path.lstat().st_ino: path.lstat().st_size for path in names if path.is_file() and not path.is_symlink()}
    return sum(inodes.values()), len(names)


def test_what_fits_is_written_and_no_more(tmp_path: Path) -> None:
    guest, quota, _ = granted(tmp_path)
    fd = create(guest, "f")
    assert guest.write(fd, bytes(990)) == (0, 990)
    assert guest.write(fd, bytes(20)) == (0, 10)
    assert guest.write(fd, b"x") == (ENOSPC, 0)
    assert guest.seek(fd, 0, 0) == (0, 0)
    assert guest.write(fd, b"over") == (0, 4)  # what is there may be written again
    assert (tmp_path / "f").stat().st_size == 1000
    assert quota.used == 1000


def test_holes_count(tmp_path: Path) -> None:
    guest, _, _ = granted(tmp_path)
    fd = create(guest, "f")
    assert guest.raw("fd_filestat_set_size", fd, 1 << 50) == ENOSPC
    assert guest.raw("fd_allocate", fd, 0, 1 << 40) == ENOSPC
    assert guest.seek(fd, 1 << 40, 0)[0] == 0
    assert guest.write(fd, b"x") == (ENOSPC, 0)
    assert guest.raw("fd_filestat_set_size", fd, 1000) == 0
    assert guest.raw("fd_filestat_set_size", fd, 1001) == ENOSPC
    assert (tmp_path / "f").stat().st_size == 1000


def test_names_count_whatever_they_name(tmp_path: Path) -> None:
    guest, quota, _ = granted(tmp_path)
    guest.raw("fd_close", create(guest, "f"))
    assert guest.mkdir("d", fd=4) == 0
    assert guest.symlink("f", "s", fd=4) == 0
    assert guest.link("f", "l", fd=4, new_fd=4) == 0
    guest.raw("fd_close", create(guest, "g"))
    assert guest.open("h", CREAT, READ_WRITE, fd=4)[0] == ENOSPC
    assert guest.mkdir("e", fd=4) == ENOSPC
    assert guest.symlink("f", "t", fd=4) == ENOSPC
    assert guest.link("f", "m", fd=4, new_fd=4) == ENOSPC
    assert guest.rename("g", "d/g", fd=4, new_fd=4) == 0  # adds none
    assert guest.rename("d/g", "l", fd=4, new_fd=4) == 0  # takes one away
    assert guest.mkdir("e", fd=4) == 0
    assert quota.named == measured(tmp_path)[1] == 5


def test_what_was_there_counts(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(bytes(600))
    guest, quota, _ = granted(tmp_path)
    assert (quota.used, quota.named) == (600, 2)
    fd = create(guest, "f")
    assert guest.write(fd, bytes(600)) == (0, 400)
    assert guest.unlink("d/f", fd=4) == 0
    assert guest.write(fd, bytes(700)) == (0, 600)


def test_a_directory_that_was_full_before(tmp_path: Path) -> None:
    for name in range(20):
        (tmp_path / str(name)).write_bytes(b"x" * 100)
    guest, _, _ = granted(tmp_path)
    assert guest.open("f", CREAT, READ_WRITE, fd=4)[0] == ENOSPC
    assert guest.open("1", 0, READ_WRITE, fd=4)[0] == 0


def test_a_file_that_is_unlinked_and_kept_open_counts_until_it_is_closed(tmp_path: Path) -> None:
    guest, quota, _ = granted(tmp_path, names=100)
    kept = []
    for turn in range(4):
        kept.append(create(guest, "f"))
        assert guest.write(kept[-1], bytes(300))[0] == 0
        assert guest.unlink("f", fd=4) == 0
        assert quota.used == min(300 * (turn + 1), 1000)
    fd = create(guest, "g")
    assert guest.write(fd, b"x") == (ENOSPC, 0)
    assert guest.raw("fd_close", kept[0]) == 0
    assert quota.used == 700
    assert guest.write(fd, bytes(400)) == (0, 300)
    guest.state.close()
    assert (quota.used, quota.named) == measured(tmp_path) == (300, 1)


def test_one_file_that_two_have_open(tmp_path: Path) -> None:
    guest, quota, _ = granted(tmp_path)
    one, two = create(guest, "f"), create(guest, "f")
    assert guest.write(one, bytes(500)) == (0, 500)
    assert guest.link("f", "l", fd=4, new_fd=4) == 0
    assert guest.unlink("f", fd=4) == 0
    assert guest.unlink("l", fd=4) == 0
    assert guest.raw("fd_close", one) == 0
    assert quota.used == 500
    assert guest.raw("fd_close", two) == 0
    assert quota.used == 0


def test_emptying_gives_room_back(tmp_path: Path) -> None:
    guest, quota, _ = granted(tmp_path)
    guest.write(create(guest, "f"), bytes(800))
    assert guest.open("f", TRUNC, READ_WRITE, fd=4)[0] == 0
    assert quota.used == 0
    fd = create(guest, "g")
    guest.write(fd, bytes(900))
    assert guest.raw("fd_filestat_set_size", fd, 100) == 0
    assert quota.used == 100


@settings(max_examples=examples(20))
@given(st.integers(0, 2**32 - 1))
def test_the_count_is_what_there_is(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Whatever agents do, in whatever order: bytes and names are those of the directory."""
    folder, rng = tmp_path_factory.mktemp("quota"), random.Random(seed)
    guest, quota, _ = granted(folder, size=500, names=6)
    fds: list[int] = []
    for _ in range(60):
        names = [f"{rng.choice(['', 'd/'])}{rng.choice('abc')}" for _ in range(2)]
        match rng.randrange(9):
            case 0 | 1:
                error, fd = guest.open(names[0], rng.choice([CREAT, CREAT | TRUNC]), READ_WRITE, fd=4)
                fds += [fd] if error == 0 else []
            case 2 if fds:
                guest.seek(rng.choice(fds), rng.randrange(300), 0)
                guest.write(rng.choice(fds), bytes(rng.randrange(200)))
            case 3 if fds:
                guest.raw("fd_close", fds.pop(rng.randrange(len(fds))))
            case 4:
                guest.unlink(names[0], fd=4)
            case 5:
                guest.rename(*names, fd=4, new_fd=4)
            case 6:
                guest.link(*names, fd=4, new_fd=4)
            case 7:
                guest.mkdir("d", fd=4) and guest.rmdir("d", fd=4)
            case 8 if fds:
                guest.raw("fd_filestat_set_size", rng.choice(fds), rng.randrange(400))
        assert quota.used <= 500
        assert quota.named <= 6
        assert quota.named == measured(folder)[1]
    for fd in fds:
        guest.raw("fd_close", fd)
    assert (quota.used, quota.named) == measured(folder)


def test_many_agents_at_once(tmp_path: Path) -> None:
    quota = Quota(10_000, 50)
    grant = HostGrant(tmp_path, "/data", quota=quota)

    def agent(number: int) -> None:
        guest, rng = Virtual(grants={"/data": grant}), random.Random(number)
        for _ in range(150):
            error, fd = guest.open(f"f{rng.randrange(8)}", CREAT, READ_WRITE, fd=4)
            if error == 0:
                guest.write(fd, bytes(rng.randrange(3000)))
                if rng.randrange(2):
                    guest.unlink(f"f{rng.randrange(8)}", fd=4)
                guest.raw("fd_close", fd)
        guest.state.close()

    threads = [threading.Thread(target=agent, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (quota.used, quota.named) == measured(tmp_path)
    assert quota.used <= 10_000
    assert grant.terms.leases.count == 0


def test_descriptors_of_all_agents_together_are_bounded(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    grant = HostGrant(tmp_path, "/data", leases=20)
    guests = [Virtual(grants={"/data": grant}) for _ in range(3)]
    for guest in guests:
        while guest.open("f", CREAT, READ_WRITE, fd=4)[0] == 0:
            pass
    assert guests[0].open("f", fd=4)[0] == EMFILE
    assert guests[0].open("data/f", fd=3)[0] == EMFILE
    # An agent that arrives now is not refused: it has lost what it had open, and can open it later.
    late = guests[1].hop(grants={"/data": grant})
    assert late.fdstat(4)[0] == 0  # the directory itself takes none
    assert late.fdstat(6)[0] == EBADF
    assert guests[1].open(".", O_DIRECTORY, DIRECTORY, fd=4)[0] == EMFILE
    assert len(os.listdir("/proc/self/fd")) - before <= 21
    guests[0].state.close()
    assert guests[2].open("f", fd=4)[0] == 0
    for guest in (*guests, late):
        guest.state.close()
    grant.close()
    assert len(os.listdir("/proc/self/fd")) == before
