"""What an agent in Python asks of its station. Travels with the agent; runs in MicroPython and in CPython.

Each function writes or reads a file below /portcall/, and nothing else: an interpreter that knows files knows
all of this. A call that the station refuses or that fails is an OSError with its number, like any other I/O.
"""

import gc
import sys
from errno import EAGAIN

if hasattr(gc, "threshold"):  # MicroPython: what nobody needs any more should not fill the heap, and travel
    gc.threshold(2 << 20)


def _raise_again(result: object) -> None:
    """Raise EAGAIN, which Python takes for a file that has nothing now: reading and writing give None then."""
    if result is None:
        raise OSError(EAGAIN, "try again later")


def _read(name: str) -> bytes:
    with open("/portcall/" + name, "rb") as file:
        answer = file.read()
    _raise_again(answer)
    return answer


def _write(name: str, data: "str | bytes") -> None:
    if isinstance(data, str):
        data = data.encode()
    # Unbuffered: one write is one call, and its error is raised here.
    with open("/portcall/" + name, "wb", 0) as file:
        _raise_again(file.write(data))


def _give(name: str, data: "str | bytes") -> None:
    if data:
        _write(name, data)
    else:
        _read(name)  # MicroPython does not pass on a write of nothing; a read there gives nothing away too


def go(station: str) -> None:
    """Move to a station, by name, key id or host:port; the next line runs there.

    Raises OSError, at the origin, when the move was refused or failed.
    """
    sys.stdout.flush()  # what was printed here belongs here
    _write("go", station or "\0")  # no name at all would be no write at all


def here() -> str:
    """The name of this station."""
    return _read("here").decode()


def me() -> str:
    """This agent's id."""
    return _read("me").decode()


def next_stop() -> str:
    """The itinerary's next stop; empty at its end."""
    return _read("next_stop").decode()


def call(service: str, request: "str | bytes" = b"") -> bytes:
    """The bytes that a service of this station replies. Raises OSError."""
    if isinstance(request, str):
        request = request.encode()
    with open("/portcall/call/" + service, "r+b", 0) as file:
        _raise_again(file.write(request))
        reply = file.read()
    _raise_again(reply)
    return reply


def lookup(service: str) -> "list[str]":
    """Names of stations that offer a service, best first."""
    return _read("lookup/" + service).decode().split()


def send(agent: str, message: "str | bytes") -> None:
    """Hand a message over for delivery to another agent, by its id. Raises OSError."""
    _give("send/" + agent, message)


def recv(timeout: "float | None" = None) -> bytes:
    """The next message; waits for it, at most `timeout` seconds. Raises OSError (ETIMEDOUT) when none came."""
    return _read("inbox" if timeout is None else "inbox/" + str(int(timeout * 1000)))


def sender() -> str:
    """Who sent the message received last: an agent's id or a station's name."""
    return _read("sender").decode()


def sleep(seconds: float) -> None:
    """Sleep; the agent waits as data and holds no thread."""
    _write("sleep", str(int(seconds * 1000)))


def clone() -> "str | None":
    """Become two agents: the new one's id in the original, None in the clone. Raises OSError."""
    sys.stdout.flush()  # else both would print it
    return _read("clone").decode() or None


def report(key: str, value: object) -> None:
    """Append a result to this agent's signed chain: text, bytes, or anything that prints."""
    _give("report/" + key, value if isinstance(value, (str, bytes)) else str(value))


def log(text: str, level: str = "info") -> None:
    """One line for the station's log: error, warning, info or detail. What is printed goes there too."""
    _write("log/" + level, text)


def exit(code: int = 0) -> None:
    """End the agent, wherever it is; `finally` blocks run first."""
    raise SystemExit(code)
