"""`pytest` in this folder runs the agent: with stations that are played, and at real ones."""

import pytest


def test_it_reports_what_each_station_says(agent):
    degrees = {"thermometer.read@greenhouse": "21.5", "thermometer.read@cellar": "12"}
    trial = agent("survey.py", via="greenhouse,cellar", services=degrees)
    assert trial.output == "it is 21.5 degrees at greenhouse\nit is 12 degrees at cellar\n"
    assert [(result.station, result.text) for result in trial.results] == [("greenhouse", "21.5"), ("cellar", "12")]


@pytest.mark.parametrize("missing", ["service", "station"])
def test_it_ends_where_something_is_missing(agent, missing):
    down = ["greenhouse"] if missing == "station" else []
    trial = agent("survey.py", via="greenhouse", down=down)
    assert trial.exit_code == 1
    assert trial.results == ()


def test_it_travels_between_real_stations(stations):
    _, greenhouse = stations("office", "greenhouse")
    greenhouse.offer("thermometer.read", lambda request, visitor: b"21.5")
    report = stations.run("survey.py", via="greenhouse")
    assert [result.text for result in report.results] == ["21.5"]
    assert [stay.station for stay in report.trail] == ["office", "greenhouse"]
