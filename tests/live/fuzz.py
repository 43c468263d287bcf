"""Damaged messages of live moves, batches of blocks, states with roots and files of blocks, as long as you like.

    python -m tests.live.fuzz --seconds 60 [--seed N]

Each target has genuine inputs, which are damaged as bytes and as values that are encoded properly. What must hold: it
is refused with the declared error, or what was read is written as the same bytes; and a damaged file of blocks gives
the memory that was signed, or none.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import click
from attrs import frozen

import agents
from agents import canonical
from agents.ambient import StandaloneHost
from agents.blocks import BLOCK_BYTES, BLOCKS_PER_PAGE, BlockBatch, BlockTree
from agents.errors import BadSnapshot, NotCanonical
from agents.execution import Execution
from agents.snapshot import MemoryRoot, Snapshot
from docking.errors import MalformedMessage
from docking.handoff.codec import DEFAULT_LIMITS
from docking.handoff.refusal import Refusal
from docking.live import wire
from docking.live.block_file import BlockFile, named
from docking.residents.ferry import Ferry
from docking.residents.options import MoveOptions, MoveReport
from tests.fuzz.amount import Amount, judged, options, tell
from tests.live.test_wire import BATCH, OFFER, SESSION
from tests.station.fuzz import bent, inside
from tests.station.harbour import program

PAGES, CAPACITY = 2, 4 * BLOCKS_PER_PAGE


class Disagreement(AssertionError):
    """Something that has to hold does not."""


@frozen
class Target:
    """What is fuzzed: genuine inputs, what reads one and writes it again, and the errors that it may raise."""

    inputs: Sequence[bytes]
    again: Callable[[bytes], bytes | None]
    """Returns None where it needs not be the same."""
    errors: tuple[type[Exception], ...]


def _request(data: bytes) -> bytes:
    value = canonical.decode(data)
    read = wire.read_request(value, DEFAULT_LIMITS)
    if isinstance(read, wire.Blocks):
        with contextlib.suppress(BadSnapshot):
            read.batch.contents()
    return b"".join(map(bytes, wire.write_request(read)))


def _answer(data: bytes) -> bytes | None:
    value = canonical.decode(data)
    answer = wire.read_answer(value)
    if isinstance(answer, Refusal) and not answer.reason.isprintable():
        raise Disagreement("a reason that rewrites the terminal")
    written = wire.write_answer(answer)
    if isinstance(answer, Refusal) and value[2] != answer.reason:  # cut, or made printable
        return None
    return canonical.encode(written)


def _batch(data: bytes) -> bytes:
    batch = BlockBatch.decode(data)
    with contextlib.suppress(BadSnapshot):
        if sum(map(len, batch.contents())) != BLOCK_BYTES * len(batch.blocks):
            raise Disagreement("blocks of another size")
    return batch.encode()


def _rest(data: bytes) -> bytes:
    rest = wire.Rest.decode(data)
    if wire.session_of(data) != rest.session:
        raise Disagreement("two sessions")
    return rest.encode()


def _snapshot(data: bytes) -> bytes:
    snapshot = Snapshot.decode(data)
    with contextlib.suppress(BadSnapshot):
        snapshot.check(_image())
    if snapshot.roots and snapshot.memories:
        raise Disagreement("both memories and roots")
    return snapshot.encode()


def _ferried(data: bytes) -> bytes | None:
    found = Ferry.read(canonical.decode(data))
    if found.outcome is not None and 0 < found.outcome.status < 400:
        raise Disagreement("an answer of a station that is no failure")
    return None


def _options(data: bytes) -> bytes | None:
    how = canonical.decode(data)
    if not isinstance(how, dict) or not all(isinstance(key, str) for key in how):
        raise ValueError("the channel gives arguments by their names")
    found = MoveOptions.of(**how)
    if MoveOptions.of(**found.told()) != found:  # type: ignore[arg-type]
        raise Disagreement("other options")
    return None


def _report(data: bytes) -> bytes | None:
    told = canonical.decode(data)
    if not isinstance(told, dict) or not all(isinstance(key, str) for key in told):
        raise ValueError("no report")
    MoveReport.of(told).value()
    return None


@cache
def _image() -> Any:
    return agents.pack(program("(drop (call $sleep (i32.const 1)))"))


def _rooted() -> bytes:
    """The state of an agent that sleeps, with a root."""
    nobody = StandaloneHost(lambda: 0, lambda: 0, bytes)
    with Execution(_image(), engine=agents.load(), ambient=nobody) as life:
        life.advance()
        return life.snapshot((MemoryRoot(1, canonical.digest(b"root")),)).encode()


class _File:
    """A file of blocks, and the memory that is signed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "blocks"
        file, tree = BlockFile.make(self.path, (CAPACITY,)), BlockTree(PAGES)
        self.rest = BlockBatch.of(0, PAGES, [2, 5], b"r" * BLOCK_BYTES + bytes(BLOCK_BYTES), [1])
        for batch in (BlockBatch.of(0, PAGES, [1, 2, 6], b"abc" * BLOCK_BYTES), self.rest):
            for block, digest, _ in named(batch):
                tree[block] = digest
            if batch is not self.rest:
                file.write(0, named(batch))
        file.close()
        self.root = MemoryRoot(PAGES, tree.root())
        self.data = self.path.read_bytes()
        self.memory = self._read(self.data)

    def _read(self, data: bytes) -> bytes:
        self.path.write_bytes(data)
        file = BlockFile.open(self.path)
        try:
            (state,) = file.states([self.root], [self.rest])
        finally:
            file.close()
        memory = bytearray(PAGES << 16)
        state.restore(memoryview(memory))
        return bytes(memory)

    def again(self, data: bytes) -> None:
        if self._read(data) != self.memory:
            raise Disagreement("another memory than was signed")


