"""The options `--file`, `--package` and `--python` of the commands that pack: what goes along with an agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import click


class DataFile(NamedTuple):
    """A file that goes along, and the agent's name for it."""

    host: Path
    guest: str


class DataFileType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """`HOST` or `HOST=GUEST`."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> DataFile:
        """See `click.ParamType`."""
        if isinstance(value, DataFile):
            return value
        host, equals, guest = str(value).rpartition("=")
        if not equals:
            host, guest = guest, Path(guest).name
        if not host or not guest:
            self.fail(f"{value} is neither HOST nor HOST=GUEST", param, ctx)
        return DataFile(Path(host), guest)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """See `click.ParamType`."""
        return click.Path().shell_complete(ctx, param, incomplete)


FILE_OPTION = click.option(
    "--file",
    "files",
    type=DataFileType(),
    multiple=True,
    metavar="HOST[=GUEST]",
    help="Take a file along; the agent finds it in /agent, or at the path GUEST.",
)
PACKAGE_OPTION = click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="NAME",
    help="Take along a package of this environment, in pure Python, for an agent in Python.",
)

PYTHON_OPTION = click.option(
    "--python",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A WASI build of CPython to run a .py in; default MicroPython.",
)


def by_guest_path(files: tuple[DataFile, ...]) -> dict[str, Path]:
    """The files by the agent's names for them. Raises `click.BadParameter` for two of one name."""
    found: dict[str, Path] = {}
    for host, guest in files:
        if guest in found:
            raise click.BadParameter(f"two files are called {guest}: HOST=GUEST names one", param_hint="--file")
        found[guest] = host
    return found
