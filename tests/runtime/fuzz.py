"""Damaged snapshots, frames and images against everything that loads them, as long as you like.

    python -m tests.runtime.fuzz --seconds 60 [--seed N]

Real snapshots of agents in the middle of their work are damaged, some as bytes, most as values that are then
encoded properly, so that they come past the first checks. What must hold: a declared error or an outcome, in
bounded time and memory, and never another exception, let alone a crash. A failure is written to
`fuzz-failure.bin`, with exit status 1.
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import attrs
import click

import agents
from agents import AgentImage, Limits, Snapshot, TimeBudget, canonical
from agents.errors import EngineError, FormatError
from agents.rewrite.metadata import Frame
from agents.snapshot import PAGE_BYTES, SNAPSHOT_MAGIC
from agents.waits import Arrived, Refused, Reply, Woke
from tests.fuzz.amount import Amount, options

from .agents_at_work import FIB, WANDERER, packed, place
from .test_lives import CALLER, SPIN, START, TABLES, VECTORS, WEAK

LIMITS = Limits(memory=4 << 20, table_elements=1000)
BUDGET = TimeBudget(wall_ns=100_000_000)
STARTS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    (FIB, "run", (7,)),
    (WANDERER, "run", (9,)),
    (TABLES, "run", ()),
    (VECTORS, "run", ()),
    (START, "run", (3,)),
    (WEAK, "run", ()),
    (CALLER, "call", (9,)),
    (CALLER, "recv", (9,)),
    (SPIN, "run", ()),
)
EVENTS = (None, Arrived(), Woke(), Reply(b"hello"), Refused(6, "no"))


class Disagreement(AssertionError):
    """Something that has to hold does not."""


@cache
def engine() -> Any:
    """One engine, without a cache on disk."""
    return agents.load("wasmtime", cache=None)


@cache
def seeds() -> tuple[tuple[AgentImage, Snapshot], ...]:
    """Agents that were stopped, each at its first waits, and at its first polls."""
    found = []
    for text, entry, args in STARTS:
        image = packed(text)
        hops: list[bytes] = []
        agents.run(
            image,
            engine=engine(),
            ambient=place(),
            entry=entry,
            args=args,
            limits=LIMITS,
            budget=BUDGET,
            hop_every=3,
            hops=6,
            on_hop=hops.append,
            answer=lambda wait: EVENTS[1 if "Go" in type(wait).__name__ else 2],
        )
        found += [(image, Snapshot.decode(data)) for data in hops]
    return tuple(found)


def damage(rng: Random, data: bytes) -> bytes:
    """A few bytes changed, lost or doubled."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[at : at + rng.randrange(1, 9)]
            case 2:
                changed[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 3:
                changed[at:at] = changed[at : at + rng.randrange(1, 30)]
            case _:
                del changed[at:]
        if not changed:
            break
    return bytes(changed)


def odd_number(rng: Random, old: int) -> int:
    """A number near an edge."""
    edges = (0, 1, old + 1, old - 1, 255, 4096, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**64 - 1)
    return max(0, rng.choice(edges))


def twist(rng: Random, value: Any) -> Any:
    """One value somewhere inside replaced by another of its kind, or seldom of another kind."""
    if rng.random() < 0.03:
        return rng.choice((None, 0, b"", "", [], {}, True, 2**64 - 1))
    if isinstance(value, list) and value:
        copy = list(value)
        at = rng.randrange(len(copy))
        match rng.randrange(6):
            case 0:
                del copy[at]
            case 1:
                copy.insert(at, copy[rng.randrange(len(copy))])
            case 2:
                rng.shuffle(copy)
            case _:
                copy[at] = twist(rng, copy[at])
        return copy
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        return {**value, key: twist(rng, value[key])}
    if isinstance(value, int) and not isinstance(value, bool):
        return odd_number(rng, value)
    if isinstance(value, bytes):
        return damage(rng, value) if value else b"x"
    if isinstance(value, str):
        return value[: rng.randrange(len(value) + 1)] + rng.choice(("", "x", "\0", "é" * 200))
    return value


def twisted_header(rng: Random, data: bytes) -> bytes:
    """The header's values changed, and encoded as they should be."""
    start, end = canonical.byte_string_at(memoryview(data), len(SNAPSHOT_MAGIC))
    value = canonical.decode(data[start:end])
    for _ in range(rng.choice((1, 1, 2))):
        value = twist(rng, value)
    try:
        encoded = canonical.encode(value)
    except canonical.NotCanonical:
        return data
    return SNAPSHOT_MAGIC + canonical.byte_string_head(len(encoded)) + encoded + data[end:]


def forged(rng: Random, image: AgentImage, snapshot: Snapshot) -> Snapshot:
    """Frames that the image's metadata allows, with any values: these are run."""
    metadata = image.metadata
    assert metadata is not None
    frames = []
    for _ in range(rng.randrange(1, 6)):
        if not metadata.resumes:
            break
        resume = rng.randrange(len(metadata.resumes))
        site = rng.randrange(len(metadata.resumes[resume].sites)) + 1
        size = metadata.site(resume, site).layout.size - 16
        frames.append(Frame(resume, site, rng.randbytes(size)))
    memories = tuple(
        attrs.evolve(memory, pages=rng.choice((memory.pages, memory.pages + 1, 5000))) for memory in snapshot.memories
    )
    pending = rng.choice((None, snapshot.pending))
    return attrs.evolve(snapshot, frames=tuple(frames), memories=memories, pending=pending)


def load_and_run(image: AgentImage, data: bytes, rng: Random) -> str:
    """What came of it. Raises what must not be raised."""
    try:
        snapshot = Snapshot.decode(data)
    except FormatError:
        return "refused as bytes"
    if snapshot.encode() != data:
        raise Disagreement("a snapshot that was accepted encodes to other bytes")
    if sum(memory.size for memory in snapshot.memories) > len(data) * 100_000 + PAGE_BYTES:
        raise Disagreement("a few bytes stand for very many")
    try:
        outcome = agents.run(
            image,
            engine=engine(),
            ambient=place(),
            snapshot=snapshot,
            event=rng.choice(EVENTS) if snapshot.pending and snapshot.pending.wait else None,
            limits=LIMITS,
            budget=BUDGET,
        )
    except FormatError:
        return "refused for its image"
    except EngineError:
        return "refused by the engine"
    if outcome.usage.memory > LIMITS.memory:
        raise Disagreement("an agent has more memory than it may")
    return f"ran: {type(outcome).__name__}"


def damaged_image(rng: Random, image: AgentImage, snapshot: Snapshot) -> str:
    """The image itself is damaged, and the snapshot is bound to it."""
    code = bytearray(image.code)
    for _ in range(rng.choice((1, 2, 4))):
        # Mostly where the names and the metadata are: those reach our code, and not only the engine's.
        at = rng.randrange(len(code)) if rng.random() < 0.5 else code.rindex(b"portcall") + rng.randrange(-200, 200)
        code[max(8, min(at, len(code) - 1))] = rng.randrange(256)
    bad = attrs.evolve(image, code=bytes(code))
    try:
        return "image " + load_and_run(bad, attrs.evolve(snapshot, image=bad.digest).encode(), rng)
    except FormatError:
        return "image refused"


def run(amount: Amount, seed: int) -> Counter[str]:
    """What came of all that was tried. Raises `Disagreement`, or an undeclared exception."""
    counts: Counter[str] = Counter()
    while amount.more():
        rng = Random(seed)
        image, snapshot = rng.choice(seeds())
        data = snapshot.encode()
        try:
            match rng.randrange(8):
                case 0:
                    data = damage(rng, data)
                    counts[load_and_run(image, data, rng)] += 1
                case 1:
                    counts[damaged_image(rng, image, snapshot)] += 1
                case 2 | 3:
                    data = forged(rng, image, snapshot).encode()
                    counts[load_and_run(image, data, rng)] += 1
                case _:
                    data = twisted_header(rng, data)
                    counts[load_and_run(image, data, rng)] += 1
        except Exception as error:
            error.add_note(f"seed {seed}") if hasattr(error, "add_note") else None
            Path("fuzz-failure.bin").write_bytes(data)
            raise
        seed += 1
        amount.give(data)
    return counts


@click.command()
@options
@click.option("--seed", default=0, show_default=True)
def main(seconds: float, least: int, seed: int) -> None:
    """Try damaged snapshots for a while."""
    try:
        counts = run(amount := Amount(seconds, least), seed)
    except Exception:
        click.echo("written to fuzz-failure.bin", err=True)
        raise
    click.echo(f"{amount.given} bytes")
    for what, count in sorted(counts.items()):
        click.echo(f"{count:8} {what}")
    sys.exit(0)


if __name__ == "__main__":
    main()
