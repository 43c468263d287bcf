"""The crash matrix holds, and would notice if it did not: each weakening of the protocol breaks it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docking.handoff import actions, messages, receiver, sender, table
from docking.handoff.states import DESTINATION, SOURCE
from docking.handoff.states import Destination as D
from docking.handoff.states import DestinationEvent as DE
from docking.handoff.states import Source as S
from docking.handoff.states import SourceEvent as SE
from docking.live import sessions
from docking.live.block_fetcher import BlockFetcher
from docking.live.block_server import BlockServer
from docking.residents import moves, sending
from docking.store import sqlite_writes as writing
from tests.crash import matrix
from tests.crash.live_agent import Disk
from tests.crash.simulator import LONG, CrashAt
from tests.thorough import THOROUGH


@pytest.fixture
def folder() -> Iterator[Path]:
    path = matrix.scratch()
    yield path
    matrix.shutil.rmtree(path, ignore_errors=True)


# Of the single faults one in so many; `.ci/run crash` tries them all. No divisor of how many kinds there are.
STEP = 1 if THOROUGH else 7


def test_single_faults_and_many_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = matrix.run(1.0, seed=1, folder=folder, step=STEP)
    with capsys.disabled():
        print("\n" + "\n".join(report.lines()))
    assert not report.broken, report.broken[0]
    assert report.total > 1000 // STEP
    # The faults did bite: every kind of end was seen.
    assert set(report.ends) >= {"arrived", "stayed", "in doubt", "lost with a disk, kept at the source"}


# Of the single faults of agents that are moved while they run, one in so many; `.ci/run crash` tries more.
LIVE_STEP = 1 if THOROUGH else 211


def test_single_faults_while_sessions_are_open(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = matrix.run(0.0, seed=2, folder=folder, step=LIVE_STEP, sessions=True)
    with capsys.disabled():
        print("\n" + "\n".join(report.lines()))
    assert not report.broken, report.broken[0]
    assert report.struck > 800 // LIVE_STEP
    assert set(report.ends) >= {"arrived", "stayed"}


@pytest.mark.parametrize("plan", ["there and back", "moved there and back"])
def test_the_same_faults_end_the_same(folder: Path, plan: str) -> None:
    one = matrix.Matrix(folder)
    _, faults = matrix.draw(random.Random(3), one.nominal(plan))
    assert one.made(plan, faults).outcome() == one.made(plan, faults).outcome()


def _rewire(table: Any, state: Any, event: Any, entry: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setitem(table[state], event, entry)


def _cut(table: Any, *pairs: Any) -> Callable[[pytest.MonkeyPatch], None]:
    def weaken(patch: pytest.MonkeyPatch) -> None:
        for state, event in pairs:
            patch.delitem(table[state], event)

    return weaken


def _commit_at_once(patch: pytest.MonkeyPatch) -> None:
    """COMMIT leaves before COMMITTED is on the disk."""
    write = sender.SENDER_STEPS["write_committed"]
    patch.setitem(
        sender.SENDER_STEPS,
        "write_committed",
        lambda self, now, message: [*write(self, now, message), *self._commit(now, message)],
    )


def _receipt_at_once(patch: pytest.MonkeyPatch) -> None:
    """The receipt leaves before HELD is on the disk."""
    write = receiver.RECEIVER_STEPS["write_held"]
    patch.setitem(receiver.RECEIVER_STEPS, "write_held", lambda self, now: [*write(self, now), *self._receipt(now)])


def _done_at_once(patch: pytest.MonkeyPatch) -> None:
    """DONE leaves before RUNNING is on the disk."""
    start = receiver.RECEIVER_STEPS["start"]
    patch.setitem(receiver.RECEIVER_STEPS, "start", lambda self, now: [*start(self, now), *self._done(now)])


def _start_when_held(patch: pytest.MonkeyPatch) -> None:
    """The agent runs as soon as it is held."""

    def eager(self: Any, now: float) -> list[Any]:
        assert self.record is not None
        start = actions.Start(self.record, None, self._judged.admission)
        return [
            start,
            messages
            and actions.Send(self.peer, messages.ReceiptMessage(self.hid, self.record.epoch, self.record.receipt)),
        ]

    patch.setitem(receiver.RECEIVER_STEPS, "receipt", eager)


def _never_presume_abort(patch: pytest.MonkeyPatch) -> None:
    """A source says "unknown" of what it has forgotten in a crash."""
    patch.setattr(table.HandoffTable, "_for_unknown_source", lambda self, peer, message: [])


def _always_presume_abort(patch: pytest.MonkeyPatch) -> None:
    """A source says ABORT of what it knows nothing of, even with a new disk."""
    presume = table.HandoffTable._for_unknown_source

    def weak(self: Any, peer: bytes, message: Any) -> list[Any]:
        return [actions.Send(peer, messages.Abort(message.hid))] if presume(self, peer, message) else []

    patch.setattr(table.HandoffTable, "_for_unknown_source", weak)


def _second_copies(patch: pytest.MonkeyPatch) -> None:
    """Two handoffs of one hop may be held at once:

    by the table, and by the store, which would refuse it too.
    """
    patch.setattr(table.HandoffTable, "_other_copy", lambda self, offer: None)
    put = writing.SqliteWriter._put_capsule

    def weak(self: Any, agent: bytes, hop: int, standing: str, *more: Any) -> None:
        if standing == "held":
            self._drop_capsule(agent, hop)
        put(self, agent, hop, standing, *more)

    patch.setattr(writing.SqliteWriter, "_put_capsule", weak)


def _singles(outcome: Any) -> Any:
    return ((kind, (fault,)) for kind, fault in matrix.singles(outcome))


def _crashes(outcome: Any) -> Any:
    return ((kind, (fault,)) for kind, fault in matrix.crashes(outcome))


def _slow(outcome: Any) -> Any:
    return ((kind, (fault,)) for kind, fault in matrix.slow_writes(outcome))


def _messages(outcome: Any) -> Any:
    return ((kind, (fault,)) for kind, fault in matrix.messages(outcome))


def _never_synced(patch: pytest.MonkeyPatch) -> None:
    """An agent is held before its blocks are on the disk."""
    patch.setattr(sessions.Session, "sync", lambda self: None)


def _given_up_by_silence(patch: pytest.MonkeyPatch) -> None:
    """A session ends with its source's silence, also when its agent is held."""
    patch.setattr(sessions.Sessions, "_holds", lambda self, session: False)


