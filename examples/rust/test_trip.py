"""`pytest` in this folder runs the agent with stations that are played."""


def test_its_route(agent):
    trial = agent("trip.rs")
    assert trial.exit_code == 0
    assert trial.visited == ("home", "alpha", "beta", "gamma")
    assert [(result.key, result.text) for result in trial.results] == [("route", "alpha beta gamma")]


def test_it_passes_by_a_station_that_is_down(agent):
    trial = agent("trip.rs", down=["beta"])
    assert [line.text.removeprefix("info: ") for line in trial.lines if line.station == "alpha"][-1:] == [
        "beta cannot be reached: error 23"
    ]
    assert [result.text for result in trial.results] == ["alpha gamma"]
