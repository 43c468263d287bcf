"""The exercises: what an agent shall do, and a check that runs it and says in a sentence what is right and what is not.

Checks run a student's agent in the engine of stations, with stations that are played (`docking.testing.play`): in
milliseconds, and the same each time. Invariant: a check judges what the agent did, not how it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from attrs import evolve, field, frozen

from agents.brief import brief
from agents.image import AgentImage
from docking.errors import ServiceFailed
from docking.launching import DEFAULT_PERMIT
from docking.residents.services import Offering, Visitor
from docking.testing import Trial, play

CPU_US = 10_000_000  # that an agent may use in one run
SAID = 4  # lines of its errors that are shown
PERMIT = evolve(DEFAULT_PERMIT, budget=evolve(DEFAULT_PERMIT.budget, cpu=CPU_US))
STOCKS = ({"alpha": 12, "beta": 30, "gamma": 7}, {"alpha": 1, "beta": 0, "gamma": 100})
EIO = 29


@frozen
class Point:
    """One thing that was looked at. `right`: whether it is; `sentence`: what was seen."""

    right: bool
    sentence: str


@frozen
class Verdict:
    """What came of a check. `said`: the last lines of the agent's errors, where something is not right."""

    number: int
    points: tuple[Point, ...] = field(repr=brief)
    said: tuple[str, ...] = field(default=(), repr=brief)

    @property
    def right(self) -> bool:
        """Whether all of it is."""
        return all(point.right for point in self.points)

    @property
    def end(self) -> str:
        """The last sentence."""
        if self.right:
            return f"Exercise {self.number} is done."
        left = sum(not point.right for point in self.points)
        return f"Exercise {self.number}: {left} of {len(self.points)} to go."

    def value(self) -> dict[str, Any]:
        """As plain values."""
        points = [{"right": point.right, "sentence": point.sentence} for point in self.points]
        return {"exercise": self.number, "right": self.right, "points": points, "said": list(self.said)}


Judge: TypeAlias = "Callable[[Runs], Iterator[Point]]"


class Runs:
    """Runs of one agent. `trials`: all so far."""

    def __init__(self, image: AgentImage) -> None:
        self._image = image
        self.trials: list[Trial] = []

    def __call__(self, **options: Any) -> Trial:
        """Play it; `options` are those of `docking.testing.play`."""
        trial = play(self._image, permit=PERMIT, **options)
        self.trials.append(trial)
        return trial


@frozen(eq=False, repr=False)
class Exercise:
    """One exercise. `task`: what the agent shall do; `judge`: looks at runs of it."""

    number: int
    title: str
    task: str
    judge: Judge

    def check(self, image: AgentImage) -> Verdict:
        """Run an agent, and judge it. Raises what `docking.testing.play` raises for an image that cannot run."""
        runs = Runs(image)
        points = tuple(self.judge(runs))
        said: list[str] = []
        if not all(point.right for point in points):
            said = [line for trial in runs.trials for line in trial.errors.splitlines() if line.strip()][-SAID:]
        return Verdict(self.number, points, tuple(said))

    def value(self) -> dict[str, Any]:
        """As plain values."""
        return {"exercise": self.number, "title": self.title, "task": self.task}


def _either(so: bool, right: str, wrong: str) -> Point:
    return Point(so, right if so else wrong)


def _ended(trial: Trial, when: str = "") -> Point:
    if trial.exit_code == 0:
        return Point(True, f"{when}it came to its end, with exit code 0")
    if trial.exit_code is None:
        return Point(
            False, f"{when}it did not come to its end: it was stopped at {trial.visited[-1]}, as its last lines say"
        )
    return Point(False, f"{when}it ended at {trial.visited[-1]} with exit code {trial.exit_code}, which means an error")


def _route(trial: Trial, wanted: Sequence[str], when: str = "") -> Point:
    went = ", ".join(trial.visited[1:]) or "nowhere"
    if list(trial.visited[1:]) == list(wanted):
        return Point(True, f"{when}it went to {went}")
    order = ", in this order," if len(wanted) > 1 else ""
    return Point(False, f"{when}it should go to {', '.join(wanted)}{order} and went to {went}")


def _reported(trial: Trial, key: str, wanted: str, why: str = "") -> Point:
    found = [result.text.strip() for result in trial.results if result.key == key]
    if found == [wanted]:
        return Point(True, f"it reported {key}: {wanted}")
    if not found:
        keys = ", ".join(sorted({result.key for result in trial.results})) or "nothing"
        return Point(False, f"it should report {wanted!r} under the key {key!r}{why}, and reported {keys}")
    return Point(False, f"it should report {key}: {wanted}{why}, once, and reported {', '.join(found)}")


def _stock(stock: dict[str, int]) -> Callable[[Offering], None]:
    def services(station: Offering) -> None:
        if station.name in stock:
            station.offer("stock.count", lambda request: str(stock[station.name]))

    return services


def _round(runs: Runs) -> Iterator[Point]:
    trial = runs()
    yield _ended(trial)
    yield _route(trial, ("alpha", "beta", "gamma"))
    silent = [name for name in ("alpha", "beta", "gamma") if not _spoke(trial, name)]
    yield _either(
        not silent,
        "it printed each name, at the station of that name",
        f"it should print the name of {', '.join(silent)} while it is there",
    )


def _spoke(trial: Trial, name: str) -> bool:
    return any(line.station == name and name in line.text for line in trial.lines)


