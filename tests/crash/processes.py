"""Real processes, real SIGKILL: `python -m tests.crash.processes --runs 200`.

Two processes, each a courier with its store on the disk, over Unix sockets. One of them kills itself at the
n-th failpoint (before and after each commit of its store and each message), is started again, and the
journey must end as it should. The simulator (`matrix`) reaches far more places; this shows that threads,
files and processes keep what it assumes.

What a station tells the parent (one pipe for both, so in the order of causes) is checked as it comes: never
two live agents.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import random
import selectors
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from attrs import define, field

from agents import canonical
from docking.courier import Courier
from docking.errors import LocalProtocolError, PeerUnreachable
from docking.handoff import codec
from docking.handoff.actions import Cargo, Departure, DestinationTrust, Left, Record, Resume, SourceTrust, Start, Timing
from docking.handoff.messages import Body, Message, Offer, Part, handoff_id
from docking.handoff.refusal import Refusal
from docking.handoff.table import HandoffTable, Ledger
from docking.store.changes import PutCheckpoint, StoredPart
from docking.store.group_commit import GroupCommit
from docking.store.store import Store
from tests import patience
from tests.crash.world import AGENT, EXPIRES, IMAGE, Broken, Life

STOPS = ("beta", "alpha")
NAMES = ("alpha", "beta")
KEYS = {name: canonical.digest(name.encode()) for name in NAMES}
TIMING = Timing(offer_again_s=0.2, commit_again_s=0.05, ask_again_s=0.05, longest_s=0.2)
PATIENCE = 3.0
LIMIT = patience.PATIENCE


@define(eq=False)
class Station:
    """The child: one station, until it is killed or told to end."""

    name: str
    folder: Path
    tell: int
    kill_at: int | None
    points: int = 0
    store: Store = field(init=False)
    courier: Courier[Life] = field(init=False)
    tasks: set[Any] = field(factory=set)
    serving: set[Any] = field(factory=set)

    async def run(self, launch: bool) -> None:
        self.store = Store.open(
            self.folder / f"{self.name}.db",
            new_epoch=os.urandom(16),
            clock=lambda: time.time_ns() // 1_000_000,
            failpoint=self.failpoint,
        )
        source = SourceTrust(self._verify_receipt, self._sign_commit)
        destination = DestinationTrust(self._consider, self._admit, self._sign_receipt, self._verify_commit)
        ledger = Ledger(self.store.record, self.store.copies)
        table = HandoffTable(KEYS[self.name], self.store.epoch, ledger, source, destination, TIMING)
        self.courier = Courier(table, GroupCommit(self.store), self, self._notify, self.failpoint)
        if launch and not self.store.history(AGENT) and self.store.capsule(AGENT, 0) is None:
            parts = self._parts(Life(("alpha",)))
            self.store.commit([[PutCheckpoint(AGENT, 0, parts)]])
        for capsule in self.courier.recover().residents:
            self._wake(self._load(capsule.hop))
        path = self.folder / f"{self.name}.sock"
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, path)
        end = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
        self.say("up")
        await end.wait()
        server.close()
        await self.courier.close()
        await asyncio.gather(*self.serving, return_exceptions=True)
        self.store.close()

    def failpoint(self, place: str) -> None:
        if self.points == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.points += 1
        self.say("point")

    def say(self, what: str) -> None:
        os.write(self.tell, f"{self.name} {what}\n".encode())

    # The agent

    def _wake(self, life: Life) -> None:
        if life.history[-1:] != (self.name,):
            life = Life((*life.history, self.name))
        self.say("alive")
        if life.hop > len(STOPS):
            self.say("finished")
            return
        task = asyncio.ensure_future(self._depart(life))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _depart(self, life: Life) -> None:
        to = KEYS[STOPS[life.hop - 1]]
        stored = self._parts(life)
        bodies = tuple(Body(index, part.body or b"") for index, part in enumerate(stored))
        hop, nonce, state = life.hop - 1, os.urandom(16), life.pack()
        hid = handoff_id(AGENT, hop, KEYS[self.name], to, nonce)
        visit = canonical.digest(hid, state)
        parts = tuple(part.part for part in stored)
        offer = Offer(hid, AGENT, hop, KEYS[self.name], to, nonce, self.store.epoch, visit, EXPIRES, parts, bodies[:1])
        self.say("frozen")
        stand = PutCheckpoint(AGENT, hop, stored)
        refused = await self.courier.depart(Departure(offer, bodies, PATIENCE), lambda: stand)
        if refused is not None:
            self._wake(life)

    def _notify(self, notice: Any) -> None:
        match notice:
            case Start(record, _, admission):
                self._wake(admission or self._load(record.hop + 1))
            case Resume(record, refused) if refused.code == "restarted":
                self._wake(self._load(record.hop))
            case Left():
                self.say("left")
            case _:
                pass

    def _parts(self, life: Life) -> tuple[StoredPart, ...]:
        named = (("state", life.pack()), ("image", IMAGE))
        return tuple(StoredPart(Part(kind, canonical.digest(body), len(body)), body) for kind, body in named)

    def _load(self, hop: int) -> Life:
        return load(self.store, hop)

    # The network

    async def exchange(self, peer: bytes, message: Message) -> Message | None:
        there = next(name for name, key in KEYS.items() if key == peer)
        try:
            reader, writer = await asyncio.open_unix_connection(self.folder / f"{there}.sock")
        except OSError as error:
            raise PeerUnreachable(str(error)) from error
        try:
            writer.write(KEYS[self.name])
            writer.writelines(codec.encode_message(message))
            writer.write_eof()
            answer = await reader.read()
            return codec.decode_message(answer) if answer else None
        except OSError as error:
            raise PeerUnreachable(str(error)) from error
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(task := asyncio.current_task())
        try:
            data = await reader.read()
            if len(data) > 32:
                answer = await self.courier.handle(data[:32], codec.decode_message(data[32:]))
                writer.writelines([] if answer is None else codec.encode_message(answer))
        except OSError:
            pass  # the other side was killed
        except LocalProtocolError:
            pass  # this one is ending
        finally:
            writer.close()
            self.serving.discard(task)

    # Judgement and signatures, with digests instead of keys

    def _consider(self, offer: Offer) -> tuple[int, ...] | Refusal:
        return tuple(i for i, part in enumerate(offer.parts) if not self.store.has_part(part.digest))

    def _admit(self, cargo: Cargo) -> Life | Refusal:
        return Life.unpack(cargo.body("state") or self.store.part(cargo.offer.parts[0].digest))

    def _sign_receipt(self, cargo: Cargo, life: Life) -> bytes:
        return canonical.digest(b"receipt", KEYS[self.name], cargo.offer.hid)

    def _verify_receipt(self, record: Record, receipt: bytes) -> Refusal | None:
        good = canonical.digest(b"receipt", record.peer, record.hid)
        return None if receipt == good else Refusal("bad-receipt", "no")

    def _sign_commit(self, record: Record, receipt: bytes) -> bytes:
        return canonical.digest(b"commit", KEYS[self.name], record.hid, receipt)

    def _verify_commit(self, record: Record, commit: bytes) -> Refusal | None:
        good = canonical.digest(b"commit", record.peer, record.hid, record.receipt)
        return None if commit == good else Refusal("bad-commit", "no")


def load(store: Store, hop: int) -> Life:
    """The agent's state in this store. Raises `Broken` if it is not whole."""
    capsule = store.capsule(AGENT, hop)
    state = None if capsule is None else store.part(capsule.parts[0].digest)
    if capsule is None or state is None or store.part(capsule.parts[1].digest) != IMAGE:
        raise Broken(f"the capsule of visit {hop} is not whole")
    return Life.unpack(state)


