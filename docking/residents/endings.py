"""How journeys end: the last visit is signed, and trail and results go home.

Invariant: an agent that ended leaves a whole trail and all its results at its home, or in a letter on the way there.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve

from agents import canonical
from agents.capsule import Capsule
from agents.credentials import logbook
from agents.credentials.envelope import identify
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import verify_passport
from agents.credentials.results import Results
from agents.credentials.trail import Trail
from agents.credentials.trailpoint import launch_point
from agents.credentials.visits import Head
from agents.errors import CredentialError, NotCanonical
from docking.letters.journeys import Journeys, JourneyStanding, sayable
from docking.letters.outbox import LetterKind, Outbox
from docking.residents import checkpoints
from docking.residents.berth import Berth
from docking.store.changes import Change, Letter, Link
from docking.trust import agent_credentials
from docking.trust.agent_credentials import SignedDeparture
from docking.trust.verified_trails import KnownUpTo, VerifiedTrail, VerifiedTrails

# How long (ms) after the passport expired a letter is still repeated: home may be switched off over a holiday.
GRACE_MS = 30 * 86_400_000
_BOUNDS = canonical.DecodeBounds(max_bytes=1 << 28, max_depth=6, max_items=2_000_000)


@define(eq=False, repr=False)
class Endings:
    """Ends journeys at the station with `key`. `clock`: ms."""

    _key: SecretKey
    _trails: VerifiedTrails
    _journeys: Journeys
    _clock: Callable[[], int]

    def changes(self, berth: Berth, standing: JourneyStanding, said: str) -> list[Change]:
        """What to write when this agent's journey ends here. Raises `CredentialError`."""
        own = berth.credentials
        state = own.point.state
        if isinstance(berth.saved, checkpoints.StoredState):
            state = berth.saved.state.digest
        stay = logbook.StayRecord(
            position=agent_credentials.ending_position(own),
            arrived=own.since,
            departed=max(self._clock(), own.since),
            state=state,
            results=berth.head,
            used=berth.used,
            cloned=berth.cloned,
        )
        leaving = agent_credentials.leave(own, stay, berth.reports, self._key, None)
        body = own.passport.body
        last = Link(leaving.point.head, own.point.head, leaving.visit.envelope)
        known = VerifiedTrail(leaving.point, own.marks, own.checkpoint, own.amendments.encode())
        learned = self._trails.learn(known, [last, *leaving.entries], own.terms.expires)
        home = body.home.station
        if home == self._key.public:
            capsule = agent_credentials.last_capsule(leaving, self._trails, None)
            return [learned, self._journeys.closed(leaving, capsule, standing, said)]
        mark = own.marks.get(home)
        return [learned, self.letter(leaving, mark, standing, said)]

    def letter(self, leaving: SignedDeparture, mark: KnownUpTo | None, standing: JourneyStanding, said: str) -> Change:
        """The letter to the agent's home. `mark`: what home knows of the trail; None sends everything."""
        body = leaving.credentials.passport.body
        capsule = agent_credentials.last_capsule(leaving, self._trails, mark)
        ident = identify("ending", leaving.point.agent, leaving.point.index, mark is None)
        value = [capsule.encode(), standing.value, sayable(said)]
        expires = leaving.credentials.terms.expires + GRACE_MS
        return Outbox.posted(body.home.station, LetterKind.ENDED, ident, value, expires)

    def again(self, letter: Letter) -> list[Change]:
        """Home has forgotten the beginning of the trail: the letter with the whole trail, or nothing if that was sent
        already.
        """
        try:
            ident, (data, standing, said) = canonical.decode(letter.body, _BOUNDS)
            capsule = Capsule.decode(data)
        except (NotCanonical, CredentialError, ValueError, TypeError):
            return []
        if capsule.trail.start == 0:
            return []
        passport = verify_passport(capsule.passport)
        start = launch_point(passport).head
        trail = Trail((*self._trails.trail(capsule.trail.head, start), *capsule.trail.links))
        before = Head(capsule.results.start - 1, capsule.results.head)
        results = Results((*self._trails.results(before, None), *capsule.results.entries))
        whole = evolve(capsule, trail=trail, results=results)
        value = [whole.encode(), standing, said]
        return [Outbox.posted(PublicKey(letter.recipient), LetterKind.ENDED, ident, value, letter.expires)]
