"""The page about the calls says what the code does: each import, file, number and bound."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from agents import hostcalls, waits
from agents.wasi import abi, devices, portcall_files
from agents.wasi.limits import WasiLimits
from docking import simulation
from docking.residents import berth, lifecycle

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "abi.md").read_text(encoding="utf-8")


def test_every_import_with_its_parameters() -> None:
    told = dict(re.findall(r"^\| `(\w+)\(([^)]*)\)` \|", PAGE, re.MULTILINE))
    known = {}
    for name, entry in hostcalls.IMPORTS.items():
        parameters = list(inspect.signature(entry.function).parameters)[1:]
        assert set(entry.params + entry.results) <= {"i"}  # "all parameters and results are i32"
        assert len(parameters) == len(entry.params)
        known[name] = ", ".join(parameters)
    assert told == known


def test_every_file() -> None:
    told = re.findall(r"`/portcall/(\w+)((?:/[A-Z]+)*)`", PAGE)
    assert {name for name, _ in told} == set(portcall_files._NAMES)
    assert {name for name, argument in told if argument} == {*portcall_files._FOLDERS, *portcall_files._EITHER}
    assert re.findall(r"`/portcall/(\w+)`", PAGE.split("## Files")[1]) == [
        name for name, argument in told if not argument
    ]
    assert all(f"`{level}`" in PAGE for level in portcall_files._LEVELS)
    assert all(f"`{name}`" in PAGE for name in devices.DEVICE_NAMES)


def test_every_number_that_calls_answer_with() -> None:
    told = {name: int(number) for number, name in re.findall(r"^\| (\d+) \| `(E\w+)` \|", PAGE, re.MULTILINE)}
    known = {}
    for module in (hostcalls, portcall_files, abi, berth, lifecycle, simulation):
        known |= {name: value for name, value in vars(module).items() if re.fullmatch("E[A-Z0-9]+", name)}
    assert {name: known.get(name) for name in told} == told
    calls = {name for name in vars(hostcalls) if re.fullmatch("E[A-Z]+", name)} - {"ENTRY_MAX"}
    assert calls <= set(told)


def test_the_bounds() -> None:
    assert (waits.MAX_HOST_BYTES, waits.MAX_SERVICE_BYTES, waits.MAX_ENTRY_BYTES, hostcalls.MAX_REPORT_KEY_BYTES) == (
        1024,
        256,
        256,
        256,
    )
    assert (waits.MAX_BODY_BYTES, hostcalls.MAX_LOG_BYTES, WasiLimits().log_bytes) == (1 << 20, 8192, 16 << 20)
    for bound in ("1,024 bytes", "256 bytes", "1 MiB", "8,192 bytes", "16 MiB"):
        assert f"| {bound}" in PAGE
