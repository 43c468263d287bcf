"""What people call an agent: as its owner signed it, and a clone with its number behind that of its original.

`trip.1` is the first clone of `trip`, and `trip.1.2` the second of that. The id of a clone follows from the original's
id and its number, so that every station can tell which clone it is. Invariant: the work is bounded, whatever the
passport allows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from agents.credentials.envelope import identify
from agents.credentials.passport import Passport

# Generations that are looked through: a passport allows 16 clones of each at most, so these are 272 ids.
GENERATIONS = 2


def label_of(passport: Passport, agent: bytes) -> str:
    """What to call the agent with this id, one of the agents of this passport."""
    if agent == passport.agent:
        return passport.label
    number = number_of(passport, agent)
    return passport.label if number is None else f"{passport.label}.{number}"


def number_of(passport: Passport, agent: bytes) -> str | None:
    """Which clone it is, as `1` or `1.2`; None for a later generation, and for what is no clone of this agent."""
    return _number(passport.agent, agent, passport.clones.each, min(passport.clones.generations, GENERATIONS))


@functools.lru_cache(maxsize=4096)
def _number(original: bytes, agent: bytes, each: int, generations: int) -> str | None:
    return next((name for ident, name in _clones(original, each, generations, "") if ident == agent), None)


def _clones(parent: bytes, each: int, generations: int, prefix: str) -> Iterator[tuple[bytes, str]]:
    if not generations:
        return
    for serial in range(each):
        child, name = identify("clone", parent, serial), f"{prefix}{serial + 1}"
        yield child, name
        yield from _clones(child, each, generations - 1, f"{name}.")
