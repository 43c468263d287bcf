"""How long a fuzzer goes on, and what its command says."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import TypeVar

import attrs
import click

T = TypeVar("T")


@attrs.define
class Amount:
    """At least some seconds, some bytes of input and some tries. `given`: bytes until now."""

    seconds: float = 0.0
    least: int = 0
    tries: int = 0
    given: int = 0
    _began: float = attrs.field(factory=time.monotonic)

    def more(self) -> bool:
        """Whether there is another try."""
        self.tries -= 1
        return time.monotonic() < self._began + self.seconds or self.given < self.least or self.tries >= 0

    def give(self, data: bytes) -> bytes:
        """The data, counted."""
        self.given += len(data)
        return data


def options(command: Callable[..., None]) -> Callable[..., None]:
    """`--seconds` and `--bytes`."""
    for option in (
        click.option("--bytes", "least", default=0, help="Go on until at least so many bytes were given."),
        click.option("--seconds", default=60.0, show_default=True, help="Go on for at least so long."),
    ):
        command = option(command)
    return command


def judged(attack: Callable[[Random, Amount], T], amount: Amount, seed: int | None) -> T:
    """The result of an attack with this seed, None for another each time; one that fails ends the process."""
    seed = time.time_ns() if seed is None else seed
    try:
        return attack(Random(seed), amount)
    except AssertionError as error:
        click.echo(f"seed {seed}: {error}")
        sys.exit(1)


def tell(amount: Amount, counts: Mapping[str, int]) -> None:
    """Say how much was tried, and what came of it."""
    click.echo(f"{amount.given} bytes, " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
