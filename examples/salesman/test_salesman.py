"""The shortest way, with whatever stations there are."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from docking.testing import play

SOURCE = Path(__file__).with_name("salesman.py")


def one_way(way: Sequence[str]) -> tuple[str, ...]:
    """A round trip, in that of its two directions that comes first."""
    return min(tuple(way), (way[0], *way[:0:-1]))


def best() -> tuple[str, ...]:
    """The shortest of all ways, tried one after the other."""
    names: dict[str, object] = {}
    exec(SOURCE.read_text().split("def shortest")[0].replace("import portcall", ""), names)
    apart, start, others = names["apart"], names["START"], names["OTHERS"]

    def length(way: tuple[str, ...]) -> float:
        return sum(apart(one, other) for one, other in zip(way, (*way[1:], start), strict=True))

    return min(((start, *rest) for rest in itertools.permutations(others)), key=length)


def test_the_way_is_the_same_however_many_share_the_work() -> None:
    one = play(SOURCE, services={"room@alpha": "yes"}, via="alpha")
    ways = {one.results[0].text}
    for names in (["alpha", "beta"], ["alpha", "beta", "gamma", "delta"]):
        trial = play(SOURCE, services={f"room@{name}": "yes" for name in names}, via=f"({'|'.join(names)})?")
        assert len(trial.clones) == len(names)
        ways.add(trial.results[0].text)
    assert {one_way(text.split("-")) for text in ways} == {one_way(best())}
