"""Runs one journey in a `World` under a list of faults, on a simulated clock, and judges how it ends.

A run is a function of its journey and its faults: the same always ends the same. Places where a station can
crash (`Station.point`) and messages are numbered as they come; a fault names a number.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from attrs import define, field, frozen

from docking.handoff.messages import Side
from docking.handoff.states import Destination, Source
from docking.store.store import Store
from tests.crash.world import AGENT, EXPIRES, PATIENCE, Broken, Crash, Envelope, Plan, Station, World

DISK = 0.001  # seconds until a durable write is on the disk
LINGER = 0.005  # seconds that an undemanding write waits
NETWORK = 0.002
POSTPONE = 0.2  # seconds until the checkpoint of a leaving agent is written
LONG = PATIENCE * 2  # longer than a source waits for a receipt
HORIZON = 1_000.0  # by then everything that can be decided is decided


@frozen
class CrashAt:
    """The station at the `point`-th interesting place crashes. `down`:

    seconds, or None if it never comes back.
    """

    point: int
    down: float | None = 0.1
    loses_disk: bool = False


@frozen
class Lose:
    """The `message`-th message does not arrive."""

    message: int


@frozen
class Double:
    """It arrives twice, `apart` seconds after another."""

    message: int
    apart: float = 0.0


@frozen
class Delay:
    """It arrives later than it should, perhaps after those sent after it."""

    message: int
    by: float


@frozen
class Stall:
    """The disk takes `by` seconds more for the `write`-th write that somebody waits for."""

    write: int
    by: float


@frozen
class Partition:
    """From the `message`-th on, nothing arrives, `many` times."""

    message: int
    many: int


Fault: TypeAlias = "CrashAt | Lose | Double | Delay | Stall | Partition"


@frozen
class Outcome:
    """How a run ended. `points` and `messages`: how many there were; `end`:

    a word; `history` of the agent.
    """

    end: str
    history: tuple[str, ...]
    points: tuple[str, ...]
    messages: tuple[str, ...]
    writes: int


@define(eq=False)
class Run:
    """One run."""

    plan: Plan
    faults: tuple[Fault, ...]
    folder: Path
    now: float = 0.0
    horizon: float = HORIZON
    points: list[str] = field(factory=list)
    messages: list[str] = field(factory=list)
    writes: int = 0
    gone: set[str] = field(factory=set)
    lost: set[str] = field(factory=set)
    had: set[str] = field(factory=set)
    aborted: set[bytes] = field(factory=set)
    committed: set[bytes] = field(factory=set)
    world: World = field(init=False)
    _events: list[tuple[float, int, Callable[[], None]]] = field(factory=list)
    _count: itertools.count[int] = field(factory=itertools.count)
    _flushes: dict[tuple[str, int], float] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.world = self._made()

    def _made(self) -> World:
        return World(
            self.folder, self.plan, self._on_point, self._on_write, self._on_send, self._on_alive, self._on_postpone
        )

    def outcome(self) -> Outcome:
        """Run it to its end. Raises `Broken` if the promise was."""
        try:
            self.world.begin(self.now)
            self._loop()
            outcome = self._judge()
            self._come_back()
            return outcome
        except Exception as error:
            raise Broken(f"{error!r}\n{self.plan}\n{self.faults}\n" + "\n".join(self.points[-25:])) from error
        finally:
            self.world.end()

    def _loop(self) -> None:
        while True:
            dues = [
                (due, name)
                for name, station in self.world.stations.items()
                if station.up and (due := station.table.next_due()) is not None
            ]
            due, name = min(dues, default=(self.horizon, ""))
            at = self._events[0][0] if self._events else self.horizon
            self.now = max(self.now, min(due, at))
            if self.now >= self.horizon or (self._over() and not self._events):
                return
            if at <= due:
                heapq.heappop(self._events)[2]()
            else:
                station = self.world.station(name)
                self._doing(station, lambda station=station: station.tick(self.now))
            self.world.check()

    def _over(self) -> bool:
        up = [station for station in self.world.stations.values() if station.up]
        return all(station.table.next_due() is None for station in up)

    def _doing(self, station: Station, what: Callable[[], None]) -> None:
        if not station.up:
            return
        try:
            what()
        except Crash:
            self._crash(station, len(self.points) - 1)

    def _crash(self, station: Station, point: int) -> None:
        """This station crashes, as was said for this point."""
        fault = next(f for f in self.faults if isinstance(f, CrashAt) and f.point == point)
        station.die()
        if fault.loses_disk:
            self._lose_disk(station)
        if fault.down is None:
            self.gone.add(station.name)
        else:
            self._later(fault.down, lambda: self._boot(station))

    def _lose_disk(self, station: Station) -> None:
        with self._disk(station) as store:
            self.had |= {capsule.standing for standing in ("live", "held") for capsule in store.capsules(standing)}
            self.committed |= {r.hid for r in store.history(AGENT) if r.state in (Source.COMMITTED, Source.GONE)}
            self.aborted |= {r.hid for r in store.history(AGENT) if r.state is Source.ABORTED}
        station.lose_disk()
        self.lost.add(station.name)

    def _come_back(self) -> None:
        """At the very end, stations that were gone come back with their disks:

        then everything must come right.
        """
        back, self.gone = self.gone, set()
        if not back or self.lost:
            return
        for name in sorted(back):
            self._boot(self.world.station(name))
        self.horizon += HORIZON
        self._loop()
        self._judge()

    @staticmethod
    def _disk(station: Station) -> contextlib.closing[Store]:
        """What is on the disk of a station that is down."""
        return contextlib.closing(Store.open(station.path, new_epoch=bytes(16), clock=lambda: EXPIRES))

    def _boot(self, station: Station) -> None:
        station.up = True
        self._doing(station, lambda: station.boot(self.now))

    def _later(self, wait: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + wait, next(self._count), what))

    # The hooks of the world

    def _on_point(self, station: Station, place: str) -> None:
        number = len(self.points)
        self.points.append(f"{number}: {station.name} {place}")
        if any(isinstance(fault, CrashAt) and fault.point == number for fault in self.faults):
            raise Crash

    def _on_write(self, station: Station, durable: bool) -> None:
        generation = station.generation

        def flush() -> None:
            if station.generation == generation:
                self._doing(station, lambda: station.flush(self.now))

        wait = DISK if durable else LINGER
        for fault in self.faults:
            if durable and isinstance(fault, Stall) and fault.write == self.writes:
                wait += fault.by
        self.writes += durable
        self._later(wait, flush)

    def _on_send(self, sender: Station, to: Station, data: bytes, name: str) -> None:
        envelope = Envelope(sender, to, data, len(self.messages), name)
        self._transmit(sender, to, name, lambda: to.receive(envelope, self.now))

    def _transmit(self, sender: Station, to: Station, name: str, receive: Callable[[], None]) -> None:
        """A message is on its way, and arrives so often and so late as the faults say."""
        number = len(self.messages)
        if number > 1000:
            raise Broken("the stations do not stop talking")
        self.messages.append(f"{number}: {sender.name} {name}")

        def arrive() -> None:
            self._doing(to, receive)

        waits = [NETWORK]
        for fault in self.faults:
            match fault:
                case Lose(message) if message == number:
                    waits = []
                case Partition(message, many) if message <= number < message + many:
                    waits = []
                case Double(message, apart) if message == number:
                    waits = [wait + extra for wait in waits for extra in (0.0, apart)]
                case Delay(message, by) if message == number:
                    waits = [wait + by for wait in waits]
                case _:
                    pass
        for wait in waits:
            self._later(wait, arrive)

    def _on_alive(self, station: Station) -> None:
        generation = station.generation

        def act() -> None:
            if station.generation == generation:
                self._doing(station, lambda: station.act(self.now))

        self._later(LINGER, act)

    def _on_postpone(self, station: Station, hid: bytes) -> None:
        generation = station.generation

        def write() -> None:
            if station.generation == generation:
                self._doing(station, lambda: station.write_postponed(hid))

        self._later(POSTPONE, write)

    # The end

    def _judge(self) -> Outcome:
        alive = self.world.living()
        held = self.world.held()
        if alive:
            end, history = self._alive(alive[0], held=bool(held))
        elif held:
            end, history = self._in_doubt(), ()
        else:
            end, history = self._nowhere(), ()
        return Outcome(end, history, tuple(self.points), tuple(self.messages), self.writes)

    def _alive(self, station: Station, held: bool) -> tuple[str, tuple[str, ...]]:
        life = station.running
        assert life is not None
        path = ("alpha", *self.plan.stops)
        if life.history != path[: len(life.history)]:
            raise Broken(f"the agent went astray: {life}")
        if held:
            raise Broken("one live agent, and another held")
        self._check_right(station, life.hop)
        whole = not self.gone and not self.lost
        if whole and station.can_act:
            raise Broken("the agent is stuck")
        if whole:
            self._check_ledgers(station.name, life.hop)
        if life.history == path:
            return "arrived", life.history
        return "stayed", life.history

    def _check_right(self, station: Station, hops: int) -> None:
        """Where a disk was lost, the agent lives only if it was committed before."""
        for record in station.store.history(AGENT):
            source = self.world.by_key(record.peer)
            if source.name in self.lost and (record.hop, record.state) == (hops - 2, Destination.RUNNING):
                here = source.up and source.store.record(record.hid, Side.SOURCE)
                if record.hid not in self.committed and not here:
                    raise Broken("started, and the source had not committed it")

    def _check_ledgers(self, where: str, hops: int) -> None:
        """What both ledgers say agrees with where the agent is; nothing waits for anything any more."""
        for name, station in self.world.stations.items():
            if station.store.unfinished():
                raise Broken(f"{name} has not finished: {station.store.unfinished()}")
            live = [capsule.hop for capsule in station.store.capsules("live")]
            if live != ([hops - 1] if name == where else []):
                raise Broken(f"{name} has capsules of visits {live}, and the agent is at {where}, visit {hops - 1}")
            if station.store.capsules("held") or station.store.capsules("departed"):
                raise Broken(f"{name} keeps what is not its own")
        records = [r for s in self.world.stations.values() for r in s.store.history(AGENT)]
        for hop in range(hops - 1):
            ends = sorted(
                r.state.value for r in records if r.hop == hop and r.state in (Source.GONE, Destination.RUNNING)
            )
            if ends != ["gone", "running"]:
                raise Broken(f"hop {hop} ended as {ends}")

    def _in_doubt(self) -> str:
        """Held and not started: allowed only if the source does not come back, or has lost its disk."""
        (record,) = self.world.held()
        holder = next(s for s in self.world.stations.values() if s.up and s.store.record(record.hid, Side.DESTINATION))
        source = self.world.by_key(record.peer)
        if source.name not in self.gone | self.lost:
            raise Broken("held in doubt, and the source could answer")
        if "in-doubt" not in holder.alarms:
            raise Broken("held in doubt, and nobody was told")
        return "in doubt"

    def _nowhere(self) -> str:
        """Nobody runs it, nobody holds it:

        it is on the disk of a station that is gone, or was lost with a disk.
        """
        up = [station for station in self.world.stations.values() if station.up]
        if self.lost:
            return self._lost(up)
        for name in self.gone:
            with self._disk(self.world.station(name)) as store:
                if store.capsules("live") or (
                    store.capsules("held") and any(station.store.capsules("departed") for station in up)
                ):
                    return "on the disk of a station that is gone"
        raise Broken("the agent is lost")

    def _lost(self, up: list[Station]) -> str:
        for station in up:
            for record in station.store.history(AGENT):
                source = self.world.by_key(record.peer).name
                if record.state is Destination.DISCARDED and source in self.lost and record.hid not in self.aborted:
                    raise Broken("discarded, and the source had not aborted it")
        kept = [station for station in up if station.store.capsules("departed")]
        if kept and not any("destination-lost-agent" in station.alarms for station in kept):
            raise Broken("the destination lost its disk, and nobody was told")
        if kept:
            return "lost with a disk, kept at the source"
        if "live" in self.had:
            return "lost with a disk"
        raise Broken("the agent is lost, and not with a disk")
