"""Sealed bytes: only the holder of one key can read them, and an altered, moved, cut or added byte is
detected.

    "portcall/s1" | recipient's key id (15) | ephemeral X25519 key (32) | pieces

The key of the pieces is BLAKE3 in its key derivation mode (context `portcall s1 AEGIS-256`) over the X25519
shared secret, the ephemeral key, the recipient's key and the digest of the context that the caller supplies.
Each piece holds 64 KiB of plaintext (the last one 0 to 64 KiB) under AEGIS-256 with a tag of 32 bytes; its
nonce is the piece's number (8 bytes, big endian), 23 zero bytes, and 1 for the last piece. So pieces cannot
be reordered, dropped or truncated, and a body can be opened as it streams in. Why this cipher:
docs/adr/sealing-with-aegis; see also STREAM (Hoang et al., 2015).

Not signed: this does not prove who sealed the bytes. Their content is signed.

Invariants: a key seals one message, since the ephemeral key is fresh, or the context is (`Ephemeral`); an `Opener`
never returns bytes of a piece whose tag does not verify, and `finish` raises unless the last piece has come."""

from __future__ import annotations

import enum
from collections import OrderedDict

import blake3
import nacl.bindings as sodium
import nacl.exceptions
from attrs import define, field

from agents import canonical
from agents.credentials.keys import KEY_ID_SIZE, KEY_SIZE, key_id, text_of
from agents.errors import CannotOpen, MalformedCredential

SEALED_MAGIC = b"portcall/s1"
PIECE_BYTES = 65536
TAG_BYTES = 32
HEADER_SIZE = len(SEALED_MAGIC) + KEY_ID_SIZE + KEY_SIZE
_KEY_CONTEXT = "portcall s1 AEGIS-256"
REMEMBERED_SECRETS = 1024  # senders' ephemeral keys for which a recipient keeps the shared secret


