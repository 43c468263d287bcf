"""Directories of a station's machine and bounds of agents' file systems, from the policy: real stations and disks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from agents.errors import BadSnapshot
from docking import Policy, Station, Terms
from docking.errors import StationError
from docking.launching import DEFAULT_PERMIT
from docking.trust.policy import LentDirectory, OwnerRule
from tests.station.harbour import LIMIT, OWNER, harbour, meet, numbers, packed, places, run, station

EBADF, EMFILE, ENOENT, ENOSPC, EROFS = 8, 33, 44, 51, 69
ALL = ("host:*", "service:*", "dir:*")
READ, READ_WRITE = 0x8E001FF & ~0x40, 0x8E001FF
CREAT = 1


def sailor(body: str, locals_: str = "") -> str:
    """An agent with WASI. `$open flags rights`: opens /charts/log, tells the errno as `o`, gives the descriptor;
    `$read fd`: tells the errno as `r`, and one byte as `b`; `$write fd size`: tells the errno as `w` and the bytes
    taken as `n`."""
    return f"""(module
      (import "portcall" "go" (func $go (param i32 i32) (result i32)))
      (import "portcall" "here" (func $here (param i32 i32) (result i32)))
      (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
      (memory (export "memory") 4)
      (data (i32.const 1000) "beta1") (data (i32.const 1100) "gamma1") (data (i32.const 1200) "charts/log")
      (func $tell (param $key i32) (param $value i32)
        (i32.store8 (i32.const 100) (local.get $key))
        (i32.store (i32.const 104) (local.get $value))
        (drop (call $report (i32.const 100) (i32.const 1) (i32.const 104) (i32.const 4))))
      (func $tell_here
        (i32.store8 (i32.const 100) (i32.const 104))
        (drop (call $report (i32.const 100) (i32.const 1) (i32.const 200) (call $here (i32.const 200) (i32.const 64)))))
      (func $to_beta (drop (call $go (i32.const 1000) (i32.const 5))) (call $tell_here))
      (func $to_gamma (drop (call $go (i32.const 1100) (i32.const 6))) (call $tell_here))
      (func $open (param $flags i32) (param $rights i64) (result i32)
        (i32.store (i32.const 16) (i32.const -1))
        (call $tell (i32.const {ord("o")}) (call $path_open (i32.const 3) (i32.const 0) (i32.const 1200) (i32.const 10)
          (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 16)))
        (i32.load (i32.const 16)))
      (func $vector (param $size i32)
        (i32.store (i32.const 32) (i32.const 65536)) (i32.store (i32.const 36) (local.get $size)))
      (func $read (param $fd i32)
        (call $vector (i32.const 1)) (i32.store8 (i32.const 65536) (i32.const 0))
        (call $tell (i32.const {ord("r")})
          (call $pread (local.get $fd) (i32.const 32) (i32.const 1) (i64.const 0) (i32.const 16)))
        (call $tell (i32.const {ord("b")}) (i32.load8_u (i32.const 65536))))
      (func $write (param $fd i32) (param $size i32)
        (call $vector (local.get $size)) (i32.store (i32.const 16) (i32.const 0))
        (call $tell (i32.const {ord("w")}) (call $fd_write (local.get $fd) (i32.const 32) (i32.const 1) (i32.const 16)))
        (call $tell (i32.const {ord("n")}) (i32.load (i32.const 16))))
      (func (export "_start") {locals_}
        {body}))"""


def policy(folder: Path | None = None, capabilities: tuple[str, ...] = ALL, **options: Any) -> Policy:
    lent = () if folder is None else (LentDirectory("charts", folder, **options),)
    return Policy(owners=[OwnerRule(OWNER.public, capabilities=capabilities)], directories=lent)


def charts(at: Path, log: bytes) -> Path:
    at.mkdir()
    (at / "log").write_bytes(log)
    return at


async def sail(home: Station, wat: str, *via: str, **options: Any) -> Any:
    agent = await home.launch(packed(wat), list(via), owner=OWNER, **options)
    return await agent.wait(LIMIT)


@run
async def test_each_station_lends_its_own_and_one_that_lends_none_makes_it_ebadf(tmp_path: Path) -> None:
    """Open at home, read at beta, which lends a directory of that name; lost at gamma, which lends none."""
    here, there = charts(tmp_path / "here", b"A"), charts(tmp_path / "there", b"B")
    wat = sailor(
        f"""(local.set $fd (call $open (i32.const 0) (i64.const {READ})))
            (call $read (local.get $fd)) (call $to_beta) (call $read (local.get $fd))
            (call $to_gamma) (call $read (local.get $fd)) (drop (call $open (i32.const 0) (i64.const {READ})))
            (call $tell (i32.const 99) (call $close (local.get $fd)))""",
        "(local $fd i32)",
    )
    async with (
        station("home", policy=policy(here)) as home,
        station("beta1", policy=policy(there)) as beta,
        station("gamma1") as gamma,
    ):
        await meet(home, beta, gamma)
        report = await sail(home, wat, "beta1", "gamma1")
    assert places(report) == ["beta1", "gamma1"]
    assert numbers(report, "o") == [0, ENOENT]
    assert numbers(report, "r") == [0, 0, EBADF]
    assert bytes(numbers(report, "b")) == b"AB\0"
    assert numbers(report, "c") == [0]  # closing what was lost succeeds


@pytest.mark.parametrize(
    ("rule", "permit"), [(("host:*",), ALL), (ALL, ("host:*",)), (("host:*", "dir:other"), ALL), (ALL, ("dir:char.*",))]
)
def test_without_the_capability_there_is_no_directory(
    tmp_path: Path, rule: tuple[str, ...], permit: tuple[str, ...]
) -> None:
    @run
    async def main() -> None:
        terms = Terms(permit=evolve(DEFAULT_PERMIT, capabilities=permit))
        async with station("home", policy=policy(charts(tmp_path / "c", b"A"), rule, writable=True)) as home:
            wat = sailor(f"(drop (call $open (i32.const {CREAT}) (i64.const {READ_WRITE})))")
            report = await sail(home, wat, terms=terms)
        assert numbers(report, "o") == [ENOENT]
        assert (tmp_path / "c" / "log").read_bytes() == b"A"

    main()


@run
async def test_an_agent_that_needs_a_directory_is_not_taken_where_there_is_none_for_it(tmp_path: Path) -> None:
    permit = evolve(DEFAULT_PERMIT, needs=("dir:charts",))
    wat = sailor(f"(call $to_beta) (drop (call $open (i32.const 0) (i64.const {READ})))")
    narrow = policy(None, ("host:*",))
    async with station("home", policy=policy()) as home, station("beta1", policy=narrow) as beta:
        await meet(home, beta)
        report = await sail(home, wat, "beta1", terms=Terms(permit=permit))
    assert places(report) == ["home"]  # `go` failed


@run
async def test_one_for_reading_is_not_written(tmp_path: Path) -> None:
    wat = sailor(
        f"""(drop (call $open (i32.const 0) (i64.const {READ_WRITE})))
            (drop (call $open (i32.const {CREAT}) (i64.const {READ})))
            (call $read (call $open (i32.const 0) (i64.const {READ})))"""
    )
    async with station("home", policy=policy(charts(tmp_path / "c", b"A"))) as home:
        report = await sail(home, wat)
    assert numbers(report, "o") == [EROFS, EROFS, 0]
    assert bytes(numbers(report, "b")) == b"A"


@run
async def test_filling_the_hosts_disk(tmp_path: Path) -> None:
    """Write until it is refused, unlink, keep open, and again; then move on and come with a second agent."""
    wat = sailor(
        f"""(loop $again
              (local.set $fd (call $open (i32.const {CREAT}) (i64.const {READ_WRITE})))
              (loop $more
                (call $write (local.get $fd) (i32.const 60000))
                (br_if $more (i32.load (i32.const 16))))
              (drop (call $unlink (i32.const 3) (i32.const 1200) (i32.const 10)))
              (br_if $again (i32.lt_u (local.tee $turn (i32.add (local.get $turn) (i32.const 1))) (i32.const 3))))""",
        "(local $fd i32) (local $turn i32)",
    )
    folder = charts(tmp_path / "c", b"A" * 1000)
    async with station("home", policy=policy(folder, writable=True, bytes=100_000, names=4)) as home:
        first = await sail(home, wat)
        second = await sail(home, wat)
    for report in (first, second):
        assert sum(numbers(report, "n")) <= 101_000
        assert numbers(report, "w")[-1] == ENOSPC
    assert sum(numbers(second, "n")) == 100_000  # what the first one unlinked and closed is there again
    assert not (folder / "log").exists()


@run
async def test_a_file_that_is_written_outlasts_the_agent_and_counts_after_a_restart(tmp_path: Path) -> None:
    folder = charts(tmp_path / "c", b"")
    lends = policy(folder, writable=True, bytes=1000)
    body = f"(call $write (call $open (i32.const {CREAT}) (i64.const {READ_WRITE})) (i32.const 800))"
    async with station("home", tmp_path / "home", policy=lends) as home:
        assert numbers(await sail(home, sailor(body)), "n") == [800]
    assert (folder / "log").stat().st_size == 800
    (folder / "other").write_bytes(bytes(100))
    again = sailor(
        f"""(local.set $fd (call $open (i32.const 0) (i64.const {READ_WRITE})))
            (call $write (local.get $fd) (i32.const 800)) (call $write (local.get $fd) (i32.const 800))""",
        "(local $fd i32)",
    )
    async with station("home", tmp_path / "home", policy=lends) as home:
        assert numbers(await sail(home, again), "n") == [800, 100]


@run
async def test_a_directory_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StationError, match="charts"):
        await station("home", policy=policy(tmp_path / "nothing")).start()


@run
async def test_luggage_beyond_a_stations_bounds_is_refused_before_it_moves() -> None:
    """Not admitted and then ended: the agent hears of it where it is, and goes on there."""
    wat = sailor(
        f"""(i32.store (i32.const 1200) (i32.const 0x79616c))  ;; "lay": in its luggage
            (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 1200) (i32.const 3)
              (i32.const {CREAT}) (i64.const {READ_WRITE}) (i64.const 0) (i32.const 0) (i32.const 16)))
            (call $write (i32.load (i32.const 16)) (i32.const 50000))
            (call $to_beta)"""
    )
    tight = evolve(policy(), wasi=evolve(Policy().wasi, luggage_bytes=40_000))
    async with station("home", policy=policy()) as home, station("beta1", policy=tight) as beta:
        await meet(home, beta)
        report = await sail(home, wat, "beta1")
        assert places(report) == ["home"]
        assert numbers(report, "n") == [50000]
        assert numbers(await sail(beta, wat), "n") == [40_000]
        with pytest.raises(BadSnapshot, match="bytes of luggage"):
            await beta.launch(packed(wat).with_luggage(large_luggage()), owner=OWNER)


def large_luggage() -> bytes:
    from agents import canonical
    from agents.wasi.state import WasiState

    return canonical.encode(WasiState.launch(files={"f": bytes(45_000)}).encode())


@run
async def test_descriptors_and_log_are_the_policys(tmp_path: Path) -> None:
    wat = sailor(
        f"""(loop $again
              (local.set $fd (call $open (i32.const 0) (i64.const {READ})))
              (br_if $again (i32.ge_s (local.get $fd) (i32.const 0))))
            (call $write (i32.const 1) (i32.const 900)) (call $write (i32.const 1) (i32.const 900))""",
        "(local $fd i32)",
    )
    lends = policy(charts(tmp_path / "c", b"A"))
    tight = evolve(lends, wasi=evolve(lends.wasi, descriptors=7, log_bytes=1000))
    async with station("home", policy=tight) as home:
        report = await sail(home, wat)
    assert numbers(report, "o") == [0, 0, EMFILE]  # five are open when it begins
    assert numbers(report, "n") == [900, 100]


@run
async def test_two_stations_on_one_directory(tmp_path: Path) -> None:
    """Each has a quota of its own; an agent that goes from one to the other goes on in the same file."""
    folder = charts(tmp_path / "c", b"")
    wat = sailor(
        f"""(local.set $fd (call $open (i32.const 0) (i64.const {READ_WRITE})))
            (call $write (local.get $fd) (i32.const 10))
            (call $to_beta) (call $write (local.get $fd) (i32.const 10))""",
        "(local $fd i32)",
    )
    async with harbour("home", "beta1", policy=policy(folder, writable=True)) as (home, _):
        report = await sail(home, wat, "beta1")
    assert numbers(report, "w") == [0, 0]
    assert (folder / "log").stat().st_size == 20


@run
async def test_output_of_one_stay_is_counted_while_it_is_put_away_and_fetched_again() -> None:
    wat = """(module
      (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
      (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\\40\\00\\00\\00\\58\\02\\00\\00n")
      (func $tell
        (i32.store (i32.const 16) (i32.const 0))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
        (drop (call $report (i32.const 8) (i32.const 1) (i32.const 16) (i32.const 4))))
      (func (export "_start")
        (call $tell) (drop (call $sleep (i32.const 80)))
        (call $tell) (drop (call $sleep (i32.const 80)))
        (call $tell)))"""
    tight = evolve(policy(), wasi=evolve(Policy().wasi, log_bytes=1000))
    async with station("home", policy=tight) as home:
        report = await sail(home, wat)
    assert numbers(report, "n") == [600, 400, 0]
