"""The group `portcall`: finds commands by name, imports them late, and turns errors into sentences.

Invariants: `portcall --help` imports no command; an error of the project ends with its own sentence, exit
code 1, and no traceback (`PORTCALL_DEBUG=1` shows it); a wrong use ends with exit code 2, as click does.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from docking.cli.registry import COMMANDS
from docking.cli.suggestions import Suggesting

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(Suggesting):
    """A group whose commands are the entries of `COMMANDS`, imported when first used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.attribute} is not a command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands from the table alone: a shell asks at each press of the key."""
        found = [(name, entry) for name, entry in COMMANDS.items() if name.startswith(incomplete)]
        items = [CompletionItem(name, help=entry.short_help) for name, entry in found]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands from the table alone."""
        rows = [(name, entry.short_help) for name, entry in COMMANDS.items()]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _print_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from agents.version import VERSION

        click.echo(f"portcall {VERSION}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings=CONTEXT)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def portcall() -> None:
    """Mobile agents: WebAssembly programs that call go(station) and continue there.

    `portcall COMMAND --help` tells about one command. In the shell's start-up file,
    eval "$(_PORTCALL_COMPLETE=bash_source portcall)" completes words (also zsh_source, fish_source).
    """


def _show_misuse(error: click.UsageError) -> None:
    """One line: what was wrong, and where to read more. Of a command without any word, its help."""
    if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2
        error.show()
        return
    path = error.ctx.command_path if error.ctx is not None else "portcall"
    said = error.format_message().rstrip(".").replace(". (Did", " (did")
    if "id you mean" not in said:
        said += f"; {path} --help tells more"
    click.echo(f"{path}: {said[0].lower()}{said[1:]}", err=True)


def main() -> None:
    """Runs the command line of this process and exits it.

    Exit codes: 0 done, 1 an error of the project (its sentence goes to stderr), 2 wrong use, 130 interrupted,
    or the code that a command documents as its own.
    """
    try:
        if "_PORTCALL_COMPLETE" in os.environ:
            from docking.cli.shells import register

            register()
        code = portcall.main(prog_name="portcall", standalone_mode=False)
    except click.UsageError as error:
        _show_misuse(error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once more, while Python ends, would be another exit code
        click.echo("portcall: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has closed it, as `head` does
        sys.stdout = None  # else Python complains when it flushes it at the end
        sys.exit(1)
    except OSError as error:  # our output's disk is full, or what a terminal was is gone
        if os.environ.get("PORTCALL_DEBUG"):
            raise
        sys.stdout = None
        click.echo(f"portcall: {error.filename or 'input or output'}: {error.strerror or error}", err=True)
        sys.exit(1)
    except Exception as error:
        from agents.errors import PortcallError

        if os.environ.get("PORTCALL_DEBUG") or not isinstance(error, (PortcallError, click.ClickException)):
            raise
        click.echo(f"portcall: {error}", err=True)
        sys.exit(error.exit_code if isinstance(error, click.ClickException) else 1)
    sys.exit(code if isinstance(code, int) else 0)
