"""A station in a process that kills itself at a failpoint: `python -m docking.lessons.place NAME HOME POLICY`.

It is told on its standard input, one JSON value a line: `[failpoint, number]`; the process dies by SIGKILL when that
failpoint is reached for that time: nothing is flushed, closed or said. `null` counts only. Each line is answered with
how often each failpoint was reached since the last one. When it has died, `null` is said, and a line with the port
starts it again, on the same home and port: the process above it has everything imported already, and forks. All ends
with the standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from attrs import define, field

from docking.aio import loops
from docking.aio.threads import in_thread
from docking.options import Timing
from docking.station import Station
from docking.trust.policy import read_policy

# What is not answered is said again soon: a class waits for it.
TIMING = Timing(offer_again_s=0.2, commit_again_s=0.05, ask_again_s=0.05, longest_s=0.4, patience_s=5.0)


@define(eq=False, repr=False)
class Trap:
    """Called with the name of each failpoint. `place`, `number`: where this process dies; None for nowhere."""

    place: str | None = None
    number: int = 1
    seen: Counter[str] = field(factory=Counter)

    def set(self, place: str | None, number: int) -> dict[str, int]:
        """Die there; how often each failpoint was reached until now."""
        seen, self.seen = dict(self.seen), Counter()
        self.place, self.number = place, number
        return seen

    def __call__(self, place: str) -> None:
        self.seen[place] += 1
        if place == self.place and self.seen[place] == self.number:
            os.kill(os.getpid(), signal.SIGKILL)


async def run(name: str, home: Path, policy: Path, port: int) -> None:
    """Run a station until the standard input ends."""
    trap = Trap()
    station = Station(
        name,
        home,
        policy=read_policy(policy.read_text()),
        host="127.0.0.1",
        port=port,
        mdns=False,
        threads=2,
        timing=TIMING,
        failpoint=trap,
    )
    async with station:
        print(json.dumps([os.getpid(), station.url]), flush=True)
        while line := await in_thread(sys.stdin.readline):
            place, number = json.loads(line) or (None, 1)
            print(json.dumps(trap.set(place, number)), flush=True)


def lives(name: str, home: Path, policy: Path, port: int) -> int:
    """One life after the other; the exit code of the last."""
    while True:
        child = os.fork()
        if child == 0:
            loops.run_loop(run(name, home, policy, port))
            return 0
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)
        print("null", flush=True)
        order: object = None
        while type(order) is not int:  # what was meant for the one that has died is for nobody
            line = sys.stdin.readline()
            if not line:
                return 0
            order = json.loads(line)
        port = order


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who has started it decides when it ends
    name, home, policy = sys.argv[1:]
    sys.exit(lives(name, Path(home), Path(policy), 0))
