"""Files that a user names: read, or turned into an image, with sentences for what goes wrong.

The work is `agents.sdk.sources`'; here are the progress line and the words.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from agents.image import AgentImage
from agents.sdk.sources import Choices, load_image, read_bounded, user_cache


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises `click.ClickException`, with what to do, or `ToolchainError`."""
    try:
        return read_bounded(path)
    except OSError as error:
        raise unreadable(path, error) from None


def image_of(path: Path, choices: Choices | None = None) -> AgentImage:
    """The image of a source, or the one in the file. On a terminal, packing that takes long shows progress.

    Raises `click.ClickException` for a file that cannot be read, and what `load_image` raises.
    """
    progress = _Progress(path.name)
    try:
        return load_image(path, choices, cache=user_cache(), progress=progress)
    except OSError as error:
        raise unreadable(path, error) from None
    finally:
        progress.clear()


def unreadable(path: Path, error: OSError) -> click.ClickException:
    """What to tell about a file that cannot be read."""
    reason = (error.strerror or str(error)).lower()
    return click.ClickException(f"{error.filename or path} cannot be read ({reason}): check the name")


class _Progress:
    """One line on stderr, if that is a terminal and packing takes longer than a second."""

    def __init__(self, name: str) -> None:
        self.name, self.shown = name, False
        self.began = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now - self.began > 1 and now - self.last > 0.1:
            self.last, self.shown = now, True
            click.echo(f"\rpacking {self.name}: {100 * done // max(total, 1)} %", nl=False, err=True)

    def clear(self) -> None:
        """Leaves an empty line."""
        if self.shown:
            click.echo("\r\x1b[K", nl=False, err=True)
