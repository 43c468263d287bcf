"""An agent's way in: its instance is made while its commit is on its way, it begins, and goes on after a restart.

The counterpart of `docking.departures`. Not the judgement whether it may come in (`docking.customs`), and not the rules
of the handoff (`docking.handoff`): here is what follows when the courier says that an agent is held, or is this
station's. Invariants: nothing of an agent runs before the ledger says that it lives here; what is made in advance is
little, and not for long; an agent that cannot be taken up is shown and kept, and keeps no other from going on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from agents.credentials.envelope import foresee
from agents.credentials.keys import PublicKey, text_of
from agents.errors import PortcallError
from agents.snapshot import Snapshot
from agents.waits import Clone, Cloned, Recv, Sleep
from docking import papers, resting
from docking.berth import Berth, Standing
from docking.changes import Capsule, Link
from docking.customs import Admitted
from docking.handoff.actions import Cargo, Record
from docking.handoff.messages import Part
from docking.knowledge import Known
from docking.register import TRAVELLING
from docking.workers import Job

if TYPE_CHECKING:
    from docking.station import Office

_log = logging.getLogger(__name__)
# Agents that are held and have an instance already, and seconds for which one has: a source that never says commit must
# not cost memory.
EXPECTED, EXPECTED_FOR = 8, 2.0
# The loop makes an instance itself where that takes less (seconds) than telling a thread to: for an image of which one
# was made so fast, and states with no more than so many pages of memory, bytes of files, frames and elements of tables.
AT_ONCE = 0.0006
AT_ONCE_PAGES, AT_ONCE_FILES, AT_ONCE_PIECES = 16, 16 << 10, 256
IMAGES = 256  # of which the time is remembered


@frozen
class Kept:
    """An agent that lives here and cannot be taken up: at visit `hop`, `why`, since when (ms) that is known."""

    hop: int
    why: str
    since: int


@define(eq=False)
class Arrivals:
    """The arrivals of one office. `expected`: by handoff, the agents that are held and will probably be this station's
    in a moment; `kept`: those that can go on only when another start finds nothing against it.
    """

    _office: Office
    expected: dict[bytes, Berth] = field(factory=dict)
    kept: dict[bytes, Kept] = field(factory=dict)
    # By image, how long it took to make the last instance in advance: seconds.
    _took: dict[bytes, float] = field(factory=dict)

    def expect(self, record: Record, cargo: Cargo, admitted: Admitted) -> None:
        """An agent is held whose commit will mostly be here in a moment: meanwhile, have its instance made.

        To be called when the receipt is on its way: then the source has something to do, and we have not.
        """
        if self._office.closing or record.agent in self._office.berths or len(self.expected) >= EXPECTED:
            return
        parts = {part.kind: part for part in cargo.offer.parts}
        self.expected[record.hid] = self._berth(record, parts["image"], admitted)
        self._ready(record.hid)
        foresee(papers.commit_of(record), PublicKey(record.peer))
        asyncio.get_running_loop().call_later(EXPECTED_FOR, self.expect_no_more, record.hid)

    def _ready(self, hid: bytes) -> None:
        berth = self.expected[hid]

        def make() -> None:
            began = time.perf_counter()
            berth.ready()
            if len(self._took) >= IMAGES:
                self._took.clear()
            self._took[berth.image.digest] = time.perf_counter() - began

        if isinstance(berth.state, Snapshot) and self._quick(berth.image.digest, berth.state):
            make()
        else:
            self._office.workers.submit(Job(make, _nothing, _nothing))

    def _quick(self, image: bytes, state: Snapshot) -> bool:
        """Whether an instance is made in no time. Of memory, not of bytes that came: these are compressed."""
        pages = sum(memory.pages for memory in state.memories)
        elements = sum(table.size for table in state.tables.values())
        return (
            self._took.get(image, AT_ONCE) < AT_ONCE
            and pages <= AT_ONCE_PAGES
            and len(state.wasi) <= AT_ONCE_FILES
            and len(state.frames) + elements <= AT_ONCE_PIECES
        )

    def expect_no_more(self, hid: bytes) -> None:
        """It did not come: give its instance up."""
        berth = self.expected.pop(hid, None)
        if berth is not None and not self._office.closing:
            self._office.workers.submit(Job(berth.unready, _nothing, _nothing))

    def close(self) -> None:
        """The station stops: what was made in advance is given up."""
        for berth in self.expected.values():
            berth.close()
        self.expected.clear()

    def arrive(self, record: Record, cargo: Cargo | None, admitted: Admitted | None) -> None:
        """The agent is this station's, and begins; `cargo` and `admitted` are None if they came before a restart."""
        self._office.in_doubt.pop(record.hid, None)
        if cargo is None or admitted is None:
            capsule = self._office.store.capsule(record.agent, record.hop + 1)
            if capsule is not None:
                self.resume(capsule, record)
            return
        parts = {each.kind: each for each in cargo.offer.parts}
        berth = self.expected.pop(record.hid, None)
        if berth is None:
            berth = self._berth(record, parts["image"], admitted)
        else:
            berth.papers = self._papers(record, admitted)
        self._office.deltas.passed(record.agent, record.peer, parts["state"].digest, cargo.body("state") or b"")
        self._come(berth, parts["state"], PublicKey(record.peer))
        self._office.residence.begin(berth, admitted.snapshot, arrived=True)

    def _berth(self, record: Record, image: Part, admitted: Admitted) -> Berth:
        own = self._papers(record, admitted)
        berth = Berth(self._office.ground, own, admitted.admission.grant, admitted.image, image, admitted.snapshot)
        berth.inbox.extend(admitted.inbox)
        return berth

    def _papers(self, record: Record, admitted: Admitted) -> papers.Papers:
        verified, proofs = admitted.verified, (record.receipt, record.commit)
        return papers.arrived(
            verified.passport,
            verified.capsule,
            verified.followed,
            verified.results,
            proofs,
            self._office.knowledge,
            self._office.certificates,
        )

    def _come(self, berth: Berth, state: Part, source: PublicKey) -> None:
        """An agent is this station's now: remember its trail, and tell its home."""
        berth.saved = resting.Saved(state, resting.note_of(berth), 0)
        own = berth.papers
        self._office.residence.settle(berth)
        self._office.tell("arrived", berth.agent, place=self._office.peers.label(source))
        links, expires = (*own.links, *own.entries), own.passport.body.expires
        self._office.knowledge.keep(own.known, links)
        self._office.aside(lambda: self._remember(own.known, links, expires, berth))

    def _remember(self, known: Known, links: tuple[Link, ...], expires: int, berth: Berth) -> None:
        self._office.write([self._office.knowledge.change(known, links, expires)])
        if berth.standing is not Standing.ENDED:
            self._office.tell_home(berth, TRAVELLING)

    def resume(self, capsule: Capsule, record: Record | None = None) -> None:
        """Take up an agent that the store says is here. One that cannot be taken up is shown, and kept."""
        try:
            berth, note = self._office.recovery.restore(capsule, record)
        except (PortcallError, KeyError) as error:
            _log.error("an agent cannot be taken up: %s", error, extra={"agent": text_of(capsule.agent)})
            self._office.tell("alarm", capsule.agent, text=f"an agent here cannot be taken up: {error}")
            self.kept[capsule.agent] = Kept(capsule.hop, str(error), self._office.clocks.now())
            return
        if note is None:
            source = berth.papers.point.source
            self._come(berth, resting.part_of(capsule, "state"), source)
        else:
            self._office.residence.settle(berth)
            self._office.tell("resumed", berth.agent)
        try:
            self._take_up(berth, note)
        except PortcallError as error:
            # One that the disk has damaged must not keep the others from going on.
            self._office.residence.stop(berth, f"state: {error}")

    def _take_up(self, berth: Berth, note: resting.Note | None) -> None:
        if note is not None and note.standing in (Standing.STOPPED, Standing.ASLEEP):
            berth.standing, berth.text = note.standing, note.text
            return
        if note is not None and note.wait == "sleep":
            berth.wait = Sleep(0)
            self._office.residence.sleep_until(berth, note.until)
            return
        if note is not None and note.wait == "recv" and not berth.inbox:
            berth.wait, berth.standing = Recv(None), Standing.WAITING
            if note.until:
                self._office.residence.sleep_until(berth, note.until)
            return
        snapshot = Snapshot.decode(self._office.residence.state_of(berth))
        berth.state = snapshot
        if note is not None and isinstance(snapshot.pending and snapshot.pending.wait, Clone):
            self._office.residence.go_on(berth, Cloned(note.child or None))
        else:
            self._office.residence.begin(berth, snapshot, arrived=note is None)

    def stays(self, record: Record) -> None:
        """After a restart: an agent that was about to leave is still here."""
        capsule = self._office.store.capsule(record.agent, record.hop)
        if capsule is not None and record.agent not in self._office.berths:
            self.resume(capsule)


def _nothing(*_: object) -> None:
    """What follows from a job of which nobody hears."""
