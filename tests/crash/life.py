"""Forks and joins, questions and answers, and queued departures, between real stations that are killed or cut off.

    python -m tests.crash.life [--cases N] [--seed N]

As `tests.crash.stations`, with a family in place of one agent: it forks into three at the first station. Two go to the
other one with `go_wait`, so that they wait where it cannot be reached, are asked a question each meanwhile by the
one that stayed, answer, and come back the same way. The one that stayed takes both answers, and ends. For each case a
station is killed at the Nth time that a failpoint is reached (each commit of its store, each message of a handoff, each
letter), or what is sent there is lost, or arrives and is repeated since the answer is lost, or nothing at all is sent
for a while, in the middle. In the end

- the family has exactly three members, who all ended at home, and neither station has any agent or open handoff left;
- each question was received once, and each answer taken once by who had asked;
- no member took a step of a stay after one of a later stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from attrs import define, field

from tests.bench.place import Steered
from tests.crash.failpoints import ANY_SEND
from tests.crash.stations import NAMES, Kill, Pair, main
from tests.crash.world import Broken

LOSE, CUT = "lose ", "cut "  # before a failpoint: what is sent there fails once; nothing is sent for a while
CUT_SENDS = 8
MEMBERS = 3
# Steps: 0 before the fork; 1 in a clone; 2 asked, 3 answered, 4 back home. In the first: 5, 6 for its answers.
AGENT = """(module
  (import "portcall" "go_wait" (func $go (param i32 i32 i32) (result i32)))
  (import "portcall" "fork" (func $fork (param i32 i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (import "portcall" "call" (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "portcall" "recv" (func $recv (param i32 i32 i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "about" (func $about (param i32 i32) (result i32)))
  (import "portcall" "reply" (func $reply (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "ask" (func $ask (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "portcall" "answer" (func $answer (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "next") (data (i32.const 8) "step")
  (func $say (param $n i32)
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (local.get $n)))
    (block $said (loop $try
      (br_if $said (i32.ge_s (call $call
        (i32.const 8) (i32.const 4) (i32.const 16) (i32.const 1) (i32.const 24) (i32.const 4)) (i32.const 0)))
      (drop (call $sleep (i32.const 20))) (br $try)))
    (call $note (i32.const 16)))
  (func $note (param $at i32)
    (if (call $report (i32.const 8) (i32.const 4) (local.get $at) (i32.const 1)) (then unreachable)))
  (func $travel
    (block $gone (loop $try
      (br_if $gone (i32.eqz (call $go (i32.const 0) (i32.const 4) (i32.const -1))))
      (drop (call $sleep (i32.const 20))) (br $try))))
  (func $question (param $id i32) (param $word i32) (param $name i32) (result i32) (local $size i32) (local $end i32)
    (local.set $end (local.get $id))
    (block $found (loop $more
      (br_if $found (i32.lt_u (i32.load8_u (local.get $end)) (i32.const 33)))
      (local.set $end (i32.add (local.get $end) (i32.const 1))) (br $more)))
    (i32.store8 (i32.const 40) (local.get $word))
    (block $done (loop $try
      (local.set $size (call $ask (local.get $id) (i32.sub (local.get $end) (local.get $id)) (i32.const 0) (i32.const 0)
        (i32.const 40) (i32.const 1) (i32.const -1) (local.get $name) (i32.const 64)))
      (br_if $done (i32.gt_s (local.get $size) (i32.const 0)))
      (drop (call $sleep (i32.const 20))) (br $try)))
    (i32.store (i32.add (local.get $name) (i32.const 64)) (local.get $size))
    (i32.add (local.get $end) (i32.const 1)))
  (func $collect (param $name i32) (param $word i32)
    (if (i32.ne (i32.const 1) (call $answer
      (local.get $name) (i32.load (i32.add (local.get $name) (i32.const 64))) (i32.const 48) (i32.const 4)
      (i32.const -1))) (then unreachable))
    (if (i32.ne (i32.load8_u (i32.const 48)) (i32.add (local.get $word) (i32.const 1))) (then unreachable))
    (call $note (i32.const 48)))
  (func $child (local $size i32)
    (call $say (i32.const 1))
    (call $travel)
    (call $say (i32.const 2))
    (if (i32.ne (i32.const 1) (call $recv (i32.const 128) (i32.const 64) (i32.const -1))) (then unreachable))
    (call $note (i32.const 128))
    (local.set $size (call $about (i32.const 3000) (i32.const 500)))
    (i32.store8 (i32.const 128) (i32.add (i32.load8_u (i32.const 128)) (i32.const 1)))
    (block $said (loop $try
      (br_if $said (i32.eqz (call $reply
        (i32.add (i32.const 2872) (local.get $size)) (i32.const 128) (i32.const 128) (i32.const 1))))
      (drop (call $sleep (i32.const 20))) (br $try)))
    (call $say (i32.const 3))
    (call $travel)
    (call $say (i32.const 4)))
  (func (export "run") (local $number i32) (local $next i32)
    (call $say (i32.const 0))
    (block $made (loop $try
      (local.set $number (call $fork (i32.const 2) (i32.const 1024) (i32.const 512)))
      (br_if $made (i32.ge_s (local.get $number) (i32.const 0)))
      (drop (call $sleep (i32.const 20))) (br $try)))
    (if (local.get $number) (then (call $child) (return)))
    (local.set $next (call $question (i32.const 1024) (i32.const 65) (i32.const 2048)))
    (drop (call $question (local.get $next) (i32.const 75) (i32.const 2176)))
    (call $collect (i32.const 2048) (i32.const 65))
    (call $say (i32.const 5))
    (call $collect (i32.const 2176) (i32.const 75))
    (call $say (i32.const 6))))"""
STAYS = (0, 0, 1, 1, 2, 0, 0)
FIRST = [["0", "alpha"], ["B", "alpha"], ["5", "alpha"], ["L", "alpha"], ["6", "alpha"]]


def clone(word: str) -> list[list[str]]:
    """What a clone reports that was asked this."""
    return [["0", "alpha"], ["1", "alpha"], ["2", "beta"], [word, "beta"], ["3", "beta"], ["4", "alpha"]]


@define(eq=False)
class Life(Pair):
    """Two stations, between which families live through many cases."""

    before: set[str] = field(factory=set)
    cases: ClassVar[str] = "families"

    @property
    def steps(self) -> Path:
        """What agents said of their steps."""
        return self.folder / "steps"

    def program(self) -> str:
        """See `Pair`."""
        return AGENT

    def begun(self, name: str, options: list[str]) -> Steered:
        """See `Pair`."""
        return super().begun(name, [*options, "--steps", str(self.steps)])

    def every(self, reached: dict[str, dict[str, int]]) -> list[list[Kill]]:
        """See `Pair`: beside the kills, what is sent is lost, or repeated, or nothing is sent for a while."""
        return [*super().every(reached), *([loss] for loss in _losses(reached))]

    def arm(self, name: str, place: str, number: int) -> None:
        """See `Pair`."""
        for word, loses in ((LOSE, 1), (CUT, CUT_SENDS)):
            if place.startswith(word):
                self.stations[name].ask("arm", place=place.removeprefix(word), number=number, loses=loses)
                return
        super().arm(name, place, number)

    def launch(self) -> str:
        """One new family, whatever happens to its station meanwhile."""
        self.before = set(self.sure("alpha", "journeys"))
        self.steps.write_bytes(b"")
        while True:
            keys = [self.stations[name].key for name in ("beta", "alpha")]
            made = self.ask("alpha", "launch", image=str(self.image), via=keys, turns=1)
            if fresh := set(self.sure("alpha", "journeys")) - self.before:
                return str(made[0] if made else fresh.pop())

    def settled(self, agent: str) -> bool:
        """Whether all have ended, and nothing is open."""
        rows = [row for rows in self.places().values() for row in rows]
        if stopped := [row for row in rows if row[1] == "stopped"]:
            raise Broken(f"an agent was stopped: {stopped}")
        fresh = set(self.sure("alpha", "journeys")) - self.before
        over = not rows and all(self.sure(name, "open") == 0 for name in NAMES)
        return over and all(self.ask("alpha", "ended", agent=each) is not None for each in fresh)

    def case(self, kills: list[Kill]) -> dict[str, dict[str, int]]:
        """One family, with faults. Gives how often each failpoint was reached. Raises `Broken`."""
        agent, deadline, reached = self.under(kills, "the family")
        self.judge(agent, deadline)
        return reached

    def judge(self, agent: str, deadline: float) -> None:
        """See `Pair`."""
        members = set(self.sure("alpha", "journeys")) - self.before
        ended = {each: self.sure("alpha", "ended", agent=each) for each in members}
        if len(members) != MEMBERS or any(end != ["finished", "0"] for end in ended.values()):
            raise Broken(f"the family ended so: {ended}")
        said = {each: self.sure("alpha", "report", agent=each) for each in members}
        brought = sorted([[value, at] for _, value, at in rows] for rows in said.values())
        if brought != sorted([FIRST, clone("A"), clone("K")]):
            raise Broken(f"the family brought {said}")
        most: dict[str, int] = {}
        for line in self.steps.read_text().splitlines():
            who, step, at = line.split()
            stay = STAYS[int(step)]  # in one stay, a crash may have it take steps again
            if stay < most.get(who, 0):
                raise Broken(f"{who} took step {step} at {at} after it had left from there")
            most[who] = stay
        if set(most) != members:
            raise Broken(f"not the family took steps: {most}")


def _losses(reached: dict[str, dict[str, int]]) -> Iterator[Kill]:
    for name, places in reached.items():
        sends = {place: count for place, count in sorted(places.items()) if place.endswith("-send")}
        for place, count in sends.items():
            yield from ((name, LOSE + place, number) for number in range(1, count + 1))
        before = sum(count for place, count in sends.items() if place.endswith(".before-send"))
        yield from ((name, CUT + ANY_SEND, number) for number in range(1, before + 1, 2))


if __name__ == "__main__":
    raise SystemExit(main(Life))
