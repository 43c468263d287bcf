"""A station as a process of its own, for benchmarks and crash tests, steered over its standard input.

    python -m tests.bench.place NAME OWNER [--home FOLDER] [--host ADDRESS] [--mdns] [--threads N] [--profile FILE]

One JSON object a line: `{"do": "launch", ...}`, and one line of answer to each, in order. The station is the real one
with all it does; the only addition is a list of times at which turns of agents began and ended. It ends with its
standard input. `Steered` is the other end: what starts such a process and asks it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from agents.credentials.itinerary import Itinerary, Loop, Seq, Stop
from agents.credentials.keys import PublicKey, SecretKey, text_of
from agents.credentials.permit import Budget, Permit
from agents.image import AgentImage
from docking.aio import loops
from docking.console.server import serving
from docking.handoff.actions import Timing
from docking.handoff.states import Source
from docking.http.server import listen
from docking.launching import Terms
from docking.letters.journeys import JourneyStanding
from docking.letters.orders import OrderKind
from docking.residents.berth import Berth, Turn
from docking.residents.services import Visitor
from docking.station import Station
from docking.trust.policy import GIB, OwnerRule, Policy
from tests.crash.failpoints import Killer

ROOT = Path(__file__).parents[2]
# Nothing that is measured here shall end at a budget: 2,000 hops with 16 MiB are 32 GiB.
BUDGET = Budget(cpu=10**12, memory=2 << 30, carried=1 << 50, messages=10**9)
HOPS = 100_000
HASTY = Timing(offer_again_s=0.2, commit_again_s=0.05, ask_again_s=0.05, longest_s=0.4)


def policy_for(owner: PublicKey) -> Policy:
    """A policy for one owner with many agents."""
    rule = OwnerRule(owner, "bench", ("service:*", "host:*"), BUDGET, 200_000)
    return Policy(owners=(rule,), budget=BUDGET, residents=200_000, busy=20_000, memory=64 * GIB, state=2 * GIB)


@define(eq=False)
class Place:
    """The child: one station. `stamps`: (began, ended) of each turn, in ns of the machine's monotonic clock."""

    station: Station
    owner: SecretKey
    killer: Killer
    stamps: list[tuple[int, int]] = field(factory=list)
    agents: list[Any] = field(factory=list)
    beside: contextlib.AsyncExitStack = field(factory=contextlib.AsyncExitStack)

    def watch(self) -> None:
        """Note the time of each turn from now on."""
        turn, stamps = Berth.turn, self.stamps

        def timed(berth: Berth, event: Any) -> Turn:
            began = time.monotonic_ns()
            try:
                return turn(berth, event)
            finally:
                stamps.append((began, time.monotonic_ns()))

        Berth.turn = timed  # type: ignore[method-assign]

    async def do(self, what: str, value: dict[str, Any]) -> Any:
        """One order of the parent."""
        return await getattr(self, f"do_{what}")(**value)

    async def do_meet(self, url: str) -> str:
        peer = await self.station.introductions.call_on(url)
        return peer.key.text

    async def do_launch(self, image: str, via: list[str], turns: int = 0, count: int = 1) -> list[str]:
        """Launch `count` agents that visit `via`, `turns` times over."""
        keys = [PublicKey.from_text(text) for text in via] or [self.station.key]
        stops = Seq([Stop(key) for key in keys])
        itinerary = Itinerary(Loop(turns, stops) if turns else stops)
        terms = Terms(Permit(BUDGET, ("host:*", "service:*")), hops=HOPS)
        packed = AgentImage.unpack(Path(image).read_bytes())
        fresh = [
            await self.station.launch(packed, owner=self.owner, itinerary=itinerary, terms=terms) for _ in range(count)
        ]
        self.agents += fresh
        return [agent.id for agent in fresh]

    async def do_wait(self, timeout: float) -> list[int]:
        """The exit codes of all that were launched."""
        reports = [await agent.wait(timeout) for agent in self.agents]
        self.agents.clear()
        return [report.exit_code for report in reports]

    async def do_over(self) -> int:
        """How many of the agents launched here are at their journey's end."""
        journeys = self.station.core.here.journeys.all()
        return sum(
            journey.standing in (JourneyStanding.FINISHED, JourneyStanding.DISPOSED, JourneyStanding.STOPPED)
            for journey in journeys
        )

    async def do_waits(self) -> list[float]:
        """How long agents waited for blocks that they touched (post-copy), in ms; each is told once."""
        waits = self.station.core.fetcher.waits_ms
        taken = list(waits)
        waits.clear()
        return taken

    async def do_standing(self) -> dict[str, int]:
        """How many agents are here, by what they do; those whose state is not on the disk yet count as "busy"."""
        found: Counter[str] = Counter()
        for berth in self.station.core.here.berths.values():
            found["busy" if berth.state is not None else berth.standing.value] += 1
        return dict(found)

    async def do_here(self) -> list[list[Any]]:
        """The agents here: id, standing, visit, state's digest (hex, if it is stored), text."""
        rows = []
        for berth in self.station.core.here.berths.values():
            saved: Any = berth.saved
            state = "" if saved is None else saved.state.digest.hex()
            rows.append([berth.agent_id, berth.standing.value, berth.visit, state, berth.text])
        return rows

    async def do_stamps(self) -> dict[str, Any]:
        """The times since the last question, and what was used since the process began."""
        reception = self.station.reception  # what `metrics` prints, as numbers
        used = resource.getrusage(resource.RUSAGE_SELF)
        taken = list(self.stamps)
        del self.stamps[: len(taken)]
        return {
            "stamps": taken,
            "wire": reception.received_bytes + reception.sent_bytes,
            "cpu": used.ru_utime + used.ru_stime,
            "memory": _resident(),
            "in_doubt": len(self.station.core.here.in_doubt),
        }

    async def do_order(self, agent: str, order: str) -> str:
        return self.station.core.commands.order(self.station.core.queries.find_agent(agent), OrderKind(order)).value

    async def do_wake_all(self) -> dict[str, float]:
        """Wake every agent here at once; seconds until the last one runs, and until all have ended, durably.

        `still`: the longest time for which the event loop answered nobody meanwhile.
        """
        core = self.station.core
        began, ticked, still = time.perf_counter(), time.perf_counter(), 0.0
        self.stamps.clear()
        count = len(core.here.berths)
        for berth in tuple(core.here.berths.values()):
            core.commands.order(berth.agent, OrderKind.WAKE)
            if time.perf_counter() - ticked > 0.05:
                await asyncio.sleep(0)  # as orders come: one by one
                still, ticked = max(still, time.perf_counter() - ticked), time.perf_counter()
        while len(self.stamps) < count or core.here.berths:
            await asyncio.sleep(0.005)
            still, ticked = max(still, time.perf_counter() - ticked), time.perf_counter()
            if len(self.stamps) >= count and not core.here.berths:
                break
        last = max(start for start, _ in self.stamps) / 1e9 - time.monotonic() + time.perf_counter()
        await core.here.journal.write([], True)
        return {"run": last - began, "ended": time.perf_counter() - began, "still": still}

    async def do_console(self) -> str:
        """Serve a console until the process ends; the link that opens it."""
        console, sock = self.station.console(), listen("127.0.0.1", 0)
        await self.beside.enter_async_context(serving(console, sock))
        return console.link(f"http://127.0.0.1:{sock.getsockname()[1]}")

    async def do_counts(self) -> dict[str, int]:
        """How many events of each kind there were."""
        return dict(self.station.core.here.counts)

    async def do_stall(self, seconds: float) -> float:
        """The longest time, in so many seconds, for which the event loop answered nobody."""
        began = last = time.perf_counter()
        still = 0.0
        while last - began < seconds:
            await asyncio.sleep(0.002)
            still, last = max(still, time.perf_counter() - last), time.perf_counter()
        return still

    async def do_arm(
        self, place: str | None, number: int = 1, gate: str | None = None, gently: bool = False, loses: int = 0
    ) -> None:
        """Die when the failpoint `place` is reached for the `number`th time from now on, or wait there at a gate, or
        have the network fail there `loses` times.
        """
        self.killer.arm(place, number, None if gate is None else Path(gate), gently, loses)

    def watch_letters(self) -> None:
        """Failpoints before and after each letter too, by its kind: `TALK.before-send`."""
        outbox, killer = self.station.core.here.outbox, self.killer
        deliver = outbox._deliver

        async def watched(key: PublicKey, value: Any) -> object:
            killer(f"{value[0].upper()}.before-send")
            answer = await deliver(key, value)
            killer(f"{value[0].upper()}.after-send")
            return answer

        outbox._deliver = watched

    async def do_peers(self) -> list[str]:
        """The stations that have proven who they are."""
        return sorted(peer.name for peer in self.station.core.here.peers.all() if peer.proven)

    async def do_where(self, name: str) -> list[str]:
        """The addresses of a station that has proven who it is, the best first."""
        found = [peer for peer in self.station.core.here.peers.all() if peer.proven and peer.name == name]
        return list(found[0].addresses) if found else []

    async def do_failpoints(self) -> dict[str, int]:
        """How often each was reached since the last arming."""
        return dict(self.killer.seen)

    async def do_open(self) -> int:
        """Handoffs that are not decided, or not confirmed."""
        return len(self.station.core.here.store.unfinished())

    async def do_departed(self, agent: str) -> bool:
        """Whether this station has decided that the agent is another's: from then on it never runs here."""
        records = self.station.core.here.store.unfinished()
        return any(text_of(each.agent) == agent and each.state is Source.COMMITTED for each in records)

    async def do_journeys(self) -> list[str]:
        """The agents that were launched here, also before a restart."""
        return [text_of(journey.agent) for journey in self.station.core.here.journeys.all()]

    async def do_ended(self, agent: str) -> list[str] | None:
        """How the journey of an agent that was launched here ended, and the exit code or what was said; None before."""
        journey = self.station.core.here.journeys.get(self.station.core.queries.find_agent(agent))
        if journey is None or journey.standing not in (
            JourneyStanding.FINISHED,
            JourneyStanding.DISPOSED,
            JourneyStanding.STOPPED,
        ):
            return None
        return [journey.standing.value, journey.text]

    async def do_move(self, agent: str, to: str, **options: Any) -> dict[str, object]:
        """Move an agent that is here; what that took."""
        return (await self.station.agent(agent).move(to, **options)).told()

    async def do_upgrade(self, agent: str, image: str) -> str:
        """Give an agent new code; what became of it."""
        packed = AgentImage.unpack(Path(image).read_bytes())
        return (await self.station.agent(agent, self.owner).upgrade(packed)).done

    async def do_images(self) -> dict[str, str]:
        """The digests, in hex, of the images of the agents here."""
        return {berth.agent_id: berth.image.digest.hex() for berth in self.station.core.here.berths.values()}

    async def do_peek(self, agent: str, at: int) -> int:
        """Eight bytes of an agent's memory, while it runs; 0 if it has none now."""
        berth = self.station.core.here.berths.get(self.station.core.queries.find_agent(agent))
        life = None if berth is None else berth.life
        if berth is None or life is None or life.instance is None or berth.owed is not None:
            return 0
        with life.instance.raw(life.memories[0]).reading() as view:
            return int.from_bytes(view[at : at + 8], "little")

    async def do_values(self, agent: str) -> list[str]:
        """What an agent that ended reported, in hex."""
        return [result.value.hex() for result in self.station.agent(agent, self.owner).results()]

    async def do_report(self, agent: str) -> list[list[str]]:
        """What an agent that ended reported: key, value, station."""
        handle = self.station.agent(agent, self.owner)
        return [[result.key, result.text, result.station] for result in handle.results()]


