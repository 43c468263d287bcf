"""Channels: small requests between two stations over one connection that both keep, without HTTP around each.

A channel begins as a request of HTTP that asks for another protocol (RFC 9110 section 7.8), on a connection of its own:

    GET /portcall/1/channel HTTP/1.1          HTTP/1.1 101 Switching Protocols
    Upgrade: portcall-channel                 Upgrade: portcall-channel
    Portcall-From, Portcall-To, -Ephemeral    Portcall-Ephemeral

Both have sent a fresh X25519 key then. The keys of the channel, one for each direction, are derived from the four
secrets that own and fresh keys of both sides make, as in the pattern KK of the Noise framework: only these two
stations can know them, a recorded channel says nothing a second time, and who learns a station's key later cannot open
it. After that, frames:

    length (4, big-endian) | AEGIS-256 of the plaintext, its tag of 32 bytes
    request  number (4), what (1), body      the first frame of who called is empty, and proves its key
    answer   number (4), status (2), body

The nonce of a frame is its number in its direction, so frames cannot be left out, repeated, reordered or sent back.

Not here: connections and time (`calling`, `called`). Invariants: nothing of a frame is used before its tag was
checked; a frame's size is bounded before it is waited for, and to almost nothing before the caller has proven itself.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import blake3
import nacl.bindings as sodium
import nacl.exceptions
from attrs import define, field, frozen

from agents.credentials.keys import PublicKey
from docking.handoff.messages import Buffer
from docking.http.app import PREFIX
from docking.http.sealed import MAX_ANSWER, TAG, Secrets, agree

LINE = f"GET {PREFIX}channel HTTP/1.1\r\n".encode()
# Bytes of the two heads: ours have 400. Endless heads hold memory.
HEAD = 2048
# The longest request (bytes of its body): longer ones are sent in pieces, by HTTP, and do not hold up what is behind.
LONGEST = 128 << 10
REQUEST, ANSWER = struct.Struct(">IB"), struct.Struct(">IH")
MOST_REQUEST, MOST_ANSWER = REQUEST.size + LONGEST, ANSWER.size + MAX_ANSWER
_PROTOCOL = b"portcall-channel"
_KEYS = "portcall c1 channel keys"
_LENGTH = struct.Struct(">I")


class BrokenChannel(Exception):
    """The other side does not keep to the rules, or does not have the key: the connection is of no use."""


@frozen
class Greeting:
    """What the head of a caller says: who, to whom (key ids or keys as text), and its fresh key."""

    sender: bytes
    to: bytes
    fresh: bytes


def greeting(host: str, me: bytes, to: PublicKey, fresh: bytes) -> bytes:
    """The head that asks for a channel. `me`: the caller's key as text; `fresh`: 32 bytes, a public X25519 key."""
    return b"%shost: %s\r\nconnection: upgrade\r\nupgrade: %s\r\n%s%s%s\r\n" % (
        LINE,
        host.encode(),
        _PROTOCOL,
        b"portcall-from: %s\r\n" % me,
        b"portcall-to: %s\r\n" % to.text.encode(),
        b"portcall-ephemeral: %s\r\n" % fresh.hex().encode(),
    )


def read_greeting(head: bytes) -> Greeting | None:
    """What a head asks, up to its empty line; None if that is not a channel of this version."""
    fields = _fields(head) if head.startswith(LINE) else {}
    fresh = _key(fields.get(b"portcall-ephemeral", b""))
    if fields.get(b"upgrade", b"").lower() != _PROTOCOL or fresh is None:
        return None
    return Greeting(fields.get(b"portcall-from", b""), fields.get(b"portcall-to", b""), fresh)


def welcome(fresh: bytes) -> bytes:
    """The head that answers it. `fresh`: 32 bytes, a public X25519 key."""
    start = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: %s\r\n" % _PROTOCOL
    return start + b"portcall-ephemeral: %s\r\n\r\n" % fresh.hex().encode()


def read_welcome(head: bytes) -> bytes | None:
    """The fresh key of who was called; None if there is no channel to be had."""
    fields = _fields(head) if head.startswith(b"HTTP/1.1 101 ") else {}
    return _key(fields.get(b"portcall-ephemeral", b"")) if fields.get(b"upgrade", b"").lower() == _PROTOCOL else None


def _fields(head: bytes) -> dict[bytes, bytes]:
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return {name.lower(): value.strip() for name, _, value in lines}


