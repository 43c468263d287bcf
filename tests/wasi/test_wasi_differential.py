"""The virtual WASI against wasmtime's own: the same calls, step by step, then the same tree of files.

wasmtime's WASI works on a host directory, ours on the luggage. Where the two differ on purpose, `DIFFERENT` says
so and why; anything else that differs fails.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.wasi.abi import DIRECTORY_RIGHTS, ENOTCAPABLE, FD_READ, FD_WRITE
from tests.thorough import examples

from .rig import READ_ONLY, READ_WRITE, Calls, Native, Virtual

TRAP = -1  # what wasmtime does with a number that no enumeration has
CREAT, O_DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
APPEND, NONBLOCK = 1, 4
FAILS = object()  # any errno

# (call, our errno, theirs): why. A pair of two failures means that the order of two checks differs.
DIFFERENT: dict[tuple[str, Any, Any], str] = {
    **{(call, FAILS, TRAP): "an unknown number is EINVAL here, a trap there"
       for call in ("fd_advise", "fd_seek", "fd_fdstat_set_flags")},
    **{(call, 0, 8): "POSIX: fsync and fcntl work on directories"
       for call in ("fd_sync", "fd_datasync", "fd_fdstat_set_flags")},
    ("fd_fdstat_set_flags", 28, 8): "see above",
    **{(call, 54, 8): "POSIX: a file in place of a directory descriptor is ENOTDIR"
       for call in ("path_create_directory", "path_remove_directory", "path_unlink_file", "path_symlink", "path_link",
                    "path_rename", "path_filestat_get", "path_readlink", "fd_readdir", "path_filestat_set_times")},
    ("path_remove_directory", 0, 28): "POSIX: rmdir of `d/` removes `d`",
    ("path_open", 54, 31): "creating at `file/`: ENOTDIR here, EISDIR there",
    ("path_open", 20, 31): "creating at `directory/`, and only if it is new: EEXIST here, EISDIR there",
    ("path_open", 63, 31): "a link out of the directory at `link/`",
    ("path_create_directory", 54, 20): "mkdir of `file/`: ENOTDIR here, EEXIST there",
    **{(call, ours, theirs): "which of two reasons comes first"
       for call in ("path_rename", "path_link")
       for ours, theirs in itertools.permutations((44, 54, 63, 10, 31, 20, 28, 32), 2)},
    ("path_open", 32, 63): "which of two reasons comes first",
    **{(call, 8, 0): "POSIX: a file opened for reading is not written, also when it was created so"
       for call in ("fd_write", "fd_pwrite")},
    ("fd_write", 51, 22): "one bound for all files: ENOSPC",
    ("fd_pwrite", 51, 22): "one bound for all files: ENOSPC",
}  # fmt: skip


@pytest.fixture(scope="module")
def new_pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Virtual, Native]]:
    def make() -> tuple[Virtual, Native]:
        return Virtual(), Native(tmp_path_factory.mktemp("root"))

    return make


def of_native(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (wasmtime.Trap, wasmtime.WasmtimeError):
        return TRAP


def comparable(method: str, answer: Any) -> Any:
    """An answer without what rightly differs: times, a directory's size and links, cookies, numbers of descriptors."""
    if isinstance(answer, int):
        return answer
    error, value = answer
    if error:
        return error
    if method in ("stat", "fstat"):
        kind, links, size, *_ = value
        return 0, kind, *((links, size) if kind != 3 else ())
    if method == "readdir":
        return 0, sorted((kind, name) for _, kind, name in value)
    if method == "open":
        return 0
    return answer


def allowed(call: str, ours: Any, theirs: Any) -> bool:
    ours, theirs = (x[0] if isinstance(x, tuple) else x for x in (ours, theirs))
    return (call, ours, theirs) in DIFFERENT or (ours != 0 and (call, FAILS, theirs) in DIFFERENT)


