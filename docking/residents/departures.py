"""How agents depart: which station a name means, what is offered to it, and what comes of that.

Not the handoff's rules (`docking.handoff`), and not the agent's run. Invariants: an agent is offered only to a station
that its itinerary allows next; each attempt has its own visit, signature and handoff id; when `depart` returns None,
the agent durably belongs to another station, and when it returns a refusal, it belongs to this one.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from attrs import define, field, frozen

from agents.credentials import directions, logbook
from agents.credentials.itinerary import Leaf, Position, Stop
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.permit import Budget
from agents.credentials.upgrades import current_image
from agents.errors import CredentialError
from agents.evolve import evolve
from agents.hostcalls import EACCES, EAGAIN, EHOSTUNREACH
from agents.snapshot import Snapshot
from agents.waits import HOME_STOP, NEXT_STOP
from docking.aio.threads import in_thread
from docking.courier import Courier
from docking.errors import IdentityError, UnknownStation
from docking.handoff.actions import Departure, Record
from docking.handoff.messages import NONCE_SIZE, Body, Offer, Part
from docking.handoff.refusal import Refusal
from docking.peers.directory import PeerDirectory
from docking.residents.berth import EDQUOT, ENOSPC, EPERM, Berth
from docking.residents.checkpoints import message_parts, put_checkpoint
from docking.residents.deltas import Deltas
from docking.store.changes import Change
from docking.tracing import Span, TraceContext, Tracing, for_hop
from docking.trust import agent_credentials
from docking.trust.agent_credentials import SignedDeparture, part
from docking.trust.images import Images
from docking.trust.verified_trails import VerifiedTrails

_log = logging.getLogger(__name__)
# Bodies up to this size come with the offer, in bytes. A larger state is sent only once it is wanted.
INLINE_BYTES = 1 << 20
# For a smaller image, asking whether the peer has it takes longer than sending it.
SMALL_IMAGE_BYTES = 8 << 10
# Offers that may fail to reach a peer before `go` fails.
OFFER_TRIES = 2
# Tries, and seconds between them, while the destination still holds an earlier, undecided attempt.
HELD_TRIES, HELD_RETRY_S = 10, 0.5
Find: TypeAlias = "Callable[[str, Sequence[Leaf]], Awaitable[PublicKey]]"
_ERRNO = {
    "unreachable": EHOSTUNREACH,
    "no-answer": EHOSTUNREACH,
    "unknown-station": EHOSTUNREACH,
    "busy": EAGAIN,
    "held-here": EAGAIN,
    "storage": EAGAIN,
    "disk-full": EAGAIN,
    "held": EAGAIN,
    "too-large": ENOSPC,
    "budget": EDQUOT,
    "hops": EPERM,
    "itinerary": EPERM,
    "key-changed": EPERM,
}


def errno_of(code: str) -> int:
    """The WASI error number that an agent gets for a refusal."""
    return _ERRNO.get(code, EACCES)


@frozen
class _Attempt:
    leaving: SignedDeparture
    to: PublicKey
    trace: TraceContext | None = None


@frozen
class Sent:
    """What of an agent is at its destination already. `rest`: the part `blocks`; `size`: bytes of all blocks.

    begun: is told the id of each attempt, before anything of it is sent
    """

    rest: bytes = field(repr=False)
    size: int
    begun: Callable[[bytes], Awaitable[None]] | None = None


@frozen
class Given:
    """Of an agent that was sent ahead and goes now: what is to be offered. `done(left)`: to be called when it has
    gone, or stays.
    """

    state: bytes = field(repr=False)
    sent: Sent
    done: Callable[[bool], None]


@define(eq=False, repr=False)
class Departures:
    """The departures of the station with `key`. Times: ms; `patience_s`: seconds until an attempt is given up."""

    key: SecretKey
    courier: Courier[Any]
    _peers: PeerDirectory
    _trails: VerifiedTrails
    _images: Images
    _clock: Callable[[], int]
    _random: Callable[[int], bytes]
    _epoch: bytes
    _find: Find
    _deltas: Deltas
    _patience_s: float = 30.0
    revoked: Callable[[PublicKey], bool] = lambda key: False
    """Whether the policy knows the key of a station as revoked."""

    _attempts: dict[bytes, _Attempt] = field(factory=dict)
    _failures: dict[bytes, int] = field(factory=dict)
    _has_image: set[tuple[PublicKey, bytes]] = field(factory=set)
    bytes_out: int = 0
    tracing: Tracing = field(factory=Tracing)
    _untraced: set[PublicKey] = field(factory=set)
    """Stations that take no part `trace`."""
    docked: dict[bytes, bytes] = field(factory=dict)
    """The handoffs whose offers may wait at a dock, and their agents."""

    def withdraw(self, agent: bytes) -> bool:
        """Give up the departure of an agent whose offer waits at a dock; whether there is one."""
        found = [hid for hid, each in self.docked.items() if each == agent]
        for hid in found:
            self.courier.give_up(hid, Refusal("no-answer", "its station was not back yet"))
        return bool(found)

    def leaving(self, hid: bytes) -> SignedDeparture | None:
        """What is being handed over under this id."""
        attempt = self._attempts.get(hid)
        return None if attempt is None else attempt.leaving

    def heading(self, agent: bytes) -> PublicKey | None:
        """Where an agent is being offered, if it is."""
        found = [each.to for each in self._attempts.values() if each.leaving.point.agent == agent]
        return found[-1] if found else None

    def left(self, record: Record) -> Callable[[], list[Change]]:
        """The commit is durable. Returns what computes, later, what to remember of it."""
        attempt = self._attempts.get(record.hid)
        if attempt is None:
            return list
        leaving = attempt.leaving
        self._has_image.add((attempt.to, current_image(leaving.credentials.passport.body, leaving.point)))

        def learnt() -> list[Change]:
            known, links = leaving.handed_over(record.receipt, record.commit)
            return [self._trails.learn(known, links, leaving.credentials.terms.expires)]

        return learnt

    def unreachable(self, hid: bytes, reason: str) -> None:
        """An offer did not reach its destination."""
        if hid in self._attempts:
            self._failures[hid] = self._failures.get(hid, 0) + 1
            if self._failures[hid] >= OFFER_TRIES:
                self.courier.give_up(hid, Refusal("unreachable", reason[:500]))

    async def depart(
        self, berth: Berth, host: str, state: bytes, sent: Sent | None = None, docked_s: float = 0.0
    ) -> Refusal | None:
        """Hand the agent over to `host`: a name, a key id, a key, `host:port`, `next` or `home`.

        None when it is gone; or why it is here still. `berth.to` is `host` meanwhile. `sent`: what of the state is at
        its destination already. `docked_s`: seconds for which its offer may wait at a dock; 0 for not at all.
        """
        berth.to = host
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
            try:
                carried = await self._with_task(berth, to, state) if berth.onward else state
            except CredentialError as error:
                refused = Refusal(error.code, error.reason)
                continue
            answer = await self._attempt_well(berth, to, carried, sent, docked_s)
            if answer is None:
                return None
            refused = answer
        return refused

    async def _with_task(self, berth: Berth, to: PublicKey, state: bytes) -> bytes:
        """The state with which an agent goes to a stop for its task there. Raises `CredentialError`."""
        body = berth.credentials.passport.body
        now = max(self._clock(), berth.credentials.since)
        before = self._position(berth, to, now)
        after = body.itinerary.reach(before, to, now, body.home.station)
        stop = body.itinerary.stop(after[0])
        if not isinstance(stop, Stop):
            return state  # recalled
        task = stop.task
        return await in_thread(lambda: Snapshot.decode(state).calling(to.text, task).encode())

    def announcement(self, berth: Berth, to: PublicKey, with_image: bool, whole: bool) -> Offer:
        """An offer without the state, which asks whether the agent would be admitted. `whole`: with all of its trail.

        Raises `CredentialError`.
        """
        leaving = self._leave(berth, to, b"", None)
        parts, bodies = self._load(leaving, berth, to, b"", whole, None)
        kinds = agent_credentials.PAPER_PARTS | ({"image"} if with_image else set())
        inline = [body for body in bodies if parts[body.index].kind in kinds]
        return agent_credentials.offer_of(leaving, self._epoch, parts, inline, to)

    async def _attempt_well(
        self, berth: Berth, to: PublicKey, state: bytes, sent: Sent | None, docked_s: float
    ) -> Refusal | None:
        """An attempt, repeated in another way where the refusal suggests one."""
        whole, patience = bool(docked_s), HELD_TRIES
        while True:
            answer = await self._attempt(berth, to, state, whole, sent, docked_s)
            if answer is not None and answer.code == "trail-unknown" and not whole:
                whole = True
            elif answer is not None and answer.code == "held-here" and patience:
                # A crash interrupted an earlier attempt of ours: the destination is asking about it right now.
                patience -= 1
                await asyncio.sleep(HELD_RETRY_S)
            elif answer is not None and answer.code == "malformed" and berth.trace and to not in self._untraced:
                self._untraced.add(to)  # an earlier release, which knows no part `trace`
            else:
                return answer

    async def targets(self, berth: Berth, host: str) -> list[PublicKey]:
        """The stations that `host` may mean, in the order in which to try them."""
        home = berth.credentials.passport.body.home
        self._peers.hint(home.station, home.addresses)
        stops = berth.credentials.next_stops()
        if host == NEXT_STOP:
            found = [stop.station for stop in stops if isinstance(stop, Stop)]
            if not found:
                credentials = berth.credentials
                itinerary, here = credentials.passport.body.itinerary, credentials.point.holder
                raise UnknownStation(directions.nowhere(itinerary, credentials.positions, here, self._peers.label))
            return list(dict.fromkeys(found))
        if host == HOME_STOP:
            return [home.station]
        return [await self._find(host, stops)]

    async def _attempt(
        self, berth: Berth, to: PublicKey, state: bytes, whole: bool, sent: Sent | None, docked_s: float
    ) -> Refusal | None:
        span = None if berth.trace is None else self._hop(berth, to, state)
        trace = None if to in self._untraced else for_hop(berth.trace, span)
        try:
            leaving = self._leave(berth, to, state, sent)
            parts, bodies = self._load(leaving, berth, to, state, whole, sent, trace)
        except CredentialError as error:
            if span is not None:
                span.end(error.code)
            return Refusal(error.code, error.reason)
        hid = leaving.hid
        refused: Refusal | None = Refusal("failed", "")
        inline = list(bodies) if docked_s else _inline(parts, bodies, (to, berth.image.digest) in self._has_image)
        for extra, body in () if docked_s else self._deltas.shortened(berth.agent, to.raw, state):
            inline = [each for each in inline if parts[each.index].kind != "state"]
            parts.append(extra)
            if body:
                inline.append(Body(len(parts) - 1, body))
        offer = agent_credentials.offer_of(leaving, self._epoch, parts, inline, to)
        self._attempts[hid] = _Attempt(leaving, to, trace)
        berth.to = self._peers.label(to)
        if docked_s:
            self.docked[hid] = berth.agent
        try:
            if sent is not None and sent.begun is not None:
                await sent.begun(hid)
            # Nothing about the agent changes while it is leaving, so a later checkpoint is the same
            # (docs/adr/checkpoints-that-wait).
            # One that is not whole is not stored: a crash falls back to the last that is.
            stored = None
            if sent is None:
                stored = functools.partial(put_checkpoint, berth, state, digest=leaving.point.state)
            refused = await self.courier.depart(Departure(offer, tuple(bodies), docked_s or self._patience_s), stored)
        finally:
            if span is not None:
                span.end("" if refused is None else refused.code)
            self._attempts.pop(hid, None)
            self._failures.pop(hid, None)
            self.docked.pop(hid, None)
        if refused is None:
            self.bytes_out += len(state)
            self._deltas.passed(leaving.point.agent, to.raw, leaving.point.state, state)
        return refused

    def _hop(self, berth: Berth, to: PublicKey, state: bytes) -> Span | None:
        said = {"portcall.hop.to": self._peers.label(to), "portcall.state.size": len(state)}
        return berth.environment.tracing.start("hop", berth.trace, {**berth.traced(), **said}, "CLIENT")

    def phase(self, hid: bytes, name: str) -> Span | None:
        """The span of a message of a handoff: offer, transfer, commit."""
        attempt = self._attempts.get(hid)
        if attempt is None or attempt.trace is None:
            return None
        return self.tracing.start(f"handoff {name.lower()}", attempt.trace, {}, "CLIENT", of_hop=True)

    def _leave(self, berth: Berth, to: PublicKey, state: bytes, sent: Sent | None) -> SignedDeparture:
        if self.revoked(to):
            raise CredentialError("revoked", f"the key of the station {self._peers.label(to)} was revoked here")
        now = max(self._clock(), berth.credentials.since)
        position = self._position(berth, to, now)
        terms, point = berth.credentials.terms, berth.credentials.point
        used = evolve(berth.used, carried=len(state) + (0 if sent is None else sent.size))
        self._check(terms.budget, point.used.plus(used))
        if point.index + 1 > terms.hops:
            raise CredentialError("hops", f"this would be hop {point.index + 1}, and the passport allows {terms.hops}")
        if now > terms.expires:
            raise CredentialError("expired", "the agent's passport has expired: launch it anew, for longer")
        berth.credentials = agent_credentials.with_checkpoint(berth.credentials, now, self.key, self._trails)
        stay = logbook.StayRecord(
            position=position,
            arrived=berth.credentials.since,
            departed=now,
            state=berth.digest_of(state),
            results=berth.head,
            used=used,
            cloned=berth.cloned,
        )
        return agent_credentials.leave(berth.credentials, stay, berth.reports, self.key, to, self._random(NONCE_SIZE))

    def _position(self, berth: Berth, to: PublicKey, now: int) -> Position:
        """Where in its itinerary it leaves from. The error names stations as the agent and operators call them."""
        credentials = berth.credentials
        try:
            return agent_credentials.leaving_position(credentials, to, now)
        except CredentialError as error:
            if error.code != "itinerary" or not credentials.vouched:
                raise
            itinerary, here = credentials.passport.body.itinerary, credentials.point.holder
            label = self._peers.label
            asked = label(to) if berth.to in (NEXT_STOP, HOME_STOP) else berth.to
            said = directions.refusal(itinerary, credentials.positions, here, to, asked, label)
            raise CredentialError(error.code, said) from error

    @staticmethod
    def _check(budget: Budget, used: Budget) -> None:
        beyond = budget.exceeded_by(used)
        if beyond is not None:
            raise CredentialError("budget", f"the agent would have used more {beyond} than its permit allows")

    def _load(
        self,
        leaving: SignedDeparture,
        berth: Berth,
        to: PublicKey,
        state: bytes,
        whole: bool,
        sent: Sent | None,
        trace: TraceContext | None = None,
    ) -> tuple[list[Part], list[Body]]:
        carried = agent_credentials.parts_for(leaving, self._trails, to, whole)
        found = self._images.get(berth.image.digest)
        if found is None:
            raise CredentialError("image-missing", "the agent's image is not here any more")
        loads: list[tuple[str, bytes]] = [
            ("passport", berth.credentials.passport.envelope),
            ("trail", carried.trail),
            ("results", carried.results),
            ("image", found[1]),
            ("state", state),
        ]
        if carried.checkpoint is not None:
            loads.append(("checkpoint", carried.checkpoint))
        amendments = berth.credentials.amendments.encode()
        if amendments is not None:
            loads.append(("amendments", amendments))
        loads += message_parts(berth)
        if trace is not None:
            loads.append(("trace", trace.encode()))
        if sent is not None:
            loads.append(("blocks", sent.rest))
        # Large, and already hashed.
        hashed = {"image": berth.image_part, "state": Part("state", leaving.point.state, len(state))}
        parts = [hashed.get(kind) or part(kind, body) for kind, body in loads]
        return parts, [Body(index, body) for index, (_, body) in enumerate(loads)]


def _inline(parts: list[Part], bodies: list[Body], has_image: bool) -> list[Body]:
    """The bodies that come with the offer: credentials, and everything small."""
    inline = []
    for each, body in zip(parts, bodies, strict=True):
        if each.kind == "image" and (has_image or each.size > SMALL_IMAGE_BYTES):
            continue
        # What comes last of an agent that was sent ahead: it was admitted, and stands still.
        if each.size <= INLINE_BYTES or each.kind in agent_credentials.PAPER_PARTS or each.kind == "blocks":
            inline.append(body)
    return inline
