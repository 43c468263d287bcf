"""Services: who may call which, what they answer, and that one which fails, hangs or raises disturbs nobody else."""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest

from agents.credentials.keys import PublicKey
from agents.hostcalls import EIO, EMSGSIZE, ETIMEDOUT
from agents.waits import MAX_BODY_BYTES, Failed, Reply
from docking import Policy, ServiceFailed, Terms, Visitor
from docking.errors import AgentEnded, StationError
from docking.residents.services import Services
from docking.trust.policy import OwnerRule
from tests.patience import PATIENCE
from tests.residents.guests import calling
from tests.station.harbour import OWNER, Watch, begin, harbour, journey, numbers, program, run, station

CALL_SVC = (
    "(call $tell (i32.const 99) (call $call (s 0) (i32.const 3000) (i32.const 1) (i32.const 4000) (i32.const 9)))"
)
CALLER = program(CALL_SVC, "svc")
CALLER_AWAY = program(f"(drop (call $go (s 1))) {CALL_SVC}", "svc|beta")

VISITOR = Visitor("agent", "label", PublicKey(bytes(32)), 0, 1, "here")


class Odd(BaseException):
    """Not an Exception, and cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("no")

    __str__ = __repr__


ERRORS: list[Callable[[], BaseException]] = [
    lambda: StopIteration(b"x"),
    lambda: StopAsyncIteration(),
    lambda: GeneratorExit(),
    lambda: KeyboardInterrupt(),
    lambda: SystemExit(3),
    lambda: asyncio.CancelledError(),
    lambda: asyncio.TimeoutError(),
    lambda: asyncio.InvalidStateError(),
    lambda: RecursionError(),
    lambda: MemoryError(),
    lambda: Odd(),
]


def plain(error: BaseException) -> Callable[[bytes], Any]:
    def service(request: bytes) -> bytes:
        raise error

    return service


def asynchronous(error: BaseException) -> Callable[[bytes], Any]:
    async def service(request: bytes) -> bytes:
        raise error

    return service


def later(error: BaseException) -> Callable[[bytes], Any]:
    async def service(request: bytes) -> bytes:
        await asyncio.sleep(0)
        raise error

    return service


def awaitable(error: BaseException) -> Callable[[bytes], Any]:
    """A plain one that gives something to be awaited."""
    return lambda request: later(error)(request)


class Awaits:
    """What it gives raises when it is awaited."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, request: bytes) -> Any:
        return self

    def __await__(self) -> Any:
        raise self.error


async def called(service: Callable[[bytes], Any], timeout: float = 600.0) -> Reply | Failed:
    pages = Services()
    pages.offer("odd", service, timeout)
    return await pages.call("odd", b"", VISITOR, True)


