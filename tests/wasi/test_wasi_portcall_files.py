"""The calls as files: what each file does when it is opened, read and written, also across a hop."""

from __future__ import annotations

from typing import Any

import pytest

from agents import hostcalls
from agents.errors import BadSnapshot, CallFailed
from agents.waits import (
    MAX_BODY_BYTES,
    Arrived,
    Call,
    Clone,
    Cloned,
    Failed,
    Go,
    GoAt,
    Message,
    Recv,
    Refused,
    Reply,
    Sleep,
    Suspend,
    TimedOut,
    Woke,
)
from agents.wasi.abi import (
    EACCES,
    EAGAIN,
    EEXIST,
    EHOSTUNREACH,
    EILSEQ,
    EINVAL,
    EISDIR,
    EMSGSIZE,
    ENAMETOOLONG,
    ENOENT,
    ENOSPC,
    ENOTDIR,
    EPERM,
    EROFS,
    ETIMEDOUT,
)
from agents.wasi.limits import WasiLimits
from agents.wasi.state import WasiState

from .rig import DIRECTORY, READ_ONLY, READ_WRITE, Station, Virtual

CREAT, TRUNC, EXCL = 1, 8, 4
NONBLOCK = 4


def opened(guest: Virtual, path: str, write: bool = False, flags: int = 0) -> int:
    error, fd = guest.open(f"portcall/{path}", CREAT | TRUNC if write else 0, READ_WRITE if write else READ_ONLY, flags)
    assert error == 0
    return fd


def read_all(guest: Virtual, fd: int, size: int = 4096) -> bytes:
    found = b""
    while chunk := guest.read(fd, size)[1]:
        found += chunk
    return found


def test_go_returns_from_the_write_at_the_destination() -> None:
    guest = Virtual()
    fd = opened(guest, "go", write=True)
    assert guest.write(fd, b"beta\n") == Suspend(Go("beta"))
    there = Station()
    there.station = "beta"
    guest = guest.hop(station=there)
    assert guest.resume(Arrived()) == 0
    assert guest.number() == 5
    assert guest.write(fd, b"\n") == (0, 1)  # a newline that comes apart does nothing
    assert guest.write(fd, b"") == (0, 0)
    assert read_all(guest, opened(guest, "here")) == b"beta"
    assert guest.write(fd, b"gamma") == Suspend(Go("gamma"))
    assert guest.resume(Refused(EACCES, "not you")) == EACCES
    assert guest.write(fd, b"gamma")  # and the agent may try again
    assert guest.close(fd) == 0


def test_go_with_impossible_names() -> None:
    guest = Virtual()
    fd = opened(guest, "go", write=True)
    assert guest.write(fd, b"\xff")[0] == EILSEQ
    assert guest.write(fd, b"n" * 1100)[0] == ENAMETOOLONG
    assert guest.write(fd, b"a\0b")[0] == EINVAL


def test_go_at_needs_an_entry_and_a_station() -> None:
    guest = Virtual()
    guest.ctx.has_export = lambda name: name == "arrive"
    assert guest.write(opened(guest, "go_at/arrive", write=True), b"beta") == Suspend(GoAt("beta", "arrive"))
    assert guest.resume(Refused(EHOSTUNREACH, "gone")) == EHOSTUNREACH
    assert guest.write(opened(guest, "go_at/nothing", write=True), b"beta")[0] == ENOENT


@pytest.mark.parametrize(("name", "text"), [("here", b"alpha"), ("me", b"agent-1"), ("next_stop", b"beta")])
def test_what_an_agent_can_ask(name: str, text: bytes) -> None:
    guest = Virtual()
    fd = opened(guest, name)
    assert guest.read(fd, 3) == (0, text[:3])
    assert read_all(guest, fd, 2) == text[3:]
    assert guest.read(fd, 9) == (0, b"")
    guest.station.station = guest.station.agent_id = guest.station.next_stop = "elsewhere"
    assert guest.seek(fd, 0, 0) == (0, 0)
    assert read_all(guest, fd) == b"elsewhere"
    assert guest.write(fd, b"x")[0] == 8


