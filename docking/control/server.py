"""The local control channel of a station, on which the commands ask it (`docking.control.requests`).

Not for the network: `docking.control.client` describes the channel. Only the user who runs the station can open it, so
nothing else is checked; input is bounded all the same. Invariant: a failing request is answered with an error message,
and the station keeps running.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from attrs import define, evolve, field

from agents import canonical
from agents.errors import NotCanonical, PortcallError
from docking.aio.failures import log_failure
from docking.aio.timeouts import ended, within
from docking.control.client import (
    FRAME_BOUNDS,
    LENGTH,
    MAX_FRAME_BYTES,
    MAX_SOCKET_PATH_BYTES,
    ControlAddress,
    running_folder,
)
from docking.control.requests import Controlled, Requests
from docking.errors import ControlError

_log = logging.getLogger(__name__)
# Limits before the client has shown the secret: bytes read, and seconds to wait. Without them, other users of the
# machine could exhaust this process.
MAX_SECRET_BYTES, SECRET_TIMEOUT_S = 256, 10.0


@define(eq=False, repr=False)
class Control:
    """The open channel of one station."""

    _of: Controlled
    _place: ControlAddress
    _requests: Requests
    _notes: list[Path] = field(factory=list)
    _server: asyncio.AbstractServer | None = None
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    @classmethod
    async def start(cls, of: Controlled) -> Control:
        """Open the channel, and write its address file."""
        home = of.home.resolve()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home / "control.sock"
        place = ControlAddress(of.here.name, of.key.text, str(home), os.getpid())
        if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            place = evolve(place, socket=str(path))
        else:
            place = evolve(place, token=secrets.token_hex(32))
        control = cls(of, place, Requests(of))
        await control._listen(path)
        return control

    async def _listen(self, path: Path) -> None:
        if self._place.socket:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # left by an earlier process: the store's lock guarantees that we are the only one
            old = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self._connected, str(path))
            finally:
                os.umask(old)
        else:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            port = self._server.sockets[0].getsockname()[1]
            self._place = evolve(self._place, port=port)
        note = running_folder() / f"{self._place.name}-{self._of.key.id[:8]}.json"
        try:
            self._place.write(note)
        except OSError as error:  # a service may have no home; its agents do not need one
            _log.warning("commands cannot find this station, since %s cannot be written: %s", note, error.strerror)
            return
        self._notes.append(note)

    async def close(self) -> None:
        """Close the channel, and remove the address file."""
        for note in self._notes:
            with contextlib.suppress(OSError):
                note.unlink()
        if self._server is not None:
            self._server.close()
        await ended(self._tasks)
        if self._place.socket:
            with contextlib.suppress(OSError):
                os.unlink(self._place.socket)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._place.token and not await self._knows(reader):
                return
            begun = b""
            while True:
                question = await _read(reader, begun)
                asking = asyncio.get_running_loop().create_task(self._answer(question, writer))
                more = asyncio.get_running_loop().create_task(reader.read(1))
                try:
                    # Stop answering when the client hangs up: do not stream forever to nobody.
                    await asyncio.wait({asking, more}, return_when=asyncio.FIRST_COMPLETED)
                    if not asking.done():
                        return
                finally:
                    for task in (asking, more):
                        task.cancel()
                    await asyncio.gather(asking, more, return_exceptions=True)
                begun = b"" if more.cancelled() else more.result()
        except (asyncio.IncompleteReadError, ConnectionError, NotCanonical, ControlError):
            return
        finally:
            writer.close()

    async def _knows(self, reader: asyncio.StreamReader) -> bool:
        """Whether the client of the port knows the secret: any user of the machine can connect to it."""
        try:
            said = await within(SECRET_TIMEOUT_S, _read(reader, most=MAX_SECRET_BYTES))
        except asyncio.TimeoutError:
            return False
        return isinstance(said, str) and hmac.compare_digest(said.encode(), self._place.token.encode())

    async def _answer(self, question: Any, writer: asyncio.StreamWriter) -> None:
        try:
            what, arguments = question
            end = None
            async for kind, value in self._requests.answer(what, **arguments):
                if kind == "end":
                    end = value
                else:
                    await _write(writer, ["item", value])
            await _write(writer, ["end", end])
        except PortcallError as error:
            await _write(writer, ["error", str(error)])
        except (TypeError, ValueError) as error:
            _log.warning("a question on the control channel cannot be answered: %s", error)
            await _write(writer, ["error", f"the question has another shape: {error}"])
        except ConnectionError:
            return  # the client has hung up
        except Exception:
            # Always answer: the client waits.
            _log.exception("a question on the control channel failed")
            await _write(writer, ["error", "the station failed to answer; its log says why"])


async def _read(reader: asyncio.StreamReader, begun: bytes = b"", most: int = MAX_FRAME_BYTES) -> Any:
    (size,) = LENGTH.unpack(begun + await reader.readexactly(LENGTH.size - len(begun)))
    if size > most:
        raise ControlError("a question that is too long")
    return canonical.decode(await reader.readexactly(size), FRAME_BOUNDS)


async def _write(writer: asyncio.StreamWriter, value: object) -> None:
    data = canonical.encode(value)
    writer.write(LENGTH.pack(len(data)) + data)
    await writer.drain()
