"""What is remembered of signatures that hold: never makes one hold that does not, and stays small."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from agents.credentials import envelope, logbook
from agents.credentials.envelope import verify
from agents.credentials.keys import PublicKey
from agents.credentials.visits import Certificate, Commit, Receipt
from agents.errors import CredentialError, MalformedCredential
from tests.credentials.journeys import HOUR, NOW, key, public


def certificate(name: str) -> bytes:
    return logbook.sign_certificate(public("guest"), NOW, NOW + HOUR, name, key("certifier")).envelope


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
    for number in range(envelope.REMEMBERED_STATEMENTS):
        certificate(f"n{number}")
    assert len(memory._held) == envelope.REMEMBERED_STATEMENTS
    assert memory.get(first) is None
    monkeypatch.setattr(envelope, "REMEMBERED_STATEMENT_BYTES", len(first) - 1)
    assert memory.get(certificate("longer than before")) is None


def commitment(name: bytes = b"r") -> Commit:
    return Commit(b"a" * 32, 3, b"h" * 32, b"v" * 32, name * 32)


def signed_elsewhere(body: Commit, name: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    data = envelope.sign(body, key(name)).envelope
    monkeypatch.setattr(envelope, "_MEMORY", envelope._Memory())  # as in another process
    return data


def test_a_foreseen_statement_is_the_one_that_would_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = signed_elsewhere(commitment(), "alpha", monkeypatch)
    read = verify(Commit, data)
    monkeypatch.setattr(envelope, "_MEMORY", envelope._Memory())
    decoded: list[object] = []
    real = envelope.decode_signed
    monkeypatch.setattr(envelope, "decode_signed", lambda *parts: decoded.append(parts) or real(*parts))
    envelope.foresee(commitment(), public("alpha"))
    assert verify(Commit, data, public("alpha")) == read
    assert not decoded


@pytest.mark.parametrize("place", [-1, -64, -65, -66, -100, 1, 12, 40])
def test_what_differs_from_the_foreseen_does_not_hold(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(signed_elsewhere(commitment(), "alpha", monkeypatch))
    envelope.foresee(commitment(), public("alpha"))
    data[place] ^= 1
    for _ in range(2):
        with pytest.raises(CredentialError):
            verify(Commit, bytes(data), public("alpha"))
    data[place] ^= 1
    assert verify(Commit, bytes(data)).body == commitment()


def test_foreseeing_vouches_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for another signer, nor for another body, kind or key that is expected."""
    by_beta = signed_elsewhere(commitment(), "beta", monkeypatch)
    envelope.foresee(commitment(), public("alpha"))
    with pytest.raises(CredentialError) as caught:
        verify(Commit, by_beta, public("alpha"))
    assert caught.value.code == "signer"
    other = signed_elsewhere(commitment(b"s"), "alpha", monkeypatch)
    assert verify(Commit, other).body == commitment(b"s")
    with pytest.raises(MalformedCredential, match="was expected"):
        verify(Receipt, signed_elsewhere(commitment(), "alpha", monkeypatch))


def test_what_is_foreseen_is_bounded_and_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "_FORESEEN", OrderedDict())
    for number in range(envelope.REMEMBERED_STATEMENTS + 5):
        envelope.foresee(Commit(b"a" * 32, number, b"h" * 32, b"v" * 32, b"r" * 32), public("alpha"))
    assert len(envelope._FORESEEN) == envelope.REMEMBERED_STATEMENTS
    last = Commit(b"a" * 32, number, b"h" * 32, b"v" * 32, b"r" * 32)
    verify(Commit, signed_elsewhere(last, "alpha", monkeypatch))
    assert len(envelope._FORESEEN) == envelope.REMEMBERED_STATEMENTS - 1
