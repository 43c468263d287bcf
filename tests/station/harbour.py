"""Stations for tests: in one event loop, over HTTP on free ports, each told where the others are.

Nothing is replaced: only mDNS is off (it has tests of its own), and waits of the protocol are short.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import agents
from agents import canonical
from agents.credentials.keys import SecretKey
from agents.image import AgentImage
from docking import Policy, Station
from docking.events import Event, Subscription
from docking.handle import Agent, Report
from docking.handoff.actions import Timing
from docking.residents.berth import Standing
from tests.patience import PATIENCE

OWNER = SecretKey(canonical.digest(b"test owner"))
STRANGER = SecretKey(canonical.digest(b"test stranger"))
TIMING = Timing(offer_again_s=0.2, commit_again_s=0.05, ask_again_s=0.05, longest_s=0.4)
LIMIT = PATIENCE


def run(main: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test from a coroutine function."""

    @functools.wraps(main)
    def test(*args: Any, **options: Any) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(main(*args, **options), LIMIT)

        asyncio.run(bounded())

    return test


def key_of(name: str) -> SecretKey:
    """The key of a station without a home."""
    return SecretKey(canonical.digest(b"test station " + name.encode()))


def station(name: str, home: Path | None = None, **options: Any) -> Station:
    """A station that is not started. It admits the agents of `OWNER`."""
    options = {"policy": Policy(owners=[OWNER.public]), "timing": TIMING, "patience": 5.0, "control": False} | options
    key = None if home is not None else key_of(name)
    return Station(name, home, host="127.0.0.1", mdns=False, key=options.pop("key", key), threads=2, **options)


async def meet(*stations: Station) -> None:
    """Tell each station where the others are."""
    await asyncio.gather(*(a.introductions.call_on(b.url) for a in stations for b in stations if a is not b))


@contextlib.asynccontextmanager
async def harbour(*names: str, home: Path | None = None, **options: Any) -> AsyncIterator[list[Station]]:
    """Stations that run and know each other. `home`: the folder that holds their homes; None: volatile."""
    async with contextlib.AsyncExitStack() as stack:
        stations = [station(name, None if home is None else home / name, **options) for name in names]
        for each in stations:
            await stack.enter_async_context(each)
        await meet(*stations)
        yield stations


@functools.cache
def packed(wat: str, **options: Any) -> AgentImage:
    """The image of a program in the text format."""
    return agents.pack(wat, **options)


class Watch:
    """The events of a station, to be waited for."""

    def __init__(self, station: Station) -> None:
        self.seen: list[Event] = []
        self._subscription: Subscription = station.subscribe()

    async def until(self, kind: str, wanted: Callable[[Event], bool] = lambda event: True) -> Event:
        """The next event of this kind."""
        async for event in self._subscription:
            self.seen.append(event)
            if event.kind == kind and wanted(event):
                return event
        raise AssertionError(f"the station has ended without {kind}")


async def journey(home: Station, wat: str, *via: str, args: tuple[str, ...] = (), **options: Any) -> Report:
    """Launch a program, and wait for its end."""
    agent = await begin(home, wat, *via, args=args, **options)
    return await agent.wait(LIMIT)


async def begin(home: Station, wat: str, *via: str, args: tuple[str, ...] = (), **options: Any) -> Agent:
    """Launch a program."""
    return await home.launch(packed(wat), list(via), owner=OWNER, args=args, **options)


async def settled(at: Station, agent: Agent, standing: Standing) -> Any:
    """The agent's berth, when it stands like this and nothing is left to be written."""
    while True:
        found = at.core.here.berths.get(agent.key)
        if found is not None and found.standing is standing and not found.running:
            await at.core.here.journal.write([], True)
            await asyncio.sleep(0)
            return found
        await asyncio.sleep(0.005)


def program(body: str, data: str = "", locals_: str = "") -> str:
    """A module in the text format with the calls of module `portcall`, and strings at 1000, 1100, ...

    `data`: words, the n-th of which lies at 1000 + 100 * n. In `body`, `(s N)` stands for pointer and length of word N.
    """
    words = data.split("|") if data else []
    for number, word in enumerate(words):
        body = body.replace(f"(s {number})", f"(i32.const {1000 + 100 * number}) (i32.const {len(word.encode())})")
    segments = "\n".join(f'(data (i32.const {1000 + 100 * n}) "{word}")' for n, word in enumerate(words))
    return f"""(module
      (import "portcall" "go" (func $go (param i32 i32) (result i32)))
      (import "portcall" "go_wait" (func $go_wait (param i32 i32 i32) (result i32)))
      (import "portcall" "go_at" (func $go_at (param i32 i32 i32 i32) (result i32)))
      (import "portcall" "here" (func $here (param i32 i32) (result i32)))
      (import "portcall" "me" (func $me (param i32 i32) (result i32)))
      (import "portcall" "next_stop" (func $next_stop (param i32 i32) (result i32)))
      (import "portcall" "call" (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
      (import "portcall" "send" (func $send (param i32 i32 i32 i32) (result i32)))
      (import "portcall" "recv" (func $recv (param i32 i32 i32) (result i32)))
      (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
      (import "portcall" "clone" (func $clone (param i32 i32) (result i32)))
      (import "portcall" "fork" (func $fork (param i32 i32 i32) (result i32)))
      (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
      (import "portcall" "log" (func $log (param i32 i32 i32) (result i32)))
      (import "portcall" "lookup" (func $lookup (param i32 i32 i32 i32) (result i32)))
      (import "portcall" "exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (global $count (mut i32) (i32.const 0))
      {segments}
      ;; a result: the 32-bit number $value under the key of one letter $key
      (func $tell (param $key i32) (param $value i32)
        (i32.store8 (i32.const 100) (local.get $key))
        (i32.store (i32.const 104) (local.get $value))
        (drop (call $report (i32.const 100) (i32.const 1) (i32.const 104) (i32.const 4))))
      ;; a result: the name of this station under the key h
      (func $tell_here
        (i32.store8 (i32.const 100) (i32.const 104))
        (drop (call $report (i32.const 100) (i32.const 1) (i32.const 200) (call $here (i32.const 200) (i32.const 64)))))
      (func (export "_start") {locals_}
        {body}))"""


def numbers(report: Report, key: str) -> list[int]:
    """The numbers that a program told under a key."""
    return [int.from_bytes(r.value, "little", signed=True) for r in report.results if r.key == key]


def places(report: Report) -> list[str]:
    """The names that a program told with `$tell_here`."""
    return [r.value.decode() for r in report.results if r.key == "h"]
