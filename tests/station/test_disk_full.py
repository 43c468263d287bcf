"""A disk that fills up: newcomers are sent away before it is full, nothing is lost when it is, and it goes on after."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from agents.errors import CredentialError
from docking import Policy
from docking.errors import StoreFull
from docking.handoff.refusal import Refusal
from docking.letters.orders import OrderKind
from docking.store.changes import PutFact
from docking.trust.admission import shed
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, begin, harbour, journey, numbers, program, run, station

NEARLY_FULL = evolve(Policy(owners=[OWNER.public]), disk=1 << 60)
HOP = program("(call $tell (i32.const 103) (call $go (s 0)))", "beta")


@run
async def test_a_disk_that_is_nearly_full_sends_newcomers_away(tmp_path: Path) -> None:
    full = station("beta", tmp_path / "beta", policy=NEARLY_FULL)
    async with harbour("home", home=tmp_path) as (home,), full as beta:
        await home.introductions.call_on(beta.url)
        assert numbers(await journey(home, HOP, "beta"), "g") == [-6]  # EAGAIN: the agent may try again
        with pytest.raises(CredentialError, match="disk-full: this station's disk is nearly full"):
            await begin(beta, HOP, "home")
        assert isinstance(shed(beta.policy, beta.core.here.load()), Refusal)
        assert beta.core.here.berths == {}


@run
async def test_a_station_that_forgets_needs_no_disk() -> None:
    async with harbour("home", policy=NEARLY_FULL) as (home,):
        assert home.core.here.load().free_bytes is None
        await begin(home, program(""))


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A disk of this size, which only root can make."""
    path.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("small disks are made by root on Linux only")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


NOISE = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 17)
  (func (export "_start")
    (drop (call $random (i32.const 65536) (i32.const 1048576)))
    (drop (call $sleep (i32.const 3600000)))))"""


@run
async def test_a_station_on_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """Megabytes of noise until the disk is full (with the look at it turned off); some agents end; all others stay."""
    careless = Policy(owners=[OWNER.public], disk=0)
    with small_disk(tmp_path / "disk", "40m") as disk:
        launched = []
        async with station("home", disk / "home", policy=careless) as home:
            while len(launched) < 60:
                try:
                    launched.append(await begin(home, NOISE))
                except StoreFull as error:
                    assert "disk" in str(error)
                    break
            assert len(launched) > 10
            for agent in launched[:5]:
                assert agent.dispose() == "obeyed"
            # The room that was kept lets them end, and what they had is used again.
            while len(home.core.here.berths) > len(launched) - 5:
                await asyncio.sleep(0.01)
            await asyncio.wait_for(home.core.here.journal.write([PutFact("after", b"x")], True), PATIENCE)
            assert home.failure == ""
        async with station("home", disk / "home", policy=careless) as home:
            left = {agent.key for agent in launched[5:]}
            assert set(home.core.here.berths) == left
            woken = launched[5].key  # stored asleep, since there was room then
            home.core.commands.order(woken, OrderKind.WAKE)
            while woken in home.core.here.berths:
                await asyncio.sleep(0.01)
