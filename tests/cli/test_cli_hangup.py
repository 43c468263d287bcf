"""SIGHUP, and terminals and pipes that are closed: a station goes on, by the policy as it is written then."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.patience import PATIENCE

pty = pytest.importorskip("pty")
WAITING = "import portcall\nportcall.recv()\n"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@contextlib.contextmanager
def begun(shell: Shell, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A station at a terminal of its own: its process, and the terminal's other side."""
    import fcntl
    import termios

    here, there = pty.openpty()
    words = ["station", "--name", "alpha", "--home", "alpha", "--port", "0", "--host", "127.0.0.1", "--no-mdns"]
    process = subprocess.Popen(
        [sys.executable, "-m", "docking.cli", *words, *options],
        stdin=there,
        stdout=there,
        stderr=there,
        env=shell.environment,
        cwd=shell.folder,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(there)
    try:
        yield process, here
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def read_until(terminal: int, wanted: str) -> str:
    said = b""
    while wanted.encode() not in said:
        said += os.read(terminal, 4096)
    return said.decode()


def test_a_closed_terminal_and_sighup(shell: Shell) -> None:
    shell("key", "new", "me")
    public = shell.json("key", "show", "me")["public"]
    (shell.folder / "agent.py").write_text(WAITING)
    policy = shell.folder / "policy.toml"
    admits = f'[[owner]]\nname = "me"\nkey = "{public}"\n'
    policy.write_text(admits)
    with begun(shell, "--policy", str(policy)) as (process, terminal):
        assert "admits the agents of: me" in read_until(terminal, "admits the agents of")
        shell("launch", "agent.py", "--from", "alpha", "--label", "first")

        policy.write_text("[[owner\n")
        process.send_signal(signal.SIGHUP)
        assert "policy.toml" in read_until(terminal, "the policy stays as it was")
        while shell.json("where", "first")["standing"] != "waiting":
            pass

        policy.write_text(f'{admits}[revoked]\nowners = ["{public}"]\n')
        process.send_signal(signal.SIGHUP)
        assert "admits the agents of: nobody" in read_until(terminal, "admits the agents of: nobody")
        (row,) = shell.json("agents")["agents"]
        assert row["standing"] == "kept"
        assert "was revoked here" in shell("launch", "agent.py", "--from", "alpha", "--label", "second", code=1)

        policy.write_text(admits)
        os.close(terminal)  # sends SIGHUP; and from now on nothing can be written there
        while shell.json("agents")["agents"][0]["standing"] != "waiting":
            pass
        shell("dispose", "first")


def test_a_pipe_that_nobody_reads_any_more(shell: Shell) -> None:
    shell("key", "new", "me")
    (shell.folder / "agent.py").write_text("print('one')\n")
    words = ["station", "--name", "alpha", "--home", "alpha", "--port", "0", "--host", "127.0.0.1", "--no-mdns"]
    process = subprocess.Popen(
        [sys.executable, "-m", "docking.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=shell.environment,
        cwd=shell.folder,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert b"station alpha at" in process.stderr.readline()
        process.stdout.close()
        process.stderr.close()
        for label in ("first", "second"):
            shell("launch", "agent.py", "--from", "alpha", "--label", label)
            while shell.json("where", label)["standing"] != "finished":
                pass
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
