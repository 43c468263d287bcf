"""One message on its way to an agent, as stations pass it on: a letter of the kind `talk`.

The letter is kept by the station where it was sent until the station where the agent is has stored it with the agent
(`docking.residents.post`). Not here: who carries it. Invariants: what is decoded is bounded; the same message is the
same letter, however often and by whichever way it comes.
"""

from __future__ import annotations

import contextlib
import enum

from attrs import define, field, frozen

from agents.brief import brief
from agents.credentials.fields import AMOUNT, LATEST_MS, array, byte_string, text, uint
from agents.credentials.keys import PublicKey, bytes_of, public_key, text_of
from agents.errors import CredentialError
from agents.waits import MAX_BODY_BYTES, MAX_HOST_BYTES, MAX_TOPIC_BYTES, Message
from docking.trust.mailbox import QUESTION_BYTES, STREAM_BYTES

# How long delivery of a message is tried, and the longest time for which a question may be answered, milliseconds.
LIFETIME_MS = 7 * 86_400_000
# Stations that may know where the receiver is: the homes of the sender and of the receiver.
MAX_HOMES = 2
# How long a message waits at the receiver for those of the same sender that were sent before it: their station may be
# switched off. Then it is received all the same.
ORDER_MS = 86_400_000


class PacketKind(str, enum.Enum):
    """What a packet is. The values are sent."""

    MESSAGE = "message"
    ASK = "ask"
    """A question, which its receiver may answer."""
    REPLY = "reply"
    """The answer to a question."""
    FAILED = "failed"
    """A station's word to who has asked: the question could not be delivered. The body says why."""

    __str__ = str.__str__


@frozen
class Packet:
    """A message for an agent.

    to: the agent's id; sender: the id of an agent, as text, or the name of a station
    topic: to which it was published, or what it is about; may be empty
    token, until: of a question and its answer: its name, and when nobody waits any more, milliseconds since 1970
    back: of a question: the key of a station that knows where the answer is to go
    stream, number: see `docking.trust.mailbox`; an empty stream is none
    time: when it was sent, milliseconds since 1970
    homes: stations that may know where the agent is
    """

    to: bytes
    sender: str
    body: bytes = field(repr=brief)
    kind: PacketKind = PacketKind.MESSAGE
    topic: str = ""
    token: bytes = field(default=b"", repr=False)
    until: int = 0
    back: bytes = b""
    stream: bytes = b""
    number: int = 0
    time: int = 0
    homes: tuple[PublicKey, ...] = field(default=(), repr=brief)

    @property
    def message(self) -> Message:
        """What the agent receives."""
        return Message(self.sender, self.body, self.topic, self.reply_to)

    @property
    def reply_to(self) -> str:
        """What the receiver of a question gives `reply`; empty if it is none that can be answered."""
        if self.kind is not PacketKind.ASK or not (self.token and self.back):
            return ""
        asker = self.back  # for somebody at that station, if not for an agent
        with contextlib.suppress(CredentialError):
            sender = bytes_of(self.sender)
            asker = sender if len(sender) == 32 else asker
        return text_of(asker + self.token + self.back)

    def waited(self, now: int) -> bool:
        """Whether it has waited long enough for those before it. `now`: ms since 1970."""
        return now - self.time >= ORDER_MS

    def value(self) -> list[object]:
        """As a value for CBOR."""
        homes = [key.raw for key in self.homes]
        about = [self.kind.value, self.topic, self.token, self.until, self.back]
        return [self.to, self.sender, self.body, about, self.stream, self.number, self.time, homes]

    @classmethod
    def of(cls, value: object) -> Packet:
        """The inverse of `value`. Raises `MalformedCredential`, ValueError."""
        to, sender, body, about, stream, number, time, homes = array(value, "message", 8)
        kind, topic, token, until, back = array(about, "kind", 5)
        return cls(
            byte_string(to, "agent", 32),
            text(sender, "sender", MAX_HOST_BYTES),
            byte_string(body, "body", 0, MAX_BODY_BYTES),
            PacketKind(text(kind, "kind", 16)),
            text(topic, "topic", MAX_TOPIC_BYTES) if topic != "" else "",
            byte_string(token, "question", QUESTION_BYTES) if token != b"" else b"",
            uint(until, "time", LATEST_MS),
            byte_string(back, "station", 32) if back != b"" else b"",
            byte_string(stream, "stream", STREAM_BYTES) if stream != b"" else b"",
            uint(number, "number", AMOUNT),
            uint(time, "time", LATEST_MS),
            tuple(public_key(byte_string(each, "station", 32)) for each in array(homes, "stations", MAX_HOMES)),
        )


def read_reply_to(ident: str) -> tuple[bytes, bytes, PublicKey]:
    """Of what `reply` takes: to whom the answer goes, the question's name, and who knows where that is.

    Raises `CredentialError`.
    """
    data = byte_string(bytes_of(ident), "question", 32 + QUESTION_BYTES + 32)
    return data[:32], data[32 : 32 + QUESTION_BYTES], public_key(data[-32:])


@define(eq=False, repr=False)
class Addressed:
    """A packet as it is passed on from station to station.

    ident: of the letter
    steps: how many stations have passed it on
    expected: whether the agent is on its way to the station that gets this, says the one that it leaves
    patience_ms: how long the answer may take, where the agent is on its way
    """

    packet: Packet
    ident: bytes
    steps: int = 0
    expected: bool = False
    patience_ms: int = 0

    def value(self) -> list[object]:
        """As a value for CBOR, without the identity of the letter."""
        return [self.packet.value(), self.steps, self.expected, self.patience_ms]

    @classmethod
    def of(cls, ident: bytes, value: object) -> Addressed:
        """The inverse of `value`. Raises `MalformedCredential`, ValueError."""
        packet, steps, expected, patience = array(value, "letter", 4)
        if not isinstance(expected, bool):
            raise ValueError("a flag that is none")
        return cls(
            Packet.of(packet), ident, max(1, uint(steps, "steps", 2**16)), expected, uint(patience, "time", 2**20)
        )
