"""Agents that meet: who is here, what they offer, and what ends with their stay."""

from __future__ import annotations

import asyncio
from pathlib import Path

from attrs import evolve

from docking import Terms
from docking.launching import DEFAULT_PERMIT
from docking.residents.berth import Standing
from docking.residents.meeting import MAX_OFFERS
from tests.station.harbour import harbour, run, settled
from tests.wrong_types import bent

from .test_asks import launched, told

SELLER = """
import portcall
portcall.offer("sales.books", "price=12")
while True:
    asked = portcall.receive()
    if asked.body == b"go":
        portcall.go("beta")
    elif asked.body == b"end":
        break
    else:
        portcall.reply(asked, "12")
"""


@run
async def test_an_offer_is_found_while_its_agent_is_here() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        seller = await launched(home, SELLER, "beta", terms=Terms(label="bookshop"))
        await settled(home, seller, Standing.WAITING)
        row = (seller.id, "home", "bookshop", "price=12")
        assert await home.find_agents("sales.books") == [row]
        assert await home.find_agents(label="bookshop") == [(*row[:3], "")]
        assert await home.find_agents("sales.books", label="other") == []
        assert await gamma.find_agents("sales.books") == []
        assert await gamma.find_agents("sales.books", everywhere=True) == [row]
        buyer = """
import portcall
((agent, station, label, attributes),) = portcall.find("sales.books")
channel = portcall.meet(agent)
portcall.report("found", "|".join([station, label, attributes]))
portcall.report("paid", portcall.ask(agent, "price?"))
channel.send("go")
while portcall.find("sales.books"):
    portcall.sleep(0.01)
try:
    channel.send("are you there?")
except OSError as error:
    portcall.report("gone", error.errno)
"""
        report = await (await launched(home, buyer)).wait()
        assert told(report, "found") == ["home|bookshop|price=12"]
        assert (told(report, "paid"), told(report, "gone")) == (["12"], ["23"])
        await settled(beta, seller, Standing.WAITING)
        # The offer was a part of its stay; at the next station it makes another one, or none.
        assert await home.find_agents("sales.books", everywhere=True) == []
        assert await gamma.find_agents(label="bookshop", everywhere=True) == [(seller.id, "beta", "bookshop", "")]
        await beta.close()
        assert await gamma.find_agents(label="bookshop", everywhere=True) == []


@run
async def test_an_offer_outlives_a_restart_of_the_station(tmp_path: Path) -> None:
    async with harbour("home", home=tmp_path) as (home,):
        seller = await launched(home, SELLER)
        await settled(home, seller, Standing.WAITING)
        await home.close()
        await home.start()
        assert [row[0] for row in await home.find_agents("sales.books")] == [seller.id]
        home.agent(seller.id).send("end")
        await home.agent(seller.id).ended()
        assert await home.find_agents("sales.books") == []


@run
async def test_meeting_is_within_the_permit_and_bounded() -> None:
    script = """
import portcall
def tried(key, call, *args):
    try:
        call(*args)
        portcall.report(key, 0)
    except OSError as error:
        portcall.report(key, error.errno)
tried("offer", portcall.offer, "a", "b")
tried("find", portcall.find, "a")
tried("name", portcall.offer, "NO NAME")
tried("long", portcall.offer, "a", "x" * 1025)
for number in range(40):
    tried("many", portcall.offer, "service-%d" % number)
portcall.receive()
"""
    none = evolve(DEFAULT_PERMIT, capabilities=("service:*", "host:send"))
    async with harbour("home") as (home,):
        hidden = await launched(home, script, terms=Terms(permit=none))
        await settled(home, hidden, Standing.WAITING)
        assert await home.find_agents() == []
        shown = await launched(home, script)
        await settled(home, shown, Standing.WAITING)
        assert [row[0] for row in await home.find_agents()] == [shown.id]
        for each in (hidden, shown):
            each.send("end")
        report = await hidden.wait()
        assert (told(report, "offer"), told(report, "find")) == (["63"], ["63"])
        report = await shown.wait()
        assert [told(report, key) for key in ("offer", "find", "name", "long")] == [["0"], ["0"], ["28"], ["37"]]
        assert told(report, "many").count("0") == MAX_OFFERS - 1


@run
async def test_hostile_answers_of_stations_are_dropped() -> None:
    async with harbour("home", "evil") as (home, evil):
        good = [["a" * 52, "label", "attributes"]]
        core = evil.core
        for rows in [*bent(good), good * 65, [["a" * 52, "x" * 1000, ""]], [["a" * 52, "\n", ""]], "x"]:
            answers = ["taken", rows]

            async def receive(sender: object, value: object, answers: list[object] = answers) -> list[object]:
                return answers

            evil._core = core
            type(core.inbound).receive, kept = receive_of(receive), type(core.inbound).receive
            try:
                found = await home.find_agents("x", everywhere=True)
            finally:
                type(core.inbound).receive = kept
            assert all(isinstance(text, str) and text.isprintable() for row in found for text in row)
        for value in bent(["service", "label"]):
            answer = await home.core.inbound.receive(evil.key, ["find", bytes(32), value])
            assert answer[0] in ("taken", "refused")


def receive_of(function):  # type: ignore[no-untyped-def]
    """As a method."""

    async def receive(self, sender, value):  # type: ignore[no-untyped-def]
        await asyncio.sleep(0)
        return await function(sender, value)

    return receive
