"""What an agent may do and use: capabilities and budgets. Attenuation only narrows.

Not enforcement: workers and services enforce what is granted here.

A capability is a text `KIND:NAME`: `service:thermometer.read` (a station's service), `host:clone` (a host call) or
`dir:charts` (a directory that a station lends). The last part of the name may be `*`, which matches any ending:
`service:thermometer.*`, `service:*`.

Invariants: the intersection of two sets of capabilities covers exactly what both cover; the lesser of two
budgets never exceeds either."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any

from attrs import field, frozen

from agents.credentials.fields import AMOUNT, Fields, array, text
from agents.errors import MalformedCredential
from agents.evolve import evolve

# Intersections are products of two sets: this bounds them.
MAX_CAPABILITIES = 64
MAX_CAPABILITY_BYTES = 128
_SHAPE = re.compile(r"(service|host|dir):(\*|[a-z0-9_-]+(\.[a-z0-9_-]+)*(\.\*)?)\Z")


@frozen
class Budget:
    """Amounts: what may be used, what was used, or what is left. Each from 0 to 2^53.

    cpu: microseconds of CPU time, summed over the journey
    memory: bytes, the peak at any time
    carried: bytes of state that left a station, summed
    messages: sent to agents and services, summed
    """

    cpu: int = 0
    memory: int = 0
    carried: int = 0
    messages: int = 0

    def __attrs_post_init__(self) -> None:
        # One condition for all four: a hop makes a handful of budgets.
        amounts = ("cpu", self.cpu), ("memory", self.memory), ("carried", self.carried), ("messages", self.messages)
        for name, value in amounts:
            if type(value) is not int or not 0 <= value <= AMOUNT:
                raise MalformedCredential(f"{name}: not an amount from 0 to 2^53")

    def plus(self, used: Budget) -> Budget:
        """The sums of this and `used`, and the larger memory; saturates at 2^53."""
        return Budget(
            min(self.cpu + used.cpu, AMOUNT),
            max(self.memory, used.memory),
            min(self.carried + used.carried, AMOUNT),
            min(self.messages + used.messages, AMOUNT),
        )

    def left(self, used: Budget) -> Budget:
        """What remains of this budget after `used`; memory is not consumed. Never below 0."""
        return Budget(
            max(self.cpu - used.cpu, 0),
            self.memory,
            max(self.carried - used.carried, 0),
            max(self.messages - used.messages, 0),
        )

    def least(self, other: Budget) -> Budget:
        """The smaller of each amount of this and `other`."""
        return Budget(
            min(self.cpu, other.cpu),
            min(self.memory, other.memory),
            min(self.carried, other.carried),
            min(self.messages, other.messages),
        )

    def exceeded_by(self, used: Budget) -> str | None:
        """The name of the first amount of `used` that exceeds this budget, or None."""
        for _, name in _AMOUNTS:
            if getattr(used, name) > getattr(self, name):
                return name
        return None

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR."""
        return {1: self.cpu, 2: self.memory, 3: self.carried, 4: self.messages}

    @classmethod
    def from_payload(cls, value: object) -> Budget:
        """The inverse of `payload`, for the map `value`. Raises `MalformedCredential`."""
        read = Fields.of(value, "budget")
        budget = cls(*(read.uint(key, name, AMOUNT) for key, name in _AMOUNTS))
        read.done()
        return budget


_AMOUNTS = ((1, "cpu"), (2, "memory"), (3, "carried"), (4, "messages"))
UNLIMITED = Budget(AMOUNT, AMOUNT, AMOUNT, AMOUNT)


def _capabilities(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(value)))


def _check_capabilities(instance: object, attribute: Any, value: tuple[str, ...]) -> None:
    # Not counted here: an intersection of two sets of 64 may have more. The count is checked where they are signed.
    for capability in value:
        if not _SHAPE.match(text(capability, attribute.name, MAX_CAPABILITY_BYTES)):
            raise MalformedCredential(
                f"{attribute.name}: {capability!r} is not service:NAME, host:NAME or dir:NAME, NAME or its end being *"
            )


@frozen
class Permit:
    """An owner's grant to an agent; a station narrows it, and never widens it.

    budget: what the agent may use at each station
    capabilities: what it may do, as patterns (`service:weather.*`, `host:*`, `dir:data`)
    needs: capabilities without which it should not even be admitted
    """

    budget: Budget
    capabilities: tuple[str, ...] = field(default=(), converter=_capabilities, validator=_check_capabilities)
    needs: tuple[str, ...] = field(default=(), converter=_capabilities, validator=_check_capabilities)

    @needs.validator
    def _within(self, _: object, value: tuple[str, ...]) -> None:
        beyond = [need for need in value if not covers(self.capabilities, need)]
        if beyond:
            raise MalformedCredential(f"permit: it needs {beyond[0]} and does not allow it")

    def attenuate(self, budget: Budget, capabilities: Iterable[str]) -> Permit:
        """This permit, narrowed to `budget` and `capabilities`: never more than it was. Needs that are no
        longer allowed are dropped: check them first."""
        allowed = _intersection(self.capabilities, tuple(capabilities))
        kept = [need for need in self.needs if covers(allowed, need)]
        return evolve(self, budget=self.budget.least(budget), capabilities=allowed, needs=kept)

    def allows(self, capability: str) -> bool:
        """Whether `capability` is covered."""
        return covers(self.capabilities, capability)

    def payload(self) -> dict[int, Any]:
        """As a map for CBOR. Raises `MalformedCredential` if there are more than 64 capabilities."""
        if len(self.capabilities) > MAX_CAPABILITIES:
            raise MalformedCredential(f"permit: more than {MAX_CAPABILITIES} capabilities")
        return {1: self.budget.payload(), 2: list(self.capabilities), 3: list(self.needs)}

    @classmethod
    def from_payload(cls, value: object) -> Permit:
        """The inverse of `payload`, for the map `value`. Raises `MalformedCredential`."""
        read = Fields.of(value, "permit")
        budget = Budget.from_payload(read.take(1, "budget"))
        lists = [
            [text(c, name, MAX_CAPABILITY_BYTES) for c in array(read.take(key, name), name, MAX_CAPABILITIES)]
            for key, name in ((2, "capabilities"), (3, "needs"))
        ]
        read.done()
        # One encoding only: sorted, without duplicates.
        if any(list(_capabilities(given)) != given for given in lists):
            raise MalformedCredential("permit: capabilities are not sorted, or are repeated")
        return cls(budget, *lists)


def covers(granted: Iterable[str], capability: str) -> bool:
    """Whether one of `granted` covers `capability`, which may itself be a pattern."""
    return any(_covers(pattern, capability) for pattern in granted)


def intersect(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    """Capabilities that cover exactly what both sets cover, without redundant ones."""
    others = tuple(other)
    both = {a if _covers(b, a) else b for a in one for b in others if _covers(a, b) or _covers(b, a)}
    return tuple(sorted(c for c in both if not any(_covers(d, c) for d in both if d != c)))


# One owner's agents come with the same few sets, and meet the same policy.
_intersection = functools.lru_cache(maxsize=256)(intersect)


def _covers(pattern: str, capability: str) -> bool:
    if pattern == capability:
        return True
    return pattern.endswith("*") and capability.startswith(pattern[:-1])
