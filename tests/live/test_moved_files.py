"""The large files of an agent that is moved while it runs travel as blocks: what it wrote is there, and what it did not
write is not sent again.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

import agents
from agents.sdk.sources import load_image
from docking import Station
from docking.errors import StationError
from docking.handle import Agent
from docking.live import wire
from docking.live.sessions import Session
from docking.residents.sending import Sending
from tests.live.movers import TERMS, policy
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, harbour, meet, run, station

KIB = 1 << 10
SIZE = 384 * KIB  # bytes of its files at first, together
# Writes records at random into files that grow, shrink, come and go, and knows what they should be: a checksum of each.
LEDGER = b"""
import os, portcall

def fill(number, size):
    return bytes([(number * 7 + at) % 251 for at in range(256)]) * (size // 256)

files = {}
for number in range(3):
    with open("/f%d" % number, "wb") as f:
        f.write(fill(number, 128 * 1024))
    files["/f%d" % number] = bytearray(fill(number, 128 * 1024))
portcall.report("ready", "1")
seed, turns = 12345, 0
while portcall.here() != "omega":
    turns += 1
    for _ in range(10):
        seed = (seed * 1103515245 + 12345) % 2147483648
        name = "/f%d" % (seed // 65536 % 2)
        at = seed // 8 % 100000
        with open(name, "r+b") as f:
            f.seek(at)
            f.write(b"%016d" % seed)
        files[name][at:at + 16] = b"%016d" % seed
    if turns % 5 == 0:  # longer, and another one comes and goes
        with open("/f1", "ab") as f:
            f.write(b"x" * 1000)
        files["/f1"] += b"x" * 1000
        with open("/passing", "wb") as f:
            f.write(bytes(100000))
    elif turns % 5 == 2 and "passing" in os.listdir("/"):
        os.remove("/passing")
    portcall.sleep(0.01)
wrong = 0
for name in files:
    with open(name, "rb") as f:
        wrong += f.read() != bytes(files[name])
portcall.report("wrong", str(wrong))
portcall.report("turns", str(turns))
"""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> agents.AgentImage:
    source = tmp_path_factory.mktemp("ledger") / "ledger.py"
    source.write_bytes(LEDGER)
    return load_image(source)


async def begun(at: Station, image: agents.AgentImage, *via: str) -> Agent:
    """It has filled its files, and writes."""
    agent = await at.launch(image, list(via), owner=OWNER, terms=TERMS)
    while not at.core.here.berths[agent.key].life or _luggage(at, agent) <= SIZE + 100 * KIB:
        await asyncio.sleep(0.01)
    return agent


def _luggage(at: Station, agent: Agent) -> int:
    life = at.core.here.berths[agent.key].life
    return 0 if life is None or life.wasi is None else life.wasi.luggage.used


async def ended(agent: Agent) -> None:
    report = await agent.wait(PATIENCE)
    said = {result.key: result.value for result in report.results}
    assert (report.exit_code, said["wrong"]) == (0, b"0")
    assert int(said["turns"]) > 0


def test_no_write_to_a_file_is_lost_and_what_is_not_written_is_sent_once(
    ledger: agents.AgentImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasts: list[tuple[wire.Rest, Any]] = []
    rest_of = Sending.rest

    def noted(it: Sending, found: list[list[int]]) -> Any:
        lasts.append(rest_of(it, found))
        return lasts[-1]

    monkeypatch.setattr(Sending, "rest", noted)

    @run
    async def main() -> None:
        async with harbour("alpha", "beta", "omega", home=tmp_path, policy=policy()) as (alpha, beta, _):
            agent = await begun(alpha, ledger, "beta", "omega")
            await agent.move("beta", on_timeout="force")
            await beta.agent(agent.id).move("omega", on_timeout="post-copy", timeout_s=0)
            await ended(agent)

    main()
    assert len(lasts) == 2
    for rest, snapshot in lasts:
        assert snapshot.files is not None
        assert len(snapshot.wasi) < 150 * KIB < SIZE  # of files, where their blocks are
        assert all(owed.memory == 0 for owed in rest.owed)
    sent = sum(len(each.blocks) for each in lasts[0][0].batches if each.memory == 1)
    assert sent < lasts[0][1].files.pages * 4 / 2


def test_after_a_crash_its_files_are_those_that_arrived(ledger: agents.AgentImage, tmp_path: Path) -> None:
    @run
    async def main() -> None:
        async with harbour("alpha", "omega", home=tmp_path, policy=policy()) as (alpha, omega):
            async with station("beta", tmp_path / "beta", policy=policy()) as beta:
                await meet(alpha, beta)
                agent = await begun(alpha, ledger, "beta", "omega")
                await agent.move("beta", on_timeout="force")
                await beta.core.here.journal.write([], True)
                shutil.copytree(tmp_path / "beta", tmp_path / "copy")  # as a crash would leave it
                (tmp_path / "copy" / "control.sock").unlink(missing_ok=True)
            async with station("beta", tmp_path / "copy", policy=policy()) as again:
                await meet(alpha, again)
                await meet(again, omega)
                while not again.core.here.berths[agent.key].begun:
                    await asyncio.sleep(0.01)
                await again.agent(agent.id).move("omega", on_timeout="force")
                await ended(agent)

    main()


def test_files_whose_blocks_are_not_those_that_are_signed_are_refused(
    ledger: agents.AgentImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = Session._name

    def otherwise(it: Session, later: Any) -> None:
        """As if one block were not the one that the source has signed."""
        name(it, later)
        it.trees[-1][0] = bytes(31) + b"1"

    @run
    async def main() -> None:
        async with harbour("alpha", "omega", policy=policy()) as (alpha, _):
            agent = await begun(alpha, ledger, "omega")
            monkeypatch.setattr(Session, "_name", otherwise)
            with pytest.raises(StationError, match="bad-blocks"):
                await agent.move("omega", on_timeout="force")
            monkeypatch.undo()
            await agent.move("omega", on_timeout="force")
            await ended(agent)

    main()
