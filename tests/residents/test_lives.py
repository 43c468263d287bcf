"""A store that was put back from an old copy is noticed, and nothing runs there until a person decides."""

from __future__ import annotations

import asyncio
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from agents.credentials import envelope
from agents.errors import CredentialError
from docking.errors import StationError, StoreError
from docking.residents.berth import Standing
from docking.residents.lives import AHEAD, Hold, Life
from docking.station import Station
from docking.store.backup import back_up, put_back
from tests.residents.guests import LISTENER
from tests.station.harbour import OWNER, begin, key_of, meet, numbers, run, settled, station


def copy(home: Path, to: Path) -> None:
    shutil.copytree(home, to)


async def held(each: Station) -> None:
    while not each.core.policy.held:
        await asyncio.sleep(0.01)


@run
async def test_peers_remember_and_a_person_decides(tmp_path: Path) -> None:
    place = tmp_path / "alpha"
    async with station("beta", tmp_path / "beta") as beta:
        async with station("alpha", place) as alpha:
            agent = await begin(alpha, LISTENER)
            await settled(alpha, agent, Standing.WAITING)
            await meet(alpha, beta)
        copy(place, tmp_path / "old")
        async with station("alpha", place) as alpha:
            await alpha.introductions.call_on(beta.url)
            while beta.core.lives._of.get(alpha.key.raw) is None:
                await asyncio.sleep(0.01)
            life = lambda: envelope.verify(Life, beta.core.lives._of[alpha.key.raw], alpha.key).body.count  # noqa: E731
            while life() < 2:
                await asyncio.sleep(0.01)
        async with station("alpha", place) as alpha:
            await alpha.introductions.call_on(beta.url)
            while life() < 3:
                await asyncio.sleep(0.01)
        shutil.rmtree(place)
        shutil.move(tmp_path / "old", place)

        async with station("alpha", place) as alpha:  # start 2 of what has been started three times
            await alpha.introductions.call_on(beta.url)
            await held(alpha)
            assert "beta' has seen start 3 of it, and this would be 2" in alpha.core.policy.held
            while agent.key in alpha.core.here.berths:
                await asyncio.sleep(0.01)
            assert agent.key in alpha.core.arrivals.kept
            with pytest.raises(StationError, match="nothing is launched here: its store was put back"):
                await begin(alpha, LISTENER)
        async with station("alpha", place) as alpha:  # and after a restart too
            assert alpha.core.policy.held
            assert alpha.core.here.berths == {}
            await alpha.core.lives.accept()
            again = alpha.agent(agent.id, OWNER)
            await settled(alpha, again, Standing.WAITING)
            again.send("four")
            again.send("x")
            assert numbers(await again.wait(), "n") == [4, 1]
            assert alpha.core.lives.own > AHEAD
            with pytest.raises(StationError, match="nothing to decide"):
                await alpha.core.lives.accept()
            await alpha.introductions.call_on(beta.url)
            while life() <= AHEAD:
                await asyncio.sleep(0.01)
            assert not alpha.core.policy.held


@run
async def test_only_its_own_signature_holds_a_station(tmp_path: Path) -> None:
    async with station("alpha", tmp_path / "alpha") as alpha, station("beta", tmp_path / "beta") as beta:
        await meet(alpha, beta)
        lives, epoch = alpha.core.lives, alpha.core.here.store.epoch
        for signed in (
            envelope.sign(Life(epoch, 99), key_of("beta")).envelope,  # by another
            b"nothing",
        ):
            with pytest.raises(CredentialError):
                await lives._shown(beta.key, signed)
        own = alpha.core.here.key
        await lives._shown(beta.key, envelope.sign(Life(bytes(16), 99), own).envelope)  # of an earlier store
        await lives._shown(beta.key, envelope.sign(Life(epoch, lives.own), own).envelope)
        assert not alpha.core.policy.held
        await lives._shown(beta.key, envelope.sign(Life(epoch, lives.own + 1), own).envelope)
        assert alpha.core.policy.held
        answer = await beta.introductions.letter(alpha.key, ["life", bytes(32), b"nothing"])
        assert answer[:1] == ["refused"]  # type: ignore[index]


@run
async def test_a_backup_of_a_station_that_runs_is_put_back_and_held(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        store = home.core.here.store
        size = back_up(tmp_path / "home", store.copy_to, tmp_path / "copy", {"station": "home", "time": 1})
        assert size == (tmp_path / "copy").stat().st_size
        assert (tmp_path / "copy").stat().st_mode & 0o77 == 0
        with pytest.raises(StationError, match="is there already"):
            back_up(tmp_path / "home", store.copy_to, tmp_path / "copy", {})
    about = put_back(tmp_path / "copy", tmp_path / "again", Hold("put back").encode())
    assert about["station"] == "home"
    with pytest.raises(StationError, match="has something in it"):
        put_back(tmp_path / "copy", tmp_path / "again", Hold("put back").encode())
    async with station("home", tmp_path / "again") as home:
        assert home.core.policy.held == "put back"
        await home.core.lives.accept()
        again = home.agent(agent.id, OWNER)
        again.send("four")
        again.send("x")
        assert numbers(await again.wait(), "n") == [4, 1]


@pytest.mark.parametrize("bent", ["cut", "text", "elsewhere", "link", "no store", "damaged"])
def test_what_is_no_backup_is_refused(bent: str, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    with tarfile.open(path, "w") as archive:
        for name, data in [
            ("portcall-backup.json", b'{"format": 1}'),
            ("../outside" if bent == "elsewhere" else "station.key", b"key"),
            ("pins.json" if bent == "no store" else "station.db", b"x" * 5000),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if bent == "link" and name == "station.key":
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
            archive.addfile(member, io.BytesIO(data))
    if bent == "cut":
        path.write_bytes(path.read_bytes()[:1800])
    if bent == "text":
        path.write_text("no archive")
    with pytest.raises((StationError, StoreError)):
        put_back(path, tmp_path / "home", b"")
    assert not (tmp_path / "outside").exists()
