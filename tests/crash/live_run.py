"""Runs one journey of an agent that is moved while it runs, under faults, on a simulated clock: see
`tests.crash.simulator`, and `tests.crash.live_world` for what is real.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from attrs import define, field

from docking.live import block_fetcher, block_server, sessions
from docking.residents import moves, sending
from tests.crash.live_agent import Tracked
from tests.crash.live_station import LiveStation
from tests.crash.live_world import LiveWorld
from tests.crash.simulator import Delay, Double, Lose, Outcome, Partition, Run, Stall
from tests.crash.world import Broken, Crash, Station, World


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the run's, and whose timers are events of the run."""

    def __init__(self, run: LiveRun) -> None:
        super().__init__()
        self._run, self._calls = run, 0
        self.set_exception_handler(lambda loop, context: None)

    def time(self) -> float:
        return self._run.now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        self._calls += 1
        return super().call_soon(callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)

        def due() -> None:
            if not handle.cancelled():
                self.call_soon(callback, *args, context=context)
                self._run._step(lambda: None)

        self._run._later(max(0.0, when - self._run.now), due)
        return handle

    def pump(self) -> None:
        """Run until nothing is left to be done at this time."""
        while True:
            before = self._calls
            super().call_soon(self.stop)
            self.run_forever()
            if self._calls == before:
                return


async def _at_once(function: Callable[..., Any], *args: object) -> Any:
    return function(*args)


@contextlib.contextmanager
def simulated(run: LiveRun) -> Iterator[None]:
    """Threads work at once, and the clock of sessions is that of the run."""
    with contextlib.ExitStack() as patches:
        for module in (sessions, moves, sending, block_fetcher, block_server):
            patches.enter_context(mock.patch.object(module, "in_thread", _at_once))
        clock = types.SimpleNamespace(monotonic=lambda: run.now)
        patches.enter_context(mock.patch.object(sessions, "time", clock))
        for module in (sessions, block_fetcher, block_server):
            patches.enter_context(mock.patch.object(module, "BlockFile", Tracked))
        patches.enter_context(mock.patch.object(moves, "LEAST_BYTES", 0))
        yield


@define(eq=False)
class LiveRun(Run):
    """One run. `struck`: how often a fault struck while a session was open."""

    loop: SimulatedLoop = field(init=False)
    errors: list[BaseException] = field(factory=list)
    struck: int = 0
    _crashing: tuple[LiveStation, int] | None = None

    def _made(self) -> World:
        self.loop = SimulatedLoop(self)
        return LiveWorld(
            self.folder,
            self.plan,
            self._on_point,
            self._on_write,
            self._on_send,
            self._on_alive,
            self._on_postpone,
            loop=self.loop,
            clock=lambda: self.now,
            later=self._later,
            on_turn=self._on_turn,
            on_ask=self._on_ask,
            failed=self._failed,
        )

    def outcome(self) -> Outcome:
        try:
            with simulated(self):
                return super().outcome()
        finally:
            for station in self._stations():
                station.fetcher.close()
                for task in station.tasks:
                    task.cancel()
            self.loop.pump()
            for station in self._stations():
                if station.guest is not None:
                    station.guest.life.close()
                for session in station.sessions.open.values():
                    session.give().close()
            self.loop.close()

    def _step(self, what: Callable[[], None]) -> None:
        """Do something in the loop, and all that follows at this time."""
        found: list[BaseException] = []

        def do() -> None:
            try:
                what()
            except BaseException as error:  # of a callback the loop would only log it
                found.append(error)

        self.loop.call_soon(do)
        self.loop.pump()
        while self._crashing is not None:
            (station, point), self._crashing = self._crashing, None
            self.loop.call_soon(self._crash, station, point)
            self.loop.pump()
        for error in (*found, *self.errors):
            if not isinstance(error, Crash):
                raise error
        self.errors.clear()

    def _doing(self, station: Station, what: Callable[[], None]) -> None:
        def do() -> None:
            if station.up:
                what()

        self._step(do)

    def _loop(self) -> None:
        """As `Run`, but each event may be one of the event loop."""
        self._step(lambda: None)
        super()._loop()

    def _on_point(self, station: Station, place: str) -> None:
        assert isinstance(station, LiveStation)
        number = len(self.points)
        try:
            super()._on_point(station, place)
        except Crash:
            station.crashed, self._crashing = True, (station, number)
            self._strike()
            raise

    def _strike(self) -> None:
        self.struck += any(each.sessions.open for each in self._stations() if each.up)

    def _transmit(self, sender: Station, to: Station, name: str, receive: Callable[[], None]) -> None:
        number = len(self.messages)
        if any(isinstance(each, Lose | Double | Delay | Partition) and each.message == number for each in self.faults):
            self._strike()
        super()._transmit(sender, to, name, receive)

    def _on_write(self, station: Station, durable: bool) -> None:
        if durable and any(isinstance(each, Stall) and each.write == self.writes for each in self.faults):
            self._strike()
        super()._on_write(station, durable)

    def _stations(self) -> list[LiveStation]:
        return [each for each in self.world.stations.values() if isinstance(each, LiveStation)]

    def _on_turn(self, station: LiveStation, wait: float, what: Callable[[], None]) -> None:
        generation = station.generation

        def do() -> None:
            if station.generation == generation and not station.crashed:
                self._doing(station, what)

        self._later(wait, do)

    def _on_ask(self, sender: LiveStation, to: Station, data: bytes, name: str, answer: asyncio.Future[Any]) -> None:
        assert isinstance(to, LiveStation)
        generation = sender.generation

        def receive() -> None:
            task = to.spawn(to.asked(sender, data))
            task.add_done_callback(answered)

        def answered(task: asyncio.Task[Any]) -> None:
            if task.cancelled() or to.crashed or not to.up:
                return
            value: Any = task.exception() or task.result()
            if isinstance(value, Crash):
                return
            self._transmit(to, sender, f"the answer to {name}", lambda: take(value))

        def take(value: Any) -> None:
            if sender.generation == generation and not answer.done():
                answer.set_result(value)

        self._transmit(sender, to, name, receive)

    def _failed(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.errors.append(error)

    def _judge(self) -> Outcome:
        if (waiting := self._waiting()) is not None:
            return Outcome(waiting, (), tuple(self.points), tuple(self.messages), self.writes)
        outcome = super()._judge()
        if not self.gone and not self.lost and not self.world.held():
            for station in self._stations():
                self._check_sessions(station)
        return outcome

    def _waiting(self) -> str | None:
        """How it ended if an agent waits for blocks; that is right only if the station that has them is not there."""
        for station in self._stations():
            if station.up and station.fetching is not None:
                source = self.world.by_key(station.fetching.raw).name
                if self.world.living() or self.world.held():
                    raise Broken("an agent that waits for its memory, and another one")
                if source not in self.gone | self.lost:
                    raise Broken("an agent waits for its memory, and the station that has it is there")
                return "waits for blocks of a station that is gone"
        return None

    @staticmethod
    def _check_sessions(station: LiveStation) -> None:
        """At the end nothing is prepared any more, and no file is there that nobody needs."""
        if station.sessions.open or (station.guest is not None and station.guest.moving):
            raise Broken(f"{station.name} has sessions still, or moves something")
        if station.served.open or station.fetcher.open or list(station.owed_folder.iterdir()):
            raise Broken(f"{station.name} keeps blocks for an agent that has them")
        station.sessions.sweep()
        files = list(station.path.with_name(station.path.name + ".blocks").iterdir())
        if len(files) > len(station.store.parts_of("blocks")):
            raise Broken(f"{station.name} keeps files of blocks that nobody needs")
