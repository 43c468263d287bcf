"""Whole stations killed with SIGKILL: signatures, sealed HTTP, engine, SQLite, recovery; nothing is left out.

    python -m tests.crash.stations [--cases N] [--seed N]

Two station processes with stores on the disk; an agent goes back and forth between them, checks its own memory at each
stop, and says there how far it is. For each case one of the stations (or both) dies at the Nth time that a failpoint is
reached: before and after each message, before and after each commit of the store. In some cases it is asked to end
there (SIGTERM): it suspends its agent, wherever that is, and ends in good order. It is started again on the same home
and port. In the end the agent sleeps at its last stop; then

- exactly one agent is live, in both stations together, at the right visit, and no handoff is open in either ledger;
- woken, it finishes with exit code 0, and its verified results hold each step once, in order, each from its station.

`matrix` tries thousands of interleavings in a simulator, `processes` the machines and the store in real processes; here
is what people run. Invariant: a case that is not exactly so raises `Broken`, with what is needed to try it again.
"""

from __future__ import annotations

import argparse
import itertools
import random
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field

import agents
from tests.bench.place import Failed, Steered
from tests.crash.world import Broken
from tests.patience import PATIENCE

HOPS = 4  # back and forth, and home again
LIMIT = PATIENCE
NAMES = ("alpha", "beta")
# 64 KiB of noise; at each stop: sum it up (trap if it is not what it was), report the step, go on until it works.
AGENT = """(module
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2) (data (i32.const 0) "next") (data (i32.const 8) "step")
  (func $sum (result i64) (local $at i32) (local $s i64)
    (local.set $at (i32.const 65536))
    (loop $l
      (local.set $s (i64.rotl (i64.add (local.get $s) (i64.load (local.get $at))) (i64.const 7)))
      (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 131072))))
    (local.get $s))
  (func $say (param $n i32)
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (local.get $n)))
    (if (call $report (i32.const 8) (i32.const 4) (i32.const 16) (i32.const 1)) (then unreachable)))
  (func (export "run") (local $at i32) (local $x i64) (local $n i32) (local $sum i64)
    (local.set $x (i64.const 88172645463325252)) (local.set $at (i32.const 65536))
    (loop $fill
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (i64.store (local.get $at) (local.get $x))
      (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 131072))))
    (local.set $sum (call $sum))
    (loop $hop
      (call $say (local.get $n))
      (block $gone (loop $try
        (br_if $gone (i32.eqz (call $go (i32.const 0) (i32.const 4))))
        (drop (call $sleep (i32.const 20))) (br $try)))
      (if (i64.ne (call $sum) (local.get $sum)) (then unreachable))
      (br_if $hop (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {hops}))))
    (call $say (local.get $n))
    (drop (call $sleep (i32.const 86400000)))
    (if (i64.ne (call $sum) (local.get $sum)) (then unreachable))
    (call $say (i32.add (local.get $n) (i32.const 1)))))"""

Kill = tuple[str, str, int]  # station, failpoint, which time
GENTLY = "gently "  # before a failpoint: by SIGTERM


