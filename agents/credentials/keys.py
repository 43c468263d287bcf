"""Ed25519 keys (RFC 8032): signatures, key ids, and the X25519 keys derived from them.

Not here: key files, passphrases and pinned peers (`docking.trust.identity`).

Invariants:
- One key pair is one identity. The X25519 pair for sealing is the same pair, mapped to the Montgomery curve,
  so whoever pinned a station's key knows what to seal to: there is no second key that could be swapped.
- A secret never appears in `repr`, an error or a log.
- The text form is the whole key. A key id is a hint for people and lookups; decisions compare whole keys.
"""

from __future__ import annotations

import base64
import binascii
import functools

import nacl.bindings as sodium
import nacl.exceptions
from attrs import field, frozen

from agents import canonical
from agents.errors import CredentialError, MalformedCredential

KEY_SIZE = 32
SIGNATURE_SIZE = 64
# 120 bits: finding another key with the same id takes 2^120 tries, and an id fits 24 letters without padding.
KEY_ID_SIZE = 15
_PREFIX = "ed25519:"
_CANNOT_USE = "the key is not a usable Ed25519 key"


def text_of(data: bytes) -> str:
    """Bytes in RFC 4648 base32, lower case, without padding."""
    return base64.b32encode(data).decode().rstrip("=").lower()


def bytes_of(text: str) -> bytes:
    """The inverse of `text_of`. Raises `MalformedCredential` unless `text` is exactly what `text_of` gives."""
    try:
        data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise MalformedCredential("not base32 text") from error
    if text_of(data) != text:
        raise MalformedCredential("not base32 text in its one spelling (lower case, no padding)")
    return data


@frozen(eq=False)
class PublicKey:
    """A station's or owner's public key, compared and hashed by value. Raises `MalformedCredential`.

    raw: the 32 bytes of an Ed25519 key
    """

    raw: bytes = field()

    @raw.validator
    def _check(self, _: object, value: bytes) -> None:
        if not isinstance(value, bytes) or len(value) != KEY_SIZE:
            raise MalformedCredential(f"a public key has {KEY_SIZE} bytes")

    # Written by hand: a hop compares and looks up some hundred keys, and these take one call less than attrs' own.
    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, PublicKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.raw)

    @classmethod
    def from_text(cls, text: str) -> PublicKey:
        """The key that `text` writes as `ed25519:` and 52 letters. Raises `MalformedCredential` for anything else."""
        if not text.startswith(_PREFIX) or len(text) > len(_PREFIX) + 52:
            raise MalformedCredential(f"a public key is written {_PREFIX} and 52 letters")
        return cls(bytes_of(text[len(_PREFIX) :]))

    @property
    def text(self) -> str:
        """The whole key, for files and people: `ed25519:` and 52 letters."""
        return _PREFIX + text_of(self.raw)

    @property
    def id(self) -> str:
        """24 letters: the first 120 bits of the digest of the key."""
        return text_of(key_id(self.raw))

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` (64 bytes) is this key's over `message`. Keys of small order verify nothing."""
        if len(signature) != SIGNATURE_SIZE:
            return False
        try:
            sodium.crypto_sign_open(signature + message, self.raw)
        except nacl.exceptions.BadSignatureError:
            return False
        return True

    def box(self) -> bytes:
        """The X25519 public key (32 bytes) to seal to. Raises `CredentialError` `key` if the key is not a curve
        point."""
        try:
            return sodium.crypto_sign_ed25519_pk_to_curve25519(self.raw)
        except (nacl.exceptions.RuntimeError, nacl.exceptions.CryptoError) as error:
            raise CredentialError("key", _CANNOT_USE) from error

    def __str__(self) -> str:
        return self.id


public_key = functools.lru_cache(maxsize=4096)(PublicKey)
"""The `PublicKey` with these 32 bytes. Cached: the few keys that a station deals with are always the same objects."""


@frozen(repr=False)
class SecretKey:
    """A key pair. `seed`: 32 bytes, the secret of RFC 8032, from a random source outside this
    package."""

    seed: bytes = field()
    public: PublicKey = field(init=False, eq=False)
    _expanded: bytes = field(init=False, eq=False)

    @seed.validator
    def _check(self, _: object, value: bytes) -> None:
        if not isinstance(value, bytes) or len(value) != KEY_SIZE:
            raise MalformedCredential(f"a secret key has {KEY_SIZE} bytes")

    def __attrs_post_init__(self) -> None:
        public, expanded = sodium.crypto_sign_seed_keypair(self.seed)
        object.__setattr__(self, "public", public_key(public))
        object.__setattr__(self, "_expanded", expanded)

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`, 64 bytes; the same message always gives the same signature."""
        return sodium.crypto_sign(message, self._expanded)[:SIGNATURE_SIZE]

    def box(self) -> bytes:
        """The X25519 secret key (32 bytes) that opens what was sealed to `public.box()`."""
        return sodium.crypto_sign_ed25519_sk_to_curve25519(self._expanded)

    def __repr__(self) -> str:
        return f"SecretKey(public={self.public.text})"


def key_id(raw: bytes) -> bytes:
    """The id (15 bytes) of a raw 32-byte public key, Ed25519 or X25519."""
    return canonical.digest(b"portcall key" + raw)[:KEY_ID_SIZE]
