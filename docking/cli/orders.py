"""The commands that tell agents what to do: retract, dispose, clone, sleep, wake; and purge, which forgets them.

An order is for one agent, or for all that are chosen (`docking.cli.choosing`): each is told separately, and the command
fails if one of them cannot be told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from docking.cli import completion
from docking.cli.asking import JSON_OPTION, STATION_OPTION, whoever_knows
from docking.cli.choosing import DurationType, MomentType, chosen, known_agents
from docking.cli.output import plain, print_json
from docking.errors import ControlError


def _told(what: str, agent: str, station: str | None, more: Mapping[str, int]) -> dict[str, Any]:
    with whoever_knows(station, agent) as line:
        answer: dict[str, Any] = line.ask("order", agent=agent, what=what, **more)
        return answer


def _said(what: str, answer: dict[str, Any]) -> str:
    done = "done" if answer["done"] == "obeyed" else "sent after it"
    if what == "clone" and answer["done"] == "obeyed":
        made = answer.get("clone")
        done = f"done, as {made[:12]}" if made else "done when it has its answer: portcall agents lists it then"
    return f"{what} {answer['agent'][:12]}: {done}"


def _choose(
    agent: str | None, station: str | None, everything: bool, clones: bool, label: str | None, owner: str | None
) -> list[dict[str, Any]] | None:
    """The rows of the agents that are meant; None for the one that is named. Raises `UsageError`, `ControlError`."""
    several = everything or label is not None or owner is not None
    if agent is None and not several:
        raise click.UsageError("name an agent, or say which: --all, --label NAME, --owner KEY")
    if agent is not None and several:
        raise click.UsageError("name one agent, or say which with options, not both")
    if agent is not None and not clones:
        return None
    rows = chosen(known_agents(station), running=True, label=label, owner=owner)
    if agent is not None:
        with whoever_knows(station, agent) as line:
            ident = line.ask("find", agent=agent)["agent"]
        family = {row["passport"] for row in known_agents(station) if row["agent"] == ident}
        rows = [row for row in rows if row["passport"] in family]
    return rows


def _order(what: str, sentence: str, many: bool = True) -> Callable[..., Any]:
    def command(
        agent: str | None,
        station: str | None,
        as_json: bool,
        everything: bool = False,
        clones: bool = False,
        label: str | None = None,
        owner: str | None = None,
        seconds: float | None = None,
        until: float | None = None,
    ) -> None:
        more: dict[str, int] = {}
        if seconds is not None and until is not None:
            raise click.UsageError("--for or --until, not both")
        if seconds is not None or until is not None:
            left = seconds if seconds is not None else (until or 0.0) - time.time()
            if left <= 0:
                raise click.UsageError("--until is a time that is over")
            more["for_ms"] = max(1, round(left * 1000))
        rows = _choose(agent, station, everything, clones, label, owner)
        if rows is None:
            assert agent is not None
            answer = _told(what, agent, station, more)
            print_json(answer) if as_json else click.echo(_said(what, answer))
            return
        answers = [_attempt(what, row, station, more) for row in rows]
        if as_json:
            print_json(answers)
        elif not answers:
            click.echo("no agent is meant by that")
        for row in [] if as_json else answers:
            failed = f"{what} {row['agent'][:12]}: {plain(row.get('error', ''), 600)}"
            click.echo(_said(what, row) if "done" in row else failed)
        if any("error" in row for row in answers):
            raise SystemExit(1)

    made: Any = command
    if what == "sleep":
        made = click.option("--until", type=MomentType(), metavar="WHEN", help="Until 18:30, or 2026-12-01T08:00.")(
            made
        )
        made = click.option("--for", "seconds", type=DurationType(), metavar="TIME", help="For 90s, 10m, 2h, 3d.")(made)
    if many:
        made = click.option("--owner", metavar="KEY", shell_complete=completion.keys, help="All of this owner.")(made)
        made = click.option("--label", metavar="NAME", help="All that are called so, and their clones.")(made)
        made = click.option("--clones", is_flag=True, help="Its clones too, and theirs.")(made)
        made = click.option("--all", "everything", is_flag=True, help="All agents that are known here.")(made)
    made = JSON_OPTION(STATION_OPTION(made))
    made = click.argument("agent", required=not many, shell_complete=completion.agents)(made)
    return click.command(what, help=sentence)(made)


def _attempt(what: str, row: dict[str, Any], station: str | None, more: Mapping[str, int]) -> dict[str, Any]:
    try:
        return {"label": row["label"], **_told(what, row["agent"], station, more)}
    except ControlError as error:
        return {"agent": row["agent"], "label": row["label"], "error": str(error)}


retract = _order("retract", "Call an agent home, where it goes on.")
dispose = _order("dispose", "End an agent.")
clone = _order("clone", "Make a second agent of one.", many=False)
sleep = _order("sleep", "Have an agent stand still until it is woken.")
wake = _order("wake", "Let an agent go on that sleeps.")


@click.command("purge")
@click.argument("agents", nargs=-1, shell_complete=completion.agents)
@click.option("--all", "everything", is_flag=True, help="All whose journeys are over.")
@click.option(
    "--before", type=DurationType(), metavar="TIME", help="All whose journeys were over so long ago: 2h, 30d."
)
@STATION_OPTION
@JSON_OPTION
def purge(agents: tuple[str, ...], everything: bool, before: float | None, station: str | None, as_json: bool) -> None:
    """Forget agents whose journeys are over.

    Their trails and results go too: look at these before.
    """
    from docking.control.client import connections

    if bool(agents) + everything + (before is not None) != 1:
        raise click.UsageError("name agents, or say --all, or --before TIME")
    wanted = []
    for agent in agents:
        with whoever_knows(station, agent) as line:
            where = line.ask("where", agent=agent)
        if where["standing"] not in ("finished", "disposed"):
            raise ControlError(
                f"the agent {where['agent'][:12]} is {where['standing']}: only one whose journey is over can go"
            )
        wanted.append(where["agent"])
    limit = 0 if before is None else int((time.time() - before) * 1000)
    gone = []
    for line in connections(station):
        with line:
            gone += [{"station": line.place.name, **row} for row in line.items("purge", agents=wanted, before=limit)]
    if as_json:
        print_json(gone)
    else:
        click.echo(f"{len(gone)} forgotten" if gone else "nothing to forget")
