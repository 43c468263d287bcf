"""Run by `.ci/run` with the Python into which the wheel was installed, in an empty folder.

Not a test module: it checks what only an installed wheel can show. Every module imports, every data file of
the checkout's packages came along, and the commands of the README's first lines work.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import agents
import docking
import portcall as stub

CHECKOUT = Path(__file__).resolve().parent.parent
# Modules of an optional package: they import only where it is installed.
OPTIONAL = {
    "agents.engines.wasmer": "wasmer",
    "agents.zstandard_fallback": "compression",  # of Python 3.14
    "docking.pytest_plugin": "pytest",
} | {
    f"docking.mec.{name}": "httpx"
    for name in ("api", "book", "callbacks", "mobility", "models", "notifier", "requests", "server", "service")
}


def main() -> None:
    data = 0
    modules = []
    for package in (agents, docking, stub):
        (installed,) = (Path(path) for path in package.__path__)
        assert CHECKOUT not in installed.parents, f"{package.__name__} comes from the checkout"
        source = CHECKOUT / package.__name__
        for file in source.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert (installed / file.relative_to(source)).is_file(), f"{file} is missing"
                data += file.suffix != ".py"
        modules += [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for name in modules:
        absent = name in OPTIONAL and importlib.util.find_spec(OPTIONAL[name]) is None
        if not name.endswith("__main__") and not absent:
            importlib.import_module(name)
    (plugin,) = (each for each in importlib.metadata.entry_points(group="pytest11") if "docking" in each.value)
    assert importlib.util.find_spec(plugin.value) is not None
    print(f"{len(modules)} modules import, {data} data files are there")
    portcall = Path(sys.executable).with_name("portcall")
    commands = subprocess.run([portcall, "--help"], capture_output=True, text=True, check=True).stdout
    if "\n  demo " in commands:
        subprocess.run([portcall, "demo"], check=True, timeout=120)


main()
