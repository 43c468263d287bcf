"""Messages between agents: `send` says 0 when a message is taken, and what is taken is received once."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from agents.credentials.envelope import identify
from docking.letters import outbox
from docking.letters.outbox import LetterKind
from docking.residents.berth import MAX_INBOX, Standing
from tests.station.harbour import OWNER, Agent, Station, begin, harbour, numbers, program, run, settled, station

FOREVER = "(i32.const -1)"
READ_ONE = f"(call $tell (i32.const 114) (call $recv (i32.const 300) (i32.const 64) {FOREVER}))"
# Reads until there is none in time; says the length of each.
READ_ALL = """(local.set $n (call $recv (i32.const 300) (i32.const 64) (i32.const 400)))
    (block $none (loop $more
      (br_if $none (i32.lt_s (local.get $n) (i32.const 0)))
      (call $tell (i32.const 114) (local.get $n))
      (local.set $n (call $recv (i32.const 300) (i32.const 64) (i32.const 400))) (br $more)))"""
LOCAL_N = "(local $n i32)"


def sender(to: str, *via: str) -> str:
    """Sends "hello" to the agent `to`, and says what became of it."""
    go = "".join(f"(drop (call $go (s {number + 2})))" for number in range(len(via)))
    send = "(call $tell (i32.const 115) (call $send (s 0) (s 1)))"
    return program(go + send, "|".join((to, "hello", *via)))


async def said(home: Station, to: str, *via: str) -> list[int]:
    """What `send` gave an agent of this home that went this way."""
    agent = await begin(home, sender(to, *via), *via)
    return numbers(await agent.wait(), "s")


async def restarted(name: str, home: Path, copy: Path) -> Station:
    """A station on what another's disk has at this moment, as after a power failure."""
    shutil.copytree(home, copy)
    for each in copy.glob("*.lock"):
        each.unlink()
    return station(name, copy)


@run
async def test_a_message_at_one_station_outlives_a_crash(tmp_path: Path) -> None:
    async with harbour("home", home=tmp_path) as (home,):
        sleeper = program("(drop (call $sleep (i32.const 60000)))" + READ_ONE)
        receiver = await begin(home, sleeper)
        await settled(home, receiver, Standing.WAITING)
        assert await said(home, receiver.id) == [0]
        again = await restarted("home", tmp_path / "home", tmp_path / "copy")
    async with again:
        found = again.agent(receiver.id, OWNER)
        found.wake()
        assert numbers(await found.wait(), "r") == [5]


@run
async def test_a_message_for_an_agent_that_is_leaving_goes_after_it() -> None:
    async with harbour("home", "beta") as (home, beta):
        await beta.close()
        receiver = await begin(home, program("(drop (call $go (s 0)))" + READ_ONE, "beta"), "beta")
        await settled(home, receiver, Standing.LEAVING)
        assert await said(home, receiver.id) == [0]
        await beta.start()
        assert numbers(await receiver.wait(), "r") == [5]


@run
async def test_a_message_to_nobody_is_refused_at_home_and_away() -> None:
    async with harbour("home", "beta") as (home, _):
        ended = await begin(home, program(""))
        await ended.wait()
        for to in (ended.id, "x", "home", ended.id.replace(ended.id[0], "b" if ended.id[0] == "a" else "a")):
            assert await said(home, to) == [-23]
            assert await said(home, to, "beta") == [-23]


@run
async def test_a_message_to_an_agent_of_another_home_finds_it_by_the_stations_that_are_known() -> None:
    async with harbour("home", "beta", "gamma") as (home, _, gamma):
        receiver = await begin(gamma, READ_ONE_AT_ONCE)
        await settled(gamma, receiver, Standing.WAITING)
        assert await said(home, receiver.id, "beta") == [0]
        assert numbers(await receiver.wait(), "r") == [5]


READ_ONE_AT_ONCE = program(READ_ONE)


@run
async def test_where_a_station_that_might_know_the_agent_does_not_answer_the_sender_may_try_again() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        receiver = await begin(gamma, READ_ONE_AT_ONCE)
        await settled(gamma, receiver, Standing.WAITING)
        for each in (home, beta):
            each.introductions.peers.configure(gamma.key, "gamma", gamma.url)
        await gamma.close()
        assert await said(home, receiver.id, "beta") == [-6]


