"""`portcall lesson`: acts for a class, each with real stations and agents, and a checker for its exercises.

Not here: what the acts do (`docking.lessons`). Invariant: on a terminal an act goes on at Enter, and Ctrl-C ends it
with everything that it started; elsewhere it runs straight through.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from docking.cli.asking import JSON_OPTION
from docking.cli.output import print_json, say
from docking.cli.suggestions import Suggesting
from docking.lessons.acts import ACTS, Act

if TYPE_CHECKING:
    pass

STRAIGHT_OPTION = click.option("--straight", is_flag=True, help="Do not wait for Enter between two steps.")


class Acts(Suggesting):
    """A group whose commands are the acts, by name and by number, and those that are not acts."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*(act.name for act in ACTS), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for number, act in enumerate(ACTS, 1):
            if cmd_name in (act.name, str(number)):
                return _command(act)
        return super().get_command(ctx, cmd_name)


@click.group("lesson", cls=Acts, invoke_without_command=True)
@JSON_OPTION
@click.pass_context
def lesson(ctx: click.Context, as_json: bool) -> None:
    """Show a class what agents and stations do: list the acts, run one, check an exercise.

    Without an act it lists them. `portcall lesson loop` (or `portcall lesson 1`) runs the first one.
    """
    if ctx.invoked_subcommand is not None:
        return
    if as_json:
        print_json([{"act": number, "name": act.name, "title": act.title} for number, act in enumerate(ACTS, 1)])
        return
    for number, act in enumerate(ACTS, 1):
        click.echo(f"  {number}  {act.name:<8} {act.title}")
    click.echo("\nportcall lesson NAME runs one; portcall lesson exercises lists the exercises")


def _command(act: Act) -> click.Command:
    """The command that runs an act."""

    @click.command(act.name, help=f"{act.title}\n\nBefore it, ask: {act.question}", short_help=act.title)
    @STRAIGHT_OPTION
    @JSON_OPTION
    def run(straight: bool, as_json: bool) -> None:
        from docking.lessons.stage import Stage

        if as_json:
            stage = Stage()
            act.show(stage)
            print_json({"act": act.name, "title": act.title, "question": act.question, "steps": stage.steps})
            return
        watched = sys.stdin.isatty() and sys.stdout.isatty()
        stage = Stage(click.echo, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
        if watched and not straight:
            stage.pause = _pause
            stage.say(f"Before you watch: {act.question}")
            stage.pause()
        act.show(stage)

    return run


def _pause() -> None:
    """Wait for Enter; the end of the input ends the act, as Ctrl-C does."""
    click.echo("   [Enter] ", nl=False)
    if not sys.stdin.readline():
        raise KeyboardInterrupt


@lesson.command("exercises")
@JSON_OPTION
def exercises(as_json: bool) -> None:
    """List the exercises: what an agent shall do, for `portcall lesson check`."""
    from docking.lessons.exercises import EXERCISES

    if as_json:
        print_json([each.value() for each in EXERCISES])
        return
    for each in EXERCISES:
        click.echo(f"{each.number}  {each.title}")
        click.echo(f"   {each.task}")


@lesson.command("check")
@click.argument("number", type=int, metavar="N")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@JSON_OPTION
def check(number: int, file: Path, as_json: bool) -> None:
    """Run your agent in FILE, and say what of exercise N is right, and what is not.

    Exit code 0 where all of it is right, 1 where something is not.
    """
    from docking.cli.sources import image_of
    from docking.lessons.exercises import EXERCISES

    found = next((each for each in EXERCISES if each.number == number), None)
    if found is None:
        raise click.UsageError(
            f"there is no exercise {number}: they are 1 to {len(EXERCISES)} (portcall lesson exercises)"
        )
    verdict = found.check(image_of(file))
    if as_json:
        print_json(verdict.value())
    else:
        for each in verdict.points:
            click.echo(f"{'right' if each.right else 'not yet'}: {each.sentence}")
        for line in verdict.said:
            say(f"   your agent said: {line}")
        click.echo(verdict.end)
    if not verdict.right:
        raise SystemExit(1)


__all__ = ["lesson"]
