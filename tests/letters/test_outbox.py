"""A letter leaves when it is in the outbox, also where that takes the disk a moment."""

from __future__ import annotations

from pathlib import Path

from docking.letters.orders import OrderKind
from docking.residents.berth import Standing
from tests.residents.guests import FOREVER
from tests.station.harbour import begin, harbour, numbers, program, run, settled


@run
async def test_a_message_and_an_order_do_not_wait_for_the_next_letter(tmp_path: Path) -> None:
    mover = program(
        f"""(drop (call $go (s 0)))
            (call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
            (drop (call $recv (i32.const 300) (i32.const 64) {FOREVER}))""",
        "beta",
    )
    async with harbour("home", "beta", home=tmp_path) as (home, beta):
        agent = await begin(home, mover, "beta")
        await settled(beta, agent, Standing.WAITING)
        assert agent.send("hello there") == "sent"
        await settled(beta, agent, Standing.WAITING)
        assert home.core.commands.order(agent.key, OrderKind.RETRACT) == "sent"
        await settled(home, agent, Standing.WAITING)
        agent.send("goodbye")
        report = await agent.wait()
    assert numbers(report, "n") == [11]
