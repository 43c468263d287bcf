"""What a station finds at home when it begins: its key, its certificates, its store, whom it knows, what it lends.

Files and folders, and nothing that runs. `home`: the station's folder; None for a station that forgets everything when
it stops. Invariant: what cannot be used is an error that says what to do, before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from agents.credentials.keys import SecretKey
from agents.errors import CallFailed, CredentialError
from agents.wasi.hostdirs import HostGrant
from agents.wasi.hostquota import Quota
from docking.certificates import Certificates, read_folder
from docking.config import Directory
from docking.errors import StationError
from docking.identity import PINS_FILE, Pins, create_key, load_key, load_pins, save_pins
from docking.peers import Peers
from docking.station import Clocks
from docking.store import Failpoint, Store


def own_key(
    home: Path | None, name: str, random: Callable[[int], bytes], passphrase: Callable[[], str] | None
) -> SecretKey:
    """The key of this home, made at the first time. Raises `KeyFileError`."""
    if home is None:
        return SecretKey(random(32))
    path = home / "station.key"
    return (load_key(path, passphrase) if path.exists() else create_key(path, name, random(32))).key


def own_certificates(home: Path | None, own: SecretKey, given: Sequence[bytes]) -> Certificates:
    """Those that are given, and those in the folder of this home. Raises `StationError`."""
    found = [*given, *([] if home is None else read_folder(home))]
    try:
        return Certificates.of(own.public, found)
    except CredentialError as error:
        raise StationError(f"a certificate of this station cannot be used: {error.reason}") from error


def open_store(home: Path | None, clocks: Clocks, failpoint: Failpoint) -> Store:
    """The store of this home; in memory without one. Raises `StoreError`."""
    path = None
    if home is not None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home / "station.db"
    return Store.open(path, new_epoch=clocks.random(16), clock=clocks.now, failpoint=failpoint)


def known_peers(home: Path | None, own: SecretKey, name: str, now: Callable[[], int]) -> Peers:
    """The stations that are known here. What a command adds to the file of this home meanwhile is seen."""
    if home is None:
        return Peers(own.public, name, now, lambda pins: None)
    path = home / PINS_FILE
    known = _stamp(path)
    pins = load_pins(path)

    def save(changed: Pins) -> None:
        nonlocal known
        save_pins(path, changed)
        known = _stamp(path)

    def reload() -> Pins | None:
        nonlocal known
        stamp = _stamp(path)
        if stamp == known:
            return None
        known = stamp
        return load_pins(path)

    return Peers(own.public, name, now, save, pins, reload)


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written anew."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino


def lend(directory: Directory) -> HostGrant:
    """A directory of the policy, opened. Raises `StationError`."""
    quota = Quota(directory.bytes, directory.names) if directory.writable else None
    try:
        return HostGrant(directory.path, directory.guest, read_only=not directory.writable, quota=quota)
    except CallFailed as error:
        raise StationError(f"the policy's directory {directory.name!r} cannot be lent: {error.reason}") from None
