"""What an agent in Python asks of its station. Travels with the agent; runs in MicroPython and in CPython.

Each function writes or reads a file below /portcall/, and nothing else: an interpreter that knows files knows
all of this. A call that the station refuses or that fails is an OSError with its number, like any other I/O.
"""


def _read(name):
    with open("/portcall/" + name, "rb") as file:
        return file.read()


def _write(name, data):
    if isinstance(data, str):
        data = data.encode()
    # Unbuffered: one write is one call, and its error is raised here.
    with open("/portcall/" + name, "wb", 0) as file:
        file.write(data)


def go(station):
    """Move to a station, by name, key id or host:port; the next line runs there.

    Raises OSError, at the origin, when the move was refused or failed.
    """
    _write("go", station)


def here():
    """The name of this station."""
    return _read("here").decode()


def me():
    """This agent's id."""
    return _read("me").decode()


def next_stop():
    """The itinerary's next stop; empty at its end."""
    return _read("next_stop").decode()


def call(service, request=b""):
    """The bytes that a service of this station replies. Raises OSError."""
    if isinstance(request, str):
        request = request.encode()
    with open("/portcall/call/" + service, "r+b", 0) as file:
        file.write(request)
        return file.read()


def lookup(service):
    """Names of stations that offer a service, best first."""
    return _read("lookup/" + service).decode().split()


def send(agent, message):
    """Hand a message over for delivery to another agent, by its id. Raises OSError."""
    _write("send/" + agent, message)


def recv():
    """The next message, as bytes; waits for it."""
    return _read("inbox")


def sender():
    """Who sent the message received last: an agent's id or a station's name."""
    return _read("sender").decode()


def sleep(seconds):
    """Sleep; the agent waits as data and holds no thread."""
    _write("sleep", str(int(seconds * 1000)))


def clone():
    """Become two agents: the new one's id in the original, None in the clone. Raises OSError."""
    return _read("clone").decode() or None


def report(key, value):
    """Append a result to this agent's signed chain: text, bytes, or anything that prints."""
    _write("report/" + key, value if isinstance(value, (str, bytes)) else str(value))


def log(text):
    """One line for the station's log. What is printed goes there too."""
    _write("log", text)
