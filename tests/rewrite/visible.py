"""Whether a collector would see every value: the frames of a suspended program against its shadow stack.

Generated programs, with a shadow stack that they know nothing of. Whenever the host is called, and the program hops,
its continuation says which values live across the calls on the stack: the rewriter's own account, which knows nothing
of spilling. Each of them must lie in the shadow stack. The pass is told to take every value for a pointer, so that no
exception is left but zero (what a local holds before it is written) and addresses of the shadow stack itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import attrs
import wasmtime

from agents.rewrite import Options, rewrite
from agents.rewrite.metadata import frame_values, split_frames
from agents.rewrite.shadow_stack import SHADOW_STACK_NAME
from agents.rewrite.spill import spill_pointers
from agents.rewrite.spill_values import PLAIN, POINTER, Survey
from agents.wasm import opcodes as op
from agents.wasm.encode import encode_module
from agents.wasm.syntax import I32, Export, Global, GlobalType, Instr, MemType, Module, TypeLimits
from tests.oracle.bits import Value
from tests.oracle.traveller import State, Traveller, new_store

from .generator import Generator
from .journey import ENGINE, Ticker, undisturbed

SIZES = {"i": 4, "I": 8, "v": 16}
PAGE = 65536


def with_stack(module: Module) -> Module:
    """One more page at the end of the first memory's first pages, and a pointer to its end."""
    (memory,) = module.mems
    top = (memory.limits.min + 1) * PAGE
    limits = TypeLimits(memory.limits.min + 1, None if memory.limits.max is None else memory.limits.max + 1)
    pointer = Global(GlobalType(I32, True), (Instr(op.I32_CONST, top), Instr(op.END)))
    return attrs.evolve(
        module,
        mems=(MemType(limits),),
        globals=(*module.globals, pointer),
        exports=(*module.exports, Export(SHADOW_STACK_NAME, "global", len(module.globals))),
    )


@contextmanager
def everything_is_a_pointer() -> Iterator[None]:
    def kind(survey: Survey, instr: Instr, operands: Any) -> int:
        return PLAIN if instr == Instr(op.GLOBAL_GET, survey.stack_pointer) else POINTER

    with mock.patch.object(Survey, "_kind", kind):
        yield


class Watched(Traveller):
    """Looks at each of its captured states."""

    top: int
    values = 0
    unseen: list[str]

    def hop(self) -> None:
        self.look(self.capture())
        super().hop()

    def look(self, state: State) -> None:
        """Count the values of all frames, and note those that are not in the shadow stack."""
        pointer = state.globals[self.metadata.globals.index(self.exported[SHADOW_STACK_NAME].index)]
        assert isinstance(pointer, Value)
        first = self.top - PAGE
        stack = state.memories[0][1].get(first // PAGE, bytes(PAGE))[pointer.bits - first :]
        words = {size: {stack[at : at + size] for at in range(0, len(stack), 4)} for size in SIZES.values()}
        for frame in split_frames(self.metadata, state.frames):
            for info, value in frame_values(self.metadata.site(frame.resume, frame.site), frame):
                size = SIZES.get(info.type)
                if size is None or not value or value == bytes(16):
                    continue
                if info.type == "i" and isinstance(value, int) and first <= value <= self.top:
                    continue
                data = value if isinstance(value, bytes) else int(value).to_bytes(size, "little", signed=True)
                self.values += 1
                if data not in words[size]:
                    self.unseen.append(f"{info} = {value!r} in function {frame.resume} at site {frame.site}")


def watched(seed: int, size: int = 60, spilled: bool = True, hops: int = 200) -> Watched:
    """The journey of a generated program; its ending is compared with that of the program as it was."""
    original = with_stack(Generator(seed, size).module())
    with everything_is_a_pointer():
        module = spill_pointers(original) if spilled else original
        packed = encode_module(rewrite(module, Options(polls="none", suspending=None)))
    expected = undisturbed(encode_module(original), seed % 7)
    alone = undisturbed(encode_module(module), seed % 7)
    assert (alone.results, alone.ticks) == (expected.results, expected.ticks), f"seed {seed}"
    places = slice(0, original.mems[0].limits.min * PAGE - PAGE)
    assert alone.memory[places] == expected.memory[places], f"seed {seed}"
    if isinstance(expected.results, tuple):
        assert alone.globals == expected.globals, f"seed {seed}"
    store = new_store(ENGINE)
    ticker = Ticker()

    def host(value: int) -> int:
        answer = ticker.answer(value)
        if not traveller.may_hop():
            return answer
        traveller.suspend(lambda: [Value("i", answer)])
        return 0

    def link(made: Traveller) -> list[Any]:
        nonlocal traveller
        traveller = made  # type: ignore[assignment]  # a Watched is made below
        return [wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()]), host)]

    traveller: Watched
    traveller = Watched(store, wasmtime.Module(ENGINE, packed), packed, link, hops)
    traveller.top, traveller.unseen = original.mems[0].limits.min * PAGE, []
    try:
        results: Any = tuple(traveller.invoke("run", [Value("i", seed % 7)]))
    except (wasmtime.Trap, wasmtime.WasmtimeError):
        results = None
    if results is not None or isinstance(expected.results, tuple):
        assert results == expected.results, f"seed {seed}"
    store.close()
    return traveller
