"""A journey is stepped through forward and backward, across stations, and is what was signed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from attrs import evolve

from agents.errors import BadRecord, CredentialError
from agents.recording import Tape, read_tape
from agents.snapshot import Snapshot
from docking.recordings.record import StayRecord
from docking.replay import Journey
from docking.replay.files import is_journey, read_journey, write_journey
from docking.residents.berth import Standing
from tests.replay.journeys import TRIP, image_of, recording, travelled
from tests.station.harbour import OWNER, STRANGER, harbour, meet, numbers, packed, program, run, settled


def now() -> int:
    return time.time_ns() // 1_000_000


@run
async def test_forward_and_backward_across_stations(tmp_path: Path) -> None:
    image = image_of(TRIP, tmp_path / "agent")
    async with recording(tmp_path) as (alpha, _):
        agent = await travelled(alpha, image)
        journey = await alpha.replay(agent.id, OWNER)
    names = [step.name for step in journey.steps]
    assert [stay.station for stay in journey.stays] == ["alpha", "beta", "alpha", "beta"]
    assert not any(stay.missing for stay in journey.stays)
    assert names[:3] == ["launched", "go", "arrived"]
    assert names[-1] == "finished"
    # What each station was told leads exactly to the state that it has signed.
    assert [journey.check(stay.visit) for stay in journey.stays] == ["", "", "", ""]
    forward = [journey.state(step.index) for step in journey.steps]
    backward = [journey.state(step.index) for step in reversed(journey.steps)][::-1]
    assert forward == backward
    calls = [step for step in journey.steps if step.name == "call"]
    assert [step.line() for step in calls] == ["call('echo', 'hi') -> 'hi'"] * 3
    said = [step for step in journey.steps if step.name == "output" and "turn 2" in step.args][1]
    variables = {each.name: each.value for each in journey.state(said.index).stack.frames[-1].variables}
    assert variables.items() >= {"turn": "2", "place": "'alpha'", "seen": "['beta', 'alpha']"}.items()
    assert journey.state(said.index).results == ("at",)
    before = journey.changes(said.index)
    assert ("<module>", "turn", "1", "2") in before.variables
    assert before.memory_bytes >= sum(each.size for each in before.memory) > 0
    reported = next(step for step in journey.steps if step.name == "report")
    assert journey.changes(reported.index).results == ("at",)
    assert journey.changes(calls[0].index).files == {"/notes.txt": "new"}
    with pytest.raises(IndexError):
        journey.state(len(journey.steps))
    # A fresh one that goes backward only finds the same.
    again = read_journey(write_journey(journey), now())
    assert [again.state(index) for index in (len(names) - 1, 20, 5)] == [forward[i] for i in (len(names) - 1, 20, 5)]
    again.close()
    journey.close()


@run
async def test_only_the_owner_gets_what_other_stations_kept(tmp_path: Path) -> None:
    image = image_of(TRIP, tmp_path / "agent")
    async with recording(tmp_path) as (alpha, _):
        agent = await travelled(alpha, image)
        nobody, stranger = await alpha.replay(agent.id), await alpha.replay(agent.id, STRANGER)
    for journey, why in ((nobody, "only the agent's owner"), (stranger, "no recording of this agent for whoever asks")):
        assert [why in stay.missing for stay in journey.stays] == [False, True, False, True]
        missing = next(step for step in journey.steps if step.name == "missing")
        assert why in journey.state(missing.index).note
        assert why in journey.check(1)
        assert "cannot be compared" in journey.check(0) or not journey.check(0)
        journey.close()


@run
async def test_without_a_recording_there_is_nothing(tmp_path: Path) -> None:
    image = image_of(TRIP, tmp_path / "agent")
    async with recording(tmp_path, mib=0) as (alpha, _):
        agent = await travelled(alpha, image)
        journey = await alpha.replay(agent.id, OWNER)
    assert {step.name for step in journey.steps} == {"missing"}
    assert not (tmp_path / "alpha" / "recordings").exists()


@run
async def test_a_station_that_lies(tmp_path: Path) -> None:
    """Another state, another answer, another agent's record: each is noticed, by what was signed."""
    image = image_of(TRIP, tmp_path / "agent")
    async with recording(tmp_path) as (alpha, _):
        agent, other = await travelled(alpha, image), await travelled(alpha, image)
        true = await alpha.replay(agent.id, OWNER)
        foreign = await alpha.replay(other.id, OWNER)

    def lying(visit: int, record: StayRecord) -> Journey:
        records = {**true.records, visit: record}
        return Journey(true.capsule, image, list(records.values()), names=true.names, now=now())

    record = true.records[1]
    state = lying(1, evolve(record, state=true.records[3].state))
    assert "another state than it has signed" in state.stays[1].missing
    assert "kept nothing" in lying(1, evolve(record, station=true.records[0].station)).stays[1].missing
    assert "kept nothing" in lying(1, foreign.records[1]).stays[1].missing
    # It says that the service answered something else.
    answers = lying(1, evolve(record, tape=record.tape.replace(b"\x65Reply\x42hi", b"\x65Reply\x42HI")))
    assert "departs from the record" in answers.check(1)
    # It hides that another random number was drawn: what follows is not what it signed.
    entries = record.calls()
    pieces: list[tuple[bytes, int]] = []
    tape = Tape(1 << 20, lambda data, count: pieces.append((data, count)))
    for each in entries:
        result = b"\0" * len(each.result) if each.name == "random" else each.result
        tape.add(each.name, list(each.args), result, each.errno, each.reason)
    tape.flush()
    drawn = lying(1, evolve(record, tape=pieces[0][0], entries=pieces[0][1]))
    assert drawn.check(1)
    cut = lying(1, evolve(record, entries=20, tape=record.tape[: len(record.tape)]))
    assert "cannot be used" in cut.stays[1].missing
    for each in (true, foreign, state, answers, drawn, cut):
        each.close()


