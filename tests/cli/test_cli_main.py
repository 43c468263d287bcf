"""The group itself: late imports, help from the table alone, errors as sentences."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from agents.version import VERSION
from docking.cli.group import portcall
from docking.cli.registry import COMMANDS

HEAVY = {"asyncio", "attr", "cbor2", "ctypes", "nacl", "starlette", "wasmtime", "zeroconf", "zstandard"}


def test_version_is_the_one_place() -> None:
    result = CliRunner().invoke(portcall, ["--version"])
    assert result.exit_code == 0
    assert result.output == f"portcall {VERSION}\n"


def test_help_lists_every_command_with_its_line() -> None:
    result = CliRunner().invoke(portcall, ["--help"], terminal_width=200)
    assert result.exit_code == 0
    for name, entry in COMMANDS.items():
        assert f"  {name} " in result.output
        assert entry.short_help in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_agrees_with_the_command(name: str) -> None:
    result = CliRunner().invoke(portcall, [name, "--help"], terminal_width=200)
    assert result.exit_code == 0, result.output
    context = portcall.make_context("portcall", [name], resilient_parsing=True)
    command = portcall.get_command(context, name)
    assert command is not None
    first_line = (command.help or "").strip().splitlines()[0]
    assert COMMANDS[name].short_help == first_line


def test_unknown_command_is_wrong_use() -> None:
    result = CliRunner().invoke(portcall, ["fly"])
    assert result.exit_code == 2
    assert "fly" in result.output


def test_a_shell_completes_commands_and_options() -> None:
    def complete(words: str) -> list[str]:
        asked = {"_PORTCALL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        line = [sys.executable, "-m", "docking.cli"]
        run = subprocess.run(line, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
        return run.stdout.split()

    assert complete("portcall in") == ["plain,inspect"]
    assert "plain,--version" in complete("portcall --v")
    assert complete("portcall run --hop-") == ["plain,--hop-every"]


@pytest.mark.parametrize(("argument", "completing"), [("--help", ""), ("", "portcall p")])
def test_help_and_completion_import_nothing_of_weight(argument: str, completing: str) -> None:
    asked = {"_PORTCALL_COMPLETE": "bash_complete", "COMP_WORDS": completing, "COMP_CWORD": "1"}
    script = (
        "import os, sys\n"
        f"sys.argv = ['portcall', *{argument!r}.split()]\n"
        f"os.environ |= {asked if completing else {}!r}\n"
        "from docking.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr == "[]\n"
    assert ("plain,pack" if completing else "Usage: portcall") in run.stdout


@pytest.mark.parametrize("words", ["inspect", "verify", "key list", "key show", "stations", "launch", "agents", "logs",
                                   "trail", "results", "where", "retract", "send"])  # fmt: skip
def test_what_tells_something_tells_it_in_json_too(words: str) -> None:
    result = CliRunner().invoke(portcall, [*words.split(), "--help"])
    assert "--json" in result.output


def test_a_misuse_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from docking.cli import main

    for words, said in {
        "fly": "portcall: no such command 'fly'; portcall --help tells more\n",
        "run": "portcall run: missing argument 'SOURCE'; portcall run --help tells more\n",
        "stations --wait x": "portcall stations: invalid value for '--wait': 'x' is not a valid float range; "
        "portcall stations --help tells more\n",
    }.items():
        monkeypatch.setattr(sys, "argv", ["portcall", *words.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code, capsys.readouterr().err) == (2, said)
