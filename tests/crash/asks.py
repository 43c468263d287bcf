"""Questions to an agent that never rests, between real stations, each a process of its own.

    python -m tests.crash.asks [--asks N] [--askers N] [--kills N] [--seed N]

Some agents ask one that goes to and fro between two other stations, and answers at each stop. Each has up to
32 questions open. In the end each question was received once, those of one asker in its order, and each answer taken
by its asker. `--kills` ends stations with SIGKILL meanwhile, and starts them again. Whatever is not exactly so raises
`Broken`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.crowd import NAMES, Crowd
from tests.crash.world import Broken
from tests.patience import PATIENCE

OPEN = 32
HOPPER = """
import portcall
left, last, hops, wrong = {asks}, {{}}, 0, 0
while left:
    try:
        portcall.go("gamma" if portcall.here() == "beta" else "beta")
        hops += 1
    except OSError:
        portcall.sleep(0.05)
    try:
        while True:
            asked = portcall.receive(0)
            number = int(asked.text())
            if number != last.get(asked.sender, 0) + 1:
                wrong += 1
                print("got", number, "after", last.get(asked.sender, 0))
            last[asked.sender] = number
            portcall.reply(asked, asked.text())
            left -= 1
    except OSError:
        pass
portcall.report("wrong", wrong)
portcall.report("hops", hops)
"""
ASKER = """
import portcall
answering = portcall.recv().decode()
open, wrong = [], 0
for number in range(1, {asks} + 1):
    open.append((number, portcall.ask_later(answering, str(number), timeout=600)))
    if len(open) == {open} or number == {asks}:
        for asked, question in open[: len(open) if number == {asks} else len(open) // 2]:
            if question.answer() != str(asked).encode():
                wrong += 1
        open = open[len(open) // 2:]
portcall.report("wrong", wrong)
"""


def asks(folder: Path, count: int, askers: int, kills: int, seed: int) -> dict[str, float]:
    """A whole run: how many hops and seconds it took. Raises `Broken`."""
    crowd = Crowd(folder, random.Random(seed))
    before = os.environ.get("PORTCALL_RUNNING")
    os.environ["PORTCALL_RUNNING"] = str(folder / "running")
    try:
        for name in NAMES:
            crowd.start(name)
        each = count // askers
        (folder / "hopper.py").write_text(HOPPER.format(asks=each * askers))
        (folder / "asker.py").write_text(ASKER.format(asks=each, open=OPEN))
        more = (
            "--from",
            str(folder / "alpha"),
            "--json",
            "--permit",
            "cpu=3600s",
            "--permit",
            "messages=1000000",
            "--permit",
            "carried=900GiB",
        )
        way = "(beta,gamma)*50000"
        agent = json.loads(crowd.portcall("launch", str(folder / "hopper.py"), "--via", way, "--hops", "100000", *more))
        began = time.monotonic()
        asking = []
        for _ in range(askers):
            asker = json.loads(crowd.portcall("launch", str(folder / "asker.py"), *more))["agent"]
            crowd.portcall("send", asker, agent["agent"], "--station", str(folder / "alpha"))
            asking.append(asker)
        for _ in range(kills):
            time.sleep(crowd.chance.uniform(0.2, 1.0))
            name = crowd.chance.choice(NAMES)
            crowd.stations[name].send_signal(signal.SIGKILL)
            crowd.stations[name].wait(PATIENCE)
            crowd.start(name)
        end = time.monotonic() + PATIENCE + count / 2
        found = {name: _results(crowd, name, end) for name in [agent["agent"], *asking]}
        took = time.monotonic() - began
        if any(results["wrong"] != "0" for results in found.values()):
            raise Broken(f"questions or answers were lost, doubled or out of order: {found}")
        return {"asks": each * askers, "hops": int(found[agent["agent"]]["hops"]), "seconds": took, "kills": kills}
    finally:
        for process in crowd.stations.values():
            process.kill()
            process.wait(PATIENCE)
        os.environ.pop("PORTCALL_RUNNING")
        if before is not None:
            os.environ["PORTCALL_RUNNING"] = before


def _results(crowd: Crowd, agent: str, end: float) -> dict[str, str]:
    """What an agent reported, when it has ended well."""
    place = str(crowd.folder / "alpha")
    while time.monotonic() < end:
        rows = json.loads(crowd.portcall("agents", "--station", place, "--json"))["agents"]
        standing = next((row["standing"] for row in rows if row["agent"] == agent), "")
        if standing == "stopped":
            raise Broken(f"an agent was stopped: {rows}")
        if standing == "finished":
            said = json.loads(crowd.portcall("results", agent, "--station", place, "--json"))
            return {row["key"]: row["value"] for row in said}
        time.sleep(0.5)
    raise Broken(f"{agent} does not end")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--asks", type=int, default=10_000)
    parser.add_argument("--askers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="portcall-asks-") as folder:
        found = asks(Path(folder), options.asks, options.askers, options.kills, options.seed)
    print(", ".join(f"{value:.0f} {name}" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
