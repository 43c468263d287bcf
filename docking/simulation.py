"""Stations that one process plays for an agent: no network, no keys, no store.

`portcall run` and the fixtures for unit tests use it. The agents run for real; the way they may go is the real
`Itinerary`, and services are called by the real `Services`. Left out is what takes two parties: signatures, admission
and the handoff. For these, `docking.testing.Stations` runs stations.

Agents take turns: one runs until it waits. Time, chance and input come from a `World`, so that a run of the same image
in a world that is determined does the same. Invariant: every wait ends, or the run does; where no agent can go on any
more, the first that waits for a message is told so.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from attrs import define, field, frozen

from agents import canonical
from agents.ambient import StandaloneHost
from agents.brief import brief
from agents.credentials.directions import nowhere, refusal
from agents.credentials.itinerary import CertifiedStop, Itinerary, Leaf, Position, Stop
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import PASSPORT_NONCE_SIZE, Home, Passport
from agents.credentials.ways import Way
from agents.engines import Engine
from agents.errors import CallFailed, CompilingTooCostly, PortcallError
from agents.execution import Execution
from agents.hostcalls import EAGAIN, EHOSTUNREACH, ENOENT, ENOSPC, ENOTSUP, ETIMEDOUT
from agents.image import AgentImage
from agents.outcomes import Asked, Exhausted, Finished, Outcome, Spent, Trapped
from agents.outcomes import Stop as Stopped
from agents.snapshot import Snapshot
from agents.waits import (
    HOME_STOP,
    NEXT_STOP,
    Accept,
    Answer,
    Arrived,
    Ask,
    Call,
    Clone,
    Cloned,
    Event,
    Failed,
    Find,
    Fork,
    Forked,
    Go,
    GoAt,
    Input,
    InputReady,
    Listen,
    Message,
    Posed,
    Recv,
    Refused,
    Reply,
    Select,
    Sleep,
    TimedOut,
    Wait,
    Woke,
    Yield,
)
from agents.wasi.abi import EPERM
from docking.aio.loops import new_loop
from docking.errors import StationError
from docking.launching import Terms
from docking.residents.services import F, Offering, ServiceFunction, Services, Visitor

EDEADLK = 16  # WASI: it would wait forever
LOOK_S = 0.1  # seconds between looks whether a call of a service is given up
LONGEST_IDLE_NS = 3_600_000_000_000  # after which the agents are looked at again: some clocks cannot wait longer
MAX_REASONS = 20  # printed at most: an agent may ask for new services without end
OWNER = SecretKey(canonical.digest(b"owner of simulated agents")).public


class World(Protocol):
    """Time, chance and input of a simulation."""

    @property
    def native(self) -> bool:
        """See `agents.hostcalls.native`."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that never goes back."""

    def random(self, size: int) -> bytes:
        """`size` random bytes."""

    def output(self, agent: SimulatedAgent, fd: int, data: bytes) -> None:
        """Take what an agent wrote to standard output (`fd` 1) or error (2)."""

    def idle(self, ns: int | None, listening: bool) -> bytes | None:
        """Let up to `ns` nanoseconds pass (None: any time), and return.

        `listening`: an agent waits for input; returns some as soon as there is, empty at its end.
        """


def _key(of: str, name: str) -> PublicKey:
    return SecretKey(canonical.digest(f"simulated {of} {name}".encode(errors="replace"))).public


class SimulatedStation:
    """A station of a simulation: a name, and what it offers.

    name: what it is called
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = _key("station", name)
        self.services = Services()

    def offer(self, name: str, function: ServiceFunction, *, timeout: float = 30.0) -> None:
        """Offer a function to visiting agents; see `docking.Station.offer`."""
        self.services.offer(name, function, timeout)

    def service(self, name: str, *, timeout: float = 30.0) -> Callable[[F], F]:
        """A decorator that offers a function; see `docking.Station.service`."""

        def offer(function: F) -> F:
            self.offer(name, function, timeout=timeout)
            return function

        return offer


@frozen
class ReportedAt:
    """Where a result was reported: the station, the index of the visit, and when, in ms since 1970."""

    station: str
    visit: int
    time: int


@define
class SimulatedQuestion:
    """A question that an agent has asked. `until`: when an answer comes too late, on the world's monotonic clock."""

    until: int | None
    answer: bytes | None = field(default=None, repr=brief)


