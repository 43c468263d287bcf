"""What people ask of a station: which agents there are, where, what they did; and that they stand still, go home, end.

An order for an agent that is elsewhere is sent after it (`docking.orders`). Invariant: an order is carried out between
two turns of the agent, never inside one, and not while a handoff decides about it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from attrs import define

from agents import canonical
from agents.capsule import Capsule
from agents.credentials.envelope import identify
from agents.credentials.keys import bytes_of, text_of
from agents.credentials.passport import verify_passport
from agents.errors import CredentialError
from agents.runtime import Asked
from agents.snapshot import Snapshot
from agents.waits import Call, Clone, Go, GoAt, Refused, Sleep, Woke
from docking import papers
from docking.berth import Berth, Standing
from docking.errors import StationError, UnknownAgent
from docking.handoff.messages import Side
from docking.knowledge import Known
from docking.mailbox import Mailbox
from docking.orders import FRESH, sign_order
from docking.register import DISPOSED, FINISHED, TRAVELLING
from docking.residence import EINTR

if TYPE_CHECKING:
    from docking.station import Office


@define(eq=False)
class Steering:
    """The steering of one office."""

    _office: Office

    def find_agent(self, text: str) -> bytes:
        """The agent that an id, the beginning of one, or a label means. Raises `UnknownAgent`."""
        whole = _exact(text)
        if whole is not None and (self.berth_of(whole) is not None or self._office.register.get(whole) is not None):
            return whole  # without a look at the thousands that a station may know
        journeys = {journey.agent: journey for journey in self._office.register.all()}
        known = {agent: berth.label for agent, berth in self._office.past.items()}
        known |= {agent: journey.label for agent, journey in journeys.items()}
        known |= {agent: berth.label for agent, berth in self._office.berths.items()}
        known |= {agent: known.get(agent, "") for agent in self._undecided()}
        named = [agent for agent, label in known.items() if text == label]
        found = named or [agent for agent in known if len(text) >= 4 and text_of(agent).startswith(text)]
        if len(found) == 1:
            return found[0]
        if found:
            here = [agent for agent in found if agent in self._office.berths]
            if len(here) == 1:
                return here[0]
            if named and not here and all(agent in journeys for agent in found):
                # A person launches the same script again and again: the one that travels, or the last that ended.
                going = [agent for agent in found if journeys[agent].standing == TRAVELLING]
                if len(going) < 2:
                    return going[0] if going else max(found, key=lambda agent: journeys[agent].launched)
            raise UnknownAgent(f"{len(here or found)} agents are called {text[:80]!r}: name the one you mean by its id")
        raise UnknownAgent(f"no agent {text[:80]!r} is known at {self._office.name}")

    def _undecided(self) -> set[bytes]:
        """The agents of which a person has to say where they live."""
        found = [self._office.store.record(hid, side) for hid in self._office.in_doubt for side in Side]
        return {record.agent for record in found if record is not None}

    def berth_of(self, agent: bytes) -> Berth | None:
        """The berth of an agent that is here, or was a moment ago."""
        return self._office.berths.get(agent) or self._office.past.get(agent)

    def rows(self) -> list[dict[str, Any]]:
        """The agents that are here, and those that were launched here; the ones here first."""
        rows = []
        for berth in self._office.berths.values():
            rows.append(self._row(berth))
        journeys = self._office.register.all()
        labels = {journey.agent: journey.label for journey in journeys}
        for agent, kept in self._office.arrivals.kept.items():
            rows.append(
                {
                    "agent": text_of(agent),
                    "label": labels.get(agent, ""),
                    "station": self._office.name,
                    "standing": "kept",
                    "hop": kept.hop,
                    "since": kept.since,
                    "text": f"it cannot be taken up: {kept.why}",
                    "here": True,
                }
            )
        for journey in journeys:
            if journey.agent not in self._office.berths and journey.agent not in self._office.arrivals.kept:
                place = self._office.peers.label(journey.place)
                rows.append(
                    {
                        "agent": text_of(journey.agent),
                        "label": journey.label,
                        "station": place,
                        "standing": journey.standing,
                        "hop": journey.hop,
                        "since": journey.changed,
                        "text": journey.text,
                        "here": False,
                    }
                )
        return rows

    def _row(self, berth: Berth) -> dict[str, Any]:
        text = berth.text
        if berth.standing is Standing.WAITING and berth.wait is not None:
            text = type(berth.wait).__name__.lower()
        elif berth.standing is Standing.LEAVING:
            text = f"to {berth.to}"
        return {
            "agent": text_of(berth.agent),
            "label": berth.label,
            "station": self._office.name,
            "standing": berth.standing.value,
            "hop": berth.visit,
            "since": berth.papers.since,
            "text": text,
            "here": True,
        }

    def capsule_of(self, agent: bytes) -> Capsule:
        """Trail and results of an agent, as far as this station verified them. Raises `UnknownAgent`."""
        found = self._office.register.capsule(agent)
        if found is not None:
            return found
        berth, last = self._office.berths.get(agent), self.berth_of(agent)
        # Its first visit holds the results with which it began; what is noted of one that just left may be written yet.
        came = None if last is None else last.papers.results
        if berth is not None:
            known, passport = berth.papers.known, berth.papers.passport
        else:
            data = self._office.store.last_point(agent)
            if data is None:
                raise UnknownAgent(f"nothing is known here of {text_of(agent)}")
            known = Known.decode(data)
            record = self._office.store.part(known.point.passport)
            if record is None:
                raise UnknownAgent("the agent's passport is not kept here")
            passport = verify_passport(record)
        return papers.so_far(passport, known, self._office.knowledge, came)

    def order(self, agent: bytes, what: str) -> str:
        """Have an agent retracted, disposed of, put to sleep, woken or cloned; what became of the order."""
        if self._office.failure:
            raise StationError(f"the station cannot go on: {self._office.failure}")
        berth = self._office.berths.get(agent)
        if berth is not None:
            self.obey(berth, what)
            return "obeyed"
        if agent in self._undecided():
            raise StationError("where this agent lives is to be decided first: portcall agents says how")
        journey = self._office.register.get(agent)
        if journey is None:
            raise UnknownAgent("this agent is not here, and was not launched here")
        if journey.standing in (FINISHED, DISPOSED):
            raise StationError(f"the agent's journey is over: {journey.standing}")
        to = self._office.letters.where(agent) or journey.place
        now = self._office.clocks.now()
        content = [sign_order(agent, what, now, self._office.key), 0]
        self._office.post(Mailbox.posted(to, "order", identify("order", agent, what, now), content, now + FRESH))
        return "sent"

    def obey(self, berth: Berth, what: str) -> None:
        """Do what was ordered: now, or when the agent's turn or call has ended."""
        if what == "wake":
            self._wake_up(berth)
            return
        if berth.standing is Standing.LEAVING:
            raise StationError("the agent is leaving: try again")
        if berth.standing is Standing.STOPPED and what in ("sleep", "clone"):
            raise StationError(f"the agent cannot go on: {berth.text}")
        berth.order = what
        if berth.running:
            berth.interrupt()
        elif not isinstance(berth.wait, Clone if what == "dispose" else (Call, Clone)):
            # Whoever is to end does not wait for a service, which may take its time.
            self.carry_out(berth, berth.wait, berth.state if isinstance(berth.state, bytes) else None)

    def _wake_up(self, berth: Berth) -> None:
        if berth.standing is Standing.STOPPED:
            raise StationError(f"the agent cannot go on: {berth.text}")
        if berth.standing is not Standing.ASLEEP:
            berth.order = "" if berth.order == "sleep" else berth.order
            if isinstance(berth.wait, Sleep):
                self._office.residence.go_on(berth, Woke())
            return
        self._resume_asleep(berth)

    def _resume_asleep(self, berth: Berth) -> None:
        state = berth.state if berth.state is not None else self._office.residence.state_of(berth)
        snapshot = state if isinstance(state, Snapshot) else Snapshot.decode(state)
        berth.state = snapshot
        self.carry_on(berth, None if snapshot.pending is None else snapshot.pending.wait)

    def carry_out(self, berth: Berth, stop: Any, state: bytes | None) -> None:
        """The agent stands still: carry out the order."""
        what, berth.order = berth.order, ""
        if what == "retract" and isinstance(stop, (Go, GoAt)):
            # At home it would believe to be where it wanted to go: it hears first that it cannot.
            self._office.residence.go_on(berth, Refused(EINTR, "the agent is called home"))
            berth.order = what
            berth.interrupt()
            return
        timer = self._office.timers.pop(berth.agent, None)
        if timer is not None:
            timer.cancel()
        if berth.life is not None and state is None:
            state = berth.life.snapshot().encode()
            berth.close()
            berth.state = state
        if what == "dispose":
            self._office.residence.finish(berth, DISPOSED, "disposed of by order")
        elif what == "sleep":
            berth.standing, berth.wait, berth.until = Standing.ASLEEP, None, 0
            if state is not None:
                self._office.residence.park(berth)
            self._office.tell("waiting", berth.agent, text="put to sleep")
        elif what == "retract" and berth.papers.passport.body.home.station != self._office.key.public:
            if berth.standing is Standing.STOPPED and berth.state is None:
                berth.state = self._office.residence.state_of(berth)
            berth.order, berth.standing = "retract", Standing.LEAVING
            self._office.run(self._office.residence.depart(berth, "home"))
        elif what == "clone":
            self._office.run(self._clone_by_order(berth, stop))
        else:
            self.carry_on(berth, stop)

    def carry_on(self, berth: Berth, stop: Any) -> None:
        """As if no order had come."""
        if berth.standing is Standing.STOPPED:
            return
        if stop is None or isinstance(stop, Asked):
            self._office.residence.go_on(berth, None)
        else:
            self._office.residence.wait(berth, stop)

    async def _clone_by_order(self, berth: Berth, stop: Any) -> None:
        state = berth.state if isinstance(berth.state, bytes) else self._office.residence.state_of(berth)
        try:
            child = await self._office.residence.make_clone(berth, state)
            if child is not None:
                self._office.residence.begin(child, Snapshot.decode(state), arrived=False)
        except CredentialError as error:
            self._office.tell("refused", berth.agent, text=f"clone: {error.reason}")
        self.carry_on(berth, stop)


def _exact(text: str) -> bytes | None:
    """The agent id that `text` is in full, or None."""
    with contextlib.suppress(CredentialError):
        ident = bytes_of(text)
        return ident if len(ident) == canonical.DIGEST_SIZE else None
    return None
