"""Signs that a toolchain has placed static data elsewhere: the agent's memory holds addresses that would then be wrong.

Addresses in memory are numbers like others, so nobody can find them all. What can be seen is what moves with them: the
stack pointer's first value, the end of the data, and addresses in the code of functions that are otherwise the same.
The signs hold for modules with a stack pointer, which a toolchain laid out; in others, authors place data by hand.
"""

from __future__ import annotations

from collections.abc import Iterator

from agents.upgrade.modules import Different, Pairs, constant
from agents.upgrade.state import STACK_POINTER, InitialMemory, global_name
from agents.wasm import opcodes as op
from agents.wasm.bounds import WASM_PAGE_BYTES
from agents.wasm.opcodes import Imm
from agents.wasm.syntax import Expr

ALIGNED = 16  # bytes: what toolchains round the end of data to
TELLING = 4  # bytes of the same content, none of them zero, that show that data moved
ADVICE = (
    "build the new module so that what was there stays at its address (the same options and libraries; new static "
    "data last)"
)


def moved(pairs: Pairs, old: InitialMemory, new: InitialMemory) -> list[str]:
    """What shows that static data are elsewhere in the new module; empty if nothing does."""
    pointers = [
        (index, other) for index, other in pairs.globals.items() if global_name(pairs.old, index) == STACK_POINTER
    ]
    if not pointers:
        return []
    index, other = pointers[0]
    was, now = constant(pairs.old.module, index), constant(pairs.new.module, other)
    if was != now:
        return [f"the stack of the new module begins elsewhere, so its data are elsewhere too: {ADVICE}"]
    if new.end > -(-old.end // ALIGNED) * ALIGNED:
        return [
            f"the static data of the new module end at address {new.end}, and ended at {old.end}: what follows them "
            f"belongs to the agent; {ADVICE}"
        ]
    top = was[1] if was is not None and isinstance(was[1], int) else 0
    try:
        _functions(pairs, old, new, top if old.ranges and min(old.ranges)[0] >= top else None)
    except Different as different:
        return [f"{different}: {ADVICE}"]
    return []


def _functions(pairs: Pairs, old: InitialMemory, new: InitialMemory, data_from: int | None) -> None:
    """Functions of the same name that differ in addresses only. `data_from`: where all static data and what follows
    them begin, if that is known.
    """
    most = pairs.old.module.mem_types[0].limits.min * WASM_PAGE_BYTES if pairs.old.module.mem_types else 0
    for one, other in pairs.functions.items():
        if one < pairs.old.imported:
            continue
        for was, now in _addresses(pairs.old.body(one), pairs.new.body(other)):
            shown = f"{pairs.old.shown(one)} uses address {now} in the new module, and {was} before"
            if data_from is not None and data_from <= was < most and data_from <= now < most:
                raise Different(shown)
            if any(begin <= was < end - TELLING for begin, end in old.ranges):
                content = old.read(was, TELLING)
                if 0 not in content and new.read(now, TELLING) == content:
                    raise Different(shown)


def _addresses(was: Expr, now: Expr) -> Iterator[tuple[int, int]]:
    """Pairs of constants and offsets, if the two bodies are the same but for these."""
    if len(was) != len(now) or any(a.code != b.code for a, b in zip(was, now, strict=True)):
        return
    found = []
    for a, b in zip(was, now, strict=True):
        if a == b:
            continue
        if a.code == op.I32_CONST:
            found.append((a.imm & 0xFFFFFFFF, b.imm & 0xFFFFFFFF))
        elif op.TABLE[a.code].imm is Imm.MEMARG:
            found.append((a.imm.offset, b.imm.offset))
    yield from found
