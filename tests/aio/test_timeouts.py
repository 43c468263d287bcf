"""Waiting for so long: a cancellation is always heard, whatever ends in the same step; what was made is not lost."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import pytest

import docking
from docking.aio.timeouts import ended, within


def test_what_is_in_time_is_given() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    async def main() -> None:
        assert await within(30, work()) == 7
        assert await within(None, work()) == 7

    asyncio.run(main())


def test_what_takes_too_long_is_cancelled_and_not_waited_for() -> None:
    cancelled = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(True)
            await asyncio.Event().wait()  # it does not want to end

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await within(0.001, work())
        await asyncio.sleep(0)
        assert cancelled

    asyncio.run(main())


def test_an_error_is_told_and_a_cancellation_from_inside_is_one() -> None:
    async def fails() -> None:
        raise ValueError("no")

    async def cancels() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        with pytest.raises(ValueError, match="no"):
            await within(30, fails())
        with pytest.raises(RuntimeError):
            await within(30, cancels())

    asyncio.run(main())


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("fails", [False, True])
def test_a_cancellation_is_heard_in_whatever_step_the_work_ends(steps: int, fails: bool) -> None:
    """`asyncio.wait_for` of 3.10 and 3.11 gives the result, in one of these steps: the cancellation is lost."""

    async def main() -> None:
        gate, dropped, went_on = asyncio.get_running_loop().create_future(), list[str](), []

        async def work() -> str:
            await gate
            if fails:
                raise ValueError("no")
            return "made"

        async def caller() -> None:
            await within(30, work(), dropped.append)
            went_on.append(True)
            await asyncio.get_running_loop().create_future()

        task = asyncio.ensure_future(caller())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gate.set_result(None)
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=30)
        assert task in done
        if not task.cancelled():
            assert fails  # it had failed before
            assert task.exception() is not None
        # Either its caller has it, or it was dropped.
        assert len(dropped) + len(went_on) == (0 if fails else 1)

    asyncio.run(main())


def test_a_result_that_comes_too_late_is_dropped() -> None:
    async def main() -> None:
        dropped = asyncio.Event()

        async def stubborn() -> str:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                return "made all the same"
            return "never"

        with pytest.raises(asyncio.TimeoutError):
            await within(0.001, stubborn(), lambda made: dropped.set())
        await dropped.wait()

    asyncio.run(main())


def test_tasks_are_ended_even_if_one_cancellation_is_swallowed(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def once() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                await asyncio.get_running_loop().create_future()

        async def never() -> None:
            while True:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    if over:
                        raise

        async def fails() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                raise ValueError("no")

        over = False
        tasks = [asyncio.ensure_future(work()) for work in (once, never, fails)]
        await asyncio.sleep(0)
        await ended(tasks, 0.08)
        assert [task.done() for task in tasks] == [True, False, True]
        over = True
        await ended(tasks, 30)
        assert tasks[1].done()
        await ended([])

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert [record.getMessage().endswith("never does not end, and is not waited for") for record in caplog.records] == [
        True
    ]


def test_nobody_uses_what_loses_cancellations_or_times() -> None:
    """`wait_for` loses cancellations, `when()` is not there in uvloop, `run_in_executor` loses a StopIteration."""
    allowed: dict[str, Any] = {r"\brun_in_executor\(": {"threads.py", "place.py"}}
    for pattern in (r"\bwait_for\(", r"\.when\(\)", r"\brun_in_executor\("):
        users = {
            path.name
            for path in Path(docking.__file__).parent.rglob("*.py")
            if re.search(pattern, path.read_text("utf-8"))
        }
        assert users <= allowed.get(pattern, set()), pattern
