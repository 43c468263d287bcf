"""Agents that tests of residents launch, and a look at what a station keeps of one."""

from __future__ import annotations

from typing import Any

from docking import Station
from docking.handle import Agent
from tests.station.harbour import program

RESTING = program("(drop (call $sleep (i32.const 3600000))) (call $tell_here)")
# Tells where it is, goes on, and sleeps there.
GOER = program(
    "(call $tell_here) (drop (call $go (s 0))) (call $tell_here) (drop (call $sleep (i32.const 3600000)))", "beta"
)

FOREVER = "(i32.const -1)"
# Waits for messages and tells the length of each, until one has one byte only.
LISTENER = program(
    f"""(loop $next
         (local.set $n (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
         (call $tell (i32.const 110) (local.get $n))
         (br_if $next (i32.gt_s (local.get $n) (i32.const 1))))
       (call $tell_here)""",
    "x",
    "(local $n i32)",
)
SLEEPER = program("(call $tell (i32.const 115) (call $sleep (i32.const 300))) (call $tell_here)")
BUSY = program(
    """(loop $for_ever
         (global.set $count (i32.add (global.get $count) (i32.const 1)))
         (br_if $for_ever (i32.ne (global.get $count) (i32.const 2000000000))))
       (call $tell (i32.const 99) (global.get $count))""",
)


def berth(at: Station, agent: Agent) -> Any:
    found = at.core.here.berths.get(agent.key)
    assert found is not None
    return found


def calling(*names: str, room: int = 64) -> str:
    """Calls services, and tells what each gave."""
    calls = "\n".join(
        f"(call $tell (i32.const 99) (call $call (s {n}) (s 0) (i32.const 4000) (i32.const {room})))"
        for n in range(1, len(names) + 1)
    )
    return program(calls, "|".join(("request", *names)))
