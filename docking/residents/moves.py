"""Moves by order, while the agent runs: its memory is sent ahead, round after round, and then the handoff as ever.

Pre-copy: the destination opens a session (`docking.live`), the blocks of the agent's memories go there while it runs,
then those that it has written since, and so on. When what is left can be sent within the downtime that is allowed, the
agent is stopped at its next loop turn; the rest goes with the offer. An agent that has no instance now, or little
memory, is moved at once.

Post-copy, where that is asked for and rounds do not end: what is left is hashed while the agent runs, round after
round, which is faster than sending. Then it is stopped, and offered with digests for these blocks. They stay here
(`docking.live.block_server`) until the destination has fetched them.

Not here: the handoff (`docking.handoff`), and where an agent may go (`departures`). Invariants: until the commit the
agent lives here, and goes on here if anything fails; it is moved only where its itinerary leads; pages are marked as
not written before they are read, so that no write is lost.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from attrs import define, evolve, field

from agents.blocks import BLOCK_BYTES
from agents.canonical import Buffer
from agents.credentials.keys import PublicKey, text_of
from agents.errors import CredentialError, EngineError, PortcallError
from agents.execution import Execution
from agents.runtime import Asked
from agents.runtime import Stop as Ending
from agents.snapshot import Snapshot
from agents.waits import Accept, Ask, Call, Clone, Fork, Go, GoAt, Recv, Sleep, Wait
from docking.aio.threads import in_thread
from docking.aio.timeouts import within
from docking.aio.turns import short_turns
from docking.errors import (
    CarrierError,
    LocalProtocolError,
    MalformedMessage,
    StationError,
    StoreError,
    UnknownAgent,
)
from docking.handoff.refusal import Refusal
from docking.live.block_file import BlockFile
from docking.live.block_server import BlockServer, ServedAgent
from docking.live.wire import Cancel, ImageWanted, Opened, Prepare, Request, read_answer, write_request
from docking.residents.berth import Berth, Standing
from docking.residents.departures import Departures, Sent
from docking.residents.lifecycle import Lifecycle
from docking.residents.options import MoveOptions, MoveReport
from docking.residents.residents import Residents
from docking.residents.sending import MoveOver, Sending, SessionRefused

# Seconds within which an agent stands still when it is asked to.
HALTS_WITHIN_S = 10.0
# Bytes of memory from which on sending ahead saves more than it costs.
LEAST_BYTES = 512 << 10
# Bytes that are sent in the pause whatever the bandwidth: less takes no time that anybody could notice.
FREE_BYTES = 128 << 10
# Rounds after each of which as much had been written again: it will not become less.
STALLED_ROUNDS = 4
# Bytes of blocks that go with the offer; more of them are sent before it, in the pause too.
OFFERED_BYTES = 16 << 20
# Milliseconds of a handoff without any state: what the pause takes besides.
HANDOFF_MS = 5.0
# Seconds that a round may take in any case.
LEAST_ROUND_S = 1.0
# Seconds within which the instance of an agent that has left is unmapped, usually, and between two looks at that.
UNMAPPED_S, BETWEEN_LOOKS_S = 120.0, 0.05
# Seconds between two rounds, when little was written.
BETWEEN_ROUNDS_S = 0.002


async def _nothing(_: bytes) -> None:
    """Nothing is sent ahead."""


@define(eq=False, repr=False)
class Moves:
    """The moves by order from one station. `session`: asks a station for something about a session; `asked(agent)`: how
    many requests of clients wait for an agent, None if it does not serve."""

    _here: Residents
    _lifecycle: Lifecycle
    _departures: Departures
    _session: Callable[[PublicKey, Sequence[Buffer]], Awaitable[object]]
    _served: BlockServer
    _asked: Callable[[bytes], int | None]
    sent_ahead: Callable[[bytes], Awaitable[None]] = _nothing
    """Has an agent sent ahead no more (`docking.residents.ahead`): two who watch its writes would not see them all."""
    _under_way: dict[bytes, tuple[PublicKey, Sending]] = field(factory=dict)
    counts: Counter[str] = field(factory=Counter)
    """Moves that are over: `moved`, and `stayed`."""
    sent_bytes: int = 0
    """Memory of agents that were moved, sent while they ran or stood still."""
    downtime_us: int = 0
    """For how long those that were moved stood still, all together."""
    _unwanted: set[bytes] = field(factory=set)
    """Those whose move nobody waits for any more: it is given up, unless the handoff has begun."""

    @property
    def under_way(self) -> int:
        """Agents that are being moved now."""
        return sum(berth.moving for berth in self._here.berths.values())

    async def move(self, agent: bytes, host: str, options: MoveOptions) -> MoveReport:
        """Move an agent to `host`: a name, a key id, a key, `host:port`, `next` or `home`.

        Raises `UnknownAgent`; `StationError` where it stays here, with the reason.
        """
        berth = self._here.berths.get(agent)
        if berth is None:
            raise UnknownAgent("this agent is not here: an agent is moved by the station where it is")
        if berth.moving:
            raise StationError("the agent is being moved already")
        self._check(berth)
        berth.moving = True
        task = self._here.run(self._run(berth, host, options))
        task.add_done_callback(lambda _: self._unwanted.discard(agent))
        try:
            # A handoff that has begun is not given up in the middle because nobody waits any more.
            done = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise StationError("the station is being stopped") from None
            self._unwanted.add(agent)
            raise
        self.counts["stayed" if isinstance(done, StationError) else "moved"] += 1
        if isinstance(done, StationError):
            raise done
        self.sent_bytes += done.sent_bytes
        self.downtime_us += round(1000 * done.downtime_ms)
        return done

    def progress(self, agent: bytes) -> dict[str, object] | None:
        """How far the move of an agent is, as plain values; None if none is under way, or nothing is sent ahead."""
        if agent not in self._under_way:
            return None
        to, sending = self._under_way[agent]
        return {
            "to": self._here.peers.label(to),
            "rounds": sending.rounds,
            "sent_bytes": sending.sent_bytes,
            "resent_blocks": sending.resent_blocks,
        }

    async def _run(self, berth: Berth, host: str, options: MoveOptions) -> MoveReport | StationError:
        """What it took, or why it stays: an error that perhaps nobody waits for."""
        try:
            await self.sent_ahead(berth.agent)
            targets = await self._departures.targets(berth, host)
            if not targets or targets[0] == self._here.key.public:
                raise StationError("the agent is here already")
            report = await self._move(berth, targets[0], options)
            self._here.tell("moved", berth.agent, report.to, report.sentence())
            return report
        except SessionRefused as refused:
            return StationError(f"the agent stays here: {refused.why.code}: {refused.why.reason}")
        except StationError as error:  # also of names: `UnknownStation`
            return error
        except (MoveOver, EngineError):  # the latter: its instance was closed
            return StationError("the agent has ended, has left by itself, or obeys another order")
        finally:
            berth.moving = False

    @staticmethod
    def _check(berth: Berth) -> None:
        if berth.standing is Standing.LEAVING:
            raise StationError("the agent is leaving: try again")
        if berth.standing in (Standing.ASLEEP, Standing.STOPPED, Standing.SUSPENDED):
            why = {Standing.ASLEEP: "sleeps by order", Standing.STOPPED: f"cannot go on: {berth.text}"}
            raise StationError(f"the agent {why.get(berth.standing, 'may not go on here: ' + berth.barred)}")
        if isinstance(berth.wait, Go):
            raise StationError(
                f"the agent waits to go to {berth.wait.host[:80]} by itself: portcall retract calls it home"
            )
        if berth.owed is not None:
            raise StationError(f"the agent {berth.owed.said}: try again when all are here")

    async def _move(self, berth: Berth, to: PublicKey, options: MoveOptions) -> MoveReport:
        began, left = time.perf_counter(), False
        sending = None
        if options.precopy and berth.image.metadata is not None:
            with short_turns():
                sending = await self.open(berth, to)
        try:
            if sending is not None:
                self._under_way[berth.agent] = to, sending
                with short_turns():
                    await self._precopy(sending, berth, to, options, began)
            stop, until = await self._halt(berth)
            paused = time.perf_counter()
            if sending is not None:
                sending.gentle = False
            refused = await self._hand_over(berth, to, stop, until, sending)
            if refused is not None:
                raise SessionRefused(refused)
            left, now = True, time.perf_counter()
            return MoveReport(
                agent=text_of(berth.agent),
                to=self._here.peers.label(to),
                rounds=0 if sending is None else sending.rounds,
                sent_bytes=0 if sending is None else sending.sent_bytes,
                resent_blocks=0 if sending is None else sending.resent_blocks,
                downtime_ms=1000 * (now - paused),
                total_s=now - began,
                watch="" if sending is None else sending.memories[0].watch.kind,
                owed_bytes=0 if sending is None else sum(map(len, sending.owed)) * BLOCK_BYTES,
            )
        except BaseException:
            if sending is not None:
                self.cancel(to, sending.session)
            raise
        finally:
            self._under_way.pop(berth.agent, None)
            if sending is not None:
                self.close(sending, left)

    def close(self, sending: Sending, left: bool) -> None:
        """Send no more. `left`: the agent has left, and its instance is being closed."""
        sending.stop()
        self._here.run(self._watch_no_more(sending, left))

    async def _watch_no_more(self, sending: Sending, left: bool) -> None:
        """Watch no more. Of an agent that has left, once its memory is unmapped: before that it takes the kernel tens
        of milliseconds, in which nobody in this process can map memory, and clients wait for what is passed on.
        """
        until = time.monotonic() + UNMAPPED_S
        while left and sending.life.instance is not None and time.monotonic() < until:
            await asyncio.sleep(BETWEEN_LOOKS_S)
        await in_thread(sending.close)

    async def drain(self, to: Sequence[str], options: MoveOptions) -> AsyncIterator[MoveReport | tuple[bytes, str]]:
        """Move every agent that is here away, one after the other; for each, what it took, or its id and why it stays.

        to: the stations to try for each, in this order; none for the next stops of its itinerary
        """
        for agent in tuple(self._here.berths):
            said = "its itinerary leads nowhere from here"
            for host in to or ("next",):
                try:
                    yield await self.move(agent, host, options)
                    break
                except UnknownAgent:  # it has left or ended by itself
                    break
                except StationError as error:
                    said = str(error)
            else:
                yield agent, said

    # Pre-copy

    async def open(self, berth: Berth, to: PublicKey, least: int = LEAST_BYTES) -> Sending | None:
        """A session at the destination, and what the agent writes from now on is watched; None if that cannot be, or
        for an agent with less than `least` bytes of memory.

        It stands still only for its papers: watching begins while it runs, before anything is read. Raises
        `SessionRefused`, `MoveOver`, `StationError`.
        """
        if (life := berth.life) is not None:
            await in_thread(_look_up, life)
        stop, until = await self._halt(berth)
        try:
            if berth.life is None and berth.prepared is not None:  # it came by a live move, and has waited since
                await in_thread(berth.ready)
            sending = self._sending(berth, to, max(least, LEAST_BYTES))
        except BaseException:
            self._resume(berth, stop, until)
            raise
        if sending is None:
            self._resume(berth, stop, until)
            return None
        try:
            sending.session = await self._opened(sending, berth, to, stop, until)
            await in_thread(sending.watch)
        except BaseException:
            if sending.session:
                self.cancel(to, sending.session)
            await in_thread(sending.close)
            raise
        return sending

    def _sending(self, berth: Berth, to: PublicKey, least: int) -> Sending | None:
        life = berth.life
        if life is None or life.instance is None:
            return None
        luggage = 0 if life.wasi is None else life.wasi.luggage.used
        if life.usage().memory + luggage < least:
            return None

        async def ask(request: Request) -> object:
            try:
                return read_answer(await self._session(to, write_request(request)))
            except (CarrierError, MalformedMessage) as error:
                raise SessionRefused(Refusal("unreachable", str(error)[:500])) from error

        sending = Sending(berth, life, b"", ask)
        try:
            sending.begin()
        except EngineError:  # its memory may move when it grows
            return None
        return sending

    async def _opened(
        self, sending: Sending, berth: Berth, to: PublicKey, stop: Ending | Wait | None, until: int
    ) -> bytes:
        """The name of a session at the destination, which may need more of the agent's papers than it was told.

        The agent stands still when this begins, and not when it ends. Raises `SessionRefused`, `MoveOver`,
        `StationError`.
        """
        with_image = whole = False
        pages = tuple(memory.tree.pages for memory in sending.memories)
        while True:
            try:
                # It stands still: what it reports meanwhile would be half in the papers.
                berth.to = self._here.peers.label(to)
                offer = self._departures.announcement(berth, to, with_image, whole)
            except CredentialError as error:
                raise SessionRefused(Refusal(error.code, error.reason)) from error
            finally:
                self._resume(berth, stop, until)
            answer = await sending.ask(Prepare(offer, pages))
            if isinstance(answer, Opened):
                sending.later = answer.later
                return answer.session
            if isinstance(answer, ImageWanted) and not with_image:
                with_image = True
            elif isinstance(answer, Refusal) and answer.code == "trail-unknown" and not whole:
                whole = True
            elif isinstance(answer, Refusal):
                raise SessionRefused(answer)
            else:
                raise SessionRefused(Refusal("malformed", "the destination answered with something else"))
            stop, until = await self._halt(berth)
            if berth.life is not sending.life:
                self._resume(berth, stop, until)
                raise MoveOver

    async def _precopy(self, sending: Sending, berth: Berth, to: PublicKey, options: MoveOptions, began: float) -> None:
        """Send blocks until what is left can be sent within the allowed downtime.

        Raises `SessionRefused`, `MoveOver`.
        """
        found = await in_thread(sending.different)
        last, stalled = 0, 0
        if options.on_timeout == "post-copy" and not options.timeout_s:
            await self._leave_behind(sending, berth, to, options, found)
            return
        while True:
            left = sum(map(len, found)) * BLOCK_BYTES
            sending.gentle = self._asked(berth.agent) is not None
            said = f"round {sending.rounds + 1}: {left >> 10} KiB to send"
            self._here.tell("moving", berth.agent, self._here.peers.label(to), said)
            await self._round(sending, found, options, began)
            sending.rounds += 1
            self._check_wanted(berth)
            found = await in_thread(sending.written)
            left = sum(map(len, found)) * BLOCK_BYTES
            if _short(left, sending, options):
                await sending.send(found)
                return
            stalled = stalled + 1 if last and left >= 0.9 * last else 0
            last = left
            if time.perf_counter() - began > options.timeout_s or stalled >= STALLED_ROUNDS:
                if options.on_timeout == "force":
                    await sending.send(found)
                    return
                if options.on_timeout == "post-copy":
                    await self._leave_behind(sending, berth, to, options, found)
                    return
                said = (
                    f"it writes faster than it can be sent: after {sending.rounds} rounds {left >> 10} KiB were left,"
                    f" more than can be sent in {options.downtime_ms:g} ms; allow a longer downtime, force it, or have "
                    "the rest come later (post-copy)"
                )
                raise SessionRefused(Refusal("not-converging", said))
            await asyncio.sleep(BETWEEN_ROUNDS_S)

    @staticmethod
    async def _round(sending: Sending, found: list[list[int]], options: MoveOptions, began: float) -> None:
        """Send blocks. Raises `SessionRefused`: also if the move is to be cancelled and its time is over meanwhile."""
        left = options.timeout_s - (time.perf_counter() - began)
        try:
            await within(max(LEAST_ROUND_S, left) if options.on_timeout == "cancel" else None, sending.send(found))
        except asyncio.TimeoutError:
            said = f"its memory could not be sent in {options.timeout_s:g} s: allow more time, or force it"
            raise SessionRefused(Refusal("too-slow", said)) from None

    async def _leave_behind(
        self, sending: Sending, berth: Berth, to: PublicKey, options: MoveOptions, found: list[list[int]]
    ) -> None:
        """Post-copy: hash what is left, and what is written meanwhile, until little is.

        Raises `SessionRefused`, `MoveOver`, `StationError`.
        """
        if not sending.later:
            said = "what is left of its memory cannot come later: the destination's system or engine cannot wait for it"
            raise SessionRefused(Refusal("no-post-copy", said))
        if not self._served.room(to.raw):
            said = "what is left of its memory cannot come later: blocks of as many agents as may be are here still"
            raise SessionRefused(Refusal("no-post-copy", said))
        capacities = [memory.raw.limit // BLOCK_BYTES for memory in sending.memories]
        last = 0
        try:
            sending.file = await in_thread(self._served.file, sending.session, capacities)
            while True:
                left = sum(map(len, found)) * BLOCK_BYTES
                said = f"{left >> 10} KiB come later"
                self._here.tell("moving", berth.agent, self._here.peers.label(to), said)
                await in_thread(sending.note, found)
                await sending.send(sending.of_files(found))
                self._check_wanted(berth)
                found = await in_thread(sending.written)
                left = sum(map(len, found)) * BLOCK_BYTES
                if _short(left, sending, options) or (last and left >= 0.9 * last):
                    await in_thread(sending.note, found)
                    await sending.send(sending.of_files(found))
                    return
                last = left
        except OSError as error:
            raise StationError(f"what is left of its memory could not be stored here: {error.strerror}") from error

    def _check_wanted(self, berth: Berth) -> None:
        if self._here.berths.get(berth.agent) is not berth or berth.standing is Standing.LEAVING or berth.order:
            raise MoveOver
        if berth.agent in self._unwanted:
            raise SessionRefused(Refusal("cancelled", "nobody waits for its move any more"))

    def cancel(self, to: PublicKey, session: bytes) -> None:
        """A session is not needed any more: its destination is told, if it can be."""

        async def cancel() -> None:
            try:
                await self._session(to, write_request(Cancel(session)))
            except CarrierError:
                return  # it expires

        self._here.run(cancel())

    # The pause

    async def _halt(self, berth: Berth) -> tuple[Ending | Wait | None, int]:
        """Have the agent stand still: what it waits for, and until when (ms). Raises `MoveOver`, `StationError`."""
        if self._here.berths.get(berth.agent) is not berth or berth.standing is Standing.LEAVING or berth.order:
            raise MoveOver
        if berth.running or isinstance(berth.wait, Call | Clone | Fork):
            halting: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
            berth.halting = halting
            berth.interrupt()
            try:
                await asyncio.wait({halting}, timeout=HALTS_WITHIN_S)
            except asyncio.CancelledError:
                if halting.done() and not halting.cancelled():
                    self._resume(berth, halting.result(), 0)
                raise
            finally:
                if berth.halting is halting:
                    berth.halting = None
            if halting.cancelled():
                raise MoveOver
            if not halting.done():
                raise StationError("the agent does not suspend: it is inside a call, or has no loop")
            stop: Ending | Wait | None = halting.result()
        else:
            stop = berth.wait
        until = berth.until
        self._here.timers.stop(berth.agent)
        if isinstance(stop, Go | GoAt | Clone | Fork | Ask):
            self._lifecycle.wait(berth, stop)
            raise MoveOver
        if isinstance(stop, Sleep | Recv | Accept) and not until:
            ns = stop.ns if isinstance(stop, Sleep) else stop.timeout_ns
            until = 0 if ns is None else min(self._here.clocks.now() + -(-ns // 1_000_000), 2**52)
        berth.standing = Standing.LEAVING
        return stop, until

    def _resume(self, berth: Berth, stop: Ending | Wait | None, until: int) -> None:
        """It goes on here as if nothing had been."""
        if self._here.closing or self._here.berths.get(berth.agent) is not berth:
            return
        berth.standing = Standing.READY
        if stop is None or isinstance(stop, Asked):
            self._lifecycle.go_on(berth, None)
        elif isinstance(stop, Accept) and until:  # what is left of it
            self._lifecycle.wait(berth, Accept(max(0, until - self._here.clocks.now()) * 1_000_000))
        elif isinstance(stop, Recv) and berth.inbox:
            self._lifecycle.wait(berth, stop)
        elif isinstance(stop, Sleep | Recv):
            berth.wait, berth.standing = stop, Standing.WAITING
            if until:
                self._lifecycle.sleep_until(berth, until)
        else:
            assert isinstance(stop, Wait)
            self._lifecycle.wait(berth, stop)

    async def _hand_over(
        self, berth: Berth, to: PublicKey, stop: Ending | Wait | None, until: int, sending: Sending | None
    ) -> Refusal | None:
        """The handoff of an agent that stands still. None when it is gone; otherwise it goes on here."""
        resumed = True
        try:
            if sending is None:
                state, sent = await in_thread(self._whole, berth, until), None
            else:
                state, sent = await self._last(sending, until)
            self._here.tell("leaving", berth.agent, place=self._here.peers.label(to))
            resumed = False
            if sending is not None and any(sending.owed):
                refused = await self._leave_blocks(berth, to, state, sent, sending)
            else:
                refused = await self._departures.depart(berth, str(to), state, sent)
            resumed = refused is not None
            return refused
        except (StoreError, LocalProtocolError) as error:
            # It is unknown what is on the disk: only a restart can tell.
            resumed = False
            self._here.tell("alarm", berth.agent, text=f"it neither left nor stays until a restart: {error}")
            raise StationError(str(error)) from error
        except PortcallError as error:
            raise StationError(f"the agent's state cannot travel: {error}") from error
        finally:
            if resumed:
                self._resume(berth, stop, until)

    async def _leave_blocks(
        self, berth: Berth, to: PublicKey, state: bytes, sent: Sent | None, sending: Sending
    ) -> Refusal | None:
        """The handoff of an agent of which blocks stay here. From its commit on they are the destination's."""
        expires = berth.credentials.terms.expires
        served = ServedAgent(sending.session, berth.agent, to.raw, sending.backing(), expires)
        self._served.serve(served)
        occupied, life = berth.occupied, berth.detach()
        try:
            refused = await self._departures.depart(berth, str(to), state, sent)
        except BaseException:
            # Whether it has left, only a restart can tell: the file stays for that.
            berth.life, berth.occupied = life, occupied
            self._served.drop(sending.session)
            if sending.file is not None:
                sending.file.close()
                sending.file = None
            raise
        served.left = refused is None
        if refused is not None:
            berth.life, berth.occupied = life, occupied
            self._served.drop(sending.session)
        elif sending.file is not None:
            sending.file = None  # not ours any more
            if life is not None:
                self._here.run(self._here.unmapping.close(life))
        return refused

    async def _last(self, sending: Sending, until: int) -> tuple[bytes, Sent]:
        found = sending.written()
        if any(sending.owed) and sum(map(len, found)) * BLOCK_BYTES > FREE_BYTES:
            await in_thread(sending.note, found)
            found = sending.of_files(found)
        while sum(map(len, found)) * BLOCK_BYTES > OFFERED_BYTES:
            await sending.send(found)
            found = await in_thread(sending.written)
        rest, snapshot = sending.rest(found)
        snapshot = _awake(snapshot, until, self._here.clocks.now())
        last = rest.encode()
        later = sum(map(len, sending.owed)) * BLOCK_BYTES
        begun = None if sending.file is None else functools.partial(_durable, sending.file)
        return snapshot.encode(), Sent(last, sending.sent_bytes + len(last) + later, begun)

    def _whole(self, berth: Berth, until: int) -> bytes:
        """The whole state of an agent that stands still. In a thread."""
        berth.become_whole()
        if berth.life is not None:
            snapshot = berth.life.snapshot()
        elif isinstance(berth.state, Snapshot):
            snapshot = berth.state
        else:
            snapshot = Snapshot.decode(berth.state if berth.state is not None else self._here.state_of(berth))
        return _awake(snapshot, until, self._here.clocks.now()).encode()


