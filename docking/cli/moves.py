"""`portcall move`, `portcall drain`: move agents by order, while they run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

import click

from docking.cli import completion
from docking.cli.asking import ANSWER_TIMEOUT_S, JSON_OPTION, STATION_OPTION, one, whoever_knows
from docking.cli.output import print_json, say, size_text
from docking.residents.options import MOVED_S, ON_TIMEOUT, MoveOptions, MoveReport, OnTimeout

F = TypeVar("F", bound=Callable[..., Any])


def _how(command: F) -> F:
    """The options that both commands have."""
    for option in (
        click.option(
            "--on-timeout",
            type=click.Choice(ON_TIMEOUT),
            default="cancel",
            help="Then, or if it writes faster than can be sent: leave it here, move it whatever the downtime, or "
            "let it go on there and fetch the rest of its memory afterwards.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(0, 86_400),
            default=60.0,
            metavar="S",
            help="Seconds that sending ahead may take (60).",
        ),
        click.option(
            "--downtime-ms",
            type=click.FloatRange(0, 600_000),
            default=20.0,
            metavar="MS",
            help="Milliseconds that it may stand still (20).",
        ),
    ):
        command = option(command)
    return command


@click.command("move")
@click.argument("agent", shell_complete=completion.agents)
@click.argument("to", metavar="STATION", shell_complete=completion.way)
@_how
@click.option("--no-precopy", is_flag=True, help="Stop it first, and send it then.")
@STATION_OPTION
@JSON_OPTION
def move(
    agent: str,
    to: str,
    downtime_ms: float,
    timeout: float,
    on_timeout: OnTimeout,
    no_precopy: bool,
    station: str | None,
    as_json: bool,
) -> None:
    """Move an agent to another station, while it runs.

    Its memory is sent ahead, round after round; then it is stopped for what it wrote last, and goes on there. STATION
    is a name, a key, host:port, "next" or "home", and must be where its itinerary leads.
    """
    how = MoveOptions(downtime_ms, timeout, on_timeout, not no_precopy).told()
    with whoever_knows(station, agent) as line:
        line.patient(timeout + MOVED_S)
        done = _followed(line.items("move", agent=agent, to=to, **how), say)
    if as_json:
        print_json(_shown(done))
    else:
        click.echo(_sentence(done))


@click.command("drain")
@click.option("--to", multiple=True, metavar="STATION", help="Where to, for each; several are tried in this order.")
@_how
@click.option("--off", is_flag=True, help="Let agents in again, and do nothing else.")
@STATION_OPTION
@JSON_OPTION
def drain(
    to: tuple[str, ...],
    downtime_ms: float,
    timeout: float,
    on_timeout: OnTimeout,
    off: bool,
    station: str | None,
    as_json: bool,
) -> None:
    """Move all agents away, before maintenance.

    From now on nobody is let in and no agent is launched, until `portcall drain --off` or a restart. Each agent moves
    where --to says, by default to the next stop of its itinerary. Exit code 1 if some stay.
    """
    how = MoveOptions(downtime_ms, timeout, on_timeout).told()
    rows: list[dict[str, Any]] = []

    def show(row: dict[str, Any]) -> None:
        rows.append(row if "stays" in row else _shown(row))
        if not as_json:
            stays = f"{row['agent'][:12]} {row.get('label', '')} stays: {row['stays']}" if "stays" in row else ""
            click.echo(stays or _sentence(row))

    with one(station) as line:
        line.patient(timeout + MOVED_S + ANSWER_TIMEOUT_S)
        end = _followed(line.items("drain", to=list(to), off=off, **how), show)
    if as_json:
        print_json({"agents": rows, "left": end["left"]})
    elif off:
        click.echo("agents are let in again")
    elif not rows:
        click.echo("no agent was here; none is let in now")
    if any("stays" in row for row in rows):
        raise SystemExit(1)


def _followed(answer: Generator[Any, None, Any], show: Callable[[Any], None]) -> Any:
    """The end of an answer; each of its items is shown as it comes."""
    while True:
        try:
            item = next(answer)
        except StopIteration as end:
            return end.value
        show(item)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A report as `--json` prints it."""
    return MoveReport.of(row).value()


def _sentence(row: dict[str, Any]) -> str:
    text = f"{row['agent'][:12]} is at {row['to']}: it stood still for {row['downtime_us'] / 1000:.1f} ms"
    if row["rounds"]:
        rounds = f"{row['rounds']} round{'s' if row['rounds'] > 1 else ''}"
        text += f"; {size_text(row['sent_bytes'])} sent ahead in {rounds}, {row['total_us'] / 1e6:.1f} s in all"
    if row["owed_bytes"]:
        text += f"; {size_text(row['owed_bytes'])} come when it needs them"
    return text
