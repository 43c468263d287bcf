"""An agent's memories, globals and tables in a new module.

The agent keeps what it has changed; what it has not changed is as the new module has it. For memory that is decided in
units of 16 bytes, so that no value is mixed of two: a unit that both the agent and the new module changed is refused.

Invariant: what comes out is what a capture of an instance of the new module with these contents would give.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from attrs import define, field

from agents.errors import BadSnapshot
from agents.snapshot import PAGE_BYTES, MemoryState, TableState
from agents.upgrade.modules import Different, Pairs, Side, constant, same_type
from agents.wasm import opcodes as op
from agents.wasm.bounds import WASM_PAGE_BYTES
from agents.wasm.syntax import Expr, MemType, Module, TypeLimits

UNIT_BYTES = 16
MAX_ELEMENTS = 1 << 22  # of the tables of one module
_ZERO = bytes(PAGE_BYTES)
STACK_POINTER = "__stack_pointer"


def address(module: Module, init: Expr | None) -> int:
    """Where an active segment goes. Raises `Different` for what only an engine can compute."""
    if init is not None and len(init) == 2:
        code, value = init[0].code, init[0].imm
        if code == op.GLOBAL_GET:
            code, value = constant(module, value) or (0, 0)
        if code in (op.I32_CONST, op.I64_CONST) and isinstance(value, int):
            return value & (0xFFFFFFFF if code == op.I32_CONST else 0xFFFFFFFFFFFFFFFF)
    raise Different("it has a segment whose place is computed")


@define(eq=False, repr=False)
class InitialMemory:
    """What a memory holds in a fresh instance: the pages of 4 KiB that any segment touches."""

    pages: dict[int, bytearray] = field(factory=dict)
    ranges: list[tuple[int, int]] = field(factory=list)  # of the segments: begin, end

    @classmethod
    def of(cls, module: Module, memory: int) -> InitialMemory:
        """Of memory `memory`. Raises `Different`."""
        made = cls()
        size = module.mem_types[memory].limits.min * WASM_PAGE_BYTES
        for data in module.datas:
            if data.mode == "active" and (data.memory or 0) == memory:
                at = address(module, data.offset)
                if at + len(data.bytes) > size:
                    raise Different("a data segment lies beyond the end of its memory")
                made._write(at, data.bytes)
                if data.bytes:
                    made.ranges.append((at, at + len(data.bytes)))
        return made

    def _write(self, at: int, content: bytes) -> None:
        done = 0
        while done < len(content):
            page, offset = divmod(at + done, PAGE_BYTES)
            size = min(PAGE_BYTES - offset, len(content) - done)
            self.pages.setdefault(page, bytearray(PAGE_BYTES))[offset : offset + size] = content[done : done + size]
            done += size

    def page(self, number: int) -> bytes | bytearray:
        """One page."""
        return self.pages.get(number, _ZERO)

    def read(self, at: int, size: int) -> bytes:
        """Some bytes."""
        return b"".join(
            bytes(self.page(each // PAGE_BYTES)[each % PAGE_BYTES : each % PAGE_BYTES + 1])
            for each in range(at, at + size)
        )

    @property
    def end(self) -> int:
        """Where the last segment ends; 0 if there is none."""
        return max((end for _, end in self.ranges), default=0)


def merge_memory(old: InitialMemory, new: InitialMemory, live: MemoryState, least: int) -> MemoryState:
    """The memory of the agent in the new module, whose own begins with `least` pages of 64 KiB.

    Raises `Different`, which names an address, and `BadSnapshot`.
    """
    pages = max(live.pages, least)
    size = pages * WASM_PAGE_BYTES
    with mmap.mmap(-1, max(size, WASM_PAGE_BYTES)) as buffer, memoryview(buffer)[:size] as memory:
        live.restore(memory)
        held = {page for first, count in live.runs for page in range(first, first + count)}
        changed = []
        for number in sorted(held | old.pages.keys() | new.pages.keys()):
            at = number * PAGE_BYTES
            if at >= size:
                raise Different(f"its memory of {pages} pages has no room for the data of the new module")
            was, fresh = old.page(number), new.page(number)
            now = bytes(memory[at : at + PAGE_BYTES]) if number in held else bytes(was)
            if was != fresh:
                now = _merged(was, fresh, now, at)
            memory[at : at + PAGE_BYTES] = now
            if now != fresh:
                changed.append(number)
        return MemoryState.capture(memory, _runs(changed))


def _merged(was: bytes | bytearray, fresh: bytes | bytearray, now: bytes, base: int) -> bytes:
    out = bytearray(now)
    for at in range(0, PAGE_BYTES, UNIT_BYTES):
        unit = slice(at, at + UNIT_BYTES)
        if was[unit] != fresh[unit] and now[unit] != fresh[unit]:
            if now[unit] != was[unit]:
                raise Different(
                    f"the new module has other data at address {base + at}, which the agent has changed: "
                    "leave the data there as they were, or put the new ones where nothing was"
                )
            out[unit] = fresh[unit]
    return bytes(out)


def _runs(pages: list[int]) -> Iterator[tuple[int, int]]:
    first = count = 0
    for page in pages:
        if count and page == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = page, 1
    if count:
        yield first, count


def _room(was: TypeLimits, now: TypeLimits, held: int, what: str) -> None:
    if now.max is not None and (now.max < held or was.max is None or now.max < was.max):
        least = "had no limit" if was.max is None else f"could grow to {was.max}"
        raise Different(f"{what} may grow to {now.max} only, and {least}: leave its limit as it was")


def check_memories(old: Side, new: Side, pages: tuple[int, ...]) -> list[str]:
    """Why the agent's memories do not fit the new module."""
    was, now = _memories(old), _memories(new)
    if len(was) != len(now):
        return [f"the new module has {len(now)} memories, and the agent has {len(was)}"]
    problems = []
    for index, (one, other) in enumerate(zip(was, now, strict=True)):
        held = pages[index] if index < len(pages) else 0
        try:
            if one.addr64 != other.addr64:
                raise Different(f"memory {index} has addresses of another size")
            _room(one.limits, other.limits, held, f"memory {index}")
        except Different as different:
            problems.append(str(different))
    return problems


