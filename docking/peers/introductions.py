"""Finds other stations, greets them, and passes requests on to them.

Uses a `Wire` (HTTP, in `docking.http.client`) and the directory of `peers`. Decides nothing about agents. Invariants: a
name resolves to a key only after the station that claims it has proven to have the key; a greeting contains only public
facts: name, addresses, services.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from attrs import define, field, frozen

from agents.canonical import Buffer
from agents.credentials.itinerary import Leaf
from agents.credentials.keys import PublicKey, public_key
from docking.aio.failures import log_failure
from docking.aio.timeouts import within
from docking.errors import CarrierError, NoAnswer, PeerUnreachable, UnknownStation
from docking.handoff.messages import Message, Offer
from docking.peers.directory import MAX_PEER_ADDRESSES, MAX_PEERS, Peer, PeerDirectory, Sighting, clean_services, url_of

_log = logging.getLogger(__name__)
HELLO_PROTOCOL = 1
# Concurrent greetings: a network full of invented stations must not make us open a thousand connections.
MAX_GREETINGS = 16
# Seconds without a sign of life after which a station is greeted, between checks for such stations, and for an answer.
# Announcements do not show who is present: records are cached for long, and a killed station withdraws none
# (docs/adr/zeroconf-and-what-it-leaves-out).
QUIET, WATCH, ANSWERS = 15.0, 5.0, 10.0
# Unanswered greetings until a station counts as gone: at most 45 seconds after it was last seen. It is greeted again
# after QUIET seconds, then after twice as long each time, up to RARELY.
MISSES, RARELY = 2, 600.0
# Seconds until a station that introduces itself after its goodbye is greeted: it has restarted, or its card was late.
PARTING = 1.0
# Concurrent greetings of quiet stations. The rest wait for the next check, proven ones first.
WATCHED = 64


async def _nowhere(peer: PublicKey, what: object) -> bool:
    """There are no docks."""
    return False


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _is_away(host: str) -> bool:
    """Whether this is an IP address other than loopback."""
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(host).is_loopback
    return False


class Wire(Protocol):
    """Sealed requests to stations; see `docking.http.client.Client`. All raise `CarrierError`."""

    async def exchange(self, peer: bytes, message: Message) -> Message | None: ...
    async def letter(self, peer: PublicKey, value: object) -> object: ...
    async def session(self, peer: PublicKey, request: Sequence[Buffer]) -> object: ...
    async def serve(self, peer: PublicKey, value: object) -> object: ...
    async def recordings(self, peer: PublicKey, value: object) -> object: ...
    async def hello(self, peer: PublicKey, value: object) -> object: ...
    async def who(self, url: str) -> tuple[str, PublicKey]: ...


@frozen
class _Missed:
    """The greetings that a station has not answered since it was `seen`, and when to greet it again."""

    seen: int
    count: int = 0
    again: float = 0.0


@define(eq=False, repr=False)
class Introductions:
    """The contacts of one station.

    `services()`: what it offers; `addresses(hosts)`: the URLs where it can be reached, first those that a peer with the
    addresses `hosts` can reach. `unreachable(hid, reason)` is called for each offer that was not delivered, and
    `changed(peer, here)` for each peer that came or went.
    """

    peers: PeerDirectory
    services: Callable[[], Sequence[str]] = lambda: ()
    addresses: Callable[[Sequence[str]], Sequence[str]] = lambda hosts: ()
    unreachable: Callable[[bytes, str], None] = lambda hid, reason: None
    changed: Callable[[Peer, bool], None] = lambda peer, here: None
    met: Callable[[PublicKey], None] = lambda peer: None
    """Called with each peer that answers a greeting for the first time."""
    heard: Callable[[PublicKey], None] = lambda peer: None
    """Called with each peer that introduces itself, or answers a greeting."""
    patient: Callable[[bytes], bool] = lambda hid: False
    """Whether the handoff of this id may take long, so that its offer can wait at a dock."""
    deposit: Callable[[PublicKey, Message], Awaitable[bool]] = _nowhere
    deposit_letter: Callable[[PublicKey, object], Awaitable[bool]] = _nowhere
    """Give something that did not reach its station to a dock of it: whether one has it."""
    runs: str = ""
    """The processor and the engine of this station, for its card."""
    wire: Wire = field(init=False)
    _introduced: set[PublicKey] = field(factory=set)
    _greeting: dict[PublicKey, asyncio.Task[Peer | None]] = field(factory=dict)
    _room: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(MAX_GREETINGS))
    _arrivals: asyncio.Event = field(factory=asyncio.Event)
    _parted: set[PublicKey] = field(factory=set)
    """Stations that said goodbye: an answer sent before that does not bring them back."""
    _misses: dict[PublicKey, _Missed] = field(factory=dict)
    _confirming: dict[PublicKey, asyncio.Task[None]] = field(factory=dict)
    _closed: bool = False

    # For the courier and the outbox

    async def exchange(self, peer: bytes, message: Message) -> Message | None:
        """See `docking.courier.Carrier`."""
        if isinstance(message, Offer) and public_key(peer) not in self._introduced:
            # The peer must know our addresses before it holds an agent of ours: it may have to ask about its handoff.
            await self.greet(public_key(peer))
        try:
            return await self.wire.exchange(peer, message)
        except PeerUnreachable as error:
            patient = not isinstance(message, Offer) or self.patient(message.hid)
            if patient and await self.deposit(public_key(peer), message):
                return None
            if isinstance(message, Offer):
                self.unreachable(message.hid, str(error))
            raise

    async def letter(self, peer: PublicKey, value: object) -> object:
        """Deliver a letter. Raises `CarrierError`; then a dock of the station may have it too."""
        try:
            return await self.wire.letter(peer, value)
        except PeerUnreachable:
            await self.deposit_letter(peer, value)
            raise

    async def session(self, peer: PublicKey, request: Sequence[Buffer]) -> object:
        """Deliver a request of a live move. Raises `CarrierError`."""
        if peer not in self._introduced:  # as for an offer, which follows
            await self.greet(peer)
        return await self.wire.session(peer, request)

    async def serve(self, peer: PublicKey, value: object) -> object:
        """Pass on a request of a client, or the answer to one. Raises `CarrierError`."""
        return await self.wire.serve(peer, value)

    async def recordings(self, peer: PublicKey, value: object) -> object:
        """Ask for recordings, in the name of an owner. Raises `CarrierError`."""
        return await self.wire.recordings(peer, value)

    # Who is who

    def card(self, peer: PublicKey) -> list[object]:
        """What this station tells a peer about itself."""
        return [HELLO_PROTOCOL, self.peers.name, self.urls_for(peer), list(self.services()), self.runs]

    def urls_for(self, peer: PublicKey) -> list[str]:
        """Where this station can be reached, first what that peer can reach."""
        found = self.addresses([host for url in self.peers.addresses(peer) if (host := _host(url))])
        return list(found)[:MAX_PEER_ADDRESSES]

    def introduced(self, sender: PublicKey, value: object, seen_at: str = "", best: str | None = None) -> Peer | None:
        """Process the card of a station, received in a sealed exchange. None if it is not accepted.

        `seen_at`: the address that it called from; `best`: the URL where it was called.
        """
        if not isinstance(value, list) or len(value) not in (4, 5) or type(value[0]) is not int:
            return None
        protocol, name, addresses, services, *runs = value
        if protocol != HELLO_PROTOCOL:
            return None
        if not isinstance(name, str) or not isinstance(addresses, list) or not isinstance(services, list):
            return None
        urls = [url for text in addresses[:MAX_PEER_ADDRESSES] if isinstance(text, str) and (url := url_of(text))]
        before = self.peers.get(sender)
        seen_at = seen_at.removeprefix("::ffff:")  # how a dual-stack socket shows IPv4
        if _is_away(seen_at) or _is_away(_host(best or "")):
            urls = [url for url in urls if not _is_loopback(_host(url))]  # its loopback is not ours
        best = best or next((url for url in urls if seen_at and _host(url) == seen_at), None)
        peer = self.peers.met(sender, name, urls, clean_services(services), best, *runs)
        new = before is None or not before.proven or before.silent
        if peer is not None:
            self.heard(sender)
            if sender in self._parted and sender not in self._confirming and not self._closed:
                task = asyncio.get_running_loop().create_task(self._confirm(sender))
                self._confirming[sender] = task
                task.add_done_callback(lambda _: self._confirming.pop(sender, None))
                task.add_done_callback(log_failure)
            self._parted.discard(sender)
            if new or (before is not None and before.services != peer.services):
                self._arrived(peer)
        return peer

    def works(self, key: PublicKey, url: str) -> None:
        """A sealed exchange with `key` at `url` succeeded."""
        if key in self._parted:
            return
        before = self.peers.get(key)
        self.peers.works(key, url)
        peer = self.peers.get(key)
        if before is not None and before.silent and peer is not None and peer.proven:
            self._arrived(peer)

    def _arrived(self, peer: Peer) -> None:
        self.changed(peer, True)
        self._arrivals.set()
        self._arrivals = asyncio.Event()

    async def greet(self, key: PublicKey) -> Peer | None:
        """Ask a station who it is; None if it does not answer or is not accepted. Concurrent calls are one greeting."""
        task = self._greeting.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._greet(key))
            self._greeting[key] = task
            task.add_done_callback(lambda _: self._greeting.pop(key, None))
        return await asyncio.shield(task)

    async def answers(self, key: PublicKey) -> bool:
        """Whether a station answers a greeting now."""
        return await self.greet(key) is not None

    async def _greet(self, key: PublicKey) -> Peer | None:
        async with self._room:
            return await self._hello(key)

    async def _hello(self, key: PublicKey) -> Peer | None:
        self._parted.discard(key)
        try:
            card = await self.wire.hello(key, self.card(key))
        except CarrierError as error:
            _log.info("a station did not answer a greeting: %s", error)
            return None
        if key in self._parted:
            return None
        if key not in self._introduced:
            self._introduced.add(key)
            self.met(key)
        addresses = self.peers.addresses(key)
        return self.introduced(key, card, best=addresses[0] if addresses else None)

    def sighted(self, sighting: Sighting) -> None:
        """Process an mDNS announcement."""
        peer = self.peers.sight(sighting)
        if peer is not None and not self._closed:
            task = asyncio.get_running_loop().create_task(self.greet(peer.key))
            task.add_done_callback(log_failure)

    def lost(self, source: str) -> None:
        """Process a withdrawn announcement. If the station is still there, `watch` greets it later."""
        key = self.peers.announced(source)
        if key is None or self._closed:
            return
        if len(self._parted) < MAX_PEERS:
            self._parted.add(key)
        self._gone(self.peers.lose(source))

    async def _confirm(self, key: PublicKey) -> None:
        await asyncio.sleep(PARTING)
        answer: Peer | None = None
        with contextlib.suppress(asyncio.TimeoutError):
            answer = await within(ANSWERS, self._hello(key))
        if answer is None:
            self._gone(self.peers.silence(key))

    def _gone(self, peer: Peer | None) -> None:
        if peer is not None:
            self.changed(peer, False)

    async def watch(self) -> None:
        """Greet stations that were quiet for a while, to find out who is present. Runs until cancelled."""
        busy: dict[PublicKey, asyncio.Task[None]] = {}
        try:
            while True:
                await asyncio.sleep(WATCH)
                busy = {key: task for key, task in busy.items() if not task.done()}
                for key in self._due(busy)[: WATCHED - len(busy)]:
                    busy[key] = asyncio.get_running_loop().create_task(self._ask_after(key))
                    busy[key].add_done_callback(log_failure)
        finally:
            for task in busy.values():
                task.cancel()

    def _due(self, busy: Container[PublicKey]) -> list[PublicKey]:
        now, peers = asyncio.get_running_loop().time(), self.peers
        # A station that was seen since then starts from zero.
        self._misses = {
            key: each
            for key, each in self._misses.items()
            if (peer := peers.get(key)) is not None and peer.seen == each.seen
        }
        quiet = [peer.key for peer in peers.quiet(QUIET) if peer.key not in busy]
        return [key for key in quiet if key not in self._misses or self._misses[key].again <= now]

    async def _ask_after(self, key: PublicKey) -> None:
        before = self.peers.get(key)
        with contextlib.suppress(asyncio.TimeoutError):
            await within(ANSWERS, self._hello(key))
        after = self.peers.get(key)
        if before is None or after is None or after.seen != before.seen:
            return  # it is present, even if its name is not accepted
        count = self._misses.get(key, _Missed(after.seen)).count + 1
        wait = min(QUIET * 2.0 ** min(count - MISSES, 16), RARELY) if count >= MISSES else 0.0
        self._misses[key] = _Missed(after.seen, count, asyncio.get_running_loop().time() + wait)
        if count >= MISSES:
            self._gone(self.peers.silence(key))

    async def call_on(self, url: str) -> Peer:
        """Meet the station at a URL that an operator gave. Raises `CarrierError`, `KeyChanged`."""
        if url_of(url) is None:
            raise PeerUnreachable(f"{url[:200]!r} is no address of a station: write http://HOST:PORT")
        name, key = await self.wire.who(url)
        self.peers.configure(key, name, url)
        peer = await self.greet(key)
        if peer is None:
            if name in self.peers.refused:
                raise self.peers.refused[name]
            raise NoAnswer(f"the station at {url} does not have the key that it claims")
        return peer

    async def call_again(self) -> None:
        """Greet every proven station, to tell it what has changed here."""
        keys = [peer.key for peer in self.peers.all() if peer.proven]
        await asyncio.gather(*(self.greet(key) for key in keys))

    async def find(self, text: str, stops: Sequence[Leaf] = (), wait: float = 0.0) -> PublicKey:
        """The key that a name, key id, key, `host:port` or URL stands for. Raises `UnknownStation`, `KeyChanged`.

        `wait`: seconds to wait for the station to appear.
        """
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            arrivals = self._arrivals
            try:
                return self.peers.resolve(text, stops)
            except UnknownStation as error:
                url = url_of(text)
                if url is not None:
                    try:
                        return (await self.call_on(url)).key
                    except CarrierError as problem:
                        raise UnknownStation(f"there is no station at {text}: {problem}") from problem
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    raise error
                with contextlib.suppress(asyncio.TimeoutError):
                    await within(left, arrivals.wait())

    def close(self) -> None:
        """Stop greeting."""
        self._closed = True
        for task in (*self._greeting.values(), *self._confirming.values()):
            task.cancel()
