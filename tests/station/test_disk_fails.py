"""A disk that fails while a station runs: the station says so and ends, and nothing is lost, doubled or promised."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docking.errors import CarrierError, StationError, StoreUnusable, WriteFailed
from docking.handoff.messages import Side
from docking.handoff.states import Source
from docking.residents.berth import Standing as S
from docking.store.changes import KeepPart, PutFact
from docking.store.sqlite import disk_fails
from docking.store.store import Store
from docking.trust.agent_credentials import part
from tests.patience import PATIENCE
from tests.station.harbour import Watch, begin, harbour, meet, program, run, settled, station

resource = pytest.importorskip("resource")
SLEEPER = program("(drop (call $sleep (i32.const 3600000))) (call $tell_here)")
# Back and forth for ever: at each stop a call, a report and a short wait.
BOUNCER = program(
    """(loop $l (drop (call $go (s 0))) (drop (call $sleep (i32.const 10))) (call $tell_here)
       (drop (call $go (s 1))) (drop (call $sleep (i32.const 10))) (br $l))""",
    "beta|alpha",
)


@contextlib.contextmanager
def unwritable() -> Iterator[None]:
    """No file of this process can be written: a real error of the system, for which nobody has to be root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def put(n: int) -> list[Any]:
    return [PutFact("n", b"%d" % n)]


@run
async def test_a_station_whose_store_fails_says_so_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with harbour("beta") as (beta,), station("alpha", tmp_path / "alpha") as alpha:
        await meet(alpha, beta)
        sleeper, bouncer = await begin(alpha, SLEEPER), await begin(alpha, BOUNCER, *["beta", "alpha"] * 500)
        await settled(alpha, sleeper, S.WAITING)
        waiting = asyncio.ensure_future(bouncer.wait())
        watch = Watch(alpha)
        while bouncer.trail() == () or alpha.failure:
            await asyncio.sleep(0.01)
        with unwritable():
            alpha.core.here.write(put(1))
            why = await asyncio.wait_for(alpha.failed(), PATIENCE)
        assert "see to the disk" in why
        assert alpha.failure == why
        assert "store_failed 1" in alpha.metrics()
        assert (await watch.until("alarm")).text.endswith(why)
        with pytest.raises(StationError, match="stopped before"):
            await waiting
        # Nobody runs or is taken any more, and nobody is promised anything.
        with pytest.raises(StationError, match="cannot go on"):
            sleeper.wake()
        while alpha.core.here.workers.busy:  # who ran was asked to suspend
            await asyncio.sleep(0.01)
        with pytest.raises(CarrierError, match="503"):
            await beta.introductions.wire.hello(alpha.key, beta.introductions.card(alpha.key))
    assert alpha.failure == why
    async with station("alpha", tmp_path / "alpha") as again:
        assert not again.failure
        assert sleeper.key in again.core.here.berths


@run
async def test_who_is_at_the_end_when_the_disk_fails_is_told_too(tmp_path: Path) -> None:
    alpha = station("alpha", tmp_path / "alpha")
    async with alpha:
        await settled(alpha, await begin(alpha, SLEEPER), S.WAITING)
        with unwritable():
            await alpha.close()
    assert alpha.failure


def opened(path: Path, **options: Any) -> Store:
    return Store.open(path, new_epoch=bytes(16), clock=lambda: 0, **options)


