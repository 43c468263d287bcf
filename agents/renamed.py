"""Former names of a class's fields, which keep working: as keywords, and as attributes.

Only for public classes. Each use is one more call when an object is made, so not for what a hop makes many of.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def renamed(**names: str) -> Callable[[type[T]], type[T]]:
    """A class decorator: `former="now"` for each field that had another name."""

    def decorate(cls: type[T]) -> type[T]:
        made = cls.__init__

        @functools.wraps(made)
        def init(self: T, *args: Any, **fields: Any) -> None:
            for former in fields.keys() & names.keys():
                fields[names[former]] = fields.pop(former)
            made(self, *args, **fields)

        cls.__init__ = init  # type: ignore[method-assign, assignment]
        for former, now in names.items():
            setattr(cls, former, property(operator.attrgetter(now), doc=f"The former name of `{now}`."))
        return cls

    return decorate
