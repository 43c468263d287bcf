"""Journeys, looked at again: step by step, forward and backward, with the state at each point and what changed.

    journey = await station.replay(agent, owner=key)      # or docking.replay.files.read_journey(data)
    for step in journey.steps:
        print(step.line(), journey.state(step.index).stack.frames[:1], journey.changes(step.index))

`Journey` is what commands and the console use. Nothing here knows a station: records come in, as they were kept or sent
(`docking.recordings`), and are compared with the signed trail.
"""

from docking.replay.changes import Changes, MemoryRange
from docking.replay.journey import Journey, JourneyStay, JourneyStep
from docking.replay.moments import Moment

__all__ = ["Changes", "Journey", "JourneyStay", "JourneyStep", "MemoryRange", "Moment"]
