"""The machinery that both copies of a function call: the code that saves, loads and transfers.

Everything here is cold: it runs when an agent suspends or resumes. One helper serves all places with the same types,
which keeps the arms in the agent's functions small. This module is the *standard* profile, with frames in a memory of
their own; :mod:`agents.rewrite.portable` has the same interface for engines with one memory.

Layout of the frames memory: the poll flag at 0; the transfer area from 16, 16 bytes per slot, with the results of the
call that the innermost site waits for; then the frames, from ``base``. A frame: resume index, site, size in bytes,
flags (four u32), then its values, 8 bytes each, 16 for v128. The continuation is ``[bottom, top)``, innermost first.

Space is checked before a store (deep recursion must not trap), and an unwinding appends behind ``top``; the driver then
moves the new frames before those that still wait, so that the host always sees a canonical list.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.rewrite import exceptions
from agents.rewrite.additions import COPIES, LETTER_TYPES, Additions
from agents.wasm import opcodes as op
from agents.wasm.bounds import WASM_PAGE_BYTES
from agents.wasm.syntax import EXNREF, F32, F64, I32, I64, V128, Catch, Instr, ValType

TRANSFER_BYTES = 16
SLOT_BYTES = 16
HEADER_BYTES = 16
#: How many ways one `br_table` of the driver has: blocks nest so deep.
FAN = 256
_WIDTHS = {"i": 8, "I": 8, "f": 8, "F": 8, "v": 16, "x": exceptions.EXNREF_BYTES}

_STORE: dict[ValType, int] = {
    I32: op.I32_STORE,
    I64: op.I64_STORE,
    F32: op.F32_STORE,
    F64: op.F64_STORE,
    V128: op.V128_STORE,
}
_LOAD: dict[ValType, int] = {I32: op.I32_LOAD, I64: op.I64_LOAD, F32: op.F32_LOAD, F64: op.F64_LOAD, V128: op.V128_LOAD}


def frame_width(letter: str) -> int:
    """Bytes that a value of the type ``letter`` takes in a frame."""
    return _WIDTHS[letter]


class Machinery:
    """Returns the index of each helper, which it adds on first use."""

    def __init__(self, additions: Additions, memory: int, throws: bool, base: int) -> None:
        self.add = additions
        self.memory = memory
        self.base = base
        self.state = additions.add_global(I32)
        self.bottom = additions.add_global(I32, initial=base)
        self.top = additions.add_global(I32, initial=base)
        self.exception = additions.add_global(EXNREF) if throws else None

    # --- called by the fast and resume copies ---------------------------------------------------------------

    def poll(self) -> list[Instr]:
        """Push a nonzero value if the station wants the agent to leave."""
        i = self.add.instr
        return [i(op.I32_CONST, 0), i(op.I32_LOAD, self.add.memarg(0, self.memory, 2))]

    def save(self, below: str, carried: str, live: str, extra: int) -> int:
        """``(below.. carried.. site live.. function) -> ()``: push a frame with ``extra`` more bytes after these."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            site = len(below) + len(carried)
            function = site + 1 + len(live)
            frame = function + 1
            size = HEADER_BYTES + sum(map(frame_width, below + live)) + extra
            body = [
                i(op.LOCAL_GET, function),
                i(op.LOCAL_GET, site),
                i(op.I32_CONST, size),
                i(op.CALL, self._begin()),
                i(op.LOCAL_SET, frame),
            ]
            offset = HEADER_BYTES
            for position, letter in [*enumerate(below), *enumerate(live, site + 1)]:
                body += self._store_from(frame, position, letter, offset)
                offset += frame_width(letter)
            return (I32,), body

        params = [LETTER_TYPES[letter] for letter in below + carried + "i" + live + "i"]
        name = f"portcall.save.{below}.{carried}.{live}.{extra}"
        return self.add.helper(name, params, (), build)

    def save_more(self, live: str, extra: int) -> int:
        """``(live..) -> ()``: fill the frame just pushed with values that ``extra`` more bytes follow."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            place = len(live)
            body = [
                i(op.GLOBAL_GET, self.top),
                i(op.I32_CONST, sum(map(frame_width, live)) + extra),
                i(op.I32_SUB),
                i(op.LOCAL_SET, place),
            ]
            offset = 0
            for position, letter in enumerate(live):
                body += self._store_from(place, position, letter, offset)
                offset += frame_width(letter)
            return (I32,), body

        return self.add.helper(f"portcall.save_more.{live}.{extra}", [LETTER_TYPES[x] for x in live], (), build)

    def site(self) -> int:
        """``() -> i32``: the site of the innermost frame."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            return (), [i(op.GLOBAL_GET, self.bottom), self._load("i", 4)]

        return self.add.helper("portcall.site", (), (I32,), build, resumed=True)

    def load(self, values: str, extra: int) -> int:
        """``() -> (values..)``: pop the innermost frame; ``extra`` more bytes of it can still be read."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            size = HEADER_BYTES + sum(map(frame_width, values)) + extra
            body = [
                i(op.GLOBAL_GET, self.bottom),
                i(op.LOCAL_TEE, 0),
                i(op.I32_CONST, size),
                i(op.I32_ADD),
                i(op.GLOBAL_SET, self.bottom),
            ]
            return (I32,), body + self._loads(values, HEADER_BYTES)

        return self.add.helper(
            f"portcall.load.{values}.{extra}", (), [LETTER_TYPES[x] for x in values], build, resumed=True
        )

    def load_more(self, values: str, extra: int, offset: int) -> int:
        """``() -> (values..)``: further values of the frame just popped; ``extra`` bytes follow them."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            size = sum(map(frame_width, values)) + extra
            body = [i(op.GLOBAL_GET, self.bottom), i(op.I32_CONST, size), i(op.I32_SUB), i(op.LOCAL_SET, 0)]
            return (I32,), body + self._loads(values, 0)

        return self.add.helper(
            f"portcall.load_more.{values}.{extra}", (), [LETTER_TYPES[x] for x in values], build, resumed=True
        )

    def take(self, letter: str, slot: int) -> int:
        """``() -> value``: the ``slot``-th result of the call that a site waited for."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            return (), [self.add.instr(op.I32_CONST, 0), self._load(letter, TRANSFER_BYTES + SLOT_BYTES * slot)]

        return self.add.helper(f"portcall.take.{letter}.{slot}", (), (LETTER_TYPES[letter],), build, resumed=True)

    def put(self, results: str) -> int:
        """``(results..) -> ()``: store a function's results for the frame that waits for them."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            body: list[Instr] = []
            for slot, letter in enumerate(results):
                body += [
                    i(op.I32_CONST, 0),
                    i(op.LOCAL_GET, slot),
                    self._store(letter, TRANSFER_BYTES + SLOT_BYTES * slot),
                ]
            return (), body

        return self.add.helper(f"portcall.put.{results}", [LETTER_TYPES[x] for x in results], (), build, resumed=True)

    def rethrow(self) -> int:
        """``() -> ()``: throw the pending exception of an inner frame, if there is one."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            assert self.exception is not None
            i = self.add.instr
            return (EXNREF,), [
                i(op.GLOBAL_GET, self.exception),
                i(op.LOCAL_TEE, 0),
                i(op.REF_IS_NULL),
                i(op.IF, None),
                i(op.RETURN),
                i(op.END),
                i(op.REF_NULL, "exn"),
                i(op.GLOBAL_SET, self.exception),
                i(op.LOCAL_GET, 0),
                i(op.THROW_REF),
            ]

        return self.add.helper("portcall.rethrow", (), (), build, resumed=True)

    # --- the driver -----------------------------------------------------------------------------------------

    def driver(self, copies: int) -> int:
        """``portcall.resume``: run the waiting frames, innermost first, until none is left or one unwinds."""
        i = self.add.instr
        old, count = 0, 1
        frame_call = [
            i(op.GLOBAL_GET, self.bottom),
            self._load("i", 0),
            i(op.CALL, self.dispatch(0, copies)),
        ]

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            body = [i(op.I32_CONST, 0), i(op.GLOBAL_SET, self.state), i(op.LOOP, None)]
            body += [i(op.GLOBAL_GET, self.bottom), i(op.GLOBAL_GET, self.top), i(op.I32_EQ), i(op.IF, None)]
            body += [i(op.I32_CONST, self.base), i(op.GLOBAL_SET, self.bottom)]
            body += [i(op.I32_CONST, self.base), i(op.GLOBAL_SET, self.top)]
            if self.exception is not None:
                body.append(i(op.CALL, self.rethrow()))
            body += [i(op.RETURN), i(op.END)]
            if self.exception is not None:
                # A frame outside any try_table cannot catch: it is gone.
                body += [i(op.GLOBAL_GET, self.exception), i(op.REF_IS_NULL), i(op.I32_EQZ)]
                body += [i(op.GLOBAL_GET, self.bottom), self._load("i", 12), i(op.I32_EQZ), i(op.I32_AND)]
                body += [i(op.IF, None), i(op.GLOBAL_GET, self.bottom)]
                body += [i(op.GLOBAL_GET, self.bottom), self._load("i", 8), i(op.I32_ADD)]
                body += [i(op.GLOBAL_SET, self.bottom), i(op.BR, 1), i(op.END)]
            body += [i(op.GLOBAL_GET, self.top), i(op.LOCAL_SET, old)]
            if self.exception is None:
                body += frame_call
            else:
                body += [i(op.BLOCK, None), i(op.BLOCK, EXNREF)]
                body += [i(op.TRY_TABLE, (None, (Catch("catch_all_ref", None, 0),))), *frame_call, i(op.END)]
                body += [i(op.BR, 1), i(op.END), i(op.GLOBAL_SET, self.exception), i(op.END)]
            body += [i(op.GLOBAL_GET, self.state), i(op.I32_EQZ), i(op.BR_IF, 0), i(op.END)]
            return (I32, I32), body + self._canonicalise(old, count)

        return self.add.helper("portcall.resume", (), (), build, resumed=True)

    def _canonicalise(self, old: int, count: int) -> list[Instr]:
        """[bottom, old) still waits and [old, top) is new: make it one list, the new frames first."""
        i = self.add.instr
        copy = i(op.MEMORY_COPY, (self.memory, self.memory))
        body = [i(op.GLOBAL_GET, self.top), i(op.LOCAL_GET, old), i(op.I32_SUB), i(op.LOCAL_TEE, count)]
        body += [i(op.GLOBAL_GET, self.bottom), i(op.I32_CONST, self.base), i(op.I32_SUB), i(op.I32_LE_U)]
        # the new frames fit into the room that popped frames left
        body += [i(op.IF, None), i(op.GLOBAL_GET, self.bottom), i(op.LOCAL_GET, count), i(op.I32_SUB)]
        body += [i(op.GLOBAL_SET, self.bottom), i(op.GLOBAL_GET, self.bottom), i(op.LOCAL_GET, old)]
        body += [i(op.LOCAL_GET, count), copy, i(op.LOCAL_GET, old), i(op.GLOBAL_SET, self.top)]
        # else the waiting ones move behind the new ones
        body += [i(op.ELSE), i(op.LOCAL_GET, old), i(op.GLOBAL_GET, self.bottom), i(op.I32_SUB)]
        body += [i(op.LOCAL_SET, count), i(op.LOCAL_GET, count), i(op.CALL, self._reserve())]
        body += [i(op.GLOBAL_GET, self.bottom), i(op.LOCAL_GET, count), copy]
        body += [i(op.LOCAL_GET, old), i(op.GLOBAL_SET, self.bottom), i(op.END)]
        return body

    def dispatch(self, first: int, count: int) -> int:
        """``(n) -> ()``: call the resume copy ``first + n``, which is less than ``first + count``; else trap.

        By ``br_table`` and not through a table: an instance of the resume module then has nothing to be filled, and
        wasmer 1.1 calls into nowhere in a module that has an imported table and one of its own.
        """

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            step = 1
            while step * FAN < count:
                step *= FAN
            starts = range(0, count, step)
            body = [i(op.BLOCK, None)] * (len(starts) + 1)
            body += [i(op.LOCAL_GET, 0), i(op.I32_CONST, step), i(op.I32_DIV_U)]
            body.append(i(op.BR_TABLE, (tuple(range(len(starts))), len(starts))))
            for start in starts:
                body.append(i(op.END))
                if step == 1:
                    body.append(i(op.CALL, COPIES + first + start))
                else:
                    body += [i(op.LOCAL_GET, 0), i(op.I32_CONST, start), i(op.I32_SUB)]
                    body.append(i(op.CALL, self.dispatch(first + start, min(step, count - start))))
                body.append(i(op.RETURN))
            return (), [*body, i(op.END), i(op.UNREACHABLE)]

        return self.add.helper(f"portcall.dispatch.{first}.{count}", (I32,), (), build, resumed=True)

    # --- inside the machinery -------------------------------------------------------------------------------

    def _begin(self) -> int:
        """``(function, site, size) -> frame``: a new frame with its header; the state is now unwinding."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            frame = 3
            one = i(op.I32_CONST, 1)
            return (I32,), [
                *[one, i(op.GLOBAL_SET, self.state)],
                *[i(op.LOCAL_GET, 2), i(op.CALL, self._reserve()), i(op.LOCAL_SET, frame)],
                *[i(op.LOCAL_GET, frame), i(op.LOCAL_GET, 0), one, i(op.I32_SHR_U), self._store("i", 0)],
                *[i(op.LOCAL_GET, frame), i(op.LOCAL_GET, 1), self._store("i", 4)],
                *[i(op.LOCAL_GET, frame), i(op.LOCAL_GET, 2), self._store("i", 8)],
                *[i(op.LOCAL_GET, frame), i(op.LOCAL_GET, 0), one, i(op.I32_AND), self._store("i", 12)],
                i(op.LOCAL_GET, frame),
            ]

        return self.add.helper("portcall.begin", (I32, I32, I32), (I32,), build)

    def _reserve(self) -> int:
        """``(size) -> old top``: move ``top``, growing the frames memory; traps if it cannot grow."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            pages = i(op.MEMORY_SIZE, self.memory)
            shift = [i(op.I32_CONST, 16), i(op.I32_SHR_U)]
            return (I32,), [
                # pages needed, rounded up: (top + size + 65535) >> 16
                *[i(op.GLOBAL_GET, self.top), i(op.LOCAL_GET, 0), i(op.I32_ADD)],
                *[
                    i(op.I32_CONST, WASM_PAGE_BYTES - 1),
                    i(op.I32_ADD),
                    *shift,
                    i(op.LOCAL_TEE, 1),
                    pages,
                    i(op.I32_GT_U),
                ],
                i(op.IF, None),
                # double it, so that a deep stack grows in few steps; if that fails, just enough
                *[pages, i(op.MEMORY_GROW, self.memory), i(op.I32_CONST, -1), i(op.I32_EQ)],
                *[i(op.LOCAL_GET, 1), pages, i(op.I32_GT_U), i(op.I32_OR)],
                i(op.IF, None),
                *[i(op.LOCAL_GET, 1), pages, i(op.I32_SUB), i(op.MEMORY_GROW, self.memory)],
                *[i(op.I32_CONST, -1), i(op.I32_EQ), i(op.IF, None), i(op.UNREACHABLE), i(op.END)],
                i(op.END),
                i(op.END),
                i(op.GLOBAL_GET, self.top),
                *[i(op.GLOBAL_GET, self.top), i(op.LOCAL_GET, 0), i(op.I32_ADD), i(op.GLOBAL_SET, self.top)],
            ]

        return self.add.helper("portcall.reserve", (I32,), (I32,), build)

    def _store(self, letter: str, offset: int) -> Instr:
        return self.add.instr(_STORE[LETTER_TYPES[letter]], self.add.memarg(offset, self.memory))

    def _load(self, letter: str, offset: int) -> Instr:
        return self.add.instr(_LOAD[LETTER_TYPES[letter]], self.add.memarg(offset, self.memory))

    def _store_from(self, address: int, local: int, letter: str, offset: int) -> list[Instr]:
        """Store a local at the address that another local holds."""
        i = self.add.instr
        if letter == "x":
            helper = exceptions.save_exception(self.add, self._store)
            at = [i(op.LOCAL_GET, address), i(op.I32_CONST, offset), i(op.I32_ADD)]
            return [*at, i(op.LOCAL_GET, local), i(op.CALL, helper)]
        return [i(op.LOCAL_GET, address), i(op.LOCAL_GET, local), self._store(letter, offset)]

    def _loads(self, values: str, offset: int) -> list[Instr]:
        """Load consecutive values at the address in local 0."""
        i = self.add.instr
        body: list[Instr] = []
        for letter in values:
            body.append(i(op.LOCAL_GET, 0))
            if letter == "x":
                helper = exceptions.load_exception(self.add, self._load)
                body += [i(op.I32_CONST, offset), i(op.I32_ADD), i(op.CALL, helper)]
            else:
                body.append(self._load(letter, offset))
            offset += frame_width(letter)
        return body
