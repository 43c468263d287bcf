"""`portcall launch`: packs, signs and begins an agent at a station of this user."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import click

from docking.cli import completion
from docking.cli.asking import JSON_OPTION, one
from docking.cli.output import plain, print_json
from docking.cli.suggestions import near
from docking.errors import ControlError
from docking.running import Line


@click.command("launch")
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--via", default="", metavar="A,B,C", shell_complete=completion.route, help="The stations to visit, in this order."
)
@click.option(
    "--from",
    "station",
    metavar="STATION",
    shell_complete=completion.running_stations,
    help="The agent's home: a station that runs here.",
)
@click.option("--owner", metavar="NAME", shell_complete=completion.keys, help="The key that signs it.")
@click.option("--permit", "permits", multiple=True, metavar="K=V", help="cpu, memory, carried, messages, allow, need.")
@click.option("--label", help="What to call it; else the name of the source.")
@click.option(
    "--hours", type=click.IntRange(1, 24 * 366), default=24, show_default=True, help="How long it may travel."
)
@JSON_OPTION
def launch(
    source: Path,
    args: tuple[str, ...],
    via: str,
    station: str | None,
    owner: str | None,
    permits: tuple[str, ...],
    label: str | None,
    hours: int,
    as_json: bool,
) -> None:
    """Sign an agent, and begin it at a station of this user.

    SOURCE is a source or an image; ARGS are given to the agent, and follow after `--`.
    """
    from agents.credentials.itinerary import Itinerary
    from agents.credentials.keys import PublicKey
    from agents.credentials.passport import Home
    from docking.cli.credentials import existing
    from docking.cli.owners import owner_key
    from docking.cli.sources import INTERPRETED, image_of, staying
    from docking.config import read_permit
    from docking.launching import DEFAULT_PERMIT, HOUR, Terms, label_of, prepare

    if owner is not None:
        existing(owner)  # before a long packing
    names = [name.strip() for name in via.split(",") if name.strip()]
    image = image_of(source)
    if image.manifest.profile == "none" and names and image.manifest.language in INTERPRETED:
        click.echo(f"portcall: {click.format_filename(source)}: {staying(image)}", err=True)
    with one(station) as line:
        key = owner_key(owner).key
        facts = _prepare(line, names, image.digest)
        home = PublicKey(facts["home"])
        stops = [PublicKey(raw) for raw in facts["keys"]] or [home]
        terms = Terms(read_permit(permits, DEFAULT_PERMIT), hours * HOUR, label=label_of(label or source.stem))
        addresses = tuple(facts["addresses"])
        now = time.time_ns() // 1_000_000
        made = prepare(image, key, Home(home, addresses), Itinerary.via(stops), terms, now, secrets.token_bytes, args)
        carried = b"" if facts["image"] else made.image
        answer = line.ask(
            "launch",
            passport=made.passport,
            opening=made.opening,
            state=made.state,
            image=carried,
            digest=image.digest,
        )
        place = line.place.name
    if as_json:
        print_json({"agent": answer["agent"], "label": terms.label, "home": place})
    else:
        click.echo(f"{answer['agent']}  {terms.label} has begun at {place}")
        click.echo(f"portcall logs -f {answer['agent'][:12]} follows it", err=True)


def _prepare(line: Line, names: list[str], digest: bytes) -> Any:
    """What the station knows of the way. Raises `ControlError`; of a station that is not known, with one that is."""
    try:
        answer = line.items("prepare", via=names, image=digest)
        while True:
            try:
                click.echo(f"portcall: {plain(next(answer), 600)}", err=True)
            except StopIteration as end:
                return end.value
    except ControlError as error:
        known = [line.place.name]
        known += [str(row["name"]) for row in line.items("stations", wait=0) if "refused" not in row]
        missing = [name for name in names if name not in known]
        raise ControlError(f"{error}{near(missing[0], known) if missing else ''}") from None
