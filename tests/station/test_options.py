"""How a station takes its options: in groups, field by field, and by the names that fields had before."""

from __future__ import annotations

from typing import Any

import pytest

import docking
from docking.handoff.actions import Timing
from docking.options import StationOptions


def test_a_group_is_taken_whole_and_a_field_by_its_name() -> None:
    whole = StationOptions.of({"network": docking.Network(port=7707)}, {"engine": "wasmer"})
    assert (whole.network.port, whole.running.engine) == (7707, "wasmer")
    assert StationOptions.of({}, {"port": 7707}).network == whole.network


@pytest.mark.parametrize(
    ("groups", "fields", "said"),
    [
        ({}, {"prot": 1}, "did you mean 'port'"),
        ({}, {"nonsense": 1}, "no option 'nonsense'"),
        ({"network": docking.Network()}, {"port": 1}, "not both"),
        ({"network": docking.Timing()}, {}, "network is a docking.Network"),
    ],
)
def test_what_is_no_option_is_a_type_error(groups: dict[str, Any], fields: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        StationOptions.of(groups, fields)


def test_former_names_of_fields_still_work() -> None:
    former = Timing(offer_again=1.0, want_kept=2.0, patience=3.0)  # type: ignore[call-arg]
    assert former == Timing(offer_again_s=1.0, want_kept_s=2.0, patience_s=3.0)
    assert (former.patience, former.longest) == (3.0, 60.0)  # type: ignore[attr-defined]
    assert docking.Terms(lifetime=5).lifetime_ms == 5  # type: ignore[call-arg]
    assert StationOptions.of({}, {"patience": 3.0}) == StationOptions.of({}, {"patience_s": 3.0})
    assert StationOptions.of({"timing": former}, {"patience": 4.0}).timing.patience_s == 4.0
