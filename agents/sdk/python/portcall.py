"""What an agent in Python asks of its station. Travels with the agent; runs in MicroPython and in CPython.

Each function writes or reads a file below /portcall/, and nothing else: an interpreter that knows files knows
all of this. A call that the station refuses or that fails is an OSError with its number, like any other I/O.
"""

import gc
import sys
from errno import EAGAIN, ENOENT, ETIMEDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_early: "list[tuple[str, bytes]]" = []  # messages that came before those that `join` waited for
_last: "list[str | None]" = [None]  # the sender of one of these, if it was received last
_LONGEST = (1 << 31) - 1  # milliseconds that a call can wait, 24 days

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
    if name.split("/")[0] not in _OF_EVENTS:
        _attend()
    return answer


def _write(name: str, data: "str | bytes") -> None:
    if isinstance(data, str):
        data = data.encode()
    # Unbuffered: one write is one call, and its error is raised here.
    with open("/portcall/" + name, "wb", 0) as file:
        _raise_again(file.write(data))
    if name.split("/")[0] not in _OF_EVENTS:
        _attend()


def _give(name: str, data: "str | bytes") -> None:
    if data:
        _write(name, data)
    else:
        _read(name)  # MicroPython does not pass on a write of nothing; a read there gives nothing away too


_callbacks = {}  # type: dict[str, Callable[[], object] | None]
_EVENTS = ("departing", "arrived", "sleeping", "woken", "cloned", "message", "retracted", "budget_low")
_OF_EVENTS = (
    "go",
    "sleep",
    "inbox",
    "select",
    "about",
    "clone",
    "fork",
    "notice",
)  # calls that say themselves what happens
_attending = [False]  # whether a callback for what the station has to tell is running


def on(event: str, callback: "Callable[[], object] | None") -> None:
    """Have `callback` called at an `event` of this agent's life; None: no more.

    The events: "departing" before it leaves by `go`, "arrived" after that, "sleeping" and "woken" before and after
    `sleep`, "cloned" in each agent that it is after `clone` and `fork`, and "message" when `receive` or `recv` has one.
    Two are told at the end of its next call: "retracted" at home, when it was brought there by an order and not by its
    own `go`; "budget_low" when 90 % of its processor time or messages at this station are used. Raises ValueError for
    any other.
    """
    if event not in _EVENTS:
        raise ValueError("no such event: " + event)
    _callbacks[event] = callback


def _happens(event: str) -> None:
    callback = _callbacks.get(event)
    if callback is not None:
        callback()
    if event not in ("departing", "sleeping"):
        _attend()


def _attend() -> None:
    """Tell what the station has to tell by itself."""
    wanted = _callbacks.get("retracted") or _callbacks.get("budget_low")
    if wanted is None or _attending[0]:
        return
    _attending[0] = True
    try:
        while True:
            try:
                said = _read("notice").decode()
            except OSError as error:  # a station that is older than this
                if error.errno != ENOENT:
                    raise
                return
            if not said:
                return
            callback = _callbacks.get(said.split(" ")[0])
            if callback is not None:
                callback()
    finally:
        _attending[0] = False


def go(station: str, wait: "float | None" = None) -> None:
    """Move to a station, by name, key id or host:port; the next line runs there.

    With `wait`, the agent sleeps up to so many seconds while the station cannot be reached or is full, and goes as soon
    as it can. Raises OSError, at the origin, when the move was refused or failed.
    """
    _happens("departing")
    sys.stdout.flush()  # what was printed here belongs here
    name = "go" if wait is None else "go/" + str(min(int(wait * 1000) if wait < 2e6 else _LONGEST, _LONGEST))
    _write(name, station or "\0")  # no name at all would be no write at all
    _happens("arrived")


