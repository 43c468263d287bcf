"""New code for agents that live: wherever they wait, with a trail that every later station checks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agents import canonical
from agents.capsule import Trust
from agents.credentials.amendments import Amendment, Upgrade, sign_amendment
from agents.credentials.keys import text_of
from agents.errors import CannotUpgrade, CredentialError
from agents.image import AgentImage
from docking import Station
from docking.errors import StationError
from docking.handle import Agent
from docking.launching import signed_upgrade
from docking.letters.orders import OrderKind, sign_order
from docking.residents.berth import Standing
from docking.residents.upgrades import MAX_SENT_IMAGE_BYTES
from tests.station.harbour import (
    OWNER,
    STRANGER,
    Watch,
    begin,
    harbour,
    numbers,
    packed,
    places,
    program,
    run,
    settled,
    station,
)

# It tells 1, waits for a message, and tells what `$step` makes of 10.
WAITS = program(
    """
    (call $tell (i32.const 97) (call $step (i32.const 10)))
    (drop (call $recv (i32.const 300) (i32.const 64) (i32.const -1)))
    (call $tell (i32.const 97) (call $step (i32.const 10)))
    (drop (call $go (s 0)))
    (call $tell_here)
    (call $tell (i32.const 97) (call $step (i32.const 10)))""",
    "beta1",
).replace("(func (export", "(func $step (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))\n(func (export")


def changed(text: str, step: str = "(i32.mul (local.get 0) (i32.const 100))") -> AgentImage:
    """The program with another `$step`, and a function more before it."""
    more = "(func $more (result i32) (loop (br_if 0 (i32.const 0))) (i32.const 0))"
    was = "(func $step (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))"
    assert was in text
    body = f"(func $step (param i32) (result i32) (i32.add (call $more) {step}))"
    return packed(text.replace(was, more + body))


@run
async def test_an_agent_that_waits_goes_on_with_new_code_and_every_station_believes_it() -> None:
    new = changed(WAITS)
    async with harbour("home", "beta1") as (home, beta):
        agent = await begin(home, WAITS, "beta1")
        await settled(home, agent, Standing.WAITING)
        watch = Watch(home)
        looked = await agent.upgrade(new, check=True)
        assert (looked.done, [each.function for each in looked.frames]) == ("possible", ["_start"])
        await settled(home, agent, Standing.WAITING)
        report = await agent.upgrade(new)
        assert (report.done, report.new) == ("upgraded", text_of(new.digest))
        await watch.until("upgraded")
        agent.send("go on")
        ended = await agent.wait()
        assert numbers(ended, "a") == [11, 1000, 1000]
        assert places(ended) == ["beta1"]
        assert beta.core.images.get(new.digest) is not None
        capsule = agent.capsule()
        assert capsule.image == new.digest
        assert capsule.verify(Trust(), home.core.here.clocks.now()).point.image == new.digest


@run
async def test_what_changed_on_the_stack_is_named_and_the_agent_goes_on_as_it_was() -> None:
    async with harbour("home", "beta1") as (home, _):
        agent = await begin(home, WAITS, "beta1")
        await settled(home, agent, Standing.WAITING)
        new = packed(WAITS.replace("(call $tell_here)", "(call $tell_here) (call $tell_here)"))
        looked = await agent.upgrade(new, check=True)
        assert looked.done == "refused"
        with pytest.raises(CannotUpgrade, match="_start is on the stack and has changed"):
            await agent.upgrade(new)
        agent.send("go on")
        assert numbers(await agent.wait(), "a") == [11, 11, 11]


@run
async def test_only_the_owner_may_and_only_this_agent_this_code_once() -> None:
    new, other = changed(WAITS), changed(WAITS, "(local.get 0)")
    async with harbour("home", "beta1") as (home, _):
        agent, second = await begin(home, WAITS, "beta1"), await begin(home, WAITS, "beta1")
        for each in (agent, second):
            await settled(home, each, Standing.WAITING)
        upgrades, now = home.core.upgrades, home.core.here.clocks.now()
        ident, passport, old, visit = upgrades.image_of(agent.key)

        def signed(key: Any = OWNER, **fields: Any) -> bytes:
            given = {"old": old, "new": new.digest, "visit": visit, "expires": now + 60_000}
            order = {"agent": ident, "passport": passport, "nonce": bytes(16), "time": now}
            order |= {name: fields.pop(name) for name in order.keys() & fields.keys()}
            return sign_amendment(Amendment(**order, change=Upgrade(**{**given, **fields})), key).envelope

        wrong = {
            "signed by the agent's owner": signed(STRANGER),
            "for another agent": signed(agent=second.key),
            "the agent has": signed(old=other.digest),
            "from visit 7": signed(visit=7),
            "out of the time": signed(time=now - 7200_000, expires=now - 3600_000),
        }
        for sentence, statement in wrong.items():
            with pytest.raises(CredentialError, match=sentence):
                await upgrades.upgrade(agent.key, new.encode(), statement)
        with pytest.raises(CredentialError, match="not the one that the owner signed"):
            await upgrades.upgrade(agent.key, other.encode(), signed())
        bent = bytearray(signed())
        bent[-1] ^= 1
        with pytest.raises(CredentialError, match="does not hold"):
            await upgrades.upgrade(agent.key, new.encode(), bytes(bent))
        await upgrades.upgrade(agent.key, new.encode(), signed())
        back = signed_upgrade(ident, passport, new.digest, visit, old, OWNER, now + 1, bytes(16))
        await upgrades.upgrade(agent.key, packed(WAITS).encode(), back)
        with pytest.raises(CredentialError, match="before the last one"):
            await upgrades.upgrade(agent.key, new.encode(), signed())
        for each in (agent, second):
            each.send("go on")
            assert numbers(await each.wait(), "a") == [11, 11, 11]


@run
async def test_an_agent_elsewhere_gets_it_by_a_letter(tmp_path: Path) -> None:
    new = changed(AWAY)
    async with harbour("home", "beta1", home=tmp_path) as (home, beta):
        agent = await begin(home, AWAY, "beta1")
        there = await at(beta, agent)
        watch, at_home = Watch(beta), Watch(home)
        report = await agent.upgrade(new)
        assert report.done == "sent"
        await watch.until("upgraded")
        there.send("go on")
        ended = await agent.wait()
        assert numbers(ended, "a") == [11, 1000]
        # One that cannot go on is refused, and home says so.
        agent = await begin(home, AWAY, "beta1")
        there = await at(beta, agent)
        await agent.upgrade(packed(AWAY.replace("(call $tell_here)", "(call $tell_here) (call $tell_here)")))
        refused = await at_home.until("refused")
        assert "_start is on the stack and has changed" in refused.text
        there.send("go on")
        assert numbers(await agent.wait(), "a") == [11, 11]


AWAY = program(
    """
    (drop (call $go (s 0)))
    (call $tell (i32.const 97) (call $step (i32.const 10)))
    (drop (call $recv (i32.const 300) (i32.const 64) (i32.const -1)))
    (call $tell (i32.const 97) (call $step (i32.const 10)))
    (call $tell_here)""",
    "beta1",
).replace("(func (export", "(func $step (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))\n(func (export")


async def at(place: Station, agent: Agent) -> Agent:
    """The agent's handle at the station where it waits for a message."""
    await settled(place, agent, Standing.WAITING)
    return place.agent(agent.id)


