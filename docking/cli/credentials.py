"""`portcall key` and `portcall verify`: keys of owners and stations, and audits of files.

Not here: the checks themselves (`agents.audit`, `docking.trust.identity`). Only the public half of a key is ever
printed.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from agents import audit as auditing
from agents.capsule import Capsule, Trust
from agents.credentials.keys import PublicKey, text_of
from agents.credentials.visits import Visit
from agents.errors import CredentialError, PortcallError
from docking.cli import completion
from docking.cli.output import plain, print_fields, print_json, print_table
from docking.cli.sources import read_file
from docking.cli.suggestions import Suggesting, near
from docking.cli.ways import shown_way
from docking.errors import IdentityError, KeyFileError
from docking.folders import key_folder
from docking.trust.identity import (
    ENTROPY_SIZE,
    PINS_FILE,
    Protection,
    check_name,
    create_key,
    list_keys,
    load_key,
    load_pins,
    save_pins,
    show_key,
)


def key_path(name: str) -> Path:
    """The file of the owner's key called `name`. Raises `IdentityError` for an invalid name."""
    return key_folder() / f"{check_name(name)}.key"


def ask_passphrase(twice: bool = False) -> str:
    """The passphrase of a key, from the terminal, or without one from a line of standard input.

    Raises `KeyFileError` if there is neither.
    """
    if _terminal():
        return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=twice, err=True))
    line = "" if sys.stdin is None else sys.stdin.readline()
    if not line.strip():
        raise KeyFileError(
            "a passphrase is needed: run this in a terminal, or write it as a line to the standard input"
        )
    return line.rstrip("\r\n")


def _terminal() -> bool:
    """Whether there is a terminal to prompt on, even if standard input is not one."""
    if sys.stdin is not None and sys.stdin.isatty():
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def existing(name: str) -> Path:
    """The file of the owner's key called `name`. Raises `IdentityError`, which says how to make one."""
    path = key_path(name)
    if not path.exists():
        others = [each.stem for each in key_folder().glob("*.key")]
        raise KeyFileError(f"there is no key {name!r}: portcall key new {name} makes one{near(name, others)}")
    return path


@click.group("key", cls=Suggesting)
def key() -> None:
    """Make, show and list keys; accept the new key of a station."""


