"""The oracle on small programs: suspended at every opportunity, the ending is that of the undisturbed run."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.rewrite import Options
from agents.wasm.encode import encode_module
from agents.wasm.validate import validate_module
from tests.thorough import examples

from .generator import Generator
from .journey import travelling, undisturbed
from .programs import PROGRAMS

POLLS = ("none", "loops", "calls")
EVERY_IMPORT = None


@pytest.mark.parametrize("polls", POLLS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_hops_change_nothing(name: str, polls: str) -> None:
    text, arguments = PROGRAMS[name]
    wasm = bytes(wasmtime.wat2wasm(text))
    expected = undisturbed(wasm, arguments[0])
    ending, hops = travelling(wasm, arguments[0], Options(polls=polls, suspending=EVERY_IMPORT))  # type: ignore[arg-type]
    assert ending == expected
    assert hops >= expected.ticks  # every call of the host was an opportunity


@settings(max_examples=examples(12))
@given(seed=st.integers(0, 1 << 32), polls=st.sampled_from(POLLS))
def test_generated_programs(seed: int, polls: str) -> None:
    module = Generator(seed).module()
    validate_module(module)
    wasm = encode_module(module)
    expected = undisturbed(wasm, seed % 7)
    ending, _ = travelling(wasm, seed % 7, Options(polls=polls, suspending=EVERY_IMPORT), hops=300)  # type: ignore[arg-type]
    assert ending == expected


def test_the_stack_is_data_and_grows_with_recursion() -> None:
    wasm = bytes(wasmtime.wat2wasm(PROGRAMS["deep recursion"][0]))
    for depth in (10, 3_000):
        assert travelling(wasm, depth, Options(polls="none", suspending=EVERY_IMPORT)) == (
            undisturbed(wasm, depth),
            1,
        )