def test_files_that_are_none() -> None:
    for data in (b"", b"\x83", b"PCH", b"\x83\x70portcall journey\x01\xa0", bytes(100)):
        with pytest.raises((BadRecord, CredentialError)):
            read_journey(data, now())
    assert not is_journey(b"\x00asm")
    with pytest.raises(BadRecord):
        read_tape(b"\x83" * 100, 3)


TWICE = """
import os, time
import portcall
portcall.go("beta")
drawn = [os.urandom(2) for _ in range(3)]
first = portcall.recv()
again = portcall.recv(60000)
ids = portcall.fork(2)
print(first, again, drawn, len(ids) if isinstance(ids, (list, tuple)) else ids)
portcall.go("home")
print("home")
"""


@run
async def test_a_restart_in_the_middle_of_a_stay(tmp_path: Path) -> None:
    image = image_of(TWICE, tmp_path / "agent")
    async with recording(tmp_path) as (alpha, beta):
        arrived = beta.subscribe(lambda event: event.kind == "arrived")
        agent = await alpha.launch(image, via=["beta", "alpha"], owner=OWNER)
        await anext(arrived)
        agent.send("one")
        await beta.close()
        await beta.start()
        await meet(alpha, beta)
        agent.send("two")
        # It is not over: what there is of it is shown, up to where it is.
        assert (await agent.wait(60)).exit_code == 0
        journey = await alpha.replay(agent.id, OWNER)
    there = journey.stays[1]
    assert there.notes == () or "restarted" in there.notes[0]
    assert [journey.check(stay.visit) for stay in journey.stays] == ["", "", ""]
    names = [step.name for step in journey.steps]
    assert "fork" in names
    assert names[-1] == "finished"
    for step in journey.steps:
        assert not journey.state(step.index).note.startswith("the replay departs")
    journey.close()


@run
async def test_one_that_travels_still_and_one_that_was_moved_by_order(tmp_path: Path) -> None:
    source = "import portcall\nprint(1)\nportcall.recv()\nfor n in range(5):\n    print(n)\nportcall.recv()\n"
    image = image_of(source, tmp_path / "agent")
    async with recording(tmp_path) as (alpha, beta):
        agent = await alpha.launch(image, via=["beta"], owner=OWNER)
        while agent.standing != "waiting":
            await asyncio.sleep(0)
        so_far = await alpha.replay(agent.id, OWNER)
        assert [step.name for step in so_far.steps][:2] == ["launched", "output"]
        arrived = beta.subscribe(lambda event: event.kind == "arrived")
        await agent.move("beta")
        await anext(arrived)
        agent.send("a")
        agent.send("b")
        assert (await agent.wait(60)).exit_code == 0
        journey = await alpha.replay(agent.id, OWNER)
    assert [step.name for step in journey.steps][:2] == ["launched", "output"]
    assert "live move" in journey.stays[1].missing or journey.check(1) == ""
    journey.state(len(journey.steps) - 1)
    for each in (so_far, journey):
        each.close()


@run
async def test_an_agent_that_got_new_code_is_replayed_with_what_it_had(tmp_path: Path) -> None:
    old = program(
        """
        (call $tell (i32.const 97) (call $step (i32.const 10)))
        (drop (call $go (s 0)))
        (drop (call $recv (i32.const 300) (i32.const 64) (i32.const -1)))
        (call $tell (i32.const 97) (call $step (i32.const 10)))
        (drop (call $go (s 1)))
        (call $tell (i32.const 97) (call $step (i32.const 10)))""",
        "beta|alpha",
    ).replace(
        "(func (export", "(func $step (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))(func (export"
    )
    new = packed(old.replace("(i32.add (local.get 0) (i32.const 1))", "(i32.mul (local.get 0) (i32.const 100))"))
    async with recording(tmp_path) as (alpha, beta):
        agent = await alpha.launch(packed(old), via=["beta", "alpha"], owner=OWNER)
        await settled(beta, agent, Standing.WAITING)
        there = beta.agent(agent.id, OWNER)
        assert (await there.upgrade(new)).done == "upgraded"
        there.send("go on")
        assert numbers(await agent.wait(60), "a") == [11, 1000, 1000]
        journey = await alpha.replay(agent.id, OWNER)
        assert [stay.station for stay in journey.stays] == ["alpha", "beta", "alpha"]
        assert [journey.check(stay.visit) for stay in journey.stays if not stay.missing] == [""] * 3
        assert journey.images.keys() == {packed(old).digest, new.digest}
        again = read_journey(write_journey(journey), now())
        assert again.images.keys() == journey.images.keys()
        assert [again.state(step.index) for step in journey.steps] == [
            journey.state(each.index) for each in journey.steps
        ]
        again.close()
        journey.close()


