"""`portcall lab`: runs several stations in one process until it is interrupted, for playing and teaching.

Each is a real station: it has a key and a store, listens, is found over mDNS, and answers the commands. Invariants:
they are reached from this machine only; what they wrote is removed when they end, unless the user named a folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from docking.cli import console as looking
from docking.cli.output import say
from docking.cli.services import SERVICE_OPTION, SERVICES_OPTION, Offers, OneService, all_of
from docking.cli.serving import policy_of, prepare, say_whom_it_admits, serve
from docking.errors import DockingError

if TYPE_CHECKING:
    from docking.station import Station

MOST = 32  # stations of one laboratory
# Seconds in which stations find each other over mDNS; then they are told where the others are.
MEET_TIMEOUT_S = 6.0


@click.command("lab")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@SERVICE_OPTION
@SERVICES_OPTION
@click.option(
    "--down", multiple=True, metavar="NAME", help="Let this station meet the others, and then not answer any more."
)
@click.option("--policy", type=click.Path(path_type=Path, dir_okay=False), help="Whom they admit, in TOML.")
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), help="Keep their keys and agents in this folder."
)
@click.option(
    "--record",
    type=click.IntRange(0, 1 << 20),
    metavar="MIB",
    help="Each keeps so much of what agents were told there, for portcall replay.",
)
@click.option("--no-mdns", is_flag=True, help="Tell the stations of each other instead of letting them find out.")
@click.option("--log", type=click.Choice(["events", "json", "none"]), default="events", help="What it prints.")
@looking.options
def lab(
    names: tuple[str, ...],
    single: tuple[OneService, ...],
    modules: tuple[Offers, ...],
    down: tuple[str, ...],
    policy: Path | None,
    home: Path | None,
    record: int | None,
    no_mdns: bool,
    log: str,
    **console: Any,
) -> None:
    """Run several stations on this machine, until they are interrupted.

    They find each other over mDNS, and `portcall launch` begins agents at them. Without a policy they admit the agents
    of this user's keys; who has no key gets one. Without --home everything that they wrote is removed at the end, with
    the agents that are there still.
    """
    from docking.aio.loops import run_loop
    from docking.peers.mdns import has_multicast
    from docking.station import Station
    from docking.trust.identity import check_name, introduce

    for name in names:
        check_name(name)
    if len(set(names)) < len(names) or len(names) > MOST:
        raise click.UsageError(f"a lab has up to {MOST} stations, each with a name of its own")
    for name in down:
        if name not in names[1:]:
            rest = ", ".join(names[1:]) or "there is only one"
            raise click.UsageError(f"--down {name}: it is one of the stations after the first: {rest}")
    look = looking.ConsoleOptions.of(console)
    prepare(log)
    admitted = policy_of(policy)
    mdns = not no_mdns and has_multicast()
    with _folder(home) as folder:
        homes = {name: folder / name for name in names}
        introduce(homes, secrets.token_bytes, time.time_ns() // 1_000_000)
        stations = [
            Station(name, home, policy=admitted, host="127.0.0.1", port=0, mdns=mdns, threads=2, record_mib=record)
            for name, home in homes.items()
        ]
        for each in stations:
            all_of(modules, single)(each)

        serve_console = look.prepare(stations, looking.own_keys())

        async def begun() -> None:
            await _meet(stations, mdns)
            await asyncio.gather(*(each.close() for each in stations if each.name in down))
            for each in stations:
                if each.name in down:
                    say(f"station {each.name} is down")
                    continue
                offered = ", ".join(each.core.services.names)
                say(f"station {each.name} at {each.url}" + (f", offers {offered}" if offered else ""))
            say_whom_it_admits(admitted)
            via = ",".join(names[1:]) or names[0]
            say(f"ready: portcall launch AGENT.py --from {names[0]} --via {via} begins an agent; Ctrl-C ends all")
            await serve_console()

        ending = "stopping: agents are suspended, and go on when a lab with this home starts again"
        if home is None:
            ending = "stopping: the stations and their agents are removed; --home DIR would keep them"
        with contextlib.suppress(KeyboardInterrupt):
            run_loop(serve(stations, log=log, policy=lambda: policy_of(policy), begun=begun, ending=ending))


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    # Short: the path of a Unix socket has room for 100 bytes.
    with tempfile.TemporaryDirectory(prefix="portcall-", ignore_cleanup_errors=True) as made:
        yield Path(made)


async def _meet(stations: Sequence[Station], mdns: bool) -> None:
    """Wait until the stations know each other; who has not been found in time is told of."""
    until = time.monotonic() + MEET_TIMEOUT_S
    while mdns and _strangers(stations) and time.monotonic() < until:
        await asyncio.sleep(0.05)
    missing = _strangers(stations)
    for one, other in missing:
        with contextlib.suppress(DockingError):  # it is shown by `portcall stations`
            await one.introductions.call_on(other.url)
    how = "they were told of each other" if missing else "they found each other over mDNS"
    if len(stations) > 1:
        say(f"{len(stations)} stations: {how}, and proved their keys")


def _strangers(stations: Sequence[Station]) -> list[tuple[Station, Station]]:
    """The pairs of which the first has not met the second."""
    found = []
    for one in stations:
        met = {peer.key for peer in one.introductions.peers.all() if peer.proven}
        found += [(one, other) for other in stations if other is not one and other.key not in met]
    return found
