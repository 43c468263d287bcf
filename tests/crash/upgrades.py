"""Stations killed while an agent gets new code: it has the old code or the new one, whole, and goes on.

    python -m tests.crash.upgrades [--cases N] [--seed N]

Two station processes with stores on the disk, as in `stations`. An agent waits at its home, or at the other station,
and its owner gives it new code, there or by a letter; one of the stations dies at the Nth time that a failpoint is
reached: before and after each commit of its store. It is started again. Then

- exactly one agent is live, in both stations together; its image is the old one or the new one, and the new one if the
  station had said so;
- in the end it has the new code; it travels with it to the other station and home, which verify its trail; and its
  results are those of the old code up to some moment, and from there those of the new.

Invariant: a case that is not exactly so raises `Broken`, with what is needed to try it again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field

import agents
from tests.bench.place import Failed
from tests.crash.stations import LIMIT, NAMES, Kill, Pair
from tests.crash.world import Broken

# At each stop it says which code it is, sleeps until it is woken, and says it again.
AGENT = """(module
  (import "portcall" "go" (func $go (param i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2) (data (i32.const 0) "next") (data (i32.const 8) "code")
  {more}
  (func $code (result i32) {code})
  (func $say (i32.store8 (i32.const 16) (call $code))
    (if (call $report (i32.const 8) (i32.const 4) (i32.const 16) (i32.const 1)) (then unreachable)))
  (func (export "run") (local $n i32)
    (loop $stop
      (call $say)
      (drop (call $sleep (i32.const 86400000)))
      (call $say)
      (block $gone (loop $try
        (br_if $gone (i32.eqz (call $go (i32.const 0) (i32.const 4))))
        (drop (call $sleep (i32.const 20))) (br $try)))
      (br_if $stop (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 2))))
    (call $say)))"""
STOPS = ("alpha", "beta")
OLD, NEW = "o", "n"


@define(eq=False)
class Upgrading(Pair):
    """The two stations, and both images."""

    new: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        more = "(func $more (result i32) (loop (br_if 0 (i32.const 0))) (i32.const 110))"
        self.image, self.new = self.folder / "old", self.folder / "new"
        for path, text in (
            (self.image, AGENT.format(more="", code="(i32.const 111)")),
            (self.new, AGENT.format(more=more, code="(call $more)")),
        ):
            path.write_bytes(agents.pack(text, name="crash").encode())

    def digest(self, path: Path) -> str:
        """Of an image, in hex."""
        return agents.AgentImage.unpack(path.read_bytes()).digest.hex()

    def begin(self) -> str:
        """A new agent, which waits at home."""
        keys = [self.stations[name].key for name in ("beta", "alpha")]
        [agent] = self.stations["alpha"].ask("launch", image=str(self.image), via=keys)
        self.until_it_waits(agent, "alpha", 0)
        return str(agent)

    def until_it_waits(self, agent: str, at: str, visit: int) -> None:
        """Until it sleeps there."""
        deadline = time.monotonic() + LIMIT
        while True:
            rows = self.places()
            if any(row[0] == agent and row[1] == "waiting" and row[2] == visit for row in rows[at]):
                return
            if any(row[1] == "stopped" for each in rows.values() for row in each):
                raise Broken(f"an agent was stopped: {rows}")
            if time.monotonic() > deadline:
                raise Broken(f"it does not come to {at}: {rows}")
            time.sleep(0.01)

    def has(self, agent: str) -> str:
        """The image of the one live agent. Raises `Broken` if there is not exactly one."""
        found = [(name, image) for name in NAMES for image in [self.sure(name, "images").get(agent)] if image]
        if len(found) != 1:
            raise Broken(f"not exactly one live agent: {found}")
        return str(found[0][1])

    def upgraded(self, kills: list[Kill], at: str) -> dict[str, dict[str, int]]:
        """One agent that gets new code at a station, with kills. Gives how often each failpoint was reached."""
        old, new = self.digest(self.image), self.digest(self.new)
        agent = self.begin()
        if at == "beta":
            self.stations["alpha"].ask("order", agent=agent, order="wake")
            self.until_it_waits(agent, "beta", 1)
        for name in NAMES:
            self.stations[name].ask("arm", place=None)
        for name, place, number in kills:
            self.stations[name].ask("arm", place=place, number=number)
        said = self.ask("alpha", "upgrade", agent=agent, image=str(self.new))
        self.revive()
        deadline = time.monotonic() + LIMIT
        while (image := self.has(agent)) != new:
            if image != old:
                raise Broken(f"it has neither the old nor the new code: {image}")
            if said == "upgraded":
                raise Broken("the station said that it has the new code, and it has the old one")
            if said is None:  # nothing was promised: it may be asked again
                said = self.ask("alpha", "upgrade", agent=agent, image=str(self.new))
            if time.monotonic() > deadline:
                raise Broken(f"it does not get the new code, after {said}")
            time.sleep(0.02)
        reached = {name: self.sure(name, "failpoints") for name in NAMES}
        for name in NAMES:
            self.ask(name, "arm", place=None)
        self.go_home(agent, at, deadline, bool(kills))
        return reached

    def go_home(self, agent: str, at: str, deadline: float, killed: bool) -> None:
        """Wake it wherever it sleeps, until it is home; and see what it says."""
        self.until_it_waits(agent, at, STOPS.index(at))
        for visit in range(STOPS.index(at), len(STOPS)):
            self.until_it_waits(agent, STOPS[visit], visit)
            self.stations[STOPS[visit]].ask("order", agent=agent, order="wake")
        while (ended := self.stations["alpha"].ask("ended", agent=agent)) is None:
            if time.monotonic() > deadline:
                raise Broken(f"the agent does not end: {self.places()}")
            time.sleep(0.01)
        if ended != ["finished", "0"] or any(self.places().values()):
            raise Broken(f"the agent ended so: {ended}; live: {self.places()}")
        said, places = self.stations["alpha"].ask("report", agent=agent), ["alpha", "alpha", "beta", "beta", "alpha"]
        codes = [code for _, code, _ in said]
        # Where it waits, it has said where it is: with its old code; with the new one if that was not on the disk yet
        # when the station was killed, and is said again.
        old = 1 if at == "alpha" else 3
        possible = [[OLD] * count + [NEW] * (len(places) - count) for count in ((old, old - 1) if killed else (old,))]
        if codes not in possible or said != [["code", *each] for each in zip(codes, places, strict=True)]:
            raise Broken(f"the agent says {said}")


def every_case(reached: dict[str, dict[str, int]], at: str) -> Iterator[tuple[str, list[Kill]]]:
    """Each failpoint of each station, each time that it is reached."""
    for name, places in reached.items():
        for place, count in sorted(places.items()):
            for number in range(1, count + 1):
                yield at, [(name, place, number)]


def run(count: int, seed: int, folder: Path) -> tuple[int, int, int]:
    """`count` cases, in a random order. Gives cases, kills, and the number of different ones."""
    generator = random.Random(seed)
    pair = Upgrading(folder)
    try:
        pair.start(*NAMES)
        pair.upgraded([], "alpha")  # connections, pins, compiled code
        cases = [case for at in STOPS for case in every_case(pair.upgraded([], at), at)]
        different = len(cases)
        generator.shuffle(cases)
        while len(cases) < count:
            cases.append(generator.choice(cases[:different]))
        for at, kills in cases[:count]:
            try:
                pair.upgraded(kills, at)
            except (Broken, Failed) as error:
                raise Broken(f"{error}; at {at}, kills: {kills}") from error
    finally:
        pair.end()
    return count, pair.kills, different


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Kill stations while an agent gets new code.")
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="portcall-upgrades-"))
    began = time.monotonic()
    try:
        cases, kills, different = run(arguments.cases, arguments.seed, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{cases} upgrades at real stations, {kills} kills at {different} places, "
        f"in {time.monotonic() - began:.0f} s: 0 broken"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
