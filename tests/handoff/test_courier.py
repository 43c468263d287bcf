"""The courier:

two stations in one loop, with real stores and real time, over carriers that lose, fail and stall.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from agents import canonical
from docking.aio import eager
from docking.courier import JUDGE_ASIDE_BYTES, Courier, Decision
from docking.errors import LocalProtocolError, NoAnswer, PeerUnreachable, WriteFailed
from docking.handoff import codec
from docking.handoff.actions import (
    Cargo,
    Departure,
    DestinationTrust,
    Drop,
    Expect,
    Left,
    RaiseAlarm,
    Record,
    Release,
    Resume,
    SourceTrust,
    Start,
    Timing,
)
from docking.handoff.messages import (
    MESSAGE_NAMES,
    Body,
    CommitMessage,
    Message,
    Offer,
    Part,
    ReceiptMessage,
    Side,
    Status,
    handoff_id,
)
from docking.handoff.refusal import Refusal
from docking.handoff.states import Destination, Source
from docking.handoff.table import HandoffTable, Ledger
from docking.store.changes import PutCheckpoint, StoredPart
from docking.store.group_commit import GroupCommit
from docking.store.store import Store, never
from tests.patience import PATIENCE

AGENT = b"a" * 32
TIMING = Timing(offer_again_s=0.05, offer_soon_s=0.01, commit_again_s=0.05, ask_again_s=0.05, longest_s=0.2)
KEYS = {"alpha": b"A" * 32, "beta": b"B" * 32}


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, PATIENCE))


@define(eq=False)
class Dock:
    """A station reduced to its courier. `notices` is a queue of what it was told."""

    name: str
    path: Path | None
    network: dict[bytes, Dock]
    fault: Callable[[Message], Exception | None] = lambda message: None
    failpoint: Callable[[str], None] = never
    refuse: Refusal | None = None
    notices: asyncio.Queue[Any] = field(factory=asyncio.Queue)
    courier: Courier[bytes] = field(init=False)
    store: Store = field(init=False)
    asked: list[str] = field(factory=list)
    believes: list[bool] = field(factory=list)

    @property
    def key(self) -> bytes:
        return KEYS[self.name]

    def start(self) -> Dock:
        self.store = Store.open(self.path, new_epoch=self.key[:16], clock=lambda: 0, failpoint=self.failpoint)
        source = SourceTrust(
            lambda record, receipt: None if receipt == b"receipt" + record.hid else Refusal("bad", "no"),
            lambda record, receipt: b"commit" + record.hid,
        )
        destination: DestinationTrust[bytes] = DestinationTrust(
            lambda offer: self.refuse or tuple(i for i, p in enumerate(offer.parts) if not self._has(p.digest)),
            self._admit,
            lambda cargo, admission: b"receipt" + cargo.offer.hid,
            lambda record, commit: None if commit == b"commit" + record.hid else Refusal("bad", "no"),
        )
        ledger = Ledger(self.store.record, self.store.copies)
        table = HandoffTable(self.key, self.store.epoch, ledger, source, destination, TIMING)
        self.courier = Courier(table, GroupCommit(self.store), self, self.notices.put_nowait, self.failpoint)
        self.network[self.key] = self
        return self

    def _has(self, digest: bytes) -> bool:
        return self.believes.pop() if self.believes else self.store.has_part(digest)

    def _admit(self, cargo: Cargo) -> bytes:
        return bytes(cargo.body("state") or b"")

    async def exchange(self, peer: bytes, message: Message) -> Message | None:
        """The carrier: bytes to the other station in this process, and the answer's bytes back."""
        error = self.fault(message)
        if isinstance(error, PeerUnreachable):
            raise error
        there = self.network.get(peer)
        if there is None:
            raise PeerUnreachable("not up")
        there.asked.append(MESSAGE_NAMES[type(message)])
        data = b"".join(codec.encode_message(message))
        answer = await there.courier.handle(self.key, codec.decode_message(data))
        if error is not None:
            raise error
        return None if answer is None else codec.decode_message(b"".join(codec.encode_message(answer)))

    async def stop(self) -> None:
        self.network.pop(self.key, None)
        await self.courier.close()
        self.store.close()

    async def told(self, kind: type) -> Any:
        """The next notice of this kind; others before it are dropped."""
        while True:
            notice = await self.notices.get()
            if isinstance(notice, kind):
                return notice


_nonces = itertools.count(1)


