"""What the console tells of agents, and does with them: what the commands tell and do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from attrs import evolve

from agents.capsule import Capsule
from docking import Station
from docking.console.answers import MAX_CHARS, Answers
from docking.console.rewinds import Rewinds
from docking.console.roster import MAX_PAGE, Asked, Roster, Search
from docking.control.requests import Requests
from docking.launching import Terms
from docking.residents.berth import Standing
from tests.console.browsing import served
from tests.console.scenes import commuter, launched, price, survey_image
from tests.console.test_console_access import entered
from tests.station.harbour import OWNER, begin, harbour, packed, program, run, settled, station

WAITS = program("(drop (call $sleep (i32.const 600000)))")
GOES = program("(drop (call $go (s 0))) (drop (call $sleep (i32.const 600000)))", "beta")


async def done(inside: httpx.AsyncClient, agent: str, how: str, /, **fields: object) -> dict[str, Any]:
    """The answer to an order that is carried out."""
    answer = await inside.post(f"/api/agents/{agent}/{how}", json=fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@run
async def test_a_journey_is_told_with_its_times_its_verdicts_its_results_and_its_stack(tmp_path: Path) -> None:
    async with harbour("alpha", "beta", "gamma", home=tmp_path) as stations, served(*stations) as (_, url):
        alpha, _, gamma = stations
        for each in stations:
            each.offer("price", price)
        agent = await launched(alpha, survey_image(tmp_path), "(beta,gamma,alpha,gamma)", label="survey")
        berth = await settled(gamma, agent, Standing.WAITING)
        while type(berth.wait).__name__ != "Recv":
            berth = await settled(gamma, agent, Standing.WAITING)
            await asyncio.sleep(0.01)
        async with entered(url) as inside:
            path = f"/api/agents/{agent.id}"
            told = (await inside.get(path)).json()
            assert (told["station"], told["standing"], told["home"], told["hop"]) == ("gamma", "waiting", "alpha", 4)
            assert [each["name"] for each in told["budget"]] == ["cpu", "memory", "carried", "messages"]
            assert [(line["station"], line["text"]) for line in told["log"]][-1] == ("gamma", "cheapest: pears")
            journey = (await inside.get(f"{path}/journey")).json()
            assert [each["station"] for each in journey["visits"]] == ["alpha", "beta", "gamma", "alpha"]
            assert all(each["departed"] >= each["arrived"] for each in journey["visits"])
            assert journey["holds"]
            assert {each["holds"] for each in journey["signatures"]} == {True}
            assert [each["what"] for each in journey["signatures"]] == ["passport", *["visit", "receipt", "commit"] * 4]
            assert [(each["station"], each["key"]) for each in journey["results"]] == [
                ("beta", "beta"),
                ("gamma", "gamma"),
                ("alpha", "alpha"),
            ]
            assert journey["results"][0]["value"] == "{'pears': 35, 'apples': 42, 'plums': 35}"
            stack = (await inside.get(f"{path}/stack")).json()
            frame = next(each for each in stack["stack"]["frames"] if each["function"] == "survey")
            assert stack["sources"][frame["file"]].splitlines()[frame["line"] - 1].strip().startswith("portcall.recv()")
            assert {"name": "place", "value": "'gamma'"} in frame["variables"]


@run
async def test_results_stay_sealed_without_the_key_of_their_owner(tmp_path: Path) -> None:
    reports = program("(drop (call $report (s 0) (s 1))) (drop (call $sleep (i32.const 600000)))", "key|the value")
    goes = reports.replace("(drop (call $sleep", "(drop (call $go (i32.const 1200) (i32.const 4))) (drop (call $sleep")
    goes = goes.replace('(data (i32.const 1000) "key")', '(data (i32.const 1000) "key") (data (i32.const 1200) "beta")')
    async with harbour("alpha", "beta") as stations, served(*stations, owners=[]) as (_, url), entered(url) as inside:
        agent = await begin(stations[0], goes, "beta")
        await settled(stations[1], agent, Standing.WAITING)
        answer = await inside.get(f"/api/agents/{agent.id}/journey")
        assert not answer.json()["opened"]
        assert answer.json()["result_count"] == 1
        assert "the value" not in answer.text


async def altered(capsule: Capsule, station_: Station) -> dict[str, Any]:
    """What the console says of a capsule whose third link was altered."""
    links = list(capsule.trail.links)
    links[2] = links[2][:-1] + bytes([links[2][-1] ^ 1])
    bad = evolve(capsule, trail=evolve(capsule.trail, links=tuple(links)))

    class Lying(Requests):
        async def do_capsule(self, agent: str) -> AsyncIterator[tuple[str, object]]:
            yield "end", {"agent": agent, "label": "", "capsule": bad.encode(), "names": {}}

    asked = Asked("alpha", lambda: Lying(station_.controlled(Path())))
    return await Answers([asked], Roster([asked]), Rewinds([asked]), []).journey("a" * 52)


@run
async def test_a_signature_that_does_not_hold_is_named() -> None:
    async with harbour("alpha", "beta") as (alpha, beta):
        agent = await begin(alpha, GOES, "beta")
        await settled(beta, agent, Standing.WAITING)
        journey = await altered(beta.agent(agent.id).capsule(), alpha)
        assert not journey["holds"]
        assert journey["code"].startswith("trail-")
        assert [each["holds"] for each in journey["signatures"]] == [True, True, True, False]
        assert "trail-" in journey["signatures"][-1]["why"]


@run
async def test_the_buttons_do_what_the_commands_do() -> None:
    async with harbour("alpha", "beta") as (alpha, beta), served(alpha, beta) as (_, url), entered(url) as inside:
        agent = await begin(alpha, WAITS, "beta")
        await settled(alpha, agent, Standing.WAITING)
        assert (await done(inside, agent.id, "order", what="sleep"))["done"] == "obeyed"
        await settled(alpha, agent, Standing.ASLEEP)
        await done(inside, agent.id, "order", what="wake")
        await settled(alpha, agent, Standing.WAITING)
        clone = (await done(inside, agent.id, "order", what="clone"))["clone"]
        assert alpha.agent(clone).standing in ("ready", "waiting")
        moved = await done(inside, agent.id, "move", to="beta")
        assert moved["to"] == "beta"
        await settled(beta, agent, Standing.WAITING)
        page = (await inside.get("/api/agents", params={"station": "beta"})).json()
        assert [row["agent"] for row in page["rows"]] == [agent.id]
        await done(inside, agent.id, "order", what="retract")
        await settled(alpha, agent, Standing.WAITING)
        await done(inside, agent.id, "order", what="dispose")
        while agent.standing != "disposed":
            await asyncio.sleep(0.01)


@run
async def test_what_cannot_be_done_is_said() -> None:
    async with harbour("alpha") as (alpha,), served(alpha) as (_, url), entered(url) as inside:
        agent = await begin(alpha, WAITS)
        await settled(alpha, agent, Standing.WAITING)
        cases: list[tuple[str, str, dict[str, object], int]] = [
            (agent.id, "order", {"what": "explode"}, 400),
            (agent.id, "order", {"what": ["dispose"]}, 400),
            (agent.id, "order", {}, 400),
            (agent.id[:12], "order", {"what": "sleep"}, 404),
            ("a" * 52, "order", {"what": "sleep"}, 404),
            (agent.id, "nothing", {}, 404),
            (agent.id, "move", {"to": "nowhere"}, 409),
            (agent.id, "move", {"to": "\x00"}, 400),
            (agent.id, "move", {"to": 5}, 400),
            (agent.id, "move", {"to": "next", "on_timeout": "explode"}, 400),
            (agent.id, "order/more", {"what": "dispose"}, 404),
        ]
        for ident, what, fields, status in cases:
            answer = await inside.post(f"/api/agents/{ident}/{what}", json=fields)
            assert (answer.status_code, bool(answer.json()["error"])) == (status, True), (ident, what, fields)
        assert agent.standing == "waiting"
        for path in (f"agents/{'a' * 52}", "agents/x", f"agents/{'a' * 52}/stack", "nothing", f"agents/{agent.id}/x"):
            assert (await inside.get(f"/api/{path}")).status_code == 404


HOSTILE = "<img src=x onerror=alert(1)>"


@run
async def test_what_agents_write_is_told_as_text_and_cut() -> None:
    body = "<script>" * 400
    logs = program(
        f"(drop (call $log (i32.const 0) (i32.const 2000) (i32.const {len(body)})))"
        " (drop (call $sleep (i32.const 60000)))"
    ).replace("(memory", f'(data (i32.const 2000) "{body}") (memory', 1)
    async with harbour("alpha") as (alpha,), served(alpha) as (_, url), entered(url) as inside:
        agent = await alpha.launch(packed(logs), owner=OWNER, terms=Terms(label=HOSTILE))
        await settled(alpha, agent, Standing.WAITING)
        agent.send(HOSTILE * 100)
        for path in (
            "overview",
            "agents",
            f"agents/{agent.id}",
            f"agents/{agent.id}/journey",
            f"agents/{agent.id}/stack",
        ):
            answer = await inside.get(f"/api/{path}")
            assert answer.headers["content-type"] == "application/json"
            assert not set("<>&") & set(answer.text)
        told = (await inside.get(f"/api/agents/{agent.id}")).json()
        assert told["label"] == HOSTILE
        assert len(told["log"][0]["text"]) == MAX_CHARS
        assert len(told["inbox"][0]["text"]) == 500


@run
async def test_pages_of_ten_thousand_are_cut_at_the_station() -> None:
    class Crowd(Requests):
        async def do_agents(self) -> AsyncIterator[tuple[str, object]]:
            for number in range(10_000):
                yield (
                    "item",
                    {
                        "agent": f"{number:052}".translate(str.maketrans("0189", "yzab")),
                        "label": f"agent-{number:05}",
                        "station": "alpha",
                        "standing": "asleep" if number % 2 else "waiting",
                        "hop": number % 7,
                        "since": number,
                        "text": "",
                        "here": True,
                    },
                )

    async with harbour("alpha") as (alpha,):
        roster = Roster([Asked("alpha", lambda: Crowd(alpha.controlled(Path())))])
        page = await roster.page(Search.of({"limit": "100000", "offset": "9950"}))
        assert (page["total"], page["found"], len(page["rows"])) == (10_000, 10_000, 50)
        assert len((await roster.page(Search.of({"limit": "9999"})))["rows"]) == MAX_PAGE
        found = await roster.page(Search.of({"q": "AGENT-0777", "sort": "label", "standing": "asleep"}))
        assert [row["label"] for row in found["rows"]] == [f"agent-0777{n}" for n in (1, 3, 5, 7, 9)]
        assert (await roster.page(Search.of({"sort": "__class__", "offset": "-1", "limit": "x"})))["rows"][0][
            "since"
        ] == 9999
        place = (await roster.places())["alpha"]
        assert place["standings"] == {"asleep": 5000, "waiting": 5000}
        assert len(json.dumps(place)) < 8000
        # As many as ask at once wait for one and the same.
        roster.forget()
        found_twice = await asyncio.gather(roster.rows(), roster.rows())
        assert found_twice[0] is found_twice[1]


@run
async def test_an_agent_of_two_stations_is_shown_once_where_it_is() -> None:
    async with harbour("alpha", "beta") as (alpha, beta), served(alpha, beta) as (_, url), entered(url) as inside:
        agent = await begin(alpha, GOES, "beta")
        await settled(beta, agent, Standing.WAITING)
        page = (await inside.get("/api/agents")).json()
        assert [(row["station"], row["by"], row["here"]) for row in page["rows"]] == [("beta", "beta", True)]


@run
async def test_a_station_that_does_not_run_is_shown_as_such() -> None:
    down = station("down")
    async with harbour("alpha") as (alpha,), served(alpha, down) as (_, url), entered(url) as inside:
        await alpha.launch(commuter(60_000), owner=OWNER)
        seen = {each["name"]: each for each in (await inside.get("/api/overview")).json()["stations"]}
        assert seen["down"] == {"name": "down", "own": True, "present": False}
        assert seen["alpha"]["present"]
        assert (await inside.get("/api/agents")).json()["total"] == 1
