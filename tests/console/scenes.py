"""Agents for the console to show: some that travel, wait, sleep, compute, serve, report, and one that was stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agents.image import AgentImage
from agents.sdk.sources import load_image
from docking import Station
from docking.handle import Agent
from docking.launching import Terms
from docking.residents.berth import Standing
from tests.station.harbour import OWNER, packed, program, settled

SURVEY = """import portcall


class Prices:
    def __init__(self):
        self.seen = {}

    def ask(self, goods):
        for name in goods:
            self.seen[name] = int(portcall.call("price", name))
        portcall.report(portcall.here(), self.seen)


def survey(places, goods):
    prices = Prices()
    for number, place in enumerate(places):
        portcall.go(place)
        prices.ask(goods)
        print("asked at", place, "for", ", ".join(goods))
    cheapest = min(prices.seen, key=prices.seen.get)
    print("cheapest:", cheapest)
    portcall.recv()  # until its owner writes


survey(["beta", "gamma", "alpha", "gamma"], ["apples", "pears", "plums"])
"""
# To and fro, with a rest of {rest} ms at each place, for ever.
COMMUTER = program(
    """(loop $r (drop (call $sleep (i32.const REST))) (drop (call $go (s 0))) (br $r))""",
    "next",
)
RESTS = program("(drop (call $sleep (i32.const 600000)))")
TRAPS = program("(drop (call $log (i32.const 0) (i32.const 1000) (i32.const 0))) unreachable")
SPINS = program("(loop $l (br $l))")


def commuter(rest_ms: int) -> AgentImage:
    """One that rests so long at each stop."""
    return packed(COMMUTER.replace("REST", str(rest_ms)))


def survey_image(folder: Path) -> AgentImage:
    """The agent in Python."""
    source = folder / "survey.py"
    source.write_text(SURVEY, encoding="utf-8")
    return load_image(source)


async def launched(home: Station, image: AgentImage, *via: str, label: str = "") -> Agent:
    """One more agent."""
    return await home.launch(image, ",".join(via), owner=OWNER, terms=Terms(label=label))


def price(request: bytes) -> str:
    """What goods cost."""
    return str(7 * len(request))


async def busy(alpha: Station, beta: Station, gamma: Station, folder: Path) -> Agent:
    """Agents at all three stations; the survey, when it waits at its last."""
    for station in (alpha, beta, gamma):
        station.offer("price", price)
    survey = await launched(alpha, survey_image(folder), "(beta,gamma,alpha,gamma)", label="survey")
    names = ["parcel", "courier", "letter", "invoice", "census", "weather", "stock", "mirror"]
    for number, name in enumerate(names):
        home = (alpha, beta, gamma)[number % 3]
        way = ["alpha", "beta", "gamma"]
        first = way.index(home.name)
        loop = ",".join(way[first + 1 :] + way[: first + 1])
        await launched(home, commuter(700 + 130 * number), f"({loop})*100", label=f"{name}-{number + 1}")
    for number in range(22):
        home = (alpha, beta, gamma)[number % 3]
        asleep = await launched(home, packed(RESTS), label=f"watch-{number + 1:02}")
        if number % 5 == 0:
            await settled(home, asleep, Standing.WAITING)
            asleep.sleep()
    await launched(beta, packed(TRAPS), label="broken")
    await settled(gamma, survey, Standing.WAITING)
    while "recv" not in str(gamma.core.here.berths[survey.key].wait).lower():
        await asyncio.sleep(0.01)
        await settled(gamma, survey, Standing.WAITING)
    return survey
