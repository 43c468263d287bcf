"""Abbreviations: the shapes of entries, which units share. Each tells how to pass over an entry of no interest."""

from __future__ import annotations

import attrs

from agents.brief import brief
from agents.errors import BadDwarf

from .cursor import OBJECT, Budget, Cursor
from .forms import Forms

_IMPLICIT_CONST = 0x21


@attrs.frozen
class Attribute:
    """`constant`: the value, where the shape has it (DW_FORM_implicit_const)."""

    name: int
    form: int
    constant: int = 0


@attrs.frozen
class Shape:
    """The shape of an entry. `passing`: sizes to pass over, and as negative numbers the forms of varying size."""

    tag: int
    has_children: bool
    attributes: tuple[Attribute, ...] = attrs.field(repr=brief)
    passing: tuple[int, ...] = attrs.field(repr=brief)


def read_shapes(forms: Forms, offset: int, budget: Budget) -> dict[int, Shape]:
    """The shapes of a unit, by their numbers. Raises `BadDwarf`."""
    at = Cursor(forms.section(".debug_abbrev"), offset)
    found: dict[int, Shape] = {}
    while code := at.unsigned():
        tag, has_children = at.unsigned(), bool(at.number(1))
        attributes = []
        while True:
            budget.spend(OBJECT)
            name, form = at.unsigned(), at.unsigned()
            if not name and not form:
                break
            attributes.append(Attribute(name, form, at.signed() if form == _IMPLICIT_CONST else 0))
        found[code] = Shape(tag, has_children, tuple(attributes), _passing(forms, attributes))
    return found


def _passing(forms: Forms, attributes: list[Attribute]) -> tuple[int, ...]:
    steps: list[int] = []
    for attribute in attributes:
        size = forms.size(attribute.form, forms.offset_size)
        if size is None:
            steps.append(-attribute.form)
        elif steps and steps[-1] >= 0:
            steps[-1] += size
        else:
            steps.append(size)
    return tuple(steps)


def pass_over(forms: Forms, at: Cursor, shape: Shape) -> None:
    """Pass over an entry. Raises `BadDwarf`."""
    for step in shape.passing:
        if step >= 0:
            at.skip(step)
        else:
            forms.skip(at, -step, forms.offset_size)


def read_entry(forms: Forms, at: Cursor, shape: Shape) -> dict[int, tuple[int, int]]:
    """The attributes of an entry: name -> value and form. Raises `BadDwarf`."""
    found = {}
    for each in shape.attributes:
        value = each.constant if each.form == _IMPLICIT_CONST else forms.read(at, each.form, forms.offset_size)
        found[each.name] = (value, each.form)
    return found


def shape_at(shapes: dict[int, Shape], at: Cursor) -> Shape | None:
    """The shape of the entry that begins here; None where a list of children ends. Raises `BadDwarf`."""
    code = at.unsigned()
    if not code:
        return None
    shape = shapes.get(code)
    if shape is None:
        raise BadDwarf(f"an entry of the unknown shape {code}")
    return shape
