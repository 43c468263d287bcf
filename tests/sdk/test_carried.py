"""Modules beside a script: which of them a Python agent takes along, and that it can import them afar."""

from __future__ import annotations

from pathlib import Path

import pytest

import agents
from agents import canonical
from agents.ambient import StandaloneHost
from agents.errors import ToolchainError, ToolchainMissing
from agents.sdk import carried, cpython
from agents.sdk.carried import modules_beside
from agents.sdk.sources import Choices, load_image, user_cache
from agents.waits import Arrived, Event, Wait
from agents.wasi.state import WasiState


def folder_with(folder: Path, files: dict[str, str]) -> Path:
    """Writes files, and gives the path of `main.py`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "main.py"


def taken(script: Path) -> list[str]:
    return list(modules_beside(script, script.read_bytes()))


def test_what_is_imported_is_taken_and_nothing_else(tmp_path: Path) -> None:
    script = folder_with(
        tmp_path,
        {
            "main.py": "import helper, json\nfrom pack.inner import thing\ndef f():\n    import late\n",
            "helper.py": "import second.part\n",
            "late.py": "import main\n",
            "unused.py": "",
            "portcall.py": "this is not the shim",
            "pack/__init__.py": "from . import other",
            "pack/inner.py": "",
            "pack/other.py": "import deep",
            "pack/sub/__init__.py": "",
            "deep.py": "",
            "second/part.py": "no package: it has no __init__",
        },
    )
    (tmp_path / "pack" / "data.bin").write_bytes(b"")
    assert taken(script) == [
        "deep.py",
        "helper.py",
        "late.py",
        "main.py",
        "pack/__init__.py",
        "pack/inner.py",
        "pack/other.py",
        "pack/sub/__init__.py",
    ]


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    script = folder_with(tmp_path, {"main.py": "import helper\n", "helper.py": "x = 1\nx = = 2\n"})
    with pytest.raises(ToolchainError, match=r"helper\.py, line 2: invalid syntax"):
        taken(script)
    script.write_bytes(b"a = '\0'")
    with pytest.raises(ToolchainError, match=r"main\.py"):
        taken(script)


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = {"pack/__init__.py": "", "pack/a.py": "", "pack/b.py": ""}
    script = folder_with(tmp_path, {"main.py": "import pack", **package})
    assert len(taken(script)) == 3
    monkeypatch.setattr(carried, "MAX_CARRIED_FILES", 2)
    with pytest.raises(ToolchainError, match="more than an agent carries"):
        taken(script)


def test_a_script_keeps_its_name_and_a_module_called_main_its_own(tmp_path: Path) -> None:
    script = folder_with(tmp_path, {"main.py": "print(__name__)\n"}).with_name("trip.py")
    script.write_text("import sys\nprint(sys.argv[0], __name__)\nimport main\n1 / 0\n")
    said: list[bytes] = []
    place = StandaloneHost(lambda: 0, lambda: 0, bytes, sink=lambda fd, data: said.append(data))
    outcome = agents.run(load_image(script, cache=user_cache()), ambient=place)
    assert isinstance(outcome, agents.Finished)
    assert outcome.exit_code == 1
    lines = b"".join(said).decode().splitlines()
    assert lines[:2] == ["/agent/trip.py __main__", "main"]
    assert '  File "/agent/trip.py", line 4, in <module>' in lines


def test_the_import_happens_afar(tmp_path: Path) -> None:
    script = folder_with(
        tmp_path,
        {
            "main.py": "import portcall\nportcall.go('beta')\nfrom pack.inner import greeting\nimport helper\n"
            "print(greeting(), helper.here)\n",
            "pack/__init__.py": "",
            "pack/inner.py": "import portcall\ndef greeting():\n    return 'hello from ' + portcall.here()\n",
            "helper.py": "import portcall\nhere = portcall.here()\n",
        },
    )
    said: list[bytes] = []
    place = StandaloneHost(lambda: 0, lambda: 0, bytes, station="alpha", sink=lambda fd, data: said.append(data))

    def answer(wait: Wait) -> Event:
        place.station = "beta"
        return Arrived()

    image = load_image(script, cache=user_cache())
    assert isinstance(agents.run(image, ambient=place, answer=answer, hop_every=1, hops=5), agents.Finished)
    assert b"".join(said) == b"hello from beta beta\n"


def test_a_library_beside_a_build_of_cpython_is_luggage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = folder_with(
        tmp_path,
        {
            "lib/python3.12/os.py": "here",
            "lib/python3.12/json/__init__.py": "",
            "lib/python3.12/test/test_os.py": "",
            "lib/python3.12/site-packages/thing.py": "",
            "lib/other/x.py": "",
        },
    ).with_name("python.wasm")
    found = cpython.library(build)
    assert set(found) == {"/python/lib/python3.12/os.py", "/python/lib/python3.12/json/__init__.py"}
    state = WasiState.decode(canonical.decode(cpython.luggage("trip.py", b"", build, ["one"])))
    assert b"PYTHONHOME=/python" in state.environ
    assert state.args == (b"python", b"/lib/start.py", b"/agent/trip.py", b"one")
    assert cpython.library(tmp_path / "elsewhere" / "python.wasm") == {}
    monkeypatch.setattr(cpython, "MAX_LIBRARY_BYTES", 3)
    with pytest.raises(ToolchainError, match="larger than"):
        cpython.library(build)


def test_a_build_of_cpython_that_is_none(tmp_path: Path) -> None:
    script = folder_with(tmp_path, {"main.py": "", "text": "no module"})
    with pytest.raises(ToolchainMissing, match=r"nothing\.wasm"):
        load_image(script, Choices(python=tmp_path / "nothing.wasm"))
    with pytest.raises(ToolchainError, match="no WebAssembly build"):
        load_image(script, Choices(python=tmp_path / "text"))
