"""What other stations say to this one, beside the handoff: letters for agents and for this home, words, greetings.

Each letter is judged by itself, and answered: taken, later, or refused with a code. Senders are authenticated stations,
and nothing more. Invariants: a letter is answered "taken" only when what it says is durable here or has been passed on
durably; a letter is passed on at most `MAX_STEPS` times.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from typing import TYPE_CHECKING, Any

from attrs import define

from agents import canonical
from agents.credentials import envelope
from agents.credentials.envelope import identify
from agents.credentials.fields import array, byte_string, text, uint
from agents.credentials.keys import PublicKey, bytes_of, text_of
from agents.errors import CredentialError, NotCanonical
from agents.waits import BODY_MAX, HOST_MAX, Message, Recv
from docking import resting
from docking.berth import Berth, Standing
from docking.changes import Change
from docking.errors import StationError, StoreError
from docking.handoff.states import Source
from docking.mailbox import IN_A_LETTER, Mailbox
from docking.orders import Order, read_order
from docking.register import DISPOSED, FINISHED, check_said, sayable

if TYPE_CHECKING:
    from docking.station import Office

_log = logging.getLogger(__name__)
MAX_STEPS = 16
# Milliseconds that a message is tried to be delivered.
MESSAGE_LIFE = 7 * 86_400_000
# From this size on (bytes) the end of a journey is not verified on the event loop.
ASIDE = 64 << 10
TAKEN: list[Any] = ["taken"]
_EXIT_CODE = re.compile(r"-?[0-9]{1,10}\Z")


def later(reason: str) -> list[Any]:
    """Ask the sender to try again."""
    return ["later", reason]


def refused(code: str, reason: str) -> list[Any]:
    """Tell the sender not to try again."""
    return ["refused", code, reason[:500]]


@define(eq=False)
class Correspondence:
    """The correspondence of one office."""

    _office: Office

    async def receive(self, sender: PublicKey, value: Any) -> list[Any]:
        """A letter came; the answer."""
        try:
            kind, ident, content = array(value, "letter", 3)
            byte_string(ident, "letter's id", 32)
            match kind:
                case "message":
                    return await self._message(ident, content)
                case "order":
                    return await self._order(ident, content)
                case "ended":
                    return await self._ended(sender, content)
                case "told":
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
        """An agent here sends a message. Where it goes is found out now; delivery is tried for a week."""
        try:
            agent = self._agent_of(to)
        except CredentialError:
            self._office.tell("alarm", berth.agent, text=f"a message to {to[:64]!r}: that is no agent's id")
            return
        ident = identify("message", berth.agent, berth.visit, number)
        content = [agent, text_of(berth.agent), body, 0]
        if self._deliver_here(agent, Message(text_of(berth.agent), body), ident) == "taken":
            return
        home = berth.papers.passport.body.home.station
        self._pass_on("message", ident, content, agent, home)

    def send_from_station(self, agent: bytes, body: bytes) -> str:
        """A person at this station sends a message; what becomes of it."""
        office = self._office
        ident = identify("message", office.key.public.raw, office.clocks.random(16))
        if self._deliver_here(agent, Message(office.name, body), ident) == "taken":
            return "delivered"
        content = [agent, office.name, body, 0]
        return "sent" if self._pass_on("message", ident, content, agent, None) else "unknown"

    def _agent_of(self, to: str) -> bytes:
        for berth in self._office.berths.values():
            if berth.label == to:
                return berth.agent
        return byte_string(bytes_of(to), "agent", 32)

    def _deliver_here(self, agent: bytes, message: Message, ident: bytes) -> str:
        """Give a message to an agent that is here: what `Berth.deliver` says, or "away", or "busy"."""
        berth = self._office.berths.get(agent)
        if berth is None:
            return "away"
        if berth.standing is Standing.LEAVING:
            return "busy"
        answer = berth.deliver(message, ident)
        if answer == "taken" and isinstance(berth.wait, Recv) and berth.standing is Standing.WAITING:
            self._office.residence.go_on(berth, berth.receive())
        return answer

    async def _message(self, ident: bytes, content: Any) -> list[Any]:
        agent, sender, body, steps = array(content, "message", 4)
        byte_string(agent, "agent", 32)
        text(sender, "sender", HOST_MAX)
        byte_string(body, "body", 0, BODY_MAX)
        answer = self._deliver_here(agent, Message(sender, body), ident)
        if answer in ("taken", "again"):
            berth = self._office.berths.get(agent)
            if berth is not None and isinstance(berth.saved, resting.Saved):
                self._office.catch_up()  # what it refers to comes before it
                await self._office.journal.write([resting.with_mail(berth)], True)
            return TAKEN
        if answer in ("busy", "full"):
            return later("the agent is leaving" if answer == "busy" else "the agent has too many messages")
        return await self._onward("message", ident, [agent, sender, body, uint(steps, "steps", 2**16) + 1], agent)

    async def _onward(self, kind: str, ident: bytes, content: list[Any], agent: bytes) -> list[Any]:
        """Pass a letter on to where the agent went."""
        if content[-1] > MAX_STEPS:
            return refused("astray", "the letter was passed on too often")
        to = self.where(agent)
        if to is None:
            return refused("unknown-agent", "this agent is not here, and was not")
        expires = self._office.clocks.now() + MESSAGE_LIFE
        await self._office.journal.write([Mailbox.posted(to, kind, ident, content, expires)], True)
        self._office.mailbox.nudge()
        return TAKEN

    def _pass_on(self, kind: str, ident: bytes, content: list[Any], agent: bytes, else_to: PublicKey | None) -> bool:
        to = self.where(agent) or else_to
        if to is None or to == self._office.key.public:
            self._office.tell("alarm", agent, text="a message for an agent that is not known here")
            return False
        expires = self._office.clocks.now() + MESSAGE_LIFE
        self._office.post(Mailbox.posted(to, kind, ident, content, expires))
        return True

    def where(self, agent: bytes) -> PublicKey | None:
        """Where an agent went that is not here: to whom this station handed it, or what its home was told."""
        went = [
            record for record in self._office.store.history(agent) if record.state in (Source.COMMITTED, Source.GONE)
        ]
        journey = self._office.register.get(agent)
        if went and (journey is None or journey.hop <= went[-1].hop + 1):
            return PublicKey(went[-1].peer)
        if journey is not None and journey.place != self._office.key.public:
            return journey.place
        return None

    # Orders from home

    async def _order(self, ident: bytes, content: Any) -> list[Any]:
        data, steps = array(content, "order", 2)
        order, signer = read_order(byte_string(data, "order", 1, 4096), self._office.clocks.now())
        berth = self._office.berths.get(order.agent)
        if berth is None:
            return await self._onward("order", ident, [data, uint(steps, "steps", 2**16) + 1], order.agent)
        if signer != berth.papers.passport.body.home.station:
            return refused("not-home", "the order is not signed by the agent's home")
        if berth.standing is Standing.LEAVING:
            return later("the agent is leaving")
        said = canonical.digest(data)
        if said in berth.seen:
            return TAKEN  # the answer was lost, or somebody says it again: once is enough of a clone
        self._office.steering.obey(berth, order.what)
        berth.see(said)
        return TAKEN

    # What a home hears

    async def _ended(self, sender: PublicKey, content: Any) -> list[Any]:
        data, standing, said = array(content, "ending", 3)
        byte_string(data, "capsule", 1, 2**24)
        check_said(said)
        if standing not in (FINISHED, DISPOSED):
            return refused("malformed", "a journey ends as finished or disposed")
        if standing == FINISHED and not _EXIT_CODE.match(said):
            return refused("malformed", "an agent that finished has an exit code")
        if len(data) < ASIDE:
            judged = self._office.register.judge(data, sender)
        else:
            loop = asyncio.get_running_loop()
            judged = await loop.run_in_executor(None, self._office.register.judge, data, sender)
        journey, changes = self._office.register.ended(judged, standing, said)
        await self._office.journal.write(changes, True)
        place = self._office.peers.label(sender)
        self._office.tell("home", journey.agent, place=place, text=said, label=journey.label)
        return TAKEN

    def _told(self, sender: PublicKey, content: Any) -> list[Any]:
        changes: list[Change] = []
        for word in array(content, "words", IN_A_LETTER):
            change = self._office.register.told(sender, word)
            if change is not None:
                changes.append(change)
                journey = self._office.register.get(change.agent)
                label = "" if journey is None else journey.label
                place = self._office.peers.label(sender)
                self._office.tell("told", change.agent, place=place, text=word[3], label=label)
        if changes:
            self._office.write(changes)
        return TAKEN

    # When a home refused

    def not_taken(self, letter: Any, answer: list[Any]) -> list[Change]:
        """A reader refused a letter: perhaps something else will do, or a person should know."""
        if letter.kind == "order":
            self._order_refused(letter, answer)
        if letter.kind != "ended" or len(answer) < 2 or answer[1] != "trail-unknown":
            return []
        return self._office.endings.again(letter)

    def _order_refused(self, letter: Any, answer: list[Any]) -> None:
        """What a person ordered is not done: say so where it was ordered."""
        place = self._office.peers.label(PublicKey(letter.recipient))
        with contextlib.suppress(CredentialError, NotCanonical, ValueError, TypeError, IndexError):
            _, (data, _) = canonical.decode(letter.body)
            order = envelope.verify(Order, data, self._office.key.public).body  # else it was passed on for another home
            reason = sayable(str(answer[2]))
            self._office.tell("refused", order.agent, place=place, text=f"{order.what}: {reason}")
