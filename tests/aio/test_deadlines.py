"""Many deadlines on one timer: none early, none after it was stopped, none lost."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docking.aio import deadlines
from docking.aio.deadlines import Deadlines
from docking.aio.loops import run_loop


def name(number: int) -> bytes:
    return number.to_bytes(4, "big")


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["start", "stop"]), st.integers(0, 30)), max_size=60),
)
def test_each_is_called_once_at_its_time_unless_it_was_stopped(steps: list[tuple[int, str, int]]) -> None:
    async def main() -> None:
        loop, timers = asyncio.get_running_loop(), Deadlines()
        called: list[tuple[int, int]] = []
        wanted: dict[int, tuple[int, float]] = {}

        def due(which: int, step: int) -> None:
            assert loop.time() >= wanted[which][1]
            assert name(which) not in timers
            called.append((which, step))

        for step, (which, what, wait) in enumerate(steps):
            if what == "stop":
                timers.stop(name(which))
                wanted.pop(which, None)
            else:
                wanted[which] = (step, loop.time() + wait / 1000)
                timers.start(name(which), wait / 1000, due, which, step)
            assert len(timers) == len(wanted)
        while len(timers):
            await asyncio.sleep(0.001)
        assert sorted(called) == sorted((which, step) for which, (step, _) in wanted.items())
        order = [wanted[which][1] for which, _ in called]
        assert order == sorted(order)

    run_loop(main())


def test_one_that_fails_does_not_hold_up_the_others() -> None:
    async def main() -> None:
        said: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        timers, called = Deadlines(), list[int]()
        for number in range(3):
            timers.start(name(number), 0.001 * number, lambda n=number: called.append(1 // (n - 1)))
        while len(timers):
            await asyncio.sleep(0.001)
        assert called == [-1, 1]
        assert [type(each["exception"]) for each in said] == [ZeroDivisionError]

    run_loop(main())


def test_others_have_their_turn_while_many_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "AT_ONCE_S", 0.0)

    async def main() -> None:
        timers, called = Deadlines(), list[int]()
        for number in range(200):
            timers.start(name(number), 0.0, called.append, number)
        turns = 0
        while len(timers):
            await asyncio.sleep(0)
            turns += 1
        assert called == list(range(200))
        assert turns > 10

    run_loop(main())


def test_a_call_may_start_and_stop_others() -> None:
    async def main() -> None:
        timers, called = Deadlines(), list[str]()

        def first() -> None:
            timers.stop(name(2))
            timers.start(name(1), 0.0, called.append, "again")

        timers.start(name(1), 0.0, first)
        timers.start(name(2), 0.0, called.append, "stopped")
        while len(timers):
            await asyncio.sleep(0.001)
        assert called == ["again"]

    run_loop(main())


def test_what_was_stopped_is_not_held_for_long() -> None:
    async def main() -> None:
        timers = Deadlines()
        for number in range(10_000):
            timers.start(name(number % 10), 3600, print)
        assert len(timers._heap) < 200
        timers.close()
        gc.collect()
        assert len(timers) == len(timers._heap) == 0

    run_loop(main())
