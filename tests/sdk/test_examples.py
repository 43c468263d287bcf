"""The same little agent in every language: alone, refused, and suspended at every opportunity, always the same.

A language whose compiler is not installed is skipped with the sentence that its user would get; with
PORTCALL_ALL_LANGUAGES set, that is a failure instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

import agents
from agents.ambient import StandaloneHost
from agents.errors import EngineError, ToolchainMissing
from agents.hostcalls import EHOSTUNREACH
from agents.image import AgentImage, ImageProfile
from agents.rewrite.options import Polls
from agents.sdk.sources import Choices, load_image, user_cache
from agents.waits import Arrived, Event, Go, Refused, Wait
from tests.patience import PATIENCE

from .conftest import INSTALLED
from .languages import cpython, missing

pytestmark = pytest.mark.sweep

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TRIPS = {
    "python": "trip.py",
    "javascript": "trip.js",
    "c": "trip.c",
    "zig": "trip.zig",
    "rust": "trip.rs",
    "go": "trip.go",
    "assemblyscript": "trip.ts",
    "wat": "trip.wat",
}
INTERPRETED = ("python", "javascript")
# Their runtimes have many loops of their own.
LONG = (*INTERPRETED, "go")
SAID = [("alpha", "stop 1: alpha"), ("beta", "stop 2: beta"), ("gamma", "stop 3: gamma")]
SAID_WITHOUT_BETA = [
    ("alpha", "stop 1: alpha"),
    ("alpha", "beta cannot be reached: error 23"),
    ("gamma", "stop 2: gamma"),
]


def image_of(language: str, polls: Polls | None = None, profile: ImageProfile = "standard") -> AgentImage:
    choices = Choices(polls=polls, profile=profile)
    try:
        return load_image(EXAMPLES / language / TRIPS[language], choices, cache=user_cache())
    except ToolchainMissing as reason:
        missing(reason)
        raise


@attrs.define
class Journey(StandaloneHost):
    """Every station in turn, and the line that each one saw."""

    closed: str = ""
    said: list[tuple[str, str]] = attrs.field(factory=list)
    line: str = ""
    hops: int = 0

    def output(self, fd: int, data: bytes) -> None:
        self.line += data.decode()
        while "\n" in self.line:
            whole, _, self.line = self.line.partition("\n")
            self.said.append((self.station, whole))

    def log(self, level: int, text: str) -> None:
        self.said.append((self.station, text))

    def answer(self, wait: Wait) -> Event:
        assert isinstance(wait, Go), wait
        if wait.host == self.closed:
            return Refused(EHOSTUNREACH, "closed")
        self.station = wait.host
        return Arrived()

    def hopped(self, snapshot: bytes) -> None:
        self.hops += 1


def travel(image: AgentImage, every: int | None = None, closed: str = "", **options: Any) -> Journey:
    place = Journey(lambda: 10**18, lambda: 10**9, lambda size: bytes(size), station="home", closed=closed)
    options |= {"hop_every": every, "on_hop": place.hopped}
    outcome = agents.run(image, ambient=place, answer=place.answer, **options)
    assert isinstance(outcome, agents.Finished), outcome
    assert outcome.exit_code == 0
    return place


@pytest.mark.parametrize("language", TRIPS)
def test_the_same_in_every_language(language: str) -> None:
    image = image_of(language)
    place = travel(image)
    assert (place.said, place.reports) == (SAID, [("route", b"alpha beta gamma")])
    place = travel(image, closed="beta")
    assert (place.said, place.reports) == (SAID_WITHOUT_BETA, [("route", b"alpha gamma")])


# An interpreter with polls has 160,000 opportunities, MicroPython more for each block of its heap: it takes every one
# of its calls, and some of the polls.
@pytest.mark.parametrize(
    ("language", "polls", "every"),
    [("python", "none", 1), ("python", "loops", 10_007), ("javascript", "none", 1), ("javascript", "loops", 5_003)]
    + [("go", "none", 1), ("go", "loops", 13)]
    + [(language, "loops", 1) for language in TRIPS if language not in LONG],
)
def test_suspended_at_every_opportunity(language: str, polls: Polls, every: int) -> None:
    image = image_of(language, polls)
    small = agents.Limits(memory=3 << 20) if language == "python" else None  # else most are in MicroPython's collector
    place = travel(image, every, closed="beta", limits=small)
    assert (place.said, place.reports) == (SAID_WITHOUT_BETA, [("route", b"alpha gamma")])
    assert place.hops >= 3


@pytest.mark.parametrize("other", ["v8", "wasmer"])
@pytest.mark.parametrize("language", [language for language in TRIPS if language != "python"])
def test_two_engines_in_turn(language: str, other: str) -> None:
    try:
        engines = [agents.load(name) for name in (other, "wasmtime")]
    except EngineError as reason:
        pytest.skip(str(reason))
    place = travel(image_of(language, profile="portable"), 1, closed="beta", engine=engines)
    assert (place.said, place.reports) == (SAID_WITHOUT_BETA, [("route", b"alpha gamma")])
    assert place.hops >= 3


def test_cpython_travels_too() -> None:
    script = EXAMPLES / "python" / TRIPS["python"]
    image = load_image(script, Choices(python=cpython()), cache=user_cache())
    place = travel(image, closed="beta")
    assert (place.said, place.reports) == (SAID_WITHOUT_BETA, [("route", b"alpha gamma")])


def commands(readme: Path) -> list[str]:
    return [line.strip() for line in readme.read_text().splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("language", TRIPS)
def test_the_command_of_its_readme(language: str, tmp_path: Path) -> None:
    image_of(language)  # or skipped
    readme = EXAMPLES / language / "README.md"
    assert len(readme.read_text().splitlines()) <= 8
    (command,) = commands(readme)
    folder = tmp_path / language  # npm writes beside the source
    ignored: Callable[[str, list[str]], set[str]] = shutil.ignore_patterns("node_modules")
    shutil.copytree(EXAMPLES / language, folder, ignore=ignored)
    scripts = Path(sys.executable).parent
    # `portcall` of this checkout, whether it is installed here or not.
    shim = f'portcall() {{ "{sys.executable}" -m docking.cli "$@"; }}\n'
    modules = os.pathsep.join(map(str, (ROOT, *INSTALLED)))
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": modules}
    done = subprocess.run(
        ["bash", "-c", shim + command], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    said = (done.stdout + done.stderr).replace("info: ", "").splitlines()
    assert said == [*(text for _, text in SAID), "portcall: it reported route: alpha beta gamma, at gamma"]


# Those that need processes or programs which an example's own test should not start; see tests/docs and tests/letters.
TESTED_HERE = {"docker", "laptop"}


@pytest.mark.parametrize("folder", sorted({path.name for path in EXAMPLES.iterdir() if path.is_dir()} - TESTED_HERE))
def test_the_test_of_the_example(folder: str, tmp_path: Path) -> None:
    if folder in TRIPS:
        image_of(folder)  # or skipped
    ignored: Callable[[str, list[str]], set[str]] = shutil.ignore_patterns("node_modules", "__pycache__")
    shutil.copytree(EXAMPLES / folder, tmp_path / folder, ignore=ignored)
    modules = os.pathsep.join(map(str, (ROOT, *INSTALLED)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "docking.pytest_plugin", "-p", "no:cacheprovider"],
        cwd=tmp_path / folder,
        env={**os.environ, "PYTHONPATH": modules},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
