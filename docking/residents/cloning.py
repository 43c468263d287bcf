"""Clone a resident: the clone is durable before it runs.

Not when a clone is asked for (`commands`, `lifecycle`). A clone is refused only where the permit or the policy says so.
"""

from __future__ import annotations

from agents.credentials.keys import text_of
from agents.errors import CredentialError
from agents.waits import Cloned
from docking.letters.journeys import JourneyStanding
from docking.residents import checkpoints
from docking.residents.berth import Berth, HostEnvironment
from docking.residents.residents import Residents
from docking.store.changes import Change
from docking.trust import agent_credentials
from docking.trust.admission import room_for
from docking.trust.in_force import PolicyInForce
from docking.trust.verified_trails import VerifiedTrails


async def make_clone(
    here: Residents,
    environment: HostEnvironment,
    policy: PolicyInForce,
    trails: VerifiedTrails,
    berth: Berth,
    state: bytes,
) -> Berth | None:
    """A second agent made of this one, durable, not yet running. Raises `CredentialError`."""
    own, body = berth.credentials, berth.credentials.passport.body
    if not berth.grant.allows("host:clone"):
        raise CredentialError("capability", "the agent's permit here does not cover host:clone")
    serial = berth.cloned
    if serial >= body.clones.each or own.point.generation >= body.clones.generations:
        raise CredentialError("clones", "the passport allows no further clone")
    refusal = room_for(body.owner, policy.now, here.load())
    if refusal is not None:
        raise CredentialError(refusal.code, refusal.reason)
    reported = (berth.head, berth.reports)
    own_child = agent_credentials.cloned(own, serial, state, reported, here.clocks.now(), here.key)
    child = Berth(environment, own_child, berth.grant, berth.image, berth.image_part, state)
    berth.cloned = serial + 1
    changes: list[Change] = [
        trails.learn(child.credentials.known, [*child.credentials.links[-1:], *berth.reports], body.expires),
        checkpoints.put_checkpoint(child, state, Cloned(None)),
        checkpoints.put_checkpoint(berth, state, Cloned(text_of(child.agent))),
    ]
    if body.home.station == here.key.public:
        changes.append(here.journeys.opened(child.agent, own.passport, here.key.public))
    here.catch_up()
    await here.journal.write(changes, True)
    child.barred = berth.barred  # the policy may have changed by now
    here.settle(child)
    here.tell("cloned", berth.agent, text=text_of(child.agent))
    here.tell_home(child, JourneyStanding.TRAVELLING)
    return child
