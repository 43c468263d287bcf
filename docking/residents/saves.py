"""Agents that serve keep their instance while they wait, so that a request is cheap; here their state is stored all the
same, now and then.

A save is a turn in which nothing of the agent runs: between two requests, or when none has come for a while. Not here:
what a checkpoint is (`checkpoints`). Invariants: a save happens only while the agent waits, with its instance, and
while nothing else uses it; saving takes a small part of an agent's time, however large it is; an agent that is
unchanged is not saved. Nothing is saved where a crash takes the store along. See
docs/adr/a-service-keeps-its-instance.
"""

from __future__ import annotations

import asyncio
import functools
import logging

from attrs import define, field

from agents.credentials.keys import text_of
from agents.errors import PortcallError
from agents.waits import Accept
from docking.residents import checkpoints
from docking.residents.berth import Berth, Turn
from docking.residents.lifecycle import Lifecycle
from docking.residents.residents import Residents, seen
from docking.residents.workers import Job

_log = logging.getLogger(__name__)
# Seconds between two saves of an agent, at least, and for each MiB of its memory: some hundredths of its time.
LEAST_S, EACH_MIB_S = 1.0, 0.25
# Bytes of memory from which on an agent is saved only when no request has come for so long: a save takes milliseconds a
# MiB, for which clients would wait.
LARGE_BYTES = 64 << 20


@define(eq=False, repr=False)
class Saves:
    """The saves of the agents that are `here`."""

    _here: Residents
    _lifecycle: Lifecycle
    _last: dict[bytes, float] = field(factory=dict)
    """When an agent that serves was stored last, or began to serve, on the loop's clock."""
    _clean: dict[bytes, int] = field(factory=dict)
    """The processor time of an agent when it was stored: what it has used since has changed it."""
    _timers: dict[bytes, asyncio.Handle] = field(factory=dict)
    done: int = 0

    def between(self, berth: Berth) -> bool:
        """An agent has begun to wait, and is given no request yet. Whether it is saved first."""
        if not self._may(berth) or not self._changed(berth):
            return False
        now = asyncio.get_running_loop().time()
        last = self._last.setdefault(berth.agent, now)
        if berth.occupied >= LARGE_BYTES or now < last + _interval(berth):
            return False
        self._save(berth)
        return True

    def idle(self, berth: Berth) -> None:
        """It waits, and no request is there."""
        if self._may(berth) and self._changed(berth) and berth.agent not in self._timers:
            loop = asyncio.get_running_loop()
            due = max(self._last.get(berth.agent, 0.0), loop.time()) + _interval(berth)
            self._timers[berth.agent] = loop.call_at(due, self._idle_for_long, berth, berth.cpu_us)

    def forget(self, agent: bytes) -> None:
        """The agent does not serve here any more."""
        self._last.pop(agent, None)
        self._clean.pop(agent, None)
        timer = self._timers.pop(agent, None)
        if timer is not None:
            timer.cancel()

    def _changed(self, berth: Berth) -> bool:
        return berth.cpu_us != self._clean.get(berth.agent)

    def _may(self, berth: Berth) -> bool:
        return berth.life is not None and berth.begun and not (berth.moving or berth.owed or self._here.store.volatile)

    def _idle_for_long(self, berth: Berth, used: int) -> None:
        self._timers.pop(berth.agent, None)
        waits = isinstance(berth.wait, Accept) and not berth.running and berth.order is None and not berth.barred
        if self._here.closing or self._here.berths.get(berth.agent) is not berth or not waits or not self._may(berth):
            return
        if berth.cpu_us != used and berth.occupied >= LARGE_BYTES:
            self.idle(berth)  # it has answered meanwhile
        else:
            self._save(berth)

    def _save(self, berth: Berth) -> None:
        life, wait = berth.life, berth.wait
        assert life is not None
        assert isinstance(wait, Accept)
        self.forget(berth.agent)
        self._last[berth.agent] = asyncio.get_running_loop().time()
        self._here.timers.stop(berth.agent)
        berth.running = True
        work = functools.partial(_state_of, berth)
        ended = functools.partial(self._saved, berth, wait)
        self._here.workers.submit(Job(work, berth.interrupt, ended, functools.partial(ended, None, None)))

    def _saved(self, berth: Berth, wait: Accept, state: bytes | None, error: BaseException | None) -> None:
        if error is not None:
            said = {"agent": text_of(berth.agent)}
            _log.error("an agent that serves could not be stored: %s", error, extra=said)
        if state is not None:
            self.done += 1
            self._here.catch_up()
            self._here.journal.write([checkpoints.put_checkpoint(berth, state)], False).add_done_callback(seen)
            self._clean[berth.agent] = berth.cpu_us
        if wait.timeout_ns is not None:
            wait = Accept(max(0, berth.until - self._here.clocks.now()) * 1_000_000)
        self._lifecycle.turned(berth, Turn(wait), None)


def _interval(berth: Berth) -> float:
    return max(LEAST_S, EACH_MIB_S * (berth.occupied >> 20))


def _state_of(berth: Berth) -> bytes | None:
    """In a worker: the state of an agent that waits."""
    try:
        return berth.state_while_it_waits()
    except PortcallError as error:
        _log.error("an agent that serves could not be stored: %s", error, extra={"agent": text_of(berth.agent)})
        return None
