"""A journey as a sequence of steps, over all stations that kept something of it.

Each stay begins with the step "arrived" (or "launched"), goes on with the agent's calls, and ends with its `go` or its
end. Of a stay that nobody kept there is one step, "missing", which says why.

What stations say is compared with the signed trail: a stay begins with the state that the station's own signature
names, and the replay of its calls leads to the state with which the next one begins. `check` says where either does not
hold. Invariants: a record that is not the trail's is not replayed; everything is bounded, since records come from
elsewhere; a journey keeps few stays open at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from agents import canonical
from agents.brief import brief
from agents.capsule import Capsule, Trust
from agents.credentials.keys import PublicKey, text_of
from agents.credentials.passport import Passport, verify_passport
from agents.credentials.upgrades import images_in
from agents.credentials.visits import CloneStatement, Visit
from agents.engines import Engine, Limits, load
from agents.errors import BadRecord, Diverged, PortcallError
from agents.image import AgentImage
from agents.outcomes import Finished
from agents.recording import CLOCKS
from agents.replaying import Frozen, Replayed, Step
from agents.snapshot import ROOTED_MAGIC, Snapshot
from agents.stack import sources_of
from agents.waits import Event, Failed, Refused
from docking.recordings.record import StayRecord
from docking.replay.changes import Changes, changes_between, difference_of
from docking.replay.moments import Moment, moment_of, said, shown

OPEN_STAYS = 4  # replayed at once
MAX_STEPS = 2_000_000
MAX_MOMENTS = 64  # that are kept, for going back and forth


@frozen
class JourneyStay:
    """One stay of a journey.

    visit: its index in the trail
    station: the name of the station, key: its public key
    arrived, departed: ms since 1970 by that station's clock; `departed` is 0 while it is there
    to: where the agent went; empty at the end
    missing: why nothing of it can be replayed; empty if something can
    notes: what is not as one would wish: calls that were not kept, directories whose contents were not recorded
    first, last: the indexes of its steps
    """

    visit: int
    station: str
    key: PublicKey
    arrived: int
    departed: int
    to: str
    missing: str = ""
    notes: tuple[str, ...] = field(default=(), repr=brief)
    first: int = 0
    last: int = 0

    def value(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "visit": self.visit,
            "station": self.station,
            "key": self.key.text,
            "arrived": self.arrived,
            "departed": self.departed,
            "to": self.to,
            "missing": self.missing,
            "notes": list(self.notes),
            "steps": [self.first, self.last],
        }


@frozen
class JourneyStep:
    """One step.

    index: among all steps
    visit, station: of its stay
    name: "launched", "arrived" or "missing"; or the call: "call", "output", "go", "sleep", "wall_ns" ...; or how the
        agent ended: "finished", "trapped", "exhausted"
    args, result: as people write them; `error`: the errno of a call that failed, 0 otherwise
    """

    index: int
    visit: int
    station: str
    name: str
    args: str = ""
    result: str = ""
    error: int = 0
    _entry: int = field(default=-1, repr=False)

    def line(self) -> str:
        """For people, in one line."""
        if self.name in ("launched", "arrived", "missing"):
            return f"{self.name} at {self.station}" + (f": {self.result}" if self.result else "")
        ended = f" -> {self.result}" if self.result else ""
        return f"{self.name}({self.args}){ended}"

    def value(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        names = ("index", "visit", "station", "name", "args", "result", "error")
        return {name: getattr(self, name) for name in names}


@frozen
class _Visited:
    """A stay as the trail has it; `begins`: the state that it began with; `ends`: that with which it left;
    `tasks`: one of which `to` was to call."""

    visit: int
    station: PublicKey
    begins: bytes
    ends: bytes
    arrived: int
    departed: int
    to: PublicKey | None
    tasks: tuple[str, ...] = field(default=(), repr=brief)


class Journey:
    """A journey, to be looked at from any point of it. Not for two threads at once.

    capsule: trail and results, of which every signature is checked here
    image: the image with which the agent was launched
    records: what stations kept or sent of its stays, in any order
    names: of stations, by key in text form
    why_missing: of stays without a record, by visit
    engine: what runs the agent's code again, "wasmtime" by default
    clocks: whether each reading of a clock is a step, too
    now: ms since 1970, for the checks of the capsule
    upgrades: the other images that it has had, see `docking.Agent.upgrade`; a stay with one that is
        missing has no steps

    Raises `CredentialError` for a capsule that does not verify, `FormatError`.
    """

    def __init__(
        self,
        capsule: Capsule,
        image: AgentImage,
        records: Sequence[StayRecord],
        *,
        names: Mapping[str, str] | None = None,
        why_missing: Mapping[int, str] | None = None,
        engine: Engine | None = None,
        clocks: bool = False,
        now: int,
        upgrades: Sequence[AgentImage] = (),
    ) -> None:
        passport = verify_passport(capsule.passport)
        body = passport.body
        if image.digest != body.image:
            raise BadRecord("the image is not the agent's")
        had = images_in(body, capsule.trail.links)
        self.images = {each.digest: each for each in (image, *upgrades) if each.digest in had}
        verified = capsule.verify(Trust(), max(body.not_before, min(now, body.expires)))
        self.capsule, self.image, self.names = capsule.bare(), image, dict(names or {})
        self.id, self.label = text_of(verified.agent), body.label
        self._memory = body.permit.budget.memory
        self._itinerary = body.itinerary
        self._engine, self._clocks = engine, clocks
        self._passport, self._agent = capsule.passport, verified.agent
        self._open: OrderedDict[int, Replayed] = OrderedDict()
        self._moments: OrderedDict[int, tuple[Moment, Snapshot]] = OrderedDict()
        visits = _visits(verified.followed.steps, verified.point, body)
        self.records = self._fitting(records, visits)
        self._visits = {each.visit: each for each in visits}
        self.steps: tuple[JourneyStep, ...] = ()
        """All steps, in order."""
        self.stays: tuple[JourneyStay, ...] = ()
        """All stays, in order."""
        self._reports: list[tuple[int, str]] = []
        self._list(visits, why_missing or {})

    def close(self) -> None:
        """Give up what it runs in."""
        for each in self._open.values():
            each.close()
        self._open.clear()

    def _fitting(self, records: Sequence[StayRecord], visits: Sequence[_Visited]) -> dict[int, StayRecord]:
        """The records that belong to the trail: of this agent, by the station that signed the visit."""
        stations = {each.visit: each.station.raw for each in visits}
        found: dict[int, StayRecord] = {}
        for record in records:
            mine = record.agent == self._agent and record.passport == self._passport
            if mine and stations.get(record.visit) == record.station:
                found[record.visit] = record
        return found

    def _name(self, key: PublicKey) -> str:
        return self.names.get(key.text, key.id)

    def _list(self, visits: Sequence[_Visited], why: Mapping[int, str]) -> None:
        stays, steps = [], list[JourneyStep]()
        for visited in visits:
            name, first = self._name(visited.station), len(steps)
            missing, notes, calls = self._look(visited, why)
            kind = "missing" if missing else "launched" if visited.visit == 0 else "arrived"
            steps.append(JourneyStep(len(steps), visited.visit, name, kind, result=missing))
            for call in calls[: MAX_STEPS - len(steps)]:
                if call.name == "report" and not call.errno:
                    self._reports.append((len(steps), str(call.args[0])))
                steps.append(_step(len(steps), visited.visit, name, call))
            to = "" if visited.to is None else self._name(visited.to)
            times = visited.arrived, visited.departed
            stays.append(
                JourneyStay(
                    visited.visit, name, visited.station, *times, to, missing, tuple(notes), first, len(steps) - 1
                )
            )
        self.stays, self.steps = tuple(stays), tuple(steps)

    def _look(self, visited: _Visited, why: Mapping[int, str]) -> tuple[str, list[str], Sequence[Step]]:
        """Why a stay cannot be replayed, or what is to be said of it, and its calls."""
        record = self.records.get(visited.visit)
        if record is None:
            return why.get(visited.visit, "the station kept nothing of this stay, or does not give it"), [], ()
        if not record.state:
            return "the state with which it began was not kept", [], ()
        notes = []
        if record.restarted:
            what = "the station was restarted in this stay, or the agent got new code"
            notes.append(f"{what}: what came before that is not shown")
        elif canonical.digest(record.state) != visited.begins:
            return "the station's record begins with another state than it has signed", [], ()
        if record.state.startswith(ROOTED_MAGIC):
            return "it came by a live move, of which the memory was not kept", [], ()
        if record.dropped:
            notes.append(f"the record was full: {record.dropped} more of what it did are not shown")
        if record.directories:
            names = ", ".join(record.directories)
            notes.append(f"it could use directories of the station ({names}), whose contents are not recorded")
        try:
            steps = self._replayed(visited.visit).steps
            return "", notes, [each for each in steps if self._clocks or each.name not in CLOCKS]
        except PortcallError as error:
            return f"the station's record cannot be used: {error}", [], ()

    def _replayed(self, visit: int) -> Replayed:
        found = self._open.get(visit)
        if found is None:
            record = self.records[visit]
            if self._engine is None:
                self._engine = load("wasmtime")
            begins = Snapshot.decode(record.state)
            found = Replayed(
                self._image(begins),
                begins,
                record.calls(),
                engine=self._engine,
                limits=Limits(memory=min(record.memory, self._memory) or self._memory),
                wasi_limits=record.wasi,
                tasks=self._itinerary.has_tasks,
            )
            self._open[visit] = found
            while len(self._open) > OPEN_STAYS:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(visit)
        return found

    def _image(self, snapshot: Snapshot) -> AgentImage:
        """The image of a state. Raises `BadRecord`."""
        found = self.images.get(snapshot.image)
        if found is None:
            raise BadRecord(f"the image {text_of(snapshot.image)[:12]}, which the agent had then, is not here")
        return found

    def _frozen(self, step: JourneyStep) -> tuple[Frozen | None, str]:
        """The state at a step, or None; and what is to be said of it."""
        if step.name == "missing":
            return None, step.result
        replayed = self._replayed(step.visit)
        if step._entry < 0:
            return replayed.start, ""
        try:
            found = replayed.at(step._entry)
        except Diverged as error:
            return None, f"the replay departs from the record: {error}"
        if found.after >= len(replayed.entries) and replayed.ended is not None:
            return self._before_the_end(replayed, step._entry), "the last state before its end"
        late = [each for each in replayed.steps if step._entry < each.entry < found.after]
        if late:
            return found, f"the agent can be frozen only after {said(late[-1].name, *late[-1].args)}"
        return found, ""

    @staticmethod
    def _before_the_end(replayed: Replayed, entry: int) -> Frozen:
        """The last state at a step up to `entry` in which the agent has not ended yet."""
        for step in reversed([each for each in replayed.steps if each.entry < entry]):
            found = replayed.at(step.entry)
            if found.after < len(replayed.entries):
                return found
        return replayed.start

    def state(self, index: int) -> Moment:
        """The state at a step: right after a call, or while it waits. Where there is none, the note says why.

        index: of the step, from 0. Raises `IndexError`.
        """
        return self._moment(index)[0]

    def _moment(self, index: int) -> tuple[Moment, Snapshot | None]:
        if not 0 <= index < len(self.steps):
            raise IndexError(index)
        step = self.steps[index]
        known = self._moments.get(index)
        if known is not None:
            self._moments.move_to_end(index)
            return known
        frozen_state, note = self._frozen(step)
        results = self.results(index)
        if frozen_state is None:
            nothing = Snapshot(self.image.digest, "")
            return moment_of(index, step.station, self.image, nothing, results, note), None
        image = self._image(frozen_state.snapshot)
        made = moment_of(index, step.station, image, frozen_state.snapshot, results, note)
        self._moments[index] = made, frozen_state.snapshot
        while len(self._moments) > MAX_MOMENTS:
            self._moments.popitem(last=False)
        return made, frozen_state.snapshot

    def changes(self, index: int) -> Changes:
        """What changed since the step before; nothing at the first step, and where one of the states is missing.

        index: of the step, from 0. Raises `IndexError`.
        """
        now, after = self._moment(index)
        if index == 0 or after is None:
            return Changes()
        was, before = self._moment(index - 1)
        if before is None:
            return Changes()
        new = now.results[len(was.results) :]
        if before.image != after.image:
            return Changes()  # it got new code in between
        return changes_between(self._image(after), before, after, (was.stack, now.stack), new)

    def sources(self, index: int) -> dict[str, str]:
        """The texts of the files that the stack at a step names, as far as they travel with the agent.

        index: of the step, from 0. Raises `IndexError`.
        """
        moment, snapshot = self._moment(index)
        return {} if snapshot is None else sources_of(moment.stack, snapshot)

    def results(self, index: int) -> tuple[str, ...]:
        """The keys of what the agent had reported at a step, as far as it was recorded; `index`: of the step."""
        return tuple(key for at, key in self._reports if at <= index)

    def check(self, visit: int) -> str:
        """Whether the record of a stay leads from the state with which it began to the one that the trail has next.

        visit: of the stay

        Empty if it does, exactly; or what is wrong, or what cannot be said. Runs all of the stay.
        """
        visited, record = self._visits[visit], self.records.get(visit)
        stay = next(each for each in self.stays if each.visit == visit)
        if stay.missing or record is None:
            return stay.missing
        replayed = self._replayed(visit)
        try:
            last = replayed.end()
        except Diverged as error:
            return f"the replay departs from the record: {error}"
        if not visited.ends or visited.to is None:
            return ""
        if isinstance(replayed.ended, Finished):
            return "the agent ended here, and the station has signed that it went on"
        if replayed.ended is not None:
            return ""
        left = last.snapshot
        if left.between_tasks or left.stage == "new":
            for task in visited.tasks:
                left = last.snapshot.calling(visited.to.text, task)
                if canonical.digest(left.encode()) == visited.ends:
                    return ""
        if canonical.digest(last.snapshot.encode()) == visited.ends:
            return ""
        following = self.records.get(visit + 1)
        if following is None or canonical.digest(following.state) != visited.ends:
            return "what it left with cannot be compared: the next station kept nothing"
        wrong = difference_of(self._image(left), left, Snapshot.decode(following.state))
        return f"the replay ends in another state than the station has signed: {wrong} differ" if wrong else ""

    def value(self) -> dict[str, Any]:
        """As plain values, for JSON: the stays and the steps."""
        return {
            "agent": self.id,
            "label": self.label,
            "stays": [each.value() for each in self.stays],
            "steps": [each.value() for each in self.steps],
        }


def _visits(steps: Sequence[tuple[Any, Any]], point: Any, passport: Passport) -> list[_Visited]:
    """The stays of a trail, with the one that is not over."""
    found = []
    home, itinerary = passport.home.station, passport.itinerary
    state, arrived = passport.state, 0
    for _, signed in steps:
        body = signed.body
        if isinstance(body, CloneStatement):
            state = body.state  # the clone goes on from here
        elif isinstance(body, Visit):
            ends = body.state_out if body.next is not None else b""
            times = body.arrived, body.departed
            tasks: Collection[str] = ()
            if body.next is not None and itinerary.has_tasks:
                tasks = itinerary.tasks(itinerary.reach(body.position, body.next, body.departed, home))
            found.append(_Visited(body.index, body.station, body.state_in, ends, *times, body.next, tuple(tasks)))
            state, arrived = body.state_out, body.departed
    over = bool(found) and found[-1].to is None
    if not over:
        holder = point.holder if found else home
        found.append(_Visited(point.index, holder, state, b"", arrived, 0, None))
    return found


def _step(index: int, visit: int, station: str, call: Step) -> JourneyStep:
    result, error = "", call.errno
    if call.errno:
        result = f"error {call.errno}: {shown(call.reason)[1:-1]}"
    elif isinstance(call.result, Failed | Refused):
        result, error = f"error {call.result.errno}: {shown(call.result.reason)[1:-1]}", call.result.errno
    elif isinstance(call.result, Event):
        values = [getattr(call.result, each.name) for each in type(call.result).__attrs_attrs__]
        result = ", ".join(shown(each) for each in values) or type(call.result).__name__.lower()
    elif call.result is not None:
        result = shown(call.result)
    args = said("", *call.args)[1:-1]
    return JourneyStep(index, visit, station, call.name, args, result, error, call.entry)
