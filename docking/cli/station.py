"""`portcall station`: runs a station until it is interrupted. `portcall stations`: lists those on the network."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import click

from docking.cli import completion, edge
from docking.cli import console as looking
from docking.cli.asking import JSON_OPTION, STATION_OPTION, every
from docking.cli.output import plain, print_json, print_table, say
from docking.cli.services import SERVICE_OPTION, SERVICES_OPTION, Offers, OneService, all_of
from docking.cli.serving import policy_of, prepare, say_whom_it_admits, serve
from docking.errors import ControlError, StationError

PORT = 7707


@click.command("station")
@click.option("--name", required=True, help="What it is called.")
@click.option(
    "--home", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of its key, store, peers."
)
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: any free one.")
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen at.")
@click.option("--policy", type=click.Path(path_type=Path, dir_okay=False), help="Whom it admits, in TOML.")
@click.option("--dev", is_flag=True, help="Admit the agents of any owner.")
@click.option("--peer", "peers", multiple=True, metavar="URL", help="A station that mDNS does not reach.")
@click.option(
    "--dock", "docks", multiple=True, metavar="URL", help="Where what is meant for it waits while it is away."
)
@click.option("--no-mdns", is_flag=True, help="Neither announce nor browse.")
@SERVICE_OPTION
@SERVICES_OPTION
@click.option(
    "--engine", default="wasmtime", show_default=True, shell_complete=completion.engines, help="What runs agents."
)
@click.option("--volatile", is_flag=True, help="Keep agents in memory only: a crash loses them.")
@click.option("--threads", type=click.IntRange(1, 256), help="Agents that run at once.")
@click.option(
    "--ahead",
    type=click.IntRange(1, 1 << 20),
    metavar="MIB",
    help="Send agents with so much memory ahead to their next stop, while they run.",
)
@click.option(
    "--record",
    type=click.IntRange(0, 1 << 20),
    metavar="MIB",
    help="Keep so much of what agents were told here, for portcall replay.",
)
@click.option("--metrics", is_flag=True, help="Answer GET /portcall/1/metrics.")
@click.option("--log", type=click.Choice(["events", "json", "none"]), default="events", help="What it prints.")
@edge.options
@looking.options
def station(
    name: str,
    home: Path,
    port: int,
    host: str,
    policy: Path | None,
    dev: bool,
    peers: tuple[str, ...],
    docks: tuple[str, ...],
    no_mdns: bool,
    single: tuple[OneService, ...],
    modules: tuple[Offers, ...],
    engine: str,
    volatile: bool,
    threads: int | None,
    ahead: int | None,
    record: int | None,
    metrics: bool,
    log: str,
    mec: int | None,
    mec_host: str,
    mec_callbacks: tuple[str, ...],
    mec_tokens: Path | None,
    **console: Any,
) -> None:
    """Run a station, until it is interrupted.

    Without a policy it admits the agents of this user's keys, and nobody else's. SIGHUP has it read the policy again.
    """
    from docking.aio.loops import run_loop
    from docking.cli.credentials import ask_passphrase
    from docking.peers.directory import url_of
    from docking.station import Station
    from docking.trust.identity import check_name

    for option, urls in (("--peer", peers), ("--dock", docks)):
        for each in urls:
            if url_of(each) is None:
                raise click.BadParameter(f"{each!r} is no address: write http://HOST:PORT", param_hint=option)
    beside = edge.Edge(mec, mec_host, mec_callbacks, mec_tokens)
    beside.check()
    look = looking.ConsoleOptions.of(console)
    check_name(name)  # check this before making a key for the user
    prepare(log)
    made = Station(
        name,
        home,
        policy=policy_of(policy),
        dev=dev,
        host=host,
        port=port,
        peers=peers,
        docks=docks,
        mdns=not no_mdns,
        engine=engine,
        volatile=volatile,
        threads=threads,
        ahead_mib=ahead,
        record_mib=record,
        show_metrics=metrics,
        passphrase=ask_passphrase,
    )
    all_of(modules, single)(made)

    serve_mec, serve_console = beside.prepare(made), look.prepare([made])

    async def begun() -> None:
        say(f"station {made.name} at {made.url}, key {made.key.text}")
        say_whom_it_admits(made.policy)
        await asyncio.gather(serve_mec(), serve_console())

    ending = "stopping: agents are suspended, and go on when this station starts again"
    with contextlib.suppress(KeyboardInterrupt):
        run_loop(serve([made], log=log, policy=lambda: policy_of(policy), begun=begun, ending=ending))


@click.command("stations")
@click.option("--wait", type=click.FloatRange(0, 60), default=1.0, show_default=True, help="Seconds to look around.")
@STATION_OPTION
@JSON_OPTION
def stations(wait: float, station: str | None, as_json: bool) -> None:
    """List the stations on the network, as those of this machine see them.

    Where none runs, what mDNS says is shown: unproven.
    """
    try:
        values = [{"seen_by": name, **row} for name, row in every(station, "stations", wait=int(wait * 1000))]
    except ControlError:
        if station is not None:
            raise
        values = _around(wait)
    if as_json:
        print_json(values)
        return
    good = [row for row in values if "refused" not in row]
    if not good:
        click.echo("no other station was seen")
    else:
        print_table(
            ["station", "address", "key", "services", "runs on", "seen by", "proven"],
            [
                [
                    *(
                        r["name"],
                        r["address"],
                        r["key"][8:20],
                        ", ".join(r["services"]),
                        r.get("runs", ""),
                        r["seen_by"],
                    ),
                    _yes(r["proven"]),
                ]
                for r in good
            ],
        )
    # Several stations may report the same.
    for text in dict.fromkeys(plain(row["refused"], 600) for row in values if "refused" in row):
        click.echo(f"\n{text}")


def _around(wait: float) -> list[dict[str, Any]]:
    from docking.peers.mdns import look_around

    try:
        found = asyncio.run(look_around(wait))
    except StationError as error:
        reason = str(error).partition(": give")[0]
        raise ControlError(f"no station runs here, and {reason}; portcall station --no-mdns starts one") from None
    return [
        {
            "seen_by": "mDNS",
            "name": sighting.name,
            "key": sighting.key.text,
            "address": sighting.addresses[0] if sighting.addresses else "",
            "services": list(sighting.services),
            "runs": "",
            "proven": False,
        }
        for sighting in found
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
