"""Handles on agents, wherever the agents are: for owners, and for programs that embed a station.

A handle is neither the agent nor its berth: it holds an id, and asks. Invariant: `results` are verified against the
signed trail, and opened with the owner's key.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.brief import brief
from agents.capsule import Capsule, Trust, VerifiedCapsule
from agents.credentials.amendments import Lease, TopUp
from agents.credentials.keys import PublicKey, SecretKey, bytes_of, text_of
from agents.credentials.passport import verify_passport
from agents.credentials.permit import Budget
from agents.credentials.visits import Visit
from agents.image import AgentImage
from agents.stack import Stack
from docking.aio.threads import in_thread
from docking.aio.timeouts import within
from docking.errors import AgentEnded, StationError, StoreError
from docking.events import Event, Events
from docking.launching import HOUR_MS, amendment, image_of, signed_upgrade
from docking.letters.journeys import JourneyStanding, open_reports
from docking.letters.orders import OrderKind, OrderOutcome, SendOutcome
from docking.peers.directory import PeerDirectory
from docking.residents.amending import Amending
from docking.residents.commands import Commands
from docking.residents.meeting import Meeting
from docking.residents.moves import Moves
from docking.residents.options import MoveOptions, MoveReport, OnTimeout, UpgradeReport
from docking.residents.queries import Queries
from docking.residents.residents import seen
from docking.residents.stacks import Stacks
from docking.residents.talking import Talking
from docking.residents.topics import Topics
from docking.residents.upgrades import Upgrades

Label: TypeAlias = "Callable[[PublicKey], str]"
"""The name of a station by its key, for people."""
_LAST = ("home", "stopped", "disposed")


@frozen
class Stay:
    """One visit of a verified trail, as the station signed it.

    index: of the visit, from 0
    station: its name here, or the id of its key where it has none
    arrived, departed: milliseconds since 1970, by the clock of that station
    to: the next station; empty at the end of the journey
    cpu: CPU time that the agent used there, microseconds
    memory: its peak memory there, bytes
    carried: the size of the state that it left with, bytes
    results: the number of results that it reported there
    """

    index: int
    station: str
    arrived: int
    departed: int
    to: str
    cpu: int
    memory: int
    carried: int
    results: int


@frozen
class Result:
    """A result that the agent reported, opened with its owner's key.

    key: the name under which it was reported
    value: the bytes; `text` has them as text
    station: where it was reported
    visit: at which visit, as `Stay.index`
    time: milliseconds since 1970, by the clock of that station
    """

    key: str
    value: bytes = field(repr=brief)
    station: str
    visit: int
    time: int

    @property
    def text(self) -> str:
        """The value as text; bytes that are not UTF-8 become U+FFFD."""
        return self.value.decode("utf-8", "replace")


@frozen
class Report:
    """The end of a journey, fully verified.

        report = await agent.wait(30)
        print(report.exit_code, [result.text for result in report.results])

    exit_code: of the agent's program; 0 means success
    results: its results, in order
    trail: its visits, from home to the last
    """

    exit_code: int
    results: tuple[Result, ...] = field(repr=brief)
    trail: tuple[Stay, ...] = field(repr=brief)


def audited(capsule: Capsule, now: int) -> VerifiedCapsule:
    """The capsule, verified at a time when its passport was valid. `now`: ms. Raises `CredentialError`."""
    body = verify_passport(capsule.passport).body
    # The clock may have been set back since the launch.
    return capsule.verify(Trust(), max(body.not_before, min(now, body.expires)))


def stays(capsule: Capsule, label: Label, now: int) -> tuple[Stay, ...]:
    """The visits of a capsule's trail, verified. Raises `CredentialError` if anything does not hold."""
    verified = audited(capsule, now)
    found = []
    counted = 0
    for signed in verified.followed.visits:
        visit: Visit = signed.body
        found.append(
            Stay(
                visit.index,
                label(visit.station),
                visit.arrived,
                visit.departed,
                "" if visit.next is None else label(visit.next),
                visit.used.cpu,
                visit.used.memory,
                visit.used.carried,
                visit.results.count - counted,
            )
        )
        counted = visit.results.count
    return tuple(found)


def opened(capsule: Capsule, owner: SecretKey | None, label: Label, now: int) -> list[Result]:
    """The results in a capsule, verified, and opened with the owner's key. Raises `StationError` without one,
    `CredentialError`.
    """
    if owner is None:
        raise StationError("the results are sealed to the agent's owner: give the owner's key")
    audited(capsule, now)
    return [
        Result(report.key, report.value, label(report.entry.station), report.entry.index, report.entry.time)
        for report in open_reports(capsule, owner.box())
    ]


