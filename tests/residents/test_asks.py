"""Questions and answers: once, in order, in time, wherever who asks and who is asked have moved to."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from attrs import evolve

from agents.credentials.keys import text_of
from docking import Station, Terms
from docking.errors import StationError, UnknownAgent
from docking.handle import Agent, Report
from docking.launching import DEFAULT_PERMIT
from docking.letters.packets import Packet, PacketKind
from docking.residents import post
from docking.residents.berth import Delivery, Standing
from docking.trust.mailbox import MAX_QUESTIONS
from tests.serve.servers import python_image
from tests.station.harbour import OWNER, harbour, run, settled, station

ECHO = """
import portcall
for number in range({count}):
    asked = portcall.receive()
    portcall.reply(asked, asked.text() + " at " + portcall.here())
"""
# Goes to and fro, and answers what has come at each stop, without waiting for more.
HOPPER = """
import portcall, errno
got = []
while len(got) < {count}:
    portcall.go("gamma" if portcall.here() == "beta" else "beta")
    try:
        while True:
            asked = portcall.receive(0)
            got.append(asked.text())
            portcall.reply(asked, asked.text())
    except OSError as error:
        if error.errno != errno.ETIMEDOUT:
            raise
portcall.report("got", ",".join(got))
"""


async def launched(home: Station, script: str, via: str = "", **options: object) -> Agent:
    """An agent in Python."""
    image = python_image(script)
    return await home.launch(image, via or (), owner=OWNER, **options)  # type: ignore[arg-type]


def told(report: Report, key: str) -> list[str]:
    """What it reported under a key."""
    return [result.text for result in report.results if result.key == key]


@run
async def test_an_agent_is_asked_from_outside() -> None:
    async with harbour("home") as (home,):
        agent = await launched(home, ECHO.format(count=2))
        assert await agent.ask("one") == b"one at home"
        assert await agent.ask(b"two", timeout=20) == b"two at home"
        assert (await agent.wait()).exit_code == 0
        with pytest.raises(UnknownAgent, match="ended"):
            await agent.ask("three")


@run
async def test_agents_ask_each_other_and_take_the_answer_elsewhere() -> None:
    async with harbour("home", "beta", "gamma") as (home, _, gamma):
        other = await launched(gamma, ECHO.format(count=2))
        asker = f"""
import portcall
print(portcall.ask("{other.id}", "first"))
question = portcall.ask_later("{other.id}", "second")
portcall.go("beta")
portcall.report("answer", question.answer())
portcall.report("at", portcall.here())
try:
    question.answer()
except OSError as error:
    portcall.report("again", error.errno)
"""
        agent = await launched(home, asker, "beta")
        report = await agent.wait()
        assert agent.logs()[0] == "b'first at gamma'"
        assert (told(report, "answer"), told(report, "at")) == (["second at gamma"], ["beta"])
        assert told(report, "again") == ["44"]


@run
async def test_an_agent_that_hops_all_the_time_answers_each_once_and_in_order() -> None:
    async with harbour("home", "beta", "gamma") as (home, _, _):
        agent = await launched(home, HOPPER.format(count=60), "(beta,gamma)*2000")
        answers = await asyncio.gather(*(agent.ask(str(number)) for number in range(60)))
        assert answers == [str(number).encode() for number in range(60)]
        assert told(await agent.wait(), "got") == [",".join(map(str, range(60)))]


@run
async def test_an_answer_after_the_deadline_is_dropped_and_counted() -> None:
    slow = "import portcall\nasked = portcall.receive()\nportcall.receive()\nportcall.reply(asked, 'late')\n"
    async with harbour("home") as (home,):
        other = await launched(home, slow)
        asker = f"""
import portcall
try:
    portcall.ask("{other.id}", "?", timeout=1.5)
except OSError as error:
    portcall.report("errno", error.errno)
