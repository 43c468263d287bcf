"""Brings messages to agents, wherever they are and however often they move.

The station where a message was sent keeps it until another one says that it is stored with the agent: a station that
passes it on keeps nothing. A message for an agent that is leaving is passed on at once, to where the agent is about to
be, and waits there for a moment: so it catches up with one that never rests. The answer says where that was, and the
next message goes there directly.

Not here: what agents send (`docking.residents.talking`), and the outbox. Invariants: "taken" is answered only when the
message is durable with the agent, which then has it once; one that cannot be brought stays where it was sent; what
waits here is bounded in number, bytes and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator

from attrs import define, field

from agents.credentials.keys import PublicKey, public_key, text_of
from agents.errors import CredentialError
from docking.aio.timeouts import within
from docking.errors import CarrierError, StationError
from docking.letters.outbox import LetterAnswer, LetterKind, Outbox
from docking.letters.packets import Addressed, Packet, PacketKind
from docking.peers.directory import PeerDirectory
from docking.residents import checkpoints
from docking.residents.berth import Delivery, Standing
from docking.residents.lifecycle import Lifecycle
from docking.residents.queries import Queries
from docking.residents.residents import Residents
from docking.store.group_commit import GroupCommit

_log = logging.getLogger(__name__)
# How often a message is passed on in one attempt to bring it to its agent; then its first station tries again.
MAX_STEPS = 32
# Milliseconds that an attempt may wait for an agent that is on its way, in all; each station takes a part of it off, so
# that its own answer still comes in time.
PATIENCE_MS, STEP_MS = 2000, 30
# The longest wait for an answer beside that, seconds.
ANSWER_S = 5.0
# Messages, and their bytes, that wait here at once for agents that are on their way.
MAX_WAITING, MAX_WAITING_BYTES = 512, 32 << 20
# Messages that wait for one agent.
MAX_WAITING_FOR_ONE = 64
# Agents of which it is known where a message found them last.
MAX_PLACES = 4096
# How long an agent that no station knows is looked for, milliseconds.
UNKNOWN_MS = 60_000
# Stations that are asked for an agent that is not known here: the sender's home, and those that are present.
MAX_ASKED = 16
# Questions of people and programs at this station that wait for an answer.
MAX_ASKED_HERE = 1024
_ANSWERS = tuple(each.value for each in LetterAnswer)


def later(reason: str, at: PublicKey | None = None) -> list[object]:
    """Ask the sender to try again. `at`: where the agent is expected, or which station is to be heard of."""
    return [LetterAnswer.LATER.value, reason] + ([] if at is None else [at.raw])


def refused(code: str, reason: str) -> list[object]:
    """Tell the sender not to try again."""
    return [LetterAnswer.REFUSED.value, code, reason[:500]]


def _done() -> asyncio.Future[None]:
    """Nothing is to be written."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


def _is_unknown(answer: list[object]) -> bool:
    return answer[:2] == [LetterAnswer.REFUSED.value, "unknown-agent"]


