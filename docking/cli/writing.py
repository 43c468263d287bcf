"""Writes the output files of commands, completely or not at all.

Light: a command that only asks a station imports no engine for it. Invariant: after a full disk or Ctrl-C there is
neither a partial nor a temporary file, and the old file is intact.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import click


def write_file(path: Path, data: bytes) -> None:
    """Write `path`, whatever it is. Raises `click.ClickException`, with what to do."""
    try:
        if path.exists() and not path.is_file():  # a pipe, a terminal, /dev/null
            path.write_bytes(data)
        else:
            _replace(path.resolve(), data)
    except OSError as error:
        raise unwritable(path, error) from None


def not_over(source: Path, target: Path, role: str = "is the source") -> None:
    """Refuse to overwrite the input, which may be the only copy. Raises `click.ClickException`."""
    with suppress(OSError):
        if target.is_file() and target.samefile(source):
            raise click.ClickException(f"{click.format_filename(target)} {role}: write to another file")


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(data)
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def unwritable(path: Path, error: OSError) -> click.ClickException:
    """The message for a file that cannot be written."""
    name = click.format_filename(path)
    if path.is_dir():
        return click.ClickException(f"{name} cannot be written: it is a folder; name a file in it")
    if isinstance(error, FileNotFoundError):
        return click.ClickException(f"{name} cannot be written: there is no folder {path.parent}")
    return click.ClickException(f"{name} cannot be written: {(error.strerror or str(error)).lower()}")
