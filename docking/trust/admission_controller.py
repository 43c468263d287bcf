"""How this station judges the agents offered to it, and what it signs: the judgement behind the handoff's machines.

`docking.trust.admission` has the checks; this module applies them to the received bytes, the store and the policy. It
runs in the event loop for small arrivals and in a thread for large ones. Invariants: an admitted agent is complete: its
image compiles, its state decodes and fits; judging changes nothing, except that a valid image is kept in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from agents import canonical
from agents.blocks import BLOCKS_PER_PAGE
from agents.canonical import Buffer
from agents.capsule import Capsule, VerifiedCapsule
from agents.credentials import logbook
from agents.credentials.amendments import MAX_AMENDMENTS_BYTES, Amendments
from agents.credentials.keys import SecretKey, public_key
from agents.credentials.passport import verify_passport
from agents.credentials.permit import Budget, Permit
from agents.errors import BadImage, BadSnapshot, CredentialError, EngineError
from agents.execution import Execution
from agents.image import AgentImage
from agents.snapshot import Snapshot
from agents.wasi.file_blocks import ContentsElsewhere
from agents.wasi.state import WasiState
from docking.handoff.actions import Cargo, DestinationTrust, Record, SourceTrust
from docking.handoff.messages import Offer, Part
from docking.handoff.refusal import Refusal
from docking.handoff.states import Destination
from docking.live.sessions import Preliminary, Session, Sessions
from docking.store.changes import KeepPart
from docking.store.store import Store
from docking.tracing import MAX_TRACE_BYTES, TraceContext
from docking.trust import agent_credentials
from docking.trust.admission import Admission, Load, admit, grant, shed, too_large, trust
from docking.trust.agent_credentials import SignedDeparture
from docking.trust.certificates import Certificates
from docking.trust.images import Images
from docking.trust.in_force import PolicyInForce
from docking.trust.mailbox import Mailbox, read_mailbox
from docking.trust.policy import Policy
from docking.trust.verified_trails import VerifiedTrails


@frozen
class Admitted:
    """An agent that may come in, with everything it needs to go on here.

    `compiled_us`: what compiling its image took: its own time, if it brought the image; `prepared`: gives the instance
    in which its memories arrived, if the snapshot has only their roots; `session`: by which they came;
    `trace`: of the trace to which its journey belongs.
    """

    admission: Admission
    verified: VerifiedCapsule
    image: AgentImage
    snapshot: Snapshot = field(repr=False)
    mailbox: Mailbox = field(factory=Mailbox)
    compiled_us: int = 0
    prepared: Callable[[], Execution] | None = field(default=None, repr=False)
    session: Session | None = field(default=None, repr=False)
    trace: TraceContext | None = None


@define(eq=False, repr=False)
class AdmissionController:
    """The judgement of the station with `key`. `leaving(hid)`: what this station is about to hand over."""

    key: SecretKey
    _policy: PolicyInForce
    _store: Store
    _images: Images
    _trails: VerifiedTrails
    _clock: Callable[[], int]
    _load: Callable[[], Load]
    _leaving: Callable[[bytes], SignedDeparture | None]
    sessions: Sessions
    certificates: Certificates = field(factory=Certificates)

    def destination(self) -> DestinationTrust[Admitted]:
        """For the machines of arriving agents."""
        return DestinationTrust(self._consider, self._admit, self._sign_receipt, agent_credentials.verify_commit)

    def source(self) -> SourceTrust:
        """For the machines of departing agents."""
        return SourceTrust(self._verify_receipt, self._sign_commit)

    # Arrivals

    def _consider(self, offer: Offer) -> tuple[int, ...] | Refusal:
        policy = self._policy.now
        if self._policy.held:
            return Refusal(
                "held", "nothing runs at this station until a person decides; come again later", policy.retry
            )
        if self._policy.draining:
            return Refusal("draining", "this station is being emptied for maintenance: go elsewhere", policy.retry)
        if offer.source in policy.revoked:
            return Refusal("revoked", "the key of the station that offers this agent was revoked here")
        refusal = shed(policy, self._load())
        if refusal is not None:
            return refusal
        try:
            kinds = agent_credentials.check_kinds(offer.parts)
        except CredentialError as error:
            return Refusal(error.code, error.reason)
        sizes = [offer.parts[kinds[kind]].size for kind in ("state", "image")]
        refusal = too_large(policy, *sizes)
        if refusal is not None:
            return refusal
        if any(
            part.size > agent_credentials.MAX_TRAIL_BYTES for part in offer.parts if part.kind not in ("state", "image")
        ):
            return Refusal("too-large", "the agent's papers are larger than any station reads")
        if "amendments" in kinds and offer.parts[kinds["amendments"]].size > MAX_AMENDMENTS_BYTES:
            return Refusal("too-large", "the agent has more amendments than any station reads")
        if "trace" in kinds and offer.parts[kinds["trace"]].size > MAX_TRACE_BYTES:
            return Refusal("too-large", "the agent's trace context is larger than any station reads")
        came = {body.index for body in offer.bodies}
        needed = tuple([i for i, part in enumerate(offer.parts) if i in came or not self._here(part)])
        if came.issuperset(needed):
            return needed
        # Offers whose parts never come take places from others: only an agent that would be admitted gets one.
        return self._precheck(offer, kinds, policy) or needed

    def _here(self, part: Part) -> bool:
        # Never a state, even if the store has it: the sender must have it too. Otherwise a station could wake its own
        # agent with another agent's state, of which it knows only the digest.
        return part.kind in ("passport", "image") and self._store.has_part(part.digest)

    def _precheck(self, offer: Offer, kinds: dict[str, int], policy: Policy) -> Refusal | None:
        """Before a large state travels, or a place is kept for it: would it be refused anyway?"""
        came: dict[str, Buffer] = {offer.parts[body.index].kind: body.data for body in offer.bodies}
        for kind in agent_credentials.PAPER_PARTS & kinds.keys() - came.keys():
            known = self._store.part(offer.parts[kinds[kind]].digest) if kind == "passport" else None
            if known is None:
                return Refusal(
                    "papers-missing", f"an offer brings the agent's papers with it, and its {kind} is missing"
                )
            came[kind] = known
        try:
            # The handoff compares a body with its digest only when all of them have arrived.
            for kind in agent_credentials.PAPER_PARTS & kinds.keys():
                if canonical.digest(came[kind]) != offer.parts[kinds[kind]].digest:
                    return Refusal("bad-digest", f"the {kind} is not what was announced")
            image, state = (offer.parts[kinds[kind]].digest for kind in ("image", "state"))
            Capsule.from_parts(came, image, state).precheck(self._trust(offer, policy), self._clock())
        except CredentialError as error:
            return Refusal(error.code, error.reason)
        return None

    def _trust(self, offer: Offer, policy: Policy) -> Any:
        return trust(
            policy,
            self.key.public,
            public_key(offer.source),
            known=self._trails,
            images=self._images,
            validate=lambda image: self._images.validate(image, policy),
            certifiers=self.certificates.certifiers(self._clock()),
        )

    def _admit(self, cargo: Cargo) -> Admitted | Refusal:
        offer, policy = cargo.offer, self._policy.now
        try:
            kinds = agent_credentials.check_kinds(offer.parts)
            bodies: dict[str, Buffer] = {offer.parts[body.index].kind: body.data for body in cargo.bodies}
            if "passport" not in bodies:
                known = self._store.part(offer.parts[kinds["passport"]].digest)
                if known is not None:
                    bodies["passport"] = known
            image, state = (offer.parts[kinds[kind]].digest for kind in ("image", "state"))
            capsule = Capsule.from_parts(bodies, image, state)
            # If it is only held, the handoff table asks about it: its source may have given it up.
            copies = [r.hid for r in self._store.copies(offer.agent, offer.hop) if r.state is Destination.RUNNING]
            now = self._clock()
            # A cargo's bodies have the digests that were announced (`Cargo`).
            verified = capsule.verify(self._trust(offer, policy), now, hashed=True)
            answer = admit(verified, policy, self._load(), offer.hid, copies)
            if isinstance(answer, Refusal):
                return answer
            found = self._images.get(capsule.image)
            if found is None:
                return Refusal("image-missing", "the agent's image is neither here nor in the offer")
            snapshot = Snapshot.decode(bodies["state"])
            snapshot.check(found[0])
            self._images.validate_resuming(found[0], policy)
            check_wasi(snapshot, policy)
            check_memory(snapshot, answer.grant)
            mailbox = read_mailbox(bodies.get("mailbox"))
        except CredentialError as error:
            return Refusal(error.code, error.reason)
        except (BadSnapshot, BadImage, EngineError) as error:
            return Refusal("bad-state", f"the agent cannot go on here: {error}"[:500])
        said = (offer.agent, offer.hop, offer.visit, offer.expires)
        if said != (verified.agent, verified.hop, verified.point.previous, verified.terms.expires):
            return Refusal("wrong-handoff", "the offer names another agent, hop or visit than its papers")
        prepared, session = None, None
        if snapshot.roots:  # last: from here on its session is kept for it
            digest = offer.parts[kinds["blocks"]].digest if "blocks" in kinds else b""
            completed = self.sessions.complete(offer, snapshot, bodies.get("blocks"), digest)
            if isinstance(completed, Refusal):
                return completed
            session = completed
            prepared = functools.partial(self.sessions.taken, session)
        cost = self._images.cost_us(capsule.image)
        trace = TraceContext.decode(bodies.get("trace"))
        return Admitted(answer, verified, found[0], snapshot, mailbox, cost, prepared, session, trace)

    # Agents that are announced, before they are offered

    def announced(self, offer: Offer) -> Preliminary | Refusal | None:
        """See `docking.live.sessions.Admissions`."""
        needed = self._consider(offer)
        if isinstance(needed, Refusal):
            return needed
        policy = self._policy.now
        try:
            kinds = agent_credentials.check_kinds(offer.parts)
            bodies: dict[str, Buffer] = {offer.parts[body.index].kind: body.data for body in offer.bodies}
            digest = offer.parts[kinds["image"]].digest
            if "image" in bodies and digest not in self._images:
                if canonical.digest(bodies["image"]) != digest:
                    return Refusal("bad-digest", "the image is not what was announced")
                self._images.validate(bodies["image"], policy)
            found = self._images.get(digest)
            if found is None:
                return None
            self._images.validate_resuming(found[0], policy)
            passport = bodies.get("passport") or self._store.part(offer.parts[kinds["passport"]].digest) or b""
            signed = verify_passport(bytes(passport))
            amendments = Amendments.read(agent_credentials.amendments_in(bodies), signed)
            terms = amendments.terms(signed.body, offer.agent)
        except CredentialError as error:
            return Refusal(error.code, error.reason)
        except (BadImage, EngineError) as error:
            return Refusal("bad-state", f"the agent cannot go on here: {error}"[:500])
        granted = grant(signed.body, terms, offer.agent, Budget(), policy)
        return (
            granted
            if isinstance(granted, Refusal)
            else Preliminary(found[0], granted.budget.memory, policy.wasi.luggage_bytes)
        )

    def image_of(self, offer: Offer) -> KeepPart | None:
        """What stores the image that came with an offer, unless it is stored."""
        kinds = agent_credentials.check_kinds(offer.parts)
        part = offer.parts[kinds["image"]]
        body = next((body.data for body in offer.bodies if body.index == kinds["image"]), None)
        return None if body is None or self._store.has_part(part.digest) else KeepPart(part, bytes(body))

    def _sign_receipt(self, cargo: Cargo, admitted: Admitted) -> bytes:
        return logbook.sign_receipt(admitted.verified.point, self._clock(), self.key).envelope

    # Departures

    def _verify_receipt(self, record: Record, receipt: bytes) -> Refusal | None:
        return agent_credentials.verify_receipt(self._leaving(record.hid), record, receipt)

    def _sign_commit(self, record: Record, receipt: bytes) -> bytes:
        leaving = self._leaving(record.hid)
        assert leaving is not None  # a receipt matters only while the offer is at hand
        return logbook.sign_commit(leaving.received(receipt)[0], self.key).envelope


def check_wasi(snapshot: Snapshot, policy: Policy) -> None:
    """Raises `BadSnapshot` unless its files and descriptors are within this station's limits.

    If it were admitted all the same, it would end at its first turn.
    """
    if snapshot.wasi:
        files = snapshot.files
        contents = None if files is None else ContentsElsewhere(files.pages * BLOCKS_PER_PAGE)
        WasiState.read(snapshot.wasi, policy.wasi, contents=contents)


def check_memory(snapshot: Snapshot, granted: Permit) -> None:
    """Raises `CredentialError` `budget` if it has more memory than it may have here: it would end at its first turn."""
    most = granted.budget.memory
    for pages in snapshot.memory_pages:
        if pages << 16 > most:
            raise CredentialError(
                "budget", f"the agent has {pages << 6} KiB of memory; at most {most >> 10} are granted here"
            )


__all__ = ["AdmissionController", "Admitted", "Mailbox"]
