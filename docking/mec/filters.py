"""Attribute-based filters and attribute selectors of lists (ETSI GS MEC 009, as NFV-SOL 013 clause 5.2 and 5.3 has
them).

    filter=(eq,serviceConsumerId/appInstanceId,a1);(gt,expiryTime,10)
    fields=deviceInformation   exclude_fields=serviceConsumerId   all_fields   exclude_default

A filter's attribute may be complex: then any value in it may fit. Invariants: what is not understood is an error (400)
and never ignored; expressions, values and lengths are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from agents.brief import brief
from docking.mec.problems import bad_request

MAX_EXPRESSIONS, MAX_VALUES, MAX_CHARS = 16, 64, 4096
FILTER = "filter"
SELECTORS = ("all_fields", "fields", "exclude_fields", "exclude_default")
# (op,attribute,value[,value...]); a value in single quotes may hold anything, a quote in it is doubled.
_VALUE = r"'(?:[^']|'')*'|[^,()']*"
_EXPRESSION = re.compile(rf"\(([a-z]+),([A-Za-z_]+(?:/[A-Za-z_]+)*)((?:,(?:{_VALUE}))+)\)")
_VALUES = re.compile(rf",({_VALUE})")


def _compare(order: Callable[[Any, Any], bool]) -> Callable[[Any, Sequence[str]], bool]:
    """Compares as numbers where the value is a number, else as texts."""

    def fits(value: Any, wanted: Sequence[str]) -> bool:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return order(value, float(wanted[0]))
            except ValueError:
                return False
        return order(_text(value), wanted[0])

    return fits


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# Each with the number of values that it takes at most, and whether it denies the one before it.
_OPERATORS: dict[str, tuple[int, Callable[[Any, Sequence[str]], bool], bool]] = {
    "eq": (1, lambda value, wanted: _text(value) == wanted[0], False),
    "neq": (1, lambda value, wanted: _text(value) == wanted[0], True),
    "in": (MAX_VALUES, lambda value, wanted: _text(value) in wanted, False),
    "nin": (MAX_VALUES, lambda value, wanted: _text(value) in wanted, True),
    "gt": (1, _compare(lambda value, wanted: bool(value > wanted)), False),
    "gte": (1, _compare(lambda value, wanted: bool(value >= wanted)), False),
    "lt": (1, _compare(lambda value, wanted: bool(value < wanted)), False),
    "lte": (1, _compare(lambda value, wanted: bool(value <= wanted)), False),
    "cont": (MAX_VALUES, lambda value, wanted: any(each in _text(value) for each in wanted), False),
    "ncont": (MAX_VALUES, lambda value, wanted: any(each in _text(value) for each in wanted), True),
}


@frozen
class Shape:
    """The attributes of a data type. `tree`: all of them, each with those in it; `optional`: the structures that are
    not mandatory, which `exclude_default` leaves out, and `fields` where it does not name them.
    """

    tree: Mapping[str, Any] = field(repr=brief)
    optional: frozenset[str] = field(repr=brief)

    def has(self, path: Sequence[str]) -> bool:
        """Whether there is such an attribute."""
        at: Any = self.tree
        for part in path:
            if not isinstance(at, Mapping) or part not in at:
                return False
            at = at[part]
        return True


_CONSUMER = {"appInstanceId": None, "mepId": None}
_DEVICE = {
    "serviceConsumerId": _CONSUMER,
    "associateId": {"type": None, "value": None},
    "appMobilityServiceLevel": None,
    "contextTransferState": None,
}
SERVICES = Shape(
    {
        "appMobilityServiceId": None,
        "serviceConsumerId": _CONSUMER,
        "deviceInformation": _DEVICE,
        "expiryTime": None,
    },
    frozenset({"deviceInformation"}),
)
ADJACENT = Shape(
    {
        "appInstanceId": None,
        "appDId": None,
        "registeredInstanceId": None,
        "appInstanceCommLink": {"ipAddresses": {"host": None, "port": None}},
        "mecHostInformation": {"hostName": None, "hostId": {"stationKey": None}},
    },
    frozenset({"mecHostInformation"}),
)


@frozen
class _Expression:
    path: tuple[str, ...] = field(repr=brief)
    fits: Callable[[Any, Sequence[str]], bool]
    denies: bool
    values: tuple[str, ...] = field(repr=brief)

    def holds(self, item: Mapping[str, Any]) -> bool:
        return any(self.fits(value, self.values) for value in _leaves(item, self.path)) is not self.denies


@frozen
class View:
    """What of a list is wanted: which items, and of each which attributes."""

    _expressions: tuple[_Expression, ...] = field(repr=brief)
    _left_out: frozenset[str] = field(repr=brief)

    def of(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The items that are wanted."""
        return [
            {name: value for name, value in item.items() if name not in self._left_out}
            for item in items
            if all(each.holds(item) for each in self._expressions)
        ]


