"""A station whose clock is wrong refuses agents with a sentence that names the clock, and home's log says it."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

import agents
import docking
from docking.station import Clocks
from tests.patience import PATIENCE

DAY = 86_400 * 10**9
LEAVES = """(module (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "beta")
  (func (export "run") (result i32) (call $go (i32.const 0) (i32.const 4))))"""


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (3, "expired 2 days ago by the clock here: launch it anew, for longer"),
        (-3, "begins in 2 days by the clock here: is one of the clocks wrong?"),
    ],
)
def test_a_clock_that_is_off(days: int, said: str) -> None:
    me = docking.SecretKey(os.urandom(32))
    policy = docking.Policy(owners=[me.public])
    wrong = Clocks(lambda: time.time_ns() + days * DAY + DAY // 2 * (days < 0), time.monotonic_ns, os.urandom)

    async def journey() -> list[str]:
        async with docking.Station("alpha", policy=policy, host="127.0.0.1", mdns=False) as alpha:
            options = {"host": "127.0.0.1", "mdns": False, "peers": [alpha.url]}
            async with docking.Station("beta", policy=policy, clocks=wrong, **options):
                agent = await alpha.launch(agents.pack(LEAVES), via=["beta"], owner=me)
                texts = [event.text async for event in agent.events() if event.kind == "refused"]
                assert (await agent.wait(PATIENCE)).exit_code == 0
                return texts

    (text,) = asyncio.run(asyncio.wait_for(journey(), PATIENCE))
    assert said in text
