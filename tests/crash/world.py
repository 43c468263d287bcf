"""Two stations, one agent, a network, and no clock of its own: everything that happens is a call.

Real: messages and their bytes, the table with its machines, and the store (an SQLite file; a crash copies
file and log as they are and opens the copy). Simulated: time, the network, signatures (keyed digests), the
agent: it notes each station that it wakes at, goes to the next of its stops, and tries again when it cannot
leave.

`World.check` is asked after every call: never two live agents, and never a state that is not what the agent
made it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from agents import canonical
from docking.handoff import codec
from docking.handoff.actions import (
    Cargo,
    Departure,
    DestinationTrust,
    Drop,
    Expect,
    Left,
    Persist,
    RaiseAlarm,
    Record,
    Release,
    Resume,
    Send,
    SourceTrust,
    Start,
    Timing,
)
from docking.handoff.messages import Body, Message, Offer, Part, Side, handoff_id
from docking.handoff.refusal import Refusal
from docking.handoff.states import Destination, Source
from docking.handoff.table import HandoffTable, Ledger
from docking.store.changes import Change, PutCheckpoint, StoredPart
from docking.store.store import Store

AGENT = canonical.digest(b"the agent")
IMAGE = b"an image" * 40
EXPIRES = 4_000_000_000_000
PATIENCE = 20.0
TIMING = Timing(offer_again_s=2.0, commit_again_s=0.5, ask_again_s=1.0, longest_s=16.0, want_kept_s=30.0)
ATTEMPTS = 2  # so often the agent tries to leave a station before it stays there for good


class Crash(BaseException):
    """The station that is running loses its memory, here and now."""


class Broken(AssertionError):
    """The promise is broken."""


@frozen
class Life:
    """The agent's state: where it woke up, and a load that follows from that."""

    history: tuple[str, ...]
    failures: int = 0

    @property
    def hop(self) -> int:
        return len(self.history)

    def pack(self) -> bytes:
        return canonical.encode([list(self.history), self.failures, self._load()])

    @classmethod
    def unpack(cls, data: Any) -> Life:
        history, failures, load = canonical.decode(data)
        life = cls(tuple(history), failures)
        if load != life._load():
            raise Broken(f"the state of the agent was damaged: {life}")
        return life

    def _load(self) -> bytes:
        return canonical.digest("/".join(self.history).encode()) * 50


@frozen
class Plan:
    """A journey. `inline`: bodies come with the offer; `refuse`:

    offers that a destination refuses, by count.
    """

    stops: tuple[str, ...]
    inline: bool = True
    refuse: frozenset[int] = frozenset()


@define(eq=False)
class Envelope:
    """A message on its way."""

    sender: Station
    to: Station
    data: bytes
    number: int
    name: str


