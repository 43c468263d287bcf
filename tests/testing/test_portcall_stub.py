"""The package `portcall`: what editors, type checkers and unit tests know of the module that agents carry."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import portcall

ROOT = Path(__file__).resolve().parents[2]


def functions(path: Path) -> dict[str, tuple[str, str, str | None]]:
    """Name -> parameters, result and docstring."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            result = "" if node.returns is None else ast.unparse(node.returns)
            # The types are in quotes where MicroPython would not read them.
            found[node.name] = (
                ast.unparse(node.args).replace("'", "").replace('b""', "b"),
                result.strip("'"),
                ast.get_docstring(node),
            )
    return found


def test_it_has_what_agents_carry() -> None:
    carried = functions(ROOT / "agents" / "sdk" / "python" / "portcall.py")
    assert functions(ROOT / "portcall" / "__init__.py") == carried
    assert len(carried) >= 14


def test_outside_an_agent_it_says_what_to_do() -> None:
    for name in functions(ROOT / "portcall" / "__init__.py"):
        function = getattr(portcall, name)
        needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        with pytest.raises(portcall.OutsideAgent, match=rf"portcall\.{name}\(\) is for agents.*portcall run FILE\.py"):
            function(*["x"] * len(needed))


def test_type_checkers_know_it(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "good.py").write_text(
        "import portcall\nportcall.go('beta')\ncount: int = len(portcall.call('stock', 'nuts'))\n"
        "child: str | None = portcall.clone()\nportcall.report('n', count)\n"
    )
    (tmp_path / "bad.py").write_text(
        "import portcall\nportcall.go(1)\nportcall.gone('beta')\nx: int = portcall.here()\n"
    )

    def checked(name: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", name],
            cwd=tmp_path,
            env={"MYPYPATH": str(ROOT), "PATH": "", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    assert checked("good.py") == ""
    assert [line.rpartition("[")[2] for line in checked("bad.py").splitlines()] == [
        "arg-type]",
        "attr-defined]",
        "assignment]",
    ]
