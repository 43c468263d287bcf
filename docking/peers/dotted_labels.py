"""Labels with dots in multicast DNS messages, which python-zeroconf takes for several labels.

RFC 6763, section 4.3: an instance name is one label, whatever is in it, dots too. python-zeroconf (0.154) keeps names
as text, splits them at every dot when it writes them, and does not escape. So the station gives it `STAND_IN` where a
label has a dot, and messages are translated between it and the sockets
(docs/adr/zeroconf-and-what-it-leaves-out.md).

Not a resolver: a message that is malformed is handed on as it is. Invariant: a translated message has the same length.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from attrs import frozen
from zeroconf import Zeroconf

from docking.peers.directory import STAND_IN

_DOT, _SLASH = ord("."), ord(STAND_IN)
# Types of records whose data has a name, and how many bytes are before it: CNAME, PTR, SRV, DNAME, NSEC.
_NAME_AT = {5: 0, 12: 0, 33: 6, 39: 0, 47: 0}
_HEADER_BYTES, _QUESTION_BYTES, _RECORD_BYTES = 12, 4, 10
_POINTER, _MAX_LABEL = 0xC0, 63


def with_dots(message: bytes) -> bytes:
    """A message of python-zeroconf as it is sent: dots in labels for `STAND_IN`."""
    return _with_labels(message, _SLASH, _DOT)


def without_dots(message: bytes) -> bytes:
    """A message that came as python-zeroconf can read it: `STAND_IN` for dots in labels."""
    return _with_labels(message, _DOT, _SLASH)


def _with_labels(message: bytes, old: int, new: int) -> bytes:
    if old not in message:
        return message
    changed = bytearray(message)
    try:
        questions, *records = struct.unpack_from(">4H", message, 4)
        at = _HEADER_BYTES
        for _ in range(questions):
            at = _after_name(changed, at, old, new) + _QUESTION_BYTES
        for _ in range(sum(records)):
            at = _after_name(changed, at, old, new)
            kind, _, _, size = struct.unpack_from(">2HIH", message, at)
            at += _RECORD_BYTES
            if kind in _NAME_AT:
                _after_name(changed, at + _NAME_AT[kind], old, new)
            at += size
    except (IndexError, ValueError, struct.error):
        return message
    return bytes(changed)


def _after_name(message: bytearray, at: int, old: int, new: int) -> int:
    """Replace the byte in each label of the name that is written at `at`; where the name ends.

    Labels behind a pointer are written elsewhere. Raises `IndexError`, `ValueError`: there is no name.
    """
    while size := message[at]:
        if size >= _POINTER:
            return at + 2
        if size > _MAX_LABEL:
            raise ValueError("not a label")
        end = at + 1 + size
        message[at + 1 : end] = message[at + 1 : end].replace(bytes([old]), bytes([new]))
        at = end
    return at + 1


@frozen
class _Sending:
    """A datagram transport that sends dots."""

    _transport: Any

    def sendto(self, data: bytes, address: Any = None) -> None:
        self._transport.sendto(with_dots(data), address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@frozen
class _Receiving(asyncio.DatagramProtocol):
    """A datagram protocol that hears no dots."""

    _protocol: Any

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._protocol.datagram_received(without_dots(data), addr)

    def error_received(self, exc: Exception) -> None:
        self._protocol.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)


async def translate(zeroconf: Zeroconf) -> None:
    """Translate what goes between this and its sockets, as soon as they are open.

    Raises `zeroconf.Error` when they are closed before.
    """
    await zeroconf.async_wait_for_start()
    engine = zeroconf.engine
    for listener in engine.protocols:
        transport: Any = listener.transport
        transport.transport.set_protocol(_Receiving(listener))
        transport.transport = _Sending(transport.transport)
    for wrapped in {id(each): each for each in (*engine.readers, *engine.senders)}.values():
        if not isinstance(wrapped.transport, _Sending):
            wrapped.transport = _Sending(wrapped.transport)  # type: ignore[assignment]
