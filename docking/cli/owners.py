"""Chooses the key that signs an agent when the user names none.

Not here: the keys themselves (`docking.trust.identity`). Invariant: a key is made only when the user has none at all,
and the user is told.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from docking.cli.credentials import ask_passphrase, existing, key_path
from docking.errors import KeyExists, KeyFileError
from docking.folders import key_folder
from docking.trust.identity import KeyFile, create_key, list_keys, load_key

DEFAULT_OWNER = "me"


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
    if DEFAULT_OWNER in [each[1] for each in found]:
        return key_path(DEFAULT_OWNER)
    raise KeyFileError(f"you have several keys ({names}): say which one signs, with --owner")


def make_default() -> Path:
    """Make the user's first key. Two commands that start at once make one, and both use it."""
    path = key_path(DEFAULT_OWNER)
    try:
        made = create_key(path, DEFAULT_OWNER, secrets.token_bytes(32))
    except KeyExists:
        return path
    click.echo(f"you had no key yet; made one, called {DEFAULT_OWNER}: {made.public.text}", err=True)
    return path
