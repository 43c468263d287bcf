"""How deep an agent in MicroPython may recurse: gives the interpreter a larger stack than it was built with.

Its Unix port, from which the WASI build is made, refuses to use more than 40,000 bytes of C stack: it then raises
Python's own RuntimeError, "maximum recursion depth exceeded". That allowed about a hundred nested calls of Python
functions, and would allow seventy now that frames also hold spilled pointers (`agents.rewrite.spill`). The stack that
the linker gave it, 64 KiB, has no room for more. So it gets another, behind its initial memory, and another limit.

The limit follows from the size of the *engine's* stack (`DEFAULT_STACK_BYTES`, 1 MiB), which code cannot query:
beyond it an agent traps instead of getting an exception. It was measured over thirty kinds of recursion.

Only for builds of the known form; others stay as they are. Invariant: malloc's region begins and ends where it did.
"""

from __future__ import annotations

import attrs

from agents.errors import UnsupportedFeature
from agents.rewrite.shadow_stack import find_stack_pointer
from agents.wasm import opcodes as op
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.syntax import Instr, MemType, Module, TypeLimits

BUILT_WITH = 40_000  # bytes of C stack that the interpreter allows itself
STACK_BYTES = 128_000
PAGES = 3  # of the new stack: what C code uses without checking comes on top of the limit
_PAGE = 65536


def deeper(wasm: bytes) -> bytes:
    """The interpreter with the larger stack; unchanged if it is not of the known form. Raises `ModuleError`."""
    module = decode_module(wasm)
    changed = _deeper(module)
    return wasm if changed is None else encode_module(changed)


def _deeper(module: Module) -> Module | None:
    setting = [place for place, func in enumerate(module.funcs) if _sets_limit(func.body)]
    if len(setting) != 1 or len(module.mems) != 1 or module.imported("global"):
        return None
    size = module.mems[0].limits.min
    # malloc begins with what the linker calls the end of the heap, a constant. If it asked for the size of the memory
    # instead, it would take the new stack too.
    end = Instr(op.I32_CONST, size * _PAGE)
    if not any(end in func.body for func in module.funcs):
        return None
    try:
        pointer = find_stack_pointer(module).index
    except UnsupportedFeature:
        return None
    funcs = list(module.funcs)
    first = funcs[setting[0]]
    funcs[setting[0]] = attrs.evolve(first, body=(Instr(op.I32_CONST, STACK_BYTES), *first.body[1:]), offset=None)
    top = Instr(op.I32_CONST, (size + PAGES) * _PAGE)
    globals_ = list(module.globals)
    globals_[pointer] = attrs.evolve(globals_[pointer], init=(top, Instr(op.END)))
    limits = TypeLimits(size + PAGES, module.mems[0].limits.max)
    return attrs.evolve(
        module, funcs=tuple(funcs), globals=tuple(globals_), mems=(MemType(limits),), source=None, offsets={}
    )


def _sets_limit(body: tuple[Instr, ...]) -> bool:
    """Whether `main` begins with setting the limit."""
    return len(body) > 1 and body[0] == Instr(op.I32_CONST, BUILT_WITH) and body[1].code == op.CALL
