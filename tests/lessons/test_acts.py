"""The acts of `portcall lesson`: they check their claims themselves; here, that they are shown, paced and ended well.

Each act also is a page of the documentation, which is run as it stands (tests/docs).
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from docking.lessons import act_crash, act_station
from docking.lessons.acts import ACTS
from docking.lessons.land import PROGRAMS, folder, land, until
from docking.lessons.mallory import Mallory, answered
from docking.lessons.mortal import pair
from docking.lessons.stage import LessonFailed, Stage
from tests.cli.shell import Shell, typed
from tests.patience import PATIENCE


def test_a_claim_that_does_not_hold_ends_the_act() -> None:
    stage = Stage()
    stage.holds("so it is", True)
    with pytest.raises(LessonFailed, match="this does not hold here: it is not"):
        stage.holds("it is not", False)
    assert [(step["text"], step["so"]) for step in stage.steps] == [("so it is", True), ("it is not", False)]


def test_what_is_shown() -> None:
    written: list[str] = []
    stage = Stage(written.append)
    stage.title("a")
    stage.code("one\n\ntwo\n", at=3)
    stage.title("b")
    stage.table(["x", "long name"], [["wide cell", 1]])
    for number in range(2):
        stage.row(["n", "m"], [3, 0], [number, "z"], number == 0)
    assert written == [
        "a",
        "    one",
        "",
        "->  two",
        "",
        "b",
        "  x          long name",
        "  wide cell  1",
        "  n    m",
        "  0    z",
        "  1    z",
    ]
    assert stage.steps[-1] == {"kind": "table", "rows": [{"n": "0", "m": "z"}, {"n": "1", "m": "z"}]}


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_every_act_is_a_page(act: object) -> None:
    name = getattr(act, "name", "")
    page = (Path(__file__).parents[2] / "docs" / "lessons" / f"{name}.md").read_text(encoding="utf-8")
    assert f"$ portcall lesson {name}\n" in page
    assert "## Questions" in page


def test_the_list_and_an_act_as_json(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert [row["name"] for row in shell.json("lesson")] == [act.name for act in ACTS]
    by_name, by_number = shell.json("lesson", "weak"), shell.json("lesson", "2")
    assert by_name["title"] == by_number["title"] == ACTS[1].title
    claims = [step["so"] for step in by_name["steps"] if step["kind"] == "holds"]
    assert claims == [True, True]
    said = shell("lesson", "strng", code=2)
    assert "No such command 'strng'" in said or "no such command" in said


def test_on_a_terminal_it_waits_for_enter_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    """With everything that it started: stations are threads of it, folders are removed."""
    ours, theirs = pty.openpty()
    environment = {**Shell(tmp_path).environment, "TMPDIR": str(tmp_path), "NO_COLOR": "1"}
    process = subprocess.Popen(
        typed("lesson", "laptop"), stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    said = b""
    for _ in range(2):
        while not said.endswith(b"[Enter] "):
            said += os.read(ours, 4096)
        before, said = said, b""
        os.write(ours, b"\n")
        assert before
    while not said.endswith(b"[Enter] "):
        said += os.read(ours, 4096)
    assert list(tmp_path.glob("portcall-lesson-*"))
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    os.close(ours)
    assert not list(tmp_path.glob("portcall-lesson-*"))


def test_a_station_that_is_killed_starts_again_and_none_is_left() -> None:
    with folder() as place:
        with pair(place, "alpha", "beta") as stations:
            alpha = stations["alpha"]
            first = alpha.pid
            os.kill(first, signal.SIGKILL)
            until("it is dead", lambda: alpha.dead)
            stations.revive()
            assert (alpha.deaths, stations["beta"].deaths) == (1, 0)
            assert alpha.pid != first
            assert alpha.connection().agents() == []
            last = [station.pid for station in stations.stations.values()]
        for pid in last:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_station_that_cannot_start_says_why() -> None:
    with folder() as place:
        (place / "alpha").write_text("not a folder")
        with pytest.raises(Exception, match="alpha"), pair(place, "alpha"):
            pass


def test_the_crash_is_noticed_as_one() -> None:
    """A point at which the source dies: its ledger is read while it is dead."""
    from agents.sdk.sources import load_image, user_cache

    image = load_image(PROGRAMS / act_crash.FILE, cache=user_cache())
    with folder() as place, pair(place, *act_crash.SIDES) as stations:
        whole, points = act_crash.case(stations, image, None)
        assert (whole.killed, whole.one) == (False, True)
        assert act_crash.Point("alpha", "COMMIT.before-send", 1) in points
        done, _ = act_crash.case(stations, image, act_crash.Point("alpha", "COMMIT.before-send", 1))
        assert (done.killed, done.one) == (True, True)
        assert "alpha: committed" in done.ledgers


def test_an_honest_mallory_is_believed() -> None:
    """Else the act would show nothing: what is refused there is refused for what was altered."""
    with land("alpha", "mallory", "beta", "gamma", "delta") as stations:
        agent = stations.launch("courier.py", via="mallory,(beta|gamma)")
        mallory = until("it is there", lambda: Mallory.holding(stations["mallory"], agent.key))
        codes = [answered(send())[0] for _, _, send in act_station.attempts(mallory, stations)]
        assert all(codes)
        beta = stations["beta"].key
        assert mallory.hand_over(mallory.sign(beta), beta)


def test_json_of_all_acts_is_json(tmp_path: Path) -> None:
    done = json.loads(Shell(tmp_path)("lesson", "agent", "--json", timeout=PATIENCE))
    (table,) = [step["rows"] for step in done["steps"] if step["kind"] == "table"]
    assert len(table) == 12