@define(eq=False)
class Pair:
    """The two stations, which live through many cases."""

    folder: Path
    owner: bytes = field(factory=lambda: secrets.token_bytes(32))
    stations: dict[str, Steered] = field(factory=dict)
    ports: dict[str, int] = field(factory=dict)
    image: Path = field(init=False)
    kills: int = 0
    cases: ClassVar[str] = f"journeys of {HOPS} hops"

    def __attrs_post_init__(self) -> None:
        self.image = self.folder / "agent"
        self.image.write_bytes(agents.pack(self.program().replace("{hops}", str(HOPS)), name="crash").encode())

    def program(self) -> str:
        """The agent, in the text format."""
        return AGENT

    def start(self, *names: str) -> None:
        """Start these, and tell all of each other."""
        for name in names:
            options = ["--home", str(self.folder / name), "--hasty", "--patience", "3", "--threads", "2"]
            options += ["--port", str(self.ports.get(name, 0))]
            self.stations[name] = self.begun(name, options)
        for name in names:
            station = self.stations[name].await_ready()
            self.ports[name] = int(station.url.rpartition(":")[2])
        for one, other in itertools.permutations(self.stations.values(), 2):
            one.ask("meet", url=other.url)

    def begun(self, name: str, options: list[str]) -> Steered:
        """A station of this name that was started, with these options."""
        return Steered.start(name, self.owner, *options)

    def every(self, reached: dict[str, dict[str, int]]) -> list[list[Kill]]:
        """The cases with a single fault, of a journey that reached these failpoints so often."""
        return every_case(reached)

    def arm(self, name: str, place: str, number: int) -> None:
        """Have a station die there."""
        gently = place.startswith(GENTLY)
        self.stations[name].ask("arm", place=place.removeprefix(GENTLY), number=number, gently=gently)

    def ask(self, name: str, what: str, **value: Any) -> Any:
        """Ask; a station that was killed is started again first, and a question that was cut short is None."""
        try:
            return self.stations[name].ask(what, **value)
        except Failed:
            self.revive()
            return None

    def sure(self, name: str, what: str, **value: Any) -> Any:
        """Ask until there is an answer: for what may be asked twice."""
        while (answer := self.ask(name, what, **value)) is None:
            pass
        return answer

    def revive(self) -> None:
        """Start again whoever was killed. Raises `Broken` if one ended by itself."""
        dead = [name for name, station in self.stations.items() if station.process.poll() is not None]
        for name in dead:
            status = self.stations[name].process.returncode
            if status not in (-9, 0):
                raise Broken(f"{name} ended by itself, with status {status}")
            self.kills += 1
            self.stations[name].end()
        while dead:
            try:
                self.start(*dead)
                return
            except Failed:  # the other, armed, died of the greeting
                for station in (self.stations[name] for name in dead):
                    station.kill()
                    station.end()
                again = [name for name, station in self.stations.items() if station.process.poll() is not None]
                self.kills += len(set(again) - set(dead))
                dead = again

    def end(self) -> None:
        """End both."""
        for station in self.stations.values():
            station.end()

    # One case

    def launch(self) -> str:
        """One new agent, whatever happens to its station meanwhile."""
        before = set(self.sure("alpha", "journeys"))
        while True:
            keys = [self.stations[name].key for name in ("beta", "alpha")]
            self.ask("alpha", "launch", image=str(self.image), via=keys, turns=HOPS)
            fresh = set(self.sure("alpha", "journeys")) - before
            if len(fresh) > 1:
                raise Broken("one launch made two agents")
            if fresh:
                return str(fresh.pop())

    def places(self) -> dict[str, list[list[Any]]]:
        """The agents at each station."""
        return {name: self.sure(name, "here") for name in NAMES}

    def settled(self, agent: str) -> bool:
        """Whether it sleeps at its last stop, and nothing is open."""
        rows = [row for row in self.places()["alpha"] if row[0] == agent]
        stopped = [row for rows in self.places().values() for row in rows if row[1] == "stopped"]
        if stopped:
            raise Broken(f"an agent was stopped: {stopped}")
        there = any(row[1] == "waiting" and row[2] == HOPS for row in rows)
        return there and not any(self.sure(name, "open") != 0 for name in NAMES)

    def under(self, kills: list[Kill], what: str) -> tuple[str, float, dict[str, dict[str, int]]]:
        """Launch an agent with these faults, and wait until it is settled: its id, when the case must be over, and how
        often each failpoint was reached. `what` does not end, says `Broken` otherwise.
        """
        deadline = time.monotonic() + LIMIT
        for name in NAMES:
            self.stations[name].ask("arm", place=None)
        for name, place, number in kills:
            self.arm(name, place, number)
        agent = self.launch()
        while not self.settled(agent):
            if time.monotonic() > deadline:
                raise Broken(f"{what} does not end: {self.places()}")
            time.sleep(0.01)
        reached = {name: self.sure(name, "failpoints") for name in NAMES}
        for name in NAMES:
            self.ask(name, "arm", place=None)
        return agent, deadline, reached

    def case(self, kills: list[Kill]) -> dict[str, dict[str, int]]:
        """One journey with kills. Gives how often each failpoint was reached. Raises `Broken`."""
        agent, deadline, reached = self.under(kills, "the journey")
        live = [(name, row) for name, rows in self.places().items() for row in rows]
        if [(name, row[0]) for name, row in live] != [("alpha", agent)]:
            raise Broken(f"not exactly one live agent: {live}")
        self.judge(agent, deadline)
        return reached

    def judge(self, agent: str, deadline: float) -> None:
        """Wake it, and see what it says."""
        self.stations["alpha"].ask("order", agent=agent, order="wake")
        while (ended := self.stations["alpha"].ask("ended", agent=agent)) is None:
            if time.monotonic() > deadline:
                raise Broken(f"the agent does not end: {self.places()}")
            time.sleep(0.01)
        if ended != ["finished", "0"] or any(self.places().values()):
            raise Broken(f"the agent ended so: {ended}; live: {self.places()}")
        said = self.stations["alpha"].ask("report", agent=agent)
        steps = [*range(HOPS + 1), HOPS + 1]
        expected = [["step", str(n), NAMES[n % 2] if n <= HOPS else "alpha"] for n in steps]
        if said != expected:
            raise Broken(f"the agent says {said}")


def every_case(reached: dict[str, dict[str, int]]) -> list[list[Kill]]:
    """Each failpoint of each station, each time that it is reached in a journey without kills."""
    return [
        [(name, place, number)]
        for name, places in reached.items()
        for place, count in sorted(places.items())
        for number in range(1, count + 1)
    ]


def run(count: int, seed: int, folder: Path, kind: type[Pair] = Pair) -> tuple[int, int, int]:
    """`count` cases: single kills in a random order, then pairs. Gives cases, kills, and the number of single ones."""
    generator = random.Random(seed)
    pair = kind(folder)
    try:
        pair.start(*NAMES)
        pair.case([])  # connections, pins
        cases = pair.every(pair.case([]))
        singles = len(cases)
        generator.shuffle(cases)
        # Every third is asked to end, instead of being killed.
        for index in range(2, len(cases), 3):
            [(name, place, number)] = cases[index]
            if " " not in place:  # a kill
                cases[index] = [(name, GENTLY + place, number)]
        single = list(cases)
        while len(cases) < count:
            one, other = generator.choice(single), generator.choice(single)
            cases.append(one + (other if other[0][0] != one[0][0] else []))
        for kills in cases[:count]:
            try:
                pair.case(kills)
            except (Broken, Failed) as error:
                raise Broken(f"{error}; kills: {kills}") from error
    finally:
        pair.end()
    return min(count, len(cases)), pair.kills, singles


def main(kind: type[Pair] = Pair) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Kill whole stations at their failpoints.")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="portcall-stations-"))
    began = time.monotonic()
    try:
        cases, kills, singles = run(arguments.cases, arguments.seed, folder, kind)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{cases} {kind.cases} between real stations, {kills} kills at {singles} places, "
        f"in {time.monotonic() - began:.0f} s: 0 broken"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
