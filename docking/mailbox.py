"""Letters between stations: written down before they are promised, sent until they are taken.

What is in a letter (a message for an agent, an order, the end of a journey) is the station's business (`Handlers`).
Delivery is at least once, so every letter has an identity by which its reader knows it again.

Beside letters, *words*: where agents are, told to their homes. They are not written down: the next one says it all.

Invariants: a letter leaves the outbox only when it was taken, was refused for good, or expired; letters to one station
go one after the other, so one that does not answer delays nobody else's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field

from agents import canonical
from agents.credentials.keys import PublicKey
from agents.errors import CredentialError, NotCanonical
from docking.changes import Change, DropLetter, Letter, PostLetter, RetryLetter
from docking.errors import CarrierError, StoreError
from docking.journal import Journal

_log = logging.getLogger(__name__)
# Milliseconds: the first wait after a letter was not delivered, and the longest.
FIRST, LONGEST = 500, 300_000
# Seconds until a letter is sent again of which the store could not note that it was sent.
UNNOTED = 5.0
# Letters taken up at once.
MOST = 64
# Seconds in which words to one home are gathered.
GATHER = 0.1
# Agents of which words wait for one home: beyond it, homes that do not answer cost the oldest. And words of one letter.
MOST_WORDS, IN_A_LETTER = 4096, 256
_BOUNDS = canonical.Bounds(max_bytes=16 << 20, max_depth=8, max_items=500_000)

Deliver = Callable[[PublicKey, Any], Awaitable[Any]]
Told = Callable[[Letter, "list[Any]"], "list[Change]"]


@define(eq=False)
class Mailbox:
    """The outbox of a station, and its words to homes.

    `deliver(key, value)` sends (raises `CarrierError`); `clock`: ms since 1970; `told(letter, answer)` is told of
    what a reader said that did not take a letter, and gives what to write beside dropping it.
    """

    _journal: Journal
    _deliver: Deliver
    _clock: Callable[[], int]
    _told: Told = lambda letter, answer: []
    _task: asyncio.Task[None] | None = None
    _nudged: asyncio.Event = field(factory=asyncio.Event)
    _sending: set[bytes] = field(factory=set)
    _tasks: set[asyncio.Task[None]] = field(factory=set)
    _words: dict[PublicKey, dict[bytes, list[Any]]] = field(factory=dict)
    delivered: int = 0

    def start(self) -> None:
        """Begin to send what is in the outbox."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop. The outbox stays."""
        tasks = [task for task in (self._task, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def posted(recipient: PublicKey, kind: str, ident: bytes, value: Any, expires: int) -> PostLetter:
        """The change that puts a letter into the outbox; `nudge` when it is written."""
        return PostLetter(recipient.raw, kind, canonical.encode([ident, value]), expires)

    def nudge(self) -> None:
        """There may be something to send."""
        self._nudged.set()

    def say(self, home: PublicKey, agent: bytes, word: list[Any]) -> None:
        """Tell `home` soon; a later word about the same agent replaces this one."""
        words = self._words.setdefault(home, {})
        if not words:
            self._start(self._say_all(home))
        words.pop(agent, None)
        words[agent] = word
        while len(words) > MOST_WORDS:
            del words[next(iter(words))]

    async def _say_all(self, home: PublicKey) -> None:
        await asyncio.sleep(GATHER)
        words = list(self._words.pop(home, {}).values())
        try:
            for first in range(0, len(words), IN_A_LETTER):
                await self._deliver(home, ["told", bytes(32), words[first : first + IN_A_LETTER]])
        except CarrierError as error:
            _log.debug("home was not told: %s", error)

    # The outbox

    async def _run(self) -> None:
        while True:
            self._nudged.clear()
            now = self._clock()
            for letter in self._journal.store.letters(now, MOST):
                if letter.recipient not in self._sending:
                    self._sending.add(letter.recipient)
                    self._start(self._send(letter))
            await self._rest(now)

    async def _rest(self, now: int) -> None:
        """Until there may be something to do."""
        waiting = [each for each in self._journal.store.letters(2**62, MOST) if each.recipient not in self._sending]
        wait = None if not waiting else max(0.01, (min(each.due for each in waiting) - now) / 1000)
        try:
            await asyncio.wait_for(self._nudged.wait(), wait)
        except asyncio.TimeoutError:
            return

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a letter could not be handled", exc_info=task.exception())

    async def _send(self, letter: Letter) -> None:
        try:
            changes = await self._outcome(letter)
            await self._journal.write(changes, False)
        except StoreError as error:
            _log.warning("what became of a letter was not noted: %s", error)
            await asyncio.sleep(UNNOTED)  # it is due again at once
        finally:
            self._sending.discard(letter.recipient)
            self.nudge()

    async def _outcome(self, letter: Letter) -> list[Change]:
        """What to write about a letter after an attempt to deliver it."""
        now = self._clock()
        if now > letter.expires:
            _log.warning("a letter expired undelivered", extra={"kind": letter.kind})
            return [DropLetter(letter.number)]
        wait = min(FIRST << min(letter.attempts, 16), LONGEST)
        try:
            ident, value = canonical.decode(letter.body, _BOUNDS)
            answer = await self._deliver(PublicKey(letter.recipient), [letter.kind, ident, value])
        except (CarrierError, CredentialError) as error:
            _log.info("a letter was not delivered: %s", error, extra={"kind": letter.kind})
            return [RetryLetter(letter.number, now + wait)]
        except (NotCanonical, ValueError, TypeError) as error:
            _log.error("a letter in the outbox cannot be read: %s", error)
            return [DropLetter(letter.number)]
        if not isinstance(answer, list) or not answer:
            return [RetryLetter(letter.number, now + wait)]
        if answer[0] == "taken":
            self.delivered += 1
            return [DropLetter(letter.number)]
        if answer[0] == "later":
            return [RetryLetter(letter.number, now + wait)]
        _log.warning("a letter was refused: %s", str(answer[1:])[:200], extra={"kind": letter.kind})
        return [DropLetter(letter.number), *self._told(letter, answer)]
