"""A program full of NaNs, float hashes and relaxed vector instructions, moved between engines and processors."""

from __future__ import annotations

import pytest

from agents import engines
from tests.thorough import THOROUGH

from .nan_journey import packed, travelled

PART = 1 if THOROUGH else 23


@pytest.fixture(scope="module")
def image():
    return packed(PART)


def test_it_shows_the_same_in_v8_and_on_the_way_between_engines(image) -> None:
    if "v8" not in engines.available():
        pytest.skip("no Node.js that is new enough")
    expected, _ = travelled(image, ["wasmtime"])
    assert travelled(image, ["v8"]) == (expected, 0)
    found, hops = travelled(image, ["wasmtime", "v8"])
    assert found == expected
    assert hops > 100