CALLED = {
    "open": "path_open", "mkdir": "path_create_directory", "rmdir": "path_remove_directory",
    "unlink": "path_unlink_file", "symlink": "path_symlink", "readlink": "path_readlink", "link": "path_link",
    "rename": "path_rename", "stat": "path_filestat_get", "readdir": "fd_readdir",
    "set_times": "path_filestat_set_times",
}  # fmt: skip


class Both:
    """Runs each step on both guests and compares; descriptors are named by the order in which they were opened."""

    def __init__(self, pair: tuple[Virtual, Native]) -> None:
        self.ours, self.theirs = pair
        self.fds: list[tuple[int, int]] = [(3, 3)]  # ours, theirs
        self.parted = False

    def fd(self, index: int) -> tuple[int, int]:
        return self.fds[index] if index < len(self.fds) else (1000, 1000)

    def step(self, method: str, args: tuple[Any, ...], fds: dict[str, int]) -> None:
        if method in ("pwrite", "write") and self.appends(fds["fd"]) and method == "pwrite":
            return  # Linux appends, POSIX says offset
        ours_fds = {name: self.fd(index)[0] for name, index in fds.items()}
        theirs_fds = {name: self.fd(index)[1] for name, index in fds.items()}
        call = CALLED.get(method, method if method.startswith("fd_") else f"fd_{method}")
        ours = perform(self.ours, method, args, ours_fds)
        theirs = of_native(lambda: perform(self.theirs, method, args, theirs_fds))
        if method == "open" and ours[0] == 0 and theirs[0] == 0:
            self.fds.append((ours[1], theirs[1]))
        if method == "close" and ours == 0:
            del self.fds[fds["fd"]]
        a, b = comparable(method, ours), comparable(method, theirs)
        if a != b:
            error_a, error_b = (x[0] if isinstance(x, tuple) else x for x in (a, b))
            # A directory that was opened with the rights of a file: wasmtime's asks for no rights on it.
            lacks = call.startswith("path_") and error_a == ENOTCAPABLE and any(fds.values())
            assert lacks or allowed(call, a, b), f"{method}{args} {fds}: {ours} here, {theirs} there"
            self.parted = self.parted or (0 in (error_a, error_b) and "sync" not in call and "flags" not in call)

    def appends(self, index: int) -> bool:
        error, stat = self.ours.fdstat(self.fd(index)[0])
        return not error and bool(stat[1] & APPEND)

    def finish(self) -> None:
        assert tree(self.ours) == tree(self.theirs)


def perform(guest: Calls, method: str, args: tuple[Any, ...], fds: dict[str, int]) -> Any:
    if method.startswith("fd_"):
        return guest.raw(method, fds["fd"], *args)
    if method == "set_times":
        path, follow, which = args
        return guest.raw("path_filestat_set_times", fds["fd"], int(follow), *guest.put_path(path), 7, 8, which)
    if method in ("write", "read", "pwrite", "pread", "seek", "tell", "close", "readdir", "fstat"):
        return getattr(guest, method)(fds["fd"], *args)
    return getattr(guest, method)(*args, **fds)


def tree(guest: Calls, at: str = "") -> dict[str, Any]:
    """Everything in the file system: kinds, contents, texts of links."""
    found: dict[str, Any] = {}
    for name in guest.listing(at or "."):
        path = f"{at}/{name.decode()}".lstrip("/")
        if name in (b".", b".."):
            continue
        kind = guest.stat(path)[1][0]
        found[path] = (
            kind,
            {3: lambda p: None, 4: guest.contents, 7: lambda p: guest.readlink(p)[1]}[kind](path),
        )
        if kind == 3:
            found.update(tree(guest, path))
    return found


paths = st.sampled_from(
    "a b d d/e d/f l m k d/.. d/../a l/ a/ d/ n/ d/e/ ./a l/e d/. .. /a m/f d/l ../a d//f |".replace("|", "").split(" ")
)
texts = st.sampled_from(["a", "d", "../a", "d/e", "l", "/a", "..", "nope", "d/", "./d"])
files = st.integers(0, 4)
directories = st.sampled_from([0, 0, 0, 0, 1, 2])
opens = st.tuples(
    paths,
    st.sampled_from([0, 0, 0, CREAT, CREAT, CREAT, CREAT | TRUNC, O_DIRECTORY, TRUNC, CREAT | EXCL]),
    st.sampled_from([READ_ONLY, READ_WRITE, READ_WRITE]),
    st.sampled_from([0, 0, 0, APPEND]),
)


