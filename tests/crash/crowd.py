"""A crowd of agents on long ways between three real stations, which are killed and ended at random moments.

    python -m tests.crash.crowd [--seconds N] [--agents N] [--seed N]

What people run: `portcall station`, `launch`, `agents`, `results`, `trail --verify`; nothing is armed, or looked into.
In the end each agent is home, its results hold each step once and in order, its trail is its itinerary and verifies,
and no store has an agent left. `stations` dies at chosen places; here is what nobody thought of: long trails, restarts
in crowds, several at once. Invariant: whatever is not exactly so raises `Broken`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from attrs import define, field

from docking.store.store import Store
from tests.crash.world import Broken
from tests.patience import PATIENCE

NAMES = ("alpha", "beta", "gamma")
HOPS = 60  # more than the points of a trail that a station keeps
LIMIT = PATIENCE
AGENT = f"""(module
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "next") (data (i32.const 16) "n")
  (func $say (param $n i32) (i32.store (i32.const 32) (local.get $n))
    (if (call $report (i32.const 16) (i32.const 1) (i32.const 32) (i32.const 4)) (then unreachable)))
  (func (export "_start") (local $n i32)
    (call $say (i32.const 0))
    (loop $hop
      (block $gone (loop $try
        (br_if $gone (i32.eqz (call $go (i32.const 0) (i32.const 4)))) (drop (call $sleep (i32.const 50))) (br $try)))
      (call $say (local.tee $n (i32.add (local.get $n) (i32.const 1))))
      (drop (call $sleep (i32.const 20)))
      (br_if $hop (i32.lt_u (local.get $n) (i32.const {HOPS}))))))"""


def environment(folder: Path) -> dict[str, str]:
    """The environment of a user whose files are all in `folder`."""
    own = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return os.environ | own | {"PORTCALL_RUNNING": str(folder / "running")}


def portcall(folder: Path, *words: str) -> str:
    """What a command of that user prints. Raises `Broken` if it fails."""
    command = [sys.executable, "-m", "docking.cli", *words]
    done = subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        raise Broken(f"portcall {' '.join(words)}: {done.stderr.strip() or done.stdout}")
    return done.stdout


@define(eq=False)
class Crowd:
    """The stations, by name, and the agents: id -> home and way."""

    folder: Path
    chance: random.Random
    stations: dict[str, subprocess.Popen[str]] = field(factory=dict)
    ports: dict[str, int] = field(factory=dict)
    agents: dict[str, tuple[str, list[str]]] = field(factory=dict)
    kills: int = 0

    def __attrs_post_init__(self) -> None:
        (self.folder / "agent.wat").write_text(AGENT)

    def portcall(self, *words: str) -> str:
        """What a command prints. Raises `Broken` if it fails."""
        return portcall(self.folder, *words)

    def start(self, name: str) -> None:
        """Start a station, on its port of before, and read what it says as long as it lives."""
        command = [sys.executable, "-m", "docking.cli", "station", "--name", name, "--home", str(self.folder / name)]
        command += ["--host", "127.0.0.1", "--port", str(self.ports.get(name, 0)), "--no-mdns"]
        for other, port in self.ports.items():
            command += ["--peer", f"http://127.0.0.1:{port}"] if other != name else []
        out = subprocess.PIPE
        process = subprocess.Popen(
            command, env=environment(self.folder), stdout=out, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(f"station {name} at "):
                self.ports[name] = int(line.split(",")[0].rpartition(":")[2])
                break
        else:
            raise Broken(f"{name} does not start")
        threading.Thread(target=_swallow, args=(process,), daemon=True).start()
        self.stations[name] = process

    def launch(self) -> None:
        """One more agent, from anywhere, on a way of its own."""
        home = here = self.chance.choice(NAMES)
        way: list[str] = []
        for _ in range(HOPS):
            here = self.chance.choice([name for name in NAMES if name != here])
            way.append(here)
        said = self.portcall("launch", str(self.folder / "agent.wat"), "--via", ",".join(way), "--from", home)
        self.agents[said.split()[0]] = home, way

    def strike(self) -> None:
        """One station, or two, killed or asked to end, and started again a moment later."""
        hit = self.chance.sample(NAMES, self.chance.choice((1, 1, 1, 2)))
        gently = self.chance.random() < 0.2
        for name in hit:
            self.stations[name].send_signal(signal.SIGTERM if gently else signal.SIGKILL)
        for name in hit:
            status = self.stations[name].wait(PATIENCE)
            if status != (0 if gently else -signal.SIGKILL):
                raise Broken(f"{name} ended with {status}")
        time.sleep(self.chance.random() / 2)
        for name in hit:
            self.start(name)
        self.kills += len(hit)

    def _rows(self) -> list[dict[str, Any]]:
        return [
            row for name in NAMES for row in json.loads(self.portcall("agents", "--json", "--station", name))["agents"]
        ]

    def judge(self) -> None:
        """Wait for all, and look at what each brought. Raises `Broken`."""
        end = time.monotonic() + LIMIT
        while True:
            over = {row["agent"] for row in self._rows() if not row["here"] and row["standing"] == "finished"}
            if over >= self.agents.keys():
                break
            if time.monotonic() > end:
                raise Broken(f"{len(self.agents.keys() - over)} agents do not come home: {self._rows()}")
            time.sleep(0.2)
        for agent, (home, way) in self.agents.items():
            rows = json.loads(self.portcall("results", agent, "--json", "--station", home))
            steps = [int.from_bytes(bytes.fromhex(row["hex"]), "little") for row in rows]
            if steps != list(range(HOPS + 1)):
                raise Broken(f"{agent} brought {steps}")
            trail = json.loads(self.portcall("trail", agent, "--verify", "--json", "--station", home))
            if not trail["holds"] or [visit["station"] for visit in trail["visits"]] != [home, *way]:
                raise Broken(f"the trail of {agent} is another: {trail}")
        self.end()
        for name in NAMES:
            store = Store.open(self.folder / name / "station.db", new_epoch=bytes(16), clock=lambda: 0)
            left = store.capsules("live")
            store.close()
            if left:
                raise Broken(f"{name} has {len(left)} agents left")

    def end(self) -> None:
        """End all stations."""
        for process in self.stations.values():
            process.terminate()
        for process in self.stations.values():
            process.wait(PATIENCE)


def _swallow(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    with process.stdout as said:
        for _ in said:
            pass


def crowd(folder: Path, seconds: float, agents: int, seed: int, kills: int = 0) -> Crowd:
    """A whole run. Raises `Broken` if the promise was."""
    made = Crowd(folder, random.Random(seed))
    try:
        for name in NAMES:
            made.start(name)
        for name in NAMES:
            made.portcall("stations", "--wait", "0.5", "--station", name)
        for _ in range(agents):
            made.launch()
        end = time.monotonic() + seconds
        while time.monotonic() < end or made.kills < kills:
            time.sleep(made.chance.random())
            made.strike()
        made.judge()
        return made
    finally:
        for process in made.stations.values():
            process.kill()
            process.wait()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        made = crowd(Path(folder), options.seconds, options.agents, options.seed)
    print(f"{len(made.agents)} agents, {HOPS} hops each, {made.kills} kills: all are home, once and whole")


if __name__ == "__main__":
    main()
