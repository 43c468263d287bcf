"""A state travels as a difference to an earlier one that the peer has, so that what did not change is not sent again.

An agent that comes back to a station brings memory that this station saw last time. Both stations remember the state
that passed between them. The next one is sent as references to pieces of that, plus what is new: the blocks of a
snapshot begin at fixed places, so unchanged memory is the same bytes. This only changes how an offer is written: the
offer is completed before anyone judges it, and where that fails, the state is asked for and sent whole.

    parts  ..., state (not sent), base (what both should have), delta (sent)
    delta  [1, [[offset, length] of the base, or bytes, ...]]

Invariants: a rebuilt state has the announced digest, or it is not used; a base is one that passed between these two
stations with this very agent, else a peer could have states of others put into an agent of its own; what is remembered
is bounded, and losing it costs bytes on the wire and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, evolve, field

from agents import canonical
from agents.canonical import Buffer
from docking.differences import MAX_STATE_BYTES, MIN_DELTA_BYTES, completed, difference
from docking.handoff.messages import Body, Message, Offer, Part

# The most departures without a comparison, which takes milliseconds, after many that saved nothing.
MAX_SKIPS = 16
# Bytes of remembered states in all.
REMEMBERED_BYTES = 256 << 20


@define(eq=False, repr=False)
class Deltas:
    """The states that passed between this station and others, the last of each agent and station.

    `most`: bytes of all of them; `states`, `size_bytes`: what is remembered now.
    """

    _most: int = REMEMBERED_BYTES
    states: OrderedDict[tuple[bytes, bytes], tuple[bytes, Buffer]] = field(factory=OrderedDict)
    size_bytes: int = 0
    _in_vain: dict[tuple[bytes, bytes], tuple[int, int]] = field(factory=dict)
    """Agents whose states had nothing in common: how often in a row, and how often that is now taken for granted."""
    saved_bytes: int = 0
    """Bytes that were not sent."""

    def passed(self, agent: bytes, peer: bytes, digest: bytes, state: Buffer) -> None:
        """This state of the agent went to, or came from, the station with the key `peer`."""
        old = self.states.pop((agent, peer), None)
        if old is not None:
            self.size_bytes -= len(old[1])
        if not MIN_DELTA_BYTES <= len(state) <= MAX_STATE_BYTES:
            self._in_vain.pop((agent, peer), None)
            return
        self.states[agent, peer] = (digest, state)
        self.size_bytes += len(state)
        while self.size_bytes > self._most:
            oldest, (_, state) = self.states.popitem(last=False)
            self.size_bytes -= len(state)
            self._in_vain.pop(oldest, None)

    def shortened(self, agent: bytes, peer: bytes, state: bytes) -> list[tuple[Part, bytes]]:
        """The parts base and delta to be offered beside the state, or none. The body of base is not sent."""
        key = (agent, peer)
        known = self.states.get(key)
        if known is None or len(state) < MIN_DELTA_BYTES:
            return []
        times, granted = self._in_vain.get(key, (0, 0))
        if granted:
            self._in_vain[key] = (times, granted - 1)
            return []
        digest, base = known
        delta = difference(base, state)
        if delta is None:
            self._in_vain[key] = (times + 1, min(1 << times, MAX_SKIPS))
            return []
        self._in_vain.pop(key, None)
        self.saved_bytes += len(state) - len(delta)
        return [
            (Part("base", digest, len(base)), b""),
            (Part("delta", canonical.digest(delta), len(delta)), delta),
        ]

    def completed(self, sender: bytes, message: Message) -> Message:
        """An offer as if its state had come with it, if that can be rebuilt here; other messages unchanged."""
        if not isinstance(message, Offer) or [part.kind for part in message.parts[-2:]] != ["base", "delta"]:
            return message
        parts = message.parts[:-2]
        bodies = [body for body in message.bodies if body.index < len(parts)]
        delta = next((body.data for body in message.bodies if body.index == len(parts) + 1), None)
        index = next((i for i, part in enumerate(parts) if part.kind == "state"), None)
        known = self.states.get((message.agent, sender))
        if delta is not None and index is not None and known is not None and known[0] == message.parts[-2].digest:
            state = completed(known[1], delta, parts[index].size)
            if state is not None and canonical.digest(state) == parts[index].digest:
                bodies = sorted([*bodies, Body(index, state)], key=lambda body: body.index)
        return evolve(message, parts=parts, bodies=tuple(bodies))
