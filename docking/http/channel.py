"""Channels: small requests between two stations over one persistent connection, without HTTP around each.

A channel begins as an HTTP upgrade (RFC 9110 section 7.8) on a connection of its own:

    GET /portcall/1/channel HTTP/1.1          HTTP/1.1 101 Switching Protocols
    Upgrade: portcall-channel                 Upgrade: portcall-channel
    Portcall-From, Portcall-To, -Ephemeral    Portcall-Ephemeral

Each side has then sent a fresh X25519 key. The channel's keys, one for each direction, are derived from the four
secrets between the static and fresh keys of both sides, as in the Noise pattern KK: only these two stations can know
them, a recorded channel cannot be replayed, and learning a station's key later does not open it. Then come frames:

    length (4, big-endian) | AEGIS-256 of the plaintext, its tag of 32 bytes
    request  number (4), kind (1), body      the client's first frame is empty, and proves its key
    answer   number (4), status (2), body

The nonce of a frame is its number in its direction, so frames cannot be dropped, repeated, reordered or reflected.

Not here: connections and time (`channel_client`, `channel_server`). Invariants: no byte of a frame is used before its
tag is verified; a frame's size is bounded before it is received, and to almost nothing before the client has proven its
key. Why channels: docs/adr/channels-beside-http.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import blake3
import nacl.bindings as sodium
from attrs import define, field, frozen

from agents.canonical import Buffer
from agents.credentials.keys import PublicKey
from docking.http import aegis
from docking.http.aegis import CannotDecrypt
from docking.http.app import URL_PREFIX
from docking.http.sealing import MAX_ANSWER_BYTES, TAG_BYTES, SharedKeys, agree

UPGRADE_LINE = f"GET {URL_PREFIX}channel HTTP/1.1\r\n".encode()
# Bytes of a head: ours take 400. Without a bound, an endless head would fill memory.
MAX_HEAD_BYTES = 2048
# The longest request body, in bytes. Longer ones go by HTTP, in pieces, so they do not block the requests behind them.
MAX_REQUEST_BODY_BYTES = 128 << 10
REQUEST_HEAD, ANSWER_HEAD = struct.Struct(">IB"), struct.Struct(">IH")
MAX_REQUEST_BYTES, MAX_ANSWER_FRAME_BYTES = (
    REQUEST_HEAD.size + MAX_REQUEST_BODY_BYTES,
    ANSWER_HEAD.size + MAX_ANSWER_BYTES,
)
_PROTOCOL = b"portcall-channel"
_KEYS = "portcall c1 channel keys"
_LENGTH = struct.Struct(">I")


class BrokenChannel(Exception):
    """The peer violates the protocol or lacks the key: close the connection."""


@frozen
class ChannelHello:
    """The client's head: caller and callee (key ids, or keys as text), and the client's fresh key."""

    sender: bytes
    to: bytes
    fresh: bytes


def greeting(host: str, me: bytes, to: PublicKey, fresh: bytes) -> bytes:
    """The head that asks for a channel. `me`: the client's key as text; `fresh`: 32 bytes, a public X25519 key."""
    return b"%shost: %s\r\nconnection: upgrade\r\nupgrade: %s\r\n%s%s%s\r\n" % (
        UPGRADE_LINE,
        host.encode(),
        _PROTOCOL,
        b"portcall-from: %s\r\n" % me,
        b"portcall-to: %s\r\n" % to.text.encode(),
        b"portcall-ephemeral: %s\r\n" % fresh.hex().encode(),
    )


def read_greeting(head: bytes) -> ChannelHello | None:
    """The request in a head, up to its empty line; None if it does not ask for a channel of this version."""
    fields = _fields(head) if head.startswith(UPGRADE_LINE) else {}
    fresh = _key(fields.get(b"portcall-ephemeral", b""))
    if fields.get(b"upgrade", b"").lower() != _PROTOCOL or fresh is None:
        return None
    return ChannelHello(fields.get(b"portcall-from", b""), fields.get(b"portcall-to", b""), fresh)


def welcome(fresh: bytes) -> bytes:
    """The head that accepts the channel. `fresh`: 32 bytes, a public X25519 key."""
    start = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: %s\r\n" % _PROTOCOL
    return start + b"portcall-ephemeral: %s\r\n\r\n" % fresh.hex().encode()


def read_welcome(head: bytes) -> bytes | None:
    """The server's fresh key; None if it does not open a channel."""
    fields = _fields(head) if head.startswith(b"HTTP/1.1 101 ") else {}
    return _key(fields.get(b"portcall-ephemeral", b"")) if fields.get(b"upgrade", b"").lower() == _PROTOCOL else None


def _fields(head: bytes) -> dict[bytes, bytes]:
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return {name.lower(): value.strip() for name, _, value in lines}


