"""The module `portcall` outside an agent: for unit tests, editors and type checkers.

Agents carry a module of the same name, `agents/sdk/python/portcall.py`, which asks their station. This one has the same
functions, with the same types, and each raises `OutsideAgent`: what they do can be done at a station only. A unit test
of a function that calls one replaces it: `monkeypatch.setattr(portcall, "call", lambda service, request: b"12")`.
"""

from __future__ import annotations

from collections.abc import Callable


class OutsideAgent(RuntimeError):
    """A function of this module was called by a program that is no agent."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"portcall.{name}() is for agents, and this program is none: `portcall run FILE.py` runs a script as an"
            " agent; in a test, the fixture `agent` does (pytest --fixtures)"
        )


def on(event: str, callback: Callable[[], object] | None) -> None:
    """Have `callback` called at an `event` of this agent's life; None: no more.

    The events: "departing" before it leaves by `go`, "arrived" after that, "sleeping" and "woken" before and after
    `sleep`, "cloned" in each agent that it is after `clone` and `fork`, and "message" when `receive` or `recv` has one.
    Two are told at the end of its next call: "retracted" at home, when it was brought there by an order and not by its
    own `go`; "budget_low" when 90 % of its processor time or messages at this station are used. Raises ValueError for
    any other.
    """
    raise OutsideAgent("on")


def go(station: str, wait: float | None = None) -> None:
    """Move to a station, by name, key id or host:port; the next line runs there.

    With `wait`, the agent sleeps up to so many seconds while the station cannot be reached or is full, and goes as soon
    as it can. Raises OSError, at the origin, when the move was refused or failed.
    """
    raise OutsideAgent("go")


def tour(tasks: Callable[[], object] | dict[str, Callable[[], object]], wait: float | None = None) -> None:
    """Go along the way to its end, from one stop to the next, and call a task at each.

    tasks: one for all stops, or by the names of stations; "" is for those that are not named
    wait: as of `go`; stops that may be left out are, where they are down. Raises OSError where no next stop takes it.
    """
    raise OutsideAgent("tour")


def here() -> str:
    """The name of this station."""
    raise OutsideAgent("here")


def me() -> str:
    """This agent's id."""
    raise OutsideAgent("me")


def next_stop() -> str:
    """The itinerary's next stop; empty at its end."""
    raise OutsideAgent("next_stop")


def call(service: str, request: str | bytes = b"") -> bytes:
    """The bytes that `service` of this station replies to `request`. Raises OSError."""
    raise OutsideAgent("call")


def lookup(service: str) -> list[str]:
    """Names of stations that offer `service`, best first."""
    raise OutsideAgent("lookup")


def send(agent: str, message: str | bytes) -> None:
    """Hand `message` over for delivery to another `agent`, by its id. Raises OSError."""
    raise OutsideAgent("send")


def recv(timeout: float | None = None) -> bytes:
    """The next message; waits for it, at most `timeout` seconds. Raises OSError (ETIMEDOUT) when none came."""
    raise OutsideAgent("recv")


def sender() -> str:
    """Who sent the message received last: an agent's id or a station's name."""
    raise OutsideAgent("sender")


class Message:
    """A message to this agent: body, bytes; sender, an agent's id or a station's name; topic, perhaps empty.

    id: of a question, for `reply`, which takes the message too; empty for one that needs no answer
    """

    body: bytes
    sender: str
    topic: str
    id: str
    answered: bool

    def __init__(self, body: bytes, sender: str = "", topic: str = "", id: str = "") -> None:
        raise OutsideAgent("Message")

    def text(self) -> str:
        """The body as text."""
        raise OutsideAgent("Message.text")

    def json(self) -> object:
        """The value that the body has in JSON. Raises ValueError."""
        raise OutsideAgent("Message.json")


def receive(timeout: float | None = None, sender: str = "", topic: str = "") -> Message:
    """The next message, of one sender or about one topic if these are given; waits for it, at most `timeout` seconds.

    Raises OSError (ETIMEDOUT) when none came.
    """
    raise OutsideAgent("receive")


class Question:
    """A question that was asked: `id` is its name. Its answer can be taken here or at a later station, once."""

    id: str

    def __init__(self, id: str) -> None:
        raise OutsideAgent("Question")

    def answer(self, timeout: float | None = None) -> bytes:
        """The answer; waits for it, at most `timeout` seconds. Raises OSError: ETIMEDOUT when none came in time,
        EHOSTUNREACH when the question could not be delivered.
        """
        raise OutsideAgent("Question.answer")


def ask(agent: str, message: str | bytes, timeout: float | None = 30, topic: str = "") -> bytes:
    """What another agent answers to a message, perhaps about a `topic`, within `timeout` seconds.

    Raises OSError: ETIMEDOUT when nothing came in time, EHOSTUNREACH when it cannot be asked.
    """
    raise OutsideAgent("ask")


def ask_later(agent: str, message: str | bytes, timeout: float | None = 30, topic: str = "") -> Question:
    """Ask another agent a message, perhaps about a `topic`, and go on: the answer is taken later, here or elsewhere.

    An answer that comes after `timeout` seconds is dropped. Raises OSError.
    """
    raise OutsideAgent("ask_later")


