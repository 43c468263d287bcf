"""Where the files of a user are. Light: a shell that completes names asks it too."""

from __future__ import annotations

import os
from pathlib import Path

import click

ENVIRONMENT = "PORTCALL_KEYS"


def key_folder() -> Path:
    """Where keys of owners are kept: `PORTCALL_KEYS`, or `keys` in the user's folder of settings."""
    given = os.environ.get(ENVIRONMENT)
    return Path(given) if given else Path(click.get_app_dir("portcall")) / "keys"
