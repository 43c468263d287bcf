"""What several acts need: the programs of the agents, real stations, and the time to wait for something.

The stations are those of `docking.testing.Stations`: each in a thread of its own, with a key, admission, handoff and
HTTP on the loopback interface. Nothing of them is replaced.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from agents.credentials.keys import PublicKey
from agents.stack import Stack
from docking.lessons.stage import LessonFailed
from docking.testing import Stations
from docking.threaded import Threaded
from docking.trust.policy import Policy

T = TypeVar("T")
PROGRAMS = Path(__file__).with_name("programs")
# Seconds: for one thing to happen; a class's laptops are slow, and do other things.
PATIENCE_S = 120.0
LOOK_S = 0.02  # between two looks


def program(name: str) -> str:
    """The source of an agent of the acts."""
    return (PROGRAMS / name).read_text(encoding="utf-8")


@contextmanager
def land(*names: str, policy: Callable[[PublicKey], Policy] | None = None, **options: Any) -> Iterator[Stations]:
    """Stations that run while the block does.

    policy: makes the policy of all, from the key of the owner of the acts' agents; by default these are let in
    options: as of `docking.testing.Stations`
    """
    with Stations(PROGRAMS) as stations:
        if policy is not None:
            options["policy"] = policy(stations.owner.public)
        stations(*names, **options)
        yield stations


class _Keeping(logging.Handler):
    """Keeps alarms with their stations, and shows nothing: an act says itself what happens."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.alarms: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", "") == "alarm" and isinstance(record.args, tuple):
            self.alarms.append((str(getattr(record, "station", "")), str(record.args[-1])))


@contextmanager
def alarms() -> Iterator[list[tuple[str, str]]]:
    """The alarms of all stations of this process while the block runs, each with its station; no log is shown."""
    kept, logs = _Keeping(), [logging.getLogger(name) for name in ("portcall", "docking")]
    for log in logs:
        log.addHandler(kept)
    try:
        yield kept.alarms
    finally:
        for log in logs:
            log.removeHandler(kept)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="portcall-lesson-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def until(what: str, found: Callable[[], T | None]) -> T:
    """The first answer of `found` that is neither None nor False. Raises `LessonFailed` if there is none in time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = found()
        if answer is not None and answer is not False:
            return answer
        time.sleep(LOOK_S)
    raise LessonFailed(f"in {PATIENCE_S:.0f} s it did not happen that {what}: is the machine very busy?")


def frames(stack: Stack, file: str) -> Iterator[str]:
    """The functions of the agent's own file, innermost first, with their variables."""
    for frame in stack.frames:
        if not frame.file.endswith(file):
            continue
        yield f"{frame.function}, line {frame.line}"
        width = max((len(each.name) for each in frame.variables), default=0)
        yield from (f"    {each.name:<{width}}  {each.value}" for each in frame.variables)


def is_over(station: Threaded, agent: bytes) -> bool:
    """Whether an agent that was there has ended there."""
    here = station.station.core.here
    return station.call(lambda: agent in here.past and agent not in here.berths)


def named(text: str, stations: Mapping[str, PublicKey]) -> str:
    """`text` with the names of stations in place of the ids of their keys."""
    for name, key in stations.items():
        text = text.replace(key.id, name)
    return text