def departure(
    dock: Dock, to: str, state: bytes = b"state", hop: int = 0, inline: bool = True, patience: float = 5.0
) -> Departure:
    bodies = (Body(0, state), Body(1, b"image"))
    parts = tuple(
        Part(k, canonical.digest(b.data), len(b.data)) for k, b in zip(("state", "image"), bodies, strict=True)
    )
    nonce = next(_nonces).to_bytes(16, "big")
    hid = handoff_id(AGENT, hop, dock.key, KEYS[to], nonce)
    offer = Offer(
        hid, AGENT, hop, dock.key, KEYS[to], nonce, dock.store.epoch, b"v" * 32, 9_000, parts, bodies if inline else ()
    )
    return Departure(offer, bodies, patience)


def checkpoint(leaving: Departure) -> Callable[[], PutCheckpoint]:
    stored = tuple(StoredPart(p, b.data) for p, b in zip(leaving.offer.parts, leaving.bodies, strict=True))
    return lambda: PutCheckpoint(AGENT, leaving.offer.hop, stored)


def pair(tmp_path: Path, volatile: bool = False) -> tuple[Dock, Dock]:
    network: dict[bytes, Dock] = {}
    paths = [None if volatile else tmp_path / name for name in ("alpha.db", "beta.db")]
    return Dock("alpha", paths[0], network).start(), Dock("beta", paths[1], network).start()


@pytest.mark.parametrize("volatile", [True, False])
@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("size", [10, JUDGE_ASIDE_BYTES + 1])
def test_an_agent_goes_there_and_back(tmp_path: Path, volatile: bool, inline: bool, size: int) -> None:
    async def main() -> None:
        docks = pair(tmp_path, volatile)
        state = b"s" * size
        for hop in range(6):
            here, there = docks[hop % 2], docks[1 - hop % 2]
            leaving = departure(here, there.name, state, hop, inline)
            assert await here.courier.depart(leaving, checkpoint(leaving)) is None
            start = await there.told(Start)
            assert start.admission == state
            state += b"."
            await here.told(Release)
        for dock in docks:
            await dock.courier.close()  # what nobody waits for is written now
            assert dock.store.unfinished() == []
            await dock.stop()
        # Nothing was repeated; a destination that asked before it came needs no COMMIT.
        assert docks[0].asked.count("COMMIT") <= 3

    run(main())


def test_what_is_answered_on_the_spot_follows_what_was_to_be_done_before(tmp_path: Path) -> None:
    """Between volatile stores nothing waits: a whole handoff takes place inside the step in which it was asked for."""

    async def main() -> None:
        alpha, beta = pair(tmp_path, volatile=True)
        leaving = departure(alpha, "beta")
        gone = eager.start_eagerly(alpha.courier.depart(leaving, checkpoint(leaving)), asyncio.get_running_loop())
        told = {dock.name: [dock.notices.get_nowait() for _ in range(dock.notices.qsize())] for dock in (alpha, beta)}
        assert [type(notice) for notice in told["alpha"]] == [Left]
        assert [type(notice) for notice in told["beta"]] == [Expect, Start]
        # What nobody waits for makes way for the agent.
        beta.courier.journal.catch_up()
        await alpha.told(Release)
        alpha.courier.journal.catch_up()
        # In the order of the table: told that it runs here, then written so.
        records = [dock.store.record(leaving.offer.hid, side) for dock, side in zip((alpha, beta), Side, strict=True)]
        assert [record and record.state for record in records] == [Source.GONE, Destination.RUNNING]
        assert await gone is None
        for dock in (alpha, beta):
            await dock.stop()

    run(main())


def test_a_refusal_comes_back_as_a_value(tmp_path: Path) -> None:
    async def main() -> None:
        alpha, beta = pair(tmp_path)
        beta.refuse = Refusal("policy", "not here", 7)
        leaving = departure(alpha, "beta")
        assert await alpha.courier.depart(leaving, checkpoint(leaving)) == Refusal("policy", "not here", 7)
        assert (await alpha.told(Resume)).refused.code == "policy"
        record = alpha.store.record(leaving.offer.hid, Side.SOURCE)
        assert record is not None
        assert record.state is Source.ABORTED
        await alpha.stop()
        await beta.stop()

    run(main())


