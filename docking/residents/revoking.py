"""Revocations: taken from whoever brings them, believed of few, and passed on to the stations that are known.

A key is revoked by a statement of its own, or of a key that the policy here trusts to revoke (`[revoked] by`). What is
believed is added to the policy in force: arrivals and launches are refused, and agents that are here suspended, as if
the operator had written it there.

Not here: what the policy does (`docking.trust.admission`). Invariants: a statement is stored before it is answered
"taken"; it is passed on to a peer once, or once after each start while the peer does not take it, and only by who
believes it; statements about keys that nobody here has met are
not kept, so that no stranger fills the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from attrs import define, field

from agents import canonical
from agents.credentials import envelope
from agents.credentials.envelope import Signed, identify
from agents.credentials.fields import array, byte_string
from agents.credentials.keys import PublicKey
from agents.credentials.revocations import MAX_REVOCATION_BYTES, Revocation
from agents.errors import CredentialError, NotCanonical
from docking.letters.outbox import LetterAnswer, LetterKind, Outbox
from docking.residents.residents import Residents, seen
from docking.store.changes import Change, PutFact
from docking.trust.in_force import PolicyInForce

REVOCATIONS = "revocations"  # the fact
MAX_REVOCATIONS = 256
# Peers that one statement is passed on to: those that were heard of last.
MAX_TOLD = 256
# How long (ms) it is tried to tell a peer.
TOLD_WITHIN_MS = 30 * 86_400_000
_BOUNDS = canonical.DecodeBounds(max_bytes=4 << 20, max_depth=4, max_items=(MAX_REVOCATIONS + 1) * (MAX_TOLD + 4))


@define(eq=False, repr=False)
class Revoking:
    """The revocations that the station `here` believes. `apply()`: has them take effect on agents that are here."""

    _here: Residents
    _policy: PolicyInForce
    _apply: Callable[[], Awaitable[None]]
    _held: dict[bytes, Signed[Revocation]] = field(factory=dict)
    _told: dict[bytes, set[bytes]] = field(factory=dict)

    def begin(self) -> None:
        """Before anything runs: believe what was believed before. Raises `CredentialError`: the store is damaged."""
        data = self._here.store.fact(REVOCATIONS)
        if data is None:
            return
        try:
            for row in array(canonical.decode(data, _BOUNDS), "revocations", MAX_REVOCATIONS):
                statement, told = array(row, "revocation", 2)
                signed = _read(statement)
                self._held[signed.digest] = signed
                self._told[signed.digest] = {byte_string(each, "key", 32) for each in array(told, "keys", MAX_TOLD)}
        except (NotCanonical, ValueError) as error:
            raise CredentialError("revocation", f"the revocations in the store cannot be read: {error}") from error
        self._believe()

    @property
    def all(self) -> list[Signed[Revocation]]:
        """Those that are stored here; of a key that the policy trusts no longer, they do not count."""
        return list(self._held.values())

    def counts(self, signed: Signed[Revocation]) -> bool:
        """Whether a statement is believed by the policy of now."""
        return signed.signer == signed.body.key or signed.signer in self._policy.now.revokers

    async def revoke(self, data: bytes, sender: PublicKey | None = None) -> bool:
        """Believe a statement, store it, and pass it on; whether it was new. `sender`: the peer that brought it.

        Raises `CredentialError`: `revocation` for one by who may not revoke that key, `unknown-key`; `StoreError`.
        """
        signed = _read(data)
        key, name = signed.body.key, signed.digest
        if not self.counts(signed):
            raise CredentialError("revocation", f"the key {signed.signer} may not revoke the key {key} here")
        if name in self._held or any(each.body.key == key and each.signer == signed.signer for each in self.all):
            return False
        if not self._is_known(key) and signed.signer == key and sender is not None:
            raise CredentialError("unknown-key", "nobody here has met the key that is revoked")
        if len(self._held) >= MAX_REVOCATIONS:
            self._here.tell("alarm", text=f"a revocation of {key} is not taken: there are {MAX_REVOCATIONS} already")
            raise CredentialError("revocation", f"this station keeps {MAX_REVOCATIONS} revocations, and no more")
        peers = sorted(self._here.peers.all(), key=lambda peer: -peer.seen)
        to = [peer.key for peer in peers if peer.key not in (sender, key) and peer.proven][:MAX_TOLD]
        self._held[name], self._told[name] = signed, {peer.raw for peer in to}
        if sender is not None:
            self._told[name] = {*list(self._told[name])[: MAX_TOLD - 1], sender.raw}
        try:
            await self._here.journal.write([self._fact(), *self._letters(signed, to)], True)
        except BaseException:
            del self._held[name], self._told[name]
            raise
        self._here.outbox.nudge()
        self._here.tell("alarm", text=f"the key {key} ({self._here.peers.label(key)}) was revoked by {_by(signed)}")
        self._believe()
        await self._apply()
        return True

    async def receive(self, sender: PublicKey, content: object) -> list[object]:
        """A letter with a statement; returns the answer."""
        await self.revoke(byte_string(content, "revocation", 1, MAX_REVOCATION_BYTES), sender)
        return [LetterAnswer.TAKEN.value]

    def met(self, peer: PublicKey) -> None:
        """A peer was met, for the first time since this station began: tell it what it was not told."""
        fresh = [
            signed
            for name, signed in self._held.items()
            if peer.raw not in self._told[name] and peer != signed.body.key and len(self._told[name]) < MAX_TOLD
        ]
        if not fresh or self._here.closing:
            return
        letters: list[Change] = []
        for signed in fresh:
            self._told[signed.digest].add(peer.raw)
            letters += self._letters(signed, [peer])

        def written(future: asyncio.Future[None]) -> None:
            if seen(future):
                self._here.outbox.nudge()

        self._here.journal.write([self._fact(), *letters], False).add_done_callback(written)

    def not_taken(self, peer: PublicKey, content: object) -> list[Change]:
        """A peer did not take a statement, perhaps since it does not know the key: it is told again when it is met
        after the next start. Returns what to store of that. Raises `CredentialError`.
        """
        told = self._told.get(_read(content).digest)
        if told is None:
            return []
        told.discard(peer.raw)
        return [self._fact()]

    def _letters(self, signed: Signed[Revocation], to: Iterable[PublicKey]) -> list[Change]:
        until = self._here.clocks.now() + TOLD_WITHIN_MS
        ident = identify("revocation", signed.digest)
        return [Outbox.posted(peer, LetterKind.REVOKED, ident, signed.envelope, until) for peer in to]

    def _fact(self) -> Change:
        rows = [[signed.envelope, sorted(self._told[name])] for name, signed in self._held.items()]
        return PutFact(REVOCATIONS, canonical.encode(rows))

    def _believe(self) -> None:
        self._policy.revoke((signed.body.key.raw, signed.signer) for signed in self.all)

    def _is_known(self, key: PublicKey) -> bool:
        here = self._here
        owner = any(rule.key == key for rule in self._policy.now.owners) or here.owners[key] > 0
        return owner or key == here.key.public or here.peers.get(key) is not None


def _by(signed: Signed[Revocation]) -> str:
    return "itself" if signed.signer == signed.body.key else str(signed.signer)


def _read(data: object) -> Signed[Revocation]:
    return envelope.verify(Revocation, byte_string(data, "revocation", 1, MAX_REVOCATION_BYTES))
