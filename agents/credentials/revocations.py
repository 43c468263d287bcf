"""A key is not to be trusted any more: a signed statement, by that key itself or by one that others trust for it.

Not here: who is believed (`docking.trust.in_force`). Invariant: a statement revokes one key, for good: nothing takes it
back but the policy of whoever believed it.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from agents.credentials import envelope
from agents.credentials.envelope import Signed
from agents.credentials.fields import Fields
from agents.credentials.keys import PublicKey, SecretKey

MAX_REVOCATION_BYTES = 512


@frozen
class Revocation:
    """The statement. `key`: of an owner or a station; `time`: when it was signed, ms since 1970."""

    KIND: ClassVar[str] = "revocation"

    key: PublicKey
    time: int

    def payload(self) -> dict[int, object]:
        """As a map for CBOR."""
        return {1: self.key.raw, 2: self.time}

    @classmethod
    def from_payload(cls, value: object) -> Revocation:
        """The inverse of `payload`. Raises `MalformedCredential`."""
        read = Fields.of(value, "revocation")
        found = cls(read.key(1, "key"), read.time(2, "time"))
        read.done()
        return found


def sign_revocation(key: PublicKey, time: int, signer: SecretKey) -> Signed[Revocation]:
    """Revoke a key. `time`: ms since 1970; `signer`: the key itself, or one that stations trust to revoke others."""
    return envelope.sign(Revocation(key, time), signer)
