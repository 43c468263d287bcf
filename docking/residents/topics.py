"""Messages to all agents that subscribe to a topic: here, or at every station that is present.

A publication is a letter to each other station, which gives it to the agents that subscribe there, and to those that
arrive in the minute after it: so an agent that moves meanwhile gets it where it was or where it comes to, and by its
identity once. Invariants: what waits here for agents to come is bounded; one copy that cannot be given (a full inbox)
is counted, and keeps no other agent from its own.
"""

from __future__ import annotations

import asyncio
from collections import deque

from attrs import define, field, frozen

from agents.brief import brief
from agents.credentials.envelope import identify
from agents.credentials.fields import array, byte_string, text
from agents.credentials.keys import text_of
from agents.waits import MAX_BODY_BYTES, MAX_HOST_BYTES, MAX_TOPIC_BYTES
from docking.errors import StationError
from docking.letters.outbox import LetterKind, Outbox
from docking.letters.packets import Packet
from docking.residents.berth import Berth, Delivery
from docking.residents.post import Post
from docking.residents.residents import Residents
from docking.residents.talking import Talking
from docking.store.changes import Change
from docking.store.group_commit import GroupCommit

# Stations that one publication goes to.
MAX_STATIONS = 64
# How long a publication is tried, and kept for agents that arrive, milliseconds.
LIFETIME_MS, KEPT_MS = 3_600_000, 60_000
# Publications that are kept, and their bytes.
MAX_KEPT, MAX_KEPT_BYTES = 256, 8 << 20


@frozen
class Publication:
    """A message to a topic. `sender`: an agent's id, or a station's name; `time`: when it came here, ms since 1970."""

    ident: bytes
    sender: str
    topic: str
    body: bytes = field(repr=brief)
    time: int


@define(eq=False, repr=False)
class Topics:
    """The topics of one station."""

    _here: Residents
    _journal: GroupCommit
    _outbox: Outbox
    _post: Post
    _talking: Talking
    _kept: deque[Publication] = field(factory=deque)
    _kept_bytes: int = 0

    def __attrs_post_init__(self) -> None:
        self._here.came = self._came

    def publish(self, berth: Berth, topic: str, body: bytes, everywhere: bool, most: int) -> tuple[int, int]:
        """In a worker: an agent here publishes; how many copies were made, and how many for agents here.

        Returns when all are taken, durably. Raises `CallFailed`.
        """
        ident = identify("publication", berth.agent, berth.visit, berth.sent + 1, topic, body)
        sender = text_of(berth.agent)
        return self._talking.wait(self.say(ident, sender, topic, body, everywhere, most))

    def publication(self) -> bytes:
        """A fresh identity, for a publication of this station."""
        return identify("publication", self._here.key.public.raw, self._here.clocks.random(16))

    async def say(
        self, ident: bytes, sender: str, topic: str, body: bytes, everywhere: bool, most: int = 1 << 30
    ) -> tuple[int, int]:
        """Publish; how many copies were made, at most `most`, and how many for agents here.

        Raises `StationError` for what is too large.
        """
        if len(body) > MAX_BODY_BYTES or not 0 < len(topic.encode()) <= MAX_TOPIC_BYTES or not topic.isprintable():
            raise StationError(f"a topic has 1 to {MAX_TOPIC_BYTES} printable bytes, and a message {MAX_BODY_BYTES}")
        made = Publication(ident, sender, topic, body, self._here.clocks.now())
        here = await self._give(made, everywhere, most)
        others = self._post.neighbours()[: min(MAX_STATIONS, max(0, most - here))] if everywhere else []
        expires, value = made.time + LIFETIME_MS, [sender, topic, body]
        letters: list[Change] = [Outbox.posted(to, LetterKind.TOPIC, ident, value, expires) for to in others]
        if letters:
            await self._journal.write(letters, True)
            self._outbox.nudge()
        return here + len(others), here

    async def receive(self, ident: bytes, content: object) -> list[object]:
        """A publication of another station. Raises `MalformedCredential`, ValueError."""
        sender, topic, body = array(content, "publication", 3)
        made = Publication(
            ident,
            text(sender, "sender", MAX_HOST_BYTES),
            text(topic, "topic", MAX_TOPIC_BYTES),
            byte_string(body, "body", 0, MAX_BODY_BYTES),
            self._here.clocks.now(),
        )
        if all(each.ident != ident for each in self._kept):
            await self._give(made, keep=True)
        return ["taken"]

    async def _give(self, made: Publication, keep: bool, most: int = 1 << 30) -> int:
        if keep:
            self._keep(made)
        found = [each for each in self._here.berths.values() if self._wants(each, made)][:most]
        writes = [write for each in found if (write := self._give_to(each, made)) is not None]
        for write in writes:
            await write
        return len(writes)

    @staticmethod
    def _wants(berth: Berth, made: Publication) -> bool:
        return made.topic in berth.topics and text_of(berth.agent) != made.sender

    def _give_to(self, berth: Berth, made: Publication) -> asyncio.Future[None] | None:
        """Give an agent its copy; None if it has no room for it."""
        ident = identify("publication for", made.ident, berth.agent)
        packet = Packet(berth.agent, made.sender, made.body, topic=made.topic, time=made.time)
        delivery, written = self._post.accept(packet, ident)
        if delivery in (Delivery.BUSY, Delivery.AWAY):  # it is leaving: its copy goes after it
            written = self._journal.write([self._talking.letter(packet, ident)], True)
            written.add_done_callback(lambda _: self._outbox.nudge())
        if written is None:
            self._here.counts["dropped publication"] += 1
        return written

    def _keep(self, made: Publication) -> None:
        self._kept.append(made)
        self._kept_bytes += len(made.body)
        while self._kept and (
            len(self._kept) > MAX_KEPT or self._kept_bytes > MAX_KEPT_BYTES or self._kept[0].time < made.time - KEPT_MS
        ):
            self._kept_bytes -= len(self._kept.popleft().body)

    def _came(self, berth: Berth) -> None:
        """An agent has come: give it what was published a moment ago, unless it has it already."""
        if berth.topics and self._kept:
            since = self._here.clocks.now() - KEPT_MS
            for made in [each for each in self._kept if each.time >= since and self._wants(berth, each)]:
                self._give_to(berth, made)
