"""Reads the files that a user names, or packs them into images, with clear error messages.

`agents.sdk.sources` does the work; this module adds the progress line and the messages. Invariant: a message about a
file starts with its name, as it was typed.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import click

from agents.errors import EngineError, FormatError, ModuleError, PortcallError
from agents.image import IMAGE_MAGICS, AgentImage
from agents.sdk.sources import COMPILERS, Choices, load_image, read_bounded, user_cache
from agents.wasm.decode import WASM_MAGIC
from docking.cli.output import plain
from docking.cli.suggestions import near_file


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
    progress = _Progress(path)
    try:
        return load_image(path, choices, cache=user_cache(), progress=progress, warn=progress.warn)
    except OSError as error:
        raise unreadable(path, error) from None
    except (ModuleError, FormatError, EngineError) as error:
        raise about(path, error) from error
    except PortcallError:
        if path.suffix == ".wasm":
            raise _no_module(path) from None
        raise
    finally:
        progress.clear()


def is_image(path: Path) -> bool:
    """Whether the file is an image, not a source; False for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(max(map(len, IMAGE_MAGICS))).startswith(IMAGE_MAGICS)
    except OSError:
        return False


def staying(image: AgentImage) -> str:
    """The warning about an image that was not rewritten."""
    said = "it was not rewritten, so it cannot move in the middle of its run: go fails in it (ENOTSUP)"
    if image.manifest.interpreted:
        return f"{said}; without --profile none it moves"
    return f"{said}, go_at works"


def about(path: Path, error: PortcallError) -> click.ClickException:
    """The error, prefixed with the name of its file."""
    return click.ClickException(f"{click.format_filename(path)}: {error}")


def unreadable(path: Path, error: OSError) -> click.ClickException:
    """The message for a file that cannot be read."""
    name = click.format_filename(error.filename or path)
    if isinstance(error, FileNotFoundError):
        found = near_file(Path(error.filename or path))
        return click.ClickException(f"there is no file {name}{found or ': check the name'}")
    if isinstance(error, IsADirectoryError):
        return click.ClickException(f"{name} is a folder: name a file in it")
    reason = (error.strerror or str(error)).lower()
    return click.ClickException(f"{name} cannot be read: {reason}")


def _no_module(path: Path) -> click.ClickException:
    """The message for a .wasm file that is not a module. Raises `OSError`."""
    head = read_bounded(path)[:4]
    name = click.format_filename(path)
    if not head:
        return click.ClickException(f"{name} is empty: the compiler that should have written it failed")
    return click.ClickException(
        f"{name} is no WebAssembly: it begins with {head!r}, not {WASM_MAGIC!r}; "
        "a module in the text form is called .wat, a source by its language's ending"
    )


class _Progress:
    """One line on stderr, if that is a terminal and compiling or packing takes longer than a second."""

    def __init__(self, path: Path) -> None:
        self.name, self.shown = path.name, False
        self.began = self.last = time.monotonic()
        self._compiling = threading.Timer(1, self._show, [f"compiling {self.name} (the first time takes a minute)"])
        self._compiling.daemon = True
        if path.suffix in COMPILERS and sys.stderr.isatty():
            self._compiling.start()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._compiling.cancel()
        if sys.stderr.isatty() and now - self.began > 1 and now - self.last > 0.1:
            self.last = now
            self._show(f"packing {self.name}: {100 * done // max(total, 1)} %")

    def warn(self, sentence: str) -> None:
        """A line about the source that stays."""
        self.clear()
        click.echo(f"portcall: warning: {plain(self.name)}: {plain(sentence)}", err=True)

    def _show(self, text: str) -> None:
        self.shown = True
        click.echo(f"\r\x1b[K{plain(text)}", nl=False, err=True)

    def clear(self) -> None:
        """Clear the line of the progress."""
        self._compiling.cancel()
        if self.shown:
            click.echo("\r\x1b[K", nl=False, err=True)
