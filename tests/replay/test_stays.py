"""One stay is run again from its tape; what is not on the tape is said, and a hostile tape does no harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical, load
from agents.errors import BadRecord, CallFailed, Diverged, FormatError
from agents.execution import Execution
from agents.hostcalls import Ambient
from agents.outcomes import Finished
from agents.recording import CALLS, Recorder, Tape, decode_event, encode_event, read_tape
from agents.replaying import Replayed, _Player, steps_of
from agents.snapshot import Snapshot
from agents.testing import Seeded
from agents.waits import Cloned, Event, Forked, Message, Wait, Woke
from tests.replay.journeys import image_of

BUSY = """
import os, time
import portcall
total = 0
for turn in range(40):
    total += os.urandom(1)[0]
    print(turn, portcall.call("add", str(turn)), time.time())
    if turn % 10 == 5:
        portcall.sleep(0.5)
    try:
        portcall.send("nobody", "x")
    except OSError as error:
        print(error.errno)
print(total)
"""


class Refusing(Seeded):
    """A station from which nothing can be sent."""

    def send(self, to: str, body: bytes) -> None:
        raise CallFailed(23, "no such agent")


def recorded(folder: Path, most: int = 1 << 20) -> tuple[Any, Snapshot, bytes, int, Tape]:
    """A run with a new instance at each long wait, as at a station: image, first state, tape."""
    image = image_of(BUSY, folder)
    place = Refusing(7, services={"add": lambda request: request + b"!"})
    pieces: list[bytes] = []
    tape = Tape(most, lambda data, count: pieces.append(data), 100)
    recorder, engine = Recorder(place, tape), load()
    first: Snapshot | None = None
    snapshot: Snapshot | None = None
    event = None
    while True:
        with Execution(image, engine=engine, ambient=recorder, snapshot=snapshot) as life:
            first = first or life.snapshot()
            event = event or (life._first if snapshot is None else None)
            recorder.turn(life, event)
            stop = life.advance(event)
            if isinstance(stop, Finished):
                recorder.stopped("finished")
                break
            assert isinstance(stop, Wait)
            recorder.stopped("wait", stop)
            snapshot, event = life.snapshot(), place.answer(stop)
    tape.flush()
    assert first is not None
    return image, first, b"".join(pieces), tape.count, tape


def test_every_step_is_reached_from_everywhere(tmp_path: Path) -> None:
    image, first, data, count, _ = recorded(tmp_path)
    entries = read_tape(data, count)
    with (
        Replayed(image, first, entries, engine=load()) as there,
        Replayed(image, first, entries, engine=load()) as back,
    ):
        steps = [step for step in there.steps if step.name in ("call", "sleep", "random", "send")]
        assert len([step for step in steps if step.name == "call"]) == 40
        assert [step.errno for step in steps if step.name == "send"] == [23] * 40
        forward = [there.at(step.entry) for step in steps]
        backward = [back.at(step.entry) for step in reversed(steps)][::-1]
        assert [each.after for each in forward] == [each.after for each in backward]
        assert [each.snapshot.memories for each in forward] == [each.snapshot.memories for each in backward]
        assert [each.snapshot.wasi for each in forward] == [each.snapshot.wasi for each in backward]
        there.end()
        assert isinstance(there.ended, Finished)
        assert there.problem is None


def test_a_tape_that_was_full(tmp_path: Path) -> None:
    image, first, data, count, tape = recorded(tmp_path, most=2000)
    assert tape.dropped > 100
    assert tape.size <= 2000
    with Replayed(image, first, read_tape(data, count), engine=load()) as stay:
        last = stay.at(stay.steps[-1].entry)
        assert last.after == count


def test_a_run_that_departs(tmp_path: Path) -> None:
    image, first, data, count, _ = recorded(tmp_path)
    entries = list(read_tape(data, count))
    at = next(i for i, each in enumerate(entries) if each.name == "random")
    del entries[at]
    with Replayed(image, first, entries, engine=load()) as stay:
        before = [step for step in stay.steps if step.entry < at]
        assert not before or stay.at(before[-1].entry)
        with pytest.raises(Diverged, match="random"):
            stay.end()
        with pytest.raises(Diverged, match="random"):
            stay.at(len(entries) - 1)


def test_a_state_of_another_image(tmp_path: Path) -> None:
    image = image_of(BUSY, tmp_path)
    with pytest.raises(FormatError):
        Replayed(image, Snapshot(bytes(32), "run"), (), engine=load())


def test_tapes_are_read_as_they_were_written() -> None:
    pieces: list[bytes] = []
    tape = Tape(1 << 20, lambda data, count: pieces.append(data))
    tape.add("wall_ns", [], 5)
    tape.add("lookup", ["x"], ["a", "b"])
    tape.add("send", ["a", [b"x", 1, b""]], None, 23, "no such agent")
    tape.add("turn", [True], ["Reply", b"hi"])
    tape.add("stop", ["wait", ["go", "beta"]])
    tape.flush()
    entries = read_tape(b"".join(pieces), tape.count)
    assert [each.name for each in entries] == ["wall_ns", "lookup", "send", "turn", "stop"]
    assert entries[2].errno == 23
    for count in (0, 4, 6):
        with pytest.raises(BadRecord):
            read_tape(b"".join(pieces), count)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.binary(max_size=4) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.sampled_from([*CALLS, "turn", "stop", "x"]), st.lists(VALUES, max_size=3), VALUES)))
@settings(max_examples=200, deadline=None)
def test_hostile_tapes_are_refused_or_listed(rows: list[tuple[str, list[Any], Any]]) -> None:
    data = b"".join(canonical.encode(list(row)) for row in rows)
    try:
        entries = read_tape(data, len(rows))
    except BadRecord:
        return
    steps = steps_of(entries)
    assert len(steps) <= len(rows)


@pytest.mark.parametrize("event", [Forked(0, ("a", "b")), Forked(2), Cloned(None), Message("a", b"x"), Woke()])
def test_events_are_read_as_they_were_written(event: Event) -> None:
    assert decode_event(canonical.decode(canonical.encode(encode_event(event)))) == event
    with pytest.raises(BadRecord):
        decode_event([*encode_event(event), 1])


def test_every_call_of_a_station_is_recorded_and_replayed() -> None:
    """A call that is new has to be here too: otherwise agents that are recorded could not make it."""
    asked = {name for name in vars(Ambient) if not name.startswith("_")}
    assert asked <= CALLS.keys()
    for name in CALLS:
        assert hasattr(Recorder, name), name
        assert hasattr(_Player, name), name
