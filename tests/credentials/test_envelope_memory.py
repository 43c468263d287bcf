"""What is remembered of signatures that hold: never makes one hold that does not, and stays small."""

from __future__ import annotations

import pytest

from agents.credentials import envelope, logbook
from agents.credentials.envelope import verify
from agents.credentials.keys import PublicKey
from agents.credentials.visits import Certificate, Receipt
from agents.errors import CredentialError, MalformedCredential
from tests.credentials.journeys import HOUR, NOW, key, public


def certificate(name: str) -> bytes:
    return logbook.certify(public("guest"), NOW, NOW + HOUR, name, key("certifier")).envelope


def test_a_statement_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []
    real = PublicKey.verify
    monkeypatch.setattr(PublicKey, "verify", lambda self, s, m: checked.append(s) or real(self, s, m))
    monkeypatch.setattr(envelope, "_MEMORY", envelope._Memory())
    data = certificate("one")
    monkeypatch.setattr(envelope, "_MEMORY", envelope._Memory())  # as in another process
    first = verify(Certificate, data)
    assert verify(Certificate, bytes(bytearray(data)), public("certifier")) is first
    assert len(checked) == 1


def test_who_signed_and_what_it_is_are_asked_each_time() -> None:
    data = certificate("two")
    verify(Certificate, data)
    with pytest.raises(CredentialError, match="was expected") as caught:
        verify(Certificate, data, public("alpha"))
    assert caught.value.code == "signer"
    with pytest.raises(MalformedCredential, match="was expected"):
        verify(Receipt, data)


@pytest.mark.parametrize("place", [-1, -70, 12])
def test_an_altered_copy_of_a_known_statement_does_not_hold(place: int) -> None:
    data = certificate("three")
    verify(Certificate, data)
    altered = bytearray(data)
    altered[place] ^= 1
    for _ in range(2):  # what was refused is not remembered as anything else
        with pytest.raises(CredentialError):
            verify(Certificate, bytes(altered))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = envelope._Memory()
    monkeypatch.setattr(envelope, "_MEMORY", memory)
    first = certificate("first")
    for number in range(envelope.REMEMBERED):
        certificate(f"n{number}")
    assert len(memory._held) == envelope.REMEMBERED
    assert memory.get(first) is None
    monkeypatch.setattr(envelope, "REMEMBERED_SIZE", len(first) - 1)
    assert memory.get(certificate("longer than before")) is None
