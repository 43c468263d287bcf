"""The docks of a station, and those for which it is one: connects what `docking.residents.docks` has with the network.

Nothing is decided here. Invariant: what stations say about their docks is stored before it is acknowledged.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define

from agents.credentials.keys import PublicKey
from agents.errors import CredentialError
from docking.core import StationCore
from docking.handoff.codec import MessageLimits
from docking.http.sealing import SharedKeys
from docking.letters.outbox import LetterAnswer, LetterKind
from docking.peer_api import PeerApi
from docking.peers.directory import DOCK
from docking.peers.introductions import Introductions
from docking.residents.docks import MAX_DOCKS, Deposits, Docked, DockRoom
from docking.store.changes import PutFact

FACT = "docks"
MAX_TEXT = 256  # bytes of an address in a passport
NAMED_IN_PASSPORTS = 2


@define(eq=False, repr=False)
class StationDocks:
    """What one station has to do with docks.

    room: what it keeps for others; deposits: what it gives to docks; docked: what it fetches from its own
    """

    room: DockRoom
    deposits: Deposits
    docked: Docked
    _core: StationCore

    @classmethod
    def wire(
        cls, core: StationCore, introductions: Introductions, keys: SharedKeys, api: PeerApi, limits: MessageLimits
    ) -> StationDocks:
        """Connect them."""
        here, wire = core.here, introductions.wire
        room = DockRoom(here, core.policy)
        urls, clocks = introductions.urls_for, here.clocks
        deposits = Deposits(room, keys, here.peers, wire.letter, urls, clocks.random, clocks.now)
        deposits.restore(here.store.fact(FACT) or b"")
        docked = Docked(here, keys, limits, wire.letter, api.letter_of_dock, api.handoff, introductions.exchange)
        docks = cls(room, deposits, docked, core)
        introductions.patient = core.departures.docked.__contains__
        introductions.deposit, introductions.deposit_letter = deposits.message, deposits.post
        core.lifecycle.queued.docked = deposits.has
        core.inbound.of_docks, core.inbound.deposited = docks.letter, deposits.deposited
        here.peers.docks_named = docks.named
        return docks

    async def letter(self, sender: PublicKey, kind: LetterKind, ident: bytes, content: object) -> list[object]:
        """Handle a letter about docks. Raises `CredentialError`, `ValueError`, `StoreError`."""
        if kind is LetterKind.DEPOSIT:
            return await self.room.deposit(sender, ident, content)
        if kind is LetterKind.COLLECT:
            return await self.room.collect(sender, content)
        if kind is LetterKind.DOCKED:
            return await self.docked.taken(content)
        self.deposits.learn(sender, content)
        await self._core.here.journal.write([PutFact(FACT, self.deposits.encode())], True)
        return [LetterAnswer.TAKEN.value]

    def named(self, station: PublicKey, docks: Sequence[str]) -> None:
        """A passport names docks of its home, as KEY@URL. What the station has said itself counts more."""
        if self.deposits.has(station):
            return
        rows = []
        for text in docks[:MAX_DOCKS]:
            key, _, url = text.partition("@")
            try:
                rows.append([PublicKey.from_text(key).raw, url])
            except CredentialError:
                continue
        try:
            self.deposits.learn(station, rows)
        except (CredentialError, ValueError):
            return

    def met(self, peer: PublicKey) -> None:
        """A peer has answered a greeting: name this station's docks to it."""
        self.docked.tell(peer)

    def is_at(self, dock: PublicKey, url: str) -> None:
        """A dock of this station was met."""
        self.docked.own[dock] = url
        self.docked.soon()
        for peer in self._core.here.peers.all():
            if peer.proven:
                self.docked.tell(peer.key)

    def addresses(self) -> list[str]:
        """This station's docks, as passports name them beside its addresses."""
        named = [f"{DOCK}{key.text}@{url}" for key, url in self.docked.own.items()]
        return [text for text in named if len(text.encode()) <= MAX_TEXT][:NAMED_IN_PASSPORTS]
