"""A dishonest station: a real one, whose owner has written a program that offers what it holds in other ways than it
should.

It has what every station has: its own key, and the agents that are there, with their papers, state and image. It
speaks the protocol of stations, under its own name. Not here: what it tries, and what came of it (`act_station`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from attrs import define, evolve

from agents.canonical import Buffer
from agents.credentials import logbook
from agents.credentials.itinerary import Position
from agents.credentials.keys import PublicKey
from docking.errors import StationError
from docking.handoff.messages import NONCE_SIZE, Body, CommitMessage, Done, Message, Offer, Part, ReceiptMessage, Refuse
from docking.residents.berth import Berth
from docking.residents.checkpoints import StoredState
from docking.threaded import Threaded
from docking.trust import agent_credentials
from docking.trust.agent_credentials import SignedDeparture

KINDS = ("passport", "trail", "results", "image", "state")


@define(eq=False, repr=False)
class Mallory:
    """The station `threaded`, and what it has of the agent `agent` that is there."""

    threaded: Threaded
    agent: bytes
    berth: Berth
    state: bytes

    @classmethod
    def holding(cls, threaded: Threaded, agent: bytes) -> Mallory | None:
        """With the agent in its power, once that stands still there and is stored."""
        berth = threaded.call(lambda: threaded.station.core.here.berths.get(agent))
        if berth is None or not isinstance(berth.saved, StoredState) or berth.running or not berth.reports:
            return None
        try:
            state = threaded.call(lambda: threaded.station.core.here.state_of(berth))
        except StationError:  # it is being stored anew
            return None
        return cls(threaded, agent, berth, state)

    def sign(self, to: PublicKey, position: Position | None = None) -> SignedDeparture:
        """Sign, with its own key, that the agent left from here in this state for `to`."""
        berth, core = self.berth, self.threaded.station.core
        now = core.here.clocks.now()
        stay = logbook.StayRecord(
            position=position or agent_credentials.leaving_position(berth.credentials, to, now),
            arrived=berth.credentials.since,
            departed=now,
            state=berth.digest_of(self.state),
            results=berth.head,
            used=evolve(berth.used, carried=len(self.state)),
        )
        key = core.departures.key
        return agent_credentials.leave(berth.credentials, stay, berth.reports, key, to, secrets.token_bytes(NONCE_SIZE))

    def papers(self, leaving: SignedDeparture, to: PublicKey) -> dict[str, Buffer]:
        """All that travels with the agent, by its kind."""
        core = self.threaded.station.core
        carried = agent_credentials.parts_for(leaving, core.trails, to, whole=True)
        found = core.images.get(self.berth.image.digest)
        assert found is not None
        return {
            "passport": leaving.credentials.passport.envelope,
            "trail": carried.trail,
            "results": carried.results,
            "image": found[1],
            "state": self.state,
        }

    def offer(
        self, leaving: SignedDeparture, to: PublicKey, bodies: Mapping[str, Buffer], said: Mapping[str, Part] = {}
    ) -> Message | None:
        """Offer it to `to`, with these bodies; what came back. `said`: parts that are said to be other ones."""
        parts = [said.get(kind) or agent_credentials.part(kind, bodies[kind]) for kind in KINDS]
        sent = [Body(number, bodies[kind]) for number, kind in enumerate(KINDS)]
        offer: Offer = agent_credentials.offer_of(leaving, secrets.token_bytes(16), parts, sent, to)
        return self.send(to, offer)

    def send(self, to: PublicKey, message: Message) -> Message | None:
        """Send a message to `to`; the answer."""
        return self.threaded.do(self.threaded.station.introductions.exchange(to.raw, message))

    def hand_over(self, leaving: SignedDeparture, to: PublicKey) -> bool:
        """A whole handoff, as it should be; whether `to` has the agent then."""
        answer = self.offer(leaving, to, self.papers(leaving, to))
        if not isinstance(answer, ReceiptMessage):
            return False
        point, _ = leaving.received(answer.receipt)
        commit = logbook.sign_commit(point, self.threaded.station.core.departures.key)
        return isinstance(self.send(to, CommitMessage(leaving.hid, commit.envelope)), Done)


def answered(answer: Message | None) -> tuple[str, str]:
    """The code and the sentence of a refusal; else what came instead."""
    if isinstance(answer, Refuse):
        return answer.code, answer.reason
    return "", "it was taken" if answer is not None else "no answer"


__all__ = ["Mallory", "answered"]