def _look_up(life: Execution) -> None:
    """Once for each image: what its memories are like at first. It takes some milliseconds for each 100 MiB."""
    for name in life.memories:
        life.initial(name)


def _short(left: int, sending: Sending, options: MoveOptions) -> bool:
    """Whether so many bytes can be sent in the pause."""
    return left <= FREE_BYTES or HANDOFF_MS + 1000 * left / sending.speed <= options.downtime_ms


async def _durable(file: BlockFile, hid: bytes) -> None:
    """Before the agent is offered: the blocks that come later are on the disk, with the handoff they belong to."""
    file.remark(hid)
    await in_thread(file.sync)


def _awake(snapshot: Snapshot, until: int, now: int) -> Snapshot:
    """With what is left of a sleep, for an agent that sleeps until `until`; both ms since 1970."""
    pending = snapshot.pending
    if pending is None or not until:
        return snapshot
    left = max(0, until - now) * 1_000_000
    if isinstance(pending.wait, Sleep):
        return evolve(snapshot, pending=evolve(pending, wait=Sleep(left)))
    if isinstance(pending.wait, Recv | Accept):
        return evolve(snapshot, pending=evolve(pending, wait=type(pending.wait)(left)))
    return snapshot


__all__ = ["MoveOptions", "MoveReport", "Moves"]
