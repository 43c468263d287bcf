"""Agents in Python: every call of the shim against a station that records, and hops that nobody notices."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

import agents
from agents.errors import CallFailed, ToolchainError
from agents.hostcalls import EAGAIN
from agents.image import AgentImage
from agents.rewrite.options import Polls
from agents.sdk import micropython
from agents.sdk.sources import Choices, load_image, user_cache
from agents.waits import Clone, Event, Failed, Go, Refused, Wait

from .languages import Answering, cpython


@attrs.define
class Station(Answering):
    """Keeps what is printed, too."""

    printed: list[str] = attrs.field(factory=list)

    def output(self, fd: int, data: bytes) -> None:
        self.printed.append(data.decode())


def image_of(script: str, folder: Path, polls: Polls = "loops") -> AgentImage:
    source = folder / "agent.py"
    source.write_text(script)
    return load_image(source, Choices(polls=polls), cache=user_cache())


def run(image: AgentImage, every: int | None = None) -> tuple[Station, int]:
    """The station and the exit code."""
    station = Station(lambda: 10**18, lambda: 10**9, lambda size: bytes(size), station="home", agent_id="me, me")
    outcome = agents.run(image, ambient=station, answer=station.answer, hop_every=every)
    assert isinstance(outcome, agents.Finished), outcome
    return station, outcome.exit_code


EVERY_CALL = """
import portcall
print(portcall.here(), portcall.me(), repr(portcall.next_stop()))
portcall.go("beta")
print(portcall.here())
try:
    portcall.go("closed")
except OSError as error:
    print("still at", portcall.here(), error.errno)
print(portcall.call("clock", "please"), portcall.call("clock"), portcall.call("clock", b"!"))
try:
    portcall.call("oracle")
except OSError as error:
    print("no oracle", error.errno)
print(portcall.lookup("clock"), portcall.lookup("oracle"))
portcall.send("friend", "hi")
try:
    portcall.send("nobody", b"hi")
except OSError as error:
    print("nobody", error.errno)
print(portcall.recv(), "from", portcall.sender())
try:
    portcall.recv(0.25)
except OSError as error:
    print("nothing came", error.errno)
portcall.sleep(1.5)
print(portcall.clone())
portcall.report("answer", 42)
portcall.report("raw", b"\\x00\\xff")
portcall.log("done")
portcall.log("badly", "error")
for wrong in ("", "a" * 2000):
    try:
        portcall.go(wrong)
    except OSError as error:
        print("nowhere", error.errno)
try:
    portcall.exit(5)
finally:
    print("last words")
"""


def test_every_call(tmp_path: Path) -> None:
    station, code = run(image_of(EVERY_CALL, tmp_path))
    assert "".join(station.printed).splitlines() == [
        "home me, me ''",
        "beta",
        "still at beta 23",
        "b'noon, please' b'noon, ' b'noon, !'",
        "no oracle 44",
        "['beta', 'gamma'] []",
        "nobody 23",
        "b'hello' from a friend",
        "nothing came 73",
        "the child",
        "nowhere 28",
        "nowhere 37",
        "last words",
    ]
    assert station.told == [
        "send friend b'hi'",
        "recv 250000000",
        "sleep 1500000000",
        "report answer b'42'",
        "report raw b'\\x00\\xff'",
        "2 done",
        "0 badly",
    ]
    assert code == 5


MOVING = """
import portcall

def walk(places):
    for place in places:
        try:
            portcall.go(place)
            yield portcall.here()
        finally:
            print("leaving the turn of", place)

class Visit:
    def __enter__(self):
        print("enter at", portcall.here())
        return self
    def __exit__(self, kind, value, traceback):
        portcall.go("epilogue")
        print("exit at", portcall.here(), kind)
        return True

def deep(n):
    if n == 0:
        portcall.go("bottom")
        raise ValueError("thrown at " + portcall.here())
    return deep(n - 1)

print([place for place in walk(["beta", "gamma"])])
with Visit():
    deep(5)
