"""Agents in Python that stand still, to be read."""

from __future__ import annotations

from pathlib import Path

import agents
from agents.image import AgentImage
from agents.outcomes import Departing, Waiting
from agents.rewrite.options import Polls
from agents.sdk.sources import Choices, load_image, user_cache
from agents.snapshot import Snapshot
from agents.stack import Stack, StackFrame, stack_of

AGENT = "/agent/agent.py"


def packed(script: str, folder: Path, polls: Polls = "loops") -> AgentImage:
    source = folder / "agent.py"
    source.write_text(script)
    return load_image(source, Choices(polls=polls), cache=user_cache())


def halted(image: AgentImage) -> Snapshot:
    """The agent in its first `go`, or in another wait."""
    outcome = agents.run(image)
    assert isinstance(outcome, (Departing, Waiting)), outcome
    return outcome.snapshot


def python_stack(script: str, folder: Path) -> Stack:
    image = packed(script, folder)
    stack = stack_of(image, halted(image))
    assert (stack.language, stack.note) == ("python", "")
    return stack


def own(stack: Stack) -> list[StackFrame]:
    """The frames of the agent's script, outermost first."""
    return [frame for frame in reversed(stack.frames) if frame.file == AGENT]


def values(frame: StackFrame) -> dict[str, str]:
    assert len({each.name for each in frame.variables}) == len(frame.variables)
    return {each.name: each.value for each in frame.variables}