def tour(tasks: "Callable[[], object] | dict[str, Callable[[], object]]", wait: "float | None" = None) -> None:
    """Go along the way to its end, from one stop to the next, and call a task at each.

    tasks: one for all stops, or by the names of stations; "" is for those that are not named
    wait: as of `go`; stops that may be left out are, where they are down. Raises OSError where no next stop takes it.
    """
    while next_stop():
        go("next", wait)
        task = tasks.get(here(), tasks.get("")) if isinstance(tasks, dict) else tasks
        if task is not None:
            task()


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
    """The bytes that `service` of this station replies to `request`. Raises OSError."""
    if isinstance(request, str):
        request = request.encode()
    with open("/portcall/call/" + service, "r+b", 0) as file:
        _raise_again(file.write(request))
        reply = file.read()
    _raise_again(reply)
    return reply


def lookup(service: str) -> "list[str]":
    """Names of stations that offer `service`, best first."""
    return _read("lookup/" + service).decode().split()


def send(agent: str, message: "str | bytes") -> None:
    """Hand `message` over for delivery to another `agent`, by its id. Raises OSError."""
    _give("send/" + agent, message)


def recv(timeout: "float | None" = None) -> bytes:
    """The next message; waits for it, at most `timeout` seconds. Raises OSError (ETIMEDOUT) when none came."""
    if _early:
        _last[0], body = _early.pop(0)
        return body
    _last[0] = None
    body = _read("inbox" if timeout is None else "inbox/" + str(int(timeout * 1000)))
    _happens("message")
    return body


def sender() -> str:
    """Who sent the message received last: an agent's id or a station's name."""
    return _last[0] or _read("sender").decode()


def join(agents: "list[str]", timeout: "float | None" = None) -> "dict[str, bytes]":
    """The next message of each of these agents, by its id: waits for them all, at most `timeout` seconds.

    Who has sent none until then is not in the answer. Messages of others are kept for `recv`.
    """
    import time

    found: dict[str, bytes] = {}
    others: list[tuple[str, bytes]] = []
    end = None if timeout is None else time.time() + timeout
    while len(found) < len(set(agents)):
        try:
            body = recv() if end is None else recv(max(0, end - time.time()))
        except OSError as error:
            if error.errno != ETIMEDOUT:
                raise
            break
        who = sender()
        if who in agents and who not in found:
            found[who] = body
        else:
            others.append((who, body))
    _early[:0] = others
    return found


class Message:
    """A message to this agent: body, bytes; sender, an agent's id or a station's name; topic, perhaps empty.

    id: of a question, for `reply`, which takes the message too; empty for one that needs no answer
    """

    def __init__(self, body: bytes, sender: str = "", topic: str = "", id: str = "") -> None:
        self.body, self.sender, self.topic, self.id = body, sender, topic, id
        self.answered = False

    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> "object":
        """The value that the body has in JSON. Raises ValueError."""
        import json

        return json.loads(self.body)


def receive(timeout: "float | None" = None, sender: str = "", topic: str = "") -> Message:
    """The next message, of one sender or about one topic if these are given; waits for it, at most `timeout` seconds.

    Raises OSError (ETIMEDOUT) when none came.
    """
    body = _read("/".join(["select", _ms(timeout), sender or "-", topic or "-"]))
    message = Message(body, *_read("about").decode().split("\n"))
    _happens("message")
    return message


def _ms(seconds: "float | None") -> str:
    return "-" if seconds is None else str(min(int(seconds * 1000), _LONGEST))


class Question:
    """A question that was asked: `id` is its name. Its answer can be taken here or at a later station, once."""

    def __init__(self, id: str) -> None:
        self.id = id

    def answer(self, timeout: "float | None" = None) -> bytes:
        """The answer; waits for it, at most `timeout` seconds. Raises OSError: ETIMEDOUT when none came in time,
        EHOSTUNREACH when the question could not be delivered.
        """
        return _read("answer/" + self.id if timeout is None else "answer/" + self.id + "/" + _ms(timeout))


