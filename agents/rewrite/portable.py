"""The machinery for engines with one memory and no exceptions, with the interface of the standard one.

Frames are *saved* into the agent's own memory, over its contents: the host copies the memory before it lets the agent
unwind, then reads the frames out of ``[0, top)`` and restores the bytes. No agent code runs in between. Frames are
*loaded* from private globals, since by then the agent runs again and needs its memory: before each call of
``portcall.step`` the host fills ``portcall.slot.K`` with the frame's values as 8-byte words, and ``portcall.result.K``
with the results that the frame's site waits for; the frame leaves its own results there. The host is the driver.

There is no poll flag that another thread could write, so this profile has no polls.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.rewrite.additions import LETTER_TYPES, Additions
from agents.rewrite.machinery import HEADER_BYTES, Machinery, frame_width
from agents.wasm import opcodes as op
from agents.wasm.syntax import F32, F64, I32, I64, V128, Instr, ValType


class PortableMachinery(Machinery):
    """Loads through globals, saves into the agent's memory, is driven by the host."""

    def __init__(self, additions: Additions, memory: int) -> None:
        super().__init__(additions, memory, throws=False, base=0)
        self.site_global = additions.add_global(I32)
        self.slots: list[int] = []
        self.results: list[int] = []

    def site(self) -> int:
        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            return (), [self.add.instr(op.GLOBAL_GET, self.site_global)]

        return self.add.helper("portcall.site", (), (I32,), build, resumed=True)

    def load(self, values: str, extra: int) -> int:
        return self._load_words("portcall.load", values, 0)

    def load_more(self, values: str, extra: int, offset: int) -> int:
        return self._load_words("portcall.load_more", values, (offset - HEADER_BYTES) // 8)

    def _load_words(self, name: str, values: str, first: int) -> int:
        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            body: list[Instr] = []
            word = first
            for letter in values:
                body += self._from_words(letter, self.slots, word)
                word += frame_width(letter) // 8
            return (), body

        return self.add.helper(f"{name}.{values}.{first}", (), [LETTER_TYPES[x] for x in values], build, resumed=True)

    def take(self, letter: str, slot: int) -> int:
        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            return (), self._from_words(letter, self.results, 2 * slot)

        return self.add.helper(f"portcall.take.{letter}.{slot}", (), (LETTER_TYPES[letter],), build, resumed=True)

    def put(self, results: str) -> int:
        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            body: list[Instr] = []
            for slot, letter in enumerate(results):
                if letter == "v":
                    for lane in (0, 1):
                        word = self._word(self.results, 2 * slot + lane)
                        body += [
                            i(op.LOCAL_GET, slot),
                            i(op.I64X2_EXTRACT_LANE, lane),
                            i(op.GLOBAL_SET, word),
                        ]
                    continue
                body.append(i(op.LOCAL_GET, slot))
                if letter == "f":
                    body.append(i(op.I32_REINTERPRET_F32))
                if letter in "if":
                    body.append(i(op.I64_EXTEND_I32_U))
                if letter == "F":
                    body.append(i(op.I64_REINTERPRET_F64))
                body.append(i(op.GLOBAL_SET, self._word(self.results, 2 * slot)))
            return (), body

        return self.add.helper(f"portcall.put.{results}", [LETTER_TYPES[x] for x in results], (), build, resumed=True)

    def driver(self, copies: int) -> int:
        """``portcall.step``: continue one function; the host has filled the globals."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            return (), [
                *[i(op.I32_CONST, 0), i(op.GLOBAL_SET, self.state)],
                *[i(op.LOCAL_GET, 0), i(op.CALL, self.dispatch(0, copies))],
            ]

        return self.add.helper("portcall.step", (I32,), (), build, resumed=True)

    def _reserve(self) -> int:
        """``(size) -> old top``: growing the agent's memory would be visible to it, so too deep a stack traps."""

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            i = self.add.instr
            return (), [
                *[i(op.GLOBAL_GET, self.top), i(op.LOCAL_GET, 0), i(op.I32_ADD), i(op.I64_EXTEND_I32_U)],
                *[i(op.MEMORY_SIZE, self.memory), i(op.I64_EXTEND_I32_U), i(op.I64_CONST, 16), i(op.I64_SHL)],
                *[i(op.I64_GT_U), i(op.IF, None), i(op.UNREACHABLE), i(op.END)],
                i(op.GLOBAL_GET, self.top),
                *[i(op.GLOBAL_GET, self.top), i(op.LOCAL_GET, 0), i(op.I32_ADD), i(op.GLOBAL_SET, self.top)],
            ]

        return self.add.helper("portcall.reserve", (I32,), (I32,), build)

    def _from_words(self, letter: str, words: list[int], first: int) -> list[Instr]:
        i = self.add.instr
        low = i(op.GLOBAL_GET, self._word(words, first))
        if letter == "v":
            high = i(op.GLOBAL_GET, self._word(words, first + 1))
            return [low, i(op.I64X2_SPLAT), high, i(op.I64X2_REPLACE_LANE, 1)]
        conversion: dict[ValType, list[Instr]] = {
            I32: [i(op.I32_WRAP_I64)],
            I64: [],
            F32: [i(op.I32_WRAP_I64), i(op.F32_REINTERPRET_I32)],
            F64: [i(op.F64_REINTERPRET_I64)],
            V128: [],
        }
        return [low, *conversion[LETTER_TYPES[letter]]]

    def _word(self, words: list[int], position: int) -> int:
        while len(words) <= position:
            words.append(self.add.add_global(I64))
        return words[position]
