"""A home that was damaged, or put together from two: a station begins with all that was here, or says why not."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from docking.errors import KeyFileError, StoreUnusable
from docking.residents.berth import Standing
from tests.station.harbour import begin, program, run, settled, station

SLEEPER = program("(drop (call $sleep (i32.const 86400000)))")
AGENTS = 30
PAIRS = 40


async def filled(home: Path) -> None:
    async with station("home", home) as at:
        for _ in range(AGENTS):
            await settled(at, await begin(at, SLEEPER), Standing.WAITING)


def swap(store: Path, pair: random.Random) -> None:
    """Two pages change places, never the first: a write that went astray."""
    data = bytearray(store.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    a, b = (slice(n * size, (n + 1) * size) for n in pair.sample(range(1, len(data) // size), 2))
    data[a], data[b] = data[b], data[a]
    store.write_bytes(data)


@run
async def test_pages_that_are_not_where_they_belong_are_noticed(tmp_path: Path) -> None:
    await filled(tmp_path / "home")
    with sqlite3.connect(tmp_path / "home" / "station.db") as base:
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    base.close()
    refused = 0
    for number in range(PAIRS):
        home = tmp_path / str(number)
        shutil.copytree(tmp_path / "home", home)
        swap(home / "station.db", random.Random(number))
        try:
            async with station("home", home) as at:
                # One whose own parts were damaged is shown, with the reason.
                assert len(at.core.here.berths) + len(at.core.arrivals.kept) == AGENTS
        except StoreUnusable as error:
            assert str(home / "station.db") in str(error)
            refused += 1
    assert refused > PAIRS // 2


@run
async def test_a_key_that_is_not_that_of_the_store(tmp_path: Path) -> None:
    for name in ("home", "other"):
        async with station("home", tmp_path / name):
            pass
    key, kept = tmp_path / "home" / "station.key", (tmp_path / "home" / "station.key").read_bytes()
    key.write_bytes((tmp_path / "other" / "station.key").read_bytes())
    with pytest.raises(StoreUnusable, match="do not belong together"):
        await station("home", tmp_path / "home").start()
    key.unlink()
    with pytest.raises(KeyFileError, match=r"station.key is missing, and .*station.db is there"):
        await station("home", tmp_path / "home").start()
    assert not key.exists()
    key.write_bytes(kept)
    key.chmod(0o600)
    async with station("home", tmp_path / "home"):
        pass
