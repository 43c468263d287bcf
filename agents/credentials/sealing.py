"""Sealed bytes: only the holder of one key can read them, and an altered, moved, cut or added byte is
noticed.

    "portcall/s1" | recipient's key id (15) | ephemeral X25519 key (32) | pieces

The key of the pieces is BLAKE3 in its key derivation mode (context `portcall s1 AEGIS-256`) over the X25519
shared secret, the ephemeral key, the recipient's key and the digest of the context that the caller gives.
Each piece holds 64 KiB of plaintext (the last one 0 to 64 KiB) under AEGIS-256 with a tag of 32 bytes; its
nonce is the piece's number (8 bytes, big endian), 23 zero bytes, and 1 for the last piece. So pieces cannot
be reordered, dropped or cut off, and a body can be opened as it streams in. docs/adr/ says why this cipher;
see also STREAM (Hoang et al., 2015).

Not signed: who sealed is not proven here. What is inside is signed.

Invariants: a key seals one message, since the ephemeral key is fresh, or the context is (`Ephemeral`); an `Opener`
never gives bytes of a piece whose tag does not hold, and `finish` raises unless the last piece came."""

from __future__ import annotations

from collections import OrderedDict

import blake3
import nacl.bindings as sodium
import nacl.exceptions
from attrs import define, field

from agents import canonical
from agents.credentials.keys import KEY_ID_SIZE, KEY_SIZE, key_id, text_of
from agents.errors import CannotOpen, MalformedCredential

MAGIC = b"portcall/s1"
PIECE = 65536
TAG = 32
HEADER_SIZE = len(MAGIC) + KEY_ID_SIZE + KEY_SIZE
_KEY_CONTEXT = "portcall s1 AEGIS-256"
REMEMBERED = 1024  # senders' ephemeral keys for which a recipient keeps the shared secret


