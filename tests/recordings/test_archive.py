"""What a station keeps is bounded, survives damage, and is given to the agent's owner alone."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
from attrs import evolve

from agents import canonical
from agents.credentials.fields import array
from agents.credentials.itinerary import Itinerary
from agents.credentials.keys import PublicKey
from agents.credentials.passport import Home
from agents.errors import BadRecord
from docking.launching import Terms, prepare_launch
from docking.recordings.archive import Archive
from docking.recordings.record import StayRecord
from docking.recordings.requests import Owner, RecordingRequests, sign_request
from docking.recordings.stays import StayRecording
from docking.trust.keeping import Keeping
from tests.station.harbour import OWNER, STRANGER, key_of, packed, run

HERE = key_of("alpha")
PROGRAM = '(module (memory (export "memory") 1) (func (export "run")))'
NOW = 1_700_000_000_000
AGENT = canonical.digest(b"agent")


@functools.cache
def passport() -> bytes:
    launch = prepare_launch(
        packed('(module (memory (export "memory") 1) (func (export "run")))'),
        OWNER,
        Home(HERE.public, ()),
        Itinerary.via([HERE.public]),
        Terms(),
        NOW,
        os.urandom,
    )
    return launch.passport


def record(visit: int, state: bytes = b"state", agent: bytes = AGENT) -> StayRecord:
    return StayRecord(agent, visit, passport(), HERE.public.raw, "alpha", NOW, state, memory=1 << 20, engine="e")


def kept(archive: Archive, stay: StayRecord, tape: bytes = b"", count: int = 0) -> None:
    assert archive.begin(evolve(stay, state=b""), lambda: stay.state, len(stay.state))
    if tape:
        archive.calls_made(stay.agent, stay.visit, tape, count)
    archive.ended(stay.agent, stay.visit, NOW + 5, 3)


def archive_in(folder: Path, **keeping: int) -> Archive:
    return Archive(folder, lambda: Keeping(**{"bytes": 1 << 20, **keeping}), lambda: NOW)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are as old as the tests' clock says."""
    import docking.recordings.archive as module

    def append(self: Archive, reel: object, data: bytes, before=module.Archive._append) -> None:  # type: ignore[no-untyped-def]
        before(self, reel, data)
        os.utime(reel.path, (NOW / 1000, NOW / 1000))  # type: ignore[attr-defined]

    monkeypatch.setattr(module.Archive, "_append", append)


def test_it_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    archive = archive_in(tmp_path / "recordings")
    stays = [record(visit, os.urandom(300)) for visit in range(5)]
    for stay in stays:
        kept(archive, stay, canonical.encode(["wall_ns", [], 7]), 1)
    assert sorted(archive.visits(AGENT)) == [0, 1, 2, 3, 4]
    found = archive.read(AGENT, 3)
    assert found is not None
    assert (found.state, found.entries, found.ended, found.dropped) == (stays[3].state, 1, NOW + 5, 3)
    assert found.calls()[0].result == 7
    assert StayRecord.decode(found.encode()) == found
    assert archive.read(AGENT, 9) is None
    assert archive.read(canonical.digest(b"another"), 0) is None
    assert oct(next((tmp_path / "recordings").iterdir()).stat().st_mode)[-3:] == "600"
    archive.close()
    # Another process goes on with it.
    again = archive_in(tmp_path / "recordings")
    kept(again, record(7))
    assert sorted(again.visits(AGENT)) == [0, 1, 2, 3, 4, 7]
    again.close()


def test_states_that_differ_little_are_kept_as_differences(tmp_path: Path) -> None:
    from agents.snapshot import MemoryState, Snapshot

    blocks = tuple(os.urandom(100 << 10) for _ in range(8))
    runs = ((0, 8 * 32),)

    def snapshot(first: bytes) -> bytes:
        return Snapshot(bytes(32), "run", memories=(MemoryState(64, runs, (first, *blocks[1:])),)).encode()

    archive = archive_in(tmp_path, bytes=64 << 20)
    states = [snapshot(os.urandom(100 << 10)) for _ in range(6)]
    for visit, each in enumerate(states):
        kept(archive, record(visit, each))
    assert [archive.read(AGENT, visit).state for visit in range(6)] == states  # type: ignore[union-attr]
    assert archive.size < 2.5 * len(states[0])
    archive.close()


def test_the_oldest_goes_first(tmp_path: Path) -> None:
    archive = archive_in(tmp_path, bytes=200_000)
    for number in range(60):
        kept(archive, record(0, os.urandom(10_000), canonical.digest(b"%d" % number)))
        archive.settle()
        assert archive.size <= 200_000
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == archive.size <= 200_000
    assert archive.read(canonical.digest(b"0"), 0) is None
    assert archive.read(canonical.digest(b"59"), 0) is not None
    archive.close()
    few = archive_in(tmp_path, stays=3)
    kept(few, record(0, b"x", canonical.digest(b"last")))
    few.settle()
    assert len(list(tmp_path.iterdir())) == 3
    few.close()
    later = Archive(tmp_path, lambda: Keeping(bytes=1 << 20, age_s=60), lambda: NOW + 61_000)
    assert later.visits(canonical.digest(b"last")) == {}
    kept(later, record(0, b"x", canonical.digest(b"fresh")))
    later.settle()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(canonical.digest(b"last").hex())]
    later.close()


