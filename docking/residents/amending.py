"""Amendments on their way to an agent, and what they do to it: more budget, more time.

An amendment (`agents.credentials.amendments`) is signed by the agent's owner or home, so that whoever brings it need
not be trusted: it follows the agent like an order, and every copy of it counts once. Not here: what it changes
(`Amendments.terms`), and when an agent's time is over (`docking.residents.leases`).

Invariants: an amendment is durable with its agent before it is answered "taken", and counts only from then on; it never
gives an agent more than the policy here grants.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

from attrs import define, evolve, field

from agents.credentials import envelope
from agents.credentials.amendments import (
    MAX_AMENDMENT_BYTES,
    Amendment,
    Lease,
    Terms,
    TopUp,
    descends,
    verify_amendment,
)
from agents.credentials.amendments import Change as Amended
from agents.credentials.envelope import Signed, identify
from agents.credentials.fields import array, byte_string, uint
from agents.credentials.passport import Passport, verify_passport
from agents.errors import CredentialError
from docking.errors import StationError, UnknownAgent
from docking.letters.journeys import OVER, JourneyStanding
from docking.letters.orders import OrderOutcome
from docking.letters.outbox import LetterAnswer, LetterKind, Outbox
from docking.residents import checkpoints
from docking.residents.berth import Berth, Standing
from docking.residents.post import later, refused
from docking.residents.queries import Queries
from docking.residents.residents import Residents
from docking.residents.review import Review
from docking.store.changes import Change, Prolong
from docking.trust.verified_trails import VerifiedTrail

# How long (ms) an amendment follows its agent, and how often it is passed on.
FOLLOWED_MS = 7 * 86_400_000
MAX_STEPS = 256
Acceptable = Callable[[Berth, Amended], Awaitable[None]]
TAKEN: list[object] = [LetterAnswer.TAKEN.value]


class Busy(StationError):
    """The agent cannot be given an amendment in this moment."""


@define(eq=False, repr=False)
class Amending:
    """Amendments for the agents that are `here`, and for those that were launched here."""

    _here: Residents
    _queries: Queries
    _review: Review
    go_on: Callable[[Berth], Awaitable[None]] = field(init=False)
    """Has an agent go on that stopped because its budget was used up, if it has some now."""

    acceptable: dict[str, Acceptable] = field(factory=dict, repr=False)
    """By kind: raises `CredentialError` where an agent that is here cannot take this, before anything is written."""

    applied: list[Callable[[Berth, Amended, Terms], None]] = field(factory=list, repr=False)
    """Told, when it is durable, of what was changed about an agent here, and of its terms before that."""

    async def amend(self, data: bytes) -> OrderOutcome:
        """Bring an amendment to its agent; what became of it. Raises `CredentialError`, `StationError`."""
        if self._here.failure:
            raise StationError(f"the station cannot go on: {self._here.failure}")
        agent = self.agent_of(data)
        berth = self._here.berths.get(agent)
        if berth is not None:
            await self._apply(berth, data)
            return OrderOutcome.OBEYED
        if agent in self._queries.kept:
            raise StationError(f"the agent is kept here, and cannot be taken up: {self._queries.kept[agent].why}")
        if agent in self._queries.undecided():
            raise StationError("where this agent lives is to be decided first: portcall agents says how")
        journey = self._queries.journey(agent)
        if journey is None:
            raise UnknownAgent("this agent is not here, and was not launched here")
        if journey.standing in (*OVER, JourneyStanding.PURGED):
            raise StationError(f"the agent's journey is over: {journey.standing}")
        changes = self._at_home(agent, data)
        to = self._queries.where(agent) or journey.place
        self._here.catch_up()
        await self._here.journal.write([*changes, self._letter(to, data, 0)], True)
        self._here.outbox.nudge()
        return OrderOutcome.SENT

    @staticmethod
    def agent_of(data: bytes) -> bytes:
        """The id of the agent that an amendment is for. Raises `CredentialError`."""
        return _read(data).body.agent

    async def receive(self, content: object) -> list[object]:
        """A letter with an amendment; returns the answer."""
        data, steps = array(content, "amendment", 2)
        agent = self.agent_of(byte_string(data, "amendment", 1, MAX_AMENDMENT_BYTES))
        passed = uint(steps, "steps", 2**16) + 1
        berth = self._here.berths.get(agent)
        if berth is not None:
            try:
                await self._apply(berth, data)
            except Busy as busy:
                return later(str(busy))
            return TAKEN
        if agent in self._queries.kept or self._queries.arriving(agent):
            return later("the agent is kept here, or is about to arrive")
        journey = self._queries.journey(agent)
        if journey is not None and journey.standing in (*OVER, JourneyStanding.PURGED):
            return refused("ended", "the agent's journey is over")
        to = self._queries.where(agent)
        if to is None:
            return refused("unknown-agent", "this agent is not here, and was not")
        if passed > MAX_STEPS:
            return later("the amendment was passed on too often: it waits here for the agent")
        changes = [] if journey is None else self._at_home(agent, data)
        await self._here.journal.write([*changes, self._letter(to, data, passed)], True)
        self._here.outbox.nudge()
        return TAKEN

    def _letter(self, to: object, data: bytes, steps: int) -> Change:
        ident = identify("amendment", _read(data).digest)
        until = self._here.clocks.now() + FOLLOWED_MS
        return Outbox.posted(to, LetterKind.AMEND, ident, [data, steps], until)  # type: ignore[arg-type]

    def _at_home(self, agent: bytes, data: bytes) -> list[Change]:
        """Verify what goes to an agent that was launched here, and remember it for as long as it may live then."""
        journey = self._queries.journey(agent)
        record = None if journey is None else self._here.store.part(journey.passport)
        if record is None:
            return []
        passport = verify_passport(record)
        signed = verify_amendment(data, passport)
        _check_family(signed, passport.body, agent)
        if isinstance(signed.body.change, TopUp):  # it goes on, or its station says again that it does not
            going = self._here.journeys.topped_up(agent)
            return [] if going is None else [going]
        if not _prolongs(signed, passport.body):
            return []
        assert isinstance(signed.body.change, Lease)
        until = signed.body.change.until
        known = self._here.store.last_point(agent)
        heads: tuple[bytes, ...] = ()
        if known is not None:
            point = VerifiedTrail.decode(known).point
            heads = (point.head,) if point.results is None else (point.head, point.results.digest)
        put = self._here.journeys.prolonged(agent, until)
        return [Prolong(agent, heads, until), *([] if put is None else [put])]

    async def _apply(self, berth: Berth, data: bytes) -> None:
        """Change what holds for an agent that is here. Raises `Busy`, `CredentialError`, `StoreError`."""
        own = berth.credentials
        signed = verify_amendment(data, own.passport)
        _check_family(signed, own.passport.body, berth.agent)
        if berth.standing is Standing.LEAVING:
            raise Busy("the agent is leaving: try again")
        if own.amendments.plus(signed) == own.amendments:
            return  # it has this one, or one that says more; what it has is durable
        accept = self.acceptable.get(signed.body.change.KIND)
        if accept is not None:
            await accept(berth, signed.body.change)
        await self._store(berth, signed)

    async def _store(self, berth: Berth, signed: Signed[Amendment]) -> None:
        here = self._here
        if here.berths.get(berth.agent) is not berth or berth.standing is Standing.LEAVING:
            raise Busy("the agent is leaving: try again")
        before, old = berth.credentials.amendments, berth.credentials.terms
        amended = before.plus(signed)
        berth.credentials = evolve(berth.credentials, amendments=amended)
        try:
            now = berth.credentials.terms
            changes: list[Change] = [checkpoints.with_mail(berth)]
            if now.expires > old.expires:
                heads = berth.credentials.point.head, berth.credentials.results.digest
                changes.append(Prolong(berth.agent, heads, now.expires))
                home = berth.credentials.passport.body.home.station
                if home != here.key.public:  # which keeps what it has verified only as long as it must
                    changes.append(self._letter(home, signed.envelope, 0))
                elif (put := here.journeys.prolonged(berth.agent, now.expires)) is not None:
                    changes.append(put)
            here.catch_up()
            await here.journal.write(changes, True)
        except BaseException:
            if berth.credentials.amendments is amended:
                berth.credentials = evolve(berth.credentials, amendments=before)
            raise
        here.outbox.nudge()
        if here.closing or here.berths.get(berth.agent) is not berth:
            return
        said = describe(signed.body.change)
        berth.remark(said)
        here.tell("amended", berth.agent, text=said)
        berth.warned, berth.spent_said = {}, False
        self._review.judge(berth)
        for applied in self.applied:
            applied(berth, signed.body.change, old)
        if berth.spent:
            await self.go_on(berth)
        elif berth.running and berth.credentials.terms.budget.memory > old.budget.memory:
            berth.interrupt()  # its next instance may have more

    def not_taken(self, data: bytes, place: str, reason: str) -> None:
        """An amendment was refused elsewhere: say so here."""
        body = _read(data).body
        self._here.tell("refused", body.agent, place=place, text=f"{body.change.KIND}: {reason}")


def describe(change: Amended) -> str:
    """What an amendment changes, for people."""
    if isinstance(change, Lease):
        return f"lease: it may live until {_time(change.until)}"
    assert isinstance(change, TopUp)
    more = change.budget
    amounts = (
        (more.cpu, f"{more.cpu / 1e6:g} s of processor time"),
        (more.memory, f"{more.memory >> 10} KiB of memory"),
        (more.carried, f"{more.carried >> 10} KiB carried"),
        (more.messages, f"{more.messages} messages"),
        (change.hops, f"{change.hops} hops"),
    )
    return "top-up: " + ", ".join(text for amount, text in amounts if amount) + " more"


def _time(ms: int) -> str:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


# The statement that a letter brings, verified by itself only.
@functools.lru_cache(maxsize=64)
def _read(data: bytes) -> Signed[Amendment]:
    return envelope.verify(Amendment, data)


def _check_family(signed: Signed[Amendment], passport: Passport, agent: bytes) -> None:
    if not descends(passport, agent, signed.body.agent):
        raise CredentialError("amendment", "an amendment that is for another agent")


def _prolongs(signed: Signed[Amendment], passport: Passport) -> bool:
    change = signed.body.change
    return isinstance(change, Lease) and signed.signer == passport.owner and change.until > passport.expires
