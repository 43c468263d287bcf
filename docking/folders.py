"""Where the user's files are. Light, since shell completion uses it too."""

from __future__ import annotations

import os
from pathlib import Path

import click

KEYS_VARIABLE = "PORTCALL_KEYS"


def key_folder() -> Path:
    """The folder of the owners' keys: `PORTCALL_KEYS`, or `keys` in the user's configuration folder."""
    given = os.environ.get(KEYS_VARIABLE)
    return Path(given) if given else Path(click.get_app_dir("portcall")) / "keys"