@frozen(eq=False, repr=False)
class AgentAccess:
    """What the handles of one station may use. `written()`: waits until everything so far is durable; `now()`: ms."""

    queries: Queries
    commands: Commands
    talking: Talking
    events: Events
    peers: PeerDirectory
    stacks: Stacks
    moves: Moves
    upgrades: Upgrades
    topics: Topics
    meeting: Meeting
    amending: Amending
    written: Callable[[], Awaitable[None]]
    now: Callable[[], int]

    def agent(self, key: bytes, owner: SecretKey | None = None) -> Agent:
        """A handle on the agent with this id."""
        return Agent(
            key,
            self.queries,
            self.commands,
            self.talking,
            self.events,
            self.peers,
            self.stacks,
            self.moves,
            self.amending,
            self.upgrades,
            self.written,
            self.now,
            owner,
        )

    async def publish(self, topic: str, body: bytes, everywhere: bool) -> int:
        """Send a message of this station to the agents that subscribe to a topic; how many got it here."""
        made = self.topics.publication()
        return (await self.topics.say(made, self.queries.station, topic, body, everywhere))[1]

    def find(self, text: str, owner: SecretKey | None = None) -> Agent:
        """A handle on the agent that an id, the beginning of one, or a label means. Raises `UnknownAgent`."""
        return self.agent(self.queries.find_agent(text), owner)


