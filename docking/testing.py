"""Agents in unit tests: `play` runs one with stations that are played, `Stations` runs one at real stations.

    from docking.testing import play

    def test_stock():
        trial = play("stock.py", via="alpha,beta", services={"stock.count": "12"}, down=["beta"])
        assert trial.exit_code == 0
        assert trial.output == "12 nuts at alpha\\n"

`play` takes milliseconds: everything happens in this process, and time passes only in that the agent waits. The agent
itself runs for real, in the engine of stations. In `Stations` everything is real: keys, admission, handoff, HTTP.

pytest has both as the fixtures `agent` and `stations` (`docking.pytest_plugin`).
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.brief import brief
from agents.budget import TimeBudget
from agents.credentials.keys import SecretKey
from agents.credentials.permit import Permit
from agents.credentials.ways import Way
from agents.engines import Engine, Limits, load
from agents.engines.native_stack import DEEP, deep_threads
from agents.image import AgentImage
from agents.outcomes import Exhausted, Finished, Outcome, Trapped
from agents.sdk.sources import Choices, load_image, user_cache
from agents.snapshot import Snapshot
from agents.stack import Stack, stack_of
from agents.testing import Seeded
from agents.waits import Sleep
from docking.errors import StationError
from docking.handle import Report, Result
from docking.launching import DEFAULT_PERMIT, Terms, first_state
from docking.options import Timing
from docking.residents.services import Offering, ServiceFunction
from docking.simulation import SimulatedAgent, Simulation, check_stop, way_of
from docking.station import Station
from docking.threaded import Threaded, ThreadedAgent
from docking.trust.policy import Policy

# In tests a station that is down is given up soon.
TIMING = Timing(offer_again_s=0.2, commit_again_s=0.05, ask_again_s=0.05, longest_s=0.4, patience_s=5.0)
KEPT_IMAGES = 8  # whose code has been read
WAIT_S = 60.0  # seconds that `Stations.run` waits for an agent


Source: TypeAlias = "AgentImage | str | Path"
Files: TypeAlias = "Sequence[str | Path] | Mapping[str, str | Path]"
Services: TypeAlias = "Mapping[str, ServiceFunction | bytes | str] | Callable[[Offering], None]"


@frozen
class Line:
    """A line that an agent printed or logged.

    station: where
    text: the line, without its end
    """

    station: str
    text: str


@frozen
class Trial:
    """How an agent ended that was played.

    outcome: its end, as of `agents.run`
    output: what it wrote to standard output
    errors: what it wrote to standard error, what it logged, and why its calls failed
    lines: both, line by line, with the station of each
    results: what it reported
    visited: the names of the stations where it was, from its home
    clones: the same of each clone of it or of a clone, in the order in which they were made
    stack: its functions, lines and variables when its time was used up; None if it ended in another way
    """

    outcome: Outcome = field(repr=brief)
    output: str
    errors: str
    lines: tuple[Line, ...] = field(repr=brief)
    results: tuple[Result, ...] = field(repr=brief)
    visited: tuple[str, ...] = field(repr=brief)
    clones: tuple[Trial, ...] = field(default=(), repr=brief)
    stack: Stack | None = field(default=None, repr=brief)

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None if it trapped or was stopped: `outcome` says why."""
        return self.outcome.exit_code if isinstance(self.outcome, Finished) else None


def play(
    source: Source,
    *,
    files: Files = (),
    packages: Sequence[str] = (),
    via: str | Way | Sequence[str] = "",
    services: Services | None = None,
    down: Sequence[str] | Mapping[str, float | None] = (),
    messages: Sequence[str | bytes] = (),
    args: Sequence[str] = (),
    home: str = "home",
    permit: Permit = DEFAULT_PERMIT,
    seed: int = 0,
    hop_every: int | None = None,
    folder: Path | None = None,
) -> Trial:
    """Run an agent, and its clones, with stations that this process plays.

    source: an image, or the path of a source or image
    files: paths of data that it takes along, as `--file`; a mapping gives the agent's names for them
    packages: names of packages of this environment that it takes along, as `--package`
    via: where it may go, as `portcall launch --via` takes it, or names in order; empty for anywhere
    services: names, each with a function of the request or with the reply; `NAME@STATION` at one station only. Or a
        function that is called with each station and offers what this one has
    down: names of stations that do not answer; or for each, for how many seconds from the start (None: never)
    messages: what it is sent from its home before it starts
    args: its arguments, after the program's own name
    home: the name of the station where it starts
    permit: the processor time and memory that it may use; the default is that of a launch
    seed: decides what it draws at random
    hop_every: go on in a fresh instance, from bytes, at every so many opportunities to suspend
    folder: where relative paths of sources and files begin; the current folder by default

    The same call does the same, whatever the time of day: the clock starts at a fixed time, and a sleep takes exactly
    its time, and none of yours. Raises what packing raises, and `StationError` for a service that cannot be offered.
    """
    image = _image(source, folder, files, packages)
    world = _TestWorld(seed)
    way = way_of(via)
    for full in services if isinstance(services, Mapping) else ():
        if "@" in full:
            check_stop(full.partition("@")[2], way, home)
    simulation = Simulation(
        world,
        home=home,
        via=way,
        down=down,
        offers=offers_of(services or {}),
        messages=[_bytes(each) for each in messages],
        label=image.manifest.name,
    )
    budget = permit.budget
    memory = None if budget.memory == DEFAULT_PERMIT.budget.memory else budget.memory

    def run() -> None:
        simulation.run(
            _of_one_code(image),
            [_engine()],
            snapshot=Snapshot.decode(first_state(image, args, memory=memory)),
            hop_every=hop_every,
            limits=Limits(memory=budget.memory),
            budget=TimeBudget(budget.cpu * 1000),
        )

    _in_deep_thread(run)
    first, *clones = [world.trial(agent, image) for agent in simulation.agents]
    return evolve(first, clones=tuple(clones))


