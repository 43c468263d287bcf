"""Destinations that lie: whatever they answer, a move ends with a code and a sentence, and the agent goes on here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents.blocks import BLOCK_BYTES, BlockBatch
from docking.errors import StationError
from docking.handoff.refusal import Refusal
from docking.http import channel_client, connection_pool
from docking.live import wire
from docking.live.sessions import Sessions
from tests.live.test_hostile_sources import Liar, liar
from tests.live.test_moves import ended
from tests.station.harbour import run

BATCH = BlockBatch.of(0, 2, [1], b"x" * BLOCK_BYTES)
MISSING = Refusal("blocks-missing", "some blocks are missing: send them again", 1)
UNKNOWN = Refusal("trail-unknown", "tell me more")
ESCAPES = ["refused", "busy", "\x1b]0;x\x07\n", 5]
# What it says to PREPARE and to BLOCKS (absent: what is true), and what comes of that.
LIES: dict[str, tuple[dict[type, Any], str]] = {
    "nonsense to PREPARE": ({wire.Prepare: ["nonsense"]}, "unreachable: .*no answer of a live move"),
    "a number": ({wire.Prepare: 7}, "unreachable: .*no answer of a live move"),
    "nothing was asked for": ({wire.Prepare: wire.Contents(BATCH)}, "malformed: "),
    "it is done": ({wire.Prepare: None}, "malformed: the destination answered with something else"),
    "it wants the image for ever": ({wire.Prepare: wire.ImageWanted()}, "malformed: "),
    "it never knows the trail": (
        {wire.Prepare: Refusal("trail-unknown", "tell me more")},
        "trail-unknown: tell me more",
    ),
    "a session that is not there": ({wire.Prepare: wire.Opened(b"y" * 16)}, "no-session: "),
    "blocks are missing, over and over": ({wire.Blocks: MISSING}, "blocks-missing: "),
    "it has blocks that it has not": ({wire.Blocks: None}, "bad-blocks: "),
    "blocks, instead of taking some": ({wire.Blocks: wire.Contents(BATCH)}, "bad-blocks: "),
    "nonsense to BLOCKS": ({wire.Blocks: ["ok", "ok"]}, "unreachable: .*no answer of a live move"),
    "a terminal's commands": (
        {wire.Prepare: ["refused", "busy", "\x1b]0;x\x07\n", 5]},
        "busy: \N{REPLACEMENT CHARACTER}",
    ),
}


def lying(monkeypatch: pytest.MonkeyPatch, lies: dict[type, Any]) -> list[str]:
    """The destination lies from now on. Returns what it was asked."""
    asked: list[str] = []
    handle, write = Sessions.handle, wire.write_answer

    async def lie(self: Sessions, sender: bytes, request: wire.Request) -> Any:
        asked.append(type(request).__name__)
        return lies[type(request)] if type(request) in lies else await handle(self, sender, request)

    def written(answer: Any) -> Any:
        return answer if isinstance(answer, list | int) else write(answer)

    monkeypatch.setattr(Sessions, "handle", lie)
    monkeypatch.setattr("docking.peer_api.write_answer", written)
    return asked


async def stays(it: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent is where it was, nothing is left of the move, and it can be moved when the destination is honest."""
    assert it.agent.where() == "alpha"
    assert it.agent.key not in it.omega.core.here.berths
    assert not it.alpha.core.here.berths[it.agent.key].moving
    monkeypatch.undo()
    while it.omega.core.sessions.open:
        await asyncio.sleep(0.01)
    await it.agent.move("omega")
    await ended(it.agent, "omega")


@pytest.mark.parametrize("lie", LIES)
@run
async def test_what_a_destination_says(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lies, why = LIES[lie]
    async with liar() as it:
        asked = lying(monkeypatch, lies)
        with pytest.raises(StationError, match=why) as error:
            await it.agent.move("omega", timeout_s=5)
        assert str(error.value).isprintable()
        assert asked.count("Prepare") <= 3, asked  # it is not asked for ever
        await stays(it, monkeypatch)


@run
async def test_a_destination_that_takes_blocks_too_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    async with liar() as it:
        never = asyncio.Event()
        handle = Sessions.handle

        async def slow(self: Sessions, sender: bytes, request: wire.Request) -> Any:
            if isinstance(request, wire.Blocks):
                await never.wait()
            return await handle(self, sender, request)

        monkeypatch.setattr(Sessions, "handle", slow)
        with pytest.raises(StationError, match=r"too-slow: its memory could not be sent in 0\.5 s"):
            await it.agent.move("omega", timeout_s=0.5)
        never.set()
        await stays(it, monkeypatch)


@run
async def test_a_destination_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (channel_client, connection_pool):
        monkeypatch.setattr(module, "RESPONSE_TIMEOUT_S", 0.3)
    async with liar() as it:
        never = asyncio.Event()

        async def silent(self: Sessions, sender: bytes, request: wire.Request) -> Any:
            await never.wait()

        monkeypatch.setattr(Sessions, "handle", silent)
        with pytest.raises(StationError, match="unreachable: "):
            await it.agent.move("omega")
        never.set()
        await stays(it, monkeypatch)
