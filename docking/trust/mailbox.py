"""What travels of an agent's messages: those that it has not read, and by what it knows those that come again.

A *stream* is what one sender says to one agent: a secret name of 16 bytes, and messages with the numbers 1, 2, 3 ... An
agent takes each number of a stream once and in order, wherever it is: so neither a letter that comes twice nor one that
overtook another is a message. Only the stations of the sender and those that pass a letter on know the name of a
stream, so nobody else can speak in it, or make it wait.

Invariants: what is decoded is bounded; a stream that was forgotten (there are too many) never makes a message wait.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, TypeAlias

from attrs import define, field, frozen

from agents import canonical
from agents.brief import brief
from agents.canonical import Buffer
from agents.credentials.fields import AMOUNT, LATEST_MS, array, byte_string, text, uint
from agents.errors import CredentialError, MalformedCredential, NotCanonical
from agents.waits import MAX_BODY_BYTES, MAX_HOST_BYTES, MAX_REQUEST_ID_BYTES, MAX_TOPIC_BYTES, Message

MAILBOX_VERSION = 3
# Messages that travel with an agent: those waiting for it, and those it may receive again after a crash.
MAX_MAIL = 2000
# Streams to an agent, and streams from it, that are remembered: the latest.
MAX_STREAMS = 256
STREAM_BYTES = 16
# Questions that one agent may have asked and not taken the answers of, and bytes of the name of one.
MAX_QUESTIONS = 64
QUESTION_BYTES = 16
# Topics to which one agent may subscribe.
MAX_TOPICS = 32
# Of each stream, so many of the latest letters are known by their identity: a sender that was set back by a crash says
# the last ones again, and perhaps says other ones.
RECENT = 32
_BOUNDS = canonical.DecodeBounds(max_bytes=16 << 20, max_depth=4, max_items=60_000)


class Turn(enum.Enum):
    """Whether it is a message's turn."""

    NEW = "new"
    AGAIN = "again"  # it was taken before
    EARLY = "early"  # one before it has not come yet


@define
class Inflow:
    """A stream to an agent. `next`: the number of the next message; `recent`: the letters that came last."""

    next: int = 1
    recent: OrderedDict[bytes, None] = field(factory=OrderedDict, repr=brief)


@define
class Outflow:
    """A stream from an agent. `next`: the number of its next message."""

    name: bytes
    next: int = 1


@define
class Streams:
    """The streams to and from one agent.

    came: by name, the latest used last
    sent: by the agent to which it goes, the latest used last
    forgot: whether a stream to it was forgotten: then one that is not known may have begun long ago
    """

    came: OrderedDict[bytes, Inflow] = field(factory=OrderedDict, repr=brief)
    sent: OrderedDict[bytes, Outflow] = field(factory=OrderedDict, repr=brief)
    forgot: bool = False

    def turn(self, name: bytes, number: int, ident: bytes, waited: bool) -> Turn:
        """Whether a message is to be taken now. `waited`: whether it has waited long enough for those before it."""
        flow = self.came.get(name)
        if flow is None:
            return Turn.NEW if number == 1 or waited or self.forgot else Turn.EARLY
        if ident in flow.recent or number <= flow.next - RECENT:
            return Turn.AGAIN
        return Turn.NEW if number <= flow.next or waited else Turn.EARLY

    def take(self, name: bytes, number: int, ident: bytes) -> None:
        """A message is taken."""
        flow = self.came.setdefault(name, Inflow())
        self.came.move_to_end(name)
        flow.next = max(flow.next, number + 1)
        flow.recent[ident] = None
        while len(flow.recent) > RECENT:
            flow.recent.popitem(last=False)
        while len(self.came) > MAX_STREAMS:
            self.came.popitem(last=False)
            self.forgot = True

    def said(self, to: bytes, flow: Outflow) -> None:
        """The next message of a stream was handed over."""
        flow.next += 1
        self.sent[to] = flow
        self.sent.move_to_end(to)
        while len(self.sent) > MAX_STREAMS:
            self.sent.popitem(last=False)

    def outflows(self) -> list[list[object]]:
        """The streams from the agent, as they are stored."""
        return [[to, flow.name, flow.next] for to, flow in self.sent.items()]


@define
class Question:
    """A question that an agent has asked.

    to: the agent that was asked; until: when an answer comes too late, milliseconds since 1970
    errno, answer: 0 and the answer, or an error number and why there is none; None while it is open
    known: whether the agent knows its name; taken: whether the agent has taken the answer, or the time is over. Both
        are forgotten by a crash, unless the agent's state was stored since
    """

    to: bytes
    until: int
    errno: int = 0
    answer: bytes | None = field(default=None, repr=brief)
    known: bool = False
    taken: bool = False
    stored_known: bool = False


Questions: TypeAlias = "dict[bytes, Question]"
"""By name (16 bytes)."""


