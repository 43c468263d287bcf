"""Two stations, each a process of its own that can be killed, and is started again on the same home and port.

Not here: which moments are tried, and what is shown (`act_crash`). Invariant: when the block ends, no process is
left.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field

from agents.credentials.keys import SecretKey, bytes_of
from docking.connection import Connection
from docking.control.client import ControlAddress, ControlClient
from docking.errors import ControlError, StationError
from docking.home import STORE_FILE
from docking.trust.identity import introduce

END_S = 20.0  # seconds that a process has to end in good order
CAPABILITIES = 'capabilities = ["service:*", "host:*"]\n'


@define(eq=False, repr=False)
class Mortal:
    """One station in `folder`. `pid`: of its present life; `deaths`: how often it was killed."""

    name: str
    folder: Path
    process: subprocess.Popen[str] | None = None
    pid: int = 0
    url: str = ""
    deaths: int = 0

    def start(self) -> None:
        """Start it, or start it again where it was before. Raises `StationError`."""
        if self.process is None:
            command = [sys.executable, "-m", "docking.lessons.place", self.name, str(self.folder / self.name)]
            with (self.folder / f"{self.name}.log").open("w") as log:
                self.process = subprocess.Popen(
                    [*command, str(self.folder / "policy.toml")],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env={**os.environ, "PORTCALL_RUNNING": str(self._notes)},
                )
        else:
            self._tell(int(self.url.rpartition(":")[2]))

    def ready(self) -> None:
        """Wait until it listens. Raises `StationError` where it does not."""
        while (said := self._read()) is None and self.process is not None and self.process.poll() is None:
            pass  # of its death
        if not isinstance(said, list):
            tail = (self.folder / f"{self.name}.log").read_text()[-1000:].strip()
            raise StationError(f"the station {self.name} did not start: {tail}")
        self.pid, self.url = said

    @property
    def _notes(self) -> Path:
        return self.folder / "running"

    def _read(self) -> object:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def _tell(self, value: object) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    @property
    def dead(self) -> bool:
        """Whether it was killed, and was not started again."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def trap(self, place: str | None = None, number: int = 1) -> dict[str, int]:
        """Have it die there, or nowhere; how often it reached each failpoint since the last trap; none if it died."""
        self._tell(None if place is None else [place, number])
        said = self._read()
        return said if isinstance(said, dict) else {}

    def _place(self) -> ControlAddress:
        for note in self._notes.glob(f"{self.name}-*.json"):
            place = ControlAddress.read(note)
            if place is not None:
                return place
        raise ControlError(f"the station {self.name} does not run")

    def line(self) -> ControlClient:
        """A connection for questions. Raises `ControlError`."""
        return ControlClient(self._place())

    def connection(self) -> Connection:
        """A connection for agents. Raises `ControlError`."""
        return Connection(self._place())

    def ledger(self, agent: str) -> list[str]:
        """What its store says of the handoffs of an agent; also while it is dead."""
        path = self.folder / self.name / STORE_FILE
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as store:
            rows = store.execute("SELECT state FROM ledger WHERE agent = ? ORDER BY changed", (bytes_of(agent),))
            return [str(state) for (state,) in rows]

    def end(self) -> None:
        """End it, in good order where it still can."""
        if self.process is None:
            return
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        try:
            self.process.wait(END_S)
        except BaseException:  # also Ctrl-C: nothing is left running
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None


@define(eq=False, repr=False)
class Pair:
    """The stations, by name, and the owner whose agents they admit."""

    stations: dict[str, Mortal]
    owner: SecretKey = field(factory=lambda: SecretKey(secrets.token_bytes(32)))

    def __getitem__(self, name: str) -> Mortal:
        return self.stations[name]

    def meet(self) -> None:
        """Let them meet."""
        for one, other in itertools.permutations(self.stations.values(), 2):
            with one.line() as line:
                line.ask("meet", url=other.url)

    def revive(self) -> None:
        """Start again whoever is dead."""
        dead = [station for station in self.stations.values() if station.dead]
        for station in dead:
            station.deaths += 1
            station.start()
            station.ready()
        if dead:
            self.meet()  # a station that has just started knows keys, and nobody's name


@contextlib.contextmanager
def pair(folder: Path, *names: str) -> Iterator[Pair]:
    """Stations that run while the block does. Raises `StationError` where one does not start."""
    made = Pair({name: Mortal(name, folder) for name in names})
    policy = f'[[owner]]\nkey = "{made.owner.public.text}"\nname = "you"\n{CAPABILITIES}'
    (folder / "policy.toml").write_text(policy)
    introduce({name: folder / name for name in names}, secrets.token_bytes, time.time_ns() // 1_000_000)
    try:
        for station in made.stations.values():
            station.start()
        for station in made.stations.values():
            station.ready()
        made.meet()
        yield made
    finally:
        for station in made.stations.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                station.end()
