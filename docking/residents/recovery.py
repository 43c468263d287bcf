"""Restores the agents that the store says are here, after a restart.

Decides nothing about a handoff: the ledger says who lives here. Invariants: credentials are verified again, as of the
arrival; an agent that the policy no longer admits is not resumed, and not lost either.
"""

from __future__ import annotations

from attrs import define, field

from agents.capsule import Capsule
from agents.credentials import envelope
from agents.credentials.amendments import Amendments
from agents.credentials.keys import PublicKey
from agents.credentials.passport import verify_passport
from agents.credentials.results import verify_results
from agents.credentials.trail import Arrival, verify_trail
from agents.credentials.visits import Receipt
from agents.errors import CredentialError
from docking.errors import StationError
from docking.handoff.actions import Record
from docking.handoff.refusal import Refusal
from docking.handoff.states import Destination
from docking.residents import checkpoints
from docking.residents.berth import Berth, HostEnvironment
from docking.store.changes import StoredCapsule
from docking.store.store import Store
from docking.tracing import TraceContext
from docking.trust import agent_credentials
from docking.trust.admission import grant
from docking.trust.agent_credentials import AgentCredentials
from docking.trust.certificates import Certificates
from docking.trust.images import Images
from docking.trust.in_force import PolicyInForce
from docking.trust.mailbox import read_outflows
from docking.trust.verified_trails import VerifiedTrails


@define(eq=False, repr=False)
class Recovery:
    """Restores berths at the station `here`."""

    _here: PublicKey
    _policy: PolicyInForce
    _store: Store
    _images: Images
    _trails: VerifiedTrails
    _environment: HostEnvironment
    _certificates: Certificates = field(factory=Certificates)
    # Images already checked since the start: thousands of agents may share one.
    _usable: set[bytes] = field(factory=set)

    def restore(self, capsule: StoredCapsule, record: Record | None) -> tuple[Berth, checkpoints.BerthNote | None]:
        if self._policy.held:
            raise StationError(self._policy.held)
        bodies = checkpoints.bodies_of(self._store, capsule, frozenset({"image", "state", "blocks"}))
        if "passport" not in bodies:
            raise StationError("a stored agent has no passport")
        passport = verify_passport(bodies["passport"])
        image_part = checkpoints.part_of(capsule, "image")
        found = self._images.get(image_part.digest)
        if found is None:
            raise StationError("the agent's image is not in the store")
        if image_part.digest not in self._usable:
            self._images.validate_resuming(self._images.validate(found[1], self._policy.now), self._policy.now)
            self._usable.add(image_part.digest)
        note = checkpoints.BerthNote.decode(capsule.note) if capsule.note else None
        if note is None:
            own = self._papers_of(capsule, bodies, record)
        else:
            known = self._trails.known(note.trail)
            if known is None:
                raise StationError("the agent's trail is not in the store")
            amendments = Amendments.read(bodies.get("amendments"), passport)
            own = agent_credentials.remembered(
                passport, known, self._here, note.since, note.came, self._certificates, amendments
            )
        granted = grant(passport.body, own.terms, own.agent, own.point.used, self._policy.now)
        if isinstance(granted, Refusal):
            raise CredentialError(granted.code, granted.reason)
        berth = Berth(self._environment, own, granted, found[0], image_part)
        berth.trace = TraceContext.decode(bodies.get("trace"))
        checkpoints.wake_mail(berth, bodies.get("mailbox"), bodies.get("reports"))
        if note is not None:
            berth.cpu_us, berth.memory_bytes, berth.calls = note.cpu_us, note.memory_bytes, note.calls
            berth.sent, berth.cloned = note.sent, note.cloned
            berth.streams.sent = read_outflows(note.sent_to)
            berth.offers, berth.brought = dict(note.offers), note.brought
            state, blocks = checkpoints.part_of(capsule, "state"), checkpoints.blocks_of(capsule)
            berth.saved = checkpoints.StoredState(state, note, len(berth.reports), blocks)
        return berth, note

    def _papers_of(self, capsule: StoredCapsule, bodies: dict[str, bytes], record: Record | None) -> AgentCredentials:
        """The credentials of an agent that arrived before the restart, verified again as of then."""
        if record is None:
            copies = self._store.copies(capsule.agent, capsule.hop - 1)
            record = next((r for r in copies if r.state is Destination.RUNNING), None)
            if record is None:
                raise StationError("the store does not say how the agent came here")
        state = checkpoints.part_of(capsule, "state").digest
        came = Capsule.from_parts(bodies, checkpoints.part_of(capsule, "image").digest, state)
        passport = verify_passport(came.passport)
        at = envelope.verify(Receipt, record.receipt).body.time
        arrival = Arrival(self._here, PublicKey(record.peer), at, state, self._certificates.certifiers(at))
        amendments = Amendments.read(came.amendments, passport)
        followed = verify_trail(came.trail, passport, self._trails, came.checkpoint, arrival, amendments)
        head = verify_results(came.results, passport, followed)
        proofs = record.receipt, record.commit
        return agent_credentials.arrived(passport, came, followed, head, proofs, self._trails, self._certificates)
