"""`portcall station --mec`: the application mobility service of ETSI MEC 021 beside a station.

Invariant: beyond this machine it is reached with a token only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import field, frozen

from agents.brief import brief
from docking.cli.output import say
from docking.cli.sources import read_file
from docking.errors import StationError

if TYPE_CHECKING:
    from docking.station import Station

F = TypeVar("F", bound=Callable[..., Any])
OPERATOR = "operator "


@frozen
class Edge:
    """What the options say. `port`: None for no service; `tokens`: the file with them."""

    port: int | None
    host: str
    callbacks: tuple[str, ...] = field(repr=brief)
    tokens: Path | None

    def check(self) -> None:
        """Raises `click.UsageError` for what does not go together."""
        if self.port is None and (self.callbacks or self.tokens is not None):
            raise click.UsageError("--mec-callback and --mec-tokens need --mec PORT")
        if self.port is not None and self.tokens is None and not is_own(self.host):
            raise click.UsageError(f"--mec-host {self.host} is reached by others: give --mec-tokens FILE")

    def prepare(self, station: Station) -> Callable[[], Coroutine[object, object, None]]:
        """What serves the API of a station once it runs, until it is cancelled.

        The port is taken, and files are read, here: what is wrong is told before anything starts. Raises
        `StationError`, `ConfigError`, `StoreError`.
        """
        if self.port is None:
            return _nothing
        import docking.mec
        from docking.http.server import listen

        clients, operators = ([], []) if self.tokens is None else _tokens(self.tokens)
        settings = docking.mec.Settings(tokens=clients, operators=operators, callbacks=self.callbacks)
        app = docking.mec.app(station, settings)
        try:
            sock = listen(self.host, self.port)
        except StationError as error:
            raise StationError(str(error).replace("--port", "--mec").replace("--host", "--mec-host")) from error
        name = f"[{self.host}]" if ":" in self.host else self.host

        async def serve() -> None:
            from docking.mec.server import serving

            async with serving(app, sock):
                say(f"application mobility service (MEC 021) at http://{name}:{sock.getsockname()[1]}/amsi/v1")
                await asyncio.Event().wait()

        return serve


async def _nothing() -> None:
    """There is no such API."""


def options(command: F) -> F:
    """The options of the service."""
    for each in reversed(
        (
            click.option("--mec", type=click.IntRange(0, 65535), metavar="PORT", help="Serve the API of ETSI MEC 021."),
            click.option("--mec-host", default="127.0.0.1", show_default=True, help="Address of that API."),
            click.option(
                "--mec-callback",
                "mec_callbacks",
                multiple=True,
                metavar="HOST|RANGE",
                help="Whom it may call back; by default the address of the subscriber only.",
            ),
            click.option(
                "--mec-tokens",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Bearer tokens of its clients, one a line; `operator TOKEN` may also begin moves.",
            ),
        )
    ):
        command = each(command)
    return command


def _tokens(path: Path) -> tuple[list[str], list[str]]:
    lines = [line.strip() for line in read_file(path).decode("utf-8", "replace").splitlines()]
    words = [line for line in lines if line and not line.startswith("#")]
    operators = [line[len(OPERATOR) :].strip() for line in words if line.startswith(OPERATOR)]
    clients = [line for line in words if not line.startswith(OPERATOR)]
    if not clients and not operators:
        raise click.ClickException(f"{click.format_filename(path)} holds no token")
    return clients, operators


def is_own(host: str) -> bool:
    """Whether an address to listen at is reached from this machine only."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
