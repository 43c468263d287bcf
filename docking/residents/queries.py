"""Which agents are known here, what they do, and where those that left went."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from attrs import define, field

from agents import canonical
from agents.capsule import Capsule
from agents.credentials.keys import PublicKey, bytes_of, text_of
from agents.credentials.passport import verify_passport
from agents.credentials.trailpoint import Phase
from agents.errors import CredentialError
from agents.waits import Accept, Go
from docking.aio.threads import in_thread
from docking.errors import UnknownAgent
from docking.handoff.messages import Side
from docking.handoff.states import Destination, Source
from docking.letters.journeys import OVER, Journey, Journeys, JourneyStanding
from docking.peers.directory import PeerDirectory
from docking.residents.berth import Berth, LogLine, Standing
from docking.residents.residents import Residents
from docking.store.store import Store
from docking.trust import agent_credentials
from docking.trust.verified_trails import VerifiedTrail, VerifiedTrails

ROWS_PER_STEP = 256  # of the event loop


@define(eq=False, repr=False)
class Queries:
    """What can be asked about agents. `kept`: those that cannot be resumed."""

    _here: Residents
    _journeys: Journeys
    _peers: PeerDirectory
    _store: Store
    _trails: VerifiedTrails
    kept: Mapping[bytes, Any] = field(factory=dict)
    asked: Callable[[bytes], int | None] = lambda agent: None
    """How many requests of clients an agent has; None if it does not serve here."""

    moving: Callable[[bytes], dict[str, object] | None] = lambda agent: None
    """How far an agent is that is being moved; None if it is not."""

    def find_agent(self, text: str) -> bytes:
        """The agent that an id, the beginning of one, or a label means. Raises `UnknownAgent`."""
        whole = _exact(text)
        if whole is not None and (self.berth_of(whole) is not None or self._journeys.get(whole) is not None):
            return whole  # without searching thousands
        journeys = {journey.agent: journey for journey in self._journeys.all()}
        known = {agent: berth.label for agent, berth in self._here.past.items()}
        known |= {agent: journey.label for agent, journey in journeys.items()}
        known |= {agent: berth.label for agent, berth in self._here.berths.items()}
        known |= {agent: known.get(agent, "") for agent in (*self.undecided(), *self.kept)}
        named = [agent for agent, label in known.items() if text == label]
        found = named or [agent for agent in known if len(text) >= 4 and text_of(agent).startswith(text)]
        if len(found) == 1:
            return found[0]
        if found:
            here = [agent for agent in found if agent in self._here.berths]
            if len(here) == 1:
                return here[0]
            if named and not here and all(agent in journeys for agent in found):
                # The same script is often launched again: prefer the one that travels, else the last that ended.
                going = [agent for agent in found if journeys[agent].standing is JourneyStanding.TRAVELLING]
                if len(going) < 2:
                    return going[0] if going else max(found, key=lambda agent: journeys[agent].launched)
            several = here or found
            names = ", ".join(sorted(text_of(agent)[:12] for agent in several)[:8])
            said = f"{len(several)} agents are called {text[:80]!r}: name the one you mean by its id ({names})"
            raise UnknownAgent(said)
        raise UnknownAgent(f"no agent {text[:80]!r} is known at {self._here.name}")

    def undecided(self) -> set[bytes]:
        """The agents about which the operator has to decide where they live."""
        found = [self._store.record(hid, side) for hid in self._here.in_doubt for side in Side]
        return {record.agent for record in found if record is not None}

    def berth_of(self, agent: bytes) -> Berth | None:
        """The berth of an agent that is here, or was a moment ago."""
        return self._here.berths.get(agent) or self._here.past.get(agent)

    @property
    def station(self) -> str:
        """The name of this station."""
        return self._here.name

    def journey(self, agent: bytes) -> Journey | None:
        """What this station knows as the home of an agent; None if it is not."""
        return self._journeys.get(agent)

    def label(self, agent: bytes) -> str:
        """What people call an agent, as its owner signed it; empty if nothing is known here."""
        found = self.berth_of(agent) or self.journey(agent)
        return "" if found is None else found.label

    def family(self, agent: bytes) -> list[bytes]:
        """The agents of one launch that are known here, an agent and its clones. Raises `UnknownAgent`."""
        digests = {each: berth.credentials.passport.digest for each, berth in self._here.berths.items()}
        digests |= {journey.agent: journey.passport for journey in self._journeys.all()}
        if agent not in digests:
            raise UnknownAgent(f"nothing is known of {text_of(agent)}")
        return [each for each, digest in digests.items() if digest == digests[agent]]

    def standing(self, agent: bytes) -> str:
        """What an agent does, as far as this station knows: a `Standing` or a `JourneyStanding`, or "elsewhere"."""
        found = self._here.berths.get(agent) or self.journey(agent)
        return "elsewhere" if found is None else found.standing.value

    def place(self, agent: bytes) -> str:
        """The name of the station where an agent is, as far as this station knows. Raises `UnknownAgent`."""
        if agent in self._here.berths:
            return self._here.name
        journey = self.journey(agent)
        at = journey.place if journey is not None and journey.standing in OVER else self.where(agent)
        if at is None:
            raise UnknownAgent(f"nothing is known of {text_of(agent)}")
        return self._peers.label(at)

    def lines(self, agent: bytes) -> list[LogLine]:
        """The latest lines of the log of an agent that is here, or was a moment ago."""
        berth = self.berth_of(agent)
        return [] if berth is None else list(berth.lines)

    async def all_rows(self) -> AsyncIterator[dict[str, object]]:
        """The same as `rows`, in steps: of thousands, each would take the event loop for a while."""
        journeys = await in_thread(self._journeys.all, frozenset(self._here.berths))
        for number, berth in enumerate(tuple(self._here.berths.values())):
            if number % ROWS_PER_STEP == ROWS_PER_STEP - 1:
                await asyncio.sleep(0)
            if berth.agent in self._here.berths:
                yield self._row(berth)
        for number, row in enumerate(self._elsewhere(journeys)):
            if number % ROWS_PER_STEP == ROWS_PER_STEP - 1:
                await asyncio.sleep(0)
            yield row

    def rows(self) -> list[dict[str, object]]:
        """The agents that are here, and those that were launched here; the ones here first."""
        journeys = self._journeys.all(self._here.berths)
        return [*map(self._row, self._here.berths.values()), *self._elsewhere(journeys)]

    def row(self, agent: bytes) -> dict[str, object]:
        """The row of one agent. Raises `UnknownAgent`."""
        berth = self._here.berths.get(agent)
        if berth is not None:
            return self._row(berth)
        journey = self.journey(agent)
        found = next(self._elsewhere([] if journey is None else [journey], agent), None)
        if found is None:
            raise UnknownAgent(f"the agent is not at {self._here.name}, and was not launched here")
        return found

    def _elsewhere(self, journeys: list[Journey], one: bytes = b"") -> Iterator[dict[str, object]]:
        """Rows of agents that cannot be taken up (all of them, or `one`), and of those that were launched here."""
        labels = {journey.agent: journey.label for journey in journeys}
        for agent, kept in list(self.kept.items()):
            if one not in (b"", agent):
                continue
            yield {
                "agent": text_of(agent),
                "label": labels.get(agent, ""),
                "owner": "",
                "passport": "",
                "station": self._here.name,
                "standing": "kept",
                "hop": kept.hop,
                "since": kept.since,
                "text": f"it cannot be taken up: {kept.why}",
                "here": True,
            }
        for journey in journeys:
            if journey.agent not in self._here.berths and journey.agent not in self.kept:
                yield {
                    "agent": text_of(journey.agent),
                    "label": journey.label,
                    "owner": journey.owner.text,
                    "passport": text_of(journey.passport),
                    "station": self._peers.label(journey.place),
                    "standing": journey.standing.value,
                    "hop": journey.hop,
                    "since": journey.changed,
                    "text": journey.text,
                    "here": False,
                }

    def _row(self, berth: Berth) -> dict[str, object]:
        text = berth.text
        if berth.standing is Standing.WAITING and berth.wait is not None:
            text = type(berth.wait).__name__.lower()
            if isinstance(berth.wait, Accept):
                text = "serves"
            elif isinstance(berth.wait, Go):
                text = f"waits to go to {berth.wait.host[:80]}"
        elif berth.standing is Standing.LEAVING:
            text = f"to {berth.to}"
        if berth.owed is not None:
            text = berth.owed.said
        row: dict[str, object] = {
            "agent": text_of(berth.agent),
            "label": berth.label,
            "owner": berth.credentials.passport.body.owner.text,
            "passport": text_of(berth.credentials.passport.digest),
            "station": self._here.name,
            "standing": berth.standing.value,
            "hop": berth.visit,
            "since": berth.credentials.since,
            "text": text,
            "here": True,
        }
        if berth.owed is not None:
            row["owed_bytes"] = berth.owed.left_bytes
        moving = self.moving(berth.agent)
        if moving is not None:
            row["moving"] = moving
        requests = self.asked(berth.agent)
        if requests is not None:
            row["requests"] = requests
            if requests:
                row["text"] = f"{text}, {requests} asked" if text else f"{requests} asked"
        return row

    def capsule_of(self, agent: bytes) -> Capsule:
        """Trail and results of an agent, as far as this station verified them. Raises `UnknownAgent`."""
        found = self._journeys.capsule(agent)
        if found is not None:
            return found
        berth, last = self._here.berths.get(agent), self.berth_of(agent)
        # Its first visit holds the results with which it started; of an agent that just left, the latest is perhaps not
        # written yet.
        came = None if last is None else last.credentials.results
        if berth is not None:
            known, passport = berth.credentials.known, berth.credentials.passport
        else:
            data = self._store.last_point(agent)
            if data is None:
                raise UnknownAgent(f"nothing is known here of {text_of(agent)}")
            known = VerifiedTrail.decode(data)
            record = self._store.part(known.point.passport)
            if record is None:
                raise UnknownAgent("the agent's passport is not kept here")
            passport = verify_passport(record)
        return agent_credentials.so_far(passport, known, self._trails, came)

    def arriving(self, agent: bytes) -> bool:
        """Whether this station holds the agent for a source that has not said commit."""
        return any(record.state is Destination.HELD for record in self._here.store.history(agent))

    def ended(self, agent: bytes) -> bool:
        """Whether the journey of an agent that is not here is over, as far as this station knows."""
        journey = self._journeys.get(agent)
        if journey is not None:
            return journey.standing in OVER
        data = self._store.last_point(agent)
        return data is not None and VerifiedTrail.decode(data).point.phase is Phase.ENDED

    def home_of(self, agent: bytes) -> PublicKey | None:
        """The home of an agent that is here, was a moment ago, or was launched here."""
        berth = self.berth_of(agent)
        if berth is not None:
            return berth.credentials.passport.body.home.station
        return None if self._journeys.get(agent) is None else self._here.key.public

    def where(self, agent: bytes) -> PublicKey | None:
        """Where an agent that left went: to whom this station handed it, or what its home was told."""
        went = [record for record in self._store.history(agent) if record.state in (Source.COMMITTED, Source.GONE)]
        journey = self._journeys.get(agent)
        if went and (journey is None or journey.hop <= went[-1].hop + 1):
            return PublicKey(went[-1].peer)
        if journey is not None and journey.place != self._here.key.public:
            return journey.place
        return None


def _exact(text: str) -> bytes | None:
    """The agent id that `text` is in full, or None."""
    with contextlib.suppress(CredentialError):
        ident = bytes_of(text)
        return ident if len(ident) == canonical.DIGEST_SIZE else None
    return None
