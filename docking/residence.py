"""Agents that are here: they run, wait, call, clone, leave and end. What happens to one after each of its turns.

The counterpart in the loop of `docking.berth`, which has the turn itself. Not arrivals (`station`), and not what people
order (`steering`). Invariants: an agent has at most one turn, wait or departure at a time; the state of one that waits
for long is written down, and not kept in memory.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

from attrs import define, evolve

from agents import canonical
from agents.credentials.keys import text_of
from agents.errors import CredentialError, PortcallError
from agents.outcomes import Exhausted, Finished, Trapped
from agents.runtime import Asked, Spent
from agents.snapshot import Snapshot
from agents.waits import (
    Arrived,
    Call,
    Clone,
    Cloned,
    Event,
    Failed,
    Go,
    GoAt,
    Input,
    InputReady,
    Listen,
    Recv,
    Refused,
    Reply,
    Sleep,
    TimedOut,
    Wait,
    Woke,
    Yield,
)
from docking import papers, resting
from docking.admission import shed
from docking.berth import EDQUOT, ENOSPC, EPERM, Berth, Standing, Turn
from docking.changes import Change, DropCapsule
from docking.departures import errno_of
from docking.errors import LocalProtocolError, StationError, StoreError, StoreFull, WriteFailed
from docking.register import FINISHED, STOPPED, TRAVELLING
from docking.workers import Job
from docking.yellowpages import Visitor

if TYPE_CHECKING:
    from docking.station import Office

_log = logging.getLogger(__name__)
EINTR = 27
DAY = 86_400.0
# Agents that ended or left: their lines of log are kept for so many.
REMEMBERED = 256
# Messages that an agent has read, when its state is stored although it does not wait.
MAIL = 64
# Letters of one agent that are posted in one step of the event loop.
LETTERS = 50
# What a person should know of an agent that its destination has had from here already.
AMNESIA = (
    "has had this agent from here before, and the store here does not know: was it restored from an old copy, or did "
    "its disk lose what it said was written? The agent may live twice; if it does, dispose of this one"
)
# Seconds until a state that the disk had no room for is written again.
PARK_AGAIN = 5.0


def seen(future: asyncio.Future[None]) -> bool:
    """Whether a write went well; an error was logged by the journal's user and is not raised again."""
    if future.cancelled():
        return False
    error = future.exception()
    if error is not None and not isinstance(error, WriteFailed):  # of those the station itself says that it fails
        _log.error("a write to the store failed: %s", error)
    return error is None