def test_an_answer_that_is_half_read_travels() -> None:
    guest = Virtual()
    fd = opened(guest, "here")
    assert guest.read(fd, 2) == (0, b"al")
    there = Station()
    there.station = "beta"
    assert read_all(guest.hop(station=there), fd) == b"pha"


def test_lookup_gives_one_station_a_line() -> None:
    guest = Virtual()
    assert read_all(guest, opened(guest, "lookup/thermometer")) == b"beta\ngamma"
    assert read_all(guest, opened(guest, "lookup/nothing")) == b""


def test_a_call_is_written_then_read() -> None:
    guest = Virtual()
    fd = opened(guest, "call/thermometer.read", write=True)
    assert guest.write(fd, b"in ") == (0, 3)
    assert guest.write(fd, b"celsius") == (0, 7)
    assert guest.seek(fd, 0, 0) == (0, 0)  # as C and Python do between writing and reading
    assert guest.read(fd, 2) == Suspend(Call("thermometer.read", b"in celsius"))
    assert guest.resume(Reply(b"21.5")) == 0
    assert guest.get(65536, guest.number()) == b"21"
    guest = guest.hop()
    assert read_all(guest, fd) == b".5"
    assert guest.read(fd, 9) == (0, b"")
    assert guest.seek(fd, 0, 0) == (0, 0)
    assert read_all(guest, fd) == b"21.5"  # the same reply; nothing is called twice
    assert guest.write(fd, b"in kelvin") == (0, 9)
    assert guest.read(fd, 100) == Suspend(Call("thermometer.read", b"in kelvin"))
    assert guest.resume(Failed(29, "broken")) == 29
    assert guest.read(fd, 100) == (0, b"")
    assert guest.write(fd, b"again") == (0, 5)
    assert guest.read(fd, 100) == Suspend(Call("thermometer.read", b"again"))


def test_a_call_of_a_service_with_a_slash_and_without_a_request() -> None:
    guest = Virtual()
    assert guest.read(opened(guest, "call/weather/today"), 9) == Suspend(Call("weather/today", b""))