def step(method: str, *args: st.SearchStrategy[Any], **fds: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(method), st.tuples(*args), st.fixed_dictionaries(fds))


steps = st.one_of(
    st.tuples(st.just("open"), opens, st.fixed_dictionaries({"fd": directories})),
    st.tuples(st.just("open"), opens, st.fixed_dictionaries({"fd": directories})),
    step("mkdir", paths, fd=directories),
    step("rmdir", paths, fd=directories),
    step("unlink", paths, fd=directories),
    step("symlink", texts, paths, fd=directories),
    step("readlink", paths, fd=directories),
    step("link", paths, paths, fd=directories, new_fd=directories),
    step("rename", paths, paths, fd=directories, new_fd=directories),
    step("rename", paths, paths, fd=directories, new_fd=directories),
    step("stat", paths, st.booleans(), fd=directories),
    step("set_times", paths, st.booleans(), st.sampled_from([5, 1, 4, 3, 10]), fd=directories),
    step("write", st.binary(max_size=9), fd=files),
    step("write", st.binary(max_size=9), fd=files),
    step("read", st.integers(0, 9), fd=files),
    step("pwrite", st.binary(max_size=3), st.integers(0, 12), fd=files),
    step("pread", st.integers(0, 9), st.integers(0, 12), fd=files),
    step("seek", st.sampled_from([0, 1, -1, 5, -20, 1 << 40]), st.integers(0, 3), fd=files),
    step("fstat", fd=files),
    step("tell", fd=files),
    step("readdir", fd=files),
    step("close", fd=st.integers(1, 4)),
    step("fd_filestat_set_size", st.sampled_from([0, 1, 5, 20]), fd=files),
    step("fd_fdstat_set_flags", st.sampled_from([0, APPEND, NONBLOCK, 2, 40]), fd=files),
    step("fd_filestat_set_times", st.just(5), st.just(6), st.sampled_from([5, 1, 4, 2, 8, 3, 12]), fd=files),
    step("fd_sync", fd=files),
    step("fd_datasync", fd=files),
    step("fd_advise", st.just(0), st.just(4), st.sampled_from([0, 3, 6]), fd=files),
)


def test_a_directory_opened_without_rights_to_paths_opens_none(
    new_pair: Callable[[], tuple[Virtual, Native]],
) -> None:
    both = Both(new_pair())
    both.step("mkdir", ("a",), {"fd": 0})
    both.step("open", ("a", 0, READ_ONLY, 0), {"fd": 0})
    both.step("open", ("a", 0, READ_ONLY, 0), {"fd": 1})
    assert both.ours.open("a", fd=both.fd(1)[0]) == (ENOTCAPABLE, -1)


# The same sequences each time: other differences are found by who looks for them, with more of them.
@settings(max_examples=examples(40), suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(steps, min_size=5, max_size=50))
def test_any_sequence_of_calls_does_the_same(
    new_pair: Callable[[], tuple[Virtual, Native]], sequence: list[Any]
) -> None:
    both = Both(new_pair())
    for method, args, fds in sequence:
        if (method == "seek" and args == (1 << 40, 2)) or (method == "write" and both.parted):
            continue
        both.step(method, args, fds)
        if both.parted:
            return
    both.finish()


def scripted(new_pair: Callable[[], tuple[Virtual, Native]], script: Callable[[Calls], list[Any]]) -> list[Any]:
    ours, theirs = new_pair()
    here, there = script(ours), script(theirs)
    assert here == there
    assert tree(ours) == tree(theirs)
    return here


