"""What the store keeps of an agent that is here."""

from __future__ import annotations

import pytest

from agents import canonical
from agents.credentials.visits import Head
from agents.errors import CredentialError
from docking.residents.berth import Standing
from docking.residents.checkpoints import BerthNote
from tests.wrong_types import D, bent, booleans


def test_when_a_wait_ends_by_a_clock_that_was_set_back() -> None:
    note = BerthNote(Standing.WAITING, D, Head(1, D), 1, until=5000, noted=4000)
    assert [note.ends(now) for now in (4000, 4500, 6000)] == [5000, 5000, 5000]
    assert note.ends(1000) == 2000
    assert BerthNote(Standing.WAITING, D, Head(1, D), 1, until=5000).ends(10) == 5000  # when it was noted is not known


def test_a_note_is_what_it_was_whatever_of_it_is_empty() -> None:
    for more in ({}, {"sent_to": [[D, bytes(16), 2]]}, {"spent": 7}, {"brought": True}, {"until": 9, "noted": 3}):
        note = BerthNote(Standing.WAITING, D, Head(1, D), 1, **more)  # type: ignore[arg-type]
        assert BerthNote.decode(note.encode()) == note


def test_values_of_other_types_in_a_note_are_refused() -> None:
    value = canonical.decode(BerthNote(Standing.WAITING, D, Head(1, D), 1, 1, 1, 1, noted=1).encode())
    for other in bent(value):
        try:
            BerthNote.decode(canonical.encode(other))
        except CredentialError:
            continue
    for other in booleans(value):
        with pytest.raises(CredentialError):
            BerthNote.decode(canonical.encode(other))
