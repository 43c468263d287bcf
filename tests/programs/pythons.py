"""Random programs in Python that allocate: what a garbage collector frees too early changes what they print.

Text, numbers of any size, containers in each other, closures, generators, classes and exceptions, nested at random;
every value that a statement makes ends in a running digest, which is printed. A program is short and ends; where the
interpreter has ``gc.threshold``, it collects at nearly every allocation. Only what CPython and MicroPython agree on:
no floats, no order of dicts and sets, no ``repr`` of objects.
"""

from __future__ import annotations

from random import Random

HEAD = """
import gc, json
try:
    import portcall
    def hop():
        portcall.go("elsewhere")
except ImportError:
    def hop():
        pass
if hasattr(gc, "threshold"):
    gc.threshold(%d)
digest = 0
def emit(x):
    global digest
    for c in repr(x).encode():
        digest = (digest * 31 + c) %% 1000000007
class Box:
    def __init__(self, *held):
        self.held, self.more = list(held), {}
    def get(self, k):
        return self.held[k %% len(self.held)] if self.held else self.more
    def put(self, x):
        self.held.append(x)
        return self
    def __add__(self, other):
        return Box(*(self.held + other.held))
    def __len__(self):
        return len(self.held)
    @property
    def last(self):
        return self.held[-1] if self.held else None
class Sub(Box):
    def put(self, x):
        self.more[str(len(self.more))] = x
        return super().put([x])
class Refused(Exception):
    def __init__(self, name, held):
        super().__init__(name)
        self.held = held
def plain(x, depth=4):
    if isinstance(x, Box):
        return [plain(y, depth - 1) for y in x.held[:6]] if depth else len(x)
    if isinstance(x, (list, tuple)):
        return [plain(y, depth - 1) for y in x[:9]] if depth else len(x)
    if isinstance(x, dict):
        return sorted([(str(k), str(plain(v, depth - 1))) for k, v in x.items()])[:9] if depth else len(x)
    if isinstance(x, (int, str, bytes)) or x is None:
        return x
    return "?"
"""


