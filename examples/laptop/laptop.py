"""A laptop that is closed most of the time, and that nobody can call: its agents and their mail wait at its dock.

Three stations: the office, where the agent begins; the dock, which is always there; and the laptop, which names the
dock and only ever calls others itself (`port=None`), as behind a home router.
"""

import asyncio
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import docking
from agents.sdk.sources import load_image

ME, LAPTOP = docking.SecretKey(os.urandom(32)), docking.SecretKey(os.urandom(32))
HERE = {"host": "127.0.0.1", "mdns": False}


def laptop(folder: Path, office: docking.Station, dock: docking.Station) -> docking.Station:
    """The laptop, open. It has the same home each time."""
    policy, urls = docking.Policy(owners=[ME.public]), {"peers": [office.url], "docks": [dock.url]}
    return docking.Station("laptop", folder / "laptop", policy=policy, key=LAPTOP, port=None, mdns=False, **urls)


async def story(folder: Path) -> None:
    """What happens."""
    mine = docking.Policy(owners=[ME.public])
    keeper = docking.Policy(dock_for=[LAPTOP.public])
    async with (
        docking.Station("office", folder / "office", policy=mine, **HERE) as office,
        docking.Station("dock", folder / "dock", policy=keeper, **HERE) as dock,
    ):
        async with laptop(folder, office, dock):
            await office.knows_dock_of(LAPTOP.public)
        print("the laptop was open once: the office knows it and its dock")

        note = await office.launch(load_image(Path(__file__).with_name("note.py")), via="laptop", owner=ME)
        await dock.keeps(LAPTOP.public)
        print("the laptop is closed: the agent's offer waits at the dock, sealed")

        async with laptop(folder, office, dock):
            async for event in note.events():
                if event.kind == "left":
                    break
            print("the laptop is open: the agent is there")
            note.send("the train leaves at nine")
            report = await note.wait(60)
        print("it was told:", report.results[0].text)
        print("its way:", [stay.station for stay in report.trail])


with TemporaryDirectory() as temporary:
    asyncio.run(story(Path(temporary)))
