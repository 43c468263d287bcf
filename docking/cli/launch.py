"""`portcall launch`: packs and signs an agent, and starts it at a station of this user."""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from docking.cli import completion
from docking.cli.asking import JSON_OPTION, one
from docking.cli.luggage import FILE_OPTION, PACKAGE_OPTION, PYTHON_OPTION, DataFile, by_guest_path
from docking.cli.output import plain, print_json
from docking.cli.suggestions import near
from docking.cli.ways import VIA_HELP, ViaType, certifier_keys
from docking.control.client import ControlClient
from docking.errors import ControlError

if TYPE_CHECKING:
    from agents.credentials.ways import Way
    from agents.image import AgentImage

GOING = {"portcall.go", "portcall.go_at", "wasi_snapshot_preview1.path_open"}


@click.command("launch")
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--via", type=ViaType(), metavar="WAY", shell_complete=completion.way, help=VIA_HELP)
@click.option(
    "--hops", type=click.IntRange(1, 2**32 - 1), metavar="N", help="How often it may move; else 10,000 times."
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
@click.option(
    "--lease",
    type=click.IntRange(1, 24 * 366),
    metavar="HOURS",
    help="It sleeps when its home was silent for so long.",
)
@FILE_OPTION
@PACKAGE_OPTION
@PYTHON_OPTION
@JSON_OPTION
def launch(
    source: Path,
    args: tuple[str, ...],
    via: Way | None,
    hops: int | None,
    station: str | None,
    owner: str | None,
    permits: tuple[str, ...],
    label: str | None,
    hours: int,
    lease: int | None,
    files: tuple[DataFile, ...],
    packages: tuple[str, ...],
    python: Path | None,
    as_json: bool,
) -> None:
    """Sign an agent, and begin it at a station of this user.

    SOURCE is a source or an image; ARGS are given to the agent, and follow after `--`.
    """
    from agents.credentials.itinerary import Itinerary
    from agents.credentials.keys import PublicKey
    from agents.credentials.passport import Home
    from agents.credentials.ways import quoted
    from agents.sdk.sources import Choices
    from docking.cli.credentials import existing
    from docking.cli.owners import owner_key
    from docking.cli.sources import image_of, staying
    from docking.launching import DEFAULT_HOPS, DEFAULT_PERMIT, HOUR_MS, Terms, label_of, prepare_launch
    from docking.tracing import TraceContext
    from docking.trust.policy import read_permit

    if owner is not None:
        existing(owner)  # before a long packing
    certifiers = {} if via is None else certifier_keys(via)
    image = image_of(source, Choices(python=python, files=by_guest_path(files), packages=packages))
    if image.manifest.profile == "none" and via is not None and image.manifest.interpreted:
        click.echo(f"portcall: {click.format_filename(source)}: {staying(image)}", err=True)
    with one(station) as line:
        key = owner_key(owner).key
        place = line.place.name
        facts = _prepare(line, [] if via is None else list(via.names), image.digest)
        home = PublicKey(facts["home"])
        if via is None:
            itinerary = Itinerary.via([home])
        else:
            itinerary = via.itinerary(dict(zip(via.names, map(PublicKey, facts["keys"]), strict=True)), certifiers)
        terms = Terms(
            read_permit(permits, DEFAULT_PERMIT),
            hours * HOUR_MS,
            DEFAULT_HOPS if hops is None else hops,
            label=label_of(label or source.stem),
            lease_ms=(lease or 0) * HOUR_MS,
        )
        if via is None and may_go(image, source):
            click.echo(f"portcall: {stays_at(place)}", err=True)
        addresses = tuple(facts["addresses"])
        now = time.time_ns() // 1_000_000
        made = prepare_launch(image, key, Home(home, addresses), itinerary, terms, now, secrets.token_bytes, args)
        carried = b"" if facts["image"] else made.image
        trace = TraceContext.read(os.environ.get("TRACEPARENT"), os.environ.get("TRACESTATE"))
        answer = line.ask(
            "launch",
            passport=made.passport,
            opening=made.opening,
            state=made.state,
            image=carried,
            digest=image.digest,
            trace=b"" if trace is None else trace.encode(),
        )
    if as_json:
        shown = quoted(place) if via is None else str(via)
        way = {"station": place} if via is None else via.value()
        print_json({"agent": answer["agent"], "label": terms.label, "home": place, "itinerary": shown, "way": way})
    else:
        click.echo(f"{answer['agent']}  {terms.label} has begun at {place}")
        click.echo(f"portcall logs -f {answer['agent'][:12]} follows it", err=True)


def may_go(image: AgentImage, source: Path) -> bool:
    """Whether an agent may want to go elsewhere: it has the call or can open `/portcall/go`, and a script says so."""
    from docking.cli.describe import imports
    from docking.cli.sources import read_file

    if image.manifest.profile == "none" or GOING.isdisjoint(imports(image.code)):
        return False
    script = image.manifest.interpreted and source.suffix != ".agent"
    return not script or re.search(rb"\bgo(_at)?\b", read_file(source)) is not None


def stays_at(home: str) -> str:
    """What is said before an agent begins that was given no way."""
    return (
        f"without --via it stays at {home}, and may go nowhere else: --via alpha,beta names the stations that it may go"
        " to, --via roam lets it go to any"
    )


def _prepare(line: ControlClient, names: list[str], digest: bytes) -> Any:
    """What the station knows about the itinerary.

    Raises `ControlError`, which suggests a known station for an unknown one.
    """
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