def test_bodies_that_cannot_be_removed_are_removed_by_the_next_start(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db", large_from=10)
    body = bytes(100)
    assert store.commit([[KeepPart(part("state", body), body)]]) == [None]
    shutil.rmtree(tmp_path / "s.db.bodies")
    (tmp_path / "s.db.bodies").write_text("no folder")  # what is below it can neither be read nor removed
    with pytest.raises((WriteFailed, StoreUnusable)):
        store.part(part("state", body).digest)
    assert store.commit([put(1)]) == [None]
    store.close()
    with pytest.raises(StoreUnusable, match="closed"):
        store.fact("n")


def test_a_disk_that_fails_is_told_from_one_that_is_full() -> None:
    import sqlite3

    assert disk_fails(OSError(errno.EROFS, ""))
    assert disk_fails(OSError(errno.EIO, ""))
    assert not disk_fails(OSError(errno.ENOSPC, ""))
    for said in ("disk I/O error", "attempt to write a readonly database", "unable to open database file"):
        assert disk_fails(sqlite3.OperationalError(said))
    for said in ("database or disk is full", "database is locked", "no such table: x"):
        assert not disk_fails(sqlite3.OperationalError(said))


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE])
def test_a_body_that_the_disk_does_not_take_ends_the_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = opened(tmp_path / "s.db", large_from=10)

    def write(file: int, data: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(WriteFailed, match="could not be written"):
        store.commit([[KeepPart(part("state", bytes(100)), bytes(100))]])
    monkeypatch.undo()
    with pytest.raises(WriteFailed, match="does not write any more"):
        store.commit([put(1)])
    store.close()


# Real stations on a real file system that ends under them


def own_disk(path: Path) -> None:
    """A file system of its own, which only root can make."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("file systems are made by root on Linux only")
    path.mkdir()
    image = path.with_suffix(".img")
    with open(image, "wb") as file:
        file.truncate(512 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mount(path)


def mount(path: Path) -> None:
    done = subprocess.run(["mount", "-o", "loop", str(path.with_suffix(".img")), str(path)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode()}")


def another_image(path: Path) -> None:
    """The same bytes in another file. A network namespace, which another test may make at any time, has all mounts of
    that moment: there a file system goes on as it is, failed, and who mounts its image again gets that one.
    """
    image, copy = path.with_suffix(".img"), path.with_suffix(".copy")
    subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
    os.replace(copy, image)


def read_only(path: Path) -> None:
    """What ext4 does by itself when it finds an error (`errors=remount-ro`), also with files open for writing."""
    subprocess.run(["mount", "-o", "remount,abort", str(path)], check=True)


def pulled_out(path: Path) -> None:
    """As if the device was gone: each read and write is an error (EXT4_IOC_SHUTDOWN)."""
    import fcntl

    file = os.open(path, os.O_RDONLY)
    fcntl.ioctl(file, 0x8004587D, (2).to_bytes(4, sys.byteorder))
    os.close(file)


class Command:
    """`portcall station`, as a process."""

    def __init__(self, tmp: Path, name: str, home: Path, port: int, *more: str) -> None:
        self.env = os.environ | {
            "PORTCALL_RUNNING": str(tmp / "running"),
            "HOME": str(tmp),
            "XDG_CONFIG_HOME": str(tmp),
        }
        command = [sys.executable, "-m", "docking.cli", "station", "--name", name, "--home", str(home), "--no-mdns"]
        command += ["--host", "127.0.0.1", "--port", str(port), *more]
        # Not to a file, which could not be written either.
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.env, text=True
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self.lines.append(line)

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def ended(self) -> int:
        """Its exit code."""
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return code

    def until(self, word: str) -> str:
        """The first line that has this word."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for line in self.said.splitlines():
                if word in line:
                    return line
            assert self.process.poll() is None or word in self.said, self.said
            time.sleep(0.02)
        raise AssertionError(f"no {word!r} in: {self.said}")

    def ask(self, *words: str) -> str:
        command = [sys.executable, "-m", "docking.cli", *words]
        return subprocess.run(command, env=self.env, capture_output=True, check=True, timeout=PATIENCE).stdout.decode()


@contextlib.contextmanager
def travellers(tmp_path: Path, home: Path, count: int) -> Iterator[tuple[Command, Command, Any]]:
    """Stations alpha, at `home`, and beta; `count` agents from alpha, on their way; and what starts alpha again."""
    made: list[Command] = []

    def start(name: str, home: Path, *more: str) -> Command:
        made.append(Command(tmp_path, name, home, *more))
        return made[-1]

    try:
        beta = start("beta", tmp_path / "beta", 0)
        peer = beta.until("station beta at").split(" at ")[1].split(",")[0]
        alpha = start("alpha", home, 0, "--peer", peer)
        port = int(alpha.until("station alpha at").split(",")[0].rpartition(":")[2])
        (tmp_path / "bouncer.wat").write_text(BOUNCER)
        alpha.until("peer")
        via = ",".join(["beta", "alpha"] * 500)
        for _ in range(count):
            alpha.ask("launch", str(tmp_path / "bouncer.wat"), "--via", via, "--from", "alpha")
        beta.until("left")
        yield alpha, beta, lambda: start("alpha", home, port, "--peer", peer)
    finally:
        for each in made:
            each.process.kill()
            each.ended()


def ended_with_a_sentence(alpha: Command) -> None:
    assert alpha.ended() == 1
    assert "portcall: the station alpha has ended: " in alpha.said
    assert "start the station again" in alpha.said
    assert "Traceback" not in alpha.said
    assert alpha.said.count("could not be written") < 5  # not once for each agent and write


def on_mended(disk: Path, again: Callable[[], Command]) -> Command:
    """The station on its file system, checked and mounted anew. One that was aborted turns read-only again, a few times
    in a hundred, at the next thing that it finds wrong; then once more.
    """
    for _ in range(5):
        subprocess.run(["umount", str(disk)], check=True)
        another_image(disk)
        check = ["e2fsck", "-fy", str(disk.with_suffix(".img"))]
        assert any(subprocess.run(check, capture_output=True, check=False).returncode == 0 for _ in range(5))
        mount(disk)
        well = again()
        try:
            well.until("station alpha at")
            return well
        except AssertionError:
            assert "Read-only file system" in well.said, well.said
    raise AssertionError("the file system stays read-only")


@pytest.mark.parametrize("fail", [read_only, pulled_out])
def test_a_station_whose_file_system_fails_ends_and_its_agents_go_on_after(tmp_path: Path, fail: Any) -> None:
    """Not that each is there once: of what was written in the moment of the failure, the file system itself loses, one
    time in forty, what it said was on the disk (seen with a loop of `fdatasync`, without a station).
    """
    disk = tmp_path / "disk"
    own_disk(disk)
    try:
        with travellers(tmp_path, disk / "alpha", 2) as (alpha, beta, again):
            fail(disk)
            ended_with_a_sentence(alpha)
            assert beta.process.poll() is None
            still = again()
            assert still.ended() == 1
            assert still.said.startswith("portcall: ")
            assert str(disk / "alpha") in still.said
            assert still.said.count("\n") == 1
            well = on_mended(disk, again)
            well.until("arrived")
            well.until("left")
            well.process.send_signal(signal.SIGTERM)
            assert well.ended() == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=False)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of other processes are Linux's")
