"""Prepares docstrings for the reference of the Python interface: an extension of griffe, which mkdocstrings reads with.

The lines of parameters become lists (`docs/parameters.py`). The constructor of an attrs class is made of its signature,
which only the class itself knows.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import attrs
import griffe

sys.path[:0] = [str(Path(__file__).resolve().parent)]  # griffe loads this file by its path alone
from parameters import listed  # type: ignore[import-not-found,unused-ignore]  # noqa: E402

KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: griffe.ParameterKind.positional_only,
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.VAR_POSITIONAL: griffe.ParameterKind.var_positional,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
    inspect.Parameter.VAR_KEYWORD: griffe.ParameterKind.var_keyword,
}


class Docstrings(griffe.Extension):
    """See above."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = listed(obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        if "__init__" in cls.members or not cls.path.startswith(("agents.", "docking.")):
            return
        found = _named(cls.path)
        if not inspect.isclass(found) or not attrs.has(found):
            return
        if any(field.init and field.name.startswith("_") for field in attrs.fields(found)):
            return  # made for the reader, by something else
        made = griffe.Function("__init__", parameters=griffe.Parameters(*_parameters(cls, found)))
        cls.set_member("__init__", made)


def _named(path: str) -> object:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:  # a class within a class
        return None


def _parameters(cls: griffe.Class, found: type) -> list[griffe.Parameter]:
    made = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
    for each in inspect.signature(found).parameters.values():
        fields = {field.alias: field for field in attrs.fields(found)}
        annotation = fields[each.name].type if each.name in fields else None
        default = None if each.default is inspect.Parameter.empty else _shown(each.default)
        kind = KINDS[each.kind]
        made.append(
            griffe.Parameter(each.name, annotation=str(annotation or "").strip("'") or None, kind=kind, default=default)
        )
    return made


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < 40 and "<" not in text and "NOTHING" not in text else "..."