@frozen
class Mailbox:
    """What travels of an agent's messages.

    messages: that it has not received yet, the oldest first
    seen: identities of the letters without a stream that came last, so that one that comes again is known
    questions: that it has asked
    topics: to which it subscribes
    """

    messages: tuple[Message, ...] = field(default=(), repr=brief)
    seen: tuple[bytes, ...] = field(default=(), repr=brief)
    streams: Streams = field(factory=Streams)
    questions: Questions = field(factory=dict, repr=brief)
    topics: tuple[str, ...] = field(default=(), repr=brief)


def write_mailbox(
    messages: Iterable[Message],
    seen: Iterable[bytes],
    streams: Streams,
    questions: Questions | None = None,
    topics: Iterable[str] = (),
) -> bytes:
    """A mailbox as bytes."""
    rows = [
        [each.sender, each.body, each.topic, each.reply_to] if each.topic or each.reply_to else [each.sender, each.body]
        for each in messages
    ]
    came = [[name, flow.next, b"".join(flow.recent)] for name, flow in streams.came.items()]
    asked = [
        [name, each.to, each.until, each.errno, each.answer, each.stored_known]
        for name, each in (questions or {}).items()
    ]
    flows = [came, streams.outflows(), streams.forgot]
    return canonical.encode([MAILBOX_VERSION, rows, list(seen), flows, asked, list(topics)])


def read_mailbox(data: Buffer | None) -> Mailbox:
    """The inverse of `write_mailbox`; None means an empty mailbox. Raises `CredentialError` `mailbox`."""
    if data is None:
        return Mailbox()
    try:
        value = array(canonical.decode(data, _BOUNDS), "mailbox", MAX_MAIL)
        listed: Any
        known: Any
        flows: Any
        asked: Any
        subscribed: Any
        listed, known, flows, asked, subscribed = value, [], [[], [], False], [], []
        if value and type(value[0]) is int:  # else of before 2, which had the messages only
            version, listed, known, *more = array(value, "mailbox", 6)
            if version not in (2, MAILBOX_VERSION) or len(more) != (3 if version == MAILBOX_VERSION else 0):
                raise ValueError("another version")
            flows, asked, subscribed = more or (flows, asked, [])
        seen = tuple(byte_string(each, "identity", 32) for each in array(known, "seen", MAX_MAIL))
        messages = tuple(map(_message, array(listed, "messages", MAX_MAIL)))
        topics = tuple(text(each, "topic", MAX_TOPIC_BYTES) for each in array(subscribed, "topics", MAX_TOPICS))
        return Mailbox(messages, seen, _streams(flows), _questions(asked), topics)
    except (NotCanonical, MalformedCredential, ValueError) as error:
        raise CredentialError("mailbox", f"the agent's mailbox cannot be read: {error}") from error


def _message(row: object) -> Message:
    sender, body, *more = array(row, "message", 4)
    topic, reply_to = more or ("", "")
    # Not `bytes(body)`: given an integer, it makes that many zero bytes.
    body = byte_string(body, "body", 0, MAX_BODY_BYTES)
    topic = text(topic, "topic", MAX_TOPIC_BYTES) if topic != "" else ""
    reply_to = text(reply_to, "question", MAX_REQUEST_ID_BYTES) if reply_to != "" else ""
    return Message(text(sender, "sender", MAX_HOST_BYTES), body, topic, reply_to)


def _questions(value: object) -> Questions:
    found: Questions = {}
    for row in array(value, "questions", MAX_QUESTIONS):
        name, to, until, errno, answer, known = array(row, "question", 6)
        if not isinstance(known, bool):
            raise ValueError("a flag that is none")
        if answer is not None:
            byte_string(answer, "answer", 0, MAX_BODY_BYTES)
        ends, number = uint(until, "time", LATEST_MS), uint(errno, "error", 255)
        question = Question(byte_string(to, "agent", 32), ends, number, answer)
        question.known = question.stored_known = known
        found[byte_string(name, "question", QUESTION_BYTES)] = question
    return found


def _streams(value: object) -> Streams:
    came, sent, forgot = array(value, "streams", 3)
    if not isinstance(forgot, bool):
        raise ValueError("a flag that is none")
    streams = Streams(sent=read_outflows(sent), forgot=forgot)
    for row in array(came, "streams", MAX_STREAMS):
        name, number, recent = array(row, "stream", 3)
        idents = byte_string(recent, "identities", 0, RECENT * 32)
        if len(idents) % 32:
            raise ValueError("a part of an identity")
        flow = Inflow(uint(number, "number", AMOUNT))
        flow.recent.update((idents[at : at + 32], None) for at in range(0, len(idents), 32))
        streams.came[byte_string(name, "stream", STREAM_BYTES)] = flow
    return streams


def read_outflows(value: object) -> OrderedDict[bytes, Outflow]:
    """The inverse of `Streams.outflows`. Raises `MalformedCredential`, ValueError."""
    sent: OrderedDict[bytes, Outflow] = OrderedDict()
    for row in array(value, "streams", MAX_STREAMS):
        to, name, number = array(row, "stream", 3)
        flow = Outflow(byte_string(name, "stream", STREAM_BYTES), uint(number, "number", AMOUNT))
        sent[byte_string(to, "agent", 32)] = flow
    return sent
