"""The stations that this one knows: by key, with names, addresses, services and when they were last heard.

What mDNS says is a hint where to knock (`sight`); what a station says of itself over a sealed exchange is its own word,
and pins its name to its key (`met`). An agent is given to a key, never to a name or an address.

No I/O. Invariants: a name that is pinned to one key never leads to another; a peer that is neither configured nor
heard of for long is forgotten; numbers and lengths of everything that strangers say are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.credentials.itinerary import Any, Stop
from agents.credentials.keys import PublicKey
from agents.errors import CredentialError, NotCanonical
from docking.errors import IdentityError, KeyChanged, UnknownStation
from docking.identity import NAME, Pins

# Everyone on the network can announce stations: more than these are not remembered, nor more names pinned to keys.
# A name that is pinned is never given up for another: then new ones wait until a person accepts or forgets some.
MAX_PEERS = MAX_PINS = 4096
# Records of announcements by which stations are taken back: some have several.
MAX_SOURCES = 2 * MAX_PEERS
# New stations that are believed at once, and milliseconds until there is room for another: keys cost nothing, and each
# new one is written down.
CROWD, AGAIN = 256, 250
MAX_ADDRESSES = 8
MAX_SERVICES = 256
MAX_SERVICE = 128
# Characters of all names of services that one station says it offers.
MAX_SERVICES_SIZE = 8192
DEFAULT_PORT = 7707
SEEN = 1000  # ms: how exactly it is noted when a station was last seen
# Stations whose addresses outlast a restart.
MAX_REMEMBERED = 512
_BOUNDS = canonical.Bounds(max_bytes=4 << 20, max_depth=3, max_items=20_000)


@frozen
class Peer:
    """A station. `name`: what it calls itself; `proven`: it said so in a sealed exchange.

    `addresses`: URLs, the best first; `configured`: given by a person, and not forgotten; `seen`: ms since 1970;
    `present`: announced by mDNS now.
    """

    key: PublicKey
    name: str
    addresses: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    seen: int = 0
    proven: bool = False
    configured: bool = False
    present: bool = False


@frozen
class Sighting:
    """What an announcement says: a hint. `source`: the name of the record, by which it is taken back."""

    source: str
    name: str
    key: PublicKey
    addresses: tuple[str, ...]
    services: tuple[str, ...] = ()


def clean_services(value: Iterable[object]) -> tuple[str, ...]:
    """Names of services from elsewhere: those that can be, and not too many."""
    found = {name for name in value if isinstance(name, str) and 0 < len(name) <= MAX_SERVICE and name.isprintable()}
    names, size = [], 0
    for name in sorted(found)[:MAX_SERVICES]:
        size += len(name)
        if size <= MAX_SERVICES_SIZE:
            names.append(name)
    return tuple(names)


def url_of(text: str) -> str | None:
    """The URL that `host:port`, `[v6]:port` or a URL stands for; None for anything else."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
        # A name that no resolver would take: empty or endless labels.
        (parts.hostname or "").encode("idna")
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or len(url) > 256:
        return None
    if "://" not in text and port is None:
        return None
    return url.rstrip("/") if url.isprintable() and " " not in url else None


