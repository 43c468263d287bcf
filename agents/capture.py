"""Between a suspended instance and a snapshot: captures its state, and restores it in a fresh one.

Not here: the stack (`agents.unwinding`), and when to do it (`agents.runtime`).

Invariant: a fresh instance, restored from a captured state, has the same memories, globals and tables,
bit for bit; captured again at once, it gives the same bytes.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import attrs

from agents.brief import brief

from .binding import Prepared, positions
from .budget import helped
from .engines import Instance
from .errors import BadSnapshot, EngineError
from .snapshot import PAGE_BYTES, Map, MemoryState, Snapshot, TableState

FUNCTION_TABLE = "portcall.functions"
_WORKERS = 4  # threads for one memory
_SHARE = 4 << 20  # bytes of memory that justify a thread
_BATCH = 16  # pieces that a thread takes at once


@attrs.frozen
class CapturedState:
    """The captured state without the stack; the fields of `Snapshot` with these names."""

    globals: dict[int, tuple[str, int | None]] = attrs.field(repr=brief)
    memories: tuple[MemoryState, ...] = attrs.field(repr=brief)
    tables: dict[int, TableState] = attrs.field(repr=brief)


def capture(instance: Instance, prepared: Prepared, memories: bool = True) -> CapturedState:
    """The state of a suspended instance. Raises `EngineError` for references that cannot travel.

    memories: whether their contents belong to it; otherwise there are none
    """
    names: dict[int, int] | None = None
    globals_: dict[int, tuple[str, int | None]] = {}
    for index, name in prepared.globals.items():
        letter, bits = instance.get_global(name)
        if letter in "rxe":
            if bits and names is None:
                names = instance.functions(FUNCTION_TABLE)
            globals_[index] = ("r", positions([bits], names or {})[0])
        else:
            globals_[index] = (letter, bits)
    tables: dict[int, TableState] = {}
    for index, name in prepared.tables.items():
        if names is None:
            names = instance.functions(FUNCTION_TABLE)
        tables[index] = _table(positions(instance.table_elements(name), names), prepared.elements[index])
    captured = []
    for name in prepared.memories.values() if memories else ():
        runs = instance.changed(name)
        with _mapping(sum(count for _, count in runs)) as each:
            captured.append(MemoryState.capture(instance.on_demand(name)[0], runs, each))
    return CapturedState(globals_, tuple(captured), tables)


@contextmanager
def _mapping(pages: int) -> Iterator[Map[Any, Any]]:
    """`map`, over threads if there is enough to do: compressors release the interpreter lock."""
    shares = pages * PAGE_BYTES // _SHARE
    # Asking for the number of processors takes longer than a small memory does.
    workers = 1 if shares < 2 else min(_WORKERS, shares, os.cpu_count() or 1)
    if workers < 2:
        yield map
        return
    with ThreadPoolExecutor(workers) as pool:

        def each(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
            def work(batch: list[Any]) -> tuple[list[Any], int]:
                began = time.thread_time_ns()
                return [function(piece) for piece in batch], time.thread_time_ns() - began

            pieces = iter(items)
            batches = iter(lambda: list(itertools.islice(pieces, _BATCH)), [])
            for results, used in pool.map(work, batches):
                helped(used)
                yield from results

        yield each


def _table(now: list[int | None], initial: object) -> TableState:
    assert isinstance(initial, list)
    fresh = initial + [None] * (len(now) - len(initial))
    changed = [(index, function) for index, function in enumerate(now) if function != fresh[index]]
    return TableState(len(now), tuple(changed))


def restore(instance: Instance, prepared: Prepared, snapshot: Snapshot) -> None:
    """Put the state of `snapshot` into a fresh instance.

    Raises `BadSnapshot` if it does not fit, `RunStopped` if it exceeds the instance's limits.
    """
    fits = (
        snapshot.globals.keys() == prepared.globals.keys()
        and len(snapshot.memory_pages) == len(prepared.memories)
        and snapshot.tables.keys() == prepared.tables.keys()
    )
    if not fits:
        raise BadSnapshot("the snapshot has other globals, memories or tables than its image")
    for index, (letter, bits) in snapshot.globals.items():
        _set_global(instance, prepared.globals[index], letter, bits)
    # Those that the snapshot names by their roots have been written before.
    for name, memory in zip(prepared.memories.values(), snapshot.memories, strict=not snapshot.roots):
        instance.memory_grow(name, memory.pages)
        if instance.memory_pages(name) != memory.pages:
            raise BadSnapshot("a memory that is smaller than it is in a fresh instance")
        for first, count in memory.runs:
            instance.expect(name, first * PAGE_BYTES, count * PAGE_BYTES, whole=True)
        with _mapping(memory.size // PAGE_BYTES) as each:
            memory.restore(instance.on_demand(name)[0], each)
    for index, table in snapshot.tables.items():
        name = prepared.tables[index]
        if table.size < len(prepared.elements[index]):
            raise BadSnapshot("a table that is smaller than it is in a fresh instance")
        instance.table_grow(name, table.size)
        for element, function in table.changed:
            try:
                instance.table_set(name, element, FUNCTION_TABLE, function)
            except EngineError as error:
                raise BadSnapshot(f"an element of a table cannot be restored: {error}") from None
    if instance.has("portcall.drop"):
        instance.call("portcall.drop")


def _set_global(instance: Instance, name: str, letter: str, bits: int | None) -> None:
    present, _ = instance.get_global(name)
    if letter != ("r" if present in "xe" else present):
        raise BadSnapshot(f"a global of type {letter!r} where the image has {present!r}")
    if letter != "r":
        assert bits is not None
        instance.set_global(name, bits)
        return
    try:
        instance.set_reference(name, FUNCTION_TABLE, bits)
    except EngineError as error:
        raise BadSnapshot(f"a global cannot be restored: {error}") from None
