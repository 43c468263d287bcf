"""Notices a store that was put back from an old copy: each start is one more life, which peers remember, signed.

A station counts its starts in its store, and signs the count. Peers that it meets keep the highest that they have seen
and show it. Who is shown a count of the same store (`epoch`) that is higher than its own has lost what happened since:
agents may live here that were given away, and others are missing. Then nothing runs here until a person decides:
residents are put away and kept, nobody is let in and nothing launched. Handoffs that were decided go on.

Not here: what single handoffs prove (`witnesses`). Invariants: only this station's own signature has an effect, so no
peer can stop it; a hold outlasts restarts.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.credentials import envelope
from agents.credentials.fields import AMOUNT, Fields, array, byte_string
from agents.credentials.keys import PublicKey
from agents.errors import CredentialError, NotCanonical
from docking.errors import CarrierError, StationError, StoreError
from docking.letters.outbox import LetterAnswer, LetterKind
from docking.residents.residents import Residents
from docking.store.changes import PutFact
from docking.trust.in_force import PolicyInForce

_log = logging.getLogger(__name__)
LIFE, LIVES, HELD = "life", "lives", "held"
MAX_PEERS, MAX_STATEMENT_BYTES = 1024, 1024
# After a person has decided, the count is ahead of all that peers can remember of the time that was lost.
AHEAD = 1000
_BOUNDS = canonical.DecodeBounds(max_bytes=4 << 20, max_depth=3, max_items=10_000)
OLDER = (
    "its store was put back from an old copy: {peer} has seen start {shown} of it, and this would be {own}. Nothing "
    "runs here until a person decides. If there is a newer copy, stop the station and put that back; else portcall "
    "restore --accept lets it go on with what it has"
)


@frozen
class Life:
    """The statement. `epoch`: of the store; `count`: its starts so far."""

    KIND: ClassVar[str] = "life"

    epoch: bytes
    count: int

    def payload(self) -> dict[int, object]:
        """As a map for CBOR."""
        return {1: self.epoch, 2: self.count}

    @classmethod
    def from_payload(cls, value: object) -> Life:
        """The inverse of `payload`; `MalformedCredential`."""
        read = Fields.of(value, "life")
        life = cls(read.octets(1, "epoch", 16), read.uint(2, "count", AMOUNT))
        read.done()
        return life


@frozen
class Hold:
    """Why nothing runs here, and the highest count that was shown."""

    why: str
    shown: int = 0

    def encode(self) -> bytes:
        """For the store."""
        return canonical.encode([self.why, self.shown])

    @classmethod
    def decode(cls, data: bytes | None) -> Hold | None:
        """The inverse; None if there is none. Damaged data is a hold."""
        if data is None:
            return None
        try:
            why, shown = array(canonical.decode(data, _BOUNDS), "hold", 2)
            return cls(str(why), int(shown))
        except (NotCanonical, CredentialError, ValueError, TypeError):
            return cls("what its store says about it cannot be read")


@define(eq=False, repr=False)
class Lives:
    """The count of one station's starts, and what it remembers of its peers'. `apply()`: has the hold take effect."""

    _here: Residents
    _policy: PolicyInForce
    _letter: Callable[[PublicKey, Any], Awaitable[Any]]
    _apply: Callable[[], Awaitable[None]]
    own: int = 0
    _hold: Hold | None = None
    _of: OrderedDict[bytes, bytes] = field(factory=OrderedDict)

    def begin(self) -> None:
        """Before anything runs: see which life this is, and whether it is held."""
        store = self._here.store
        self.own = int.from_bytes(store.fact(LIFE) or b"", "big")
        self._hold = Hold.decode(store.fact(HELD))
        self._policy.held = "" if self._hold is None else self._hold.why
        try:
            for key, signed in canonical.decode(store.fact(LIVES) or canonical.encode([]), _BOUNDS):
                self._of[byte_string(key, "key", 32)] = byte_string(signed, "life", 1, MAX_STATEMENT_BYTES)
        except (NotCanonical, CredentialError, ValueError, TypeError):
            self._of.clear()
        if self._hold is not None:
            self._here.tell("alarm", text=f"nothing runs at this station: {self._hold.why}")

    def met(self, peer: PublicKey) -> None:
        """A peer has answered a greeting: show it the count, and look at what it remembers."""
        if not self._here.closing and not self._here.store.volatile:
            self._here.run(self._exchange(peer))

    async def _exchange(self, peer: PublicKey) -> None:
        try:
            answer = await self._letter(peer, [LetterKind.LIFE.value, self._here.clocks.random(32), self._signed()])
            said, remembered = array(answer, "answer", 2)
            if said == LetterAnswer.TAKEN.value and remembered:
                await self._shown(peer, byte_string(remembered, "life", 1, MAX_STATEMENT_BYTES))
        except (CarrierError, CredentialError, StoreError, ValueError) as error:  # also where LIFE is unknown
            _log.debug("%s says nothing of earlier lives: %s", peer, error)

    def _signed(self) -> bytes:
        return envelope.sign(Life(self._here.store.epoch, self.own), self._here.key).envelope

    async def answer(self, sender: PublicKey, content: object) -> list[object]:
        """A peer shows its count; what was remembered of it is the answer. Raises `CredentialError`, `StoreError`."""
        signed = byte_string(content, "life", 1, MAX_STATEMENT_BYTES)
        life = envelope.verify(Life, signed, sender).body
        before = self._of.get(sender.raw)
        known = None if before is None else envelope.verify(Life, before, sender).body
        if known is None or known.epoch != life.epoch or known.count < life.count:
            self._of.pop(sender.raw, None)
            self._of[sender.raw] = signed
            while len(self._of) > MAX_PEERS:
                self._of.popitem(last=False)
            rows = [list(row) for row in self._of.items()]
            await self._here.journal.write([PutFact(LIVES, canonical.encode(rows))], True)
        return [LetterAnswer.TAKEN.value, before or b""]

    async def _shown(self, peer: PublicKey, signed: bytes) -> None:
        """A peer shows what it remembers. Raises `CredentialError` if this station has not signed it."""
        life = envelope.verify(Life, signed, self._here.key.public).body
        if life.epoch != self._here.store.epoch or life.count <= self.own:
            return
        if self._hold is not None:
            await self._keep(evolve(self._hold, shown=max(self._hold.shown, life.count)))
            return
        label = self._here.peers.label(peer)
        hold = Hold(OLDER.format(peer=repr(label), shown=life.count, own=self.own), life.count)
        self._policy.held = hold.why
        self._here.tell("alarm", place=label, text=hold.why)
        await self._keep(hold)
        await self._apply()

    async def _keep(self, hold: Hold) -> None:
        self._hold = hold
        await self._here.journal.write([PutFact(HELD, hold.encode())], True)

    async def accept(self) -> None:
        """A person has decided that the station goes on with what it has. Raises `StationError`, `StoreError`."""
        if self._hold is None:
            raise StationError("there is nothing to decide: this station runs")
        self.own = max(self.own, self._hold.shown) + AHEAD
        count = self.own.to_bytes(8, "big")
        await self._here.journal.write([PutFact(HELD, None), PutFact(LIFE, count)], True)
        self._hold, self._policy.held = None, ""
        self._here.tell("resumed", text="a person has decided: it goes on with the store that it has")
        await self._apply()
