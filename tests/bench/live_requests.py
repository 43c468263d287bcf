"""Clients of an agent that is moved: requests at a fixed rate, their results and how long each took.

Each client has a time for each of its requests, and what is late counts from when it was due. A client that is told
that the agent is elsewhere (307) goes there.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import attrs

RATE = 200  # requests a second, of all clients together
CLIENTS = 16
TIMEOUT_S = 30.0
# Answers each request with the number of those that it has answered, ten digits; its noise is {mib} MiB.
# The id of a request is the value of its last header: 85 bytes before the empty line.
SERVICE = r"""(module
  (import "portcall" "accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "portcall" "reply" (func $reply (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") {pages})
  (data (i32.const 0) "HTTP/1.1 200 OK\r\n\r\n0000000000")
  (global $served (mut i32) (i32.const 0))
  (func (export "run") (result i32) (local $at i32) (local $x i64) (local $n i32)
    (local.set $x (i64.const 88172645463325252)) (local.set $at (i32.const 65536))
    (loop $fill
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (i64.store (local.get $at) (local.get $x))
      (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const {end}))))
    (loop $next
      (local.set $at (call $accept (i32.const 1028) (i32.const 8192) (i32.const -1)))
      (if (i32.lt_s (local.get $at) (i32.const 0)) (then (br $next)))
      (global.set $served (i32.add (global.get $served) (i32.const 1)))
      (local.set $n (global.get $served))
      ;; something is written with each request
      (i64.store (i32.add (i32.const 65536) (i32.and (i32.mul (local.get $n) (i32.const 5000)) (i32.const 65528)))
        (i64.extend_i32_u (local.get $n)))
      (i32.store (i32.const 64) (i32.const 28))
      (loop $digit
        (i32.store8 (i32.load (i32.const 64)) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
        (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
        (i32.store (i32.const 64) (i32.sub (i32.load (i32.const 64)) (i32.const 1)))
        (br_if $digit (i32.gt_u (i32.load (i32.const 64)) (i32.const 18))))
      (drop (call $reply
        (i32.add (i32.const 939) (local.get $at)) (i32.const 85) (i32.const 0) (i32.const 29)))
      (br $next))
    (i32.const 0)))"""


def service(mib: int) -> str:
    """The program."""
    end = (mib << 20) + 65536
    return SERVICE.replace("{pages}", str(-(-end // 65536))).replace("{end}", str(end))


@attrs.frozen
class Answered:
    """What came of the requests. `numbers`: what the agent answered; `failed`: why others were not; `slowest_ms`."""

    numbers: list[int] = attrs.field(repr=False)
    failed: list[str]
    slowest_ms: float

    @property
    def doubled(self) -> int:
        """Requests that the agent has answered, and that nobody got: answers that are missing in between."""
        return (max(self.numbers) if self.numbers else 0) - len(set(self.numbers))


@attrs.define(eq=False)
class Clients:
    """The clients. `url`: of a station where the agent is."""

    url: str
    name: str
    _numbers: list[int] = attrs.field(factory=list)
    _failed: list[str] = attrs.field(factory=list)
    _slowest: float = 0.0
    _lock: Any = attrs.field(factory=threading.Lock)
    _stop: threading.Event = attrs.field(factory=threading.Event)

    def during(self, work: Callable[[], None]) -> Answered:
        """Ask all the time while `work` runs."""
        began = time.perf_counter()
        threads = [threading.Thread(target=self._client, args=(began, number)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            work()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        return Answered(self._numbers, self._failed, 1000 * self._slowest)

    def _client(self, began: float, number: int) -> None:
        place = self.url
        connection: http.client.HTTPConnection | None = None
        due = began + number / RATE
        while not self._stop.is_set():
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                for _ in range(8):
                    if connection is None:
                        connection = http.client.HTTPConnection(urlsplit(place).netloc, timeout=TIMEOUT_S)
                    connection.request("GET", f"/portcall/1/agents/{self.name}/")
                    response = connection.getresponse()
                    body = response.read()
                    if response.status != 307:
                        break
                    place, connection = response.headers["location"], None
                taken = time.perf_counter() - due
                with self._lock:
                    if response.status == 200:
                        self._numbers.append(int(body))
                    else:
                        self._failed.append(f"{response.status} {body[:100]!r}")
                    self._slowest = max(self._slowest, taken)
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection = None
                with self._lock:
                    self._failed.append(f"{type(error).__name__}: {error}")
            due += CLIENTS / RATE