def test_append_truncate_and_holes(new_pair: Callable[[], tuple[Virtual, Native]]) -> None:
    def script(guest: Calls) -> list[Any]:
        guest.make("f", b"0123456789")
        _, a = guest.open("f", 0, READ_WRITE, APPEND)
        _, b = guest.open("f", 0, READ_WRITE)
        done: list[Any] = [
            guest.write(a, b"ab"), guest.tell(a), guest.read(b, 20), guest.seek(b, 3, 0), guest.write(b, b"", b"XYZ"),
            guest.tell(b), guest.raw("fd_filestat_set_size", b, 4), guest.write(b, b"!"), guest.contents("f"),
            guest.pread(b, 5, 2), guest.pwrite(b, b"??", 9), guest.tell(b), guest.contents("f"),
            guest.raw("fd_fdstat_set_flags", a, 0), guest.seek(a, 0, 0), guest.write(a, b"-"), guest.contents("f"),
            guest.seek(a, -1, 0), guest.seek(a, -2, 2), guest.seek(a, 100, 1), guest.read(a, 5), guest.write(a, b""),
            guest.fstat(a)[1][2], guest.raw("fd_filestat_set_size", a, 200), guest.fstat(a)[1][2],
        ]  # fmt: skip
        return done

    done = scripted(new_pair, script)
    assert done[8] == b"012X" + b"\0\0!"
    assert done[-1] == 200


def test_readdir_in_small_pieces_and_from_any_cookie(new_pair: Callable[[], tuple[Virtual, Native]]) -> None:
    def script(guest: Calls) -> list[Any]:
        names = [f"file-{index:03}" for index in range(40)]
        for name in names:
            guest.make(name, name.encode())
        guest.mkdir("folder")
        done: list[Any] = [guest.listing(), guest.listing(".")]
        seen, cookie = [], 0
        while True:
            error, lines = guest.readdir(3, 24 + 8 + 5, cookie)  # room for one line and a part of the next
            assert error == 0
            if not lines:
                break
            cookie = lines[0][0]
            seen.append(lines[0][2])
            again = guest.readdir(3, 60, lines[0][0])[1]
            assert again == guest.readdir(3, 60, lines[0][0])[1]
        done.append(sorted(seen))
        done.append(guest.readdir(3, 0)[1])
        done.append(guest.raw("fd_readdir", 3, 65536, 10, 0, 16))
        done.append(guest.number())  # a cut line fills the buffer
        return done

    scripted(new_pair, script)


def test_arguments_environment_and_their_sizes(tmp_path: Path) -> None:
    args, environ = ["agent", "", "zwölf", "a b"], [("A", "1"), ("EMPTY", ""), ("Ü", "é=ö")]
    ours = Virtual(args=args, environ=dict(environ))
    theirs = Native(tmp_path, args, environ)
    for kind in ("args", "environ"):
        answers = []
        for guest in (ours, theirs):
            assert guest.raw(f"{kind}_sizes_get", 16, 20) == 0
            count, size = guest.number(16), guest.number(20)
            assert guest.raw(f"{kind}_get", 1024, 4096) == 0
            pointers = [guest.number(1024 + 4 * index) for index in range(count)]
            answers.append((count, size, pointers, guest.get(4096, size)))
        assert answers[0] == answers[1]


def test_clocks_random_sockets_and_processes(new_pair: Callable[[], tuple[Virtual, Native]]) -> None:
    def script(guest: Calls) -> list[Any]:
        done: list[Any] = []
        for clock in (0, 1, 2, 3):
            done.append(guest.raw("clock_res_get", clock, 16))
            done.append(guest.raw("clock_time_get", clock, 1, 16))
        assert guest.raw("clock_time_get", 1, 1, 16) == 0
        first = guest.number(16, 8)
        assert guest.raw("clock_time_get", 1, 1, 16) == 0
        done.append(guest.number(16, 8) >= first)
        done += [guest.raw("random_get", 1024, 0), guest.raw("random_get", 1024, 64)]
        for fd in (0, 3, 99):
            done += [
                guest.raw("sock_accept", fd, 0, 16),
                guest.raw("sock_recv", fd, 32, 0, 0, 16, 20),
                guest.raw("sock_send", fd, 32, 0, 0, 16),
                guest.raw("sock_shutdown", fd, 1),
            ]
        done.append(guest.raw("proc_raise", 1))
        return done

    scripted(new_pair, script)


