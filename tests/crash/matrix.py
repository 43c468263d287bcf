"""The crash matrix: `python -m tests.crash.matrix --seconds 60`; with `--sessions`, of agents that are moved while they
run.

First every single fault: each station killed at every interesting place (before and after every commit of
its store, every message sent or received, every step of its agent), to come back soon, late, never, or with
an empty disk; every message lost, doubled, delayed. Then pairs of faults, and then handfuls, drawn from a
seeded generator until the time is up. Each run ends with one live agent whose state is intact, or held in
doubt exactly where the table of failures says so.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field

from tests.crash.live_run import LiveRun
from tests.crash.live_world import LivePlan
from tests.crash.simulator import LONG, CrashAt, Delay, Double, Fault, Lose, Outcome, Partition, Run, Stall
from tests.crash.world import Broken, Plan

PLANS = {
    "there": Plan(("beta",)),
    "there and back": Plan(("beta", "alpha")),
    "with parts wanted": Plan(("beta", "alpha"), inline=False),
    "with a refusal": Plan(("beta", "alpha"), refuse=frozenset({1})),
    "refused for good": Plan(("beta",), refuse=frozenset({0, 1})),
}
# An agent that is moved while it runs; see `tests.crash.live_world`.
LIVE_PLANS: dict[str, Plan] = {
    "moved there and back": LivePlan(("beta", "alpha"), orders=("move", "move"), power=True),
    "moved, writes much": LivePlan(("beta",), orders=("move",), busy=24),
    "moved, and goes by itself meanwhile": LivePlan(("beta",), orders=("goes meanwhile",), busy=30),
    "moved, and goes back": LivePlan(("beta", "alpha"), orders=("move", "go")),
    "moved twice at once": LivePlan(("beta",), orders=("twice",)),
    "moves that are cancelled": LivePlan(("beta", "alpha"), orders=("cancelled after 12", "cancelled after 22")),
    "a move that gives up": LivePlan(("beta",), orders=("gives up",), busy=60, power=True),
    "drained": LivePlan(("beta",), orders=("drain",), power=True),
    "moved, its memory comes later": LivePlan(("beta", "alpha"), orders=("post-copy", "move"), busy=24, power=True),
    "moved, the rest comes later": LivePlan(("beta",), orders=("post-copy after rounds",), busy=60),
    "moved, with parts wanted": LivePlan(("beta", "alpha"), orders=("move", "move"), inline=False),
    "moved, with a refused session": LivePlan(("beta",), orders=("move",), refuse_sessions=frozenset({1})),
    "moved, with a refused offer": LivePlan(("beta",), orders=("move",), refuse=frozenset({0}), power=True),
    "moved, refused for good": LivePlan(("beta",), orders=("move",), refuse=frozenset({0, 1, 2, 3})),
}
SOON, SHORT, SLOW = 0.1, 0.02, 3.5
CUT = 6  # messages that a partition swallows


@define
class Report:
    """What was run, and how it ended."""

    started: float
    cases: Counter[str] = field(factory=Counter)
    ends: Counter[str] = field(factory=Counter)
    broken: list[str] = field(factory=list)
    struck: int = 0
    """In how many a fault struck while a session was open."""

    @property
    def total(self) -> int:
        return sum(self.cases.values())

    def lines(self) -> Iterator[str]:
        for title, counts in (("cases", self.cases), ("ends", self.ends)):
            yield f"{title}:"
            yield from (f"  {count:7d}  {name}" for name, count in counts.most_common())
        took = time.monotonic() - self.started
        yield f"{self.total} cases in {took:.0f} s, {self.struck} of them with sessions open, {len(self.broken)} broken"


def singles(outcome: Outcome) -> Iterator[tuple[str, Fault]]:
    """Every single fault of a journey that went like `outcome` without any."""
    return itertools.chain(crashes(outcome), messages(outcome), slow_writes(outcome))


def crashes(outcome: Outcome) -> Iterator[tuple[str, Fault]]:
    """A crash at each place, of each kind."""
    for point in range(len(outcome.points)):
        yield "one crash, back soon", CrashAt(point, SOON)
        yield "one crash, back late", CrashAt(point, LONG)
        yield "one crash, never back", CrashAt(point, None)
        yield "one crash, disk lost", CrashAt(point, SOON, loses_disk=True)


def messages(outcome: Outcome) -> Iterator[tuple[str, Fault]]:
    """Everything that can happen to each message."""
    for message in range(len(outcome.messages)):
        yield "one message lost", Lose(message)
        yield "one message doubled", Double(message)
        yield "one message doubled, far apart", Double(message, LONG)
        yield "a partition", Partition(message, CUT)
        yield "one message delayed", Delay(message, SHORT)
        yield "one message delayed for long", Delay(message, LONG)


def slow_writes(outcome: Outcome) -> Iterator[tuple[str, Fault]]:
    """Each write that somebody waits for, slow: so that questions come while it is written."""
    for write in range(outcome.writes):
        yield "one slow write", Stall(write, SLOW)
        yield "one very slow write", Stall(write, LONG)


def slow_write_and_crash(outcome: Outcome) -> Iterator[tuple[str, tuple[Fault, ...]]]:
    """A crash at each place, while questions come during a write."""
    for write in range(outcome.writes):
        for point in range(len(outcome.points) + 6):
            yield "a slow write and a crash", (Stall(write, SLOW), CrashAt(point, SOON))


def recoverable(outcome: Outcome) -> list[Fault]:
    """The single faults after which everything must come right again."""
    return [
        fault
        for _, fault in singles(outcome)
        if not (isinstance(fault, CrashAt) and (fault.down is None or fault.loses_disk))
    ]


def draw(generator: random.Random, outcome: Outcome) -> tuple[str, tuple[Fault, ...]]:
    """Two faults, or a handful, of a journey; now and then one that nothing can mend."""
    faults = recoverable(outcome)
    many = generator.random() < 0.3
    drawn = [generator.choice(faults) for _ in range(generator.randint(3, 6) if many else 2)]
    if generator.random() < 0.2:
        drawn.append(CrashAt(generator.randrange(len(outcome.points) * 2), None))
    # After a fault the journey is longer: later places and messages exist too.
    shifted = [_shift(generator, fault) if generator.random() < 0.3 else fault for fault in drawn]
    return ("three to seven faults" if many else "two or three faults"), tuple(shifted)


def _shift(generator: random.Random, fault: Fault) -> Fault:
    extra = generator.randrange(30)
    match fault:
        case CrashAt(point, down, loses_disk):
            return CrashAt(point + extra, down, loses_disk)
        case Lose(message):
            return Lose(message + extra)
        case Double(message, apart):
            return Double(message + extra, apart)
        case Delay(message, by):
            return Delay(message + extra, by)
        case Partition(message, many):
            return Partition(message + extra, many)
        case Stall(write, by):
            return Stall(write + extra // 8, by)


@define
class Matrix:
    """Runs cases in `folder`, and counts."""

    folder: Path
    report: Report = field(factory=lambda: Report(time.monotonic()))
    stop_at: int = 5

    @property
    def stopped(self) -> bool:
        """Whether enough promises were broken."""
        return len(self.report.broken) >= self.stop_at

    def nominal(self, plan: str) -> Outcome:
        """The journey without faults."""
        return self.made(plan).outcome()

    def made(self, plan: str, faults: tuple[Fault, ...] = ()) -> Run:
        """A run of this journey."""
        kind = LiveRun if plan in LIVE_PLANS else Run
        return kind({**PLANS, **LIVE_PLANS}[plan], faults, self.folder / "run")

    def attempt(self, kind: str, plan: str, faults: tuple[Fault, ...]) -> None:
        """One case."""
        if self.stopped:
            return
        self.report.cases[kind] += 1
        case = self.made(plan, faults)
        try:
            self.report.ends[case.outcome().end] += 1
        except Broken as error:
            self.report.broken.append(str(error))
        self.report.struck += isinstance(case, LiveRun) and case.struck > 0


def run(seconds: float, seed: int, folder: Path, step: int = 1, sessions: bool = False) -> Report:
    """All single faults, or every `step`-th; then for `seconds`, pairs and handfuls.

    With `sessions`, of agents that are moved while they run; else of these only among the pairs and handfuls.
    """
    matrix = Matrix(folder)
    nominal = {plan: matrix.nominal(plan) for plan in (LIVE_PLANS if sessions else PLANS)}
    for plan, outcome in nominal.items():
        for kind, fault in itertools.islice(singles(outcome), None, None, step):
            matrix.attempt(kind, plan, (fault,))
    if not sessions:
        nominal |= {plan: matrix.nominal(plan) for plan in LIVE_PLANS}
    generator, names = random.Random(seed), list(nominal)
    pairs = [(plan, *pair) for plan, outcome in nominal.items() for pair in slow_write_and_crash(outcome)]
    generator.shuffle(pairs)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not matrix.stopped:
        if pairs and generator.random() < 0.3:
            plan, kind, faults = pairs.pop()
        else:
            plan = generator.choice(names)
            kind, faults = draw(generator, nominal[plan])
        matrix.attempt(kind, plan, faults)
    return matrix.report


def scratch() -> Path:
    """A folder in memory where there is one: the matrix is about what is written, not about how fast."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="portcall-matrix-", dir=memory if memory.is_dir() else None))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to go on after all single faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sessions", action="store_true", help="agents that are moved while they run")
    parser.add_argument("--step", type=int, default=1, help="of the single faults only every so-and-so-many-th")
    arguments = parser.parse_args()
    folder = scratch()
    try:
        report = run(arguments.seconds, arguments.seed, folder, arguments.step, arguments.sessions)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for broken in report.broken:
        print(broken, end="\n\n")
    print("\n".join(report.lines()))
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
