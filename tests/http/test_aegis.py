"""AEGIS-256 as the channels use it: what PyNaCl's own functions make and open, and nothing else."""

from __future__ import annotations

import nacl.bindings as sodium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docking.http import aegis
from docking.http.aegis import TAG_BYTES, CannotDecrypt

words = st.binary(min_size=32, max_size=32)


@pytest.fixture(params=["direct", "by PyNaCl"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "direct":
        assert aegis._direct
    else:
        monkeypatch.setattr(aegis, "_direct", False)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 1000, 70_000])
def test_it_is_the_same_cipher(size: int) -> None:
    plain, nonce, key = bytes(range(251)) * (size // 251 + 1), bytes(range(32)), bytes(range(32, 64))
    plain = plain[:size]
    sealed = aegis.encrypt(plain, nonce, key)
    assert len(sealed) == size + TAG_BYTES
    assert sealed == sodium.crypto_aead_aegis256_encrypt(plain, None, nonce, key)
    assert aegis.decrypt(sealed, nonce, key) == plain


@given(st.binary(max_size=100), words, words, st.integers(min_value=0), st.integers(1, 255))
def test_one_altered_byte_is_noticed(plain: bytes, nonce: bytes, key: bytes, at: int, change: int) -> None:
    for direct in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aegis, "_direct", direct)
            sealed = bytearray(aegis.encrypt(plain, nonce, key))
            sealed[at % len(sealed)] ^= change
            with pytest.raises(CannotDecrypt):
                aegis.decrypt(bytes(sealed), nonce, key)


@pytest.mark.parametrize("size", [0, 1, TAG_BYTES - 1, TAG_BYTES])
def test_what_is_too_short_is_refused(size: int) -> None:
    with pytest.raises(CannotDecrypt):
        aegis.decrypt(bytes(size), bytes(32), bytes(32))


def test_sizes_are_checked_before_libsodium_sees_them() -> None:
    for nonce, key in ((bytes(31), bytes(32)), (bytes(32), bytes(33)), (bytearray(32), bytes(32))):
        for call in (aegis.encrypt, aegis.decrypt):
            with pytest.raises(ValueError, match="32 bytes"):
                call(bytes(64), nonce, key)  # type: ignore[arg-type]
