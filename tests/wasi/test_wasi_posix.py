"""What POSIX expects of files, in the luggage and in a granted host directory alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.wasi.abi import (
    ALL_RIGHTS,
    DIRECTORY_RIGHTS,
    EACCES,
    EBADF,
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    EMFILE,
    ENOENT,
    ENOTCAPABLE,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    ESPIPE,
    EXDEV,
    FD_READ,
    FD_SEEK,
    FD_TELL,
    FD_WRITE,
    PATH_CREATE_FILE,
    PATH_OPEN,
    PATH_UNLINK_FILE,
)
from agents.wasi.hostdirs import HostGrant
from agents.wasi.limits import WasiLimits

from .rig import READ_ONLY, READ_WRITE, Virtual

CREAT, O_DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
APPEND = 1
SET, CUR, END = 0, 1, 2


class Place(Virtual):
    """A guest whose paths start at one descriptor: the luggage's root or a granted directory."""

    base = 3

    def make(self, path: str, data: bytes = b"") -> None:
        error, fd = self.at(path, CREAT | TRUNC, READ_WRITE)
        assert error == 0
        assert self.write(fd, data) == (0, len(data))
        assert self.close(fd) == 0

    def at(self, path: str, oflags: int = 0, rights: int = READ_ONLY, flags: int = 0) -> tuple[int, int]:
        return self.open(path, oflags, rights, flags, fd=self.base)

    def text(self, path: str) -> bytes:
        error, fd = self.at(path)
        assert error == 0
        data: bytes = self.read(fd, 60_000)[1]
        self.close(fd)
        return data

    def kind(self, path: str) -> int:
        error, stat = self.stat(path, fd=self.base)
        return -1 if error else stat[0]


