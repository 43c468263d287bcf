"""From what a user names, SOURCE or IMAGE, to an image.

Not the rewriting (that is `agents.pack`) and not the compilers (`agents.sdk`): this chooses between them by
the file's content or ending, and says what to do when a file is none of those.
"""

from __future__ import annotations

from pathlib import Path

import click

FILE_BYTES_MAX = 1 << 30  # a file named by mistake must not fill the memory


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises `click.ClickException`, with what to do."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise click.ClickException(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB: name another file")
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise click.ClickException(f"{path} cannot be read ({reason}): check the name") from None
