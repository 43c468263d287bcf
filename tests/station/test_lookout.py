"""Looking out for answers: only where they come soon, for few at once, while nobody else wants to run; and never for
nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from docking import lookout
from docking.lookout import FEW, PEERS, Lookout
from tests.station.harbour import harbour, journey, program, run

NEAR, FAR = b"n" * 32, b"f" * 32


def looking(
    main: Callable[[Lookout], Awaitable[None]], free: Callable[[], bool] = lambda: True, several: bool = True
) -> None:
    async def body() -> None:
        await main(Lookout(free, several))

    with pytest.MonkeyPatch.context() as patch:  # a busy machine is late for milliseconds
        patch.setattr(lookout, "MOMENT", 60.0)
        asyncio.run(body())


def known(out: Lookout, peer: bytes = NEAR) -> None:
    """The peer has answered once, at once."""
    out.expect("first", peer)
    out.came("first")


async def turns(out: Lookout, steps: int = 5) -> bool:
    """Whether it still turns after some steps of the loop."""
    for _ in range(steps):
        await asyncio.sleep(0)
    return out._turning


def test_a_peer_that_answered_soon_is_looked_out_for() -> None:
    async def main(out: Lookout) -> None:
        out.expect("a", NEAR)
        assert not await turns(out)  # how soon it answers is not known yet
        out.came("a")
        out.expect("b", NEAR)
        assert await turns(out)
        out.came("b")
        assert not await turns(out)
        assert not out._expected

    looking(main)


def test_after_the_moment_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(out: Lookout) -> None:
        known(out)
        monkeypatch.setattr(lookout, "MOMENT", 0.0)
        out.expect("late", NEAR)
        assert not await turns(out)
        monkeypatch.undo()
        out.came("late")
        out.expect("next", NEAR)  # it is not soon any more
        assert not await turns(out)
        out.came("next")
        out.expect("again", NEAR)  # this one was
        assert await turns(out)

    looking(main)


def test_what_never_comes_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(out: Lookout) -> None:
        monkeypatch.setattr(lookout, "MOMENT", 0.0)
        for number in range(1000):
            out.expect(number, FAR)
        assert len(out._expected) <= 1

    looking(main)


def test_nobody_looks_out_while_others_want_to_run() -> None:
    wanted = [False]

    async def main(out: Lookout) -> None:
        known(out)
        wanted[0] = True
        out.expect("a", NEAR)
        assert not await turns(out)
        wanted[0] = False
        out.expect("b", NEAR)
        assert await turns(out)
        wanted[0] = True
        assert not await turns(out)

    looking(main, free=lambda: not wanted[0])


def test_nobody_looks_out_for_a_crowd() -> None:
    async def main(out: Lookout) -> None:
        known(out)
        for number in range(FEW + 1):
            out.expect(number, NEAR)
        assert not await turns(out)
        for number in range(FEW + 1):
            out.came(number)

    looking(main)


def test_with_one_processor_nobody_looks_out() -> None:
    async def main(out: Lookout) -> None:
        known(out)
        out.expect("a", NEAR)
        assert not out._turning
        assert not out._expected

    looking(main, several=False)
    assert lookout.processors() >= 1


def test_peers_are_bounded() -> None:
    async def main(out: Lookout) -> None:
        for number in range(PEERS + 10):
            known(out, number.to_bytes(32, "big"))
        assert len(out._soon) == PEERS

    looking(main)


BACK_AND_FORTH = program("(drop (call $go (s 0))) (drop (call $go (s 1)))" * 3, "beta|home")


@run
async def test_stations_at_rest_look_out_for_nothing() -> None:
    async with harbour("home", "beta") as stations:
        report = await journey(stations[0], BACK_AND_FORTH, *["beta", "home"] * 3)
        assert len(report.trail) == 7
        for each in stations:
            out = each.office.courier._lookout
            assert out is not None
            assert bool(out._soon) == out._several  # it was told what is expected
            while out._expected or out._turning:
                await asyncio.sleep(0.001)


def test_with_a_disk_nobody_looks_out(tmp_path: Path) -> None:
    """Who writes to it needs the processor more."""

    @run
    async def main() -> None:
        async with harbour("home", "beta", home=tmp_path) as stations:
            assert [each.office.courier._lookout for each in stations] == [None, None]

    main()
