"""Sources of time and randomness. They are passed as arguments, so that no code reads a clock by itself."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define


@define(eq=False, repr=False)
class Clocks:
    """Sources of time and randomness. `wall`, `monotonic`: ns."""

    wall: Callable[[], int]
    monotonic: Callable[[], int]
    random: Callable[[int], bytes]

    def now(self) -> int:
        """Milliseconds since 1970."""
        return self.wall() // 1_000_000
