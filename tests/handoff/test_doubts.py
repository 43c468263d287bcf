"""What a station does when the other side of a handoff is gone: it holds, shows it, asks, and a person decides."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from agents.credentials.keys import text_of
from docking import Station
from docking.courier import Decision
from docking.errors import StationError, UnknownAgent
from docking.handle import Agent
from docking.handoff.messages import Side
from docking.handoff.states import Destination, Source
from docking.residents.berth import Standing
from docking.residents.lifecycle import EINTR
from tests.station.harbour import OWNER, Watch, begin, harbour, meet, numbers, places, program, run, settled, station

# Goes to beta, tells whether it got there and where it is, and wants to go on to gamma.
TOUR = program(
    """(call $tell (i32.const 101) (call $go (s 0))) (call $tell_here)
       (call $tell (i32.const 101) (call $go (s 1))) (call $tell_here)""",
    "beta|gamma",
)


async def held(source: Station, destination: Station, watch: Watch) -> Agent:
    """An agent whose handoff is in doubt: the source is gone after the receipt, before the commit."""

    def gone(place: str) -> None:
        # What a source whose machine burns down does from now on.
        if place == "OFFER.after-send":
            source.core.courier.fail()

    source.core.courier.failpoint = gone
    agent = await begin(source, TOUR, "beta", "gamma")
    await watch.until("alarm", lambda event: event.text.startswith("in-doubt"))
    (record,) = destination.core.here.store.unfinished()
    assert record.state is Destination.HELD
    assert agent.key not in destination.core.here.berths
    assert list(destination.core.here.in_doubt) == [record.hid]
    return agent


def hid_of(destination: Station) -> bytes:
    (hid,) = destination.core.here.in_doubt
    return hid


@run
async def test_a_held_agent_does_not_start_by_itself_and_a_person_may_adopt_it() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, _):
        watch = Watch(beta)
        agent = await held(home, beta, watch)
        beta.core.courier.decide(hid_of(beta), Decision.ADOPT)
        await watch.until("refused", lambda event: event.place == "gamma")
        await watch.until("finished")
        said = [event for event in watch.seen if event.agent == agent.id]
        assert [event.kind for event in said if event.kind in ("arrived", "left")] == ["arrived"]
        assert beta.core.here.in_doubt == {}


@run
async def test_a_person_may_discard_what_is_held() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, _):
        agent = await held(home, beta, Watch(beta))
        hid = hid_of(beta)
        beta.core.courier.decide(hid, Decision.DISCARD)
        await beta.core.here.journal.write([], True)
        assert beta.core.here.in_doubt == {}
        assert agent.key not in beta.core.here.berths
        record = beta.core.here.store.record(hid, Side.DESTINATION)
        assert record is not None
        assert record.state is Destination.DISCARDED


@run
async def test_when_the_source_comes_back_it_takes_the_agent_back(tmp_path: Path) -> None:
    async with station("beta") as beta, station("gamma") as gamma:
        watch = Watch(beta)
        async with station("home", tmp_path / "home") as home:
            await meet(home, beta, gamma)
            agent = await held(home, beta, watch)
        async with station("home", tmp_path / "home") as home:
            await meet(home, beta, gamma)
            # Its decision was never written: the agent is at home, goes again, and beta drops what it held.
            report = await home.agent(agent.id, OWNER).wait()
            assert numbers(report, "e")[0] == 0
            assert places(report)[0] == "beta"
        assert [event.kind for event in watch.seen if event.kind == "arrived"] == []
        assert beta.core.here.counts["arrived"] == 1


@run
async def test_a_held_agent_survives_the_restart_of_its_holder(tmp_path: Path) -> None:
    async with harbour("home", "gamma") as (home, gamma):
        async with station("beta", tmp_path / "beta") as beta:
            await meet(home, beta, gamma)
            agent = await held(home, beta, Watch(beta))
            hid = hid_of(beta)
        async with station("beta", tmp_path / "beta") as beta:
            watch = Watch(beta)
            # It remembers where the source is, asks again, and is in doubt again.
            assert beta.introductions.peers.addresses(home.key) == (home.url,)
            await watch.until("alarm", lambda event: event.text.startswith("in-doubt"))
            assert agent.key not in beta.core.here.berths
            beta.core.courier.decide(hid, Decision.ADOPT)
            await watch.until("finished")


@run
async def test_a_destination_that_lost_its_disk_is_told_and_the_agent_reclaimed(tmp_path: Path) -> None:
    async with harbour("home", "gamma") as (home, gamma):
        beta = station("beta")
        await beta.start()
        await meet(home, beta, gamma)

        def burns(place: str) -> None:
            if place == "COMMIT.received":
                beta.core.courier.fail()
                raise ConnectionError("the machine is gone")

        beta.core.courier.failpoint = burns
        watch = Watch(home)
        agent = await begin(home, TOUR, "beta", "gamma")
        await watch.until("left")
        port = beta.port
        await beta.close()
        async with station("beta", port=port):  # the same key and place, and another store
            await watch.until("alarm", lambda event: event.text.startswith("destination-lost-agent"))
            (record,) = home.core.here.store.unfinished()
            assert record.state is Source.COMMITTED
            assert list(home.core.here.in_doubt) == [record.hid]  # shown, with what a person may do
            home.core.courier.decide(record.hid, Decision.RECLAIM)
            # It goes on from its last checkpoint here, and goes again; or, where the commit took so long that its state
            # was stored while it was leaving (docs/adr/checkpoints-that-wait), its `go` fails here.
            report = await agent.wait()
    assert (numbers(report, "e")[0], places(report)[0]) in ((0, "beta"), (-EINTR, "home"))


@run
async def test_doubts_are_shown_by_the_control_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from docking.control.client import ControlClient, running
    from docking.control.server import Control

    def doubts() -> list[Any]:
        ((_, place),) = running()
        with ControlClient(place) as client:
            return list(client.items("doubts"))

    def decide(handoff: str, what: str) -> Any:
        ((_, place),) = running()
        with ControlClient(place) as client:
            return client.ask("decide", handoff=handoff, what=what)

    monkeypatch.setenv("PORTCALL_RUNNING", str(tmp_path / "running"))
    async with harbour("home", "beta", "gamma") as (home, beta, _):
        agent = await held(home, beta, Watch(beta))
        control = await Control.start(beta.controlled(tmp_path))
        rows = await asyncio.to_thread(doubts)
        assert [(row["agent"], row["side"], row["state"], row["peer"]) for row in rows] == [
            (text_of(agent.key), "destination", "held", "home")
        ]
        assert "does not run" in rows[0]["doubt"]
        end = await asyncio.to_thread(decide, rows[0]["handoff"], "discard")
        assert end["done"] == "discard"
        await control.close()
        assert beta.core.here.in_doubt == {}


@run
async def test_a_person_is_told_of_an_agent_that_may_live_twice(tmp_path: Path) -> None:
    """A home that was restored from a copy does not know whom it gave away."""
    looping = program(
        "(drop (call $sleep (i32.const 400))) (loop $l (drop (call $go (s 0))) "
        "(drop (call $sleep (i32.const 50))) (br $l))",
        "beta",
    )
    async with harbour("beta", home=tmp_path) as (beta,):
        async with station("alpha", tmp_path / "alpha") as alpha:
            await meet(alpha, beta)
            mover = await begin(alpha, looping, "beta")
            await settled(alpha, mover, Standing.WAITING)
            await alpha.core.here.journal.write([], True)
            shutil.copytree(tmp_path / "alpha", tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
            while mover.key not in beta.core.here.berths:
                await asyncio.sleep(0.01)
        async with station("alpha", tmp_path / "copy") as alpha:
            watch = Watch(alpha)
            await meet(alpha, beta)
            alarm = await watch.until("alarm", lambda event: event.agent == mover.id)
            assert "put to sleep" in alarm.text or "put this one to sleep" in alarm.text
            await settled(alpha, mover, Standing.ASLEEP)
            assert alpha.agent(mover.id).dispose() == "obeyed"
            await watch.until("disposed")
            # The one that lives goes on, and is not over at its home.
            assert mover.key in beta.core.here.berths
            assert alpha.core.here.journeys.get(mover.key).standing not in ("finished", "disposed")


@run
async def test_a_store_from_an_old_copy_is_noticed_by_itself_and_by_its_peers(tmp_path: Path) -> None:
    visit = program("(drop (call $go (s 0))) (drop (call $sleep (i32.const 3600000)))", "alpha")
    async with harbour("beta", home=tmp_path) as (beta,):
        told = Watch(beta)
        async with station("alpha", tmp_path / "alpha") as alpha:
            shutil.copytree(tmp_path / "alpha", tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
            await meet(alpha, beta)
            visitor = await begin(beta, visit, "alpha")
            await settled(alpha, visitor, Standing.WAITING)
            while beta.core.here.store.unfinished() or visitor.key in beta.core.here.berths:
                await asyncio.sleep(0.01)
        async with station("alpha", tmp_path / "copy") as alpha:
            watch = Watch(alpha)
            await meet(alpha, beta)
            own = await watch.until("alarm")
            assert "older than what 'beta' has seen of it (1 handoffs" in own.text
            others = await told.until("alarm")
            assert others.text.startswith("'alpha' does not know 1 handoffs")


@run
async def test_stations_that_know_what_they_signed_have_nothing_to_say(tmp_path: Path) -> None:
    visit = program("(drop (call $go (s 0))) (drop (call $go (s 1)))", "alpha|beta")
    async with harbour("beta", home=tmp_path) as (beta,):
        async with station("alpha", tmp_path / "alpha") as alpha:
            await meet(alpha, beta)
            await (await begin(beta, visit, "alpha", "beta")).wait()
            await alpha.core.here.journal.write([], True)
        async with station("alpha", tmp_path / "alpha") as alpha:
            watch, told = Watch(alpha), Watch(beta)
            await meet(alpha, beta)
            _, (_, rows) = await alpha.core.witnesses.answer(beta.key, [0, []])
            assert len(rows) == 2
            _, (unknown, _) = await beta.core.witnesses.answer(alpha.key, [0, rows])
            assert unknown == 0
            await alpha.core.here.journal.write([], True)
        assert not [event for event in (*watch.seen, *told.seen) if event.kind == "alarm"]


@run
async def test_a_witness_says_nothing_that_it_cannot_show(tmp_path: Path) -> None:
    async with harbour("alpha", "beta", home=tmp_path) as (alpha, beta):
        for rows in (
            None,
            [["source", bytes(32), b""]],
            [["destination", bytes(32), b"x" * 100]],
            [["source", b"short", b""]],
            [["source", bytes(32), b"x" * 5000]],
            [[]] * 100,
        ):
            answer = await beta.introductions.letter(alpha.key, ["witness", bytes(32), [0, rows]])
            assert answer[0] == "refused", rows


@run
async def test_an_order_for_an_agent_in_doubt_says_that_a_person_decides_first() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, _):
        agent = await held(home, beta, Watch(beta))
        there = beta.agent(agent.id[:10])
        assert there.id == agent.id
        with pytest.raises(StationError, match="to be decided first: portcall agents says how"):
            there.dispose()
        beta.core.courier.decide(hid_of(beta), Decision.DISCARD)
        await beta.core.here.journal.write([], True)
        with pytest.raises(UnknownAgent):
            beta.agent(agent.id[:10])