def _memories(side: Side) -> tuple[MemType, ...]:
    types = side.module.mem_types
    return types if side.metadata is None else types[: side.metadata.memories]


def state_globals(side: Side) -> tuple[int, ...]:
    """The globals that are the agent's state, those that record dropped segments apart."""
    if side.metadata is not None:
        return tuple(index for index in side.metadata.globals if index not in side.marks.values())
    found = {export.index for export in side.module.exports if export.kind == "global"}
    return tuple(index for index in sorted(found) if side.module.global_types[index].mutable)


def global_name(side: Side, index: int) -> str | None:
    """What its author calls a global."""
    exported = (
        export.name
        for export in side.module.exports
        if export.kind == "global" and export.index == index and not export.name.startswith("portcall.")
    )
    return next(exported, None) or side.names.globals.get(index)


def pair_globals(old: Side, new: Side) -> tuple[dict[int, int], list[str]]:
    """Which mutable global is which: by name where both modules name all of theirs, else by their order."""
    was, now = state_globals(old), state_globals(new)
    called = {global_name(old, index): index for index in was}
    calls = {global_name(new, index): index for index in now}
    named = None not in called and None not in calls and len(called) == len(was) and len(calls) == len(now)
    pairs: dict[int, int] = {}
    problems = []
    for place, index in enumerate(was):
        shown = global_name(old, index) or f"global {index}"
        other = calls.get(global_name(old, index)) if named else now[place] if place < len(now) else None
        if other is None:
            problems.append(f"{shown} is not in the new module: the agent's value of it would be lost; keep it")
            continue
        a, b = old.module.global_types[index].val, new.module.global_types[other].val
        if not same_type(old.module, a, new.module, b):
            problems.append(f"{shown} has another type in the new module: give the new one another name")
        pairs[index] = other
    for mark, index in old.marks.items():
        if mark in new.marks:
            pairs[index] = new.marks[mark]
    return pairs, problems


def elements(module: Module, table: int) -> list[int | None]:
    """The functions in a table of a fresh instance. Raises `Different`."""
    size = module.table_types[table].limits.min
    if size > MAX_ELEMENTS:
        raise Different(f"table {table} begins with {size} elements, more than {MAX_ELEMENTS}")
    own = table - module.imported("table")
    first = module.tables[own].init if own >= 0 else None
    found = [_function(first) if first is not None else None] * size
    for elem in module.elems:
        if elem.mode == "active" and (elem.table or 0) == table:
            at = address(module, elem.offset)
            if at + len(elem.items) > size:
                raise Different(f"a segment of elements lies beyond the end of table {table}")
            found[at : at + len(elem.items)] = map(_function, elem.items)
    return found


def _function(item: Expr) -> int | None:
    if len(item) == 2 and item[0].code == op.REF_FUNC:
        return int(item[0].imm)
    if len(item) == 2 and item[0].code == op.REF_NULL:
        return None
    raise Different("a table has an element that is computed")