def sealed_size(size: int) -> int:
    """The size in bytes of `size` bytes once sealed."""
    return HEADER_SIZE + size + TAG_BYTES * max(1, -(-size // PIECE_BYTES))


def seal(plain: bytes | memoryview, to: bytes, context: bytes, ephemeral: bytes) -> bytes:
    """Seal `plain` for the X25519 key `to` (`PublicKey.box()`).

    `context`: what both sides know of this message; bound to it but not sent. `ephemeral`: 32 fresh random
    bytes, never used twice. Raises `MalformedCredential` if `to` is not a usable key."""
    sealer = Sealer(Ephemeral(to, ephemeral), context)
    view = memoryview(plain)
    parts = [sealer.header]
    ends = range(PIECE_BYTES, len(view), PIECE_BYTES)
    parts += [sealer.piece(view[end - PIECE_BYTES : end]) for end in ends]
    parts.append(sealer.piece(view[len(ends) * PIECE_BYTES :], last=True))
    return b"".join(parts)


def open_sealed(data: bytes | memoryview, secret: bytes, context: bytes) -> bytes:
    """Open what `seal` made. `secret`: the X25519 secret key (`SecretKey.box()`). Raises `CannotOpen`."""
    opener = Opener(Recipient(secret), context)
    parts = opener.feed(data)
    return b"".join([*parts, opener.finish()])


class Ephemeral:
    """A key for messages to one recipient.

    It may seal several messages if no two have the same context, which must then contain something fresh. The
    two slow curve operations are done only once (docs/adr/ephemeral-keys-that-serve).

    `secret`: 32 fresh random bytes. Raises `MalformedCredential` if `to` is not a usable key."""

    __slots__ = ("header", "public", "shared", "to")

    def __init__(self, to: bytes, secret: bytes) -> None:
        self.to, self.public = to, sodium.crypto_scalarmult_base(secret)
        try:
            self.shared = sodium.crypto_scalarmult(secret, to)
        except (nacl.exceptions.RuntimeError, nacl.exceptions.CryptoError) as error:
            raise MalformedCredential("the key to seal to is not a usable X25519 key") from error
        self.header = SEALED_MAGIC + key_id(to) + self.public


class Sealer:
    """Seals a stream: send `header`, then each `piece`. All but the last have exactly 64 KiB."""

    __slots__ = ("_key", "_number", "header")

    def __init__(self, ephemeral: Ephemeral, context: bytes) -> None:
        self.header = ephemeral.header
        self._key = _derive(ephemeral.shared, ephemeral.public, ephemeral.to, context)
        self._number = 0

    def piece(self, plain: bytes | memoryview, last: bool = False) -> bytes:
        """The next piece, 32 bytes longer than `plain`. Raises ValueError if a piece of that size cannot be here."""
        if len(plain) > PIECE_BYTES or (not last and len(plain) != PIECE_BYTES):
            raise ValueError("a piece has 64 KiB; only the last may be shorter")
        sealed = sodium.crypto_aead_aegis256_encrypt(bytes(plain), None, _nonce(self._number, last), self._key)
        # After the last piece the stream is closed: nothing more can be sealed under its key.
        self._number = -1 if last else self._number + 1
        return sealed


@define(eq=False, repr=False)
class Recipient:
    """The holder of the X25519 secret key `secret`. Remembers the secrets shared with recent senders."""

    _secret: bytes = field(repr=False)
    public: bytes = field(init=False)
    id: bytes = field(init=False)
    _shared: OrderedDict[bytes, bytes] = field(factory=OrderedDict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.public = sodium.crypto_scalarmult_base(self._secret)
        self.id = key_id(self.public)

    def shared(self, ephemeral: bytes) -> bytes:
        """The secret shared with the sender that made this ephemeral key. Raises `CannotOpen`."""
        found = self._shared.get(ephemeral)
        if found is None:
            try:
                found = sodium.crypto_scalarmult(self._secret, ephemeral)
            except (nacl.exceptions.RuntimeError, nacl.exceptions.CryptoError) as error:
                # With a point of small order, everybody would know the shared secret.
                raise CannotOpen("altered", "the sealed bytes name a key that cannot be used") from error
            # Bounded: anyone can make up keys.
            if len(self._shared) >= REMEMBERED_SECRETS:
                self._shared.popitem(last=False)
            self._shared[ephemeral] = found
        return found


class _At(enum.Enum):
    """What an `Opener` expects next."""

    HEADER = enum.auto()
    PIECES = enum.auto()
    END = enum.auto()
    """Nothing: the last piece was opened, or something was wrong."""


@define(eq=False, repr=False)
class Opener:
    """Opens a stream as it arrives, holding at most one piece. Only `finish` proves that the message is complete."""

    _recipient: Recipient = field(repr=False)
    _context: bytes = field(repr=False)
    _key: bytes = field(default=b"", init=False, repr=False)
    held: bytearray = field(factory=bytearray, init=False, repr=False)
    """What has come of the next piece, or of the header."""
    _at: _At = field(default=_At.HEADER, init=False)
    _number: int = field(default=0, init=False)

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take the next bytes; returns the pieces now known to be genuine. Raises `CannotOpen`."""
        if self._at is _At.END:
            raise CannotOpen("altered", "the sealed bytes are over already")
        view, pieces = memoryview(data).cast("B"), []
        try:
            if self._at is _At.HEADER:
                view = self._hold(view, HEADER_SIZE)
                if len(self.held) < HEADER_SIZE:
                    return []
                self._begin(bytes(self.held))
            # A full piece with something after it is not the last one. Whole pieces are not copied; only an unfinished
            # one is filled up.
            if self.held:
                view = self._hold(view, PIECE_BYTES + TAG_BYTES)
                if not len(view):
                    return []
                pieces.append(self._open(self.held, last=False))
                self.held = bytearray()
            while len(view) > PIECE_BYTES + TAG_BYTES:
                pieces.append(self._open(view[: PIECE_BYTES + TAG_BYTES], last=False))
                view = view[PIECE_BYTES + TAG_BYTES :]
        except CannotOpen:
            self._at = _At.END
            raise
        self.held += view
        return pieces

    def finish(self) -> bytes:
        """The last piece. Raises `CannotOpen` if it was altered or is missing."""
        at, self._at = self._at, _At.END
        if at is not _At.PIECES or len(self.held) < TAG_BYTES:
            raise CannotOpen("altered", "the sealed bytes end too soon")
        held, self.held = self.held, bytearray()
        return self._open(held, last=True)

    def _hold(self, view: memoryview, size: int) -> memoryview:
        """Fill the held piece up to `size` bytes; returns the rest of `view`."""
        missing = size - len(self.held)
        self.held += view[:missing]
        return view[missing:]

    def _begin(self, header: bytes) -> None:
        if not header.startswith(SEALED_MAGIC):
            raise CannotOpen("altered", "these are not sealed bytes of this version")
        to, ephemeral = header[len(SEALED_MAGIC) : -KEY_SIZE], header[-KEY_SIZE:]
        if to != self._recipient.id:
            raise CannotOpen("not-for-us", f"this is sealed for the key {text_of(to)}, which is not ours")
        shared = self._recipient.shared(ephemeral)
        self._key = _derive(shared, ephemeral, self._recipient.public, self._context)
        self._at, self.held = _At.PIECES, bytearray()

    def _open(self, piece: memoryview | bytearray, last: bool) -> bytes:
        try:
            plain = sodium.crypto_aead_aegis256_decrypt(bytes(piece), None, _nonce(self._number, last), self._key)
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
