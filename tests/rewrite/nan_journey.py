"""A program full of NaNs, to be moved while it runs: what it shows must be the same wherever it was.

    python -m tests.rewrite.nan_journey FOLDER      on another processor: goes on with what lies in FOLDER

It reads lines: a number of hops, or `undisturbed`. For each it goes on from the snapshot in the folder, leaves the next
one there, and says so; or it prints the hash, at the program's end.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import agents
from agents import AgentImage
from agents.ambient import StandaloneHost
from agents.engines import Engine
from agents.execution import Execution
from agents.outcomes import Asked, Finished
from agents.snapshot import Snapshot
from agents.waits import Sleep, Woke

from .nan_programs import COUNT, FLAVOURS, OPERANDS, OUT, function, instructions

PAUSE = 97  # loop turns between two calls that may suspend
_PAUSED = f"""(if (i32.eqz (i32.rem_u (local.get $turn) (i32.const {PAUSE})))
          (then (drop (call $sleep (i32.const 0)))))
        (br_if $more"""

# A sum of cosine-like terms that meets infinities and NaNs, and keeps them in locals and in the state of a generator.
_SERIES = f"""(func $series (export "series") (local $turn i32) (local $x f64) (local $y f32) (local $sum f64)
      (local.set $x (f64.const 0.3)) (local.set $y (f32.const 1.5))
      (loop $more
        (local.set $x (f64.mul (f64.const 3.7) (f64.mul (local.get $x) (f64.sub (f64.const 1) (local.get $x)))))
        (local.set $y (f32.mul (local.get $y) (f32.const -1.25)))
        (if (i32.eq (local.get $turn) (i32.const 200))
          (then (local.set $sum (f64.div (f64.const 0) (f64.const 0)))))
        (local.set $sum (f64.add (local.get $sum) (f64.mul (local.get $x) (f64.promote_f32 (local.get $y)))))
        (f64.store (i32.add (i32.const {OUT}) (i32.shl (local.get $turn) (i32.const 4)))
          (f64.copysign (local.get $x) (local.get $sum)))
        (f64.store offset=8 (i32.add (i32.const {OUT}) (i32.shl (local.get $turn) (i32.const 4))) (local.get $sum))
        (local.set $turn (i32.add (local.get $turn) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $turn) (i32.const {COUNT * COUNT})))))"""


def program(part: int) -> str:
    """A module whose `run` gives a hash of all that it showed: of each `part`th instruction and flavour."""
    pairs = [(row, flavour) for row in instructions() for flavour in FLAVOURS if ".trunc_f" not in row.mnemonic]
    texts = [function(row, flavour, f"{number}") for number, (row, flavour) in enumerate(pairs[::part])]
    texts = [text.replace("(func ", f"(func $f{number} ", 1) for number, text in enumerate(texts)] + [_SERIES]
    calls = "".join(f"(call $f{number}) (call $fold)" for number in range(len(texts) - 1))
    data = "".join(f"\\{byte:02x}" for each in OPERANDS for byte in each)
    return f"""(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
    (memory (export "memory") 1) (data (i32.const 0) "{data}") (global $hash (mut i64) (i64.const 0xcbf29ce484222325))
    {"".join(text.replace("(br_if $more", _PAUSED) for text in texts)}
    (func $fold (local $at i32)
      (loop $next
        (global.set $hash (i64.mul (i64.const 0x100000001b3) (i64.xor (global.get $hash)
          (i64.load offset={OUT} (local.get $at)))))
        (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8)))
          (i32.const {COUNT * COUNT * 16})))))
    (func (export "run") (result i64) {calls} (call $series) (call $fold) (global.get $hash)))"""


def packed(part: int) -> AgentImage:
    """Its image, with canonical NaNs."""
    return agents.pack(program(part), entry="run", polls="none", nans="canonical")


def place() -> StandaloneHost:
    """Where it runs: nothing there differs."""
    return StandaloneHost(lambda: 0, lambda: 0, bytes)


@functools.cache
def loaded(engine: str) -> Engine:
    """An engine."""
    return agents.load(engine, cache=None)


def travelled(image: AgentImage, engines: Sequence[str]) -> tuple[int, int]:
    """The hash after a journey with a hop at each call that may suspend, and the number of hops."""
    hops: list[bytes] = []
    every = 1 if len(engines) > 1 else None
    outcome = agents.run(
        image, engine=engines, ambient=place(), hop_every=every, answer=lambda wait: Woke(), on_hop=hops.append
    )
    assert isinstance(outcome, Finished), outcome
    return outcome.results[0], len(hops)


def leg(image: AgentImage, snapshot: Snapshot | None, engine: str, hops: int | None) -> Snapshot | int:
    """Go on for so many hops in one place: the snapshot that leaves it, or the hash at the end. None: undisturbed."""
    with Execution(image, engine=loaded(engine), ambient=place(), snapshot=snapshot) as life:
        life.always = hops is not None
        event = None if snapshot is None or snapshot.pending is None or snapshot.pending.wait is None else Woke()
        while True:
            stop = life.advance(event)
            event = None
            if isinstance(stop, Finished):
                return stop.results[0]
            if isinstance(stop, Sleep):
                event = Woke()
            assert isinstance(stop, Sleep | Asked), stop
            if hops == 0:
                return life.snapshot()
            if hops is not None:
                life.hop()
                hops -= 1


def main(folder: Path) -> None:
    """Legs of a journey whose image and snapshot lie in a folder, as they are asked for."""
    image, last = AgentImage.decode((folder / "image").read_bytes()), folder / "snapshot"
    for line in sys.stdin:
        snapshot = Snapshot.decode(last.read_bytes()) if last.exists() else None
        found = leg(image, snapshot, "wasmtime", None if line == "undisturbed\n" else int(line))
        if isinstance(found, Snapshot):
            last.write_bytes(found.encode())
        print("goes on" if isinstance(found, Snapshot) else f"{found:016x}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
