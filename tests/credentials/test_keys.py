"""Keys: RFC 8032 vectors, text forms, ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.credentials.keys import PublicKey, SecretKey, bytes_of, text_of
from agents.errors import MalformedCredential
from tests.credentials.journeys import key

# RFC 8032, section 7.1, tests 1 to 3: seed, public key, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), VECTORS)
def test_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    pair = SecretKey(bytes.fromhex(seed))
    assert pair.public.raw.hex() == public
    assert pair.sign(bytes.fromhex(message)).hex() == signature
    assert pair.public.verify(bytes.fromhex(signature), bytes.fromhex(message))
    assert not pair.public.verify(bytes.fromhex(signature), bytes.fromhex(message) + b"x")


@given(st.binary(min_size=32, max_size=32))
def test_text_forms(raw: bytes) -> None:
    public = PublicKey(raw)
    assert PublicKey.from_text(public.text) == public
    assert len(public.text) == 60
    assert len(public.id) == 24
    assert str(public) == public.id


@given(st.binary(max_size=70))
def test_base32(data: bytes) -> None:
    assert bytes_of(text_of(data)) == data


@pytest.mark.parametrize("text", ["A", "aaaaaaaa=", "0", "a b", "é", "ab", "AA"])
def test_base32_has_one_spelling(text: str) -> None:
    with pytest.raises(MalformedCredential):
        bytes_of(text)


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:aaaa", "x25519:" + "a" * 52, "ed25519:" + "a" * 60])
def test_texts_that_are_no_keys(text: str) -> None:
    with pytest.raises(MalformedCredential):
        PublicKey.from_text(text)


def test_secrets_do_not_show() -> None:
    pair = key("owner")
    assert pair.seed.hex() not in repr(pair)
    assert repr(pair.seed) not in repr(pair)
    assert text_of(pair.seed) not in repr(pair)
    assert pair == SecretKey(pair.seed)


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33), "a" * 32, None])
def test_sizes(raw: object) -> None:
    for cls in (PublicKey, SecretKey):
        with pytest.raises(MalformedCredential):
            cls(raw)  # type: ignore[arg-type]
