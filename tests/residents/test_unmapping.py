"""Memory of agents that have left is given back in pieces, at once where much waits or the station closes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import agents
from agents.ambient import StandaloneHost
from agents.execution import Execution
from docking.residents import unmapping
from docking.residents.unmapping import PIECE_BYTES, Unmapping

MIB, PIECES = 1 << 20, 3
SIZE = PIECES * PIECE_BYTES
FILLS = f"""(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
 (memory (export "memory") {SIZE >> 16})
 (func (export "_start")
  (memory.fill (i32.const 0) (i32.const 7) (i32.const {SIZE})) (drop (call $sleep (i32.const 1000)))))"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="nothing tells what is mapped")


@contextmanager
def filled() -> Iterator[Execution]:
    """An agent whose memory is full."""
    nobody = StandaloneHost(lambda: 0, lambda: 0, bytes)
    with Execution(agents.pack(FILLS), engine=agents.load("wasmtime"), ambient=nobody) as life:
        life.advance()
        yield life


def resident(life: Execution) -> int:
    """Bytes of its memory that take space."""
    assert life.instance is not None
    start = life.instance.raw(life.memories[0]).address
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if each := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = start <= int(each[1], 16) < start + SIZE
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1]) << 10
    return found


def run(main: object) -> None:
    asyncio.run(main)  # type: ignore[arg-type]


def test_it_is_given_back_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmapping, "PAUSE_S", 0.05)

    async def main() -> None:
        with filled() as life:
            full = resident(life)
            assert full >= SIZE
            giver, seen = Unmapping(), set()
            task = asyncio.ensure_future(giver.close(life))
            while life.instance is not None:
                seen.add((full - resident(life)) // PIECE_BYTES)
                await asyncio.sleep(0)
                if life.instance is not None:
                    assert giver.waiting in (0, SIZE)
            await task
            assert len(seen) > 2
            assert giver.waiting == 0

    run(main())


@pytest.mark.parametrize("why", ["hurry", "hurry later", "much waits", "cancelled"])
def test_it_is_given_back_at_once(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr(unmapping, "PAUSE_S", 3600)

    async def main() -> None:
        with filled() as life:
            giver = Unmapping()
            if why == "hurry":
                giver.hurry()
            if why == "much waits":
                giver.waiting = unmapping.MAX_WAITING_BYTES
            before = giver.waiting
            task = asyncio.ensure_future(giver.close(life))
            if why in ("hurry later", "cancelled"):
                while resident(life) > SIZE - PIECE_BYTES:  # the first piece
                    await asyncio.sleep(0.01)
                if why == "cancelled":
                    task.cancel()
                giver.hurry()
            await asyncio.wait([task])
            assert task.cancelled() == (why == "cancelled")
            assert life.instance is None
            assert giver.waiting == before

    run(main())


def test_one_that_is_closed_already_is_fine() -> None:
    with filled() as life:
        life.close()
        run(Unmapping().close(life))
