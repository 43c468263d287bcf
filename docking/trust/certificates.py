"""The certificates of a station: they qualify it for stops such as "any station that K certified".

Not here: trust. Whom an agent's owner trusts is in the itinerary, which the owner signed. Invariant: each certificate
held here was signed for this station; its validity at a given time is checked on each use.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from attrs import field, frozen

from agents.brief import brief
from agents.credentials import envelope
from agents.credentials.itinerary import CertifiedStop, Itinerary, Position
from agents.credentials.keys import PublicKey
from agents.credentials.visits import Certificate
from agents.errors import CredentialError
from docking.errors import ConfigError

# In the folder of a station, a file each.
CERTIFICATES_FOLDER = "certificates"
# Bytes, and files. A certificate is one signed statement; a folder of thousands is a mistake.
MAX_CERTIFICATE_BYTES, MAX_CERTIFICATES = 4096, 256


@frozen
class Certificates:
    """The certificates of one station."""

    _held: tuple[envelope.Signed[Certificate], ...] = field(default=(), repr=brief)

    @classmethod
    def of(cls, station: PublicKey, envelopes: Iterable[bytes]) -> Certificates:
        """Those of `station`. Raises `CredentialError` for one that does not verify, or is another station's."""
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
        """The certificate that a visit at this position must show; None where the itinerary names the station."""
        stop = itinerary.stop(position)
        if isinstance(stop, CertifiedStop):
            for each in self._held:
                if each.signer == stop.certifier and each.body.not_before <= at <= each.body.expires:
                    return each.envelope
        return None


def read_folder(home: Path) -> list[bytes]:
    """The certificates in a station's folder. Raises `ConfigError`, which names the file."""
    folder = home / CERTIFICATES_FOLDER
    if not folder.is_dir():
        return []
    found = []
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        if len(paths) > MAX_CERTIFICATES:
            raise ConfigError(f"{folder}: more than {MAX_CERTIFICATES} certificates")
        for path in paths:
            if path.stat().st_size > MAX_CERTIFICATE_BYTES:
                raise ConfigError(f"{path} is not a certificate: it is too large")
            found.append(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{error.filename}: the certificate cannot be read: {error.strerror}") from error
    return found