SLEEPS = program(
    """
    (drop (call $sleep (i32.const 3600000)))
    (call $tell (i32.const 97) (call $step (i32.const 10)))""",
).replace("(func (export", "(func $step (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))\n(func (export")
LOOPS = program(
    """
    (loop $more
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $more (i32.ne (call $step (i32.const 10)) (i32.const 1000))))
    (call $tell (i32.const 97) (call $step (i32.const 10)))""",
    locals_="(local $n i32)",
).replace("(func (export", "(func $step (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))\n(func (export")


@run
async def test_agents_that_sleep_compute_or_were_put_to_sleep() -> None:
    async with harbour("home") as (home,):
        sleeper = await begin(home, SLEEPS)
        berth = await settled(home, sleeper, Standing.WAITING)
        until = berth.until
        assert (await sleeper.upgrade(changed(SLEEPS))).done == "upgraded"
        berth = await settled(home, sleeper, Standing.WAITING)
        assert berth.until == until, "it sleeps as long as it would have"
        sleeper.wake()
        assert numbers(await sleeper.wait(), "a") == [1000]
        # It computes for ever, unless its step is another one.
        looper = await begin(home, LOOPS)
        assert (await looper.upgrade(changed(LOOPS))).done == "upgraded"
        assert numbers(await looper.wait(), "a") == [1000]
        asleep = await begin(home, LOOPS)
        asleep.sleep()
        await settled(home, asleep, Standing.ASLEEP)
        assert (await asleep.upgrade(changed(LOOPS))).done == "upgraded"
        await settled(home, asleep, Standing.ASLEEP)
        asleep.wake()
        assert numbers(await asleep.wait(), "a") == [1000]


