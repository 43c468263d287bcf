"""Where to make NaNs canonical: at their sources, or where their bits are seen.

At a use it costs nothing on the way, but can be done only if every NaN that may arrive there becomes the same one: all
of its sources have the same *class*, the shape and sign of their canonical NaN, and it is never a NaN with exact bits.
Otherwise the sources are made canonical, and have exact bits from then on. Where both can be done, it is done where it
is done less often, loops counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from agents.rewrite.nan_kinds import Shape
from agents.rewrite.nan_values import EXACT, Source, Use, Values

_MAX_USES = 2000  # of a function for which it is asked where it costs less; else at uses
_MAX_DEPTH = 8  # of loops; each is assumed to turn eight times
Class = tuple[Shape, bool]
"""A shape, and whether the canonical NaN is negative."""


@attrs.frozen
class Places:
    """`sources`, `uses`: what is made canonical, each to which class."""

    sources: tuple[tuple[Source, Class], ...]
    uses: tuple[tuple[Use, Class], ...]


def place(values: Values) -> Places:
    """Decide for one function."""
    return _Placing(values).places()


class _Placing:
    def __init__(self, values: Values) -> None:
        self.sources = {source.number: source for source in values.sources}
        self.negative: dict[int, bool] = {}  # by source; those without are in `exact`
        self.exact = 0  # sources that give exact bits, since their operand does
        self.forced = 0  # sources that are made canonical
        self._resolve()
        self.uses = [use for use in values.uses.values() if use.origins & ~EXACT & ~values.in_shapes(use.reads)]

    def _numbers(self, origins: int) -> Iterator[int]:
        origins &= ~EXACT
        while origins:
            lowest = origins & -origins
            yield lowest.bit_length() - 1
            origins ^= lowest

    # --- signs ---------------------------------------------------------------------------------------------

    def _resolve(self) -> None:
        """The sign of each source's canonical NaN, so that what changes signs sees what it would see."""
        derived = [source for source in self.sources.values() if source.role.role != "arithmetic"]
        for source in self.sources.values():
            if source.role.role in ("arithmetic", "absolute"):
                self.negative[source.number] = False
        while True:
            before = self.exact, len(self.negative)
            for source in derived:
                self._derive(source)
            if before == (self.exact, len(self.negative)):
                unknown = [each for each in derived if each.number not in self.negative and not self._is_exact(each)]
                if not unknown:
                    break
                self._give_up(unknown[0])  # a sign that a loop flips at each turn
        self.forced &= ~self.exact

    def _is_exact(self, source: Source) -> bool:
        return bool(self.exact >> source.number & 1)

    def _derive(self, source: Source) -> None:
        if self._is_exact(source):
            return
        if source.operand & (self.exact | EXACT):
            self._give_up(source)
            return
        if source.role.role == "absolute":
            return
        known = [self.negative.get(number) for number in self._numbers(source.operand)]
        if None in known:
            return
        if len(set(known)) > 1:
            self._give_up(source)
        else:
            flipped = source.role.role == "negate"
            self.negative[source.number] = bool(known[0]) != flipped

    def _give_up(self, source: Source) -> None:
        """What the instruction is given is made canonical before, so that it gives exact bits."""
        self.exact |= 1 << source.number
        self.forced |= source.operand & ~EXACT

    # --- uses ----------------------------------------------------------------------------------------------

    def _class(self, number: int) -> Class:
        return self.sources[number].role.gives, self.negative[number]

    def _classes(self, origins: int) -> set[Class]:
        return {self._class(number) for number in self._numbers(origins & ~self.exact)}

    def _open(self, use: Use) -> int:
        """The sources of a use that have open bits."""
        return use.origins & ~EXACT & ~self.exact & ~self.forced

    def places(self) -> Places:
        """The cheapest that is right."""
        for use in self.uses:
            exact = use.only_sources or use.origins & (EXACT | self.exact) or len(self._classes(use.origins)) > 1
            if exact:
                self.forced |= use.origins & ~EXACT & ~self.exact
        for together in self._components() if len(self.uses) <= _MAX_USES else ():
            at_uses = sum(_cost(use.depth) for use in together)
            origins = 0
            for use in together:
                origins |= self._open(use)
            at_sources = sum(_cost(self.sources[number].depth) for number in self._numbers(origins))
            if at_sources < at_uses:
                self.forced |= origins
        forced = [self.sources[number] for number in self._numbers(self.forced & ~self.exact)]
        left = [use for use in self.uses if self._open(use)]
        return Places(
            tuple((source, self._class(source.number)) for source in forced),
            tuple((use, min(self._classes(use.origins))) for use in left),
        )

    def _components(self) -> Iterable[list[Use]]:
        """The uses that share sources, at any remove."""
        groups: list[tuple[int, list[Use]]] = []
        for use in self.uses:
            origins, together = self._open(use), [use]
            if not origins:
                continue
            apart = []
            for group in groups:
                if group[0] & origins:
                    origins |= group[0]
                    together = group[1] + together
                else:
                    apart.append(group)
            groups = [*apart, (origins, together)]
        return [together for _, together in groups]


def _cost(depth: int) -> int:
    return 1 << 3 * min(depth, _MAX_DEPTH)
