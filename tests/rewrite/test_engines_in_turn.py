"""The same programs through the runtime: both profiles, and the engines that are installed here in turn."""

from __future__ import annotations

import time
from typing import Any

import pytest
import wasmtime

import agents
from agents.ambient import StandaloneHost
from agents.errors import EngineError
from agents.hostcalls import HostImport
from agents.waits import Suspend, Woke, Yield

from .journey import Ticker, undisturbed
from .programs import PROGRAMS

NEEDS = {  # what the portable profile, and wasmer, do not have
    "exceptions",
    "nested try_tables in a loop",
    "exceptions held in locals and operands",
}


def _engines(profile: str) -> list[list[str]]:
    found = [["wasmtime"]]
    for name in ("v8",) if profile == "standard" else ("v8", "wasmer"):
        try:
            agents.load(name)
        except EngineError:
            continue
        found += [[name], ["wasmtime", name]]
    return found


def _ticking(ticker: Ticker) -> dict[tuple[str, str], HostImport]:
    answers: list[int] = []

    def tick(ctx: Any, value: int) -> Any:
        if ctx.event is None:
            answers.append(ticker.answer(value))
            return Suspend(Yield())
        return answers.pop()

    return {("t", "tick"): HostImport("i", "i", tick)}


@pytest.mark.parametrize("profile", ["standard", "portable"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_hops_between_engines_change_nothing(name: str, profile: str) -> None:
    if profile == "portable" and name in NEEDS:
        pytest.skip("the portable profile has no exceptions")
    text, arguments = PROGRAMS[name]
    wasm = bytes(wasmtime.wat2wasm(text))
    expected = undisturbed(wasm, arguments[0])
    image = agents.pack(wasm, profile=profile, suspending=None, entry="run")  # type: ignore[arg-type]
    for engines in _engines(profile):
        if "wasmer" in engines and name == "tail calls":
            continue  # wasmer has none
        ticker = Ticker()
        place = StandaloneHost(time.time_ns, time.monotonic_ns, bytes)
        hops: list[bytes] = []
        ending = agents.run(
            image,
            ambient=place,
            engine=engines,
            args=arguments,
            imports=_ticking(ticker),
            hop_every=1,
            answer=lambda wait: Woke(),
            on_hop=hops.append,
        )
        assert isinstance(ending, agents.Finished), (engines, ending)
        assert not isinstance(expected.results, str)
        assert tuple(ending.results) == tuple(value.bits for value in expected.results)
        assert ticker.calls == expected.ticks
        assert len(hops) >= ticker.calls