print("the end at", portcall.here())
raise SystemExit(3)
"""


# Without polls each opportunity is a call, and all are taken; with them there are 100,000 in the interpreter.
@pytest.mark.parametrize(("polls", "every"), [("loops", None), ("none", 1), ("none", 2)])
def test_hops_cross_loops_generators_with_blocks_and_exceptions(
    tmp_path: Path, polls: Polls, every: int | None
) -> None:
    station, code = run(image_of(MOVING, tmp_path, polls), every)
    assert "".join(station.printed).splitlines() == [
        "leaving the turn of beta",
        "leaving the turn of gamma",
        "['beta', 'gamma']",
        "enter at gamma",
        "exit at epilogue <class 'ValueError'>",
        "the end at epilogue",
    ]
    assert code == 3


def test_an_exception_nobody_catches_ends_the_agent(tmp_path: Path) -> None:
    station, code = run(image_of("import portcall\nportcall.go('closed')\n", tmp_path))
    assert code == 1
    assert "OSError" in "".join(station.printed)


def test_two_agents_are_one_image(tmp_path: Path) -> None:
    one, two = image_of("print(1)\n", tmp_path), image_of("print(2)\n", tmp_path)
    assert one.digest == two.digest
    assert one.luggage != two.luggage


def test_chance_and_time_are_the_stations(tmp_path: Path) -> None:
    script = "import random, os, time\nprint(random.random() >= 0, len(os.urandom(9)), time.time())\n"
    station, _ = run(image_of(script, tmp_path))
    assert "".join(station.printed) == "True 9 1000000000.0\n"


def test_what_was_printed_before_a_move_is_printed_there(tmp_path: Path) -> None:
    script = "import portcall\nprint('left', end='')\nportcall.go('beta')\nprint(portcall.clone(), end='')\n"
    printed: list[tuple[str, str]] = []

    class Listening(Station):
        def output(self, fd: int, data: bytes) -> None:
            printed.append((self.station, data.decode()))

    place = Listening(lambda: 0, lambda: 0, bytes, station="alpha")
    agents.run(image_of(script, tmp_path), ambient=place, answer=place.answer)
    assert printed == [("alpha", "left"), ("beta", "the child")]


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("import sys\nmatch sys.argv:\n    case _:\n        pass\n", "line 2: MicroPython has no match statement"),
        ("a = [1]\nprint([*a, 2])\n", r"line 2: MicroPython has no \* in a list"),
        ("def f(a):\n    return *a, 2\n", r"line 2: MicroPython has no \* in a list, tuple"),
        ("print({**{}, 1: 2})\n", r"line 1: MicroPython has no \*\* in a dict"),
        ("f = lambda a, /: a\n", "line 1: MicroPython has no positional-only parameters"),
    ],
)
def test_syntax_that_micropython_does_not_read(script: str, what: str, tmp_path: Path) -> None:
    """It is refused by name, and it is true: without the check the interpreter refuses it."""
    with pytest.raises(ToolchainError, match=rf"agent\.py, {what}.*--python FILE takes CPython"):
        image_of(script, tmp_path)
    image = image_of("", tmp_path).with_luggage(micropython.luggage("agent.py", script.encode()))
    station, code = run(image)
    assert code == 1
    assert "SyntaxError" in "".join(station.printed)


def test_syntax_that_micropython_reads(tmp_path: Path) -> None:
    """With the mark that some editors write first."""
    script = "\ufeffa, *b = 1, 2, 3\nfor c, *d in [b]: print(max(*b), dict(**{'x': 1}), c, d)\n"
    station, code = run(image_of(script, tmp_path))
    assert (code, "".join(station.printed)) == (0, "3 {'x': 1} 2 [3]\n")


class Busy(Station):
    """Nothing can be done here now."""

    def answer(self, wait: Wait) -> Event:
        return Refused(EAGAIN, "busy") if isinstance(wait, (Go, Clone)) else Failed(EAGAIN, "busy")

    def send(self, to: str, body: bytes) -> None:
        raise CallFailed(EAGAIN, "busy")


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_a_station_that_is_busy_is_an_error_like_any_other(interpreter: str, tmp_path: Path) -> None:
    """Python takes EAGAIN for a file that has nothing now, and raises nothing: the agent would think it had moved."""
    script = """
import portcall
for call in (
    lambda: portcall.go("beta"), portcall.clone, lambda: portcall.call("clock"), lambda: portcall.call("clock", "x"),
    lambda: portcall.send("friend", "hi"), portcall.recv, lambda: portcall.sleep(1),
):
    try:
        print("it gave", call())
    except OSError as error:
        print(error.errno)
"""
    station = Busy(lambda: 10**18, lambda: 10**9, lambda size: bytes(size))
    (tmp_path / "agent.py").write_text(script)
    image = load_image(
        tmp_path / "agent.py", Choices(python=cpython() if interpreter == "cpython" else None), cache=user_cache()
    )
    outcome = agents.run(image, ambient=station, answer=station.answer)
    assert isinstance(outcome, agents.Finished)
    assert "".join(station.printed).split("\n") == ["6"] * 7 + [""]
