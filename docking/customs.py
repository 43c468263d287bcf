"""What this station makes of an agent that is offered to it, and signs: the judgement behind the handoff's machines.

`docking.admission` has the checks; here they meet the bytes that came, the store and the policy. Runs in the event
loop for small arrivals and in a thread for large ones. Invariants: what is admitted is complete: image compiled, state
decoded and fitting; nothing is changed by a judgement, except that a valid image is kept at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from agents import canonical
from agents.capsule import Capsule, VerifiedCapsule
from agents.credentials import logbook
from agents.credentials.fields import array, byte_string, text
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.permit import Permit
from agents.credentials.trail import follow
from agents.errors import BadImage, BadSnapshot, CredentialError, EngineError, MalformedCredential, NotCanonical
from agents.image import AgentImage
from agents.snapshot import Snapshot
from agents.waits import BODY_MAX, HOST_MAX, Message
from agents.wasi.state import WasiState
from docking import papers
from docking.admission import Admission, Load, admit, shed, too_large, trust
from docking.certificates import Certificates
from docking.config import Policy
from docking.handoff.actions import Cargo, DestinationTrust, Record, SourceTrust
from docking.handoff.messages import Offer, Part
from docking.handoff.states import Destination
from docking.images import Images
from docking.knowledge import Knowledge
from docking.papers import Leaving
from docking.refusal import Refusal
from docking.store import Store

_MAIL_BOUNDS = canonical.Bounds(max_bytes=16 << 20, max_depth=3, max_items=10_000)
# Messages that travel with an agent: those that wait for it, and those that it may hear again after a crash.
_MAIL = 2000


@frozen
class Admitted:
    """An agent that may come in, with all that it needs to go on here."""

    admission: Admission
    verified: VerifiedCapsule
    image: AgentImage
    snapshot: Snapshot = field(repr=False)
    inbox: tuple[Message, ...] = ()


@define(eq=False)
class Customs:
    """The judgement of the station with `key`. `leaving(hid)`: what this station is about to hand over."""

    key: SecretKey
    policy: Policy
    _store: Store
    _images: Images
    _knowledge: Knowledge
    _clock: Callable[[], int]
    _load: Callable[[], Load]
    _leaving: Callable[[bytes], Leaving | None]
    certificates: Certificates = field(factory=Certificates)

    def destination(self) -> DestinationTrust[Admitted]:
        """For the machines of arriving agents."""
        return DestinationTrust(self._consider, self._admit, self._sign_receipt, papers.verify_commit)

    def source(self) -> SourceTrust:
        """For the machines of departing agents."""
        return SourceTrust(self._verify_receipt, self._sign_commit)

    # Arrivals

    def _consider(self, offer: Offer) -> tuple[int, ...] | Refusal:
        refusal = shed(self.policy, self._load())
        if refusal is not None:
            return refusal
        try:
            kinds = papers.check_kinds(offer.parts)
        except CredentialError as error:
            return Refusal(error.code, error.reason)
        sizes = [offer.parts[kinds[kind]].size for kind in ("state", "image")]
        refusal = too_large(self.policy, *sizes)
        if refusal is not None:
            return refusal
        if any(part.size > papers.MAX_TRAIL for part in offer.parts if part.kind not in ("state", "image")):
            return Refusal("too-large", "the agent's papers are larger than any station reads")
        needed = tuple(i for i, part in enumerate(offer.parts) if not self._here(part))
        here = {body.index for body in offer.bodies}
        if all(index in here for index in needed):
            return needed
        # Offers whose parts never come take places from others: only an agent that would be admitted gets one.
        return self._precheck(offer, kinds) or needed

    def _here(self, part: Part) -> bool:
        # Not a state, whatever the store has: its sender must have it too, or a station could have an agent of its own
        # woken with the state of another's, of which it knows the digest only.
        return part.kind in ("passport", "image") and self._store.has_part(part.digest)

    def _precheck(self, offer: Offer, kinds: dict[str, int]) -> Refusal | None:
        """Before a large state travels, or a place is kept for it: would it be refused anyway?"""
        came: dict[str, Any] = {offer.parts[body.index].kind: body.data for body in offer.bodies}
        for kind in papers.PAPERS & kinds.keys() - came.keys():
            known = self._store.part(offer.parts[kinds[kind]].digest) if kind == "passport" else None
            if known is None:
                return Refusal(
                    "papers-missing", f"an offer brings the agent's papers with it, and its {kind} is missing"
                )
            came[kind] = known
        try:
            # The desk compares what it keeps with its digest only when all is there.
            for kind in papers.PAPERS & kinds.keys():
                if canonical.digest(came[kind]) != offer.parts[kinds[kind]].digest:
                    return Refusal("bad-digest", f"the {kind} is not what was announced")
            image, state = (offer.parts[kinds[kind]].digest for kind in ("image", "state"))
            Capsule.from_parts(came, image, state).precheck(self._trust(offer), self._clock())
        except CredentialError as error:
            return Refusal(error.code, error.reason)
        return None

    def _trust(self, offer: Offer) -> Any:
        return trust(
            self.policy,
            self.key.public,
            PublicKey(offer.source),
            known=self._knowledge,
            images=self._images,
            validate=self._images.validate,
            certifiers=self.certificates.certifiers(self._clock()),
        )

    def _admit(self, cargo: Cargo) -> Admitted | Refusal:
        offer = cargo.offer
        try:
            kinds = papers.check_kinds(offer.parts)
            bodies: dict[str, Any] = {}
            for kind, index in kinds.items():
                body = cargo.body(kind)
                if body is None and kind == "passport":
                    body = self._store.part(offer.parts[index].digest)
                if body is not None:
                    bodies[kind] = body
            image, state = (offer.parts[kinds[kind]].digest for kind in ("image", "state"))
            capsule = Capsule.from_parts(bodies, image, state)
            # One that is only held is the desk's to ask about: its source may have given it up.
            copies = [r.hid for r in self._store.copies(offer.agent, offer.hop) if r.state is Destination.RUNNING]
            now = self._clock()
            # A cargo's bodies have the digests that were announced (`Cargo`).
            verified = capsule.verify(self._trust(offer), now, hashed=True)
            answer = admit(verified, self.policy, self._load(), offer.hid, copies)
            if isinstance(answer, Refusal):
                return answer
            found = self._images.get(capsule.image)
            if found is None:
                return Refusal("image-missing", "the agent's image is neither here nor in the offer")
            snapshot = Snapshot.decode(bodies["state"])
            snapshot.check(found[0])
            check_wasi(snapshot, self.policy)
            check_memory(snapshot, answer.grant)
            inbox = read_mailbox(bodies.get("mailbox"))
        except CredentialError as error:
            return Refusal(error.code, error.reason)
        except (BadSnapshot, BadImage, EngineError) as error:
            return Refusal("bad-state", f"the agent cannot go on here: {error}"[:500])
        said = (offer.agent, offer.hop, offer.visit, offer.expires)
        if said != (verified.agent, verified.hop, verified.point.previous, verified.passport.body.expires):
            return Refusal("wrong-handoff", "the offer names another agent, hop or visit than its papers")
        return Admitted(answer, verified, found[0], snapshot, inbox)

    def _sign_receipt(self, cargo: Cargo, admitted: Admitted) -> bytes:
        return logbook.acknowledge(admitted.verified.point, self._clock(), self.key).envelope

    # Departures

    def _verify_receipt(self, record: Record, receipt: bytes) -> Refusal | None:
        return papers.verify_receipt(self._leaving(record.hid), record, receipt)

    def _sign_commit(self, record: Record, receipt: bytes) -> bytes:
        leaving = self._leaving(record.hid)
        assert leaving is not None  # a receipt matters only while the offer is at hand
        return logbook.commit(follow(leaving.point, receipt)[0], self.key).envelope


def check_wasi(snapshot: Snapshot, policy: Policy) -> None:
    """That its files and descriptors are within this station's bounds: admitted all the same, it would end at its first
    turn. Raises `BadSnapshot`."""
    if snapshot.wasi:
        WasiState.read(snapshot.wasi, policy.wasi)


def check_memory(snapshot: Snapshot, granted: Permit) -> None:
    """That it has no more memory than it may have here: likewise. Raises `CredentialError` `budget`."""
    most = granted.budget.memory
    for memory in snapshot.memories:
        if memory.pages << 16 > most:
            raise CredentialError(
                "budget", f"the agent has {memory.pages << 6} KiB of memory; at most {most >> 10} are granted here"
            )


def write_mailbox(messages: list[Message]) -> bytes:
    """Messages that travel with their agent, as bytes."""
    return canonical.encode([[message.sender, message.body] for message in messages])


def read_mailbox(data: Any) -> tuple[Message, ...]:
    """The inverse of `write_mailbox`; None is an empty one. Raises `CredentialError` `mailbox`."""
    if data is None:
        return ()
    try:
        rows = [array(row, "message", 2) for row in array(canonical.decode(data, _MAIL_BOUNDS), "mailbox", _MAIL)]
        # Not `bytes(body)`: that of a number is as many zeros.
        return tuple(
            Message(text(sender, "sender", HOST_MAX), byte_string(body, "body", 0, BODY_MAX)) for sender, body in rows
        )
    except (NotCanonical, MalformedCredential, ValueError) as error:
        raise CredentialError("mailbox", f"the agent's mailbox cannot be read: {error}") from error


__all__ = ["Admitted", "Customs", "read_mailbox", "write_mailbox"]
