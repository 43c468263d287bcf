"""Requests and answers that only two stations can read or make: `agents.credentials.sealing`, with both keys in it.

A request is sealed to the destination's key with a fresh ephemeral key; its context holds the secret that the two
stations' own keys share (X25519), so whoever opens it knows that one of the two sealed it. An answer is sealed under
a key derived from that secret and the request's header, so it is the answer to this request and no other.

    request  the bytes of `sealing`, context: path, sender, destination, shared secret
    answer   nonce (32, random) | AEGIS-256 of the answer with a tag of 32 bytes

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
from agents.credentials.sealing import HEADER_SIZE, PIECE, TAG, Opener, Sealer, sealed_size
from agents.errors import CannotOpen

NONCE = 32
# An answer is a receipt, a list of parts, a few lines: what a peer can make us hold for one request.
MAX_ANSWER = 1 << 20
_SHARED = "portcall h1 shared secret"
_ANSWER = "portcall h1 answer"


@define(eq=False)
class Secrets:
    """The secrets that this station shares with its peers."""

    _key: SecretKey
    _shared: dict[PublicKey, bytes] = field(factory=dict, repr=False)
    _boxes: dict[PublicKey, bytes] = field(factory=dict, repr=False)
    _box: bytes = field(default=b"", repr=False)
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
    def box(self) -> bytes:
        """The X25519 secret key."""
        if not self._box:
            self._box = self._key.box()
        return self._box

    def box_of(self, peer: PublicKey) -> bytes:
        """The X25519 public key of a peer, converted once. Raises `CredentialError`."""
        found = self._boxes.get(peer)
        if found is None:
            if len(self._boxes) >= 4096:
                self._boxes.clear()
            found = self._boxes[peer] = peer.box()
        return found

    def shared(self, peer: PublicKey) -> bytes:
        """32 bytes that only `peer` and this station can know. Raises `CredentialError`; `CannotOpen`."""
        found = self._shared.get(peer)
        if found is None:
            try:
                point = sodium.crypto_scalarmult(self.box, peer.box())
            except (nacl.exceptions.RuntimeError, nacl.exceptions.CryptoError) as error:
                raise CannotOpen("not-for-us", "the peer's key cannot be used") from error
            found = blake3.blake3(point, derive_key_context=_SHARED).digest()
            # Bounded: anyone can make up keys.
            if len(self._shared) >= 4096:
                self._shared.clear()
            self._shared[peer] = found
        return found

    def context(self, path: str, sender: PublicKey, to: PublicKey) -> bytes:
        """What both sides know of a request and an outsider does not."""
        peer = to if sender == self.me else sender
        return canonical.encode(["portcall request", path, sender.raw, to.raw, self.shared(peer)])


def seal_request(
    secrets: Secrets, to: PublicKey, path: str, bodies: Sequence[bytes | memoryview], ephemeral: bytes
) -> tuple[int, Callable[[], Iterator[bytes]], bytes]:
    """The size of the sealed request, its pieces (made when they are asked for), and its header for the answer."""
    context = secrets.context(path, secrets.me, to)
    first = Sealer(secrets.box_of(to), context, ephemeral)
    unused = [first]
    size = sum(len(body) for body in bodies)

    def pieces() -> Iterator[bytes]:
        # A request that is sent again, over another connection, is the same bytes: same key, same pieces.
        sealer = unused.pop() if unused else Sealer(secrets.box_of(to), context, ephemeral)
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

    return sealed_size(size), pieces, first.header


def opener(secrets: Secrets, sender: PublicKey, path: str) -> Opener:
    """Opens a request of `sender` to this station. Raises `CredentialError` if the key is none."""
    return Opener(secrets.box, secrets.context(path, sender, secrets.me))


def seal_answer(secrets: Secrets, peer: PublicKey, header: bytes, body: bytes | memoryview, nonce: bytes) -> bytes:
    """The sealed answer to the request of `peer` that began with `header`. `nonce`: 32 fresh random bytes."""
    key = _answer_key(secrets, peer, header)
    return nonce + sodium.crypto_aead_aegis256_encrypt(bytes(body), None, nonce, key)


def open_answer(secrets: Secrets, peer: PublicKey, header: bytes, sealed: bytes) -> bytes:
    """The answer of `peer` to the request that began with `header`. Raises `CannotOpen`."""
    key = _answer_key(secrets, peer, header)
    try:
        return sodium.crypto_aead_aegis256_decrypt(sealed[NONCE:], None, sealed[:NONCE], key)
    except (nacl.exceptions.CryptoError, ValueError, TypeError) as error:
        raise CannotOpen("altered", "the answer is not of this station, or was altered") from error


def _answer_key(secrets: Secrets, peer: PublicKey, header: bytes) -> bytes:
    return blake3.blake3(secrets.shared(peer) + header, derive_key_context=_ANSWER).digest()


__all__ = [
    "HEADER_SIZE",
    "MAX_ANSWER",
    "NONCE",
    "TAG",
    "Secrets",
    "open_answer",
    "opener",
    "seal_answer",
    "seal_request",
    "sealed_size",
]
