"""Exceptions as data: a live ``exnref`` in a frame becomes its tag and payload, and is thrown anew to restore it.

C++ and Rust cleanups hold an exception while they run destructors, which is common: without this, every such function
would pin the agent. It works if the module defines all its tags, since then no others can occur
(docs/adr/exceptions-in-frames). In a frame: the tag's index plus one in the first word, 0 for null; the payload from
the second word on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agents.rewrite.additions import END_INSTR, FRAME_LETTERS, NUMERIC, Additions
from agents.wasm import opcodes as op
from agents.wasm.syntax import EXNREF, I32, Catch, Instr, Module, ValType

#: Bytes that an exception takes in a frame; a tag with a larger payload is refused.
EXNREF_BYTES = 64

Store = Callable[[str, int], Instr]


def can_be_saved(module: Module) -> bool:
    """Whether every exception of the module is a tag of its own with a payload that fits."""
    if module.imported("tag"):
        return False
    for tag in module.tags:
        params = module.types[tag.type].params
        if not NUMERIC.issuperset(params) or 8 + sum(_width(valtype) for valtype in params) > EXNREF_BYTES:
            return False
    return True


def _width(valtype: ValType) -> int:
    return 16 if FRAME_LETTERS[valtype] == "v" else 8


def save_exception(additions: Additions, store: Store) -> int:
    """Index of the helper ``(address, exnref) -> ()``."""
    module = additions.module

    def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
        i = additions.instr
        extra: list[ValType] = []
        tags = [module.types[tag.type].params for tag in module.tags]
        body = [i(op.LOCAL_GET, 0), i(op.I32_CONST, 0), store("i", 0)]
        body += [i(op.LOCAL_GET, 1), i(op.REF_IS_NULL), i(op.IF, None), i(op.RETURN), END_INSTR]
        body += [i(op.BLOCK, additions.blocktype(params)) for params in reversed(tags)]
        catches = tuple(Catch("catch", index, index) for index in range(len(tags)))
        body += [Instr(op.TRY_TABLE, (None, catches)), i(op.LOCAL_GET, 1), i(op.THROW_REF), END_INSTR]
        body += [i(op.UNREACHABLE)]
        for index, params in enumerate(tags):
            places = list(range(2 + len(extra), 2 + len(extra) + len(params)))
            extra += params
            body += [END_INSTR, *(i(op.LOCAL_SET, place) for place in reversed(places))]
            offset = 8
            for place, valtype in zip(places, params, strict=True):
                body += [i(op.LOCAL_GET, 0), i(op.LOCAL_GET, place), store(FRAME_LETTERS[valtype], offset)]
                offset += _width(valtype)
            body += [i(op.LOCAL_GET, 0), i(op.I32_CONST, index + 1), store("i", 0), i(op.RETURN)]
        body.append(i(op.UNREACHABLE))
        return extra, body

    return additions.helper("portcall.save_exception", (I32, EXNREF), (), build)


def load_exception(additions: Additions, load: Store) -> int:
    """Index of the helper ``(address) -> exnref``; a tag that does not exist is a trap."""
    module = additions.module

    def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
        i = additions.instr
        count = len(module.tags)
        body = [i(op.LOCAL_GET, 0), load("i", 0), i(op.I32_EQZ)]
        body += [i(op.IF, None), i(op.REF_NULL, "exn"), i(op.RETURN), END_INSTR]
        body += [i(op.BLOCK, EXNREF), Instr(op.TRY_TABLE, (None, (Catch("catch_all_ref", None, 0),)))]
        body += [i(op.BLOCK, None)] * (count + 1)
        body += [i(op.LOCAL_GET, 0), load("i", 0), Instr(op.BR_TABLE, ((count, *range(count)), count)), END_INSTR]
        for index, tag in enumerate(module.tags):
            offset = 8
            for valtype in module.types[tag.type].params:
                body += [i(op.LOCAL_GET, 0), load(FRAME_LETTERS[valtype], offset)]
                offset += _width(valtype)
            body += [i(op.THROW, index), END_INSTR]
        body += [i(op.UNREACHABLE), END_INSTR, i(op.UNREACHABLE), END_INSTR]
        return (), body

    return additions.helper("portcall.load_exception", (I32,), (EXNREF,), build, resumed=True)
