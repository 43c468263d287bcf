"""Reads the integer-keyed maps of statements: every field is checked for type, size and range before use.

Not CBOR: `agents.canonical` has already decoded and bounded the bytes. Invariant: a `Fields` that was read to
`done()` held exactly the fields asked for; missing, extra or mistyped fields raise
`MalformedCredential`, never a KeyError."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from agents.canonical import DIGEST_SIZE
from agents.credentials.keys import KEY_SIZE, PublicKey, public_key
from agents.errors import MalformedCredential

# Milliseconds since 1970 up to the year 9999: later times cannot be displayed, and would overflow date
# libraries.
LATEST_MS = 253_402_300_799_000
COUNT = 2**32 - 1
# Sums of a few thousand amounts stay below 2^64, so the totals of a long journey can be encoded.
AMOUNT = 2**53


@define
class Fields:
    """The fields of one map; `what` names the statement in errors."""

    _value: dict[int, Any]
    _what: str
    _taken: set[int] = field(factory=set)

    @classmethod
    def of(cls, value: object, what: str) -> Fields:
        """Begin to read `value`. Raises `MalformedCredential` if it is not a map."""
        if not isinstance(value, dict):
            raise MalformedCredential(f"{what}: not a map")
        return cls(value, what)

    def take(self, key: int, name: str) -> object:
        """The raw value of field `key`."""
        self._taken.add(key)
        try:
            return self._value[key]
        except KeyError:
            raise MalformedCredential(f"{self._what}: no {name} (field {key})") from None

    def has(self, key: int) -> bool:
        """Whether the optional field `key` is present."""
        return key in self._value

    def uint(self, key: int, name: str, most: int = COUNT) -> int:
        """An integer from 0 to `most`."""
        return uint(self.take(key, name), f"{self._what}: {name}", most)

    def time(self, key: int, name: str) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return self.uint(key, name, LATEST_MS)

    def octets(self, key: int, name: str, least: int, most: int | None = None) -> bytes:
        """A byte string of `least` bytes exactly, or of `least` to `most`."""
        return byte_string(self.take(key, name), f"{self._what}: {name}", least, most)

    def digest(self, key: int, name: str) -> bytes:
        """A byte string of 32 bytes."""
        return self.octets(key, name, DIGEST_SIZE)

    def key(self, key: int, name: str) -> PublicKey:
        """A public key of 32 bytes."""
        return public_key(self.octets(key, name, KEY_SIZE))

    def text(self, key: int, name: str, most: int) -> str:
        """A text of 1 to `most` bytes in UTF-8, all of it printable."""
        return text(self.take(key, name), f"{self._what}: {name}", most)

    def array(self, key: int, name: str, most: int) -> list[Any]:
        """An array of at most `most` values."""
        return array(self.take(key, name), f"{self._what}: {name}", most)

    def pair(self, key: int, name: str) -> tuple[Any, Any]:
        """An array of exactly two values."""
        values = self.array(key, name, 2)
        if len(values) != 2:
            raise MalformedCredential(f"{self._what}: {name}: not a pair")
        return values[0], values[1]

    def done(self) -> None:
        """Refuse unknown fields: what this version does not understand it must not call verified."""
        extra = self._value.keys() - self._taken
        if extra:
            raise MalformedCredential(f"{self._what}: {len(extra)} unknown field(s)")


def uint(value: object, what: str, most: int = COUNT) -> int:
    """`value` as an integer from 0 to `most` (True and False are not integers here)."""
    if type(value) is not int or not 0 <= value <= most:
        raise MalformedCredential(f"{what}: not an integer from 0 to {most}")
    return value


def byte_string(value: object, what: str, least: int, most: int | None = None) -> bytes:
    """`value` as bytes of the given length."""
    most = least if most is None else most
    if type(value) is not bytes or not least <= len(value) <= most:
        sizes = f"{least}" if least == most else f"{least} to {most}"
        raise MalformedCredential(f"{what}: not a byte string of {sizes} bytes")
    return value


def text(value: object, what: str, most: int) -> str:
    """`value` as a text of 1 to `most` bytes. Control and formatting characters are refused: they
    could rewrite the terminal or the log line of whoever reads the refusal."""
    if type(value) is not str or not value.isprintable() or not 1 <= len(value.encode()) <= most:
        raise MalformedCredential(f"{what}: not a printable text of 1 to {most} bytes")
    return value


def array(value: object, what: str, most: int) -> list[Any]:
    """`value` as an array of at most `most` values."""
    if not isinstance(value, (list, tuple)) or len(value) > most:
        raise MalformedCredential(f"{what}: not an array of at most {most} values")
    return list(value)
