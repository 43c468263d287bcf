"""What stations do in uvloop and in asyncio's loop, where the two differ: the table of docs/adr/two-event-loops."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import threading
from typing import Any

import pytest

from docking.aio.failures import LINE_CHARS, describe_error, log_loop_error
from docking.aio.loops import new_loop as stations_loop
from docking.aio.loops import run_loop as stations_run
from docking.aio.threads import in_thread
from docking.aio.timers import call_at
from docking.aio.transports import connect, write_pieces
from docking.errors import PeerUnreachable
from docking.http.channel import Frames
from tests.aio import loops
from tests.aio.loops import Run


@pytest.fixture(params=loops.LOOPS, ids=loops.kind)
def in_loop(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in a loop of one kind, as `asyncio.run` does."""
    return functools.partial(loops.run, request.param)


# Timers


@pytest.mark.parametrize("ahead", [-1.0, 0.0, 0.0001, 0.0004, 0.0006, 0.0013, 0.0149])
def test_a_timer_runs_once_and_not_before_its_time(in_loop: Run, ahead: float) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            due, ran = loop.time() + ahead, loop.create_future()
            call_at(loop, due, lambda due=due, ran=ran: ran.set_result(loop.time() - due))
            # asyncio's own loop allows for the resolution of its clock.
            assert await ran >= -1e-6

    in_loop(main())


@pytest.mark.parametrize("ahead", [-1.0, 0.0, 0.0004, 0.002])
def test_a_timer_that_was_cancelled_does_not_run(in_loop: Run, ahead: float) -> None:
    async def main() -> None:
        loop, ran = asyncio.get_running_loop(), []
        call_at(loop, loop.time() + ahead, ran.append, 1).cancel()
        passed = asyncio.Event()
        call_at(loop, loop.time() + ahead + 0.005, passed.set)
        await passed.wait()
        assert ran == []

    in_loop(main())


@pytest.mark.skipif(loops.uvloop is None, reason="uvloop is not installed")
def test_uvloop_gives_for_a_moment_what_does_not_know_its_time() -> None:
    """If this fails, uvloop has changed, and the table is to be."""
    loop = loops.uvloop.new_event_loop()
    soon, later = loop.call_later(0.0004, print), loop.call_later(1, print)
    assert not hasattr(soon, "when")
    assert hasattr(later, "when")
    for each in (soon, later):
        each.cancel()
    loop.close()


# Connections


class Silent(asyncio.Protocol):
    """Keeps its transport."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


@pytest.mark.parametrize("pieces", [[b"x"], [b"x", b"y"]])
@pytest.mark.parametrize("how", ["closed", "aborted", "by the peer"])
def test_writing_to_what_is_closed_is_one_error(in_loop: Run, how: str, pieces: list[bytes]) -> None:
    async def main() -> None:
        here, there = socket.socketpair()
        with there:
            _, protocol = await asyncio.get_running_loop().create_connection(Silent, sock=here)
            write_pieces(protocol.transport, pieces)
            match how:
                case "closed":
                    protocol.transport.close()
                case "aborted":
                    protocol.transport.abort()
                case _:
                    there.close()
            for _ in range(3):
                if how != "by the peer":  # which is not known before it was told
                    with pytest.raises(ConnectionResetError):
                        write_pieces(protocol.transport, pieces)
                await protocol.lost
            with pytest.raises(ConnectionResetError):
                write_pieces(protocol.transport, pieces)

    in_loop(main())


def test_a_peer_that_accepts_and_closes_at_once_is_a_connection_or_an_os_error(in_loop: Run) -> None:
    async def main() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for _ in range(50):
            try:
                protocol = await connect(Silent, "127.0.0.1", port, 30.0)
            except OSError:
                continue
            await protocol.lost
        server.close()

    in_loop(main())


@pytest.mark.parametrize("host", ["", "a" * 300, "x\0y", "nobody.invalid", "ü" * 70, "127.0.0.1%x"])
def test_names_that_lead_nowhere_are_os_errors(in_loop: Run, host: str) -> None:
    async def main() -> None:
        with pytest.raises((OSError, asyncio.TimeoutError)):
            (await connect(Silent, host, 9, 5.0)).transport.abort()

    in_loop(main())


def test_names_whose_servers_do_not_answer_keep_no_others(in_loop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the end of the loop: the fixture shuts its executor down while all of them are still asked for."""
    asked, gate = threading.Semaphore(0), threading.Event()
    real = socket.getaddrinfo

    def slow(host: Any, *args: Any, **options: Any) -> Any:
        if str(host).endswith(".test"):
            asked.release()
            gate.wait(60)
            raise socket.gaierror("nobody answers")
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def main() -> None:
        waiting = [asyncio.ensure_future(connect(Silent, f"{n}.test", 9, 30.0)) for n in range(12)]
        for _ in waiting:
            await in_thread(asked.acquire)
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        (await connect(Silent, "localhost", port, 30.0)).transport.abort()
        server.close()
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    try:
        in_loop(main())
    finally:
        gate.set()


# Exceptions in callbacks and tasks


class Loud:
    """An object whose representation is endless work."""

    def __repr__(self) -> str:
        raise AssertionError("it was shown")

    def fail(self, error: BaseException) -> None:
        raise error


class Untellable(Exception):
    """One that cannot be told."""

    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    "error",
    [ValueError("a\nb" * 1000), StopIteration(1), asyncio.CancelledError(), GeneratorExit(), Untellable()],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_in_a_callback_is_one_line_and_the_loop_goes_on(
    in_loop: Run, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log_loop_error)
        frames = Frames(0)  # a part of a station: nothing of it is shown

        def fail(frames: Frames) -> None:
            raise error

        done = loop.create_future()
        loop.call_soon(fail, frames)
        loop.call_later(0.002, fail, frames)
        loop.call_later(0.02, done.set_result, None)
        await done

    with caplog.at_level(logging.INFO):
        in_loop(main())
    # asyncio takes a cancellation in a callback for nothing at all.
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(lines) in ((0, 2) if isinstance(error, asyncio.CancelledError) else (2,))
    for line in lines:
        assert type(error).__name__ in line
        assert "test_two_loops.py" in line
        assert "\n" not in line
        assert len(line) < 3 * LINE_CHARS


def test_a_report_shows_no_object(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    log_loop_error(loop, {"message": "x", "exception": ValueError("y"), "handle": Loud(), "protocol": Loud()})
    log_loop_error(loop, {"message": Loud()})
    log_loop_error(loop, {})
    loop.close()
    assert [record.getMessage() for record in caplog.records] == [
        "x: ValueError: y",
        "an error could not be told: AssertionError",
        "something failed",
    ]


def test_stations_run_with_that_handler() -> None:
    async def main() -> Any:
        return asyncio.get_running_loop().get_exception_handler()

    assert stations_run(main()) is log_loop_error
    loop = stations_loop()
    assert loop.get_exception_handler() is log_loop_error
    loop.close()


def test_an_error_is_told_with_its_place() -> None:
    try:
        Loud().fail(ValueError("why"))
    except ValueError as error:
        told = describe_error(error)
    assert told.startswith("ValueError: why (in test_two_loops.py:")
    assert told.endswith(" fail)")
    assert describe_error(PeerUnreachable("x")) == "PeerUnreachable: x"


# Functions in threads


def test_a_function_that_raises_stop_iteration_ends(in_loop: Run) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await in_thread(lambda: next(iter(())))
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)
        assert await in_thread(divmod, 7, 2) == (3, 1)

    in_loop(main())
