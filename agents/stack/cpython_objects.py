"""Objects of CPython 3.12 in frozen memory, as text.

The layout is that of 32-bit builds without debugging: an object begins with its reference count and the address of its
type; a type has its name, and flags that say of which basic type its objects are.

Invariant: whatever the memory holds, `shown` comes back with a bounded text, and reads a bounded part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agents.errors import Unreadable

from .memory import MAX_READ_BYTES, FrozenMemory
from .values import ELIDED, MAX_DEPTH, MAX_ITEMS, SHOWN_BYTES, cut, listed, quoted

MAX_SLOTS = 4096  # of one dictionary or set that are looked at
MAX_DIGITS = 32  # of 30 bits in an integer
MAX_NAME = 256  # bytes of the name of a type
# Flags of types: whose objects keep their attributes before them, that are classes of a program, and of basic types.
_MANAGED, _HEAP = 1 << 4, 1 << 9
_INT, _LIST, _TUPLE, _BYTES, _STR, _DICT, _ERROR, _TYPE = (1 << bit for bit in range(24, 32))
_FLAGS, _NAME, _CACHED_KEYS = 84, 12, 440  # offsets in types
_HIDDEN = ("function", "builtin_function_or_method", "module", "type")


class Objects:
    """The objects in one memory."""

    def __init__(self, memory: FrozenMemory) -> None:
        self.memory = memory

    def kind(self, value: int) -> tuple[str, int, int]:
        """Name, flags and address of an object's type. Raises `Unreadable`."""
        kind = self.memory.u32(value + 4)
        if not self.memory.u32(self.memory.u32(kind + 4) + _FLAGS) & _TYPE:
            raise Unreadable("an object without a type")
        return self._type_name(kind), self.memory.u32(kind + _FLAGS), kind

    def _type_name(self, kind: int) -> str:
        address = self.memory.u32(kind + _NAME)
        size = min(MAX_NAME, self.memory.size - address)
        text, _, _ = self.memory.read(address, max(size, 0)).partition(b"\0")
        return text.decode("utf-8", "replace").rpartition(".")[2]

    def string(self, value: int) -> str:
        """A whole text of at most `MAX_READ_BYTES`. Raises `Unreadable` for another object."""
        if not self.kind(value)[1] & _STR:
            raise Unreadable("no text")
        text, size = self._characters(value, MAX_READ_BYTES // 4)
        if len(text) < size:
            raise Unreadable("a text that is too long")
        return text

    def _characters(self, value: int, most: int) -> tuple[str, int]:
        """The beginning of a text, and the number of its characters."""
        size, _, state = self.memory.words(value + 8, 3)
        width, plain = state >> 2 & 7, state >> 6 & 1
        if width not in (1, 2, 4) or not state >> 5 & 1:
            raise Unreadable("a text of an unknown kind")
        data = self.memory.read(value + (20 if plain else 28), width * min(size, most))
        return data.decode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width], "replace"), size

    def items(self, value: int) -> tuple[int, int]:
        """Address and number of the items of a tuple. Raises `Unreadable`."""
        if not self.kind(value)[1] & _TUPLE:
            raise Unreadable("no tuple")
        return value + 12, self.memory.u32(value + 8)

    def contents(self, value: int) -> tuple[int, int]:
        """Address and size of a bytes object's contents. Raises `Unreadable`."""
        if not self.kind(value)[1] & _BYTES:
            raise Unreadable("no bytes")
        return value + 16, self.memory.u32(value + 8)

    def unboxed(self, value: int) -> int:
        """What a cell holds. Raises `Unreadable`."""
        return self.memory.u32(value + 8) if value and self.kind(value)[0] == "cell" else value

    def is_data(self, value: int) -> bool:
        """Whether it is something else than a function, a class or a module. Raises `Unreadable`."""
        name, flags, _ = self.kind(value)
        return not flags & _TYPE and name not in _HIDDEN

    def entries(self, value: int) -> Iterator[tuple[int, int]]:
        """The items of a dictionary. Raises `Unreadable`."""
        if not self.kind(value)[1] & _DICT:
            raise Unreadable("no dictionary")
        keys, values = self.memory.words(value + 24, 2)
        yield from self._entries(keys, values)

    def _entries(self, keys: int, values: int) -> Iterator[tuple[int, int]]:
        sizes = self.memory.read(keys + 5, 2)
        count = self.memory.u32(keys + 16)
        width, lead = (3, 1) if sizes[1] == 0 else (2, 0)
        if sizes[0] > 28:
            raise Unreadable("a dictionary of an unknown size")
        first = keys + 20 + (1 << sizes[0])
        for place in range(min(count, MAX_SLOTS)):
            key, value = self.memory.words(first + 4 * (width * place + lead), 2)
            if values:
                value = self.memory.u32(values + 4 * place)
            if key and value:
                yield key, value

    # --- texts ---

    def shown(self, value: int) -> str:
        """A value as text, whatever it is."""
        try:
            return cut(self._text(value, MAX_DEPTH))
        except Unreadable:
            return ELIDED

    def _text(self, value: int, depth: int) -> str:
        name, flags, kind = self.kind(value)
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if not flags & _HEAP and name in _KNOWN:
            return _KNOWN[name](self, value, depth)
        if flags & _TYPE:
            return f"<class {self._type_name(value)!r}>"
        if flags & _ERROR:
            first, count = self.items(self.memory.u32(value + 12))
            return self._listed(first, count, depth, f"{name}(", ")")
        if name == "function":
            return f"<function {self.string(self.memory.u32(value + 20))}>"
        if name == "module":
            return self._module(value)
        return self._instance(name, flags, kind, value, depth)

    def _listed(self, address: int, count: int, depth: int, before: str, after: str) -> str:
        if depth == 0:
            return f"{before}{ELIDED}{after}" if count else before + after
        values = self.memory.words(address, min(count, MAX_ITEMS))
        return listed([self._text(each, depth - 1) for each in values], count, before, after)

    def _int(self, value: int, _: int) -> str:
        tag = self.memory.u32(value + 8)
        count, sign = tag >> 3, "-" if tag & 3 == 2 else ""
        if count > MAX_DIGITS:
            return f"{sign}{ELIDED} ({30 * count} bits)"
        digits = self.memory.words(value + 12, count)
        return f"{sign}{sum(digit << 30 * place for place, digit in enumerate(digits))}"

    def _bool(self, value: int, _: int) -> str:
        return str(bool(self.memory.u32(value + 8) >> 3))

    def _float(self, value: int, _: int) -> str:
        return str(self.memory.f64(value + 8))

    def _str(self, value: int, _: int) -> str:
        start, size = self._characters(value, SHOWN_BYTES)
        return quoted(start, size, "characters")

    def _bytes(self, value: int, _: int) -> str:
        address, size = self.contents(value)
        return quoted(self.memory.read(address, min(size, SHOWN_BYTES)), size, "bytes")

    def _bytearray(self, value: int, _: int) -> str:
        size, _, _, start = self.memory.words(value + 8, 4)
        return quoted(bytearray(self.memory.read(start, min(size, SHOWN_BYTES))), size, "bytes")

    def _tuple(self, value: int, depth: int) -> str:
        first, count = self.items(value)
        return self._listed(first, count, depth, "(", ",)" if count == 1 else ")")

    def _list(self, value: int, depth: int) -> str:
        count, first = self.memory.words(value + 8, 2)
        return self._listed(first, count, depth, "[", "]")

    def _dict(self, value: int, depth: int) -> str:
        count = self.memory.u32(value + 8)
        shown = []
        for _, (key, each) in zip(range(MAX_ITEMS if depth else 0), self.entries(value), strict=False):
            shown.append(f"{self._text(key, depth - 1)}: {self._text(each, depth - 1)}")
        return listed(shown, max(count, len(shown)), "{", "}")

    def _set(self, value: int, depth: int) -> str:
        _, count, mask, table = self.memory.words(value + 8, 4)
        members: list[str] = []
        for slot in range(min(mask + 1, MAX_SLOTS)):
            if len(members) == min(count, MAX_ITEMS) or depth == 0:
                break
            member, hashed = self.memory.words(table + 8 * slot, 2)
            if member and hashed != 0xFFFFFFFF:
                members.append(self._text(member, depth - 1))
        return listed(members, max(count, len(members)), "{", "}") if count else "set()"

    def _range(self, value: int, depth: int) -> str:
        start, stop, step = (self._text(each, 0) for each in self.memory.words(value + 8, 3))
        return f"range({start}, {stop})" if step == "1" else f"range({start}, {stop}, {step})"

    def _module(self, value: int) -> str:
        for key, each in self.entries(self.memory.u32(value + 8)):
            if self._text(key, 0) == "'__name__'":
                return f"<module {self._text(each, 0)}>"
        return "<module>"

    def _instance(self, name: str, flags: int, kind: int, value: int, depth: int) -> str:
        if not flags & _HEAP or not flags & _MANAGED or not depth:
            return f"<{name} object>"
        held = self.memory.u32(value - 12)
        if held & 1:
            found = self._entries(self.memory.u32(kind + _CACHED_KEYS), held + 1)
        elif held:
            found = self.entries(held)
        else:
            return f"<{name} object>"
        shown, count = [], 0
        for key, each in found:
            count += 1
            if count <= MAX_ITEMS:
                shown.append(f"{self.string(key)}={self._text(each, depth - 1)}")
        return listed(shown, count, f"<{name} ", ">") if count else f"<{name} object>"


_CONSTANTS = {"NoneType": "None", "ellipsis": "Ellipsis", "NotImplementedType": "NotImplemented"}
_KNOWN: dict[str, Callable[[Objects, int, int], str]] = {
    "int": Objects._int,
    "bool": Objects._bool,
    "float": Objects._float,
    "str": Objects._str,
    "bytes": Objects._bytes,
    "bytearray": Objects._bytearray,
    "tuple": Objects._tuple,
    "list": Objects._list,
    "dict": Objects._dict,
    "set": Objects._set,
    "frozenset": Objects._set,
    "range": Objects._range,
}
