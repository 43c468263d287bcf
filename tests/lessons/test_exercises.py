"""The exercises of `portcall lesson check`: a right agent is right, and of a wrong one it is said what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.sdk.sources import load_image, user_cache
from docking.lessons.exercises import EXERCISES, Exercise, Verdict
from tests.cli.shell import Shell

pytestmark = pytest.mark.sweep

SOLUTIONS = Path(__file__).with_name("solutions")
ROUND = 'import portcall\nfor place in ["alpha", "beta", "gamma"]:\n    portcall.go(place)\n'
ORDER = """import portcall
portcall.go("alpha")
for number in range(3):
    try:
        portcall.call("shop.order", REQUEST)
        break
    except OSError:
        pass
"""


def solution(exercise: Exercise) -> Path:
    return SOLUTIONS / (exercise.title.lower().replace(" ", "_") + ".py")


def checked(number: int, path: Path) -> Verdict:
    return EXERCISES[number - 1].check(load_image(path, cache=user_cache()))


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.title)
def test_a_solution_is_right(exercise: Exercise) -> None:
    verdict = checked(exercise.number, solution(exercise))
    assert verdict.right, verdict.value()
    assert verdict.end == f"Exercise {exercise.number} is done."
    assert verdict.said == ()


@pytest.mark.parametrize(
    ("number", "source", "said"),
    [
        (1, ROUND, "it should print the name of alpha, beta, gamma while it is there"),
        (1, ROUND.replace('"alpha", ', ""), "in this order, and went to beta, gamma"),
        (1, "1 / 0", "it ended at home with exit code 1, which means an error"),
        (1, "while True:\n    pass", "it did not come to its end: it was stopped at home, as its last lines say"),
        (2, ROUND + 'portcall.report("total", 49)', "it should report total: 101 when the stations have other numbers"),
        (2, ROUND, "it should report '49' under the key 'total', and reported nothing"),
        (3, ROUND, "when beta does not answer, it ended at alpha with exit code 1"),
        (4, ROUND, "when its way is gamma,alpha, it ended at home with exit code 1"),
        (5, ROUND, "it should ask shop.order again when the call fails, and asked 0 time(s)"),
        (5, ORDER.replace("REQUEST", "str(number)"), "its requests differ (0, 1): the shop"),
        (5, ORDER.replace("REQUEST", '"bread"'), "its request has no number of its own"),
        (6, ROUND, "it should clone itself once, and made 0 clones"),
        (7, 'import portcall\nportcall.report("backwards", portcall.recv())', "it should report backwards: ruobrah"),
        (8, (SOLUTIONS / "add_up.py").read_text(), "it should go to alpha, beta, gamma, delta, epsilon"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(number: int, source: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(source)
    verdict = checked(number, tmp_path / "agent.py")
    wrong = [point.sentence for point in verdict.points if not point.right]
    assert any(said in sentence for sentence in wrong), wrong
    assert not verdict.right
    assert "to go" in verdict.end


def test_the_command(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert len(shell.json("lesson", "exercises")) == len(EXERCISES)
    assert shell("lesson", "check", "4", str(solution(EXERCISES[3]))).endswith("Exercise 4 is done.\n")
    (tmp_path / "wrong.py").write_text(ROUND)
    value = shell("lesson", "check", "1", "wrong.py", "--json", code=1)
    assert value == ""
    assert "there is no exercise 9: they are 1 to 8" in shell("lesson", "check", "9", "wrong.py", code=2)
    assert "there is no file absent.py" in shell("lesson", "check", "1", "absent.py", code=1)
    (tmp_path / "broken.py").write_text("def f(:\n")
    assert "broken.py" in shell("lesson", "check", "1", "broken.py", code=1)


def test_the_page_has_the_tasks() -> None:
    page = (Path(__file__).parents[2] / "docs" / "lessons" / "exercises.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    told = [(int(row[0][2:]), row[1], row[2].removesuffix(" |")) for row in rows]
    assert told == [(each.number, each.title, each.task) for each in EXERCISES]
