"""What shells complete: also names of stations, agents and keys, which a station is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.programs import ROOT

SHELLS = {"bash": "complete", "zsh": "#compdef portcall", "fish": "complete --no-files --command portcall"}


class Shell:
    """A user with a home of its own, who presses the tab key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "XDG_CACHE_HOME") if name in os.environ},
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path(os.environ.get("HOME", "/")) / ".cache")),
        }

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "docking.cli", *words],
            env=self.environment | environment, cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def tab(self, words: str) -> list[str]:
        """The completions of the last word, of those that are no files."""
        asked = {"_PORTCALL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = self(**asked)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.removeprefix("plain,") for line in done.stdout.splitlines() if line.startswith("plain,")]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize("name", SHELLS)
def test_every_shell_gets_a_script(shell: Shell, name: str) -> None:
    """As the help says to get it; and the shell itself can read it, where it is installed."""
    done = shell(_PORTCALL_COMPLETE=f"{name}_source")
    assert done.returncode == 0
    assert SHELLS[name] in done.stdout
    if (program := shutil.which(name)) is not None:
        read = subprocess.run([program, "-n"], input=done.stdout, capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, "")


@pytest.fixture
def installed(shell: Shell) -> Shell:
    """With the command on the path, and files to complete."""
    (shell.folder / "bin").mkdir()
    script = shell.folder / "bin" / "portcall"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m docking.cli "$@"\n')
    script.chmod(0o755)
    shell.environment["PATH"] = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    (shell.folder / "foo.wasm").touch()
    (shell.folder / "harbour").mkdir()
    return shell


def typed(shell: Shell, *line: str) -> str:
    """What a program prints, there; it says nothing on stderr."""
    done = subprocess.run(
        line, env=shell.environment, cwd=shell.folder, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(installed: Shell) -> None:
    lines = (
        'eval "$(_PORTCALL_COMPLETE=bash_source portcall)"\n'
        "COMP_WORDS=(portcall insp) COMP_CWORD=1; _portcall_completion portcall\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    assert typed(installed, "bash", "--norc", "-c", lines) == "inspect\n"


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes(installed: Shell) -> None:
    def tab(line: str) -> list[str]:
        script = "_PORTCALL_COMPLETE=fish_source portcall | source; complete -C $argv[1]"
        return typed(installed, "fish", "--no-config", "-c", script, line).splitlines()

    assert tab("portcall insp") == ["inspect\tShow what an image, snapshot or capsule holds."]  # whole, with its comma
    assert tab("portcall run --engine wasmtime,wasme") == ["wasmtime,wasmer"]
    assert tab("portcall pack --profile=st") == ["--profile=standard"]
    assert tab("portcall run fo") == ["foo.wasm"]
    assert tab("portcall run --resume-from=fo") == ["--resume-from=foo.wasm"]
    assert [line.partition("\t")[0] for line in tab("portcall station --home ha")] == ["harbour/"]
    assert tab("portcall run 'x") == []


ZSH = r"""
zmodload zsh/zpty
zpty -b shell "zsh -f -i"
await() { local seen; zpty -r -m shell seen "*$1*" }
zpty -w shell 'taken() { print -r -- "<<$BUFFER>>"; zle send-break }; zle -N taken; bindkey "^Xd" taken; PS1=""'
zpty -w shell 'eval "$(_PORTCALL_COMPLETE=zsh_source portcall)"; echo "rea""dy $?"'
await 'ready 0'
for line in "$@"; do
    zpty -w -n shell "$line"$'\t'$'\C-xd'
    zpty -r -m shell seen '*<<*>>*'
    print -r -- "${${seen##*<<}%%>>*}"
done
zpty -d shell
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_completes(installed: Shell) -> None:
    """In a shell whose start-up file has not called compinit; what is seen is the line after the tab key."""
    wanted = {
        "portcall insp": "portcall inspect ",
        "portcall run --engine wasmtime,wasme": "portcall run --engine wasmtime,wasmer ",
        "portcall pack --profile=st": "portcall pack --profile=standard ",
        "portcall run fo": "portcall run foo.wasm ",
        "portcall station --home=ha": "portcall station --home=harbour/",
    }
    assert typed(installed, "zsh", "-f", "-c", ZSH, "zsh", *wanted).splitlines() == list(wanted.values())


def test_names_of_keys_stations_and_agents(shell: Shell) -> None:
    assert shell.tab("portcall key show ") == []
    assert shell.tab("portcall logs ") == []  # no station runs: nothing, and nothing is said
    for name in ("me", "mine", "other"):
        assert shell("key", "new", name).returncode == 0
    assert shell.tab("portcall key show m") == ["me", "mine"]
    assert shell.tab("portcall launch x.py --owner o") == ["other"]
    (shell.folder / "nap.py").write_text("import portcall\nportcall.sleep(1000)\n")
    command = [sys.executable, "-m", "docking.cli", "station", "--name", "alpha", "--home", "alpha", "--port", "0"]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--no-mdns"],
        env=shell.environment, cwd=shell.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as station:  # fmt: skip
        assert station.stderr is not None
        assert any(line.startswith("station alpha at") for line in station.stderr)
        launched = shell("launch", "nap.py", "--owner", "me")
        assert launched.returncode == 0, launched.stderr
        agent = launched.stdout.split()[0][:12]
        assert shell.tab("portcall launch x.py --from a") == ["alpha"]
        assert shell.tab("portcall launch x.py --via al") == ["alpha"]
        assert shell.tab("portcall launch x.py --via beta,al") == ["beta,alpha"]
        for before in ("beta|", "{beta,", "(beta,gamma?)*10,", "beta|(gamma,"):
            assert shell.tab(f"portcall launch x.py --via {before}al") == [f"{before}alpha"]
        assert shell.tab("portcall launch x.py --via beta,any@o") == ["beta,any@other"]
        assert shell.tab("portcall run x.py --via beta,ro") == ["beta,roam"]
        assert shell.tab("portcall agents --station ") == ["alpha"]
        for command_name in ("logs", "where", "trail", "wake", "send"):
            assert set(shell.tab(f"portcall {command_name} ")) == {agent, "nap"}
        assert shell.tab(f"portcall dispose {agent[:3]}") == [agent]
        station.terminate()
        station.stderr.read()
    assert shell.tab("portcall logs ") == []  # and its note is no obstacle