def view(parameters: Sequence[tuple[str, str]], shape: Shape) -> View:
    """The view that query parameters ask for. Raises `Problem` (400).

    The conformance tests of MEC-DEC 032-3 write `filter(eq,...)`, without the sign in between: that is a filter too.
    """
    expressions: list[_Expression] = []
    given: dict[str, str] = {}
    for name, value in parameters:
        text = f"{name}={value}" if value else name
        if name == FILTER or text.startswith("filter("):
            expressions += _filter(value if name == FILTER else text[len(FILTER) :], shape)
        elif name in SELECTORS and name not in given:
            given[name] = value
        else:
            raise bad_request("a query parameter is unknown, or given twice")
    if len(expressions) > MAX_EXPRESSIONS:
        raise bad_request(f"a filter has at most {MAX_EXPRESSIONS} expressions")
    return View(tuple(expressions), _left_out(given, shape))


def _filter(text: str, shape: Shape) -> Iterator[_Expression]:
    if len(text) > MAX_CHARS:
        raise bad_request("the filter is too long")
    at = 0
    while True:
        found = _EXPRESSION.match(text, at)
        if found is None:
            raise bad_request("the filter is not (op,attribute,value) or several of them with ; in between")
        yield _expression(found[1], tuple(found[2].split("/")), found[3], shape)
        at = found.end()
        if at == len(text):
            return
        if text[at] != ";":
            raise bad_request("between the expressions of a filter stands ;")
        at += 1


def _expression(operator: str, path: tuple[str, ...], values: str, shape: Shape) -> _Expression:
    if operator not in _OPERATORS:
        raise bad_request(f"the operators of a filter are {', '.join(_OPERATORS)}")
    if not shape.has(path):
        raise bad_request("the filter names an attribute that these resources do not have")
    most, fits, denies = _OPERATORS[operator]
    wanted = tuple(_unquoted(each) for each in _VALUES.findall(values))
    if len(wanted) > most:
        raise bad_request(f"the operator {operator} takes at most {most} values")
    return _Expression(path, fits, denies, wanted)


def _unquoted(text: str) -> str:
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


def _leaves(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """The plain values at a path, or below it; of each item of a list on the way."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _leaves(each, path)
    elif isinstance(value, Mapping):
        for name in path[:1] or tuple(value):
            if name in value:
                yield from _leaves(value[name], path[1:])
    elif not path:
        yield value


def _left_out(given: Mapping[str, str], shape: Shape) -> frozenset[str]:
    if "all_fields" in given and len(given) > 1:
        raise bad_request("all_fields goes with no other selector")
    if "exclude_fields" in given and len(given) > 1:
        raise bad_request("exclude_fields goes with no other selector")
    if "exclude_fields" in given:
        return _names(given["exclude_fields"], shape)
    if "fields" in given:
        return shape.optional - _names(given["fields"], shape)
    return shape.optional if "exclude_default" in given else frozenset()


def _names(text: str, shape: Shape) -> frozenset[str]:
    names = text.split(",")
    if len(text) > MAX_CHARS or not all(shape.has(name.split("/")) for name in names):
        raise bad_request("a selector names an attribute that these resources do not have")
    return frozenset(name.split("/")[0] for name in names)