@run
async def test_a_full_inbox_is_told_to_the_sender() -> None:
    async with harbour("home") as (home,):
        receiver = await begin(home, program("(drop (call $sleep (i32.const 60000)))"))
        await settled(home, receiver, Standing.WAITING)
        flood = program(
            f"""(loop $more (local.set $n (i32.add (local.get $n) (i32.const 1)))
                  (br_if $more (i32.and
                    (i32.eqz (call $send (s 0) (s 1))) (i32.lt_u (local.get $n) (i32.const {2 * MAX_INBOX})))))
                (call $tell (i32.const 110) (local.get $n))
                (call $tell (i32.const 115) (call $send (s 0) (s 1)))""",
            f"{receiver.id}|x",
            LOCAL_N,
        )
        report = await (await begin(home, flood)).wait()
        assert numbers(report, "n") == [MAX_INBOX + 1]
        assert numbers(report, "s") == [-51]


async def letter(to: Station, by: Station, agent: Agent, number: int) -> object:
    """The answer to a letter that `by` sends to `to`, the same for the same number."""
    ident = identify("message", agent.key, number)
    return await to.core.inbound.receive(by.key, ["message", ident, [agent.key, "somebody", b"hello", 0]])


@run
async def test_a_letter_that_comes_again_is_one_message_before_and_after_a_hop_and_a_restart(tmp_path: Path) -> None:
    slow = "(drop (call $sleep (i32.const 60000)))"
    reader = program(f"{slow} (drop (call $go (s 0))) {slow} {READ_ALL}", "beta", LOCAL_N)
    async with harbour("home", "beta", home=tmp_path) as (home, beta):
        agent = await begin(home, reader, "beta")
        await settled(home, agent, Standing.WAITING)
        for number in (1, 2, 1, 2):
            assert await letter(home, beta, agent, number) == ["taken"]
        await home.close()
        await home.start()
        assert await letter(home, beta, agent, 1) == ["taken"]
        home.agent(agent.id).wake()
        await settled(beta, agent, Standing.WAITING)
        for number in (2, 3, 1):
            assert await letter(beta, home, agent, number) == ["taken"]
        await beta.close()
        await beta.start()
        assert await letter(beta, home, agent, 3) == ["taken"]
        beta.agent(agent.id).wake()
        assert numbers(await home.agent(agent.id, OWNER).wait(), "r") == [5, 5, 5]


@run
async def test_a_letter_for_an_agent_that_is_held_waits_for_the_source_to_commit(tmp_path: Path) -> None:
    async with harbour("home", "beta", home=tmp_path) as (home, beta):
        agent = await begin(home, program("(drop (call $go (s 0)))" + READ_ONE, "beta"), "beta")
        await settled(beta, agent, Standing.WAITING)
        unknown = await begin(home, program(""))
        assert await letter(beta, home, unknown, 1) == [
            "refused",
            "unknown-agent",
            "no station that is known here knows the agent",
        ]
        assert not beta.core.queries.arriving(agent.key)
        assert agent.send("hello") == "sent"
        assert numbers(await agent.wait(), "r") == [5]


@run
async def test_letters_for_a_station_that_was_away_are_sent_when_it_is_heard_of_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So long that the test would not end if the letter waited for its time.
    monkeypatch.setattr(outbox, "FIRST_RETRY_MS", 10**9)
    monkeypatch.setattr(outbox, "LONGEST_RETRY_MS", 10**9)
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, program("(drop (call $go (s 0)))" + READ_ONE, "beta"), "beta")
        await settled(beta, agent, Standing.WAITING)
        url, port = beta.url, beta.port
        home.core.here.outbox.put_off(agent.key, by=beta.key.raw)
        assert agent.send("hello") == "sent"
        await asyncio.sleep(0.05)
        assert beta.core.here.berths[agent.key].standing is Standing.WAITING
        await beta.introductions.call_again()
        assert numbers(await agent.wait(), "r") == [5]
        assert (url, port) == (beta.url, beta.port)


@run
async def test_letters_that_were_put_off_by_a_clock_that_was_ahead_are_sent() -> None:
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, program("(drop (call $go (s 0)))" + READ_ONE, "beta"), "beta")
        await settled(beta, agent, Standing.WAITING)
        here = home.core.here
        now = here.clocks.now()
        ident = identify("message", agent.key, 1)
        posted = outbox.Outbox.posted(
            beta.key, LetterKind.MESSAGE, ident, [agent.key, "home", b"hello", 0], now + 10**9
        )
        await here.journal.write([posted], True)
        (waiting,) = here.store.letters(2**61, 9)
        await here.journal.write([outbox.RetryLetter(waiting.number, now + 10**8)], True)
        here.outbox.nudge()
        assert numbers(await agent.wait(), "r") == [5]
