"""TCP proxies before stations, which do to whole connections what networks do.

Each `Proxy` listens at one port and hands on to another. `mode` says what happens to connections from now on:

- straight: nothing
- refuse: they are closed when they come; those that are open are cut
- swallow: they are accepted, what is sent is read, and nothing is handed on or answered
- delay: each piece waits a moment, in order
- reorder: each connection waits for a time of its own before it begins, so that later ones come first
- cut: each is cut after some bytes, in either direction
- double: what is sent goes to the station over a second connection too, whose answers nobody reads
- replay: what earlier connections sent is sent again, over connections of its own
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import deque
from collections.abc import Coroutine
from typing import Any

from attrs import define, field

MODES = ("refuse", "swallow", "delay", "reorder", "cut", "double", "replay")
PIECE = 1 << 16
REMEMBERED_BYTES = 1 << 20  # of one connection, for replays


@define(eq=False)
class Proxy:
    """A proxy before the station at `target`. All but `mode` belongs to its event loop."""

    target: int
    chance: random.Random
    mode: str = "straight"
    port: int = 0
    connections: int = 0
    replayed: int = 0
    _open: set[asyncio.StreamWriter] = field(factory=set)
    _heard: deque[bytearray] = field(factory=lambda: deque(maxlen=20))
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    async def start(self) -> None:
        """Listen at a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]

    def turn(self, mode: str) -> None:
        """From now on, this happens."""
        self.mode = mode
        if mode in ("refuse", "cut"):
            for writer in list(self._open):
                writer.transport.abort()
        if mode == "replay":
            for data in list(self._heard):
                self._spawn(self._replay(bytes(data)))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        mode = self.mode
        self._open.add(writer)
        try:
            if mode == "refuse":
                return
            if mode == "swallow":
                while await reader.read(PIECE):
                    pass
                return
            if mode == "reorder":
                await asyncio.sleep(self.chance.uniform(0, 3))
            there, to = await asyncio.open_connection("127.0.0.1", self.target)
            self._open.add(to)
            second = None
            if mode == "double":
                answers, second = await asyncio.open_connection("127.0.0.1", self.target)
                self._spawn(_discard(answers))
            heard = bytearray()
            self._heard.append(heard)
            left = [self.chance.randrange(1, 20_000) if mode == "cut" else 1 << 60]
            try:
                ways = self._pump(reader, to, left, heard, second), self._pump(there, writer, left, None, None)
                await asyncio.gather(*ways)
            finally:
                self._open.discard(to)
                to.transport.abort()
                if second is not None:
                    second.transport.abort()
        except OSError:
            pass  # the station is down, or one of them was cut
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        left: list[int],
        heard: bytearray | None,
        second: asyncio.StreamWriter | None,
    ) -> None:
        while data := await reader.read(PIECE):
            if self.mode in ("delay", "reorder"):
                await asyncio.sleep(self.chance.uniform(0, 0.3))
            if self.mode == "swallow":
                continue
            if writer.is_closing():
                return
            left[0] -= len(data)
            if left[0] <= 0:
                writer.write(data[: left[0]])
                raise ConnectionError("cut")
            if heard is not None and len(heard) + len(data) <= REMEMBERED_BYTES:
                heard += data
            writer.write(data)
            if second is not None and not second.is_closing():
                second.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def _replay(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
            writer.write(data)
            await asyncio.wait([asyncio.ensure_future(_discard(reader))], timeout=2)
            writer.transport.abort()
            self.replayed += 1


async def _discard(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(PIECE):
            pass


class Proxies:
    """Some proxies, in a thread with an event loop of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def add(self, target: int, chance: random.Random) -> Proxy:
        """A proxy before the station at the port `target`."""
        proxy = Proxy(target, chance)
        asyncio.run_coroutine_threadsafe(proxy.start(), self._loop).result()
        return proxy

    def turn(self, proxy: Proxy, mode: str) -> None:
        """Change what happens to its connections."""
        self._loop.call_soon_threadsafe(proxy.turn, mode)

    def close(self) -> None:
        """End all."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
