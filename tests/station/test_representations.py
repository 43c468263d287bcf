"""What is shown of an object is short, quickly made, and no secret: in a log, an error, whatever an event loop says.

uvloop makes the `repr` of a callback's object before anybody can hinder it. A generated one shows every part, and each
part its own: of a station that is a graph with circles, and the loop never comes back.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import pkgutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import attrs
import pytest

import agents
import docking
from agents.brief import brief
from agents.credentials.keys import SecretKey, text_of
from agents.errors import EngineError
from docking.control.client import ControlAddress, running
from docking.http.channel import Direction, EphemeralKey
from docking.http.sealing import SharedKeys
from docking.residents.berth import Standing
from tests.station.harbour import OWNER, begin, harbour, meet, packed, program, run, settled

# Characters of one, and calls of `__repr__` that make it.
LONGEST, CALLS = 3500, 40
SKIPPED = ("docking.cli.demo.agent", "docking.cli.__main__", "agents.sdk.python")
# Stands in for a package where that has no build, with Python 3.14's library.
SINCE_314 = "agents.zstandard_fallback"


def modules() -> Iterator[ModuleType]:
    """All of both packages that can be imported here."""
    for package in (agents, docking):
        for each in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if each.name == SINCE_314 and sys.version_info < (3, 14):
                continue
            if not each.name.startswith(SKIPPED) and not each.name.endswith("__main__"):
                try:
                    yield importlib.import_module(each.name)
                except EngineError:  # that is not installed
                    continue


def classes() -> list[type]:
    """All classes of both packages that attrs has made."""
    found = {
        value
        for module in modules()
        for value in vars(module).values()
        if inspect.isclass(value) and attrs.has(value) and value.__module__ == module.__name__
    }
    return sorted(found, key=lambda each: (each.__module__, each.__qualname__))


def generated(cls: type) -> bool:
    """Whether attrs has made its `__repr__`."""
    made: Any = cls.__dict__.get("__repr__")
    return made is not None and "attrs generated" in made.__code__.co_filename


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
def test_parts_of_a_station_do_not_show_their_parts(cls: type) -> None:
    """What is compared by identity is a part, that holds others; what is compared by value is data."""
    by_identity = cls.__eq__ is object.__eq__
    assert not (by_identity and generated(cls)), "give it repr=False, or a short __repr__ of its own"


# Not of a running station: programs while they are read and rewritten.
COMPILING = (
    "agents.wasm.",
    "agents.rewrite.callgraph",
    "agents.rewrite.frames",
    "agents.rewrite.nan_",
    "agents.rewrite.shadow_stack",
    "agents.rewrite.skeleton",
    "agents.rewrite.spill",
)
# Bounded where they are made, to a few.
FEW = {"Permit", "Fields", "Options", "LentDirectory"}
COLLECTIONS = ("tuple[", "list[", "dict[", "set[", "Mapping[", "Sequence[", "Container[", "deque[", "Counter[")


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
def test_data_shows_no_collection_whole(cls: type) -> None:
    if not generated(cls) or cls.__module__.startswith(COMPILING) or cls.__qualname__ in FEW:
        return
    for each in attrs.fields(cls):
        kind = str(each.type)
        if each.repr is True and "Callable[" not in kind:
            assert not any(word in kind for word in COLLECTIONS), f"{each.name}: give it field(repr=brief)"


class _Count:
    """Counts the calls of `__repr__` in Python, and ends what makes too many."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == "__repr__":
            self.calls += 1
            if self.calls > CALLS:
                raise AssertionError(f"more than {CALLS} calls of __repr__")


def shown(value: Any) -> str:
    """Its `repr`. Raises `AssertionError` if that is much work."""
    count = _Count()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        return repr(value)
    finally:
        sys.setprofile(before)


def ours() -> list[Any]:
    """Everything alive that is of a class of ours."""
    gc.collect()
    packages = ("agents", "docking")
    return [each for each in gc.get_objects() if str(type(each).__module__).partition(".")[0] in packages]


def secrets_of(objects: list[Any]) -> set[bytes]:
    """What nobody may see."""
    found: set[bytes] = {OWNER.seed}
    for each in objects:
        match each:
            case SecretKey():
                found |= {each.seed, each.box(), each._expanded}
            case EphemeralKey():
                found.add(each.secret)
            case Direction():
                found.add(each._key)
            case SharedKeys():
                found |= set(each._shared.values())
    return found