@pytest.fixture(params=["luggage", "host"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "luggage":
        yield Place()
        return
    guest = Place(grants={"/data": HostGrant(tmp_path, "/data")})
    guest.base = 4
    yield guest
    guest.state.close()


def test_an_appending_descriptor_writes_at_the_end_wherever_it_was(place: Place) -> None:
    place.make("f", b"abc")
    _, fd = place.at("f", 0, READ_WRITE, APPEND)
    assert place.seek(fd, 0, SET) == (0, 0)
    assert place.write(fd, b"de") == (0, 2)
    assert place.tell(fd) == (0, 5)
    assert place.seek(fd, 1, SET) == (0, 1)
    assert place.read(fd, 2) == (0, b"bc")
    assert place.text("f") == b"abcde"
    assert place.pwrite(fd, b"XY", 0) == (0, 2)  # pwrite goes where it says
    assert place.text("f") == b"XYcde"


def test_truncation_leaves_offsets_alone_and_growth_is_zeros(place: Place) -> None:
    place.make("f", b"0123456789")
    _, fd = place.at("f", 0, READ_WRITE)
    place.seek(fd, 8, SET)
    assert place.raw("fd_filestat_set_size", fd, 3) == 0
    assert place.tell(fd) == (0, 8)
    assert place.read(fd, 4) == (0, b"")
    assert place.write(fd, b"z") == (0, 1)
    assert place.text("f") == b"012\0\0\0\0\0z"
    assert place.raw("fd_filestat_set_size", fd, 12) == 0
    assert place.text("f") == b"012\0\0\0\0\0z\0\0\0"
    assert place.raw("fd_allocate", fd, 4, 4) == 0
    assert place.fstat(fd)[1][2] == 12
    assert place.raw("fd_allocate", fd, 10, 10) == 0
    assert place.fstat(fd)[1][2] == 20
    assert place.raw("fd_allocate", fd, 0, 0) == EINVAL
    place.close(fd)
    _, fd = place.at("f", TRUNC, READ_WRITE)
    assert place.fstat(fd)[1][2] == 0


def test_seeking(place: Place) -> None:
    place.make("f", b"0123456789")
    _, fd = place.at("f", 0, READ_WRITE)
    assert place.seek(fd, -3, END) == (0, 7)
    assert place.read(fd, 9) == (0, b"789")
    assert place.seek(fd, -4, CUR) == (0, 6)
    assert place.seek(fd, 100, SET) == (0, 100)
    assert place.read(fd, 1) == (0, b"")
    assert place.seek(fd, -1, SET)[0] == EINVAL
    assert place.seek(fd, -11, END)[0] == EINVAL
    assert place.seek(fd, 0, 3)[0] == EINVAL
    assert place.tell(fd) == (0, 100)
    assert place.seek(1, 0, CUR)[0] == ESPIPE
    assert place.tell(2)[0] == ESPIPE
    assert place.seek(place.base, 0, SET)[0] == EBADF


def test_vectors_are_read_and_written_whole(place: Place) -> None:
    place.make("f")
    _, fd = place.at("f", 0, READ_WRITE)
    assert place.write(fd, b"ab", b"", b"cde", b"f") == (0, 6)
    place.seek(fd, 0, SET)
    assert place.read(fd, 1, 0, 3, 40) == (0, b"abcdef")
    assert place.read(fd, 5) == (0, b"")
    assert place.pread(fd, 3, 2) == (0, b"cde")
    assert place.raw("fd_pread", fd, 32, 1, -1, 16) == EINVAL
    assert place.raw("fd_pread", 0, 32, 1, 0, 16) == ESPIPE
    assert place.raw("fd_pwrite", 1, 32, 1, 0, 16) == ESPIPE


def test_renaming(place: Place) -> None:
    base = {"fd": place.base, "new_fd": place.base}
    place.make("f", b"f")
    place.make("g", b"g")
    _, held = place.at("g")
    assert place.rename("f", "g", **base) == 0
    assert place.text("g") == b"f"
    assert place.read(held, 5) == (0, b"g")  # the replaced file lives while it is open
    assert place.rename("f", "h", **base) == ENOENT
    assert place.rename("g", "g", **base) == 0
    for folder in ("d", "d/e", "empty"):
        assert place.mkdir(folder, fd=place.base) == 0
    place.make("d/e/x", b"x")
    assert place.rename("d", "d/e/inside", **base) == EINVAL
    assert place.rename("d", "g", **base) == ENOTDIR
    assert place.rename("g", "d", **base) == EISDIR
    assert place.rename("empty", "d", **base) == ENOTEMPTY
    assert place.rename("d", "empty", **base) == 0
    assert place.text("empty/e/x") == b"x"
    assert place.kind("d") == -1
    assert place.rename("g", "new/", **base) in (ENOTDIR, ENOENT)
    assert place.rename(".", "elsewhere", **base) in (EBUSY, EINVAL)
    assert place.link("g", "g2", **base) == 0
    assert place.rename("g", "g2", **base) == 0  # two names of one file: nothing happens
    assert {place.kind("g"), place.kind("g2")} == {4}


def test_hard_links_share_everything(place: Place) -> None:
    base = {"fd": place.base, "new_fd": place.base}
    place.make("f", b"one")
    assert place.link("f", "g", **base) == 0
    assert place.stat("g", fd=place.base)[1][1] == 2
    _, fd = place.at("g", 0, READ_WRITE)
    place.write(fd, b"TWO")
    assert place.text("f") == b"TWO"
    assert place.unlink("f", fd=place.base) == 0
    assert place.text("g") == b"TWO"
    assert place.link("g", "g", **base) == EEXIST
    place.mkdir("d", fd=place.base)
    assert place.link("d", "d2", **base) == EPERM
    assert place.link("nothing", "x", **base) == ENOENT


def test_removing(place: Place) -> None:
    place.mkdir("d", fd=place.base)
    place.make("d/f")
    assert place.rmdir("d", fd=place.base) == ENOTEMPTY
    assert place.unlink("d", fd=place.base) == EISDIR
    assert place.rmdir("d/f", fd=place.base) == ENOTDIR
    assert place.unlink("d/f", fd=place.base) == 0
    assert place.unlink("d/f", fd=place.base) == ENOENT
    assert place.rmdir("d/.", fd=place.base) == EINVAL
    assert place.rmdir("d/", fd=place.base) == 0
    assert place.rmdir("d", fd=place.base) == ENOENT


def test_opening(place: Place) -> None:
    assert place.at("f")[0] == ENOENT
    assert place.at("f", CREAT | EXCL, READ_WRITE)[0] == 0
    assert place.at("f", CREAT | EXCL, READ_WRITE)[0] == EEXIST
    assert place.at("f", CREAT, READ_WRITE)[0] == 0
    assert place.at("f", O_DIRECTORY)[0] == ENOTDIR
    assert place.at("f/")[0] == ENOTDIR
    assert place.at("f/x")[0] == ENOTDIR
    place.mkdir("d", fd=place.base)
    assert place.at("d", 0, READ_WRITE)[0] == EISDIR
    assert place.at("d", O_DIRECTORY, DIRECTORY_RIGHTS)[0] == 0
    assert place.at("d", CREAT | O_DIRECTORY)[0] == EINVAL
    assert place.at("nowhere/f", CREAT, READ_WRITE)[0] == ENOENT
    place.symlink("f", "l", fd=place.base)
    assert place.open("l", fd=place.base, follow=False)[0] == ELOOP
    place.symlink("nothing", "dangling", fd=place.base)
    assert place.at("dangling", CREAT | EXCL, READ_WRITE)[0] == EEXIST
    assert place.at("dangling", CREAT, READ_WRITE)[0] == 0
    assert place.kind("nothing") == 4


def test_a_descriptor_reads_and_writes_only_as_it_was_opened(place: Place) -> None:
    place.make("f", b"abc")
    _, reads = place.at("f", 0, READ_WRITE & ~FD_WRITE)
    _, writes = place.at("f", 0, READ_WRITE & ~FD_READ)
    assert place.write(reads, b"x")[0] == EBADF
    assert place.read(writes, 1)[0] == EBADF
    assert place.write(writes, b"x") == (0, 1)
    _, still = place.at("f", 0, READ_WRITE & ~(FD_SEEK | FD_TELL))
    assert place.seek(still, 1, SET)[0] == ENOTCAPABLE
    assert place.tell(still)[0] == ENOTCAPABLE
    assert place.pread(still, 1, 0)[0] == ENOTCAPABLE
    assert place.read(still, 1) == (0, b"x")


def test_rights_only_become_fewer(place: Place) -> None:
    place.make("f", b"abc")
    _, fd = place.at("f", 0, READ_WRITE)
    assert place.raw("fd_fdstat_set_rights", fd, FD_READ, 0) == 0
    assert place.write(fd, b"x")[0] == EBADF
    assert place.raw("fd_fdstat_set_rights", fd, FD_READ | FD_WRITE, 0) == ENOTCAPABLE
    assert place.fdstat(fd)[1][2:] == (FD_READ, 0)
    narrowed = DIRECTORY_RIGHTS & ~(PATH_CREATE_FILE | PATH_UNLINK_FILE)
    _, folder = place.open(".", O_DIRECTORY, narrowed, fd=place.base, inheriting=READ_WRITE & ~FD_WRITE)
    assert place.open("g", CREAT, READ_ONLY, fd=folder)[0] == ENOTCAPABLE
    assert place.unlink("f", fd=folder) == ENOTCAPABLE
    assert place.open("f", 0, READ_WRITE, fd=folder)[0] == ENOTCAPABLE
    assert place.open("f", 0, READ_ONLY, fd=folder, inheriting=0)[0] == 0
    assert place.raw("fd_fdstat_set_rights", folder, narrowed & ~PATH_OPEN, 0) == 0
    assert place.open("f", 0, READ_ONLY, fd=folder, inheriting=0)[0] == ENOTCAPABLE
    assert place.open("f", 0, ALL_RIGHTS + 1, fd=place.base)[0] == EINVAL


def test_cookies_survive_changes_while_a_listing_goes_on(place: Place) -> None:
    names = {f"f{index:02}".encode() for index in range(30)}
    for name in names:
        place.make(name.decode())
    seen, cookie = [], 0
    while True:
        _, lines = place.readdir(place.base, 200, cookie)
        if not lines:
            break
        for following, _, name in lines[:3]:
            cookie = following
            seen.append(name)
            if name in names:  # as `rm -r` does it
                assert place.unlink(name.decode(), fd=place.base) == 0
    assert sorted(seen) == sorted(names | {b".", b".."})
    assert place.readdir(place.base, 4096)[1][2:] == []


def test_a_listing_can_go_back(place: Place) -> None:
    for name in "abcdef":
        place.make(name)
    _, lines = place.readdir(place.base, 4096)
    cookies = {name: lines[index - 1][0] if index else 0 for index, (_, _, name) in enumerate(lines)}
    assert len(set(cookies.values())) == len(lines)
    for name, cookie in cookies.items():
        assert place.readdir(place.base, 60, cookie)[1][0][2] == name
    assert place.readdir(place.base, 4096, lines[-1][0])[1] == []
    assert place.readdir(place.base, 4096, (1 << 64) - 1) == (0, [])


def test_times(place: Place) -> None:
    place.make("f", b"x")
    path = place.put_path("f")
    assert place.raw("path_filestat_set_times", place.base, 0, *path, 111, 222, 1 | 4) == 0
    assert place.stat("f", fd=place.base)[1][3:5] == (111, 222)
    assert place.raw("path_filestat_set_times", place.base, 0, *path, 1, 333, 4) == 0
    assert place.stat("f", fd=place.base)[1][3:5] == (111, 333)
    _, fd = place.at("f", 0, READ_WRITE)
    assert place.raw("fd_filestat_set_times", fd, 444, 5, 1) == 0
    assert place.fstat(fd)[1][3:5] == (444, 333)
    assert place.raw("fd_filestat_set_times", fd, 0, 0, 2 | 8) == 0
    assert place.fstat(fd)[1][3:5] == (place.station.wall,) * 2
    assert place.raw("fd_filestat_set_times", fd, 0, 0, 1 | 2) == EINVAL
    assert place.raw("path_filestat_set_times", place.base, 0, *path, 0, 0, 4 | 8) == EINVAL
    place.raw("fd_filestat_set_times", fd, 0, 7, 4)
    place.write(fd, b"y")
    assert place.fstat(fd)[1][4] > 7


def test_new_descriptors_get_the_lowest_number(place: Place) -> None:
    place.make("f")
    fds = [place.at("f")[1] for _ in range(4)]
    assert fds == list(range(fds[0], fds[0] + 4))
    place.close(fds[2])
    place.close(fds[0])
    assert [place.at("f")[1], place.at("f")[1]] == [fds[0], fds[2]]
    assert place.raw("fd_renumber", fds[3], fds[1]) == 0
    assert place.at("f")[1] == fds[3]


def test_descriptors_run_out(tmp_path: Path) -> None:
    guest = Virtual(files={"f": b""}, limits=WasiLimits(descriptors=10))
    errors = [guest.open("f")[0] for _ in range(20)]
    assert errors == [0] * 6 + [EMFILE] * 14
    assert guest.open("g", CREAT, READ_WRITE)[0] == EMFILE
    assert guest.stat("g")[0] == ENOENT  # a file that cannot be opened is not made either
    guest.close(5)
    assert guest.open("f") == (0, 5)


def test_no_path_leads_out(place: Place) -> None:
    place.mkdir("d", fd=place.base)
    place.mkdir("d/e", fd=place.base)
    place.make("f", b"f")
    for path in ("..", "../f", "d/../..", "d/../../etc/passwd", "/", "/f", "/etc/passwd", "d/e/../../../f"):
        assert place.at(path)[0] == EPERM, path
        assert place.stat(path, fd=place.base)[0] == EPERM, path
        assert place.mkdir(path, fd=place.base) == EPERM, path
        assert place.unlink(path, fd=place.base) == EPERM, path
        assert place.rename("f", path, fd=place.base, new_fd=place.base) == EPERM, path
        assert place.link("f", path, fd=place.base, new_fd=place.base) == EPERM, path
    _, inner = place.at("d", O_DIRECTORY, DIRECTORY_RIGHTS)
    assert place.open("../f", fd=inner)[0] == EPERM  # nor out of a directory below
    assert place.open("e/../../f", fd=inner)[0] == EPERM
    assert place.symlink("/etc/passwd", "l", fd=place.base) == EPERM
    # Other programs of the host would follow it, wherever it is moved to; in the luggage there are none.
    climbing = place.symlink("../../../../etc/passwd", "l", fd=place.base)
    assert climbing == (0 if place.base == 3 else EPERM)
    assert place.at("l")[0] == (EPERM if place.base == 3 else ENOENT)
    assert place.at("d/e/../../f")[0] == 0


def test_links_are_expanded_a_bounded_number_of_times(place: Place) -> None:
    place.symlink("a", "a", fd=place.base)
    assert place.at("a")[0] == ELOOP
    place.make("end", b"end")
    before = "end"
    for index in range(40):
        place.symlink(before, f"l{index}", fd=place.base)
        before = f"l{index}"
    assert place.text("l20") == b"end"
    assert place.at("l39")[0] == ELOOP
    place.mkdir("d", fd=place.base)
    place.symlink("x1/x1", "d/x0", fd=place.base)
    for index in range(1, 30):  # each doubles: a billion steps if nothing counted
        place.symlink(f"x{index + 1}/x{index + 1}", f"d/x{index}", fd=place.base)
    assert place.at("d/x0")[0] in (ELOOP, ENOENT)


def test_nothing_moves_between_file_systems(tmp_path: Path) -> None:
    guest = Virtual(files={"f": b"f"}, grants={"/data": HostGrant(tmp_path, "/data")})
    (tmp_path / "g").write_bytes(b"g")
    assert guest.rename("f", "f", new_fd=4) == EXDEV
    assert guest.rename("g", "g", fd=4) == EXDEV
    assert guest.link("f", "f", new_fd=4) == EXDEV
    assert guest.rename("f", "data/f") == EXDEV
    assert guest.rename("f", "portcall/f") == EXDEV
    assert guest.contents("f") == b"f"


def test_streams_are_no_files() -> None:
    guest = Virtual(stdin=b"input")
    assert guest.read(0, 3) == (0, b"inp")
    assert guest.read(0, 30) == (0, b"ut")
    assert guest.read(0, 30) == (0, b"")
    assert guest.write(1, b"out") == (0, 3)
    assert guest.write(2, b"err") == (0, 3)
    assert guest.station.out == {1: b"out", 2: b"err"}
    assert guest.read(1, 1)[0] == EBADF
    assert guest.write(0, b"x")[0] == EBADF
    assert guest.raw("path_open", 1, 0, 1024, 1, 0, 0, 0, 0, 16) == ENOTDIR
    assert guest.fdstat(1)[1][0] == 2  # a terminal, so that C writes whole lines
    assert guest.close(0) == 0
    assert guest.read(0, 1)[0] == EBADF


def test_a_read_only_grant_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"f")
    guest = Place(grants={"/data": HostGrant(tmp_path, "/data", read_only=True)})
    guest.base = 4
    assert guest.text("f") == b"f"
    refused = {
        guest.at("f", 0, READ_WRITE)[0],
        guest.at("new", CREAT, READ_ONLY)[0],
        guest.at("f", TRUNC, READ_ONLY)[0],
        guest.mkdir("d", fd=4),
        guest.unlink("f", fd=4),
        guest.symlink("f", "l", fd=4),
        guest.link("f", "g", fd=4, new_fd=4),
        guest.rename("f", "g", fd=4, new_fd=4),
        guest.raw("path_filestat_set_times", 4, 0, *guest.put_path("f"), 0, 0, 10),
    }
    assert refused == {69}
    _, fd = guest.at("f")
    assert guest.raw("fd_filestat_set_size", fd, 0) == 69
    assert EACCES not in refused
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f"]
