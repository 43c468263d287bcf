"""Offers that are never transferred: only an agent that would be admitted takes a place, and strangers take none."""

from __future__ import annotations

import os

from attrs import evolve

from agents import canonical
from agents.credentials.itinerary import Itinerary
from agents.credentials.keys import SecretKey
from docking import Station
from docking.handoff.messages import Body, Message, Offer, Part, Refuse, handoff_id
from docking.http.client import Client
from docking.http.sealing import SharedKeys
from tests.credentials.journeys import Journey, make_passport, public
from tests.station.harbour import harbour, run

PEER = SecretKey(bytes(31) + b"p")
KINDS = ("passport", "trail", "results", "image", "state")


def offer(there: Station, bodies: dict[str, bytes], size: int = 1 << 20) -> Offer:
    """An offer with these bodies; the other parts are said to have `size` bytes, and do not come."""
    agent, nonce = os.urandom(32), os.urandom(16)
    parts = [
        Part(kind, canonical.digest(bodies[kind]), len(bodies[kind])) if kind in bodies else Part(kind, agent, size)
        for kind in KINDS
    ]
    came = tuple(Body(KINDS.index(kind), bodies[kind]) for kind in KINDS if kind in bodies)
    hid = handoff_id(agent, 3, PEER.public.raw, there.key.raw, nonce)
    key, to = PEER.public.raw, there.key.raw
    return Offer(hid, agent, 3, key, to, nonce, nonce, agent, 2_000_000_000_000, tuple(parts), came)


async def answer(there: Station, message: Message) -> Message | None:
    client = Client(SharedKeys(PEER), os.urandom, lambda key: [there.url], lambda key, url: None)
    try:
        return await client.exchange(there.key.raw, message)
    finally:
        client.close()


async def refused(there: Station, message: Message) -> str:
    """The code of the refusal, which must be one with a sentence."""
    found = await answer(there, message)
    assert isinstance(found, Refuse), found
    assert found.reason
    return found.code


@run
async def test_offers_without_papers_or_with_papers_of_no_worth_take_no_place() -> None:
    async with harbour("home") as (home,):
        itinerary = Itinerary.via([public("alpha")])
        stranger = Journey(make_passport(itinerary, owner="stranger"), owner="stranger")
        stranger.leave("alpha")
        capsule = stranger.capsule()
        credentials = {kind: bytes(body) for kind, body in capsule.parts().items() if kind in KINDS[:3]}
        cases = {
            "papers-missing": [{}, {"passport": b"x", "trail": b"x"}, {"state": b"x", "image": b"x"}],
            "malformed": [dict.fromkeys(KINDS[:3], b"x"), credentials | {"trail": b"\x9b" + b"\xff" * 8}],
            "owner-unknown": [credentials],
        }
        for code, offers in cases.items():
            for bodies in offers:
                assert await refused(home, offer(home, bodies)) == code
        bent = offer(home, credentials)
        parts = [evolve(part, digest=bytes(32)) if part.kind == "trail" else part for part in bent.parts]
        assert await refused(home, evolve(bent, parts=tuple(parts))) == "bad-digest"
        table = home.core.courier.table
        assert not table.undecided
        assert all(machine.finished for machine in table.machines.values())
