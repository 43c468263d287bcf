"""The names of local variables in MicroPython, from the source: its bytecode has numbers for them.

MicroPython's compiler passes over a scope once to number the names in it: parameters first, then locals in the order
in which they are met, then those that inner functions use, and before all of these what comes from outer functions.
`scopes_of` passes over the `ast` of CPython in the order of that compiler, which is not always the order of the text:
the body of `while` comes before its condition, the value of a dictionary's item before its key.

The result is only a claim. `Scope.agrees` compares it with the bytecode, so a script that has changed since it
was compiled gets no wrong names.
"""

from __future__ import annotations

import ast
import functools
import operator
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import attrs

# Of a script that is read. CPython 3.10 has no bound on how deep an `ast` may be: `a.b.b.b` and so on, for long enough,
# ends the process; this is a third of what it takes.
MAX_SOURCE_BYTES = (256 if sys.version_info >= (3, 11) else 64) << 10
_Kind = Literal["implicit", "assigned", "global", "local", "cell", "free"]
_FunctionDef = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_SCOPES = {
    ast.Lambda: "<lambda>",
    ast.ListComp: "<listcomp>",
    ast.SetComp: "<setcomp>",
    ast.DictComp: "<dictcomp>",
    ast.GeneratorExp: "<genexpr>",
}
ITERATED = "*"  # the parameter of a comprehension
_SMALL = 1 << 30  # the integers below that the compiler computes with
_UNARY: dict[type[ast.unaryop], Callable[[int], int]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}


@attrs.define
class _Id:
    """A name in a scope."""

    kind: _Kind
    parameter: bool = False
    starred: bool = False  # a parameter that takes several arguments
    number: int = -1


@attrs.define(eq=False, repr=False)
class Scope:
    """A function, class, comprehension or module, as MicroPython's compiler sees it."""

    name: str
    node: ast.AST
    parent: Scope | None
    ids: dict[str, _Id] = attrs.field(factory=dict)
    stores: list[tuple[str, int, int]] = attrs.field(factory=list)  # a name, first and last line of its statement

    @property
    def function_like(self) -> bool:
        """Whether its variables are numbered."""
        return not isinstance(self.node, ast.Module | ast.ClassDef)

    def names(self) -> tuple[str, ...]:
        """The names of its variables, by their numbers."""
        numbered = {each.number: name for name, each in self.ids.items() if each.number >= 0}
        return tuple(numbered.get(number, "") for number in range(max(numbered, default=-1) + 1))

    def agrees(self, arguments: tuple[str, ...], stored: Iterable[tuple[int, int]]) -> bool:
        """Whether it can be the source of bytecode that has these `arguments`, and stores to variables at lines.

        arguments: by number; ITERATED for those without a name
        stored: (number, line)
        """
        names = self.names()
        if len(arguments) > len(names) or not all(map(self._takes, names, arguments)):
            return False
        return all(number < len(names) and self._stores(names[number], line) for number, line in stored)

    def _takes(self, name: str, argument: str) -> bool:
        """Whether a variable can be what the bytecode calls `argument`."""
        if argument == ITERATED:
            return name == ITERATED or self.ids[name].kind == "free"
        return name == argument

    def _stores(self, name: str, line: int) -> bool:
        return any(each == name and first <= line <= last for each, first, last in self.stores)

    def spans(self, line: int) -> bool:
        """Whether a line is in it."""
        if isinstance(self.node, ast.Module):
            return True
        assert isinstance(self.node, ast.stmt | ast.expr)
        first, last = _lines(self.node)
        return first <= line <= last


@functools.lru_cache(maxsize=8)  # whoever steps through a journey reads the same scripts again and again
def scopes_of(source: bytes) -> list[Scope]:
    """The scopes of a script, not to be changed; none if it cannot be read as Python, or is too long to be read."""
    if len(source) > MAX_SOURCE_BYTES:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        return _Pass(tree).scopes
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _lines(node: ast.stmt | ast.expr | ast.ExceptHandler) -> tuple[int, int]:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)]), node.end_lineno or node.lineno