@define(eq=False, repr=False)
class Agent:
    """A handle on one agent, wherever it is: shows what this station knows about it, and sends it orders and messages.

    `Station.launch` and `Station.agent` return one. It holds only the agent's id, so it stays valid when the agent
    moves on. Results are opened with the owner's key that was passed there.

    The orders `retract`, `dispose`, `sleep`, `wake` and `clone` return `OrderOutcome.OBEYED` where the agent is here,
    and `SENT` where the order travels after it.
    """

    key: bytes
    _queries: Queries
    _commands: Commands
    _talking: Talking
    _events: Events
    _peers: PeerDirectory
    _stacks: Stacks
    _moves: Moves
    _amending: Amending
    _upgrades: Upgrades
    _written: Callable[[], Awaitable[None]]
    _now: Callable[[], int]
    _owner: SecretKey | None = None

    def __repr__(self) -> str:
        return f"<Agent {self.id}>"

    @property
    def id(self) -> str:
        """The agent's id: 52 characters, the same at every station."""
        return text_of(self.key)

    @property
    def label(self) -> str:
        """Its label, as its owner signed it; empty if the agent is unknown here."""
        return self._queries.label(self.key)

    @property
    def standing(self) -> str:
        """Its state, as far as this station knows.

        Here: "ready", "waiting", "leaving", "asleep", "stopped". Launched here and gone: "travelling", "finished",
        "stopped", "disposed". Else "elsewhere".
        """
        return self._queries.standing(self.key)

    def where(self) -> str:
        """Its current station, as far as this station knows. Raises `UnknownAgent`."""
        return self._queries.place(self.key)

    async def events(self) -> AsyncIterator[Event]:
        """Its events from now on, as this station learns of them, as `docking.Event`s.

        Ends with its journey: after "home", "stopped" or "disposed".
        """
        name = self.id  # compute it once: every waiting handle filters every event
        subscription = self._events.subscribe(lambda event: event.agent == name)
        try:
            if self._over():
                return
            async for event in subscription:
                yield event
                if event.kind in _LAST:
                    return
        finally:
            self._events.unsubscribe(subscription)

    def _over(self) -> bool:
        journey = self._queries.journey(self.key)
        return journey is not None and journey.standing is not JourneyStanding.TRAVELLING

    async def wait(self, timeout: float | None = None) -> Report:
        """Wait until its journey is over and its home, which must be this station, knows that.

        timeout: seconds; None waits forever

        Raises `AgentEnded` if it was stopped or disposed of, `StationError` if the station stops before that,
        `asyncio.TimeoutError`.
        """
        code, capsule = await self.ended(timeout), self.capsule()
        # There may be thousands of signatures to verify, so not on the event loop.
        return await in_thread(
            lambda: Report(code, tuple(self._opened(capsule)), stays(capsule, self._peers.label, self._now()))
        )

    async def ended(self, timeout: float | None = None) -> int:
        """Wait as `wait` does, without a look at the trail and the results, which needs the owner's key.

        timeout: seconds; None waits forever

        Returns the exit code. Raises as `wait`.
        """
        if self._queries.journey(self.key) is None:
            raise StationError("an agent is waited for at its home")
        await within(timeout, self._until_over())
        journey = self._queries.journey(self.key)
        assert journey is not None
        if journey.standing is not JourneyStanding.FINISHED:
            raise AgentEnded(f"the agent was {journey.standing} at {self.where()}: {journey.text}")
        return int(journey.text)

    async def _until_over(self) -> None:
        if self._over():
            return
        name = self.id
        # Ignore events on its way: each would cost a step of the event loop that the agent's station runs in too.
        last = self._events.subscribe(
            lambda event: event.agent == name and (event.kind in _LAST or event.kind == "told")
        )
        try:
            async for event in last:
                # A word reports a stop elsewhere; once the word is written, the journey's new standing is too.
                if event.kind == "told":
                    with contextlib.suppress(StoreError):
                        await self._written()
                if event.kind in _LAST or self._over():
                    return
        finally:
            self._events.unsubscribe(last)
        raise StationError(f"the station {self._queries.station} stopped before the agent's journey was over")

    def capsule(self) -> Capsule:
        """The trail and results that are here, without image and state. Raises `UnknownAgent`."""
        return self._queries.capsule_of(self.key)

    def trail(self) -> tuple[Stay, ...]:
        """Its finished visits, verified. Raises `CredentialError` if anything does not hold."""
        return self._stays(self.capsule())

    def _stays(self, capsule: Capsule) -> tuple[Stay, ...]:
        return stays(capsule, self._peers.label, self._now())

    def results(self) -> list[Result]:
        """Its results, verified and opened. Raises `StationError` without the owner's key."""
        return self._opened(self.capsule())

    def _opened(self, capsule: Capsule) -> list[Result]:
        return opened(capsule, self._owner, self._peers.label, self._now())

    def logs(self) -> list[str]:
        """The latest lines that it printed and logged at this station, if it is here or was here recently."""
        return [line.text for line in self._queries.lines(self.key)]

    async def stack(self) -> Stack:
        """What it is doing, if it is here: its functions, innermost first, with their lines and variables.

            stack = await agent.stack()
            print(stack.frames[0].function, stack.frames[0].line, stack.note)

        An agent that runs is suspended for a moment, and goes on. If it does not suspend within 2 seconds, or was
        stopped, the stack is that of its last stored state, and `note` says so. At most 200 frames. Raises
        `UnknownAgent` if it is not here.
        """
        return await self._stacks.of(self.key)

    async def move(
        self,
        to: str,
        *,
        downtime_ms: float = 20.0,
        timeout_s: float = 60.0,
        on_timeout: OnTimeout = "cancel",
        precopy: bool = True,
    ) -> MoveReport:
        """Move it from this station to another one, where its itinerary allows, while it runs.

        Its memory is sent ahead; it stands still only for what it has written last (docs/how-to/move-agents). An agent
        that is not running, or has little memory, is simply stopped, sent and started.

        to: the station: a name, a key, `host:port`, "next" or "home"
        downtime_ms: how long it may stand still (20)
        timeout_s: how long sending ahead may take, in seconds (60)
        on_timeout: what happens then, or when it writes faster than can be sent: "cancel" leaves it here, "force" moves
            it whatever the downtime, "post-copy" lets it go on there and brings what is left of its memory afterwards
        precopy: False stops it first

        Returns what it took. Raises `StationError` where it stays here, with the reason; `UnknownAgent` if it is not
        here; `ValueError`.
        """
        return await self._moves.move(self.key, to, MoveOptions(downtime_ms, timeout_s, on_timeout, precopy))

    async def upgrade(
        self, image: AgentImage | bytes, *, owner: SecretKey | None = None, check: bool = False, timeout: float = 10.0
    ) -> UpgradeReport:
        """Give it new code, with which it goes on where it is (docs/how-to/upgrade-an-agent).

            report = await agent.upgrade(agents.pack(Path("new.wasm")), owner=key)

        image: the new image, or the contents of an image file
        owner: the key that signed its passport; by default the one that this handle was made with
        check: only say what would be; nothing is signed, and the agent goes on with its old code
        timeout: seconds in which it has to stand still, where it is here

        Returns what became of it, when that is durable: `done` is "upgraded", or "sent" where it is at another station,
        to which the order follows it. Raises `CannotUpgrade` with what is in the way, `CredentialError`,
        `StationError`, `UnknownAgent`, `FormatError`.
        """
        encoded = image_of(image).encode()
        if check:
            return await self._upgrades.upgrade(self.key, encoded, patience_s=timeout)
        signer = owner or self._owner
        if signer is None:
            raise StationError("an upgrade is signed by the agent's owner: give the owner's key")
        facts = self._upgrades.image_of(self.key)
        statement = signed_upgrade(*facts, canonical.digest(encoded), signer, self._now(), os.urandom(16))
        if self._upgrades.is_here(self.key):
            return await self._upgrades.upgrade(self.key, encoded, statement, timeout)
        return await self._upgrades.send(self.key, encoded, statement)

    def retract(self) -> OrderOutcome:
        """Call it home, where it continues: its pending `go` is refused.

        Returns the outcome of the order: `OrderOutcome.OBEYED` where the agent is here, `SENT` where the order travels
        after it. Raises `StationError` if the order cannot be delivered, `UnknownAgent`. So do the other orders.
        """
        return self._commands.order(self.key, OrderKind.RETRACT)

    def dispose(self) -> OrderOutcome:
        """End its journey where it is. Its results come home. Returns and raises as `retract`."""
        return self._commands.order(self.key, OrderKind.DISPOSE)

    def sleep(self, seconds: float | None = None) -> OrderOutcome:
        """Suspend it until it is woken, across restarts too. Returns and raises as `retract`.

        seconds: after which it wakes by itself; None for never
        """
        until = 0 if seconds is None else self._now() + round(1000 * seconds)
        return self._commands.order(self.key, OrderKind.SLEEP, until)

    def wake(self) -> OrderOutcome:
        """Resume it, even before its own `sleep` is over. Returns and raises as `retract`."""
        return self._commands.order(self.key, OrderKind.WAKE)

    async def top_up(
        self, more: Budget | None = None, *, hops: int = 0, owner: SecretKey | None = None
    ) -> OrderOutcome:
        """Give it more than its permit, also where it has stopped because its budget was used up: there it goes on.

            await agent.top_up(docking.Budget(cpu=30_000_000), hops=10)

        more: is added to the budget of its permit, memory too
        hops: so many more moves
        owner: the key that signs it; by default that of this handle

        Returns, when that is durable, `OrderOutcome.OBEYED` where it is here, `SENT` where it follows the agent. Raises
        `CredentialError` for another owner's key, `StationError` without one, `UnknownAgent`.
        """
        return await self._amend(TopUp(more or Budget(), hops), owner)

    async def renew(self, hours: float, *, owner: SecretKey | None = None) -> OrderOutcome:
        """Give it more time: its passport is valid for so long from now, if it would end before.

        hours: from now
        owner: as of `top_up`

        Returns and raises as `top_up`.
        """
        return await self._amend(Lease(self._now() + round(hours * HOUR_MS)), owner)

    async def _amend(self, change: TopUp | Lease, owner: SecretKey | None) -> OrderOutcome:
        key = owner or self._owner
        if key is None:
            raise StationError("an agent is changed by its owner: give the owner's key")
        passport = bytes_of(str(self._queries.row(self.key)["passport"]))
        signed = amendment(self.key, passport, change, key, self._now(), secrets.token_bytes)
        return await self._amending.amend(signed)

    def family(self) -> list[Agent]:
        """It and its clones, and theirs, as far as they are known here; each as a handle.

            for each in agent.family():
                each.dispose()

        Raises `UnknownAgent`.
        """
        return [evolve(self, key=each) for each in self._queries.family(self.key)]

    def clone(self) -> OrderOutcome:
        """Clone it, if its permit allows that; the clone continues from the same point.

        Returns and raises as `retract`. An event "cloned" has the clone's id (`events`).
        """
        return self._commands.order(self.key, OrderKind.CLONE)

    def send(self, body: bytes | str) -> SendOutcome:
        """Send it a message from this station.

        body: bytes, or text, which is sent in UTF-8; at most 1 MiB

        Returns `SendOutcome.DELIVERED` where it is here, `SENT` where the message travels after it, `UNKNOWN` where
        the agent is unknown. Raises `StationError` for more than 1 MiB.
        """
        outcome, written = self._talking.send_from_station(self.key, body.encode() if isinstance(body, str) else body)
        if written is not None:
            written.add_done_callback(seen)
        return outcome

    async def ask(self, body: bytes | str, timeout: float = 30.0, *, topic: str = "") -> bytes:
        """Ask it, from this station, and wait for its answer, wherever it is when it answers.

            price = await agent.ask("how much?", timeout=10)

        body: bytes, or text, which is sent in UTF-8; at most 1 MiB
        timeout: seconds; an answer that comes later is dropped
        topic: what the question is about; agents can select by it

        Returns the bytes of the answer. Raises `asyncio.TimeoutError` where none came in time, `UnknownAgent` where the
        agent is unknown or has ended, `StationError` where the question cannot be delivered.
        """
        data = body.encode() if isinstance(body, str) else body
        return await self._talking.ask_from_station(self.key, data, topic, timeout)