def targets(folder: Path) -> dict[str, Target]:
    """All of them. `folder`: for a file."""
    prepare = b"".join(map(bytes, wire.write_request(wire.Prepare(OFFER, (1, 2)))))
    blocks = b"".join(map(bytes, wire.write_request(wire.Blocks(SESSION, BATCH))))
    requests = [prepare, blocks] + [
        b"".join(map(bytes, wire.write_request(each)))
        for each in (wire.Cancel(SESSION), wire.Fetch(SESSION, 1, (2, 5)), wire.Settled(SESSION))
    ]
    opened, contents = wire.Opened(SESSION, True), wire.Contents(BATCH)
    answers = (opened, contents, wire.ImageWanted(), Refusal("busy", "come again", 5), None)
    owed = (wire.Owed(0, (4, 9), bytes(range(64))), wire.Owed(3, (7,), bytes(32)))
    ident = "a" * 52 + "." + "0" * 32
    ferried = (
        ["request", ident, bytes(32), b"GET / HTTP/1.1\r\n\r\n", 1000, 1],
        ["answer", ident, bytes(32), 0, b"HTTP/1.1 200 \r\n\r\n", 0, 1],
        ["answer", ident, bytes(32), 504, b"not in time", 5, 1],
    )
    report = MoveReport("a" * 52, "beta", 3, 1 << 20, 5, 2.5, 1.5, "userfaultfd")
    file = _File(folder)
    malformed = (MalformedMessage, NotCanonical)
    return {
        "requests": Target(requests, _request, malformed),
        "answers": Target([canonical.encode(wire.write_answer(each)) for each in answers], _answer, malformed),
        "batches": Target((BATCH.encode(),), _batch, (BadSnapshot,)),
        "the rest": Target(
            [wire.Rest(SESSION, (BATCH, BATCH), each).encode() for each in ((), owed)], _rest, (BadSnapshot,)
        ),
        "states with roots": Target((_rooted(),), _snapshot, (BadSnapshot,)),
        "requests and answers of clients": Target([canonical.encode(each) for each in ferried], _ferried, malformed),
        "options": Target((canonical.encode(MoveOptions().told()),), _options, (NotCanonical, TypeError, ValueError)),
        "reports": Target((canonical.encode(report.told()),), _report, (NotCanonical, TypeError, ValueError, KeyError)),
        "files of blocks": Target((file.data,), file.again, (BadSnapshot,)),
    }


def damaged(data: bytes, rng: Random) -> bytes:
    """Something in it is changed: often near its beginning, where what is read is decided; or nested in it."""
    if rng.random() < 0.3:
        at = rng.randrange(min(len(data), 120))
        return data[:at] + inside(data[at : at + 60] or b"x", rng) + data[at + 60 :]
    if rng.random() < 0.4:
        with contextlib.suppress(NotCanonical):
            return canonical.encode(bent(canonical.decode(data), rng))
    return inside(data, rng)


def fuzz(rng: Random, amount: Amount) -> Counter[str]:
    """Damage inputs, in that amount; how often each target took or refused one. Raises `Disagreement`."""
    counts = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        everything = targets(Path(folder))
        for name, target in everything.items():
            for data in target.inputs:
                written = target.again(data)
                if written is not None and written != data:
                    raise Disagreement(f"{name}: what is genuine is written otherwise")
        names = list(everything)
        while amount.more():
            name = rng.choice(names)
            target = everything[name]
            data = amount.give(damaged(rng.choice(target.inputs), rng))
            try:
                written = target.again(data)
            except target.errors:
                counts[f"{name}: refused"] += 1
                continue
            except Exception as error:
                raise Disagreement(f"{name}: {error!r} for {data[:200]!r}") from error
            if written is not None and written != data:
                raise Disagreement(f"{name}: read and written otherwise: {data[:200]!r}")
            counts[f"{name}: taken"] += 1
    return counts


@click.command()
@options
@click.option("--seed", type=int, help="Default: another each time.")
def main(seconds: float, least: int, seed: int | None) -> None:
    """Fuzz what is read of live moves."""
    amount = Amount(seconds, least)
    tell(amount, judged(fuzz, amount, seed))


if __name__ == "__main__":
    main()
