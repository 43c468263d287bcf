"""The scripts that all targets of `make` begin with: what is locked, and what they say where they cannot install it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / ".ci" / "locks").glob("*.txt"))

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell script")


def said(*words: str) -> str:
    """What it says, when it fails, without uv."""
    environment = {**os.environ, "PORTCALL_NO_UV": "1"}
    done = subprocess.run(
        ["sh", str(ROOT / ".ci" / "env"), *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done
    assert done.stderr.startswith("portcall: ")
    return done.stderr


def test_a_python_that_is_too_old_or_not_there(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")  # as the question whether it is new enough ends there
    old.chmod(0o755)
    for python in (str(old), str(tmp_path / "none")):
        sentence = said("run", python, str(tmp_path / "venv"))
        assert f"{python} does not run or is older than Python 3.10; name another one" in sentence
        assert "make PYTHON=python3.12" in sentence
    assert not (tmp_path / "venv").exists()


def test_a_folder_that_is_somebody_elses() -> None:
    assert "clone the repository into a folder of your own" in said("run", sys.executable, "/proc/venv")


def test_a_level_that_is_not_known() -> None:
    assert "the levels are: run test bench ci" in said("everything")


def locked(lock: Path) -> list[Requirement]:
    """What it names, without the hashes."""
    lines = lock.read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return [Requirement(line.split(" --hash=")[0]) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_all_that_is_locked_has_one_version_and_hashes(lock: Path) -> None:
    names = locked(lock)
    assert names
    assert all(re.fullmatch(r"==[^*,]+", str(each.specifier)) for each in names), names
    text = lock.read_text(encoding="utf-8").replace("\\\n", "")
    assert len(re.findall(r"^(?!#).*==.* --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) == len(names)


@pytest.mark.parametrize("level", ["run", "test", "bench", "ci"])
def test_extras_are_locked_where_a_locked_package_asks_for_them(level: str) -> None:
    """As the pip of Debian 12's Python wants it; newer ones are content with the bare name."""
    named = locked(ROOT / ".ci" / "locks" / f"{level}.txt")
    here = [each for each in named if not each.marker or each.marker.evaluate()]
    extras = {canonicalize_name(each.name): each.extras for each in here}
    asked: set[tuple[str, str]] = set()
    for each in here:
        try:
            needs = importlib.metadata.requires(each.name) or []
        except importlib.metadata.PackageNotFoundError:
            assert level != "run", f"{each.name} is not installed here"
            continue
        for need in map(Requirement, needs):
            if any(not need.marker or need.marker.evaluate({"extra": extra}) for extra in each.extras | {""}):
                asked |= {(canonicalize_name(need.name), extra) for extra in need.extras}
    assert level == "run" or ("coverage", "toml") in asked
    assert not {(name, extra) for name, extra in asked if extra not in extras[name]}


INSTALLERS = ["pip", pytest.param("uv", marks=pytest.mark.skipif(not shutil.which("uv"), reason="there is no uv"))]
ZEROS = "0" * 64


@contextlib.contextmanager
def index(folder: Path) -> Iterator[str]:
    """A package index on this machine, of the files in a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple"
        finally:
            server.shutdown()
            thread.join()


def not_installed(
    folder: Path, lock: str, url: str, *, by: str = "pip", python: str = sys.executable, pip: str | None = None
) -> str:
    """What `.ci/install` says when it fails to install this lock from this index; `pip` is the version in the locks."""
    scripts = folder / "ci"
    (scripts / "locks").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "install", scripts)
    version = pip or importlib.metadata.version("pip")
    (scripts / "locks" / "run.txt").write_text(f"pip=={version} \\\n    --hash=sha256:{ZEROS}\n")
    (folder / "lock.txt").write_text(lock)
    environment = {name: text for name, text in os.environ.items() if not name.upper().startswith(("PIP_", "UV_"))}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": url, "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    environment |= {"UV_NO_CONFIG": "1", "UV_DEFAULT_INDEX": url, "UV_HTTP_RETRIES": "0", "UV_NO_CACHE": "1"}
    environment |= {"PORTCALL_NO_UV": "" if by == "uv" else "1", "NO_PROXY": "*", "no_proxy": "*"}
    command = [str(scripts / "install"), python, str(folder / "lock.txt"), "--target", str(folder / "target")]
    done = subprocess.run(["sh", *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done
    sentences = [line for line in done.stderr.splitlines() if line.startswith("portcall: ")]
    assert len(sentences) == 1, done.stderr
    return done.stderr


@pytest.fixture
def closed() -> Iterator[str]:
    """An index that cannot be reached."""
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/simple"


NETWORK = "the package index cannot be reached"


@pytest.mark.parametrize("by", INSTALLERS)
def test_an_index_that_cannot_be_reached(by: str, tmp_path: Path, closed: str) -> None:
    assert NETWORK in not_installed(tmp_path, f"thing==1.0 --hash=sha256:{ZEROS}\n", closed, by=by)


@pytest.mark.parametrize("by", INSTALLERS)
def test_the_network_is_blamed_for_nothing_else(by: str, tmp_path: Path) -> None:
    page = tmp_path / "index" / "simple" / "thing"
    page.mkdir(parents=True)
    (page / "index.html").write_text('<a href="thing-1.0-py3-none-any.whl">thing-1.0-py3-none-any.whl</a>')
    with zipfile.ZipFile(page / "thing-1.0-py3-none-any.whl", "w") as wheel:  # not the one that is locked
        wheel.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        wheel.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("thing-1.0.dist-info/RECORD", "")
    cases = {
        f"thing==1.0 --hash=sha256:{ZEROS}\n": "a file is not the one that was locked",
        f"thing==2.0 --hash=sha256:{ZEROS}\n": "the package index answers, but has no file",
        f"other==1.0 --hash=sha256:{ZEROS}\n": "the package index answers, but has no file",
        "thing==1.0\n": "does not pin what the lines above name: a fault of this checkout",
        f"thing==1.0 --hash=sha256:{ZEROS}\nthing>=\n": "does not pin what the lines above name",
    }
    with index(tmp_path / "index") as url:
        for number, (lock, sentence) in enumerate(cases.items()):
            said = not_installed(tmp_path / str(number), lock, url, by=by)
            assert sentence in said
            assert NETWORK not in said


def test_the_locked_pip_is_installed_before_anything_else(tmp_path: Path, closed: str) -> None:
    said = not_installed(tmp_path, f"thing==1.0 --hash=sha256:{ZEROS}\n", closed, pip="99.9")
    assert "pip==99.9" in said
    assert "thing" not in said


def test_an_environment_whose_pip_is_gone_gets_one(tmp_path: Path, closed: str) -> None:
    """As an interruption leaves it while pip replaces itself."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    assert "pip==99.9" in not_installed(tmp_path / "work", "", closed, python=str(python), pip="99.9")
    assert subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def test_every_target_of_the_makefile_is_told() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())  # type: ignore[index]
    listed = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=False).stdout
    assert set(re.findall(r"^  make (\w+)", listed, re.MULTILINE)) == targets
    pages = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    assert {target for target in targets if f"make {target}" not in pages} <= {"help"}


def test_the_map_of_the_readme_is_of_this_house() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1:5] for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)]
    first = next(at for at, row in enumerate(rows) if row[0].strip() == "`agents/`")
    for agents, _, docking, _ in rows[first + 2 : first + 8]:
        for folder, cell in (("agents", agents), ("docking", docking)):
            names = re.findall(r"`([^`]+)`", cell)
            assert names
            assert all((ROOT / folder / name).exists() for name in names), names
