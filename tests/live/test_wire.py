"""Messages of live moves: what is written is read, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import canonical
from agents.blocks import BLOCK_BYTES, BlockBatch
from agents.errors import BadSnapshot
from docking.errors import MalformedMessage
from docking.handoff.codec import DEFAULT_LIMITS
from docking.handoff.messages import Body, Offer, Part, handoff_id
from docking.handoff.refusal import Refusal
from docking.live import wire

SESSION = bytes(range(16))
BATCH = BlockBatch.of(0, 2, [1, 3], b"a" * BLOCK_BYTES + bytes(BLOCK_BYTES), [1])
_WHO = (bytes(32), 3, bytes([1]) * 32, bytes([2]) * 32, bytes(16))
OFFER = Offer(handoff_id(*_WHO), *_WHO, bytes(16), bytes(32), 5, (Part("state", bytes(32), 3),), (Body(0, b"abc"),))


@pytest.mark.parametrize(
    "request_", [wire.Prepare(OFFER, (1, 2)), wire.Blocks(SESSION, BATCH), wire.Cancel(SESSION)], ids=repr
)
def test_requests_are_read_as_written(request_: wire.Request) -> None:
    written = b"".join(wire.write_request(request_))
    value = canonical.decode(written)
    assert wire.read_request(value, DEFAULT_LIMITS) == request_
    assert canonical.encode(value) == written


@pytest.mark.parametrize(
    "answer", [wire.Opened(SESSION), wire.ImageWanted(), Refusal("busy", "come again", 5), None], ids=repr
)
def test_answers_are_read_as_written(answer: wire.Answer) -> None:
    assert wire.read_answer(canonical.decode(canonical.encode(wire.write_answer(answer)))) == answer


OFFERED = canonical.decode(b"".join(wire.write_request(wire.Prepare(OFFER, (1, 2)))))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        ["prepare"],
        ["prepare", 2, *OFFERED[2:]],
        ["prepare", True, *OFFERED[2:]],
        ["prepare", 1, b"", [1]],
        ["prepare", 1, OFFERED[2], []],
        ["prepare", 1, OFFERED[2], [-1]],
        ["prepare", 1, OFFERED[2], [wire.MAX_PAGES + 1]],
        ["prepare", 1, OFFERED[2], [True]],
        ["prepare", 1, OFFERED[2], [1] * 65],
        ["blocks", b"short", BATCH.encode()],
        ["blocks", SESSION, b""],
        ["blocks", SESSION, bytes(2 << 20)],
        ["cancel", 5],
        ["cancel", SESSION, 1],
    ],
)
def test_what_is_no_request_is_refused(value: Any) -> None:
    with pytest.raises(MalformedMessage):
        wire.read_request(value, DEFAULT_LIMITS)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        ["open", b""],
        ["refused", "x" * 50, "", 0],
        ["refused", "x", "", -1],
        5,
        ["refused", "x", "", True],
        ["refused", "X y", "", 0],
    ],
)
def test_what_is_no_answer_is_refused(value: Any) -> None:
    with pytest.raises(MalformedMessage):
        wire.read_answer(value)


def test_a_reason_does_not_rewrite_the_terminal_of_who_reads_it() -> None:
    found = wire.read_answer(["refused", "busy", "\x1b[2Jno\n", 0])
    assert isinstance(found, Refusal)
    assert found.reason.isprintable()


def test_the_rest_is_read_as_written() -> None:
    rest = wire.Rest(SESSION, (BATCH, BATCH))
    assert wire.Rest.decode(rest.encode()) == rest
    assert wire.session_of(rest.encode()) == SESSION
    empty = wire.Rest(SESSION, ())
    assert wire.Rest.decode(empty.encode()) == empty


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_rest_that_was_damaged_is_read_or_refused(at: int, value: int) -> None:
    data = bytearray(wire.Rest(SESSION, (BATCH,)).encode())
    data[at % len(data)] = value
    try:
        for batch in wire.Rest.decode(data).batches:
            batch.contents()
    except BadSnapshot:
        pass
