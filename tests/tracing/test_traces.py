"""One trace of a journey: at a real OTLP receiver, over three stations, from and into an application's own spans."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import canonical
from docking.residents import departures
from docking.tracing import MAX_TRACE_BYTES, TraceContext, Tracing
from tests.patience import PATIENCE
from tests.replay.journeys import image_of
from tests.station.harbour import OWNER, meet, run, station
from tests.tracing.receiver import Received, Receiver, receiving

ROOT = Path(__file__).resolve().parents[2]
GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Receiver:
    """What the receiver got of two journeys."""
    folder = tmp_path_factory.mktemp("traced")
    with receiving() as found:
        done = subprocess.run(
            [sys.executable, "-m", "tests.tracing.traced", found.url, str(folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
    return found


def below(received: Receiver, span: Received) -> list[str]:
    """The names of the spans above one, up to the top."""
    known = {each.span: each for each in received.spans}
    found = []
    while span.parent:
        span = known[span.parent]
        found.append(span.name)
    return found


def test_the_journey_is_one_trace_below_the_applications_span(received: Receiver) -> None:
    (order,) = received.named("order")
    mine = [span for span in received.spans if span.trace == order.trace]
    (launch,) = (span for span in mine if span.name == "launch")
    assert launch.parent == order.span
    assert launch.attributes["portcall.agent.label"] == "micropython"
    assert len({span.attributes["portcall.agent.id"] for span in mine if "portcall.agent.id" in span.attributes}) == 1
    hops = [span for span in mine if span.name == "hop"]
    assert [(span.attributes["portcall.station"], span.attributes["portcall.hop.to"]) for span in hops] == [
        ("alpha", "beta"),
        ("beta", "gamma"),
        ("gamma", "alpha"),
    ]
    assert {span.parent for span in hops} == {launch.span}
    assert {span.kind for span in hops} == {3}
    admitted = [span for span in mine if span.name == "handoff admit"]
    assert [span.parent for span in admitted] == [span.span for span in hops]
    assert [span.attributes["portcall.station"] for span in admitted] == ["beta", "gamma", "alpha"]
    for phase in ("handoff offer", "handoff commit"):
        assert {span.parent for span in mine if span.name == phase} == {span.span for span in hops}, phase
    runs = {span.attributes["portcall.station"] for span in mine if span.name == "run"}
    assert runs == {"alpha", "beta", "gamma"}


def test_services_go_on_with_it(received: Receiver) -> None:
    (order,) = received.named("order")
    calls = [span for span in received.named("call") if span.trace == order.trace]
    assert [span.attributes["rpc.method"] for span in calls] == ["count", "broken"] * 2
    assert [span.failed for span in calls] == [False, True] * 2
    assert calls[1].attributes["error.type"] == "errno 29"
    (database, _), (thread, _) = received.named("count in the database"), received.named("count in a thread")
    for span in (database, thread):
        assert below(received, span) == ["call", "launch", "order"]


def test_messages(received: Receiver) -> None:
    (order,) = received.named("order")
    (sent,) = (span for span in received.named("send") if span.trace == order.trace)
    (heard,) = (span for span in received.named("receive") if span.trace == order.trace)
    assert (sent.kind, heard.kind) == (4, 5)
    assert sent.attributes["messaging.message.body.size"] == heard.attributes["messaging.message.body.size"] == 9


def test_it_goes_on_after_a_restart(received: Receiver) -> None:
    (slow,) = received.named("slow order")
    runs = [span for span in received.named("run") if span.trace == slow.trace]
    assert [span.attributes["portcall.station"] for span in runs[-2:]] == ["beta", "alpha"]
    assert len([span for span in received.named("hop") if span.trace == slow.trace]) == 2


def test_a_launch_that_nobody_traces_is_a_trace_of_its_own(received: Receiver) -> None:
    launches = received.named("launch")
    assert len({span.trace for span in launches}) == 3
    assert [span.parent for span in launches if not span.parent] == [""]


@pytest.mark.parametrize(
    "bad",
    [
        None,
        5,
        "",
        GOOD[:-1],
        GOOD.upper(),
        GOOD + "-",
        "ff" + GOOD[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        GOOD.replace("-", "_"),
        GOOD + "\n",
        "\u0660" + GOOD[1:],
        GOOD * 1000,
    ],
)
def test_a_hostile_header_is_no_context(bad: object) -> None:
    assert TraceContext.read(bad) is None
    assert TraceContext.decode(canonical.encode([bad, "", ""])) is None


@pytest.mark.parametrize(
    "state",
    [
        "a=1\n",
        "a=1,a=2",
        "A=1",
        "a",
        "=1",
        "a=",
        "a=" + "x" * 300,
        ",".join(f"k{number}=1" for number in range(33)),
        "a=1," * 200,
        7,
        "a=\x7f",
        "a=1=2",
    ],
)
def test_a_hostile_state_is_left_out(state: object) -> None:
    found = TraceContext.read(GOOD, state, "x" * 16)
    assert found == TraceContext(GOOD)


def test_what_is_valid_stays() -> None:
    found = TraceContext.read(GOOD, "vendor@x=a b,rojo=00f067", "b7ad6b7169203332")
    assert found is not None
    assert TraceContext.decode(found.encode()) == found
    assert len(found.encode()) < MAX_TRACE_BYTES
    assert TraceContext.read("01" + GOOD[2:] + "-more") == TraceContext(GOOD)
    longest = TraceContext.read(GOOD, ",".join(f"k{number:02}={'v' * 11}" for number in range(32)))
    assert longest is not None
    assert len(longest.tracestate) > 480
    assert len(longest.encode()) <= MAX_TRACE_BYTES


@given(st.binary(max_size=200))
def test_bytes_that_are_no_context(data: bytes) -> None:
    found = TraceContext.decode(data)
    assert found is None or TraceContext.decode(found.encode()) == found


class Forged:
    """A context that is none."""

    traceparent, tracestate, hop = GOOD, "", ""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def encode(self) -> bytes:
        return self.data


WAITING = """
import portcall
print(portcall.recv())
try:
    portcall.go("beta")
    print("at", portcall.here())
except OSError as error:
    print("refused", error.errno)
"""


@pytest.mark.parametrize("data", [b"x" * 2000, b"x" * 10, canonical.encode([GOOD, "a=" + "x" * 900, "z"])])
def test_a_hostile_context_does_an_agent_no_harm(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @run
    async def journey() -> None:
        monkeypatch.setattr(departures, "for_hop", lambda trace, span: trace)
        image = image_of(WAITING, tmp_path / "agent")
        alpha, beta = station("alpha", tmp_path / "alpha"), station("beta", tmp_path / "beta")
        async with alpha, beta:
            await meet(alpha, beta)
            agent = await alpha.launch(image, via=["beta"], owner=OWNER)
            berth = alpha.core.here.berths[agent.key]
            berth.trace = Forged(data)  # type: ignore[assignment]
            agent.send("go")
            assert (await agent.wait(60)).exit_code == 0
            there = beta.core.here.past.get(agent.key)
            if len(data) > MAX_TRACE_BYTES:
                assert there is None
                assert list(agent.logs())[-1].startswith("refused")
            else:
                assert there is not None
                assert there.trace == TraceContext.decode(data)

    journey()


def test_without_opentelemetry_it_is_passed_on_and_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    tracing = Tracing("alpha")
    tracing.begin()
    assert tracing.start("run", TraceContext(GOOD), {}) is None
    assert tracing.launch(None, {}) is None
    assert tracing.current() is None
