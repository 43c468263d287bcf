"""`docking.testing.play`: agents in unit tests, with stations that are played."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

import agents
import docking
from agents.outcomes import Exhausted, Trapped
from docking.errors import ServiceFailed, StationError
from docking.simulation import Simulation, way_of
from docking.testing import Line, Trial, play
from tests.station.harbour import packed, program

WRONG = {"services": {"stock.count": 12}}, {"messages": [5]}
STOCK = """
import portcall
total = 0
while portcall.next_stop():
    try:
        portcall.go("next")
    except OSError as error:
        print("error", error.errno)
        break
    count = int(portcall.call("stock.count", "nuts"))
    print(count, "nuts at", portcall.here())
    total += count
portcall.report("total", total)
"""


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text)
    return path


def run(folder: Path, text: str, **options: object) -> Trial:
    return play(script(folder, text), **options)  # type: ignore[arg-type]


def test_all_that_is_known_of_an_agent(tmp_path: Path) -> None:
    services = {"stock.count@alpha": "12", "stock.count@beta": lambda request: b"30" if request == b"nuts" else b"0"}
    trial = run(tmp_path, STOCK, via="alpha,beta", services=services)
    assert trial.exit_code == 0
    assert trial.output == "12 nuts at alpha\n30 nuts at beta\n"
    assert trial.errors == ""
    assert trial.lines == (Line("alpha", "12 nuts at alpha"), Line("beta", "30 nuts at beta"))
    (result,) = trial.results
    assert (result.key, result.text, result.station, result.visit) == ("total", "42", "beta", 2)
    assert trial.visited == ("home", "alpha", "beta")
    assert trial.clones == ()


def test_the_same_again_and_in_fresh_instances(tmp_path: Path) -> None:
    text = "import os, random, time, portcall\nprint(os.urandom(4), random.random(), time.time())\nportcall.sleep(5)\n"
    text += "portcall.go('alpha')\nprint(time.time())\n"
    first = run(tmp_path, text, seed=3)
    assert first.output == run(tmp_path, text, seed=3).output
    assert first.output != run(tmp_path, text, seed=4).output
    hopping = run(tmp_path, STOCK, via="alpha,beta", services={"stock.count": "1"}, hop_every=20_000)
    assert hopping.output == "1 nuts at alpha\n1 nuts at beta\n"


def test_sleeping_takes_the_time_of_nobody(tmp_path: Path) -> None:
    began = time.monotonic()
    trial = run(
        tmp_path, "import time, portcall\nfirst = time.time()\nportcall.sleep(86400)\nprint(time.time() - first)\n"
    )
    assert 86400 <= float(trial.output) < 86401
    assert time.monotonic() - began < 86400


def test_failures_are_told(tmp_path: Path) -> None:
    def closed(request: bytes) -> bytes:
        raise ServiceFailed("the shop is closed", 6)

    trial = run(tmp_path, STOCK, via="alpha", services={"stock.count": closed})
    assert trial.exit_code == 1
    assert "warning: call failed: the shop is closed\n" in trial.errors
    assert trial.errors.endswith("OSError: [Errno 6] EAGAIN: try again later\n")
    trial = run(tmp_path, STOCK, via="alpha,beta", services={"stock.count": "1"}, down=["beta"])
    assert trial.output == "1 nuts at alpha\nerror 23\n"
    assert trial.errors == "warning: go failed: the station 'beta' does not answer\n"


def test_files_and_packages_go_along(tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text("{}")
    text = "import bisect\nprint(open('/agent/prices.json').read(), open('/agent/other').read(), bisect.bisect([1], 2))"
    given = {"prices.json": "prices.json", "other": tmp_path / "prices.json"}
    script(tmp_path, text)
    assert play("script.py", files=given, packages=["bisect"], folder=tmp_path).output == "{} {} 1\n"
    script(tmp_path, "print(open('/agent/prices.json').read())")
    assert play("script.py", files=["prices.json"], folder=tmp_path).output == "{}\n"
    with pytest.raises(TypeError, match="packed already"):
        play(packed(program("nop")), files=["prices.json"])


@pytest.mark.parametrize("wrong", [{"down": ["beat"]}, {"services": {"x@beat": "1"}}])
def test_a_station_that_is_no_stop(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(StationError, match="'beat' is no stop of its way, alpha,beta"):
        run(tmp_path, STOCK, via="alpha,beta", **wrong)


def test_arguments_and_messages(tmp_path: Path) -> None:
    text = "import sys, portcall\nprint(sys.argv[1:], portcall.recv(), portcall.recv(), portcall.sender())\n"
    trial = run(tmp_path, text, args=["a", "b c"], messages=["one", b"\xff"], home="office")
    assert trial.output == "['a', 'b c'] b'one' b'\\xff' office\n"


def test_clones_are_trials_of_their_own(tmp_path: Path) -> None:
    text = """
import portcall
parent = portcall.me()
child = portcall.clone()
if child is None:
    portcall.go("beta")
    portcall.report("at", portcall.here())
    portcall.send(parent, "done")
    portcall.exit(3)
