"""Runs the demonstration: starts three stations, launches an agent at the first, watches, and checks the journey.

The stations are processes like any `portcall station`, found over mDNS on the loopback interface, and watched over
their control channels. The check at the end uses only the file of the journey. Invariant: every started process is
ended, and every written file is removed, unless it is to be kept.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import queue
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import define, field

from agents import audit as auditing
from agents.capsule import Capsule
from agents.credentials.itinerary import Itinerary
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import Home
from agents.credentials.visits import Visit
from agents.image import AgentImage
from docking.cli.demo.place import PLACES
from docking.cli.demo.show import Show
from docking.cli.output import size_text
from docking.control.client import ControlAddress, ControlClient
from docking.errors import ControlError, StationError
from docking.launching import Terms, prepare_launch
from docking.trust.identity import introduce

# Seconds: for a station to start, for the stations to see each other, for the journey.
START_TIMEOUT_S, GREETING_TIMEOUT_S, JOURNEY_TIMEOUT_S = 30.0, 6.0, 30.0


@define(eq=False, repr=False)
class DemoStation:
    """A started station."""

    name: str
    notes: Path
    process: subprocess.Popen[str]
    key: PublicKey
    url: str = ""

    def line(self) -> ControlClient:
        """A connection to it. Raises `ControlError`."""
        for note in self.notes.glob(f"{self.name}-*.json"):
            place = ControlAddress.read(note)
            if place is not None:
                return ControlClient(place)
        raise ControlError(f"the station {self.name} has ended")


@define(eq=False, repr=False)
class Conductor:
    """One demonstration in `folder`."""

    show: Show
    folder: Path
    mdns: bool
    _stations: dict[str, DemoStation] = field(factory=dict)
    _events: queue.Queue[tuple[str, dict[str, Any]]] = field(factory=queue.Queue)
    _owner: SecretKey = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._owner = SecretKey(secrets.token_bytes(32))

    def run(self, image_of: Callable[[Path], AgentImage]) -> None:
        """Run the whole demonstration. Raises `StationError` that says what went wrong."""
        show = self.show
        show.title("Three stations start, each a process of its own, with a key and a store of its own:")
        self._start()
        # Meanwhile, pack the agent and compile it into the user's cache, where the stations find it.
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            packing = pool.submit(_pack, image_of)
            self._await_stations()
            self._meet()
            self._watch()
            image = packing.result()
        show.say()
        size = size_text(len(image.luggage))
        show.title(f"An agent in Python begins at alpha, with its script and the shim `portcall` ({size}):")
        agent = self._launch(image)
        self._follow(agent)
        show.say()
        self._check(agent)

    # The stations

    def _start(self) -> None:
        policy = self.folder / "policy.toml"
        rule = f'[[owner]]\nkey = "{self._owner.public.text}"\nname = "you"\ncapabilities = ["service:*", "host:*"]\n'
        policy.write_text(rule)
        homes = {name: self.folder / name for name in PLACES}
        keys = introduce(homes, secrets.token_bytes, time.time_ns() // 1_000_000)
        notes = self.folder / "running"
        for name in PLACES:
            command = [sys.executable, "-m", "docking.cli.demo.place", name, str(self.folder / name), str(policy)]
            log = (self.folder / f"{name}.log").open("w")
            environment = {**os.environ, "PORTCALL_RUNNING": str(notes), "PYTHONUNBUFFERED": "1"}
            process = subprocess.Popen(
                command + ([] if self.mdns else ["--no-mdns"]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
            log.close()
            self._stations[name] = DemoStation(name, notes, process, keys[name])

    def _await_stations(self) -> None:
        for station in self._stations.values():
            said = _read_line(station.process, START_TIMEOUT_S)
            if not said:
                raise StationError(f"the station {station.name} did not start: {self._log(station.name).strip()}")
            facts = json.loads(said)
            station.url = facts["url"]
            self.show.line(station.name, "^", f"listens at {station.url}, key {station.key.id}")

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-2000:]

    def _meet(self) -> None:
        """Wait until the stations know each other."""
        began = time.monotonic()
        if self.mdns:
            missing = self._missing()
            while missing and time.monotonic() - began < GREETING_TIMEOUT_S:
                time.sleep(0.05)
                missing = self._missing()
            if not missing:
                self.show.line("", "~", "they found each other over mDNS, and proved their keys")
                return
            self.show.line("", "!", "no multicast here: the stations are told where the others are, as with --no-mdns")
        for station in self._stations.values():
            for other in self._stations.values():
                if other is not station:
                    with station.line() as line:
                        line.ask("meet", url=other.url)
        self.show.line("", "~", "they were told of each other, and proved their keys")

    def _missing(self) -> bool:
        for station in self._stations.values():
            with station.line() as line:
                known = {row["key"] for row in line.items("stations") if row.get("proven")}
            if not {other.key.text for other in self._stations.values() if other is not station} <= known:
                return True
        return False

    # The agent

    def _watch(self) -> None:
        ready = threading.Barrier(len(self._stations) + 1)
        for station in self._stations.values():
            threading.Thread(target=self._listen, args=(station, ready), daemon=True).start()
        ready.wait(10)

    def _listen(self, station: DemoStation, ready: threading.Barrier) -> None:
        with contextlib.suppress(ControlError), station.line() as line:
            line.patient()
            for event in line.items("events"):
                if event["kind"] == "subscribed":
                    ready.wait(10)
                else:
                    self._events.put((station.name, event))

    def _launch(self, image: AgentImage) -> str:
        alpha = self._stations["alpha"]
        stops = [self._stations[name].key for name in (*PLACES, "alpha")]
        home = Home(alpha.key, (alpha.url,))
        now = time.time_ns() // 1_000_000
        launch = prepare_launch(
            image, self._owner, home, Itinerary.via(stops), Terms(label="trip"), now, secrets.token_bytes
        )
        self.show.began = time.time()
        with alpha.line() as line:
            answer = line.ask(
                "launch",
                passport=launch.passport,
                opening=launch.opening,
                state=launch.state,
                image=launch.image,
                digest=image.digest,
            )
        return str(answer["agent"])

    def _follow(self, agent: str) -> None:
        deadline = time.monotonic() + JOURNEY_TIMEOUT_S
        while True:
            try:
                station, event = self._events.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise StationError(f"the agent did not come home within {JOURNEY_TIMEOUT_S:.0f} s") from None
            if event["agent"] != agent:
                continue
            self.show.event(station, event)
            if event["kind"] in ("stopped", "disposed"):
                raise StationError(f"the agent did not come home: {event['text']}")
            if event["kind"] == "home":
                if event["text"] != "0":
                    raise StationError(f"the agent ended with exit code {event['text']}")
                return

    # The check

    def _check(self, agent: str) -> None:
        show, alpha = self.show, self._stations["alpha"]
        with alpha.line() as line:
            answer = line.ask("capsule", agent=agent)
        path = self.folder / "trip.capsule"
        path.write_bytes(answer["capsule"])
        capsule = Capsule.decode(path.read_bytes())
        audit = auditing.audit(capsule)
        if audit.code is not None:
            raise StationError(f"the trail does not hold: {audit.code}: {audit.reason}")
        names = {station.key: station.name for station in self._stations.values()}
        show.title("The trail, from the file of the journey alone:")
        visits = [visit for visit in audit.visits if isinstance(visit, Visit)]
        show.table(
            ["visit", "station", "stayed", "computed", "carried on", "results"],
            [
                [
                    str(visit.index),
                    names[visit.station],
                    f"{visit.departed - visit.arrived} ms",
                    f"{visit.used.cpu / 1000:.1f} ms",
                    size_text(visit.used.carried) if visit.next else "-",
                    str(visit.results.count),
                ]
                for visit in visits
            ],
        )
        links = len(capsule.trail.links)
        show.good(f"{links} signatures of stations and the owner's hold; each state is the one handed over before")
        show.good("the route is the one that the owner signed, to its end" if audit.whole else "the route is legal")
        show.say()
        show.title("What it reported, sealed on the way and opened with the owner's key:")
        reports = auditing.reports(capsule, self._owner.box())
        rows = [[names[r.entry.station], r.key, r.value.decode("utf-8", "replace")] for r in reports]
        show.table(["station", "service", "answer"], rows)
        if [row[0] for row in rows] != list(PLACES):
            raise StationError("the results are not those of the three stations")

    def end(self) -> None:
        """End the stations; at once, if the user interrupts this too."""
        try:
            for station in self._stations.values():
                with contextlib.suppress(OSError):
                    assert station.process.stdin is not None
                    station.process.stdin.close()
            for station in self._stations.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    station.process.wait(10)
        finally:
            for station in self._stations.values():
                if station.process.poll() is None:
                    station.process.kill()
                    station.process.wait()


def _pack(image_of: Callable[[Path], AgentImage]) -> AgentImage:
    """The agent's image, packed and compiled once."""
    from agents.engines import load

    image = image_of(Path(__file__).with_name("agent") / "trip.py")
    engine = load()
    program = engine.program(image.code, image.code_digest)
    if image.resumption is not None:
        engine.extension(program, image.resumption, image.resumption_digest)
    return image


def _read_line(process: subprocess.Popen[str], timeout: float) -> str:
    """The first line that a process prints, or an empty one."""
    found: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=lambda: found.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
    with contextlib.suppress(queue.Empty):
        return found.get(timeout=timeout)
    return ""


@contextlib.contextmanager
def folder(keep: bool) -> Iterator[Path]:
    """A new folder, removed afterwards unless it is to be kept."""
    path = Path(tempfile.mkdtemp(prefix="portcall-demo-"))
    try:
        yield path
    finally:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)
