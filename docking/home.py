"""What a station finds at home when it begins: its key, its certificates, its store, whom it knows, what it lends.

Files and folders, and nothing that runs. `home`: the station's folder; None for a station that forgets everything when
it stops. Invariant: what cannot be used is an error that says what to do, before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from agents.credentials.keys import PublicKey, SecretKey, text_of
from agents.errors import CallFailed, CredentialError
from agents.wasi.hostdirs import HostGrant
from agents.wasi.hostquota import Quota
from docking.aio.clocks import Clocks
from docking.errors import KeyFileError, StationError, StoreFull, StoreUnusable
from docking.peers.directory import PeerDirectory
from docking.store import sqlite
from docking.store.changes import PutFact
from docking.store.store import Failpoint, Store
from docking.trust.certificates import Certificates, read_folder
from docking.trust.identity import PINS_FILE, Pins, first_key, load_pins, save_pins
from docking.trust.policy import LentDirectory

STORE_FILE = "station.db"
LIFE = "life"  # the fact that counts the starts of a store


def own_key(
    home: Path | None, name: str, random: Callable[[int], bytes], passphrase: Callable[[], str] | None
) -> SecretKey:
    """The key of this home, made at the first time. Raises `KeyFileError`."""
    if home is None:
        return SecretKey(random(32))
    path = home / "station.key"
    # In this order: another process that begins here at the same time makes the key first.
    if (home / STORE_FILE).exists() and not path.exists():
        raise KeyFileError(
            f"{path} is missing, and {home / STORE_FILE} is there: restore the key from a copy, or move the store away"
            " and lose the agents in it"
        )
    return first_key(path, name, random(32), passphrase).key


def own_certificates(home: Path | None, own: SecretKey, given: Sequence[bytes]) -> Certificates:
    """Those that are given, and those in the folder of this home. Raises `StationError`."""
    found = [*given, *([] if home is None else read_folder(home))]
    try:
        return Certificates.of(own.public, found)
    except CredentialError as error:
        raise StationError(f"a certificate of this station cannot be used: {error.reason}") from error


def open_store(home: Path | None, own: PublicKey, clocks: Clocks, failpoint: Failpoint) -> Store:
    """The store of this home, which is that of the station with the key `own`; in memory without a home.

    Raises `StoreError`.
    """
    path = None
    if home is not None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home / STORE_FILE
    store = Store.open(path, new_epoch=clocks.random(16), clock=clocks.now, failpoint=failpoint)
    try:
        _check_key(store, own)
        _count_start(store)
    except BaseException:
        store.close()
        raise
    return store


def hold(home: Path) -> int:
    """Have a home alone, without a store in it: two stations would answer with one key, and know nothing of each other.
    Ends when the file that is given back is closed. Raises `StoreError`.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return sqlite.hold(home / STORE_FILE)


def _check_key(store: Store, own: PublicKey) -> None:
    """What another station has stored cannot be gone on with: nothing that it signed is ours."""
    known = store.fact("station")
    if known is None:
        (error,) = store.commit([[PutFact("station", own.raw)]])
        if error is not None:
            raise error
    elif known != own.raw:
        raise StoreUnusable(
            f"{store.path} is the store of the station with the key {text_of(known)[:12]}..., and this station's key"
            f" is {text_of(own.raw)[:12]}...: they do not belong together. Restore both from the same copy"
        )


def _count_start(store: Store) -> None:
    """One more start of this store, durable before anything runs: see `docking.residents.lives`. On a full disk it is
    not counted: agents have to be able to leave.
    """
    count = int.from_bytes(store.fact(LIFE) or b"", "big") + 1
    (error,) = store.commit([[PutFact(LIFE, count.to_bytes(8, "big"))]])
    if error is not None and not isinstance(error, StoreFull):
        raise error


def known_peers(home: Path | None, own: SecretKey, name: str, now: Callable[[], int]) -> PeerDirectory:
    """The stations that are known here. What a command adds to the file of this home meanwhile is seen."""
    if home is None:
        return PeerDirectory(own.public, name, now, lambda pins: None)
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

    return PeerDirectory(own.public, name, now, save, pins, reload)


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written anew."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino


def lend(directory: LentDirectory) -> HostGrant:
    """A directory of the policy, opened. Raises `StationError`."""
    quota = Quota(directory.bytes, directory.names) if directory.writable else None
    try:
        return HostGrant(directory.path, directory.guest, read_only=not directory.writable, quota=quota)
    except CallFailed as error:
        raise StationError(f"the policy's directory {directory.name!r} cannot be lent: {error.reason}") from None
