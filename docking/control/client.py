"""This user's running stations on this machine, and how to ask them: small address files, and a blocking client.

    frame   length (4 bytes, big endian) | deterministic CBOR
    ask     [what, {arguments}]
    answer  ["item", value] any number of times, then ["end", value] or ["error", sentence]

The channel is a Unix socket in the station's home, closed to other users. Where the system has none, or the path is too
long for one, it is a port on the loopback interface and a secret that only the user can read. It is never exposed to
the network.

Not here: the requests (`docking.control.server`). Light: a command that only asks a station imports no engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen

from agents import canonical
from agents.errors import NotCanonical
from docking.errors import ControlError

LENGTH = struct.Struct(">I")
# Bytes. A frame may carry an image or a capsule. The peer is our own station, but its lengths are checked anyway.
MAX_FRAME_BYTES = 256 << 20
FRAME_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_FRAME_BYTES, max_depth=10, max_items=2_000_000)
# The path of a Unix socket has room for 108 bytes, on some systems for 104.
MAX_SOCKET_PATH_BYTES = 100
SHOWN_STATIONS = 8  # that run here, named to who asked for another


def running_folder() -> Path:
    """Where this user's running stations are noted: `PORTCALL_RUNNING`, or a folder in the user's state directory."""
    given = os.environ.get("PORTCALL_RUNNING")
    if given:
        return Path(given)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "portcall" / "running"


@frozen
class ControlAddress:
    """A running station: name, key (text), folder, process, and how to connect to it."""

    name: str
    key: str
    home: str
    pid: int
    socket: str = ""
    port: int = 0
    token: str = field(default="", repr=False)

    def write(self, path: Path) -> None:
        """Write it to a file that only the user can read."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{self.pid}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: Path) -> ControlAddress | None:
        """The inverse of `write`; None for a missing file, or one that is not an address."""
        try:
            value = json.loads(path.read_text("utf-8"))
            return cls(**value)
        except (OSError, ValueError, TypeError):
            return None


def running() -> list[tuple[Path, ControlAddress]]:
    """The stations noted as running, by name. Some may be dead."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(running_folder().glob("*.json")):
            place = ControlAddress.read(path)
            if place is not None:
                found.append((path, place))
    return sorted(found, key=lambda item: item[1].name)


def connections(station: str | None = None) -> list[ControlClient]:
    """Connections to the running stations: to those that `station` means, or to all. Raises `ControlError` if there is
    none.

    station: a name, a whole key, or the folder that is its home

    Also removes the address files of dead stations.
    """
    found = []
    for path, place in running():
        if station is not None and not _is(place, station):
            continue
        try:
            found.append(ControlClient(place))
        except ControlError:
            with contextlib.suppress(OSError):
                path.unlink()
    if found:
        return found
    if station is not None:
        names = ", ".join(sorted({place.name for _, place in running()})[:SHOWN_STATIONS])
        others = f"; running are {names}" if names else ""
        raise ControlError(
            f"no station {station!r} runs here{others}; portcall station --name {station} --home DIR starts one"
        )
    raise ControlError("no station runs here; portcall station --name NAME --home DIR starts one")


@contextlib.contextmanager
def only(station: str | None = None, hint: str = "") -> Iterator[ControlClient]:
    """A connection to the station that is meant, or to the only one that runs; closed in the end.

    station: see `connections`
    hint: how to choose among several

    Raises `ControlError` if there is none, or several.
    """
    with contextlib.ExitStack() as opened:
        found = [opened.enter_context(line) for line in connections(station)]
        if len(found) > 1:
            names = ", ".join(line.place.name for line in found)
            if station is not None:
                homes = ", ".join(line.place.home for line in found)
                raise ControlError(f"several stations called {station} run here: name one by its home ({homes})")
            raise ControlError(f"several stations run here ({names}): {hint}")
        yield found[0]


def _is(place: ControlAddress, text: str) -> bool:
    return text == place.name or text == place.key or Path(text).resolve() == Path(place.home)


class ControlClient:
    """A connection to a running station. Raises `ControlError` if there is none."""

    def __init__(self, place: ControlAddress, timeout: float | None = 30.0) -> None:
        self.place = place
        self._socket = socket.socket(socket.AF_UNIX if place.socket else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(place.socket or ("127.0.0.1", place.port))
            if not place.socket:
                self._send(place.token)
        except OSError as error:
            self._socket.close()
            raise ControlError(f"the station {place.name} does not answer; it seems to have ended") from error
        except ControlError:
            self._socket.close()
            raise

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hang_up(self) -> None:
        """End the answer that another thread waits for: it raises `ControlError` there."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def patient(self, seconds: float | None = None) -> None:
        """Set the timeout for answers; None waits for ever."""
        self._socket.settimeout(seconds)

    def items(self, what: str, /, **arguments: object) -> Generator[Any, None, Any]:
        """Yield the items of an answer; the generator returns its end. Raises `ControlError`."""
        self._send([what, arguments])
        while True:
            kind, value = self._receive()
            if kind == "item":
                yield value
            elif kind == "end":
                return value
            else:
                raise ControlError(str(value))

    def ask(self, what: str, /, **arguments: object) -> Any:
        """The end of an answer, without its items. Raises `ControlError`."""
        answer = self.items(what, **arguments)
        while True:
            try:
                next(answer)
            except StopIteration as end:
                return end.value

    def _send(self, value: object) -> None:
        data = canonical.encode(value)
        try:
            self._socket.sendall(LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise ControlError(f"the station {self.place.name} does not listen") from error

    def _receive(self) -> tuple[Any, Any]:
        (size,) = LENGTH.unpack(self._exactly(LENGTH.size))
        if size > MAX_FRAME_BYTES:
            raise ControlError("an answer that is too long")
        try:
            kind, value = canonical.decode(self._exactly(size), FRAME_BOUNDS)
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
