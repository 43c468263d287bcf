"""Exports for the events of an agent's life: when they are called, what they may do, and what ends with them."""

from __future__ import annotations

import attrs
import pytest

import agents
from agents import Exhausted, Finished, TimeBudget, Trapped, engines
from agents.ambient import StandaloneHost
from agents.errors import InvalidModule
from agents.life_events import EVENTS
from agents.waits import (
    Arrived,
    Clone,
    Cloned,
    Event,
    Fork,
    Forked,
    Go,
    GoAt,
    Message,
    Recv,
    Refused,
    Sleep,
    TimedOut,
    Wait,
    Woke,
)

SETTINGS = [
    ("wasmtime", "standard"),
    ("wasmtime", "portable"),
    ("v8", "standard"),
    ("v8", "portable"),
    ("wasmer", "portable"),
]


@pytest.fixture(params=SETTINGS, ids=lambda pair: "-".join(pair))
def setting(request: pytest.FixtureRequest) -> tuple[engines.Engine, str]:
    name, profile = request.param
    if name not in engines.available():
        pytest.skip(f"{name} does not work on this Python")
    return engines.load(name, cache=None), profile


@attrs.define
class Place(StandaloneHost):
    """Says what it is told, in order, with the waits between; has notices."""

    told: list[str] = attrs.field(factory=list)
    notices: list[str] = attrs.field(factory=list)

    def log(self, level: int, text: str) -> None:
        self.told.append(text)

    def notice(self) -> str:
        return self.notices.pop(0) if self.notices else ""

    def answer(self, wait: Wait) -> Event:
        """What the agent waits for."""
        self.told.append(type(wait).__name__)
        match wait:
            case Go("closed"):
                return Refused(23, "closed")
            case Go() | GoAt():
                return Arrived()
            case Sleep():
                return Woke()
            case Recv(None):
                return Message("a friend", b"hello")
            case Recv():
                return TimedOut()
            case Clone():
                return Cloned("child")
            case Fork():
                return Forked(0, ("one",))
        raise AssertionError(wait)


def place(*notices: str) -> Place:
    return Place(lambda: 10**18, lambda: 10**9, bytes, notices=list(notices))


def module(body: str, callbacks: dict[str, str]) -> str:
    """A program that runs `body`; each callback logs its event and does what it says."""
    words = "".join(f'(data (i32.const {64 * n}) "{event}")' for n, event in enumerate(EVENTS))
    functions = "".join(
        f'(func (export "portcall_on_{event}") (call $log (i32.const 2) (i32.const {64 * EVENTS.index(event)})'
        f" (i32.const {len(event)})) {does})"
        for event, does in callbacks.items()
    )
    return f"""(module
      (import "portcall" "go" (func $go (param i32 i32) (result i32)))
      (import "portcall" "go_at" (func $go_at (param i32 i32 i32 i32) (result i32)))
      (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
      (import "portcall" "recv" (func $recv (param i32 i32 i32) (result i32)))
      (import "portcall" "sender" (func $sender (param i32 i32) (result i32)))
      (import "portcall" "clone" (func $clone (param i32 i32) (result i32)))
      (import "portcall" "fork" (func $fork (param i32 i32 i32) (result i32)))
      (import "portcall" "log" (func $log (param i32 i32 i32)))
      (import "portcall" "notice" (func $notice (param i32 i32) (result i32)))
      (memory (export "memory") 1) {words}
      (data (i32.const 1000) "beta") (data (i32.const 1100) "closed") (data (i32.const 1200) "there")
      (global $kept (mut i32) (i32.const 0))
      {functions}
      (func (export "there") (call $log (i32.const 2) (i32.const 1200) (i32.const 5)))
      (func $busy (param $n i32) (result i32)
        (if (result i32) (i32.eqz (local.get $n)) (then (call $go (i32.const 1000) (i32.const 4)))
          (else (i32.add (i32.const 100) (call $busy (i32.sub (local.get $n) (i32.const 1)))))))
      (func (export "_start") {body}))"""


GO = "(drop (call $go (i32.const 1000) (i32.const 4)))"
ALL = f"""{GO} (drop (call $go (i32.const 1100) (i32.const 6))) (drop (call $sleep (i32.const 1)))
  (drop (call $recv (i32.const 2000) (i32.const 2) (i32.const -1)))
  (drop (call $recv (i32.const 2000) (i32.const 5) (i32.const -1)))
  (drop (call $recv (i32.const 2000) (i32.const 5) (i32.const 5)))
  (drop (call $clone (i32.const 2000) (i32.const 10))) (drop (call $fork (i32.const 1) (i32.const 2000) (i32.const 10)))
  (drop (call $go_at (i32.const 1000) (i32.const 4) (i32.const 1200) (i32.const 5)))"""
