"""An agent that serves, run alone: its requests and answers are those of a `Seeded` place, and can be replayed."""

from __future__ import annotations

import agents
from agents import Finished
from agents.testing import Recording, Replaying, Seeded
from agents.waits import MAX_OPEN_REQUESTS
from docking.testing import play
from tests.serve.servers import python_image

SERVICE = """
import portcall

answers = []

def handler(request):
    answers.append(request.path)
    return 200, {"X-Length": len(request.body)}, request.body

portcall.serve(handler, until=lambda: len(answers) == 2)
"""
HELD = f"""
import portcall

held = [portcall.accept() for _ in range({MAX_OPEN_REQUESTS + 1})]
for request in held:
    try:
        portcall.reply(request, "late")
    except OSError as error:
        portcall.report("refused", request.id + " " + str(error.errno))
"""


def requests(count: int) -> list[tuple[str, bytes]]:
    head = "POST /{} HTTP/1.1\r\nportcall-request: a.{}\r\n\r\nbody"
    return [(f"a.{number}", head.format(number, number).encode()) for number in range(count)]


def test_it_is_asked_and_answers() -> None:
    place = Seeded(1, requests=requests(2))
    recording = Recording(place, place.answer)
    outcome = agents.run(python_image(SERVICE), ambient=recording, answer=recording.answer)
    assert isinstance(outcome, Finished)
    assert place.replied == [(f"a.{n}", b"HTTP/1.1 200 \r\nX-Length: 4\r\n\r\nbody") for n in range(2)]
    replaying = Replaying(recording.record)
    agents.run(python_image(SERVICE), ambient=replaying, answer=replaying.answer)
    assert not replaying.left


def test_the_oldest_of_too_many_requests_can_be_answered_no_more() -> None:
    place = Seeded(1, requests=requests(MAX_OPEN_REQUESTS + 1))
    outcome = agents.run(python_image(HELD), ambient=place, answer=place.answer)
    assert isinstance(outcome, Finished)
    assert place.reported == [("refused", b"a.0 44")]
    assert [ident for ident, _ in place.replied] == [f"a.{n}" for n in range(1, MAX_OPEN_REQUESTS + 1)]


def test_stations_that_are_played_have_no_clients() -> None:
    trial = play(python_image(SERVICE))
    assert trial.exit_code == 1
    assert "nobody asks it" in trial.errors
