"""`portcall backup` and `portcall restore`: a station's home in one file, made while it runs, and put back."""

from __future__ import annotations

from pathlib import Path

import click

from docking.cli.asking import JSON_OPTION, STATION_OPTION, one, when
from docking.cli.output import plain, print_json, size_text
from docking.errors import ControlError

LONG_S = 3600.0  # seconds that a copy may take


@click.command("backup")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write."
)
@STATION_OPTION
@JSON_OPTION
def backup(output: Path, station: str | None, as_json: bool) -> None:
    """Copy a station's home to a file, while it runs.

    The file has the station's key: whoever has it is the station. What happens after this moment is not in it.
    """
    with one(station) as line:
        line.patient(LONG_S)
        done = line.ask("backup", path=str(output.resolve()))
    if as_json:
        print_json(done)
    else:
        click.echo(f"{output}: {size_text(done['bytes'])}, the station {done['station']} at {when(done['time'])}")


@click.command("restore")
@click.argument("source", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="The folder to make a home of.")
@click.option("--accept", is_flag=True, help="Let a station go on that was put back, and runs nothing.")
@STATION_OPTION
@JSON_OPTION
def restore(source: Path | None, home: Path | None, accept: bool, station: str | None, as_json: bool) -> None:
    """Put a copy of a station's home back.

    A station that starts there runs nothing until a person decides: it meets its peers, who show it what it has
    forgotten. Then `portcall restore --accept` lets it go on. Agents that it gave away since are put to sleep there.
    """
    if accept:
        if source is not None or home is not None:
            raise click.UsageError("--accept is for a station that runs: name it with --station")
        with one(station) as line:
            answer = line.ask("accept")
        print_json(answer) if as_json else click.echo(f"it goes on, with {answer['agents']} agents")
        return
    if source is None or home is None:
        raise click.UsageError("give the file and --home FOLDER; or --accept")
    from docking.residents.lives import Hold
    from docking.store.backup import put_back

    said = "its store was put back from a backup; portcall restore --accept lets it go on when it has met its peers"
    about = put_back(source, home, Hold(said).encode())
    if as_json:
        print_json({"home": str(home), **about})
        return
    name, made = plain(str(about.get("station"))), about.get("time")
    if not isinstance(made, int):
        raise ControlError(f"{source} does not say when it was made")
    click.echo(
        f"{home} is the home of {name} as it was at {when(made)}. It runs nothing before portcall restore --accept"
    )
