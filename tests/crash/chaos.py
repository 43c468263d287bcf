"""Agents on long journeys, which report and send each other messages, while everything around them fails.

    python -m tests.crash.chaos [--minutes N] [--seed S] [--agents N] [--families N] [--old-stores] [--json]

Half of the agents wait for stations (`go_wait`), the others try again by themselves. Families are agents that fork into
three in the middle of their way. A fifth station is a laptop: nobody can call it, and what goes there waits at its
dock, which is the first of the four; families go there too.

Four real stations, each behind a proxy (`chaos_proxy`), and at random moments, several at once: SIGKILL, SIGTERM and
SIGSTOP; connections that are refused, cut, delayed, swallowed, reordered, doubled and replayed; disks that are full
(as root, on Linux); wall clocks that jump by up to an hour. Then everything is mended, and judged:

- lost: agents that are nowhere any more; doubled: agents that are in two places, or took a step after a later one;
- stuck: agents that are not home within a minute of the last fault;
- messages whose `send` said 0 that were not received, or received twice;
- questions: every fourth step, an agent asks its partner its step, and takes the answer at a later one: twice the step;
- families that have not three members in the end;
- each agent's results hold each step once and in order, its trail is its itinerary and verifies.

Meanwhile their owner gives agents new code, which computes the same, wherever they are: some of it is refused, or does
not come in time, and what was done stands in the trails.

`--old-stores` also replaces the store of a station by a copy from some seconds before, which nobody should do while
agents travel: agents that were there between are exposed, and counted apart. Prints a table; the exit code is 0 only
if nothing was lost, doubled or stuck.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field

from agents.credentials.keys import SecretKey
from docking.control.client import ControlClient, running
from docking.errors import ControlError
from docking.store.store import Store
from tests.crash.chaos_proxy import MODES, Proxies, Proxy
from tests.crash.crowd import environment, portcall
from tests.crash.world import Broken
from tests.patience import PATIENCE

NAMES = ("alpha", "beta", "gamma", "delta")
LAPTOP, DOCK = "laptop", "alpha"
MEMBERS = 3  # of a family
HEALED_S = 60.0  # until all are home, after the last fault
DISK_BYTES = 256 << 20
SKEW_S = 3600
# At each stop: says its step to the station and in its results, sends its partner the step, takes what came, sleeps.
# At home: says how many it sent, and waits until it has all of its partner's.
AGENT = """(module
  (import "portcall" "go_wait" (func $go (param i32 i32 i32) (result i32)))
  (import "portcall" "fork" (func $fork (param i32 i32 i32) (result i32)))
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (import "portcall" "call" (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "portcall" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "recv" (func $recv (param i32 i32 i32) (result i32)))
  (import "portcall" "report" (func $report (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "about" (func $about (param i32 i32) (result i32)))
  (import "portcall" "reply" (func $reply (param i32 i32 i32 i32) (result i32)))
  (import "portcall" "ask" (func $ask (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "portcall" "answer" (func $answer (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "next") (data (i32.const 8) "step") (data (i32.const 16) "n") (data (i32.const 17) "r")
  (data (i32.const 18) "q") (data (i32.const 19) "a")
  (global $open (mut i32) (i32.const 0)) ;; length of the name of its open question, which lies at 400
  (global $asked (mut i32) (i32.const 0)) ;; its step
  (global $partner (mut i32) (i32.const 0)) ;; length of its id, which lies at 256
  (global $got (mut i32) (i32.const 0))
  (global $all (mut i32) (i32.const -1)) ;; how many there will be, once it is known
  (func $note (param $key i32)
    (if (call $report (local.get $key) (i32.const 1) (i32.const 32) (i32.const 4)) (then unreachable)))
  (func $tell (param $letter i32) (param $n i32)
    (i32.store8 (i32.const 64) (local.get $letter)) (i32.store (i32.const 65) (local.get $n))
    (block $said (loop $try
      (br_if $said (i32.eqz (call $send (i32.const 256) (global.get $partner) (i32.const 64) (i32.const 5))))
      (drop (call $sleep (i32.const 200))) (br $try))))
  (func $take (param $wait i32) (local $size i32)
    (block $none (loop $more
      (local.set $size (call $recv (i32.const 128) (i32.const 100) (local.get $wait)))
      (br_if $none (i32.ne (local.get $size) (i32.const 5)))
      (if (i32.eq (i32.load8_u (i32.const 128)) (i32.const 101))
        (then (global.set $all (i32.load (i32.const 129))))
        (else (if (i32.eq (i32.load8_u (i32.const 128)) (i32.const 113))
          (then
            (i32.store (i32.const 32) (i32.load (i32.const 129)))
            (call $note (i32.const 18))
            (local.set $size (call $about (i32.const 3000) (i32.const 500)))
            (i32.store (i32.const 32) (i32.mul (i32.const 2) (i32.load (i32.const 129))))
            (block $said (loop $try
              (br_if $said (i32.eqz (call $reply
                (i32.add (i32.const 2872) (local.get $size)) (i32.const 128) (i32.const 32) (i32.const 4))))
              (drop (call $sleep (i32.const 200))) (br $try))))
          (else
            (i32.store (i32.const 32) (i32.load (i32.const 129)))
            (call $note (i32.const 17))
            (global.set $got (i32.add (global.get $got) (i32.const 1)))))))
      (br_if $none (i32.ge_s (local.get $wait) (i32.const 1)))
      (br $more))))
  (func $question (param $n i32)
    (if (i32.and (local.get $n) (i32.const 3)) (then (return)))
    (call $collect)
    (i32.store8 (i32.const 64) (i32.const 113)) (i32.store (i32.const 65) (local.get $n))
    (block $done (loop $try
      (global.set $open (call $ask (i32.const 256) (global.get $partner) (i32.const 0) (i32.const 0)
        (i32.const 64) (i32.const 5) (i32.const -1) (i32.const 400) (i32.const 64)))
      (br_if $done (i32.gt_s (global.get $open) (i32.const 0)))
      (drop (call $sleep (i32.const 200))) (br $try)))
    (global.set $asked (local.get $n)))
  ;; Takes the answer; meanwhile, what comes is taken too: the partner may be waiting for this one.
  (func $collect (local $size i32)
    (if (i32.le_s (global.get $open) (i32.const 0)) (then (return)))
    (block $there (loop $try
      (local.set $size (call $answer (i32.const 400) (global.get $open) (i32.const 36) (i32.const 4) (i32.const 300)))
      (br_if $there (i32.eq (local.get $size) (i32.const 4)))
      (if (i32.ne (local.get $size) (i32.const -73)) (then unreachable))
      (call $take (i32.const 0)) (br $try)))
    (if (i32.ne (i32.load (i32.const 36)) (i32.mul (i32.const 2) (global.get $asked))) (then unreachable))
    (i32.store (i32.const 32) (global.get $asked))
    (call $note (i32.const 19))
    (global.set $open (i32.const 0)))
  (func $say (param $n i32)
    (i32.store (i32.const 32) (local.get $n))
    (block $said (loop $try
      (br_if $said (i32.ge_s (call $call
        (i32.const 8) (i32.const 4) (i32.const 32) (i32.const 4) (i32.const 200) (i32.const 4)) (i32.const 0)))
      (drop (call $sleep (i32.const 100))) (br $try)))
    (i32.store (i32.const 32) (local.get $n))
    (call $note (i32.const 16)))
  (func (export "_start") (local $n i32)
    (if (i32.eqz (i32.const {family})) (then (call $introduced)))
    (call $say (i32.const 0))
    (loop $hop
      (block $gone (loop $try
        (br_if $gone (i32.eqz (call $go (i32.const 0) (i32.const 4) (i32.const {wait}))))
        (drop (call $sleep (i32.const 200))) (br $try)))
      (call $say (local.tee $n (i32.add (local.get $n) (i32.const 1))))
      (if (i32.const {family})
        (then (if (i32.eq (local.get $n) (i32.const {fork})) (then (call $multiply))))
        (else (call $tell (i32.const 109) (local.get $n))
          (call $question (local.get $n)) (call $take (i32.const 0))))
      (drop (call $sleep (i32.load (i32.const 200))))
      (br_if $hop (i32.lt_u (local.get $n) (i32.const {hops}))))
    (if (i32.const {family}) (then return))
    (call $collect)
    (call $tell (i32.const 101) (local.get $n))
    (loop $wait
      (call $take (i32.const 5000))
      (br_if $wait (i32.ne (global.get $got) (global.get $all)))))
  (func $multiply
    (block $made (loop $try
      (br_if $made (i32.ge_s (call $fork (i32.const 2) (i32.const 1024) (i32.const 1024)) (i32.const 0)))
      (drop (call $sleep (i32.const 200))) (br $try))))
  (func $introduced
    (block $known (loop $ask
      (global.set $partner (call $recv (i32.const 256) (i32.const 100) (i32.const 60000)))
      (br_if $known (i32.gt_s (global.get $partner) (i32.const 5))) (br $ask)))))"""


@define
class Judgement:
    """What is found in the end. `faults`: how many of each kind."""

    agents: int = 0
    home: int = 0
    lost: list[str] = field(factory=list)
    doubled: list[str] = field(factory=list)
    stuck: list[str] = field(factory=list)
    wrong: list[str] = field(factory=list)
    families: list[str] = field(factory=list)
    exposed: int = 0
    hops: int = 0
    messages: int = 0
    messages_lost: int = 0
    messages_doubled: int = 0
    questions: int = 0
    questions_wrong: int = 0
    upgrades: int = 0
    healed_s: float = 0.0
    faults: Counter[str] = field(factory=Counter)

    @property
    def good(self) -> bool:
        """Whether it is as it should be."""
        found = self.lost or self.doubled or self.stuck or self.wrong or self.families
        return not found and not self.messages_lost and not self.messages_doubled and not self.questions_wrong

    def table(self) -> str:
        """For people."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        rows = [
            ("agents", self.agents),
            ("home, once and whole", self.home),
            ("lost", len(self.lost)),
            ("doubled", len(self.doubled)),
            ("stuck", len(self.stuck)),
            ("with wrong results or trails", len(self.wrong)),
            ("families that are not whole", len(self.families)),
            ("exposed to a store of before", self.exposed),
            ("hops", self.hops),
            ("messages", self.messages),
            ("messages lost", self.messages_lost),
            ("messages doubled", self.messages_doubled),
            ("questions", self.questions),
            ("questions lost, doubled or out of order", self.questions_wrong),
            ("upgrades in their trails", self.upgrades),
            ("seconds from the last fault until all were home", f"{self.healed_s:.1f}"),
            ("faults", f"{sum(self.faults.values())}: {kinds}"),
        ]
        lines = [f"{name:48} {value}" for name, value in rows]
        for name in ("lost", "doubled", "stuck", "wrong", "families"):
            lines += [f"{name}: {each}" for each in getattr(self, name)]
        return "\n".join(lines)


@define(eq=False)
class Host:
    """One station's machine: its process, disk, clock and proxy."""

    name: str
    folder: Path
    proxy: Proxy
    port: int
    disk: bool
    process: subprocess.Popen[str] | None = None

    @property
    def home(self) -> Path:
        """The station's home, on its disk."""
        return self.folder / "disk" / "home"

    def ahead(self, seconds: float) -> None:
        """Set its wall clock so far ahead of the machine's."""
        (self.folder / "clock").open("r+b").write(int(seconds * 1e9).to_bytes(8, "little", signed=True))

    def fill(self) -> None:
        """Leave no room on its disk."""
        with (self.folder / "disk" / "ballast").open("wb") as file:
            try:
                for size in (1 << 20, 4096, 1):
                    while os.write(file.fileno(), bytes(size)) == size:
                        pass
            except OSError:
                return

    def free(self) -> None:
        """Make room again."""
        (self.folder / "disk" / "ballast").unlink(missing_ok=True)


@define(eq=False)
class Chaos:
    """A whole run."""

    folder: Path
    chance: random.Random
    seconds: float
    old_stores: bool = False
    keeps: bool = False  # the stores, after the run
    say: Callable[[str], None] = lambda text: None
    hosts: dict[str, Host] = field(factory=dict)
    agents: dict[str, tuple[str, list[str]]] = field(factory=dict)
    partners: dict[str, str] = field(factory=dict)
    families: set[str] = field(factory=set)  # those that fork
    sources: dict[str, str] = field(factory=dict, repr=False)
    versions: int = 0
    upgrading: list[subprocess.Popen[bytes]] = field(factory=list)
    seed: bytes = field(factory=lambda: os.urandom(32), repr=False)  # of the laptop's key
    restored: bool = False  # a store was replaced by an older one: every agent is exposed
    faults: Counter[str] = field(factory=Counter)
    proxies: Proxies = field(factory=Proxies)
    mending: list[tuple[float, str, Callable[[], object]]] = field(factory=list)  # when, what is busy, how
    _read: dict[str, dict[str, list[int]]] = field(factory=dict)  # results of those that ended

    @property
    def hops(self) -> int:
        """Stops of each agent, so that it is on its way for the whole time; the rest it does without resting."""
        return max(4, min(120, int(self.seconds / 4)))

    # Stations

    def begin(self) -> None:
        """Make and start all stations."""
        (self.folder / "steps").touch()
        self.pace(0)
        for name in (*NAMES, LAPTOP):
            folder = self.folder / name
            (folder / "disk").mkdir(parents=True)
            (folder / "clock").write_bytes(bytes(8))
            small = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder / "disk")]
            root = sys.platform.startswith("linux") and os.geteuid() == 0
            disk = root and not subprocess.run(small, capture_output=True, check=False).returncode
            port = _free_port()
            self.hosts[name] = Host(name, folder, self.proxies.add(port, self.chance), port, disk)
        for host in self.hosts.values():
            self.start(host)

    def start(self, host: Host) -> None:
        """Start a station, and read what it says as long as it lives."""
        url = "http://127.0.0.1:{}".format
        command = [sys.executable, "-m", "tests.crash.chaos_station", host.name, str(host.home), str(host.port)]
        command += [url(host.proxy.port), str(host.folder / "clock")]
        command += [str(self.folder / "pace"), str(self.folder / "steps")]
        command += [url(self.hosts[name].proxy.port) for name in NAMES if name != host.name]
        keys = self.seed.hex() if host.name == LAPTOP else ""
        own = {
            "CHAOS_LAPTOP": SecretKey(self.seed).public.text,
            "CHAOS_KEY": keys,
            "CHAOS_DOCK": url(self.hosts[DOCK].proxy.port),
        }
        log = (host.folder / "log").open("a")
        process = subprocess.Popen(
            command, env=environment(self.folder) | own, stdout=subprocess.PIPE, stderr=log, text=True
        )
        log.close()
        assert process.stdout is not None
        if process.stdout.readline() != "up\n":
            raise Broken(f"{host.name} does not start: {(host.folder / 'log').read_text()[-2000:]}")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        host.process = process

    def stop(self, host: Host, how: signal.Signals) -> None:
        """End a station. Raises `Broken` if it ended by itself, or not as it should."""
        assert host.process is not None
        if host.process.poll() is not None:
            raise Broken(
                f"{host.name} ended by itself with {host.process.returncode}: "
                f"{(host.folder / 'log').read_text()[-2000:]}"
            )
        host.process.send_signal(how)
        status = host.process.wait(PATIENCE)
        if status != (0 if how is signal.SIGTERM else -how):
            raise Broken(f"{host.name} ended with {status}")

    def ask(self, name: str, what: str, patience: float = PATIENCE, **arguments: Any) -> Any:
        """Ask a station, as its user's commands do; until it answers."""
        end = time.monotonic() + patience
        while True:
            for _, place in running():
                if Path(place.home).resolve() == self.hosts[name].home.resolve():
                    try:
                        with ControlClient(place) as client:
                            items = client.items(what, **arguments)
                            rows = []
                            while True:
                                try:
                                    rows.append(next(items))
                                except StopIteration as last:
                                    return rows, last.value
                    except (ControlError, OSError):
                        pass
            if time.monotonic() > end:
                raise Broken(f"{name} does not answer {what}")
            time.sleep(0.2)

    # Agents

    def pace(self, milliseconds: int) -> None:
        """Let agents rest so long at each stop."""
        new = self.folder / "pace.new"
        new.write_bytes(milliseconds.to_bytes(4, "little"))
        new.replace(self.folder / "pace")

    def launch(self, count: int, families: int) -> None:
        """Launch all agents, in pairs, and tell each its partner; and the families."""
        self.pace(int(min(3000, self.seconds * 600 / self.hops)))
        for number in range(count + families):
            family = number >= count
            home = here = self.chance.choice(NAMES)
            way: list[str] = []
            laptop = self.chance.randrange(1, self.hops - 1) if family else -1
            while len(way) < self.hops:
                last = len(way) == self.hops - 1
                others = [name for name in NAMES if name != here and (last or name != home or len(way) < self.hops - 2)]
                here = home if last else LAPTOP if len(way) == laptop else self.chance.choice(others)
                way.append(here)
            source = self.folder / "agent.wat"
            words = {"hops": self.hops, "family": int(family), "fork": max(1, self.hops // 2)}
            words["wait"] = 20_000 if family or number % 2 else 0
            text = AGENT
            for name, value in words.items():
                text = text.replace(f"{{{name}}}", str(value))
            source.write_text(text)
            said = portcall(
                *(self.folder, "launch", str(source), "--via", ",".join(way)),
                *("--from", str(self.hosts[home].home), "--json"),
            )
            agent = json.loads(said)["agent"]
            self.agents[agent], self.sources[agent] = (home, way), text
            if family:
                self.families.add(agent)
        ids = [agent for agent in self.agents if agent not in self.families]
        for one, other in zip(ids[::2], ids[1::2], strict=True):
            self.partners |= {one: other, other: one}
        for one, other in self.partners.items():
            self.ask(self.agents[one][0], "send", agent=one, body=other.encode())

    # Faults

    def strike(self) -> None:
        """One fault, at one station that has no other of its kind."""
        host = self.hosts[self.chance.choice((*NAMES, LAPTOP))]
        kinds = ["kill", "kill", "kill", "term", "pause", "pause", "clock"]
        kinds += [*MODES, *MODES] if host.name != LAPTOP else []  # nobody calls it
        kinds += ["full"] if host.disk else []
        kinds += ["old store"] if self.old_stores else []
        kind = self.chance.choice(kinds)
        busy = {what for _, what, _ in self.mending}
        of = {"clock": "clock", "full": "disk"}.get(kind, "network" if kind in MODES else "process")
        if f"{of} of {host.name}" in busy or (of == "process" and f"disk of {host.name}" in busy):
            return
        if kind == "full" and f"process of {host.name}" in busy:
            return
        self.faults[kind] += 1
        mend = self._fault(kind, host)
        self.mending.append((time.monotonic() + self.chance.uniform(0.2, 6), f"{of} of {host.name}", mend))

    def upgrade(self) -> None:
        """New code for one agent, by way of its home; which may be down, or not know where it is."""
        if sum(each.poll() is None for each in self.upgrading) > 1:
            return
        agent, self.versions = self.chance.choice(sorted(self.agents)), self.versions + 1
        more = f"(func $more (result i32) (loop (br_if 0 (i32.const 0))) (i32.const {self.versions}))"
        source = self.folder / f"upgrade{self.versions}.wat"
        text = self.sources[agent].replace(
            "(func $note (param $key i32)", f"{more} (func $note (param $key i32) (drop (call $more))"
        )
        source.write_text(text)
        station = str(self.hosts[self.agents[agent][0]].home)
        self.faults["upgrade"] += 1
        # Beside the faults: a station that is stopped answers only when it is mended.
        command = [sys.executable, "-m", "docking.cli", "upgrade", agent, str(source), "--station", station]
        out = subprocess.DEVNULL
        asking = subprocess.Popen(command, env=environment(self.folder), stdout=out, stderr=out)
        self.upgrading = [*(each for each in self.upgrading if each.poll() is None), asking]

    def _fault(self, kind: str, host: Host) -> Callable[[], object]:
        """Do it, and give what mends it."""
        assert host.process is not None
        if kind in MODES:
            self.proxies.turn(host.proxy, kind)
            return partial(self.proxies.turn, host.proxy, "straight")
        if kind in ("kill", "term"):
            self.stop(host, signal.SIGKILL if kind == "kill" else signal.SIGTERM)
            return partial(self.start, host)
        if kind == "pause":
            host.process.send_signal(signal.SIGSTOP)
            return partial(host.process.send_signal, signal.SIGCONT)
        if kind == "clock":
            host.ahead(self.chance.uniform(-SKEW_S, SKEW_S))
            return partial(host.ahead, 0)
        if kind == "full":
            host.fill()
            return host.free
        return self._old_store(host)

    def _old_store(self, host: Host) -> Callable[[], None]:
        """Keep a copy of its home; then, later, put it back."""
        old = host.folder / "old"
        self.stop(host, signal.SIGTERM)
        shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(host.home, old)
        self.start(host)

        def restore() -> None:
            self.stop(host, signal.SIGKILL)
            shutil.rmtree(host.home)
            shutil.copytree(old, host.home)
            self.restored = True
            self.start(host)
            self.accept(host)

        return restore

    def accept(self, host: Host) -> None:
        """As a person would who has no newer copy: have a station go on that is held, if it is."""
        with contextlib.suppress(Broken):
            self.ask(host.name, "accept", patience=5.0)

    def mend(self, all_of_it: bool = False) -> None:
        """Mend what has lasted long enough, or all."""
        now = time.monotonic()
        due = [each for each in self.mending if all_of_it or each[0] <= now]
        self.mending = [each for each in self.mending if each not in due]
        for _, _, how in due:
            how()

    def rage(self) -> None:
        """Faults for the whole time; then everything is mended."""
        end = time.monotonic() + self.seconds
        told = time.monotonic()
        while time.monotonic() < end:
            self.strike()
            if self.chance.random() < 0.2:
                self.upgrade()
            pause = time.monotonic() + self.chance.uniform(0.1, 2.0)
            while time.monotonic() < pause:
                self.mend()
                time.sleep(0.05)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                self.say(f"{end - told:.0f} s to go, {sum(self.faults.values())} faults, {self._steps()} steps")
        self.mend(all_of_it=True)
        for asking in self.upgrading:
            asking.wait(PATIENCE)
        self.pace(0)

    def _steps(self) -> int:
        return (self.folder / "steps").read_bytes().count(b"\n")

    # Judgement

    def judge(self) -> Judgement:
        """Wait for all to be home, and look at what each brought."""
        found = Judgement(agents=len(self.agents), faults=self.faults)
        mended = time.monotonic()
        homes: dict[str, str] = {}
        while time.monotonic() < mended + PATIENCE:
            if self.restored:
                for host in self.hosts.values():
                    self.accept(host)
            rows = [row for name in self.hosts for row in self.ask(name, "agents")[0]]
            homes = {row["agent"]: row["standing"] for row in rows if not row["here"]}
            whole = all(len(self._family(rows, agent)) == MEMBERS for agent in self.families)
            if whole and all(homes.get(agent) == "finished" for agent in self.agents):
                break
            if time.monotonic() > mended + 2 * HEALED_S:
                break
            time.sleep(0.5)
        found.healed_s = time.monotonic() - mended
        self._judge_families(found, rows)
        live = Counter(row["agent"] for name in self.hosts for row in self.ask(name, "agents")[0] if row["here"])
        exposed = set(self.agents) if self.restored else set()
        for agent, (home, way) in self.agents.items():
            if agent in exposed:
                found.exposed += 1
            elif homes.get(agent) != "finished":
                seen = [f"{row['standing']} at {row['station']} {row['text']}" for row in rows if row["agent"] == agent]
                said = f"{agent} of {home}, partner {self.partners.get(agent)}: {'; '.join(seen)}"
                (found.stuck if live[agent] else found.lost).append(said)
            elif live[agent]:
                found.doubled.append(f"{agent} of {home}: it is home, and here and there")
            elif reason := self._wrong(agent, home, way, found):
                found.wrong.append(f"{agent} of {home}: {reason}")
            else:
                found.home += 1
        if found.healed_s > HEALED_S and not found.stuck:
            found.stuck.append(f"all were home only after {found.healed_s:.0f} s")
        self._judge_steps(found, exposed)
        self._judge_messages(found, exposed, {agent for agent, standing in homes.items() if standing == "finished"})
        return found

    def _family(self, rows: list[dict[str, Any]], agent: str) -> list[str]:
        """The members of a family that have ended at home."""
        passports = {row["passport"] for row in rows if row["agent"] == agent and row["passport"]}  # none: on its way
        ended = [row for row in rows if row["passport"] in passports and row["standing"] == "finished"]
        return [row["agent"] for row in ended if not row["here"]]

    def _judge_families(self, found: Judgement, rows: list[dict[str, Any]]) -> None:
        """Each has three members, who took every step, and none is anywhere else."""
        if self.restored:
            return
        for agent in self.families:
            members, (home, _) = self._family(rows, agent), self.agents[agent]
            if len(members) != MEMBERS:
                found.families.append(f"{agent} of {home} has {len(members)} members at home")
            for each in members:
                if self._results(each, home)["n"] != list(range(self.hops + 1)):
                    found.families.append(f"{each} of the family {agent} has other steps")

    def _results(self, agent: str, home: str = "") -> dict[str, list[int]]:
        if agent in self._read:
            return self._read[agent]
        station = str(self.hosts[home or self.agents[agent][0]].home)
        rows = json.loads(portcall(self.folder, "results", agent, "--json", "--station", station))
        kept: dict[str, list[int]] = {"n": [], "r": [], "q": [], "a": []}
        for row in rows:
            kept[row["key"]].append(int.from_bytes(bytes.fromhex(row["hex"]), "little"))
        self._read[agent] = kept
        return kept

    def _wrong(self, agent: str, home: str, way: list[str], found: Judgement) -> str:
        steps = self._results(agent)["n"]
        if steps != list(range(self.hops + 1)):
            return f"it brought the steps {steps}"
        station = str(self.hosts[home].home)
        trail = json.loads(portcall(self.folder, "trail", agent, "--verify", "--json", "--station", station))
        laptop = SecretKey(self.seed).public.text  # not everybody has met it, so as to know its name
        went = [LAPTOP if visit["key"] == laptop else visit["station"] for visit in trail["visits"]]
        if not trail["holds"] or went != [home, *way]:
            return f"its trail is another: {trail}"
        found.upgrades += len(trail["upgrades"])
        return ""

    def _judge_steps(self, found: Judgement, exposed: set[str]) -> None:
        most: dict[str, int] = {}
        for line in (self.folder / "steps").read_text().splitlines():
            agent, step, station = line.split()
            found.hops += agent not in most or int(step) > most[agent]
            if int(step) < most.get(agent, 0) and agent not in exposed:
                found.doubled.append(f"{agent} took step {step} at {station} after step {most[agent]}")
            most[agent] = max(most.get(agent, 0), int(step))

    def _judge_messages(self, found: Judgement, exposed: set[str], finished: set[str]) -> None:
        for agent, partner in self.partners.items():
            if {agent, partner} & exposed or not finished >= {agent, partner}:
                continue  # not judged: a message to an agent that is stuck is not lost
            got = Counter(self._results(agent)["r"])
            found.messages += self.hops
            found.messages_lost += sum(1 for number in range(1, self.hops + 1) if not got[number])
            found.messages_doubled += sum(count - 1 for count in got.values())
            steps = list(range(4, self.hops + 1, 4))
            found.questions += len(steps)
            found.questions_wrong += (self._results(agent)["a"] != steps) + (self._results(partner)["q"] != steps)

    def end(self) -> None:
        """End all processes, and judge what the stores hold. Raises `Broken`."""
        for host in self.hosts.values():
            self.stop(host, signal.SIGTERM)
        for host in self.hosts.values():
            store = Store.open(host.home / "station.db", new_epoch=bytes(16), clock=lambda: 0)
            left = store.capsules("live")
            store.close()
            if left and not self.restored:
                raise Broken(f"{host.name} has {len(left)} agents left")

    def close(self) -> None:
        """Leave nothing behind."""
        for host in self.hosts.values():
            if host.process is not None:
                host.process.kill()
                host.process.wait()
            if host.disk and self.keeps:
                shutil.copytree(host.home, host.folder / "home", ignore=shutil.ignore_patterns("*.sock"))
            if host.disk:
                subprocess.run(["umount", "-l", str(host.folder / "disk")], check=False)
        self.proxies.close()


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def chaos(
    folder: Path,
    seconds: float,
    agents: int,
    seed: int,
    old_stores: bool = False,
    say: Callable[[str], None] = print,
    families: int = 2,
    keeps: bool = False,
) -> Judgement:
    """A whole run. Raises `Broken` where a station ended by itself, or does not start or answer."""
    made = Chaos(folder, random.Random(seed), seconds, old_stores, keeps, say)
    before = os.environ.get("PORTCALL_RUNNING")
    os.environ["PORTCALL_RUNNING"] = str(folder / "running")
    try:
        made.begin()
        made.launch(agents + agents % 2, families)
        say(f"{len(made.agents)} agents, {made.hops} hops each")
        made.rage()
        found = made.judge()
        if found.good:
            made.end()
        return found
    finally:
        made.close()
        os.environ.pop("PORTCALL_RUNNING")
        if before is not None:
            os.environ["PORTCALL_RUNNING"] = before


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--families", type=int, default=2, help="agents that fork, and go to the laptop")
    parser.add_argument("--old-stores", action="store_true")
    parser.add_argument("--json", action="store_true", help="print the judgement as JSON")
    parser.add_argument("--keep", help="a new folder for all files, which stays")
    options = parser.parse_args()

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    progress(f"seed {options.seed}")
    folder = Path(options.keep or tempfile.mkdtemp(prefix="portcall-chaos-"))
    folder.mkdir(exist_ok=True)
    try:
        found = chaos(
            *(folder, options.minutes * 60, options.agents, options.seed, options.old_stores, progress),
            families=options.families,
            keeps=options.keep is not None,
        )
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        from attrs import asdict

        print(json.dumps(asdict(found) | {"good": found.good}, indent=1))
    else:
        print(found.table())
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