@define(eq=False)
class Peers:
    """The peers of the station `me`, called `name`. `save(pins)` keeps pins; `reload()` gives those that somebody
    else has written since, or None; `clock`: ms since 1970.
    """

    me: PublicKey
    name: str
    _clock: Callable[[], int]
    _save: Callable[[Pins], None]
    pins: Pins = field(factory=Pins)
    _reload: Callable[[], Pins | None] = lambda: None
    _peers: dict[PublicKey, Peer] = field(factory=dict)
    _sources: dict[str, PublicKey] = field(factory=dict)
    refused: dict[str, KeyChanged] = field(factory=dict)
    """Names that showed another key than before, until a person decides."""
    _turned_away: dict[str, tuple[PublicKey, tuple[str, ...]]] = field(factory=dict)
    _room: int = CROWD
    _since: int = 0

    def all(self) -> list[Peer]:
        """All peers, by name."""
        return sorted(self._peers.values(), key=lambda peer: (peer.name, peer.key.raw))

    def get(self, key: PublicKey) -> Peer | None:
        """What is known of a station."""
        return self._peers.get(key)

    def sight(self, sighting: Sighting) -> Peer | None:
        """An announcement came. The peer, if it is worth a greeting (new, or at another address)."""
        if sighting.key == self.me or not NAME.match(sighting.name):
            return None
        old = self._peers.get(sighting.key)
        if (old is None and len(self._peers) >= MAX_PEERS) or (
            sighting.source not in self._sources and len(self._sources) >= MAX_SOURCES
        ):
            return None
        self._sources[sighting.source] = sighting.key
        fresh = sighting.addresses[:MAX_ADDRESSES]
        if old is None:
            peer = Peer(sighting.key, sighting.name, fresh, sighting.services, self._clock(), present=True)
        else:
            # What worked is not displaced by what is only announced.
            addresses = tuple(dict.fromkeys([*fresh, *old.addresses]))[:MAX_ADDRESSES]
            name = old.name if old.proven else sighting.name
            peer = evolve(old, name=name, addresses=addresses, seen=self._clock(), present=True)
        self._peers[sighting.key] = peer
        return peer if old is None or not old.proven or set(fresh) - set(old.addresses) else None

    def lose(self, source: str) -> Peer | None:
        """An announcement was taken back or expired."""
        key = self._sources.pop(source, None)
        if key is None or key in self._sources.values() or key not in self._peers:
            return None
        peer = evolve(self._peers[key], present=False)
        if peer.configured:
            self._peers[key] = peer
        else:
            del self._peers[key]
        return peer

    def met(self, key: PublicKey, name: str, addresses: Sequence[str], services: Iterable[object] = ()) -> Peer | None:
        """A station proved that it has `key`, and calls itself `name`.

        None if that name is another's, or if there is no room for one more.
        """
        if key == self.me or not NAME.match(name):
            return None
        try:
            self.refresh()
            pins = self.pins.see(name, key, self._clock())
            known = self._peers.get(key)
            new = pins is not self.pins or known is None
            if new and not (known is not None and known.configured) and not self._has_room(pins):
                return None
        except KeyChanged as error:
            self.refused[name] = error
            self._turned_away[name] = key, tuple(addresses)[:MAX_ADDRESSES]
            return None
        except IdentityError:
            return None
        self.refused.pop(name, None)
        self._turned_away.pop(name, None)
        if pins is not self.pins:
            self.pins = pins
            self._save(pins)
        old = self._peers.get(key, Peer(key, name))
        kept = tuple(dict.fromkeys([*addresses, *old.addresses]))[:MAX_ADDRESSES]
        peer = evolve(
            old,
            name=name,
            addresses=kept,
            services=clean_services(services),
            seen=self._clock(),
            proven=True,
        )
        self._peers[key] = peer
        return peer

    def refresh(self) -> None:
        """A person may have accepted another key meanwhile: `portcall key accept`. It holds from now on."""
        self.pins = self._reload() or self.pins
        for name in [name for name, (key, _) in self._turned_away.items() if self.pins.key(name) == key]:
            key, addresses = self._turned_away.pop(name)
            self.refused.pop(name, None)
            for other in [peer.key for peer in self._peers.values() if peer.name == name and peer.key != key]:
                del self._peers[other]
            if self._make_room():
                self._peers.setdefault(key, Peer(key, name, addresses))

    def _has_room(self, pins: Pins) -> bool:
        """Whether a station that nobody asked for may be believed now, with these pins; if so, it takes the place."""
        passed = self._clock() - self._since
        if passed < 0 or passed >= AGAIN * CROWD:  # the clock was set back, or it was quiet for long
            self._room, self._since = (self._room if passed < 0 else CROWD), self._clock()
        else:
            self._room = min(CROWD, self._room + passed // AGAIN)
            self._since += passed // AGAIN * AGAIN
        if not self._room or (pins is not self.pins and len(pins.pins) > MAX_PINS) or not self._make_room():
            return False
        self._room -= 1
        return True

    def _make_room(self) -> bool:
        """Forget the station that was not heard of for the longest, if there are too many."""
        if len(self._peers) < MAX_PEERS:
            return True
        idle = [peer for peer in self._peers.values() if not peer.configured and not peer.present]
        if idle:
            del self._peers[min(idle, key=lambda peer: peer.seen).key]
        return bool(idle)

    def works(self, key: PublicKey, url: str) -> None:
        """A sealed exchange with `key` at `url` went well: begin there the next time."""
        peer, now = self._peers.get(key), self._clock()
        if peer is None:
            return
        if not peer.addresses or peer.addresses[0] != url:
            rest = tuple(each for each in peer.addresses if each != url)
            peer = evolve(peer, addresses=(url, *rest)[:MAX_ADDRESSES])
        elif now - peer.seen < SEEN:
            return
        self._peers[key] = evolve(peer, seen=now)

    def configure(self, key: PublicKey, name: str, url: str) -> None:
        """A person named this station: it is not forgotten."""
        old = self._peers.get(key, Peer(key, name))
        addresses = tuple(dict.fromkeys([url, *old.addresses]))[:MAX_ADDRESSES]
        self._peers[key] = evolve(old, addresses=addresses, configured=True)

    def hint(self, key: PublicKey, addresses: Iterable[str]) -> None:
        """A passport says where its home is: worth a try when nothing better is known."""
        if key in self._peers or key == self.me:
            return
        found = tuple(url for text in addresses if (url := url_of(text)) is not None)
        if found and self._make_room():
            self._peers[key] = Peer(key, key.id, found[:MAX_ADDRESSES])

    def accept(self, name: str, key: PublicKey) -> None:
        """A person says that `name` has `key` now."""
        self.pins = self.pins.accept(name, key, self._clock())
        self._save(self.pins)
        self.refused.pop(name, None)
        self.refresh()

    def encode(self) -> bytes:
        """Where stations are that proved their keys, for the store: after a restart handoffs wait for them."""
        known = sorted((peer for peer in self._peers.values() if peer.proven), key=lambda peer: -peer.seen)
        rows = [[peer.key.raw, peer.name, list(peer.addresses)] for peer in known[:MAX_REMEMBERED]]
        return canonical.encode(rows)

    def restore(self, data: bytes) -> None:
        """The inverse of `encode`; what is known already is left as it is. Damaged bytes mean that nothing is known."""
        try:
            for raw, name, addresses in canonical.decode(data, _BOUNDS):
                key = PublicKey(raw)
                if key not in self._peers and key != self.me:
                    self._peers[key] = Peer(key, str(name), tuple(map(str, addresses))[:MAX_ADDRESSES])
        except (NotCanonical, CredentialError, ValueError, TypeError):
            return

    def addresses(self, key: PublicKey) -> tuple[str, ...]:
        """URLs of a station, the best first."""
        peer = self._peers.get(key)
        return () if peer is None else peer.addresses

    def label(self, key: PublicKey) -> str:
        """A station's name, or the id of its key."""
        if key == self.me:
            return self.name
        names = self.pins.names(key)
        if names:
            return names[0]
        peer = self._peers.get(key)
        return key.id if peer is None else peer.name

    def offering(self, service: str) -> list[Peer]:
        """Peers that offer a service, those heard last first."""
        found = [peer for peer in list(self._peers.values()) if peer.proven and service in peer.services]
        return sorted(found, key=lambda peer: -peer.seen)

    def resolve(self, text: str, expected: Sequence[Stop | Any] = ()) -> PublicKey:
        """The key that a name, a key id or a whole key stands for. Raises `UnknownStation`, `KeyChanged`.

        `expected`: the stops that may come next. They tell apart two stations that claim one name.
        """
        if text == self.name or text == self.me.id or text == self.me.text:
            return self.me
        self.refresh()
        stops = [stop.station for stop in expected if isinstance(stop, Stop)]
        if text.startswith("ed25519:"):
            try:
                return PublicKey.from_text(text)
            except CredentialError as error:
                raise UnknownStation(f"{text[:80]!r} is not a key: {error.reason}") from error
        for key in (*stops, *self._peers, *(pin.key for pin in self.pins.pins.values())):
            if key.id == text:
                return key
        pinned = self.pins.key(text)
        if pinned is not None:
            if text in self.refused and pinned not in self._peers:
                raise self.refused[text]
            return pinned
        claiming = [peer.key for peer in self._peers.values() if peer.name == text]
        wanted = [key for key in claiming if key in stops] or claiming
        if len(wanted) == 1:
            return wanted[0]
        if wanted:
            raise UnknownStation(f"{len(wanted)} stations call themselves {text!r}: name the one you mean by its key")
        raise UnknownStation(f"no station {text[:80]!r} is known here; is it running, and on this network?")