"""
        report = await (await launched(home, asker)).wait()
        assert told(report, "errno") == ["73"]
        with pytest.raises(asyncio.TimeoutError):
            await (await launched(home, slow)).ask("?", timeout=0.05)
        other.send("go on")
        await other.wait()
        assert home.core.here.counts["late reply"] == 1


@run
async def test_who_asks_nobody_is_told_so() -> None:
    async with harbour("home", "beta") as (home, beta):
        ended = await launched(home, "pass")
        await ended.wait()
        asker = """
import portcall
for agent in ({ended!r}, "nobody", {unknown!r}):
    try:
        print(portcall.ask(agent, "?", timeout=1))
    except OSError as error:
        portcall.report("errno", error.errno)
"""
        script = asker.format(ended=ended.id, unknown=text_of(bytes(32)))
        assert told(await (await launched(home, script)).wait(), "errno") == ["23", "23", "23"]
        # Where that turns out only later, the question fails then.
        gone = await launched(home, "import portcall\nportcall.go('beta')\nportcall.sleep(60)\n", "beta")
        await settled(beta, gone, Standing.WAITING)
        home.core.here.outbox.put_off(gone.key, 300)
        asking = asyncio.ensure_future(gone.ask("?"))
        agent = await launched(home, asker.format(ended=gone.id, unknown="nobody").replace("timeout=1", "timeout=20"))
        await settled(home, agent, Standing.WAITING)
        beta.agent(gone.id).dispose()
        with pytest.raises(StationError, match="the agent has ended"):
            await asking
        assert told(await agent.wait(), "errno") == ["23", "23", "23"]


@run
async def test_messages_are_selected_by_sender_and_topic() -> None:
    script = """
import portcall
portcall.receive(topic="start")
one = portcall.receive(topic="prices")
two = portcall.receive(sender="home", topic="prices")
three = portcall.receive()
portcall.report("got", "|".join(each.topic + ":" + each.text() for each in (one, two, three)))
for each in (one, two, three):
    portcall.reply(each, "taken")
try:
    portcall.receive(0.02, sender="somebody else")
except OSError as error:
    portcall.report("errno", error.errno)
"""
    async with harbour("home") as (home,):
        agent = await launched(home, script)
        asked = [
            asyncio.ensure_future(agent.ask(str(n), topic=topic)) for n, topic in enumerate(["", "prices", "prices"])
        ]
        await asyncio.sleep(0)
        starts = asyncio.ensure_future(agent.ask("now", timeout=0.2, topic="start"))
        report = await agent.wait()
        assert told(report, "got") == ["prices:1|prices:2|:0"]
        assert told(report, "errno") == ["73"]
        assert await asyncio.gather(*asked) == [b"taken"] * 3
        with pytest.raises(asyncio.TimeoutError):
            await starts


@run
async def test_an_asker_that_crashes_asks_once(tmp_path: Path) -> None:
    """It asks with a random number, so that a second question would be another one."""
    once = """
import portcall
asked = portcall.receive(topic="question")
portcall.receive(topic="now")
portcall.reply(asked, asked.text())
try:
    portcall.receive(1, topic="question")
    portcall.report("again", "yes")
except OSError:
    portcall.report("again", "no")
"""
    async with station("other") as other:
        answering = await launched(other, once)
        asker = f"""
import portcall, random
portcall.receive()
number = str(random.random())
question = portcall.ask_later("{answering.id}", number, topic="question")
portcall.receive()
portcall.report("answer", question.answer())
"""
        async with station("home", tmp_path / "home") as home:
            await home.introductions.call_on(other.url)
            await other.introductions.call_on(home.url)
            agent = await launched(home, asker)
            agent.send("ask")
            berth = await settled(other, answering, Standing.WAITING)
            while not berth.streams.came:
                await asyncio.sleep(0.01)
            # As after a power failure: nobody has answered yet.
            shutil.copytree(tmp_path / "home", tmp_path / "copy", ignore=shutil.ignore_patterns("*.lock"))
        async with station("home", tmp_path / "copy") as again:
            await again.introductions.call_on(other.url)
            found = again.agent(agent.id, OWNER)
            found.send("go on")
            now = asyncio.ensure_future(answering.ask("", timeout=0.1, topic="now"))
            report = await found.wait()
            assert [each[:2] for each in told(report, "answer")] == ["0."], (report, found.logs())
            await asyncio.gather(now, return_exceptions=True)
        assert told(await answering.wait(), "again") == ["no"]


@run
async def test_an_agent_has_no_more_than_so_many_questions_open() -> None:
    script = """
