"""Agents that the store says are here, made ready to go on after a restart.

Decides nothing about a handoff: what is live is live. Invariants: what arrived is verified again, as it was when it
came; an agent that the policy no longer admits is not taken up, and not lost either.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from agents.capsule import Capsule
from agents.credentials import envelope
from agents.credentials.keys import PublicKey
from agents.credentials.passport import verify_passport
from agents.credentials.results import verify_results
from agents.credentials.trail import Arrival, verify_trail
from agents.credentials.visits import Receipt
from agents.errors import CredentialError
from docking import papers, resting
from docking.admission import grant
from docking.berth import Berth, Ground
from docking.certificates import Certificates
from docking.changes import Capsule as Stored
from docking.config import Policy
from docking.errors import StationError
from docking.handoff.actions import Record
from docking.handoff.states import Destination
from docking.images import Images
from docking.knowledge import Knowledge
from docking.papers import Papers
from docking.refusal import Refusal
from docking.store import Store


@define(eq=False)
class Recovery:
    """Restores berths at the station `here`. `ground()`: what they are lent."""

    _here: PublicKey
    _policy: Policy
    _store: Store
    _images: Images
    _knowledge: Knowledge
    _lent: Callable[[], Ground]
    _certificates: Certificates = field(factory=Certificates)
    # Images that were found to run here since the start: thousands of agents may have the same.
    _usable: set[bytes] = field(factory=set)

    def restore(self, capsule: Stored, record: Record | None) -> tuple[Berth, resting.Note | None]:
        bodies = resting.bodies_of(self._store, capsule, frozenset({"image", "state"}))
        passport = verify_passport(bodies["passport"])
        image_part = resting.part_of(capsule, "image")
        found = self._images.get(image_part.digest)
        if found is None:
            raise StationError("the agent's image is not in the store")
        if image_part.digest not in self._usable:
            self._images.validate(found[1])
            self._usable.add(image_part.digest)
        note = resting.Note.decode(capsule.note) if capsule.note else None
        if note is None:
            own = self._papers_of(capsule, bodies, record)
        else:
            known = self._knowledge.known(note.trail)
            if known is None:
                raise StationError("the agent's trail is not in the store")
            own = papers.remembered(passport, known, self._here, note.since, note.came, self._certificates)
        granted = grant(passport.body, own.point.used, self._policy)
        if isinstance(granted, Refusal):
            raise CredentialError(granted.code, granted.reason)
        berth = Berth(self._lent(), own, granted, found[0], image_part)
        resting.wake_mail(berth, bodies.get("mailbox"), bodies.get("reports"))
        if note is not None:
            berth.cpu, berth.memory, berth.calls = note.cpu, note.memory, note.calls
            berth.sent, berth.cloned = note.sent, note.cloned
            berth.saved = resting.Saved(resting.part_of(capsule, "state"), note, len(berth.reports))
        return berth, note

    def _papers_of(self, capsule: Stored, bodies: dict[str, bytes], record: Record | None) -> Papers:
        """The papers of an agent that arrived before the restart, verified again as they were then."""
        if record is None:
            copies = self._store.copies(capsule.agent, capsule.hop - 1)
            record = next(r for r in copies if r.state is Destination.RUNNING)
        state = resting.part_of(capsule, "state").digest
        came = Capsule.from_parts(bodies, resting.part_of(capsule, "image").digest, state)
        passport = verify_passport(came.passport)
        at = envelope.verify(Receipt, record.receipt).body.time
        arrival = Arrival(self._here, PublicKey(record.peer), at, state, self._certificates.certifiers(at))
        followed = verify_trail(came.trail, passport, self._knowledge, came.checkpoint, arrival)
        head = verify_results(came.results, passport, followed)
        proofs = record.receipt, record.commit
        return papers.arrived(passport, came, followed, head, proofs, self._knowledge, self._certificates)