def _key(said: bytes) -> bytes | None:
    try:
        key = bytes.fromhex(said.decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        return None
    return key if len(key) == 32 else None


@define(eq=False)
class Direction:
    """One direction of a channel: seals frames, or opens them, in their order."""

    _key: bytes = field(repr=False)
    _number: int = 0

    def seal(self, parts: Sequence[Buffer]) -> bytes:
        """The next frame, with its length."""
        nonce = self._number.to_bytes(32, "big")
        self._number += 1
        sealed = sodium.crypto_aead_aegis256_encrypt(b"".join(parts), None, nonce, self._key)
        return _LENGTH.pack(len(sealed)) + sealed

    def open(self, sealed: bytes) -> bytes:
        """What is in the next frame, without its length. Raises `BrokenChannel`."""
        nonce = self._number.to_bytes(32, "big")
        self._number += 1
        try:
            return sodium.crypto_aead_aegis256_decrypt(sealed, None, nonce, self._key)
        except nacl.exceptions.CryptoError as error:
            raise BrokenChannel("a frame was altered, left out or repeated, or is not of this peer") from error


@define(eq=False)
class Frames:
    """Takes frames as a connection gives them. `most`: bytes of plaintext of the next one."""

    most: int
    # What came: one buffer, since a frame in many small pieces would weigh many times its size. Used up to `_at`, since
    # many small frames would otherwise be moved as often as one is taken.
    _held: bytes | bytearray = b""
    _at: int = 0
    _size: int = -1

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._at == len(self._held):
            self._held, self._at = data, 0
        elif isinstance(self._held, bytearray) and not self._at:
            self._held += data
        else:
            self._held, self._at = bytearray(memoryview(self._held)[self._at :]) + data, 0

    @property
    def inside(self) -> bool:
        """Whether bytes are here of a frame that is not taken."""
        return self._at < len(self._held)

    def next(self) -> bytes | None:
        """The next frame, sealed, if it is here whole. Raises `BrokenChannel` for one that is too long."""
        here = len(self._held) - self._at
        if self._size < 0:
            if here < _LENGTH.size:
                return None
            (self._size,) = _LENGTH.unpack_from(self._held, self._at)
            if not TAG <= self._size <= self.most + TAG:
                raise BrokenChannel(f"a frame of {self._size} bytes, where at most {self.most + TAG} are read")
        if here < _LENGTH.size + self._size:
            return None
        begin = self._at + _LENGTH.size
        self._at = begin + self._size
        self._size = -1
        return bytes(memoryview(self._held)[begin : self._at])


@define(eq=False)
class Ends:
    """The two directions of a channel, as one side sees them."""

    send: Direction
    receive: Direction


@frozen
class Fresh:
    """A key that one side makes for one channel. `secret`: 32 fresh random bytes."""

    secret: bytes = field(repr=False)
    public: bytes = field(init=False)

    @public.default
    def _of_secret(self) -> bytes:
        return sodium.crypto_scalarmult_base(self.secret)


def called(secrets: Secrets, sender: PublicKey, theirs: bytes, fresh: Fresh) -> Ends:
    """The ends of who was called. `theirs`: the caller's fresh key, in public; `fresh`: our own.

    Raises `CredentialError`.
    """
    agreed = (secrets.agree(theirs), agree(fresh.secret, sender.box()), agree(fresh.secret, theirs))
    there, back = _derive(secrets, sender, agreed, (sender.raw, secrets.me.raw, theirs, fresh.public))
    return Ends(Direction(back), Direction(there))


def calling(secrets: Secrets, to: PublicKey, theirs: bytes, fresh: Fresh) -> Ends:
    """The ends of who calls. `theirs`: the fresh key of who was called, in public; `fresh`: our own.

    Raises `CredentialError`.
    """
    agreed = (agree(fresh.secret, to.box()), secrets.agree(theirs), agree(fresh.secret, theirs))
    there, back = _derive(secrets, to, agreed, (secrets.me.raw, to.raw, fresh.public, theirs))
    return Ends(Direction(there), Direction(back))


def _derive(
    secrets: Secrets, peer: PublicKey, agreed: tuple[bytes, ...], said: tuple[bytes, ...]
) -> tuple[bytes, bytes]:
    """The key of each direction, the caller's first. `agreed`: caller's fresh with called's own, caller's own with
    called's fresh, both fresh; `said`: caller, called, and their fresh keys.
    """
    material = secrets.shared(peer) + b"".join(agreed) + b"".join(said)
    keys = blake3.blake3(material, derive_key_context=_KEYS).digest(length=64)
    return keys[:32], keys[32:]