@run
async def test_an_agent_that_waits_for_a_station_keeps_waiting() -> None:
    text = program(
        """
        (call $tell (i32.const 103) (call $go_wait (s 0) (i32.const 600000)))
        (call $tell (i32.const 97) (call $step (i32.const 10)))
        (call $tell_here)""",
        "beta1",
    ).replace(
        "(func (export", "(func $step (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))\n(func (export"
    )
    async with harbour("home", "beta1") as (home, beta):
        port = beta.url.rpartition(":")[2]
        await beta.close()
        agent = await begin(home, text, "beta1")
        await settled(home, agent, Standing.WAITING)
        assert (await agent.upgrade(changed(text))).done == "upgraded"
        await settled(home, agent, Standing.WAITING)
        again = station("beta1", port=int(port))
        async with again:
            await home.introductions.call_on(again.url)
            ended = await agent.wait()
            assert numbers(ended, "a") == [1000]
            assert places(ended) == ["beta1"]


@run
async def test_it_survives_a_restart(tmp_path: Path) -> None:
    new = changed(WAITS)
    async with harbour("home", "beta1", home=tmp_path) as (home, _):
        agent = await begin(home, WAITS, "beta1")
        await settled(home, agent, Standing.WAITING)
        await agent.upgrade(new)
        await settled(home, agent, Standing.WAITING)
    async with harbour("home", "beta1", home=tmp_path) as (home, _):
        again = home.agent(agent.id, OWNER)
        assert home.core.here.berths[agent.key].image.digest == new.digest
        again.send("go on")
        ended = await again.wait()
        assert numbers(ended, "a") == [11, 1000, 1000]
        assert places(ended) == ["beta1"]


# Not rewritten: nothing stops it before it goes, and then it has no stack.
WEAK = """(module
  (import "portcall" "go_at" (func $go_at (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $count (export "count") (mut i32) (i32.const 0))
  (data (i32.const 1000) "beta1later")
  (func (export "_start") (local $n i32)
    (global.set $count (i32.const 7))
    (loop $more
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $n) (i32.const 2000000000))))
    (drop (call $go_at (i32.const 1000) (i32.const 5) (i32.const 1005) (i32.const 5))))
  (func (export "later")
    (i32.store8 (i32.const 100) (i32.const 97))
    (i32.store (i32.const 104) (global.get $count))
    (drop (call $report (i32.const 100) (i32.const 1) (i32.const 104) (i32.const 4)))))"""


@run
async def test_at_a_weak_entry_every_function_may_have_changed() -> None:
    new = WEAK.replace("(global.get $count)", "(i32.mul (i32.const 2) (global.get $count))")
    new = new.replace("(i32.const 7)", "(i32.const 8)")
    async with harbour("home", "beta1") as (home, _):
        agent = await home.launch(packed(WEAK, profile="none"), ["beta1"], owner=OWNER)
        await asyncio.sleep(0)
        report = await agent.upgrade(packed(new, profile="none"), timeout=120)
        assert (report.done, report.weak, report.frames) == ("upgraded", True, ())
        ended = await agent.wait()
        assert numbers(ended, "a") == [14]
        assert [stay.station for stay in ended.trail] == ["home", "beta1"]


@run
async def test_an_agent_that_does_not_stand_still_is_left_alone() -> None:
    async with harbour("home") as (home,):

        @home.service("slow")
        async def slow(request: bytes) -> bytes:
            await asyncio.sleep(0.5)
            return b"ok"

        text = program(
            """
            (drop (call $call (s 0) (i32.const 400) (i32.const 0) (i32.const 400) (i32.const 10)))
            (drop (call $sleep (i32.const 0)))
            (call $tell (i32.const 97) (call $step (i32.const 10)))""",
            "slow",
        ).replace(
            "(func (export",
            "(func $step (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))\n(func (export",
        )
        agent = await begin(home, text)
        await settled(home, agent, Standing.WAITING)
        with pytest.raises(StationError, match="did not stand still"):
            await agent.upgrade(changed(text), timeout=0.05)
        report = await agent.upgrade(changed(text))
        assert report.done == "upgraded"
        assert numbers(await agent.wait(), "a") == [1000]


