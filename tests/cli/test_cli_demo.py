"""`portcall demo`: any number of them at the same time, in folders of any name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.cli.shell import typed
from tests.patience import PATIENCE
from tests.programs import ROOT


def test_demonstrations_at_the_same_time(tmp_path: Path) -> None:
    """As in a class, on one machine: stations of the same names are on the network, and each keeps to its own.

    In a folder whose path is too long for a socket and has other letters than English ones, too.
    """
    folder = tmp_path / ("käsekuchen " * 8)
    folder.mkdir()
    started = [
        subprocess.Popen(
            typed("demo"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, "TMPDIR": str(each)},
        )
        for each in (tmp_path, folder)
    ]  # fmt: skip
    for process in started:
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        assert "ok  the route is the one that the owner signed, to its end\n" in said
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.iterdir()) == []
