"""Two modules side by side: which function, global and tag of the new one is which of the old one, and whether a
function's code is the same.

Both modules are rewritten: what is compared is the fast copy without its questions and save arms
(`agents.rewrite.continuation`), which is the original body. So a function is the same although it asks at other
places, since something that it calls suspends now.

Invariant: pairs are one to one, and each pair was justified by a name, an import, a table's element or by code that was
compared.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from agents.errors import ModuleError
from agents.image import AgentImage
from agents.rewrite.exports import EXPORT_PREFIX
from agents.rewrite.metadata import Metadata
from agents.rewrite.skeleton import OPENERS
from agents.wasm import opcodes as op
from agents.wasm.decode import decode_module
from agents.wasm.names import Names, module_names
from agents.wasm.opcodes import Imm
from agents.wasm.syntax import Expr, Func, FuncType, ImportFunc, Instr, MemArg, Module, RefType, ValType

MAX_DEPTH = 16  # of types that name types


class Different(Exception):
    """Two functions are not the same code; the message says what differs."""


@define(eq=False, repr=False)
class Side:
    """One of the two modules, and what its rewriter says of it."""

    image: AgentImage
    module: Module = field(init=False)
    metadata: Metadata | None = field(init=False)
    names: Names = field(init=False)
    exported: dict[int, str] = field(init=False)  # functions, by the first of their exports' names
    state: int = field(init=False, default=-1)  # the global of the machinery
    frames: int = field(init=False, default=-1)  # the memory of the frames
    resumes: dict[int, int] = field(init=False)  # function -> resume index
    marks: dict[tuple[int, int], int] = field(init=False)  # (opcode, segment) of a drop -> the global that records it
    _bodies: dict[int, Expr] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.module, self.metadata = decode_module(self.image.code), self.image.metadata
        self.names = module_names(self.module)
        self.exported = {}
        for export in self.module.exports:
            if export.kind == "func" and not export.name.startswith(EXPORT_PREFIX):
                self.exported.setdefault(export.index, export.name)
        self.resumes, self.marks = {}, {}
        if self.metadata is not None:
            own = self.module.exports_by_name
            self.state = own[EXPORT_PREFIX + "state"].index
            if self.metadata.profile == "standard":
                self.frames = own[EXPORT_PREFIX + "frames"].index
            self.resumes = {info.function: index for index, info in enumerate(self.metadata.resumes)}
            if EXPORT_PREFIX + "drop" in own:
                self.marks = _marks(self.function(own[EXPORT_PREFIX + "drop"].index).body)

    @property
    def imported(self) -> int:
        """How many functions it imports."""
        return self.module.imported("func")

    def function(self, index: int) -> Func:
        """A defined function."""
        return self.module.funcs[index - self.imported]

    def importing(self, index: int) -> tuple[str, str] | None:
        """Module and name of an imported function; None for one that is defined."""
        if index >= self.imported:
            return None
        found = [entry for entry in self.module.imports if isinstance(entry.desc, ImportFunc)][index]
        return found.module, found.name

    def name(self, index: int) -> str | None:
        """What its author calls the function."""
        return self.exported.get(index) or self.names.function(index)

    def shown(self, index: int) -> str:
        """The function, for people."""
        entry = self.importing(index)
        return ".".join(entry) if entry else self.name(index) or f"function {index}"

    def body(self, index: int) -> Expr:
        """The original body of a defined function, without what the rewriter put in."""
        found = self._bodies.get(index)
        if found is None:
            found = self.function(index).body
            if index in self.resumes:
                found = self._original(found)
            self._bodies[index] = found
        return found

    def _original(self, body: Expr) -> Expr:
        """The fast copy without questions, the blocks around it and the arms behind it."""
        asks: list[tuple[int, int]] = []  # the first and the last instruction of each question
        depth, arms = 0, 0
        for at, instr in enumerate(body):
            code = instr.code
            if code in OPENERS:
                depth += 1
            elif code == op.END:
                depth -= 1
            elif code == op.BR_IF and self._asks(body, at):
                first = at - (1 if body[at - 1].code == op.GLOBAL_GET else 2)
                shared = body[first - 1].code == op.I32_CONST
                asks.append((first - shared, at + shared))
                arms = max(arms, depth - instr.imm)
        if not asks:
            raise ModuleError("a function that may be suspended asks nowhere")
        gone = {at for first, last in asks for at in range(first, last + 1)}
        out, depth = [], 0
        for at, instr in enumerate(body):
            if instr.code in OPENERS:
                depth += 1
                if depth <= arms:
                    continue
            elif instr.code == op.END:
                depth -= 1
                if depth < arms:
                    break
            if at not in gone:
                out.append(instr)
        if not out or out[-1].code != op.RETURN:
            raise ModuleError("the body of a function that may be suspended does not return before its arms")
        return tuple(out[:-1])

    def _asks(self, body: Expr, at: int) -> bool:
        before = body[at - 1]
        if before.code == op.GLOBAL_GET:
            return bool(before.imm == self.state)
        return before.code == op.I32_LOAD and self.frames >= 0 and bool(before.imm.memory == self.frames)


def _marks(body: Expr) -> dict[tuple[int, int], int]:
    """From `portcall.drop`: ``global.get MARK, if, DROP SEGMENT, end`` for each."""
    found = {}
    for at in range(0, len(body) - 3, 4):
        found[body[at + 2].code, body[at + 2].imm] = body[at].imm
    return found


def same_type(old: Module, one: ValType, new: Module, other: ValType, depth: int = 0) -> bool:
    """Whether two value types are the same."""
    if not (isinstance(one, RefType) and isinstance(other, RefType)):
        return one == other
    if one.nullable != other.nullable:
        return False
    if isinstance(one.heap, int) and isinstance(other.heap, int):
        return depth < MAX_DEPTH and same_signature(old, old.types[one.heap], new, new.types[other.heap], depth + 1)
    return one.heap == other.heap


def same_types(old: Module, one: Iterable[ValType], new: Module, other: Iterable[ValType], depth: int = 0) -> bool:
    """Whether two lists of value types are the same."""
    one, other = tuple(one), tuple(other)
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(same_type(old, a, new, b, depth) for a, b in pairs)


def same_signature(old: Module, one: FuncType, new: Module, other: FuncType, depth: int = 0) -> bool:
    """Whether two function types are the same."""
    return same_types(old, one.params, new, other.params, depth) and same_types(
        old, one.results, new, other.results, depth
    )


@define(eq=False, repr=False)
class Pairs:
    """Which function of the new module is which of the old one; mutable globals and tags are given."""

    old: Side
    new: Side
    globals: dict[int, int]
    tags: dict[int, int]
    functions: dict[int, int] = field(factory=dict)
    _back: dict[int, int] = field(factory=dict)
    _same: dict[tuple[int, int], str] = field(factory=dict)  # why two are not; empty where they are

    def pair(self, one: int, other: int) -> None:
        """These two functions are the same one, with perhaps other code. Raises `Different` if that cannot be."""
        old, new = self.old, self.new
        known = self.functions.get(one)
        if known == other:
            return
        a, b = old.importing(one), new.importing(other)
        if a != b:
            raise Different(f"{new.shown(other)} stands where {old.shown(one)} stood")
        if not same_signature(old.module, old.module.func_type(one), new.module, new.module.func_type(other)):
            raise Different(f"{new.shown(other)} has another type")
        named, called = old.name(one), new.name(other)
        if a is None and named is not None and called is not None and named != called:
            raise Different(f"{called} stands where {named} stood")
        if known is not None or other in self._back:
            raise Different(f"{new.shown(other)} would be both {old.shown(one)} and another function")
        self.functions[one], self._back[other] = other, one

    def by_name(self) -> None:
        """Pair the imports, and the functions whose names, and those of exports, are the same and unique."""
        old, new = self.old, self.new
        places = {new.importing(index): index for index in range(new.imported)}
        for index in range(old.imported):
            self._if_possible(index, places.get(old.importing(index)))
        named = _unique(new)
        for name, index in _unique(old).items():
            self._if_possible(index, named.get(name))

    def _if_possible(self, one: int, other: int | None) -> None:
        if other is not None:
            try:
                self.pair(one, other)
            except Different:
                return

    def counterpart(self, function: int) -> int:
        """The function of the new module that continues this one, which has to be the same code. Raises `Different`."""
        known = self.functions.get(function)
        if known is not None:
            self.compare(function, known)
            return known
        name = self.old.name(function)
        if name is not None and self.new.names.functions:
            alike = [index for index, called in self.new.names.functions.items() if called == name]
            if not alike:
                raise Different("the new module has no function of this name")
        else:
            alike = list(range(self.new.imported, self.new.imported + len(self.new.module.funcs)))
        found = []
        for other in alike:
            if other < self.new.imported or other in self._back or other not in self.new.resumes:
                continue
            before = dict(self.functions), dict(self._back)
            try:
                self.compare(function, other)
            except Different:
                continue
            found.append(other)
            self.functions, self._back = before
            del self._same[function, other]
        if len(found) != 1:
            what = "no function of the new module has its code"
            raise Different("several functions of the new module have its code" if found else what)
        self.compare(function, found[0])
        return found[0]

    def compare(self, one: int, other: int) -> None:
        """Whether the two are the same code. Raises `Different`, which says where they are not."""
        why = self._same.get((one, other))
        if why is None:
            before = dict(self.functions), dict(self._back)
            try:
                self._compare(one, other)
                why = ""
            except Different as different:
                why = str(different)
                self.functions, self._back = before
            self._same[one, other] = why
        if why:
            raise Different(why)

    def _compare(self, one: int, other: int) -> None:
        self.pair(one, other)
        old, new = self.old, self.new
        if not same_types(old.module, old.function(one).locals, new.module, new.function(other).locals):
            raise Different("it has other local variables")
        a, b = old.body(one), new.body(other)
        for at, (was, now) in enumerate(zip(a, b, strict=False)):
            if was != now or op.TABLE[was.code].imm in _INDICES:
                self._instruction(at, was, now)
        if len(a) != len(b):
            raise Different(f"it has {len(b)} instructions and had {len(a)}")

    def _instruction(self, at: int, was: Instr, now: Instr) -> None:
        if was.code != now.code:
            raise Different(f"instruction {at} is {_said(now)} and was {_said(was)}")
        kind, a, b = op.TABLE[was.code].imm, was.imm, now.imm
        old, new = self.old.module, self.new.module
        try:
            if kind is Imm.FUNC:
                self.pair(a, b)
                same = True
            elif kind is Imm.GLOBAL:
                same = self._same_global(a, b)
            elif kind is Imm.BLOCK:
                same = self._same_block(a, b)
            elif kind is Imm.TRY_TABLE:
                same = self._same_block(a[0], b[0]) and len(a[1]) == len(b[1])
                for one, other in zip(a[1], b[1], strict=False):
                    tags = one.tag is None or self.tags.get(one.tag) == other.tag
                    same = same and (one.kind, one.label) == (other.kind, other.label) and tags
            elif kind is Imm.TAG:
                same = self.tags.get(a) == b
            elif kind is Imm.TYPE:
                same = same_signature(old, old.types[a], new, new.types[b])
            elif kind is Imm.TYPE_TABLE:
                same = a[1] == b[1] and same_signature(old, old.types[a[0]], new, new.types[b[0]])
            elif kind is Imm.TYPES:
                same = same_types(old, a, new, b)
            elif kind is Imm.HEAP:
                same = same_type(old, RefType(True, a), new, RefType(True, b))
            else:
                same = a == b
        except Different as different:
            raise Different(f"instruction {at} ({op.TABLE[was.code].mnemonic}): {different}") from None
        if not same:
            raise Different(f"instruction {at} is {_said(now)} and was {_said(was)}")

    def _same_block(self, a: object, b: object) -> bool:
        old, new = self.old.module, self.new.module
        one, other = _signature(old, a), _signature(new, b)
        return same_signature(old, one, new, other)

    def _same_global(self, a: int, b: int) -> bool:
        old, new = self.old.module, self.new.module
        if old.global_types[a].mutable or new.global_types[b].mutable:
            return self.globals.get(a) == b
        one, other = constant(old, a), constant(new, b)
        return one is not None and one == other


_INDICES = frozenset(
    (Imm.FUNC, Imm.GLOBAL, Imm.BLOCK, Imm.TRY_TABLE, Imm.TAG, Imm.TYPE, Imm.TYPE_TABLE, Imm.TYPES, Imm.HEAP)
)


def _signature(module: Module, block: object) -> FuncType:
    if block is None:
        return FuncType()
    return module.types[block] if isinstance(block, int) else FuncType((), (block,))  # type: ignore[arg-type]


def constant(module: Module, index: int) -> tuple[int, object] | None:
    """Opcode and value of a global that is not imported and begins with a constant; else None."""
    own = index - module.imported("global")
    if own < 0:
        return None
    init = module.globals[own].init
    if len(init) == 2 and op.TABLE[init[0].code].imm in (Imm.I32, Imm.I64, Imm.F32, Imm.F64, Imm.V128, Imm.HEAP):
        return init[0].code, init[0].imm
    return None


def _unique(side: Side) -> dict[str, int]:
    """Functions by the names that only one of them has."""
    found: dict[str, int] = {}
    double = set()
    for index in range(side.imported, side.imported + len(side.module.funcs)):
        name = side.name(index)
        if name is None:
            continue
        if name in found:
            double.add(name)
        found[name] = index
    return {name: index for name, index in found.items() if name not in double}


def _said(instr: Instr) -> str:
    imm = instr.imm
    if isinstance(imm, MemArg):
        imm = f"offset={imm.offset}"
    return op.TABLE[instr.code].mnemonic + (f" {imm}" if isinstance(imm, (int, str)) else "")
