"""What the courier's notices cause here: an agent is expected, starts, stays, or has left.

Not the handoff's rules (`docking.handoff`), nor arriving itself (`arrivals`). Invariant: when a notice comes, the
ledger
has decided and the store has the agent; so a notice that cannot be followed loses nothing, and a restart resumes the
agent.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable

from attrs import define, field

from agents.credentials.keys import public_key
from docking.handoff.actions import Drop, Expect, Left, Notice, RaiseAlarm, Record, Release, Resume, Start
from docking.live.sessions import Sessions
from docking.residents.arrivals import Arrivals
from docking.residents.berth import Standing
from docking.residents.departures import Departures
from docking.residents.residents import Residents
from docking.residents.serving import Serving
from docking.store.changes import Change
from docking.trust.admission_controller import Admitted

_log = logging.getLogger(__name__)
DOUBTS = ("in-doubt", "destination-lost-agent")


@define(eq=False, repr=False)
class Notices:
    """Follows the courier's notices at one station."""

    _here: Residents
    _arrivals: Arrivals
    _departures: Departures
    _sessions: Sessions
    _serving: Serving
    _left: dict[bytes, Callable[[], None]] = field(factory=dict)

    def follow(self, notice: Notice[Admitted]) -> None:
        """Do what a notice requires."""
        try:
            self._follow(notice)
        except Exception:
            _log.exception("a notice of the courier could not be followed")
            self._here.tell("alarm", text=f"{type(notice).__name__.lower()}: not followed; see the station's log")

    def _follow(self, notice: Notice[Admitted]) -> None:
        match notice:
            case Expect(record, cargo, admission):
                # Only once the receipt is sent.
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, self._arrivals.expect, record, cargo, admission)
            case Start(record, cargo, admission):
                self._arrivals.arrive(record, cargo, admission)
            case Left(record):
                # Only once the commit is sent: the agent waits for that, and nobody for this.
                self._left[record.agent] = functools.partial(self._gone, record, self._departures.left(record))
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, self.see_off, record.agent)
            case Resume(record):
                self._here.in_doubt.pop(record.hid, None)
                if self._departures.leaving(record.hid) is None:
                    self._arrivals.stays(record)
            case RaiseAlarm(hid, code, reason):
                if code in DOUBTS:
                    self._here.in_doubt[hid] = reason
                self._here.tell("alarm", text=f"{code}: {reason}")
            case Drop(record):
                self._here.in_doubt.pop(record.hid, None)
                self._arrivals.expect_no_more(record.hid)
                self._sessions.dropped(record.hid)
            case Release(record):
                self._here.in_doubt.pop(record.hid, None)

    def see_off(self, agent: bytes) -> None:
        """Learn from a departure, at the latest when the agent comes back and builds on it."""
        gone = self._left.pop(agent, None)
        if gone is not None:
            gone()

    def _gone(self, record: Record, learnt: Callable[[], list[Change]]) -> None:
        """The agent durably belongs to another station."""
        if changes := learnt():
            self._here.write(changes)
        berth = self._here.berths.get(record.agent)
        if berth is not None and berth.visit == record.hop:
            self._here.unsettle(berth, Standing.ENDED)
            self._here.tell("left", record.agent, place=self._here.peers.label(public_key(record.peer)))
            berth.inbox.clear()
            self._serving.left(record.agent, public_key(record.peer))
        self._here.idle()
