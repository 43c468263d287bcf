"""A station in the simulator whose agent is moved while it runs: what is real, and what is judged, is said in
`tests.crash.live_world`.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.canonical import Buffer
from agents.credentials.keys import PublicKey
from agents.engines import Limits
from agents.engines.missing import MissingPages
from agents.execution import Execution
from agents.snapshot import Snapshot
from agents.waits import Go, Sleep, Wait, Woke
from docking.aio.deadlines import Deadlines
from docking.errors import CarrierError, NoAnswer, StationError
from docking.handoff import codec
from docking.handoff.actions import Cargo, Departure, Drop, Left, Record, Resume, Start
from docking.handoff.messages import Body, Offer, Part, Side, handoff_id
from docking.handoff.refusal import Refusal
from docking.handoff.states import Destination, Source
from docking.live import wire
from docking.live.block_fetcher import BlockFetcher, FetchedAgent
from docking.live.block_server import BlockServer
from docking.live.sessions import Preliminary, Sessions, blocks_folder
from docking.residents.berth import Standing
from docking.residents.departures import Sent
from docking.residents.moves import Moves
from docking.residents.options import MoveOptions
from docking.store.changes import KeepPart, PutCheckpoint, StoredPart
from docking.store.store import Store
from tests.crash.live_agent import DISKS, ENGINE, MEMORY, NOBODY, Disk, Guest, image, rooted
from tests.crash.world import AGENT, ATTEMPTS, EXPIRES, PATIENCE, Broken, Crash, Station, _signed

if TYPE_CHECKING:
    from tests.crash.live_world import LiveWorld

TURN, PAUSE, EXTRA_TURNS = 0.003, 0.002, 2
CHECKPOINT = 0.3
ANSWER_WITHIN = 10.0


@frozen
class Arrived:
    """An agent that was admitted: its state, its visit, and its instance where there is one already.

    rest: names the blocks that come later; missing: gives their pages
    """

    state: bytes = field(repr=False)
    visit: int
    prepared: Callable[[], Execution] | None = None
    rest: wire.Rest | None = None
    missing: Callable[[], dict[int, MissingPages]] = dict


@define(eq=False)
class LiveStation(Station):
    """A station whose agent is moved while it runs."""

    sessions: Sessions = field(init=False)
    moves: Moves = field(init=False)
    here: Any = field(init=False)
    crashed: bool = False
    tasks: set[asyncio.Task[Any]] = field(factory=set)
    departing: dict[bytes, asyncio.Future[Refusal | None]] = field(factory=dict)
    offered: dict[bytes, tuple[bytes, Wait]] = field(factory=dict)
    served: BlockServer = field(init=False)
    fetcher: BlockFetcher = field(init=False)
    fetching: PublicKey | None = None
    """The station that still has blocks of the agent, which has arrived and stands still until they are here."""
    _waiting: Execution | None = None

    @property
    def live(self) -> LiveWorld:
        found: Any = self.world
        return found  # type: ignore[no-any-return]

    @property
    def guest(self) -> Guest | None:
        """The agent, if it has an instance here."""
        found: Any = self.running
        return found

    def open_store(self) -> None:
        super().open_store()
        store: Store = self.store
        self.crashed = False
        folder = blocks_folder(store.path)
        assert folder is not None
        self.owed_folder.mkdir(exist_ok=True)
        for each in self.folders:
            disk = DISKS[each] = Disk(self.point)
            for path in each.iterdir():
                disk.synced(path)
        served = BlockServer(self.owed_folder, lambda: int(1000 * self.live.clock()), lambda agent, size: None)
        self.served, self.fetching, self._waiting = served, None, None
        self.sessions = Sessions(ENGINE, folder, self._random, store.has_part, served, self.point)
        self.fetcher = BlockFetcher(folder, self._ask_for, self.spawn, lambda count: None, lambda *told: None)
        self.sessions.may_fetch = self.fetcher.may
        self.sessions.admissions = self
        self.sessions.keep_image = self._keep_image
        self.sessions.undecided = self._undecided
        self.here = types.SimpleNamespace(
            berths={},
            timers=Deadlines(),
            unmapping=types.SimpleNamespace(close=_closed),  # time is not what is tried here
            closing=False,
            key=types.SimpleNamespace(public=PublicKey(self.key)),
            peers=types.SimpleNamespace(label=lambda key: self.world.by_key(key.raw).name),
            clocks=types.SimpleNamespace(now=lambda: int(1000 * self.live.clock())),
            tell=lambda *told, **more: None,
            run=self.spawn,
        )
        self.moves = Moves(self.here, self, self, self.ask, served, lambda agent: None)  # type: ignore[arg-type]
        self.sessions.restore(store.parts_of("blocks"), store.part)
        served.restore(self._left)

    @property
    def owed_folder(self) -> Path:
        """Where blocks are of an agent that has left."""
        return self.path.with_name(self.path.name + ".owed")

    @property
    def folders(self) -> tuple[Path, Path]:
        """Where blocks are of an agent that is here, or on its way here, and of one that has left."""
        return self.path.with_name(self.path.name + ".blocks"), self.owed_folder

    def _left(self, hid: bytes) -> Record | None:
        """The handoff, if the agent left by it, or may have."""
        record = self.store.record(hid, Side.SOURCE)
        return record if record is not None and record.state in (Source.COMMITTED, Source.GONE) else None

    async def _ask_for(self, to: PublicKey, request: wire.Request) -> wire.Answer:
        return wire.read_answer(await self.ask(to, wire.write_request(request)))

    def die(self) -> None:
        self.here.closing, self.here.berths = True, {}
        self.fetcher.close()
        self.served.close()
        for task in self.tasks:
            task.cancel()
        if self._waiting is not None:
            self.live.later(0.0, self._waiting.close)
        sessions, self.sessions.open = list(self.sessions.open.values()), {}
        self.sessions.close()
        for session in sessions:
            session.give().close()  # the file stays
        for guest in {id(each): each for each in (self.guest, *self.live.guests.pop(self.name, ()))}.values():
            if guest is not None:
                self.live.later(0.0, guest.life.close)
        disks = [DISKS.pop(folder) for folder in self.folders]
        self.departing.clear()
        super().die()
        if self.live.live_plan.power:
            for folder, disk in zip(self.folders, disks, strict=True):  # which are elsewhere now
                for path in folder.iterdir():
                    path.write_bytes(disk.files[path.name])

    def point(self, place: str) -> None:
        if self.crashed:
            raise Crash
        super().point(place)

    def _random(self, count: int) -> bytes:
        return canonical.digest(f"{self.name} {self.amnesia} {self.live.draw()}".encode())[:count]

    # What moves ask of a station: `Residents`, `Lifecycle`, `Departures`

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that ends with the station."""
        task = self.live.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(self.live.failed)
        return task

    async def ask(self, to: PublicKey, request: Sequence[Buffer]) -> object:
        """Ask a station for something about a session."""
        data = b"".join(request)
        name = type(wire.read_request(canonical.decode(data), codec.DEFAULT_LIMITS)).__name__.upper()
        self.point(f"before sending {name}")
        answer = self.live.loop.create_future()
        self.live.on_ask(self, self.world.by_key(to.raw), data, name, answer)
        self.point(f"after sending {name}")
        done, _ = await asyncio.wait({answer}, timeout=ANSWER_WITHIN)
        if not done:
            raise NoAnswer("it was not answered in time")
        if isinstance(answer.result(), Exception):
            raise CarrierError(str(answer.result()))
        return answer.result()

    async def asked(self, sender: Station, data: bytes) -> object:
        """The answer to another station's request about a session."""
        request = wire.read_request(canonical.decode(data), codec.DEFAULT_LIMITS)
        return wire.write_answer(await self.sessions.handle(sender.key, request))

    def go_on(self, guest: Guest, event: None) -> None:
        self._turn_soon(guest)

    def wait(self, guest: Guest, wait: Wait) -> None:
        guest.wait = wait
        if isinstance(wait, Go):
            self.spawn(self._go(guest, wait.host))
        else:
            self._turn_soon(guest)

    def sleep_until(self, guest: Guest, until: int) -> None:
        self._turn_soon(guest)

    async def targets(self, guest: Guest, host: str) -> list[PublicKey]:
        return [PublicKey(self.world.station(host).key)]

    def announcement(self, guest: Guest, to: PublicKey, with_image: bool, whole: bool) -> Offer:
        return self._offer(guest, to.raw, b"", [("image", image().encode())], {1} if with_image else set())

    async def depart(self, guest: Guest, host: str, state: bytes, sent: Sent | None = None) -> Refusal | None:
        """See `Departures`; the truth about the state is noted."""
        to = next(s.key for s in self.world.stations.values() if host in (s.name, str(PublicKey(s.key))))
        snapshot = Snapshot.decode(state)
        assert snapshot.pending is not None
        assert isinstance(snapshot.pending.wait, Sleep)
        truth = rooted(guest.life, snapshot.pending.wait)
        if sent is not None and truth != state:
            raise Broken("what is sent is not the state of the agent")
        self.live.truth[canonical.digest(state)] = truth
        loads = [("image", image().encode()), *([] if sent is None else [("blocks", sent.rest)])]
        inline = set(range(1 + len(loads))) if self.world.plan.inline else set()
        offer = self._offer(guest, to, state, loads, inline)
        bodies = tuple(Body(at, data) for at, (_, data) in enumerate([("state", state), *loads]))
        stored = tuple(StoredPart(part, body.data) for part, body in zip(offer.parts[:2], bodies[:2], strict=True))
        hid, hop = offer.hid, guest.hop - 1
        # One that is not whole is not stored: a crash falls back to the last that is.
        self.postponed[hid] = [PutCheckpoint(AGENT, hop, stored)] if sent is None else []
        result = self.departing[hid] = self.live.loop.create_future()
        self.offered[hid] = truth, snapshot.pending.wait
        if sent is not None and sent.begun is not None:
            await sent.begun(hid)
        try:
            self.perform(self.table.depart(Departure(offer, bodies, PATIENCE), self.live.clock()), self.live.clock())
            refused: Refusal | None = await result
            return refused
        finally:
            self.departing.pop(hid, None)

    def _offer(
        self, guest: Guest, to: bytes, state: bytes, loads: Sequence[tuple[str, bytes]], inline: set[int]
    ) -> Offer:
        hop, nonce = guest.hop - 1, self.world.nonce()
        every = [("state", state), *loads]
        parts = tuple(Part(kind, canonical.digest(data), len(data)) for kind, data in every)
        hid = handoff_id(AGENT, hop, self.key, to, nonce)
        visit = canonical.digest(hid, state)
        bodies = tuple(Body(at, data) for at, (_, data) in enumerate(every) if at in inline)
        return Offer(hid, AGENT, hop, self.key, to, nonce, self.table.epoch, visit, EXPIRES, parts, bodies)

    # The agent

    def _turn_soon(self, guest: Guest) -> None:
        wait = PAUSE * 1.5 ** min(max(0, guest.turns - 20), 18)  # seconds of waiting are not a thousand turns
        self.live.on_turn(self, wait, lambda: self._turn(guest))

    def _turn(self, guest: Guest) -> None:
        if self.guest is not guest or guest.running or guest.standing is Standing.LEAVING:
            return
        if not guest.moving and guest.turns >= EXTRA_TURNS and guest.going is None:
            guest.wait, guest.standing = guest.wait or Sleep(1_000_000), Standing.WAITING
            return
        guest.running, guest.standing, guest.wait = True, Standing.READY, None
        self.live.on_turn(self, TURN, lambda: self._turned(guest))

    def _turned(self, guest: Guest) -> None:
        """A turn ends: here its code runs."""
        if self.guest is not guest:
            return
        if guest.standing is Standing.LEAVING:
            raise Broken("an agent that is leaving runs")
        guest.turns += 1
        stop: Any = guest.life.advance(Woke())
        assert isinstance(stop, Sleep), stop
        guest.running, halting, guest.halting = False, guest.halting, None
        if guest.going is not None and (not guest.moving or self.world.station(guest.going).sessions.open):  # type: ignore[attr-defined]
            stop, guest.going = Go(guest.going), None
        if halting is not None and not halting.done():
            halting.set_result(stop)
        else:
            self.wait(guest, stop)

    async def _go(self, guest: Guest, host: str) -> None:
        """It goes by itself."""
        guest.standing = Standing.LEAVING
        refused = await self.depart(guest, host, guest.life.snapshot().encode())
        if refused is not None:
            guest.failures += 1
            guest.wait, guest.standing = Sleep(1_000_000), Standing.READY
            self._turn_soon(guest)
            self.world.on_alive(self)

    @property
    def can_act(self) -> bool:
        guest = self.guest
        return guest is not None and guest.hop <= len(self.world.plan.stops) and guest.failures < ATTEMPTS

    def act(self, now: float) -> None:
        """The agent is to go to its next stop, in the way that the plan says."""
        guest = self.guest
        if guest is None or not self.can_act or guest.moving or guest.standing is Standing.LEAVING:
            return
        self.point("before acting")
        order, host = self.live.live_plan.orders[guest.hop - 1], self.world.plan.stops[guest.hop - 1]
        self.spawn(self._order(guest, order, host))

    async def _order(self, guest: Guest, order: str, host: str) -> None:
        options = MoveOptions(downtime_ms=0, on_timeout="force")
        if order == "go":
            guest.going = host
            self._turn_soon(guest)
            return
        if order == "goes meanwhile":
            guest.going = host
        if order == "gives up":
            options = evolve(options, on_timeout="cancel")
        if order.startswith("post-copy"):  # after rounds, or without any
            options = evolve(options, on_timeout="post-copy", timeout_s=0.03 if order.endswith("after rounds") else 0)
        move = asyncio.ensure_future(self._move(guest, host, options, drain=order == "drain"))
        self.tasks.add(move)
        if order == "twice":
            await asyncio.sleep(0)
            if self.guest is guest and guest.moving:
                try:
                    await self.moves.move(AGENT, host, options)
                    raise Broken("moved twice at once")
                except StationError as error:
                    assert "already" in str(error), error
        if order.startswith("cancelled after "):
            await asyncio.wait({move}, timeout=float(order.split()[2]) / 1000)
            move.cancel()
            while self.guest is guest and guest.moving:
                await asyncio.sleep(0.01)
        await asyncio.wait({move})
        self.tasks.discard(move)
        error = None if move.cancelled() else move.exception()
        if error is not None and not isinstance(error, StationError | Crash):
            raise error
        if self.guest is guest:
            guest.failures += 1
            await asyncio.sleep(0.5)
            if self.guest is guest:
                self.world.on_alive(self)

    async def _move(self, guest: Guest, host: str, options: MoveOptions, drain: bool) -> None:
        if not drain:
            await self.moves.move(AGENT, host, options)
            self.live.moved += 1
            return
        async for report in self.moves.drain([host], options):
            if isinstance(report, tuple):
                raise StationError(report[1])

    # What the table says of it

    def follow(self, notice: Any) -> None:
        """See `Station`."""
        match notice:
            case Start(record, _, admission):
                self._take_up(admission or self._stored(record.agent, record.hop + 1))
            case Resume(record, refused):
                future = self.departing.get(record.hid)
                if future is None:
                    self._take_up(self._stored(record.agent, record.hop))
                elif not future.done():
                    future.set_result(refused or Refusal("unknown", "no reason"))
            case Left(record):
                future = self.departing.get(record.hid)
                guest = self.guest
                if guest is not None and future is not None:
                    truth, wait = self.offered[record.hid]
                    if rooted(guest.life, wait) != truth:
                        raise Broken("the agent went on after it had been handed over")
                    self.running = None
                    self.here.berths.pop(AGENT, None)
                    self.live.later(0.0, guest.life.close)
                    if not future.done():
                        future.set_result(None)
            case Drop(record):
                self.sessions.dropped(record.hid)
            case _:
                pass

    def _wake(self, life: Any) -> None:
        self._take_up(life)

    # What comes later

    def _fetch(self, came: Arrived, rest: wire.Rest) -> None:
        """It has arrived, and stands still until all of it is here: in its instance, or after a crash on the disk."""
        records = self.store.history(AGENT)
        record = next(r for r in records if isinstance(r.state, Destination) and r.hop == came.visit - 1)
        self.fetching, missing = PublicKey(record.peer), came.missing()
        if came.prepared is not None:
            self._waiting = came.prepared()
        label = self.world.by_key(record.peer).name
        found = self.fetcher.start(AGENT, rest.session, self.fetching, label, rest.owed, missing)
        self.spawn(self._fetched(came, found))

    async def _fetched(self, came: Arrived, found: FetchedAgent) -> None:
        await found.whole
        self.fetching, life, self._waiting = None, self._waiting, None
        if life is None:
            self._take_up(self._stored(AGENT, came.visit, whole=True))
        else:
            self._take_up(Arrived(came.state, came.visit, lambda: life))

    def _load(self, agent: bytes, hop: int) -> Any:
        return self._stored(agent, hop)

    def _stored(self, agent: bytes, hop: int, whole: bool = False) -> Arrived:
        capsule = self.store.capsule(agent, hop)
        if capsule is None:
            raise Broken(f"no capsule of visit {hop} at {self.name}")
        bodies = {part.kind: self.store.part(part.digest) for part in capsule.parts}
        state = bodies["state"]
        assert state is not None
        truth = self.live.truth[canonical.digest(state)]
        snapshot = Snapshot.decode(state)
        if snapshot.roots:
            rest = wire.Rest.decode(bodies["blocks"] or b"")
            if rest.owed and not whole:
                return Arrived(state, hop, rest=rest)
            found = self.sessions.whole(snapshot, bodies["blocks"] or b"").encode()
            self.live.truth[canonical.digest(found)] = truth
            return Arrived(found, hop)
        return Arrived(state, hop)

    def _take_up(self, came: Arrived) -> None:
        """The agent begins a visit: or again, when it was interrupted."""
        if came.rest is not None:
            self._fetch(came, came.rest)
            return
        snapshot = Snapshot.decode(came.state)
        if came.prepared is not None:
            life = came.prepared()
            life.adopt(snapshot, ambient=NOBODY)
        else:
            limits = Limits(memory=MEMORY)
            life = Execution(image(), engine=ENGINE, ambient=NOBODY, snapshot=snapshot, limits=limits)
            life.open()
        assert snapshot.pending is not None
        assert snapshot.pending.wait is not None
        if rooted(life, snapshot.pending.wait) != self.live.truth[canonical.digest(came.state)]:
            raise Broken(f"the agent's state at {self.name} is not what it was")
        self.enter(life)

    def enter(self, life: Execution) -> None:
        """An agent is here, and goes on."""
        if self.running is not None:
            raise Broken(f"the agent lives twice at {self.name}")
        guest: Any = Guest(self, life)
        if guest.history[-1:] != (self.name,):
            guest.history = (*guest.history, self.name)
        guest.wait = Sleep(1_000_000)
        self.running = guest
        self.here.berths[AGENT] = guest
        self.world.check()
        self._turn_soon(guest)
        self.world.on_alive(self)
        self.live.on_turn(self, CHECKPOINT, lambda: self._checkpoint(guest))

    def _checkpoint(self, guest: Guest) -> None:
        """Now and then its state is stored whole."""
        if self.guest is not guest or guest.standing is Standing.LEAVING or guest.running:
            return
        self.write([self.checkpoint_of(guest)], None, durable=False)

    def checkpoint_of(self, guest: Guest) -> PutCheckpoint:
        """Its state as it is now."""
        state = guest.life.snapshot().encode()
        self.live.truth[canonical.digest(state)] = rooted(guest.life, Sleep(1_000_000))
        parts = tuple(
            StoredPart(Part(kind, canonical.digest(body), len(body)), body)
            for kind, body in (("state", state), ("image", image().encode()))
        )
        return PutCheckpoint(AGENT, guest.hop - 1, parts)

    # Admission, at the destination

    def announced(self, offer: Offer) -> Preliminary | Refusal | None:
        """See `docking.live.sessions.Admissions`."""
        if self.live.refuses_session(offer):
            return Refusal("policy", "not today")
        if not self.store.has_part(offer.parts[1].digest) and not offer.bodies:
            return None
        return Preliminary(image(), MEMORY, 1 << 20)

    def _keep_image(self, offer: Offer) -> None:
        if offer.bodies and not self.store.has_part(offer.parts[1].digest):
            self.write([KeepPart(offer.parts[1], bytes(offer.bodies[0].data))], None, durable=False)

    def _undecided(self, hid: bytes) -> bool:
        return any(record.hid == hid for record in self.world.held() if record.peer != self.key)

    def _admit(self, cargo: Cargo) -> Any:
        state = cargo.body("state") or self.store.part(cargo.offer.parts[0].digest) or b""
        if cargo.offer.visit != canonical.digest(cargo.offer.hid, state):
            return Refusal("bad-visit", "the visit is not of this state")
        snapshot = Snapshot.decode(state)
        visit = cargo.offer.hop + 1
        if not snapshot.roots:
            return Arrived(bytes(state), visit)
        rest = cargo.body("blocks")
        session = self.sessions.complete(cargo.offer, snapshot, rest, cargo.offer.parts[-1].digest)
        if isinstance(session, Refusal):
            return session
        later = wire.Rest(session.name, (), session.owed) if session.owed else None
        return Arrived(bytes(state), visit, lambda: self.sessions.taken(session), later, session.missing)

    def _sign_receipt(self, cargo: Cargo, life: Any) -> bytes:
        return _signed("receipt", self.key, cargo.offer.hid, cargo.offer.visit)


async def _closed(life: Any) -> None:
    life.close()
