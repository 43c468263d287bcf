"""The switch interval is short only while something is copied."""

from __future__ import annotations

import sys

from docking.aio.turns import SHORT_S, short_turns


def test_the_interval_is_short_inside_and_as_before_outside() -> None:
    before = sys.getswitchinterval()
    with short_turns():
        with short_turns():
            assert sys.getswitchinterval() == SHORT_S
        assert sys.getswitchinterval() == SHORT_S
    assert sys.getswitchinterval() == before


def test_what_somebody_else_sets_meanwhile_stays() -> None:
    before = sys.getswitchinterval()
    try:
        with short_turns():
            sys.setswitchinterval(0.02)
        assert abs(sys.getswitchinterval() - 0.02) < 1e-6
    finally:
        sys.setswitchinterval(before)


def test_a_shorter_one_is_left_alone() -> None:
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(0.0001)
        with short_turns():
            assert sys.getswitchinterval() < SHORT_S
        assert sys.getswitchinterval() < SHORT_S
    finally:
        sys.setswitchinterval(before)
