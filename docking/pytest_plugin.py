"""The fixtures `agent` and `stations` of pytest; see `docking.testing`.

pytest imports this module in every environment where the distribution is installed, so it imports nothing else before
a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from docking.testing import Stations, Trial


@pytest.fixture
def agent(request: pytest.FixtureRequest) -> Callable[..., Trial]:
    """Runs an agent with stations that are played: `agent("stock.py", via="alpha,beta", services={...})`.

    As `docking.testing.play`; a relative path begins in the folder of the test. What the agent printed and logged is
    printed, with the station of each line, so pytest shows it when the test fails.
    """
    from docking.testing import play

    def run(source: Any, **options: Any) -> Trial:
        trial = play(source, folder=request.path.parent, **options)
        for each in (trial, *trial.clones):
            for line in each.lines:
                print(f"{line.station}: {line.text}")
            if each.exit_code is None:
                print(f"{each.visited[-1]}: {each.outcome}")
        return trial

    return run


@pytest.fixture
def stations(request: pytest.FixtureRequest) -> Iterator[Stations]:
    """Starts real stations: `alpha, beta = stations("alpha", "beta")`; they are stopped after the test.

    As `docking.testing.Stations`; a relative path begins in the folder of the test.
    """
    from docking.testing import Stations

    with Stations(request.path.parent) as made:
        yield made
