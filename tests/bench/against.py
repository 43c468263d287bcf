"""Hops of this checkout against those of another one, in one run: two pairs of stations side by side, in turns.

    python -m tests.bench.hop --against PATH [--rounds N] [--only NAME ..]

Each checkout runs in its own `.venv`, if it has one. A round is one journey between the stations of the other checkout
and one between ours, in changing order; its ratio is ours over theirs, so that what the machine does beside this
stretches both; the result is the median of the rounds. The other checkout needs `tests.bench.place` alone.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import statistics
from pathlib import Path

import attrs
import click

from tests.bench.place import ROOT, Steered, stations
from tests.bench.ratios import Ratio

WARM = 20  # hops of each journey that are not counted: its image is new to both ends


@attrs.frozen
class Journey:
    """What one took: the median hop, and the processor time of both processes per hop, in ms."""

    p50: float
    cpu: float


@attrs.frozen
class Comparison:
    """Medians over the rounds in ms, theirs and ours, and the ratios of ours to theirs."""

    name: str
    theirs: Journey
    ours: Journey
    p50: Ratio
    cpu: Ratio

    def row(self) -> str:
        """As a row of Markdown."""
        cells = [f"{self.theirs.p50:.2f}", f"{self.ours.p50:.2f}", _shown(self.p50)]
        cells += [f"{self.theirs.cpu:.2f}", f"{self.ours.cpu:.2f}", _shown(self.cpu)]
        return f"| {self.name} | {' | '.join(cells)} |"


HEAD = (
    "| hop | p50 ms there | here | ratio (quartiles) | CPU ms there | here | ratio (quartiles) |\n"
    "|---|--:|--:|--:|--:|--:|--:|"
)


def _shown(ratio: Ratio) -> str:
    return f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


@attrs.define(eq=False)
class Pair:
    """Two stations of one checkout."""

    alpha: Steered
    beta: Steered

    @classmethod
    def start(cls, checkout: Path, folder: Path, volatile: bool) -> Pair:
        """Start them."""

        def options(name: str) -> list[str]:
            given = ["--home", str(folder / f"{name}-{secrets.token_hex(4)}")]
            return [*given, "--volatile"] if volatile else given

        found = stations(secrets.token_bytes(32), ("alpha", "beta"), options, checkout)
        return cls(found["alpha"], found["beta"])

    def journey(self, image: Path, hops: int) -> Journey:
        """One agent goes back and forth."""
        both = self.alpha, self.beta
        before = sum(each.ask("stamps")["cpu"] for each in both)
        self.alpha.ask("launch", image=str(image), via=[self.beta.key, self.alpha.key], turns=hops)
        codes = self.alpha.ask("wait", timeout=900.0)
        if codes != [0]:
            raise click.ClickException(f"the agent ended with {codes}")
        after = [each.ask("stamps") for each in both]
        starts = sorted(began / 1e6 for each in after for began, _ in each["stamps"])
        spans = [later - earlier for earlier, later in itertools.pairwise(starts)][min(WARM, hops // 3) :]
        return Journey(statistics.median(spans), 1e3 * (sum(each["cpu"] for each in after) - before) / hops)

    def end(self) -> None:
        """End them in good order."""
        self.alpha.end()
        self.beta.end()


def compare(
    name: str, images: tuple[Path, Path], hops: int, volatile: bool, other: Path, folder: Path, rounds: int
) -> Comparison:
    """`rounds` journeys of `hops` hops with each of the two checkouts, after one that is not counted.

    `images`: the agent as packed by the other one, and by ours.
    """
    with contextlib.ExitStack() as stack:
        pairs = []
        for checkout in (other, ROOT):
            pairs.append(Pair.start(checkout, folder, volatile))
            stack.callback(pairs[-1].end)
        found: list[list[Journey]] = [[], []]
        for number in range(rounds + 1):
            for which in (0, 1) if number % 2 else (1, 0):
                journey = pairs[which].journey(images[which], hops)
                if number:
                    found[which].append(journey)
    theirs, ours = found
    return Comparison(
        name,
        _median(theirs),
        _median(ours),
        Ratio.of(mine.p50 / other.p50 for mine, other in zip(ours, theirs, strict=True)),
        Ratio.of(mine.cpu / other.cpu for mine, other in zip(ours, theirs, strict=True)),
    )


def _median(journeys: list[Journey]) -> Journey:
    return Journey(statistics.median(j.p50 for j in journeys), statistics.median(j.cpu for j in journeys))
