"""The certificates of a station: with them it may stand where an itinerary says "any station that K certified".

Not trust: who an agent's owner believes is in the itinerary, which the owner signed. Invariant: what is held here was
signed for this station; whether it is valid at a time is asked each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from agents.credentials import envelope
from agents.credentials.itinerary import Any, Itinerary, Position
from agents.credentials.keys import PublicKey
from agents.credentials.visits import Certificate
from agents.errors import CredentialError
from docking.errors import ConfigError

# In the folder of a station: a file each.
FOLDER = "certificates"
# A certificate is one signed statement; a folder of thousands is a mistake.
MAX_SIZE, MAX_NUMBER = 4096, 256


@frozen
class Certificates:
    """Certificates for one station."""

    _held: tuple[envelope.Signed[Certificate], ...] = ()

    @classmethod
    def of(cls, station: PublicKey, envelopes: Iterable[bytes]) -> Certificates:
        """Those of `station`. Raises `CredentialError` for one that does not hold, or is another station's."""
        held = []
        for data in envelopes:
            signed = envelope.verify(Certificate, data)
            if signed.body.station != station:
                raise CredentialError("certificate", f"a certificate of {signed.body.station} is not for this station")
            held.append(signed)
        return cls(tuple(held))

    def certifiers(self, at: int) -> frozenset[PublicKey]:
        """Who certified this station, at the time `at` (ms)."""
        return frozenset(each.signer for each in self._held if each.body.not_before <= at <= each.body.expires)

    def asked_for(self, itinerary: Itinerary, position: Position, at: int) -> bytes | None:
        """The certificate that a visit at this position has to show; None where the itinerary names the station."""
        stop = itinerary.stop(position)
        if isinstance(stop, Any):
            for each in self._held:
                if each.signer == stop.certifier and each.body.not_before <= at <= each.body.expires:
                    return each.envelope
        return None


def read_folder(home: Path) -> list[bytes]:
    """The certificates in the folder of a station. Raises `ConfigError`, which names the file."""
    folder = home / FOLDER
    if not folder.is_dir():
        return []
    found = []
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        if len(paths) > MAX_NUMBER:
            raise ConfigError(f"{folder}: more than {MAX_NUMBER} certificates")
        for path in paths:
            if path.stat().st_size > MAX_SIZE:
                raise ConfigError(f"{path} is not a certificate: it is too large")
            found.append(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{error.filename}: the certificate cannot be read: {error.strerror}") from error
    return found
