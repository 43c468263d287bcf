"""Warns before a budget is used up: once for each amount, when nine tenths of it are gone.

The warning is an event (`budget-low`) and a line in the agent's log; `low` is told too. Computing is looked at while an
agent runs, the rest when it comes and at the end of each turn. Not here: what happens when a budget is used up
(`docking.residents.lifecycle`). Invariant: nothing is looked at while no agent runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from attrs import define, field

from agents.credentials.amendments import Terms
from docking.residents.berth import Berth
from docking.residents.residents import Residents

LOW = 0.9
# The most and the fewest seconds between two looks at agents that run.
EVERY_S, SOON_S = 0.25, 0.02


@define(eq=False, repr=False)
class BudgetWatch:
    """Watches the agents that are `here`."""

    _here: Residents
    low: list[Callable[[Berth, str, int, int], None]] = field(factory=list, repr=False)
    """Each is told of an agent and an amount (a name as of `Budget`, or "hops"), how much of it is used, and of how
    much."""

    _timer: asyncio.TimerHandle | None = None

    def runs(self) -> None:
        """An agent is to run: look at those that run, from now on."""
        if self._timer is None and not self._here.closing:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        begun = [berth for berth in tuple(self._here.active.values()) if berth.running]
        # The others wait for a thread: they use nothing, and there may be thousands.
        running = [berth for berth in begun if berth.life is not None]
        for berth in running:
            self._compare(berth, berth.credentials.terms, "cpu", berth.cpu_now)
        if begun and not self._here.closing:
            # None of them can use up more of the processor until then.
            left = min([LOW * berth.grant.budget.cpu - berth.cpu_now for berth in running], default=0) / 1e6
            pause = min(max(left, SOON_S), EVERY_S) if left > 0 else EVERY_S
            self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def look_at(self, berth: Berth) -> None:
        """Look at one agent, whose turn has ended."""
        granted = berth.grant.budget
        if berth.cpu_us >= LOW * granted.cpu or berth.sent + berth.calls >= LOW * granted.messages:
            self.examine(berth)

    def examine(self, berth: Berth) -> None:
        """Look at all amounts of one agent: when it comes, or something is nearly used up."""
        point, terms = berth.credentials.point, berth.credentials.terms
        self._compare(berth, terms, "cpu", berth.cpu_us)
        self._compare(berth, terms, "messages", berth.used.messages)
        self._compare(berth, terms, "carried", 0)
        if point.index >= LOW * terms.hops:
            self._warn(berth, "hops", point.index, terms.hops)

    def _compare(self, berth: Berth, terms: Terms, name: str, used: int) -> None:
        """`used`: in this stay. It may use what is left of its permit, or less where the policy says so."""
        before: int = getattr(berth.credentials.point.used, name)
        granted: int = getattr(berth.grant.budget, name)
        most = min(granted, getattr(terms.budget, name) - before) + before
        if most > 0 and before + used >= LOW * most:
            self._warn(berth, name, before + used, most)

    def _warn(self, berth: Berth, name: str, used: int, most: int) -> None:
        if berth.warned.get(name) == most:
            return
        berth.warned = {**berth.warned, name: most}
        said = f"{name}: {_shown(name, min(used, most))} of {_shown(name, most)} are used"
        berth.remark(f"budget low: {said}")
        self._here.tell("budget-low", berth.agent, text=said)
        for low in self.low:
            low(berth, name, used, most)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()


def _shown(name: str, amount: int) -> str:
    if name == "cpu":
        return f"{amount / 1e6:.3g} s"
    return f"{amount >> 10} KiB" if name == "carried" else f"{amount}"
