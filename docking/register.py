"""The register of a home: the agents that were launched here, where they were last heard of, how their journeys ended.

What other stations tell is their word: it shows where to ask, and decides nothing. The end of a journey is believed
only as far as its trail and results verify. Invariant: a journey that is over has a whole trail, back to the launch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.capsule import Capsule
from agents.credentials import results as reports
from agents.credentials.envelope import Signed
from agents.credentials.fields import array, byte_string, text, uint
from agents.credentials.keys import PublicKey
from agents.credentials.passport import Passport, verify_passport
from agents.credentials.results import Results, verify_results
from agents.credentials.trail import Followed, Trail, verify_trail
from agents.credentials.trailpoint import Phase, TrailPoint, begin
from agents.errors import CredentialError, NotCanonical
from docking.changes import Change, Link, PutJourney
from docking.knowledge import Knowledge, Known, moved_on, result_links, trail_links
from docking.papers import Leaving
from docking.store import Store

MAX_TEXT = 1000
# Journeys that are over stay this long after the passport expired (ms), for whoever asks later.
KEEP = 30 * 24 * 3600 * 1000
# Journeys whose newest state is at hand: more than are changed within one write.
NEWEST = 4096
_BOUNDS = canonical.Bounds(max_bytes=64 << 10, max_depth=3, max_items=64)
TRAVELLING, FINISHED, STOPPED, DISPOSED = "travelling", "finished", "stopped", "disposed"


@frozen
class Journey:
    """What a home knows of one agent. Times: ms; `place`: the station where it was last; `text`: how it ended."""

    agent: bytes
    passport: bytes = field(repr=False)
    label: str
    owner: PublicKey
    expires: int
    launched: int
    place: PublicKey
    hop: int = 0
    standing: str = TRAVELLING
    changed: int = 0
    text: str = ""

    def encode(self) -> bytes:
        """As bytes, for the store."""
        return canonical.encode(
            [
                *(self.agent, self.passport, self.label, self.owner.raw, self.expires, self.launched),
                *(self.place.raw, self.hop, self.standing, self.changed, self.text),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Journey:
        """The inverse of `encode`. Raises `CredentialError`: the store is damaged."""
        try:
            agent, passport, label, owner, expires, launched, place, hop, standing, changed, said = array(
                canonical.decode(data, _BOUNDS), "journey", 11
            )
        except (NotCanonical, ValueError) as error:
            raise CredentialError("journey", f"what the store says of a journey cannot be read: {error}") from error
        return cls(
            agent, passport, label, PublicKey(owner), expires, launched, PublicKey(place), hop, standing, changed, said
        )


@frozen
class Judged:
    """The end of a journey, verified as far as it was sent: its passport, and where its trail leads."""

    capsule: Capsule
    passport: Signed[Passport]
    followed: Followed


def sayable(said: str) -> str:
    """A text of at most `MAX_TEXT` printable bytes."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in said[:MAX_TEXT])
    return shown.encode()[:MAX_TEXT].decode("utf-8", "ignore")


def check_said(said: object) -> None:
    """A text that another station gives, perhaps empty. Raises `CredentialError`."""
    if said != "":
        text(said, "text", MAX_TEXT)


