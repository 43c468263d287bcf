"""How agents arrive: an instance is made while the commit is on its way, then the agent starts. Also restarts of a
station.

The counterpart of `docking.residents.departures`. Not whether it may come in (`docking.trust.admission_controller`),
and not the rules of the handoff (`docking.handoff`): here is what follows when the courier says that an agent is held,
or belongs to this station.

Invariants: no code of an agent runs before the ledger says that it lives here; few instances are made in advance, and
they are soon given up; an agent that cannot be resumed is listed and kept, and does not keep others from resuming.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from attrs import define, evolve, field, frozen

from agents.credentials.envelope import foresee
from agents.credentials.keys import PublicKey, public_key, text_of
from agents.engines.missing import MissingPages
from agents.errors import PortcallError
from agents.snapshot import Snapshot
from agents.waits import Answer, Clone, Cloned, Fork, Forked, Go, Recv, Select, Sleep, Wait
from docking.errors import StationError
from docking.handoff.actions import Cargo, Record
from docking.handoff.messages import Part
from docking.letters.journeys import JourneyStanding
from docking.live.block_fetcher import BlockFetcher
from docking.live.wire import Owed, Rest
from docking.residents import checkpoints
from docking.residents.berth import Berth, HostEnvironment, Standing
from docking.residents.deltas import Deltas
from docking.residents.lifecycle import Lifecycle
from docking.residents.recovery import Recovery
from docking.residents.residents import Residents
from docking.residents.workers import Job
from docking.store.changes import Link, StoredCapsule
from docking.trust import agent_credentials
from docking.trust.admission_controller import Admitted
from docking.trust.certificates import Certificates
from docking.trust.verified_trails import VerifiedTrail, VerifiedTrails

_log = logging.getLogger(__name__)
# Agents that are held and already have an instance, and for how long (seconds): a source that never commits must not
# cost memory (docs/adr/instances-before-the-commit).
MAX_EXPECTED, EXPECTED_S = 8, 2.0
# The loop makes an instance itself where that is faster (seconds) than waking a thread: for an image whose last
# instance took no longer, and for states with at most so many pages of memory, bytes of files, and frames and table
# elements.
INLINE_START_S = 0.001
INLINE_START_PAGES, INLINE_START_FILE_BYTES, INLINE_START_PIECES = 16, 16 << 10, 256
TIMED_IMAGES = 256  # whose last time is remembered


@frozen
class Unresumable:
    """An agent that lives here and cannot be resumed: at visit `hop`, `why`, and since when that is known (ms)."""

    hop: int
    why: str
    since: int


@define(eq=False, repr=False)
class Arrivals:
    """The arrivals of one station. `expected`: by handoff, the agents that are held and will probably belong to this
    station in a moment; `kept`: those that cannot be resumed until a restart or another policy allows it.
    """

    _here: Residents
    _lifecycle: Lifecycle
    _recovery: Recovery
    _environment: HostEnvironment
    _trails: VerifiedTrails
    _certificates: Certificates
    _deltas: Deltas
    _fetcher: BlockFetcher
    expected: dict[bytes, Berth] = field(factory=dict)
    kept: dict[bytes, Unresumable] = field(factory=dict)
    slept: Callable[[Berth], None] = lambda berth: None
    """Told of an agent that sleeps by order and wakes by itself."""
    judge: Callable[[Berth], None] = field(init=False)
    """Told of each agent that begins here, before it does."""
    took_s: dict[bytes, float] = field(factory=dict)
    """By image, how long its last instance in advance took to make (seconds)."""

    def expect(self, record: Record, cargo: Cargo, admitted: Admitted) -> None:
        """An agent is held, and its commit usually follows in a moment: have its instance made meanwhile.

        To be called when the receipt is on its way: then the source has something to do, and we have not.
        """
        if admitted.prepared is not None:  # its instance is there already
            foresee(agent_credentials.commit_of(record), public_key(record.peer))
            return
        if self._here.closing or record.agent in self._here.berths or len(self.expected) >= MAX_EXPECTED:
            return
        parts = {part.kind: part for part in cargo.offer.parts}
        self.expected[record.hid] = self._berth(record, parts["image"], admitted)
        self._ready(record.hid)
        foresee(agent_credentials.commit_of(record), public_key(record.peer))
        asyncio.get_running_loop().call_later(EXPECTED_S, self.expect_no_more, record.hid)

    def _ready(self, hid: bytes) -> None:
        berth = self.expected[hid]

        def make() -> None:
            began = time.perf_counter()
            berth.ready()
            if len(self.took_s) >= TIMED_IMAGES:
                self.took_s.clear()
            self.took_s[berth.image.digest] = time.perf_counter() - began

        if isinstance(berth.state, Snapshot) and self._quick(berth.image.digest, berth.state):
            make()
        else:
            self._here.workers.submit(Job(make, _nothing, _nothing))

    def _quick(self, image: bytes, state: Snapshot) -> bool:
        """Whether an instance takes almost no time. Judged by the memory it needs, since states are compressed."""
        pages = sum(memory.pages for memory in state.memories)
        elements = sum(table.size for table in state.tables.values())
        return (
            self.took_s.get(image, INLINE_START_S) < INLINE_START_S
            and pages <= INLINE_START_PAGES
            and len(state.wasi) <= INLINE_START_FILE_BYTES
            and len(state.frames) + elements <= INLINE_START_PIECES
        )

    def expect_no_more(self, hid: bytes) -> None:
        """The agent did not come: give up its instance."""
        berth = self.expected.pop(hid, None)
        if berth is not None and not self._here.closing:
            self._here.workers.submit(Job(berth.unready, _nothing, _nothing))

    def close(self) -> None:
        """The station stops: give up the instances that were made in advance."""
        for berth in self.expected.values():
            berth.close()
        self.expected.clear()

    def arrive(self, record: Record, cargo: Cargo | None, admitted: Admitted | None) -> None:
        """The agent belongs to this station now, and starts; `cargo` and `admitted` are None if it was admitted before
        a restart.
        """
        self._here.in_doubt.pop(record.hid, None)
        if cargo is None or admitted is None:
            capsule = self._here.store.capsule(record.agent, record.hop + 1)
            if capsule is not None:
                self.resume(capsule, record)
            return
        parts = {each.kind: each for each in cargo.offer.parts}
        berth = self.expected.pop(record.hid, None)
        if berth is None:
            berth = self._berth(record, parts["image"], admitted)
        elif record.commit:  # and none where an operator adopts it
            berth.credentials = agent_credentials.committed(berth.credentials, record.commit)
        if admitted.prepared is None:
            self._deltas.passed(record.agent, record.peer, parts["state"].digest, cargo.body("state") or b"")
        self._settle(berth, parts["state"], parts.get("blocks"))
        if admitted.session is not None and admitted.session.owed:
            session = admitted.session
            self._fetch(berth, record.peer, session.name, session.owed, session.missing())
        self.judge(berth)
        self._here.came(berth)
        # Waking a thread takes a while; the rest of this step is done meanwhile.
        self._lifecycle.begin(berth, admitted.snapshot, arrived=True)
        self._remember_soon(berth, public_key(record.peer))

    def _berth(self, record: Record, image: Part, admitted: Admitted) -> Berth:
        own = self._papers(record, admitted)
        berth = Berth(self._environment, own, admitted.admission.grant, admitted.image, image, admitted.snapshot)
        berth.prepared, berth.trace = admitted.prepared, admitted.trace
        berth.open_mailbox(admitted.mailbox)
        berth.cpu_us = admitted.compiled_us
        return berth

    def _papers(self, record: Record, admitted: Admitted) -> agent_credentials.AgentCredentials:
        verified, proofs = admitted.verified, (record.receipt, record.commit)
        return agent_credentials.arrived(
            verified.passport,
            verified.capsule,
            verified.followed,
            verified.results,
            proofs,
            self._trails,
            self._certificates,
        )

    def _settle(self, berth: Berth, state: Part, blocks: Part | None) -> None:
        """Enter an agent that belongs to this station now."""
        berth.saved = checkpoints.StoredState(state, checkpoints.note_of(berth, arrived=True), 0, blocks)
        self._here.settle(berth)

    def _remember_soon(self, berth: Berth, source: PublicKey) -> None:
        """It came from `source`: remember its trail, and tell its home."""
        own = berth.credentials
        self._here.tell("arrived", berth.agent, place=self._here.peers.label(source))
        links, expires = (*own.links, *own.entries), own.terms.expires
        self._trails.keep(own.known, links)
        self._here.aside(lambda: self._remember(own.known, links, expires, berth))

    def _remember(self, known: VerifiedTrail, links: tuple[Link, ...], expires: int, berth: Berth) -> None:
        word = [] if berth.standing is Standing.ENDED else self._here.word_home(berth, JourneyStanding.TRAVELLING, "")
        self._here.write([self._trails.change(known, links, expires), *word])

    def resume(self, capsule: StoredCapsule, record: Record | None = None, going: Wait | None = None) -> None:
        """Resume an agent that the store says is here. One that cannot be resumed is listed, and kept.

        going: what it was about to do when it was stopped, and does now; None for what the store says
        """
        try:
            berth, note = self._recovery.restore(capsule, record)
        except (PortcallError, KeyError) as error:
            _log.error("an agent cannot be taken up: %s", error, extra={"agent": text_of(capsule.agent)})
            self._here.tell("alarm", capsule.agent, text=f"an agent here cannot be taken up: {error}")
            self.kept[capsule.agent] = Unresumable(capsule.hop, str(error), self._here.clocks.now())
            return
        self.kept.pop(capsule.agent, None)
        if note is not None and berth.recording is not None:
            berth.recording.restarted()
        if note is None:
            self._settle(berth, checkpoints.part_of(capsule, "state"), checkpoints.blocks_of(capsule))
            self._remember_soon(berth, berth.credentials.point.source)
        else:
            self._here.settle(berth)
            self._here.tell("resumed", berth.agent)
        try:
            owed = self._owed(berth)
            if going is not None:
                self._lifecycle.wait(berth, going)
            elif owed is None:
                self._take_up(berth, note)
            else:
                berth.standing = Standing.WAITING
                self._fetch(berth, berth.credentials.point.source.raw, owed.session, owed.owed, {}, note)
        except PortcallError as error:
            # A damaged agent must not keep the others from resuming.
            self._lifecycle.stop(berth, f"state: {error}")

    def _owed(self, berth: Berth) -> Rest | None:
        """The blocks of an agent that were to come when it ran here; None if there were none.

        Raises `StationError`, `BadSnapshot`.
        """
        saved = berth.saved
        assert isinstance(saved, checkpoints.StoredState)
        if saved.blocks is None:
            return None
        rest = self._here.store.part(saved.blocks.digest)
        if rest is None:
            raise StationError("the blocks of the agent's memories are not in the store")
        found = Rest.decode(rest)
        return found if found.owed else None

    def _fetch(
        self,
        berth: Berth,
        source: bytes,
        session: bytes,
        owed: tuple[Owed, ...],
        missing: Mapping[int, MissingPages],
        note: checkpoints.BerthNote | None = None,
    ) -> None:
        """Bring blocks of its memory; without `missing`, it is taken up when they are here."""
        peer = public_key(source)
        label = self._here.peers.label(peer)
        found = berth.owed = self._fetcher.start(berth.agent, session, peer, label, owed, missing)

        def whole(done: asyncio.Future[None]) -> None:
            if done.cancelled():  # it has ended, or the station stops
                return
            berth.owed = None
            if self._here.closing or self._here.berths.get(berth.agent) is not berth:
                return
            if missing:
                self._lifecycle.put_down(berth)
            elif berth.standing is Standing.WAITING:
                berth.standing = Standing.READY
                try:
                    self._take_up(berth, note)
                except PortcallError as error:
                    self._lifecycle.stop(berth, f"state: {error}")

        found.whole.add_done_callback(whole)

    def _take_up(self, berth: Berth, note: checkpoints.BerthNote | None) -> None:
        if note is not None and note.spent and berth.has_time:
            note = evolve(note, standing=Standing.READY, spent=0, text="")  # it got more
            self._here.tell_home(berth, JourneyStanding.TRAVELLING)
        if note is not None and note.standing in (Standing.STOPPED, Standing.ASLEEP):
            berth.standing, berth.text, berth.spent = note.standing, note.text, note.spent
            if note.standing is Standing.ASLEEP and note.until:
                berth.until = note.until
                self.slept(berth)
            return
        now = self._here.clocks.now()
        if note is not None and note.wait == "sleep":
            berth.wait = Sleep(0)
            self._lifecycle.sleep_until(berth, note.ends(now))
            return
        if note is not None and note.wait == "recv" and not berth.inbox:
            berth.wait, berth.standing = Recv(None), Standing.WAITING
            if note.until:
                self._lifecycle.sleep_until(berth, note.ends(now))
            return
        snapshot = Snapshot.decode(self._here.state_of(berth))
        if note is not None and note.until:
            snapshot = _rest(snapshot, note.ends(now) - now)
        berth.state = snapshot
        if note is not None and isinstance(snapshot.pending and snapshot.pending.wait, Clone):
            self._lifecycle.go_on(berth, Cloned(note.child or None))
        elif note is not None and isinstance(snapshot.pending and snapshot.pending.wait, Fork) and note.child:
            number, *children = note.child.split()
            self._lifecycle.go_on(berth, Forked(int(number), tuple(children)))
        elif note is not None and note.until and note.wait != checkpoints.ARRIVED and (wait := _queued(snapshot)):
            berth.state = None
            self._lifecycle.queued.resume(berth, wait, note.ends(now))
        else:
            self._lifecycle.begin(berth, snapshot, arrived=note is None or note.wait == checkpoints.ARRIVED)

    async def try_again(self, berth: Berth) -> None:
        """Have an agent whose budget was used up go on, from what is stored of it, if it is granted more now."""
        if not berth.has_time:
            most = berth.grant.budget.cpu / 1e6
            berth.remark(f"it cannot go on: it may use {most:g} s of processor time at this station")
            self._here.tell_home(berth, JourneyStanding.STOPPED, berth.text)
            return
        await self._here.journal.write([], True)  # after what is on its way there
        capsule = self._here.store.capsule(berth.agent, berth.visit)
        mine = self._here.berths.get(berth.agent) is berth and berth.standing is Standing.STOPPED
        if self._here.closing or capsule is None or not mine:
            return
        self._here.unsettle(berth, Standing.READY)
        self.resume(capsule)
        await self._here.journal.write([], False)  # after the word that it goes on

    def stays(self, record: Record) -> None:
        """After a restart: an agent that was about to leave is still here."""
        capsule = self._here.store.capsule(record.agent, record.hop)
        if capsule is not None and record.agent not in self._here.berths:
            self.resume(capsule)


def _rest(snapshot: Snapshot, left_ms: int) -> Snapshot:
    """With what is left of the wait for a message or an answer."""
    pending = snapshot.pending
    if pending is None or not isinstance(pending.wait, Select | Answer) or pending.wait.timeout_ns is None:
        return snapshot
    wait = evolve(pending.wait, timeout_ns=max(0, left_ms) * 1_000_000)
    return evolve(snapshot, pending=evolve(pending, wait=wait))


def _queued(snapshot: Snapshot) -> Go | None:
    """The departure that it waited for, perhaps for long; None if it waited for something else."""
    wait = None if snapshot.pending is None else snapshot.pending.wait
    return wait if isinstance(wait, Go) and wait.wait_ns and not snapshot.between_tasks else None


def _nothing(*_: object) -> None:
    """What follows from a job of which nobody hears."""
