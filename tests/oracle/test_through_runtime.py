"""Real programs through pack, run and the virtual WASI, with hops, between the engines that are installed here."""

from __future__ import annotations

import pytest

import agents
from agents.errors import EngineError
from tests import programs
from tests.programs import ToolMissing

from .journeys import load, undisturbed
from .through_runtime import image_of, travel
from .traveller import Compiler

pytestmark = pytest.mark.sweep

SCRIPTS = ["exceptions", "generators", "with_blocks", "interpreter", "uncaught"]
NOT_PORTABLE = {"unwinding"}  # setjmp needs exceptions


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler()


@pytest.mark.parametrize("name", programs.c_names() + [f"micropython/{name}" for name in SCRIPTS])
def test_moved_at_polls_and_host_calls(compiler: Compiler, name: str) -> None:
    try:
        program = load(name)
    except ToolMissing as reason:
        pytest.skip(str(reason))
    expected = undisturbed(compiler, program)
    every = 397 if name.startswith("micropython") else 53
    found = travel(program, image_of(program.wasm, "standard", "loops"), ["wasmtime"], every, hops=100)
    assert found == expected
    assert found.hops > 3


@pytest.mark.parametrize("name", [name for name in programs.c_names() if name not in NOT_PORTABLE])
def test_moved_between_engines_at_each_host_call(compiler: Compiler, name: str) -> None:
    engines = list(agents.engines.available())
    try:
        program = load(name)
    except ToolMissing as reason:
        pytest.skip(str(reason))
    expected = undisturbed(compiler, program)
    found = travel(program, image_of(program.wasm, "portable", "none"), engines, every=1, hops=100)
    assert found == expected
    assert found.hops >= 3


@pytest.mark.parametrize("name", [*programs.c_names(), "micropython/generators"])
def test_moved_between_wasmtime_and_v8_at_polls_and_host_calls(compiler: Compiler, name: str) -> None:
    try:
        agents.load("v8")
        program = load(name)
    except (EngineError, ToolMissing) as reason:
        pytest.skip(str(reason))
    expected = undisturbed(compiler, program)
    every = 397 if name.startswith("micropython") else 53
    found = travel(program, image_of(program.wasm, "standard", "loops"), ["v8", "wasmtime"], every, hops=6)
    assert found == expected
    assert found.hops > 3