@pytest.mark.parametrize("error", [PeerUnreachable("no route"), NoAnswer("the answer was lost")])
@pytest.mark.parametrize("kind", ["OFFER", "TRANSFER", "COMMIT", "DONE"])
def test_each_message_or_its_answer_is_lost_twice(tmp_path: Path, kind: str, error: Exception) -> None:
    async def main() -> None:
        alpha, beta = pair(tmp_path)
        lost = itertools.count()

        def fault(message: Message) -> Exception | None:
            return error if MESSAGE_NAMES[type(message)] == kind and next(lost) < 2 else None

        alpha.fault = beta.fault = fault
        leaving = departure(alpha, "beta", inline=False)
        assert await alpha.courier.depart(leaving, checkpoint(leaving)) is None
        await beta.told(Start)
        await alpha.told(Release)
        assert beta.notices.empty()
        for dock in (alpha, beta):
            await dock.stop()

    run(main())


def test_a_destination_that_is_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        alpha, beta = pair(tmp_path)
        await beta.stop()
        leaving = departure(alpha, "beta", patience=0.3)
        refused = await alpha.courier.depart(leaving, checkpoint(leaving))
        assert refused is not None
        assert refused.code == "no-answer"
        await alpha.stop()

    run(main())


def test_both_stations_restart_and_finish(tmp_path: Path) -> None:
    """The destination holds, the source has committed, and then both go down before the commit arrives."""

    async def main() -> None:
        alpha, beta = pair(tmp_path)
        alpha.fault = lambda message: PeerUnreachable("cut") if isinstance(message, CommitMessage) else None
        beta.fault = lambda message: PeerUnreachable("cut")
        leaving = departure(alpha, "beta")
        assert await alpha.courier.depart(leaving, checkpoint(leaving)) is None
        await alpha.stop()
        await beta.stop()

        beta = Dock("beta", beta.path, alpha.network).start()
        recovered = beta.courier.recover()
        assert [record.state for record in recovered.held] == [Destination.HELD]
        assert list(recovered.residents) == []
        assert (await beta.told(RaiseAlarm)).code == "in-doubt"
        alpha = Dock("alpha", alpha.path, alpha.network).start()
        assert [record.state for record in alpha.courier.recover().leaving] == [Source.COMMITTED]
        start = await beta.told(Start)
        assert (start.admission, start.cargo) == (None, None)
        capsule = beta.store.capsule(AGENT, 1)
        assert capsule is not None
        assert beta.store.part(capsule.parts[0].digest) == b"state"
        await alpha.told(Release)
        await beta.stop()
        await alpha.stop()
        # And again: now it is an agent like any other.
        beta = Dock("beta", beta.path, alpha.network).start()
        assert [(c.agent, c.hop) for c in beta.courier.recover().residents] == [(AGENT, 1)]
        await beta.stop()

    run(main())


def test_a_station_restarts_before_its_agent_has_left(tmp_path: Path) -> None:
    async def main() -> None:
        alpha, beta = pair(tmp_path)
        await beta.stop()
        leaving = departure(alpha, "beta", patience=60)
        task = asyncio.ensure_future(alpha.courier.depart(leaving, checkpoint(leaving)))
        await asyncio.sleep(0)
        task.cancel()
        await alpha.stop()
        alpha = Dock("alpha", alpha.path, alpha.network).start()
        recovered = alpha.courier.recover()
        assert list(recovered.residents) == []  # not yet: first it must be written that it stays
        assert [record.state for record in recovered.leaving] == [Source.FROZEN]
        resume = await alpha.told(Resume)
        assert resume.refused.code == "restarted"
        await alpha.stop()
        alpha = Dock("alpha", alpha.path, alpha.network).start()
        assert [(c.agent, c.hop) for c in alpha.courier.recover().residents] == [(AGENT, 0)]
        await alpha.stop()

    run(main())


def test_a_request_waits_for_the_disk_and_no_longer(tmp_path: Path) -> None:
    """An offer repeated while the first is being written gets the same receipt, when it is written."""

    async def main() -> None:
        alpha, beta = pair(tmp_path)
        offer = departure(alpha, "beta").offer
        first, second = await asyncio.gather(*(beta.courier.handle(alpha.key, offer) for _ in range(2)))
        assert isinstance(first, ReceiptMessage)
        assert second == first
        assert await beta.courier.handle(alpha.key, Status(offer.hid, Side.DESTINATION, offer.epoch)) == first
        for dock in (alpha, beta):
            await dock.stop()

    run(main())


