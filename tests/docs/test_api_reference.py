"""The reference of the Python interface has every public name, each where it is written."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from tests.docs.test_docs_reference import of_docs

HOOKS = of_docs("hooks")
PACKAGES = ("agents", "docking", "portcall")


def pages() -> str:
    return "\n".join(HOOKS.api_page(title, *modules) for title, modules in HOOKS.API.values())


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_missing(package: str) -> None:
    module = importlib.import_module(package)
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == package
    ]
    told = set(re.findall(rf"^      heading: .{package}\.(\w+).$", pages(), re.MULTILINE))
    inner = {name for name in names if inspect.ismodule(getattr(module, name))}
    assert set(names) - inner - {name for name in names if name.startswith("_")} == told
    modules = {each for _, found in HOOKS.API.values() for each in found}
    assert {f"{package}.{name}" for name in inner} <= modules


def test_each_name_is_where_it_is_said_to_be() -> None:
    places = re.findall(r"^::: ([\w.]+)\.(\w+)$", pages(), re.MULTILINE)
    assert len(places) > 80
    for module, name in places:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_lines_of_parameters_become_lists() -> None:
    listed = of_docs("parameters").listed
    text = "What it does.\n\nname: of it\nfirst, second: two\n    of them\n\nRaises: nothing."
    assert listed(text) == "What it does.\n\n- `name`: of it\n- `first`, `second`: two\n    of them\n\nRaises: nothing."
    assert listed("    name: in code") == "    name: in code"