@define(eq=False)
class Residence:
    """The residence of one office."""

    _office: Office

    def _store(self, change: Change) -> asyncio.Future[None]:
        """Write a berth down as it is, after what it refers to: the trail of one that just came may be put aside."""
        self._office.catch_up()
        return self._office.journal.write([change], False)

    def put_away(self, berth: Berth) -> None:
        """At the end: store the state of an agent that still has an instance."""
        if berth.life is None or berth.running or berth.standing is Standing.LEAVING:
            return
        if not berth.begun:
            berth.close()  # its instance was made in advance: the store has it as it came
            return
        if isinstance(berth.wait, Call):
            berth.calls -= 1  # it is made again, with the same number
        try:
            state = berth.life.snapshot().encode()
            self._store(resting.checkpoint(berth, state)).add_done_callback(seen)
        except PortcallError as error:
            _log.error("an agent could not be put away: %s", error, extra={"agent": text_of(berth.agent)})
        berth.close()

    def settle(self, berth: Berth) -> None:
        self._office.berths[berth.agent] = berth
        self._office.past.pop(berth.agent, None)
        self._office.owners[berth.papers.passport.body.owner] += 1

    def unsettle(self, berth: Berth, standing: Standing) -> None:
        """The agent is not here any more."""
        berth.close()
        berth.standing = standing
        berth.state, berth.saved = None, None
        self._office.active.pop(berth.agent, None)
        if self._office.berths.pop(berth.agent, None) is not None:
            self._office.owners[berth.papers.passport.body.owner] -= 1
        timer = self._office.timers.pop(berth.agent, None)
        if timer is not None:
            timer.cancel()
        self._office.past[berth.agent] = berth
        while len(self._office.past) > REMEMBERED:
            del self._office.past[next(iter(self._office.past))]

    def begin(self, berth: Berth, snapshot: Snapshot, arrived: bool) -> None:
        """Go on from a snapshot: with its arrival, or with what it waited for."""
        wait = None if snapshot.pending is None else snapshot.pending.wait
        if wait is None:
            self.go_on(berth, None)
        elif isinstance(wait, (Go, GoAt)):
            self.go_on(berth, Arrived() if arrived else Refused(EINTR, "the station was restarted"))
        else:
            self.wait(berth, wait)

    def state_of(self, berth: Berth) -> bytes:
        """The stored state of a berth. From any thread. Raises `StationError` if the store is damaged."""
        assert isinstance(berth.saved, resting.Saved)
        state = self._office.store.part(berth.saved.state.digest)
        if state is None:
            raise StationError("the agent's state is not in the store")
        if canonical.digest(state) != berth.saved.state.digest:
            raise StationError("the agent's state was damaged in the store")
        return state

    def go_on(self, berth: Berth, event: Event | None) -> None:
        """Queue the agent for a worker."""
        if self._office.closing:
            return
        berth.wait, berth.until, berth.standing, berth.running = None, 0, Standing.READY, True
        self._office.active[berth.agent] = berth
        timer = self._office.timers.pop(berth.agent, None)
        if timer is not None:
            timer.cancel()

        def work() -> Turn:
            try:
                berth.fetch(self.state_of)
            except (StationError, StoreError) as error:
                return Turn(Trapped("state", str(error)))
            return berth.turn(event)

        turned, dropped = functools.partial(self._turned, berth), functools.partial(self._not_begun, berth, event)
        self._office.workers.submit(Job(work, berth.interrupt, turned, dropped))

    def _not_begun(self, berth: Berth, event: Event | None) -> None:
        """The station stops before the agent's turn has come. Where it waited for something, that is in the store, and
        comes again; where it was only to go on, its state may be nowhere else.
        """
        berth.running = False
        if isinstance(event, (Reply, Failed)):
            berth.calls -= 1  # as in `put_away`
        if event is None and isinstance(berth.state, bytes):
            self._store(resting.checkpoint(berth, berth.state)).add_done_callback(seen)

    def _turned(self, berth: Berth, turn: Turn | None, error: BaseException | None) -> None:
        """A turn has ended."""
        berth.running = False
        if berth.life is None:
            self._office.active.pop(berth.agent, None)
        self._hear(berth)
        if turn is None:
            _log.error("a turn of an agent failed", exc_info=error, extra={"agent": text_of(berth.agent)})
            self._stop(berth, None, "the station failed to run the agent")
            return
        if turn.state is not None:
            berth.state = turn.state
        stop = turn.stop
        if isinstance(stop, Finished):
            self.finish(berth, FINISHED, str(stop.exit_code))
        elif isinstance(stop, Trapped):
            self._stop(berth, None, f"trapped: {stop.reason}")
        elif isinstance(stop, Exhausted):
            self._stop(berth, None, f"{stop.what}: {stop.reason}")
        elif isinstance(stop, Spent):
            self._stop(berth, turn.state, f"{stop.error.what}: {stop.error.reason}")
        elif self._office.closing:
            self._close_berth(berth, turn)
        elif berth.order:
            self._office.steering.carry_out(berth, stop, turn.state)
        elif isinstance(stop, Asked):
            self.go_on(berth, None)
        else:
            self.wait(berth, stop)

    def _close_berth(self, berth: Berth, turn: Turn) -> None:
        if turn.state is not None:
            if isinstance(turn.stop, (Sleep, Recv)):
                self._note_wait(berth, turn.stop)
            self._store(resting.checkpoint(berth, turn.state)).add_done_callback(seen)

    def wait(self, berth: Berth, wait: Wait) -> None:
        """The agent waits: see to it that the wait ends."""
        berth.standing = Standing.WAITING
        berth.wait = wait
        match wait:
            case Go(host) | GoAt(host):
                berth.standing = Standing.LEAVING
                self._office.begin(self.depart(berth, host))
            case Sleep():
                self._note_wait(berth, wait)
                self.park(berth)
                self.sleep_until(berth, berth.until)
            case Recv():
                if berth.inbox:
                    self._keep_mail_short(berth)
                    self.go_on(berth, berth.receive())
                    return
                self._note_wait(berth, wait)
                self.park(berth)
                if berth.until:
                    self.sleep_until(berth, berth.until)
            case Call(service, request):
                berth.calls += 1
                self._office.run(self._call(berth, service, request))
            case Clone():
                self._office.run(self._clone(berth))
            case Listen() if berth.inbox:
                self._keep_mail_short(berth)
                self.go_on(berth, berth.receive())
            case Input() | Listen():  # a station has no input: it ends at once, which is sooner than any message
                self.go_on(berth, InputReady(b""))
            case Yield():
                self.go_on(berth, Woke())

    def _note_wait(self, berth: Berth, wait: Sleep | Recv) -> None:
        berth.wait, berth.standing = wait, Standing.WAITING
        ns = wait.ns if isinstance(wait, Sleep) else wait.timeout_ns
        berth.until = 0 if ns is None else min(self._office.clocks.now() + -(-ns // 1_000_000), 2**52)

    def _keep_mail_short(self, berth: Berth) -> None:
        """What an agent has read is kept until it is stored again; one that is written to all the time never waits."""
        if len(berth.taken) < MAIL:
            return
        state = berth.state if isinstance(berth.state, bytes) else None
        if state is None and berth.life is not None:
            state = berth.life.snapshot().encode()
        if state is not None:
            self._store(resting.checkpoint(berth, state)).add_done_callback(seen)

    def park(self, berth: Berth) -> None:
        """Write the state down, and forget it until it is needed."""
        state = berth.state
        if not isinstance(state, bytes):
            return

        def written(future: asyncio.Future[None]) -> None:
            if seen(future):
                if berth.state is state and not berth.running:
                    berth.state = None
            elif not future.cancelled() and isinstance(future.exception(), StoreFull):
                asyncio.get_running_loop().call_later(PARK_AGAIN, park_again)

        def park_again() -> None:
            if berth.state is state and not berth.running and not self._office.closing:
                self.park(berth)

        self._store(resting.checkpoint(berth, state)).add_done_callback(written)

    def sleep_until(self, berth: Berth, until: int) -> None:
        berth.until, berth.standing = until, Standing.WAITING
        wait = max(0.0, (until - self._office.clocks.now()) / 1000)
        # By the loop's clock, which does not jump: one that is set back by an hour must not make seconds an hour.
        # Longer than a day would overflow some: look again then.
        self._office.timers[berth.agent] = asyncio.get_running_loop().call_later(
            min(wait, DAY), self._woken, berth, wait <= DAY
        )

    def _woken(self, berth: Berth, over: bool) -> None:
        self._office.timers.pop(berth.agent, None)
        if self._office.closing or berth.standing is not Standing.WAITING:
            return
        if not over:
            self.sleep_until(berth, berth.until)
        else:
            self.go_on(berth, Woke() if isinstance(berth.wait, Sleep) else TimedOut())

    async def _call(self, berth: Berth, service: str, request: bytes) -> None:
        if berth.sent + berth.calls > berth.grant.budget.messages:
            self.go_on(berth, Failed(EDQUOT, "the agent has sent as many messages as it may"))
            return
        body = berth.papers.passport.body
        visitor = Visitor(text_of(berth.agent), berth.label, body.owner, berth.visit, berth.calls, self._office.name)
        answer = await self._office.pages.call(service, request, visitor, berth.grant.allows(f"service:{service}"))
        if self._office.closing or berth.standing is Standing.ENDED:
            return
        said = answer.reason if isinstance(answer, Failed) else ""
        self._office.tell("call", berth.agent, place=service, text=said)
        self.go_on(berth, answer)

    async def depart(self, berth: Berth, host: str) -> None:
        state = berth.state if isinstance(berth.state, bytes) else self.state_of(berth)
        berth.state = state
        self._office.tell("leaving", berth.agent, place=host)
        # What was put aside is done while the destination judges: a step of the loop from now, the offer is sent.
        asyncio.get_running_loop().call_soon(self._office.catch_up)
        try:
            refused = await self._office.departures.depart(berth, host, state)
        except (StoreError, LocalProtocolError) as error:
            # Nobody knows what is on the disk: only a restart reads what is true of this agent.
            if not self._office.closing:
                self._office.tell("alarm", berth.agent, text=f"it neither left nor stays until a restart: {error}")
            return
        if refused is None or self._office.closing:
            return
        if refused.code == "here":
            self.go_on(berth, Arrived())
            return
        self._office.tell("refused", berth.agent, place=host, text=f"{refused.code}: {refused.reason}")
        if refused.code == "duplicate" and not berth.astray:
            # By this hop it was never given away, says the ledger here.
            berth.astray = True
            self._office.tell("alarm", berth.agent, place=berth.to, text=AMNESIA)
        berth.remark(f"go({host[:80]!r}) was refused: {refused.reason}")
        if berth.order == "retract":
            berth.order = ""
            self._go_on_after(berth)
        else:
            self.go_on(berth, Refused(errno_of(refused.code), refused.reason))

    def _go_on_after(self, berth: Berth) -> None:
        """Go on from what the agent waited for before it was to be retracted."""
        berth.state = Snapshot.decode(berth.state) if isinstance(berth.state, bytes) else berth.state
        assert isinstance(berth.state, Snapshot)
        self.begin(berth, berth.state, arrived=False)

    def finish(self, berth: Berth, standing: str, said: str) -> None:
        """The journey is over: sign the last visit, and send all of it home."""
        changes: list[Change] = [DropCapsule(berth.agent, berth.visit)]
        try:
            changes += self._office.endings.changes(berth, standing, said)
        except PortcallError as error:
            _log.error("the end of a journey cannot be told: %s", error, extra={"agent": text_of(berth.agent)})
        self.unsettle(berth, Standing.ENDED)
        berth.text = said
        kind = "finished" if standing == FINISHED else "disposed"
        self._office.catch_up()
        future = self._office.journal.write(changes, True)
        future.add_done_callback(functools.partial(self._finished, berth, kind, said))

    def _finished(self, berth: Berth, kind: Any, said: str, future: asyncio.Future[None]) -> None:
        if seen(future):
            self._office.tell(kind, berth.agent, text=said)
            if berth.papers.passport.body.home.station == self._office.key.public:
                self._office.tell("home", berth.agent, place=self._office.name, text=said)
            self._office.mailbox.nudge()

    def stop(self, berth: Berth, why: str) -> None:
        """An agent of which the state cannot be used."""
        self._stop(berth, None, why)

    def _stop(self, berth: Berth, state: bytes | None, why: str) -> None:
        """The agent cannot go on: its last state is kept, for whoever wants to know why."""
        berth.close()
        berth.standing, berth.text, berth.wait, berth.until = Standing.STOPPED, why, None, 0
        if state is None and isinstance(berth.saved, resting.Saved):
            note = evolve(berth.saved.note, standing=Standing.STOPPED, text=why[:900], cpu=berth.cpu)
            berth.saved = evolve(berth.saved, note=note)
            change: Change = resting.with_mail(berth)
        else:
            assert state is not None
            change = resting.checkpoint(berth, state)
        berth.state = None
        self._office.catch_up()
        # With what its home is told, where that is here: who asks finds both, or neither.
        changes = [change, *self._office.word_home(berth, STOPPED, why)]
        future = self._office.journal.write(changes, False)
        future.add_done_callback(functools.partial(self._stopped, berth, why))

    def _stopped(self, berth: Berth, why: str, future: asyncio.Future[None]) -> None:
        # A stop that was not written is none: after a restart the agent goes on from what was.
        if future.cancelled() or not isinstance(future.exception(), WriteFailed):
            if not seen(future):  # the state has no room; who waits for the agent is told all the same
                self._office.tell_home(berth, STOPPED, why)
            self._office.tell("stopped", berth.agent, text=why)

    def told(self, berth: Berth) -> None:
        """In a worker: the agent has logged or sent something."""
        if self._office.loop is not None and not self._office.loop.is_closed():
            self._office.loop.call_soon_threadsafe(self._hear, berth)

    def _hear(self, berth: Berth) -> None:
        for line in berth.listen():
            self._office.tell("log", berth.agent, place=self._office.name, text=line.text, label=berth.label)
        for _ in range(len(berth.outgoing) if self._office.closing else LETTERS):
            if not berth.outgoing:
                return
            to, body, number = berth.outgoing.popleft()
            self._office.letters.send(berth, to, body, number)
        if berth.outgoing:
            asyncio.get_running_loop().call_soon(self._hear, berth)

    async def _clone(self, berth: Berth) -> None:
        """The agent asked to be two."""
        state = berth.state if isinstance(berth.state, bytes) else self.state_of(berth)
        try:
            child = await self.make_clone(berth, state)
        except CredentialError as error:
            self.go_on(berth, Refused(EPERM, error.reason))
            return
        except StoreFull as error:
            self.go_on(berth, Refused(ENOSPC, str(error)))
            return
        if child is None or self._office.closing:
            return
        self.go_on(berth, Cloned(text_of(child.agent)))
        self.go_on(child, Cloned(None))

    async def make_clone(self, berth: Berth, state: bytes) -> Berth | None:
        """A second agent of this one, durable, not yet running. Raises `CredentialError`."""
        own, body = berth.papers, berth.papers.passport.body
        if not berth.grant.allows("host:clone"):
            raise CredentialError("capability", "the agent's permit here does not cover host:clone")
        serial = berth.cloned
        if serial >= body.clones.each or own.point.generation >= body.clones.generations:
            raise CredentialError("clones", "the passport allows no further clone")
        refusal = shed(self._office.policy, self._office.load())
        if refusal is not None:
            raise CredentialError(refusal.code, refusal.reason)
        reported = (berth.head, berth.reports)
        own_child = papers.cloned(own, serial, state, reported, self._office.clocks.now(), self._office.key)
        child = Berth(self._office.ground, own_child, berth.grant, berth.image, berth.image_part, state)
        berth.cloned = serial + 1
        changes: list[Change] = [
            self._office.knowledge.learn(child.papers.known, [*child.papers.links[-1:], *berth.reports], body.expires),
            resting.checkpoint(child, state, Cloned(None)),
            resting.checkpoint(berth, state, Cloned(text_of(child.agent))),
        ]
        if body.home.station == self._office.key.public:
            changes.append(self._office.register.opened(child.agent, own.passport, self._office.key.public))
        self._office.catch_up()
        await self._office.journal.write(changes, True)
        self.settle(child)
        self._office.tell("cloned", berth.agent, text=text_of(child.agent))
        self._office.tell_home(child, TRAVELLING)
        return child