@define(eq=False)
class Run:
    """The parent: one journey, with kills. `kills`: station -> failpoints at which its first, second, ...

    life ends.
    """

    folder: Path
    kills: dict[str, list[int]]
    alive: str | None = None
    killed: int = 0
    points: Counter[str] = field(factory=Counter)
    children: dict[str, tuple[int, int]] = field(factory=dict)  # name -> pid, pidfd
    finished: bool = False
    heard: int = -1
    tell: int = -1
    _unread: bytes = b""
    selector: selectors.BaseSelector = field(factory=selectors.DefaultSelector)

    def outcome(self) -> None:
        """Run it to its end. Raises `Broken` if the promise was."""
        self.folder.mkdir()
        self.heard, self.tell = os.pipe()
        os.set_blocking(self.heard, False)
        self.selector.register(self.heard, selectors.EVENT_READ)
        end = time.monotonic() + LIMIT
        try:
            for name in NAMES:
                self._start(name)
            while not self._settled():
                if time.monotonic() > end:
                    raise Broken("the journey does not end")
                ready = self.selector.select(0.05 if self.finished else 1.0)
                # What a station said before it died is heard before it is buried.
                self._listen()
                for key, _ in ready:
                    if key.fd != self.heard:
                        self._buried(key.data)
            self._judge()
        finally:
            for name in list(self.children):
                self._end(name, signal.SIGKILL)
            self.selector.close()
            os.close(self.heard)
            os.close(self.tell)
            shutil.rmtree(self.folder)

    def _start(self, name: str) -> None:
        kills = self.kills.get(name, [])
        kill_at = kills.pop(0) if kills else None
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(self.heard)
                asyncio.run(Station(name, self.folder, self.tell, kill_at).run(launch=name == "alpha"))
                code = 0
            finally:
                os._exit(code)
        pidfd = os.pidfd_open(pid)
        self.children[name] = (pid, pidfd)
        self.selector.register(pidfd, selectors.EVENT_READ, name)

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                *lines, self._unread = (self._unread + os.read(self.heard, 65536)).split(b"\n")
                for line in lines:
                    self._hear(*line.decode().split())

    def _hear(self, name: str, what: str) -> None:
        if what == "alive":
            if self.alive not in (None, name):
                raise Broken(f"two live agents, at {self.alive} and at {name}")
            self.alive = name
        elif what in ("frozen", "left") and self.alive == name:
            self.alive = None
        elif what == "finished":
            self.finished = True
        elif what == "point":
            self.points[name] += 1

    def _buried(self, name: str) -> None:
        self.killed += 1
        status = self._reap(name)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            raise Broken(f"{name} ended by itself: {status}")
        self.finished = self.finished and self.alive != name
        if self.alive == name:
            self.alive = None
        self._start(name)

    def _settled(self) -> bool:
        """Whether the agent is at its last stop, and nothing is open in either ledger."""
        return self.finished and not any(self._open(name) for name in NAMES)

    def _open(self, name: str) -> bool:
        with sqlite3.connect(f"file:{self.folder / name}.db?mode=ro", uri=True) as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM ledger WHERE state IN ('frozen', 'committed', 'held')"
            ).fetchone()
        connection.close()
        return bool(count)

    def _end(self, name: str, how: signal.Signals) -> None:
        os.kill(self.children[name][0], how)
        self._reap(name)

    def _reap(self, name: str) -> int:
        pid, pidfd = self.children.pop(name)
        self.selector.unregister(pidfd)
        os.close(pidfd)
        return os.waitpid(pid, 0)[1]

    def _judge(self) -> None:
        for name in NAMES:
            self._end(name, signal.SIGTERM)
        live = []
        for name in NAMES:
            store = Store.open(self.folder / f"{name}.db", new_epoch=bytes(16), clock=lambda: 0)
            live += [(name, capsule.hop, load(store, capsule.hop)) for capsule in store.capsules("live")]
            if store.unfinished() or store.capsules("held") or store.capsules("departed"):
                raise Broken(f"{name} has not finished")
            store.close()
        path = ("alpha", *STOPS)
        if [(name, hop, (*life.history, path[-1])) for name, hop, life in live] != [(path[-1], len(STOPS), path)]:
            raise Broken(f"the agent is not where it should be: {live}")


def run(runs: int, seed: int, folder: Path) -> tuple[int, int]:
    """Each failpoint of each station once, then pairs, up to `runs`.

    Gives the numbers of runs and of kills.
    """
    nominal = Run(folder / "nominal", {})
    nominal.outcome()
    cases: list[dict[str, list[int]]] = [{name: [point]} for name in NAMES for point in range(nominal.points[name])]
    generator = random.Random(seed)
    generator.shuffle(cases)
    while len(cases) < runs:
        draw = functools.partial(generator.randrange, max(nominal.points.values()))
        cases.append({name: [draw() for _ in range(generator.randint(0, 2))] for name in NAMES})
    killed = 0
    for number, kills in enumerate(cases[:runs]):
        case = Run(folder / str(number), {name: list(points) for name, points in kills.items()})
        try:
            case.outcome()
        except Broken as error:
            raise Broken(f"{error}; kills at {kills}") from error
        killed += case.killed
    return min(runs, len(cases)), killed


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill real stations at their failpoints.")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="portcall-kill-"))
    started = time.monotonic()
    try:
        runs, killed = run(arguments.runs, arguments.seed, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{runs} runs with {killed} kills in {time.monotonic() - started:.0f} s, 0 broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
