"""Agents in CPython are packed when the interpreter has started."""

from __future__ import annotations

import asyncio
from pathlib import Path

import attrs

import agents
from agents.canonical import encode
from agents.image import AgentImage
from agents.sdk.sources import Choices, load_image, user_cache
from agents.sdk.started import started
from agents.wasi.state import WasiState
from docking import Station
from tests.station.harbour import OWNER, station

from .languages import Open, cpython


def packed(folder: Path, script: str) -> AgentImage:
    (folder / "agent.py").write_text(script)
    return load_image(folder / "agent.py", Choices(python=cpython()), cache=user_cache())


def ran(image: AgentImage, **options: object) -> tuple[int, str]:
    place = Open.home()
    outcome = agents.run(image, ambient=place, answer=place.answer, **options)
    assert isinstance(outcome, agents.Finished), outcome
    return outcome.exit_code, place.printed


SCRIPT = """
import os, sys
print(__name__, __file__, sys.argv, sys.path[0], os.environ.get("FROM"), "portcall" in dir())
import helper
def fails():
    raise ValueError("so it is")
if len(sys.argv) > 1:
    fails()
"""


def test_the_script_sees_itself_as_it_does_where_the_interpreter_starts(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("print('helped')")
    image = packed(tmp_path, SCRIPT)
    assert image.started
    cold = attrs.evolve(image, started=b"")
    said = "__main__ /agent/agent.py ['/agent/agent.py'] /agent None False\nhelped\n"
    assert ran(image) == ran(cold) == (0, said)
    state = WasiState.read(agents.Snapshot.decode(image.started).wasi)
    state.equip(["one"], {"FROM": "here"})
    code, printed = ran(image, wasi=state)
    assert code == 1
    assert "['/agent/agent.py', 'one'] /agent here" in printed
    assert 'File "/agent/agent.py", line 6, in fails' in printed
    assert "start.py" not in printed


def test_packing_it_twice_gives_the_same(tmp_path: Path) -> None:
    image = packed(tmp_path, "print(1)")
    assert packed(tmp_path, "print(1)").pack() == image.pack()
    assert AgentImage.unpack(image.pack()) == image
    assert AgentImage.unpack(image.pack()).started == image.started


ASYNC = """
import asyncio
import portcall

async def wait(name, seconds):
    await asyncio.sleep(seconds)
    return name

async def main():
    names = [wait("slow", 0.03), wait("fast", 0.01)]
    for done in asyncio.as_completed(names):
        print(await done)
    portcall.go("beta")
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    except TimeoutError:
        print("too late", portcall.here())
    await asyncio.Event().wait()

try:
    asyncio.run(main())
except RuntimeError as error:
    print(error)
"""


def test_asyncio_runs_and_travels(tmp_path: Path) -> None:
    said = "fast\nslow\ntoo late beta\nnothing is left that could happen: all tasks wait for each other\n"
    assert ran(packed(tmp_path, ASYNC)) == (0, said)


def test_a_station_launches_it_as_it_was_packed(tmp_path: Path) -> None:
    image = packed(tmp_path, "import sys, portcall\nportcall.report('args', ' '.join(sys.argv[1:]))")

    async def main() -> None:
        async with station("home") as home:
            assert isinstance(home, Station)
            agent = await home.launch(image, args=["a", "b"], owner=OWNER)
            report = await agent.wait()
            assert report.exit_code == 0
            assert [result.text for result in report.results] == ["a b"]

    asyncio.run(main())


def test_a_build_that_does_not_start_here_is_packed_as_it_is() -> None:
    wat = """(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
      (memory (export "memory") 1) (func (export "_start") (call 0 (i32.const 3))))"""
    image = agents.pack(wat).with_luggage(encode(WasiState.launch(["python"]).encode()))
    assert started(image) == b""