def pair_tables(pairs: Pairs) -> list[str]:
    """Pair what stands at the same places of the tables: memory may hold any of these numbers.

    Returns why that cannot be.
    """
    old, new = pairs.old, pairs.new
    was, now = _tables(old), _tables(new)
    if was > now:
        return [f"the new module has {now} tables, and the agent has {was}"]
    problems = []
    for table in range(was):
        a, b = old.module.table_types[table], new.module.table_types[table]
        try:
            if not same_type(old.module, a.elem, new.module, b.elem):
                raise Different(f"table {table} holds other references")
            if b.limits.max is not None and (a.limits.max is None or b.limits.max < a.limits.max):
                raise Different(f"table {table} may grow to {b.limits.max} elements only: leave its limit as it was")
            one, other = elements(old.module, table), elements(new.module, table)
            if len(other) < len(one):
                raise Different(f"table {table} has {len(other)} elements and had {len(one)}")
            for place, function in enumerate(one):
                counterpart = other[place]
                if function is None:
                    continue
                if counterpart is None:
                    raise Different(f"element {place} of table {table} was {old.shown(function)} and is null")
                try:
                    pairs.pair(function, counterpart)
                except Different as different:
                    raise Different(
                        f"element {place} of table {table}: {different}; the agent's memory may hold this number as a "
                        "function pointer: leave the functions whose address is taken in their order, new ones last"
                    ) from None
        except Different as different:
            problems.append(str(different))
    return problems


def _tables(side: Side) -> int:
    """How many tables are the agent's: the rewriter's come after them."""
    own = [export.index for export in side.module.exports if export.kind == "table" and export.name in _ADDED]
    return min([len(side.module.table_types), *own])


_ADDED = ("portcall.functions", "portcall.link")


def map_reference(pairs: Pairs, position: int | None) -> int | None:
    """The position in the new `portcall.functions` of a function that the snapshot names by its old one."""
    if position is None:
        return None
    old, new = pairs.old, pairs.new
    if old.metadata is None or new.metadata is None or position >= len(old.metadata.functions):
        raise BadSnapshot(f"a reference to function {position}, which the image does not name")
    function = old.metadata.functions[position]
    other = pairs.functions.get(function)
    if other is None or other not in new.metadata.functions:
        raise Different(
            f"a reference to {old.shown(function)} is held, and it is not known which function of the new module that "
            "is: export it under the same name, and take a reference to it"
        )
    return new.metadata.functions.index(other)


def map_table(pairs: Pairs, index: int, live: TableState) -> TableState:
    """A table that the agent may have changed. Raises `Different`, `BadSnapshot`."""
    old, new = pairs.old, pairs.new
    assert old.metadata is not None
    assert new.metadata is not None
    if live.size > MAX_ELEMENTS:
        raise Different(f"table {index} has {live.size} elements, more than {MAX_ELEMENTS}")
    numbers = {function: place for place, function in enumerate(new.metadata.functions)}
    was, fresh = elements(old.module, index), elements(new.module, index)
    size = max(live.size, len(fresh))
    out: list[tuple[int, int | None]] = []
    for place, position in sorted(live.changed):
        first = fresh[place] if place < len(fresh) else None
        now = map_reference(pairs, position)
        if place >= len(was) and first is not None:
            raise Different(f"element {place} of table {index} is new in the new module, and used by the agent")
        if now != (None if first is None else numbers.get(first)):
            out.append((place, now))
    return TableState(size, tuple(out))


def map_global(pairs: Pairs, letter: str, bits: int | None) -> tuple[str, int | None]:
    """A global's value. Raises `Different`."""
    return (letter, map_reference(pairs, bits)) if letter == "r" else (letter, bits)


def first_values(side: Side, index: int) -> tuple[str, int | None]:
    """What a global of the new module that the old one has not begins with. Raises `Different`."""
    found = constant(side.module, index)
    if found is not None:
        code, value = found
        letters = {op.I32_CONST: ("i", 32), op.I64_CONST: ("I", 64), op.F32_CONST: ("f", 32), op.F64_CONST: ("F", 64)}
        if code in letters and isinstance(value, int):
            letter, width = letters[code]
            return letter, value & ((1 << width) - 1)
        if code == op.V128_CONST and isinstance(value, bytes):
            return "v", int.from_bytes(value, "little")
        if code == op.REF_NULL:
            return "r", None
    own = index - side.module.imported("global")
    init = side.module.globals[own].init if own >= 0 else ()
    named = () if side.metadata is None else side.metadata.functions
    if len(init) == 2 and init[0].code == op.REF_FUNC and init[0].imm in named:
        return "r", named.index(init[0].imm)
    raise Different(f"{global_name(side, index) or f'global {index}'} is new and does not begin with a constant")
