"""Messages to agents that move: each once, in the order of its sender, however often the agent moves meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from docking.letters import outbox
from docking.residents import post
from docking.residents.berth import Standing
from tests.station.harbour import OWNER, Agent, Station, begin, harbour, numbers, packed, program, run, settled

# Goes to and fro between beta and gamma, takes what has come at each stop without waiting, and says the number in each.
TAKE = """(block $none{m} (loop $more{m}
      (br_if $none{m} (i32.ne (call $recv (i32.const 300) (i32.const 4) (i32.const 0)) (i32.const 4)))
      (call $tell (i32.const 110) (i32.load (i32.const 300)))
      (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $more{m})))"""
HOPPER = (
    "(loop $hop (drop (call $go (s 0)))"
    + TAKE.replace("{m}", "1")
    + "(drop (call $go (s 1)))"
    + TAKE.replace("{m}", "2")
    + "(br_if $hop (i32.lt_u (local.get $n) (i32.const {messages}))))"
)
READ_THREE = "(call $tell (i32.const 114) (call $recv (i32.const 300) (i32.const 64) (i32.const -1)))" * 3
SLEEP = "(drop (call $sleep (i32.const 60000)))"


async def hopping(home: Station, messages: int) -> Agent:
    """An agent that never rests until it has so many messages."""
    wat = program(HOPPER.replace("{messages}", str(messages)), "beta|gamma", "(local $n i32)")
    agent = await home.launch(packed(wat), "(beta,gamma)*2000", owner=OWNER)
    while agent.standing != "travelling":
        await asyncio.sleep(0.005)
    return agent


@run
async def test_an_agent_that_never_rests_gets_each_message_once_and_in_order() -> None:
    async with harbour("home", "beta", "gamma") as (home, _, _):
        agent = await hopping(home, 100)
        for number in range(100):
            assert agent.send(number.to_bytes(4, "little")) in ("sent", "delivered")
            await asyncio.sleep(0.002)
        report = await agent.wait()
        assert numbers(report, "n") == list(range(100))
        assert len(report.trail) > 16
        assert home.core.here.store.letters(2**61, 9) == []


@run
async def test_messages_of_an_agent_that_moves_itself_stay_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first waits at home, where it was sent; what is sent later and elsewhere waits for it."""
    async with harbour("home", "beta", "gamma") as (home, _, gamma):
        receiver = await begin(gamma, program(SLEEP + READ_THREE))
        berth = await settled(gamma, receiver, Standing.WAITING)
        home.core.post.places[receiver.key] = gamma.key
        monkeypatch.setattr(outbox, "FIRST_RETRY_MS", 10**9)
        monkeypatch.setattr(outbox, "LONGEST_RETRY_MS", 10**9)
        home.core.here.outbox.put_off(receiver.key)
        monkeypatch.setattr(outbox, "LONGEST_RETRY_MS", 100)
        send = "(call $tell (i32.const 115) (call $send (s 0) (s {})))"
        sender = program(
            send.format(1) + "(drop (call $go (s 2)))" + send.format(3) + send.format(4),
            f"{receiver.id}|1|beta|22|333",
        )
        said = await (await begin(home, sender, "beta")).wait()
        assert numbers(said, "s") == [0, 0, 0]
        assert not berth.inbox
        home.core.here.outbox.here_now(receiver.key)
        receiver.wake()
        assert numbers(await receiver.wait(), "r") == [1, 2, 3]


@run
async def test_a_message_that_cannot_be_delivered_stays_where_it_was_sent(tmp_path: Path) -> None:
    async with harbour("home", "beta", home=tmp_path) as (home, beta):
        agent = await begin(home, program("(drop (call $go (s 0)))" + READ_THREE, "beta"), "beta")
        await settled(beta, agent, Standing.WAITING)
        await beta.close()
        for body in ("1", "22", "333"):
            assert agent.send(body) == "sent"
        await home.core.here.journal.write([], True)
        assert len(home.core.here.store.letters(2**61, 9)) == 3
        await home.close()
        await home.start()
        await beta.start()
        await home.introductions.call_on(beta.url)
        assert numbers(await home.agent(agent.id, OWNER).wait(), "r") == [1, 2, 3]


@run
async def test_the_sender_is_told_at_once_of_an_agent_that_has_ended_elsewhere() -> None:
    async with harbour("home", "beta") as (home, beta):
        ended = await begin(home, program("(drop (call $go (s 0)))", "beta"), "beta")
        await ended.wait()
        for at in (home, beta):
            sender = await begin(at, program("(call $tell (i32.const 115) (call $send (s 0) (s 1)))", f"{ended.id}|x"))
            assert numbers(await sender.wait(), "s") == [-23]


@run
async def test_the_operator_is_told_of_a_message_that_turns_out_to_be_undeliverable() -> None:
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, program("(drop (call $go (s 0)))" + SLEEP, "beta"), "beta")
        await settled(beta, agent, Standing.WAITING)
        seen = home.subscribe()
        home.core.here.outbox.put_off(agent.key, 500)
        assert agent.send("too late") == "sent"
        beta.agent(agent.id).dispose()
        async for event in seen:
            if event.kind == "alarm":
                assert (event.agent, event.text) == (agent.id, "a message of home was not taken: the agent has ended")
                break
        await home.core.here.journal.write([], True)
        assert home.core.here.store.letters(2**61, 9) == []


@run
async def test_whoever_floods_a_station_with_letters_for_agents_on_their_way_is_put_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(post, "MAX_WAITING", 8)
    monkeypatch.setattr(post, "PATIENCE_MS", 300)
    async with harbour("home", "beta") as (home, beta):
        about = ["message", "", b"", 0, b""]
        names = [number.to_bytes(32, "big") for number in range(50)]
        letters = [["talk", name, [[name, "x", b"x", about, b"", 0, 0, []], 1, True, 10**6]] for name in names]
        answers = await asyncio.gather(*(home.core.inbound.receive(beta.key, letter) for letter in letters))
        assert {answer[0] for answer in answers} == {"later"}
        assert home.core.post._count == 0
        assert not home.core.post._waiting
