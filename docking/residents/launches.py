"""Agents that begin here: a signed launch becomes a resident.

Not how a launch is made and signed (`docking.launching`). Invariant: an agent runs only after its state, its passport
and its journey are durable here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, evolve

from agents import canonical
from agents.credentials import envelope
from agents.credentials.amendments import NONE
from agents.credentials.passport import Passport, verify_passport
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import Opening
from agents.errors import CredentialError, PortcallError
from agents.image import AgentImage
from agents.snapshot import Snapshot
from agents.waits import Woke
from docking.aio.threads import NoThread, in_thread
from docking.errors import StationError
from docking.handoff.messages import Part
from docking.handoff.refusal import Refusal
from docking.launching import Launch
from docking.residents import checkpoints
from docking.residents.berth import Berth, HostEnvironment
from docking.residents.lifecycle import Lifecycle
from docking.residents.residents import Residents
from docking.store.changes import StoredPart
from docking.tracing import Span, TraceContext
from docking.trust import agent_credentials
from docking.trust.admission import grant, room_for
from docking.trust.admission_controller import check_wasi
from docking.trust.images import Images
from docking.trust.in_force import PolicyInForce
from docking.trust.verified_trails import VerifiedTrails


@define(eq=False, repr=False)
class Launches:
    """Starts the agents whose home is `here`."""

    _here: Residents
    _environment: HostEnvironment
    _policy: PolicyInForce
    _images: Images
    _trails: VerifiedTrails
    _lifecycle: Lifecycle
    _judge: Callable[[Berth], None]

    async def begin(self, launch: Launch, trace: TraceContext | None = None) -> Berth:
        """Start an agent; returns when it is durable. Raises `StationError`, `CredentialError`, `FormatError`.

        `trace`: to which its journey is to belong; otherwise that of the application's current span.
        """
        span = self._environment.tracing.launch(trace, {})
        if span is None:
            return await self._begin(launch, trace, None)
        error = "failed"
        try:
            berth = await self._begin(launch, span.context() or trace, span)
            error = ""
            return berth
        except PortcallError as failed:
            error = failed.code if isinstance(failed, CredentialError) else type(failed).__name__
            raise
        finally:
            span.end(error)

    async def _begin(self, launch: Launch, trace: TraceContext | None, span: Span | None) -> Berth:
        passport = verify_passport(launch.passport)
        body = passport.body
        opening = envelope.verify(Opening, launch.opening, body.owner).body
        if (opening.agent, opening.passport) != (body.agent, passport.digest):
            raise CredentialError("results-chain", "the opening of the results belongs to another agent")
        known = self._images.get(body.image)
        same = known is not None and known[1] == launch.image  # faster than its digest
        if not (same or canonical.digest(launch.image) == body.image) or canonical.digest(launch.state) != body.state:
            raise CredentialError("image-digest", "image or state are not those that the passport names")
        permit = self._permit(body)
        image = await self._image(body.image, launch.image, permit.budget.cpu)
        snapshot = Snapshot.decode(launch.state)
        snapshot.check(image)
        if snapshot.frames and self._images.aside(body.image, None):  # its interpreter has started: it goes on at once
            await self._compiled(body.image, None, self._images.validate_resuming, image, self._policy.now)
        check_wasi(snapshot, self._policy.now)
        own = agent_credentials.launched(passport, launch.opening, self._here.key.public, self._here.clocks.now())
        of_image = Part("image", body.image, len(launch.image))
        berth = Berth(self._environment, own, permit, image, of_image, snapshot)
        berth.cpu_us, berth.trace = self._images.cost_us(body.image), trace
        if span is not None:
            for name, value in berth.traced().items():
                span.set(name, value)
        first = checkpoints.put_checkpoint(berth, launch.state)
        parts = tuple(StoredPart(s.part, launch.image) if s.part.kind == "image" else s for s in first.parts)
        await self._here.journal.write(
            [
                self._trails.learn(own.known, own.entries, body.expires),
                evolve(first, parts=parts),
                self._here.journeys.opened(own.agent, passport, self._here.key.public),
            ],
            True,
        )
        self._here.settle(berth)
        self._here.tell("launched", berth.agent)
        self._judge(berth)
        if berth.travels_by_tasks:
            self._lifecycle.begin(berth, snapshot, arrived=True)
            return berth
        # An interpreter that has started already waits for no time (`agents.sdk.started`).
        self._lifecycle.go_on(berth, None if snapshot.pending is None else Woke())
        return berth

    def _permit(self, body: Passport) -> Permit:
        """What the policy grants it. Raises if it may not start here now."""
        if self._policy.held:
            raise StationError(f"nothing is launched here: {self._policy.held}")
        if self._policy.draining:
            raise StationError("this station is being emptied for maintenance: portcall drain --off ends that")
        if self._here.clocks.now() > body.expires:
            raise CredentialError("expired", "the agent's passport has expired")
        policy = self._policy.now
        granted = grant(body, NONE.terms(body, body.agent), body.agent, Budget(), policy)
        for each in (granted, room_for(body.owner, policy, self._here.load())):
            if isinstance(each, Refusal):
                raise CredentialError(each.code, each.reason)
        assert isinstance(granted, Permit)
        if body.agent in self._here.berths or self._here.journeys.get(body.agent) is not None:
            raise StationError("this agent was launched already")
        return granted

    async def _image(self, digest: bytes, data: bytes, cpu_us: int) -> AgentImage:
        found = self._images.get(digest)
        if found is not None:
            return found[0]
        validated: AgentImage = await self._compiled(
            digest, data, self._images.validate, data, self._policy.now, cpu_us
        )
        return validated

    async def _compiled(self, digest: bytes, data: bytes | None, function: Callable[..., Any], *args: Any) -> Any:
        """The result of a function that compiles an image, which is here or is `data`. Raises `CredentialError`."""
        try:
            return await (self._images.aside(digest, data) or in_thread)(function, *args)
        except NoThread:
            raise CredentialError("busy", "this station compiles as many images as it can: try again") from None
