"""A station without a network: creates its parts, connects them, and starts and closes them in the right order.

No HTTP, no mDNS, no files: `docking.station` adds those. Each part has a module of its own and gets only what it may
touch; only the station that embeds the core holds a reference to it. All parts run in one event loop; agents run in
workers.

Invariants: an agent runs only if the ledger says that it belongs to this station; after the store has failed, nothing
runs, calls, sends or leaves; closing suspends every agent and stores it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from attrs import define, field, frozen

from agents.brief import brief
from agents.canonical import Buffer
from agents.credentials.itinerary import Leaf
from agents.credentials.keys import PublicKey, SecretKey
from agents.engines import Engine
from agents.wasi.hostdirs import HostGrant
from docking.aio.clocks import Clocks
from docking.aio.threads import in_thread
from docking.aio.timeouts import ended
from docking.courier import Carrier, Courier
from docking.events import Events
from docking.handoff.actions import Record, Timing
from docking.handoff.messages import Offer, Side
from docking.handoff.states import Destination, Source
from docking.handoff.table import HandoffTable, Ledger
from docking.letters.journeys import Journeys
from docking.letters.outbox import Outbox
from docking.live.block_fetcher import BlockFetcher
from docking.live.block_server import BlockServer
from docking.live.sessions import Sessions, blocks_folder
from docking.live.wire import Answer, Request, read_answer, write_request
from docking.peers.directory import PeerDirectory
from docking.recordings.archive import Archive
from docking.recordings.record import StayRecord
from docking.recordings.requests import RecordingRequests
from docking.recordings.stays import StayRecording
from docking.residents.ahead import Ahead
from docking.residents.amending import Amending
from docking.residents.arrivals import Arrivals
from docking.residents.berth import Berth, HostEnvironment
from docking.residents.budgets import BudgetWatch
from docking.residents.commands import Commands
from docking.residents.deltas import REMEMBERED_BYTES, Deltas
from docking.residents.departures import Departures
from docking.residents.endings import Endings
from docking.residents.ferry import Ferry
from docking.residents.inbound import Inbound
from docking.residents.launches import Launches
from docking.residents.leases import Leases
from docking.residents.lifecycle import Lifecycle
from docking.residents.lives import Lives
from docking.residents.meeting import Meeting
from docking.residents.moves import Moves
from docking.residents.notices import Notices
from docking.residents.post import Post
from docking.residents.queries import Queries
from docking.residents.queued import Queued
from docking.residents.recovery import Recovery
from docking.residents.residents import Residents
from docking.residents.review import Review
from docking.residents.revoking import Revoking
from docking.residents.saves import Saves
from docking.residents.services import Services
from docking.residents.serving import Serving
from docking.residents.talking import Talking
from docking.residents.topics import Topics
from docking.residents.upgrades import Upgrades
from docking.residents.upkeep import Upkeep
from docking.residents.witnesses import Witnesses
from docking.residents.workers import Workers
from docking.store.changes import PutFact
from docking.store.group_commit import GroupCommit
from docking.store.store import Failpoint, Store, never
from docking.tracing import Tracing
from docking.trust import agent_credentials
from docking.trust.admission_controller import AdmissionController, Admitted
from docking.trust.certificates import Certificates
from docking.trust.images import Images
from docking.trust.in_force import PolicyInForce
from docking.trust.verified_trails import VerifiedTrails

DELTAS_SHARE = 8
"""Remembered states take up at most one part in this many of the memory that agents may hold."""
MAX_SERVICE_STATIONS = 64
"""The most stations in the answer to an agent that looks up a service."""


class PeerNetwork(Carrier, Protocol):
    """What the core needs from the network; see `docking.peers.introductions.Introductions`."""

    async def letter(self, peer: PublicKey, value: object) -> object:
        """Deliver a letter; returns the answer. Raises `CarrierError`."""

    async def session(self, peer: PublicKey, request: Sequence[Buffer]) -> object:
        """Deliver a request of a live move; returns the answer. Raises `CarrierError`."""

    async def serve(self, peer: PublicKey, value: object) -> object:
        """Pass on the request of an agent's client, or the answer to one. Raises `CarrierError`."""

    async def recordings(self, peer: PublicKey, value: object) -> object:
        """Ask for recordings, in the name of an owner; returns the answer. Raises `CarrierError`."""

    async def answers(self, peer: PublicKey) -> bool:
        """Whether a station answers a greeting now."""

    async def find(self, text: str, stops: Sequence[Leaf] = (), wait: float = 0.0) -> PublicKey:
        """The station that a name stands for. Raises `UnknownStation`, `KeyChanged`."""


