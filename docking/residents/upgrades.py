"""New code for agents that are here: stop, map, write, go on.

The agent is suspended as by any order, its state is mapped to the new module (`agents.upgrade`), and then one write of
the store replaces state, image and trail; from there it is taken up as after a restart of the station. Not here: who
asks (`docking.control`, letters), and what maps.

Invariants: before that write the store has the agent with its old code, after it with the new one, and nothing between;
nothing of the agent runs from when it stands still until it is taken up again; what is refused leaves it as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from attrs import define, evolve, field

from agents import canonical, upgrade
from agents.canonical import Buffer
from agents.credentials.amendments import verify_amendment
from agents.credentials.envelope import identify
from agents.credentials.keys import text_of
from agents.credentials.passport import verify_passport
from agents.credentials.upgrades import check_upgrade, current_image, read_upgrade
from agents.errors import CannotUpgrade, CredentialError, PortcallError
from agents.image import AgentImage
from agents.outcomes import Asked
from agents.snapshot import Snapshot
from agents.waits import Accept, Answer, Recv, Select, Sleep, Wait
from docking.aio.threads import NoThread, in_thread
from docking.errors import StationError, StoreError, UnknownAgent
from docking.handoff.messages import Part
from docking.letters.journeys import OVER, JourneyStanding
from docking.letters.orders import ORDER_LIFETIME_MS, OrderKind, sign_order
from docking.letters.outbox import LetterKind, Outbox
from docking.residents import checkpoints
from docking.residents.berth import Berth, Standing
from docking.residents.commands import Commands
from docking.residents.lifecycle import Lifecycle
from docking.residents.options import FrameReport, UpgradeReport
from docking.residents.queries import Queries
from docking.residents.queued import waits_for
from docking.residents.residents import Residents
from docking.store.changes import Change, StoredCapsule, StoredPart
from docking.trust import agent_credentials
from docking.trust.admission import too_large
from docking.trust.admission_controller import check_memory, check_wasi
from docking.trust.images import Images
from docking.trust.in_force import PolicyInForce
from docking.trust.verified_trails import VerifiedTrails

T = TypeVar("T")
# Seconds in which an agent stands still, unless who asks gives it another time.
STANDS_STILL_S = 10.0
LOOK_S = 0.1  # between two looks whether it is still here
# Bytes of an encoded image that a letter carries after an agent.
MAX_SENT_IMAGE_BYTES = 12 << 20
_TIMED = (Sleep, Recv, Select, Answer, Accept)


@define(eq=False, repr=False)
class _Asked:
    """One upgrade that is asked for. `statement`: the owner's; empty where it is only to be said what would be."""

    image: AgentImage
    encoded: bytes
    statement: bytes
    done: asyncio.Future[UpgradeReport]
    begun: bool = False


