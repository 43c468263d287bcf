"""What `help()` says of a public name: what it does, and each of its parameters by name."""

from __future__ import annotations

import enum
import inspect
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import agents
import agents.testing
import docking
import docking.console
import docking.itinerary
import docking.keys
import docking.mec
import docking.options
import docking.testing
import portcall

# Not parameters that a reader gives; and what functions of the library make, or a protocol.
_OWN = {"self", "cls"}
_MADE_FOR_THE_READER = {
    "docking.console.Console",
    "docking.Agent",
    "docking.Connection",
    "docking.Offering",
    "docking.RemoteAgent",
    "portcall.Request",
}


def _public() -> Iterator[tuple[str, Any]]:
    for module in (
        agents,
        docking,
        docking.console,
        docking.itinerary,
        docking.keys,
        docking.mec,
        docking.options,
        docking.testing,
        agents.testing,
        portcall,
    ):
        names = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]
        for name in names:
            yield f"{module.__name__}.{name}", getattr(module, name)


def _callables() -> Iterator[tuple[str, Callable[..., Any], str]]:
    """Each public callable: its name, itself, and the text where its parameters belong."""
    for name, value in _public():
        if not inspect.isclass(value):
            if callable(value) and not isinstance(value, types.GenericAlias) and inspect.isroutine(value):
                yield name, value, inspect.getdoc(value) or ""
            continue
        made = value.__init__ is not object.__init__ and name not in _MADE_FOR_THE_READER
        if made and not issubclass(value, (enum.Enum, BaseException, dict)):
            own = "" if "__init__" not in vars(value) else inspect.getdoc(value.__init__) or ""
            yield name, value, f"{inspect.getdoc(value) or ''}\n{own}"
        for key, member in vars(value).items():
            inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if key.startswith("_") or not inspect.isfunction(inner):
                continue
            yield f"{name}.{key}", inner, inspect.getdoc(inner) or ""


_CALLABLES = {name: (value, text) for name, value, text in _callables()}


@pytest.mark.parametrize("name", [name for name, _ in _public()])
def test_every_public_name_has_a_docstring(name: str) -> None:
    value = dict(_public())[name]
    if inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value), name


@pytest.mark.parametrize("name", sorted(_CALLABLES))
def test_a_docstring_names_each_parameter(name: str) -> None:
    value, text = _CALLABLES[name]
    missing = [
        parameter
        for parameter in inspect.signature(value).parameters
        if parameter not in _OWN and not parameter.startswith("_") and not re.search(rf"\b{parameter}\b", text)
    ]
    assert not missing, f"{name}: nothing is said of {', '.join(missing)}"
