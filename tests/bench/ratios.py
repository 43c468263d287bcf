"""Ratios of running times on a noisy machine.

Each round runs the subjects interleaved with the baseline, A B A C A ..; a subject's ratio in a round is
its time over the mean of the two baseline runs beside it, so that slow drifts cancel; the result is the
median over the rounds. Times are processor time of the thread where the system has it, so that a
neighbour who takes the processor does not count.

Nothing here decides: a ratio is printed, not asserted.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping

import attrs

Subject = Callable[[], object]


@attrs.frozen
class Ratio:
    """Median, and the quartiles, of the rounds' ratios."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, rounds: Iterable[float]) -> Ratio:
        """From the ratio of each round."""
        sorted_ = sorted(rounds)
        if len(sorted_) < 2:
            return cls(sorted_[0], sorted_[0], sorted_[0])
        low, median, high = statistics.quantiles(sorted_, n=4, method="inclusive")
        return cls(median, low, high)


def clock() -> float:
    """Seconds of this thread's processor time, or of a monotonic clock."""
    return time.thread_time() if hasattr(time, "thread_time") else time.perf_counter()


def timed(subject: Subject) -> float:
    """Seconds that one call takes."""
    start = clock()
    subject()
    return clock() - start


def compare(baseline: Subject, subjects: Mapping[str, Subject], rounds: int) -> dict[str, Ratio]:
    """The ratio of each subject to the baseline. Every subject runs once before, to be warm."""
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for subject in (baseline, *subjects.values()):
        subject()
    for turn in range(rounds):
        order = list(subjects)
        order = order[turn % len(order) :] + order[: turn % len(order)]
        before = timed(baseline)
        for name in order:
            spent = timed(subjects[name])
            after = timed(baseline)
            found[name].append(spent / ((before + after) / 2))
            before = after
    return {name: Ratio.of(ratios) for name, ratios in found.items()}


def geometric_mean(values: Iterable[float]) -> float:
    """The n-th root of the product."""
    listed = list(values)
    return math.exp(sum(map(math.log, listed)) / len(listed)) if listed else math.nan
