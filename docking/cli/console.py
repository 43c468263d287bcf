"""`--console` of `portcall station` and `portcall lab`: stations and agents in a browser.

Invariant: it listens on this machine only, unless the user says otherwise, and always wants the token that is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import evolve, field, frozen

from agents.brief import brief
from docking.cli.edge import is_own
from docking.cli.output import say
from docking.cli.sources import read_file
from docking.errors import KeyFileError, StationError

if TYPE_CHECKING:
    from agents.credentials.keys import SecretKey
    from docking.station import Station

F = TypeVar("F", bound=Callable[..., Any])
PORT = 7780


@frozen
class ConsoleOptions:
    """What the options say. `token`: the file with it; empty for a new one."""

    wanted: bool
    port: int | None
    host: str | None
    names: tuple[str, ...] = field(repr=brief)
    token: Path | None

    @classmethod
    def of(cls, given: dict[str, Any]) -> ConsoleOptions:
        """The options of a command. Raises `click.UsageError` for what does not go together."""
        made = cls(*(given[f"console{end}"] for end in ("", "_port", "_host", "_names", "_token")))
        if not made.wanted and (made.port is not None or made.host or made.names or made.token):
            raise click.UsageError("--console-port, -host, -name and -token need --console")
        return made

    def prepare(
        self, stations: Sequence[Station], owners: Sequence[SecretKey] = ()
    ) -> Callable[[], Coroutine[object, object, None]]:
        """What serves the console of stations once they run, until it is cancelled. `owners`: keys that open results.

        The port is taken, and files are read, here: what is wrong is told before anything starts. Raises
        `StationError`, `click.ClickException`.
        """
        if not self.wanted:
            return _nothing
        from docking.console import Console, Settings
        from docking.http.server import listen

        shown = [each.shown() for each in stations]
        settings = Settings(hosts=self.names, owners=owners)
        if self.token is not None:
            settings = evolve(settings, token=read_file(self.token).decode("ascii", "replace").strip())
        console = Console.of([asked for asked, _ in shown], [watched for _, watched in shown], settings)
        host = self.host or "127.0.0.1"
        try:
            sock = listen(host, PORT if self.port is None else self.port)
        except StationError as error:
            said = str(error).replace("--port", "--console-port").replace("--host", "--console-host")
            raise StationError(said) from error

        async def serve() -> None:
            from docking.console.server import serving

            async with serving(console, sock):
                address = f"[{host}]" if ":" in host else host
                say(f"console: {console.link(f'http://{address}:{sock.getsockname()[1]}')}")
                if not is_own(host):
                    say("the console is reached by others, and not encrypted: put TLS before it, or use `ssh -L`")
                await asyncio.Event().wait()

        return serve


async def _nothing() -> None:
    """There is no console."""


def own_keys() -> list[SecretKey]:
    """The keys of this user that need no passphrase: they open the results of their agents.

    For a lab: a station on a network has no business with the secrets of owners.
    """
    from docking.folders import key_folder
    from docking.trust.identity import list_keys, load_key

    found = []
    with contextlib.suppress(KeyFileError):
        for path, _, _, protected in list_keys(key_folder()):
            if not protected:
                found.append(load_key(path).key)
    return found


def options(command: F) -> F:
    """The options of the console."""
    for each in reversed(
        (
            click.option("--console", is_flag=True, help="Show stations and agents in a browser; prints the link."),
            click.option(
                "--console-port", type=click.IntRange(0, 65535), help=f"Port of the console ({PORT}); 0: any free one."
            ),
            click.option("--console-host", help="Address of the console; by default of this machine only."),
            click.option(
                "--console-name",
                "console_names",
                multiple=True,
                metavar="NAME",
                help="A host name under which the console is reached, beside localhost and addresses.",
            ),
            click.option(
                "--console-token",
                type=click.Path(path_type=Path, dir_okay=False),
                help="File with the token that opens the console; by default a new one at each start.",
            ),
        )
    ):
        command = each(command)
    return command