import portcall
count = 0
try:
    while True:
        portcall.ask_later(portcall.me(), "?", timeout=60)
        count += 1
except OSError as error:
    portcall.report("errno", error.errno)
portcall.report("count", count)
"""
    soon = """
import portcall
for _ in range(3):
    for _ in range(50):
        portcall.ask_later(portcall.me(), "?", timeout=0.01)
    portcall.sleep(0.02)
"""
    async with harbour("home") as (home,):
        report = await (await launched(home, script)).wait()
        assert (told(report, "errno"), told(report, "count")) == (["6"], [str(MAX_QUESTIONS)])
        assert (await (await launched(home, soon)).wait()).exit_code == 0


@run
async def test_forged_answers_are_dropped() -> None:
    async with harbour("home", "evil") as (home, evil):
        waits = "import portcall\nportcall.receive()\nportcall.receive()\n"
        other = await launched(home, waits)
        agent = await launched(home, f"import portcall\nportcall.report('a', portcall.ask('{other.id}', '?'))\n")
        berth = await settled(home, agent, Standing.WAITING)
        (token,) = berth.questions
        await settled(home, other, Standing.WAITING)

        def forged(token: bytes, sender: str) -> list[object]:
            packet = Packet(agent.key, sender, b"forged", PacketKind.REPLY, token=token)
            return ["talk", token + bytes(16), [packet.value(), 1, False, 0]]

        # Of whoever does not know its name, or in another's name.
        for name, sender in ((bytes(16), other.id), (token, "evil"), (token, agent.id)):
            answer = await evil.introductions.letter(home.key, forged(name, sender))
            assert answer == ["taken", home.key.raw]
        assert home.core.here.counts["late reply"] == 3
        assert berth.standing is Standing.WAITING
        # Nor does an agent answer what another one was asked.
        thief = """
import portcall
try:
    portcall._write("reply/{}", "mine")
except OSError as error:
    portcall.report("e", error.errno)
"""
        asked = text_of(agent.key + token + home.key.raw)
        assert told(await (await launched(home, thief.format(asked))).wait(), "e") == ["44"]


@run
async def test_a_station_asks_no_more_than_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "MAX_ASKED_HERE", 3)
    async with harbour("home") as (home,):
        agent = await launched(home, "import portcall\nportcall.receive(topic='never')\n")
        asking = [asyncio.ensure_future(agent.ask("?", timeout=0.3)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(StationError, match="3 questions"):
            await agent.ask("?")
        done = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(each) for each in done] == [asyncio.TimeoutError] * 3
        assert not home.core.post._asked


@run
async def test_questions_are_within_the_permit() -> None:
    script = """
import portcall
try:
    portcall.ask(portcall.me(), "?")
except OSError as error:
    portcall.report("e", error.errno)
"""
    none = evolve(DEFAULT_PERMIT, capabilities=("service:*",))
    few = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, messages=0))
    async with harbour("home") as (home,):
        for permit, errno in ((none, "63"), (few, "19")):
            agent = await launched(home, script, terms=Terms(permit=permit))
            assert told(await agent.wait(), "e") == [errno]


@run
async def test_a_question_that_comes_too_late_is_not_given_to_its_agent() -> None:
    async with harbour("home") as (home,):
        agent = await launched(home, "import portcall\nportcall.report('got', portcall.receive().text())\n")
        await settled(home, agent, Standing.WAITING)
        now = home.core.here.clocks.now()
        old = Packet(agent.key, "x", b"old", PacketKind.ASK, token=bytes(16), until=now - 1, back=home.key.raw)
        assert home.core.post.accept(old, bytes(32))[0] is Delivery.LATE
        agent.send("new")
        assert told(await agent.wait(), "got") == ["new"]
        assert home.core.here.counts["late ask"] == 1