def test_damage_ends_what_is_read(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    for visit in range(3):
        kept(archive, record(visit, b"s" * 500))
    archive.close()
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    for size in range(0, len(data), 37):
        path.write_bytes(data[:size])
        os.utime(path, (NOW / 1000, NOW / 1000))
        seen = archive_in(tmp_path).visits(AGENT)
        assert list(seen) == list(range(len(seen)))
    for at in range(20, len(data), 101):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        os.utime(path, (NOW / 1000, NOW / 1000))
        reading = archive_in(tmp_path)
        for visit in range(3):
            try:
                found = reading.read(AGENT, visit)
            except BadRecord:
                continue
            assert found is None or found.state == b"s" * 500
    path.write_bytes(b"something else")
    assert archive_in(tmp_path).visits(AGENT) == {}
    (tmp_path / f"{AGENT.hex()}.x.reel").write_bytes(b"")
    assert archive_in(tmp_path).visits(AGENT) == {}


def test_a_disk_that_does_not_keep_up_loses_recordings_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    archive = archive_in(tmp_path / "file")
    kept(archive, record(0))
    archive.settle()
    assert archive.lost
    assert not archive.begin(record(1), lambda: b"", 65 << 20)
    archive.close()


def test_an_agent_that_makes_a_million_calls(tmp_path: Path) -> None:
    archive = archive_in(tmp_path, calls=10_000)

    class Place:
        native = False

        def wall_ns(self) -> int:
            return 5

    place = Place()
    stay = StayRecording(archive, record(0, b""), lambda: NOW, place)  # type: ignore[arg-type]
    from agents.snapshot import Snapshot

    stay.opened(Snapshot(bytes(32), "run"))
    stay.turn(place, None)
    for _ in range(1_000_000):
        stay.ambient.wall_ns()
    stay.end()
    found = archive.read(AGENT, 0)
    assert found is not None
    assert len(found.tape) <= 10_000
    assert found.entries + found.dropped == 1_000_001
    archive.close()


@run
async def test_who_gets_it(tmp_path: Path) -> None:
    archive = archive_in(tmp_path, bytes=8 << 20)
    large = os.urandom(1_300_000)
    kept(archive, record(0, b"first"))
    kept(archive, record(1, large))
    time = NOW
    asked = RecordingRequests(HERE.public, archive, lambda: time, os.urandom)

    async def answer(*question: object) -> list[object]:
        return await asked.receive(list(question))

    request = sign_request(AGENT, HERE.public, NOW, OWNER)
    assert (await answer(1, "list", request))[0] == "sealed"
    # Not who is not the owner, not for another station, not later, not what is none.
    for question, code in (
        ((1, "list", sign_request(AGENT, HERE.public, NOW, STRANGER)), "no-recording"),
        ((1, "list", sign_request(canonical.digest(b"x"), HERE.public, NOW, OWNER)), "no-recording"),
        ((1, "list", sign_request(AGENT, STRANGER.public, NOW, OWNER)), "other-station"),
        ((1, "list", sign_request(AGENT, HERE.public, NOW - 11 * 60_000, OWNER)), "request-old"),
        ((1, "list", sign_request(AGENT, HERE.public, NOW + 11 * 60_000, OWNER)), "request-old"),
        ((1, "list", request[:-1] + bytes([request[-1] ^ 1])), "malformed"),
        ((1, "list", b""), "malformed"),
        ((1, "take", request), "malformed"),
        ((1, "get", request, -1, 0), "malformed"),
        ((1, "get", request, True, 0), "malformed"),
        ((1, "get", request, 0), "malformed"),
        ((1, "get", request, 7, 0), "no-recording"),
        ((2, "list", request), "version"),
        ((), "malformed"),
    ):
        assert (await answer(*question))[:2] == ["refused", code], question
    assert (await asked.receive("list"))[1] == "malformed"
    assert (await asked.receive({"a": 1}))[1] == "malformed"

    import asyncio

    loop = asyncio.get_running_loop()

    def ask(peer: PublicKey, question: list[object]) -> object:
        assert peer == HERE.public
        return asyncio.run_coroutine_threadsafe(asked.receive(question), loop).result(30)

    owner = Owner(OWNER, ask, lambda: NOW)
    seen = await asyncio.to_thread(owner.visits, AGENT, HERE.public)
    assert [each.visit for each in seen] == [0, 1]
    whole = await asyncio.to_thread(owner.record, AGENT, HERE.public, 1)
    assert whole.state == large
    with pytest.raises(BadRecord, match="for whoever asks"):
        await asyncio.to_thread(Owner(STRANGER, ask, lambda: NOW).visits, AGENT, HERE.public)
    archive.close()


def test_a_hostile_answer() -> None:
    sealed = sign_request(AGENT, HERE.public, NOW, OWNER)
    for answer in (
        None,
        [],
        ["sealed"],
        ["sealed", b""],
        ["sealed", sealed],
        ["refused", "x", "\x1b[2J" + "y" * 2000],
        ["refused", "x"],
        ["sealed", b"x" * (2 << 20)],
        [["sealed"]],
    ):
        owner = Owner(OWNER, lambda peer, question, answer=answer: answer, lambda: NOW)  # type: ignore[misc]
        with pytest.raises(BadRecord) as raised:
            owner.visits(AGENT, HERE.public)
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 700
        with pytest.raises(BadRecord):
            owner.record(AGENT, HERE.public, 0)
    with pytest.raises(BadRecord):
        StayRecord.decode(canonical.encode(["portcall stay", 1, dict.fromkeys(range(1, 17))]))
    assert array([], "x", 1) == []