class Writer:
    """One program per seed."""

    def __init__(self, seed: int, threshold: int = 400) -> None:
        self.rng = Random(seed)
        self.threshold = threshold
        self.names: dict[str, list[str]] = {kind: [] for kind in ("int", "str", "bytes", "list", "dict", "box")}
        self.count = 0
        self.lines: list[str] = []

    def program(self) -> str:
        """The text."""
        for _ in range(self.rng.randrange(6, 16)):
            self.statement(0)
            if self.rng.random() < 0.2:
                self.lines.append("hop()")
        for kind, names in self.names.items():
            for name in names:
                shown = f"plain({name})" if kind in ("box", "list", "dict") else name
                self.lines.append(f"emit({shown})")
        self.lines.append("print(digest)")
        return HEAD % self.threshold + "\n".join(self.lines) + "\n"

    # --- values ----------------------------------------------------------------------------------------------

    def value(self, kind: str, depth: int = 0) -> str:
        """An expression of a kind."""
        if self.names[kind] and self.rng.random() < 0.3:
            return self.rng.choice(self.names[kind])
        if depth > 3:
            return {"int": "7", "str": "'s'", "bytes": "b'b'", "list": "[1]", "dict": "{'k': 1}", "box": "Box(1)"}[kind]
        made: str = getattr(self, f"_{kind}")(depth + 1)
        return made

    def any(self, depth: int) -> str:
        """Of whatever kind."""
        return self.value(self.rng.choice(list(self.names)), depth)

    def _int(self, d: int) -> str:
        v, rng = self.value, self.rng
        return rng.choice([
            lambda: str(rng.randrange(-1000, 1000)),
            lambda: f"(2 ** {rng.randrange(20, 300)} + {v('int', d)})",
            lambda: f"(({v('int', d)} {rng.choice('+-*|&^')} {v('int', d)}) % 10 ** 60)",
            lambda: f"({v('int', d)} // {rng.randrange(2, 99)} + {v('int', d)} % {rng.randrange(2, 10**20)})",
            lambda: f"len({v(rng.choice(['str', 'bytes', 'list', 'dict', 'box']), d)})",
            lambda: f"sum(len(str(plain(x))) for x in {v('list', d)})",
            lambda: f"int(str({v('int', d)} % 10 ** 50))",
            lambda: f"((lambda a, b=2: a * b)({v('int', d)}) % 10 ** 70)",
            lambda: f"sum(map(lambda x: len(repr(plain(x))), {v('list', d)}))",
        ])()  # fmt: skip

    def _str(self, d: int) -> str:
        v, rng = self.value, self.rng
        return rng.choice([
            lambda: repr("".join(rng.choices("abc,;- xyz", k=rng.randrange(30)))),
            lambda: f"str({v('int', d)})",
            lambda: f"({v('str', d)} + {v('str', d)})[:500]",
            lambda: f"'-'.join(str(plain(x)) for x in {v('list', d)})[:400]",
            lambda: f"('%s of %d' % ({v('str', d)}[:80], {v('int', d)}))",
            lambda: f"'{{}}|{{:>9}}'.format({v('str', d)}[:90], {v('str', d)}[:9])",
            lambda: f"{v('str', d)}.replace('a', {v('str', d)}[:9])[:300]",
            lambda: f"{v('str', d)}.upper()[{rng.randrange(5)}:]",
            lambda: f"json.dumps([{v('int', d)}, {v('str', d)}])",
            lambda: f"repr(plain({v('list', d)}))[:200]",
            lambda: f"{v('bytes', d)}.decode()",
            lambda: "f'{" + rng.choice(self.names["int"] or ["digest"]) + "}/'",
        ])()  # fmt: skip

    def _bytes(self, d: int) -> str:
        v, rng = self.value, self.rng
        return rng.choice([
            lambda: f"{v('str', d)}.encode()",
            lambda: f"bytes(range(32, {rng.randrange(40, 100)}))",
            lambda: f"b','.join([{v('bytes', d)}, {v('bytes', d)}])[:300]",
            lambda: f"bytes(bytearray({v('bytes', d)}) + b'end')",
            lambda: f"({v('bytes', d)} * {rng.randrange(4)})[:200]",
        ])()  # fmt: skip

    def _list(self, d: int) -> str:
        v, rng = self.value, self.rng
        return rng.choice([
            lambda: "[" + ", ".join(self.any(d) for _ in range(rng.randrange(5))) + "]",
            lambda: f"[({self.any(d)}, i) for i in range({rng.randrange(6)})]",
            lambda: f"[str(i) + {v('str', d)}[:20] for i in range({rng.randrange(9)})]",
            lambda: f"({v('list', d)} + {v('list', d)})[:20]",
            lambda: f"sorted([{v('str', d)}, {v('str', d)}, {v('str', d)}])",
            lambda: f"list(x for x in {v('list', d)} if x)",
            lambda: f"json.loads(json.dumps([{v('str', d)}, [{v('int', d)} % 10 ** 9], {{'k': {v('str', d)}}}]))",
            lambda: f"[y for x in {v('list', d)} for y in (x, {v('int', d)})][:20]",
            lambda: f"list(zip({v('list', d)}, {v('list', d)}))",
            lambda: f"{v('str', d)}.split(',')",
            lambda: f"[f() for f in [lambda k=k: [k, {v('str', d)}] for k in range({rng.randrange(4)})]]",
            lambda: f"[{v('box', d)}.get({rng.randrange(9)})]",
            lambda: f"sorted({v('dict', d)})",
        ])()  # fmt: skip

    def _dict(self, d: int) -> str:
        v, rng = self.value, self.rng
        return rng.choice([
            lambda: "{" + ", ".join(f"'{k}': {self.any(d)}" for k in range(rng.randrange(5))) + "}",
            lambda: f"{{str(i): {self.any(d)} for i in range({rng.randrange(8)})}}",
            lambda: f"dict(zip([str(plain(x))[:40] for x in {v('list', d)}], {v('list', d)}))",
            lambda: f"dict({v('dict', d)})",
        ])()  # fmt: skip

    def _box(self, d: int) -> str:
        v, rng = self.value, self.rng
        return rng.choice([
            lambda: f"{rng.choice(['Box', 'Sub'])}({self.any(d)}, {self.any(d)})",
            lambda: f"({v('box', d)} + {v('box', d)})",
            lambda: f"{rng.choice(['Box', 'Sub'])}().put({self.any(d)}).put({self.any(d)})",
            lambda: f"Box(*{v('list', d)})",
            lambda: f"Box({v('box', d)}.last)",
        ])()  # fmt: skip

    # --- statements ------------------------------------------------------------------------------------------

    def statement(self, indent: int) -> None:
        """One, at a depth of blocks."""
        rng = self.rng
        pick = rng.random()
        if pick < 0.35 or indent > 2:
            self.assign(indent)
        elif pick < 0.5:
            self.put(indent, f"for i{indent} in range({rng.randrange(1, 7)}):")
            self.block(indent + 1)
        elif pick < 0.65:
            self.attempt(indent)
        elif pick < 0.78:
            self.function(indent)
        elif pick < 0.9:
            self.generator(indent)
        else:
            self.change(indent)

    def put(self, indent: int, line: str) -> None:
        self.lines.append("    " * indent + line)

    def block(self, indent: int) -> None:
        known = {kind: list(names) for kind, names in self.names.items()}
        for _ in range(self.rng.randrange(1, 4)):
            self.statement(indent)
        self.names = known  # what is assigned inside may never be

    def fresh(self, letter: str = "v") -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def assign(self, indent: int) -> None:
        kind = self.rng.choice(list(self.names))
        value = self.value(kind)
        known = self.names[kind]
        name = self.rng.choice(known) if known and self.rng.random() < 0.3 else self.fresh()
        self.put(indent, f"{name} = {value}")
        if name not in known:
            known.append(name)
        if self.rng.random() < 0.4:
            self.put(indent, f"emit(plain({name}))")

    def attempt(self, indent: int) -> None:
        self.put(indent, "try:")
        self.block(indent + 1)
        if self.rng.random() < 0.7:
            self.put(indent + 1, f"raise Refused({self.value('str')}, {self.any(1)})")
        self.put(indent, "except Refused as error:")
        self.put(indent + 1, "emit((str(error), plain(error.held)))")
        if self.rng.random() < 0.5:
            self.put(indent, "finally:")
            self.block(indent + 1)

    def function(self, indent: int) -> None:
        name, held = self.fresh("f"), self.any(1)
        self.put(indent, f"def {name}(a, b, held={held}):")
        self.put(indent + 1, "count = [a]")
        self.put(indent + 1, "def inner(*rest):")
        self.put(indent + 2, "count.append(rest)")
        self.put(indent + 2, "return (count[0], b, plain(held), len(count))")
        self.put(
            indent + 1,
            f"return inner({self.any(2)}), inner" if self.rng.random() < 0.5 else "return inner(a, b), inner",
        )
        self.put(
            indent,
            f"emit(plain([g({self.any(2)}) for r, g in [{name}({self.any(1)}, {self.any(1)}) for q in range(3)]]))",
        )

    def generator(self, indent: int) -> None:
        name = self.fresh("g")
        self.put(indent, f"def {name}(n, held):")
        self.put(indent + 1, "for i in range(n):")
        self.put(indent + 2, f"got = yield (i, {self.any(2)}, held)")
        self.put(indent + 2, "if got: held = (got, plain(held, 2))")
        open_one = self.fresh("o")
        self.put(indent, f"{open_one} = {name}(4, {self.any(1)})")
        self.put(indent, f"next({open_one})")
        self.put(indent, f"emit(plain({open_one}.send({self.any(1)})))")
        self.block(indent)
        self.put(indent, f"emit(plain(list({open_one})))")

    def change(self, indent: int) -> None:
        rng = self.rng
        lists, dicts, boxes = self.names["list"], self.names["dict"], self.names["box"]
        if lists and rng.random() < 0.5:
            self.put(indent, f"{rng.choice(lists)}.append({self.value(rng.choice(['int', 'str', 'bytes']))})")
        elif dicts and rng.random() < 0.5:
            self.put(indent, f"{rng.choice(dicts)}[{self.value('str')}[:50]] = {self.value('str')}")
        elif boxes:
            self.put(indent, f"{rng.choice(boxes)}.put({self.value(rng.choice(['int', 'str', 'bytes']))})")
        else:
            self.assign(indent)