TOLD = [
    *("departing", "Go", "arrived", "departing", "Go", "sleeping", "Sleep", "woken"),
    *("Recv", "message", "Recv", "Clone", "cloned", "Fork", "cloned", "departing", "GoAt", "there"),
]


@pytest.mark.parametrize("hop_every", [None, 1])
def test_each_event_is_told_once_inside_the_call_that_makes_it(
    setting: tuple[engines.Engine, str], hop_every: int | None
) -> None:
    engine, profile = setting
    image = agents.pack(module(ALL, dict.fromkeys(EVENTS, "")), entry="_start", profile=profile)  # type: ignore[arg-type]
    here = place()
    outcome = agents.run(image, engine=engine, ambient=here, answer=here.answer, hop_every=hop_every)
    assert isinstance(outcome, Finished), outcome
    assert here.told == TOLD


@pytest.mark.parametrize("hop_every", [None, 1])
def test_a_callback_keeps_what_the_agent_was_doing_and_cannot_wait(
    setting: tuple[engines.Engine, str], hop_every: int | None
) -> None:
    engine, profile = setting
    # Deep in a recursion; the callback recurses too, and its own `go` fails with EBUSY and tells nothing.
    does = "(global.set $kept (i32.add (global.get $kept) (call $busy (i32.const 30))))"
    body = """(global.set $kept (i32.add (call $busy (i32.const 40)) (global.get $kept)))
      (if (i32.ne (global.get $kept) (i32.const 9980)) (then unreachable))"""  # 4000 + 2 * (3000 - 10)
    image = agents.pack(
        module(body, {"departing": does, "arrived": does}),
        entry="_start",
        profile=profile,  # type: ignore[arg-type]
    )
    here = place()
    outcome = agents.run(image, engine=engine, ambient=here, answer=here.answer, hop_every=hop_every)
    assert isinstance(outcome, Finished), outcome
    assert here.told == ["departing", "Go", "arrived"]


@pytest.mark.parametrize("event", ["departing", "arrived"])
def test_a_trap_in_a_callback_is_the_agents_and_an_endless_one_is_stopped(
    setting: tuple[engines.Engine, str], event: str
) -> None:
    engine, profile = setting
    here = place()
    image = agents.pack(module(GO, {event: "unreachable"}), entry="_start", profile=profile)  # type: ignore[arg-type]
    outcome = agents.run(image, engine=engine, ambient=here, answer=here.answer)
    assert isinstance(outcome, Trapped)
    assert outcome.code == "unreachable"
    image = agents.pack(module(GO, {event: "(loop $l (br $l))"}), entry="_start", profile=profile)  # type: ignore[arg-type]
    budget = TimeBudget(cpu_ns=200_000_000)
    outcome = agents.run(image, engine=engine, ambient=here, answer=here.answer, budget=budget)
    assert isinstance(outcome, Exhausted)
    assert outcome.what == "cpu"


@pytest.mark.parametrize("hop_every", [None, 1])
def test_notices_are_told_at_the_end_of_a_call_after_its_own_event(
    setting: tuple[engines.Engine, str], hop_every: int | None
) -> None:
    engine, profile = setting
    body = f"{GO} (drop (call $sender (i32.const 0) (i32.const 0)))"
    told = {"arrived": "", "retracted": "", "budget_low": ""}
    image = agents.pack(module(body, told), entry="_start", profile=profile)  # type: ignore[arg-type]
    here = place("retracted", "budget_low cpu", "what nobody knows")
    outcome = agents.run(image, engine=engine, ambient=here, answer=here.answer, hop_every=hop_every)
    assert isinstance(outcome, Finished), outcome
    assert here.told == ["Go", "arrived", "retracted", "budget_low"]
    assert here.notices == []
    # Without exports for them, the agent asks itself, or nobody does.
    image = agents.pack(module(body, {"arrived": ""}), entry="_start", profile=profile)  # type: ignore[arg-type]
    here = place("retracted")
    agents.run(image, engine=engine, ambient=here, answer=here.answer, hop_every=hop_every)
    assert here.notices == ["retracted"]
    asks = "(call $log (i32.const 2) (i32.const 2000) (call $notice (i32.const 2000) (i32.const 20)))"
    image = agents.pack(module(asks + asks, {}), entry="_start", profile=profile)  # type: ignore[arg-type]
    agents.run(image, engine=engine, ambient=here, answer=here.answer, hop_every=hop_every)
    assert here.told[-2:] == ["retracted", ""]


def test_an_export_for_no_event_or_of_another_type_is_refused_when_packing() -> None:
    with pytest.raises(InvalidModule, match=r"'portcall_on_arival' is for no event: there are departing, arrived"):
        agents.pack('(module (func (export "_start")) (func (export "portcall_on_arival")))')
    with pytest.raises(InvalidModule, match="'portcall_on_woken' is called without parameters"):
        agents.pack('(module (func (export "_start")) (func (export "portcall_on_woken") (param i32)))')
