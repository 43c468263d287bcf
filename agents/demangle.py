"""Names of functions as people write them, from what compilers make of them for the linker.

Of Rust both ways (`_ZN...17h...E` and `_R...`), without the arguments of generic functions; of C++ what has the form of
the first. Names are input from elsewhere. Invariant: time and depth are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_CHARS = 4096  # of a name that is read
_MAX_DEPTH = 64  # of types and paths in one another
_MAX_STEPS = 2000
_LLVM = re.compile(r"\.llvm\.[0-9A-F]+$")  # what LLVM adds to the name of a function that it copies
_HASH = re.compile(r"h[0-9a-f]{16}")
_RENAMED = {"__original_main": "main"}  # by clang: a main that takes no arguments
_ESCAPES = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}
_ESCAPE = re.compile(r"\$([A-Z]+|u[0-9a-f]+)\$|\.\.")
_NAMED = "ai8 bbool cchar df64 estr ff32 hu8 iisize jusize li32 mu32 ni128 ou128 p_ si16 tu16 u() v... xi64 yu64 z!"
_BASIC: dict[str, str] = {each[0]: each[1:] for each in re.findall(r"\S+", _NAMED)}


def readable(name: str) -> str:
    """The name for people: demangled where its form is known, else as it is."""
    return demangled(name) or name


def demangled(name: str) -> str:
    """The name for people; empty for one that is mangled in a form that is not known here."""
    name = _LLVM.sub("", name[:MAX_CHARS])
    try:
        if name.startswith("_ZN"):
            return _nested(name)
        if name.startswith("_R"):
            return _Rust(name).path()  # what follows tells which crate made this copy
    except ValueError:
        return ""
    return "" if name.startswith(("_Z", "?")) else _RENAMED.get(name, name)


def _nested(name: str) -> str:
    """`_ZN`, identifiers with their lengths, `E`. Raises `ValueError`."""
    parts, at = [], 3
    while name[at : at + 1] != "E":
        digits = re.match(r"\d{1,4}", name[at:])
        if digits is None:
            raise ValueError
        start = at + digits.end()
        at = start + int(digits[0])
        if at > len(name):
            raise ValueError
        parts.append(name[start:at])
    if len(parts) > 1 and _HASH.fullmatch(parts[-1]):
        parts = [_unescaped(part) for part in parts[:-1]]
    return "::".join(parts)


def _unescaped(part: str) -> str:
    return _ESCAPE.sub(_character, part[1:] if part.startswith("_$") else part)


def _character(escape: re.Match[str]) -> str:
    code = escape[1]
    if code is None:
        return "::"
    if code.startswith("u"):
        number = int(code[1:], 16)
        return chr(number) if number < 0x110000 else "?"
    return _ESCAPES.get(code, "?")


class _Rust:
    """Reads a name of the form that begins with `_R`."""

    def __init__(self, name: str) -> None:
        self.name, self.at, self.steps, self.depth = name, 2, 0, 0

    def next(self) -> str:
        if self.at >= len(self.name):
            raise ValueError
        self.at += 1
        return self.name[self.at - 1]

    def take(self, wanted: str) -> bool:
        if not self.name.startswith(wanted, self.at):
            return False
        self.at += len(wanted)
        return True

    def deeper(self) -> None:
        self.depth += 1
        self.steps += 1
        if self.depth > _MAX_DEPTH or self.steps > _MAX_STEPS:
            raise ValueError

    def path(self) -> str:
        self.deeper()
        kind = self.next()
        if kind == "C":
            found = self.identifier()
        elif kind == "N":
            space = self.next()
            found = self.inside(self.path(), space)
        elif kind in "MX":
            self.disambiguator()
            self.path()
            found = f"<{self.type()}>" if kind == "M" else f"<{self.type()} as {self.path()}>"
        elif kind == "Y":
            found = f"<{self.type()} as {self.path()}>"
        elif kind == "I":
            found = self.path()
            while not self.take("E"):
                self.argument()
        elif kind == "B":
            found = self.again(self.path)
        else:
            raise ValueError
        self.depth -= 1
        return found

    def inside(self, outer: str, space: str) -> str:
        number = self.disambiguator()
        name = self.undisambiguated()
        if space == "C":
            name = f"{{closure#{number}}}"
        elif space.isupper():
            name = f"{{{name or space}#{number}}}"
        return f"{outer}::{name}" if name else outer

    def identifier(self) -> str:
        self.disambiguator()
        return self.undisambiguated()

    def disambiguator(self) -> int:
        return self.base62() + 1 if self.take("s") else 0

    def undisambiguated(self) -> str:
        puny = self.take("u")
        digits = re.compile(r"0|[1-9]\d{0,3}").match(self.name, self.at)
        if digits is None:
            raise ValueError
        self.at = digits.end()
        self.take("_")
        start, self.at = self.at, self.at + int(digits[0])
        if self.at > len(self.name):
            raise ValueError
        found = self.name[start : self.at]
        if not puny:
            return found
        plain, _, rest = found.rpartition("_")
        return str((f"{plain}-{rest}" if plain else rest).encode(), "punycode")

    def base62(self) -> int:
        if self.take("_"):
            return 0
        found = 0
        while (character := self.next()) != "_":
            if not (character.isascii() and character.isalnum()) or found > 1 << 64:
                raise ValueError
            value = ord(character)
            found = found * 62 + (value - 48 if value < 58 else value - 87 if value > 96 else value - 29)
        return found + 1

    def again(self, read: Callable[[], str]) -> str:
        """What was written before, at the place that is given."""
        start = self.at - 1
        place = self.base62() + 2
        if place >= start:
            raise ValueError
        back, self.at = self.at, place
        found = read()
        self.at = back
        return found

    def argument(self) -> None:
        if self.take("L"):
            self.base62()
        elif self.take("K"):
            self.constant()
        else:
            self.type()

    def constant(self) -> None:
        if self.take("B"):
            self.base62()
        elif not self.take("p"):
            self.at = self.name.index("_", self.at) + 1

    def type(self) -> str:
        self.deeper()
        kind = self.next()
        if kind in _BASIC:
            found = _BASIC[kind]
        elif kind == "A":
            found = f"[{self.type()}; _]"
            self.constant()
        elif kind == "S":
            found = f"[{self.type()}]"
        elif kind == "T":
            parts = []
            while not self.take("E"):
                parts.append(self.type())
            found = f"({', '.join(parts)})"
        elif kind in "RQ":
            if self.take("L"):
                self.base62()
            found = ("&" if kind == "R" else "&mut ") + self.type()
        elif kind in "PO":
            found = ("*const " if kind == "P" else "*mut ") + self.type()
        elif kind == "F":
            found = self.function()
        elif kind == "D":
            found = self.object()
        elif kind == "B":
            found = self.again(self.type)
        else:
            self.at -= 1
            found = self.path()
        self.depth -= 1
        return found

    def function(self) -> str:
        if self.take("G"):
            self.base62()
        self.take("U")
        if self.take("K") and not self.take("C"):
            self.undisambiguated()
        while not self.take("E"):
            self.type()
        self.type()
        return "fn"

    def object(self) -> str:
        if self.take("G"):
            self.base62()
        bounds = []
        while not self.take("E"):
            bounds.append(self.path())
            while self.take("p"):
                self.undisambiguated()
                self.type()
        if self.take("L"):
            self.base62()
        return f"dyn {' + '.join(bounds)}"
