"""Each ping is answered once, wherever both are by then."""

from pathlib import Path

from docking.testing import play

SOURCE = Path(__file__).with_name("ping_pong.py")


def test_each_ping_has_its_pong() -> None:
    trial = play(SOURCE, via="(beta|gamma)*6")
    lines = [f"ping to {place}: pong from {place}" for place in ("gamma", "beta", "gamma", "beta")]
    assert trial.output.splitlines() == lines, trial.errors
