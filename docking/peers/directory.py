"""The known stations, by key, with their names, addresses and services, and when each was last seen.

An mDNS record is only a hint where a station may be (`sight`). What a station says about itself in a sealed exchange is
authenticated, and pins its name to its key (`met`). Agents are sent to keys, never to names or addresses.

No I/O. Invariants: a name that is pinned to one key never resolves to another; a peer that is not configured and was
not seen for long is forgotten; everything that strangers send is bounded in number and length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.brief import brief
from agents.credentials.itinerary import Leaf, Stop
from agents.credentials.keys import PublicKey
from agents.errors import CredentialError, NotCanonical
from docking.errors import IdentityError, KeyChanged, UnknownStation
from docking.trust.identity import NAME_PATTERN, Pins

# The most remembered stations and pinned names: anyone on the network can announce stations. A pinned name is never
# evicted: when all pins are in use, new names wait until an operator accepts or forgets some.
MAX_PEERS = MAX_PINS = 4096
# Remembered record names, by which announcements are withdrawn: some stations have several.
MAX_SOURCES = 2 * MAX_PEERS
# Token bucket for new stations: its size, and the milliseconds per token. Keys cost nothing, and each new one is
# written to disk.
NEW_PEER_BURST, NEW_PEER_INTERVAL_MS = 256, 250
MAX_PEER_ADDRESSES = 8
MAX_SERVICES = 256
MAX_SERVICE_CHARS = 128
# Characters in all service names of one station together.
MAX_SERVICES_CHARS = 8192
MAX_RUNS_CHARS = 128  # of what a station says of its processor and engine
DEFAULT_PORT = 7707
SERVICE = "_portcall._tcp.local."
# Bytes of a label of DNS (RFC 1035 section 2.3.4).
MAX_LABEL = 63
# What stands for a dot inside a label, within the program; no station has it in its name.
STAND_IN = "/"
DOCK = "dock:"  # before the key and the URL of a dock, among the addresses of a home
SEEN_PRECISION_MS = 1000  # ms: resolution of `Peer.seen`
# Stations whose addresses outlast a restart.
MAX_REMEMBERED = 512
_BOUNDS = canonical.DecodeBounds(max_bytes=4 << 20, max_depth=3, max_items=20_000)


@frozen
class Peer:
    """A station. `name`: what it calls itself; `proven`: it said so in a sealed exchange.

    `addresses`: URLs, the best first; `configured`: given by an operator, so never forgotten; `seen`: ms since 1970;
    `runs`: its processor and engine, as it says
    `present`: announced by mDNS; `silent`: does not answer now, so it is not listed, but is still retried.
    """

    key: PublicKey
    name: str
    addresses: tuple[str, ...] = field(default=(), repr=brief)
    services: tuple[str, ...] = field(default=(), repr=brief)
    runs: str = ""
    seen: int = 0
    proven: bool = False
    configured: bool = False
    present: bool = False
    silent: bool = False


@frozen
class Sighting:
    """An announcement, which is only a hint. `source`: the name of its record, by which it is withdrawn."""

    source: str
    name: str
    key: PublicKey
    addresses: tuple[str, ...] = field(repr=brief)
    services: tuple[str, ...] = field(default=(), repr=brief)


def source_of(name: str, key: PublicKey) -> str:
    """The name of a station's records: one label with as much of its name as fits, and the beginning of its key's id.

    The label is for display, and tells records apart; the record itself contains the full name. For dots in the label
    stands `STAND_IN`, which `docking.peers.dotted_labels` translates.
    """
    end = f" {key.id[:8]}"
    return f"{name.replace('.', STAND_IN)[: MAX_LABEL - len(end)]}{end}.{SERVICE}"


def clean_services(value: Iterable[object]) -> tuple[str, ...]:
    """The valid ones among service names from elsewhere, bounded in number and size."""
    found = {
        name for name in value if isinstance(name, str) and 0 < len(name) <= MAX_SERVICE_CHARS and name.isprintable()
    }
    names, size = [], 0
    for name in sorted(found)[:MAX_SERVICES]:
        size += len(name)
        if size <= MAX_SERVICES_CHARS:
            names.append(name)
    return tuple(names)


def _ordered(best: str | None, said: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """At most `MAX_PEER_ADDRESSES` addresses, the most useful first.

    `best`: where the station was reached last. It is always kept, and comes first unless `said` lists only others.
    """
    first = [best] if best is not None and (best in said or not said) else []
    last = [best] if best is not None and not first else []
    room = MAX_PEER_ADDRESSES - len(last)
    return tuple(dict.fromkeys([*list(dict.fromkeys([*first, *said]))[:room], *last, *known]))[:MAX_PEER_ADDRESSES]


def url_of(text: str) -> str | None:
    """The URL that `host:port`, `[v6]:port` or a URL stands for; None for anything else."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
        # Reject names that no resolver would accept: empty or overlong labels.
        (parts.hostname or "").encode("idna")
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or len(url) > 256:
        return None
    if "://" not in text and port is None:
        return None
    return url.rstrip("/") if url.isprintable() and " " not in url else None


