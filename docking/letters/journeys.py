"""The register of a home: the agents launched here, their last known stations, and how their journeys ended.

A report from another station is a hint where to ask, and decides nothing. The end of a journey counts only as far as
its trail and results verify. Invariant: a journey that is over has a complete trail, back to the launch.
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections import OrderedDict
from collections.abc import Callable, Container

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.brief import brief
from agents.capsule import Capsule
from agents.credentials import envelope
from agents.credentials import results as reports
from agents.credentials.amendments import NONE, Amendments
from agents.credentials.envelope import STATEMENT_BOUNDS, Signed
from agents.credentials.fields import AMOUNT, array, byte_string, text, uint
from agents.credentials.keys import PublicKey, text_of
from agents.credentials.passport import Passport, verify_passport
from agents.credentials.results import Results, verify_results
from agents.credentials.trail import Followed, Trail, verify_trail
from agents.credentials.trailpoint import Phase, TrailPoint, launch_point
from agents.credentials.upgrades import current_image
from agents.errors import CredentialError, NotCanonical
from docking.store.changes import Change, Link, PutJourney
from docking.store.store import Store
from docking.trust.agent_credentials import SignedDeparture
from docking.trust.labels import label_of, number_of
from docking.trust.verified_trails import VerifiedTrail, VerifiedTrails, moved_on, result_links, trail_links

_log = logging.getLogger(__name__)
MAX_NOTE_BYTES = 1000
# Journeys that are over are kept for this long after the passport expired (ms), for later questions.
KEEP_MS = 30 * 24 * 3600 * 1000
# Journeys whose newest state is cached: more than one write can change.
MAX_NEWEST = 4096
_BOUNDS = canonical.DecodeBounds(max_bytes=64 << 10, max_depth=3, max_items=64)


class JourneyStanding(str, enum.Enum):
    """How a journey stands, as its home knows. Each is also the word that is stored and sent."""

    TRAVELLING = "travelling"
    FINISHED = "finished"
    """It ended normally; `Journey.text` is the exit code."""
    STOPPED = "stopped"
    """It trapped or used up its budget. It is kept where it stopped."""
    DISPOSED = "disposed"
    """Ended by an order."""
    PURGED = "purged"
    """It was over, and is forgotten but for its id: nobody can launch it again."""

    __str__ = str.__str__


TOP_IT_UP = "it goes on when its owner gives it more (portcall top-up)"
"""What is said of an agent whose budget is used up."""
OVER = (JourneyStanding.FINISHED, JourneyStanding.DISPOSED)
"""The final standings."""


@frozen
class Journey:
    """What a home knows about one agent. Times: ms; `place`: its last known station; `text`: how it ended;
    `image`: the digest of its image, where it is known to have got another one than its passport names.
    """

    agent: bytes
    passport: bytes = field(repr=False)
    label: str
    owner: PublicKey
    expires: int
    launched: int
    place: PublicKey
    hop: int = 0
    standing: JourneyStanding = JourneyStanding.TRAVELLING
    changed: int = 0
    text: str = ""
    image: bytes = b""

    def encode(self) -> bytes:
        """As bytes, for the store."""
        return canonical.encode(
            [
                *(self.agent, self.passport, self.label, self.owner.raw, self.expires, self.launched),
                *(self.place.raw, self.hop, self.standing.value, self.changed, self.text),
                *((self.image,) if self.image else ()),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Journey:
        """The inverse of `encode`. Raises `CredentialError`: the store is damaged."""
        try:
            agent, passport, label, owner, expires, launched, place, hop, standing, changed, said, *image = array(
                canonical.decode(data, _BOUNDS), "journey", 12
            )
            numbers = [uint(each, "number", AMOUNT) for each in (expires, launched, hop, changed)]
            if not isinstance(label, str) or not isinstance(said, str):
                raise ValueError("a text is none")
            return cls(
                agent=byte_string(agent, "agent", 32),
                passport=byte_string(passport, "passport", 32),
                label=label,
                owner=PublicKey(owner),
                expires=numbers[0],
                launched=numbers[1],
                place=PublicKey(place),
                hop=numbers[2],
                standing=JourneyStanding(standing),
                changed=numbers[3],
                text=said,
                image=byte_string(image[0], "image", 32) if image else b"",
            )
        except (NotCanonical, CredentialError, ValueError, TypeError) as error:
            raise CredentialError("journey", f"what the store says of a journey cannot be read: {error}") from error


@frozen
class VerifiedEnd:
    """The end of a journey, of which all that was sent is verified: its passport, and where its trail leads."""

    capsule: Capsule
    passport: Signed[Passport]
    followed: Followed
    amendments: Amendments = NONE


def sayable(said: str) -> str:
    """`text` cut down to at most `MAX_NOTE_BYTES` printable bytes."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in said[:MAX_NOTE_BYTES])
    return shown.encode()[:MAX_NOTE_BYTES].decode("utf-8", "ignore")