def _key(said: bytes) -> bytes | None:
    try:
        key = bytes.fromhex(said.decode("ascii"))
    except ValueError:  # includes UnicodeDecodeError
        return None
    return key if len(key) == 32 else None


@define(eq=False, repr=False)
class Direction:
    """One direction of a channel: seals frames in order, or opens them."""

    _key: bytes = field(repr=False)
    _number: int = 0

    def seal(self, parts: Sequence[Buffer]) -> bytes:
        """The next frame, with its length prefix."""
        nonce = self._number.to_bytes(32, "big")
        self._number += 1
        sealed = aegis.encrypt(b"".join(parts), nonce, self._key)
        return _LENGTH.pack(len(sealed)) + sealed

    def open(self, sealed: bytes) -> bytes:
        """The plaintext of the next frame, given without its length prefix. Raises `BrokenChannel`."""
        nonce = self._number.to_bytes(32, "big")
        self._number += 1
        try:
            return aegis.decrypt(sealed, nonce, self._key)
        except CannotDecrypt as error:
            raise BrokenChannel("a frame was altered, left out or repeated, or is not of this peer") from error


@define(eq=False, repr=False)
class Frames:
    """Splits received bytes into frames. `most`: bytes of plaintext in the next one."""

    most: int
    # Received bytes, in one buffer: a list of many small chunks would take many times their size. `_at` marks how much
    # is consumed, so that taking many small frames does not move the rest each time.
    _held: bytes | bytearray = b""
    _at: int = 0
    # The size of the next frame, once its length prefix was read; None before that.
    _size: int | None = None

    def feed(self, data: bytes) -> None:
        """Append received bytes."""
        if self._at == len(self._held):
            self._held, self._at = data, 0
        elif isinstance(self._held, bytearray) and not self._at:
            self._held += data
        else:
            self._held, self._at = bytearray(memoryview(self._held)[self._at :]) + data, 0

    @property
    def inside(self) -> bool:
        """Whether part of an incomplete frame has been received."""
        return self._at < len(self._held)

    def next(self) -> bytes | None:
        """The next frame, sealed, or None if it is incomplete. Raises `BrokenChannel` if it is too long."""
        here = len(self._held) - self._at
        if self._size is None:
            if here < _LENGTH.size:
                return None
            (size,) = _LENGTH.unpack_from(self._held, self._at)
            if not TAG_BYTES <= size <= self.most + TAG_BYTES:
                raise BrokenChannel(f"a frame of {size} bytes, where at most {self.most + TAG_BYTES} are read")
            self._size = size
        if here < _LENGTH.size + self._size:
            return None
        begin = self._at + _LENGTH.size
        self._at = begin + self._size
        self._size = None
        return bytes(memoryview(self._held)[begin : self._at])


@define(eq=False, repr=False)
class ChannelKeys:
    """The two directions of a channel, as one side sees them."""

    send: Direction
    receive: Direction


@frozen
class EphemeralKey:
    """A key that one side makes for one channel. `secret`: 32 fresh random bytes."""

    secret: bytes = field(repr=False)
    public: bytes = field(init=False)

    @public.default
    def _of_secret(self) -> bytes:
        return sodium.crypto_scalarmult_base(self.secret)


def called(secrets: SharedKeys, sender: PublicKey, theirs: bytes, fresh: EphemeralKey) -> ChannelKeys:
    """The server's ends of a channel. `theirs`: the client's fresh public key; `fresh`: our own.

    Raises `CredentialError`.
    """
    agreed = (secrets.agree(theirs), agree(fresh.secret, sender.box()), agree(fresh.secret, theirs))
    there, back = _derive(secrets, sender, agreed, (sender.raw, secrets.me.raw, theirs, fresh.public))
    return ChannelKeys(Direction(back), Direction(there))


def calling(secrets: SharedKeys, to: PublicKey, theirs: bytes, fresh: EphemeralKey) -> ChannelKeys:
    """The client's ends of a channel. `theirs`: the server's fresh public key; `fresh`: our own.

    Raises `CredentialError`.
    """
    agreed = (agree(fresh.secret, to.box()), secrets.agree(theirs), agree(fresh.secret, theirs))
    there, back = _derive(secrets, to, agreed, (secrets.me.raw, to.raw, fresh.public, theirs))
    return ChannelKeys(Direction(there), Direction(back))


def _derive(
    secrets: SharedKeys, peer: PublicKey, agreed: tuple[bytes, ...], said: tuple[bytes, ...]
) -> tuple[bytes, bytes]:
    """The key of each direction, the client's first.

    `agreed`: the shared secrets of client's fresh with server's static, client's static with server's fresh, and both
    fresh keys; `said`: client, server, and their fresh keys.
    """
    material = secrets.shared(peer) + b"".join(agreed) + b"".join(said)
    keys = blake3.blake3(material, derive_key_context=_KEYS).digest(length=64)
    return keys[:32], keys[32:]