@define(eq=False, repr=False)
class Upgrades:
    """The upgrades at one station. `_resume(capsule, going)`: takes up an agent from the store, which `going` waits."""

    _here: Residents
    _policy: PolicyInForce
    _images: Images
    _trails: VerifiedTrails
    _lifecycle: Lifecycle
    _queries: Queries
    _commands: Commands
    _resume: Callable[[StoredCapsule, Wait | None], None]
    _asked: dict[bytes, _Asked] = field(factory=dict)

    def image_of(self, agent: bytes) -> tuple[bytes, bytes, bytes, int]:
        """What a statement needs: id, digests of passport and image, the visit; as far as is known here.

        Raises `UnknownAgent`, `StationError`.
        """
        berth = self._here.berths.get(agent)
        if berth is not None:
            own = berth.credentials
            return agent, own.passport.digest, current_image(own.passport.body, own.point), own.visit
        journey = self._here.journeys.get(agent)
        if journey is None:
            raise UnknownAgent("this agent is not here, and was not launched here")
        if journey.standing in (*OVER, JourneyStanding.PURGED):
            raise StationError(f"the agent's journey is over: {journey.standing}")
        passport = self._here.store.part(journey.passport)
        if passport is None:
            raise StationError("the agent's passport is not here any more")
        return agent, journey.passport, journey.image or verify_passport(passport).body.image, journey.hop

    def is_here(self, agent: bytes) -> bool:
        """Whether an agent is at this station."""
        return agent in self._here.berths

    async def upgrade(
        self, agent: bytes, encoded: bytes, statement: bytes = b"", patience_s: float = STANDS_STILL_S
    ) -> UpgradeReport:
        """Give an agent that is here the new image `encoded`; without a `statement` only say what would be.

        patience_s: seconds in which it has to stand still

        Returns when it is durable. Raises `CannotUpgrade`, `CredentialError`, `StationError`, `FormatError`.
        """
        if self._here.failure:
            raise StationError(f"the station cannot go on: {self._here.failure}")
        berth = self._berth(agent)
        if statement:
            own = berth.credentials
            body = check_upgrade(own.passport, own.point, statement, self._here.clocks.now())
            if canonical.digest(encoded) != body.new:
                raise CredentialError("image-digest", "the image is not the one that the owner signed")
        refused = too_large(self._policy.now, 0, len(encoded))
        if refused is not None:
            raise CredentialError(refused.code, refused.reason)
        image = await self._validated(encoded)
        berth = self._berth(agent)
        if agent in self._asked:
            raise StationError("this agent is being upgraded: try again")
        asked = _Asked(image, encoded, statement, asyncio.get_running_loop().create_future())
        self._asked[agent] = asked
        try:
            self._commands.obey(berth, OrderKind.UPGRADE)
            loop = asyncio.get_running_loop()
            until = loop.time() + patience_s
            while loop.time() < until and not asked.begun and not asked.done.done():
                await asyncio.wait({asked.done}, timeout=min(LOOK_S, until - loop.time()))
                if not asked.begun and self._here.berths.get(agent) is not berth:
                    raise StationError("the agent has left or ended before it stood still")
            if asked.done.done() or asked.begun:
                return await asyncio.shield(asked.done)
            if berth.order is OrderKind.UPGRADE:
                berth.order = None
            raise StationError(
                f"the agent did not stand still within {patience_s:g} s: try again, or give it more time"
            )
        finally:
            if not asked.begun:
                self._asked.pop(agent, None)

    def _berth(self, agent: bytes) -> Berth:
        berth = self._here.berths.get(agent)
        if berth is None:
            raise UnknownAgent("this agent is not here")
        return berth

    async def _validated(self, encoded: bytes) -> AgentImage:
        """The image, compiled as for an arrival."""
        policy, digest = self._policy.now, canonical.digest(encoded)
        found = self._images.get(digest)
        try:
            if found is None:
                image: AgentImage = await self._aside(encoded, self._images.validate, encoded, policy)
            else:
                image = found[0]
            await self._aside(None, self._images.validate_resuming, image, policy)
        except NoThread:
            raise CredentialError("busy", "this station compiles as many images as it can: try again") from None
        return image

    async def _aside(self, encoded: Buffer | None, function: Callable[..., T], *args: object) -> T:
        if encoded is not None and len(encoded) <= 64 << 10:
            return await in_thread(function, *args)
        return await self._images.run(function, *args)

    # The agent stands still

    async def stands_still(self, berth: Berth, stop: Wait | Asked | None) -> None:
        """An agent that is to be upgraded is suspended in `stop`: do it, and let it go on."""
        asked = self._asked.get(berth.agent)
        if asked is None:
            self._commands.carry_on(berth, stop)
            return
        asked.begun = True
        try:
            asked.done.set_result(await self._upgrade(berth, stop, asked))
        except PortcallError as error:
            self._here.tell("refused", berth.agent, text=f"upgrade: {error}"[:900])
            asked.done.set_exception(error)
            asked.done.exception()  # who asked may have gone
        except BaseException as error:
            asked.done.set_exception(StationError(f"the station stopped, or failed to do it: {type(error).__name__}"))
            asked.done.exception()
            raise
        finally:
            self._asked.pop(berth.agent, None)

    async def _upgrade(self, berth: Berth, stop: Wait | Asked | None, asked: _Asked) -> UpgradeReport:
        going = None if stop is None or isinstance(stop, (Asked, *_TIMED)) or waits_for(berth) else stop
        if berth.standing is Standing.READY and isinstance(stop, _TIMED):
            self._lifecycle.note_wait(berth, stop)
        held = berth.standing, berth.wait, berth.until
        state = berth.state.encode() if isinstance(berth.state, Snapshot) else berth.state
        # First as if the station stopped now: from here on the store has all of the agent.
        if state is not None:
            self._here.catch_up()
            await self._here.journal.write([checkpoints.put_checkpoint(berth, state)], True)
        berth.standing, berth.wait, berth.running = Standing.READY, None, True  # whoever looks lets it alone
        try:
            if state is None:
                state = await in_thread(self._here.state_of, berth)
            now, old = state, berth.image
            plan, mapped = await in_thread(lambda: upgrade.mapped(old, asked.image, Snapshot.decode(now)))
            report = report_of(berth, plan)
            if not asked.statement:
                return report
            if mapped is None:
                raise CannotUpgrade(plan.problems)
            await self._write(berth, held, state, asked, mapped)
            return evolve(report, done="upgraded")
        finally:
            berth.standing, berth.wait, berth.until = held
            berth.running = False
            if not self._here.closing:
                await self._take_up(berth, going, state)

    async def _write(
        self,
        berth: Berth,
        held: tuple[Standing, Wait | None, int],
        state: bytes,
        asked: _Asked,
        mapped: Snapshot,
    ) -> None:
        """Replace state, image and trail, in one write. `state`: as it was; `mapped`: as it is from now on."""
        policy = self._policy.now

        def checked() -> bytes:
            check_wasi(mapped, policy)
            check_memory(mapped, berth.grant)
            return mapped.encode()

        encoded = await in_thread(checked)
        # Now, not before: its owner may have amended it meanwhile.
        own, now = berth.credentials, self._here.clocks.now()
        check_upgrade(own.passport, own.point, asked.statement, now)
        papers = agent_credentials.upgraded(own, asked.statement, now, self._here.key)
        before = berth.image, berth.image_part, berth.credentials, berth.saved
        self._here.catch_up()
        berth.image, berth.credentials = asked.image, papers
        berth.image_part = Part("image", asked.image.digest, len(asked.encoded))
        berth.standing, berth.wait, berth.until = held
        berth.cpu_us += self._images.cost_us(asked.image.digest)
        change = checkpoints.put_checkpoint(berth, encoded, digest=canonical.digest(encoded))
        berth.standing, berth.wait = Standing.READY, None
        parts = tuple(StoredPart(s.part, asked.encoded) if s.part.kind == "image" else s for s in change.parts)
        expires = own.terms.expires
        changes: list[Change] = [
            self._trails.learn(papers.known, papers.links[-1:], expires),
            evolve(change, parts=parts),
        ]
        if own.passport.body.home.station == self._here.key.public:
            changes += self._here.journeys.upgraded(own.agent, asked.image.digest)
        try:
            await self._here.journal.write(changes, True)
        except StoreError:
            amendments = berth.credentials.amendments
            berth.image, berth.image_part, berth.credentials, berth.saved = before
            berth.credentials = evolve(berth.credentials, amendments=amendments)
            self._here.write([checkpoints.put_checkpoint(berth, state)])
            raise
        self._here.tell("upgraded", berth.agent, text=f"it has the image {text_of(asked.image.digest)[:12]} now")
        berth.remark(f"upgraded to the image {text_of(asked.image.digest)[:12]}")

    async def _take_up(self, berth: Berth, going: Wait | None, state: bytes | None) -> None:
        """Let the agent go on from the store, when messages and amendments that come meanwhile are there too."""
        here = self._here
        berth.running = True
        while True:
            came = checkpoints.message_parts(berth), berth.credentials
            await here.journal.write([], True)
            if (checkpoints.message_parts(berth), berth.credentials) == came:
                break
        berth.running = False
        capsule = here.store.capsule(berth.agent, berth.visit)
        if here.closing or here.berths.get(berth.agent) is not berth or capsule is None:
            return
        order, until, turned, halting = berth.order, berth.order_until, berth.turned, berth.halting
        here.unsettle(berth, Standing.READY)
        self._resume(capsule, going)
        for each in turned:
            if not each.done():
                each.set_result(state)
        if halting is not None and not halting.done():
            halting.cancel()
        fresh = here.berths.get(berth.agent)
        if fresh is not None and order is not None and order is not OrderKind.UPGRADE:
            self._commands.obey(fresh, order, until)

    # Agents that are elsewhere

    async def send(self, agent: bytes, encoded: bytes, statement: bytes) -> UpgradeReport:
        """Send an upgrade after an agent that was launched here; it is in the outbox, durably.

        Raises `CredentialError`, `StationError`, `StoreError`.
        """
        here = self._here
        known = self.image_of(agent)
        change = read_upgrade(statement)[1]
        passport = here.store.part(known[1])
        if passport is None:
            raise StationError("the agent's passport is not here any more")
        verify_amendment(statement, verify_passport(passport))
        if canonical.digest(encoded) != change.new:
            raise CredentialError("image-digest", "the image is not the one that the owner signed")
        AgentImage.decode(encoded)
        if len(encoded) > MAX_SENT_IMAGE_BYTES:
            raise StationError(
                f"the agent is at another station, and the new code has {len(encoded) >> 20} MiB, where a letter has "
                f"{MAX_SENT_IMAGE_BYTES >> 20}: upgrade it at that station, or call it home first (portcall retract)"
            )
        to, now = self._queries.where(agent), here.clocks.now()
        journey = here.journeys.get(agent)
        if to is None and journey is None:
            raise UnknownAgent("this agent is not here, and was not launched here")
        order = sign_order(agent, OrderKind.UPGRADE, now, here.key, statement=statement)
        letter = Outbox.posted(
            to or (journey.place if journey is not None else here.key.public),
            LetterKind.ORDER,
            identify("order", agent, OrderKind.UPGRADE.value, now),
            [order, encoded, 0],
            now + ORDER_LIFETIME_MS,
        )
        await here.journal.write([letter], True)
        here.outbox.nudge()
        return UpgradeReport(text_of(agent), text_of(change.old), text_of(change.new), "sent")


def report_of(berth: Berth, plan: upgrade.Plan) -> UpgradeReport:
    """A plan for an agent as plain values."""
    return UpgradeReport(
        text_of(berth.agent),
        text_of(plan.old),
        text_of(plan.new),
        "possible" if plan.possible else "refused",
        plan.begun,
        plan.weak,
        tuple(FrameReport(each.function, each.site, each.to, each.times, each.why) for each in plan.frames),
        plan.problems,
    )