@pytest.mark.parametrize("kind", [plain, asynchronous, later, awaitable, Awaits])
@pytest.mark.parametrize("error", ERRORS, ids=lambda make: type(make()).__name__)
def test_a_service_that_raises_fails_its_call_at_once(
    error: Callable[[], BaseException], kind: Callable[[BaseException], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Its time is ten minutes: whoever waits for it does not get here."""

    @run
    async def main() -> None:
        answer = await called(kind(error()))
        # One that raises StopIteration in `__await__` has ended, as far as Python is concerned.
        if not (kind is Awaits and isinstance(error(), StopIteration)):
            assert isinstance(answer, Failed)
            assert answer.errno == EIO
        assert isinstance(await called(lambda request: b"ok"), Reply)

    with caplog.at_level(logging.CRITICAL):
        main()


@run
async def test_what_a_service_means_to_say_is_said() -> None:
    def refuses(request: bytes) -> bytes:
        raise ServiceFailed("closed on Sundays", 63)

    answer = await called(refuses)
    assert isinstance(answer, Failed)
    assert (answer.errno, answer.reason) == (63, "closed on Sundays")

    async def slow(request: bytes) -> bytes:
        await asyncio.sleep(600)
        return b""

    answer = await called(slow, 0.001)
    assert isinstance(answer, Failed)
    assert answer.errno == ETIMEDOUT


@pytest.mark.parametrize(
    ("value", "errno"),
    [
        ("\ud800", EIO),  # text that is none
        (7, EIO),
        (None, EIO),  # a return that was forgotten
        (bytearray(MAX_BODY_BYTES + 1), EMSGSIZE),
        (memoryview(array.array("d", bytes(MAX_BODY_BYTES + 8))), EMSGSIZE),  # of fewer items than bytes
    ],
)
def test_replies_that_cannot_be_fail_their_call(value: Any, errno: int) -> None:
    @run
    async def main() -> None:
        answer = await called(lambda request: value)
        assert isinstance(answer, Failed)
        assert answer.errno == errno

    main()


@pytest.mark.parametrize(("value", "body"), [(b"", b""), ("ü", "ü".encode()), (memoryview(b"ab")[::-1], b"ba")])
def test_replies_of_all_kinds_are_bytes(value: Any, body: bytes) -> None:
    @run
    async def main() -> None:
        assert await called(lambda request: value) == Reply(body)

    main()


@run
async def test_an_agent_hears_of_a_service_that_fails() -> None:
    call = """(call $tell (i32.const 110)
      (i32.sub (i32.const 0) (call $call (s 0) (s 0) (i32.const 300) (i32.const 8))))"""
    async with harbour("home") as (home,):
        home.offer("first", lambda request: next(iter(())))
        report = await journey(home, program(call, "first"))
        assert numbers(report, "n") == [EIO]


@run
async def test_services_answer_sync_and_async_and_know_who_visits() -> None:
    async with harbour("home", "beta1") as (home, beta):
        seen: list[tuple[bytes, Visitor]] = []

        @beta.service("echo.twice")
        def twice(request: bytes, visitor: Visitor) -> bytes:
            seen.append((request, visitor))
            return request * 2

        @beta.service("echo.once")
        async def once(request: bytes) -> str:
            await asyncio.sleep(0)
            return request.decode()

        go = program(
            """(drop (call $go (s 3)))
               (call $tell (i32.const 99) (call $call (s 1) (s 0) (i32.const 4000) (i32.const 64)))
               (call $tell (i32.const 99) (call $call (s 2) (s 0) (i32.const 4000) (i32.const 64)))
               (call $tell (i32.const 99) (call $call (s 1) (s 0) (i32.const 4000) (i32.const 64)))""",
            "request|echo.twice|echo.once|beta1",
        )
        agent = await begin(home, go, "beta1", terms=Terms(label="visitor"))
        report = await agent.wait()
    assert numbers(report, "c") == [14, 7, 14]
    assert [request for request, _ in seen] == [b"request"] * 2
    assert [(v.agent, v.label, v.owner, v.hop, v.call, v.station) for _, v in seen] == [
        (agent.id, "visitor", OWNER.public, 1, call, "beta1") for call in (1, 3)
    ]


@run
async def test_services_that_fail_are_errors_for_the_agent_only() -> None:
    async with harbour("home") as (home,):

        @home.service("broken")
        def broken(request: bytes) -> bytes:
            raise RuntimeError("a secret")

        @home.service("unwilling")
        def unwilling(request: bytes) -> bytes:
            raise ServiceFailed("not today", errno=6)

        @home.service("slow", timeout=0.05)
        async def slow(request: bytes) -> bytes:
            await asyncio.Event().wait()
            return b""

        @home.service("huge")
        def huge(request: bytes) -> bytes:
            return bytes(2 << 20)

        @home.service("wrong")
        def wrong(request: bytes) -> Any:
            return 5

        report = await journey(home, calling("broken", "unwilling", "slow", "huge", "wrong", "missing"))
        assert numbers(report, "c") == [-29, -6, -73, -35, -29, -44]
        assert (home.core.services.calls, home.core.services.failures) == (6, 6)


@run
async def test_a_service_that_is_not_in_the_permit_is_not_called() -> None:
    rule = OwnerRule(OWNER.public, capabilities=["service:open.*"])
    async with harbour("home", policy=Policy(owners=[rule])) as (home,):
        home.offer("open.door", lambda request: b"")
        home.offer("safe.door", lambda request: b"")
        assert numbers(await journey(home, calling("open.door", "safe.door")), "c") == [0, -2]


@run
async def test_a_reply_that_does_not_fit_is_not_asked_for_twice() -> None:
    async with harbour("home") as (home,):
        asked = []
        home.offer("long", lambda request: asked.append(request) or b"x" * 100)
        twice = program(
            """(call $tell (i32.const 99) (call $call (s 1) (s 0) (i32.const 4000) (i32.const 10)))
               (call $tell (i32.const 99) (call $call (s 1) (s 0) (i32.const 4000) (i32.const 100)))""",
            "request|long",
        )
        assert numbers(await journey(home, twice), "c") == [100, 100]
        assert len(asked) == 1


@run
async def test_lookup_names_the_stations_that_offer_a_service() -> None:
    async with harbour("home", "beta1") as (home, beta):
        beta.offer("oracle", lambda request: b"")
        await home.introductions.greet(beta.key)
        ask = program(
            """(drop (call $report (i32.const 1100) (i32.const 1) (i32.const 200)
                 (call $lookup (s 0) (i32.const 200) (i32.const 64))))""",
            "oracle|l",
        )
        report = await journey(home, ask)
    assert [(result.key, result.text) for result in report.results] == [("l", "beta1")]


def test_impossible_names_of_services_are_refused() -> None:
    there = station("home")

    @run
    async def main() -> None:
        async with there:
            for name in ("", "Upper", "a b", "a..b", "x" * 200):
                with pytest.raises(StationError):
                    there.offer(name, lambda request: b"")
            there.offer("twice", lambda request: b"")
            with pytest.raises(StationError, match="already"):
                there.offer("twice", lambda request: b"")

    main()


@pytest.mark.filterwarnings("ignore:coroutine")
@run
async def test_services_that_misbehave_fail_and_nothing_else_does(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    async def cancelled(request: bytes) -> bytes:
        raise asyncio.CancelledError

    async def leaves(request: bytes) -> bytes:
        raise SystemExit(3)

    async def clings(request: bytes) -> bytes:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()
        return b""

    let_go = asyncio.Event()
    async with harbour("alpha") as (alpha,):
        for service, errno in ((cancelled, -29), (leaves, -29), (clings, -73)):
            alpha.offer("svc", service, timeout=0.2)
            assert numbers(await asyncio.wait_for(journey(alpha, CALLER), PATIENCE), "c") == [errno]
            alpha.withdraw("svc")
        assert numbers(await journey(alpha, CALLER), "c") == [-44]  # ENOENT
        let_go.set()


@run
async def test_a_service_is_withdrawn_before_the_start_and_in_the_middle_of_a_call() -> None:
    answered = asyncio.Event()

    async def slow(request: bytes) -> bytes:
        await answered.wait()
        return b"ok"

    alpha = station("alpha")
    alpha.offer("other", slow)
    alpha.withdraw("other")
    alpha.offer("svc", slow)
    async with alpha:
        assert alpha.core.services.names == ("svc",)
        agent = await begin(alpha, CALLER)
        while not alpha.core.services.calls:
            await asyncio.sleep(0)
        alpha.withdraw("svc")
        answered.set()
        assert numbers(await agent.wait(PATIENCE), "c") == [2]


@run
async def test_an_agent_whose_call_hangs_can_be_ended() -> None:
    asked = asyncio.Event()

    async def hangs(request: bytes) -> bytes:
        asked.set()
        await asyncio.sleep(3600)
        return b""

    async with harbour("home", "beta") as (home, beta):
        beta.offer("svc", hangs, timeout=3600)
        agent = await begin(home, CALLER_AWAY, "beta")
        await asked.wait()
        watch = Watch(home)
        assert agent.dispose() == "sent"
        await watch.until("home")
        assert beta.core.here.berths == {}
        with pytest.raises(AgentEnded, match="disposed"):
            await agent.wait(PATIENCE)


@run
async def test_a_service_that_fails_leaves_a_line_in_the_agent_s_log() -> None:
    async with harbour("home") as (home,):

        @home.service("svc")
        def svc(request: bytes) -> bytes:
            raise ServiceFailed("no such book", 44)

        agent = await begin(home, CALLER)
        assert numbers(await agent.wait(), "c") == [-44]
        assert agent.logs() == ["call('svc') failed: no such book"]


@run
async def test_a_failure_that_is_told_in_the_wrong_types_fails_the_call() -> None:
    async with harbour("home") as (home,):

        @home.service("svc")
        def svc(request: bytes) -> bytes:
            raise ServiceFailed(44, "no such book")  # type: ignore[arg-type]

        assert numbers(await journey(home, CALLER), "c") == [-EIO]
