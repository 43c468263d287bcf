"""What other stations send besides handoffs: letters for agents and for this home, news of agents, greetings.

Each letter is judged by itself and answered: taken, later, or refused with a code. Senders are authenticated stations,
and nothing more. Invariants: a letter is answered "taken" only when its content is durable here, or was durably
forwarded; a letter is forwarded at most `MAX_STEPS` times, and then waits.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import re

from attrs import define

from agents import canonical
from agents.credentials import envelope
from agents.credentials.envelope import identify
from agents.credentials.fields import array, byte_string, text, uint
from agents.credentials.keys import PublicKey, bytes_of, text_of
from agents.errors import CallFailed, CredentialError, NotCanonical
from agents.hostcalls import EAGAIN, EHOSTUNREACH, EIO, ENOSPC
from agents.waits import MAX_BODY_BYTES, MAX_HOST_BYTES, Message, Recv
from docking.aio.threads import in_thread
from docking.aio.timeouts import within
from docking.errors import CarrierError, StationError, StoreError, StoreFull
from docking.letters.journeys import OVER, Journeys, JourneyStanding, check_said, sayable
from docking.letters.orders import Order, OrderKind, SendOutcome, read_order
from docking.letters.outbox import MAX_LETTER_WORDS, LetterAnswer, LetterKind, Outbox
from docking.peers.directory import PeerDirectory
from docking.residents import checkpoints
from docking.residents.berth import Berth, Delivery, Standing
from docking.residents.commands import Commands
from docking.residents.endings import Endings
from docking.residents.lifecycle import Lifecycle
from docking.residents.queries import Queries
from docking.residents.residents import Residents
from docking.residents.witnesses import Witnesses
from docking.store.changes import Change, Letter
from docking.store.group_commit import GroupCommit

_log = logging.getLogger(__name__)
# How often a letter is forwarded after an agent; then it waits where it is until the agent comes by.
MAX_STEPS = 256
# How long a sending agent waits for stations that are asked where an unknown receiver is.
ASKING_S = 5.0
# Stations that are asked for an agent: the sender's home, and those that are present.
MAX_ASKED = 16
# How long a sending agent waits for the station to take its message before it gets EAGAIN: the event loop or the disk
# is very slow then.
SEND_WITHIN_S = 30.0
# How long delivery of a message is tried.
MESSAGE_LIFETIME_MS = 7 * 86_400_000
# From this size on, the end of a journey is verified outside the event loop.
VERIFY_ASIDE_BYTES = 64 << 10
TAKEN: list[object] = [LetterAnswer.TAKEN.value]
_EXIT_CODE = re.compile(r"-?[0-9]{1,10}\Z")


def later(reason: str) -> list[object]:
    """Ask the sender to try again."""
    return [LetterAnswer.LATER.value, reason]


def refused(code: str, reason: str) -> list[object]:
    """Tell the sender not to try again."""
    return [LetterAnswer.REFUSED.value, code, reason[:500]]


@define(eq=False, repr=False)
class Inbound:
    """Handles what peers send, besides handoffs."""

    _here: Residents
    _journal: GroupCommit
    _journeys: Journeys
    _outbox: Outbox
    _peers: PeerDirectory
    _lifecycle: Lifecycle
    _commands: Commands
    _queries: Queries
    _endings: Endings
    _witnesses: Witnesses

    async def receive(self, sender: PublicKey, value: object) -> list[object]:
        """Handle a letter; returns the answer."""
        try:
            kind, ident, content = array(value, "letter", 3)
            byte_string(ident, "letter's id", 32)
            match kind:
                case LetterKind.MESSAGE:
                    return await self._message(ident, content)
                case LetterKind.ORDER:
                    return await self._order(ident, content)
                case LetterKind.ENDED:
                    return await self._ended(sender, content)
                case LetterKind.WITNESS:
                    return await self._witnesses.answer(sender, content)
                case LetterKind.TOLD:
                    return self._told(sender, content)
                case _:
                    return refused("letter-kind", "letters of this kind are not read here")
        except CredentialError as error:
            return refused(error.code, error.reason)
        except ValueError:
            return refused("malformed", "the letter has another shape")
        except StoreError:
            return later("the station cannot write now")
        except StationError as error:
            return refused("station", str(error))

    # Messages of agents

    def send(self, berth: Berth, to: str, body: bytes, number: int) -> None:
        """In a worker: an agent here sends a message. Returns when its receiver or the outbox has taken it, durably.

        Raises `CallFailed`.
        """
        loop = self._here.loop
        if loop is None or self._here.failure:
            raise CallFailed(EIO, "the station cannot write to its store")
        taking = asyncio.run_coroutine_threadsafe(self._send(berth, to, body, number), loop)
        try:
            taking.result(SEND_WITHIN_S)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError) as error:
            taking.cancel()
            raise CallFailed(EAGAIN, "the station has not taken the message in time") from error
        except StoreFull as error:
            raise CallFailed(ENOSPC, str(error)) from error
        except StoreError as error:
            raise CallFailed(EIO, str(error)) from error

    async def _send(self, berth: Berth, to: str, body: bytes, number: int) -> None:
        try:
            agent = self._agent_of(to)
        except CredentialError as error:
            raise CallFailed(EHOSTUNREACH, f"{to[:64]!r} is no agent that is known here, and no agent's id") from error
        # It covers the body: after a crash, the agent may send another message under the same number.
        ident = identify("message", berth.agent, berth.visit, number, agent, canonical.digest(body))
        message = Message(text_of(berth.agent), body)
        content = [agent, message.sender, body, 0]
        delivery, written = self.accept(agent, message, ident)
        if delivery is Delivery.FULL:
            raise CallFailed(ENOSPC, "the agent has too many messages that it has not read")
        if written is None:
            address = self._address(agent, delivery)
            if address is None:
                await self._ask_around(berth, content, ident)
                return
            written = self._post(LetterKind.MESSAGE, ident, content, address)
        await written
        self._outbox.nudge()

    async def _ask_around(self, berth: Berth, content: list[object], ident: bytes) -> None:
        """Give a message to a station that knows the agent, which this one does not.

        Raises `CallFailed`: EHOSTUNREACH when none of the stations knows it, EAGAIN when one of them cannot be asked.
        """
        own, home = self._here.key.public, berth.credentials.passport.body.home.station
        others = [peer.key for peer in self._peers.all() if peer.present or peer.configured]
        failed = ""
        for key in [key for key in dict.fromkeys([home, *others]) if key != own][:MAX_ASKED]:
            try:
                answer = await within(ASKING_S, self._outbox.hand_over(key, LetterKind.MESSAGE, ident, content))
            except (CarrierError, asyncio.TimeoutError) as error:
                failed = f"{self._peers.label(key)} may know the agent, and does not answer: {error}"
                continue
            if answer[:1] == [LetterAnswer.TAKEN]:
                return
            if answer[:1] == [LetterAnswer.LATER]:
                failed = f"{self._peers.label(key)} cannot take the message now"
        if failed:
            raise CallFailed(EAGAIN, failed)
        raise CallFailed(EHOSTUNREACH, "no station that is known here knows an agent with this id")

    def send_from_station(self, agent: bytes, body: bytes) -> tuple[SendOutcome, asyncio.Future[None] | None]:
        """Send a message from this station itself: what becomes of it, and when that is durable.

        Raises `StationError` for one that is too large.
        """
        if len(body) > MAX_BODY_BYTES:
            raise StationError(f"a message of {len(body)} bytes; at most {MAX_BODY_BYTES} are taken")
        ident = identify("message", self._here.key.public.raw, self._here.clocks.random(16))
        message = Message(self._here.name, body)
        delivery, written = self.accept(agent, message, ident)
        if written is not None:
            return SendOutcome.DELIVERED, written
        if delivery is Delivery.FULL:
            delivery = Delivery.BUSY  # it waits in the outbox until there is room
        to = self._address(agent, delivery)
        if to is None:
            return SendOutcome.UNKNOWN, None
        written = self._post(LetterKind.MESSAGE, ident, [agent, message.sender, body, 0], to)
        written.add_done_callback(lambda _: self._outbox.nudge())
        return SendOutcome.SENT, written

    def _agent_of(self, to: str) -> bytes:
        for berth in self._here.berths.values():
            if berth.label == to:
                return berth.agent
        return byte_string(bytes_of(to), "agent", 32)

    def accept(self, agent: bytes, message: Message, ident: bytes) -> tuple[Delivery, asyncio.Future[None] | None]:
        """Deliver to an agent that is here: the result, and if it was taken, a future that ends when it is durable."""
        berth = self._here.berths.get(agent)
        if berth is None:
            busy = agent in self._queries.kept or self._queries.arriving(agent)
            return Delivery.BUSY if busy else Delivery.AWAY, None
        if berth.standing is Standing.LEAVING or berth.barred:
            return Delivery.BUSY, None
        delivery = berth.deliver(message, ident)
        if delivery is Delivery.FULL:
            return delivery, None
        if delivery is Delivery.TAKEN and isinstance(berth.wait, Recv) and berth.standing is Standing.WAITING:
            self._lifecycle.go_on(berth, berth.receive())
        self._here.catch_up()  # write what it refers to first
        return delivery, self._journal.write([checkpoints.with_mail(berth)], True)

    def _address(self, agent: bytes, delivery: Delivery) -> PublicKey | None:
        """Where an undelivered message goes: into this station's own outbox while the agent is busy here."""
        return self._here.key.public if delivery is Delivery.BUSY else self._queries.where(agent)

    def _post(self, kind: LetterKind, ident: bytes, content: list[object], to: PublicKey) -> asyncio.Future[None]:
        """Put a letter into the outbox; the future ends when it is durable."""
        expires = self._here.clocks.now() + MESSAGE_LIFETIME_MS
        return self._journal.write([Outbox.posted(to, kind, ident, content, expires)], True)

    async def _message(self, ident: bytes, content: object) -> list[object]:
        agent, sender, body, steps = array(content, "message", 4)
        byte_string(agent, "agent", 32)
        text(sender, "sender", MAX_HOST_BYTES)
        byte_string(body, "body", 0, MAX_BODY_BYTES)
        delivery, written = self.accept(agent, Message(sender, body), ident)
        if written is not None:
            await written
            return TAKEN
        if delivery is Delivery.BUSY:
            return later("the agent is leaving, or may not go on here")
        if delivery is Delivery.FULL:
            return later("the agent has too many messages")
        return await self._onward(
            LetterKind.MESSAGE, ident, [agent, sender, body, uint(steps, "steps", 2**16) + 1], agent
        )

    async def _onward(self, kind: LetterKind, ident: bytes, content: list[object], agent: bytes) -> list[object]:
        """Forward a letter to where the agent went."""
        if uint(content[-1], "steps") > MAX_STEPS:
            return later("the letter was passed on too often: it waits here for the agent")
        to = self._queries.where(agent)
        if to is None:
            return refused("unknown-agent", "this agent is not here, and was not")
        await self._post(kind, ident, content, to)
        self._outbox.nudge()
        return TAKEN

    # Orders from home

    async def _order(self, ident: bytes, content: object) -> list[object]:
        data, steps = array(content, "order", 2)
        order, signer = read_order(byte_string(data, "order", 1, 4096), self._here.clocks.now())
        berth = self._here.berths.get(order.agent)
        if berth is None:
            return await self._onward(LetterKind.ORDER, ident, [data, uint(steps, "steps", 2**16) + 1], order.agent)
        if signer != berth.credentials.passport.body.home.station:
            return refused("not-home", "the order is not signed by the agent's home")
        if berth.standing is Standing.LEAVING:
            return later("the agent is leaving")
        if berth.owed is not None and order.what not in (OrderKind.DISPOSE, OrderKind.WAKE):
            return later(f"the agent {berth.owed.said}")
        said = canonical.digest(data)
        if said in berth.seen:
            return TAKEN  # repeated, or replayed by someone: do not clone twice
        self._commands.obey(berth, order.what)
        berth.see(said)
        return TAKEN

    # News for a home

    async def _ended(self, sender: PublicKey, content: object) -> list[object]:
        data, standing, said = array(content, "ending", 3)
        byte_string(data, "capsule", 1, 2**24)
        check_said(said)
        if standing not in OVER:
            return refused("malformed", "a journey ends as finished or disposed")
        standing = JourneyStanding(standing)
        if standing is JourneyStanding.FINISHED and not _EXIT_CODE.match(said):
            return refused("malformed", "an agent that finished has an exit code")
        if len(data) < VERIFY_ASIDE_BYTES:
            judged = self._journeys.judge(data, sender)
        else:
            judged = await in_thread(self._journeys.judge, data, sender)
        journey, changes = self._journeys.ended(judged, standing, said)
        await self._journal.write(changes, True)
        place = self._peers.label(sender)
        self._here.tell("home", journey.agent, place=place, text=said, label=journey.label)
        return TAKEN

    def _told(self, sender: PublicKey, content: object) -> list[object]:
        changes: list[Change] = []
        for word in array(content, "words", MAX_LETTER_WORDS):
            change = self._journeys.told(sender, word)
            if change is not None:
                changes.append(change)
                journey = self._journeys.get(change.agent)
                label = "" if journey is None else journey.label
                place = self._peers.label(sender)
                self._here.tell("told", change.agent, place=place, text=word[3], label=label)
        if changes:
            self._here.write(changes)
        return TAKEN

    # Refused letters

    def not_taken(self, letter: Letter, answer: list[object]) -> list[Change]:
        """A letter was refused: perhaps another one will do, or the operator should know."""
        if letter.kind == LetterKind.ORDER:
            self._order_refused(letter, answer)
        if letter.kind == LetterKind.MESSAGE:
            place = self._peers.label(PublicKey(letter.recipient))
            reason = sayable(str(answer[-1]))
            agent = b""
            with contextlib.suppress(NotCanonical, ValueError, TypeError, IndexError):
                agent = bytes(canonical.decode(letter.body)[1][0])
            self._here.tell("alarm", agent, place=place, text=f"a message was not taken: {reason}")
        if letter.kind != LetterKind.ENDED or len(answer) < 2 or answer[1] != "trail-unknown":
            return []
        return self._endings.again(letter)

    def _order_refused(self, letter: Letter, answer: list[object]) -> None:
        """An order from here was not carried out: say so here."""
        place = self._peers.label(PublicKey(letter.recipient))
        with contextlib.suppress(CredentialError, NotCanonical, ValueError, TypeError, IndexError):
            _, (data, _) = canonical.decode(letter.body)
            order = envelope.verify(Order, data, self._here.key.public).body  # else it was forwarded for another home
            reason = sayable(str(answer[2]))
            self._here.tell("refused", order.agent, place=place, text=f"{order.what}: {reason}")
