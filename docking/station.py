"""The composition root: the class that programs embed, and the one place where a station is put together.

    async with Station("alpha", home="alpha/", policy=Policy(owners=[...])) as station:
        agent = await station.launch(image, via=["beta", "gamma"], owner=key)

All parts of a station are made here and nowhere else; there is no global state, so a process can run any number of
stations. Invariants: a station that fails to start leaves nothing running; a station that stops has suspended its
agents, and resumes them when it starts again on the same home.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import evolve

from agents.credentials.itinerary import Itinerary
from agents.credentials.keys import PublicKey, SecretKey, text_of
from agents.credentials.passport import Home, verify_passport
from agents.credentials.revocations import sign_revocation
from agents.credentials.upgrades import images_in
from agents.credentials.ways import Way
from agents.engines import load
from agents.engines.native_stack import DEEP
from agents.image import AgentImage
from agents.wasi.hostdirs import HostGrant
from docking import home as home_folder
from docking.aio.clocks import Clocks
from docking.aio.failures import describe_error, log_failure
from docking.aio.threads import in_thread
from docking.aio.timeouts import ended, within
from docking.control.metrics import metrics
from docking.core import CoreOptions, StationCore
from docking.docks import StationDocks
from docking.errors import CarrierError, KeyChanged, StationError
from docking.events import Event, Subscription
from docking.handle import Agent, AgentAccess
from docking.handoff import codec
from docking.http.agent_requests import AgentRequests, Scope
from docking.http.app import App
from docking.http.client import Client
from docking.http.dispatch import Dispatcher, ServerLimits
from docking.http.sealing import SharedKeys
from docking.http.server import Server, listen
from docking.launching import Launch, Terms, image_of, prepare_launch
from docking.options import Identity, Network, Running, StationFields, StationOptions, Storage, Timing
from docking.peer_api import Mounted, PeerApi
from docking.peers.directory import MAX_PEER_ADDRESSES, Peer
from docking.peers.introductions import Introductions
from docking.peers.links import Link, links, own_addresses, towards
from docking.peers.mdns import Mdns, Spot
from docking.recordings.requests import Owner
from docking.replay.gathering import gather, visited
from docking.replay.journey import Journey
from docking.residents.options import MoveOptions, MoveReport, OnTimeout
from docking.residents.services import F, ServiceFunction, check_service
from docking.residents.stacks import Stacks
from docking.trust.identity import check_name
from docking.trust.in_force import PolicyInForce
from docking.trust.policy import Policy, check_policy, development

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from docking.console import Console
    from docking.console.feed import Watched
    from docking.console.roster import Asked
    from docking.control.requests import Controlled
    from docking.control.server import Control
    from docking.threaded import Threaded

_log = logging.getLogger("portcall.station")
# Seconds that a launch waits for the stations of its itinerary to appear.
PEERS_TIMEOUT_S = 5.0
# Seconds to resolve the host name in a URL.
RESOLVED = 3.0
# Seconds between two checks of this machine's links: when it moves to another network, its peers must learn of it.
LINKS = 2.0
# Seconds between two looks at what comes to docks.
LOOK = 0.02
# Peers whose addresses decide the order of our own.
WAYS = 16
# Seconds between two writes of the known stations' addresses.
NOTE_INTERVAL_S = 1.0


class Station:
    """A station: a place with a key of its own, where agents run.

        async with docking.Station("alpha", home="alpha/", policy=policy) as station:
            agent = await station.launch(image, via=["beta"], owner=key)
            report = await agent.wait(30)

    name: what it is called: 1 to 63 lower-case letters, digits, `-`, `_`, `.`
    home: the folder with its key, store and known peers; None for a station that forgets everything when it stops
    policy: whose agents it admits, and what they may use; by default nobody's
    dev: admit every owner; the log says so, and it is not for a network that others can reach

    Everything else comes in groups, a group whole (`network=Network(port=7707)`) or its fields by name (`port=7707`):

    network: `docking.Network`: host, port, url, peers, mdns, show_metrics
    identity: `docking.Identity`: key, certificates, passphrase
    storage: `docking.Storage`: volatile, control, failpoint, record_mib
    running: `docking.Running`: engine, threads, clocks
    timing: `docking.Timing`: when handoffs are repeated and given up, such as patience_s
    fields: any field of these groups, but not one of a group that is given whole

    A new station does nothing yet: `async with`, `await start()` or `in_thread()` starts it. Raises `IdentityError` for
    an invalid name, TypeError for an unknown option and for a policy that is none.
    """

    def __init__(
        self,
        name: str,
        home: str | Path | None = None,
        *,
        policy: Policy | None = None,
        dev: bool = False,
        network: Network | None = None,
        identity: Identity | None = None,
        storage: Storage | None = None,
        running: Running | None = None,
        timing: Timing | None = None,
        **fields: Unpack[StationFields],
    ) -> None:
        self.name = check_name(name)
        self.home = None if home is None else Path(home)
        self._dev = dev
        policy = check_policy(Policy() if policy is None else policy)
        groups = {"network": network, "identity": identity, "storage": storage, "running": running, "timing": timing}
        self._options = options = StationOptions.of(groups, fields)
        self._policy = PolicyInForce(self._as_started(policy))
        self._network = options.network
        self._volatile = options.storage.volatile or home is None
        self._key = options.identity.key
        self._threads = options.running.threads or max(2, min(16, os.cpu_count() or 2))
        self._clocks = options.running.clocks or Clocks(time.time_ns, time.monotonic_ns, secrets.token_bytes)
        self._core: StationCore | None = None
        self._waiting_services: list[tuple[str, ServiceFunction, float]] = []
        self.unmet: dict[str, str] = {}
        """URLs of `peers` that have not answered yet, and why."""
        self._introductions: Introductions | None = None
        self._client: Client | None = None
        self._app: App | None = None
        self._server: Server | None = None
        self._announcer: Mdns | None = None
        self._links: tuple[Link, ...] = ()
        self._mounted_at = ""
        self._control: Control | None = None
        self._docks: StationDocks | None = None
        self.reload_policy: Callable[[], Awaitable[list[str]]] | None = None
        """Reads the policy again, for `portcall policy reload`, and says what it admits then; set by who knows how."""
        self._again: asyncio.Handle | None = None
        self._noting: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._closers = contextlib.AsyncExitStack()
        self._outward: list[Callable[[], Coroutine[object, object, None]]] = []
        self._starting: asyncio.Task[None] | None = None
        self._failed = asyncio.Event()
        self._failure = ""

    def __repr__(self) -> str:
        if self._core is None:
            return f"<Station {self.name}, not running>"
        return f"<Station {self.name} at {self._network.url if self._server is None else self.url}>"

    # Start

    async def start(self) -> None:
        """Start: open the store, resume the agents that are in it, listen, announce.

        Raises `DockingError`, which says what to do; then nothing is left running.
        """
        if self._core is not None:
            raise StationError("the station is running already")
        # Of the loop in which it runs.
        self._failed, self._failure = asyncio.Event(), ""
        for sentence in (*self.policy.loosened(), *self._lost_without_home()):
            _log.warning("station %s: %s", self.name, sentence, extra={"station": self.name})
        try:
            await self._start()
        except BaseException:
            await self._closers.aclose()
            self._stopped()
            raise

    async def _start(self) -> None:
        own, options = self._own_key(), self._options
        failpoint = options.storage.failpoint
        if self._volatile and self.home is not None:
            self._closers.callback(os.close, home_folder.hold(self.home))
        store = home_folder.open_store(None if self._volatile else self.home, own.public, self._clocks, failpoint)
        self._closers.callback(store.close)
        peers = home_folder.known_peers(self.home, own, self.name, self._clocks.now)
        introductions = Introductions(peers)
        keys = SharedKeys(own)
        client = Client(keys, self._clocks.random, peers.addresses, introductions.works)
        self._closers.callback(client.close)
        introductions.wire = client
        engine = load(options.running.engine, stack=DEEP)
        introductions.runs = f"{platform.machine()}, {engine.name} {engine.version}"
        core = StationCore.wire(
            self.name,
            own,
            self._policy,
            store,
            engine,
            introductions,
            peers,
            self._clocks,
            CoreOptions(
                threads=self._threads,
                timing=options.timing,
                certificates=home_folder.own_certificates(self.home, own, options.identity.certificates),
                directories=self._lent(),
                failed=self._store_failed,
                failpoint=failpoint,
                ahead_bytes=None if options.running.ahead_mib is None else options.running.ahead_mib << 20,
                recordings=None if self.home is None else self.home / "recordings",
            ),
        )
        introductions.services = lambda: core.services.names
        introductions.addresses = self._addresses
        introductions.unreachable = core.departures.unreachable
        introductions.changed = self._peer_changed
        introductions.heard = core.lifecycle.queued.heard
        for name, function, timeout in self._waiting_services:
            core.services.offer(name, function, timeout)
        core.services.changed = self._services_changed
        limits = ServerLimits(codec=codec.MessageLimits(body_bytes=self.policy.state + self.policy.image + (1 << 20)))
        api = PeerApi(
            core.here,
            core.courier,
            core.deltas,
            core.notices,
            core.inbound,
            core.serving,
            introductions,
            core.sessions,
            core.recordings,
            core.tracing,
            lambda: self.metrics(),
        )
        docks = self._docks = StationDocks.wire(core, introductions, keys, api, limits.codec)

        def met(peer: PublicKey) -> None:
            core.witnesses.met(peer)
            core.lives.met(peer)
            core.revoking.met(peer)
            docks.met(peer)

        introductions.met = met
        dispatcher = Dispatcher(api, limits)
        clients = AgentRequests(core.serving, dispatcher)
        app = App(dispatcher, keys, self._clocks.random, self._network.show_metrics, clients)
        self._introductions, self._client, self._app = introductions, client, app
        sock = None if self._network.port is None else listen(self._network.host, self._network.port)
        if sock is not None:
            self._closers.callback(sock.close)
        self._core = core
        core.start()
        self._closers.push_async_callback(core.close)
        self._closers.callback(introductions.close)
        self._closers.push_async_callback(self._hang_up)
        if sock is not None:
            await self._serve(app, keys, sock)
        if options.storage.control and self.home is not None:
            await self._open_control(self.home)
        self._links = links()
        if self._network.mdns:
            await self._discover()
        self._run(self._follow_links())
        self._run(introductions.watch())
        for url in self._network.peers:
            self._run(self._call_on(url))
        for url in self._network.docks:
            self._run(self._call_on_dock(url))
        if self._network.docks:
            self._run(docks.docked.run())

    def controlled(self, home: Path) -> Controlled:
        """What the commands of the user who runs the station may touch. `home`: where they find the channel."""
        from docking.control.requests import Controlled

        core = self.core
        return Controlled(
            home=home,
            key=self.key,
            here=core.here,
            agents=self._access(core),
            launches=core.launches,
            services=core.services,
            images=core.images,
            courier=core.courier,
            introductions=self.introductions,
            draining=self._drain,
            loosened=lambda: self.policy.loosened(),
            unmet=self.unmet,
            url=lambda: self.url if self.port is not None else "",
            metrics=self.metrics,
            sessions=core.sessions.rows,
            home_addresses=self.home_addresses,
            reload=lambda: self.reload_policy,
            lives=core.lives,
            revoking=core.revoking,
            archive=core.archive,
        )

    async def _open_control(self, home: Path) -> None:
        from docking.control.server import Control

        self._control = await Control.start(self.controlled(home))
        self._outward.append(self._control.close)

    @staticmethod
    def _access(core: StationCore) -> AgentAccess:
        here = core.here
        return AgentAccess(
            queries=core.queries,
            commands=core.commands,
            talking=core.talking,
            events=here.events,
            peers=here.peers,
            stacks=Stacks(here),
            moves=core.moves,
            upgrades=core.upgrades,
            topics=core.topics,
            meeting=core.meeting,
            amending=core.amending,
            written=lambda: here.journal.write([], True),
            now=here.clocks.now,
        )

    def _lent(self) -> dict[str, HostGrant]:
        lent = {}
        for each in self.policy.directories:
            lent[each.name] = home_folder.lend(each)
            self._closers.callback(lent[each.name].close)
        return lent

    async def _serve(self, app: App, keys: SharedKeys, sock: socket.socket) -> None:
        self._server = await Server.start(app, app.reception, keys, self._clocks.random, sock)
        self._outward.append(self._server.close)

    async def _discover(self) -> None:
        assert self._introductions is not None
        introductions = self._introductions
        await self._look_where_mounted()
        services = self.core.services
        found = Mdns(self.name, self.key, self._spot, lambda: services.names, introductions.sighted, introductions.lost)
        self._outward.append(found.close)
        found.start(self._links)
        self._announcer = found
        self._say_unreachable()

    def _spot(self) -> Spot | None:
        """Where mDNS announces this station: where it listens, or where the application around it is mounted."""
        if self._server is not None:
            return Spot(self._server.port, "", self._server.host)
        parts = urlsplit(self._network.url or "")
        if parts.scheme != "http" or not self._mounted_at:
            return None
        return Spot(parts.port or 80, parts.path.rstrip("/"), self._mounted_at)

    async def _look_where_mounted(self) -> None:
        """Find the address of this machine that the `url` names; none if it names another machine, such as a proxy."""
        host, own = (
            urlsplit(self._network.url or "").hostname,
            {each for link in self._links for each in link.addresses},
        )
        self._mounted_at = ""
        if self._server is None and host:
            with contextlib.suppress(OSError, UnicodeError, asyncio.TimeoutError):
                found = await within(RESOLVED, asyncio.get_running_loop().getaddrinfo(host, None))
                self._mounted_at = next((where[0] for *_, where in found if where[0] in own), "")

    async def _follow_links(self) -> None:
        """Follow changes of the addresses and interfaces of this machine."""
        assert self._introductions is not None
        assert self._client is not None
        while True:
            await asyncio.sleep(LINKS)
            now = links()
            if now == self._links:
                if self._announcer is not None:
                    self._announcer.follow(now)  # a link that could not be served may be ready now
                continue
            self._links = now
            _log.info("station %s: the network has changed: %s", self.name, ", ".join(self._addresses()))
            self._client.renew()
            if self._announcer is not None:
                await self._look_where_mounted()
                self._announcer.follow(now)
                self._say_unreachable()
            self._run(self._introductions.call_again())
            if self._docks is not None:
                self._docks.docked.soon()

    def _say_unreachable(self) -> None:
        """Warn a station that listens on IPv4 only if all links have only IPv6 addresses."""
        away = [link for link in self._links if not link.loopback and link.up]
        alone = any(link.ipv6 for link in away) and not any(link.ipv4 for link in away)
        if alone and self._server is not None and self._server.host == "0.0.0.0":
            _log.warning(
                "station %s: this machine has IPv6 addresses only, and mDNS does not announce who listens at IPv4:"
                " --host :: listens at both",
                self.name,
            )

    async def _call_on(self, url: str) -> None:
        """Meet a peer that the operator named; retry until it answers."""
        assert self._introductions is not None
        wait, said = 0.2, ""
        while True:
            try:
                await self._introductions.call_on(url)
                self.unmet.pop(url, None)
                return
            except Exception as error:
                if not isinstance(error, (CarrierError, KeyChanged)):
                    _log.error("--peer %s: %s", url, describe_error(error))  # unexpected, but no reason to give up
                self.unmet[url] = str(error)
                # Warn once per reason, and not at first: stations that start together find each other a moment later.
                level = logging.WARNING if str(error) != said and wait > 1 else logging.INFO
                said = str(error) if level == logging.WARNING else said
                _log.log(level, "--peer %s: %s; it is tried again", url, error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, 30.0)

    async def _call_on_dock(self, url: str) -> None:
        """Meet a dock of this station; retry until it answers."""
        await self._call_on(url)
        found = next((peer for peer in self.core.here.peers.all() if peer.configured and url in peer.addresses), None)
        if found is not None and self._docks is not None:
            self._docks.is_at(found.key, url)

    async def close(self) -> None:
        """Suspend the agents, store everything, and stop; within ten seconds, whatever peers do.

        The next start at the same home continues from there.
        """
        if self._core is not None:
            await self._core.sessions.served.settle()
        await ended(self._tasks)
        for timer in (self._again, self._noting):
            if timer is not None:
                timer.cancel()
        await self._closers.aclose()
        self._stopped()

    async def _hang_up(self) -> None:
        """Close the parts that others can reach, concurrently: each waits a while for its current users."""
        if self._introductions is not None:
            self._introductions.close()  # a peer greeted after the goodbye would list us again
        if self._core is not None:
            self._core.serving.close()  # their answers go out with the connections
        closing, self._outward = [close() for close in self._outward], []
        for error in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(error, Exception):
                _log.error("a part of the station did not close well: %s", describe_error(error))

    def _stopped(self) -> None:
        self._core = self._introductions = self._server = self._announcer = self._control = None
        self._starting = self._noting = self._docks = None

    def _store_failed(self) -> None:
        assert self._core is not None
        self._failure = self._core.here.failure
        self._failed.set()

    @property
    def failure(self) -> str:
        """Why this station, although running, cannot work: its store cannot write. Empty while all is well.

        Then none of its agents run, and requests of peers are refused. What was written is not lost: close the station,
        check the disk, and start it again. The reason stays readable after `close`.
        """
        return self._failure

    async def failed(self) -> str:
        """Wait for a `failure`, and return it. For programs that then exit, or restart the station."""
        await self._failed.wait()
        return self._failure

    async def __aenter__(self) -> Station:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Parts

    def _lost_without_home(self) -> list[str]:
        """What is lost when the application around this station is reloaded, or runs in several processes."""
        if self.home is not None or self._network.port is not None:
            return []
        lost = "its agents end with the process"
        if self._options.identity.key is None:
            lost = (
                "each start makes another key, and who met it before refuses it from then on; two worker processes are"
                f" two stations; {lost}"
            )
        return [f"it has no home: {lost}. Give it a folder with home=..."]

    def _as_started(self, policy: Policy) -> Policy:
        """A policy with what the options say about it."""
        if self._options.storage.record_mib is not None:
            kept = evolve(policy.recordings, bytes=self._options.storage.record_mib << 20)
            policy = evolve(policy, recordings=kept)
        return development(policy) if self._dev else policy

    def _own_key(self) -> SecretKey:
        if self._key is None:
            self._key = home_folder.own_key(
                self.home, self.name, self._clocks.random, self._options.identity.passphrase
            )
        return self._key

    def _addresses(self, hosts: Sequence[str] = ()) -> list[str]:
        """URLs where it can be reached, first those that work from `hosts`, or from its peers' addresses."""
        if self._network.url is not None:
            return [self._network.url]
        if self.port is None:
            return []
        own = own_addresses(self._network.host, self._links or None)
        if len(own) > 1:
            if not hosts and self._introductions is not None:
                met = [peer.addresses[0] for peer in self._introductions.peers.all() if peer.proven and peer.addresses]
                hosts = [host for url in met[:WAYS] if (host := urlsplit(url).hostname)]
            own = towards(own, hosts)
        return [f"http://[{text}]:{self.port}" if ":" in text else f"http://{text}:{self.port}" for text in own]

    def home_addresses(self) -> list[str]:
        """Its addresses and docks, as the passports of agents name them that are launched here."""
        docks = [] if self._docks is None else self._docks.addresses()
        return [*self._addresses()[: MAX_PEER_ADDRESSES - len(docks)], *docks]

    def _peer_changed(self, peer: Peer, here: bool) -> None:
        text = ", ".join(peer.services)[:500] if here else "is not seen any more"
        self.core.here.tell("peer", place=peer.name, text=text)
        if here and self._noting is None:
            self.core.note_peers()
            self._noting = asyncio.get_running_loop().call_later(NOTE_INTERVAL_S, self._note_peers_again)

    def _note_peers_again(self) -> None:
        """Store what has changed since the last write: many greetings at once cause two writes, not one each."""
        self._noting = None
        if self._core is not None:
            self._core.note_peers()

    def _services_changed(self) -> None:
        """Tell peers once the current burst of changes is over."""
        if self._again is not None:
            self._again.cancel()
        with contextlib.suppress(RuntimeError):
            self._again = asyncio.get_running_loop().call_later(0.1, self._tell_services)

    def _tell_services(self) -> None:
        assert self._introductions is not None
        if self._announcer is not None:
            self._announcer.update()
        self._run(self._introductions.call_again())

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    # For programs

    @property
    def core(self) -> StationCore:
        """Its parts, for tests. Raises `StationError` while the station is not running."""
        if self._core is None:
            raise StationError("the station is not running: use `async with`, or start()")
        return self._core

    @property
    def introductions(self) -> Introductions:
        """The contacts with other stations. Raises `StationError` while the station is not running."""
        if self._introductions is None:
            raise StationError("the station is not running: use `async with`, or start()")
        return self._introductions

    @property
    def contacts(self) -> Introductions:
        """The older name of `introductions`."""
        return self.introductions

    @property
    def announcer(self) -> Mdns:
        """Its announcements by mDNS, for tests. Raises `StationError` while it makes none."""
        if self._announcer is None:
            raise StationError("the station is not announced: give it mdns=True, and start it")
        return self._announcer

    @property
    def client(self) -> Client:
        """Its requests to other stations, for tests. Raises `StationError` before the first start."""
        if self._client is None:
            raise StationError("the station is not running: use `async with`, or start()")
        return self._client

    @property
    def reception(self) -> Dispatcher:
        """The requests of its peers, for tests. Raises `StationError` before the first start."""
        if self._app is None:
            raise StationError("the station is not running: use `async with`, or start()")
        return self._app.reception

    @property
    def server(self) -> Server:
        """Where it listens, for tests. Raises `StationError` while it does not."""
        if self._server is None:
            raise StationError("the station does not listen: give it a port, and start it")
        return self._server

    @property
    def policy(self) -> Policy:
        """The current policy: whose agents it admits, and what they may use."""
        return self._policy.now

    async def replace_policy(self, policy: Policy) -> None:
        """Apply another policy from now on, also to the agents that are here.

        policy: Agents that it does not admit are suspended and kept: they resume when a later policy, or that of the
            next start, admits them. Its `directories` and `wasi` take effect at the next start, since agents have these
            open. Offers larger than those that the station started with stay too large.

        Raises `StoreError`.
        """
        check_policy(policy)
        old, new = self.policy, self._as_started(policy)
        if (old.wasi, old.directories) != (new.wasi, new.directories):
            _log.warning("station %s: [wasi] and [directories] are those of the start until it starts again", self.name)
            new = evolve(new, wasi=old.wasi, directories=old.directories)
        for sentence in new.loosened():
            _log.warning("station %s: %s", self.name, sentence, extra={"station": self.name})
        self._policy.replace(new)
        if self._core is not None:
            await self._core.review.apply()

    async def revoke(self, key: PublicKey, by: SecretKey | None = None) -> None:
        """Revoke a key of an owner or a station, here and at the stations that are known here.

            await station.revoke(stolen.public, by=stolen)

        key: the key that is not to be trusted any more, for good
        by: the key that signs it: the same, or one that the policy trusts to revoke (`Policy.revokers`); by default
            that of this station

        Agents of that key are refused and suspended at once. Returns when that is durable. Raises `CredentialError` if
        `by` may not revoke it.
        """
        signed = sign_revocation(key, self.core.here.clocks.now(), by or self._own_key())
        await self.core.revoking.revoke(signed.envelope)

    @property
    def key(self) -> PublicKey:
        """The station's public key: its identity, whatever its name and address."""
        return self._own_key().public

    @property
    def port(self) -> int | None:
        """The port that it listens on; None if it does not listen."""
        return None if self._server is None else self._server.port

    @property
    def url(self) -> str:
        """Where peers reach it, as `http://HOST:PORT`: the first address. Raises `StationError` if there is none."""
        addresses = self._addresses()
        if not addresses:
            raise StationError("the station listens nowhere: give it a port, or the url where it is mounted")
        return addresses[0]

    @url.setter
    def url(self, url: str) -> None:
        """Set where peers reach it: an application may learn late where it is mounted."""
        self._network = evolve(self._network, url=url)
        if self._announcer is not None:
            self._run(self._say_where_mounted())

    async def _say_where_mounted(self) -> None:
        await self._look_where_mounted()
        if self._announcer is not None:
            self._announcer.follow(self._links)
            self._announcer.update()

    def service(self, name: str, *, timeout: float = 30.0) -> Callable[[F], F]:
        """A decorator that offers a function to visiting agents.

            @station.service("thermometer.read")
            def read(request: bytes, visitor: docking.Visitor) -> bytes: ...

        name: up to 120 lower case letters, digits, - _ and dots; agents need the capability `service:NAME`
        timeout: seconds until a call is given up, and fails at the agent (30)

        The function gets the request, and the `Visitor` if it takes two arguments; it returns bytes or text, b""
        for an empty reply. It may be async; otherwise it runs in a thread. Raises `StationError` for an invalid name,
        or one that is taken, TypeError for a function that says it returns None, or takes no request.
        """

        def offer(function: F) -> F:
            self.offer(name, function, timeout=timeout)
            return function

        return offer

    def offer(self, name: str, function: ServiceFunction, *, timeout: float = 30.0) -> None:
        """Offer a function to visiting agents, without a decorator.

        name, timeout: see `service`
        function: gets the request, and the `Visitor` if it takes two arguments

        Raises as `service`.
        """
        if self._core is None:
            check_service(name, function)
            if any(each[0] == name for each in self._waiting_services):
                raise StationError(f"the service {name!r} is offered already")
            self._waiting_services.append((name, function, timeout))
        else:
            self._core.services.offer(name, function, timeout)

    def withdraw(self, name: str) -> None:
        """Stop offering a service; calls in progress are still answered.

        name: as it was offered; nothing happens if it was not
        """
        self._waiting_services = [each for each in self._waiting_services if each[0] != name]
        if self._core is not None:
            self._core.services.withdraw(name)

    async def launch(
        self,
        image: AgentImage | bytes,
        via: str | Way | Sequence[str | PublicKey] = (),
        *,
        owner: SecretKey,
        itinerary: Itinerary | None = None,
        terms: Terms | None = None,
        args: Sequence[str] = (),
    ) -> Agent:
        """Sign and start an agent whose home is this station.

            agent = await station.launch(agents.pack(Path("hello.wasm")), via=["beta"], owner=key)

        image: the agent's image, or the contents of an image file
        via: where it may go, see the method `itinerary`; without any, it stays at home
        owner: the key that signs its passport and opens its results
        itinerary: instead of `via`, if it is made already, see `docking.itinerary`
        terms: its permit, how long and how far it may travel; see `docking.Terms`
        args: command line arguments, after the program's own name

        Returns a handle. Raises `StationError`, `UnknownStation`, `WayError`, `CredentialError`, `FormatError`.
        """
        image = image_of(image)
        if itinerary is None:
            itinerary = await self.itinerary(via)
        home = Home(self.key, tuple(self.home_addresses()))
        known = self.core.images.get(image.digest)
        encoded = None if known is None else known[1]
        now, random = self._clocks.now(), self._clocks.random
        launch = prepare_launch(image, owner, home, itinerary, terms or Terms(), now, random, args, encoded)
        berth = await self.core.launches.begin(launch)
        return self._access(self.core).agent(berth.agent, owner)

    async def itinerary(self, via: str | Way | Sequence[str | PublicKey]) -> Itinerary:
        """An itinerary for an owner to sign.

        via: a way, such as `"beta,(gamma|delta)*3,any@ed25519:..."`, see `docking.itinerary.Way`; or stations to visit,
            in this order. They are names, key ids, keys or `host:port`. Without any, the agent stays at home

        Raises `UnknownStation`, `WayError`.
        """
        if not via:
            return Itinerary.via([self.key])
        if isinstance(via, (str, Way)):
            way = Way.read(via) if isinstance(via, str) else via
            return way.itinerary({name: await self._find(name) for name in way.names})
        return Itinerary.via([each if isinstance(each, PublicKey) else await self._find(each) for each in via])

    async def _find(self, name: str) -> PublicKey:
        return await self.introductions.find(name, (), PEERS_TIMEOUT_S)

    async def begin(self, launch: Launch) -> Agent:
        """Start an agent that its owner has signed elsewhere.

        launch: what `docking.launching.prepare_launch` made

        Raises as the method `launch` does.
        """
        berth = await self.core.launches.begin(launch)
        return self._access(self.core).agent(berth.agent)

    def agent(self, text: str, owner: SecretKey | None = None) -> Agent:
        """A handle on an agent that is here, or was launched here.

        text: its id, the beginning of one (4 letters or more), or its label
        owner: the key that opens its results; without it they cannot be read

        Raises `UnknownAgent`.
        """
        return self._access(self.core).find(text, owner)

    async def replay(self, agent: str, owner: SecretKey | None = None, *, clocks: bool = False) -> Journey:
        """A journey, to be stepped through forward and backward: see `docking.replay.Journey`.

        agent: its id, the beginning of one, or its label
        owner: the owner's key, with which other stations are asked for what they recorded; None for what is here only
        clocks: whether each reading of a clock is a step, too

        What is missing is said in the journey. Raises `UnknownAgent`, `StationError`.
        """
        core, found, loop = self.core, self.agent(agent), asyncio.get_running_loop()
        capsule, archive = found.capsule(), core.archive
        body = verify_passport(capsule.passport).body
        image = core.images.get(body.image)
        if image is None:
            raise StationError("the agent's image is not here any more")
        later = [core.images.get(digest) for digest in images_in(body, capsule.trail.links)[1:]]
        upgrades = [each[0] for each in later if each is not None]

        def ask(peer: PublicKey, question: list[object]) -> object:
            return asyncio.run_coroutine_threadsafe(self.introductions.recordings(peer, question), loop).result(60)

        asks = None if owner is None else Owner(owner, ask, self._clocks.now)
        own = {self.key: lambda visit: None if archive is None else archive.read(found.key, visit)}
        why = "only the agent's owner gets it from there: give the owner's key"
        gathered = await in_thread(lambda: gather(found.key, visited(capsule), own, asks, why))
        names = {peer.key.text: peer.name for peer in core.here.peers.all()} | {self.key.text: self.name}
        records, missing, now = list(gathered.records.values()), gathered.missing, self._clocks.now()
        return await in_thread(
            lambda: Journey(
                capsule,
                image[0],
                records,
                names=names,
                why_missing=missing,
                clocks=clocks,
                now=now,
                upgrades=upgrades,
            )
        )

    async def find_agents(
        self, service: str = "", *, label: str = "", everywhere: bool = False
    ) -> list[tuple[str, str, str, str]]:
        """The agents that are here, or that offer a service here.

        service: that they offer; empty for any agent
        label: what their owners call them; empty for any
        everywhere: also those at the other stations that are present, and answer within 2 seconds

        Returns of each its id, station, label, and what it says of the service.
        """
        return await self.core.meeting.look(service, label, everywhere)

    async def publish(self, topic: str, body: bytes | str, *, everywhere: bool = True) -> int:
        """Send a message to all agents that subscribe to a topic.

        topic: 1 to 256 printable bytes
        body: bytes, or text, which is sent in UTF-8; at most 1 MiB
        everywhere: also at the other stations that are present; False: only at this one

        Returns how many agents here got it, when that is durable. Raises `StationError`.
        """
        data = body.encode() if isinstance(body, str) else body
        return await self._access(self.core).publish(topic, data, everywhere)

    async def drain(
        self,
        to: Sequence[str] = (),
        *,
        downtime_ms: float = 20.0,
        timeout_s: float = 60.0,
        on_timeout: OnTimeout = "cancel",
    ) -> tuple[list[MoveReport], dict[str, str]]:
        """Let no agent in any more, and move those that are here away, one after the other, before maintenance.

        to: the stations to try for each, in this order; by default the next stops of its itinerary
        downtime_ms, timeout_s, on_timeout: see `Agent.move`

        Returns what moving each took; and by the ids of those that stay, why. `admit_again` lets agents in again.
        """
        self._drain(True)
        moved: list[MoveReport] = []
        stay: dict[str, str] = {}
        async for done in self.core.moves.drain(to, MoveOptions(downtime_ms, timeout_s, on_timeout)):
            if isinstance(done, MoveReport):
                moved.append(done)
            else:
                stay[text_of(done[0])] = done[1]
        return moved, stay

    def admit_again(self) -> None:
        """Let agents in again after `drain`."""
        self._drain(False)

    def _drain(self, yes: bool) -> None:
        self.core.policy.draining = yes

    async def knows_dock_of(self, station: PublicKey) -> None:
        """Wait until a station has named its docks to this one.

        station: its key
        """
        while not self._of_docks().deposits.has(station):
            await asyncio.sleep(LOOK)

    async def keeps(self, station: PublicKey) -> tuple[int, int]:
        """Wait until this station, as a dock, keeps something for a station; returns how many things, and their bytes.

        station: its key
        """
        while not (found := self._of_docks().room.kept(station))[0]:
            await asyncio.sleep(LOOK)
        return found

    def _of_docks(self) -> StationDocks:
        if self._docks is None:
            raise StationError("the station is not running: use `async with`, or start()")
        return self._docks

    def subscribe(self, wanted: Callable[[Event], bool] = lambda event: True) -> Subscription:
        """The events of this station from now on, as an asynchronous iterator of `docking.Event`.

        wanted: called with each event; only those for which it is true are delivered

        A listener that falls more than 10,000 events behind loses the oldest.
        """
        return self.core.here.events.subscribe(wanted)

    def metrics(self) -> str:
        """The station's metrics, in the Prometheus text format (version 0.0.4)."""
        core, app = self.core, self._app
        dispatcher = None if app is None else app.reception
        return metrics(
            core.here,
            core.services,
            core.departures,
            len(core.arrivals.kept),
            dispatcher,
            self._client,
            core.serving,
            None if app is None else app.clients,
            core.moves,
            core.ahead,
            core.sessions,
        )

    def asgi(self, agent: str | None = None) -> Mounted:
        """The station as an ASGI application, to mount or to serve.

        agent: a label or id; the application then is this agent for its clients, at whatever path it is mounted, and
            peers are not answered there

        It starts with its server's lifespan, or with the first request if there is none.
        """
        return Mounted(self.start, self.close, self.application, agent)

    def console(
        self,
        *,
        token: str = "",
        hosts: Sequence[str] = (),
        allow: Callable[[Scope], bool] | None = None,
        owners: Sequence[SecretKey] = (),
    ) -> Console:
        """The console of this station as an ASGI application: stations, agents and journeys in a browser.

            app.mount("/console", station.console(hosts=["example.org"], allow=is_operator))

        token: the word that opens it; by default a new one, which is in the `token` of the console, and in its `link`
        hosts: the names under which it is reached, beside `localhost` and addresses; others are refused
        allow: instead of the token: called with the ASGI scope of each request, true for who may see and do everything
        owners: keys that open the results of their agents; without them results stay sealed

        The station is started by whoever runs it; until then, the console says that it does not run. Raises
        `StationError` for a token of fewer than 16 characters.
        """
        from docking.console import Console, Settings

        settings = Settings(hosts=hosts, allow=allow, owners=owners)
        if token:
            settings = evolve(settings, token=token)
        asked, watched = self.shown()
        return Console.of([asked], [watched], settings)

    def shown(self) -> tuple[Asked, Watched]:
        """What a console is given of this station: whom to ask, and what happens. For a console of several."""
        from docking.console.feed import Watched
        from docking.console.roster import Asked
        from docking.control.requests import Requests

        def requests() -> Requests:
            return Requests(self.controlled(self.home or Path()))

        return Asked(self.name, requests), Watched(self.name, lambda: self.core.here.events)

    async def application(self) -> App:
        """The application that answers peers; starts the station if nobody has yet."""
        if self._core is None:
            if self._starting is None:
                self._starting = asyncio.get_running_loop().create_task(self.start())
            await asyncio.shield(self._starting)
        assert self._app is not None
        return self._app

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Threaded]:
        """Run the station in a thread of its own, for programs without an event loop."""
        from docking.threaded import Threaded

        threaded = Threaded(self)
        threaded.begin()
        try:
            yield threaded
        finally:
            threaded.end()
