"""`pytest` in this folder runs the agent with stations that are played."""


def test_it_greets_everywhere(agent):
    trial = agent("hello.wat")
    assert [(line.station, line.text) for line in trial.lines] == [
        (place, f"info: hello from {place}") for place in ("home", "alpha", "beta", "gamma")
    ]
