"""Every call of every language's shim, against a station that keeps what it hears: the same in all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

import agents
from agents.errors import ToolchainMissing
from agents.hostcalls import IMPORTS
from agents.image import AgentImage
from agents.sdk.sources import Choices, load_image, user_cache
from agents.wasm.decode import decode_module
from agents.wasm.syntax import I32, ImportFunc

from .languages import Answering, cpython, missing

pytestmark = pytest.mark.sweep

CALLS = Path(__file__).resolve().parent / "calls"
LANGUAGES = sorted(path.name for path in CALLS.glob("calls.*"))
HEARD = [
    "2 home number seven [next one]",
    "2 noon, please",
    "large",
    "2 3000",
    "2 oracle error 44",
    "2 beta gamma []",
    "send friend b'hi'",
    "2 send error 23",
    "2 hello from a friend",
    "2 1000 from a friend",
    "recv 250000000",
    "2 recv error 73",
    "2 GET",
    "reply alpha.7 b'hi'",
    "2 reply error 44",
    "accept 250000000",
    "2 accept error 73",
    "2 extra from friend about news",
    "reply q.1 b'ok'",
    "select 250000000",
    "2 receive error 73",
    "ask friend 'price?' b'how much' 30000000000",
    "2 700",
    "ask friend '' b'more' 250000000",
    "answer 250000000",
    "2 answer error 73",
    "2 ask error 23",
    "subscribe news",
    "unsubscribe news",
    "publish news b'sale' False",
    "publish news b'sale' True",
    "offer shop 'price=12'",
    "offer shop None",
    "find 'shop' 'books' 1",
    "2 one home books price=12",
    "2 two beta  ",
    "find '' '' 0",
    "send_here friend b'hi'",
    "2 here error 23",
    "sleep 1500000000",
    "2 the child",
    "fork 2",
    "2 0 one two",
    "report answer b'42'",
    "2 closed error 23",
    "2 nowhere error 28",
    "go shut 250000000",
    "2 shut error 23",
    "2 at beta",
    "1 careful",
]


def image_of(name: str) -> AgentImage:
    try:
        # Without polls every opportunity is a call, so that all can be taken in interpreters too.
        return load_image(CALLS / name, Choices(polls="none"), cache=user_cache())
    except ToolchainMissing as reason:
        missing(reason)
        raise


@pytest.mark.parametrize("every", [None, 1])
@pytest.mark.parametrize("name", LANGUAGES)
def test_every_call_is_the_same_in_every_language(name: str, every: int | None) -> None:
    check(image_of(name), every)


def test_and_in_cpython() -> None:
    check(load_image(CALLS / "calls.py", Choices(python=cpython()), cache=user_cache()), None)


def check(image: AgentImage, every: int | None) -> None:
    place = Answering(
        *(lambda: 10**18, lambda: 10**9, bytes), station="home", agent_id="number seven", stops=["next one"]
    )
    outcome = agents.run(image, ambient=place, answer=place.answer, hop_every=every)
    assert isinstance(outcome, agents.Finished), outcome
    assert place.told == HEARD
    assert outcome.exit_code == 5


@pytest.mark.parametrize("name", [name for name in LANGUAGES if name not in ("calls.py", "calls.js")])
def test_the_shim_declares_the_imports_as_they_are(name: str) -> None:
    module = decode_module(image_of(name).code)
    declared = {}
    for entry in module.imports:
        if entry.module == "portcall" and isinstance(entry.desc, ImportFunc):
            kind = module.types[entry.desc.type]
            assert {*kind.params, *kind.results} <= {I32}
            declared[entry.name] = ("i" * len(kind.params), "i" * len(kind.results))
    known = {name: (entry.params, entry.results) for name, entry in IMPORTS.items()}
    assert declared == known
