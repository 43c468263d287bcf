"""Callbacks of an agent in Python at the events of its life."""

from __future__ import annotations

from pathlib import Path

from docking.testing import play

SCRIPT = """
import portcall

seen = []
for event in ("departing", "arrived", "sleeping", "woken", "cloned", "message"):
    portcall.on(event, lambda event=event: seen.append(event + "@" + portcall.here()))
portcall.go("beta")
portcall.sleep(0.01)
portcall.recv()
if portcall.clone() is not None:
    portcall.on("departing", None)
    portcall.go("gamma")
    print(" ".join(seen))
try:
    portcall.on("nothing", None)
except ValueError as error:
    seen.append(str(error))
"""


def test_what_happens_to_an_agent_is_told_to_it(tmp_path: Path) -> None:
    source = tmp_path / "agent.py"
    source.write_text(SCRIPT)
    trial = play(source, via="beta,gamma?", messages=["hello"])
    told = "departing@home arrived@beta sleeping@beta woken@beta message@beta cloned@beta arrived@gamma\n"
    assert trial.output == told, trial.errors