def join(agents: list[str], timeout: float | None = None) -> dict[str, bytes]:
    """The next message of each of these agents, by its id: waits for them all, at most `timeout` seconds.

    Who has sent none until then is not in the answer. Messages of others are kept for `recv`.
    """
    raise OutsideAgent("join")


def subscribe(topic: str) -> None:
    """Receive what is published to a topic, from now on and wherever this agent goes. Raises OSError."""
    raise OutsideAgent("subscribe")


def unsubscribe(topic: str) -> None:
    """Receive what is published to a topic no more."""
    raise OutsideAgent("unsubscribe")


def publish(topic: str, message: str | bytes, everywhere: bool = False) -> None:
    """Send a message to the other agents here that subscribe to a topic, or `everywhere`. Raises OSError."""
    raise OutsideAgent("publish")


def offer(service: str, attributes: str = "") -> None:
    """Offer a service to other agents while this one is here; `attributes` is what they are told of it."""
    raise OutsideAgent("offer")


def withdraw(service: str) -> None:
    """Offer a service no more."""
    raise OutsideAgent("withdraw")


def find(service: str = "", label: str = "", everywhere: bool = False) -> list[tuple[str, str, str, str]]:
    """The other agents here, or `everywhere`, that offer a `service` and have a `label`.

    Of each: its id, station, label, and what it says of the service.
    """
    raise OutsideAgent("find")


class Channel:
    """A local channel to an agent that is at this station: what is sent on it goes to that agent while it is here."""

    agent: str

    def __init__(self, agent: str) -> None:
        raise OutsideAgent("Channel")

    def send(self, message: str | bytes) -> None:
        """Send it a message. Raises OSError (EHOSTUNREACH) when it is not here any more."""
        raise OutsideAgent("Channel.send")

    def receive(self, timeout: float | None = None) -> Message:
        """Its next message; waits for it, at most `timeout` seconds. Raises OSError (ETIMEDOUT) when none came."""
        raise OutsideAgent("Channel.receive")


def meet(agent: str) -> Channel:
    """A local channel to another agent that is here, by its id; see `find`."""
    raise OutsideAgent("meet")


class Request:
    """A client's request to this agent.

    method: "GET", "POST" ...; path: below the agent's own address, "/" and more, percent-encoded; query: after the "?"
    headers: by name in lower case; body: bytes; id: the request's, for an answer that comes later
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    id: str
    answered: bool

    def __init__(self, raw: bytes) -> None:
        raise OutsideAgent("Request")

    def text(self) -> str:
        """The body as text."""
        raise OutsideAgent("Request.text")

    def json(self) -> object:
        """The value that the body has in JSON. Raises ValueError."""
        raise OutsideAgent("Request.json")


def accept(timeout: float | None = None) -> Request:
    """The next request of a client; waits for it, at most `timeout` seconds. Raises OSError (ETIMEDOUT)."""
    raise OutsideAgent("accept")


def reply(request: Request | Message, answer: object = None) -> None:
    """Answer a request of a client, or a question, here or after any number of moves: once.

    See `serve` for what an answer to a client can be; a question is answered with text or bytes.
    """
    raise OutsideAgent("reply")


def serve(handler: Callable[[Request], object], until: Callable[[], object] | None = None) -> None:
    """Answer clients: each `Request` with what `handler` returns for it, until `until()` is true after an answer.

    An answer is a body, or (status, body), or (status, headers, body). A body is text, bytes, a dict or a list (sent as
    JSON), or None (nothing). What the handler raises is printed, and answered with the status 500.
    """
    raise OutsideAgent("serve")


def sleep(seconds: float) -> None:
    """Sleep for so many `seconds`; the agent waits as data and holds no thread."""
    raise OutsideAgent("sleep")


def clone() -> str | None:
    """Become two agents: the new one's id in the original, None in the clone. Raises OSError."""
    raise OutsideAgent("clone")


def fork(count: int) -> tuple[int, list[str]]:
    """Become `count` agents more, all from here: (0, their ids) in the original, (1, []), (2, []) ... in each of them.

    All are made, or none. Raises OSError (EPERM) if the passport or the permit allows fewer.
    """
    raise OutsideAgent("fork")


def spread(stations: list[str], wait: float | None = None) -> list[str] | None:
    """A clone to each of these stations, at once: their ids in the original; None in each of them, at its station.

    `wait`: as of `go`. Raises OSError: in the original if there may not be so many, in a clone that is refused.
    """
    raise OutsideAgent("spread")


def report(key: str, value: object) -> None:
    """Append a result to this agent's signed chain: a `key`, and a `value`: text, bytes, or anything that prints."""
    raise OutsideAgent("report")


def log(text: str, level: str = "info") -> None:
    """One line of `text` for the station's log, of `level` error, warning, info or detail. Prints go there too."""
    raise OutsideAgent("log")


def exit(code: int = 0) -> None:
    """End the agent, wherever it is, with the exit `code`; `finally` blocks run first."""
    raise OutsideAgent("exit")