def _sum(runs: Runs) -> Iterator[Point]:
    for number, stock in enumerate(STOCKS):
        trial = runs(services=_stock(stock))
        if number == 0:
            yield _ended(trial)
            yield _route(trial, tuple(stock))
        why = "" if number == 0 else " when the stations have other numbers"
        yield _reported(trial, "total", str(sum(stock.values())), why)


def _closed(runs: Runs) -> Iterator[Point]:
    for down, rest in (("beta", ("alpha", "gamma")), ("gamma", ("alpha", "beta"))):
        trial, when = runs(down=[down]), f"when {down} does not answer, "
        yield _ended(trial, when)
        yield _route(trial, rest, when)
        yield _reported(trial, "closed", down, f" when {down} does not answer")
    trial = runs()
    none = not [result for result in trial.results if result.key == "closed"]
    yield _either(
        none,
        "where all answer it reports nothing as closed",
        "where all answer it should report nothing as closed",
    )


def _way(runs: Runs) -> Iterator[Point]:
    for way in ("alpha,beta,gamma", "gamma,alpha", "beta"):
        trial, when = runs(via=way), f"when its way is {way}, "
        yield _ended(trial, when)
        yield _route(trial, way.split(","), when)


def _once(runs: Runs) -> Iterator[Point]:
    asked: list[str] = []

    def order(request: bytes, visitor: Visitor) -> str:
        asked.append(request.decode("utf-8", "replace"))
        if len(asked) == 1:
            # It has been ordered, and the answer is lost.
            raise ServiceFailed("the answer was lost", EIO)
        return f"ordered {asked[-1]}"

    trial = runs(services={"shop.order@alpha": order})
    yield _ended(trial)
    yield _route(trial, ("alpha",))
    yield _either(
        len(asked) >= 2,
        "it asked again when the answer was lost",
        f"it should ask shop.order again when the call fails, and asked {len(asked)} time(s)",
    )
    if not asked:
        return
    same = len(set(asked)) == 1
    yield _either(
        same,
        "each time with the same request, so that the shop can tell that it is one order",
        f"its requests differ ({', '.join(asked[:3])}): the shop would take them for several orders",
    )
    numbered = any(each.isdigit() for each in asked[0])
    yield _either(
        numbered,
        "and the request has a number",
        "its request has no number of its own: two orders of two customers would look the same",
    )


def _two(runs: Runs) -> Iterator[Point]:
    trial = runs()
    yield _ended(trial)
    count = len(trial.clones)
    yield Point(count == 1, "it became two" if count == 1 else f"it should clone itself once, and made {count} clones")
    went = {each.visited[-1] for each in (trial, *trial.clones)}
    apart = count == 1 and went == {"alpha", "beta"}
    yield _either(
        apart,
        "one ended at alpha, the other at beta",
        f"one should end at alpha and one at beta; they ended at {', '.join(sorted(went))}",
    )
    for each in (trial, *trial.clones[:1]):
        yield _reported(each, "was at", each.visited[-1])


def _letter(runs: Runs) -> Iterator[Point]:
    for word in ("harbour", "quay"):
        trial = runs(messages=[word])
        yield _ended(trial, f"when it is sent {word!r}, ")
        yield _reported(trial, "backwards", word[::-1], f" when it is sent {word!r}")
    trial = runs()
    yield _ended(trial, "when nobody writes to it, ")
    yield _reported(trial, "backwards", "nothing came", " when nobody writes to it for a second")


def _nonsense(runs: Runs) -> Iterator[Point]:
    lies = {"alpha": "12", "beta": "\x1b[2Jmany", "gamma": "", "delta": "99999999999999999999", "epsilon": "8"}

    def services(station: Offering) -> None:
        if station.name in lies:
            station.offer("stock.count", lambda request: lies[station.name])

    trial = runs(services=services, via=",".join(lies))
    yield _ended(trial)
    yield _route(trial, tuple(lies))
    yield _reported(
        trial, "total", "20", ": only alpha and epsilon say how many they have, in a number below a million"
    )


TASKS: tuple[tuple[str, str, Judge], ...] = (
    ("Go round", "Go to alpha, beta and gamma, and print the station's name at each.", _round),
    (
        "Add up",
        "At alpha, beta and gamma ask the service stock.count, and report the sum under the key total.",
        _sum,
    ),
    (
        "A closed door",
        "Go to alpha, beta and gamma. One may not answer: report its name under the key closed, and go on to the next.",
        _closed,
    ),
    ("Follow the way", "Go wherever your itinerary leads, whatever it is, and end.", _way),
    (
        "Ordered once",
        "At alpha, order with the service shop.order. The answer may be lost after the shop has taken the order: ask "
        "again, so that the shop can see that it is the same order.",
        _once,
    ),
    (
        "Two of you",
        "Clone yourself: one goes to alpha, the other to beta, and each reports where it is under the key was at.",
        _two,
    ),
    (
        "A letter",
        "Wait a second for a message, and report it backwards under the key backwards; or 'nothing came' if none came.",
        _letter,
    ),
    (
        "Believe nobody",
        "Follow your itinerary and ask stock.count everywhere. Stations may answer with nonsense: add up what is a "
        "number below a million, and report it under the key total.",
        _nonsense,
    ),
)
EXERCISES = tuple(Exercise(number, *each) for number, each in enumerate(TASKS, 1))