@run
async def test_a_journey_by_tasks_is_replayed_and_what_left_each_stop_is_compared(tmp_path: Path) -> None:
    adds = "(global.set $count (i32.add (global.get $count) (i32.const {})))"
    quiet = "(global.set $quiet (i32.add (global.get $quiet) (i32.const 3)))"
    once = f"{quiet} {adds} (call $tell (i32.const 110) (global.get $count))"
    rests = once.format(10) + "(drop (call $sleep (i32.const 100)))" + once.format(100)
    exports = f'(func (export "one") {once.format(1)}) (func (export "rests") {rests})'
    image = packed(program("unreachable")[:-1] + "(global $quiet (mut i32) (i32.const 0))" + exports + ")")
    async with recording(tmp_path) as (alpha, _):
        agent = await alpha.launch(image, "beta:one,alpha:rests,beta:rests,alpha:one", owner=OWNER)
        assert numbers(await agent.wait(60), "n") == [1, 11, 111, 121, 221, 222]
        true = await alpha.replay(agent.id, OWNER)
    assert [stay.missing for stay in true.stays] == [""] * 5
    assert [true.check(stay.visit) for stay in true.stays] == [""] * 5
    names = [step.line() for step in true.steps if step.name not in ("report", "sleep")]
    onward = "go('next', forever)"
    assert names == [
        *("launched at alpha", "arrived at beta", onward, "arrived at alpha", onward),
        *("arrived at beta", onward, "arrived at alpha", "finished()"),
    ]
    went = next(step for step in true.steps if step.name == "go")
    assert true.state(went.index).stack.frames == ()
    assert true.state(went.index).waits == "go('next', forever)"

    def lying(visit: int, record: StayRecord) -> Journey:
        records = {**true.records, visit: record}
        return Journey(true.capsule, image, list(records.values()), names=true.names, now=now())

    # A station that called another task, or changed what no call shows.
    record = true.records[2]
    begun = Snapshot.decode(record.state)
    other = evolve(record, restarted=True, state=evolve(begun, pending=None).calling(alpha.key.text, "one").encode())
    assert "departs from the record" in lying(2, other).check(2)
    (quiet_at,) = [index for index, (_, value) in begun.globals.items() if value == 3]
    bent = evolve(begun, globals={**begun.globals, quiet_at: ("i", 7)})
    assert "its globals differ" in lying(2, evolve(record, restarted=True, state=bent.encode())).check(2)
    # One that says that the agent ended, where it has signed that it went on.
    pieces: list[tuple[bytes, int]] = []
    tape = Tape(1 << 20, lambda data, count: pieces.append((data, count)))
    for each in record.calls():
        ends = each.name == "stop" and each.args[1][0] == "go"
        tape.add(each.name, ["finished"] if ends else list(each.args), each.result, each.errno, each.reason)
    tape.flush()
    ended = lying(2, evolve(record, tape=pieces[0][0], entries=pieces[0][1]))
    assert "signed that it went on" in ended.check(2)
    true.close()


@run
async def test_stations_that_start_again_before_and_between_tasks(tmp_path: Path) -> None:
    adds = "(global.set $count (i32.add (global.get $count) (i32.const 1)))"
    once = f"{adds} (call $tell (i32.const 110) (global.get $count))"
    image = packed(program("unreachable")[:-1] + f'(func (export "one") {once}))')
    async with harbour("alpha", "beta", "gamma", home=tmp_path, record_mib=16) as (alpha, beta, gamma):
        await beta.close()
        await gamma.close()
        agent = await alpha.launch(image, "beta:one,gamma:one,alpha:one", owner=OWNER)
        await settled(alpha, agent, Standing.WAITING)
        await alpha.close()
        await alpha.start()
        await beta.start()
        await meet(alpha, beta)
        await settled(beta, agent, Standing.WAITING)
        await beta.close()
        await beta.start()
        await gamma.start()
        await meet(alpha, beta, gamma)
        again = alpha.agent(agent.id, OWNER)
        assert numbers(await again.wait(60), "n") == [1, 2, 3]
        journey = await alpha.replay(agent.id, OWNER)
    assert [stay.missing for stay in journey.stays] == [""] * 4
    assert [journey.check(stay.visit) for stay in journey.stays] == [""] * 4
    journey.close()