def test_preopens_renumber_close_and_prestat(new_pair: Callable[[], tuple[Virtual, Native]]) -> None:
    def script(guest: Calls) -> list[Any]:
        guest.make("f", b"one")
        guest.make("g", b"two")
        (_, f), (_, g) = guest.open("f"), guest.open("g")
        done: list[Any] = [
            guest.raw("fd_prestat_get", 3, 64),
            guest.get(64, 8),
            guest.raw("fd_prestat_get", f, 64),
        ]
        done += [
            guest.raw("fd_prestat_get", 77, 64),
            guest.raw("fd_prestat_dir_name", 3, 64, 1),
            guest.get(64, 1),
        ]
        done += [guest.raw("fd_prestat_dir_name", 3, 64, 0), guest.raw("fd_prestat_dir_name", f, 64, 9)]
        done += [
            guest.raw("fd_renumber", f, g),
            guest.read(g, 9),
            guest.read(f, 9),
            guest.raw("fd_renumber", g, g),
        ]
        done += [
            guest.raw("fd_renumber", g, 99),
            guest.raw("fd_renumber", 99, g),
            guest.close(g),
            guest.close(g),
        ]
        done += [guest.close(99), guest.tell(3), guest.seek(3, 0, 0), guest.seek(1, 0, 0), guest.tell(0)]
        done += [
            guest.read(3, 4),
            guest.write(3, b"x"),
            guest.read(1, 4),
            guest.write(0, b"x"),
            guest.pread(0, 1, 0),
        ]
        return done

    scripted(new_pair, script)


def test_kinds_and_flags_of_descriptors(new_pair: Callable[[], tuple[Virtual, Native]]) -> None:
    def script(guest: Calls) -> list[Any]:
        guest.make("f", b"abc")
        guest.mkdir("d")
        done: list[Any] = [guest.fdstat(99), guest.fdstat(3)[1][:2]]
        for flags in (0, APPEND, NONBLOCK, APPEND | NONBLOCK):
            error, fd = guest.open("f", 0, READ_WRITE, flags)
            kind, kept, base, _ = guest.fdstat(fd)[1]
            done.append((error, kind, kept, bool(base & FD_READ), bool(base & FD_WRITE)))
            done.append((guest.raw("fd_fdstat_set_flags", fd, flags ^ APPEND), guest.fdstat(fd)[1][1]))
        error, fd = guest.open("f")
        base = guest.fdstat(fd)[1][2]
        done.append((error, bool(base & FD_READ), bool(base & FD_WRITE)))
        error, fd = guest.open("d", O_DIRECTORY, DIRECTORY_RIGHTS)
        done.append((error, guest.fdstat(fd)[1][:2], guest.fstat(fd)[1][0]))
        return done

    scripted(new_pair, script)


def test_an_open_file_outlives_its_name(new_pair: Callable[[], tuple[Virtual, Native]]) -> None:
    def script(guest: Calls) -> list[Any]:
        guest.make("f", b"still here")
        _, fd = guest.open("f", 0, READ_WRITE)
        guest.mkdir("d")
        _, folder = guest.open("d", O_DIRECTORY, DIRECTORY_RIGHTS)
        done: list[Any] = [
            guest.unlink("f"),
            guest.open("f"),
            guest.read(fd, 5),
            guest.write(fd, b"!!!"),
            guest.seek(fd, 0, 0),
        ]
        done += [
            guest.read(fd, 20),
            guest.fstat(fd)[1][1:3],
            guest.rmdir("d"),
            guest.open("x", CREAT, READ_WRITE, fd=folder),
        ]
        done += [guest.mkdir("x", fd=folder), guest.fstat(folder)[0], guest.close(fd), guest.close(folder)]
        guest.make("f", b"new")
        done += [guest.contents("f")]
        return done

    scripted(new_pair, script)


