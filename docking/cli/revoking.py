"""The command revoke: a key is not to be trusted any more, and every station that is known hears of it.

The statement is given to all stations of this user that run, which pass it on. Invariant: the key that signs stays in
this process.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from docking.cli import completion
from docking.cli.asking import JSON_OPTION, STATION_OPTION, every
from docking.cli.output import print_json, print_table
from docking.errors import ControlError


@click.command("revoke")
@click.argument("key", required=False, shell_complete=completion.keys)
@click.option("--by", metavar="NAME", shell_complete=completion.keys, help="The key that signs it; else KEY itself.")
@click.option(
    "--by-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The file of the key that signs it, such as station.key in the home of a station.",
)
@click.option("--list", "listed", is_flag=True, help="Show what is revoked, and by whom.")
@STATION_OPTION
@JSON_OPTION
def revoke(
    key: str | None, by: str | None, by_file: Path | None, listed: bool, station: str | None, as_json: bool
) -> None:
    """Revoke a key, at all stations that are known.

    KEY, of an owner or a station, is the name of a key of yours, or a whole public key. It is revoked for good. A key
    revokes itself; a policy says which others may ([revoked] by). Stations of yours take it, and pass it on.
    """
    if listed:
        _list(station, as_json)
        return
    if by is not None and by_file is not None:
        raise click.UsageError("--by or --by-file, not both")
    if key is None and by_file is None:
        raise click.UsageError("say which key: its name, the whole public key, or its file with --by-file")
    rows = _revoke(key, by, by_file, station)
    if as_json:
        print_json(rows)
    for row in [] if as_json else rows:
        said = row.get("error") or ("revoked, and passed on" if row["new"] else "revoked before")
        click.echo(f"{row['station']}: {row['key']}: {said}")
    if any("error" in row for row in rows):
        raise SystemExit(1)


def _revoke(key: str | None, by: str | None, by_file: Path | None, station: str | None) -> list[dict[str, Any]]:
    from agents.credentials.keys import PublicKey
    from agents.credentials.revocations import sign_revocation
    from docking.cli.credentials import ask_passphrase, existing
    from docking.control.client import connections
    from docking.trust.identity import load_key, show_key

    meant = None
    if key is not None:
        meant = PublicKey.from_text(key) if key.startswith("ed25519:") else show_key(existing(key))[1]
    if by_file is not None:
        path = by_file
    elif by is not None:
        path = existing(by)
    elif key is not None and not key.startswith("ed25519:"):
        path = existing(key)
    else:
        raise click.UsageError("say which key signs it, with --by or --by-file")
    signer = load_key(path, ask_passphrase).key
    meant = meant or signer.public
    statement = sign_revocation(meant, time.time_ns() // 1_000_000, signer).envelope
    rows: list[dict[str, Any]] = []
    for line in connections(station):
        with line:
            row: dict[str, Any] = {"station": line.place.name, "key": meant.text}
            try:
                rows.append({**row, **line.ask("revoke", statement=statement)})
            except ControlError as error:
                rows.append({**row, "error": str(error)})
    return rows


def _list(station: str | None, as_json: bool) -> None:
    rows = [{"station": name, **row} for name, row in every(station, "revocations")]
    if as_json:
        print_json(rows)
    elif rows:
        heads = ["station", "key", "by", "counts"]
        shown = [
            [
                row["station"],
                row["key"],
                "itself" if row["by"] == row["key"] else row["by"],
                "yes" if row["counts"] else "no",
            ]
            for row in rows
        ]
        print_table(heads, shown)
    else:
        click.echo("no key is revoked by a statement; a policy may revoke others")
