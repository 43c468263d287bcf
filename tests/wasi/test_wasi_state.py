"""The state as data: what travels, what does not, and what a hostile snapshot can say."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents import canonical
from agents.errors import BadSnapshot, CallFailed
from agents.wasi import WasiLimits, WasiState
from agents.wasi.abi import EBADF, EINVAL, ENAMETOOLONG, ENOENT
from agents.wasi.hostdirs import HostGrant
from agents.wasi.state import MAX_AWAY_NS, MONOTONIC_START_NS
from tests.thorough import examples

from .rig import DIRECTORY, READ_ONLY, READ_WRITE, Station, Virtual

CREAT, TRUNC, O_DIRECTORY = 1, 8, 2


def busy() -> Virtual:
    """A guest with some of everything."""
    guest = Virtual(args=["a", "b"], environ={"K": "v"}, files={"lib/x.py": b"x = 1\n", "e/": b""}, stdin=b"one two")
    guest.make("f", b"0123456789")
    guest.symlink("lib/x.py", "l")
    guest.link("f", "hard")
    guest.mkdir("gone")
    for path, flags in (("f", 0), ("f", CREAT), ("unlinked", CREAT)):
        guest.open(path, flags, READ_WRITE)
    guest.open("gone", O_DIRECTORY, DIRECTORY)
    guest.open("lib", O_DIRECTORY, DIRECTORY)
    guest.open("portcall/here")
    guest.open("portcall/call/x", CREAT, READ_WRITE)
    guest.open("portcall", O_DIRECTORY, DIRECTORY)
    guest.write(6, b"no name")
    guest.unlink("unlinked")
    guest.rmdir("gone")
    guest.read(9, 2)
    guest.write(10, b"request")
    guest.read(0, 4)
    guest.seek(4, 5, 0)
    guest.raw("fd_renumber", 1, 2)
    guest.close(8)
    guest.open("f")
    return guest


@pytest.mark.parametrize("size", [1024, 1025, 1500, 3000])
@pytest.mark.parametrize("letter", ["a", "ä"])
def test_a_call_with_a_long_name_travels_or_is_refused(letter: str, size: int) -> None:
    guest = Virtual()
    name = "/".join([letter * 100] * 40).encode()[:size].decode(errors="ignore").rstrip("/")
    name += "x" * (size - len(name.encode()))
    code = guest.open(f"portcall/call/{name}", CREAT, READ_WRITE)[0]
    assert code == (0 if size <= 1024 else ENAMETOOLONG)
    state = WasiState.decode(canonical.decode(canonical.encode(guest.state.encode())))
    assert state.encode() == guest.state.encode()


def test_everything_travels() -> None:
    guest = busy()
    before = guest.state.encode()
    assert guest.state.encode() == before
    wire = canonical.encode(before)
    state = WasiState.decode(canonical.decode(wire))
    assert state.encode() == before
    assert canonical.encode(state.encode()) == wire
    there = guest.hop()
    assert there.read(4, 9) == (0, b"56789")
    assert there.seek(6, 0, 0) == (0, 0)
    assert there.read(6, 9) == (0, b"no name")
    assert there.raw("fd_filestat_get", 7, 64) == 0
    assert there.open("x", CREAT, READ_WRITE, fd=7)[0] == ENOENT
    assert there.read(0, 9) == (0, b"two")
    assert there.write(2, b"moved") == (0, 5)
    assert there.stdout() == b"moved"
    assert there.write(1, b"closed")[0] == EBADF
    assert there.contents("l") == b"x = 1\n"
    assert there.stat("hard")[1][1] == 2
    used = there.state.luggage.used
    there.close(6)
    assert there.state.luggage.used == used - len(b"no name")
    assert there.state.luggage.names == guest.state.luggage.names


def test_a_listing_goes_on_after_a_hop() -> None:
    guest = Virtual(files={f"f{index}": b"" for index in range(20)})
    guest.unlink("f3")
    _, lines = guest.readdir(3, 200)
    there = guest.hop()
    assert there.readdir(3, 4096, lines[-1][0]) == guest.readdir(3, 4096, lines[-1][0])


def test_accounts_are_rebuilt_and_not_believed() -> None:
    guest = busy()
    there = guest.hop()
    assert there.state.luggage.used == guest.state.luggage.used
    assert there.state.luggage.names == guest.state.luggage.names
    assert {node: (n.links, n.opened) for node, n in _nodes(there)} == {
        node: (n.links, n.opened) for node, n in _nodes(guest)
    }


def _nodes(guest: Virtual) -> list[tuple[int, Any]]:
    return sorted(guest.state.luggage.reachable(guest.state.open_nodes()).items())


def test_files_that_never_change_are_not_copied() -> None:
    library = b"x" * 1_000_000
    first, second = (Virtual(files={"lib.zip": library}) for _ in range(2))
    for guest in (first, second):
        node = guest.state.luggage.root.folder.entries["lib.zip"][1]  # type: ignore[union-attr]
        assert node.data is library
    assert any(item[5] is library for item in first.state.encode()[3][1])


def shown(of: Virtual) -> int:
    assert of.raw("clock_time_get", 1, 0, 64) == 0
    return of.number(64, 8)


def test_monotonic_time_goes_on_and_never_back() -> None:
    guest = Virtual()
    assert shown(guest) == MONOTONIC_START_NS
    guest.station.mono += 700
    assert shown(guest) == MONOTONIC_START_NS + 700
    guest.station.mono -= 500  # a clock that was set back
    assert shown(guest) == MONOTONIC_START_NS + 700
    guest.station.mono += 600
    assert shown(guest) == MONOTONIC_START_NS + 800
    far = Station()
    far.mono, far.wall = 12, 34
    there = guest.hop(station=far)
    assert shown(there) == MONOTONIC_START_NS + 800
    far.mono += 5
    assert shown(there) == MONOTONIC_START_NS + 805
    assert there.raw("clock_time_get", 0, 0, 64) == 0
    assert there.number(64, 8) == 34  # the wall is the station's


def test_monotonic_time_counts_what_nobody_looked_at() -> None:
    guest = Virtual()
    guest.state.begin(guest.station)
    guest.station.mono += 300  # ran, and hops without a look
    far = Station()
    far.mono, far.wall = 12, guest.station.wall + 50  # the way took 50
    there = guest.hop(station=far)
    there.state.begin(far)
    far.mono += 7
    parked = there.hop(station=far)  # captured again before anybody looks
    assert shown(parked) == MONOTONIC_START_NS + 357


def test_time_between_stations_is_believed_within_bounds() -> None:
    guest = Virtual()
    assert shown(guest) == MONOTONIC_START_NS
    future = Station()
    future.wall += 1000 * MAX_AWAY_NS  # its calendar is wrong by centuries
    there = guest.hop(station=future)
    assert shown(there) == MONOTONIC_START_NS + MAX_AWAY_NS
    assert shown(there.hop()) == MONOTONIC_START_NS + MAX_AWAY_NS  # and back: time does not go back


def test_an_agent_that_has_not_begun_keeps_no_time() -> None:
    state = WasiState.launch()
    before = state.encode()
    state.pause(Station())
    assert state.encode() == before


def test_a_sleep_counts_once_though_its_time_passed_between_stations() -> None:
    guest = Virtual()
    guest.state.wait_begins(guest.station)
    later = Station()
    later.wall += 5000
    there = guest.hop(station=later)
    there.state.waited(later, 4000)
    assert shown(there) == MONOTONIC_START_NS + 5000
    early = guest.hop(station=Station())
    early.state.waited(early.station, 4000)
    assert shown(early) == MONOTONIC_START_NS + 4000


@pytest.mark.parametrize("time", [1, [1], [1, None], [1, -1], [1, 1 << 64], [None, 1], [1, 2, 3], [True, 1]])
def test_impossible_times(time: object) -> None:
    guest = Virtual()
    assert shown(guest) == MONOTONIC_START_NS
    guest.state.pause(guest.station)
    value = guest.state.encode()
    assert value[0] == 2
    assert WasiState.decode(value).encode() == value
    value[6] = time
    with pytest.raises(BadSnapshot):
        WasiState.decode(value)


def test_states_of_the_first_version_are_read_and_hold_no_time_of_capture() -> None:
    value = Virtual().state.encode()
    assert value[0] == 1
    value[6] = 700  # as agents that were on their way wrote it
    assert WasiState.decode(value).encode() == value
    value[6] = [700, 1]
    with pytest.raises(BadSnapshot):
        WasiState.decode(value)


def test_a_clock_at_the_end_of_time_stays_there() -> None:
    value = Virtual().state.encode()
    value[6] = (1 << 64) - 1
    guest = Virtual(WasiState.decode(value))
    guest.raw("clock_time_get", 1, 0, 64)
    guest.station.mono += 1000
    assert guest.raw("clock_time_get", 1, 0, 64) == 0
    assert guest.number(64, 8) == (1 << 64) - 1


def test_random_bytes_are_the_stations_and_never_captured() -> None:
    guest = Virtual()
    before = guest.state.encode()
    assert guest.raw("random_get", 1024, 32) == 0
    assert guest.get(1024, 32) == bytes(range(32))
    assert guest.state.encode() == before


# --- granted directories ---


def test_a_granted_directory_does_not_travel(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"secret")
    guest = Virtual(grants={"/data": HostGrant(tmp_path, "/data")})
    _, fd = guest.open("f", fd=4)
    _, folder = guest.open(".", O_DIRECTORY, DIRECTORY, fd=4)
    assert guest.read(fd, 3) == (0, b"sec")
    wire = canonical.encode(guest.state.encode())
    assert b"secret" not in wire
    assert str(tmp_path).encode() not in wire
    there = guest.hop(grants=None)
    assert there.read(fd, 3)[0] == EBADF
    assert there.seek(fd, 0, 0)[0] == EBADF
    assert there.fstat(fd)[0] == EBADF
    assert there.readdir(folder)[0] == EBADF
    assert there.open("f", fd=4)[0] == EBADF
    assert there.raw("fd_prestat_get", 4, 64) == EBADF
    assert there.open("data/f")[0] == ENOENT
    assert there.open(".", O_DIRECTORY, DIRECTORY)[1] == folder + 1  # lost descriptors keep their numbers
    assert there.close(fd) == 0
    assert there.close(fd) == EBADF


def test_a_granted_directory_is_opened_again_where_its_name_is_granted(tmp_path: Path) -> None:
    here, there_root = tmp_path / "here", tmp_path / "there"
    for root, text in ((here, b"abcdef"), (there_root, b"ABCDEF")):
        (root / "sub").mkdir(parents=True)
        (root / "sub" / "f").write_bytes(text)
        (root / "sub" / "link").symlink_to("f")
    (here / "only-here").write_bytes(b"x")
    guest = Virtual(grants={"/data": HostGrant(here, "/data")})
    _, fd = guest.open("sub/link", 0, READ_WRITE, fd=4)
    _, only = guest.open("only-here", fd=4)
    _, reads = guest.open("sub/f", 0, READ_ONLY, fd=4)
    _, folder = guest.open("sub", O_DIRECTORY, DIRECTORY, fd=4)
    assert guest.read(fd, 2) == (0, b"ab")
    there = guest.hop(grants={"/data": HostGrant(there_root, "/data")})
    assert there.read(fd, 2) == (0, b"CD")
    assert there.write(fd, b"!") == (0, 1)
    assert (there_root / "sub" / "f").read_bytes() == b"ABCD!F"
    assert there.write(reads, b"!")[0] == EBADF
    assert there.read(only, 1)[0] == EBADF
    assert sorted(there.listing(fd=folder)) == [b".", b"..", b"f", b"link"]
    assert there.open("sub/f", fd=4)[0] == 0
    third = there.hop(grants={"/other": HostGrant(here, "/other")})
    assert third.read(fd, 1)[0] == EBADF
    fourth = third.hop(grants={"/data": HostGrant(here, "/data")})
    assert fourth.read(fd, 1)[0] == EBADF  # what is lost stays lost
    for each in (guest, there, third, fourth):
        each.state.close()


def test_a_grant_at_the_destination_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"local")
    there = Virtual().hop(grants={"/data": HostGrant(tmp_path, "/data")})
    assert there.contents("data/f") == b"local"
    there.state.close()


def test_a_file_that_became_a_link_is_not_followed_on_arrival(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "f").write_bytes(b"fine")
    guest = Virtual(grants={"/data": HostGrant(inside, "/data")})
    _, fd = guest.open("f", fd=4)
    (inside / "f").unlink()
    (inside / "f").symlink_to(outside)
    assert guest.hop(grants={"/data": HostGrant(inside, "/data")}).read(fd, 9)[0] == EBADF


def test_a_granted_root_leaves_the_calls_reachable(tmp_path: Path) -> None:
    guest = Virtual(grants={"/": HostGrant(tmp_path, "/")})
    names = []
    for fd in (3, 4, 5, 6):
        assert guest.raw("fd_prestat_get", fd, 64) == 0
        assert guest.raw("fd_prestat_dir_name", fd, 128, guest.number(68)) == 0
        names.append(guest.get(128, guest.number(68)))
    assert names == [b"/", b"/portcall", b"/dev", b"/"]
    assert guest.open("here", fd=4)[0] == 0


def test_impossible_grants() -> None:
    with pytest.raises(CallFailed):
        Virtual(grants={"/portcall": HostGrant("/", "/portcall")})
    with pytest.raises(CallFailed):
        HostGrant("/nothing/there", "/data")


def test_an_agent_that_was_packed_is_equipped_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"granted")
    packed = WasiState.launch(["program"], {"A": "1", "B": "2"}, {"main.py": b"print()"}).encode()
    state = WasiState.decode(canonical.decode(canonical.encode(packed)))
    state.equip(["x"], {"B": "3", "C": "4"}, stdin=b"input", grants={"/a/b": HostGrant(tmp_path, "/a/b")})
    assert state.args == (b"program", b"x")
    assert state.environ == (b"A=1", b"B=3", b"C=4")
    guest = Virtual(state)
    assert guest.read(0, 9) == (0, b"input")
    assert guest.raw("fd_prestat_get", 4, 64) == 0
    assert guest.number(68) == len("/a/b")
    _, fd = guest.open("f", fd=4)
    assert guest.read(fd, 9) == (0, b"granted")
    assert guest.contents("main.py") == b"print()"
    with pytest.raises(CallFailed):
        state.equip(["x" * 2_000_000])
    assert state.args == (b"program", b"x")
    state.close()


# --- what cannot be launched ---


@pytest.mark.parametrize(
    "launch",
    [
        {"args": ["x" * 2_000_000]},
        {"args": ["a\0b"]},
        {"environ": {"A": "\0"}},
        {"files": {"portcall/go": b""}},
        {"files": {"../x": b""}},
        {"files": {"a": b"", "a/b": b""}},
        {"files": {"f": b"x" * 200}, "limits": WasiLimits(luggage_bytes=100)},
        {"files": {f"f{index}": b"" for index in range(20)}, "limits": WasiLimits(files=10)},
        {"stdin": b"x" * 20, "limits": WasiLimits(stdin_bytes=10)},
    ],
)
def test_a_launch_beyond_its_bounds_is_refused(launch: dict[str, Any]) -> None:
    with pytest.raises(CallFailed):
        WasiState.launch(**launch)


# --- hostile snapshots ---

ROOT = [1, 3, 0, 0, 0, [2, []]]


def luggage(*nodes: Any, next_inode: int = 100) -> list[Any]:
    value = Virtual().state.encode()
    value[3] = [next_inode, list(nodes)]
    return value


def with_descriptor(what: Any, **changes: Any) -> list[Any]:
    value = Virtual().state.encode()
    record = {"rights": 2, "inheriting": 0, "flags": 0, "offset": 0, "preopen": None, **changes}
    value[4].append([9, what, *record.values()])
    return value


HOSTILE: dict[str, Any] = {
    "nothing": None,
    "another version": [99, [], [], [], [], [], 0, None],
    "a version that merely equals 1": [True, *Virtual().state.encode()[1:]],
    "no root": luggage([2, 3, 0, 0, 0, [2, []]]),
    "a file as root": luggage([1, 4, 0, 0, 0, b""]),
    "numbers that come again": luggage(ROOT, next_inode=1),
    "nodes out of order": luggage(ROOT, ROOT),
    "a kind that is none": luggage(ROOT, [2, 6, 0, 0, 0, b""]),
    "a time before time": luggage([1, 3, -1, 0, 0, [2, []]]),
    "a truth for a number": luggage([True, 3, 0, 0, 0, [2, []]]),
    "a cycle": luggage([1, 3, 0, 0, 0, [3, [[2, "a", 1]]]]),
    "a ring apart": luggage(ROOT, [2, 3, 0, 0, 0, [3, [[2, "a", 3]]]], [3, 3, 0, 0, 0, [3, [[2, "b", 2]]]]),
    "a directory twice": luggage([1, 3, 0, 0, 0, [4, [[2, "a", 2], [3, "b", 2]]]], [2, 3, 0, 0, 0, [2, []]]),
    "a removed directory with contents": luggage(ROOT, [2, 3, 0, 0, 0, [3, [[2, "f", 3]]]], [3, 4, 0, 0, 0, b""]),
    "a name that leads nowhere": luggage([1, 3, 0, 0, 0, [3, [[2, "a", 7]]]]),
    "a file nobody knows": luggage(ROOT, [2, 4, 0, 0, 0, b""]),
    "two alike": luggage([1, 3, 0, 0, 0, [4, [[2, "a", 2], [3, "a", 2]]]], [2, 4, 0, 0, 0, b""]),
    "cookies that fall": luggage([1, 3, 0, 0, 0, [9, [[3, "a", 2], [2, "b", 2]]]], [2, 4, 0, 0, 0, b""]),
    "a cookie to come": luggage([1, 3, 0, 0, 0, [2, [[2, "a", 2]]]], [2, 4, 0, 0, 0, b""]),
    "an absolute link": luggage([1, 3, 0, 0, 0, [3, [[2, "a", 2]]]], [2, 7, 0, 0, 0, b"/etc/passwd"]),
    "a link that is no text": luggage([1, 3, 0, 0, 0, [3, [[2, "a", 2]]]], [2, 7, 0, 0, 0, b"\xff"]),
    **{
        f"the name {name!r}": luggage([1, 3, 0, 0, 0, [3, [[2, name, 2]]]], [2, 4, 0, 0, 0, b""])
        for name in ("", ".", "..", "a/b", "a\0b", "n" * 256, b"bytes", None, "\ud800")
    },
    "a descriptor to nothing": with_descriptor(["file", 77]),
    "a directory as a file": with_descriptor(["file", 1]),
    "a descriptor of no kind": with_descriptor(["socket"]),
    "a descriptor of no shape": with_descriptor([]),
    "rights that do not exist": with_descriptor(["stdout"], rights=1 << 30),
    "flags that do not exist": with_descriptor(["stdout"], flags=32),
    "an offset beyond all files": with_descriptor(["stdout"], offset=1 << 63),
    "a name that is no text": with_descriptor(["stdout"], preopen=7),
    "a call that is none": with_descriptor(["call", "reboot", "", None, 0, b""]),
    "a call without its service": with_descriptor(["call", "call", "", None, 0, b""]),
    "an answer too long": with_descriptor(["call", "here", "", b"x" * (1 << 21), 0, b""]),
    "a folder that is none": with_descriptor(["calls", "etc"]),
    "a host path that climbs": with_descriptor(["host-file", "/data", ["..", "etc", "passwd"]]),
    "a host path with a slash": with_descriptor(["host-directory", "/data", ["a/../.."]]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_snapshots_are_refused(name: str) -> None:
    with pytest.raises(BadSnapshot):
        WasiState.decode(HOSTILE[name])


def test_bounds_are_the_arriving_stations(tmp_path: Path) -> None:
    value = busy().state.encode()
    WasiState.decode(copy.deepcopy(value))
    for narrow in (
        WasiLimits(luggage_bytes=5),
        WasiLimits(files=3),
        WasiLimits(descriptors=4),
        WasiLimits(name_bytes=2),
        WasiLimits(environment_bytes=10),
        WasiLimits(stdin_bytes=1),
    ):
        with pytest.raises(BadSnapshot):
            WasiState.decode(copy.deepcopy(value), narrow)


def mutate(value: Any, dice: random.Random) -> Any:
    """The value with one part replaced by something else."""
    if isinstance(value, list) and value and dice.random() < 0.9:
        index = dice.randrange(len(value))
        if dice.random() < 0.1:
            return value[:index] + value[index + 1 :]
        return [*value[:index], mutate(value[index], dice), *value[index + 1 :]]
    if type(value) is int and dice.random() < 0.7:
        return dice.choice([value + 1, value - 1, 0, 1, 2, 3, 4, 5, 6, 7, 1 << 31, (1 << 64) - 1, 1 << 64, -1])
    return dice.choice([None, 0, 1, -1, "", "a", "..", b"", b"x", [], [[]], {}, True, 1.5, "file", ["lost"], ["stdin"]])


@settings(max_examples=examples(120), suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_a_snapshot_with_any_change_is_refused_or_works(dice: random.Random) -> None:
    value = busy().state.encode()
    for _ in range(dice.randint(1, 3)):
        value = mutate(value, dice)
    try:
        state = WasiState.decode(value)
    except BadSnapshot:
        return
    assert canonical.encode(state.encode()) == canonical.encode(value)
    guest = Virtual(state)
    for fd in list(state.table.open):
        guest.read(fd, 10)
        guest.write(fd, b"x")
        guest.readdir(fd)
        guest.fstat(fd)
        guest.seek(fd, 1, 1)
    guest.make("new", b"file") if guest.open("new", CREAT | TRUNC, READ_WRITE)[0] == 0 else None
    guest.listing() if 3 in state.table.open and guest.readdir(3)[0] == 0 else None
    assert WasiState.decode(state.encode()).encode() == state.encode()


def test_errors_of_a_launch_name_an_errno() -> None:
    with pytest.raises(CallFailed) as failed:
        WasiState.launch(args=["a\0"])
    assert failed.value.errno == EINVAL
