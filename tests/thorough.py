"""How much is tried.

`make test` is for every change and takes minutes. It leaves out tests with the mark `sweep`: whole programs, pages and
processes by the dozen, each of which rarely says what the others do not. `PORTCALL_SWEEPS=1 make test` has them, and so
has whoever names a file or folder of tests. Of the sweeps within tests it tries a part, spread evenly;
`PORTCALL_THOROUGH=1 make test` is for a change of what is swept, tries all of it, and takes most of an hour. The
fuzzers and the crash matrix go on for as long as they may: see CONTRIBUTING.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")
THOROUGH = bool(os.environ.get("PORTCALL_THOROUGH"))
SWEEPS = THOROUGH or bool(os.environ.get("PORTCALL_SWEEPS"))


def examples(count: int) -> int:
    """How many examples hypothesis makes, where `count` are enough for every change."""
    return 10 * count if THOROUGH else count


def one_in(step: int, cases: Iterable[T]) -> list[T]:
    """Every `step`-th case."""
    return list(cases)[:: 1 if THOROUGH else step]