def sealed_size(size: int) -> int:
    """The size in bytes of `size` sealed bytes."""
    return HEADER_SIZE + size + TAG * max(1, -(-size // PIECE))


def seal(plain: bytes | memoryview, to: bytes, context: bytes, ephemeral: bytes) -> bytes:
    """Seal `plain` for the X25519 key `to` (`PublicKey.box()`).

    `context`: what both sides know of this message, bound to it and not sent. `ephemeral`: 32 fresh random
    bytes, never used twice. Raises `MalformedCredential` if `to` is not a usable key."""
    sealer = Sealer(Ephemeral(to, ephemeral), context)
    view = memoryview(plain)
    parts = [sealer.header]
    ends = range(PIECE, len(view), PIECE)
    parts += [sealer.piece(view[end - PIECE : end]) for end in ends]
    parts.append(sealer.piece(view[len(ends) * PIECE :], last=True))
    return b"".join(parts)


def open_sealed(data: bytes | memoryview, secret: bytes, context: bytes) -> bytes:
    """Open what `seal` made. `secret`: the X25519 secret key (`SecretKey.box()`). Raises `CannotOpen`."""
    opener = Opener(Recipient(secret), context)
    parts = opener.feed(data)
    return b"".join([*parts, opener.finish()])


class Ephemeral:
    """A key made for messages to one recipient. Several may be sealed with it if no two have the same context, which
    then holds something fresh: the two slow operations on the curve are done once.

    `secret`: 32 fresh random bytes. Raises `MalformedCredential` if `to` is not a usable key."""

    __slots__ = ("header", "public", "shared", "to")

    def __init__(self, to: bytes, secret: bytes) -> None:
        self.to, self.public = to, sodium.crypto_scalarmult_base(secret)
        try:
            self.shared = sodium.crypto_scalarmult(secret, to)
        except (nacl.exceptions.RuntimeError, nacl.exceptions.CryptoError) as error:
            raise MalformedCredential("the key to seal to is not a usable X25519 key") from error
        self.header = MAGIC + key_id(to) + self.public


class Sealer:
    """Seals a stream: send `header`, then each `piece`. All but the last have exactly 64 KiB."""

    __slots__ = ("_key", "_number", "header")

    def __init__(self, ephemeral: Ephemeral, context: bytes) -> None:
        self.header = ephemeral.header
        self._key = _derive(ephemeral.shared, ephemeral.public, ephemeral.to, context)
        self._number = 0

    def piece(self, plain: bytes | memoryview, last: bool = False) -> bytes:
        """The next piece, 32 bytes longer than `plain`. ValueError if its size does not fit its place."""
        if len(plain) > PIECE or (not last and len(plain) != PIECE):
            raise ValueError("a piece has 64 KiB; only the last may be shorter")
        sealed = sodium.crypto_aead_aegis256_encrypt(
            bytes(plain), None, _nonce(self._number, last), self._key
        )
        # After the last piece the stream is closed: nothing more can be sealed under its key.
        self._number = -1 if last else self._number + 1
        return sealed


@define(eq=False)
class Recipient:
    """Whoever holds the X25519 secret key `secret`; remembers what it shares with senders that come again."""

    _secret: bytes = field(repr=False)
    public: bytes = field(init=False)
    id: bytes = field(init=False)
    _shared: OrderedDict[bytes, bytes] = field(factory=OrderedDict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.public = sodium.crypto_scalarmult_base(self._secret)
        self.id = key_id(self.public)

    def shared(self, ephemeral: bytes) -> bytes:
        """The secret shared with the sender who made this ephemeral key. Raises `CannotOpen`."""
        found = self._shared.get(ephemeral)
        if found is None:
            try:
                found = sodium.crypto_scalarmult(self._secret, ephemeral)
            except (nacl.exceptions.RuntimeError, nacl.exceptions.CryptoError) as error:
                # A point of small order would make a shared secret that everybody knows.
                raise CannotOpen("altered", "the sealed bytes name a key that cannot be used") from error
            # Bounded: anyone can make up keys.
            if len(self._shared) >= REMEMBERED:
                self._shared.popitem(last=False)
            self._shared[ephemeral] = found
        return found


@define
class Opener:
    """Opens a stream as it arrives, holding at most one piece. A whole message is proven only by `finish`."""

    _recipient: Recipient = field(repr=False)
    _context: bytes
    _key: bytes = field(default=b"", init=False, repr=False)
    _held: bytes = field(default=b"", init=False)
    _number: int = field(default=0, init=False)

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take the next bytes; give the pieces that are now known to be genuine. Raises `CannotOpen`."""
        view, pieces = memoryview(data), []
        if not self._key:
            view = memoryview(self._held + bytes(data))
            if len(view) < HEADER_SIZE:
                self._held = bytes(view)
                return []
            self._begin(bytes(view[:HEADER_SIZE]))
            view = view[HEADER_SIZE:]
        elif self._held:
            # Only what is missing of the piece that has begun: the rest of `data` is not copied.
            missing = PIECE + TAG - len(self._held)
            self._held += view[:missing]
            view = view[missing:]
            if not len(view):
                return []
            pieces.append(self._open(memoryview(self._held), last=False))
        # A full piece with something after it is not the last one.
        while len(view) > PIECE + TAG:
            pieces.append(self._open(view[: PIECE + TAG], last=False))
            view = view[PIECE + TAG :]
        self._held = bytes(view)
        return pieces

    def finish(self) -> bytes:
        """The last piece. Raises `CannotOpen` if it was altered or is missing."""
        if not self._key or len(self._held) < TAG:
            raise CannotOpen("altered", "the sealed bytes end too soon")
        held, self._held = self._held, b""
        return self._open(memoryview(held), last=True)

    def _begin(self, header: bytes) -> None:
        if not header.startswith(MAGIC):
            raise CannotOpen("altered", "these are not sealed bytes of this version")
        to, ephemeral = header[len(MAGIC) : -KEY_SIZE], header[-KEY_SIZE:]
        if to != self._recipient.id:
            raise CannotOpen("not-for-us", f"this is sealed for the key {text_of(to)}, which is not ours")
        shared = self._recipient.shared(ephemeral)
        self._key = _derive(shared, ephemeral, self._recipient.public, self._context)

    def _open(self, piece: memoryview, last: bool) -> bytes:
        try:
            plain = sodium.crypto_aead_aegis256_decrypt(
                bytes(piece), None, _nonce(self._number, last), self._key
            )
        except nacl.exceptions.CryptoError as error:
            raise CannotOpen("altered", "the sealed bytes were altered, cut off or put together") from error
        self._number += 1
        return plain


def _derive(shared: bytes, ephemeral: bytes, to: bytes, context: bytes) -> bytes:
    material = shared + ephemeral + to + canonical.digest(context)
    return blake3.blake3(material, derive_key_context=_KEY_CONTEXT).digest()


def _nonce(number: int, last: bool) -> bytes:
    if number < 0:
        raise ValueError("the last piece was sealed already")
    return number.to_bytes(8, "big") + bytes(23) + bytes([last])