def test_agents_of_a_station_that_could_not_write_are_there_once(tmp_path: Path) -> None:
    count = 4
    with travellers(tmp_path, tmp_path / "alpha", count) as (alpha, beta, again):
        for _ in range(3):
            resource.prlimit(alpha.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            ended_with_a_sentence(alpha)
            alpha = again()
            alpha.until("arrived")
            alpha.until("left")
        for each in (alpha, beta):
            each.process.send_signal(signal.SIGTERM)
            assert each.ended() == 0
            assert "alarm" not in each.said.replace("held: the station was stopped", ""), each.said
    live: list[tuple[bytes, int]] = []
    given: list[tuple[bytes, int]] = []
    for home in (tmp_path / "alpha", tmp_path / "beta"):
        store = opened(home / "station.db")
        live += [(capsule.agent, capsule.hop) for capsule in store.capsules("live")]
        given += [(r.agent, r.hop) for r in store.unfinished() if r.side is Side.SOURCE and r.state is Source.COMMITTED]
        store.close()
    # One that its source gave away either is on the way and will live there, or lives there and its source does not
    # know yet.
    on_the_way = [agent for agent, hop in given if not any(a == agent and h > hop for a, h in live)]
    once = [agent for agent, _ in live] + on_the_way
    assert len(once) == len(set(once)) == count
