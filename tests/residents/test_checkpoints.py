"""What the store keeps of an agent that is here."""

from __future__ import annotations

import pytest

from agents import canonical
from agents.credentials.visits import Head
from agents.errors import CredentialError
from docking.residents.berth import Standing
from docking.residents.checkpoints import BerthNote
from tests.wrong_types import D, bent, booleans


def test_values_of_other_types_in_a_note_are_refused() -> None:
    value = canonical.decode(BerthNote(Standing.WAITING, D, Head(1, D), 1, 1, 1, 1).encode())
    for other in bent(value):
        try:
            BerthNote.decode(canonical.encode(other))
        except CredentialError:
            continue
    for other in booleans(value):
        with pytest.raises(CredentialError):
            BerthNote.decode(canonical.encode(other))
