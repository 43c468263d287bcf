"""A copy of a station's home in one file, made while the station runs, and put back elsewhere or later.

The copy has the key, the pins, the certificates and the store: whoever has it *is* the station, so it is readable by
its user alone. Bodies lie beside the tables in files that never change: they are copied before and after the tables, so
that all of them are there that the tables name.

Not here: what a station does that was put back (`docking.residents.lives`). Invariants: a home that has something in
it is not overwritten; a store that was put back is held until a person decides.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from docking.errors import StationError, StoreUnusable

MANIFEST = "portcall-backup.json"
STORE = "station.db"
_NAME = re.compile(
    r"station\.key|pins\.json|station\.db|station\.db\.bodies/[A-Za-z0-9._-]{1,128}|certificates/[^/]{1,128}"
)
MAX_MEMBERS, MAX_MANIFEST_BYTES = 1_000_000, 64 << 10


def back_up(home: Path, copy_tables: Callable[[Path], None], target: Path, about: dict[str, object]) -> int:
    """Write the home of a station that runs to a file; returns its size in bytes.

    copy_tables: copies the tables as they are at one moment to a path
    about: what people want to know of the copy

    Raises `StationError`: the file is there already, or cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".portcall-backup-") as folder:
            part = Path(folder) / "backup"
            descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
                _add(archive, MANIFEST, json.dumps({"format": 1, **about}).encode())
                for path in (home / "station.key", home / "pins.json", *sorted((home / "certificates").glob("*"))):
                    if path.is_file():
                        archive.add(path, str(path.relative_to(home)), recursive=False)
                done = set(_bodies(archive, home, set()))
                tables = Path(folder) / STORE
                copy_tables(tables)
                archive.add(tables, STORE, recursive=False)
                list(_bodies(archive, home, done))
                archive.close()
                file.flush()
                os.fsync(file.fileno())
            size = part.stat().st_size
            os.link(part, target)  # which fails if it is there
            return size
    except FileExistsError:
        raise StationError(f"{target} is there already, and is not overwritten") from None
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise StationError(f"the backup was not made: {error}") from error


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    archive.addfile(member, io.BytesIO(data))


def _bodies(archive: tarfile.TarFile, home: Path, done: set[str]) -> Iterator[str]:
    folder = home / f"{STORE}.bodies"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name not in done and _NAME.fullmatch(f"{folder.name}/{path.name}"):
            with contextlib.suppress(FileNotFoundError):  # nothing needs it any more
                archive.add(path, f"{folder.name}/{path.name}", recursive=False)
                yield path.name


def put_back(source: Path, home: Path, held: bytes) -> dict[str, object]:
    """Make a home of a copy; returns what is told about that.

    home: a folder that is not there, or empty
    held: what the store says of why it is held

    Raises `StationError`, `StoreUnusable`; then the folder is as it was, or has parts of the copy and no store.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise StationError(f"{home} has something in it: a copy is put back into a folder of its own")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tarfile.open(source, mode="r:") as archive:
            about = _manifest(archive)
            tables: tarfile.TarInfo | None = None
            for count, member in enumerate(archive):
                if not count:
                    continue  # what was just read
                if count > MAX_MEMBERS or not member.isreg() or not _NAME.fullmatch(member.name):
                    raise StationError(f"{source} is no backup of a station: it has {member.name[:80]!r}")
                if member.name == STORE:
                    tables = member
                else:
                    _extract(archive, member, home)
            if tables is None:
                raise StationError(f"{source} is no backup of a station: there is no store in it")
            _extract(archive, tables, home)  # last: without it, there is no store
        _hold(home / STORE, held)
        return about
    except (OSError, tarfile.TarError, ValueError) as error:
        raise StationError(f"{source} cannot be put back: {error}") from error


def _manifest(archive: tarfile.TarFile) -> dict[str, object]:
    first = archive.next()
    if first is None or first.name != MANIFEST or first.size > MAX_MANIFEST_BYTES:
        raise ValueError("it is no backup of a station")
    file = archive.extractfile(first)
    assert file is not None
    about = json.loads(file.read())
    if not isinstance(about, dict) or about.get("format") != 1:
        raise ValueError("it is a backup of another format")
    return about


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, home: Path) -> None:
    path, file = home / member.name, archive.extractfile(member)
    assert file is not None
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as out:
        while piece := file.read(1 << 20):
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())


def _hold(path: Path, held: bytes) -> None:
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise StoreUnusable(f"the store in this backup is damaged: {said}")
            connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('held', ?)", (held,))
            connection.commit()
    except sqlite3.Error as error:
        raise StoreUnusable(f"the store in this backup cannot be used: {error}") from error