@define(eq=False)
class Station:
    """One station: what is in its memory while it is `up`, and the folder that survives."""

    name: str
    key: bytes
    world: World
    folder: Path
    generation: int = 0
    up: bool = False
    amnesia: int = 0
    table: HandoffTable[Life] = None  # type: ignore[assignment]
    store: Store = None  # type: ignore[assignment]
    running: Life | None = None
    leaving: dict[bytes, Life] = field(factory=dict)
    queue: list[tuple[Sequence[Change], Record | None, bool]] = field(factory=list)
    postponed: dict[bytes, list[Change]] = field(factory=dict)
    alarms: list[str] = field(factory=list)

    # Its life

    def boot(self, now: float) -> None:
        self.open_store()
        ledger = Ledger(self.store.record, self.store.copies)
        source = SourceTrust(self._verify_receipt, self._sign_commit)
        destination = DestinationTrust(self._consider, self._admit, self._sign_receipt, self._verify_commit)
        self.table = HandoffTable(self.key, self.store.epoch, ledger, source, destination, TIMING)
        self.up = True
        records = self.store.unfinished()
        undecided = {(record.agent, record.hop) for record in records}
        for capsule in self.store.capsules("live"):
            if (capsule.agent, capsule.hop) not in undecided:
                self._wake(self._load(capsule.agent, capsule.hop))
        for record in records:
            self.perform(self.table.restart(record, now), now)

    def open_store(self) -> None:
        """Open the store, and whatever else is on the disk."""
        self.store = Store.open(
            self.path,
            new_epoch=canonical.digest(f"{self.name} {self.amnesia}".encode())[:16],
            clock=lambda: 1_000_000,
            failpoint=lambda place: self.point(place),
            large_from=1000,  # the state of the agent, and not its image
        )

    def die(self) -> None:
        """SIGKILL: memory is gone; the files are as they are."""
        self.up, self.running = False, None
        self.leaving.clear()
        self.postponed.clear()
        self.queue.clear()
        old = self.path.parent
        self.generation += 1
        shutil.copytree(old, self.path.parent, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
        self.store.close()
        shutil.rmtree(old)

    def lose_disk(self) -> None:
        """Everything that this station ever wrote is gone, and it gets a new disk."""
        shutil.rmtree(self.path.parent)
        self.amnesia += 1
        self.path.parent.mkdir(parents=True)

    @property
    def path(self) -> Path:
        return self.folder / str(self.generation) / "station.db"

    def point(self, place: str) -> None:
        """A place where a crash is interesting."""
        if self.world.launched:
            self.world.on_point(self, place)

    # What happens

    def receive(self, envelope: Envelope, now: float) -> None:
        self.point(f"before receiving {envelope.name}")
        message = codec.decode_message(envelope.data)
        self.perform(self.table.receive(envelope.sender.key, message, now), now)
        self.point(f"after receiving {envelope.name}")

    def flush(self, now: float) -> None:
        """The disk takes what is queued."""
        queue, self.queue = self.queue, []
        if not queue:
            return
        results = self.store.commit([changes for changes, _, _ in queue])
        for (_, record, _), error in zip(queue, results, strict=True):
            if error is not None:
                if record is None or record.state is not Destination.HELD:
                    raise Broken(f"a write failed: {error}")
                self.perform(self.table.unwritten(record, now), now)
            elif record is not None:
                self.perform(self.table.written(record, now), now)

    def tick(self, now: float) -> None:
        self.perform(self.table.tick(now), now)

    def act(self, now: float) -> None:
        """The agent does what it does here: it goes to its next stop, if there is one."""
        life = self.running
        if life is None or not self.can_act:
            return
        self.point("before acting")
        self.running = None
        self.perform(self._depart(life, now), now)
        self.point("after acting")

    @property
    def can_act(self) -> bool:
        """Whether the agent is here, and wants to go on."""
        life = self.running
        return life is not None and life.hop <= len(self.world.plan.stops) and life.failures < ATTEMPTS

    def _depart(self, life: Life, now: float) -> list[Any]:
        world = self.world
        to = world.station(world.plan.stops[life.hop - 1])
        hop, nonce = life.hop - 1, world.nonce()
        state = life.pack()
        bodies = (Body(0, state), Body(1, IMAGE))
        parts = tuple(
            Part(kind, canonical.digest(body.data), len(body.data))
            for kind, body in zip(("state", "image"), bodies, strict=True)
        )
        hid = handoff_id(AGENT, hop, self.key, to.key, nonce)
        visit = canonical.digest(hid, state)
        inline = bodies if world.plan.inline else ()
        offer = Offer(hid, AGENT, hop, self.key, to.key, nonce, self.table.epoch, visit, EXPIRES, parts, inline)
        self.leaving[hid] = life
        stored = tuple(StoredPart(part, body.data) for part, body in zip(parts, bodies, strict=True))
        self.postponed[hid] = [PutCheckpoint(AGENT, hop, stored)]
        return self.table.depart(Departure(offer, bodies, PATIENCE), now)

    # What the table says

    def perform(self, actions: list[Any], now: float) -> None:
        for action in actions:
            match action:
                case Persist(record) if record.state is Source.FROZEN:
                    # As the courier does: written only if the agent does not get away soon.
                    self.postponed[record.hid].append(action)
                    self.world.on_postpone(self, record.hid)
                    self.perform(self.table.written(record, now), now)
                case Persist(record, _, durable):
                    if record.side is Side.SOURCE and record.state is Source.ABORTED:
                        self.write_postponed(record.hid)
                    elif record.side is Side.SOURCE:
                        self.postponed.pop(record.hid, None)
                    self.write([action], record, durable)
                case Send(to, message):
                    self._send(to, message)
                case RaiseAlarm(_, code, _):
                    self.alarms.append(code)
                case _:
                    self.follow(action)
        self.world.check()

    def follow(self, notice: Any) -> None:
        """What becomes of the agent."""
        match notice:
            case Start(record, _, admission):
                self._wake(admission or self._load(record.agent, record.hop + 1))
            case Resume(record, _):
                life = self.leaving.pop(record.hid, None) or self._load(record.agent, record.hop)
                self._rise(Life(life.history, life.failures + 1))
            case Left(record):
                self.leaving.pop(record.hid, None)
            case Expect() | Release() | Drop():
                pass

    def write_postponed(self, hid: bytes) -> None:
        """The checkpoint of an agent that is leaving, and the record that it is."""
        changes = self.postponed.pop(hid, None)
        if changes is not None:
            self.write(changes, None, durable=False)

    def write(self, changes: Sequence[Change], record: Record | None, durable: bool) -> None:
        self.queue.append((changes, record, durable))
        self.world.on_write(self, durable)

    def _send(self, to: bytes, message: Message) -> None:
        name = type(message).__name__.upper()
        self.point(f"before sending {name}")
        data = b"".join(codec.encode_message(message))
        self.world.on_send(self, self.world.by_key(to), data, name)
        self.point(f"after sending {name}")

    def _wake(self, life: Life) -> None:
        """The agent begins a visit: or again, when it was interrupted."""
        arrived = life.history if life.history[-1:] == (self.name,) else (*life.history, self.name)
        self._rise(Life(arrived, life.failures if arrived is life.history else 0))

    def _rise(self, life: Life) -> None:
        if self.running is not None:
            raise Broken(f"the agent lives twice at {self.name}")
        self.running = life
        self.world.check()
        self.world.on_alive(self)

    def _load(self, agent: bytes, hop: int) -> Life:
        capsule = self.store.capsule(agent, hop)
        if capsule is None:
            raise Broken(f"no capsule of visit {hop} at {self.name}")
        state = self.store.part(capsule.parts[0].digest)
        if state is None or self.store.part(capsule.parts[1].digest) != IMAGE:
            raise Broken(f"parts of the capsule are missing at {self.name}")
        return Life.unpack(state)

    # Judgement and signatures, with digests instead of keys

    def _consider(self, offer: Offer) -> tuple[int, ...] | Refusal:
        if self.world.refuses(offer):
            return Refusal("policy", "not today")
        return tuple(i for i, part in enumerate(offer.parts) if not self.store.has_part(part.digest))

    def _admit(self, cargo: Cargo) -> Life | Refusal:
        state = cargo.body("state") or self.store.part(cargo.offer.parts[0].digest)
        if cargo.offer.visit != canonical.digest(cargo.offer.hid, state or b""):
            return Refusal("bad-visit", "the visit is not of this state")
        return Life.unpack(state)

    def _sign_receipt(self, cargo: Cargo, life: Life) -> bytes:
        return _signed("receipt", self.key, cargo.offer.hid, cargo.offer.visit)

    def _verify_receipt(self, record: Record, receipt: bytes) -> Refusal | None:
        good = _signed("receipt", record.peer, record.hid, record.visit)
        return None if receipt == good else Refusal("bad-receipt", "no")

    def _sign_commit(self, record: Record, receipt: bytes) -> bytes:
        return _signed("commit", self.key, record.hid, receipt)

    def _verify_commit(self, record: Record, commit: bytes) -> Refusal | None:
        good = _signed("commit", record.peer, record.hid, record.receipt)
        return None if commit == good else Refusal("bad-commit", "no")


def _signed(kind: str, key: bytes, *parts: bytes) -> bytes:
    return canonical.digest(kind.encode(), key, *parts)


@define(eq=False)
class World:
    """Both stations. The hooks say what is due; who owns the world decides when, and whether, it happens."""

    folder: Path
    plan: Plan
    on_point: Callable[[Station, str], None]
    on_write: Callable[[Station, bool], None]
    on_send: Callable[[Station, Station, bytes, str], None]
    on_alive: Callable[[Station], None]
    on_postpone: Callable[[Station, bytes], None]
    stations: dict[str, Station] = field(factory=dict)
    launched: bool = False
    _nonces: int = 0
    _offers: dict[bytes, int] = field(factory=dict)

    def begin(self, now: float) -> None:
        """The agent is launched at the first station."""
        for name in ("alpha", "beta"):
            station = self.made(name)
            station.path.parent.mkdir(parents=True)
            self.stations[name] = station
            station.boot(now)
        self.launch(self.stations["alpha"])

    def made(self, name: str) -> Station:
        """A station that is not started."""
        return Station(name, canonical.digest(name.encode()), self, self.folder / name)

    def launch(self, alpha: Station) -> None:
        """The agent begins."""
        life = Life(("alpha",))
        parts = tuple(
            StoredPart(Part(kind, canonical.digest(body), len(body)), body)
            for kind, body in (("state", life.pack()), ("image", IMAGE))
        )
        alpha.store.commit([[PutCheckpoint(AGENT, 0, parts)]])
        self.launched = True
        alpha._rise(life)

    def end(self) -> None:
        """Close and delete everything."""
        for station in self.stations.values():
            if station.up:
                station.store.close()
        shutil.rmtree(self.folder)

    def station(self, name: str) -> Station:
        return self.stations[name]

    def by_key(self, key: bytes) -> Station:
        return next(station for station in self.stations.values() if station.key == key)

    def nonce(self) -> bytes:
        self._nonces += 1
        return self._nonces.to_bytes(16, "big")

    def refuses(self, offer: Offer) -> bool:
        """Whether the plan has this offer refused; asked again, it answers the same."""
        return self._offers.setdefault(offer.hid, len(self._offers)) in self.plan.refuse

    def living(self) -> list[Station]:
        return [station for station in self.stations.values() if station.running is not None]

    def check(self) -> None:
        """At most one live agent, whatever happens."""
        if len(self.living()) > 1:
            raise Broken("two live agents")

    def held(self) -> list[Record]:
        """The handoffs that are held somewhere, undecided."""
        return [
            record
            for station in self.stations.values()
            if station.up
            for record in station.store.unfinished()
            if record.state is Destination.HELD
        ]
