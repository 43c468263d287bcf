"""Messages between agents: in order, wherever the agent has moved to, and as many as the permit says."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from agents.credentials.permit import Permit
from docking import Terms
from docking.errors import StationError
from docking.launching import DEFAULT_PERMIT
from docking.residents.berth import Standing
from tests.residents.guests import FOREVER, LISTENER
from tests.station.harbour import OWNER, begin, harbour, journey, meet, numbers, places, program, run, settled, station


@run
async def test_messages_are_delivered_in_order_and_travel_with_the_agent() -> None:
    listener = program(
        f"""(drop (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
            (drop (call $go (s 0)))
            (call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
            (call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
            (call $tell_here)""",
        "beta1",
    )
    async with harbour("home", "beta1") as (home, _):
        agent = await begin(home, listener, "beta1")
        await settled(home, agent, Standing.WAITING)
        assert [agent.send("go"), agent.send("22"), agent.send("333")] == ["delivered"] * 3
        report = await agent.wait()
    assert (numbers(report, "n"), places(report)) == ([2, 3], ["beta1"])


@run
async def test_a_message_follows_an_agent_that_has_moved() -> None:
    mover = program(
        f"""(drop (call $go (s 0))) (drop (call $go (s 1)))
            (call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 64) {FOREVER}))
            (call $tell_here)""",
        "beta1|gamma",
    )
    async with harbour("home", "beta1", "gamma") as (home, _, gamma):
        agent = await begin(home, mover, "beta1", "gamma")
        await settled(gamma, agent, Standing.WAITING)
        assert agent.send("hello there") == "sent"
        report = await agent.wait()
    assert (numbers(report, "n"), places(report)) == ([11], ["gamma"])


@run
async def test_agents_write_to_each_other() -> None:
    async with harbour("home", "beta1") as (home, beta):
        listener = await begin(beta, LISTENER)
        await settled(beta, listener, Standing.WAITING)
        writer = program(
            "(drop (call $go (s 0))) (call $tell (i32.const 115) (call $send (s 1) (s 2)))"
            "(call $tell (i32.const 115) (call $send (s 1) (s 3)))",
            f"beta1|{listener.id}|four|x",
        )
        report = await journey(home, writer, "beta1")
        assert numbers(report, "s") == [0, 0]
        assert numbers(await listener.wait(), "n") == [4, 1]


@run
async def test_an_agent_may_send_as_many_messages_as_its_permit_says() -> None:
    me = "(i32.const 400) (call $me (i32.const 400) (i32.const 64))"
    send = program(f"(call $tell (i32.const 115) (call $send {me} (s 0)))" * 2, "x")
    one = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, messages=1))
    none = Permit(DEFAULT_PERMIT.budget, ("service:*",))
    async with harbour("home") as (home,):
        assert numbers(await journey(home, send, terms=Terms(permit=one)), "s") == [0, -19]
        assert numbers(await journey(home, send, terms=Terms(permit=none)), "s") == [-63, -63]


@run
async def test_a_message_of_a_person_has_the_bound_that_those_of_agents_have() -> None:
    async with harbour("home") as (home,):
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        with pytest.raises(StationError, match="1048577 bytes"):
            agent.send(bytes((1 << 20) + 1))
        assert agent.send(bytes(1 << 20)) == "delivered"


@run
async def test_recv_gives_up_in_time() -> None:
    impatient = program("(call $tell (i32.const 110) (call $recv (i32.const 300) (i32.const 64) (i32.const 30)))")
    async with harbour("home") as (home,):
        assert numbers(await journey(home, impatient), "n") == [-73]


@run
async def test_a_message_that_was_taken_survives(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home, station("other") as other:
        await meet(home, other)
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        agent.sleep()
        await settled(home, agent, Standing.ASLEEP)
        for number, body in enumerate((b"four", b"x")):
            letter = ["message", bytes([number]) * 32, [agent.key, "someone", body, 0]]
            assert await other.introductions.letter(home.key, letter) == ["taken"]
            assert await other.introductions.letter(home.key, letter) == ["taken"]  # the same again
    async with station("home", tmp_path / "home") as home:
        again = home.agent(agent.id, OWNER)
        again.wake()
        assert numbers(await again.wait(), "n") == [4, 1]
