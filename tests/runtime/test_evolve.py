"""`agents.evolve` makes what `attrs.evolve` makes."""

from __future__ import annotations

import attrs
import pytest

from agents.evolve import evolve


@attrs.frozen
class Point:
    x: int = attrs.field(validator=attrs.validators.instance_of(int))
    _hidden: str = ""
    twice: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.x)


def test_a_copy_has_the_changes_and_is_checked() -> None:
    point = Point(1, "one")
    assert evolve(point, x=2) == attrs.evolve(point, x=2) == Point(2, "one")
    assert evolve(point, hidden="two") == attrs.evolve(point, hidden="two") == Point(1, "two")
    assert evolve(point) == point
    assert evolve(point, x=4).twice == 8
    with pytest.raises(TypeError):
        evolve(point, x="none")
    with pytest.raises(TypeError):
        evolve(point, z=1)
