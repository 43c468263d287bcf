"""The use-cases of a station: agents begin, come, run, wait, leave, end. No HTTP and no mDNS here.

What each part does is its own module's; the office decides what follows what. Its inputs are what the courier tells
(`_notify`), how turns of agents end (`_turned`), what peers say (`Correspondence`) and what people ask for. All of it
runs in one event loop; agents run in workers.

Invariants: an agent runs only if the ledger says that it is this station's; what an agent waits for is known before it
is put away; everything that a person should know is an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, evolve, field

from agents import canonical
from agents.capsule import Capsule as CapsuleFile
from agents.credentials import envelope
from agents.credentials.envelope import identify
from agents.credentials.keys import PublicKey, SecretKey, bytes_of, text_of
from agents.credentials.passport import verify_passport
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import Opening
from agents.engines import Engine
from agents.errors import CredentialError, PortcallError
from agents.outcomes import Exhausted, Finished, Trapped
from agents.runtime import Asked, Spent
from agents.snapshot import Snapshot
from agents.waits import (
    Arrived,
    Call,
    Clone,
    Cloned,
    Event,
    Failed,
    Go,
    GoAt,
    Input,
    InputReady,
    Recv,
    Refused,
    Sleep,
    TimedOut,
    Wait,
    Woke,
    Yield,
)
from docking import papers, resting
from docking.admission import Load, Refusal, grant, shed
from docking.berth import EDQUOT, EPERM, Berth, Ground, Standing, Turn
from docking.changes import Capsule, Change, DropCapsule, Purge, PutFact, StoredPart
from docking.config import Policy
from docking.correspondence import Correspondence
from docking.courier import Courier
from docking.customs import Admitted, Customs
from docking.deltas import Deltas
from docking.departures import Departures, errno_of
from docking.endings import Endings
from docking.errors import StationError, UnknownAgent
from docking.events import Event as Told
from docking.events import Events
from docking.handoff.actions import Alarm, Cargo, Drop, Left, Record, Release, Resume, Start, Timing
from docking.handoff.actions import Refused as Stayed
from docking.handoff.desk import Desk, Ledger
from docking.handoff.messages import Part
from docking.images import Images
from docking.journal import Journal
from docking.knowledge import Knowledge, Known
from docking.launching import Launch
from docking.mailbox import Mailbox
from docking.orders import FRESH, sign_order
from docking.papers import part
from docking.peers import Peers
from docking.recovery import Recovery
from docking.register import DISPOSED, FINISHED, STOPPED, TRAVELLING, Register
from docking.store import Failpoint, Store, never
from docking.workers import Job, Workers
from docking.yellowpages import Visitor, YellowPages

_log = logging.getLogger(__name__)
EINTR = 27
# Agents that ended or left: their lines of log are kept for so many.
REMEMBERED = 256
# Seconds between two looks for what can be forgotten, and bytes of images and passports that nobody uses now.
TIDY, IDLE_BYTES = 3600.0, 512 << 20


@define(eq=False)
class Clocks:
    """Where time and chance come from. `wall`, `monotonic`: ns."""

    wall: Callable[[], int]
    monotonic: Callable[[], int]
    random: Callable[[int], bytes]

    def now(self) -> int:
        """Milliseconds since 1970."""
        return self.wall() // 1_000_000


@define(eq=False)
class Office:
    """The use-cases of the station called `name` with `key`."""

    name: str
    key: SecretKey
    policy: Policy
    store: Store
    engine: Engine
    network: Any
    peers: Peers
    clocks: Clocks
    pages: YellowPages = field(factory=YellowPages)
    events: Events = field(factory=Events)
    threads: int = 2
    timing: Timing = field(factory=Timing)
    patience: float = 30.0
    failpoint: Failpoint = never
    berths: dict[bytes, Berth] = field(factory=dict)
    counts: Counter[str] = field(factory=Counter)
    in_doubt: dict[bytes, str] = field(factory=dict)
    deltas: Deltas = field(factory=Deltas)
    closing: bool = False
    journal: Journal = field(init=False)
    knowledge: Knowledge = field(init=False)
    images: Images = field(init=False)
    register: Register = field(init=False)
    workers: Workers = field(init=False)
    customs: Customs = field(init=False)
    courier: Courier[Admitted] = field(init=False)
    departures: Departures = field(init=False)
    mailbox: Mailbox = field(init=False)
    ground: Ground = field(init=False)
    endings: Endings = field(init=False)
    recovery: Recovery = field(init=False)
    letters: Correspondence = field(init=False)
    _timers: dict[bytes, asyncio.TimerHandle] = field(factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(factory=set)
    _past: dict[bytes, Berth] = field(factory=dict)
    _owners: Counter[PublicKey] = field(factory=Counter)
    _loop: asyncio.AbstractEventLoop | None = None
    _tidying: asyncio.TimerHandle | None = None

    def __attrs_post_init__(self) -> None:
        clock, random = self.clocks.now, self.clocks.random
        self.journal = Journal(self.store)
        self.knowledge = Knowledge(self.store)
        self.images = Images(self.store, self.engine)
        self.register = Register(self.key.public, self.store, self.knowledge, clock)
        self.workers = Workers(self.threads)
        self.customs = Customs(
            self.key,
            self.policy,
            self.store,
            self.images,
            self.knowledge,
            clock,
            self.load,
            lambda hid: self.departures.leaving(hid),
        )
        desk: Desk[Admitted] = Desk(
            self.key.public.raw,
            self.store.epoch,
            Ledger(self.store.record, self.store.copies),
            self.customs.source(),
            self.customs.destination(),
            self.timing,
        )
        self.courier = Courier(desk, self.journal, self.network, self._notify, self.failpoint)
        self.departures = Departures(
            self.key,
            self.courier,
            self.peers,
            self.knowledge,
            self.images,
            clock,
            random,
            self.store.epoch,
            self.network.find,
            self.deltas,
            self.patience,
        )
        self.endings = Endings(self.key, self.knowledge, self.register, clock)
        self.recovery = Recovery(
            self.key.public, self.policy, self.store, self.images, self.knowledge, lambda: self.ground
        )
        self.letters = Correspondence(self)
        self.mailbox = Mailbox(self.journal, self.network.letter, clock, self.letters.not_taken)
        self.ground = Ground(
            name=self.name,
            key=self.key,
            engine=self.engine,
            wall=self.clocks.wall,
            monotonic=self.clocks.monotonic,
            random=random,
            lookup=self._lookup,
            label=lambda stop: self.peers.label(stop.station),
            told=self._berth_told,
        )

    # Its life

    def start(self) -> None:
        """Take up what the store says, and begin."""
        self._loop = asyncio.get_running_loop()
        self.peers.restore(self.store.fact("peers") or b"")
        recovered = self.courier.recover()
        for capsule in recovered.residents:
            self._resume_resident(capsule)
        for record in recovered.held:
            self.tell("alarm", record.agent, text="held: the station was stopped before the source had said commit")
        self.mailbox.start()
        self._tidy()

    def note_peers(self) -> None:
        """Remember where stations are."""
        self.write([PutFact("peers", self.peers.encode())])

    def _tidy(self) -> None:
        """Forget what is over and expired, now and then."""
        self.write([Purge(IDLE_BYTES)])
        self._tidying = asyncio.get_running_loop().call_later(TIDY, self._tidy)

    async def close(self) -> None:
        """Suspend every agent, write all down, and stop. The next start goes on from there."""
        self.closing = True
        for timer in (self._tidying, *self._timers.values()):
            if timer is not None:
                timer.cancel()
        self.workers.interrupt_all()
        await self.workers.close()
        await asyncio.sleep(0)  # what the workers' last turns tell
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for berth in tuple(self.berths.values()):
            self._put_away(berth)
        self.note_peers()
        await self.mailbox.close()
        await self.courier.close()
        self.events.close()

    def _put_away(self, berth: Berth) -> None:
        """At the end: store the state of an agent that still has an instance."""
        if berth.life is None or berth.running or berth.standing is Standing.LEAVING:
            return
        try:
            state = berth.life.snapshot().encode()
            self.journal.write([resting.checkpoint(berth, state)], False)
        except PortcallError as error:
            _log.error("an agent could not be put away: %s", error, extra={"agent": text_of(berth.agent)})
        berth.close()

    def load(self) -> Load:
        """What the station holds now. From any thread."""
        memory = sum(berth.memory for berth in tuple(self.berths.values()) if berth.life is not None)
        return Load(len(self.berths), self.workers.busy, memory, self._owners)

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("something failed", exc_info=task.exception())

    def tell(self, kind: Any, agent: bytes = b"", place: str = "", text: str = "", label: str = "") -> None:
        berth = self.berths.get(agent) or self._past.get(agent)
        name = text_of(agent) if agent else ""
        shown = label or (berth.label if berth is not None else "")
        self.counts[kind] += 1
        self.events.tell(Told(self.clocks.now(), kind, name, shown, place, text))
        level = logging.WARNING if kind in ("alarm", "stopped") else logging.DEBUG if kind == "log" else logging.INFO
        extra = {"station": self.name, "agent": name, "label": shown, "place": place, "event": kind}
        _log.log(level, "%s %s %s %s", kind, shown or name[:12], place, text, extra=extra)

    # Agents begin

    async def launch(self, launch: Launch) -> Berth:
        """Begin an agent whose home is here; returns when it is durable. Raises `StationError`, `CredentialError`."""
        passport = verify_passport(launch.passport)
        opening = envelope.verify(Opening, launch.opening, passport.body.owner).body
        now = self.clocks.now()
        if (opening.agent, opening.passport) != (passport.body.agent, passport.digest):
            raise CredentialError("results-chain", "the opening of the results belongs to another agent")
        carried = canonical.digest(launch.image), canonical.digest(launch.state)
        if carried != (passport.body.image, passport.body.state):
            raise CredentialError("image-digest", "image or state are not those that the passport names")
        if now > passport.body.expires:
            raise CredentialError("expired", "the agent's passport has expired")
        granted = grant(passport.body, Budget(), self.policy)
        refusal = shed(self.policy, self.load())
        for each in (granted, refusal):
            if isinstance(each, Refusal):
                raise CredentialError(each.code, each.reason)
        assert isinstance(granted, Permit)
        agent = passport.body.agent
        if agent in self.berths or self.register.get(agent) is not None:
            raise StationError("this agent was launched already")
        found = self.images.get(passport.body.image)
        if found is None:
            image = await asyncio.get_running_loop().run_in_executor(None, self.images.validate, launch.image)
        else:
            image = found[0]
        snapshot = Snapshot.decode(launch.state)
        snapshot.check(image)
        own = papers.launched(passport, launch.opening, self.key.public, self.clocks.now())
        berth = Berth(self.ground, own, granted, image, part("image", launch.image), snapshot)
        first = resting.checkpoint(berth, launch.state)
        parts = tuple(StoredPart(s.part, launch.image) if s.part.kind == "image" else s for s in first.parts)
        await self.journal.write(
            [
                self.knowledge.learn(own.known, own.entries, passport.body.expires),
                evolve(first, parts=parts),
                self.register.opened(own.agent, passport, self.key.public),
            ],
            True,
        )
        self._settle(berth)
        self.tell("launched", berth.agent)
        self.go_on(berth, None)
        return berth

    def _settle(self, berth: Berth) -> None:
        self.berths[berth.agent] = berth
        self._past.pop(berth.agent, None)
        self._owners[berth.papers.passport.body.owner] += 1

    def _unsettle(self, berth: Berth, standing: Standing) -> None:
        """The agent is not here any more."""
        berth.close()
        berth.standing = standing
        berth.state, berth.saved = None, None
        if self.berths.pop(berth.agent, None) is not None:
            self._owners[berth.papers.passport.body.owner] -= 1
        timer = self._timers.pop(berth.agent, None)
        if timer is not None:
            timer.cancel()
        self._past[berth.agent] = berth
        while len(self._past) > REMEMBERED:
            del self._past[next(iter(self._past))]

    # Agents come: what the courier tells

    def _notify(self, notice: Any) -> None:
        try:
            self._hear_courier(notice)
        except Exception:
            # The ledger has decided, and the store has the agent: a restart takes it up.
            _log.exception("a notice of the courier could not be followed")
            self.tell("alarm", text=f"{type(notice).__name__.lower()}: not followed; see the station's log")

    def _hear_courier(self, notice: Any) -> None:
        match notice:
            case Start(record, cargo, admission):
                self._arrive(record, cargo, admission)
            case Left(record):
                # Not before the commit is on its way: the agent waits for it, and nobody for this.
                loop, changes = asyncio.get_running_loop(), self.departures.left(record)
                loop.call_soon(loop.call_soon, self._gone, record, changes)
            case Resume(record, refused):
                if self.departures.leaving(record.hid) is None:
                    self._stays(record, refused)
            case Alarm(hid, code, reason):
                if code == "in-doubt":
                    self.in_doubt[hid] = reason
                self.tell("alarm", text=f"{code}: {reason}")
            case Drop(record):
                self.in_doubt.pop(record.hid, None)
            case Release():
                pass

    def _arrive(self, record: Record, cargo: Cargo | None, admitted: Admitted | None) -> None:
        self.in_doubt.pop(record.hid, None)
        if cargo is None or admitted is None:
            capsule = self.store.capsule(record.agent, record.hop + 1)
            if capsule is not None:
                self._resume_resident(capsule, record)
            return
        verified = admitted.verified
        own = papers.arrived(
            verified.passport,
            verified.capsule,
            verified.followed,
            verified.results,
            (record.receipt, record.commit),
            self.knowledge,
        )
        parts = {each.kind: each for each in cargo.offer.parts}
        berth = Berth(self.ground, own, admitted.admission.grant, admitted.image, parts["image"], admitted.snapshot)
        berth.inbox.extend(admitted.inbox)
        self.deltas.passed(record.agent, record.peer, parts["state"].digest, cargo.body("state") or b"")
        self._come(berth, parts["state"], PublicKey(record.peer))
        self._begin(berth, admitted.snapshot, arrived=True)

    def _come(self, berth: Berth, state: Part, source: PublicKey) -> None:
        """An agent is this station's now: remember its trail, and tell its home."""
        berth.saved = resting.Saved(state, resting.note_of(berth), 0)
        own = berth.papers
        self._settle(berth)
        self.tell("arrived", berth.agent, place=self.peers.label(source))
        # The agent runs meanwhile.
        asyncio.get_running_loop().call_soon(self._remember, own, berth)

    def _remember(self, own: papers.Papers, berth: Berth) -> None:
        learnt = self.knowledge.learn(own.known, [*own.links, *own.entries], own.passport.body.expires)
        self.write([learnt])
        if berth.standing is not Standing.ENDED:
            self._tell_home(berth, TRAVELLING)

    def _begin(self, berth: Berth, snapshot: Snapshot, arrived: bool) -> None:
        """Go on from a snapshot: with its arrival, or with what it waited for."""
        wait = None if snapshot.pending is None else snapshot.pending.wait
        if wait is None:
            self.go_on(berth, None)
        elif isinstance(wait, (Go, GoAt)):
            self.go_on(berth, Arrived() if arrived else Refused(EINTR, "the station was restarted"))
        else:
            self._await(berth, wait)

    # Agents go on after a restart

    def _resume_resident(self, capsule: Capsule, record: Record | None = None) -> None:
        """Take up an agent that the store says is here. One that cannot be taken up is shown, and kept."""
        try:
            berth, note = self.recovery.restore(capsule, record)
        except (PortcallError, KeyError) as error:
            _log.error("an agent cannot be taken up: %s", error, extra={"agent": text_of(capsule.agent)})
            self.tell("alarm", capsule.agent, text=f"an agent here cannot be taken up: {error}")
            return
        if note is None:
            source = berth.papers.point.source
            self._come(berth, resting.part_of(capsule, "state"), source)
        else:
            self._settle(berth)
            self.tell("resumed", berth.agent)
        self._take_up(berth, note)

    def _take_up(self, berth: Berth, note: resting.Note | None) -> None:
        if note is not None and note.standing in (Standing.STOPPED, Standing.ASLEEP):
            berth.standing, berth.text = note.standing, note.text
            return
        if note is not None and note.wait == "sleep":
            berth.wait = Sleep(0)
            self._sleep_until(berth, note.until)
            return
        if note is not None and note.wait == "recv" and not berth.inbox:
            berth.wait, berth.standing = Recv(None), Standing.WAITING
            if note.until:
                self._sleep_until(berth, note.until)
            return
        snapshot = Snapshot.decode(self._state(berth))
        berth.state = snapshot
        if note is not None and isinstance(snapshot.pending and snapshot.pending.wait, Clone):
            self.go_on(berth, Cloned(note.child or None))
        else:
            self._begin(berth, snapshot, arrived=note is None)

    def _state(self, berth: Berth) -> bytes:
        """The stored state of a berth. From any thread. Raises `StationError` if the store is damaged."""
        assert isinstance(berth.saved, resting.Saved)
        state = self.store.part(berth.saved.state.digest)
        if state is None:
            raise StationError("the agent's state is not in the store")
        return state

    # Agents run

    def go_on(self, berth: Berth, event: Event | None) -> None:
        """Queue the agent for a worker."""
        if self.closing:
            return
        berth.wait, berth.until, berth.standing, berth.running = None, 0, Standing.READY, True
        timer = self._timers.pop(berth.agent, None)
        if timer is not None:
            timer.cancel()

        def work() -> Turn:
            if berth.life is None and berth.state is None:
                berth.state = self._state(berth)
            return berth.turn(event)

        self.workers.submit(Job(work, berth.interrupt, functools.partial(self._turned, berth)))

    def _turned(self, berth: Berth, turn: Turn | None, error: BaseException | None) -> None:
        """A turn has ended."""
        berth.running = False
        self._hear(berth)
        if turn is None:
            _log.error("a turn of an agent failed", exc_info=error, extra={"agent": text_of(berth.agent)})
            self._stop(berth, None, "the station failed to run the agent")
            return
        if turn.state is not None:
            berth.state = turn.state
        stop = turn.stop
        if isinstance(stop, Finished):
            self._finish(berth, FINISHED, str(stop.exit_code))
        elif isinstance(stop, Trapped):
            self._stop(berth, None, f"trapped: {stop.reason}")
        elif isinstance(stop, Exhausted):
            self._stop(berth, None, f"{stop.what}: {stop.reason}")
        elif isinstance(stop, Spent):
            self._stop(berth, turn.state, f"{stop.error.what}: {stop.error.reason}")
        elif self.closing:
            self._close_berth(berth, turn)
        elif berth.order:
            self._obey(berth, stop, turn.state)
        elif isinstance(stop, Asked):
            self.go_on(berth, None)
        else:
            self._await(berth, stop)

    def _close_berth(self, berth: Berth, turn: Turn) -> None:
        if turn.state is not None:
            if isinstance(turn.stop, (Sleep, Recv)):
                self._note_wait(berth, turn.stop)
            self.journal.write([resting.checkpoint(berth, turn.state)], False).add_done_callback(_seen)

    def _await(self, berth: Berth, wait: Wait) -> None:
        """The agent waits: see to it that the wait ends."""
        berth.standing = Standing.WAITING
        berth.wait = wait
        match wait:
            case Go(host) | GoAt(host):
                berth.standing = Standing.LEAVING
                self._start(self._depart(berth, host))
            case Sleep():
                self._note_wait(berth, wait)
                self._park(berth)
                self._sleep_until(berth, berth.until)
            case Recv():
                if berth.inbox:
                    self.go_on(berth, berth.receive())
                    return
                self._note_wait(berth, wait)
                self._park(berth)
                if berth.until:
                    self._sleep_until(berth, berth.until)
            case Call(service, request):
                self._start(self._call(berth, service, request))
            case Clone():
                self._start(self._clone(berth))
            case Input():
                self.go_on(berth, InputReady(b""))
            case Yield():
                self.go_on(berth, Woke())

    def _note_wait(self, berth: Berth, wait: Sleep | Recv) -> None:
        berth.wait, berth.standing = wait, Standing.WAITING
        ns = wait.ns if isinstance(wait, Sleep) else wait.timeout_ns
        berth.until = 0 if ns is None else min(self.clocks.now() + -(-ns // 1_000_000), 2**52)

    def _park(self, berth: Berth) -> None:
        """Write the state down, and forget it until it is needed."""
        state = berth.state
        if not isinstance(state, bytes):
            return

        def written(future: asyncio.Future[None]) -> None:
            if _seen(future) and berth.state is state and not berth.running:
                berth.state = None

        self.journal.write([resting.checkpoint(berth, state)], False).add_done_callback(written)

    def _sleep_until(self, berth: Berth, until: int) -> None:
        berth.until, berth.standing = until, Standing.WAITING
        wait = max(0.0, (until - self.clocks.now()) / 1000)
        # Longer than a day would overflow some clocks: look again then.
        self._timers[berth.agent] = asyncio.get_running_loop().call_later(min(wait, 86_400.0), self._woken, berth)

    def _woken(self, berth: Berth) -> None:
        self._timers.pop(berth.agent, None)
        if self.closing or berth.standing is not Standing.WAITING:
            return
        if self.clocks.now() < berth.until:
            self._sleep_until(berth, berth.until)
        else:
            self.go_on(berth, Woke() if isinstance(berth.wait, Sleep) else TimedOut())

    async def _call(self, berth: Berth, service: str, request: bytes) -> None:
        berth.calls += 1
        if berth.sent + berth.calls > berth.grant.budget.messages:
            self.go_on(berth, Failed(EDQUOT, "the agent has sent as many messages as it may"))
            return
        body = berth.papers.passport.body
        visitor = Visitor(text_of(berth.agent), berth.label, body.owner, berth.visit, berth.calls, self.name)
        answer = await self.pages.call(service, request, visitor, berth.grant.allows(f"service:{service}"))
        if self.closing:
            return
        said = answer.reason if isinstance(answer, Failed) else ""
        self.tell("call", berth.agent, place=service, text=said)
        self.go_on(berth, answer)

    # Agents leave

    async def _depart(self, berth: Berth, host: str) -> None:
        state = berth.state if isinstance(berth.state, bytes) else self._state(berth)
        berth.state = state
        self.tell("leaving", berth.agent, place=host)
        refused = await self.departures.depart(berth, host, state)
        if refused is None or self.closing:
            return
        if refused.code == "here":
            self.go_on(berth, Arrived())
            return
        self.tell("refused", berth.agent, place=host, text=f"{refused.code}: {refused.reason}")
        if berth.order == "retract":
            berth.order = ""
            self._go_on_after(berth)
        else:
            self.go_on(berth, Refused(errno_of(refused.code), refused.reason))

    def _go_on_after(self, berth: Berth) -> None:
        """Go on from what the agent waited for before it was to be retracted."""
        berth.state = Snapshot.decode(berth.state) if isinstance(berth.state, bytes) else berth.state
        assert isinstance(berth.state, Snapshot)
        self._begin(berth, berth.state, arrived=False)

    def _gone(self, record: Record, changes: list[Change]) -> None:
        """The agent is another station's, durably."""
        if changes:
            self.write(changes)
        berth = self.berths.get(record.agent)
        if berth is not None and berth.visit == record.hop:
            self._unsettle(berth, Standing.ENDED)
            self.tell("left", record.agent, place=self.peers.label(PublicKey(record.peer)))
            berth.inbox.clear()

    def _stays(self, record: Record, refused: Stayed) -> None:
        """After a restart: an agent that was about to leave is still here."""
        capsule = self.store.capsule(record.agent, record.hop)
        if capsule is not None and record.agent not in self.berths:
            self._resume_resident(capsule)

    # Agents end

    def _finish(self, berth: Berth, standing: str, said: str) -> None:
        """The journey is over: sign the last visit, and send all of it home."""
        changes: list[Change] = [DropCapsule(berth.agent, berth.visit)]
        try:
            changes += self.endings.changes(berth, standing, said)
        except PortcallError as error:
            _log.error("the end of a journey cannot be told: %s", error, extra={"agent": text_of(berth.agent)})
        self._unsettle(berth, Standing.ENDED)
        berth.text = said
        kind = "finished" if standing == FINISHED else "disposed"
        future = self.journal.write(changes, True)
        future.add_done_callback(functools.partial(self._finished, berth, kind, said))

    def _finished(self, berth: Berth, kind: Any, said: str, future: asyncio.Future[None]) -> None:
        if _seen(future):
            self.tell(kind, berth.agent, text=said)
            if berth.papers.passport.body.home.station == self.key.public:
                self.tell("home", berth.agent, place=self.name, text=said)
            self.mailbox.nudge()

    def _stop(self, berth: Berth, state: bytes | None, why: str) -> None:
        """The agent cannot go on: its last state is kept, for whoever wants to know why."""
        berth.close()
        berth.standing, berth.text, berth.wait, berth.until = Standing.STOPPED, why, None, 0
        if state is None and isinstance(berth.saved, resting.Saved):
            note = evolve(berth.saved.note, standing=Standing.STOPPED, text=why[:900], cpu=berth.cpu)
            berth.saved = evolve(berth.saved, note=note)
            change: Change = resting.with_mail(berth)
        else:
            assert state is not None
            change = resting.checkpoint(berth, state)
        berth.state = None
        self.journal.write([change], False).add_done_callback(_seen)
        self.tell("stopped", berth.agent, text=why)
        self._tell_home(berth, STOPPED, why)

    def _tell_home(self, berth: Berth, standing: str, said: str = "") -> None:
        own = berth.papers
        word = self.register.word(own.agent, own.passport.digest, own.visit, standing, said)
        home = own.passport.body.home.station
        if home != self.key.public:
            self.peers.hint(home, own.passport.body.home.addresses)
            self.mailbox.say(home, own.agent, word)
        else:
            change = self.register.told(self.key.public, word)
            if change is not None:
                self.journal.write([change], False).add_done_callback(_seen)

    # What agents say while they run

    def _berth_told(self, berth: Berth) -> None:
        """In a worker: the agent has logged or sent something."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hear, berth)

    def _hear(self, berth: Berth) -> None:
        for line in berth.listen():
            self.tell("log", berth.agent, place=self.name, text=line.text, label=berth.label)
        while berth.outgoing:
            to, body, number = berth.outgoing.popleft()
            self.letters.send(berth, to, body, number)

    def _lookup(self, service: str) -> tuple[str, ...]:
        """In a worker: stations that offer a service."""
        here = [self.name] if service in self.pages.names else []
        return tuple(here + [peer.name for peer in self.peers.offering(service)])[:64]

    # Clones

    async def _clone(self, berth: Berth) -> None:
        """The agent asked to be two."""
        state = berth.state if isinstance(berth.state, bytes) else self._state(berth)
        try:
            child = await self._make_clone(berth, state)
        except CredentialError as error:
            self.go_on(berth, Refused(EPERM, error.reason))
            return
        if child is None or self.closing:
            return
        self.go_on(berth, Cloned(text_of(child.agent)))
        self.go_on(child, Cloned(None))

    async def _make_clone(self, berth: Berth, state: bytes) -> Berth | None:
        """A second agent of this one, durable, not yet running. Raises `CredentialError`."""
        own, body = berth.papers, berth.papers.passport.body
        if not berth.grant.allows("host:clone"):
            raise CredentialError("capability", "the agent's permit here does not cover host:clone")
        serial = berth.cloned
        if serial >= body.clones.each or own.point.generation >= body.clones.generations:
            raise CredentialError("clones", "the passport allows no further clone")
        refusal = shed(self.policy, self.load())
        if refusal is not None:
            raise CredentialError(refusal.code, refusal.reason)
        reported = (berth.head, berth.reports)
        own_child = papers.cloned(own, serial, state, reported, self.clocks.now(), self.key)
        child = Berth(self.ground, own_child, berth.grant, berth.image, berth.image_part, state)
        berth.cloned = serial + 1
        changes: list[Change] = [
            self.knowledge.learn(child.papers.known, [*child.papers.links[-1:], *berth.reports], body.expires),
            resting.checkpoint(child, state, Cloned(None)),
            resting.checkpoint(berth, state, Cloned(text_of(child.agent))),
        ]
        if body.home.station == self.key.public:
            changes.append(self.register.opened(child.agent, own.passport, self.key.public))
        await self.journal.write(changes, True)
        self._settle(child)
        self.tell("cloned", berth.agent, text=text_of(child.agent))
        self._tell_home(child, TRAVELLING)
        return child

    # What people ask for

    def find_agent(self, text: str) -> bytes:
        """The agent that an id, the beginning of one, or a label means. Raises `UnknownAgent`."""
        whole = _exact(text)
        if whole is not None and (self.berth_of(whole) is not None or self.register.get(whole) is not None):
            return whole  # without a look at the thousands that a station may know
        known = {agent: berth.label for agent, berth in self._past.items()}
        known |= {journey.agent: journey.label for journey in self.register.all()}
        known |= {agent: berth.label for agent, berth in self.berths.items()}
        named = [agent for agent, label in known.items() if text == label]
        found = named or [agent for agent in known if len(text) >= 4 and text_of(agent).startswith(text)]
        if len(found) == 1:
            return found[0]
        if found:
            here = [agent for agent in found if agent in self.berths]
            if len(here) == 1:
                return here[0]
            raise UnknownAgent(f"{len(found)} agents are called {text[:80]!r}: name the one you mean by its id")
        raise UnknownAgent(f"no agent {text[:80]!r} is known at {self.name}")

    def berth_of(self, agent: bytes) -> Berth | None:
        """The berth of an agent that is here, or was a moment ago."""
        return self.berths.get(agent) or self._past.get(agent)

    def rows(self) -> list[dict[str, Any]]:
        """The agents that are here, and those that were launched here; the ones here first."""
        rows = []
        for berth in self.berths.values():
            rows.append(self._row(berth))
        for journey in self.register.all():
            if journey.agent not in self.berths:
                place = self.peers.label(journey.place)
                rows.append(
                    {
                        "agent": text_of(journey.agent),
                        "label": journey.label,
                        "station": place,
                        "standing": journey.standing,
                        "hop": journey.hop,
                        "since": journey.changed,
                        "text": journey.text,
                        "here": False,
                    }
                )
        return rows

    def _row(self, berth: Berth) -> dict[str, Any]:
        text = berth.text
        if berth.standing is Standing.WAITING and berth.wait is not None:
            text = type(berth.wait).__name__.lower()
        elif berth.standing is Standing.LEAVING:
            text = f"to {berth.to}"
        return {
            "agent": text_of(berth.agent),
            "label": berth.label,
            "station": self.name,
            "standing": berth.standing.value,
            "hop": berth.visit,
            "since": berth.papers.since,
            "text": text,
            "here": True,
        }

    def capsule_of(self, agent: bytes) -> CapsuleFile:
        """Trail and results of an agent, as far as this station verified them. Raises `UnknownAgent`."""
        found = self.register.capsule(agent)
        if found is not None:
            return found
        berth = self.berths.get(agent)
        if berth is not None:
            known, passport = berth.papers.known, berth.papers.passport
        else:
            data = self.store.last_point(agent)
            if data is None:
                raise UnknownAgent(f"nothing is known here of {text_of(agent)}")
            known = Known.decode(data)
            record = self.store.part(known.point.passport)
            if record is None:
                raise UnknownAgent("the agent's passport is not kept here")
            passport = verify_passport(record)
        return papers.so_far(passport, known, self.knowledge)

    def order(self, agent: bytes, what: str) -> str:
        """Have an agent retracted, disposed of, put to sleep, woken or cloned; what became of the order."""
        berth = self.berths.get(agent)
        if berth is not None:
            self.obey(berth, what)
            return "obeyed"
        journey = self.register.get(agent)
        if journey is None:
            raise UnknownAgent("this agent is not here, and was not launched here")
        if journey.standing in (FINISHED, DISPOSED):
            raise StationError(f"the agent's journey is over: {journey.standing}")
        to = self.letters.where(agent) or journey.place
        now = self.clocks.now()
        content = [sign_order(agent, what, now, self.key), 0]
        self.write([Mailbox.posted(to, "order", identify("order", agent, what, now), content, now + FRESH)])
        self.mailbox.nudge()
        return "sent"

    def obey(self, berth: Berth, what: str) -> None:
        """Do what was ordered: now, or when the agent's turn or call has ended."""
        if what == "wake":
            self._wake_up(berth)
            return
        if berth.standing is Standing.LEAVING:
            raise StationError("the agent is leaving: try again")
        berth.order = what
        if berth.running:
            berth.interrupt()
        elif not isinstance(berth.wait, (Call, Clone)):
            self._obey(berth, berth.wait, berth.state if isinstance(berth.state, bytes) else None)

    def _wake_up(self, berth: Berth) -> None:
        if berth.standing is Standing.STOPPED:
            raise StationError(f"the agent cannot go on: {berth.text}")
        if berth.standing is not Standing.ASLEEP:
            berth.order = "" if berth.order == "sleep" else berth.order
            if isinstance(berth.wait, Sleep):
                self.go_on(berth, Woke())
            return
        self._resume_asleep(berth)

    def _resume_asleep(self, berth: Berth) -> None:
        state = berth.state if berth.state is not None else self._state(berth)
        snapshot = state if isinstance(state, Snapshot) else Snapshot.decode(state)
        berth.state = snapshot
        self._carry_on(berth, None if snapshot.pending is None else snapshot.pending.wait)

    def _obey(self, berth: Berth, stop: Any, state: bytes | None) -> None:
        """The agent stands still: carry out the order."""
        what, berth.order = berth.order, ""
        if what == "retract" and isinstance(stop, (Go, GoAt)):
            # At home it would believe to be where it wanted to go: it hears first that it cannot.
            self.go_on(berth, Refused(EINTR, "the agent is called home"))
            berth.order = what
            berth.interrupt()
            return
        timer = self._timers.pop(berth.agent, None)
        if timer is not None:
            timer.cancel()
        if berth.life is not None and state is None:
            state = berth.life.snapshot().encode()
            berth.close()
            berth.state = state
        if what == "dispose":
            self._finish(berth, DISPOSED, "disposed of by order")
        elif what == "sleep":
            berth.standing, berth.wait, berth.until = Standing.ASLEEP, None, 0
            if state is not None:
                self._park(berth)
            self.tell("waiting", berth.agent, text="put to sleep")
        elif what == "retract" and berth.papers.passport.body.home.station != self.key.public:
            if berth.standing is Standing.STOPPED and berth.state is None:
                berth.state = self._state(berth)
            berth.order, berth.standing = "retract", Standing.LEAVING
            self._start(self._depart(berth, "home"))
        elif what == "clone":
            self._start(self._clone_by_order(berth, stop))
        else:
            self._carry_on(berth, stop)

    def _carry_on(self, berth: Berth, stop: Any) -> None:
        """As if no order had come."""
        if berth.standing is Standing.STOPPED:
            return
        if stop is None or isinstance(stop, Asked):
            self.go_on(berth, None)
        else:
            self._await(berth, stop)

    async def _clone_by_order(self, berth: Berth, stop: Any) -> None:
        state = berth.state if isinstance(berth.state, bytes) else self._state(berth)
        try:
            child = await self._make_clone(berth, state)
            if child is not None:
                self._begin(child, Snapshot.decode(state), arrived=False)
        except CredentialError as error:
            self.tell("refused", berth.agent, text=f"clone: {error.reason}")
        self._carry_on(berth, stop)

    def write(self, changes: list[Change]) -> None:
        """Write, some time soon."""
        self.journal.write(changes, False).add_done_callback(_seen)


def _exact(text: str) -> bytes | None:
    """The agent id that `text` is in full, or None."""
    with contextlib.suppress(CredentialError):
        ident = bytes_of(text)
        return ident if len(ident) == canonical.DIGEST_SIZE else None
    return None


def _seen(future: asyncio.Future[None]) -> bool:
    """Whether a write went well; an error was logged by the journal's user and is not raised again."""
    if future.cancelled():
        return False
    error = future.exception()
    if error is not None:
        _log.error("a write to the store failed: %s", error)
    return error is None
