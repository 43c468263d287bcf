"""Mistakes of programs that embed stations: each is told at the call that makes it, with what to write instead."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import agents
import docking
from agents.errors import EngineError
from docking.residents.services import Visitor
from tests.station.harbour import OWNER, harbour, packed, program, run, station

NOTHING: Any = program("nop")


def _nothing(request: bytes) -> None:
    """Like one that forgot its reply, and says so."""


@pytest.mark.parametrize("policy", [{}, {"owners": []}, [], "policy.toml"])
def test_a_policy_that_is_none(policy: Any) -> None:
    with pytest.raises(TypeError, match=r"docking\.Policy\(owners=\[key\]\)"):
        docking.Station("alpha", policy=policy)


@pytest.mark.parametrize(
    ("owners", "said"),
    [
        (OWNER.public, "not one PublicKey"),
        (OWNER.public.text, "not one str"),
        ([OWNER], r"not SecretKey: its \.public"),
        ([5], "not int"),
    ],
)
def test_owners_that_are_none(owners: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        docking.Policy(owners=owners)


@run
async def test_a_policy_that_is_replaced_by_none() -> None:
    async with harbour("alpha") as (alpha,):
        before = alpha.policy
        with pytest.raises(TypeError, match=r"docking\.Policy, not dict"):
            await alpha.replace_policy({})  # type: ignore[arg-type]
        assert alpha.policy is before


@pytest.mark.parametrize(
    ("name", "instead"), [("my station", "'my-station'"), ("Alpha", "'alpha'"), ("a/b", "'a-b'"), ("ü", "at most 63$")]
)
def test_a_name_that_is_none(name: str, instead: str) -> None:
    with pytest.raises(docking.DockingError, match=instead):
        docking.Station(name)


def test_a_name_that_is_no_text() -> None:
    with pytest.raises(TypeError, match="a name is text, not "):
        docking.Station(Path("alpha"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "function", "error", "said"),
    [
        ("stock count", lambda request: b"", docking.StationError, "such as 'stock.count'"),
        (5, lambda request: b"", TypeError, "the name of a service is text"),
        ("stock.count", b"12", TypeError, "is a function of the request, not bytes"),
        ("stock.count", _nothing, TypeError, "says `-> None`: an empty reply is b''"),
        ("stock.count", lambda: b"12", TypeError, "def serve"),
        ("stock.count", lambda a, b, c: b"12", TypeError, "def serve"),
    ],
)
def test_a_service_that_cannot_serve(name: Any, function: Any, error: type[Exception], said: str) -> None:
    waiting = station("alpha")
    with pytest.raises(error, match=said):
        waiting.offer(name, function)
    with pytest.raises(error, match=said):
        waiting.service(name)(function)

    @run
    async def main() -> None:
        async with harbour("beta") as (running,):
            with pytest.raises(error, match=said):
                running.offer(name, function)

    main()


def test_a_service_that_is_offered_twice_before_the_start() -> None:
    waiting = station("alpha")
    waiting.offer("stock.count", lambda request: b"12")
    with pytest.raises(docking.StationError, match="offered already"):
        waiting.offer("stock.count", lambda request: b"12")


@run
async def test_a_service_that_returns_nothing_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    visitor = Visitor("agent", "label", OWNER.public, 0, 1, "alpha")
    async with harbour("alpha") as (alpha,):
        alpha.offer("stock.count", lambda request: None)  # type: ignore[arg-type, return-value]
        await alpha.core.services.call("stock.count", b"", visitor, True)
    assert "the service 'stock.count' is to return bytes or text, and returned nothing" in caplog.text


@run
async def test_a_launch_of_what_is_no_agent() -> None:
    image = packed(NOTHING)
    async with harbour("alpha") as (alpha,):
        with pytest.raises(TypeError, match=r"agents\.pack\(Path"):
            await alpha.launch("hello.wasm", owner=OWNER)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"docking\.keys\.load\(NAME\)"):
            await alpha.launch(image, owner=OWNER.public)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"args=\['12'\]"):
            await alpha.launch(image, owner=OWNER, args="12")


def test_pack_takes_a_path_and_says_so_to_a_text_that_names_a_file(tmp_path: Path) -> None:
    file = tmp_path / "hello (1).wat"
    file.write_text(f"  ;; a comment\n{NOTHING}")
    assert agents.pack(file).manifest.name == "hello (1)"
    assert agents.pack(f"\n;; a comment\n{NOTHING}").code == agents.pack(file).code
    for text in ("hello.wasm", str(file)):
        with pytest.raises(EngineError, match=r"agents\.pack\(Path\('"):
            agents.pack(text)
    with pytest.raises(TypeError, match="not int"):
        agents.pack(5)  # type: ignore[arg-type]