def ways_of(secret: bytes) -> tuple[str, ...]:
    """How a secret may be written in a text."""
    return repr(secret)[2:-1], secret.hex(), text_of(secret), secret.decode("latin-1")


def test_a_count_ends_what_is_endless() -> None:
    @attrs.define(eq=False)
    class Circle:
        others: list[Any] = attrs.field(factory=list)

    circles = [Circle() for _ in range(40)]
    for each in circles:
        each.others = list(circles)
    with pytest.raises(AssertionError):
        shown(circles[0])


NOISE = """(loop $l
    (i64.store (local.get $at) (local.tee $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005))
      (i64.const 1442695040888963407))))
    (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 60000))))"""
TRAVELS = program(
    f"""(local.set $at (i32.const 4096)) {NOISE}
    (local.set $at (i32.const 0))
    (loop $r (call $tell (i32.const 97) (local.get $at)) (drop (call $log (i32.const 2) (s 1)))
      (br_if $r (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 200))))
    (drop (call $call (s 2) (s 1) (i32.const 400) (i32.const 100)))
    {"(drop (call $go (s 0))) (call $tell (i32.const 99) (i32.const 3)) (drop (call $go (s 1)))" * 4}
    (drop (call $go (s 0)))
    (call $tell (i32.const 98) (i32.const 2))
    (drop (call $recv (i32.const 300) (i32.const 100) (i32.const -1)))""",
    "beta|alpha|echo",
    locals_="(local $at i32) (local $x i64)",
)


def test_everything_in_a_running_station_is_shown_shortly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTCALL_RUNNING", str(tmp_path / "running"))

    @run
    async def main() -> None:
        others = ours()  # of other tests, and kept alive, so that no new object has the id of one of them
        known = {id(each) for each in others}
        async with harbour("alpha", "beta", home=tmp_path, control=True) as (alpha, beta):
            await meet(alpha, beta)
            alpha.offer("echo", lambda request: request)
            stops = [*["beta", "alpha"] * 4, "beta"]
            agents_ = [await begin(alpha, TRAVELS.replace("echo", f"echo{n}"), *stops) for n in range(3)]
            for agent in agents_:
                await settled(beta, agent, Standing.WAITING)
            alpha.subscribe()
            await asyncio.sleep(0)
            new = [each for each in ours() if id(each) not in known]
            objects = [*new, alpha, beta, *agents_, *asyncio.all_tasks(), *running()]
            secrets = {way for secret in secrets_of(objects) for way in ways_of(secret)}
            kinds = Counter(type(each).__qualname__ for each in objects)
            # All that a station consists of is among them.
            for name in ("Station", "StationCore", "Courier", "GroupCommit", "Outbox", "Berth", "ClientChannel"):
                assert kinds[name], kinds
            assert len(kinds) > 100
            wrong = Counter[str]()
            for each in objects:
                name = type(each).__qualname__
                try:
                    text = shown(each)
                except AssertionError as error:
                    wrong[f"{name}: {error}"] += 1
                    continue
                if len(text) > LONGEST:
                    wrong[f"{name}: {len(text) // 1000} thousand characters"] += 1
                if any(secret in text for secret in secrets):
                    wrong[f"{name}: a secret"] += 1
            assert not wrong, "\n".join(sorted(wrong))

    main()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"ab", "b'ab'"),
        (bytes(33), "<33 bytes>"),
        (memoryview(bytes(1 << 20)), "<1048576 bytes>"),
        ((1, 2), "(1, 2)"),
        ([0] * 1000, "<1000 items>"),
        (dict.fromkeys(range(9)), "<9 entries>"),
        (frozenset(range(9)), "<9 members>"),
        ("x" * 1000, f"'{'x' * 37}...{'x' * 38}'"),
        (None, "None"),
    ],
)
def test_values_are_shown_briefly(value: Any, text: str) -> None:
    assert brief(value) == text


def test_where_a_station_is_asked_does_not_show_the_word_that_opens_it() -> None:
    assert "word" not in repr(ControlAddress("alpha", "ed25519:x", "/home", 1, port=2, token="the word"))


def test_what_people_see_of_a_station_and_an_agent() -> None:
    @run
    async def main() -> None:
        async with harbour("alpha") as (alpha,):
            agent = await alpha.launch(packed(TRAVELS), owner=OWNER)
            await settled(alpha, agent, Standing.WAITING)
            assert repr(alpha) == f"<Station alpha at {alpha.url}>"
            assert repr(agent) == f"<Agent {agent.id}>"
        assert repr(alpha) == "<Station alpha, not running>"

    main()
