"""Granted host directories: no path, link or race leads out, and nothing that could block is opened."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.errors import CallFailed
from agents.wasi.abi import APPEND, EACCES, EILSEQ, EIO, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
from agents.wasi.hostdirs import HostGrant, parse_grant
from agents.wasi.paths import Route

from .rig import DIRECTORY, READ_ONLY, READ_WRITE, Virtual

CREAT, O_DIRECTORY = 1, 2


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    return tmp_path / "outside"


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    (tmp_path / "inside" / "d").mkdir(parents=True)
    (tmp_path / "inside" / "f").write_bytes(b"inside")
    return tmp_path / "inside"


@pytest.fixture
def guest(inside: Path) -> Iterator[Virtual]:
    grant = HostGrant(inside, "/data")
    guest = Virtual(grants={"/data": grant})
    yield guest
    guest.state.close()
    grant.close()


def test_links_out_are_not_followed(guest: Virtual, inside: Path, outside: Path) -> None:
    (inside / "absolute").symlink_to(outside / "secret")
    (inside / "relative").symlink_to("../outside/secret")
    (inside / "folder").symlink_to(outside)
    (inside / "d" / "up").symlink_to("../../outside")
    (inside / "chain").symlink_to("d/up/secret")
    for path in ("absolute", "relative", "folder/secret", "d/up/secret", "chain", "folder/", "folder"):
        assert guest.open(path, fd=4)[0] == EPERM, path
        assert guest.stat(path, follow=True, fd=4)[0] == EPERM, path
    for path in ("folder/new", "d/up/new"):
        assert guest.open(path, CREAT, READ_WRITE, fd=4)[0] == EPERM
        assert guest.mkdir(path, fd=4) == EPERM
        assert guest.unlink(path, fd=4) == EPERM
        assert guest.rename("f", path, fd=4, new_fd=4) == EPERM
    assert guest.unlink("folder/secret", fd=4) == EPERM
    assert sorted(os.listdir(outside)) == ["secret"]


def test_a_link_put_in_place_of_a_directory_does_not_lead_out(guest: Virtual, inside: Path, outside: Path) -> None:
    """Another process swaps a directory for a link out, again and again, while the guest walks through it."""
    (inside / "d" / "secret").write_bytes(b"inside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(inside / "d", inside / "aside")
            os.symlink(outside, inside / "d")
            os.unlink(inside / "d")
            os.rename(inside / "aside", inside / "d")

    thread = threading.Thread(target=swap)
    thread.start()
    read: set[bytes] = set()
    errors: set[int] = set()
    try:
        for attempt in range(100_000):
            if attempt >= 1500 and read and errors:
                break
            error, fd = guest.open("d/secret", fd=4)
            if error:
                errors.add(error)
                continue
            read.add(guest.read(fd, 9)[1])
            guest.close(fd)
    finally:
        stop.set()
        thread.join()
    assert read <= {b"inside"}
    assert errors <= {ENOENT, EPERM, ENOTDIR, ELOOP}
    error, fd = guest.open("d/secret", fd=4)  # at rest, and in order
    assert (error, guest.read(fd, 9)[1]) == (0, b"inside")
    assert errors  # the race did happen


def test_what_is_neither_file_nor_directory_is_not_opened(guest: Virtual, inside: Path) -> None:
    os.mkfifo(inside / "pipe")  # opening one would wait for a writer
    assert guest.open("pipe", fd=4)[0] == EACCES
    assert guest.open("pipe", 0, READ_WRITE, fd=4)[0] == EACCES
    assert guest.stat("pipe", fd=4)[1][0] == 0


def test_names_of_the_host_that_are_no_text_are_not_shown(guest: Virtual, inside: Path) -> None:
    try:
        (Path(os.fsdecode(bytes(inside) + b"/caf\xe9"))).write_bytes(b"")
        os.symlink(b"caf\xe9", bytes(inside) + b"/link")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert guest.listing(fd=4) == [b".", b"..", b"d", b"f", b"link"]
    assert guest.open("link", fd=4)[0] == EILSEQ


def test_a_deep_path_does_not_use_up_the_stations_descriptors(guest: Virtual, inside: Path) -> None:
    deep = inside
    for _ in range(100):
        deep /= "x"
    deep.mkdir(parents=True)
    before = len(os.listdir("/dev/fd"))
    assert guest.stat("/".join("x" * 60), fd=4)[0] == 0
    assert guest.stat("/".join("x" * 100), fd=4)[0] == ENAMETOOLONG
    assert len(os.listdir("/dev/fd")) == before


def test_every_descriptor_of_the_host_is_given_back(inside: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    grant = HostGrant(inside, "/data")
    guest = Virtual(grants={"/data": grant})
    for _ in range(5):
        guest.open("f", fd=4)
        guest.open("d", O_DIRECTORY, DIRECTORY, fd=4)
        guest.open("data/f")
        guest.open("nothing/x", fd=4)
        guest.stat("d/../f", fd=4)
    other = guest.hop(grants={"/data": grant})
    guest.state.close()
    other.state.close()
    grant.close()
    assert len(os.listdir("/dev/fd")) == before


def test_the_parent_of_a_granted_directory_has_no_number_of_its_own(guest: Virtual, inside: Path) -> None:
    _, lines = guest.readdir(4)
    assert [name for _, _, name in lines[:2]] == [b".", b".."]
    guest.raw("fd_readdir", 4, 65536, 100, 0, 16)
    dot = guest.number(65536 + 8, 8)
    assert dot == inside.stat().st_ino
    assert guest.number(65536 + 25 + 8, 8) == dot


def test_a_directory_that_moved_away_stays_what_it_is(guest: Virtual, inside: Path, outside: Path) -> None:
    _, folder = guest.open("d", O_DIRECTORY, DIRECTORY, fd=4)
    os.rename(inside / "d", outside / "d")
    assert guest.open("../secret", fd=folder)[0] == EPERM
    assert guest.open("mine", CREAT, READ_WRITE, fd=folder)[0] == 0


def test_host_paths_are_not_told(guest: Virtual, inside: Path) -> None:
    grant = HostGrant(inside, "/data")
    with pytest.raises(CallFailed) as failed:
        grant.root().walk(Route(("no", "no")), True)
    assert str(inside) not in str(failed.value)
    grant.close()


def test_reading_and_writing_host_files(guest: Virtual, inside: Path) -> None:
    _, fd = guest.open("new", CREAT, READ_WRITE, fd=4)
    assert guest.write(fd, b"abc", b"def") == (0, 6)
    assert guest.raw("fd_sync", fd) == 0
    assert guest.pread(fd, 2, 1) == (0, b"bc")
    assert (inside / "new").read_bytes() == b"abcdef"
    _, fd = guest.open("data/new", 0, READ_ONLY)
    assert guest.read(fd, 99) == (0, b"abcdef")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (".::/data", (".", "/data", False)),
        ("/srv/x::data::ro", ("/srv/x", "data", True)),
        ("lib", ("lib", "lib", False)),
    ],
)
def test_grants_as_text(text: str, parsed: tuple[str, str, bool]) -> None:
    assert parse_grant(text) == parsed


@pytest.mark.parametrize("text", ["", "::x", "a::", "a::b::c", "a::b::ro::ro"])
def test_texts_that_grant_nothing(text: str) -> None:
    with pytest.raises(CallFailed):
        parse_grant(text)


def test_agents_that_append_at_once_lose_nothing(inside: Path) -> None:
    grant = HostGrant(inside, "/data")
    line = b"x" * 40 + b"\n"

    def visit() -> None:
        guest = Virtual(grants={"/data": grant})
        _, fd = guest.open("log", CREAT, READ_WRITE, APPEND, fd=4)
        for _ in range(200):
            assert guest.write(fd, line) == (0, len(line))
        guest.state.close()

    threads = [threading.Thread(target=visit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside / "log").read_bytes() == line * 800


def test_listings_in_memory_are_few(inside: Path) -> None:
    for name in range(300):
        (inside / f"file-{name:03}").touch()
    guest = Virtual(grants={"/data": HostGrant(inside, "/data")})
    fds = [guest.open(".", O_DIRECTORY, DIRECTORY, fd=4)[1] for _ in range(40)]
    firsts = [guest.readdir(fd, 2000)[1] for fd in fds]
    things = [guest.state.table.open[fd].directory for fd in fds]
    assert sum(thing.listed is not None for thing in things) <= 16
    for fd, lines in zip(fds, firsts, strict=True):  # reading on works where the listing was forgotten
        names = [name for _, _, name in lines]
        while lines:
            _, lines = guest.readdir(fd, 2000, lines[-1][0])
            names += [name for _, _, name in lines]
        assert len(names) == len(set(names)) == 304


def test_a_grant_that_is_closed_opens_nothing(inside: Path) -> None:
    grant = HostGrant(inside, "/data")
    guest = Virtual(grants={"/data": grant})
    grant.close()
    other = os.open(inside.parent, os.O_RDONLY)  # it may get the number that was the directory's
    try:
        assert guest.open("f", fd=4)[0] == EIO
        assert guest.open("data/f")[0] == EIO
        assert guest.listing("", fd=4) == []
    finally:
        os.close(other)


def test_a_directory_for_reading_is_not_synced(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for read_only in (True, False):
        guest = Virtual(grants={"/data": HostGrant(inside, "/data", read_only=read_only)})
        _, fd = guest.open("f", fd=4)
        assert guest.raw("fd_sync", fd) == 0
        assert len(synced) == (0 if read_only else 1)
