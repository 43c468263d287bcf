"""WASI reactors: `_initialize` runs once in a life, before the entry, and never again after a hop."""

from __future__ import annotations

import itertools

import pytest

from agents import packing
from agents.ambient import StandaloneHost
from agents.engines import load
from agents.outcomes import Finished
from agents.runtime import run
from agents.waits import Woke

# Each run of `_initialize` counts in $g by tens, each start by ones; the sleeps are where it hops.
REACTOR = """(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (memory (export "memory") 1) (global $g (mut i32) (i32.const 0)) %s
  (func $begin (export "_initialize") %s
    (drop (call $sleep (i32.const 1))) (global.set $g (i32.add (global.get $g) (i32.const 10))))
  (func (export "%s") (result i32) (drop (call $sleep (i32.const 2))) (global.get $g)))"""
START = "(func $one (global.set $g (i32.add (global.get $g) (i32.const 1)))) (start $one)"


def value(text: str, entry: str, hop_every: int | None, profile: packing.ImageProfile = "standard") -> int | float:
    ambient = StandaloneHost(itertools.count().__next__, itertools.count().__next__, bytes)
    image = packing.pack(text, entry=entry, profile=profile)
    outcome = run(image, engine=[load("wasmtime")], ambient=ambient, hop_every=hop_every, answer=lambda wait: Woke())
    assert isinstance(outcome, Finished), outcome
    return outcome.values[0]


@pytest.mark.parametrize("hop_every", [None, 1])
@pytest.mark.parametrize("profile", ["standard", "portable"])
def test_initialize_runs_once_in_a_life(hop_every: int | None, profile: packing.ImageProfile) -> None:
    assert value(REACTOR % ("", "", "answer"), "answer", hop_every, profile) == 10


@pytest.mark.parametrize("hop_every", [None, 1])
def test_it_runs_after_the_start_function(hop_every: int | None) -> None:
    assert value(REACTOR % (START, "", "answer"), "answer", hop_every) == 11


def test_a_module_that_is_not_rewritten_is_initialized_too() -> None:
    assert value(REACTOR % ("", "", "answer"), "answer", None, "none") == 10


@pytest.mark.parametrize("profile", ["standard", "none"])
def test_not_before_start_of_a_command(profile: packing.ImageProfile) -> None:
    assert value(REACTOR % ("", "", "_start"), "_start", None, profile) == 0


@pytest.mark.parametrize("profile", ["standard", "none"])
def test_an_export_of_that_name_that_takes_something_is_none(profile: packing.ImageProfile) -> None:
    assert value(REACTOR % ("", "(param i32)", "answer"), "answer", None, profile) == 0
