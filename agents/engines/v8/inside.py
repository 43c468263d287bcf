"""For a Python that runs in JavaScript itself (Pyodide): the machine is called, and no process is needed.

There are no threads there, so nobody else can tell agent code to ask: it does by itself, now and then. Processor time
is that of the only thread, and counted as such.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.engines.watch import Alarm, Watch, WatchAction

from .link import INTERRUPTED, LOAD, PATIENCE_S, Asked, command, u32

_EVERY_S = 0.01  # between two looks at the clocks, seconds
_KEPT_PROGRAMS = 8


class Inside:
    """The place of one instance in this process. A `Link`."""

    def __init__(self) -> None:
        """Make a machine."""
        from pyodide.code import run_js  # type: ignore[import-not-found, unused-ignore]  # Pyodide's own
        from pyodide.ffi import create_proxy, to_js  # type: ignore[import-not-found, unused-ignore]

        self._to_js = to_js
        self._asked: list[Asked] = []
        self._reasons, self._looked = 0, time.monotonic()
        self._programs: dict[int, None] = {}
        self._proxies = [create_proxy(self._ask), create_proxy(self._raised)]
        text = Path(__file__).with_name("machine.cjs").read_text(encoding="utf-8")
        made: Any = run_js(f"(() => {{ const module = {{}}; {text}\n; return module.exports.Machine; }})()")
        self._machine = made.new(*self._proxies)

    def request(self, commands: Sequence[bytes], asked: Asked, patience: float | None = PATIENCE_S) -> memoryview:
        """Have commands carried out."""
        self._asked.append(asked)
        try:
            return memoryview(self._machine.handle(self._to_js(b"".join(commands))).to_bytes())
        finally:
            self._asked.pop()

    def poke(self, reasons: int) -> None:
        """Have the agent's code ask soon."""
        self._reasons |= reasons

    def program(self, number: int, code: bytes) -> list[bytes]:
        """The commands that load a program."""
        if number in self._programs:
            return []
        self._programs[number] = None
        return [command(LOAD, u32(number), code)]

    def release(self) -> None:
        """Free the machine."""
        self._machine = None
        for proxy in self._proxies:
            proxy.destroy()
        self._proxies = []

    def _ask(self, message: Any) -> Any:
        return self._to_js(b"".join(self._asked[-1](memoryview(message.to_bytes()))))

    def _raised(self) -> int:
        reasons, self._reasons = self._reasons, 0
        now = time.monotonic()
        if now - self._looked > _EVERY_S:
            self._looked = now
            reasons |= INTERRUPTED
        return reasons


class NoWatch(Watch):
    """Calls nothing: agent code looks at the clocks by itself."""

    def after(self, nanoseconds: int, action: WatchAction, again: int = 0) -> Alarm:
        """See `Watch`."""
        return Alarm(0, 0, action, again)