@define(eq=False)
class Register:
    """The journeys of the station `here`. `clock`: ms."""

    here: PublicKey
    _store: Store
    _knowledge: Knowledge
    _clock: Callable[[], int]
    # What was made of a journey last, and is perhaps not written yet: what comes next must build on it, or a word that
    # was read before the end of a journey would be written after it, and the journey would never be over.
    _newest: OrderedDict[bytes, Journey] = field(factory=OrderedDict, repr=False)

    def all(self) -> list[Journey]:
        """All journeys, the latest launched last."""
        found = [Journey.decode(record) for _, record in self._store.journeys()]
        return sorted(found, key=lambda journey: (journey.launched, journey.agent))

    def get(self, agent: bytes) -> Journey | None:
        """What is known of an agent."""
        found = self._store.journey(agent)
        return None if found is None else Journey.decode(found[0])

    def capsule(self, agent: bytes) -> Capsule | None:
        """Trail and results of a journey that is over, for the audit."""
        found = self._store.journey(agent)
        return None if found is None or not found[1] else Capsule.decode(found[1])

    def opened(self, agent: bytes, passport: Signed[Passport], place: PublicKey) -> PutJourney:
        """An agent, or a clone of one, begins."""
        body, now = passport.body, self._clock()
        return self._put(Journey(agent, passport.digest, body.label, body.owner, body.expires, now, place, changed=now))

    def told(self, sender: PublicKey, word: Any) -> PutJourney | None:
        """A station says that an agent is at its place. None if that is no news, or of no agent of ours."""
        agent, passport, hop, standing, said = array(word, "word", 5)
        byte_string(agent, "agent", 32)
        uint(hop, "hop")
        if standing not in (TRAVELLING, STOPPED):
            # The end of a journey is told with its trail and results, or not at all.
            raise CredentialError("malformed", "a word says that an agent travels, or that it was stopped")
        check_said(said)
        journey = self._last(agent)
        if journey is None or journey.passport != passport or journey.standing in (FINISHED, DISPOSED):
            return None
        if hop < journey.hop or (sender != journey.place and hop == journey.hop):
            return None
        return self._put(evolve(journey, place=sender, hop=hop, standing=standing, changed=self._clock(), text=said))

    def word(self, agent: bytes, passport: bytes, hop: int, standing: str, said: str) -> list[Any]:
        """What `told` reads."""
        return [agent, passport, hop, standing, sayable(said)]

    def closed(self, leaving: Leaving, capsule: Capsule, standing: str, said: str) -> PutJourney:
        """A journey ended here, at home. `capsule`: whole."""
        return self._put(self._over(leaving.papers.passport, leaving.point, standing, said), capsule.encode())

    def judge(self, data: bytes, place: PublicKey) -> Judged:
        """What a station sends as the end of a journey, verified: thousands of signatures, perhaps. From any thread.

        Raises `CredentialError`; the code `trail-unknown` asks for the trail from its beginning.
        """
        capsule = Capsule.decode(data, len(data))
        passport = verify_passport(capsule.passport)
        if passport.body.home.station != self.here:
            raise CredentialError("not-home", "this is not the home of that agent")
        followed = verify_trail(capsule.trail, passport, self._knowledge, capsule.checkpoint)
        verify_results(capsule.results, passport, followed)
        if followed.point.phase is not Phase.ENDED or followed.point.source != place:
            raise CredentialError("trail-order", "the trail does not end at the station that sends it")
        return Judged(capsule, passport, followed)

    def ended(self, judged: Judged, standing: str, said: str) -> tuple[Journey, list[Change]]:
        """The end of a journey that was judged. Raises `CredentialError` if its beginning is not here any more."""
        capsule, passport, followed = judged.capsule, judged.passport, judged.followed
        start, point = followed.start, followed.point
        new = [Link(*link) for link in trail_links(followed.steps, point)]
        entries = result_links(capsule.results.entries, start.results)
        links = self._knowledge.trail(start.head, begin(passport).head)
        reported = [] if start.results is None else self._knowledge.results(start.results, None)
        whole = Capsule(
            passport=capsule.passport,
            trail=Trail((*links, *(link.body for link in new))),
            results=Results((*reported, *(entry.body for entry in entries))),
            image=passport.body.image,
            state=point.state,
        )
        known = Known(point, moved_on({}, followed.steps, point))
        learned = self._knowledge.learn(known, [*new, *entries], passport.body.expires)
        journey = self._over(passport, point, standing, said)
        return journey, [learned, self._put(journey, whole.encode())]

    def _over(self, passport: Signed[Passport], point: TrailPoint, standing: str, said: str) -> Journey:
        old, now = self._last(point.agent), self._clock()
        return Journey(
            agent=point.agent,
            passport=passport.digest,
            label=passport.body.label,
            owner=passport.body.owner,
            expires=passport.body.expires,
            launched=now if old is None else old.launched,
            place=point.source,
            hop=point.index - 1,
            standing=standing,
            changed=now,
            text=sayable(said),
        )

    def _last(self, agent: bytes) -> Journey | None:
        return self._newest.get(agent) or self.get(agent)

    def _put(self, journey: Journey, capsule: bytes | None = None) -> PutJourney:
        self._newest[journey.agent] = journey
        self._newest.move_to_end(journey.agent)
        if len(self._newest) > NEWEST:
            self._newest.popitem(last=False)
        return PutJourney(journey.agent, journey.expires + KEEP, journey.encode(), capsule)


def open_reports(capsule: Capsule, secret: bytes) -> list[reports.Report]:
    """What the agent reported, opened with the owner's X25519 key. Raises `CredentialError`."""
    return list(reports.open_results(capsule.results.entries[1:], secret))
