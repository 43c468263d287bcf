"""The disconnected laptop: its agent works while it is closed, and the results come when it is opened."""

from __future__ import annotations

from docking.lessons.land import folder, is_over, land, program, until
from docking.lessons.stage import Stage
from docking.threaded import Threaded


def _letters(station: Threaded) -> int:
    """How many letters wait there to be delivered."""
    store = station.station.core.here.store
    return station.call(lambda: len(store.letters(1 << 50, 100)))


def act(stage: Stage) -> None:
    """See `docking.lessons.acts`."""
    stage.title("A laptop is the home of an agent that shall go to beta and gamma:")
    stage.code(program("errand.py"))
    with folder() as homes, land("laptop", "beta", "gamma", home=homes) as stations:
        agent = stations.launch("errand.py", via="beta,gamma")
        name, key = agent.id, agent.key
        stage.say(f"the agent {name[:12]} begins at the laptop")
        until("it has left", lambda: agent.where() != "laptop")
        stations.stop("laptop")
        stage.say("it has left. The laptop is closed: its station has ended, and nobody answers at its address")
        stage.pause()
        stage.title("The agent goes on:")
        gamma = stations["gamma"]
        until("it has ended at gamma", lambda: is_over(gamma, key))
        stage.holds("it was at beta and gamma, and has ended there", True)
        until("its end is in the outbox", lambda: _letters(gamma) > 0)
        stage.say(
            f"gamma keeps the end of the journey for the laptop, on its disk: {_letters(gamma)} letter in its outbox"
        )
        stage.pause()
        stage.title("Gamma is even started again meanwhile; the letter stays:")
        stations.stop("gamma")
        gamma = stations.start("gamma")
        stage.holds("it is there", _letters(gamma) > 0)
        stage.pause()
        stage.title("The laptop is opened:")
        laptop = stations.start("laptop")
        report = laptop.agent(name, stations.owner).wait(120)
        stage.table(["result", "value", "reported at"], [[r.key, r.text, r.station] for r in report.results])
        stage.holds(
            "the whole trail is home, signed and verified",
            [stay.station for stay in report.trail] == ["laptop", "beta", "gamma"],
        )
        until("the letter is gone", lambda: _letters(gamma) == 0)
        stage.holds("gamma's outbox is empty again", True)