def _not_synced(file: Any) -> None:
    """The place is there, so that those after it have the same numbers."""
    Disk.of(file.path).point("before syncing blocks")


def _settled_early(patch: pytest.MonkeyPatch) -> None:
    """The source is told that all blocks are there before they are on the disk, and forgets them."""
    opened = BlockFetcher._open

    def weak(self: Any, found: Any) -> None:
        opened(self, found)
        found.file.sync = lambda: _not_synced(found.file)

    patch.setattr(BlockFetcher, "_open", weak)


def _kept_in_memory(patch: pytest.MonkeyPatch) -> None:
    """The agent is offered before the blocks that come later are on the disk."""

    async def weak(file: Any, hid: bytes) -> None:
        file.remark(hid)
        _not_synced(file)

    patch.setattr(moves, "_durable", weak)


def _forgotten_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    """A source that comes back does not know of blocks that it owes."""
    patch.setattr(BlockServer, "restore", lambda self, record: None)


def _not_needed(patch: pytest.MonkeyPatch) -> None:
    """Files are removed as if no agent in the store needed them."""
    patch.setattr(sessions.Sessions, "needs", lambda self, name, digest: None)


def _marked_after_reading(patch: pytest.MonkeyPatch) -> None:
    """Of what was written since, a part is taken for sent."""
    written = sending.SentMemory.written
    patch.setattr(sending.SentMemory, "written", lambda self: written(self)[1:])


def _goes_on_in_the_pause(patch: pytest.MonkeyPatch) -> None:
    """The agent goes on while it is handed over."""
    hand_over = moves.Moves._hand_over

    async def weak(self: Any, berth: Any, to: Any, stop: Any, until: Any, sending: Any) -> Any:
        self._resume(berth, stop, until)
        return await hand_over(self, berth, to, stop, until, sending)

    patch.setattr(moves.Moves, "_hand_over", weak)


def _crashes_at(place: str, down: float | None = matrix.SOON) -> Callable[[Any], Iterator[Any]]:
    """Crashes at the places that are called so."""

    def faults(outcome: Any) -> Iterator[Any]:
        for number, name in enumerate(outcome.points):
            if name.endswith(place):
                yield "one crash, back soon", (CrashAt(number, down),)

    return faults