print(child, portcall.recv())
"""
    trial = run(tmp_path, text)
    assert (trial.exit_code, trial.output) == (0, "agent-1 b'done'\n")
    (clone,) = trial.clones
    assert (clone.exit_code, clone.output, clone.visited) == (3, "", ("home", "beta"))
    assert [(result.text, result.station) for result in clone.results] == [("beta", "beta")]


def test_what_does_not_end_by_itself(tmp_path: Path) -> None:
    endless = agents.pack('(module (func (export "_start") (loop $again (br $again))))')
    permit = docking.Permit(docking.Budget(cpu=50_000, memory=64 << 20), ())
    trial = play(endless, permit=permit)
    assert isinstance(trial.outcome, Exhausted)
    assert (trial.exit_code, trial.outcome.what) == (None, "cpu")
    trial = play(agents.pack('(module (func (export "_start") unreachable))'))
    assert isinstance(trial.outcome, Trapped)
    assert trial.errors == f"{trial.outcome.reason}\n"


def test_where_an_agent_was_when_its_time_was_up(tmp_path: Path) -> None:
    text = "def search(n):\n    while True:\n        n += 1\nsearch(5)\n"
    permit = docking.Permit(docking.Budget(cpu=500_000, memory=64 << 20), ())
    trial = run(tmp_path, text, permit=permit)
    assert trial.stack is not None
    search, module = trial.stack.frames
    assert (search.function, search.file) == ("search", "/agent/script.py")
    assert search.line in (2, 3)
    assert [variable.name for variable in search.variables] == ["n"]
    assert (module.function, module.line) == ("<module>", 4)
    assert run(tmp_path, "pass").stack is None


def test_input_is_at_its_end(tmp_path: Path) -> None:
    assert run(tmp_path, "import sys\nprint(repr(sys.stdin.read()))\n").output == "''\n"


def test_recursion_as_deep_as_at_a_station(tmp_path: Path) -> None:
    text = "def deep(n):\n    return deep(n + 1)\ntry:\n    deep(0)\nexcept RuntimeError as error:\n    print(error)\n"
    assert run(tmp_path, text).output == "maximum recursion depth exceeded\n"


def test_in_a_running_event_loop(tmp_path: Path) -> None:
    async def slow(request: bytes) -> str:
        await asyncio.sleep(0.001)
        return "7"

    async def main() -> Trial:
        return run(tmp_path, STOCK, via="alpha", services={"stock.count": slow})

    assert asyncio.run(main()).output == "7 nuts at alpha\n"


def test_services_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(StationError, match="is no name of a service"):
        run(tmp_path, STOCK, services={"Stock": "1"})


def test_services_as_a_function_of_the_station(tmp_path: Path) -> None:
    def services(station: docking.Offering) -> None:
        if station.name != "alpha":

            @station.service("stock.count")
            def count(request: bytes, visitor: docking.Visitor) -> str:
                assert (visitor.station, visitor.label) == ("beta", "micropython")
                return str(visitor.hop)

    trial = run(tmp_path, STOCK, via="beta", services=services)
    assert trial.output == "1 nuts at beta\n"


# Goes to each of the words, and tells the answer; then to the next stop until there is none.
def walker(*stops: str) -> agents.AgentImage:
    goes = "".join(f"(call $tell (i32.const 97) (call $go (s {n})))" for n in range(len(stops)))
    return packed(program(goes, "|".join(stops)))


def walk(way: str, *stops: str, down: tuple[str, ...] = ()) -> tuple[list[int], list[str]]:
    """The answers to each `go`, and where the agent was."""
    from docking.testing import _engine, _in_deep_thread, _TestWorld

    simulation = Simulation(_TestWorld(0), home="home", via=way_of(way), down=down)
    _in_deep_thread(lambda: simulation.run(walker(*stops), [_engine()]) and None)
    (agent,) = simulation.agents
    return [int.from_bytes(value, "little", signed=True) for _, value in agent.reports], agent.visited


def test_itineraries_are_the_real_ones() -> None:
    alternatives = "alpha|beta,gamma*2,{x,y}"
    assert walk(alternatives, "beta", "gamma", "y", "x", "z") == (
        [0, 0, 0, 0, -63],
        ["home", "beta", "gamma", "y", "x"],
    )
    assert walk(alternatives, "gamma", "next", "alpha", "home") == ([-63, 0, 0, 0], ["home", "alpha", "home"])
    # The first alternative is down: `next` takes the other.
    assert walk(alternatives, "next", down=("alpha",)) == ([0], ["home", "beta"])
    assert walk(alternatives, "next", down=("alpha", "beta")) == ([-23], ["home"])

    certified = "any@somebody,beta"
    assert walk(certified, "next", "anywhere", "beta") == ([-23, 0, 0], ["home", "anywhere", "beta"])


def test_without_a_way_anywhere() -> None:
    assert walk("", "x", "y", "y", "next", "home") == ([0, 0, 0, -23, 0], ["home", "x", "y", "home"])
    assert walk("", "x", down=("x",)) == ([-23], ["home"])


@pytest.mark.parametrize("options", WRONG)
def test_replies_and_messages_that_are_none(options: Any) -> None:
    with pytest.raises(TypeError, match="bytes or text, not int"):
        play(packed(program("nop")), **options)
