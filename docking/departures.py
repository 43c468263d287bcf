"""An agent's way out: whom it means by a name, what is offered to that station, and what becomes of it.

Not the handoff's rules (`docking.handoff`), and not the agent's run. Invariants: an agent is offered only to a station
that its itinerary allows next; each attempt has its own visit, signature and handoff id; when `depart` returns None the
agent is durably somebody else's, and when it gives a refusal it is this station's.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.credentials import logbook
from agents.credentials.itinerary import Stop
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.permit import Budget
from agents.errors import CredentialError
from agents.hostcalls import EACCES, EAGAIN, EHOSTUNREACH
from docking import papers
from docking.berth import EDQUOT, ENOSPC, EPERM, Berth
from docking.changes import Change
from docking.courier import Courier
from docking.deltas import Deltas
from docking.errors import IdentityError, UnknownStation
from docking.handoff.actions import Departure, Record
from docking.handoff.messages import NONCE_SIZE, Body, Part
from docking.images import Images
from docking.knowledge import Knowledge
from docking.papers import Leaving, part
from docking.peers import Peers
from docking.refusal import Refusal
from docking.resting import checkpoint, message_parts

_log = logging.getLogger(__name__)
# Bodies that come with the offer, in bytes: a state that is larger travels only when it is wanted.
INLINE = 1 << 20
# An image so small that asking whether it is there takes longer than sending it.
SMALL_IMAGE = 8 << 10
# Offers that may fail to reach a peer before the agent is told.
TRIES = 2
# Tries, and seconds between them, while the destination holds an earlier attempt that was never decided.
HELD_TRIES, HELD_WAIT = 10, 0.5
NEXT, HOME = "next", "home"
Find: TypeAlias = "Callable[[str, Sequence[Stop | Any]], Awaitable[PublicKey]]"
_ERRNO = {
    "unreachable": EHOSTUNREACH,
    "no-answer": EHOSTUNREACH,
    "unknown-station": EHOSTUNREACH,
    "busy": EAGAIN,
    "held-here": EAGAIN,
    "storage": EAGAIN,
    "disk-full": EAGAIN,
    "too-large": ENOSPC,
    "budget": EDQUOT,
    "hops": EPERM,
    "itinerary": EPERM,
    "key-changed": EPERM,
}


def errno_of(code: str) -> int:
    """The WASI number that an agent sees when it was not taken."""
    return _ERRNO.get(code, EACCES)


@frozen
class _Attempt:
    leaving: Leaving
    to: PublicKey


@define(eq=False)
class Departures:
    """The departures of the station with `key`. Times: ms; `patience`: seconds until an attempt is given up."""

    key: SecretKey
    courier: Courier[Any]
    _peers: Peers
    _knowledge: Knowledge
    _images: Images
    _clock: Callable[[], int]
    _random: Callable[[int], bytes]
    _epoch: bytes
    _find: Find
    _deltas: Deltas
    _patience: float = 30.0
    _attempts: dict[bytes, _Attempt] = field(factory=dict)
    _failures: dict[bytes, int] = field(factory=dict)
    _has_image: set[tuple[PublicKey, bytes]] = field(factory=set)
    bytes_out: int = 0

    def leaving(self, hid: bytes) -> Leaving | None:
        """What is being handed over under this id."""
        attempt = self._attempts.get(hid)
        return None if attempt is None else attempt.leaving

    def left(self, record: Record) -> Callable[[], list[Change]]:
        """The commit is durable: what finds out, later, what is to be remembered."""
        attempt = self._attempts.get(record.hid)
        if attempt is None:
            return list
        leaving = attempt.leaving
        self._has_image.add((attempt.to, leaving.papers.passport.body.image))

        def learnt() -> list[Change]:
            known, links = leaving.handed_over(record.receipt, record.commit)
            return [self._knowledge.learn(known, links, leaving.papers.passport.body.expires)]

        return learnt

    def unreachable(self, hid: bytes, reason: str) -> None:
        """An offer did not reach its destination."""
        if hid in self._attempts:
            self._failures[hid] = self._failures.get(hid, 0) + 1
            if self._failures[hid] >= TRIES:
                self.courier.give_up(hid, Refusal("unreachable", reason[:500]))

    async def depart(self, berth: Berth, host: str, state: bytes) -> Refusal | None:
        """Hand the agent over to `host`: a name, a key id, a key, `host:port`, `next` or `home`.

        None when it is gone; or why it is here still. `berth.to` is `host` meanwhile.
        """
        try:
            targets = await self.targets(berth, host)
        except UnknownStation as error:
            return Refusal("unknown-station", str(error))
        except IdentityError as error:
            return Refusal("key-changed", str(error))
        refused = Refusal("itinerary", "the itinerary leads nowhere from here")
        for to in targets:
            if to == self.key.public:
                return Refusal("here", "the agent is here already")
            answer = await self._attempt_well(berth, to, state)
            if answer is None:
                return None
            refused = answer
        return refused

    async def _attempt_well(self, berth: Berth, to: PublicKey, state: bytes) -> Refusal | None:
        """An attempt, and others where the refusal says that another would do."""
        whole, patience = False, HELD_TRIES
        while True:
            answer = await self._attempt(berth, to, state, whole)
            if answer is not None and answer.code == "trail-unknown" and not whole:
                whole = True
            elif answer is not None and answer.code == "held-here" and patience:
                # An attempt of ours that a crash cut short: the destination is asking us about it right now.
                patience -= 1
                await asyncio.sleep(HELD_WAIT)
            else:
                return answer

    async def targets(self, berth: Berth, host: str) -> list[PublicKey]:
        """The stations that `host` may mean, in the order in which to try them."""
        home = berth.papers.passport.body.home
        self._peers.hint(home.station, home.addresses)
        stops = berth.papers.next_stops()
        if host == NEXT:
            found = [stop.station for stop in stops if isinstance(stop, Stop)]
            if not found:
                raise UnknownStation("the itinerary names no next station: name one")
            return list(dict.fromkeys(found))
        if host == HOME:
            return [home.station]
        return [await self._find(host, stops)]

    async def _attempt(self, berth: Berth, to: PublicKey, state: bytes, whole: bool) -> Refusal | None:
        try:
            leaving = self._leave(berth, to, state)
            parts, bodies = self._load(leaving, berth, to, state, whole)
        except CredentialError as error:
            return Refusal(error.code, error.reason)
        hid = leaving.hid
        inline = _inline(parts, bodies, (to, berth.image.digest) in self._has_image)
        for extra, body in self._deltas.shortened(berth.agent, to.raw, state):
            inline = [each for each in inline if parts[each.index].kind != "state"]
            parts.append(extra)
            if body:
                inline.append(Body(len(parts) - 1, body))
        offer = papers.offer_of(leaving, self._epoch, parts, inline, to)
        self._attempts[hid] = _Attempt(leaving, to)
        berth.to = self._peers.label(to)
        try:
            # While it is leaving, nothing changes about it: a checkpoint that is made later is the same.
            stored = functools.partial(checkpoint, berth, state, digest=leaving.point.state)
            refused = await self.courier.depart(Departure(offer, tuple(bodies), self._patience), stored)
        finally:
            self._attempts.pop(hid, None)
            self._failures.pop(hid, None)
        if refused is None:
            self.bytes_out += len(state)
            self._deltas.passed(leaving.point.agent, to.raw, leaving.point.state, state)
        return refused

    def _leave(self, berth: Berth, to: PublicKey, state: bytes) -> Leaving:
        now = max(self._clock(), berth.papers.since)
        position = papers.choose(berth.papers, to, now)
        body, point = berth.papers.passport.body, berth.papers.point
        used = evolve(berth.used, carried=len(state))
        self._check(body.permit.budget, point.used.plus(used))
        if point.index + 1 > body.hops:
            raise CredentialError("hops", f"this would be hop {point.index + 1}, and the passport allows {body.hops}")
        if now > body.expires:
            raise CredentialError("expired", "the agent's passport has expired: launch it anew, for longer")
        berth.papers = papers.with_checkpoint(berth.papers, now, self.key)
        stay = logbook.Stay(
            position=position,
            arrived=berth.papers.since,
            departed=now,
            state=canonical.digest(state),
            results=berth.head,
            used=used,
            cloned=berth.cloned,
        )
        return papers.leave(berth.papers, stay, berth.reports, self.key, to, self._random(NONCE_SIZE))

    @staticmethod
    def _check(budget: Budget, used: Budget) -> None:
        beyond = budget.exceeded_by(used)
        if beyond is not None:
            raise CredentialError("budget", f"the agent would have used more {beyond} than its permit allows")

    def _load(
        self, leaving: Leaving, berth: Berth, to: PublicKey, state: bytes, whole: bool
    ) -> tuple[list[Part], list[Body]]:
        carried = papers.carried(leaving, self._knowledge, to, whole)
        found = self._images.get(berth.image.digest)
        if found is None:
            raise CredentialError("image-missing", "the agent's image is not here any more")
        loads: list[tuple[str, bytes]] = [
            ("passport", berth.papers.passport.envelope),
            ("trail", carried.trail),
            ("results", carried.results),
            ("image", found[1]),
            ("state", state),
        ]
        if carried.checkpoint is not None:
            loads.append(("checkpoint", carried.checkpoint))
        loads += message_parts(list(berth.inbox))
        # Large, and hashed before.
        hashed = {"image": berth.image_part, "state": Part("state", leaving.point.state, len(state))}
        parts = [hashed.get(kind) or part(kind, body) for kind, body in loads]
        return parts, [Body(index, body) for index, (_, body) in enumerate(loads)]


def _inline(parts: list[Part], bodies: list[Body], has_image: bool) -> list[Body]:
    """The bodies that come with the offer: the papers, and all that is small."""
    inline = []
    for each, body in zip(parts, bodies, strict=True):
        if each.kind == "image" and (has_image or each.size > SMALL_IMAGE):
            continue
        if each.size <= INLINE or each.kind in papers.PAPERS:
            inline.append(body)
    return inline
