"""Parts of stored agents that were damaged: the station starts, says which agent it cannot take up, and goes on with
the others. Nothing that may still be needed is removed.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from docking import Terms
from docking.errors import DockingError, StoreUnusable
from docking.launching import DEFAULT_PERMIT
from docking.residents.berth import Standing
from tests.live.movers import BUDGET, accountant, policy
from tests.live.test_moves import SMALL, running
from tests.residents.guests import RESTING
from tests.station.harbour import begin, harbour, meet, program, run, settled, station
from tests.thorough import THOROUGH

# Reports something and sleeps: what came by mail meanwhile lies there too.
KEEPER = program("(call $tell_here) (drop (call $sleep (i32.const 3600000)))")
GUEST = program("(call $tell_here) (drop (call $go (s 0))) (loop $on (br $on))", "omega")
# A file of blocks has room for all memory that the permit allows.
TERMS = Terms(permit=evolve(DEFAULT_PERMIT, budget=evolve(BUDGET, memory=4 << 20)))
MOVER = accountant(SMALL, last="zeta", hot=1, pause=1)

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "begins otherwise": lambda data: bytes([data[0] ^ 0xFF]) + data[1:],
    "a bit in the middle": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    ),
    "ends otherwise": lambda data: data[:-1] + bytes([data[-1] ^ 0x80]),
    "longer": lambda data: data + b"\0",
    "missing": lambda data: None,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a crash leaves it: with an agent that was moved live, one that came by itself, one that sleeps and has mail
    and reports, and one that is in good health in each test."""
    folder = tmp_path_factory.mktemp("homes")

    @run
    async def fill() -> None:
        async with harbour("alpha", home=folder, policy=policy()) as (alpha,):
            omega = station("omega", folder / "omega", policy=policy())
            async with omega:
                await meet(alpha, omega)
                keeper = await begin(omega, KEEPER)
                await settled(omega, keeper, Standing.WAITING)
                keeper.send(b"hello")
                while not omega.core.here.berths[keeper.key].inbox:
                    await asyncio.sleep(0.005)
                await settled(omega, await begin(omega, RESTING), Standing.WAITING)
                guest = await begin(alpha, GUEST, "omega")
                while guest.key not in omega.core.here.berths:
                    await asyncio.sleep(0.005)
                mover = await begin(alpha, MOVER, "omega", terms=TERMS)
                await running(alpha, mover)
                await mover.move("omega")
                omega.core.here.idle()
                await omega.core.here.journal.write([], True)
                shutil.copytree(folder / "omega", folder / "crashed")

    fill()
    (folder / "crashed" / "control.sock").unlink(missing_ok=True)
    base = sqlite3.connect(folder / "crashed" / "station.db")
    base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    base.close()
    return folder / "crashed"


class Damaged:
    """A copy of that home, with something changed in it."""

    def __init__(self, home: Path, copy: Path) -> None:
        shutil.copytree(home, copy)
        self.home = copy

    def query(self, sql: str, *values: Any) -> list[Any]:
        base = sqlite3.connect(self.home / "station.db")
        try:
            with base:
                return base.execute(sql, values).fetchall()
        finally:
            base.close()

    def agents(self) -> dict[str, bytes]:
        """Ids of the agents, by what they carry that others do not."""
        found = {}
        for agent, kinds in self.query("SELECT agent, group_concat(kind) FROM cargo GROUP BY agent"):
            has = set(kinds.split(","))
            name = "mover" if "blocks" in has else "guest" if "trail" in has else "keeper" if "reports" in has else ""
            found[name or "healthy"] = agent
        return found

    def body(self, digest: bytes) -> bytes:
        ((body,),) = self.query("SELECT body FROM parts JOIN bodies USING (number) WHERE digest = ?", digest)
        return bytes(body)

    def replace(self, digest: bytes, body: bytes | None) -> None:
        if body is None:
            self.query("DELETE FROM bodies WHERE number = (SELECT number FROM parts WHERE digest = ?)", digest)
            self.query("DELETE FROM parts WHERE digest = ?", digest)
        else:
            self.query(
                "UPDATE bodies SET body = ? WHERE number = (SELECT number FROM parts WHERE digest = ?)", body, digest
            )

    @property
    def files(self) -> list[Path]:
        return list(self.home.glob("*.blocks/*"))


async def standings(home: Path) -> dict[bytes, str]:
    """What a station says of its agents: with "" for those that go on."""
    at = station("omega", home, policy=policy())
    async with at:
        here, kept = at.core.here.berths, at.core.arrivals.kept
        for berth in tuple(here.values()):
            while berth.running and not berth.begun:
                await asyncio.sleep(0.005)
        rows = {row["agent"]: row for row in at.core.queries.rows()}
        assert all(row["text"] for row in rows.values() if row["standing"] == "kept")
        found = {agent: each.why for agent, each in kept.items()}
        found |= {
            agent: (berth.text or "?") if berth.standing is Standing.STOPPED else "" for agent, berth in here.items()
        }
        assert len(found) == len(here) + len(kept)
        return found


