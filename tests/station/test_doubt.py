"""What a station does when the other side of a handoff is gone: it holds, shows it, asks, and a person decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.credentials.keys import text_of
from docking import Station
from docking.agent import Agent
from docking.handoff.messages import Side
from docking.handoff.states import Destination, Source
from tests.station.harbour import OWNER, Watch, begin, harbour, meet, numbers, places, program, run, station

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
            source.office.courier.fail()

    source.office.courier._failpoint = gone
    agent = await begin(source, TOUR, "beta", "gamma")
    await watch.until("alarm", lambda event: event.text.startswith("in-doubt"))
    (record,) = destination.office.store.unfinished()
    assert record.state is Destination.HELD
    assert agent.key not in destination.office.berths
    assert list(destination.office.in_doubt) == [record.hid]
    return agent


def hid_of(destination: Station) -> bytes:
    (hid,) = destination.office.in_doubt
    return hid


@run
async def test_a_held_agent_does_not_start_by_itself_and_a_person_may_adopt_it() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, _):
        watch = Watch(beta)
        agent = await held(home, beta, watch)
        beta.office.courier.adopt(hid_of(beta))
        await watch.until("refused", lambda event: event.place == "gamma")
        await watch.until("finished")
        said = [event for event in watch.seen if event.agent == agent.id]
        assert [event.kind for event in said if event.kind in ("arrived", "left")] == ["arrived"]
        assert beta.office.in_doubt == {}


@run
async def test_a_person_may_discard_what_is_held() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, _):
        agent = await held(home, beta, Watch(beta))
        hid = hid_of(beta)
        beta.office.courier.discard(hid)
        await beta.office.journal.write([], True)
        assert beta.office.in_doubt == {}
        assert agent.key not in beta.office.berths
        record = beta.office.store.record(hid, Side.DESTINATION)
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
        assert beta.office.counts["arrived"] == 1


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
            assert beta.contacts.peers.addresses(home.key) == (home.url,)
            await watch.until("alarm", lambda event: event.text.startswith("in-doubt"))
            assert agent.key not in beta.office.berths
            beta.office.courier.adopt(hid)
            await watch.until("finished")


@run
async def test_a_destination_that_lost_its_disk_is_told_and_the_agent_reclaimed(tmp_path: Path) -> None:
    async with harbour("home", "gamma") as (home, gamma):
        beta = station("beta")
        await beta.start()
        await meet(home, beta, gamma)

        def burns(place: str) -> None:
            if place == "COMMIT.received":
                beta.office.courier.fail()
                raise ConnectionError("the machine is gone")

        beta.office.courier._failpoint = burns
        watch = Watch(home)
        agent = await begin(home, TOUR, "beta", "gamma")
        await watch.until("left")
        port = beta.port
        await beta.close()
        async with station("beta", port=port):  # the same key and place, and another store
            await watch.until("alarm", lambda event: event.text.startswith("destination-lost-agent"))
            (record,) = home.office.store.unfinished()
            assert record.state is Source.COMMITTED
            assert list(home.office.in_doubt) == [record.hid]  # shown, with what a person may do
            home.office.courier.reclaim(record.hid)
            # It goes on from its last checkpoint here, which is older than its departure: it goes again.
            report = await agent.wait()
    assert (numbers(report, "e")[0], places(report)[0]) == (0, "beta")


@run
async def test_doubts_are_shown_by_the_control_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from docking.control import Control

    monkeypatch.setenv("PORTCALL_RUNNING", str(tmp_path / "running"))
    async with harbour("home", "beta", "gamma") as (home, beta, _):
        agent = await held(home, beta, Watch(beta))
        control = Control(beta, None, [])  # type: ignore[arg-type]
        rows = [value async for kind, value in control._do_doubts() if kind == "item"]
        assert [(row["agent"], row["side"], row["state"], row["peer"]) for row in rows] == [
            (text_of(agent.key), "destination", "held", "home")
        ]
        assert "does not run" in rows[0]["doubt"]
        ends = [value async for kind, value in control._do_decide(rows[0]["handoff"], "discard") if kind == "end"]
        assert ends[0]["done"] == "discard"
        assert beta.office.in_doubt == {}
