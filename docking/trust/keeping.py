"""How much of the agents that pass a station keeps, for `portcall replay`."""

from __future__ import annotations

from attrs import field, frozen, validators

_MIB = 1 << 20


@frozen
class Keeping:
    """What a station may keep of the agents that pass. The oldest goes first.

    bytes: on its disk, in all; 0 keeps nothing
    stays: the most stays of agents
    age_s: how old a stay may be, in seconds
    calls: bytes of what one agent's calls returned in one stay; what comes after that is not kept
    """

    bytes: int = field(default=0, validator=validators.ge(0))
    stays: int = field(default=10_000, validator=validators.ge(1))
    age_s: int = field(default=7 * 24 * 3600, validator=validators.ge(1))
    calls: int = field(default=4 * _MIB, validator=[validators.ge(0), validators.le(64 * _MIB)])
