"""Which stations of this user run on this machine, and how to ask them: small files, and a blocking client.

    frame   length (4 bytes, big endian) | deterministic CBOR
    ask     [what, {arguments}]
    answer  ["item", value] any number of times, then ["end", value] or ["error", sentence]

The channel is a Unix socket in the station's home, closed to other users; where there are none, or the path is too long
for one, a port on the loopback interface and a secret that only the user can read. It is never open to the network.

What is asked and answered is `docking.control`'s. Light: a command that only asks a station imports no engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from agents import canonical
from agents.errors import NotCanonical
from docking.errors import ControlError

LENGTH = struct.Struct(">I")
# A frame carries an image or a capsule; what answers is our own station, but a length is a length.
MAX_FRAME = 256 << 20
BOUNDS = canonical.Bounds(max_bytes=MAX_FRAME, max_depth=10, max_items=2_000_000)
# The path of a Unix socket has a place of 108 bytes, 104 on some systems.
MAX_PATH = 100


def running_folder() -> Path:
    """Where running stations of this user are noted: `PORTCALL_RUNNING`, or in the user's folder of states."""
    given = os.environ.get("PORTCALL_RUNNING")
    if given:
        return Path(given)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "portcall" / "running"


@frozen
class Place:
    """A running station: name, key (text), folder, process, and how to ask it."""

    name: str
    key: str
    home: str
    pid: int
    socket: str = ""
    port: int = 0
    token: str = ""

    def write(self, path: Path) -> None:
        """Note it in a file that only the user can read."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{self.pid}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: Path) -> Place | None:
        """The inverse of `write`; None for a file that is not one, or gone."""
        try:
            value = json.loads(path.read_text("utf-8"))
            return cls(**value)
        except (OSError, ValueError, TypeError):
            return None


def running() -> list[tuple[Path, Place]]:
    """The stations that were noted and not taken back, by name; some may be dead."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(running_folder().glob("*.json")):
            place = Place.read(path)
            if place is not None:
                found.append((path, place))
    return sorted(found, key=lambda item: item[1].name)


class Line:
    """A connection to a running station. Raises `ControlError` when there is none."""

    def __init__(self, place: Place, timeout: float | None = 30.0) -> None:
        self.place = place
        try:
            if place.socket:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(timeout)
                self._socket.connect(place.socket)
            else:
                self._socket = socket.create_connection(("127.0.0.1", place.port), timeout)
                self._send(place.token)
        except OSError as error:
            raise ControlError(f"the station {place.name} does not answer; it seems to have ended") from error

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def patient(self, seconds: float | None = None) -> None:
        """Wait for answers so long; None: as long as it takes."""
        self._socket.settimeout(seconds)

    def items(self, what: str, /, **arguments: Any) -> Generator[Any, None, Any]:
        """The items of an answer; the generator's value is its end. Raises `ControlError`."""
        self._send([what, arguments])
        while True:
            kind, value = self._receive()
            if kind == "item":
                yield value
            elif kind == "end":
                return value
            else:
                raise ControlError(str(value))

    def ask(self, what: str, /, **arguments: Any) -> Any:
        """The end of an answer. Raises `ControlError`."""
        answer = self.items(what, **arguments)
        while True:
            try:
                next(answer)
            except StopIteration as end:
                return end.value

    def _send(self, value: Any) -> None:
        data = canonical.encode(value)
        try:
            self._socket.sendall(LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise ControlError(f"the station {self.place.name} does not listen") from error

    def _receive(self) -> tuple[Any, Any]:
        (size,) = LENGTH.unpack(self._exactly(LENGTH.size))
        if size > MAX_FRAME:
            raise ControlError("an answer that is too long")
        try:
            kind, value = canonical.decode(self._exactly(size), BOUNDS)
        except (NotCanonical, ValueError) as error:
            raise ControlError("an answer that cannot be read") from error
        return kind, value

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        try:
            while len(data) < size:
                piece = self._socket.recv(min(size - len(data), 1 << 20))
                if not piece:
                    raise ControlError(f"the station {self.place.name} has ended")
                data += piece
        except TimeoutError:
            raise ControlError(f"the station {self.place.name} takes too long to answer") from None
        except OSError as error:
            raise ControlError(f"the station {self.place.name} does not answer") from error
        return bytes(data)
