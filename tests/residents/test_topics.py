"""Messages to topics: each subscriber gets one copy, here or everywhere, also while it moves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attrs import evolve

from docking import Terms
from docking.errors import StationError
from docking.launching import DEFAULT_PERMIT
from docking.residents import topics
from docking.residents.berth import Standing
from docking.trust.mailbox import MAX_TOPICS
from tests.station.harbour import OWNER, harbour, run, settled

from .test_asks import launched, told

LISTENER = """
import portcall
portcall.subscribe("prices")
got = []
while True:
    message = portcall.receive(topic="prices")
    if message.body == b"end":
        break
    got.append(message.text())
portcall.report("got", ",".join(got))
"""
HOPPER = """
import portcall
portcall.subscribe("prices")
got = []
while "end" not in got:
    portcall.go("gamma" if portcall.here() == "beta" else "beta")
    try:
        while True:
            got.append(portcall.receive(0).text())
    except OSError:
        pass
portcall.report("got", ",".join(got))
"""


@run
async def test_a_publication_reaches_the_agents_here_that_subscribe() -> None:
    async with harbour("home", "beta") as (home, beta):
        listeners = [await launched(home, LISTENER) for _ in range(2)]
        other = await launched(home, "import portcall\nportcall.report('got', portcall.receive().text())\n")
        away = await launched(beta, LISTENER)
        for each in listeners:
            await settled(home, each, Standing.WAITING)
        await settled(beta, away, Standing.WAITING)
        publisher = "import portcall\nfor n in range(3):\n    portcall.publish('prices', str(n))\n"
        await (await launched(home, publisher)).wait()
        assert await home.publish("prices", "end", everywhere=False) == 2
        for each in listeners:
            assert told(await each.wait(), "got") == ["0,1,2"]
        await home.publish("prices", "end")  # everywhere
        assert told(await away.wait(), "got") == [""]
        other.send("x")
        assert told(await other.wait(), "got") == ["x"]


@run
async def test_an_agent_that_hops_all_the_time_gets_each_publication_once() -> None:
    async with harbour("home", "beta", "gamma") as (home, _, _):
        agent = await launched(home, HOPPER, "(beta,gamma)*2000")
        while agent.standing != "travelling":
            await asyncio.sleep(0.01)
        for number in range(20):
            await home.publish("prices", str(number))
            await asyncio.sleep(0.005)
        await home.publish("prices", "end")
        got = told(await agent.wait(), "got")[0].split(",")
        assert sorted(got, key=lambda each: int(each) if each != "end" else 99)[:-1] == [str(n) for n in range(20)]


@run
async def test_subscriptions_travel_and_outlive_a_restart(tmp_path: Path) -> None:
    async with harbour("home", "beta", home=tmp_path) as (home, beta):
        agent = await launched(home, LISTENER.replace("got = []", "got = []\nportcall.go('beta')"), "beta")
        await settled(beta, agent, Standing.WAITING)
        await beta.close()
        await beta.start()
        await home.introductions.call_on(beta.url)
        await home.publish("prices", "1")
        await home.publish("prices", "end")
        assert told(await home.agent(agent.id, OWNER).wait(), "got") == ["1"]


@run
async def test_topics_are_bounded() -> None:
    script = """
import portcall
try:
    for number in range(100):
        portcall.subscribe("topic %d" % number)
except OSError as error:
    portcall.report("errno", error.errno)
    portcall.report("count", number)
for topic in ("x" * 257, "a\\nb"):
    try:
        portcall.subscribe(topic)
    except OSError as error:
        portcall.report("long", error.errno)
try:
    portcall.publish("topic", b"x" * (1 << 20) + b"x")
except OSError as error:
    portcall.report("large", error.errno)
"""
    async with harbour("home") as (home,):
        report = await (await launched(home, script)).wait()
        assert (told(report, "errno"), told(report, "count")) == (["51"], [str(MAX_TOPICS)])
        assert (told(report, "long"), told(report, "large")) == (["37", "28"], ["35"])
        for topic, body in (("", b""), ("x" * 257, b""), ("t", bytes((1 << 20) + 1)), ("a\nb", b"")):
            with pytest.raises(StationError):
                await home.publish(topic, body)


@run
async def test_each_copy_counts_as_a_message() -> None:
    async with harbour("home") as (home,):
        listeners = [await launched(home, LISTENER) for _ in range(3)]
        for each in listeners:
            await settled(home, each, Standing.WAITING)
        script = """
import portcall
try:
    while True:
        portcall.publish("prices", "1")
except OSError as error:
    portcall.report("errno", error.errno)
"""
        few = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, messages=4))
        assert told(await (await launched(home, script, terms=Terms(permit=few))).wait(), "errno") == ["19"]
        await home.publish("prices", "end")
        got = [told(await each.wait(), "got")[0] for each in listeners]
        assert sorted(got) == ["1", "1", "1,1"]


@run
async def test_what_is_kept_for_agents_to_come_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "MAX_KEPT", 4)
    async with harbour("home", "beta") as (home, beta):
        for number in range(20):
            letter = ["topic", number.to_bytes(32, "big"), ["beta", "prices", b"x" * 100]]
            assert await home.core.inbound.receive(beta.key, letter) == ["taken"]
        assert (len(home.core.topics._kept), home.core.topics._kept_bytes) == (4, 400)