def check_said(said: object) -> None:
    """Check a text, perhaps empty, from another station. Raises `CredentialError`."""
    if said != "":
        text(said, "text", MAX_NOTE_BYTES)


@define(eq=False, repr=False)
class Journeys:
    """The journeys of the station `here`. `clock`: ms."""

    here: PublicKey
    _store: Store
    _trails: VerifiedTrails
    _clock: Callable[[], int]
    # The newest state of each journey, perhaps not written yet. The next change must build on it: otherwise a word read
    # before the end of a journey could be written after it, and the journey would never be over.
    _newest: OrderedDict[bytes, Journey] = field(factory=OrderedDict, repr=False)
    leased: dict[bytes, int] = field(factory=dict, repr=brief)
    """The agents with a lease whose journeys were opened since the start, or found by `find_leased`, and when their
    passports expire (ms)."""

    def all(self, without: Container[bytes] = ()) -> list[Journey]:
        """All journeys, the latest launched last; without those that were damaged in the store. From any thread.

        without: agents whose journeys are not asked for
        """
        found = []
        for agent, record in self._store.journeys():
            if agent in without:
                continue
            try:
                found.append(Journey.decode(record))
            except CredentialError as error:
                _log.error("%s", error, extra={"agent": text_of(agent)})
        found = [journey for journey in found if journey.standing is not JourneyStanding.PURGED]
        return sorted(found, key=lambda journey: (journey.launched, journey.agent))

    def find_leased(self) -> None:
        """Look through all journeys in the store for those of agents with a lease. From any thread, once a start."""
        for journey in self.all():
            record = None if journey.standing in OVER else self._store.part(journey.passport)
            if record is not None:
                with contextlib.suppress(CredentialError):  # damaged: whoever verifies it says so
                    payload = envelope.peek(record).payload
                    body = Passport.from_payload(envelope.decode_signed(payload, STATEMENT_BOUNDS, Passport.KIND))
                    self._note_lease(journey.agent, body)

    def _note_lease(self, agent: bytes, body: Passport) -> None:
        if body.lease:
            self.leased[agent] = body.expires

    def get(self, agent: bytes) -> Journey | None:
        """The journey of an agent, or None."""
        found = self._store.journey(agent)
        return None if found is None else Journey.decode(found[0])

    def capsule(self, agent: bytes) -> Capsule | None:
        """Trail and results of a journey that is over, for the audit."""
        found = self._store.journey(agent)
        return None if found is None or not found[1] else Capsule.decode(found[1])

    def opened(self, agent: bytes, passport: Signed[Passport], place: PublicKey) -> PutJourney:
        """Open the journey of an agent, or of a clone."""
        body, now = passport.body, self._clock()
        label = label_of(body, agent)
        self._note_lease(agent, body)
        return self._put(Journey(agent, passport.digest, label, body.owner, body.expires, now, place, changed=now))

    def told(self, sender: PublicKey, word: object) -> PutJourney | None:
        """Process a station's word that it has an agent. None if it is old news, or the agent is not ours."""
        agent, passport, hop, standing, said = array(word, "word", 5)
        byte_string(agent, "agent", 32)
        uint(hop, "hop")
        if standing not in (JourneyStanding.TRAVELLING, JourneyStanding.STOPPED):
            # The end of a journey is only accepted with its trail and results.
            raise CredentialError("malformed", "a word says that an agent travels, or that it was stopped")
        check_said(said)
        journey = self._last(agent) or self._born(agent, passport, sender)
        if journey is None or journey.passport != passport or journey.standing in (*OVER, JourneyStanding.PURGED):
            return None
        if hop < journey.hop or (sender != journey.place and hop == journey.hop):
            return None
        standing = JourneyStanding(standing)
        return self._put(evolve(journey, place=sender, hop=hop, standing=standing, changed=self._clock(), text=said))

    def _born(self, agent: bytes, passport: object, place: PublicKey) -> Journey | None:
        """The journey of a clone that was made elsewhere; None if no agent from here can have such a clone.

        Only who has had the agent can name its passport, and only as many clones can be told of as that allows.
        """
        known = self._store.part(byte_string(passport, "passport", 32))
        if known is None:
            return None
        body = verify_passport(known).body
        original = self._last(body.agent)
        if original is None or number_of(body, agent) is None:
            return None
        now = self._clock()
        self._note_lease(agent, body)
        return Journey(
            agent, original.passport, label_of(body, agent), body.owner, body.expires, now, place, changed=now
        )

    def word(self, agent: bytes, passport: bytes, hop: int, standing: JourneyStanding, said: str) -> list[object]:
        """The word that `told` reads."""
        return [agent, passport, hop, standing.value, sayable(said)]

    def upgraded(self, agent: bytes, image: bytes) -> list[Change]:
        """An agent has got the code with this digest, or that was sent after it."""
        journey = self._last(agent)
        if journey is None or journey.standing in (*OVER, JourneyStanding.PURGED):
            return []
        return [self._put(evolve(journey, image=image, changed=self._clock()))]

    def closed(self, leaving: SignedDeparture, capsule: Capsule, standing: JourneyStanding, said: str) -> PutJourney:
        """Close a journey that ended here, at home. `capsule`: complete."""
        own = leaving.credentials
        return self._put(self._over(own.passport, own.terms.expires, leaving.point, standing, said), capsule.encode())

    def judge(self, data: bytes, place: PublicKey) -> VerifiedEnd:
        """Verify the end of a journey that a station sent. Perhaps thousands of signatures; callable from any thread.

        Raises `CredentialError`; the code `trail-unknown` asks for the trail from its beginning.
        """
        capsule = Capsule.decode(data, len(data))
        passport = verify_passport(capsule.passport)
        if passport.body.home.station != self.here:
            raise CredentialError("not-home", "this is not the home of that agent")
        amendments = Amendments.read(capsule.amendments, passport)
        followed = verify_trail(capsule.trail, passport, self._trails, capsule.checkpoint, amendments=amendments)
        verify_results(capsule.results, passport, followed)
        if followed.point.phase is not Phase.ENDED or followed.point.source != place:
            raise CredentialError("trail-order", "the trail does not end at the station that sends it")
        return VerifiedEnd(capsule, passport, followed, amendments)

    def ended(self, judged: VerifiedEnd, standing: JourneyStanding, said: str) -> tuple[Journey, list[Change]]:
        """Record a journey's end that `judge` verified. Raises `CredentialError` if its beginning is no longer here."""
        capsule, passport, followed = judged.capsule, judged.passport, judged.followed
        before = self._last(followed.point.agent)
        if before is not None and before.standing is JourneyStanding.PURGED:
            return before, []  # repeated, after a person has seen it
        start, point = followed.start, followed.point
        new = [Link(*link) for link in trail_links(followed.steps, point)]
        entries = result_links(capsule.results.entries, start.results)
        links = self._trails.trail(start.head, launch_point(passport).head)
        reported = [] if start.results is None else self._trails.results(start.results, None)
        whole = Capsule(
            passport=capsule.passport,
            trail=Trail((*links, *(link.body for link in new))),
            results=Results((*reported, *(entry.body for entry in entries))),
            image=current_image(passport.body, point),
            state=point.state,
            amendments=capsule.amendments,
        )
        known = VerifiedTrail(point, moved_on({}, followed.steps, point), amendments=capsule.amendments)
        expires = judged.amendments.terms(passport.body, point.agent).expires
        learned = self._trails.learn(known, [*new, *entries], expires)
        journey = self._over(passport, expires, point, standing, said)
        return journey, [learned, self._put(journey, whole.encode())]

    def prolonged(self, agent: bytes, expires: int) -> PutJourney | None:
        """Remember an agent whose owner gave it more time, until `expires` (ms); None if that is known."""
        journey = self._last(agent)
        if journey is None or journey.expires >= expires:
            return None
        return self._put(evolve(journey, expires=expires))

    def topped_up(self, agent: bytes) -> PutJourney | None:
        """More was sent after an agent that has stopped: from now on it travels, until its station says otherwise."""
        journey = self._last(agent)
        if journey is None or journey.standing is not JourneyStanding.STOPPED or TOP_IT_UP not in journey.text:
            return None
        return self._put(evolve(journey, standing=JourneyStanding.TRAVELLING, text="", changed=self._clock()))

    def purged(self, journey: Journey) -> PutJourney:
        """Forget a journey that is over, with its trail and results."""
        return self._put(evolve(journey, standing=JourneyStanding.PURGED, text="", changed=self._clock()), b"")

    def _over(
        self, passport: Signed[Passport], expires: int, point: TrailPoint, standing: JourneyStanding, said: str
    ) -> Journey:
        old, now = self._last(point.agent), self._clock()
        return Journey(
            agent=point.agent,
            passport=passport.digest,
            label=label_of(passport.body, point.agent),
            owner=passport.body.owner,
            expires=expires,
            launched=now if old is None else old.launched,
            place=point.source,
            hop=point.index - 1,
            standing=standing,
            changed=now,
            text=sayable(said),
            image=point.image,
        )

    def _last(self, agent: bytes) -> Journey | None:
        return self._newest.get(agent) or self.get(agent)

    def _put(self, journey: Journey, capsule: bytes | None = None) -> PutJourney:
        self._newest[journey.agent] = journey
        self._newest.move_to_end(journey.agent)
        if len(self._newest) > MAX_NEWEST:
            self._newest.popitem(last=False)
        return PutJourney(journey.agent, journey.expires + KEEP_MS, journey.encode(), capsule)


def open_reports(capsule: Capsule, secret: bytes) -> list[reports.OpenedReport]:
    """What the agent reported, opened with the owner's X25519 key. Raises `CredentialError`."""
    return list(reports.open_results(capsule.results.entries[1:], secret))
