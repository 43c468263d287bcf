"""`poll_oneoff` at a station: whichever comes first of messages, input and time, also after a hop or a restart."""

from __future__ import annotations

import struct
from pathlib import Path

from agents import canonical
from agents.image import AgentImage
from agents.wasi.state import WasiState
from docking import Station
from docking.handle import Agent, Report
from docking.residents.berth import Standing
from tests.station.harbour import OWNER, harbour, packed, run, settled, station

CLOCK, READ = 0, 1
STDIN, INBOX, OTHER = 0, 4, 5
MS = 1_000_000


def clock(name: str, ms: int) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", ord(name), CLOCK, 1, ms * MS, 0, 0)


def reads(name: str, fd: int) -> bytes:
    return struct.pack("<QB7xI28x", ord(name), READ, fd)


def poller(*wanted: bytes, to: str = "", sleep: int = 0) -> str:
    """Opens the inbox twice (4, 5), goes `to` another station and sleeps, if so told, and polls; tells the names of
    what is ready, and the message if there is one."""
    records = "".join(f"\\{byte:02x}" for byte in b"".join(wanted))
    before = f"(drop (call $go (i32.const 900) (i32.const {len(to)})))" if to else ""
    before += f"(drop (call $sleep (i32.const {sleep})))" if sleep else ""
    return f"""(module
      (import "portcall" "go" (func $go (param i32 i32) (result i32)))
      (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
      (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 900) "{to}")
      (data (i32.const 800) "portcall/inboxem")
      (data (i32.const 1024) "{records}")
      (data (i32.const 700) "\\00\\20\\00\\00\\00\\04\\00\\00")
      (func $check (param i32) (if (local.get 0) (then unreachable)))
      (func $inbox
        (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 800) (i32.const 14) (i32.const 0)
          (i64.const 0x8000002) (i64.const 0) (i32.const 0) (i32.const 16))))
      (func (export "_start") (local $at i32) (local $end i32)
        (call $inbox) (call $inbox)
        {before}
        (call $check (call $poll (i32.const 1024) (i32.const 4096) (i32.const {len(wanted)}) (i32.const 16)))
        (local.set $at (i32.const 4096))
        (local.set $end (i32.add (local.get $at) (i32.mul (i32.const 32) (i32.load (i32.const 16)))))
        (block $done (loop $next
          (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
          (drop (call $report (i32.const 814) (i32.const 1) (local.get $at) (i32.const 1)))
          (if (i32.eq (i32.load8_u (local.get $at)) (i32.const {ord("i")})) (then
            (call $check (call $read (i32.const 4) (i32.const 700) (i32.const 1) (i32.const 16)))
            (drop (call $report (i32.const 815) (i32.const 1) (i32.const 8192) (i32.load (i32.const 16))))))
          (local.set $at (i32.add (local.get $at) (i32.const 32)))
          (br $next)))))"""


def told(report: Report) -> tuple[str, list[bytes]]:
    """The names of what was ready, and the messages."""
    ready = b"".join(result.value for result in report.results if result.key == "e").decode()
    return ready, [result.value for result in report.results if result.key == "m"]


async def launched(home: Station, image: AgentImage | str, *via: str) -> Agent:
    return await home.launch(packed(image) if isinstance(image, str) else image, list(via), owner=OWNER)


@run
async def test_a_message_before_the_clock() -> None:
    async with harbour("home") as (home,):
        agent = await launched(home, poller(reads("i", INBOX), clock("c", 50_000), reads("o", OTHER)))
        await settled(home, agent, Standing.WAITING)
        agent.send(b"hello")
        report = await agent.wait()
    assert told(report) == ("io", [b"hello"])  # two descriptors of one inbox, both ready


@run
async def test_the_clock_before_any_message() -> None:
    async with harbour("home") as (home,):
        agent = await launched(home, poller(reads("i", INBOX), clock("l", 90_000), clock("c", 200)))
        there = await settled(home, agent, Standing.WAITING)
        assert (there.life, there.state) == (None, None)  # it holds neither thread nor instance
        report = await agent.wait()
    assert told(report) == ("c", [])
    assert report.trail[0].departed - report.trail[0].arrived >= 200


@run
async def test_a_poll_outlasts_a_restart(tmp_path: Path) -> None:
    polls = poller(reads("i", INBOX), reads("o", OTHER), clock("c", 50_000), to="beta1")
    async with harbour("home", "beta1", home=tmp_path) as (home, beta):
        agent = await launched(home, polls, "beta1")
        await settled(beta, agent, Standing.WAITING)
    async with harbour("home", "beta1", home=tmp_path) as (home, beta):
        again = home.agent(agent.id, OWNER)
        await settled(beta, again, Standing.WAITING)
        again.send(b"after the night")
        report = await again.wait()
    assert told(report) == ("io", [b"after the night"])


@run
async def test_the_clock_of_a_poll_outlasts_a_restart(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        agent = await launched(home, poller(reads("i", INBOX), clock("c", 1500)))
        await settled(home, agent, Standing.WAITING)
    async with station("home", tmp_path / "home") as home:
        report = await home.agent(agent.id, OWNER).wait()
    assert told(report) == ("c", [])


def with_live_input(wat: str) -> AgentImage:
    """An agent that believes that input may still come, as one has that began in a terminal."""
    return packed(wat).with_luggage(canonical.encode(WasiState.launch(["poller"], live_stdin=True).encode()))


@run
async def test_input_and_inbox_at_once_at_a_station() -> None:
    async with harbour("home", "beta1") as (home, _):
        agent = await launched(home, with_live_input(poller(reads("i", INBOX), reads("s", STDIN), to="beta1")), "beta1")
        report = await agent.wait()
    assert told(report) == ("s", [])  # its input has ended, which is an event too


@run
async def test_a_message_that_is_there_already_comes_before_the_end_of_input() -> None:
    polls = with_live_input(poller(reads("i", INBOX), reads("s", STDIN), sleep=700))
    async with harbour("home") as (home,):
        agent = await launched(home, polls)
        there = await settled(home, agent, Standing.WAITING)
        agent.send(b"first")
        assert len(there.inbox) == 1
        report = await agent.wait()
    assert told(report) == ("i", [b"first"])