@frozen
class CoreOptions:
    """The settings of a core.

    threads: agents that run at once
    timing: of handoffs
    certificates: this station's certificates
    directories: of this machine, lent to agents by name; the creator of the core opens and closes them
    failed: called once, when the store has failed
    failpoint: for tests of crashes
    ahead_bytes: agents with as much memory are sent ahead to their one next stop; None for none
    recordings: the folder for what is kept of agents that pass, where the policy has something kept
    """

    threads: int = 2
    timing: Timing = field(factory=Timing)
    certificates: Certificates = field(factory=Certificates)
    directories: Mapping[str, HostGrant] = field(factory=dict, repr=brief)
    failed: Callable[[], None] = lambda: None
    failpoint: Failpoint = never
    ahead_bytes: int | None = None
    recordings: Path | None = None


@define(eq=False, repr=False)
class StationCore:
    """The parts of a station, which hands each to those that need it: the HTTP side, the control channel, handles."""

    here: Residents
    policy: PolicyInForce
    services: Services
    images: Images
    trails: VerifiedTrails
    deltas: Deltas
    admissions: AdmissionController
    sessions: Sessions
    moves: Moves
    ahead: Ahead
    fetcher: BlockFetcher
    courier: Courier[Admitted]
    departures: Departures
    lifecycle: Lifecycle
    arrivals: Arrivals
    queries: Queries
    commands: Commands
    upgrades: Upgrades
    inbound: Inbound
    post: Post
    talking: Talking
    topics: Topics
    meeting: Meeting
    amending: Amending
    budgets: BudgetWatch
    revoking: Revoking
    leases: Leases
    serving: Serving
    witnesses: Witnesses
    launches: Launches
    notices: Notices
    upkeep: Upkeep
    review: Review
    lives: Lives
    archive: Archive | None
    recordings: RecordingRequests
    tracing: Tracing
    _failed: Callable[[], None]

    @classmethod
    def wire(
        cls,
        name: str,
        key: SecretKey,
        policy: PolicyInForce,
        store: Store,
        engine: Engine,
        network: PeerNetwork,
        peers: PeerDirectory,
        clocks: Clocks,
        options: CoreOptions | None = None,
    ) -> StationCore:
        """Make all parts of the station called `name`. Each gets only what it may touch.

        Some call back into parts that are made later: the journal (`store_failed`), the outbox (`not_taken`), the
        admissions (`departures`) and the courier (`notices`). They do so only once the station has started.
        """
        opts = options or CoreOptions()
        clock, random = clocks.now, clocks.random
        core: StationCore
        journal = GroupCommit(store, lambda reason: core.store_failed(reason))
        trails = VerifiedTrails(store)
        images = Images(store, engine)
        journeys = Journeys(key.public, store, trails, clock)
        workers = Workers(opts.threads)

        async def deliver(peer: PublicKey, value: object) -> object:
            """Deliver a letter; one to this station itself, for an agent that is busy here, skips the network."""
            if peer == key.public:
                return await core.inbound.receive(peer, value)
            return await network.letter(peer, value)

        outbox = Outbox(key.public, journal, deliver, clock, lambda *said: core.inbound.not_taken(*said))
        outbox.taken = lambda letter: core.inbound.taken(letter)
        here = Residents(name, key, store, journal, peers, clocks, Events(), workers, journeys, outbox)
        here.memory = lambda: policy.now.memory
        services = Services()

        def offering(service: str) -> tuple[str, ...]:
            """The stations that offer a service. Runs in a worker."""
            own = [name] if service in services.names else []
            return tuple(own + [peer.name for peer in peers.offering(service)])[:MAX_SERVICE_STATIONS]

        archive = None if opts.recordings is None else Archive(opts.recordings, lambda: policy.now.recordings, clock)
        engine_said = f"{engine.name} {engine.version}"

        def record(berth: Berth) -> StayRecording | None:
            """What records the stay of an agent, if the policy has any kept."""
            if archive is None or not archive.on:
                return None
            own, granted = berth.credentials, berth.grant
            facts = StayRecord(
                *(own.agent, own.visit, own.passport.envelope, key.public.raw, name, clock(), b""),
                memory=granted.budget.memory,
                wasi=environment.wasi,
                engine=engine_said,
                directories=tuple(each for each in environment.directories if granted.allows(f"dir:{each}")),
            )
            return StayRecording(archive, facts, clock, berth)

        environment = HostEnvironment(
            name=name,
            key=key,
            engine=engine,
            wall=clocks.wall,
            monotonic=clocks.monotonic,
            random=random,
            lookup=offering,
            label=lambda stop: peers.label(stop.station),
            told=here.told,
            send=lambda *message: core.talking.send(*message),
            reply=lambda *answer: core.serving.reply(*answer),
            reply_to_agent=lambda *answer: core.talking.reply(*answer),
            publish=lambda *message: core.topics.publish(*message),
            offer=lambda *said: core.meeting.offer(*said),
            check_here=lambda to: core.meeting.check_here(to),
            crowded=here.crowded,
            untold=lambda own: agent_credentials.untold(own, trails),
            wasi=policy.now.wasi,
            directories=opts.directories,
            record=record,
            tracing=Tracing(name),
        )
        environment.tracing.begin()
        owed_folder = None if store.path is None else store.path.with_name(store.path.name + ".owed")

        def fetched(agent: bytes, size: int) -> None:
            """The station to which an agent went has all of its blocks."""
            here.tell("moving", agent, text=f"all of its memory is there; {size >> 10} KiB were fetched from here")

        served = BlockServer(owed_folder, clock, fetched)
        folder = blocks_folder(store.path)
        sessions = Sessions(engine, folder, random, store.has_part, served, opts.failpoint)
        here.whole, here.prepared_bytes = sessions.whole, lambda: sessions.held_bytes + served.held_bytes

        async def ask(peer: PublicKey, request: Request) -> Answer:
            return read_answer(await network.session(peer, write_request(request)))

        fetcher = BlockFetcher(folder, ask, here.run, workers.lend, functools.partial(here.tell, "moving"))
        sessions.may_fetch = fetcher.may
        admissions = AdmissionController(
            key,
            policy,
            store,
            images,
            trails,
            clock,
            here.load,
            lambda hid: core.departures.leaving(hid),
            sessions,
            opts.certificates,
        )
        sessions.admissions = admissions

        def keep_image(offer: Offer) -> None:
            """Store an image that came before its agent."""
            if image := admissions.image_of(offer):
                here.write([image])

        sessions.keep_image = keep_image

        def undecided(hid: bytes) -> bool:
            """Whether the agent of this handoff is held here."""
            record = store.record(hid, Side.DESTINATION)
            return record is not None and record.state is Destination.HELD

        sessions.undecided = undecided
        table: HandoffTable[Admitted] = HandoffTable(
            key.public.raw,
            store.epoch,
            Ledger(store.record, store.copies),
            admissions.source(),
            admissions.destination(),
            opts.timing,
        )
        courier = Courier(
            table, journal, network, lambda notice: core.notices.follow(notice), opts.failpoint, compiling=images.aside
        )
        deltas = Deltas(min(REMEMBERED_BYTES, policy.now.memory // DELTAS_SHARE))
        departures = Departures(
            key,
            courier,
            peers,
            trails,
            images,
            clock,
            random,
            store.epoch,
            network.find,
            deltas,
            opts.timing.patience_s,
        )
        departures.tracing, courier.phase = environment.tracing, departures.phase
        endings = Endings(key, trails, journeys, clock)
        recovery = Recovery(key.public, policy, store, images, trails, environment, opts.certificates)
        lifecycle = Lifecycle(here, environment, policy, services, departures, endings, trails)
        lifecycle.queued = Queued(
            here, departures, network.answers, lifecycle.depart_again, lifecycle.park, lifecycle.go_on
        )
        arrivals = Arrivals(here, lifecycle, recovery, environment, trails, opts.certificates, deltas, fetcher)
        lifecycle.resume = arrivals.resume
        review = Review(here, policy, lifecycle, arrivals)
        queries = Queries(here, journeys, peers, store, trails, arrivals.kept)
        commands = Commands(here, lifecycle, queries)
        arrivals.slept = commands.wake_at
        upgrades = Upgrades(
            here,
            policy,
            images,
            trails,
            lifecycle,
            queries,
            commands,
            lambda capsule, going: arrivals.resume(capsule, going=going),
        )
        commands.upgrading = upgrades.stands_still
        witnesses = Witnesses(here, commands, network.letter)
        lives = Lives(here, policy, network.letter, review.apply)
        post = Post(here, journal, outbox, peers, lifecycle, queries, departures.heading)
        talking = Talking(here, journal, outbox, peers, queries, post, lifecycle.go_on)
        lifecycle.asking = talking.ask
        topics = Topics(here, journal, outbox, post, talking)
        meeting = Meeting(here, outbox, post, lifecycle.go_on)
        lifecycle.finding = meeting.find
        amending = Amending(here, queries, review)
        amending.go_on = lifecycle.regain = arrivals.try_again
        inbound = Inbound(
            here,
            journal,
            journeys,
            outbox,
            peers,
            commands,
            queries,
            endings,
            witnesses,
            post,
            talking,
            topics,
            meeting,
            amending,
            upgrades,
        )
        inbound.of_lives = lives.answer
        revoking = inbound.revoking = Revoking(here, policy, review.apply)
        departures.revoked = lambda key: key.raw in policy.now.revoked
        serving = Serving(here, lifecycle, queries, Ferry(network.serve), Saves(here, lifecycle))
        queries.asked = serving.asked
        lifecycle.ordered, lifecycle.accepting, lifecycle.over = commands.carry_out, serving.accepts, serving.ended
        moves = Moves(here, lifecycle, departures, network.session, served, serving.asked)
        budgets = BudgetWatch(here)
        lifecycle.budgets = budgets
        ahead = Ahead(here, moves, departures, opts.ahead_bytes)
        lifecycle.ahead, moves.sent_ahead, queries.moving = ahead.given, ahead.stop, moves.progress
        core = cls(
            here,
            policy,
            services,
            images,
            trails,
            deltas,
            admissions,
            sessions,
            moves,
            ahead,
            fetcher,
            courier,
            departures,
            lifecycle,
            arrivals,
            queries,
            commands,
            upgrades,
            inbound,
            post,
            talking,
            topics,
            meeting,
            amending,
            budgets,
            revoking,
            Leases(here, policy, commands, amending),
            serving,
            witnesses,
            Launches(here, environment, policy, images, trails, lifecycle, review.newcomer),
            Notices(here, arrivals, departures, sessions, serving),
            Upkeep(here, commands, policy),
            review,
            lives,
            archive,
            RecordingRequests(key.public, archive, clock, random),
            environment.tracing,
            opts.failed,
        )
        return core

    def start(self) -> None:
        """Restore agents and handoffs from the store, and start."""
        here = self.here
        here.loop = asyncio.get_running_loop()
        here.peers.restore(here.store.fact("peers") or b"")
        self.lives.begin()
        self.revoking.begin()
        self.sessions.restore(here.store.parts_of("blocks"), here.store.part)

        def left(hid: bytes) -> Record | None:
            """The handoff by which an agent left, if it did."""
            record = here.store.record(hid, Side.SOURCE)
            return record if record is not None and record.state in (Source.COMMITTED, Source.GONE) else None

        self.sessions.served.restore(left)
        recovered = self.courier.recover()
        for capsule in recovered.residents:
            self.arrivals.resume(capsule)
        for record in recovered.held:
            text = "held: the station was stopped before the source had said commit"
            here.tell("alarm", record.agent, text=text)
        here.outbox.start()
        self.upkeep.start()
        self.leases.start()
        self.ahead.start()

    def note_peers(self) -> None:
        """Store the addresses of the known stations."""
        self.here.write([PutFact("peers", self.here.peers.encode())])

    def store_failed(self, reason: str) -> None:
        """Stop everything: what happens from now on would be lost, so no agent may run, call, send or leave.

        A restart continues from what was written.
        """
        here = self.here
        here.failure = f"{reason}. Nothing is lost that was written: see to the disk, and start the station again"
        here.tell("alarm", text=f"this station cannot go on: {here.failure}")
        here.closing = True
        here.workers.interrupt_all()
        self.courier.fail()
        if here.loop is not None:  # otherwise it has not started
            here.run(here.outbox.close())
        here.events.close()
        self._failed()

    async def close(self) -> None:
        """Suspend every agent, write everything to the store, and stop. The next start continues from there."""
        here = self.here
        here.closing = True
        self.upkeep.close()
        self.budgets.close()
        self.leases.close()
        self.ahead.close()
        self.fetcher.close()
        here.unmapping.hurry()
        for timer in here.timers.values():
            timer.cancel()
        here.workers.interrupt_all()
        await here.workers.close()
        self.arrivals.close()
        self.sessions.close()
        self.sessions.served.close()
        await asyncio.sleep(0)  # let the results of the workers' last turns arrive
        here.catch_up()
        await ended(here.tasks)
        for berth in tuple(here.berths.values()):
            self.lifecycle.put_away(berth)
        if self.archive is not None:
            for berth in here.berths.values():
                if berth.recording is not None:
                    berth.recording.flush()
            await in_thread(self.archive.close)
        self.note_peers()
        await here.outbox.close()
        await self.courier.close()
        here.events.close()
