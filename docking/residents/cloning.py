"""Clone a resident, once or several times from one state: all clones are durable before any runs.

Not when clones are asked for (`commands`, `lifecycle`). A clone is refused only where the permit or the policy says so,
and then all are. Invariant: clones of one call and their original are written in one change of the store.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from agents.credentials.keys import text_of
from agents.errors import CredentialError
from agents.waits import Cloned, Event, Forked
from docking.letters.journeys import JourneyStanding
from docking.residents import checkpoints
from docking.residents.berth import Berth, HostEnvironment
from docking.residents.residents import Residents
from docking.store.changes import Change
from docking.trust import agent_credentials
from docking.trust.admission import room_for
from docking.trust.in_force import PolicyInForce
from docking.trust.verified_trails import VerifiedTrails

Told = Callable[[int, "tuple[str, ...]"], Event]
"""What an agent gets: the original, 0, with the ids of all clones; and each of these, its number."""


def told_of_clone(number: int, ids: tuple[str, ...]) -> Event:
    """What two agents get of which one asked for a clone."""
    return Cloned(None if number else ids[0])


def told_of_fork(number: int, ids: tuple[str, ...]) -> Event:
    """What agents get of which one asked for a fork."""
    return Forked(number, () if number else ids)


async def make_clones(
    here: Residents,
    environment: HostEnvironment,
    policy: PolicyInForce,
    trails: VerifiedTrails,
    berth: Berth,
    state: bytes,
    count: int,
    told: Told,
) -> list[Berth]:
    """So many agents made of this one, durable, not yet running. Raises `CredentialError`, and makes none."""
    own, body = berth.credentials, berth.credentials.passport.body
    if not berth.grant.allows("host:clone"):
        raise CredentialError("capability", "the agent's permit here does not cover host:clone")
    if berth.cloned + count > body.clones.each or own.point.generation >= body.clones.generations:
        left = 0 if own.point.generation >= body.clones.generations else body.clones.each - berth.cloned
        what = f"only {left} further clones" if left else "no further clone"
        raise CredentialError("clones", f"the passport allows {what}")
    load = here.load()
    owners = {**load.owners, body.owner: load.owners.get(body.owner, 0) + count - 1}
    load = evolve(load, residents=load.residents + count - 1, busy=load.busy + count - 1, owners=owners)
    refusal = room_for(body.owner, policy.now, load)  # of the last one
    if refusal is not None:
        raise CredentialError(refusal.code, refusal.reason)
    reported, now = (berth.head, berth.reports), here.clocks.now()
    children = []
    for serial in range(berth.cloned, berth.cloned + count):
        papers = agent_credentials.cloned(own, serial, state, reported, now, here.key)
        child = Berth(environment, papers, berth.grant, berth.image, berth.image_part, state)
        child.trace = berth.trace
        children.append(child)
    berth.cloned += count
    ids = tuple(text_of(child.agent) for child in children)
    changes: list[Change] = []
    for number, child in enumerate(children, 1):
        links = [*child.credentials.links[-1:], *berth.reports]
        changes.append(trails.learn(child.credentials.known, links, own.terms.expires))
        changes.append(checkpoints.put_checkpoint(child, state, told(number, ids)))
        if body.home.station == here.key.public:
            changes.append(here.journeys.opened(child.agent, own.passport, here.key.public))
    changes.append(checkpoints.put_checkpoint(berth, state, told(0, ids)))
    here.catch_up()
    await here.journal.write(changes, True)
    for child in children:
        child.barred = berth.barred  # the policy may have changed by now
        here.settle(child)
        here.tell("cloned", berth.agent, text=text_of(child.agent))
        here.tell_home(child, JourneyStanding.TRAVELLING)
    return children
