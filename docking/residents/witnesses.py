"""Detects a store restored from an old backup: stations that meet show each other the statements the other has signed.

Such a store is stale: it still has agents that this station gave away, and lacks some that arrived. It cannot know that
by itself, but its peers hold its own signatures: a commit proves that it gave an agent away, a receipt that one
arrived. Each sends the other the last handoffs between them; a station that does not know its own signature has lost
part of its store.

It does not decide an agent's fate: an agent that this station has signed away is put to sleep, which loses nothing, and
the operator gets an alarm. Invariants: a peer's claims have no effect, only this station's own signatures do; alarms
are bounded, and raised once for each peer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field

from agents.credentials import envelope
from agents.credentials.fields import array, byte_string, uint
from agents.credentials.keys import PublicKey
from agents.credentials.visits import Commit, Receipt
from agents.errors import CredentialError
from docking.aio.threads import in_thread
from docking.errors import CarrierError, StationError, StoreError
from docking.handoff.actions import Record
from docking.handoff.messages import Side
from docking.handoff.states import Source
from docking.letters.orders import OrderKind
from docking.letters.outbox import LetterKind
from docking.residents.berth import Berth, Standing
from docking.residents.commands import Commands
from docking.residents.residents import Residents

_log = logging.getLogger(__name__)
# The number of most recent handoffs to show, and the longest signed statement in bytes.
MOST, PROOF = 64, 4096
# Seconds until another attempt to put an agent to sleep that is leaving.
AGAIN = 0.2
OLDER = (
    "this station's store is older than what {peer} has seen of it ({count} handoffs that it signed are not in it): it "
    "was put back from an old copy, or its disk lost what it said was written. Agents that it has given away are put "
    "to sleep, and nothing of them is lost; dispose of none before portcall where shows it elsewhere. Others that were "
    "here may be missing: if there is a newer copy of the store, stop the station and put that back"
)
PEER_OLDER = (
    "{peer} does not know {count} handoffs that it signed: its store was put back from an old copy, or is new. Agents "
    "that were there may be lost or live twice; nothing is to be done here"
)
STALE = "this station has signed that it gave this agent to {peer}: it is put to sleep here, and lives there"


@define(eq=False, repr=False)
class Witnesses:
    """Shows peers the handoffs that they have signed, and checks those that they show. `letter`: delivers a letter."""

    _here: Residents
    _commands: Commands
    _letter: Callable[[PublicKey, Any], Awaitable[Any]]
    _told: set[tuple[PublicKey, str]] = field(factory=set)

    def met(self, peer: PublicKey) -> None:
        """Exchange signatures with a peer that answered a greeting for the first time since this station started."""
        if not self._here.closing:
            self._here.run(self._exchange(peer))

    async def _exchange(self, peer: PublicKey) -> None:
        try:
            answer = await self._say(peer, [0, await self._rows(peer)])
            if answer[0] != "taken":
                return
            unknown, rows = array(answer[1], "witness", 2)
            self._heard_of(peer, unknown)
            if own := self._hear(peer, rows):
                await self._say(peer, [own, []])
        except (CarrierError, CredentialError, StoreError) as error:  # also where this kind of letter is unknown
            _log.debug("no witness of %s: %s", peer, error)

    async def _say(self, peer: PublicKey, content: list[Any]) -> list[Any]:
        answer = await self._letter(peer, [LetterKind.WITNESS.value, self._here.clocks.random(32), content])
        return array(answer, "answer", 2)

    async def answer(self, peer: PublicKey, content: Any) -> list[Any]:
        """Answer a peer: it reports how many of its own handoffs it does not know, and shows what this station signed.

        The answer has the same content for the other direction.
        """
        unknown, rows = array(content, "witness", 2)
        self._heard_of(peer, unknown)
        return ["taken", [self._hear(peer, rows), await self._rows(peer)]]

    def _heard_of(self, peer: PublicKey, unknown: Any) -> None:
        if uint(unknown, "count", MOST):
            self._alarm(PEER_OLDER, peer, unknown)

    async def _rows(self, peer: PublicKey) -> list[Any]:
        records = await in_thread(self._here.store.settled_with, peer.raw, self._here.clocks.now(), MOST)
        return [_row(record) for record in records]

    def _hear(self, peer: PublicKey, rows: Any) -> int:
        """How many of the handoffs in `rows` this station has signed and does not know. Raises `CredentialError`."""
        if self._here.store.volatile:
            return 0  # it starts empty each time, and says so
        unknown = 0
        for row in array(rows, "handoffs", MOST):
            side, hid, proof = array(row, "handoff", 3)
            byte_string(hid, "handoff id", 32)
            byte_string(proof, "proof", 0, PROOF)
            if side == "source":
                unknown += self._gave(peer, hid, proof)
            elif side == "destination":
                unknown += self._had(hid, proof)
        if unknown:
            self._alarm(OLDER, peer, unknown)
        return unknown

    def _gave(self, peer: PublicKey, hid: bytes, proof: bytes) -> bool:
        commit = envelope.verify(Commit, proof, self._here.key.public).body
        record = self._here.store.record(hid, Side.SOURCE)
        if commit.handoff != hid or (record is not None and record.state in (Source.COMMITTED, Source.GONE)):
            return False
        berth = self._here.berths.get(commit.agent)
        if berth is not None and berth.visit <= commit.index:
            self._put_to_sleep(berth, peer)
        return True

    def _had(self, hid: bytes, proof: bytes) -> bool:
        receipt = envelope.verify(Receipt, proof, self._here.key.public).body
        return receipt.handoff == hid and self._here.store.record(hid, Side.DESTINATION) is None

    def _put_to_sleep(self, berth: Berth, peer: PublicKey) -> None:
        if berth.standing in (Standing.ASLEEP, Standing.STOPPED):
            return
        if not berth.astray:
            berth.astray = True
            self._here.tell("alarm", berth.agent, place=self._here.peers.label(peer), text=self._said(STALE, peer))
        try:
            self._commands.obey(berth, OrderKind.SLEEP)
        except StationError:  # the agent is leaving, and its departure will be refused
            asyncio.get_running_loop().call_later(AGAIN, self._try_again, berth, peer)

    def _try_again(self, berth: Berth, peer: PublicKey) -> None:
        if not self._here.closing and self._here.berths.get(berth.agent) is berth:
            self._put_to_sleep(berth, peer)

    def _alarm(self, text: str, peer: PublicKey, count: int) -> None:
        if (peer, text) not in self._told:
            self._told.add((peer, text))
            self._here.tell("alarm", place=self._here.peers.label(peer), text=self._said(text, peer, count))

    def _said(self, text: str, peer: PublicKey, count: int = 0) -> str:
        return text.format(peer=repr(self._here.peers.label(peer)), count=count)


def _row(record: Record) -> list[Any]:
    """What the peer of this handoff has signed: its commit if it was the source, its receipt if the destination."""
    if record.side is Side.DESTINATION:
        return ["source", record.hid, record.commit]
    return ["destination", record.hid, record.receipt]