@define(eq=False, repr=False)
class Post:
    """Brings messages to agents, from one station."""

    _here: Residents
    _journal: GroupCommit
    _outbox: Outbox
    _peers: PeerDirectory
    _lifecycle: Lifecycle
    _queries: Queries
    _heading: Callable[[bytes], PublicKey | None]
    """Where an agent that is leaving is being offered."""
    places: OrderedDict[bytes, PublicKey] = field(factory=OrderedDict)
    """Where messages found agents that are not here."""
    _asked: dict[bytes, tuple[bytes, asyncio.Future[Packet]]] = field(factory=dict)
    _waiting: dict[bytes, list[asyncio.Future[None]]] = field(factory=dict)
    _count: int = 0
    _bytes: int = 0
    _began: int = 0
    """When the station started, ms since 1970."""

    def __attrs_post_init__(self) -> None:
        self._began = self._here.clocks.now()
        self._here.changed = self.changed
        self._outbox.carry = self.carry

    # To agents that are here

    def accept(self, packet: Packet, ident: bytes) -> tuple[Delivery, asyncio.Future[None] | None]:
        """Deliver to an agent that is here: the result, and if it was taken, a future that ends when it is durable."""
        agent = packet.to
        berth = self._here.berths.get(agent)
        if berth is None and agent == self._here.key.public.raw:
            return self._answered(packet)
        if berth is None:
            busy = agent in self._queries.kept or self._queries.arriving(agent)
            return Delivery.BUSY if busy else Delivery.AWAY, None
        if berth.standing is Standing.LEAVING or berth.barred:
            return Delivery.BUSY, None
        delivery = berth.deliver(packet, ident, self._here.clocks.now())
        if delivery in (Delivery.FULL, Delivery.EARLY):
            return delivery, None
        if delivery is Delivery.LATE:
            self._here.counts[f"late {packet.kind}"] += 1
            if packet.kind is not PacketKind.ASK:
                return delivery, _done()
        if delivery is Delivery.TAKEN:
            self._lifecycle.mail(berth)
        self._here.catch_up()  # write what it refers to first
        written = self._journal.write([checkpoints.with_mail(berth)], True)
        if delivery is Delivery.TAKEN and agent in self._waiting:
            self.changed(agent)  # one that came too early may be next
        return delivery, written

    def _answered(self, packet: Packet) -> tuple[Delivery, asyncio.Future[None]]:
        """An answer to somebody at this station."""
        asked = self._asked.get(packet.token)
        forged = asked is not None and packet.kind is PacketKind.REPLY and packet.sender != text_of(asked[0])
        if asked is None or forged or asked[1].done() or packet.kind not in (PacketKind.REPLY, PacketKind.FAILED):
            self._here.counts[f"late {packet.kind}"] += 1
            return Delivery.LATE, _done()
        asked[1].set_result(packet)
        return Delivery.TAKEN, _done()

    @contextlib.contextmanager
    def asked(self, agent: bytes, token: bytes) -> Iterator[asyncio.Future[Packet]]:
        """Somebody at this station asks an agent: the future that is given the answer. Raises `StationError`."""
        if len(self._asked) >= MAX_ASKED_HERE:
            raise StationError(f"{MAX_ASKED_HERE} questions wait for their answers here: try again later")
        answer: asyncio.Future[Packet] = asyncio.get_running_loop().create_future()
        self._asked[token] = agent, answer
        try:
            yield answer
        finally:
            del self._asked[token]

    def changed(self, agent: bytes) -> None:
        """An agent has come, gone or stayed, or has got a message: look again at those that wait for it."""
        self.places.pop(agent, None)
        for each in self._waiting.pop(agent, ()):
            if not each.done():
                each.set_result(None)
        self._outbox.here_now(agent)

    async def _change(self, packet: Packet, seconds: float) -> bool:
        """Wait until something has changed about its receiver. Whether that may be so."""
        size, line = len(packet.body), self._waiting.get(packet.to, ())
        if seconds <= 0 or len(line) >= MAX_WAITING_FOR_ONE:
            return False
        if self._count >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            return False
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(packet.to, []).append(change)
        self._count += 1
        self._bytes += size
        try:
            await asyncio.wait({change}, timeout=seconds)
            return change.done()
        finally:
            self._count -= 1
            self._bytes -= size
            waiting = self._waiting.get(packet.to, [])
            if change in waiting:
                waiting.remove(change)
                if not waiting:
                    del self._waiting[packet.to]

    # To agents anywhere

    async def carry(self, ident: bytes, value: object) -> list[object]:
        """For the outbox: bring a message to its agent."""
        packet = Packet.of(value)
        answer = await self.bring(Addressed(packet, ident, patience_ms=PATIENCE_MS))
        # A station may not know it yet, or not any more: where it was known, only after a while nobody does.
        early = self._here.clocks.now() - max(packet.time, self._began) < UNKNOWN_MS
        again = early and _is_unknown(answer) and self._queries.where(packet.to) is not None
        return later(str(answer[2])) if again else answer

    async def bring(self, letter: Addressed) -> list[object]:
        """Bring a message to its agent; returns the answer of the station where the agent is, or why it has none."""
        loop, packet = asyncio.get_running_loop(), letter.packet
        until = loop.time() + min(letter.patience_ms, PATIENCE_MS) / 1000
        while True:
            berth = self._here.berths.get(packet.to)
            if packet.to == self._here.key.public.raw:
                self.accept(packet, letter.ident)
                return [LetterAnswer.TAKEN.value, packet.to]
            if berth is None and packet.to in self._queries.kept:
                return later("the agent is suspended here", self._here.key.public)
            if berth is None and not letter.expected and not self._queries.arriving(packet.to):
                letter.patience_ms = max(0, int((until - loop.time()) * 1000))
                return await self._elsewhere(letter)
            if berth is not None and berth.barred:
                return later("the agent is suspended here", self._here.key.public)
            if berth is not None and berth.standing is Standing.LEAVING:
                letter.patience_ms = max(0, int((until - loop.time()) * 1000))
                answer = await self._ahead(letter, until)
                if answer is not None:
                    return answer
                continue
            if berth is not None:
                delivery, written = self.accept(packet, letter.ident)
                if written is not None:
                    await written
                    return [LetterAnswer.TAKEN.value, self._here.key.public.raw]
                if delivery is Delivery.FULL:
                    return later("the agent has too many messages", self._here.key.public)
            if not await self._change(packet, until - loop.time()):
                return later("the agent is on its way", self._here.key.public)

    async def _ahead(self, letter: Addressed, until: float) -> list[object] | None:
        """Pass a message on to where its agent is about to be; None to look again: the agent has left, or stays."""
        loop, packet = asyncio.get_running_loop(), letter.packet
        to = self._heading(packet.to)
        change = loop.create_task(self._change(packet, until - loop.time()))
        if to is None or letter.steps >= MAX_STEPS:
            return None if await change else later("the agent is leaving", self._here.key.public)
        passed = loop.create_task(self.pass_on(to, letter, expected=True))
        try:
            await asyncio.wait({change, passed}, return_when=asyncio.FIRST_COMPLETED)
            if not passed.done() and change.result() and packet.to in self._here.berths:
                return None  # it stays
            answer = await passed
        except CarrierError:
            return None if not change.done() and await change else later("the agent is leaving", to)
        finally:
            for task in (change, passed):
                task.cancel()
        return answer if answer[:1] == [LetterAnswer.TAKEN.value] or loop.time() >= until else None

    async def _elsewhere(self, letter: Addressed) -> list[object]:
        """Pass a message on to where its agent is, as far as this station knows."""
        agent = letter.packet.to
        if self._queries.ended(agent):
            past = self._here.past.get(agent)
            if past is not None and past.took(letter.packet, letter.ident, self._here.clocks.now()):
                # Said again by one who was not told so, after a crash: an answer to it is on its way.
                return [LetterAnswer.TAKEN.value, self._here.key.public.raw]
            return refused("ended", "the agent has ended")
        if letter.steps >= MAX_STEPS:
            return later("the message was passed on too often")
        unknown = refused("unknown-agent", "no station that is known here knows the agent")
        failed: list[object] | None = None
        asked = self.candidates(letter.packet)
        if letter.steps == 0 and agent not in self.places and self._queries.where(agent) is None:
            asked = list(dict.fromkeys([*asked, *self.neighbours()]))[:MAX_ASKED]
        for to in asked if letter.steps == 0 else asked[:1]:
            try:
                answer = await self.pass_on(to, letter)
            except CarrierError as error:
                self.places.pop(agent, None)
                failed = failed or later(f"{self._peers.label(to)} does not answer: {error}", to)
                continue
            if _is_unknown(answer):
                self.places.pop(agent, None)
                continue
            return answer
        if not asked and letter.steps == 0 and self._here.clocks.now() - self._began < UNKNOWN_MS:
            return later("no other station is known here yet")  # this one has just started
        return failed or unknown

    def neighbours(self) -> list[PublicKey]:
        """The stations that are present."""
        return [peer.key for peer in self._peers.all() if peer.present or peer.configured]

    def candidates(self, packet: Packet) -> list[PublicKey]:
        """The stations that may know the receiver of a message, the most likely first."""
        likely = [self.places.get(packet.to), self._queries.where(packet.to), *packet.homes]
        if packet.kind in (PacketKind.REPLY, PacketKind.FAILED):
            with contextlib.suppress(CredentialError):  # perhaps a person at that station has asked, and no agent
                key = public_key(packet.to)
                likely = [key] if self._peers.addresses(key) else likely
        own = self._here.key.public
        return [key for key in dict.fromkeys(likely) if key is not None and key != own]

    async def pass_on(self, to: PublicKey, letter: Addressed, expected: bool = False) -> list[object]:
        """Pass a message on to another station; returns its answer. Raises `CarrierError`."""
        patience = max(0, letter.patience_ms - STEP_MS)
        onward = Addressed(letter.packet, letter.ident, letter.steps + 1, expected, patience)
        asked = self._outbox.hand_over(to, LetterKind.TALK, letter.ident, onward.value())
        try:
            answer = await within(patience / 1000 + ANSWER_S, asked)
        except asyncio.TimeoutError:
            raise CarrierError(f"{self._peers.label(to)} does not answer in time") from None
        if not answer or answer[0] not in _ANSWERS:
            raise CarrierError(f"{self._peers.label(to)} answers something else")
        self._learn(letter.packet.to, to, answer)
        return answer

    def _learn(self, agent: bytes, to: PublicKey, answer: list[object]) -> None:
        """Remember where a message found its agent, or where it is expected."""
        at = answer[1:] if answer[0] == LetterAnswer.TAKEN.value else answer[2:]
        if answer[0] == LetterAnswer.REFUSED.value or agent in self._here.berths:
            return
        place = to
        if len(at) == 1 and isinstance(at[0], bytes):
            try:
                place = public_key(at[0])
            except CredentialError:
                return
        if place == self._here.key.public or not (place == to or self._peers.addresses(place)):
            return
        self.places[agent] = place
        self.places.move_to_end(agent)
        while len(self.places) > MAX_PLACES:
            self.places.popitem(last=False)
