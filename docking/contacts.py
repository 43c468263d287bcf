"""This station's dealings with others: finding them, greeting them, and carrying what is to be said to them.

Over a `Wire` (HTTP, in `docking.http.client`), and the book of `peers`. Decides nothing about agents. Invariants: a
name leads to a key only after the station that claims it has proven to have the key; a greeting tells no more than
anybody may know: name, addresses, services.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attrs import define, field

from agents.credentials.itinerary import Any as AnyStop
from agents.credentials.itinerary import Stop
from agents.credentials.keys import PublicKey
from docking.errors import CarrierError, NoAnswer, PeerUnreachable, UnknownStation
from docking.handoff.messages import Message, Offer
from docking.peers import MAX_ADDRESSES, Peer, Peers, Sighting, clean_services, url_of

_log = logging.getLogger(__name__)
PROTOCOL = 1
# Greetings at once: a network full of invented stations must not open a thousand connections.
GREETINGS = 16


class Wire(Protocol):
    """Sealed requests to stations; see `docking.http.client.Client`. All raise `CarrierError`."""

    async def exchange(self, peer: bytes, message: Message) -> Message | None: ...
    async def letter(self, peer: PublicKey, value: Any) -> Any: ...
    async def hello(self, peer: PublicKey, value: Any) -> Any: ...
    async def who(self, url: str) -> tuple[str, PublicKey]: ...


@define(eq=False)
class Contacts:
    """The contacts of one station. `services()`: what it offers; `addresses()`: where it can be reached.

    `unreachable(hid, reason)` is told of offers that were not delivered; `changed(peer, here)` of peers that
    came or went.
    """

    peers: Peers
    services: Callable[[], Sequence[str]] = lambda: ()
    addresses: Callable[[], Sequence[str]] = lambda: ()
    unreachable: Callable[[bytes, str], None] = lambda hid, reason: None
    changed: Callable[[Peer, bool], None] = lambda peer, here: None
    wire: Wire = field(init=False)
    _introduced: set[PublicKey] = field(factory=set)
    _greeting: dict[PublicKey, asyncio.Task[Peer | None]] = field(factory=dict)
    _room: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(GREETINGS))
    _arrivals: asyncio.Event = field(factory=asyncio.Event)

    # What the courier and the mailbox ask for

    async def exchange(self, peer: bytes, message: Message) -> Message | None:
        """See `docking.courier.Carrier`."""
        if isinstance(message, Offer) and PublicKey(peer) not in self._introduced:
            # It must know where we are before it holds an agent of ours: it may have to ask what became of it.
            await self.greet(PublicKey(peer))
        try:
            return await self.wire.exchange(peer, message)
        except PeerUnreachable as error:
            if isinstance(message, Offer):
                self.unreachable(message.hid, str(error))
            raise

    async def letter(self, peer: PublicKey, value: Any) -> Any:
        """Deliver a letter. Raises `CarrierError`."""
        return await self.wire.letter(peer, value)

    # Who is who

    def card(self) -> list[Any]:
        """What this station says of itself."""
        return [PROTOCOL, self.peers.name, list(self.addresses())[:MAX_ADDRESSES], list(self.services())]

    def introduced(self, sender: PublicKey, value: Any) -> Peer | None:
        """A station said what it says of itself, over a sealed exchange. None if it is not believed."""
        if not isinstance(value, list) or len(value) != 4 or type(value[0]) is not int or value[0] != PROTOCOL:
            return None
        _, name, addresses, services = value
        if not isinstance(name, str) or not isinstance(addresses, list) or not isinstance(services, list):
            return None
        urls = [url for text in addresses[:MAX_ADDRESSES] if isinstance(text, str) and (url := url_of(text))]
        before = self.peers.get(sender)
        peer = self.peers.met(sender, name, urls, clean_services(services))
        if peer is not None and (before is None or not before.proven or before.services != peer.services):
            self.changed(peer, True)
            self._arrivals.set()
            self._arrivals = asyncio.Event()
        return peer

    async def greet(self, key: PublicKey) -> Peer | None:
        """Ask a station who it is; None if it does not answer, or is not believed. Greetings at once are one."""
        task = self._greeting.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._greet(key))
            self._greeting[key] = task
            task.add_done_callback(lambda _: self._greeting.pop(key, None))
        return await asyncio.shield(task)

    async def _greet(self, key: PublicKey) -> Peer | None:
        async with self._room:
            try:
                card = await self.wire.hello(key, self.card())
                self._introduced.add(key)
                return self.introduced(key, card)
            except CarrierError as error:
                _log.info("a station did not answer a greeting: %s", error)
                return None

    def sighted(self, sighting: Sighting) -> None:
        """mDNS says that a station is there."""
        peer = self.peers.sight(sighting)
        if peer is not None:
            task = asyncio.get_running_loop().create_task(self.greet(peer.key))
            task.add_done_callback(lambda t: None if t.cancelled() else t.exception())

    def lost(self, source: str) -> None:
        """mDNS says that a station is gone."""
        peer = self.peers.lose(source)
        if peer is not None:
            self.changed(peer, False)

    async def call_on(self, url: str) -> Peer:
        """Meet the station at a URL that a person gave. Raises `CarrierError`, `KeyChanged`."""
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
        """Tell every station that is known what is new here."""
        keys = [peer.key for peer in self.peers.all() if peer.proven]
        await asyncio.gather(*(self.greet(key) for key in keys))

    async def find(self, text: str, stops: Sequence[Stop | AnyStop] = (), wait: float = 0.0) -> PublicKey:
        """The key that a name, key id, key, `host:port` or URL stands for, waiting at most `wait` seconds for it to be
        seen. Raises `UnknownStation`, `KeyChanged`.
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
                try:
                    await asyncio.wait_for(arrivals.wait(), left)
                except asyncio.TimeoutError:
                    continue

    def close(self) -> None:
        """Greet nobody any more."""
        for task in tuple(self._greeting.values()):
            task.cancel()
