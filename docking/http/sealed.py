"""Requests and answers that only two stations can read or make: `agents.credentials.sealing`, with both keys in it.

A request is sealed to the destination's key with an ephemeral key; its context holds a fresh salt, and the secret
that the two stations' own keys share (X25519), so whoever opens it knows that one of the two sealed it. An answer is
sealed under a key derived from that secret, the salt and the request's header, so it is the answer to this request
and no other. An ephemeral key serves for a while: what it costs is paid by each first request, not by each.

    request  the bytes of `sealing`, context: path, sender, destination, shared secret, salt
    answer   nonce (32, random) | AEGIS-256 of the answer with a tag of 32 bytes

The salt (16 random bytes) travels in a header of HTTP, in hexadecimal digits.

Not protection against replay: a request that is sent again is opened again, and everything that it can ask for is
idempotent. No forward secrecy: who learns a station's key opens what was recorded before. Invariants: nothing of a
body is used before its tag was checked; an answer without a valid tag is no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import blake3
import nacl.bindings as sodium
import nacl.exceptions
from attrs import define, field

from agents import canonical
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.sealing import HEADER_SIZE, PIECE, TAG, Ephemeral, Opener, Recipient, Sealer, sealed_size
from agents.errors import CannotOpen
from docking.handoff.messages import Buffer

NONCE, SALT = 32, 16
# How long an ephemeral key serves: requests, and seconds. Who learns it can read these requests and no others.
SERVES, SERVES_FOR = 1024, 60.0
# An answer is a receipt, a list of parts, a few lines: what a peer can make us hold for one request.
MAX_ANSWER = 1 << 20
_SHARED = "portcall h1 shared secret"
_ANSWER = "portcall h1 answer"


def agree(secret: bytes, theirs: bytes) -> bytes:
    """What the holder of an X25519 secret shares with the holder of the key `theirs`. Raises `CannotOpen`."""
    try:
        return sodium.crypto_scalarmult(secret, theirs)
    except (nacl.exceptions.RuntimeError, nacl.exceptions.CryptoError) as error:
        # A point of small order would make a shared secret that everybody knows.
        raise CannotOpen("not-for-us", "the peer's key cannot be used") from error


@define(eq=False)
class _Serving:
    """An ephemeral key in use. `left`: requests; `until`: seconds."""

    key: Ephemeral
    left: int
    until: float


@define(eq=False)
class Secrets:
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
        """This station's key as a header says it."""
        if not self._name:
            self._name = self.me.text.encode()
        return self._name

    @property
    def recipient(self) -> Recipient:
        """This station as the one to whom requests are sealed."""
        if self._recipient is None:
            self._recipient = Recipient(self._key.box())
        return self._recipient

    def ephemeral(self, peer: PublicKey, random: Callable[[int], bytes], now: float) -> Ephemeral:
        """A key to seal a request to `peer` with. `now`: seconds of any clock. Raises `CredentialError`."""
        found = self._ephemerals.get(peer)
        if found is None or found.left <= 0 or now >= found.until:
            if len(self._ephemerals) >= 4096:
                self._ephemerals.clear()
            key = Ephemeral(peer.box(), random(32))
            found = self._ephemerals[peer] = _Serving(key, SERVES, now + SERVES_FOR)
        found.left -= 1
        return found.key

    def shared(self, peer: PublicKey) -> bytes:
        """32 bytes that only `peer` and this station can know. Raises `CredentialError`; `CannotOpen`."""
        found = self._shared.get(peer)
        if found is None:
            found = blake3.blake3(self.agree(peer.box()), derive_key_context=_SHARED).digest()
            # Bounded: anyone can make up keys.
            if len(self._shared) >= 4096:
                self._shared.clear()
            self._shared[peer] = found
        return found

    def agree(self, theirs: bytes) -> bytes:
        """What this station's own key shares with an X25519 key. Raises `CredentialError`."""
        return agree(self._key.box(), theirs)

    def context(self, path: str, sender: PublicKey, to: PublicKey, salt: bytes) -> bytes:
        """What both sides know of a request and an outsider does not."""
        peer = to if sender == self.me else sender
        return canonical.encode(["portcall request", path, sender.raw, to.raw, self.shared(peer), salt])


def seal_request(
    secrets: Secrets,
    to: PublicKey,
    path: str,
    bodies: Sequence[Buffer],
    ephemeral: Ephemeral,
    salt: bytes,
) -> tuple[int, Callable[[], Iterator[bytes]], bytes]:
    """The size of the sealed request, its pieces (made when they are asked for), and its mark for the answer.

    `salt`: 16 fresh random bytes.
    """
    context = secrets.context(path, secrets.me, to, salt)
    size = sum(len(body) for body in bodies)

    def pieces() -> Iterator[bytes]:
        # A request that is sent again, over another connection, is the same bytes: same key, same pieces.
        sealer = Sealer(ephemeral, context)
        yield sealer.header
        waiting = bytearray()
        left = size
        for body in bodies:
            view = memoryview(body).cast("B")
            while len(view):
                if not waiting and len(view) >= PIECE and left > PIECE:
                    piece: bytes | memoryview = view[:PIECE]
                    view = view[PIECE:]
                    left -= PIECE
                    yield sealer.piece(piece)
                    continue
                take = view[: PIECE - len(waiting)]
                waiting += take
                view = view[len(take) :]
                if len(waiting) == PIECE and left > PIECE:
                    left -= PIECE
                    yield sealer.piece(bytes(waiting))
                    waiting.clear()
        yield sealer.piece(bytes(waiting), last=True)

    return sealed_size(size), pieces, salt + ephemeral.header


def opener(secrets: Secrets, sender: PublicKey, path: str, salt: bytes) -> Opener:
    """Opens a request of `sender` to this station. Raises `CredentialError` if the key is none."""
    return Opener(secrets.recipient, secrets.context(path, sender, secrets.me, salt))


def seal_answer(secrets: Secrets, peer: PublicKey, mark: bytes, body: bytes | memoryview, nonce: bytes) -> bytes:
    """The sealed answer to a request of `peer`. `mark`: its salt and header; `nonce`: 32 fresh random bytes."""
    key = _answer_key(secrets, peer, mark)
    return nonce + sodium.crypto_aead_aegis256_encrypt(bytes(body), None, nonce, key)


def open_answer(secrets: Secrets, peer: PublicKey, mark: bytes, sealed: bytes) -> bytes:
    """The answer of `peer` to the request with this salt and header. Raises `CannotOpen`."""
    key = _answer_key(secrets, peer, mark)
    try:
        return sodium.crypto_aead_aegis256_decrypt(sealed[NONCE:], None, sealed[:NONCE], key)
    except (nacl.exceptions.CryptoError, ValueError, TypeError) as error:
        raise CannotOpen("altered", "the answer is not of this station, or was altered") from error


def _answer_key(secrets: Secrets, peer: PublicKey, mark: bytes) -> bytes:
    return blake3.blake3(secrets.shared(peer) + mark, derive_key_context=_ANSWER).digest()


__all__ = [
    "HEADER_SIZE",
    "MAX_ANSWER",
    "NONCE",
    "SALT",
    "TAG",
    "Secrets",
    "open_answer",
    "opener",
    "seal_answer",
    "seal_request",
    "sealed_size",
]