@key.command("new")
@click.argument("name")
@click.option("--passphrase", is_flag=True, help="Protect the key with a passphrase.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def new(name: str, passphrase: bool, as_json: bool) -> None:
    """Make a key pair. Agents of NAME are signed with it; stations let them in by its public half."""
    protection = None
    if passphrase:
        protection = Protection(ask_passphrase(twice=True), secrets.token_bytes(ENTROPY_SIZE))
    made = create_key(key_path(name), name, secrets.token_bytes(32), protection)
    _show([_row(made.path, name, made.public, passphrase)], as_json)


@key.command("show")
@click.argument("name", shell_complete=completion.keys)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(name: str, as_json: bool) -> None:
    """Show the public half of the key NAME."""
    path = existing(name)
    _show([_row(path, *show_key(path))], as_json)


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_all(as_json: bool) -> None:
    """List the keys."""
    rows = [_row(*found) for found in list_keys(key_folder())]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(["name", "public key", "passphrase"], [[r["name"], r["public"], r["passphrase"]] for r in rows])
    else:
        click.echo("no keys yet: portcall key new NAME makes one")


@key.command("certify")
@click.argument("station")
@click.option("--by", "name", required=True, metavar="NAME", shell_complete=completion.keys, help="The key that signs.")
@click.option("--days", type=click.IntRange(1, 3660), default=365, show_default=True, help="How long it is valid.")
@click.option("--label", default="", help="What to call the station.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where to write it."
)
def certify_command(station: str, name: str, days: int, label: str, output: Path) -> None:
    """Certify that STATION (its public key) may stand where an itinerary asks for one that NAME certified.

    The station shows the certificate when it is in the folder `certificates` of its home.
    """
    from agents.credentials.logbook import sign_certificate as sign
    from docking.cli.writing import write_file

    try:
        certified = PublicKey.from_text(station)
    except CredentialError as error:
        raise click.BadParameter(error.reason, param_hint="STATION") from None
    signer = load_key(existing(name), ask_passphrase).key
    now = time.time_ns() // 1_000_000
    write_file(output, sign(certified, now, now + days * 86_400_000, label or certified.id, signer).envelope)
    click.echo(f"{output}: {certified.id} is certified by {name} for {days} days")


@key.command("accept")
@click.argument("name", shell_complete=completion.stations)
@click.argument("public")
@click.option("--home", type=click.Path(path_type=Path), required=True, help="The folder of your station.")
def accept(name: str, public: str, home: Path) -> None:
    """Accept PUBLIC as the key of the station NAME from now on."""
    try:
        offered = PublicKey.from_text(public)
    except CredentialError as error:
        raise click.BadParameter(error.reason, param_hint="PUBLIC") from None
    path = home / PINS_FILE
    if not home.is_dir():
        raise IdentityError(f"there is no station in {home}: name the folder that the station has as --home")
    pins = load_pins(path)
    before = pins.key(name)
    save_pins(path, pins.accept(name, offered, time.time_ns() // 1_000_000))
    if before is not None and before != offered:
        click.echo(f"{name} had the key {before.text}")
    click.echo(f"{name} has the key {offered.text}")


def _row(path: Path, name: str, public: PublicKey, protected: bool) -> dict[str, Any]:
    passphrase = "yes" if protected else "no"
    return {"name": name, "public": public.text, "id": public.id, "passphrase": passphrase, "file": str(path)}


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    for row in rows:
        if as_json:
            print_json(row)
        else:
            print_fields(row.items())


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--owner",
    "owners",
    multiple=True,
    shell_complete=completion.keys,
    help="Accept this owner only (name of a key, or ed25519:...).",
)
@click.option(
    "--open",
    "opener",
    metavar="NAME",
    shell_complete=completion.keys,
    help="Open the results with the owner's key NAME.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify_command(file: Path, owners: tuple[str, ...], opener: str | None, as_json: bool) -> None:
    """Check the signatures, chain and itinerary of a capsule, offline.

    The exit code is 0 if everything holds, 1 if not.
    """
    data = read_file(file)
    try:
        capsule = Capsule.decode(data)
    except PortcallError as error:
        raise click.ClickException(
            f"{click.format_filename(file)} is no capsule ({error}): portcall trail AGENT -o FILE writes an agent's"
        ) from error
    trust = Trust(owners=frozenset(_owner(text) for text in owners)) if owners else Trust()
    found = auditing.audit(capsule, trust)
    values = _values(found)
    if opener is not None and found.code is None:
        secret = load_key(existing(opener), ask_passphrase).key.box()
        values["results"] = [
            {"visit": r.entry.index, "station": r.entry.station.text, "key": r.key, "value": _value(r.value)}
            for r in auditing.reports(capsule, secret)
        ]
    if as_json:
        print_json(values)
    else:
        _print(values)
    if found.code is not None:
        raise SystemExit(1)


def _owner(text: str) -> PublicKey:
    if text.startswith("ed25519:"):
        try:
            return PublicKey.from_text(text)
        except CredentialError as error:
            raise click.BadParameter(error.reason, param_hint="--owner") from None
    return show_key(existing(text))[1]


def _values(found: auditing.Audit) -> dict[str, Any]:
    """The audit as values for JSON."""
    passport = found.passport
    values: dict[str, Any] = {
        "holds": found.code is None,
        "code": found.code,
        "reason": found.reason,
        "checks": dict(found.checks),
    }
    if passport is not None:
        text, value = shown_way(passport.itinerary, {})  # by keys: names are not verified
        values |= {
            "agent": text_of(found.agent or passport.agent),
            "label": passport.label,
            "owner": passport.owner.text,
            "home": passport.home.station.text,
            "expires": _time(passport.expires),
            "itinerary": text,
            "way": value,
            "journey": _standing(found),
            "entries": found.entries,
            "visits": [_visit(visit) for visit in found.visits if isinstance(visit, Visit)],
        }
    return values


def _standing(found: auditing.Audit) -> str:
    if found.ended:
        return "ended, the itinerary completed" if found.whole else "ended before the itinerary was completed"
    return f"on its way to {found.holder}" if found.visits else "not launched yet"


def _visit(visit: Visit) -> dict[str, Any]:
    return {
        "index": visit.index,
        "station": visit.station.text,
        "arrived": _time(visit.arrived),
        "seconds": (visit.departed - visit.arrived) / 1000,
        "cpu_ms": visit.used.cpu / 1000,
        "results": visit.results.count,
        "next": None if visit.next is None else visit.next.text,
    }


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _value(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _print(values: dict[str, Any]) -> None:
    words = {True: "holds", False: "FAILS", None: "not reached"}
    for name, verdict in values["checks"].items():
        click.echo(f"{name:<10} {words[verdict]}")
    if not values["holds"]:
        click.echo(f"\n{values['code']}: {plain(values['reason'])}")
    if "agent" not in values:
        return
    click.echo()
    shown = ("agent", "label", "owner", "home", "expires", "itinerary", "journey")
    print_fields((name, values[name]) for name in shown)
    if values["visits"]:
        click.echo()
        rows = [
            [v["index"], PublicKey.from_text(v["station"]).id, v["arrived"], v["seconds"], v["results"]]
            for v in values["visits"]
        ]
        print_table(["visit", "station", "arrived", "seconds", "results"], rows)
    if values.get("results"):
        click.echo()
        print_table(["visit", "key", "value"], [[r["visit"], r["key"], r["value"]] for r in values["results"]])