def ask(agent: str, message: "str | bytes", timeout: "float | None" = 30, topic: str = "") -> bytes:
    """What another agent answers to a message, perhaps about a `topic`, within `timeout` seconds.

    Raises OSError: ETIMEDOUT when nothing came in time, EHOSTUNREACH when it cannot be asked.
    """
    return ask_later(agent, message, timeout, topic).answer()


def ask_later(agent: str, message: "str | bytes", timeout: "float | None" = 30, topic: str = "") -> Question:
    """Ask another agent a message, perhaps about a `topic`, and go on: the answer is taken later, here or elsewhere.

    An answer that comes after `timeout` seconds is dropped. Raises OSError.
    """
    if isinstance(message, str):
        message = message.encode()
    with open("/".join(["/portcall/ask", _ms(timeout), agent, topic or "-"]), "r+b", 0) as file:
        if message:
            _raise_again(file.write(message))
        name = file.read()
    _raise_again(name)
    return Question(name.decode())


def subscribe(topic: str) -> None:
    """Receive what is published to a topic, from now on and wherever this agent goes. Raises OSError."""
    _write("subscribe", topic)


def unsubscribe(topic: str) -> None:
    """Receive what is published to a topic no more."""
    _write("unsubscribe", topic)


def publish(topic: str, message: "str | bytes", everywhere: bool = False) -> None:
    """Send a message to the other agents here that subscribe to a topic, or `everywhere`. Raises OSError."""
    _write(("publish_all/" if everywhere else "publish/") + topic, message)


def offer(service: str, attributes: str = "") -> None:
    """Offer a service to other agents while this one is here; `attributes` is what they are told of it."""
    _give("offer/" + service, attributes)


def withdraw(service: str) -> None:
    """Offer a service no more."""
    _write("withdraw", service)


def find(service: str = "", label: str = "", everywhere: bool = False) -> "list[tuple[str, str, str, str]]":
    """The other agents here, or `everywhere`, that offer a `service` and have a `label`.

    Of each: its id, station, label, and what it says of the service.
    """
    where = "everywhere/" if everywhere else "here/"
    lines = _read("find/" + where + (service or "-") + "/" + (label or "-")).decode().split("\n")
    return [tuple(line.split("\t")) for line in lines if line]  # type: ignore[misc]


class Channel:
    """A local channel to an agent that is at this station: what is sent on it goes to that agent while it is here."""

    def __init__(self, agent: str) -> None:
        self.agent = agent

    def send(self, message: "str | bytes") -> None:
        """Send it a message. Raises OSError (EHOSTUNREACH) when it is not here any more."""
        _give("send_here/" + self.agent, message)

    def receive(self, timeout: "float | None" = None) -> Message:
        """Its next message; waits for it, at most `timeout` seconds. Raises OSError (ETIMEDOUT) when none came."""
        return receive(timeout, self.agent)


def meet(agent: str) -> Channel:
    """A local channel to another agent that is here, by its id; see `find`."""
    return Channel(agent)


class Request:
    """A client's request to this agent.

    method: "GET", "POST" ...; path: below the agent's own address, "/" and more, percent-encoded; query: after the "?"
    headers: by name in lower case; body: bytes; id: the request's, for an answer that comes later
    """

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.method, target, _ = first.split(" ")
        self.path, _, self.query = target.partition("?")
        self.headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            self.headers[name] = value
        self.id = self.headers.pop("portcall-request")
        self.answered = False

    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> "object":
        """The value that the body has in JSON. Raises ValueError."""
        import json

        return json.loads(self.body)


def accept(timeout: "float | None" = None) -> Request:
    """The next request of a client; waits for it, at most `timeout` seconds. Raises OSError (ETIMEDOUT)."""
    return Request(_read("accept" if timeout is None else "accept/" + str(int(timeout * 1000))))


