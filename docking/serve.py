"""The composition root: the one place where a station is wired together, and what programs embed.

    async with Station("alpha", home="alpha/", policy=Policy(owners=[...])) as station:
        agent = await station.launch(image, via=["beta", "gamma"], owner=key)

Everything that a station consists of is made here and nowhere else; there is no global state, so a process can have as
many stations as it likes. Invariants: a station that cannot start leaves nothing running; one that stops has suspended
its agents, and goes on with them when it starts again on the same home.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agents.credentials.itinerary import Itinerary
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import Home
from agents.engines import load
from agents.image import AgentImage
from agents.wasi.hostdirs import HostGrant
from docking import discovery, premises
from docking.agent import Agent
from docking.config import Policy, development
from docking.contacts import Contacts
from docking.doors import Doors, Mounted
from docking.errors import CarrierError, KeyChanged, StationError
from docking.events import Event, Subscription
from docking.handoff import codec
from docking.handoff.actions import Timing
from docking.http.app import App
from docking.http.client import Client
from docking.http.reception import Limits, Reception
from docking.http.sealed import Secrets
from docking.http.server import Server, listen
from docking.identity import check_name
from docking.launching import Launch, Terms, prepare
from docking.metrics import metrics
from docking.peers import Peer
from docking.station import Clocks, Office
from docking.store import Failpoint, never
from docking.yellowpages import Service

if TYPE_CHECKING:
    from docking.threaded import Threaded

_log = logging.getLogger(__name__)
F = TypeVar("F", bound=Service)
# Seconds that a launch waits for the stations of its itinerary to be seen.
SEEN_WITHIN = 5.0
# Seconds between two notes of where the known stations are.
NOTED = 1.0


class Station:
    """A station: the key and the agents of one place.

    name: what it is called; lower case letters, digits, `-`, `_`, `.`
    home: the folder with its key, store and peers; None for a station that forgets everything when it stops
    policy: whom it admits; by default nobody. dev: admit every owner (said loudly)
    host, port: where it listens; port 0 for any free one, None for not at all (mount `asgi()`, and give `url`)
    peers: URLs of stations; mdns: announce and browse; volatile: keep the store in memory
    certificates: by whom this station is certified (envelopes); those in the folder `certificates` of its home are read
    engine: which one runs agents; threads: how many of them at once; passphrase: asked for if the key has one
    """

    def __init__(
        self,
        name: str,
        home: str | Path | None = None,
        *,
        policy: Policy | None = None,
        dev: bool = False,
        key: SecretKey | None = None,
        host: str = "0.0.0.0",
        port: int | None = 0,
        url: str | None = None,
        peers: Sequence[str] = (),
        mdns: bool = True,
        volatile: bool = False,
        engine: str = "wasmtime",
        threads: int | None = None,
        certificates: Sequence[bytes] = (),
        show_metrics: bool = False,
        control: bool = True,
        passphrase: Callable[[], str] | None = None,
        clocks: Clocks | None = None,
        timing: Timing | None = None,
        patience: float = 30.0,
        failpoint: Failpoint = never,
    ) -> None:
        self.name = check_name(name)
        self.home = None if home is None else Path(home)
        self.policy = development(policy or Policy()) if dev else policy or Policy()
        self._key, self._passphrase = key, passphrase
        self._host, self._port, self._url = host, port, url
        self._peer_urls, self._mdns, self._volatile = list(peers), mdns, volatile or home is None
        self._engine_name, self._show_metrics, self._control_wanted = engine, show_metrics, control
        self._certificates = tuple(certificates)
        self._threads = threads or max(2, min(16, os.cpu_count() or 2))
        self._clocks = clocks or Clocks(time.time_ns, time.monotonic_ns, secrets.token_bytes)
        self._timing, self._patience, self._failpoint = timing or Timing(), patience, failpoint
        self._office: Office | None = None
        self._waiting_services: list[tuple[str, Service, float]] = []
        self.unmet: dict[str, str] = {}
        """URLs of `peers` that have not answered yet, and why."""
        self._contacts: Contacts | None = None
        self._client: Client | None = None
        self._app: App | None = None
        self._server: Server | None = None
        self._discovery: discovery.Discovery | None = None
        self._control: Any = None
        self._again: asyncio.TimerHandle | None = None
        self._noting: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closers = contextlib.AsyncExitStack()
        self._starting: asyncio.Task[None] | None = None
        self._failed = asyncio.Event()
        self._failure = ""

    # Its life

    async def start(self) -> None:
        """Begin. Raises `DockingError` with what to do about it."""
        if self._office is not None:
            raise StationError("the station is running already")
        # Of the loop in which it runs.
        self._failed, self._failure = asyncio.Event(), ""
        for sentence in self.policy.loosened():
            _log.warning("station %s: %s", self.name, sentence, extra={"station": self.name})
        try:
            await self._start()
        except BaseException:
            await self._closers.aclose()
            self._stopped()
            raise

    async def _start(self) -> None:
        own = self._own_key()
        store = premises.open_store(None if self._volatile else self.home, self._clocks, self._failpoint)
        self._closers.callback(store.close)
        peers = premises.known_peers(self.home, own, self.name, self._clocks.now)
        contacts = Contacts(peers)
        keys = Secrets(own)
        client = Client(keys, self._clocks.random, peers.addresses, peers.works)
        self._closers.callback(client.close)
        contacts.wire = client
        engine = load(self._engine_name)
        office = Office(
            self.name,
            own,
            self.policy,
            store,
            engine,
            contacts,
            peers,
            self._clocks,
            threads=self._threads,
            timing=self._timing,
            patience=self._patience,
            failpoint=self._failpoint,
            certificates=premises.own_certificates(self.home, own, self._certificates),
            directories=self._lent(),
        )
        office.failed = self._store_failed
        contacts.services = lambda: office.pages.names
        contacts.addresses = self._addresses
        contacts.unreachable = office.departures.unreachable
        contacts.changed = self._peer_changed
        for name, function, timeout in self._waiting_services:
            office.pages.offer(name, function, timeout)
        office.pages.changed = self._services_changed
        limits = Limits(codec=codec.Limits(bodies=self.policy.state + self.policy.image + (1 << 20)))
        reception = Reception(Doors(self), limits)
        app = App(reception, keys, self._clocks.random, self._show_metrics)
        self._contacts, self._client, self._app = contacts, client, app
        sock = None if self._port is None else listen(self._host, self._port)
        if sock is not None:
            self._closers.callback(sock.close)
        self._office = office
        office.start()
        self._closers.push_async_callback(office.close)
        self._closers.callback(contacts.close)
        if sock is not None:
            await self._serve(app, keys, sock)
        if self._control_wanted and self.home is not None:
            from docking.control import Control

            self._control = await Control.start(self)
            self._closers.push_async_callback(self._control.close)
        if self._mdns and self.port is not None:
            await self._discover()
        for url in self._peer_urls:
            self._run(self._call_on(url))

    def _lent(self) -> dict[str, HostGrant]:
        lent = {}
        for each in self.policy.directories:
            lent[each.name] = premises.lend(each)
            self._closers.callback(lent[each.name].close)
        return lent

    async def _serve(self, app: App, keys: Secrets, sock: socket.socket) -> None:
        self._server = await Server.start(app, app.reception, keys, self._clocks.random, sock)
        self._closers.push_async_callback(self._server.close)

    async def _discover(self) -> None:
        assert self.port is not None
        assert self._contacts is not None
        contacts = self._contacts
        found = discovery.Discovery(
            self.name,
            self.key,
            self.port,
            "",
            discovery.own_addresses(self._host),
            lambda: self.office.pages.names,
            contacts.sighted,
            contacts.lost,
        )
        await found.start()
        self._discovery = found
        self._closers.push_async_callback(found.close)

    async def _call_on(self, url: str) -> None:
        """Meet a peer that a person named; try again until it is there."""
        assert self._contacts is not None
        wait, said = 0.2, ""
        while True:
            try:
                await self._contacts.call_on(url)
                self.unmet.pop(url, None)
                return
            except (CarrierError, KeyChanged) as error:
                self.unmet[url] = str(error)
                # Once, until it is another: stations that are started together find each other a moment later.
                level = logging.WARNING if str(error) != said and wait > 1 else logging.INFO
                said = str(error) if level == logging.WARNING else said
                _log.log(level, "--peer %s: %s; it is tried again", url, error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, 30.0)

    async def close(self) -> None:
        """Suspend the agents, write everything down, and stop."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in (self._again, self._noting):
            if timer is not None:
                timer.cancel()
        await self._closers.aclose()
        self._stopped()

    def _stopped(self) -> None:
        self._office = self._contacts = self._server = self._discovery = self._control = None
        self._starting = self._noting = None

    def _store_failed(self) -> None:
        assert self._office is not None
        self._failure = self._office.failure
        self._failed.set()

    @property
    def failure(self) -> str:
        """Why this station cannot go on though it runs: its store does not write. Empty while all is well.

        No agent of it runs then, and its peers are sent away. What was written is not lost: close it, see to the disk,
        and start it again. Still says so when the station was closed.
        """
        return self._failure

    async def failed(self) -> str:
        """Wait until there is a `failure`; what it is."""
        await self._failed.wait()
        return self._failure

    async def __aenter__(self) -> Station:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What it is made of

    def _own_key(self) -> SecretKey:
        if self._key is None:
            self._key = premises.own_key(self.home, self.name, self._clocks.random, self._passphrase)
        return self._key

    def _addresses(self) -> list[str]:
        if self._url is not None:
            return [self._url]
        if self.port is None:
            return []
        found = []
        for text in discovery.own_addresses(self._host):
            host = f"[{text}]" if ":" in text else text
            found.append(f"http://{host}:{self.port}")
        return found

    def _peer_changed(self, peer: Peer, here: bool) -> None:
        text = ", ".join(peer.services)[:500] if here else "is not seen any more"
        self.office.tell("peer", place=peer.name, text=text)
        if here and self._noting is None:
            self.office.note_peers()
            self._noting = asyncio.get_running_loop().call_later(NOTED, self._note_peers_again)

    def _note_peers_again(self) -> None:
        """What was new meanwhile: a crowd that greets does not write all of it each time."""
        self._noting = None
        if self._office is not None:
            self._office.note_peers()

    def _services_changed(self) -> None:
        """Tell peers, when this burst of changes is over."""
        if self._again is not None:
            self._again.cancel()
        with contextlib.suppress(RuntimeError):
            self._again = asyncio.get_running_loop().call_later(0.1, self._tell_services)

    def _tell_services(self) -> None:
        assert self._contacts is not None
        if self._discovery is not None:
            self._discovery.update()
        self._run(self._contacts.call_again())

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What programs use

    @property
    def office(self) -> Office:
        """The use-cases. Raises `StationError` while the station is not running."""
        if self._office is None:
            raise StationError("the station is not running: use `async with`, or start()")
        return self._office

    @property
    def contacts(self) -> Contacts:
        """Dealings with other stations."""
        if self._contacts is None:
            raise StationError("the station is not running: use `async with`, or start()")
        return self._contacts

    @property
    def key(self) -> PublicKey:
        """The station's public key: its identity."""
        return self._own_key().public

    @property
    def port(self) -> int | None:
        """Where it listens."""
        return None if self._server is None else self._server.port

    @property
    def url(self) -> str:
        """Where it can be reached: the first address."""
        addresses = self._addresses()
        if not addresses:
            raise StationError("the station listens nowhere: give it a port, or the url where it is mounted")
        return addresses[0]

    def service(self, name: str, *, timeout: float = 30.0) -> Callable[[F], F]:
        """Offer a function to visitors: `bytes -> bytes`, sync or async, with the `Visitor` as second argument if it
        takes two. `timeout`: seconds of one call.
        """

        def offer(function: F) -> F:
            self.offer(name, function, timeout=timeout)
            return function

        return offer

    def offer(self, name: str, function: Service, *, timeout: float = 30.0) -> None:
        """The same, without a decorator."""
        if self._office is None:
            self._waiting_services.append((name, function, timeout))
        else:
            self._office.pages.offer(name, function, timeout)

    def withdraw(self, name: str) -> None:
        """Offer a service no more; calls of it that have begun are answered."""
        self._waiting_services = [each for each in self._waiting_services if each[0] != name]
        if self._office is not None:
            self._office.pages.withdraw(name)

    async def launch(
        self,
        image: AgentImage | bytes,
        via: Sequence[str | PublicKey] = (),
        *,
        owner: SecretKey,
        itinerary: Itinerary | None = None,
        terms: Terms | None = None,
        args: Sequence[str] = (),
    ) -> Agent:
        """Sign and begin an agent whose home is this station.

        via: the stations to visit, in this order: names, key ids, keys or `host:port`; or an `itinerary`
        owner: signs the passport, and opens the results. args: command line arguments for the agent

        Raises `StationError`, `UnknownStation`, `CredentialError`, `FormatError`.
        """
        if not isinstance(image, AgentImage):
            image = AgentImage.unpack(image)
        if itinerary is None:
            itinerary = await self.itinerary(via)
        home = Home(self.key, tuple(self._addresses()[:8]))
        launch = prepare(image, owner, home, itinerary, terms or Terms(), self._clocks.now(), self._clocks.random, args)
        berth = await self.office.launch(launch)
        return Agent(self.office, berth.agent, owner)

    async def itinerary(self, via: Sequence[str | PublicKey]) -> Itinerary:
        """One station after the other. Without any, the agent stays at home. Raises `UnknownStation`."""
        keys = []
        for each in via:
            key = each if isinstance(each, PublicKey) else await self.contacts.find(each, (), SEEN_WITHIN)
            keys.append(key)
        return Itinerary.via(keys or [self.key])

    async def begin(self, launch: Launch) -> Agent:
        """Begin an agent that its owner has signed elsewhere. Raises as `launch` does."""
        berth = await self.office.launch(launch)
        return Agent(self.office, berth.agent)

    def agent(self, text: str, owner: SecretKey | None = None) -> Agent:
        """A handle on an agent, by id, the beginning of one, or label. Raises `UnknownAgent`."""
        return Agent(self.office, self.office.steering.find_agent(text), owner)

    def subscribe(self, wanted: Callable[[Event], bool] = lambda event: True) -> Subscription:
        """What happens here from now on."""
        return self.office.events.subscribe(wanted)

    def metrics(self) -> str:
        """Metrics, in the text format of Prometheus."""
        return metrics(self.office, None if self._app is None else self._app.reception, self._client)

    def asgi(self) -> Any:
        """The station as an ASGI application, to be mounted or served. It starts with its server's lifespan, or with
        the first request if there is none.
        """
        return Mounted(self)

    async def application(self) -> App:
        """The application that answers peers; starts the station if nobody has yet."""
        if self._office is None:
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
