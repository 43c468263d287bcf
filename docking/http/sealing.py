"""Requests and answers that only two stations can read or make: `agents.credentials.sealing` with both keys mixed in.

A request is sealed to the destination's key with an ephemeral key. Its context holds a fresh salt and the secret
that the two stations' static keys share (X25519), so opening it proves that one of the two sealed it. An answer is
sealed under a key derived from that secret, the salt and the request's header, so it answers this request and no other.
An ephemeral key serves for several requests, so only the first pays for it (docs/adr/ephemeral-keys-that-serve).

    request  the bytes of `sealing`, context: path, sender, destination, shared secret, salt
    answer   nonce (32, random) | AEGIS-256 of the answer with a tag of 32 bytes

The salt (16 random bytes) travels in an HTTP header, in hexadecimal.

No replay protection: a repeated request is opened again, and every request is idempotent. No forward secrecy: a leaked
station key opens recorded requests to that station. Invariants: no byte of a body is used before its tag is verified;
an answer without a valid tag counts as no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import blake3
import nacl.bindings as sodium
import nacl.exceptions
from attrs import define, field

from agents import canonical
from agents.canonical import Buffer
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.sealing import (
    HEADER_SIZE,
    PIECE_BYTES,
    TAG_BYTES,
    Ephemeral,
    Opener,
    Recipient,
    Sealer,
    sealed_size,
)
from agents.errors import CannotOpen

REQUEST_KEY_BYTES, SALT_BYTES = 32, 16
# How long an ephemeral key serves, in requests and in seconds. If it leaks, it opens these requests and no others.
KEY_REQUESTS, KEY_LIFETIME_S = 1024, 60.0
# Bytes. An answer is a receipt, a list of parts, a few lines. This bounds what a peer can make us hold per request.
MAX_ANSWER_BYTES = 1 << 20
_SHARED = "portcall h1 shared secret"
_ANSWER = "portcall h1 answer"


def agree(secret: bytes, theirs: bytes) -> bytes:
    """The secret shared by an X25519 `secret` and the public key `theirs`. Raises `CannotOpen`."""
    try:
        return sodium.crypto_scalarmult(secret, theirs)
    except (nacl.exceptions.RuntimeError, nacl.exceptions.CryptoError) as error:
        # With a point of small order, anyone could compute the shared secret.
        raise CannotOpen("not-for-us", "the peer's key cannot be used") from error


@define(eq=False, repr=False)
class _Serving:
    """An ephemeral key in use. `left`: requests; `until`: seconds, on the clock of `now`."""

    key: Ephemeral
    left: int
    until: float


@define(eq=False, repr=False)
class SharedKeys:
    """The secrets that this station shares with its peers."""

    _key: SecretKey
    _shared: dict[PublicKey, bytes] = field(factory=dict, repr=False)
    _ephemerals: dict[PublicKey, _Serving] = field(factory=dict, repr=False)
    _recipient: Recipient | None = field(default=None, repr=False)
    _name: bytes = b""

    @property
    def me(self) -> PublicKey:
        """This station's key."""
        return self._key.public

    @property
    def name(self) -> bytes:
        """This station's key, as it stands in a header."""
        if not self._name:
            self._name = self.me.text.encode()
        return self._name

    @property
    def recipient(self) -> Recipient:
        """This station, as the recipient of sealed requests."""
        if self._recipient is None:
            self._recipient = Recipient(self._key.box())
        return self._recipient

    def ephemeral(self, peer: PublicKey, random: Callable[[int], bytes], now: float) -> Ephemeral:
        """A key to seal a request to `peer` with. `now`: seconds, on any clock. Raises `CredentialError`."""
        found = self._ephemerals.get(peer)
        if found is None or found.left <= 0 or now >= found.until:
            if len(self._ephemerals) >= 4096:
                self._ephemerals.clear()
            key = Ephemeral(peer.box(), random(32))
            found = self._ephemerals[peer] = _Serving(key, KEY_REQUESTS, now + KEY_LIFETIME_S)
        found.left -= 1
        return found.key

    def shared(self, peer: PublicKey) -> bytes:
        """32 bytes that only `peer` and this station can know. Raises `CredentialError`, `CannotOpen`."""
        found = self._shared.get(peer)
        if found is None:
            found = blake3.blake3(self.agree(peer.box()), derive_key_context=_SHARED).digest()
            # Bounded: anyone can make up keys.
            if len(self._shared) >= 4096:
                self._shared.clear()
            self._shared[peer] = found
        return found

    def agree(self, theirs: bytes) -> bytes:
        """The secret that this station's static key shares with an X25519 key. Raises `CredentialError`."""
        return agree(self._key.box(), theirs)

    def context(self, path: str, sender: PublicKey, to: PublicKey, salt: bytes) -> bytes:
        """The context of a request: known to both sides and to nobody else."""
        peer = to if sender == self.me else sender
        return canonical.encode(["portcall request", path, sender.raw, to.raw, self.shared(peer), salt])


