"""How much of each sweep is tried: a part of it, spread evenly; with PORTCALL_THOROUGH=1 all of it.

`make test` is for every change and takes minutes; `PORTCALL_THOROUGH=1 make test` is for a change of what is swept, and
takes most of an hour. The fuzzers and the crash matrix go on for as long as they may: see CONTRIBUTING.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")
THOROUGH = bool(os.environ.get("PORTCALL_THOROUGH"))


def examples(count: int) -> int:
    """How many examples hypothesis makes, where `count` are enough for every change."""
    return 10 * count if THOROUGH else count


def one_in(step: int, cases: Iterable[T]) -> list[T]:
    """Every `step`-th case."""
    return list(cases)[:: 1 if THOROUGH else step]