@define(eq=False, repr=False)
class PeerDirectory:
    """The peers of the station `me`, called `name`.

    `save(pins)` stores pins; `reload()` returns those that another process has written since, or None; `clock`: ms
    since 1970; `known`: all peers; `sources`: the station that each record announces.
    """

    me: PublicKey
    name: str
    _clock: Callable[[], int]
    _save: Callable[[Pins], None]
    pins: Pins = field(factory=Pins)
    _reload: Callable[[], Pins | None] = lambda: None
    known: dict[PublicKey, Peer] = field(factory=dict)
    sources: dict[str, PublicKey] = field(factory=dict)
    refused: dict[str, KeyChanged] = field(factory=dict)
    """Names that showed another key than before, until an operator decides."""
    docks_named: Callable[[PublicKey, list[str]], None] = lambda key, docks: None
    """Told of the docks, KEY@URL, that a passport names for its home."""
    _turned_away: dict[str, tuple[PublicKey, tuple[str, ...]]] = field(factory=dict)
    _room: int = NEW_PEER_BURST
    _since: int = 0

    def all(self) -> list[Peer]:
        """The peers that are not silent, by name."""
        return sorted(
            (peer for peer in self.known.values() if not peer.silent), key=lambda peer: (peer.name, peer.key.raw)
        )

    def missed(self) -> list[Peer]:
        """Configured peers that do not answer now."""
        return [peer for peer in self.known.values() if peer.silent and peer.configured]

    def quiet(self, seconds: float) -> list[Peer]:
        """Peers that are proven, configured or announced, and were not seen for this many seconds.

        Proven peers that are not silent come first, and among them those that were quiet for the longest.
        """
        now = self._clock()
        found = [
            peer
            for peer in self.known.values()
            if (peer.proven or peer.configured or peer.present) and not 0 <= now - peer.seen < seconds * 1000
        ]
        return sorted(found, key=lambda peer: (peer.silent or not peer.proven, peer.seen))

    def get(self, key: PublicKey) -> Peer | None:
        """The peer with this key, or None."""
        return self.known.get(key)

    def sight(self, sighting: Sighting) -> Peer | None:
        """Process an announcement. Returns the peer if it is worth a greeting: new, or at another address."""
        if sighting.key == self.me or not NAME_PATTERN.match(sighting.name):
            return None
        old = self.known.get(sighting.key)
        if (old is None and len(self.known) >= MAX_PEERS) or (
            sighting.source not in self.sources and len(self.sources) >= MAX_SOURCES
        ):
            return None
        self.sources[sighting.source] = sighting.key
        fresh = sighting.addresses[:MAX_PEER_ADDRESSES]
        if old is None:
            peer = Peer(sighting.key, sighting.name, fresh, sighting.services, seen=self._clock(), present=True)
        else:
            # An address that is only announced does not displace one that worked.
            addresses = _ordered(old.addresses[0] if old.addresses else None, fresh, old.addresses)
            name = old.name if old.proven else sighting.name
            # A proven peer counts as present only once it answers.
            seen, silent = (old.seen, old.silent) if old.proven else (self._clock(), False)
            peer = evolve(old, name=name, addresses=addresses, seen=seen, present=True, silent=silent)
        self.known[sighting.key] = peer
        new = old is None or not old.proven or old.silent or set(fresh) - set(old.addresses)
        return peer if new else None

    def announced(self, source: str) -> PublicKey | None:
        """The station that this record announces, also if the record is not resolved yet."""
        if source in self.sources:
            return self.sources[source]
        return next((key for key, peer in self.known.items() if source_of(peer.name, key) == source), None)

    def lose(self, source: str) -> Peer | None:
        """Process a withdrawn announcement. Returns the peer if that makes it absent.

        Its addresses are kept for the handoffs that wait for it.
        """
        key = self.announced(source)
        self.sources.pop(source, None)
        if key is None or key in self.sources.values() or key not in self.known:
            return None
        self.known[key] = evolve(self.known[key], present=False)
        return self.silence(key)

    def silence(self, key: PublicKey) -> Peer | None:
        """Mark a station that does not answer any more, or said goodbye. Returns the peer if that is new."""
        peer = self.known.get(key)
        if peer is None:
            return None
        if peer.proven or peer.configured or peer.present:
            self.known[key] = evolve(peer, silent=True)
        else:
            del self.known[key]
        return None if peer.silent else peer

    def met(
        self,
        key: PublicKey,
        name: str,
        addresses: Sequence[str],
        services: Iterable[object] = (),
        best: str | None = None,
        runs: object = "",
    ) -> Peer | None:
        """Record a station that has proven `key` and calls itself `name`. `best`: the URL where it did so, if known.

        `runs`: what it says of its processor and engine.

        None if the name is pinned to another key, or if there is no room for one more.
        """
        if key == self.me or not NAME_PATTERN.match(name):
            return None
        try:
            self.refresh()
            pins = self.pins.see(name, key, self._clock())
            known = self.known.get(key)
            new = pins is not self.pins or known is None
            if new and not (known is not None and known.configured) and not self._has_room(pins):
                return None
        except KeyChanged as error:
            self.refused[name] = error
            self._turned_away[name] = key, tuple(addresses)[:MAX_PEER_ADDRESSES]
            return None
        except IdentityError:
            return None
        self.refused.pop(name, None)
        self._turned_away.pop(name, None)
        if pins is not self.pins:
            self.pins = pins
            self._save(pins)
        old = self.known.get(key, Peer(key, name))
        peer = evolve(
            old,
            name=name,
            addresses=_ordered(best or (old.addresses[0] if old.addresses else None), addresses, old.addresses),
            services=clean_services(services),
            runs=runs if isinstance(runs, str) and len(runs) <= MAX_RUNS_CHARS and runs.isprintable() else "",
            seen=self._clock(),
            proven=True,
            silent=False,
        )
        self.known[key] = peer
        return peer

    def refresh(self) -> None:
        """Apply keys that an operator has accepted in the meantime with `portcall key accept`."""
        self.pins = self._reload() or self.pins
        for name in [name for name, (key, _) in self._turned_away.items() if self.pins.key(name) == key]:
            key, addresses = self._turned_away.pop(name)
            self.refused.pop(name, None)
            for other in [peer.key for peer in self.known.values() if peer.name == name and peer.key != key]:
                del self.known[other]
            if self._make_room():
                self.known.setdefault(key, Peer(key, name, addresses))

    def _has_room(self, pins: Pins) -> bool:
        """Whether an unconfigured new station may be added now, with these pins; if so, takes a token for it."""
        passed = self._clock() - self._since
        if (
            passed < 0 or passed >= NEW_PEER_INTERVAL_MS * NEW_PEER_BURST
        ):  # the clock was set back, or it was quiet for long
            self._room, self._since = (self._room if passed < 0 else NEW_PEER_BURST), self._clock()
        else:
            self._room = min(NEW_PEER_BURST, self._room + passed // NEW_PEER_INTERVAL_MS)
            self._since += passed // NEW_PEER_INTERVAL_MS * NEW_PEER_INTERVAL_MS
        if not self._room or (pins is not self.pins and len(pins.pins) > MAX_PINS) or not self._make_room():
            return False
        self._room -= 1
        return True

    def _make_room(self) -> bool:
        """Forget the station that was not seen for the longest, if there are too many."""
        if len(self.known) < MAX_PEERS:
            return True
        idle = [peer for peer in self.known.values() if not peer.configured and (peer.silent or not peer.present)]
        if idle:
            del self.known[min(idle, key=lambda peer: peer.seen).key]
        return bool(idle)

    def works(self, key: PublicKey, url: str) -> None:
        """A sealed exchange with `key` at `url` succeeded: try that address first from now on."""
        peer, now = self.known.get(key), self._clock()
        if peer is None:
            return
        if not peer.addresses or peer.addresses[0] != url:
            rest = tuple(each for each in peer.addresses if each != url)
            peer = evolve(peer, addresses=(url, *rest)[:MAX_PEER_ADDRESSES])
        elif 0 <= now - peer.seen < SEEN_PRECISION_MS and not peer.silent:  # the clock may have been set back
            return
        self.known[key] = evolve(peer, seen=now, silent=False)

    def configure(self, key: PublicKey, name: str, url: str) -> None:
        """Add a station that an operator named: it is never forgotten."""
        old = self.known.get(key, Peer(key, name))
        addresses = tuple(dict.fromkeys([url, *old.addresses]))[:MAX_PEER_ADDRESSES]
        self.known[key] = evolve(old, addresses=addresses, configured=True)

    def hint(self, key: PublicKey, addresses: Iterable[str]) -> None:
        """Add the addresses that a passport gives for its home, if the station is unknown, and its docks."""
        docks = [text.removeprefix(DOCK) for text in addresses if text.startswith(DOCK)]
        if docks and key != self.me:
            self.docks_named(key, docks)
        if key in self.known or key == self.me:
            return
        found = tuple(url for text in addresses if (url := url_of(text)) is not None)
        if found and self._make_room():
            self.known[key] = Peer(key, key.id, found[:MAX_PEER_ADDRESSES], silent=True)

    def accept(self, name: str, key: PublicKey) -> None:
        """An operator says that `name` has `key` now."""
        self.pins = self.pins.accept(name, key, self._clock())
        self._save(self.pins)
        self.refused.pop(name, None)
        self.refresh()

    def encode(self) -> bytes:
        """The addresses of proven stations, for the store: pending handoffs need them after a restart."""
        known = sorted((peer for peer in self.known.values() if peer.proven), key=lambda peer: -peer.seen)
        rows = [[peer.key.raw, peer.name, list(peer.addresses)] for peer in known[:MAX_REMEMBERED]]
        return canonical.encode(rows)

    def restore(self, data: bytes) -> None:
        """The inverse of `encode`; known peers stay unchanged. Damaged data is ignored."""
        try:
            for raw, name, addresses in canonical.decode(data, _BOUNDS):
                key = PublicKey(raw)
                if key not in self.known and key != self.me:
                    where = tuple(map(str, addresses))[:MAX_PEER_ADDRESSES]
                    self.known[key] = Peer(key, str(name), where, proven=True, silent=True)
        except (NotCanonical, CredentialError, ValueError, TypeError):
            return

    def addresses(self, key: PublicKey) -> tuple[str, ...]:
        """URLs of a station, the best first."""
        peer = self.known.get(key)
        return () if peer is None else peer.addresses

    def label(self, key: PublicKey) -> str:
        """A station's name, or the id of its key."""
        if key == self.me:
            return self.name
        names = self.pins.names(key)
        if names:
            return names[0]
        peer = self.known.get(key)
        return key.id if peer is None else peer.name

    def offering(self, service: str) -> list[Peer]:
        """Peers that offer a service, the most recently seen first."""
        found = [
            peer for peer in list(self.known.values()) if peer.proven and not peer.silent and service in peer.services
        ]
        return sorted(found, key=lambda peer: -peer.seen)

    def resolve(self, text: str, expected: Sequence[Leaf] = ()) -> PublicKey:
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
        for key in (*stops, *self.known, *(pin.key for pin in self.pins.pins.values())):
            if key.id == text:
                return key
        pinned = self.pins.key(text)
        if pinned is not None:
            if text in self.refused and pinned not in self.known:
                raise self.refused[text]
            return pinned
        claiming = [peer.key for peer in self.known.values() if peer.name == text]
        wanted = [key for key in claiming if key in stops] or claiming
        if len(wanted) == 1:
            return wanted[0]
        if wanted:
            raise UnknownStation(f"{len(wanted)} stations call themselves {text!r}: name the one you mean by its key")
        raise UnknownStation(
            f"no station {text[:80]!r} is known here: it is not running, or not on this network, or called otherwise"
        )
