"""What a station tells an agent by itself: it was called home, also after a restart; a budget is nearly used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attrs import evolve

from docking import Terms
from docking.launching import DEFAULT_PERMIT
from docking.residents.berth import Standing
from docking.residents.checkpoints import BerthNote
from tests.replay.journeys import image_of, recording
from tests.station.harbour import OWNER, Watch, begin, harbour, meet, packed, run, settled, station

from .test_asks import launched, told

# Tells each event: the calls of `_start` are in BODY.
EXPORTS = """(module
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (import "portcall" "recv" (func $recv (param i32 i32 i32) (result i32)))
  (import "portcall" "here" (func $here (param i32 i32) (result i32)))
  (import "portcall" "me" (func $me (param i32 i32) (result i32)))
  (import "portcall" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "departing") (data (i32.const 16) "arrived") (data (i32.const 32) "sleeping")
  (data (i32.const 48) "woken") (data (i32.const 64) "message") (data (i32.const 80) "retracted")
  (data (i32.const 96) "budget_low") (data (i32.const 112) "beta") (data (i32.const 128) "ready")
  (func $tell (param i32 i32) ;; as a result whose value is the station
    (drop (call $report (local.get 0) (local.get 1) (i32.const 200) (call $here (i32.const 200) (i32.const 64)))))
  (func (export "portcall_on_departing") (call $tell (i32.const 0) (i32.const 9)))
  (func (export "portcall_on_arrived") (call $tell (i32.const 16) (i32.const 7)))
  (func (export "portcall_on_sleeping") (call $tell (i32.const 32) (i32.const 8)))
  (func (export "portcall_on_woken") (call $tell (i32.const 48) (i32.const 5)))
  (func (export "portcall_on_message") (call $tell (i32.const 64) (i32.const 7)))
  (func (export "portcall_on_retracted") (call $tell (i32.const 80) (i32.const 9)))
  (func (export "portcall_on_budget_low") (call $tell (i32.const 96) (i32.const 10)))
  (func (export "_start") (local $n i32) BODY))"""
ABROAD = EXPORTS.replace(
    "BODY",
    """(drop (call $go (i32.const 112) (i32.const 4)))
       (drop (call $sleep (i32.const 5)))
       (drop (call $log (i32.const 2) (i32.const 128) (i32.const 5)))
       (drop (call $recv (i32.const 300) (i32.const 64) (i32.const -1)))""",
)
TOLD = [
    *[("departing", "home"), ("arrived", "beta"), ("sleeping", "beta"), ("woken", "beta")],
    *[("message", "home"), ("retracted", "home")],
]


@run
async def test_who_waits_is_told_at_home_when_its_call_ends_also_after_a_restart(tmp_path: Path) -> None:
    async with harbour("home", "beta", home=tmp_path) as (home, beta):
        watch = Watch(beta)
        agent = await begin(home, ABROAD, "beta")
        await watch.until("log")
        await settled(beta, agent, Standing.WAITING)
        agent.retract()
        await settled(home, agent, Standing.WAITING)
        await home.close()
        await home.start()
        there = await settled(home, agent, Standing.WAITING)
        assert there.brought
        home.agent(agent.id).send("hello")
        report = await home.agent(agent.id, OWNER).wait()
    assert [(result.key, result.text) for result in report.results] == TOLD


@run
async def test_events_and_notices_are_replayed(tmp_path: Path) -> None:
    made = [station(name, tmp_path / name, record_mib=16) for name in ("home", "beta")]
    async with made[0] as home, made[1] as beta:
        await meet(home, beta)
        watch = Watch(beta)
        agent = await home.launch(packed(ABROAD), via=["beta"], owner=OWNER)
        await watch.until("log")
        await settled(beta, agent, Standing.WAITING)
        agent.retract()
        await settled(home, agent, Standing.WAITING)
        agent.send("hello")
        report = await agent.wait()
        journey = await home.replay(agent.id, OWNER)
    assert [(result.key, result.text) for result in report.results] == TOLD
    assert [journey.check(stay.visit) for stay in journey.stays] == ["", "", ""]
    reported = [step for step in journey.steps if step.name == "report"]
    assert [journey.state(step.index).results[-1] for step in reported] == [
        *("departing", "arrived", "sleeping", "woken", "message", "retracted")
    ]
    assert [step.result for step in journey.steps if step.name == "notice" and "re" in str(step.result)] == [
        "'retracted'"
    ]
    journey.close()


@run
async def test_events_in_python_are_replayed_too(tmp_path: Path) -> None:
    script = """
import portcall
for event in ("departing", "arrived", "budget_low", "retracted"):
    portcall.on(event, lambda event=event: print(event, portcall.here()))
portcall.go("beta")
portcall.report("done", "")
"""
    async with recording(tmp_path) as (alpha, _):
        agent = await alpha.launch(image_of(script, tmp_path / "agent"), via=["beta"], owner=OWNER)
        assert (await agent.wait()).exit_code == 0
        journey = await alpha.replay(agent.id, OWNER)
    assert [journey.check(stay.visit) for stay in journey.stays] == ["", ""]
    assert "notice" in [step.name for step in journey.steps]
    journey.close()


@pytest.mark.parametrize("language", ["exports", "python"])
def test_a_budget_of_messages_that_is_nearly_used_is_told_once(language: str) -> None:
    script = """
import portcall
portcall.on("budget_low", lambda: portcall.report("budget_low", portcall.here()))
for number in range(19):
    portcall.send(portcall.me(), "x")
    portcall.report("sent", number)
"""
    exports = EXPORTS.replace(
        "BODY",
        """(loop $again
             (drop (call $send (i32.const 300) (call $me (i32.const 300) (i32.const 128)) (i32.const 0) (i32.const 1)))
             (drop (call $report (i32.const 128) (i32.const 5) (i32.const 0) (i32.const 0)))
             (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 19))))""",
    )
    permit = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, messages=20))

    @run
    async def journey() -> None:
        async with harbour("home") as (home,):
            terms = Terms(permit=permit)
            agent = (
                await launched(home, script, terms=terms)
                if language == "python"
                else await begin(home, exports, terms=terms)
            )
            report = await agent.wait()
        keys = [result.key for result in report.results]
        assert report.exit_code == 0
        assert keys.count("budget_low") == 1
        assert keys.index("budget_low") == 17  # 18 of 20 are sent, and 17 of these were reported

    journey()


@run
async def test_a_budget_of_processor_time_that_is_nearly_used_is_told_in_time() -> None:
    script = """
import portcall
low = []
portcall.on("budget_low", lambda: low.append(1))
while not low:
    portcall.here()
portcall.report("low", len(low))
"""
    permit = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, cpu=3_000_000))
    async with harbour("home") as (home,):
        report = await (await launched(home, script, terms=Terms(permit=permit))).wait()
    assert report.exit_code == 0
    assert told(report, "low") == ["1"]
    assert 2_600_000 <= report.trail[-1].cpu < 3_000_000


def test_notes_of_before_have_no_such_flag() -> None:
    async def noted() -> BerthNote:
        async with harbour("home") as (home,):
            agent = await launched(home, "import portcall; portcall.recv()")
            found = await settled(home, agent, Standing.WAITING)
            return found.saved.note  # type: ignore[no-any-return]

    note = asyncio.run(noted())
    assert BerthNote.decode(note.encode()) == note
    assert BerthNote.decode(evolve(note, brought=True).encode()).brought
    assert BerthNote.decode(evolve(note, offers=[["a", "b"]]).encode()).offers == [["a", "b"]]
