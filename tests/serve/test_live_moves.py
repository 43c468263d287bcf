"""An agent that serves is moved by order while clients ask: nothing is lost, and each request is done once."""

from __future__ import annotations

import asyncio

import pytest

from docking.residents import serving
from tests.station.harbour import harbour, run

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
