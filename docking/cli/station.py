"""`portcall station`: runs a station until it is interrupted. `portcall stations`: who is on the network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import signal
import sys
from pathlib import Path
from typing import Any

import click

from docking.cli import completion
from docking.cli.asking import JSON_OPTION, STATION_OPTION, every, when
from docking.cli.output import plain, print_json, print_table
from docking.errors import ConfigError, ControlError, StationError

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
@click.option("--no-mdns", is_flag=True, help="Neither announce nor browse.")
@click.option(
    "--engine", default="wasmtime", show_default=True, shell_complete=completion.engines, help="What runs agents."
)
@click.option("--volatile", is_flag=True, help="Keep agents in memory only: a crash loses them.")
@click.option("--threads", type=click.IntRange(1, 256), help="Agents that run at once.")
@click.option("--metrics", is_flag=True, help="Answer GET /portcall/1/metrics.")
@click.option("--log", type=click.Choice(["events", "json", "none"]), default="events", help="What it prints.")
def station(
    name: str,
    home: Path,
    port: int,
    host: str,
    policy: Path | None,
    dev: bool,
    peers: tuple[str, ...],
    no_mdns: bool,
    engine: str,
    volatile: bool,
    threads: int | None,
    metrics: bool,
    log: str,
) -> None:
    """Run a station, until it is interrupted.

    Without a policy it admits the agents of this user's keys, and nobody else's.
    """
    from docking.cli.credentials import ask_passphrase
    from docking.identity import check_name
    from docking.loops import run
    from docking.peers import url_of
    from docking.serve import Station

    for peer in peers:
        if url_of(peer) is None:
            raise click.BadParameter(f"{peer!r} is no address: write http://HOST:PORT", param_hint="--peer")
    check_name(name)  # before a key is made for the user
    _log_to(log)
    made = Station(
        name,
        home,
        policy=_policy(policy),
        dev=dev,
        host=host,
        port=port,
        peers=peers,
        mdns=not no_mdns,
        engine=engine,
        volatile=volatile,
        threads=threads,
        show_metrics=metrics,
        passphrase=ask_passphrase,
    )
    _raise_limits()
    with contextlib.suppress(KeyboardInterrupt):
        run(_run(made, log))


# Descriptors that a station asks for: as many connections as it takes at once, and then some.
FILES = 8192


def _raise_limits() -> None:
    """The usual limit of 1,024 open files is a courtesy to old programs; what the machine allows is more."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _policy(path: Path | None) -> Any:
    from docking.cli.folders import key_folder
    from docking.cli.owners import make_default
    from docking.cli.sources import read_file
    from docking.config import OwnerRule, Policy
    from docking.identity import list_keys

    if path is not None:
        return _read_policy(path, read_file(path))
    if not list_keys(key_folder()):
        make_default()
    return Policy(owners=[OwnerRule(public, name) for _, name, public, _ in list_keys(key_folder())])


def _read_policy(path: Path, data: bytes) -> Any:
    """The policy in a file. Raises `ConfigError`, with the file's name and, where it can be told, the line."""
    from docking.config import read_policy

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text: save the file as that") from None
    try:
        return read_policy(text)
    except ConfigError as error:
        said = str(error)
        word = re.search(r"unknown word '([\w-]{1,80})'|\] ([\w-]{1,80}):", said)
        where = ""
        if word is not None:
            found = re.search(rf"^[ \t]*[\[\"']*{word[1] or word[2]}\b", text, re.MULTILINE)
            where = f", line {text.count(chr(10), 0, found.start()) + 1}" if found else ""
        raise ConfigError(f"{path}{where}: {said}") from None


def _log_to(log: str) -> None:
    """Warnings go to stderr; with `json`, everything does, a line each."""
    handler = logging.StreamHandler(sys.stderr)
    if log == "json":
        handler.setFormatter(_Json())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s: %(message)s", "%H:%M:%S"))
        if log == "events":
            handler.addFilter(lambda record: not hasattr(record, "event"))  # it is shown as one
    logging.basicConfig(level=logging.INFO if log == "json" else logging.WARNING, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # a line for each request that is not HTTP


class _Json(logging.Formatter):
    """One JSON object a line."""

    _KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": int(record.created * 1000), "level": record.levelname.lower(), "logger": record.name}
        fields["message"] = record.getMessage()
        fields |= {key: value for key, value in vars(record).items() if key not in self._KNOWN}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


async def _run(made: Any, log: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            # Whoever asks again does not want to wait, and loses nothing by it: what is here is in the store.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C is a KeyboardInterrupt
            loop.add_signal_handler(number, asked)
    async with made:
        _say_hello(made)
        showing = loop.create_task(_show(made, log))
        ends = loop.create_task(stop.wait()), loop.create_task(made.failed())
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not made.failure:
            click.echo("stopping: agents are suspended, and go on when this station starts again", err=True)
        for task in (*ends, showing):
            task.cancel()
        await asyncio.gather(*ends, showing, return_exceptions=True)
    if made.failure:
        # Not a station that does nothing for ever: whoever looks after it (a person, systemd) starts it again.
        raise StationError(f"the station {made.name} has ended: {made.failure}")


def _say_hello(made: Any) -> None:
    click.echo(f"station {made.name} at {made.url}, key {made.key.text}", err=True)
    owners = ", ".join(rule.name or rule.key.id for rule in made.policy.owners) or "nobody"
    click.echo(f"it admits the agents of: {owners}", err=True)
    for sentence in made.policy.loosened():
        click.echo(click.style(f"WARNING: {sentence}", fg="red", bold=True), err=True)


async def _show(made: Any, log: str) -> None:
    async for event in made.subscribe():
        if log == "events":
            click.echo(event_line(event.value()))


def event_line(event: dict[str, Any]) -> str:
    """An event as a line for people."""
    who = plain(event["label"] or event["agent"][:12], 24)
    words = " ".join(plain(part) for part in (event["place"], event["text"]) if part)
    return f"{when(event['time'])}  {event['kind']:<9} {who:<16} {words}".rstrip()


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
            ["station", "address", "key", "services", "seen by", "proven"],
            [
                [r["name"], r["address"], r["key"][8:20], ", ".join(r["services"]), r["seen_by"], _yes(r["proven"])]
                for r in good
            ],
        )
    # Several may say the same.
    for text in dict.fromkeys(plain(row["refused"], 600) for row in values if "refused" in row):
        click.echo(f"\n{text}")


def _around(wait: float) -> list[dict[str, Any]]:
    from docking.discovery import look_around

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
            "proven": False,
        }
        for sighting in found
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
