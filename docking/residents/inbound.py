"""What other stations send besides handoffs: letters for agents and for this home, news of agents, greetings.

Each letter is judged by itself and answered: taken, later, or refused with a code. Senders are authenticated stations,
and nothing more. Invariants: a letter is answered "taken" only when its content is durable here, or was durably
forwarded; a letter is forwarded at most `MAX_STEPS` times, and then waits.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Awaitable, Callable

from attrs import define, field

from agents import canonical
from agents.credentials import envelope
from agents.credentials.fields import array, byte_string, text, uint
from agents.credentials.keys import PublicKey
from agents.credentials.upgrades import read_upgrade
from agents.errors import CannotUpgrade, CredentialError, EngineError, FormatError, NotCanonical
from agents.waits import MAX_BODY_BYTES, MAX_HOST_BYTES
from docking.aio.threads import in_thread
from docking.errors import StationError, StoreError
from docking.letters.journeys import OVER, Journeys, JourneyStanding, check_said, sayable
from docking.letters.orders import Order, OrderKind, read_order
from docking.letters.outbox import MAX_LETTER_WORDS, LetterAnswer, LetterKind, Outbox
from docking.letters.packets import Addressed, Packet
from docking.peers.directory import PeerDirectory
from docking.residents.amending import Amending
from docking.residents.berth import Berth, Standing
from docking.residents.commands import Commands
from docking.residents.endings import Endings
from docking.residents.meeting import Meeting
from docking.residents.post import PATIENCE_MS, Post, later, refused
from docking.residents.queries import Queries
from docking.residents.residents import Residents
from docking.residents.revoking import Revoking
from docking.residents.talking import Talking
from docking.residents.topics import Topics
from docking.residents.upgrades import MAX_SENT_IMAGE_BYTES, Upgrades
from docking.residents.witnesses import Witnesses
from docking.store.changes import Change, Letter
from docking.store.group_commit import GroupCommit

_log = logging.getLogger(__name__)
# How often an order is forwarded after an agent; then it waits where it is until the agent comes by.
MAX_STEPS = 256
# How long (ms) an order is forwarded.
ORDER_FORWARDED_MS = 7 * 86_400_000
# From this size on, the end of a journey is verified outside the event loop.
VERIFY_ASIDE_BYTES = 64 << 10
# Seconds in which an agent stands still for new code that a letter brings; else the letter comes again.
UPGRADED_WITHIN_S = 5.0
ORDER_BOUNDS = canonical.DecodeBounds(max_bytes=16 << 20, max_depth=8, max_items=100)
TAKEN: list[object] = [LetterAnswer.TAKEN.value]
_EXIT_CODE = re.compile(r"-?[0-9]{1,10}\Z")


@define(eq=False, repr=False)
class Inbound:
    """Handles what peers send, besides handoffs."""

    _here: Residents
    _journal: GroupCommit
    _journeys: Journeys
    _outbox: Outbox
    _peers: PeerDirectory
    _commands: Commands
    _queries: Queries
    _endings: Endings
    _witnesses: Witnesses
    _post: Post
    _talking: Talking
    _topics: Topics
    _meeting: Meeting
    _amending: Amending
    _upgrades: Upgrades
    of_docks: Callable[[PublicKey, LetterKind, bytes, object], Awaitable[list[object]]] = field(init=False)
    """Told of letters about docks."""
    revoking: Revoking = field(init=False)
    of_lives: Callable[[PublicKey, object], Awaitable[list[object]]] = field(init=False)
    """Told how often peers have started."""
    deposited: Callable[[Letter], bool] = lambda letter: False
    """Whether a letter went to a dock too."""

    async def receive(self, sender: PublicKey, value: object) -> list[object]:
        """Handle a letter; returns the answer."""
        try:
            kind, ident, content = array(value, "letter", 3)
            byte_string(ident, "letter's id", 32)
            match kind:
                case LetterKind.TALK:
                    return await self._post.bring(Addressed.of(ident, content))
                case LetterKind.TOPIC:
                    return await self._topics.receive(ident, content)
                case LetterKind.FIND:
                    return self._meeting.receive(content)
                case LetterKind.MESSAGE:
                    return await self._message(ident, content)
                case LetterKind.ORDER:
                    return await self._order(ident, content)
                case LetterKind.AMEND:
                    return await self._amending.receive(content)
                case LetterKind.ENDED:
                    return await self._ended(sender, content)
                case LetterKind.WITNESS:
                    return await self._witnesses.answer(sender, content)
                case LetterKind.TOLD:
                    return self._told(sender, content)
                case LetterKind.REVOKED:
                    return await self.revoking.receive(sender, content)
                case LetterKind.LIFE:
                    return await self.of_lives(sender, content)
                case LetterKind.DOCKS | LetterKind.DEPOSIT | LetterKind.DOCKED | LetterKind.COLLECT:
                    return await self.of_docks(sender, LetterKind(kind), ident, content)
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

    # Messages for agents

    async def _message(self, ident: bytes, content: object) -> list[object]:
        """From a station that does not know letters of the kind TALK."""
        agent, sender, body, steps = array(content, "message", 4)
        packet = Packet(
            byte_string(agent, "agent", 32),
            text(sender, "sender", MAX_HOST_BYTES),
            byte_string(body, "body", 0, MAX_BODY_BYTES),
            time=self._here.clocks.now(),
        )
        passed = max(1, uint(steps, "steps", 2**16))
        answer = await self._post.bring(Addressed(packet, ident, passed, patience_ms=PATIENCE_MS))
        return answer[:1] if answer[0] == LetterAnswer.TAKEN else answer

    async def _onward(self, kind: LetterKind, ident: bytes, content: list[object], agent: bytes) -> list[object]:
        """Forward a letter to where the agent went."""
        if uint(content[-1], "steps") > MAX_STEPS:
            return later("the letter was passed on too often: it waits here for the agent")
        to = self._queries.where(agent)
        if to is None:
            return refused("unknown-agent", "this agent is not here, and was not")
        expires = self._here.clocks.now() + ORDER_FORWARDED_MS
        await self._journal.write([Outbox.posted(to, kind, ident, content, expires)], True)
        self._outbox.nudge()
        return TAKEN

    # Orders from home

    async def _order(self, ident: bytes, content: object) -> list[object]:
        data, *image, steps = array(content, "order", 3)
        order, signer = read_order(byte_string(data, "order", 1, 4096), self._here.clocks.now())
        if len(image) != (order.what is OrderKind.UPGRADE):
            return refused("malformed", "an upgrade comes with its code, and nothing else does")
        code = [byte_string(each, "image", 1, MAX_SENT_IMAGE_BYTES) for each in image]
        berth = self._here.berths.get(order.agent)
        if berth is None:
            content = [data, *code, uint(steps, "steps", 2**16) + 1]
            return await self._onward(LetterKind.ORDER, ident, content, order.agent)
        if signer != berth.credentials.passport.body.home.station:
            return refused("not-home", "the order is not signed by the agent's home")
        if berth.standing is Standing.LEAVING:
            return later("the agent is leaving")
        if berth.owed is not None and order.what not in (OrderKind.DISPOSE, OrderKind.WAKE):
            return later(f"the agent {berth.owed.said}")
        if order.what is OrderKind.UPGRADE:
            return await self._upgrade(berth, order, code[0])
        said = canonical.digest(data)
        if said in berth.seen:
            return TAKEN  # repeated, or replayed by someone: do not clone twice
        self._commands.obey(berth, order.what, order.until)
        berth.see(said)
        return TAKEN

    async def _upgrade(self, berth: Berth, order: Order, encoded: bytes) -> list[object]:
        """New code for an agent that is here: taken when it is durable."""
        if berth.standing is Standing.STOPPED:
            return refused("stopped", sayable(f"the agent cannot go on: {berth.text}"))
        point = berth.credentials.point
        body, change = read_upgrade(order.statement)
        if point.image == change.new and point.upgraded == body.time:
            return TAKEN  # repeated: its answer was lost
        try:
            await self._upgrades.upgrade(berth.agent, encoded, order.statement, UPGRADED_WITHIN_S)
        except CannotUpgrade as error:
            return refused("cannot-upgrade", sayable(str(error)))
        except (FormatError, EngineError) as error:
            return refused("image-invalid", sayable(str(error)))
        except StoreError:
            raise
        except StationError as error:
            return later(str(error))
        except CredentialError as error:
            return later(error.reason) if error.code == "busy" else refused(error.code, sayable(error.reason))
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

    def taken(self, letter: Letter) -> list[Change]:
        """A letter was taken: an upgrade that was sent from here is what the agent has, as far as is known here."""
        if letter.kind != LetterKind.ORDER:
            return []
        with contextlib.suppress(CredentialError, NotCanonical, ValueError, TypeError, IndexError):
            _, (data, *_) = canonical.decode(letter.body, ORDER_BOUNDS)
            order = envelope.verify(Order, data, self._here.key.public).body
            if order.what is OrderKind.UPGRADE:
                return self._journeys.upgraded(order.agent, read_upgrade(order.statement)[1].new)
        return []

    # Refused letters

    def not_taken(self, letter: Letter, answer: list[object]) -> list[Change]:
        """A letter was refused: perhaps another one will do, or the operator should know."""
        if letter.kind == LetterKind.ORDER:
            self._order_refused(letter, answer)
        if letter.kind == LetterKind.REVOKED:
            with contextlib.suppress(CredentialError, NotCanonical, ValueError, TypeError, IndexError):
                return self.revoking.not_taken(PublicKey(letter.recipient), canonical.decode(letter.body)[1])
            return []
        if letter.kind == LetterKind.AMEND:
            self._amendment_refused(letter, answer)
        if letter.kind == LetterKind.TALK and answer[1:2] == ["ended"] and self.deposited(letter):
            return []  # by way of a dock it came before the end, or perhaps not: that cannot be told
        if letter.kind == LetterKind.TALK:
            return self._talking.not_taken(letter, answer)
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

    def _amendment_refused(self, letter: Letter, answer: list[object]) -> None:
        place = self._peers.label(PublicKey(letter.recipient))
        with contextlib.suppress(CredentialError, NotCanonical, ValueError, TypeError, IndexError):
            _, (data, _) = canonical.decode(letter.body)
            self._amending.not_taken(data, place, sayable(str(answer[2])))

    def _order_refused(self, letter: Letter, answer: list[object]) -> None:
        """An order from here was not carried out: say so here."""
        place = self._peers.label(PublicKey(letter.recipient))
        with contextlib.suppress(CredentialError, NotCanonical, ValueError, TypeError, IndexError):
            _, (data, *_) = canonical.decode(letter.body, ORDER_BOUNDS)
            order = envelope.verify(Order, data, self._here.key.public).body  # else it was forwarded for another home
            reason = sayable(str(answer[2]))
            self._here.tell("refused", order.agent, place=place, text=f"{order.what}: {reason}")
