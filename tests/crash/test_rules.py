"""A hypothesis state machine over both stations:

whatever the order of deliveries, losses, doubles, crashes and writes.
"""

from __future__ import annotations

import shutil
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from docking.handoff.states import Destination, Source
from tests.crash.matrix import scratch
from tests.crash.world import AGENT, Crash, Envelope, Plan, Station, World
from tests.thorough import examples

NAMES = st.sampled_from(["alpha", "beta"])


class Stations(RuleBasedStateMachine):
    """Nothing happens by itself: each rule is one thing that can happen in a world without a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = scratch()
        self.now = 0.0
        self.wire: list[Envelope] = []
        self.countdown: int | None = None
        self.world: World | None = None

    @initialize(stops=st.sampled_from([("beta",), ("beta", "alpha"), ("beta", "alpha", "beta")]), inline=st.booleans())
    def begin(self, stops: tuple[str, ...], inline: bool) -> None:
        def nothing(*_: object) -> None:
            """Nothing is due by itself here."""

        folder, plan = self.folder / "run", Plan(stops, inline)
        self.world = World(folder, plan, self.on_point, nothing, self.on_send, nothing, nothing)
        self.world.begin(self.now)

    def teardown(self) -> None:
        try:
            if self.world is not None:
                self.heal()
        finally:
            for station in self.world.stations.values() if self.world else ():
                if station.up:
                    station.store.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    # Hooks

    def on_point(self, station: Station, place: str) -> None:
        if self.countdown is not None:
            self.countdown -= 1
            if self.countdown < 0:
                self.countdown = None
                raise Crash

    def on_send(self, sender: Station, to: Station, data: bytes, name: str) -> None:
        self.wire.append(Envelope(sender, to, data, 0, name))

    def station(self, name: str) -> Station:
        assert self.world is not None
        return self.world.station(name)

    def doing(self, station: Station, what: Any) -> None:
        if station.up:
            try:
                what()
            except Crash:
                station.die()

    # What can happen

    @rule(steps=st.integers(1, 12))
    def go_on(self, steps: int) -> None:
        """Some of what would happen next in a kind world."""
        for _ in range(steps):
            if self.wire:
                envelope = self.wire.pop(0)
                self.doing(envelope.to, lambda envelope=envelope: envelope.to.receive(envelope, self.now))
            for name in ("alpha", "beta"):
                self.write(name)
                self.act(name)

    @rule(index=st.integers(0, 7), keep=st.booleans())
    @precondition(lambda self: self.wire)
    def deliver(self, index: int, keep: bool) -> None:
        index %= len(self.wire)
        envelope = self.wire[index] if keep else self.wire.pop(index)
        self.doing(envelope.to, lambda: envelope.to.receive(envelope, self.now))

    @rule(index=st.integers(0, 7))
    @precondition(lambda self: self.wire)
    def lose(self, index: int) -> None:
        self.wire.pop(index % len(self.wire))

    @rule(name=NAMES)
    def write(self, name: str) -> None:
        station = self.station(name)
        self.doing(station, lambda: station.flush(self.now))

    @rule(name=NAMES)
    def checkpoint(self, name: str) -> None:
        """What was postponed is written."""
        station = self.station(name)
        for hid in list(station.postponed):
            self.doing(station, lambda hid=hid: station.write_postponed(hid))

    @rule(name=NAMES)
    def act(self, name: str) -> None:
        station = self.station(name)
        self.doing(station, lambda: station.act(self.now))

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for name in ("alpha", "beta"):
            station = self.station(name)
            self.doing(station, lambda station=station: station.tick(self.now))

    @rule(name=NAMES)
    def kill(self, name: str) -> None:
        if self.station(name).up:
            self.station(name).die()

    @rule(name=NAMES)
    def boot(self, name: str) -> None:
        station = self.station(name)
        if not station.up:
            station.up = True
            self.doing(station, lambda: station.boot(self.now))

    @rule(places=st.integers(0, 12))
    def crash_soon(self, places: int) -> None:
        """A crash in the middle of something that comes."""
        self.countdown = places

    @invariant()
    def one_agent_at_most(self) -> None:
        if self.world is not None:
            self.world.check()

    # The end: when the world is kind again, everything comes right

    def heal(self) -> None:
        assert self.world is not None
        self.countdown = None
        for name in ("alpha", "beta"):
            self.boot(name)
        for _ in range(400):
            self.world.check()
            for station in self.world.stations.values():
                station.flush(self.now)
                station.act(self.now)
                station.flush(self.now)
            wire, self.wire = self.wire, []
            for envelope in wire:
                envelope.to.receive(envelope, self.now)
            dues = [due for s in self.world.stations.values() if (due := s.table.next_due()) is not None]
            if not self.wire and not any(s.queue for s in self.world.stations.values()):
                if not dues and not any(s.can_act for s in self.world.stations.values()):
                    break
                self.now = max(self.now, min(dues, default=self.now))
            for station in self.world.stations.values():
                station.tick(self.now)
        else:
            raise AssertionError("the stations do not come to rest")
        self.judge()

    def judge(self) -> None:
        assert self.world is not None
        (home,) = self.world.living()
        life = home.running
        assert life is not None
        assert life.history == ("alpha", *self.world.plan.stops)[: life.hop]
        records = [record for s in self.world.stations.values() for record in s.store.history(AGENT)]
        assert not any(r.state in (Source.FROZEN, Source.COMMITTED, Destination.HELD) for r in records)
        for name, station in self.world.stations.items():
            assert [c.hop for c in station.store.capsules("live")] == ([life.hop - 1] if name == home.name else [])


Stations.TestCase.settings = settings(
    max_examples=examples(20), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStations = Stations.TestCase