class _Pass:
    """The compiler's first pass over all scopes, one after the other."""

    def __init__(self, tree: ast.Module) -> None:
        self.scopes: list[Scope] = []
        self._waiting: deque[Scope] = deque()
        self._scope = Scope("<module>", tree, None)
        self._lines = (1, 1)
        self._waiting.append(self._scope)
        while self._waiting:
            self._scope = self._waiting.popleft()
            self.scopes.append(self._scope)
            self._enter()
            for name, known in self._scope.ids.items():
                if known.kind == "implicit" and self._closed_over(name):
                    known.kind = "free"
        for scope in self.scopes:
            _number(scope)

    def _enter(self) -> None:
        node = self._scope.node
        if isinstance(node, ast.stmt | ast.expr):
            self._lines = _lines(node)
        if isinstance(node, ast.Lambda):
            self._parameters(node.args)
            self._visit(node.body)
        elif isinstance(node, _FunctionDef):
            self._parameters(node.args)
            self._all(node.body)
        elif isinstance(node, ast.ClassDef):
            self._scope.ids["__class__"] = _Id("local")
            for name in ("__name__", "__module__", "__qualname__"):
                self._name(name, store=name != "__name__")
            self._all(node.body)
        elif isinstance(node, _Comprehension):
            self._scope.ids[ITERATED] = _Id("local", parameter=True)
            self._turns(node, 0)
        else:
            assert isinstance(node, ast.Module)
            self._all(node.body)

    def _parameters(self, args: ast.arguments) -> None:
        ids = self._scope.ids
        for arg in args.args:
            ids[arg.arg] = _Id("local", parameter=True)
        if args.vararg is not None:
            ids[args.vararg.arg] = _Id("local", parameter=True, starred=True)
        for arg in args.kwonlyargs:
            ids[arg.arg] = _Id("local", parameter=True)
        if args.kwarg is not None:
            ids[args.kwarg.arg] = _Id("local", parameter=True, starred=True)

    def _turns(self, node: _Comprehension, depth: int) -> None:
        for number, turn in enumerate(node.generators):
            if number:
                self._visit(turn.iter)
            self._visit(turn.target)
            self._each(turn.ifs)
        if isinstance(node, ast.DictComp):
            self._each((node.value, node.key))
        else:
            self._visit(node.elt)

    # --- names ---

    def _name(self, name: str, store: bool) -> None:
        scope = self._scope
        known = scope.ids.setdefault(name, _Id("implicit"))
        if not store:
            return
        scope.stores.append((name, *self._lines))
        if known.kind == "implicit":
            known.kind = "local" if scope.function_like else "assigned"

    def _closed_over(self, name: str) -> bool:
        """Whether a name means a variable of an outer function; then it is known in all scopes on the way to it."""
        for outer in self._outer():
            if name in outer.ids:
                if outer.ids[name].kind not in ("local", "cell", "free"):
                    return False
                break
        else:
            return False
        self._close_over(name)
        return True

    def _close_over(self, name: str) -> None:
        for outer in self._outer():
            if name in outer.ids:
                if outer.ids[name].kind == "local":
                    outer.ids[name].kind = "cell"
                return
            outer.ids[name] = _Id("free")

    def _outer(self) -> Iterator[Scope]:
        """The scopes around, without the module."""
        scope = self._scope.parent
        while scope is not None and scope.parent is not None:
            yield scope
            scope = scope.parent

    def _open(self, name: str, node: ast.AST) -> None:
        self._waiting.append(Scope(name, node, self._scope))

    # --- the order of the compiler ---

    def _all(self, body: Iterable[ast.stmt]) -> None:
        before = self._lines
        for statement in body:
            self._lines = _lines(statement)
            self._visit(statement)
        self._lines = before

    def _each(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self._visit(node)

    def _visit(self, node: ast.AST) -> None:
        method = getattr(self, f"_on_{type(node).__name__}", None)
        if method is not None:
            method(node)
        else:
            self._each(ast.iter_child_nodes(node))

    def _on_Name(self, node: ast.Name) -> None:
        self._name(node.id, store=not isinstance(node.ctx, ast.Load))

    def _on_Assign(self, node: ast.Assign) -> None:
        self._each((node.value, *node.targets))

    def _on_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._each((node.value, node.target))
        elif isinstance(node.target, ast.Name) and isinstance(self._scope.node, _FunctionDef):
            self._scope.ids.setdefault(node.target.id, _Id("local"))

    def _on_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._name(node.target.id, store=False)
            self._each((node.value, node.target))
        else:
            self._each((node.target, node.value))

    def _on_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._visit(node.value)
        inside, scope = self._scope, self._scope
        while isinstance(scope.node, _Comprehension) and scope.parent is not None:
            scope = scope.parent
        self._scope = scope
        self._visit(node.target)
        self._scope = inside

    def _on_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            self._each((value, key))

    def _on_Call(self, node: ast.Call) -> None:
        self._visit(node.func)
        method = isinstance(self._scope.node, _FunctionDef)
        if method and isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            self._name("__class__", store=False)
        given: list[ast.expr] = [*node.args, *(keyword.value for keyword in node.keywords)]
        given.sort(key=lambda each: (each.lineno, each.col_offset))
        self._each(given)

    def _on_If(self, node: ast.If) -> None:
        constant = _constant(node.test)
        if constant is not False:
            self._visit(node.test)
            self._all(node.body)
        if constant is not True:
            self._all(node.orelse)

    def _on_While(self, node: ast.While) -> None:
        if _constant(node.test) is not False:
            self._all(node.body)
            self._visit(node.test)
        self._all(node.orelse)

    def _on_For(self, node: ast.For) -> None:
        counted = _range(node)
        if counted is None:
            self._each((node.iter, node.target))
        else:
            self._each((*counted, node.target))
        self._all(node.body)
        self._all(node.orelse)

    def _on_AsyncFor(self, node: ast.AsyncFor) -> None:
        self._each((node.iter, node.target))
        self._all(node.body)
        self._all(node.orelse)

    def _on_With(self, node: ast.With) -> None:
        for item in node.items:
            self._each((item.context_expr, item.optional_vars))
        self._all(node.body)

    def _on_AsyncWith(self, node: ast.AsyncWith) -> None:
        for item in node.items:
            self._each((item.context_expr, item.optional_vars))
        self._all(node.body)

    def _on_Try(self, node: ast.Try) -> None:
        whole = self._lines
        self._all(node.body)
        for handler in node.handlers:
            if handler.type is not None:
                self._visit(handler.type)
            if handler.name is not None:
                self._lines = whole
                self._name(handler.name, store=True)
            self._all(handler.body)
        self._all(node.orelse)
        self._all(node.finalbody)

    def _on_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._each(node.decorator_list)
        self._open(node.name, node)
        self._each((*node.args.defaults, *node.args.kw_defaults))
        self._name(node.name, store=True)

    def _on_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._each(node.decorator_list)
        self._open(node.name, node)
        self._each((*node.args.defaults, *node.args.kw_defaults))
        self._name(node.name, store=True)

    def _on_Lambda(self, node: ast.Lambda) -> None:
        self._open(_SCOPES[ast.Lambda], node)
        self._each((*node.args.defaults, *node.args.kw_defaults))

    def _on_ClassDef(self, node: ast.ClassDef) -> None:
        self._each(node.decorator_list)
        self._open(node.name, node)
        self._each((*node.bases, *(keyword.value for keyword in node.keywords)))
        self._name(node.name, store=True)

    def _comprehension(self, node: _Comprehension) -> None:
        self._open(_SCOPES[type(node)], node)
        self._visit(node.generators[0].iter)

    _on_ListComp = _on_SetComp = _on_DictComp = _on_GeneratorExp = _comprehension

    def _on_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._name(alias.asname or alias.name.partition(".")[0], store=True)

    def _on_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name != "*":
                self._name(alias.asname or alias.name, store=True)

    def _on_Global(self, node: ast.Global) -> None:
        for name in node.names:
            self._scope.ids[name] = _Id("global")

    def _on_Nonlocal(self, node: ast.Nonlocal) -> None:
        for name in node.names:
            self._scope.ids[name] = _Id("free")
            self._close_over(name)


def _constant(test: ast.expr) -> bool | None:
    """What a condition is to the compiler; None if that depends."""
    value = _folded(test)
    return None if value is None else bool(value)


def _folded(node: ast.expr) -> int | None:
    """The value of an expression that the compiler computes; None for another."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) and abs(node.value) < _SMALL else None
    value = None
    if isinstance(node, ast.UnaryOp):
        operand = _folded(node.operand)
        value = None if operand is None else _UNARY[type(node.op)](operand)
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _folded(node.left), _folded(node.right)
        if left is not None and right is not None:
            try:
                value = _BINARY[type(node.op)](left, right)
            except ArithmeticError:
                return None
    return value if value is not None and abs(value) < _SMALL else None


def _range(node: ast.For) -> tuple[ast.expr, ...] | None:
    """End and start of a loop that the compiler turns into counting; None if it is another."""
    call = node.iter
    if not (isinstance(node.target, ast.Name) and isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        return None
    if call.func.id != "range" or call.keywords or any(isinstance(each, ast.Starred) for each in call.args):
        return None
    match call.args:
        case [end]:
            return (end,)
        case [start, end]:
            return end, start
        case [start, end, step] if _folded(step) is not None:
            return end, start
    return None


def _number(scope: Scope) -> None:
    """Give the variables of a scope their numbers. The scopes around have theirs."""
    names = _in_order(scope)
    fast = [name for name in names if scope.ids[name].parameter or scope.ids[name].kind == "local"]
    if isinstance(scope.node, ast.ClassDef):
        fast = []  # `__class__` is a variable only where a method uses it, as a cell
    cells = [name for name in names if scope.ids[name].kind == "cell" and not scope.ids[name].parameter]
    free = [
        name
        for name in (scope.parent.ids if scope.parent is not None else ())
        if name in scope.ids and scope.ids[name].kind == "free" and not scope.ids[name].parameter
    ]
    for number, name in enumerate([*free, *fast, *cells]):
        scope.ids[name].number = number


def _in_order(scope: Scope) -> list[str]:
    """The names of a scope; the parameter that takes further arguments changes places with the last plain one."""
    names = list(scope.ids)
    starred = [name for name in names if scope.ids[name].starred]
    plain = [name for name in names if scope.ids[name].parameter and not scope.ids[name].starred]
    if isinstance(scope.node, _FunctionDef | ast.Lambda) and scope.node.args.vararg is not None and plain:
        first, last = names.index(starred[0]), names.index(plain[-1])
        if first < last:
            names[first], names[last] = names[last], names[first]
    return names