def reply(request: "Request | Message", answer: "object" = None) -> None:
    """Answer a request of a client, or a question, here or after any number of moves: once.

    See `serve` for what an answer to a client can be; a question is answered with text or bytes.
    """
    if isinstance(request, Message):
        if answer is not None and not isinstance(answer, (str, bytes, bytearray)):
            raise TypeError("a question is answered with text or bytes")
        data = b"" if answer is None else answer.encode() if isinstance(answer, str) else bytes(answer)
    else:
        data = _http(answer)
    _write("reply/" + request.id, data)
    request.answered = True


def serve(handler: "Callable[[Request], object]", until: "Callable[[], object] | None" = None) -> None:
    """Answer clients: each `Request` with what `handler` returns for it, until `until()` is true after an answer.

    An answer is a body, or (status, body), or (status, headers, body). A body is text, bytes, a dict or a list (sent as
    JSON), or None (nothing). What the handler raises is printed, and answered with the status 500.
    """
    while True:
        request = accept()
        try:
            answer = handler(request)
            if not request.answered:
                reply(request, answer)
        except Exception as error:
            _print_exception(error)
            if not request.answered:
                reply(request, (500, "the agent failed to answer"))
        if until is not None and until():
            return


def _http(answer: "object") -> bytes:
    status, headers, body = (204 if answer is None else 200), {}, answer
    if isinstance(answer, tuple):
        if len(answer) == 2:
            status, body = answer
        else:
            status, headers, body = answer
    kind = None
    if isinstance(body, (dict, list)):
        import json

        body, kind = json.dumps(body), "application/json"
    if isinstance(body, str):
        body, kind = body.encode(), kind or "text/plain; charset=utf-8"
    lines = [f"HTTP/1.1 {status} "]
    for name, value in headers.items():
        line = f"{name}: {value}"
        if "\r" in line or "\n" in line:
            raise ValueError("a header with a line end in it")
        if name.lower() == "content-type":
            kind = None
        lines.append(line)
    if kind:
        lines.append("content-type: " + kind)
    if body is None:
        body = b""
    if not isinstance(body, (bytes, bytearray)):
        raise TypeError("a body is text, bytes, a dict, a list or None")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _print_exception(error: Exception) -> None:
    if hasattr(sys, "print_exception"):  # MicroPython
        sys.print_exception(error)
    else:
        import traceback

        traceback.print_exception(error)


def sleep(seconds: float) -> None:
    """Sleep for so many `seconds`; the agent waits as data and holds no thread."""
    _happens("sleeping")
    _write("sleep", str(int(seconds * 1000)))
    _happens("woken")


def clone() -> "str | None":
    """Become two agents: the new one's id in the original, None in the clone. Raises OSError."""
    sys.stdout.flush()  # else both would print it
    child = _read("clone").decode() or None
    _happens("cloned")
    return child


def fork(count: int) -> "tuple[int, list[str]]":
    """Become `count` agents more, all from here: (0, their ids) in the original, (1, []), (2, []) ... in each of them.

    All are made, or none. Raises OSError (EPERM) if the passport or the permit allows fewer.
    """
    sys.stdout.flush()  # else each would print it
    number, *ids = _read("fork/" + str(count)).decode().split("\n")
    _happens("cloned")
    return int(number), ids


def spread(stations: "list[str]", wait: "float | None" = None) -> "list[str] | None":
    """A clone to each of these stations, at once: their ids in the original; None in each of them, at its station.

    `wait`: as of `go`. Raises OSError: in the original if there may not be so many, in a clone that is refused.
    """
    number, ids = fork(len(stations))
    if not number:
        return ids
    go(stations[number - 1], wait)
    return None


def report(key: str, value: object) -> None:
    """Append a result to this agent's signed chain: a `key`, and a `value`: text, bytes, or anything that prints."""
    _give("report/" + key, value if isinstance(value, (str, bytes)) else str(value))


def log(text: str, level: str = "info") -> None:
    """One line of `text` for the station's log, of `level` error, warning, info or detail. Prints go there too."""
    _write("log/" + level, text)


def exit(code: int = 0) -> None:
    """End the agent, wherever it is, with the exit `code`; `finally` blocks run first."""
    raise SystemExit(code)
