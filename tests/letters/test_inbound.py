"""Letters that are not as they should be: refused with a code and a sentence, and nothing else happens."""

from __future__ import annotations

from tests.station.harbour import harbour, run
from tests.wrong_types import D, bent, booleans


@run
async def test_values_of_other_types_in_a_letter_are_refused() -> None:
    async with harbour("home", "other") as (home, other):
        letters = {
            "message": [D, "alpha", b"body", 1],
            "talk": [[D, "alpha", b"body", ["message", "", b"", 0, b""], b"s" * 16, 1, 0, [D]], 0, False, 0],
            "order": [b"order", 1],
            "ended": [b"capsule", "finished", "0"],
            "told": [[D, D, 1, "travelling", ""]],
        }
        for kind, content in letters.items():
            for bad in [*bent(content), *booleans(content)]:
                answer = await home.core.inbound.receive(other.key, [kind, D, bad])
                assert answer[0] in ("refused", "taken", "later"), (kind, bad)
                if answer[0] == "refused":
                    assert answer[1]
                    assert answer[2].isprintable()
            for bad in booleans(content):
                answer = await home.core.inbound.receive(other.key, [kind, D, bad])
                assert answer[0] == "refused", (kind, bad)
        for bad in bent(["message", D, letters["message"]]):
            assert (await home.core.inbound.receive(other.key, bad))[0] == "refused"


@run
async def test_the_end_of_a_journey_is_said_in_its_words() -> None:
    """An exit code that is none would come up where an owner reads the report."""
    async with harbour("home", "other") as (home, other):
        for standing, said in (
            ("finished", "abc"),
            ("finished", ""),
            ("finished", "1" * 11),
            ("stopped", "x"),
            (1, "0"),
        ):
            answer = await other.introductions.letter(home.key, ["ended", D, [b"capsule", standing, said]])
            assert answer[:2] == ["refused", "malformed"], (standing, said)
        code = (await other.introductions.letter(home.key, ["ended", D, [b"\x80" * 100_000, "finished", "0"]]))[:2]
        assert code == ["refused", "malformed"]
