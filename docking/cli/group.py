"""The group `portcall`: finds commands by name, imports them late, and turns errors into sentences.

Invariants: `portcall --help` imports no command; an error of the project ends with its message, exit code 1 and no
traceback (`PORTCALL_DEBUG=1` shows it); wrong usage ends with exit code 2, as in click.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from docking.cli import interrupts
from docking.cli.registry import COMMANDS
from docking.cli.suggestions import Suggesting

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(Suggesting):
    """A group whose commands are the entries of `COMMANDS`, imported when first used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        if not entry.hears_ctrl_c and interrupts.release():
            raise KeyboardInterrupt
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.attribute} is not a command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names from the table alone: this runs at each press of the Tab key."""
        found = [(name, entry) for name, entry in COMMANDS.items() if name.startswith(incomplete)]
        items = [CompletionItem(name, help=entry.short_help) for name, entry in found]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        rows = [(name, entry.short_help) for name, entry in COMMANDS.items()]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _print_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from agents.version import VERSION

        click.echo(f"portcall {VERSION}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings=CONTEXT_SETTINGS)
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
    """Print one line: what was wrong, and where to read more. For a command without arguments, print its help."""
    if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2
        error.show()
        return
    path = error.ctx.command_path if error.ctx is not None else "portcall"
    said = error.format_message().rstrip(".").replace(". (Did", " (did")
    if "id you mean" not in said:
        separator = "\n" if "\n" in said else "; "  # nothing else stands on the line of a caret
        said += f"{separator}{path} --help tells more"
    click.echo(f"{path}: {said[0].lower()}{said[1:]}", err=True)


def main() -> None:
    """Run this process's command line, then exit.

    Exit codes: 0 done, 1 an error of the project (its message goes to stderr), 2 wrong usage, 130 interrupted, or a
    code that the command documents.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name may be invalid in any encoding; escaped like this it is valid in JSON too.
        sys.stdout.reconfigure(errors="backslashreplace")
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

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C while Python exits would change the exit code
        click.echo("portcall: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        sys.stdout = None  # otherwise Python fails when it flushes stdout at exit
        sys.exit(1)
    except OSError as error:  # the disk is full, or the terminal is gone
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