# The weakening; the journey and the faults that tell.
MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str, Any]] = {
    "commit before it is written": (_commit_at_once, "there", _crashes),
    "receipt before it is written": (_receipt_at_once, "there", _crashes),
    "done before it is written": (_done_at_once, "there", _crashes),
    "run when held": (_start_when_held, "there", _crashes),
    "never presume abort": (_never_presume_abort, "there", _crashes),
    "always presume abort": (_always_presume_abort, "there", _crashes),
    "say commit while it is being written": (
        _rewire(SOURCE, S.COMMITTING, SE.STATUS, (S.COMMITTING, "commit")),
        "there",
        matrix.slow_write_and_crash,
    ),
    "accept a receipt after giving up": (
        _rewire(SOURCE, S.ABORTED, SE.RECEIPT, (S.COMMITTING, "write_committed")),
        "there",
        _singles,
    ),
    "forget a commit at restart": (
        _rewire(SOURCE, S.COMMITTED, SE.RESTART, (S.ABORTING, "write_aborted")),
        "there",
        _crashes,
    ),
    "give up a commit that is not confirmed": (
        _rewire(SOURCE, S.COMMITTED, SE.TIMER, (S.ABORTING, "write_aborted")),
        "there",
        _messages,
    ),
    "never offer again, and never give up": (
        _cut(SOURCE, (S.OFFERED, SE.TIMER), (S.OFFERED, SE.DEADLINE)),
        "there",
        _messages,
    ),
    "never repeat the commit": (
        _cut(SOURCE, (S.COMMITTED, SE.TIMER), (S.COMMITTED, SE.RESTART)),
        "there",
        _singles,
    ),
    "never ask": (_cut(DESTINATION, (D.HELD, DE.TIMER), (D.HELD, DE.RESTART)), "there", _singles),
    "start in doubt": (_rewire(DESTINATION, D.HELD, DE.DOUBT, (D.RUNNABLE, "start")), "there", _crashes),
    "start after a restart": (
        _rewire(DESTINATION, D.HELD, DE.RESTART, (D.RUNNABLE, "start")),
        "there",
        matrix.slow_write_and_crash,
    ),
    "discard instead of asking": (
        _rewire(DESTINATION, D.HELD, DE.TIMER, (D.DISCARDED, "drop")),
        "there",
        _singles,
    ),
    "say nothing of what is done": (
        _cut(DESTINATION, (D.RUNNING, DE.COMMIT), (D.RUNNING, DE.STATUS)),
        "there",
        _messages,
    ),
    "two copies of one hop": (_second_copies, "there and back", _singles),
    "held before its blocks are on the disk": (
        _never_synced,
        "moved there and back",
        _crashes_at("beta after sending DONE"),
    ),
    "a held session ends by silence": (
        _given_up_by_silence,
        "moved twice at once",
        _crashes_at("alpha before sending COMMITMESSAGE", LONG),
    ),
    "files that are needed are removed": (_not_needed, "moved there and back", _crashes_at("beta after sending DONE")),
    "a write is taken for sent": (
        _marked_after_reading,
        "moved, writes much",
        _crashes_at("alpha before sending OFFER"),
    ),
    "settled before its blocks are on the disk": (
        _settled_early,
        "moved, its memory comes later",
        _crashes_at("beta store.before-commit"),
    ),
    "blocks are kept in memory alone": (
        _kept_in_memory,
        "moved, its memory comes later",
        _crashes_at("alpha after sending COMMITMESSAGE"),
    ),
    "blocks are forgotten at a restart": (
        _forgotten_at_a_restart,
        "moved, its memory comes later",
        _crashes_at("alpha after sending COMMITMESSAGE"),
    ),
    "it goes on in the pause": (_goes_on_in_the_pause, "drained", _slow),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_weaker_protocol_is_found_out(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weaken, plan, faults = MUTANTS[name]
    trial = matrix.Matrix(folder, stop_at=1)
    outcome = trial.nominal(plan)
    weaken(monkeypatch)
    for kind, case in faults(outcome):
        trial.attempt(kind, plan, case)
    assert trial.report.broken, f"{trial.report.total} cases, and nobody noticed: {name}"
