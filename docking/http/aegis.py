"""AEGIS-256 for the frames of channels: libsodium's, called without PyNaCl's checks of each argument.

For a small frame these checks take longer than the cipher, and a hop seals and opens six frames. This is not another
implementation: it calls the same libsodium function through PyNaCl's compiled module, or through PyNaCl's own functions
where that module is missing. Invariants: sizes are checked here before libsodium sees a pointer; no plaintext is
returned unless its tag verifies. Why this cipher: docs/adr/sealing-with-aegis.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import nacl.bindings as sodium
import nacl.exceptions

KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 32, 32  # bytes
ffi: Any = None
lib: Any = None
with contextlib.suppress(ImportError, AttributeError):  # a different PyNaCl
    _compiled = importlib.import_module("nacl._sodium")
    ffi, lib = _compiled.ffi, _compiled.lib
_direct = hasattr(lib, "crypto_aead_aegis256_encrypt") and hasattr(lib, "crypto_aead_aegis256_decrypt")


class CannotDecrypt(Exception):
    """The ciphertext was altered, or sealed with another key or nonce."""


def _check(nonce: bytes, key: bytes) -> None:
    if type(nonce) is not bytes or type(key) is not bytes or len(nonce) != NONCE_BYTES or len(key) != KEY_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes, and a key {KEY_BYTES}")


def encrypt(plain: bytes, nonce: bytes, key: bytes) -> bytes:
    """`plain`, sealed: 32 bytes longer. Never use a nonce twice with the same key."""
    _check(nonce, key)
    if not _direct:
        return sodium.crypto_aead_aegis256_encrypt(plain, None, nonce, key)
    size = len(plain) + TAG_BYTES
    sealed = ffi.new("unsigned char[]", size)
    if lib.crypto_aead_aegis256_encrypt(sealed, ffi.NULL, plain, len(plain), ffi.NULL, 0, ffi.NULL, nonce, key):
        raise RuntimeError("libsodium could not encrypt")
    return bytes(ffi.buffer(sealed, size))


def decrypt(sealed: bytes, nonce: bytes, key: bytes) -> bytes:
    """The inverse of `encrypt`. Raises `CannotDecrypt`."""
    _check(nonce, key)
    size = len(sealed) - TAG_BYTES
    if size < 0:
        raise CannotDecrypt
    if not _direct:
        try:
            return sodium.crypto_aead_aegis256_decrypt(sealed, None, nonce, key)
        except nacl.exceptions.CryptoError as error:
            raise CannotDecrypt from error
    plain = ffi.new("unsigned char[]", size)
    if lib.crypto_aead_aegis256_decrypt(plain, ffi.NULL, ffi.NULL, sealed, len(sealed), ffi.NULL, 0, nonce, key):
        raise CannotDecrypt
    return bytes(ffi.buffer(plain, size))
