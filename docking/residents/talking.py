"""What agents here, and this station, say to agents: a message is durable before its sender is told that it is taken.

Not here: how messages find agents that are elsewhere (`docking.residents.post`). Invariants: a number of a stream is
used up only by a message that was taken; a sender that was set back by a crash says the same again under the same
identity; who sends to an agent that nobody knows is told so.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from attrs import define, field

from agents import canonical
from agents.credentials.envelope import identify
from agents.credentials.fields import byte_string
from agents.credentials.keys import PublicKey, bytes_of, text_of
from agents.errors import CallFailed, CredentialError, NotCanonical
from agents.hostcalls import EAGAIN, EHOSTUNREACH, EIO, ENOENT, ENOSPC
from agents.waits import MAX_BODY_BYTES, Ask, Event, Failed, Posed
from docking.aio.timeouts import within
from docking.errors import CarrierError, StationError, StoreError, StoreFull, UnknownAgent
from docking.letters.journeys import sayable
from docking.letters.orders import SendOutcome
from docking.letters.outbox import LetterAnswer, Outbox
from docking.letters.packets import LIFETIME_MS, MAX_HOMES, Addressed, Packet, PacketKind, read_reply_to
from docking.peers.directory import PeerDirectory
from docking.residents import checkpoints
from docking.residents.berth import EDQUOT, EPERM, SPENT, Berth, Delivery, Standing
from docking.residents.post import MAX_ASKED, PATIENCE_MS, Post
from docking.residents.queries import Queries
from docking.residents.residents import Residents
from docking.store.changes import Change, Letter
from docking.store.group_commit import GroupCommit
from docking.trust.mailbox import MAX_QUESTIONS, QUESTION_BYTES, STREAM_BYTES, Outflow, Question

T = TypeVar("T")
_log = logging.getLogger(__name__)
# How long a sending agent waits for stations that are asked where an unknown receiver is.
ASKING_S = 5.0
# How long a sending agent waits for the station to take its message before it gets EAGAIN: the event loop or the disk
# is very slow then.
SEND_WITHIN_S = 30.0
# Agents to which this station has sent messages itself, whose streams are remembered.
MAX_OWN = 1024


@define(eq=False, repr=False)
class Talking:
    """Takes the messages of the agents at one station, and its own."""

    _here: Residents
    _journal: GroupCommit
    _outbox: Outbox
    _peers: PeerDirectory
    _queries: Queries
    _post: Post
    go_on: Callable[[Berth, Event | None], None]
    _own: OrderedDict[bytes, Outflow] = field(factory=OrderedDict)

    def send(self, berth: Berth, to: str, body: bytes, number: int) -> None:
        """In a worker: an agent here sends a message. Returns when its receiver or the outbox has taken it, durably.

        Raises `CallFailed`.
        """
        self.wait(self._send(berth, to, body, number))

    def reply(self, berth: Berth, ident: str, body: bytes, number: int) -> None:
        """In a worker: an agent here answers a question that it was asked. Returns and raises as `send`."""
        self.wait(self._reply(berth, ident, body, number))

    def wait(self, work: Coroutine[object, object, T]) -> T:
        """In a worker: what becomes of work in the event loop. Raises `CallFailed`."""
        loop = self._here.loop
        if loop is None or self._here.failure:
            work.close()
            raise CallFailed(EIO, "the station cannot write to its store")
        taking = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return taking.result(SEND_WITHIN_S)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError) as error:
            taking.cancel()
            raise CallFailed(EAGAIN, "the station has not taken the message in time") from error
        except StoreFull as error:
            raise CallFailed(ENOSPC, str(error)) from error
        except StoreError as error:
            raise CallFailed(EIO, str(error)) from error

    async def _send(self, berth: Berth, to: str, body: bytes, number: int) -> None:
        agent = self.agent_of(to)
        # It covers the body: after a crash, the agent may send another message under the same number.
        ident = identify("message", berth.agent, berth.visit, number, agent, canonical.digest(body))
        flow = self._flow(berth, agent, number)
        packet = Packet(
            agent,
            text_of(berth.agent),
            body,
            stream=flow.name,
            number=flow.next,
            time=self._here.clocks.now(),
            homes=self._homes(agent, berth),
        )
        await self._take(berth, packet, ident)
        berth.streams.said(agent, flow)
        self._outbox.nudge()

    async def _reply(self, berth: Berth, ident: str, body: bytes, number: int) -> None:
        try:
            asker, token, home = read_reply_to(ident)
        except CredentialError as error:
            raise CallFailed(ENOENT, "this is no question that was asked") from error
        packet = Packet(
            asker,
            text_of(berth.agent),
            body,
            PacketKind.REPLY,
            token=token,
            time=self._here.clocks.now(),
            homes=tuple(dict.fromkeys([home, berth.credentials.passport.body.home.station])),
        )
        _, written = self._post.accept(packet, token + bytes(16))
        # Of an agent that nobody knows any more, the answer comes too late, which its asker has been told.
        await (written or self._posted(packet, identify("reply", token, text_of(berth.agent))))
        self._outbox.nudge()

    # Questions

    async def ask(self, berth: Berth, wait: Ask) -> None:
        """An agent here asks another one. It goes on when its state, which knows the question, and the letter are
        stored, in one write: so it never asks a second time.
        """
        try:
            ident = await self._asked(berth, wait)
        except CallFailed as error:
            event: Event = Failed(error.errno, error.reason)
        except StoreFull as error:
            event = Failed(ENOSPC, str(error))
        else:
            event = Posed(ident.hex())
        if self._here.closing or berth.wait is not wait or berth.standing is not Standing.WAITING:
            return
        if isinstance(event, Failed):
            berth.remark(f"ask({wait.to[:60]!r}) failed: {event.reason}")
        self.go_on(berth, event)
        if isinstance(event, Posed):
            berth.questions[ident].known = berth.running

    async def _asked(self, berth: Berth, wait: Ask) -> bytes:
        for name, question in berth.questions.items():
            if not question.known:
                return name  # it was asked before a crash or a move
        self._may_ask(berth)
        agent, now, number = self.agent_of(wait.to), self._here.clocks.now(), berth.sent + 1
        if agent not in self._here.berths and self._queries.ended(agent):
            raise CallFailed(EHOSTUNREACH, "the agent has ended")
        token = self._here.clocks.random(QUESTION_BYTES)
        ms = LIFETIME_MS if wait.timeout_ns is None else min(-(-wait.timeout_ns // 1_000_000), LIFETIME_MS)
        flow = self._flow(berth, agent, number)
        packet = Packet(
            agent,
            text_of(berth.agent),
            wait.request,
            PacketKind.ASK,
            wait.topic,
            token,
            now + ms,
            berth.credentials.passport.body.home.station.raw,
            flow.name,
            flow.next,
            now,
            self._homes(agent, berth),
        )
        berth.questions[token] = Question(agent, now + ms)
        berth.streams.said(agent, flow)
        berth.sent = number
        stored = checkpoints.put_checkpoint(berth, berth.state) if isinstance(berth.state, bytes) else None
        self._here.catch_up()
        letter = self.letter(packet, identify("ask", token))
        try:
            await self._journal.write([stored or checkpoints.noted(berth), letter], True)
        except StoreFull:
            del berth.questions[token]
            berth.sent -= 1
            flow.next -= 1
            raise
        self._outbox.nudge()
        return token

    def _may_ask(self, berth: Berth) -> None:
        """Raises `CallFailed` where an agent may not ask now."""
        if not berth.grant.allows("host:send"):
            raise CallFailed(EPERM, "the agent's permit here does not cover host:send")
        if berth.sent + berth.calls >= berth.grant.budget.messages:
            raise CallFailed(EDQUOT, SPENT)
        now = self._here.clocks.now()
        for name in [name for name, each in berth.questions.items() if each.answer is None and now > each.until]:
            berth.questions[name].taken = True
        if len(berth.questions) >= MAX_QUESTIONS:
            raise CallFailed(EAGAIN, f"{MAX_QUESTIONS} questions of the agent are open: take answers first")

    async def ask_from_station(self, agent: bytes, body: bytes, topic: str, seconds: float) -> bytes:
        """Ask an agent from this station; returns its answer.

        Raises `StationError`, also where the question cannot be delivered; `UnknownAgent`, `asyncio.TimeoutError`.
        """
        token, now = self._here.clocks.random(QUESTION_BYTES), self._here.clocks.now()
        until = now + min(max(0, math.ceil(seconds * 1000)), LIFETIME_MS)
        about = {"kind": PacketKind.ASK, "topic": topic, "token": token, "until": until}
        with self._post.asked(agent, token) as answer:
            _, written = self._say(agent, body, back=self._here.key.public.raw, **about)
            if written is None:
                raise UnknownAgent(f"nothing is known of {text_of(agent)}, or it has ended")
            await written
            await asyncio.wait({answer}, timeout=max(0.0, (until - now) / 1000))
            if not answer.done():
                raise asyncio.TimeoutError
            packet = answer.result()
        if packet.kind is PacketKind.FAILED:
            raise StationError(f"the question was not taken: {packet.body.decode('utf-8', 'replace')}")
        return packet.body

    async def _take(self, berth: Berth, packet: Packet, ident: bytes) -> None:
        """Returns when its receiver or the outbox has taken a message, durably. Raises `CallFailed`."""
        delivery, written = self._post.accept(packet, ident)
        if delivery is Delivery.FULL:
            raise CallFailed(ENOSPC, "the agent has too many messages that it has not read")
        if written is None:
            if delivery is Delivery.AWAY:
                if self._queries.ended(packet.to):
                    raise CallFailed(EHOSTUNREACH, "the agent has ended")
                known = packet.to in self._post.places or self._queries.where(packet.to) is not None
                if not known and await self._ask_around(berth, packet, ident):
                    return
            written = self._posted(packet, ident)
        await written

    async def _ask_around(self, berth: Berth, packet: Packet, ident: bytes) -> bool:
        """Find a station that knows the agent, which this one does not: whether it has taken the message.

        Raises `CallFailed`: EHOSTUNREACH when none of the stations knows it, EAGAIN when one of them cannot be asked.
        """
        own, home = self._here.key.public, berth.credentials.passport.body.home.station
        others = self._post.neighbours()
        letter, failed = Addressed(packet, ident, patience_ms=PATIENCE_MS), ""
        for key in [key for key in dict.fromkeys([home, *others]) if key != own][:MAX_ASKED]:
            try:
                answer = await within(ASKING_S, self._post.pass_on(key, letter))
            except (CarrierError, asyncio.TimeoutError) as error:
                failed = f"{self._peers.label(key)} may know the agent, and does not answer: {error}"
                continue
            if answer[0] == LetterAnswer.TAKEN.value:
                return True
            if answer[0] == LetterAnswer.LATER.value and len(answer) == 3:
                return False  # that one knows it
            if answer[0] == LetterAnswer.LATER.value:
                failed = f"{self._peers.label(key)} cannot take the message now"
            elif answer[1:2] == ["ended"]:
                raise CallFailed(EHOSTUNREACH, "the agent has ended")
        if failed:
            raise CallFailed(EAGAIN, failed)
        raise CallFailed(EHOSTUNREACH, "no station that is known here knows an agent with this id")

    def _posted(self, packet: Packet, ident: bytes) -> asyncio.Future[None]:
        """Put a message into the outbox; the future ends when it is durable."""
        return self._journal.write([self.letter(packet, ident)], True)

    def letter(self, packet: Packet, ident: bytes) -> Change:
        """The change that puts a message into the outbox."""
        return Outbox.addressed(packet.to, ident, packet.value(), packet.time + LIFETIME_MS)

    def _flow(self, berth: Berth, to: bytes, number: int) -> Outflow:
        """The stream from an agent to another one; a new one has a name that only this station can make."""
        flow = berth.streams.sent.get(to)
        if flow is not None:
            return Outflow(flow.name, flow.next)
        what = canonical.encode(["portcall stream", berth.agent, to, berth.visit, number])
        return Outflow(canonical.digest(self._here.key.sign(what))[:STREAM_BYTES])

    def _homes(self, agent: bytes, sender: Berth | None = None) -> tuple[PublicKey, ...]:
        """Stations that may know where an agent is: its home, and the sender's."""
        found = [self._queries.home_of(agent)]
        if sender is not None:
            found.append(sender.credentials.passport.body.home.station)
        return tuple(dict.fromkeys(key for key in found if key is not None and key != self._here.key.public))[
            :MAX_HOMES
        ]

    def agent_of(self, to: str) -> bytes:
        """The agent that an id means, or a label of one that is here. Raises `CallFailed`."""
        for berth in self._here.berths.values():
            if berth.label == to:
                return berth.agent
        try:
            return byte_string(bytes_of(to), "agent", 32)
        except CredentialError as error:
            raise CallFailed(EHOSTUNREACH, f"{to[:64]!r} is no agent that is known here, and no agent's id") from error

    # This station itself

    def send_from_station(self, agent: bytes, body: bytes) -> tuple[SendOutcome, asyncio.Future[None] | None]:
        """Send a message from this station itself: what becomes of it, and when that is durable.

        Raises `StationError` for one that is too large.
        """
        return self._say(agent, body)

    def _say(self, agent: bytes, body: bytes, **about: Any) -> tuple[SendOutcome, asyncio.Future[None] | None]:
        if len(body) > MAX_BODY_BYTES:
            raise StationError(f"a message of {len(body)} bytes; at most {MAX_BODY_BYTES} are taken")
        ident = identify("message", self._here.key.public.raw, self._here.clocks.random(16))
        flow = self._own.setdefault(agent, Outflow(self._here.clocks.random(STREAM_BYTES)))
        self._own.move_to_end(agent)
        packet = Packet(
            agent,
            self._here.name,
            body,
            stream=flow.name,
            number=flow.next,
            time=self._here.clocks.now(),
            homes=self._homes(agent),
            **about,
        )
        outcome = SendOutcome.DELIVERED
        delivery, written = self._post.accept(packet, ident)
        if written is None:
            known = self._queries.where(agent) is not None and not self._queries.ended(agent)
            if delivery is Delivery.AWAY and not known:
                return SendOutcome.UNKNOWN, None
            outcome, written = SendOutcome.SENT, self._posted(packet, ident)
            written.add_done_callback(lambda _: self._outbox.nudge())
        flow.next += 1
        while len(self._own) > MAX_OWN:
            self._own.popitem(last=False)
        return outcome, written

    # What could not be delivered

    def not_taken(self, letter: Letter, answer: list[object]) -> list[Change]:
        """A message was refused, or nobody took it in time: whoever looks after this station should know."""
        reason = sayable(str(answer[-1]))
        with contextlib.suppress(NotCanonical, ValueError, TypeError, CredentialError):
            packet = Packet.of(canonical.decode(letter.body)[1])
            if packet.kind in (PacketKind.REPLY, PacketKind.FAILED):
                self._here.counts[f"late {packet.kind}"] += 1
                return []
            said = f"a message of {packet.sender[:64]} was not taken: {reason}"
            self._here.tell("alarm", packet.to, text=said)
            return self._tell_asker(packet, reason) if packet.reply_to else []
        return []

    def _tell_asker(self, packet: Packet, reason: str) -> list[Change]:
        """A question was not taken: whoever has asked need not wait for an answer."""
        asker, token, home = read_reply_to(packet.reply_to)
        now = self._here.clocks.now()
        failed = Packet(
            asker, self._here.name, reason.encode(), PacketKind.FAILED, token=token, time=now, homes=(home,)
        )
        _, written = self._post.accept(failed, token + bytes(16))
        if written is not None:
            return []
        return [self.letter(failed, identify("failed", token))]
