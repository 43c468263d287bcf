"""The names of variables in MicroPython, against the interpreter: each variable `v3` is only ever given the value 3."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.thorough import examples

from .frozen import own, python_stack, values


@attrs.define
class Writer:
    """Writes functions at random, in which each statement runs once."""

    draw: st.DrawFn
    fresh: itertools.count[int] = attrs.field(factory=itertools.count)
    expected: list[set[str]] = attrs.field(factory=list)  # of each function, the outermost first

    def pick(self, *items: str) -> str:
        return self.draw(st.sampled_from(items))

    def name(self) -> str:
        return f"v{next(self.fresh)}"

    def read(self, known: list[str]) -> str:
        """An expression that is 0, and mentions variables."""
        if not known:
            return "0"
        one, other = self.pick(*known), self.pick(*known)
        made = self.pick(
            f"{one} - {one}",
            f"(lambda q=0: q)({one} * 0)",
            f"len([{one} for q in ()])",
            f"0 * sum({{{one}: {other}}})",
            f"0 * {one} if {other} is not None else {one}",
            f"len([q for q in ({one}, {other}) if q is None])",
            f"len({{q: {one} for q in ()}})",
            f"len(f'{{{one}}}{{{other}}}'[:0])",
            f"max(0, 0, key=lambda q: q + {one})",
            "1 if False else 0",
            f"dict(a={one}, b=0)['b']",
        )
        return f"({made})"

    def statement(self, known: list[str], depth: int) -> list[str]:
        """Lines; the variables that they assign are added to `known`."""
        name, zero = self.name(), self.read(known)
        number = name[1:]
        kind = self.draw(st.integers(0, 18 if depth < 3 else 10))
        if kind == 0:
            lines = [f"{name}: int = {number} + {zero}"]
        elif kind == 1:
            other = self.name()
            lines = [f"{name}, {other} = {number} + {zero}, {other[1:]}"]
            known.append(other)
        elif kind == 2:
            other = self.name()
            lines = [f"[*_, {name}], {other} = ({zero}, {number}), {other[1:]}"]
            known.append(other)
        elif kind == 3:
            lines = [f"if ({name} := {number} + {zero}) is None: pass"]
        elif kind == 4:
            lines = [f"{name} = {number}; {name} += {zero}"]
        elif kind == 5:
            other = self.name()
            test = self.pick("0", "1 - 1", "not 1", "3 // 4", zero)
            lines = [f"if {test}: {other} = {zero}", f"{name} = {number}"]
        elif kind == 6:
            other = self.name()
            test = self.pick("True", "2", "not 0", "~0", "3 * 4")
            lines = [f"if {test}: {name} = {number} + {zero}", f"else: {other} = {zero}"]
        elif kind == 7:
            other = self.name()
            lines = [f"{name} = {other} = {zero}", f"{name}, {other} = {number}, {other[1:]}"]
            known.append(other)
        elif kind == 8:
            other = self.name()
            lines = ["try:", f"    [][{zero}]", f"except (IndexError, OSError) as {other}:", f"    {name} = {number}"]
        elif kind == 9:
            lines = [f"for {name} in [{number} + {zero}]: pass"]
        elif kind == 10:
            lines = [f"{name} = {number} + {zero}"]
        elif kind == 11:
            step = self.pick("", ", 1", ", 7", f", 1 + {zero}")
            lines = [f"for {name} in range({number} + {zero}, {int(number) + 1} + {self.read(known)}{step}):"]
            lines += self.block([*known, name], depth, known)
            lines += ["else:", *self.block(known, depth, known)]
        elif kind == 12:
            other = self.name()
            lines = ["while True:", *self.block(known, depth, known), f"    {name} = {number}", "    break"]
            lines += [f"while {zero} + 0: {other} = 1"]
        elif kind == 13:
            lines = [f"with Open({number} + {zero}) as {name}:", *self.block([*known, name], depth, known)]
        elif kind == 14:
            lines = ["try:", *self.block(known, depth, known), "finally:", f"    {name} = {number} + {zero}"]
        elif kind == 15:
            lines = [f"if {zero} == 0:", *self.block(known, depth, known), f"{name} = {number}"]
        elif kind == 16:
            inner, used = self.name(), self.read(known)
            lines = [f"def h{inner}({inner}={used}):", f"    return {inner} + {self.read(known)}"]
            lines += [f"{name} = h{inner}({zero}) + {number}"]
        elif kind == 17 and known:
            changed = self.pick(*known)
            inner = self.name()
            lines = [f"def h{inner}():", f"    nonlocal {changed}", f"    {changed} += {zero}", f"h{inner}()"]
            lines += [f"{name} = {number}"]
        else:
            inner = self.name()
            lines = [
                f"class H{inner}:",
                f"    {inner} = {zero}",
                "    def m(self):",
                f"        return {self.read(known)}",
            ]
            lines += [f"{name} = H{inner}().m() + {number}"]
        known.append(name)
        return lines

    def block(self, known: list[str], depth: int, into: list[str]) -> list[str]:
        """An indented block; what it assigns is added to `into`, and what follows in it knows `known`, too."""
        seen = list(dict.fromkeys([*known, *into]))
        before = set(seen)
        lines = [line for _ in range(self.draw(st.integers(1, 2))) for line in self.statement(seen, depth + 1)]
        into += [each for each in dict.fromkeys([*seen]) if each not in before or (each in known and each not in into)]
        return [f"    {line}" for line in lines]

    def function(self, depth: int, outer: list[str]) -> list[str]:
        """A function that defines the next one, and calls it."""
        given = [self.name() for _ in range(self.draw(st.integers(0, 3)))]
        plain = self.draw(st.integers(0, len(given)))
        star, rest = self.pick("", "s"), self.pick("", "d")
        parameters = given[:plain]
        if star:
            parameters.append(f"*{star}{depth}")
        elif plain < len(given):
            parameters.append("*")
        parameters += [f"{each}={each[1:]}" for each in given[plain:]]
        if rest:
            parameters.append(f"**{rest}{depth}")
        known = list(given)
        lines = [f"def f{depth}({', '.join(parameters)}):"]
        body = [line for _ in range(self.draw(st.integers(1, 4))) for line in self.statement(known, 0)]
        # What an inner function uses of an outer one is its variable, too.
        if outer and self.draw(st.booleans()):
            used = self.pick(*outer)
            if used not in known:
                body.append(f"{used} * 0")
                known.append(used)
        self.expected.append({*known})
        if depth < 2:
            body += self.function(depth + 1, [*outer, *known])
        else:
            body.append("portcall.go('beta')")
        lines += [f"    {line}" for line in body]
        call = ", ".join([*(each[1:] for each in given[:plain]), *(f"{each}={each[1:]}" for each in given[plain:])])
        return [*lines, f"f{depth}({call})"]


@st.composite
def scripts(draw: st.DrawFn) -> tuple[str, list[set[str]]]:
    writer = Writer(draw)
    head = ["import portcall", "class Open:", "    def __init__(self, n): self.n = n"]
    head += ["    def __enter__(self): return self.n", "    def __exit__(self, *_): pass"]
    return "\n".join([*head, *writer.function(0, [])]), writer.expected


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts())
def test_each_variable_has_its_own_name(made: tuple[str, list[set[str]]]) -> None:
    script, expected = made
    with tempfile.TemporaryDirectory() as folder:
        module, *frames = own(python_stack(script, Path(folder)))
    assert module.function == "<module>"
    assert len(frames) == len(expected)
    for frame, names in zip(frames, expected, strict=True):
        shown = values(frame)
        assert not [name for name in shown if name.startswith("local ")], script
        own_names = {name: value for name, value in shown.items() if name[1:].isdigit() and name[0] == "v"}
        assert {f"v{value}" for value in own_names.values()} == set(own_names), script
        # A variable of an outer function is seen here, too, if another one inside uses it.
        assert names <= set(own_names), script
