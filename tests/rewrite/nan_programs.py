"""Programs that show the bits of NaNs: each instruction by itself, and random ones.

What they should compute is asked of the engine, which can make each NaN canonical after each instruction, slowly:
the specification's deterministic profile.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import attrs
import wasmtime
from wasmtime import _ffi as ffi

from agents.wasm import opcodes as op
from agents.wasm.opcodes import Imm, Op

MEMORY = 1 << 16  # bytes
IN, OUT = 0, 1 << 12  # where the operands lie, and the results
TYPES = {"i": "i32", "I": "i64", "f": "f32", "F": "f64", "v": "v128"}
F32 = (0, 0x3F800000, 0xC0200000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFA00001, 0x7FC12345)
F64 = tuple(
    bits << 32 | low
    for bits, low in (
        *((0, 0), (0x3FF00000, 0), (0xC0040000, 0), (0x7FF00000, 0), (0xFFF00000, 0), (0x7FF80000, 0)),
        *((0xFFF80000, 0), (0x7FF00000, 1), (0xFFF40000, 0x99), (0x7FF80001, 0x2345)),
    )
)
#: Each value's 16 bytes: floats of both sizes at the start, and a vector of such.
OPERANDS = tuple(
    (F32[number] | F32[-1 - number] << 32).to_bytes(8, "little") + F64[(3 * number + 1) % 10].to_bytes(8, "little")
    for number in range(10)
) + tuple(F64[number].to_bytes(8, "little") + F64[-1 - number].to_bytes(8, "little") for number in range(10))
COUNT = len(OPERANDS)

EXACT, OPEN, MIXED, NEGATED, LANES = FLAVOURS = ("exact", "open", "mixed", "negated", "lanes")
_ONE = {"f": "(f32.const 1)", "F": "(f64.const 1)", "v": "(v128.const f32x4 1 1 1 1)"}
_TIMES = {"f": "f32.mul", "F": "f64.mul", "v": "f32x4.mul"}
_NEG = {"f": "f32.neg", "F": "f64.neg", "v": "f32x4.neg"}


def _operand(letter: str, local: str, flavour: str) -> str:
    load = f"({TYPES[letter]}.load (local.get {local}))"
    if letter in "iI" or flavour == EXACT:
        return load
    if letter == "v" and flavour == LANES:
        return f"(f64x2.mul {load} (v128.const f64x2 1 1))"
    made = f"({_TIMES[letter]} {load} {_ONE[letter]})"
    if flavour == NEGATED:
        return f"({_NEG[letter]} {made})"
    if flavour == MIXED:
        return f"(select {made} {load} (i32.and (local.get $turn) (i32.const 1)))"
    return made


def instructions() -> Iterator[Op]:
    """Those that read a float or a vector."""
    for row in op.TABLE.values():
        if row.params is not None and set(row.params) & set("fFv") and row.imm is not Imm.MEMARG_LANE:
            yield row


_IMMEDIATES = {Imm.LANE: " 1", Imm.SHUFFLE: " 8 9 10 11 20 21 22 23 0 1 2 3 28 29 30 31"}


def function(row: Op, flavour: str, name: str) -> str:
    """Applies an instruction to every pair of operands, the third changing with them, and stores what it gives."""
    assert row.params is not None
    assert row.results is not None
    places = ["$a", "$b", "$c"]
    letters = [letter for letter in row.params if letter != "a"]
    operands = " ".join(_operand(each, place, flavour) for each, place in zip(letters, places, strict=False))
    applied = f"{row.mnemonic}{_IMMEDIATES.get(row.imm, '')}"
    if row.params.startswith("a"):
        done = f"({applied} (local.get $out) {operands})"
    else:
        done = f"({TYPES[row.results]}.store (local.get $out) ({applied} {operands}))"
    return f"""(func (export "{name}")
      (local $turn i32) (local $a i32) (local $b i32) (local $c i32) (local $out i32)
      (loop $more
        (local.set $a (i32.shl (i32.rem_u (local.get $turn) (i32.const {COUNT})) (i32.const 4)))
        (local.set $b (i32.shl (i32.div_u (local.get $turn) (i32.const {COUNT})) (i32.const 4)))
        (local.set $c (i32.shl (i32.rem_u (i32.mul (local.get $turn) (i32.const 7)) (i32.const {COUNT})) (i32.const 4)))
        (local.set $out (i32.add (i32.const {OUT}) (i32.shl (local.get $turn) (i32.const 4))))
        {done}
        (local.set $turn (i32.add (local.get $turn) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $turn) (i32.const {COUNT * COUNT})))))"""


def every_instruction(*, traps: bool) -> tuple[str, list[str]]:
    """A module, and the names of its functions. `traps`: those that end at a NaN, and only they."""
    found = []
    for row, flavour in itertools.product(instructions(), FLAVOURS):
        trapping = ".trunc_f" in row.mnemonic
        if trapping == traps:
            name = f"{row.mnemonic} {flavour}"
            found.append((name, function(row, flavour, name)))
    return module("".join(text for _, text in found)), [name for name, _ in found]


def module(functions: str) -> str:
    """With a memory that begins with the operands."""
    data = "".join(f"\\{byte:02x}" for each in OPERANDS for byte in each)
    return f'(module (memory (export "memory") 1) (data (i32.const {IN}) "{data}") {functions})'


def deterministic() -> wasmtime.Engine:
    """An engine in the deterministic profile."""
    config = wasmtime.Config()
    ffi.wasmtime_config_cranelift_nan_canonicalization_set(config.ptr(), True)
    ffi.wasmtime_config_wasm_relaxed_simd_deterministic_set(config.ptr(), True)
    return wasmtime.Engine(config)


@attrs.frozen
class Shown:
    """An instance of a program, to look at its memory."""

    store: wasmtime.Store
    exports: wasmtime.InstanceExports

    @classmethod
    def of(cls, engine: wasmtime.Engine, wasm: bytes) -> Shown:
        """A fresh instance."""
        store = wasmtime.Store(engine)
        return cls(store, wasmtime.Instance(store, wasmtime.Module(engine, wasm), []).exports(store))

    def after(self, name: str) -> bytes:
        """The results in memory after a call of the function, with "trap" if it ended so."""
        function, memory = self.exports[name], self.exports["memory"]
        assert isinstance(function, wasmtime.Func)
        assert isinstance(memory, wasmtime.Memory)
        ended = b""
        try:
            function(self.store)
        except wasmtime.Trap:
            ended = b"trap"
        return bytes(memory.read(self.store, 0, MEMORY)) + ended


class Random:
    """A random program: floats and vectors through locals, blocks, loops, calls, globals and memory."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.rows = {letter: [row for row in instructions() if row.results == letter] for letter in "fFv"}
        for rows in self.rows.values():
            rows[:] = [row for row in rows if "a" not in str(row.params) and "relaxed" not in row.mnemonic]
        self.labels: list[str] = []
        self.counters = 0

    def text(self) -> str:
        """The module; its function `run` ends with all its locals in memory."""
        body = " ".join(self.statement(3) for _ in range(self.chance.randint(4, 9)))
        counters = " ".join(f"(local $n{number} i32)" for number in range(self.counters))
        kept = " ".join(
            f"({TYPES[letter]}.store (i32.const {OUT + 16 * place}) (local.get ${letter}{number}))"
            for place, (letter, number) in enumerate(itertools.product("fFv", range(3)))
        )
        given = " ".join(f"(local.set ${letter}0 {self.load(letter)})" for letter in "fFv")
        helpers = " ".join(
            f"(func ${letter}id (param $x {TYPES[letter]}) (result {TYPES[letter]}) (local.get $x))"
            f"(func ${letter}sum (param $x {TYPES[letter]}) (param $y {TYPES[letter]}) (result {TYPES[letter]})"
            f" ({_TIMES[letter]} (local.get $x) (local.get $y)))"
            f"(global ${letter}g (mut {TYPES[letter]}) {_ONE[letter]})"
            for letter in "fFv"
        )
        locals_ = " ".join(
            f"(local ${letter}{number} {TYPES[letter]})" for letter, number in itertools.product("fFv", range(3))
        )
        return module(f'{helpers} (func (export "run") {locals_} {counters} {given} {body} {kept})')

    def load(self, letter: str) -> str:
        """An operand of the program."""
        return f"({TYPES[letter]}.load (i32.const {8 * self.chance.randrange(2 * COUNT - 1)}))"

    def local(self, letter: str) -> str:
        return f"${letter}{self.chance.randrange(3)}"

    def condition(self) -> str:
        letter = self.chance.choice("fF")
        compare = self.chance.choice(["lt", "ge", "eq", "ne"])
        return f"({TYPES[letter]}.{compare} {self.value(letter, 1)} {self.value(letter, 1)})"

    def value(self, letter: str, depth: int) -> str:
        """An expression."""
        if depth <= 0 or self.chance.random() < 0.2:
            return self.chance.choice([self.load(letter), *[f"(local.get {self.local(letter)})"] * 3, _ONE[letter]])
        kind, valtype = self.chance.random(), TYPES[letter]
        if kind < 0.6:
            row = self.chance.choice(self.rows[letter])
            operands = [self.integer(each) if each in "iI" else self.value(each, depth - 1) for each in str(row.params)]
            return f"({row.mnemonic}{_IMMEDIATES.get(row.imm, '')} {' '.join(operands)})"
        one, other = self.value(letter, depth - 1), self.value(letter, depth - 1)
        if kind < 0.7:
            return f"(select {one} {other} {self.condition()})"
        if kind < 0.76:
            return f"(if (result {valtype}) {self.condition()} (then {one}) (else {other}))"
        if kind < 0.82:
            return f"(block $v (result {valtype}) (br_if $v {one} {self.condition()}) drop {other})"
        if kind < 0.88:
            return f"(local.tee {self.local(letter)} {one})"
        if kind < 0.92:
            return f"(call ${letter}id {one})"
        if kind < 0.96:
            return f"(call ${letter}sum {one} {other})"
        return f"(global.get ${letter}g)"

    def integer(self, letter: str) -> str:
        return f"({TYPES[letter]}.const {self.chance.randrange(100)})"

    def statement(self, depth: int) -> str:
        letter, kind = self.chance.choice("fFv"), self.chance.random()
        if kind < 0.45 or depth <= 0:
            return f"(local.set {self.local(letter)} {self.value(letter, 3)})"
        if kind < 0.55:
            place = OUT + 256 + 8 * self.chance.randrange(64)
            return f"({TYPES[letter]}.store (i32.const {place}) {self.value(letter, 2)})"
        if kind < 0.6:
            return f"(global.set ${letter}g {self.value(letter, 2)})"
        inner = " ".join(self.statement(depth - 1) for _ in range(self.chance.randint(1, 4)))
        if kind < 0.7:
            other = self.statement(depth - 1)
            return f"(if {self.condition()} (then {inner}) (else {other}))"
        if kind < 0.85:
            number, self.counters = self.counters, self.counters + 1
            counter = f"$n{number}"
            more = f"(i32.lt_u (local.tee {counter} (i32.add (local.get {counter}) (i32.const 1))) (i32.const 3))"
            return f"(local.set {counter} (i32.const 0)) (loop $l {inner} (br_if $l {more}))"
        return f"(block $b {inner} (br_if $b {self.condition()}) {self.statement(depth - 1)})"