def test_a_part_that_vanished_before_it_was_written_is_wanted_again(tmp_path: Path) -> None:
    async def main() -> None:
        alpha, beta = pair(tmp_path)
        beta.believes.append(True)
        leaving = departure(alpha, "beta", inline=False)
        assert await alpha.courier.depart(leaving, checkpoint(leaving)) is None
        await beta.told(Start)
        assert beta.asked.count("TRANSFER") == 2
        for dock in (alpha, beta):
            await dock.stop()

    run(main())


def test_a_store_that_fails_stops_the_courier(tmp_path: Path) -> None:
    """COMMITTED may or may not be on the disk: until somebody has read it again, nothing is said or done."""

    async def main() -> None:
        alpha, beta = pair(tmp_path)

        def break_disk(message: Message) -> Exception | None:
            alpha.store.fail("as if the disk had failed")
            return None

        alpha.fault = break_disk
        leaving = departure(alpha, "beta")
        with pytest.raises(WriteFailed):
            await alpha.courier.depart(leaving, checkpoint(leaving))
        with pytest.raises(LocalProtocolError):
            await alpha.courier.handle(beta.key, Status(leaving.offer.hid, Side.SOURCE, leaving.offer.epoch))
        told = [alpha.notices.get_nowait() for _ in range(alpha.notices.qsize())]
        assert not any(isinstance(notice, Resume | Left) for notice in told)
        assert "COMMIT" not in beta.asked
        for dock in (alpha, beta):
            await dock.stop()

    run(main())


def test_an_owner_changes_their_mind(tmp_path: Path) -> None:
    async def main() -> None:
        alpha, beta = pair(tmp_path)
        await beta.stop()
        leaving = departure(alpha, "beta", patience=60)
        task = asyncio.ensure_future(alpha.courier.depart(leaving, checkpoint(leaving)))
        await asyncio.sleep(0)
        alpha.courier.give_up(leaving.offer.hid, Refusal("retracted", "its owner wants it back"))
        refused = await task
        assert refused is not None
        assert refused.code == "retracted"
        await alpha.stop()

    run(main())


@pytest.mark.parametrize("decision", ["adopt", "discard"])
def test_a_person_decides_what_is_in_doubt(tmp_path: Path, decision: str) -> None:
    async def main() -> None:
        alpha, beta = pair(tmp_path)
        beta.fault = lambda message: PeerUnreachable("alpha burned down")
        offer = departure(alpha, "beta").offer
        await beta.courier.handle(alpha.key, offer)
        assert (await beta.told(RaiseAlarm)).code == "in-doubt"
        beta.courier.decide(offer.hid, Decision(decision))
        await beta.told(Start if decision == "adopt" else Drop)
        for dock in (alpha, beta):
            await dock.stop()

    run(main())


def test_failpoints_name_every_message_and_commit(tmp_path: Path) -> None:
    """Where real processes are killed, later: before and after each message, and each commit of the store."""

    async def main() -> None:
        network: dict[bytes, Dock] = {}
        places: dict[str, list[str]] = {"alpha": [], "beta": []}
        docks = [
            Dock(name, tmp_path / name, network, failpoint=places[name].append).start() for name in ("alpha", "beta")
        ]
        leaving = departure(docks[0], "beta", inline=False)
        await docks[0].courier.depart(leaving, checkpoint(leaving))
        await docks[0].told(Release)
        for dock in docks:
            await dock.stop()
        store = {"store.before-commit", "store.after-commit"}
        sent = {f"{name}.{when}" for name in ("OFFER", "TRANSFER", "COMMIT") for when in ("before-send", "after-send")}
        heard = {f"{name}.{when}" for name in ("OFFER", "TRANSFER", "COMMIT") for when in ("received", "answered")}
        assert set(places["alpha"]) == store | sent
        assert set(places["beta"]) == store | heard

    run(main())


def test_a_record_is_a_record(tmp_path: Path) -> None:
    """Two stations' stores know the same handoff by two rows, one for each side."""

    async def main() -> None:
        alpha, beta = pair(tmp_path, volatile=True)
        leaving = departure(alpha, "beta")
        await alpha.courier.depart(leaving)
        await alpha.told(Release)
        alpha.courier.journal.catch_up()
        rows: list[Record] = [*alpha.store.history(AGENT), *beta.store.history(AGENT)]
        assert [(r.side, r.state) for r in rows] == [
            (Side.SOURCE, Source.GONE),
            (Side.DESTINATION, Destination.RUNNING),
        ]
        assert rows[0].receipt == rows[1].receipt
        assert rows[0].commit == rows[1].commit
        for dock in (alpha, beta):
            await dock.stop()

    run(main())
