"""How what a command printed is compared with what a page shows."""

from __future__ import annotations

import pytest

from tests.docs.pages import matches


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a  b"], ["a  b"], True),
        (["a  b"], ["a          b"], True),  # a longer name elsewhere in the table
        (["a  b"], ["a b"], False),
        (["a b"], ["a  b"], False),
        (["    a"], ["  a"], False),  # an indent is part of what is shown
        (["..."], [], True),
        (["...", "green  http://...  yes", "..."], ["alpha  x  yes", "green   http://h  k  yes", "zeta"], True),
        (["...", "green  ...", "..."], ["alpha  x", "zeta"], False),
        (["x"], ["x", "y"], False),
        (["1.5 ms"], ["1x5 ms"], False),
        ([], [""], False),
    ],
)
def test_a_sample_and_what_is_printed(shown: list[str], printed: list[str], same: bool) -> None:
    assert matches(tuple(shown), printed) == same
