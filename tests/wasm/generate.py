"""Random modules and random damage, from a seeded `random.Random`: the raw material of the fuzz tests.

`random_module` gives modules that can be encoded; some are valid. `damage` changes bytes, `change` changes a
decoded module instruction by instruction, which keeps it well-formed and often nearly valid.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import attrs

from agents.wasm import opcodes as op
from agents.wasm.opcodes import Imm
from agents.wasm.syntax import (
    EXNREF,
    EXTERNREF,
    F32,
    F64,
    FUNC,
    FUNCREF,
    I32,
    I64,
    V128,
    BlockType,
    Catch,
    Custom,
    Data,
    Elem,
    Export,
    Expr,
    Func,
    FuncType,
    Global,
    GlobalType,
    Import,
    ImportFunc,
    Instr,
    MemArg,
    MemType,
    Module,
    RefType,
    Table,
    TableType,
    Tag,
    TypeLimits,
    ValType,
)

END = Instr(op.END)
OPENERS = (op.BLOCK, op.LOOP, op.IF, op.TRY_TABLE)
_SIMPLE = [code for code in op.TABLE if code not in (*OPENERS, op.ELSE, op.END)]


def small(rng: Random) -> int:
    """An index that often exists."""
    return min(int(rng.expovariate(0.7)), 200)


def val_type(rng: Random) -> ValType:
    """Any value type."""
    if rng.random() < 0.75:
        return rng.choice([I32, I64, F32, F64, V128])
    return ref_type(rng)


def ref_type(rng: Random) -> RefType:
    """Any reference type."""
    if rng.random() < 0.7:
        return rng.choice([FUNCREF, EXTERNREF, EXNREF, FUNC])
    heap: Any = rng.choice(["func", "extern", "exn", "nofunc", "noextern", "noexn", small(rng)])
    return RefType(rng.random() < 0.7, heap)


def block_type(rng: Random) -> BlockType:
    """Any block type."""
    return rng.choice([None, None, val_type(rng), small(rng)])


def _integer(rng: Random, bits: int) -> int:
    value = rng.getrandbits(rng.choice([1, 6, 7, 8, 16, bits - 1]))
    return value if rng.random() < 0.5 else -value


def _memarg(rng: Random) -> MemArg:
    offset = rng.choice([0, 0, small(rng), rng.getrandbits(32), rng.getrandbits(64)])
    return MemArg(rng.randrange(5), offset, small(rng) if rng.random() < 0.3 else 0)


def _catch(rng: Random) -> Catch:
    kind = rng.choice(["catch", "catch_ref", "catch_all", "catch_all_ref"])
    return Catch(kind, small(rng) if kind in ("catch", "catch_ref") else None, small(rng))  # type: ignore[arg-type]


def _some(rng: Random, make: Callable[[Random], Any], most: int = 4) -> tuple[Any, ...]:
    return tuple(make(rng) for _ in range(min(int(rng.expovariate(0.5)), most)))


def _pair(rng: Random) -> tuple[int, int]:
    return small(rng), small(rng)


_IMMEDIATES: dict[Imm, Callable[[Random], Any]] = {
    Imm.NONE: lambda rng: None,
    Imm.BLOCK: block_type,
    Imm.LABELS: lambda rng: (_some(rng, small, rng.choice([4, 300])), small(rng)),
    Imm.TYPE_TABLE: _pair,
    Imm.TRY_TABLE: lambda rng: (block_type(rng), _some(rng, _catch, 20)),
    Imm.HEAP: lambda rng: rng.choice(["func", "extern", "exn", "nofunc", "noextern", "noexn", small(rng)]),
    Imm.TYPES: lambda rng: (val_type(rng),) if rng.random() < 0.9 else _some(rng, val_type),
    Imm.TABLE_INIT: _pair,
    Imm.TABLE_COPY: _pair,
    Imm.MEMORY_INIT: _pair,
    Imm.MEMORY_COPY: _pair,
    Imm.MEMARG: _memarg,
    Imm.MEMARG_LANE: lambda rng: (_memarg(rng), rng.randrange(16)),
    Imm.I32: lambda rng: _integer(rng, 32),
    Imm.I64: lambda rng: _integer(rng, 64),
    Imm.F32: lambda rng: rng.getrandbits(32),
    Imm.F64: lambda rng: rng.getrandbits(64),
    Imm.V128: lambda rng: rng.randbytes(16),
    Imm.SHUFFLE: lambda rng: bytes(rng.randrange(rng.choice([32, 32, 256])) for _ in range(16)),
    Imm.LANE: lambda rng: rng.choice([rng.randrange(16), small(rng)]),
}


def instruction(rng: Random, code: int) -> Instr:
    """An instruction with this opcode and any immediate."""
    return Instr(code, _IMMEDIATES.get(op.TABLE[code].imm, small)(rng))


def body(rng: Random, most: int = 30) -> Expr:
    """A well-nested body. `unreachable` comes often: after it, most instructions type."""
    found: list[Instr] = []
    open_blocks: list[int] = []
    for _ in range(rng.randrange(most)):
        roll = rng.random()
        if roll < 0.12:
            code = rng.choice(OPENERS)
            open_blocks.append(code)
            found.append(instruction(rng, code))
        elif roll < 0.22 and open_blocks:
            if open_blocks[-1] == op.IF and rng.random() < 0.5:
                open_blocks[-1] = op.ELSE
                found.append(Instr(op.ELSE))
            else:
                open_blocks.pop()
                found.append(END)
        elif roll < 0.4:
            found.append(instruction(rng, rng.choice([op.UNREACHABLE, op.LOCAL_GET, op.I32_CONST, op.DROP])))
        else:
            found.append(instruction(rng, rng.choice(_SIMPLE)))
    return (*found, *[END] * (len(open_blocks) + 1))


def constant(rng: Random, kind: ValType) -> Expr:
    """A constant expression, mostly of type `kind`."""
    plain = {I32: op.I32_CONST, I64: op.I64_CONST, F32: op.F32_CONST, F64: op.F64_CONST, V128: op.V128_CONST}
    if rng.random() < 0.1:
        return (instruction(rng, rng.choice([op.GLOBAL_GET, op.REF_FUNC, op.I32_ADD, op.I32_CONST])), END)
    if isinstance(kind, RefType):
        if not kind.nullable or rng.random() < 0.5:
            return (Instr(op.REF_FUNC, small(rng)), END)
        return (Instr(op.REF_NULL, kind.heap), END)
    return (instruction(rng, plain[kind]), END)


def _limits(rng: Random) -> TypeLimits:
    least = small(rng)
    return TypeLimits(least, rng.choice([None, least + small(rng), small(rng)]))


def _global_type(rng: Random) -> GlobalType:
    return GlobalType(val_type(rng), rng.random() < 0.5)


def _mem_type(rng: Random) -> MemType:
    return MemType(_limits(rng), rng.random() < 0.3)


def _table_type(rng: Random) -> TableType:
    return TableType(ref_type(rng), _limits(rng), rng.random() < 0.3)


def _table(rng: Random) -> Table:
    return Table(_table_type(rng), constant(rng, FUNCREF) if rng.random() < 0.2 else None)


def _import(rng: Random) -> Import:
    make = rng.choice([lambda r: ImportFunc(small(r)), _table_type, _mem_type, _global_type, lambda r: Tag(0)])
    return Import(rng.choice(["", "env", "ü"]), f"i{small(rng)}", make(rng))


def _global(rng: Random) -> Global:
    kind = _global_type(rng)
    return Global(kind, constant(rng, kind.val))


def _elem(rng: Random) -> Elem:
    kind = ref_type(rng)
    items = _some(rng, lambda r: constant(r, kind))
    mode = rng.choice(["active", "passive", "declarative"])
    if mode == "active":
        return Elem("active", small(rng), constant(rng, rng.choice([I32, I32, I64])), kind, items)
    return Elem(mode, None, None, kind, items)  # type: ignore[arg-type]


def _data(rng: Random) -> Data:
    content = rng.randbytes(small(rng))
    if rng.random() < 0.5:
        return Data("passive", None, None, content)
    return Data("active", small(rng), constant(rng, rng.choice([I32, I32, I64])), content)


def random_module(rng: Random) -> Module:
    """A module that `encode_module` takes and `decode_module` gives back."""
    types = (FuncType(), *_some(rng, lambda r: FuncType(_some(r, val_type), _some(r, val_type)), 6))
    exports = _some(rng, lambda r: Export(f"e{small(r)}", r.choice(["func", "memory", "global"]), small(r)))
    return Module(
        types=types,
        imports=_some(rng, _import, 3),
        funcs=_some(rng, lambda r: Func(min(small(r), len(types) - 1), _some(r, val_type), body(r)), 5),
        tables=_some(rng, _table),
        mems=_some(rng, _mem_type),
        tags=_some(rng, lambda r: Tag(0), 2),
        globals=_some(rng, _global),
        exports=exports,
        start=0 if rng.random() < 0.1 else None,
        elems=_some(rng, _elem),
        datas=(datas := _some(rng, _data)),
        customs=_some(rng, lambda r: Custom("c", r.randbytes(5), 0), 1),
        data_count=len(datas),
    )


def damage(rng: Random, data: bytes) -> bytes:
    """`data` with some bytes changed, inserted, removed or copied elsewhere."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        if not out:
            break
        place = rng.randrange(len(out))
        roll = rng.randrange(6)
        if roll == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif roll == 1:
            out[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif roll == 2:
            out[place:place] = rng.randbytes(rng.randrange(1, 5))
        elif roll == 3:
            del out[place : place + rng.randrange(1, 5)]
        elif roll == 4:
            other = rng.randrange(len(out))
            out[place:place] = out[other : other + rng.randrange(1, 20)]
        else:
            del out[place:]
    return bytes(out)


def change(rng: Random, module: Module) -> Module:
    """`module` with a few instructions of one function replaced, removed or added: still well-nested."""
    if not module.funcs:
        return module
    chosen = rng.randrange(len(module.funcs))
    func = module.funcs[chosen]
    code = list(func.body)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(len(code))
        control = code[place].code in (*OPENERS, op.ELSE, op.END)
        roll = rng.randrange(4)
        if roll == 0 and not control:
            del code[place]
        elif roll == 1 and not control:
            code[place] = instruction(rng, rng.choice([code[place].code, rng.choice(_SIMPLE)]))
        elif roll == 2 and not control:
            code.insert(place, code[rng.randrange(len(code) - 1)] if not control else code[place])
            if code[place].code in (*OPENERS, op.ELSE, op.END):
                del code[place]
        else:
            code.insert(place, instruction(rng, rng.choice(_SIMPLE)))
    funcs = list(module.funcs)
    funcs[chosen] = attrs.evolve(func, body=tuple(code))
    return attrs.evolve(module, funcs=tuple(funcs))
