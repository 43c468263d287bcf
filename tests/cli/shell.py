"""A user who types commands: each is a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE
from tests.station.harbour import station


class Shell:
    """A user with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: os.environ[name] for name in ("PATH", "XDG_CACHE_HOME", "HOME") if name in os.environ}
        cache = {"XDG_CACHE_HOME": kept.get("XDG_CACHE_HOME", str(Path(kept.get("HOME", "/")) / ".cache"))}
        paths = {"PORTCALL_KEYS": str(folder / "keys"), "PORTCALL_RUNNING": str(folder / "running")}
        root = str(Path(__file__).resolve().parents[2])
        self.environment = {**kept, **cache, **paths, "PYTHONPATH": root, "HOME": str(folder)}

    def __call__(self, *words: str, code: int = 0, timeout: float = 60) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "docking.cli", *words],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=timeout,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))

    @contextlib.contextmanager
    def station(self, name: str, *options: str) -> Iterator[str]:
        """A station while the block runs; gives its URL."""
        command = [sys.executable, "-m", "docking.cli", "station", "--name", name, "--home", str(self.folder / name)]
        command += ["--port", "0", "--host", "127.0.0.1", "--no-mdns", *options]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.environment
        )
        assert process.stderr is not None
        try:
            said = ""
            for line in process.stderr:
                said += line
                if line.startswith("station "):
                    break
            assert said.splitlines()[-1].startswith(f"station {name} at http"), said
            yield said.splitlines()[-1].split()[3].rstrip(",")
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait(PATIENCE) == 0, rest
            process.stderr.close()
            assert "go on when this station starts again" in rest


def typed(*words: object) -> list[str]:
    return [sys.executable, "-m", "docking.cli", *(os.fsdecode(w) if isinstance(w, bytes) else str(w) for w in words)]


@contextlib.contextmanager
def stations(place: Path, *names: str) -> Iterator[None]:
    """Stations in threads of this process, which commands can find; their homes are `0`, `1` ... in `place`."""
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(names):
            made = station(name, place / f"{number}", control=True, dev=True)
            stack.enter_context(made.in_thread())
        yield
