"""Docks: where what is meant for a station waits that is often away, such as a laptop's.

A station names its docks to its peers. A peer that cannot reach it gives the dock what it would have sent, messages of
handoffs and letters, *sealed to the station that is away*: the dock keeps bytes of which it can read nothing but for
whom they are. The station fetches them when it is back, and treats them as if they had come from their senders, whom
the seal proves.

A dock is a carrier, and no more: it may lose, double, delay and reorder (docs/reference/protocol, what the carrier
owes). So nothing depends on its honesty: who sent something keeps it until the station itself has answered. Invariants:
a deposit is durable before it is acknowledged; what a dock holds for one station is bounded; it gives it to that
station alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import define, field

from agents import canonical
from agents.canonical import Buffer
from agents.credentials.envelope import identify
from agents.credentials.fields import array, byte_string, text, uint
from agents.credentials.keys import PublicKey, public_key
from agents.errors import CredentialError, NotCanonical
from docking.errors import CarrierError, MalformedMessage, ProtocolError, StoreError
from docking.handoff import codec
from docking.handoff.messages import Abort, CommitMessage, Message, Offer
from docking.http.sealing import SALT_BYTES, SharedKeys, opener, seal_request
from docking.letters.outbox import LetterAnswer, LetterKind, Outbox
from docking.peers.directory import DOCK, PeerDirectory, url_of
from docking.residents.residents import Residents
from docking.store.changes import Change, DropLetter
from docking.store.changes import Letter as StoredLetter
from docking.trust.in_force import PolicyInForce

_log = logging.getLogger(__name__)
KINDS = ("handoff", "letter")
# Bytes of one deposit, sealed; of a larger agent, the station itself must be there.
MAX_DEPOSIT_BYTES = 8 << 20
# Docks of one station; stations whose docks are known.
MAX_DOCKS, MAX_DOCKED = 4, 1024
# How long a dock keeps something at the most.
KEEP_MS = 30 * 86_400_000
# The share of the room for one station that one sender may fill in an hour.
SHARE, SHARE_S = 4, 3600.0
# Bytes in one answer to who fetches; things fetched in one round; seconds between two rounds.
PIECE_BYTES, MAX_ROUND, ROUND_S = 512 << 10, 10_000, 30.0
SOON_S = 1.0  # between two rounds where something came
MAX_URLS, MAX_URL_BYTES = 8, 256  # addresses of who deposits
MAX_DONE = 64  # numbers of things that who fetches has, in one request
# Things that were deposited, and for how long (seconds) they are not again.
MAX_DEPOSITED, AGAIN_S = 4096, 6 * 3600.0
_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_DEPOSIT_BYTES + 4096, max_depth=8, max_items=4096)
# What is not taken out of a deposit: letters to docks are for docks.
_OUTSIDE = (LetterKind.DEPOSIT, LetterKind.DOCKED, LetterKind.COLLECT)
# Letters that are worth a deposit.
_POSTED = (LetterKind.TALK, LetterKind.MESSAGE, LetterKind.ORDER, LetterKind.AMEND, LetterKind.ENDED)
Letter = Callable[[PublicKey, Any], Awaitable[Any]]


def _refused(code: str, reason: str) -> list[object]:
    return [LetterAnswer.REFUSED.value, code, reason]


@define(eq=False, repr=False)
class DockRoom:
    """What this station keeps as the dock of others, whom its policy names. It lies in the outbox, and is sent to them
    as soon as they can be reached; or they fetch it.
    """

    _here: Residents
    _policy: PolicyInForce
    _filled: dict[tuple[bytes, bytes], tuple[float, int]] = field(factory=dict)
    """Bytes by recipient and sender, since when."""

    async def deposit(self, sender: PublicKey, ident: bytes, content: object) -> list[object]:
        """Keep something for a station. Raises `CredentialError`, `ValueError`, `StoreError`."""
        recipient, kind, salt, sealed, expires, urls = array(content, "deposit", 6)
        byte_string(recipient, "recipient", 32)
        byte_string(salt, "salt", SALT_BYTES)
        byte_string(sealed, "sealed", 1, MAX_DEPOSIT_BYTES)
        uint(expires, "expires", 2**53)
        places = _places(urls)
        policy = self._policy.now
        if kind not in KINDS:
            return _refused("malformed", "a dock keeps messages of handoffs and letters")
        if PublicKey(recipient) not in policy.dock_for:
            return _refused("no-dock", "this station is not the dock of that one")
        count, size = self._here.store.kept_for(recipient, LetterKind.DOCKED.value)
        if count >= policy.dock_letters or size + len(sealed) > policy.dock_bytes:
            return [LetterAnswer.LATER.value, "as much waits for that station as may"]
        if not self._has_share(recipient, sender.raw, len(sealed)):
            return [LetterAnswer.LATER.value, "one station may fill a quarter of the room in an hour"]
        until = min(expires, self._here.clocks.now() + KEEP_MS)
        value = [sender.raw, kind, salt, sealed, places]
        own = identify("docked", recipient, sender.raw, ident)
        posted = Outbox.posted(PublicKey(recipient), LetterKind.DOCKED, own, value, until)
        await self._here.journal.write([posted], True)
        self._here.outbox.nudge()
        return [LetterAnswer.TAKEN.value]

    def kept(self, station: PublicKey) -> tuple[int, int]:
        """How many things are kept for a station, and how many bytes they have."""
        return self._here.store.kept_for(station.raw, LetterKind.DOCKED.value)

    def _has_share(self, recipient: bytes, sender: bytes, size: int) -> bool:
        now, most = asyncio.get_running_loop().time(), self._policy.now.dock_bytes // SHARE
        if len(self._filled) >= MAX_DEPOSITED:
            self._filled = {key: each for key, each in self._filled.items() if now - each[0] < SHARE_S}
        since, filled = self._filled.get((recipient, sender), (now, 0))
        if now - since >= SHARE_S:
            since, filled = now, 0
        if len(self._filled) >= MAX_DEPOSITED or (filled and filled + size > most):
            return False
        self._filled[recipient, sender] = since, filled + size
        return True

    async def collect(self, sender: PublicKey, content: object) -> list[object]:
        """Give a station what waits for it: a piece of the first thing with at least this number.

        `content`: [number, offset, the numbers of things that it has]. Raises `CredentialError`, `StoreError`.
        """
        number, offset, done = array(content, "collection", 3)
        uint(number, "number", 2**53)
        uint(offset, "offset", MAX_DEPOSIT_BYTES + 4096)
        kind = LetterKind.DOCKED.value
        drops: list[Change] = []
        for each in array(done, "numbers", MAX_DONE):
            had = self._here.store.first_kept(sender.raw, kind, uint(each, "number", 2**53))
            if had is not None and had.number == each:
                drops.append(DropLetter(had.number))
        if drops:
            await self._here.journal.write(drops, False)
        found = self._here.store.first_kept(sender.raw, kind, number)
        if found is None:
            return [LetterAnswer.TAKEN.value, []]
        return [LetterAnswer.TAKEN.value, [found.number, len(found.body), found.body[offset : offset + PIECE_BYTES]]]


@define(eq=False, repr=False)
class Deposits:
    """Gives docks what cannot reach its station. `letter`: delivers a letter, directly; `room`: this station's own;
    `urls(dock)`: where this station can be reached: who fetches a deposit may have to ask about it.
    """

    _room: DockRoom
    _keys: SharedKeys
    _peers: PeerDirectory
    _letter: Letter
    _urls: Callable[[PublicKey], list[str]]
    _random: Callable[[int], bytes]
    _clock: Callable[[], int]
    docks: OrderedDict[PublicKey, tuple[tuple[PublicKey, str], ...]] = field(factory=OrderedDict)
    """The docks of each station that has named some: their keys and URLs."""
    _made: OrderedDict[bytes, float] = field(factory=OrderedDict)
    """What docks have, and until when it is not deposited again."""
    _offered: OrderedDict[bytes, None] = field(factory=OrderedDict)
    """The offers that a dock has, or may have: its answer is not there yet, or was lost."""

    def learn(self, station: PublicKey, value: object) -> None:
        """A station has named its docks, as it signed or said itself. Raises `CredentialError`, `ValueError`."""
        rows = [array(row, "dock", 2) for row in array(value, "docks", MAX_DOCKS)]
        found = []
        for raw, url in rows:
            where = url_of(url) if isinstance(url, str) else None
            if where is None:
                raise CredentialError("malformed", "a dock without an address")
            found.append((PublicKey(byte_string(raw, "dock", 32)), where))
        self.docks.pop(station, None)
        if found:
            self.docks[station] = tuple(found)
        while len(self.docks) > MAX_DOCKED:
            self.docks.popitem(last=False)

    def encode(self) -> bytes:
        """What is known, for the store."""
        return canonical.encode([[each.raw, _rows(docks)] for each, docks in self.docks.items()])

    def restore(self, data: bytes) -> None:
        """The inverse of `encode`. Damaged data is ignored."""
        try:
            for raw, rows in canonical.decode(data, _BOUNDS) if data else []:
                self.learn(PublicKey(raw), rows)
        except (NotCanonical, CredentialError, ValueError, TypeError):
            return

    def has(self, station: PublicKey) -> bool:
        """Whether docks of this station are known."""
        return station in self.docks

    async def message(self, to: PublicKey, message: Message) -> bool:
        """Give a message of a handoff to a dock of its station. Whether one has it."""
        if isinstance(message, Abort) and message.hid not in self._offered:
            return False  # its offer is nowhere
        if isinstance(message, Offer) and self.has(to):
            self._offered[message.hid] = None
            while len(self._offered) > MAX_DEPOSITED:
                self._offered.popitem(last=False)
        return await self._give(to, "handoff", _mark(message.hid, type(message)), codec.encode_message(message))

    async def post(self, to: PublicKey, letter: Any) -> bool:
        """The same with a letter."""
        if not isinstance(letter, list) or len(letter) != 3 or letter[0] not in _POSTED:
            return False
        return await self._give(to, "letter", identify("deposit", letter[1]), [canonical.encode(letter)])

    def deposited(self, letter: StoredLetter) -> bool:
        """Whether a letter of the outbox was given to a dock of late."""
        with contextlib.suppress(NotCanonical, ValueError, TypeError):
            ident, _ = canonical.decode(letter.body, _BOUNDS)
            return identify("deposit", ident) in self._made
        return False

    async def _give(self, to: PublicKey, kind: str, mark: bytes, bodies: Sequence[Buffer]) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._made.get(mark, 0.0):
            return True
        if not self.has(to) or sum(map(len, bodies)) > MAX_DEPOSIT_BYTES // 2:
            return False
        ephemeral, salt = self._keys.ephemeral(to, self._random, now), self._random(SALT_BYTES)
        _, pieces, _ = seal_request(self._keys, to, kind, bodies, ephemeral, salt)
        sealed, until = b"".join(pieces()), self._clock() + KEEP_MS
        for dock, url in self.docks[to]:
            self._peers.hint(dock, [url])
            content = [to.raw, kind, salt, sealed, until, self._urls(dock)]
            try:
                if dock == self._keys.me:  # this station is a dock of that one
                    answer = await self._room.deposit(dock, mark, content)
                else:
                    answer = await self._letter(dock, [LetterKind.DEPOSIT.value, mark, content])
            except (CarrierError, CredentialError, StoreError) as error:
                _log.info("a dock does not answer: %s", error)
                continue
            if isinstance(answer, list) and answer[:1] == [LetterAnswer.TAKEN.value]:
                self._made[mark] = now + AGAIN_S
                while len(self._made) > MAX_DEPOSITED:
                    self._made.popitem(last=False)
                return True
        return False


def _mark(hid: bytes, kind: type[Message]) -> bytes:
    return identify("deposit", hid, kind.__name__)


def _places(urls: object) -> list[str]:
    """The addresses of who deposited something."""
    return [text(url, "address", MAX_URL_BYTES) for url in array(urls, "addresses", MAX_URLS)]


def _rows(docks: Sequence[tuple[PublicKey, str]]) -> list[list[object]]:
    return [[key.raw, url] for key, url in docks]


@define(eq=False, repr=False)
class Docked:
    """This station's own docks, and what it fetches there. `letter`: delivers a letter; `receive(sender, letter)` and
    `handoff(sender, message)`: treat what came; `exchange(peer, message)`: sends an answer of a handoff.
    """

    _here: Residents
    _keys: SharedKeys
    _limits: codec.MessageLimits
    _letter: Letter
    _receive: Callable[[PublicKey, object], Awaitable[list[object]]]
    _handoff: Callable[[PublicKey, Message], Awaitable[Message | None]]
    _exchange: Callable[[bytes, Message], Awaitable[Message | None]]
    own: dict[PublicKey, str] = field(factory=dict)
    """The docks that were met, and where."""
    fetched: int = 0
    _wanted: asyncio.Event = field(factory=asyncio.Event)

    async def run(self) -> None:
        """Fetch from all docks, now and again and again: soon where something came. Runs until cancelled."""
        pause = 0.0
        while True:
            self._wanted.clear()
            before = self.fetched
            for dock in tuple(self.own):
                try:
                    await self._round(dock)
                except (CarrierError, StoreError, CredentialError, ValueError, TypeError) as error:
                    _log.info("nothing came from the dock %s: %s", dock, error)
            pause = SOON_S if self.fetched > before else min(2 * pause or SOON_S, ROUND_S)
            timer = asyncio.get_running_loop().call_later(pause, self._wanted.set)
            await self._wanted.wait()
            timer.cancel()

    def soon(self) -> None:
        """Fetch now: a dock was met, or the network is another."""
        self._wanted.set()

    def tell(self, peer: PublicKey) -> None:
        """Name this station's docks to a peer."""
        if self.own and not self._here.closing:
            self._here.run(self._say(peer))

    async def _say(self, peer: PublicKey) -> None:
        rows = _rows(tuple(self.own.items())[:MAX_DOCKS])
        try:
            await self._letter(peer, [LetterKind.DOCKS.value, self._here.clocks.random(32), rows])
        except CarrierError as error:
            _log.debug("%s was not told of the docks: %s", peer, error)

    async def _round(self, dock: PublicKey) -> None:
        number, done = 0, list[int]()
        for _ in range(MAX_ROUND):
            found = await self._fetch(dock, number, done)
            if found is None:
                return
            number, body = found[0] + 1, found[1]
            done = [found[0]] if await self._take(body) else []

    async def _fetch(self, dock: PublicKey, number: int, done: list[int]) -> tuple[int, bytes] | None:
        body, size, first = bytearray(), 1, number
        while len(body) < size:
            content = [first, len(body), [] if body else done]
            answer = await self._letter(dock, [LetterKind.COLLECT.value, self._here.clocks.random(32), content])
            said, row = array(answer, "answer", 2)
            if said != LetterAnswer.TAKEN.value or row == []:
                return None
            found, size, piece = array(row, "deposit", 3)
            byte_string(piece, "piece", 1, PIECE_BYTES)
            if uint(size, "size", MAX_DEPOSIT_BYTES + 4096) < len(body) + len(piece) or (body and found != first):
                raise CredentialError("malformed", "the dock changes what it gives")
            first = uint(found, "number", 2**53)
            body += piece
        return first, bytes(body)

    async def _take(self, body: bytes) -> bool:
        """Treat what was fetched. Whether the dock need not keep it."""
        try:
            _, content = array(canonical.decode(body, _BOUNDS), "deposit", 2)
            answer = await self.taken(content)
        except (NotCanonical, CredentialError, ValueError, TypeError) as error:
            _log.warning("a deposit is dropped: %s", error)
            return True
        return answer[0] != LetterAnswer.LATER.value

    async def taken(self, content: object) -> list[object]:
        """Treat something that a dock kept: [sender, kind, salt, sealed, URLs]. The answer is for the dock alone.

        Raises `CredentialError`, `ValueError`: it is not what it should be.
        """
        raw, kind, salt, sealed, urls = array(content, "deposit", 5)
        sender = public_key(byte_string(raw, "sender", 32))
        byte_string(salt, "salt", SALT_BYTES)
        byte_string(sealed, "sealed", 1, MAX_DEPOSIT_BYTES)
        if kind not in KINDS:
            return _refused("malformed", "neither a message of a handoff nor a letter")
        opening = opener(self._keys, sender, kind, salt)
        data = b"".join([*opening.feed(sealed), opening.finish()])
        self.fetched += 1
        # Only where it may be: it proves its key there. Not its docks, which are its own to name.
        self._here.peers.hint(sender, [url for url in _places(urls) if not url.startswith(DOCK)])
        try:
            if kind == "handoff":
                return await self._handed(sender, codec.decode_message(data, self._limits))
            letter = canonical.decode(data, _BOUNDS)
        except (NotCanonical, MalformedMessage) as error:
            return _refused("malformed", str(error))
        except (ProtocolError, StoreError):
            return [LetterAnswer.LATER.value, "the station cannot take it now"]
        if not isinstance(letter, list) or not letter or letter[0] in _OUTSIDE:
            return _refused("letter-kind", "letters to docks are for docks")
        return await self._receive(sender, letter)

    async def _handed(self, sender: PublicKey, message: Message) -> list[object]:
        answer = await self._handoff(sender, message)
        if answer is not None:
            self._here.run(self._answer(sender, answer))
        elif isinstance(message, Offer | CommitMessage):
            return [LetterAnswer.LATER.value, "not written yet"]
        return [LetterAnswer.TAKEN.value]

    async def _answer(self, sender: PublicKey, answer: Message) -> None:
        try:
            reply = await self._exchange(sender.raw, answer)
            if reply is not None:
                await self._handoff(sender, reply)
        except (CarrierError, ProtocolError, StoreError) as error:
            _log.info("an answer to what a dock kept was not sent: %s", error)  # the protocol repeats it
