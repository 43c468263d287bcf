"""An agent that serves keeps its instance, and is stored all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from docking.residents import saves
from docking.residents.berth import Standing
from tests.station.harbour import harbour, run, settled, station

from .servers import COUNTER, ask, launch


@run
async def test_it_keeps_its_instance_between_two_requests(tmp_path: Path) -> None:
    async with harbour("alpha", home=tmp_path) as (alpha,):
        agent = await launch(alpha, COUNTER)
        await ask(alpha, "/")
        life = alpha.core.here.berths[agent.key].life
        for _ in range(3):
            await ask(alpha, "/")
            assert alpha.core.here.berths[agent.key].life is life


@pytest.mark.parametrize("large", [False, True])
@run
async def test_what_it_did_is_stored_when_it_is_idle(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saves, "LEAST_S", 0.02)
    monkeypatch.setattr(saves, "EACH_MIB_S", 0.0)
    if large:
        monkeypatch.setattr(saves, "LARGE_BYTES", 0)
    async with harbour("alpha", home=tmp_path) as (alpha,):
        agent = await launch(alpha, COUNTER)
        for count in range(1, 4):
            assert (await ask(alpha, "/")).json["count"] == count
        all_saves = alpha.core.serving._saves
        berth = await settled(alpha, agent, Standing.WAITING)
        while berth.running or all_saves._clean.get(agent.key) != berth.cpu_us:
            await asyncio.sleep(0.01)
        await alpha.core.here.journal.write([], True)
        saved = berth.saved
        assert saved.note.wait == "accept"
        done = all_saves.done
        await asyncio.sleep(0.1)
        assert all_saves.done == done  # nothing has changed since
        assert (await ask(alpha, "/")).json["count"] == 4


@run
async def test_a_busy_agent_is_stored_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "LEAST_S", 0.01)
    monkeypatch.setattr(saves, "EACH_MIB_S", 0.0)
    async with harbour("alpha", home=tmp_path) as (alpha,):
        await launch(alpha, COUNTER)
        count = 0
        while alpha.core.serving._saves.done < 3:
            count += 1
            assert (await ask(alpha, "/")).json["count"] == count


@run
async def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with harbour("alpha", home=tmp_path) as (alpha,):
        agent = await launch(alpha, COUNTER)
        assert (await ask(alpha, "/")).json["count"] == 1
    async with station("alpha", tmp_path / "alpha") as again:
        assert (await ask(again, "/", agent=agent.id)).json["count"] == 2
        await settled(again, again.agent(agent.id), Standing.WAITING)
        row = next(row for row in again.core.queries.rows())
        assert (row["standing"], row["text"], row["requests"]) == ("waiting", "serves", 0)
        assert 'portcall_agent_answers_total{status="200"} 1' in again.metrics()


@run
async def test_orders_and_timeouts_while_it_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "LEAST_S", 0.0)
    monkeypatch.setattr(saves, "EACH_MIB_S", 0.0)
    source = """
import portcall

while True:
    try:
        portcall.reply(portcall.accept(0.1), "hello")
    except OSError as error:
        portcall.report("waited", error.errno)
        break
"""
    async with harbour("alpha", home=tmp_path) as (alpha,):
        agent = await launch(alpha, source)
        report = await agent.wait(60)
        assert [each.text for each in report.results] == ["73"]
        assert alpha.core.serving._saves.done
        service = await launch(alpha, COUNTER, label="other")
        assert (await ask(alpha, "/", agent="other")).status == 200
        service.dispose()
        while service.standing != "disposed":
            await asyncio.sleep(0.01)
        assert (await ask(alpha, "/", agent="other")).status == 410