def parts(home: Path) -> Iterator[tuple[str, str]]:
    """Each part of each agent that is not in good health."""
    base = sqlite3.connect(home / "station.db")
    for kinds in base.execute("SELECT DISTINCT kind FROM cargo ORDER BY kind"):
        yield from ((name, kinds[0]) for name in ("mover", "guest", "keeper"))
    base.close()


def test_all_damage_to_each_part_is_told_and_hurts_nobody_else(home: Path, tmp_path: Path) -> None:
    cases = [(name, kind, damage) for name, kind in parts(home) for damage in DAMAGES]
    seen = set()

    @run
    async def main() -> None:
        for number, (name, kind, damage) in enumerate(cases):
            if not THOROUGH and number % 4 and damage != "missing":
                continue
            it = Damaged(home, tmp_path / str(number))
            agents = it.agents()
            rows = it.query("SELECT digest FROM cargo WHERE agent = ? AND kind = ?", agents[name], kind)
            if rows:
                ((digest,),) = rows
                it.replace(digest, DAMAGES[damage](it.body(digest)))
                found = await standings(it.home)
                wrong = {who for who, agent in agents.items() if found[agent]}
                assert set(found) == set(agents.values()), (name, kind, damage)
                # What an agent that sleeps was suspended in is read when it wakes.
                asleep = name == "keeper" and kind == "state"
                assert wrong == (set() if asleep else {name}), (name, kind, damage, found)
                seen.add((name, kind))
                if name == "mover":
                    assert it.files, (kind, damage)  # whoever mends the store finds them
            shutil.rmtree(it.home)

    main()
    assert {kind for _, kind in seen} == {
        "passport", "image", "state", "blocks", "trail", "results", "reports", "mailbox",
    }  # fmt: skip


# Its end is beyond the memory of the agent.
@pytest.mark.parametrize("damage", sorted(DAMAGES.keys() - {"ends otherwise"}))
@run
async def test_damage_to_the_file_of_blocks(home: Path, tmp_path: Path, damage: str) -> None:
    it = Damaged(home, tmp_path / "home")
    (path,) = it.files
    data = path.read_bytes()
    written = len(data.rstrip(b"\0"))  # the rest is empty
    changed = DAMAGES[damage](data[:written])
    if changed is None:
        path.unlink()
    else:
        path.write_bytes(changed if damage in ("cut", "empty") else changed.ljust(len(data), b"\0"))
        if damage == "longer":
            path.write_bytes(data + b"\0")
    agents, found = it.agents(), await standings(it.home)
    assert {who for who, agent in agents.items() if found[agent]} == {"mover"}, found


@run
async def test_a_folder_of_blocks_that_cannot_be_used_is_said(home: Path, tmp_path: Path) -> None:
    it = Damaged(home, tmp_path / "home")
    (path,) = it.files
    folder = path.parent
    kept = path.read_bytes()
    (folder / "a folder").mkdir()
    path.unlink()
    path.mkdir()
    mover = it.agents()["mover"]
    found = await standings(it.home)
    assert found[mover].startswith("state: ")
    shutil.rmtree(folder)
    folder.write_bytes(kept)
    with pytest.raises(StoreUnusable, match="look at the disk"):
        await station("omega", it.home).start()


def columns(home: Path) -> Iterator[tuple[str, str]]:
    base = sqlite3.connect(home / "station.db")
    for (table,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"):
        yield from ((table, row[1]) for row in base.execute(f"PRAGMA table_info({table})"))
    base.close()


def test_a_station_starts_or_says_why_not_whatever_is_in_its_rows(home: Path, tmp_path: Path) -> None:
    """Each column of each table holds something else, in all rows: what remains must be said in an orderly way."""
    others: list[object] = [b"", b"\xff" * 32, b"x" * 7, "text", -1, 2**62, 1.5]
    tried = 0

    @run
    async def main() -> None:
        nonlocal tried
        for number, (table, column) in enumerate(columns(home)):
            for at, other in enumerate(others):
                if not THOROUGH and (number + at) % len(others):
                    continue
                it = Damaged(home, tmp_path / "home")
                try:
                    it.query(f"UPDATE OR IGNORE {table} SET {column} = ?", other)
                    tried += 1
                    await standings(it.home)
                except sqlite3.IntegrityError:
                    tried -= 1  # the tables forbid it
                except DockingError as error:
                    assert "station.db" in str(error), (table, column, other)
                except Exception as error:
                    raise AssertionError(f"{table}.{column} = {other!r}") from error
                finally:
                    shutil.rmtree(it.home)

    main()
    assert tried > 20