def test_links_in_every_position(new_pair: Callable[[], tuple[Virtual, Native]]) -> None:
    def script(guest: Calls) -> list[Any]:
        guest.mkdir("d")
        guest.make("d/f", b"f")
        done: list[Any] = [
            guest.symlink("d", "to-d"),
            guest.symlink("f", "d/to-f"),
            guest.symlink("to-d/to-f", "far"),
        ]
        done += [
            guest.symlink("loop", "loop"),
            guest.symlink("gone", "dangling"),
            guest.symlink("../d/f", "d/up"),
        ]
        done += [guest.symlink("../../d", "out"), guest.symlink("d/f/", "slash"), guest.symlink("", "empty")]
        for path in (
            "to-d/f",
            "far",
            "loop",
            "dangling",
            "d/up",
            "out",
            "slash",
            "to-d",
            "to-d/",
            "far/",
            "loop/x",
        ):
            for follow in (False, True):
                error, stat = guest.stat(path, follow)
                done.append((path, follow, error, stat[:1]))
                done.append((path, follow, guest.open(path, follow=follow)[0]))
        done += [guest.contents("far"), guest.open("dangling", CREAT | EXCL, READ_WRITE)[0]]
        done += [
            guest.open("dangling", CREAT, READ_WRITE)[0],
            guest.stat("gone")[0],
            guest.readlink("far", 3),
        ]
        done += [
            guest.link("far", "hard"),
            guest.readlink("hard"),
            guest.rename("far", "near"),
            guest.readlink("near"),
        ]
        done += [
            guest.unlink("to-d"),
            guest.rmdir("loop"),
            guest.unlink("d"),
            guest.readlink("d"),
            guest.readlink("x"),
        ]
        return done

    scripted(new_pair, script)


def test_polls_that_need_not_wait(new_pair: Callable[[], tuple[Virtual, Native]]) -> None:
    def subscription(userdata: int, kind: int, which: int, timeout: int = 0, flags: int = 0) -> bytes:
        return struct.pack("<QB7xI4xQQH6x", userdata, kind, which, timeout, 0, flags)

    def script(guest: Calls) -> list[Any]:
        guest.make("f", b"abc")
        _, fd = guest.open("f", 0, READ_WRITE)
        done: list[Any] = []
        for wanted in (
            [subscription(1, 0, 1, 0)],
            [subscription(2, 0, 0, 1, 1)],
            [subscription(3, 2, 1)],
            [subscription(4, 1, fd)],
            [subscription(5, 2, fd)],
            [],
        ):
            guest.put(1024, b"".join(wanted))
            error = guest.raw("poll_oneoff", 1024, 2048, len(wanted), 16)
            count = guest.number() if not error else 0
            events = [struct.unpack("<QHB", guest.get(2048 + 32 * index, 11)) for index in range(count)]
            done.append((error, events))
        return done

    scripted(new_pair, script)


def test_paths_with_every_impossible_byte(new_pair: Callable[[], tuple[Virtual, Native]]) -> None:
    impossible = [
        b"\xff",
        b"a\xc3",
        b"\xed\xa0\x80",
        b"a\0b",
        b"n" * 256,
        "é".encode() * 128,
        b"",
        b"/",
        b"/x",
        b"x/" * 3000,
    ]
    fine = [
        b"n" * 255,
        "é".encode() * 127,
        "日本語".encode(),
        b"with space",
        b"-",
        b"\x01\x7f",
        b"...",
        b".hidden",
    ]

    def script(guest: Calls) -> list[Any]:
        done: list[Any] = [(guest.mkdir(path), guest.open(path)[0], guest.stat(path)[0]) for path in impossible]
        return done + [(guest.mkdir(path), guest.stat(path)[0]) for path in fine]

    done = scripted(new_pair, script)
    assert all(0 not in errors for errors in done[: len(impossible)])
    assert all(errors == (0, 0) for errors in done[len(impossible) :])


def test_a_read_right_that_is_missing_is_as_posix_has_it() -> None:
    guest = Virtual(files={"f": b"abc"})
    _, fd = guest.open("f", 0, READ_WRITE & ~FD_READ)
    assert guest.read(fd, 1)[0] == 8