@define(eq=False)
class SimulatedAgent(StandaloneHost):
    """One agent of a simulation, as `agents.hostcalls.Ambient`, and how it stands."""

    simulation: Simulation = field(kw_only=True, repr=False)
    positions: tuple[Position, ...] = field(kw_only=True, repr=brief)
    """Where in its itinerary it may be."""
    generation: int = 0
    """0 for the one that was started, 1 for its clones, 2 for theirs."""
    life: Execution | None = field(default=None, init=False, repr=False)
    outcome: Outcome | None = field(default=None, init=False)
    """How it ended; None while it goes on."""
    wait: Wait | None = field(default=None, init=False)
    until: int | None = field(default=None, init=False)
    deadline: int = field(default=0, init=False)
    """Until when it waits for a station at most."""
    event: Event | None = field(default=None, init=False)
    inbox: deque[Message] = field(factory=deque, init=False, repr=brief)
    offers: dict[str, str] = field(factory=dict, init=False, repr=brief)
    """The services that it offers while it is where it is."""
    topics: set[str] = field(factory=set, init=False, repr=brief)
    asked: dict[str, SimulatedQuestion] = field(factory=dict, init=False, repr=brief)
    """The questions of which it has not taken the answers."""
    visited: list[str] = field(factory=list, init=False, repr=brief)
    """The stations where it has been, in order, from its home."""
    reported_at: list[ReportedAt] = field(factory=list, init=False, repr=brief)
    """Where each of its `reports` was made."""
    clones: int = field(default=0, init=False)
    calls: int = field(default=0, init=False)
    opportunities: int = field(default=0, init=False)

    @property
    def next_stop(self) -> str:
        """See `Ambient`."""
        stops = self.simulation.next_stops(self)
        self.lost = self.lost or not stops
        return next((self.simulation.name_of(stop.station) for stop in stops if isinstance(stop, Stop)), "")

    def report(self, key: str, value: bytes) -> None:
        """See `Ambient`."""
        super().report(key, value)
        self.reported_at.append(ReportedAt(self.station, len(self.visited) - 1, self.wall_ns() // 1_000_000))

    def lookup(self, service: str) -> tuple[str, ...]:
        """See `Ambient`."""
        return self.simulation.offering(self, service)

    def send(self, to: str, body: bytes) -> None:
        """See `Ambient`."""
        self.simulation.send(self.agent_id, to, body)

    def reply(self, ident: str, response: bytes) -> None:
        """See `agents.hostcalls.reply`. Answers a question."""
        self.simulation.answered(ident, response)

    def offer(self, service: str, attributes: str | None) -> None:
        """See `agents.hostcalls.offer` and `withdraw`."""
        self.offers.pop(service, None)
        if attributes is not None:
            self.offers[service] = attributes

    def send_here(self, to: str, body: bytes) -> None:
        """See `agents.hostcalls.send_here`."""
        if not any(each.agent_id == to and each.station == self.station for each in self.simulation.agents):
            raise CallFailed(EHOSTUNREACH, f"{to[:64]!r} is not here")
        self.send(to, body)

    def subscribe(self, topic: str) -> None:
        """See `agents.hostcalls.subscribe`."""
        from docking.trust.mailbox import MAX_TOPICS

        if topic not in self.topics and len(self.topics) >= MAX_TOPICS:
            raise CallFailed(ENOSPC, f"an agent subscribes to at most {MAX_TOPICS} topics")
        self.topics.add(topic)

    def unsubscribe(self, topic: str) -> None:
        """See `agents.hostcalls.unsubscribe`."""
        self.topics.discard(topic)

    def publish(self, topic: str, body: bytes, everywhere: bool) -> int:
        """See `agents.hostcalls.publish`."""
        return self.simulation.publish(self, topic, body, everywhere)

    def put(self, message: Message) -> None:
        """Deliver a message. Raises `CallFailed`."""
        from docking.residents.berth import MAX_INBOX, MAX_INBOX_BYTES  # takes as long as all the rest of this module

        held = sum(len(each.body) for each in self.inbox)
        if len(self.inbox) >= MAX_INBOX or held + len(message.body) > MAX_INBOX_BYTES:
            raise CallFailed(ENOSPC, "the agent has too many messages that it has not read")
        self.inbox.append(message)


class Simulation:
    """Stations that one process plays, and one agent with its clones on them.

        simulation = Simulation(world, via=Way.read("beta,gamma?"))
        outcome = simulation.run(image, [agents.load()])

    world: time, chance and input
    home: the name of the station where the agent starts
    via: where it may go; every station counts as certified by everybody. None: anywhere
    down: names of stations that do not answer; or for each, for how many seconds (None: never)
    offers: called once with each station, to offer its services
    messages: what the agent is sent from its home before it starts
    label: what services are told that its owner calls it
    """

    def __init__(
        self,
        world: World,
        *,
        home: str = "here",
        via: Way | None = None,
        down: Sequence[str] | Mapping[str, float | None] = (),
        offers: Callable[[Offering], None] = lambda station: None,
        messages: Sequence[bytes] = (),
        label: str = "agent",
    ) -> None:
        self.world, self._offers, self._messages = world, offers, messages
        self._began = 0
        times = down if isinstance(down, Mapping) else dict.fromkeys(down)
        self.down = {name: None if s is None else round(s * 1e9) for name, s in times.items()}
        """For how many nanoseconds from the beginning each of these stations does not answer; None: never."""
        self.wants_out = False
        """Whether the run is to end as soon as all agents wait, if only for a service. A signal handler may set it."""
        self.agents: list[SimulatedAgent] = []
        """All that there were, in the order in which they began; the first is the one that was started."""
        self._stations: dict[str, SimulatedStation] = {}
        self._told: set[str] = set()
        self._questions = 0
        self._calls: _Calls | None = None
        self._home = self.station(home)
        self.bound = via is not None
        """Whether the agent has an itinerary."""
        self._certifiers = {} if via is None else {name: _key("certifier", name) for name in via.certifiers}
        way = Itinerary.via([self._home.key])
        if via is not None:
            way = via.itinerary({name: self.station(name).key for name in via.names}, self._certifiers)
            if way.has_tasks:
                raise StationError("tasks of a way are called by stations: portcall lab, then portcall launch --via")
        for name in down:
            check_stop(name, via, home)
        self.passport = _passport(self._home.key, way, label)
        """What the owner of a launched agent would sign: the itinerary, and how far it may go."""

    # The stations

    def station(self, name: str) -> SimulatedStation:
        """The station of this name, made when it is first named. Raises what its services raise when they are made."""
        if name not in self._stations:
            made = self._stations[name] = SimulatedStation(name)
            self._offers(made)
        return self._stations[name]

    def name_of(self, key: PublicKey) -> str:
        """The name of the station with this key."""
        return next((each.name for each in self._stations.values() if each.key == key), key.id)

    def certifier_of(self, key: PublicKey) -> str:
        """What the way calls a key that certifies stations."""
        return next((name for name, each in self._certifiers.items() if each == key), key.text)

    def offering(self, agent: SimulatedAgent, service: str) -> tuple[str, ...]:
        """The stations that offer a service, the agent's own first."""
        names = dict.fromkeys([agent.station, *self._stations])
        return tuple(name for name in names if not self.is_down(name) and service in self.station(name).services.names)

    def send(self, sender: str, to: str, body: bytes, topic: str = "", reply_to: str = "") -> None:
        """Deliver a message to the agent with the id `to`. Raises `CallFailed`."""
        for each in self.agents:
            if each.agent_id == to and each.outcome is None:
                each.put(Message(sender, bytes(body), topic, reply_to))
                return
        raise CallFailed(EHOSTUNREACH, f"{to[:64]!r} is no agent that is here")

    def publish(self, sender: SimulatedAgent, topic: str, body: bytes, everywhere: bool) -> int:
        """Deliver to the other agents that subscribe to a topic; how many got it at the sender's station."""
        found = [each for each in self.agents if each is not sender and each.outcome is None and topic in each.topics]
        here = [each for each in found if each.station == sender.station]
        for each in found if everywhere else here:
            with contextlib.suppress(CallFailed):  # its inbox is full
                each.put(Message(sender.agent_id, bytes(body), topic))
        return len(here)

    def _find(self, agent: SimulatedAgent, wait: Find) -> Event:
        lines = []
        for each in self.agents:
            here = each.station == agent.station or (wait.everywhere and not self.is_down(each.station))
            if each is agent or each.outcome is not None or not here or wait.label not in ("", self.passport.label):
                continue
            if not wait.service or wait.service in each.offers:
                row = (each.agent_id, each.station, self.passport.label, each.offers.get(wait.service, ""))
                lines.append("\t".join(row))
        return Reply("\n".join(lines).encode())

    def _ask(self, agent: SimulatedAgent, wait: Ask) -> Event:
        from docking.trust.mailbox import MAX_QUESTIONS

        if len(agent.asked) >= MAX_QUESTIONS:
            return Failed(EAGAIN, f"{MAX_QUESTIONS} questions of the agent are open: take answers first")
        self._questions += 1
        ident = f"{self._questions:032x}"
        until = None if wait.timeout_ns is None else self.world.monotonic_ns() + wait.timeout_ns
        try:
            self.send(agent.agent_id, wait.to, wait.request, wait.topic, f"{agent.agent_id}:{ident}")
        except CallFailed as error:
            return Failed(error.errno, error.reason)
        agent.asked[ident] = SimulatedQuestion(until)
        return Posed(ident)

    def answered(self, ident: str, body: bytes) -> None:
        """A question is answered, whether or not somebody waits for that still."""
        asker, _, name = ident.rpartition(":")
        for each in self.agents:
            question = each.asked.get(name)
            late = question is None or (question.until is not None and self.world.monotonic_ns() > question.until)
            if each.agent_id == asker and question is not None and question.answer is None and not late:
                question.answer = body

    def _answer_to(self, agent: SimulatedAgent, ident: str) -> Event | None:
        """The answer to the agent's question, or why there is none; None if one may still come."""
        question = agent.asked.get(ident)
        if question is None:
            return Failed(ENOENT, "the agent has no such question to take the answer of")
        if question.answer is None and (question.until is None or self.world.monotonic_ns() <= question.until):
            return None
        del agent.asked[ident]
        return Failed(ETIMEDOUT, "no answer came in time") if question.answer is None else Reply(question.answer)

    # The run

    def run(
        self,
        image: AgentImage,
        engines: Sequence[Engine],
        *,
        snapshot: Snapshot | None = None,
        hop_every: int | None = None,
        hops: int | None = None,
        on_hop: Callable[[bytes], None] = lambda encoded: None,
        leave: Callable[[Stopped], bool] | None = None,
        begun: Callable[[Execution], None] = lambda life: None,
        **options: Any,
    ) -> Outcome:
        """Run the agent, and its clones, until all have ended; returns how the first one ended.

        A clone that does not end well decides where the first one does.

        engines: taken in turn at each hop
        snapshot: where it goes on; None to start it
        hop_every, hops, on_hop: see `agents.run`
        leave: called at each stop; if it is true, or if `wants_out` is set, the run ends with the agent suspended. An
            agent that may be suspended in this way cannot be cloned
        begun: called with the execution of the first agent before it runs
        options: the other parameters of `Execution`, such as `args`, `grants`, `limits`, `budget`
        """
        run = _Run(self, image, itertools.cycle(engines), hop_every, hops, on_hop, leave, options)
        try:
            return run.from_start(snapshot, begun)
        finally:
            run.close()

    def begin(self, first: SimulatedAgent | None) -> SimulatedAgent:
        """A new agent at home, or where the one is of which it is a clone."""
        world = self.world
        station = self._home.name if first is None else first.station
        here = self.passport.home.station
        agent = SimulatedAgent(
            world.wall_ns,
            world.monotonic_ns,
            world.random,
            station=station,
            agent_id=f"agent-{len(self.agents)}" if self.agents else "agent",
            sink=lambda fd, data: world.output(agent, fd, data),
            native=world.native,
            simulation=self,
            positions=self.passport.itinerary.begin(here, self._now()) if first is None else first.positions,
            generation=0 if first is None else first.generation + 1,
        )
        agent.visited = [self.name_of(here)] if first is None else list(first.visited)
        if first is None:
            self._began = world.monotonic_ns()
            for body in self._messages:
                agent.put(Message(self._home.name, body))
        self.agents.append(agent)
        return agent

    def close(self) -> None:
        """End what services have started."""
        if self._calls is not None:
            self._calls.close()
            self._calls = None

    # What agents wait for

    def answer(self, agent: SimulatedAgent, wait: Wait) -> Event | None:
        """The event that ends a wait at once; None if it goes on. `Clone` is not answered here.

        Each failure is logged once with its reason, since the agent sees only a number.
        """
        event = self._answer(agent, wait)
        if isinstance(event, (Failed, Refused)):
            self.remark(agent, wait, event.reason)
        return event

    def remark(self, agent: SimulatedAgent, wait: Wait, reason: str) -> None:
        """Log why a call of the agent failed, the first time."""
        if reason not in self._told and len(self._told) < MAX_REASONS:
            self._told.add(reason)
            agent.log(1, f"{type(wait).__name__.lower()} failed: {reason}")

    def _answer(self, agent: SimulatedAgent, wait: Wait) -> Event | None:
        agent.until = None
        match wait:
            case Go(host, wait_ns) if wait_ns:
                return self._go_or_wait(agent, host, self.world.monotonic_ns() + wait_ns)
            case Go(host) | GoAt(host, _):
                return self._go(agent, host)
            case Yield():
                return Woke()
            case Sleep(ns):
                agent.until = self.world.monotonic_ns() + ns
            case Ask():
                return self._ask(agent, wait)
            case Find():
                return self._find(agent, wait)
            case Answer(ident, timeout):
                agent.until = None if timeout is None else self.world.monotonic_ns() + timeout
                if (question := agent.asked.get(ident)) is not None and question.until is not None:
                    agent.until = min(agent.until or question.until + 1, question.until + 1)
            case Select(_, _, timeout) | Recv(timeout) | Input(_, timeout) | Listen(_, timeout) | Accept(timeout):
                agent.until = None if timeout is None else self.world.monotonic_ns() + timeout
            case Call(service, request):
                return self._call(agent, service, request)
            case _:
                raise PortcallError(f"a simulated station cannot answer {wait!r}")
        return self.over(agent)

    def over(self, agent: SimulatedAgent) -> Event | None:
        """What ends its wait by now, if anything does."""
        if isinstance(agent.wait, (Recv, Listen)) and agent.inbox:
            return agent.inbox.popleft()
        if isinstance(agent.wait, Go) and agent.until is not None:
            due = self.world.monotonic_ns() >= agent.until
            return self._go_or_wait(agent, agent.wait.host, agent.deadline) if due else None
        if isinstance(agent.wait, Select):
            found = next((each for each in agent.inbox if agent.wait.wants(each)), None)
            if found is not None:
                agent.inbox.remove(found)
                return found
        if isinstance(agent.wait, Answer) and (event := self._answer_to(agent, agent.wait.ident)) is not None:
            return event
        if agent.until is not None and self.world.monotonic_ns() >= agent.until:
            return Woke() if isinstance(agent.wait, Sleep) else TimedOut()
        return None

    def _call(self, agent: SimulatedAgent, service: str, request: bytes) -> Event | None:
        station = self.station(agent.station)
        agent.calls += 1
        hop, label = len(agent.visited) - 1, self.passport.label
        visitor = Visitor(agent.agent_id, label, OWNER, hop, agent.calls, station.name)
        if self._calls is None:
            self._calls = _Calls()
        return self._calls.ask(station.services, service, request, visitor, lambda: self.wants_out)

    # Where agents go

    def _go_or_wait(self, agent: SimulatedAgent, host: str, deadline: int) -> Event | None:
        """Move an agent, or have it wait for the station until `deadline`, in ns of the world's monotonic clock."""
        event, now = self._go(agent, host), self.world.monotonic_ns()
        agent.until, agent.deadline = None, deadline
        if not isinstance(event, Refused) or event.errno != EHOSTUNREACH or now >= deadline:
            return event
        self.remark(agent, Go(host), f"{event.reason}; the agent waits for it")
        back = [each for each in self.down.values() if each is not None and each > now - self._began]
        agent.until = min([deadline, *(self._began + each for each in back)])
        return None

    def is_down(self, name: str) -> bool:
        """Whether a station does not answer now."""
        until = self.down.get(name, 0)
        return until is None or self.world.monotonic_ns() - self._began < until

    def _now(self) -> int:
        return self.world.wall_ns() // 1_000_000

    def next_stops(self, agent: SimulatedAgent) -> list[Leaf]:
        """Where the itinerary leads from where the agent is, the preferred first."""
        return self.passport.itinerary.ahead(agent.positions, self.station(agent.station).key) if self.bound else []

    def _go(self, agent: SimulatedAgent, host: str) -> Event:
        """Move an agent to a station, to `next` or to `home`."""
        targets = [host]
        if host == HOME_STOP:
            targets = [self._home.name]
        elif host == NEXT_STOP:
            stops = self.next_stops(agent)
            targets = [self.name_of(stop.station) for stop in stops if isinstance(stop, Stop)]
            agent.lost = agent.lost or not stops
        event: Event = Refused(EHOSTUNREACH, "without an itinerary there is no next station: name one")
        if self.bound and not targets:
            here, way = self.station(agent.station).key, self.passport.itinerary
            event = Refused(EHOSTUNREACH, nowhere(way, agent.positions, here, self.name_of, self.certifier_of))
        for name in targets:
            event = self._go_to(agent, name)
            if isinstance(event, Arrived):
                break
        return event

    def _go_to(self, agent: SimulatedAgent, name: str) -> Event:
        if name == agent.station:
            return Arrived()
        positions = agent.positions
        if self.bound:
            to, way, now = self.station(name).key, self.passport.itinerary, self._now()
            home, here = self.passport.home.station, self.station(agent.station).key
            certifiers = [stop.certifier for stop in self.next_stops(agent) if isinstance(stop, CertifiedStop)]
            before = way.toward(positions, to, now, home, certifiers)
            if before is None:
                return Refused(EPERM, refusal(way, positions, here, to, name, self.name_of, self.certifier_of))
            positions = way.reach(before, to, now, home, certifiers)
        if self.is_down(name):
            return Refused(EHOSTUNREACH, f"the station {name!r} does not answer")
        if len(agent.visited) > self.passport.hops:
            return Refused(EPERM, f"this would be hop {len(agent.visited)}: the passport allows {self.passport.hops}")
        agent.station, agent.positions, agent.calls = name, positions, 0
        agent.offers.clear()
        agent.visited.append(name)
        return Arrived()


def check_stop(name: str, via: Way | None, home: str) -> None:
    """Raises `StationError` for a name that no station of the way has, and that is not `home`: it is mistyped."""
    if via is not None and via.named and name not in (home, *via.names):
        raise StationError(f"{name[:80]!r} is no stop of its way, {str(via)[:300]}")


def way_of(via: str | Way | Sequence[str]) -> Way | None:
    """The way that a text, or a list of stations in this order, describes; None if it describes none.

    Raises `WayError`.
    """
    if isinstance(via, Way):
        return via
    if isinstance(via, str):
        return Way.read(via) if via.strip() else None
    return Way.through(list(via)) if via else None


@define(eq=False, repr=False)
class _Run:
    """One run of a simulation."""

    _simulation: Simulation
    _image: AgentImage
    _engines: Iterator[Engine]
    _hop_every: int | None
    _hops: int | None
    _on_hop: Callable[[bytes], None]
    _leave: Callable[[Stopped], bool] | None
    _options: Mapping[str, Any]

    def from_start(self, snapshot: Snapshot | None, begun: Callable[[Execution], None]) -> Outcome:
        simulation = self._simulation
        first = simulation.begin(None)
        try:
            first.life = life = self._execution(first, snapshot, self._options)
        except CompilingTooCostly as error:
            return Exhausted(error.what, error.reason, snapshot)
        begun(life)
        pending = None if snapshot is None or snapshot.pending is None else snapshot.pending.wait
        if pending is not None:
            self._waits(first, pending)
        while first.outcome is None or self._going():
            left = self._round() or self._idle()
            if left is not None and left.life is not None:
                return left.life.outcome(left.wait or Asked())
        ends = [agent.outcome for agent in simulation.agents if agent.outcome is not None]
        return next((end for end in ends if not isinstance(end, Finished) or end.exit_code), ends[0])

    def close(self) -> None:
        """End what goes on still."""
        for agent in self._simulation.agents:
            if agent.life is not None:
                agent.life.close()
        self._simulation.close()

    def _going(self) -> list[SimulatedAgent]:
        return [agent for agent in self._simulation.agents if agent.outcome is None]

    def _execution(self, agent: SimulatedAgent, snapshot: Snapshot | None, options: Mapping[str, Any]) -> Execution:
        life = Execution(self._image, engine=next(self._engines), ambient=agent, snapshot=snapshot, **options)
        life.always = self._hop_every is not None and self._hops != 0
        return life

    def _round(self) -> SimulatedAgent | None:
        """A turn of each agent that can go on. Returns one that is to leave the simulation."""
        for agent in self._going():
            if self._ready(agent) and self._turn(agent):
                return agent
        return None

    def _ready(self, agent: SimulatedAgent) -> bool:
        """Whether the agent can go on."""
        if agent.wait is not None and agent.event is None:
            agent.event = self._simulation.over(agent)
        return agent.wait is None or agent.event is not None

    def _turn(self, agent: SimulatedAgent) -> bool:
        """Let an agent run until it waits. Whether it is to leave the simulation."""
        life = agent.life
        assert life is not None
        event, agent.event, agent.wait = agent.event, None, None
        stop = life.advance(event)
        if isinstance(stop, (Finished, Trapped, Exhausted, Spent)):
            agent.outcome = life.outcome(stop)
            life.close()
            return False
        agent.opportunities += 1
        if not isinstance(stop, Asked):
            agent.wait = stop
        if self._leave is not None and self._leave(stop):
            return True
        if life.always and self._hop_every is not None and agent.opportunities % self._hop_every == 0:
            self._on_hop(life.hop(next(self._engines)))
            self._hops = None if self._hops is None else self._hops - 1
            life.always = self._hops != 0
        if not isinstance(stop, Asked):
            self._waits(agent, stop)
        return False

    def _waits(self, agent: SimulatedAgent, wait: Wait) -> None:
        agent.wait = wait
        copies = wait.count if isinstance(wait, Fork) else 1
        of_many = isinstance(wait, Clone | Fork)
        agent.event = self._clone(agent, wait, copies) if of_many else self._simulation.answer(agent, wait)

    def _clone(self, agent: SimulatedAgent, wait: Wait, copies: int) -> Event:
        allowed = self._simulation.passport.clones
        if self._leave is not None:
            refused = Refused(ENOTSUP, "an agent that is to be suspended to a file cannot be cloned: a file holds one")
        elif agent.clones + copies > allowed.each or agent.generation >= allowed.generations:
            refused = Refused(EPERM, "the passport allows no further clone")
        else:
            assert agent.life is not None
            snapshot = agent.life.snapshot()
            options = {name: value for name, value in self._options.items() if name not in ("args", "wasi", "entry")}
            children = [self._simulation.begin(agent) for _ in range(copies)]
            agent.clones += copies
            for number, child in enumerate(children, 1):
                child.life = self._execution(child, snapshot, options)
                child.wait, child.event = wait, Cloned(None) if isinstance(wait, Clone) else Forked(number)
            ids = tuple(child.agent_id for child in children)
            return Cloned(ids[0]) if isinstance(wait, Clone) else Forked(0, ids)
        self._simulation.remark(agent, wait, refused.reason)
        return refused

    def _idle(self) -> SimulatedAgent | None:
        """Where all agents wait: let time pass until one can go on. Returns one that is to leave the simulation."""
        simulation, going = self._simulation, self._going()
        if not going or any(map(self._ready, going)):
            return None
        if simulation.wants_out:
            return going[0]
        listening = [agent for agent in going if isinstance(agent.wait, (Input, Listen))]
        ends = [agent.until for agent in going if agent.until is not None]
        if not listening and not ends:
            reason = "no agent is left that could send it a message" if len(going) > 1 else "nobody sends it a message"
            if isinstance(going[0].wait, Accept):
                reason = "nobody asks it: agents have clients at stations, portcall lab starts some"
            going[0].event = Failed(EDEADLK, reason)
            simulation.remark(going[0], going[0].wait or Recv(None), reason)
            return None
        left = max(0, min(ends) - simulation.world.monotonic_ns()) if ends else None
        data = simulation.world.idle(left if left is None else min(left, LONGEST_IDLE_NS), bool(listening))
        if data is not None and listening:
            listening[0].event = InputReady(data)
        return None


class _Calls:
    """Calls services, in an event loop of a thread of its own: the caller may have a loop that runs."""

    def __init__(self) -> None:
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="portcall-simulation", daemon=True)
        self._thread.start()

    def ask(
        self, services: Services, service: str, request: bytes, visitor: Visitor, given_up: Callable[[], bool]
    ) -> Event | None:
        """The reply of a service, or how it failed; None if it was `given_up` before."""
        asked = asyncio.run_coroutine_threadsafe(services.call(service, request, visitor, True), self._loop)
        while not given_up():
            with contextlib.suppress(concurrent.futures.TimeoutError):
                return asked.result(LOOK_S)
        asked.cancel()
        return None

    def close(self) -> None:
        """End the loop; a service that never returns is left behind in its thread."""
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _passport(home: PublicKey, itinerary: Itinerary, label: str) -> Passport:
    """The statement that an owner would sign for this agent, with the default terms."""
    terms = Terms()
    return Passport(
        owner=OWNER,
        nonce=bytes(PASSPORT_NONCE_SIZE),
        image=bytes(canonical.DIGEST_SIZE),
        state=bytes(canonical.DIGEST_SIZE),
        home=Home(home),
        not_before=0,
        expires=terms.lifetime_ms,
        itinerary=itinerary,
        hops=terms.hops,
        clones=terms.clones,
        permit=terms.permit,
        results=OWNER.box(),
        label=label,
    )