def seal_request(
    secrets: SharedKeys,
    to: PublicKey,
    path: str,
    bodies: Sequence[Buffer],
    ephemeral: Ephemeral,
    salt: bytes,
) -> tuple[int, Callable[[], Iterator[bytes]], bytes]:
    """The size of the sealed request, a function that yields its pieces lazily, and its mark, to open the answer with.

    `salt`: 16 fresh random bytes.
    """
    context = secrets.context(path, secrets.me, to, salt)
    size = sum(len(body) for body in bodies)

    def pieces() -> Iterator[bytes]:
        # A request that is sent again over another connection has the same bytes: same key, same pieces.
        sealer = Sealer(ephemeral, context)
        yield sealer.header
        waiting = bytearray()
        left = size
        for body in bodies:
            view = memoryview(body).cast("B")
            while len(view):
                if not waiting and len(view) >= PIECE_BYTES and left > PIECE_BYTES:
                    piece: bytes | memoryview = view[:PIECE_BYTES]
                    view = view[PIECE_BYTES:]
                    left -= PIECE_BYTES
                    yield sealer.piece(piece)
                    continue
                take = view[: PIECE_BYTES - len(waiting)]
                waiting += take
                view = view[len(take) :]
                if len(waiting) == PIECE_BYTES and left > PIECE_BYTES:
                    left -= PIECE_BYTES
                    yield sealer.piece(bytes(waiting))
                    waiting.clear()
        yield sealer.piece(bytes(waiting), last=True)

    return sealed_size(size), pieces, salt + ephemeral.header


def opener(secrets: SharedKeys, sender: PublicKey, path: str, salt: bytes) -> Opener:
    """Opens a request of `sender` to this station. Raises `CredentialError` if `sender` is not a valid key."""
    return Opener(secrets.recipient, secrets.context(path, sender, secrets.me, salt))


def seal_answer(secrets: SharedKeys, peer: PublicKey, mark: bytes, body: bytes | memoryview, nonce: bytes) -> bytes:
    """The sealed answer to a request of `peer`. `mark`: the request's salt and header; `nonce`: 32 random bytes."""
    key = _answer_key(secrets, peer, mark)
    return nonce + sodium.crypto_aead_aegis256_encrypt(bytes(body), None, nonce, key)


def open_answer(secrets: SharedKeys, peer: PublicKey, mark: bytes, sealed: bytes) -> bytes:
    """Open the answer of `peer` to the request with this `mark`. Raises `CannotOpen`."""
    key = _answer_key(secrets, peer, mark)
    try:
        return sodium.crypto_aead_aegis256_decrypt(sealed[REQUEST_KEY_BYTES:], None, sealed[:REQUEST_KEY_BYTES], key)
    except (nacl.exceptions.CryptoError, ValueError, TypeError) as error:
        raise CannotOpen("altered", "the answer is not of this station, or was altered") from error


def _answer_key(secrets: SharedKeys, peer: PublicKey, mark: bytes) -> bytes:
    return blake3.blake3(secrets.shared(peer) + mark, derive_key_context=_ANSWER).digest()


__all__ = [
    "HEADER_SIZE",
    "MAX_ANSWER_BYTES",
    "REQUEST_KEY_BYTES",
    "SALT_BYTES",
    "TAG_BYTES",
    "SharedKeys",
    "open_answer",
    "opener",
    "seal_answer",
    "seal_request",
    "sealed_size",
]
