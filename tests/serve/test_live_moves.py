"""An agent that serves is moved by order while clients ask: nothing is lost, and each request is done once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from docking.residents import serving
from docking.residents.berth import Standing
from tests.station.harbour import harbour, run, settled

from .servers import COUNTER, ask, keep_asking, launch


@run
async def test_clients_that_ask_while_it_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PASS_ON_S", 3600.0)
    async with harbour("alpha", "beta", "gamma") as stations:
        alpha = stations[0]
        agent = await launch(alpha, COUNTER, "beta", "gamma", "alpha")
        over = asyncio.Event()
        clients = [asyncio.create_task(keep_asking(alpha, f"client{i}", over)) for i in range(2)]
        at = alpha
        for to in (*stations[1:], alpha):
            while agent.key not in at.core.here.berths:
                await asyncio.sleep(0.005)
            assert (await at.agent(agent.id).move(to.name)).to == to.name
            at, before = to, to.core.serving.counts["accepted"]
            while to.core.serving.counts["accepted"] <= before:
                await asyncio.sleep(0.005)
        over.set()
        sent = [token for tokens in await asyncio.gather(*clients) for token in tokens]
        done = (await ask(alpha, "/tokens")).json
        assert sorted(done) == sorted(sent)
        assert len(set(done)) == len(done)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("precopy", [False, True])
def test_one_that_nobody_has_asked_yet_moves_on(tmp_path: Path, durable: bool, precopy: bool) -> None:
    @run
    async def main() -> None:
        async with harbour("alpha", "beta", "gamma", home=tmp_path if durable else None) as (alpha, beta, gamma):
            agent = await launch(alpha, COUNTER, "beta", "gamma")
            assert (await ask(alpha, "/", "POST", "first")).status == 200
            assert (await alpha.agent(agent.id).move("beta")).rounds > 0
            await settled(beta, agent, Standing.WAITING)  # it has not run there
            assert (await beta.agent(agent.id).move("gamma", precopy=precopy)).rounds >= precopy
            assert (await ask(gamma, "/tokens")).json == ["first"]

    main()


@pytest.mark.parametrize("durable", [False, True])
def test_one_that_nobody_has_asked_yet_is_called_home(tmp_path: Path, durable: bool) -> None:
    @run
    async def main() -> None:
        async with harbour("alpha", "beta", home=tmp_path if durable else None) as (alpha, beta):
            agent = await launch(alpha, COUNTER, "beta")
            assert (await ask(alpha, "/", "POST", "first")).status == 200
            assert (await alpha.agent(agent.id).move("beta")).rounds > 0
            await settled(beta, agent, Standing.WAITING)
            beta.agent(agent.id).retract()
            assert (await ask(alpha, "/tokens")).json == ["first"]

    main()
