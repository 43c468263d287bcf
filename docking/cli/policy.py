"""`portcall policy`: has running stations read their policy again."""

from __future__ import annotations

import click

from docking.cli.asking import JSON_OPTION, STATION_OPTION
from docking.cli.output import plain, print_json


@click.group("policy")
def policy() -> None:
    """Have a station read its policy again."""


@policy.command("reload")
@STATION_OPTION
@JSON_OPTION
def reload(station: str | None, as_json: bool) -> None:
    """Read the policy again, as the signal SIGHUP has a station do.

    Agents that are not admitted any more are suspended at once, and kept; those that are again go on. A policy that
    cannot be read changes nothing.
    """
    from docking.control.client import connections

    rows = []
    for line in connections(station):
        with line:
            rows.append({"station": line.place.name, "said": line.ask("reload")["said"]})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(
            f"{row['station']}: the policy was read again; {'; '.join(plain(each, 600) for each in row['said'])}"
        )
