"""Every command and snippet of README and documentation runs, page by page, each page in an empty folder."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import RUNNABLE, Block, Command, blocks, commands, matches
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if any(block.language in RUNNABLE or "part" in block.classes for block in blocks(page))
]
COMMAND_SECONDS = PATIENCE
AGAIN_SECONDS = PATIENCE
# What a page's shell takes over from here; compiled code stays in one cache for all pages.
KEPT = {"LANG", "TMPDIR", "XDG_CACHE_HOME"}
# As if they were installed: see .ci/toolchains.
INTERPRETERS = [ROOT / "build" / "toolchains" / name for name in ("cpython", "quickjs", "go")]
ENDED = "\x1ecommand-ended"


class Shell:
    """One bash for a page: variables, folders and background jobs last from command to command."""

    def __init__(self, folder: Path) -> None:
        scripts = Path(sys.executable).parent
        environment = {name: value for name, value in os.environ.items() if name in KEPT}
        environment |= {
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "COLUMNS": "110",
            "NO_COLOR": "1",
            "GOCACHE": str(ROOT / "build" / "go-cache"),
        }
        with socket.create_server(("127.0.0.1", 0)) as free:  # a page that needs a port takes this one
            environment["PORT"] = str(free.getsockname()[1])
        # With PYTHONPATH set, it is that of another checkout than the one that is installed.
        before = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
        environment["PYTHONPATH"] = os.pathsep.join([*before, *map(str, INTERPRETERS)])
        environment["PYTEST_PLUGINS"] = "docking.pytest_plugin"  # as where the distribution is installed
        self.process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def run(self, command: str) -> tuple[int, list[str]]:
        """Exit code and lines printed. Raises `TimeoutError` after `COMMAND_SECONDS` without an end."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\nprintf '\\n{ENDED} %d\\n' $?\n")
        self.process.stdin.flush()
        printed: list[str] = []
        while True:
            try:
                line = self.lines.get(timeout=COMMAND_SECONDS)
            except queue.Empty:
                raise TimeoutError(f"{command}: silent for {COMMAND_SECONDS:.0f} s after {printed}") from None
            if line is None:
                raise EOFError(f"{command}: the shell ended: {printed}")
            if line.startswith(ENDED):
                if printed and printed[-1] == "\n":
                    printed.pop()
                else:
                    printed[-1] = printed[-1].removesuffix("\n")
                while printed and not printed[-1].strip():
                    printed.pop()
                return int(line.split()[1]), [text.rstrip("\n") for text in printed]
            printed.append(line)

    def close(self) -> None:
        """Ends the shell and all that it started."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    yield opened
    opened.close()


def check_needs(shell: Shell, page: Path) -> None:
    """Skip a page that says, `<!-- needs: COMMAND -->`, what a machine must have, when the command fails.

    With PORTCALL_ALL_LANGUAGES set that is a failure instead.
    """
    for command in re.findall(r"^<!-- needs: (.+) -->$", page.read_text(encoding="utf-8"), re.MULTILINE):
        code, printed = shell.run(command)
        if code != 0 and os.environ.get("PORTCALL_ALL_LANGUAGES"):
            pytest.fail(f"needs: {command}: {printed}")
        if code != 0:
            pytest.skip(printed[-1] if printed else command)  # of a traceback, the sentence


def as_shown(command: Command, code: int, printed: list[str]) -> bool:
    """Whether the command ended and printed as the page says."""
    shown = command.output is None or matches(command.output, printed)
    return (code != 0) == command.fails and shown


def run_command(shell: Shell, command: Command, page: Path) -> None:
    until = time.monotonic() + AGAIN_SECONDS
    code, printed = shell.run(command.command)
    while command.again and time.monotonic() < until and not as_shown(command, code, printed):
        code, printed = shell.run(command.command)
    where = f"{page.relative_to(ROOT)}:{command.line}: {command.command}"
    shown = "\n".join(printed)
    assert (code != 0) == command.fails, f"{where}\nended with {code}:\n{shown}"
    if command.output is not None:
        wanted = "\n".join(command.output)
        assert matches(command.output, printed), f"{where}\nthe page shows:\n{wanted}\nit printed:\n{shown}"


def is_part(block: Block, files: dict[str, str]) -> bool:
    """Whether the piece occurs in a file of the page or of the repository."""
    if block.title is not None and (ROOT / block.title).is_file():
        return block.text.strip() in (ROOT / block.title).read_text(encoding="utf-8")
    return any(block.text.strip() in text for text in files.values())


# For every change; the others are run where sweeps are.
SOON = {"README.md", "docs/tutorial/first-agent.md", "docs/tutorial/first-station.md"}


def _param(page: Path) -> Any:
    name = str(page.relative_to(ROOT))
    return pytest.param(page, id=name, marks=() if name in SOON else pytest.mark.sweep)


@pytest.mark.skipif(shutil.which("bash") is None, reason="the pages' commands are for bash")
@pytest.mark.parametrize("page", [_param(page) for page in PAGES])
def test_page(page: Path, shell: Shell, tmp_path: Path) -> None:
    files: dict[str, str] = {}
    script: list[str] = []
    check_needs(shell, page)
    for block in blocks(page):
        if "part" in block.classes:
            assert is_part(block, files), f"{page.relative_to(ROOT)}:{block.line}: this piece is in no file"
        elif block.title is not None:
            files[block.title] = block.text
            target = tmp_path / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            # As many empty lines as are above it in the page: a traceback then names the page's own line.
            script.append("\n" * (block.line - sum(text.count("\n") for text in script)) + block.text)
        elif block.language == "console":
            for command in commands(block):
                run_command(shell, command, page)
    if script:
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", "".join(script)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert run.returncode == 0, f"{page.relative_to(ROOT)}: a snippet failed:\n{run.stdout}{run.stderr}"