def offers_of(services: Services) -> Callable[[Offering], None]:
    """What offers `services`, see `play`, at one station."""
    if not isinstance(services, Mapping):
        return services
    given = services

    def offer(station: Offering) -> None:
        for full, value in given.items():
            name, _, only = full.partition("@")
            if only in ("", station.name):
                station.offer(name, value if callable(value) else _replying(value))

    return offer


def _replying(value: bytes | str) -> ServiceFunction:
    reply = _bytes(value)
    return lambda request: reply


def _bytes(text: bytes | str) -> bytes:
    if not isinstance(text, (bytes, str)):
        raise TypeError(f"a reply or a message is bytes or text, not {type(text).__name__}")
    return text.encode() if isinstance(text, str) else text


class Stations:
    """Real stations in this process, each in a thread of its own, on free ports of the loopback interface.

        with Stations() as stations:
            alpha, beta = stations("alpha", "beta")
            beta.offer("stock.count", lambda request: b"12")
            report = stations.run("stock.py", via="beta")
            assert report.results[0].text == "12"

    folder: where relative paths of sources begin; the current folder by default

    They know each other, and admit the agents of `owner`. They keep everything in memory, unless they are given a home.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.owner = SecretKey(canonical.digest(b"owner of agents in tests"))
        """The key that signs the agents."""
        self._folder = Path() if folder is None else folder
        self._running: dict[str, Threaded] = {}
        self._made: dict[str, Station] = {}

    def __enter__(self) -> Stations:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(
        self, *names: str, services: Services | None = None, home: Path | None = None, **options: Any
    ) -> list[Threaded]:
        """Start stations, and let all that run meet.

        names: what they are called
        services: see `play`
        home: the folder for a folder of each, where it keeps its key and its agents; None keeps them in memory
        options: as of `docking.Station`; by default they listen on a free port of this machine, without mDNS
        """
        fixed: dict[str, Any] = {
            "policy": Policy(owners=[self.owner.public]),
            "timing": TIMING,
            "host": "127.0.0.1",
            "mdns": False,
            "control": False,
            "threads": 2,
        }
        for name in names:
            if name in self._made:
                raise StationError(f"there is a station {name!r} already")
            made = Station(name, None if home is None else home / name, **{**fixed, **options})
            offers_of(services or {})(made)
            self._made[name] = made
        return [self.start(name) for name in names]

    def __getitem__(self, name: str) -> Threaded:
        """The running station of this name. Raises KeyError."""
        return self._running[name]

    def start(self, name: str) -> Threaded:
        """Start a station again that was stopped, and let it meet the others.

        name: what it is called
        """
        threaded = Threaded(self._made[name])
        threaded.begin()
        for other in self._running.values():
            for one, two in ((threaded, other), (other, threaded)):
                one.do(one.station.introductions.call_on(two.url))
        self._running[name] = threaded
        return threaded

    def stop(self, name: str) -> None:
        """Stop a station: it does not answer any more.

        name: what it is called
        """
        self._running.pop(name).end()

    def launch(
        self,
        source: Source,
        *,
        files: Files = (),
        packages: Sequence[str] = (),
        via: str | Way | Sequence[str] = "",
        at: str | None = None,
        args: Sequence[str] = (),
        terms: Terms | None = None,
    ) -> ThreadedAgent:
        """Sign an agent, and start it.

        source: an image, or the path of a source or image
        files, packages: what it takes along, see `play`
        via: where it may go, as `portcall launch --via` takes it, or names in order; empty to stay at home
        at: the station that is its home; the one that was started first by default
        args: its arguments, after the program's own name
        terms: its permit, see `docking.Terms`

        Raises as `docking.Station.launch`.
        """
        image = _image(source, self._folder, files, packages)
        _of_one_code(image)
        home = next(iter(self._running.values())) if at is None else self._running[at]
        return home.launch(image, via=via, owner=self.owner, args=args, terms=terms)

    def run(self, source: Source, *, timeout: float = WAIT_S, **options: Any) -> Report:
        """Launch an agent, and wait for its end.

        source: an image, or the path of a source or image
        timeout: seconds
        options: the others of `launch`

        Raises as `launch`; `AgentEnded` if it was stopped, `StationError` if it has not ended in time.
        """
        agent = self.launch(source, **options)
        try:
            return agent.wait(timeout)
        except asyncio.TimeoutError:
            raise StationError(f"the agent has not ended in {timeout:g} s: it is at {agent.where()}") from None

    def close(self) -> None:
        """Stop all of them."""
        running, self._running = list(self._running.values()), {}
        with ThreadPoolExecutor(max(1, len(running))) as pool:  # each waits a little for its peers
            list(pool.map(Threaded.end, running))


@define(eq=False, repr=False)
class _TestWorld:
    """Time that passes only in that agents wait, chance from a seed, and no input."""

    native = False
    _seed: int
    _clock: Seeded = field(init=False)
    _said: dict[str, list[tuple[str, int, bytes]]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._clock = Seeded(self._seed)

    def wall_ns(self) -> int:
        return self._clock.wall_ns()

    def monotonic_ns(self) -> int:
        return self._clock.monotonic_ns()

    def random(self, size: int) -> bytes:
        return self._clock.random(size)

    def output(self, agent: SimulatedAgent, fd: int, data: bytes) -> None:
        self._said.setdefault(agent.agent_id, []).append((agent.station, fd, data))

    def idle(self, ns: int | None, listening: bool) -> bytes | None:
        if listening:
            return b""
        self._clock.answer(Sleep(ns or 0))
        return None

    def trial(self, agent: SimulatedAgent, image: AgentImage) -> Trial:
        """What is known of an agent that has ended."""
        said = self._said.get(agent.agent_id, [])
        written = {fd: b"".join(data for _, each, data in said if each == fd) for fd in (1, 2)}
        results = [
            Result(key, value, stay.station, stay.visit, stay.time)
            for (key, value), stay in zip(agent.reports, agent.reported_at, strict=True)
        ]
        assert agent.outcome is not None
        return Trial(
            agent.outcome,
            written[1].decode(errors="replace"),
            written[2].decode(errors="replace") + _why(agent.outcome),
            tuple(_lines(said)),
            tuple(results),
            tuple(agent.visited),
            stack=_stack(image, agent.outcome),
        )


def _stack(image: AgentImage, outcome: Outcome) -> Stack | None:
    """Where it was when it was stopped, if there is a state."""
    if isinstance(outcome, Exhausted) and outcome.snapshot is not None:
        return stack_of(image, outcome.snapshot)
    return None


def _why(outcome: Outcome) -> str:
    return f"{outcome.reason}\n" if isinstance(outcome, (Trapped, Exhausted)) else ""


def _lines(said: Sequence[tuple[str, int, bytes]]) -> list[Line]:
    """The lines of both streams, in the order in which they were completed, at the station of their first byte."""
    found: list[Line] = []
    begun = {1: ("", b""), 2: ("", b"")}
    for station, fd, data in said:
        where, text = begun[fd]
        *whole, rest = (text + data).split(b"\n")
        for line in whole:
            found.append(Line(where or station, line.decode(errors="replace")))
            where = ""
        begun[fd] = (where or station if rest else "", rest)
    found += [Line(where, rest.decode(errors="replace")) for where, rest in begun.values() if rest]
    return found


@functools.cache
def _engine() -> Engine:
    return load(stack=DEEP)


def _image(source: Source, folder: Path | None, files: Files, packages: Sequence[str]) -> AgentImage:
    if isinstance(source, AgentImage):
        if files or packages:
            raise TypeError("an image is packed already: files and packages go along with its source")
        return source
    begin = folder or Path()
    given = files if isinstance(files, Mapping) else {Path(path).name: path for path in files}
    taken = {guest: begin / path for guest, path in given.items()}
    return load_image(begin / source, Choices(files=taken, packages=tuple(packages)), cache=user_cache())


_known: dict[bytes, AgentImage] = {}


def _of_one_code(image: AgentImage) -> AgentImage:
    """One image for all that differ in their luggage only, as at a station: its code is read once."""
    if image.digest not in _known:
        while len(_known) >= KEPT_IMAGES:
            del _known[next(iter(_known))]
        _known[image.digest] = AgentImage.decode(image.encode())
    return _known[image.digest]


def _in_deep_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread with as much stack as agents have at stations. Raises what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    with deep_threads():
        thread = threading.Thread(target=run, name="portcall-play", daemon=True)
        thread.start()
    thread.join()
    if raised:
        raise raised[0]


__all__ = ["Line", "Stations", "Trial", "play"]
