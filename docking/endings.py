"""The end of a journey: the last visit, signed, and all that goes home with it.

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
from agents.credentials.trailpoint import begin
from agents.credentials.visits import Head
from agents.errors import CredentialError, NotCanonical
from docking import papers, resting
from docking.berth import Berth
from docking.changes import Change, Letter, Link
from docking.knowledge import Knowledge, Known, Mark
from docking.mailbox import Mailbox
from docking.papers import Leaving
from docking.register import Register, sayable

# A letter is tried for this long (ms) after the passport expired: home may be switched off over a holiday.
GRACE = 30 * 86_400_000
_BOUNDS = canonical.Bounds(max_bytes=1 << 28, max_depth=6, max_items=2_000_000)


@define(eq=False)
class Endings:
    """Ends journeys at the station with `key`. `clock`: ms."""

    _key: SecretKey
    _knowledge: Knowledge
    _register: Register
    _clock: Callable[[], int]

    def changes(self, berth: Berth, standing: str, said: str) -> list[Change]:
        """What to write when the journey of this agent ends here. Raises `CredentialError`."""
        own = berth.papers
        state = own.point.state
        if isinstance(berth.saved, resting.Saved):
            state = berth.saved.state.digest
        stay = logbook.Stay(
            position=papers.ending_position(own),
            arrived=own.since,
            departed=max(self._clock(), own.since),
            state=state,
            results=berth.head,
            used=berth.used,
            cloned=berth.cloned,
        )
        leaving = papers.leave(own, stay, berth.reports, self._key, None)
        body = own.passport.body
        last = Link(leaving.point.head, own.point.head, leaving.visit.envelope)
        known = Known(leaving.point, own.marks, own.checkpoint)
        learned = self._knowledge.learn(known, [last, *leaving.entries], body.expires)
        home = body.home.station
        if home == self._key.public:
            capsule = papers.last_capsule(leaving, self._knowledge, None)
            return [learned, self._register.closed(leaving, capsule, standing, said)]
        mark = own.marks.get(home)
        return [learned, self.letter(leaving, mark, standing, said)]

    def letter(self, leaving: Leaving, mark: Mark | None, standing: str, said: str) -> Change:
        """The letter that tells home. `mark`: what home knows; None for everything."""
        body = leaving.papers.passport.body
        capsule = papers.last_capsule(leaving, self._knowledge, mark)
        ident = identify("ending", leaving.point.agent, leaving.point.index, mark is None)
        value = [capsule.encode(), standing, sayable(said)]
        return Mailbox.posted(body.home.station, "ended", ident, value, body.expires + GRACE)

    def again(self, letter: Letter) -> list[Change]:
        """Home has forgotten the beginning of the trail: the letter again, with all of it; nothing if that was said."""
        try:
            ident, (data, standing, said) = canonical.decode(letter.body, _BOUNDS)
            capsule = Capsule.decode(data)
        except (NotCanonical, CredentialError, ValueError, TypeError):
            return []
        if capsule.trail.start == 0:
            return []
        passport = verify_passport(capsule.passport)
        start = begin(passport).head
        trail = Trail((*self._knowledge.trail(capsule.trail.head, start), *capsule.trail.links))
        before = Head(capsule.results.start - 1, capsule.results.head)
        results = Results((*self._knowledge.results(before, None), *capsule.results.entries))
        whole = evolve(capsule, trail=trail, results=results)
        value = [whole.encode(), standing, said]
        return [Mailbox.posted(PublicKey(letter.recipient), "ended", ident, value, letter.expires)]
