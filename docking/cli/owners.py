"""Which of the user's keys signs an agent, when none is named.

Not the keys themselves (`docking.identity`). Invariant: a key is made only when the user has none
at all, and it is said.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from docking.cli.credentials import ask_passphrase, existing, key_path
from docking.cli.folders import key_folder
from docking.errors import KeyFileError
from docking.identity import KeyFile, create_key, list_keys, load_key

DEFAULT = "me"


def owner_key(name: str | None) -> KeyFile:
    """The key called `name`, or the user's only one; if there is none at all, a new one. Raises `KeyFileError`."""
    return load_key(_path(name), ask_passphrase)


def _path(name: str | None) -> Path:
    if name is not None:
        return existing(name)
    found = list_keys(key_folder())
    if len(found) == 1:
        return found[0][0]
    if not found:
        return make_default()
    names = ", ".join(each[1] for each in found)
    if DEFAULT in [each[1] for each in found]:
        return key_path(DEFAULT)
    raise KeyFileError(f"you have several keys ({names}): say which one signs, with --owner")


def make_default() -> Path:
    """The user's first key."""
    path = key_path(DEFAULT)
    made = create_key(path, DEFAULT, secrets.token_bytes(32))
    click.echo(f"you had no key yet; made one, called {DEFAULT}: {made.public.text}", err=True)
    return path
