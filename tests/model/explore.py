"""Visits every state that a model can reach, breadth first: so the way to a broken invariant is a shortest one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

from attrs import frozen


class Crashing(Protocol):
    """A state that counts the crashes."""

    @property
    def crashes(self) -> int:
        """How many there were."""


T = TypeVar("T", bound=Crashing)


@frozen
class Found:
    """What was found. `states`: how many there are; `broken`: the invariant that does not hold, with the shortest way
    there; None if all hold.
    """

    states: int
    steps: int
    broken: str | None = None
    way: tuple[str, ...] = ()


def explore(
    first: T,
    after_each: Callable[[T], Iterator[tuple[str, T]]],
    invariants: Mapping[str, Callable[[T], bool]],
    end: str = "",
    well: Callable[[T], bool] = lambda state: True,
) -> Found:
    """Visit every state. `end`: the name of the invariant that from each state, one that is `well` can be reached
    without a further crash.
    """
    came: dict[T, tuple[T | None, str]] = {first: (None, "")}
    before: dict[T, list[T]] = {}
    queue, steps = deque([first]), 0
    while queue:
        state = queue.popleft()
        for name, holds in invariants.items():
            if not holds(state):
                return Found(len(came), steps, name, _way(came, state))
        for what, after in after_each(state):
            steps += 1
            if after == state:
                continue
            if after.crashes == state.crashes:
                before.setdefault(after, []).append(state)
            if after not in came:
                came[after] = state, what
                queue.append(after)
    if not end:
        return Found(len(came), steps)
    good = {state for state in came if well(state)}
    todo = list(good)
    while todo:
        for earlier in before.get(todo.pop(), ()):
            if earlier not in good:
                good.add(earlier)
                todo.append(earlier)
    lost = next((state for state in came if state not in good), None)
    return Found(len(came), steps, None if lost is None else end, () if lost is None else _way(came, lost))


def _way(came: Mapping[T, tuple[T | None, str]], state: T | None) -> tuple[str, ...]:
    way: list[str] = []
    while state is not None:
        state, what = came[state]
        way.append(what)
    return tuple(reversed(way[:-1]))


def changed(pair: tuple, at: int, value: object) -> tuple:  # type: ignore[type-arg]
    """The tuple with another item."""
    return (*pair[:at], value, *pair[at + 1 :])