def _resident() -> int:
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.place")
    parser.add_argument("name")
    parser.add_argument("owner", help="the owner's secret key, in hex: it is one for this run only")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--mdns", action="store_true")
    parser.add_argument("--volatile", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--patience", type=float, default=30.0)
    parser.add_argument("--profile", type=Path, help="write a profile of the event loop's thread here")
    parser.add_argument("--steps", type=Path, help="a service `step` appends to it; letters have failpoints")
    parser.add_argument("--hasty", action="store_true", help="short waits of the protocol")
    return parser


async def serve(arguments: argparse.Namespace) -> None:
    """Run a station until the standard input ends."""
    owner = SecretKey(bytes.fromhex(arguments.owner))
    killer = Killer()
    began = time.monotonic()
    station = Station(
        arguments.name,
        arguments.home,
        policy=policy_for(owner.public),
        host=arguments.host,
        port=arguments.port,
        mdns=arguments.mdns,
        volatile=arguments.volatile,
        threads=arguments.threads,
        patience=arguments.patience,
        timing=HASTY if arguments.hasty else None,
        control=False,
        failpoint=killer,
    )
    place = Place(station, owner, killer)
    place.watch()
    if arguments.steps is not None:
        steps = os.open(arguments.steps, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        @station.service("step")
        async def step(request: bytes, visitor: Visitor) -> bytes:
            os.write(steps, f"{visitor.agent} {request.decode()} {arguments.name}\n".encode())
            return b""

    async with station, place.beside:
        if arguments.steps is not None:
            place.watch_letters()
        ready = time.monotonic() - began
        print(json.dumps({"url": station.url, "key": station.key.text, "ready": ready}), flush=True)
        loop = asyncio.get_running_loop()
        ended = asyncio.ensure_future(_terminated())
        while True:
            reading = asyncio.ensure_future(loop.run_in_executor(None, sys.stdin.readline))
            await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() or not (line := reading.result()):
                break
            value = json.loads(line)
            try:
                answer = {"ok": await place.do(value.pop("do"), value)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    if ended.done():
        os._exit(0)  # the thread that reads would be waited for
    ended.cancel()


async def _terminated() -> None:
    """Until somebody asks the process to end."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await asked.wait()


def run(argv: Sequence[str] | None = None) -> None:
    """The process."""
    arguments = _parser().parse_args(argv)
    if arguments.profile is None:
        loops.run_loop(serve(arguments))
        return
    import cProfile

    profile = cProfile.Profile()
    profile.runcall(loops.run_loop, serve(arguments))
    profile.dump_stats(arguments.profile)


class Failed(Exception):
    """The station said that it could not do what was asked, or ended."""


@define(eq=False)
class Steered:
    """The parent's side of one station process. Use as a context manager."""

    name: str
    process: subprocess.Popen[str]
    url: str = ""
    key: str = ""
    ready: float = 0.0

    @classmethod
    def start(
        cls,
        name: str,
        owner: bytes,
        *options: str,
        within: Sequence[str] = (),
        stderr: Any = None,
        checkout: Path = ROOT,
    ) -> Steered:
        """Start it. `owner`: the seed of a key; `within`: a command that runs it elsewhere, like `ip netns exec`;
        `checkout`: another one's station.
        """
        own = checkout / ".venv" / "bin" / "python"
        python = str(own) if checkout != ROOT and own.exists() else sys.executable
        command = [*within, python, "-m", "tests.bench.place", name, owner.hex(), *options]
        process = subprocess.Popen(
            command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        return cls(name, process)

    def await_ready(self) -> Steered:
        """Until it listens. Raises `Failed`."""
        said = self._read()
        self.url, self.key, self.ready = said["url"], said["key"], said["ready"]
        return self

    def ask(self, what: str, **value: Any) -> Any:
        """The answer to one order. Raises `Failed`."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": what, **value}) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Failed(f"{self.name} has ended") from error
        answer = self._read()
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer["ok"]

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} has ended with status {self.process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        """End it in good order."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # what it had not read when it was killed
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Steered:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def stations(
    owner: bytes, names: Sequence[str], options: Callable[[str], Sequence[str]], checkout: Path = ROOT
) -> dict[str, Steered]:
    """Stations that know each other."""
    found = {name: Steered.start(name, owner, *options(name), checkout=checkout) for name in names}
    for station in found.values():
        station.await_ready()
    for station in found.values():
        for other in found.values():
            if other is not station:
                station.ask("meet", url=other.url)
    return found


if __name__ == "__main__":
    run()
