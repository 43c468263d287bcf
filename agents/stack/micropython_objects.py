"""Objects of MicroPython in frozen memory, as text.

The layout is that of 32-bit builds with objects in representation A: a word is a small integer if its last bit is set,
an interned string if the last three are 010, None, False or True if they are 110, else the address of an object. An
object begins with the address of its type, and types carry their names, so only the few addresses in `Build` depend
on the build.

Invariant: whatever the memory holds, `text` comes back with a bounded text, and reads a bounded part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import attrs

from agents.brief import brief
from agents.errors import Unreadable

from .memory import FrozenMemory
from .values import ELIDED, MAX_DEPTH, MAX_ITEMS, SHOWN_BYTES, cut, listed, quoted

NULL, SENTINEL, NONE, FALSE, TRUE = 0, 4, 6, 14, 30
MAX_POOLS = 64  # of interned strings
MAX_SLOTS = 4096  # of one map that are looked at
MAX_DIGITS = 64  # of 16 bits in an integer
# Flags of types: of those whose objects are functions, and of classes of the program.
_BINDS, _INSTANCE = 0x20, 0x200
_ERROR = re.compile(r"\w*(Error|Exception|Exit|Interrupt|Iteration)")


@attrs.frozen
class Build:
    """What is where in one build of the interpreter.

    vm: the function that executes bytecode; its first local is the address of the state of a Python function
    strings: the address of the pointer to the last pool of interned strings
    types: address of the type `type`, of which all types are
    functions: addresses of the types of functions and of generator functions in bytecode
    cell: address of the type of variables that are shared with inner functions
    static: the addresses of the types that the interpreter has inside
    """

    vm: int
    strings: int
    types: int
    functions: tuple[int, int] = attrs.field(repr=brief)
    cell: int
    static: range


class Objects:
    """The objects in one memory."""

    def __init__(self, memory: FrozenMemory, build: Build) -> None:
        """Raises `Unreadable` if there are no strings as this build keeps them."""
        self.memory, self.build = memory, build
        self._pools = list(self._read_pools())
        if memory.u32(build.types) != build.types:
            raise Unreadable("no type at its place")

    def _read_pools(self) -> Iterator[tuple[int, int, int, int]]:
        """(first string, number of strings, their lengths, their addresses) of each pool, the newest first."""
        pool = self.memory.u32(self.build.strings)
        for _ in range(MAX_POOLS):
            if not pool:
                return
            before, head, _, count, _, lengths = self.memory.words(pool, 6)
            yield head & 0x7FFFFFFF, count, lengths, pool + 24
            pool = before
        raise Unreadable(f"more than {MAX_POOLS} pools of strings")

    def string(self, number: int) -> str:
        """An interned string. Raises `Unreadable` if there is none of this number."""
        for first, count, lengths, addresses in self._pools:
            if first <= number < first + count:
                place = number - first
                size = self.memory.u8(lengths + place)
                return self.memory.read(self.memory.u32(addresses + 4 * place), size).decode("utf-8", "replace")
        raise Unreadable(f"no string {number}")

    # --- maps ---

    def entries(self, address: int) -> Iterator[tuple[int, int]]:
        """The items of the map at `address`. Raises `Unreadable`."""
        _, slots, table = self.memory.words(address, 3)
        for slot in range(min(slots, MAX_SLOTS)):
            key, value = self.memory.words(table + 8 * slot, 2)
            if key not in (NULL, SENTINEL):
                yield key, value

    def named(self, address: int) -> Iterator[tuple[str, int]]:
        """The items of a map that have an interned string as key."""
        for key, value in self.entries(address):
            if key & 7 == 2:
                yield self.string(key >> 3), value

    # --- texts ---

    def shown(self, value: int) -> str:
        """A value as text, whatever it is."""
        try:
            return cut(self._text(value, MAX_DEPTH))
        except Unreadable:
            return ELIDED

    def is_data(self, value: int) -> bool:
        """Whether it is something else than a function, a class or a module. Raises `Unreadable`."""
        if value & 3:
            return True
        kind = self.memory.u32(value)
        function = self.memory.u16(kind + 4) & _BINDS
        return not (self._inside(kind) and (function or self._name_of_type(kind) in ("type", "module")))

    def unboxed(self, value: int) -> int:
        """What a cell holds; another value as it is. Raises `Unreadable`."""
        if value & 3 == 0 and value and self.memory.u32(value) == self.build.cell:
            return self.memory.u32(value + 4)
        return value

    def _inside(self, kind: int) -> bool:
        return kind in self.build.static

    def _name_of_type(self, kind: int) -> str:
        if self.memory.u32(kind) != self.build.types:
            raise Unreadable("an object without a type")
        return self.string(self.memory.u16(kind + 6))

    def _text(self, value: int, depth: int) -> str:
        if value & 1:
            return str((value - (value >> 31 << 32)) >> 1)
        if value & 7 == 2:
            return repr(self.string(value >> 3))
        if value & 7 == 6:
            return {NONE: "None", FALSE: "False", TRUE: "True"}.get(value, ELIDED)
        if value == NULL:
            return ELIDED
        kind = self.memory.u32(value)
        name = self._name_of_type(kind)
        if self._inside(kind):
            known = _KNOWN.get(name)
            if known is not None:
                return known(self, value, depth)
            if _ERROR.fullmatch(name):
                return self._exception(name, value, depth)
        elif self.memory.u16(kind + 4) & _INSTANCE:
            return self._instance(name, value, depth)
        return f"<{name} object>"

    def _items(self, address: int, count: int, depth: int, before: str, after: str) -> str:
        if depth == 0:
            return f"{before}{ELIDED}{after}" if count else before + after
        values = self.memory.words(address, min(count, MAX_ITEMS))
        return listed([self._text(each, depth - 1) for each in values], count, before, after)

    def _mapping(self, address: int, depth: int, join: str) -> tuple[list[str], int]:
        """The first items of a map, and how many it has."""
        used = self.memory.u32(address) >> 3
        if depth == 0:
            return [], used
        shown = []
        for _, (key, value) in zip(range(MAX_ITEMS), self.entries(address), strict=False):
            name = self.string(key >> 3) if join == "=" and key & 7 == 2 else self._text(key, depth - 1)
            shown.append(f"{name}{join}{self._text(value, depth - 1)}")
        return shown, max(used, len(shown))

    def _int(self, value: int, _: int) -> str:
        head, count, digits = self.memory.words(value + 4, 3)
        if count > MAX_DIGITS:
            return f"{'-' if head & 1 else ''}{ELIDED} ({16 * count} bits)"
        number = int.from_bytes(self.memory.read(digits, 2 * count), "little")
        return str(-number if head & 1 else number)

    def _float(self, value: int, _: int) -> str:
        return str(self.memory.f64(value + 8))

    def _bytes_at(self, address: int, size: int) -> bytes:
        return self.memory.read(address, min(size, SHOWN_BYTES))

    def _str(self, value: int, _: int) -> str:
        size, address = self.memory.words(value + 8, 2)
        if size > SHOWN_BYTES:
            return quoted(self._bytes_at(address, size).decode("utf-8", "ignore"), size, "bytes")
        start = self._bytes_at(address, size).decode("utf-8", "replace")
        return quoted(start, len(start), "characters")

    def _bytes(self, value: int, _: int) -> str:
        size, address = self.memory.words(value + 8, 2)
        return quoted(self._bytes_at(address, size), size, "bytes")

    def _bytearray(self, value: int, _: int) -> str:
        size, address = self.memory.words(value + 8, 2)
        return quoted(bytearray(self._bytes_at(address, size)), size, "bytes")

    def _tuple(self, value: int, depth: int) -> str:
        count = self.memory.u32(value + 4)
        return self._items(value + 8, count, depth, "(", ",)" if count == 1 else ")")

    def _list(self, value: int, depth: int) -> str:
        count, address = self.memory.words(value + 8, 2)
        return self._items(address, count, depth, "[", "]")

    def _dict(self, value: int, depth: int) -> str:
        return listed(*self._mapping(value + 4, depth, ": "), "{", "}")

    def _set(self, value: int, depth: int) -> str:
        slots, used, table = self.memory.words(value + 4, 3)
        if not used:
            return "set()"
        members: list[str] = []
        for slot in range(min(slots, MAX_SLOTS)):
            if len(members) == MAX_ITEMS or depth == 0:
                break
            member = self.memory.u32(table + 4 * slot)
            if member not in (NULL, SENTINEL):
                members.append(self._text(member, depth - 1))
        return listed(members, max(used, len(members)), "{", "}")

    def _range(self, value: int, _: int) -> str:
        start, stop, step = (self._text(each << 1 | 1, 0) for each in self.memory.words(value + 4, 3))
        return f"range({start}, {stop})" if step == "1" else f"range({start}, {stop}, {step})"

    def _type(self, value: int, _: int) -> str:
        return f"<class {self._name_of_type(value)!r}>"

    def _module(self, value: int, _: int) -> str:
        for name, each in self.named(self.memory.u32(value + 4) + 4):
            if name == "__name__":
                return f"<module {self._text(each, 0)}>"
        return "<module>"

    def _exception(self, name: str, value: int, depth: int) -> str:
        arguments = self.memory.u32(value + 12)
        if arguments & 3 or self._name_of_type(self.memory.u32(arguments)) != "tuple":
            return f"{name}()"
        return self._items(arguments + 8, self.memory.u32(arguments + 4), depth, f"{name}(", ")")

    def _instance(self, name: str, value: int, depth: int) -> str:
        attributes, count = self._mapping(value + 4, depth, "=")
        return listed(attributes, count, f"<{name} ", ">") if count else f"<{name} object>"


_KNOWN: dict[str, Callable[[Objects, int, int], str]] = {
    "int": Objects._int,
    "float": Objects._float,
    "str": Objects._str,
    "bytes": Objects._bytes,
    "bytearray": Objects._bytearray,
    "tuple": Objects._tuple,
    "list": Objects._list,
    "dict": Objects._dict,
    "OrderedDict": Objects._dict,
    "set": Objects._set,
    "frozenset": Objects._set,
    "range": Objects._range,
    "type": Objects._type,
    "module": Objects._module,
}
