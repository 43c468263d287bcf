"""Work that is begun at once: what it does before its first wait is done when `begin` returns, whatever the Python."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from docking.aio import eager
from docking.peer_api import PeerApi
from docking.residents.departures import Departures
from docking.residents.notices import Notices
from tests.station.harbour import harbour, journey, program, run

Begin = Callable[[Coroutine[Any, Any, Any], asyncio.AbstractEventLoop], "asyncio.Future[Any]"]


# The way for older Pythons works on all of them.
@pytest.fixture(params=[eager.start_eagerly, eager._begin])
def begin(request: pytest.FixtureRequest) -> Begin:
    chosen: Begin = request.param
    return chosen


def test_what_never_waits_is_done(begin: Begin) -> None:
    async def work() -> int:
        return 7

    async def main() -> None:
        begun = begin(work(), asyncio.get_running_loop())
        assert begun.done()
        assert begun.result() == 7

    asyncio.run(main())


def test_what_waits_goes_on_later(begin: Begin) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second, seen = loop.create_future(), loop.create_future(), []

        async def work() -> str:
            seen.append("begun")
            seen.append(await first)
            await asyncio.sleep(0)
            seen.append(await second)
            return "done"

        begun = begin(work(), loop)
        assert seen == ["begun"]
        assert not begun.done()
        first.set_result("one")
        await asyncio.sleep(0)
        second.set_result("two")
        assert await begun == "done"
        assert seen == ["begun", "one", "two"]

    asyncio.run(main())


def test_what_fails_at_once_fails_in_its_future(begin: Begin) -> None:
    async def work() -> None:
        raise ValueError("no")

    async def main() -> None:
        begun = begin(work(), asyncio.get_running_loop())
        assert begun.done()
        with pytest.raises(ValueError, match="no"):
            await begun

    asyncio.run(main())


def test_what_fails_later_fails_in_its_future(begin: Begin) -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            raise ValueError("no")

    async def main() -> None:
        begun = begin(work(), asyncio.get_running_loop())
        assert not begun.done()
        with pytest.raises(ValueError, match="no"):
            await begun

    asyncio.run(main())


@pytest.mark.parametrize("later", [False, True])
def test_cancelling_it_is_heard_by_the_work(begin: Begin, later: bool) -> None:
    """Before its task has run for the first time, too: what the work holds is given back."""

    async def main() -> None:
        loop, seen = asyncio.get_running_loop(), []

        async def work() -> None:
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        begun = begin(work(), loop)
        if later:
            await asyncio.sleep(0)
        begun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begun
        assert seen == ["cancelled"]

    asyncio.run(main())


def test_work_may_refuse_to_be_cancelled(begin: Begin) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def work() -> str:
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                return "all the same"
            return "never"

        begun = begin(work(), loop)
        begun.cancel()
        assert await begun == "all the same"

    asyncio.run(main())


def test_a_cancelled_beginning_is_a_cancelled_future(begin: Begin) -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        begun = begin(work(), asyncio.get_running_loop())
        assert begun.cancelled()

    asyncio.run(main())


def test_a_result_that_was_there_before_the_task_is_taken(begin: Begin) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        async def work() -> int:
            return int(await answer)

        begun = begin(work(), loop)
        answer.set_result(3)
        assert await begun == 3

    asyncio.run(main())


def test_work_that_waits_in_vain_ends_with_its_loop(begin: Begin) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("ended")

    async def main() -> None:
        begin(work(), asyncio.get_running_loop())

    asyncio.run(main())
    assert ended == ["ended"]


def test_it_has_a_name_in_what_asyncio_says(begin: Begin) -> None:
    async def waits() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        begun = begin(waits(), asyncio.get_running_loop())
        assert "waits" in repr(begun)
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)

    asyncio.run(main())


BACK_AND_FORTH = program("(drop (call $go (s 0))) (drop (call $go (s 1)))" * 4, "beta|home")


def test_an_agent_that_is_back_before_it_was_seen_off_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its departure taught is learnt a moment after it; a busy station may hear from the agent before that."""
    answering, refused = [0], []
    see_off, handoff, attempt = Notices.see_off, PeerApi.handoff, Departures._attempt

    def only_when_it_returns(self: Notices, agent: bytes) -> None:
        if answering[0]:
            see_off(self, agent)

    async def answer(self: PeerApi, sender: Any, message: Any) -> Any:
        answering[0] += 1
        try:
            return await handoff(self, sender, message)
        finally:
            answering[0] -= 1

    async def try_to_leave(self: Departures, *parts: Any) -> Any:
        found = await attempt(self, *parts)
        refused.extend([] if found is None else [found.code])
        return found

    monkeypatch.setattr(Notices, "see_off", only_when_it_returns)
    monkeypatch.setattr(PeerApi, "handoff", answer)
    monkeypatch.setattr(Departures, "_attempt", try_to_leave)

    @run
    async def main() -> None:
        async with harbour("home", "beta") as (home, _):
            report = await journey(home, BACK_AND_FORTH, *["beta", "home"] * 4)
            assert [stay.station for stay in report.trail] == [*["home", "beta"] * 4, "home"]

    main()
    assert refused == []