def test_a_request_is_bounded() -> None:
    guest = Virtual()
    fd = opened(guest, "call/x", write=True)
    for _ in range(MAX_BODY_BYTES // 65536):
        assert guest.write(fd, b"x" * 65536) == (0, 65536)
    assert guest.write(fd, b"x")[0] == EMSGSIZE


def test_the_inbox_gives_one_message_and_an_end_each() -> None:
    guest = Virtual()
    fd = opened(guest, "inbox")
    assert guest.read(fd, 4) == Suspend(Recv(None))
    guest = guest.hop()
    assert guest.resume(Message("bob", b"hello")) == 0
    assert guest.get(65536, guest.number()) == b"hell"
    assert read_all(guest, fd) == b"o"
    assert read_all(guest, opened(guest, "sender")) == b"bob"
    assert guest.read(fd, 4) == Suspend(Recv(None))
    assert guest.resume(Message("eve", b"")) == 0
    assert guest.number() == 0
    assert guest.read(fd, 4) == Suspend(Recv(None))
    assert guest.resume(TimedOut()) == EAGAIN


def test_an_inbox_that_does_not_wait() -> None:
    guest = Virtual()
    fd = opened(guest, "inbox", flags=NONBLOCK)
    assert guest.read(fd, 4) == Suspend(Recv(0))
    assert guest.resume(TimedOut()) == EAGAIN
    assert guest.read(fd, 4) == Suspend(Recv(0))
    assert guest.resume(Message("bob", b"hi")) == 0
    assert guest.get(65536, guest.number()) == b"hi"


def test_an_inbox_that_waits_for_a_while() -> None:
    guest = Virtual()
    fd = opened(guest, "inbox/250")
    assert guest.read(fd, 4) == Suspend(Recv(250_000_000))
    guest = guest.hop()
    assert guest.resume(TimedOut()) == ETIMEDOUT
    assert guest.read(fd, 4) == Suspend(Recv(250_000_000))
    assert guest.resume(Message("bob", b"hi")) == 0
    assert guest.get(65536, guest.number()) == b"hi"
    for wrong in ("inbox/soon", "inbox/-1", "inbox/1/2", f"inbox/{1 << 31}", "inbox/" + "1" * 200):
        assert guest.open(f"portcall/{wrong}")[0] == ENOENT


def test_log_lines_have_levels() -> None:
    guest = Virtual()
    for path in ("log", "log/error", "log/detail"):
        assert guest.write(opened(guest, path, write=True), b"a\nb") == (0, 3)
    assert guest.station.logged == [(level, text) for level in (2, 0, 3) for text in ("a", "b")]
    assert guest.open("portcall/log/loud", CREAT, READ_WRITE)[0] == ENOENT


def test_a_message_that_an_import_could_not_give_is_read_from_the_inbox() -> None:
    guest = Virtual()
    guest.ctx.kept.message = Message("bob", b"long")
    assert read_all(guest, opened(guest, "inbox")) == b"long"
    assert guest.ctx.kept.message is None


def test_clone_tells_the_original_and_the_clone_apart() -> None:
    guest = Virtual()
    fd = opened(guest, "clone")
    assert guest.read(fd, 99) == Suspend(Clone())
    other = guest.hop()
    assert guest.resume(Cloned("agent-2")) == 0
    assert guest.get(65536, guest.number()) == b"agent-2"
    assert guest.read(fd, 99) == (0, b"")
    assert other.resume(Cloned(None)) == 0
    assert other.number() == 0
    assert other.read(fd, 99) == (0, b"")


def test_send_report_and_log() -> None:
    guest = Virtual()
    fd = opened(guest, "send/bob", write=True)
    assert guest.write(fd, b"one") == (0, 3)
    assert guest.write(fd, b"two") == (0, 3)
    assert guest.station.sent == [("bob", b"one"), ("bob", b"two")]
    assert guest.write(opened(guest, "send/nobody", write=True), b"x")[0] == ENOENT
    assert guest.write(opened(guest, "report/price", write=True), b"42") == (0, 2)
    assert guest.station.reported == [("price", b"42")]
    for path in ("send/bob", "report/none"):  # an interpreter may not pass on a write of nothing
        fd = opened(guest, path)
        assert (guest.read(fd, 9), guest.read(fd, 9)) == ((0, b""), (0, b""))
    assert guest.station.sent[2:] == [("bob", b"")]
    assert guest.station.reported[1:] == [("none", b"")]
    fd = opened(guest, "log", write=True)
    assert guest.write(fd, b"first\nsecond\n") == (0, 13)
    assert guest.write(fd, b"\n") == (0, 1)
    assert guest.write(fd, b"\xff third") == (0, 7)
    assert [text for _, text in guest.station.logged] == ["first", "second", "\ufffd third"]


def test_the_log_is_bounded() -> None:
    guest = Virtual(limits=WasiLimits(log_bytes=100))
    fd = opened(guest, "log", write=True)
    assert guest.write(fd, b"x" * 60) == (0, 60)
    assert guest.write(fd, b"x" * 60)[0] == ENOSPC
    assert guest.write(1, b"y" * 60) == (0, 40)  # one budget for all
    assert guest.write(1, b"y")[0] == ENOSPC
    assert guest.hop().write(1, b"y") == (0, 1)  # for each visit


def test_sleep_takes_milliseconds() -> None:
    guest = Virtual()
    fd = opened(guest, "sleep", write=True)
    assert guest.raw("clock_time_get", 1, 0, 64) == 0
    began = guest.number(64, 8)
    assert guest.write(fd, b"1500\n") == Suspend(Sleep(1_500_000_000))
    guest = guest.hop()
    assert guest.resume(Woke()) == 0
    assert guest.raw("clock_time_get", 1, 0, 64) == 0
    assert guest.number(64, 8) >= began + 1_500_000_000
    for text in (b"-1", b"1.5", b"soon", b"9" * 20, "٣".encode()):
        assert guest.write(fd, text)[0] == EINVAL, text
    assert guest.write(fd, b"\n") == (0, 1)


def test_what_is_not_there_and_what_may_not_be_done() -> None:
    guest = Virtual()
    assert guest.open("portcall/nothing", CREAT, READ_WRITE)[0] == ENOENT
    assert guest.open("portcall/go")[0] == EACCES
    assert guest.open("portcall/here", CREAT | TRUNC, READ_WRITE & ~2)[0] == EACCES
    assert guest.open("portcall/go", CREAT | EXCL, READ_WRITE)[0] == EEXIST
    assert guest.open("portcall/here/x")[0] == ENOTDIR
    assert guest.open("portcall/go/soon")[0] == guest.open("portcall/fork/many")[0] == ENOENT
    assert guest.open("portcall/go/")[0] == ENOTDIR
    assert guest.open("portcall/call", 0, READ_WRITE)[0] == EISDIR
    assert guest.open("portcall/../etc")[0] == EPERM
    assert guest.mkdir("portcall/new") == ENOENT
    assert guest.unlink("portcall/go") == EROFS
    assert guest.rmdir("portcall") == EROFS
    assert guest.rmdir("portcall/call") == EROFS
    assert guest.mkdir("portcall") == EROFS
    assert guest.symlink("x", "portcall/go") == EROFS
    assert guest.rename("portcall/go", "go") == EROFS
    assert guest.readlink("portcall/go")[0] == EINVAL
    assert guest.stat("portcall/nothing")[0] == ENOENT


def test_the_folder_can_be_looked_at() -> None:
    guest = Virtual()
    names = guest.listing("portcall")
    assert set(names) - {b".", b".."} == {name.encode() for name in hostcalls.IMPORTS} - {
        b"go_wait",  # go/MS
        b"recv",
        b"exit",
    } | {b"inbox", b"args", b"environ", b"publish_all"}
    assert guest.stat("portcall")[1][0] == 3
    assert guest.stat("portcall/call")[1][0] == 3
    assert guest.stat("portcall/go")[1][0] == 4
    assert guest.stat("portcall/call/any.service")[1][0] == 4
    assert b"portcall" not in guest.listing()  # so that nobody's `rm -r /` or backup wanders into it


def test_every_way_to_the_folder() -> None:
    guest = Virtual()
    guest.mkdir("d")
    assert guest.symlink("../portcall/here", "d/where") == 0
    assert guest.symlink("portcall", "p") == 0
    for path in (
        "portcall/here",
        "./portcall/here",
        "d/../portcall/./here",
        "d/where",
        "p/here",
        "portcall//here",
    ):
        error, fd = guest.open(path)
        assert error == 0, path
        assert read_all(guest, fd) == b"alpha"
    _, folder = guest.open("portcall", 2, DIRECTORY)
    assert read_all(guest, guest.open("here", fd=folder)[1]) == b"alpha"
    assert guest.open("../d", fd=folder)[0] == EPERM
    guest = guest.hop()
    assert read_all(guest, guest.open("here", fd=folder)[1]) == b"alpha"
    _, services = guest.open("call", 2, DIRECTORY, fd=folder)
    assert guest.read(guest.open("clock", fd=services)[1], 9) == Suspend(Call("clock", b""))


IMPORT_AND_FILE: list[tuple[str, tuple[Any, ...], str, bytes, Any]] = [
    ("go", ("",), "go", b"\0", EINVAL),
    ("go", ("n" * 2000,), "go", b"n" * 2000, ENAMETOOLONG),
    ("send", ("nobody", b"x"), "send/nobody", b"x", ENOENT),
    ("report", ("k" * 300, b"x"), "report/" + "k" * 255 + "/" + "k" * 44, b"x", ENAMETOOLONG),
    ("send", ("bob", b"x" * (MAX_BODY_BYTES + 1)), "send/bob", b"", EMSGSIZE),
]


@pytest.mark.parametrize(("call", "args", "path", "data", "errno"), IMPORT_AND_FILE)
def test_both_roads_give_the_same_errors(call: str, args: tuple[Any, ...], path: str, data: bytes, errno: int) -> None:
    guest = Virtual()
    with pytest.raises(CallFailed) as failed:
        getattr(hostcalls, call)(guest.ctx, *args)
    assert failed.value.errno == errno
    fd = opened(guest, path, write=True)
    if data:
        assert guest.write(fd, data)[0] == errno
    else:  # many buffers over the same bytes, since the rig's memory is smaller than the message
        guest.put(32, b"".join((65536).to_bytes(4, "little") + (65536).to_bytes(4, "little") for _ in range(17)))
        assert guest.raw("fd_write", fd, 32, 17, 16) == errno


def test_a_long_write_to_the_log_is_taken_in_parts() -> None:
    guest = Virtual()
    _, fd = guest.open("portcall/log", rights=READ_WRITE)
    line = b"x" * 999 + b"\n"
    assert guest.write(fd, line * 100) == (0, 65_000)
    assert len(guest.station.logged) == 65
    assert guest.write(fd, b"\n" * 300_000) == (0, 65_536)
    assert guest.write(fd, b"y" * 100_000) == (0, 65_536)
    assert len(guest.station.logged) == 66


def test_what_open_files_hold_together_is_bounded() -> None:
    """Not a megabyte in each of 256 descriptors: station memory that no permit counts."""
    guest = Virtual(limits=WasiLimits(call_bytes=3_000_000))
    fds = [guest.open(f"portcall/call/{name}", rights=READ_WRITE)[1] for name in "abcd"]
    piece = bytes(200_000)
    for fd in fds[:3]:
        assert [guest.write(fd, piece) for _ in range(5)] == [(0, 200_000)] * 5
    assert guest.write(fds[3], piece)[0] == ENOSPC
    assert guest.read(fds[0], 9)[0] == ENOSPC  # no room for an answer
    assert guest.close(fds[2]) == 0
    assert guest.read(fds[0], 9) == Suspend(Call("a", piece * 5))
    assert guest.resume(Reply(bytes(1 << 20))) == 0
    inboxes = [guest.open("portcall/inbox")[1] for _ in range(3)]
    assert guest.read(inboxes[0], 1)[0] == ENOSPC
    assert guest.close(fds[1]) == 0
    for fd in inboxes[:1]:
        assert guest.read(fd, 1) == Suspend(Recv(None))
        assert guest.resume(Message("bob", bytes(1 << 20))) == 0
    assert guest.read(inboxes[1], 1)[0] == ENOSPC
    there = guest.hop()
    assert there.read(inboxes[0], 1) == (0, b"\0")
    with pytest.raises(BadSnapshot, match="portcall"):
        WasiState.decode(guest.state.encode(), WasiLimits(call_bytes=1 << 20))


def test_a_request_is_forgotten_when_its_answer_is_there() -> None:
    guest = Virtual()
    _, fd = guest.open("portcall/call/clock", rights=READ_WRITE)
    guest.write(fd, b"when")
    assert guest.read(fd, 2) == Suspend(Call("clock", b"when"))
    assert guest.resume(Reply(b"noon")) == 0
    assert guest.state.encode()[4][-1][1] == ["call", "call", "clock", b"noon", 2, b""]
    assert guest.read(fd, 9) == (0, b"on")
    guest.write(fd, b"where")
    assert guest.read(fd, 9) == Suspend(Call("clock", b"where"))
