"""Letters between stations: stored before they are promised, sent until they are taken.

The contents of a letter (a message for an agent, an order, the end of a journey) are the station's business
(`Handlers`). Delivery is at least once, so every letter has an identity by which its reader recognizes duplicates.

Beside letters there are *words*, which tell homes where their agents are. They are not stored: each replaces the one
before.

Invariants: a letter leaves the outbox only when it was taken, refused for good, or has expired; letters to one station
are sent one at a time, so a station that does not answer delays only its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import Awaitable, Callable, Coroutine

from attrs import define, field, frozen

from agents import canonical
from agents.credentials.keys import PublicKey
from agents.errors import CredentialError, NotCanonical
from docking.aio.failures import describe_error, log_failure
from docking.aio.timeouts import ended, within
from docking.errors import CarrierError, StoreError
from docking.store.changes import Change, DropLetter, Letter, PostLetter, RetryLetter
from docking.store.group_commit import GroupCommit
from docking.store.store import NEVER

_log = logging.getLogger(__name__)
# Milliseconds: the first and the longest wait after a failed delivery.
FIRST_RETRY_MS, LONGEST_RETRY_MS = 500, 30_000
# The longest wait for letters to this station itself, which wait for an agent that is about to leave.
LONGEST_LOCAL_RETRY_MS = 1000
# Seconds until a letter is sent again if the store failed to record its delivery.
UNNOTED_RETRY_S = 5.0
# Milliseconds: the first wait before a message is sent again to an agent that was on its way.
FIRST_AGENT_RETRY_MS = 40
# Letters being sent at once.
MAX_SENDING = 128
# Seconds for which words to one home are batched.
GATHER_S = 0.1
# Words that wait for one home, one per agent (beyond that, the oldest are dropped), and words in one letter.
MAX_WORDS, MAX_LETTER_WORDS = 4096, 256
EXPIRED = "it could not be delivered for as long as it was to be tried"
_BOUNDS = canonical.DecodeBounds(max_bytes=16 << 20, max_depth=8, max_items=500_000)

Deliver = Callable[[PublicKey, object], Awaitable[object]]
Told = Callable[[Letter, "list[object]"], "list[Change]"]
Carry = Callable[[bytes, object], Awaitable["list[object]"]]


class LetterKind(str, enum.Enum):
    """The kind of a letter. The values are stored and sent."""

    MESSAGE = "message"
    """To an agent, from a station that does not know TALK."""
    TALK = "talk"
    """To an agent, from an agent or an operator: kept by the first station until it is stored with the agent."""
    ORDER = "order"
    """For an agent, from its home."""
    AMEND = "amend"
    """For an agent, from its owner or home: an amendment of its passport."""
    REVOKED = "revoked"
    """To a peer: a key is not to be trusted any more."""
    ENDED = "ended"
    """To a home: the end of a journey, with trail and results."""
    TOLD = "told"
    """To a home: where its agents are."""
    TOPIC = "topic"
    """To the agents at a station that subscribe to a topic."""
    FIND = "find"
    """To a station: which agents are there."""
    WITNESS = "witness"
    """To a peer: handoffs between us that it has signed."""
    LIFE = "life"
    """To a peer: how often this station has started with its store."""
    DOCKS = "docks"
    """To a peer: which stations are docks of this one."""
    DEPOSIT = "deposit"
    """To a dock: something for a station of which it is one."""
    DOCKED = "docked"
    """From a dock: what it kept."""
    COLLECT = "collect"
    """To a dock: what is there for this station?"""


class LetterAnswer(str, enum.Enum):
    """How the reader of a letter answers. The value is sent as the first item of the answer."""

    TAKEN = "taken"
    LATER = "later"
    """Try again; a reason follows."""
    REFUSED = "refused"
    """Do not try again; a code and a reason follow."""


@frozen
class Rest:
    """A pause for an unreachable recipient. `until`: event loop time in seconds; `failures`: in a row; `by`: the
    station on which it depends.
    """

    until: float
    failures: int
    by: bytes = b""


@define(eq=False, repr=False)
class Outbox:
    """The outbox of a station, and its words to homes.

    A letter waits alone when its reader cannot take it now; all letters to a recipient wait while it is unreachable.
    The recipient of a letter of the kind TALK is an agent, wherever it is: they wait for each other, in their order.

    `own`: the station's key. `deliver(key, value)` sends (raises `CarrierError`); `clock`: ms since 1970;
    `told(letter, answer)` is called with the answer of a reader that refused a letter, and returns changes to write
    in addition to dropping it.
    """

    _own: PublicKey
    _journal: GroupCommit
    _deliver: Deliver
    _clock: Callable[[], int]
    _told: Told = lambda letter, answer: []
    _task: asyncio.Task[None] | None = None
    _nudged: asyncio.Event = field(factory=asyncio.Event)
    _sending: set[bytes] = field(factory=set)
    _resting: dict[bytes, Rest] = field(factory=dict)  # recipients that could not be reached
    _tasks: set[asyncio.Task[None]] = field(factory=set)
    carry: Carry = field(init=False)
    """Brings a message to its agent: given its identity and content, returns the answer. Raises `CarrierError`."""

    taken: Callable[[Letter], list[Change]] = lambda letter: []
    """Told of a letter that was taken, or is passed on; returns changes to write in addition to dropping it."""
    _words: dict[PublicKey, dict[bytes, list[object]]] = field(factory=dict)
    delivered: int = 0

    def start(self) -> None:
        """Start sending the letters in the outbox."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop sending. The letters stay in the store."""
        await ended(task for task in (self._task, *self._tasks) if task is not None)

    @staticmethod
    def posted(recipient: PublicKey, kind: LetterKind, ident: bytes, value: object, expires: int) -> PostLetter:
        """The change that puts a letter into the outbox; call `nudge` once it is written."""
        return PostLetter(recipient.raw, kind.value, canonical.encode([ident, value]), expires)

    @staticmethod
    def addressed(agent: bytes, ident: bytes, value: object, expires: int) -> PostLetter:
        """The change that puts a message for an agent into the outbox; call `nudge` once it is written."""
        return PostLetter(agent, LetterKind.TALK.value, canonical.encode([ident, value]), expires)

    def nudge(self) -> None:
        """Wake the sender: there may be something to send."""
        self._nudged.set()

    def say(self, home: PublicKey, agent: bytes, word: list[object]) -> None:
        """Tell `home` soon; a later word about the same agent replaces this one."""
        words = self._words.setdefault(home, {})
        if not words:
            self._start(self._say_all(home))
        words.pop(agent, None)
        words[agent] = word
        while len(words) > MAX_WORDS:
            del words[next(iter(words))]

    async def _say_all(self, home: PublicKey) -> None:
        await asyncio.sleep(GATHER_S)
        words = list(self._words.pop(home, {}).values())
        try:
            for first in range(0, len(words), MAX_LETTER_WORDS):
                await self._deliver(home, [LetterKind.TOLD.value, bytes(32), words[first : first + MAX_LETTER_WORDS]])
        except CarrierError as error:
            _log.debug("home was not told: %s", error)

    # The outbox

    async def _run(self) -> None:
        while True:
            self._nudged.clear()
            try:
                now = self._clock()
                for letter in self._letters(now):
                    if letter.recipient not in self._sending:
                        self._sending.add(letter.recipient)
                        self._start(self._send(letter))
                await self._rest(now)
            except StoreError as error:
                _log.error("the outbox cannot be read: %s", error)
                await asyncio.sleep(UNNOTED_RETRY_S)

    def _letters(self, now: int) -> list[Letter]:
        """Letters to send: to recipients that are not paused and have no letter in flight.

        A letter due later than the longest wait was scheduled while the clock was ahead: it is due now.
        """
        loop_now = asyncio.get_running_loop().time()
        resting = [recipient for recipient, rest in self._resting.items() if rest.until > loop_now]
        return self._journal.store.letters(now, MAX_SENDING, now + LONGEST_RETRY_MS, [*self._sending, *resting])

    def heard_from(self, peer: PublicKey) -> None:
        """A station is reachable: send the letters that waited for it."""
        woken = [key for key, rest in self._resting.items() if peer.raw in (key, rest.by)]
        for key in woken:
            del self._resting[key]
        if woken:
            self.nudge()

    def here_now(self, agent: bytes) -> None:
        """There is news of where an agent is: send the messages that wait for it."""
        if self._resting.pop(agent, None) is not None:
            self.nudge()

    async def hand_over(self, recipient: PublicKey, kind: LetterKind, ident: bytes, value: object) -> list[object]:
        """Deliver a letter now, without retries. Returns the answer. Raises `CarrierError`."""
        answer = await self._deliver(recipient, [kind.value, ident, value])
        return answer if isinstance(answer, list) else []

    async def _rest(self, now: int) -> None:
        """Wait until there may be something to send."""
        loop_now = asyncio.get_running_loop().time()
        # Not of those whose rest is over: their letters are being sent, and end this wait themselves.
        waits = [rest.until - loop_now for rest in self._resting.values() if rest.until > loop_now]
        waits += [(each.due - now) / 1000 for each in self._letters(NEVER)[:1]]
        wait = max(0.01, min(waits)) if waits else None
        with contextlib.suppress(asyncio.TimeoutError):
            await within(wait, self._nudged.wait())

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        log_failure(task)

    async def _send(self, letter: Letter) -> None:
        try:
            if changes := await self._outcome(letter):
                await self._journal.write(changes, False)
        except StoreError as error:
            _log.warning("what became of a letter was not noted: %s", error)
            await asyncio.sleep(UNNOTED_RETRY_S)  # it is due again at once
        finally:
            self._sending.discard(letter.recipient)
            self.nudge()

    def put_off(self, recipient: bytes, first_ms: int | None = None, by: bytes = b"") -> None:
        """Send `recipient` nothing for a while, longer each time, or until it, or the station `by`, is heard of."""
        failures = self._resting[recipient].failures + 1 if recipient in self._resting else 0
        wait_ms = min((first_ms or FIRST_RETRY_MS) << min(failures, 16), LONGEST_RETRY_MS)
        self._resting[recipient] = Rest(asyncio.get_running_loop().time() + wait_ms / 1000, failures, by)

    async def _outcome(self, letter: Letter) -> list[Change]:
        """Attempt to deliver a letter; returns the changes to write."""
        now = self._clock()
        if now > letter.expires:
            _log.warning("a letter expired undelivered", extra={"kind": letter.kind})
            return [DropLetter(letter.number), *self._told(letter, [LetterAnswer.REFUSED.value, "expired", EXPIRED])]
        longest = LONGEST_LOCAL_RETRY_MS if letter.recipient == self._own.raw else LONGEST_RETRY_MS
        wait = _backoff_ms(letter.attempts, longest)
        try:
            ident, value = canonical.decode(letter.body, _BOUNDS)
            if letter.kind == LetterKind.TALK:
                return await self._talked(letter, await self.carry(ident, value))
            answer = await self._deliver(PublicKey(letter.recipient), [letter.kind, ident, value])
        except CarrierError as error:
            _log.info("a letter was not delivered: %s", error, extra={"kind": letter.kind})
            self.put_off(letter.recipient)
            return []
        except CredentialError as error:
            _log.info("a letter was not delivered: %s", error, extra={"kind": letter.kind})
            return [RetryLetter(letter.number, now + wait)]
        except (NotCanonical, ValueError, TypeError) as error:
            _log.error("a letter in the outbox cannot be read: %s", error)
            return [DropLetter(letter.number)]
        except Exception as error:  # unexpected: retry this letter as usual, and do not delay the others
            _log.error("a letter was not delivered: %s", describe_error(error), extra={"kind": letter.kind})
            return [RetryLetter(letter.number, now + wait)]
        self._resting.pop(letter.recipient, None)
        if not isinstance(answer, list) or not answer:
            return [RetryLetter(letter.number, now + wait)]
        if answer[0] == LetterAnswer.TAKEN:
            self.delivered += 1
            return [DropLetter(letter.number), *self.taken(letter)]
        if answer[0] == LetterAnswer.LATER:
            return [RetryLetter(letter.number, now + wait)]
        _log.warning("a letter was refused: %s", str(answer[1:])[:200], extra={"kind": letter.kind})
        return [DropLetter(letter.number), *self._told(letter, answer)]

    async def _talked(self, letter: Letter, answer: list[object]) -> list[Change]:
        """What to write after an attempt to bring a message to its agent."""
        if answer[0] == LetterAnswer.LATER:
            # The third item is the station that is to be heard of.
            by = answer[2] if len(answer) == 3 and isinstance(answer[2], bytes) else b""
            self.put_off(letter.recipient, FIRST_AGENT_RETRY_MS, by)
            return []
        self._resting.pop(letter.recipient, None)
        if answer[0] == LetterAnswer.TAKEN:
            self.delivered += 1
            return [DropLetter(letter.number)]
        return [DropLetter(letter.number), *self._told(letter, answer)]


def _backoff_ms(failures: int, longest_ms: int) -> int:
    """How long to wait after so many failures before the latest one."""
    return min(FIRST_RETRY_MS << min(failures, 16), longest_ms)
