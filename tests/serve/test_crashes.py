"""A station that is killed while its agent serves: it goes on from its checkpoint, and no client is told twice."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from docking.residents.berth import Standing
from tests.station.harbour import harbour, meet, run, settled, station

from .servers import COUNTER, ask, launch

LATE = """
import portcall

request = portcall.accept()
portcall.sleep(0.2)
portcall.reply(request, "answered at " + portcall.here())
portcall.serve(lambda request: "more")
"""


@run
async def test_it_goes_on_from_its_checkpoint_after_a_crash(tmp_path: Path) -> None:
    async with harbour("alpha", home=tmp_path) as (alpha,):
        agent = await launch(alpha, COUNTER)
        berth = await settled(alpha, agent, Standing.WAITING)
        alpha.core.serving._saves._save(berth)
        await settled(alpha, agent, Standing.WAITING)
        assert (await ask(alpha, "/", "POST", "lost")).json["count"] == 1
        await alpha.core.here.journal.write([], True)
        shutil.copytree(tmp_path / "alpha", tmp_path / "crashed")  # what a crash leaves
    async with station("alpha", tmp_path / "crashed") as again:
        assert (await ask(again, "/", "POST", "kept")).json["count"] == 1
        assert (await ask(again, "/tokens")).json == ["kept"]


@run
async def test_an_answer_that_is_given_again_after_a_crash_is_dropped(tmp_path: Path) -> None:
    async with harbour("alpha", "beta", home=tmp_path) as (alpha, beta):
        await launch(beta, LATE, label="service")
        agent = beta.agent("service")
        ident = alpha.core.serving.new_ident()
        message = b"GET / HTTP/1.1\r\nportcall-request: %s\r\n\r\n" % ident.encode()
        answered = asyncio.create_task(alpha.core.serving.ask(agent.key, ident, message, 60))
        value = ["request", ident, agent.key, message, 60_000, 1]
        assert await alpha.introductions.serve(beta.key, value) == ["taken"]
        berth = await settled(beta, agent, Standing.WAITING)
        while not berth.saved or berth.saved.note.wait != "sleep":  # it sleeps with the request in its hands, stored
            await asyncio.sleep(0.005)
        await beta.core.here.journal.write([], True)
        shutil.copytree(tmp_path / "beta", tmp_path / "crashed")
        assert await answered == b"HTTP/1.1 200 \r\ncontent-type: text/plain; charset=utf-8\r\n\r\nanswered at beta"
        await beta.close()
        again = station("beta", tmp_path / "crashed")
        async with again:
            await meet(alpha, again)
            while not alpha.core.serving.counts["late"]:
                await asyncio.sleep(0.01)
            assert (await ask(again, "/", agent=agent.id)).body == b"more"
