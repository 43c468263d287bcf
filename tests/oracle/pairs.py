"""One module twice: undisturbed, and travelling. What both do must be the same, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wasmtime

from agents.errors import UnsupportedFeature
from agents.rewrite import Options, rewrite
from agents.rewrite.nans import canonical_nans
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module

from . import bits
from .bits import Value
from .interposed import HERE, interpose
from .traveller import PAGE, Traveller

Outcome = list[Value] | str  # results, or how it trapped


def packed_for(
    wasm: bytes, everywhere: bool, suspending: frozenset[tuple[str, str]] = frozenset(), canonical: bool = False
) -> bytes:
    """Rewritten with as many sites as its references allow: one that is live at a site cannot travel.

    everywhere: with a suspending call of ``oracle.here`` between any two instructions, if that is possible.
    canonical: with canonical NaNs
    """
    module = decode_module(wasm)
    if canonical:
        module = canonical_nans(module)
    tries = [(module, Options(polls="calls", suspending=suspending))]
    if everywhere:
        options = Options(polls="none", suspending=suspending | {HERE})
        # Each site saves what is live: a thousand locals at thousands of sites would be gigabytes.
        step = 1 + max((len(f.body) * len(f.locals) for f in module.funcs), default=0) // 500_000
        tries = [(interpose(module, step), options), (interpose(module, 3 * step, 1), options), *tries]
    for choice, options in tries:
        try:
            return encode_module(rewrite(choice, options))
        except UnsupportedFeature:
            continue
    return encode_module(rewrite(module, Options(polls="loops", suspending=suspending)))


def outcome_of(run: Callable[[], list[Value]]) -> Outcome:
    """What `run` gives, or the kind of its trap."""
    try:
        return run()
    except wasmtime.Trap as trap:
        if trap.trap_code is not None:
            return f"trap: {trap.trap_code.name}"
        return f"trap: {trap.message.splitlines()[-1]}"  # the first line has addresses
    except wasmtime.WasmtimeError as error:
        if "exception" in str(error):
            return "exception"
        raise


def same(one: Outcome, other: Outcome) -> bool:
    """Equal to the bit; of two functions only that both are there, since they live in different stores."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return [_comparable(value) for value in one] == [_comparable(value) for value in other]


def _comparable(value: Value) -> tuple[str, int]:
    return value.letter, bool(value.bits) if value.letter == "r" else value.bits


def compare_state(store: wasmtime.Store, undisturbed: wasmtime.Instance, traveller: Traveller) -> None:
    """Raises AssertionError when memories, globals or tables differ. `undisturbed`: see `traveller.exposing`."""
    exports: Any = undisturbed.exports(store)
    for number in range(traveller.metadata.memories):
        here, there = exports[f"portcall.memory.{number}"], traveller.export(f"memory.{number}")
        size = here.size(store)
        assert size == there.size(traveller.store), f"memory {number} has another size"
        # Comparing many megabytes after each action would be slow, and nothing writes that far without hopping.
        if size * PAGE <= 1 << 22 or traveller.hopped:
            for at in range(0, size * PAGE, PAGE):
                expected = bits.read(store, here, at, PAGE)
                found = bits.read(traveller.store, there, at, PAGE)
                assert found == expected, f"memory {number} differs in page {at // PAGE}"
    for number in traveller.metadata.globals:
        name = f"portcall.global.{number}"
        if name in exports:  # else the rewriter added it
            mine = bits.get_global(traveller.store, traveller.export(f"global.{number}"))
            theirs = bits.get_global(store, exports[name])
            assert _comparable(mine) == _comparable(theirs), f"global {number} is {mine}, not {theirs}"
    for number in traveller.metadata.tables:
        found_elements = bits.table_values(traveller.store, traveller.export(f"table.{number}"))
        elements = bits.table_values(store, exports[f"portcall.table.{number}"])
        assert same(found_elements, elements), f"table {number} differs"
