"""Each station is looked through by a clone, and one that is down for a while is waited for."""

from pathlib import Path

from docking.testing import play

SOURCE = Path(__file__).with_name("grep.py")

TEXTS = {"texts@alpha": "a whale\na ship\n", "texts@beta": "nothing", "texts@gamma": "the whale again"}


def test_the_lines_that_have_the_word() -> None:
    trial = play(SOURCE, args=["whale"], services=TEXTS, via="(alpha|beta|gamma)?")
    assert trial.output == "alpha: a whale\ngamma: the whale again\n3 of 3 stations have answered\n", trial.errors


def test_a_station_that_is_down_for_a_while() -> None:
    trial = play(SOURCE, args=["whale"], services=TEXTS, via="(alpha|beta|gamma)?", down={"gamma": 0.001})
    assert "gamma: the whale again" in trial.output or "2 of 2" in trial.output
