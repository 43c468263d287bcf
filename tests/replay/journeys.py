"""Journeys for tests: two stations that record, and an agent in Python that goes from one to the other."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agents.image import AgentImage
from agents.sdk.sources import load_image
from docking import Policy, Station
from docking.handle import Agent
from tests.station.harbour import OWNER, meet, station

TRIP = """
import os, time
import portcall
seen = []
for place in ["beta", "alpha", "beta"]:
    portcall.go(place)
    seen.append(portcall.here())
    for turn in range(3):
        print("turn", turn, seen)
    portcall.report("at", place)
    time.sleep(0.01)
    with open("/notes.txt", "a") as notes:
        notes.write(place)
    print(portcall.call("echo", "hi"), os.urandom(4))
"""


Pair = tuple[Station, Station]


@functools.cache
def image_of(source: str, folder: Path) -> AgentImage:
    """The image of a script."""
    folder.mkdir(exist_ok=True)
    path = folder / "trip.py"
    path.write_text(source)
    return load_image(path)


@asynccontextmanager
async def recording(folder: Path, mib: int = 64, policy: Policy | None = None) -> AsyncIterator[Pair]:
    """Two stations that record, alpha and beta, with the service `echo`."""
    policy = policy or Policy(owners=[OWNER.public])
    made = [station(name, folder / name, policy=policy, record_mib=mib) for name in ("alpha", "beta")]
    async with made[0] as alpha, made[1] as beta:
        await meet(alpha, beta)
        for each in made:
            each.offer("echo", lambda request: request)
        yield alpha, beta


async def travelled(alpha: Station, image: AgentImage) -> Agent:
    """An agent that has made the trip."""
    agent = await alpha.launch(image, via=["beta", "alpha", "beta"], owner=OWNER)
    assert (await agent.wait(60)).exit_code == 0
    return agent
