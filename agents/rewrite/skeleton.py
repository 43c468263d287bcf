"""The control structure of one function: its constructs, and the events that matter to the rewriter.

Bodies are flat (the binary format's order); one scan finds where each ``block``, ``loop``, ``if`` and ``try_table``
ends and what encloses it. It does no type checking: the validator has done that.
"""

from __future__ import annotations

import attrs

from agents.wasm import opcodes as op
from agents.wasm.syntax import Instr

OPENERS = frozenset((op.BLOCK, op.LOOP, op.IF, op.TRY_TABLE))
CALLS = frozenset((op.CALL, op.CALL_INDIRECT, op.CALL_REF))
TAIL_CALLS = frozenset((op.RETURN_CALL, op.RETURN_CALL_INDIRECT, op.RETURN_CALL_REF))
#: Instructions after which nothing runs until a label is reached.
TERMINATORS = TAIL_CALLS | {op.BR, op.BR_TABLE, op.RETURN, op.UNREACHABLE, op.THROW, op.THROW_REF}
BRANCHES = frozenset((op.BR, op.BR_IF, op.BR_TABLE, op.BR_ON_NULL, op.BR_ON_NON_NULL))
LOCALS = frozenset((op.LOCAL_GET, op.LOCAL_SET, op.LOCAL_TEE))
STRUCTURE = OPENERS | {op.ELSE, op.END}
_EVENTS = STRUCTURE | CALLS | TERMINATORS | BRANCHES | LOCALS


@attrs.define(slots=True)
class Construct:
    """One structured instruction. Index 0 of a skeleton is the function body itself (``start`` -1)."""

    index: int
    code: int  # op.BLOCK for the function body
    start: int
    parent: int  # index of the enclosing construct; -1 for the function body
    depth: int  # 0 for the function body
    end: int = -1
    middle: int = -1  # position of the ``else``


@attrs.define(slots=True)
class Skeleton:
    """Constructs in order of their start, and the positions of all instructions of interest."""

    constructs: list[Construct]
    events: list[int]
    opened_at: dict[int, int]  # position of the opener -> construct
    enclosing: dict[int, int]  # position of a call -> construct it stands in
    ends: dict[int, Construct]  # position of an ``end`` -> construct
    elses: dict[int, Construct]  # position of an ``else`` -> construct
    label_used: bool  # whether a branch goes to the function's own label

    def of(self, position: int) -> Construct:
        return self.constructs[self.opened_at[position]]


def skeleton(body: tuple[Instr, ...]) -> Skeleton:
    """Scan a validated body."""
    events = [position for position, instr in enumerate(body) if instr.code in _EVENTS]
    root = Construct(0, op.BLOCK, -1, -1, 0)
    constructs = [root]
    opened_at = {-1: 0}
    enclosing: dict[int, int] = {}
    current = root
    label_used = False
    for position in events:
        code = body[position].code
        if code in LOCALS:
            continue
        if code in OPENERS:
            current = Construct(len(constructs), code, position, current.index, current.depth + 1)
            constructs.append(current)
            opened_at[position] = current.index
        elif code == op.ELSE:
            current.middle = position
        elif code == op.END:
            current.end = position
            if current.parent >= 0:
                current = constructs[current.parent]
        elif code in CALLS:
            enclosing[position] = current.index
        elif code in BRANCHES and not label_used:
            imm = body[position].imm
            label_used = current.depth in ((*imm[0], imm[1]) if code == op.BR_TABLE else (imm,))
        if code == op.TRY_TABLE:
            label_used = label_used or any(catch.label == current.depth - 1 for catch in body[position].imm[1])
    return Skeleton(
        constructs,
        events,
        opened_at,
        enclosing,
        {construct.end: construct for construct in constructs},
        {construct.middle: construct for construct in constructs if construct.middle >= 0},
        label_used,
    )