@run
async def test_messages_that_come_meanwhile_are_kept() -> None:
    async with harbour("home", "beta1") as (home, _):
        agent = await begin(home, WAITS, "beta1")
        await settled(home, agent, Standing.WAITING)
        upgrading = asyncio.ensure_future(agent.upgrade(changed(WAITS)))
        while not upgrading.done():
            await asyncio.sleep(0)
            if home.core.here.berths[agent.key].running:
                agent.send("go on")
                break
        assert (await upgrading).done == "upgraded"
        agent.send("go on")
        assert numbers(await agent.wait(), "a") == [11, 1000, 1000]


def test_an_image_has_the_digest_of_its_bytes() -> None:
    image = changed(WAITS)
    assert canonical.digest(image.encode()) == image.digest


@run
async def test_amendments_that_come_meanwhile_are_kept(tmp_path: Path) -> None:
    async with harbour("home", "beta1", home=tmp_path) as (home, _):
        agent = await begin(home, WAITS, "beta1")
        berth = await settled(home, agent, Standing.WAITING)
        before = berth.credentials.terms.hops
        upgrading = asyncio.ensure_future(agent.upgrade(changed(WAITS)))
        toppings, given = [], 0
        while not upgrading.done():
            here = home.core.here.berths[agent.key]
            if here.running and given < 20:  # one after the other, while it is mapped, written and taken up
                toppings.append(asyncio.ensure_future(agent.top_up(hops=1)))
                given += 1
            await asyncio.sleep(0)
        assert (await upgrading).done == "upgraded"
        assert given, "it was never seen standing still"
        await asyncio.gather(*toppings)
        assert home.core.here.berths[agent.key].credentials.terms.hops == before + given
        agent.send("go on")
        assert numbers(await agent.wait(), "a") == [11, 1000, 1000]


@run
async def test_hostile_letters_are_refused_and_change_nothing() -> None:
    new = changed(AWAY)
    async with harbour("home", "beta1") as (home, beta):
        agent = await begin(home, AWAY, "beta1")
        there = await at(beta, agent)
        now, encoded = home.core.here.clocks.now(), new.encode()
        facts = home.core.upgrades.image_of(agent.key)
        good = signed_upgrade(facts[0], facts[1], facts[2], facts[3], new.digest, OWNER, now, bytes(16))
        forged = signed_upgrade(facts[0], facts[1], facts[2], facts[3], new.digest, STRANGER, now, bytes(16))
        own = home.core.here.key

        def order(statement: bytes, key: Any = own) -> bytes:
            return sign_order(agent.key, OrderKind.UPGRADE, now, key, statement=statement)

        letters: list[tuple[object, str]] = [
            ([order(good, STRANGER), encoded, 0], "not-home"),
            ([order(forged), encoded, 0], "amendment"),
            ([order(good), encoded[:-1], 0], "image-digest"),
            ([order(good), changed(AWAY, "(local.get 0)").encode(), 0], "image-digest"),
            ([order(good), 0], "malformed"),
            ([order(good), b"", 0], "malformed"),
            ([order(good), bytes(MAX_SENT_IMAGE_BYTES + 1), 0], "malformed"),
            ([order(good), encoded, encoded, 0], "malformed"),
            ([sign_order(agent.key, OrderKind.WAKE, now, own), encoded, 0], "malformed"),
        ]
        for content, code in letters:
            answer = await beta.core.inbound.receive(home.key, ["order", bytes(32), content])
            assert answer[:2] == ["refused", code], (answer, code)
        # An image that was signed, and is none.
        bad = b"portcall image 1\nno image at all"
        nothing = signed_upgrade(facts[0], facts[1], facts[2], facts[3], canonical.digest(bad), OWNER, now, bytes(16))
        answer = await beta.core.inbound.receive(home.key, ["order", bytes(32), [order(nothing), bad, 0]])
        assert answer[:2] == ["refused", "image-invalid"]
        assert beta.core.here.berths[agent.key].image.digest == packed(AWAY).digest
        # Taken, and taken again: once is enough.
        for _ in range(2):
            answer = await beta.core.inbound.receive(home.key, ["order", bytes(32), [order(good), encoded, 0]])
            assert answer == ["taken"]
        there.send("go on")
        assert numbers(await agent.wait(), "a") == [11, 1000]
