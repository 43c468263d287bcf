"""Key files, and the pinned keys of peers: who this station is, and whom it has met.

Not here: how keys sign (`agents.credentials.keys`), and where peers are. Randomness and times are arguments.

A key file is text, version first:

    portcall-key/1
    name alpha
    public ed25519:...
    secret ...                                  32 bytes, base32
or  sealed argon2id OPERATIONS MEMORY SALT BOX   under a passphrase: a SecretBox of the secret (PyNaCl)

Invariants: a key file is readable by its user only, from the moment it exists, and one that is not is
refused; an existing file is never overwritten; a pin changes only by `accept`."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import nacl.bindings as sodium
import nacl.exceptions
from attrs import evolve, field, frozen

from agents.brief import brief
from agents.credentials.fields import LATEST_MS
from agents.credentials.keys import PublicKey, SecretKey, bytes_of, text_of
from agents.errors import CredentialError
from docking.errors import IdentityError, KeyChanged, KeyExists, KeyFileError

_VERSION = "portcall-key/1"
# Names become file names and are shown everywhere: no character may leave a folder or move a cursor.
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
MAX_KEY_FILE_BYTES = 4096
MAX_PINS_FILE_BYTES = 16 * 2**20
# The file of pins, in a station's folder.
PINS_FILE = "pins.json"
# argon2id, libsodium's "moderate": about a second. The maxima are for files from elsewhere.
KDF_OPERATIONS, KDF_MEMORY_BYTES = 3, 256 * 2**20
MAX_KDF_OPERATIONS, MAX_KDF_MEMORY_BYTES = 16, 2**30
ENTROPY_SIZE = 40


@frozen
class KeyFile:
    """A key with its name. `path`: where it is kept."""

    name: str
    key: SecretKey = field(repr=False)
    path: Path

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return self.key.public


@frozen
class Protection:
    """A passphrase and the cost of argon2id: passes over `memory_bytes` bytes. `entropy`: 40 fresh random bytes."""

    passphrase: str = field(repr=False)
    entropy: bytes = field(repr=False)
    operations: int = KDF_OPERATIONS
    memory_bytes: int = KDF_MEMORY_BYTES


def check_name(name: str) -> str:
    """`name`, if a station or owner can have it: lower case letters, digits, `_ . -`. Raises `IdentityError`."""
    if not isinstance(name, str):
        raise TypeError(f"a name is text, not {type(name).__name__}")
    if not NAME_PATTERN.match(name):
        near = re.sub(r"[^a-z0-9_.-]+", "-", name.lower()[:63]).strip("-._")
        hint = f", such as {near!r}" if near else ""
        raise IdentityError(
            f"{name[:80]!r} is not a name: use lower case letters, digits, '-', '_' and '.', at most 63{hint}"
        )
    return name


def create_key(path: Path, name: str, seed: bytes, protection: Protection | None = None) -> KeyFile:
    """Write a new key file. `seed`: 32 fresh random bytes. Raises `KeyExists`, `KeyFileError`.

    The file appears whole, so that who finds it can read it, and a crash leaves no part of one.
    """
    key = SecretKey(seed)
    lines = [_VERSION, f"name {check_name(name)}", f"public {key.public.text}"]
    lines.append(f"secret {text_of(seed)}" if protection is None else _seal(seed, protection))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(path, ("\n".join(lines) + "\n").encode("ascii"))
    except FileExistsError:
        raise KeyExists(f"there is a key in {path} already; it is not overwritten") from None
    except OSError as error:
        raise KeyFileError(f"the key cannot be written to {path}: {error.strerror}") from error
    return KeyFile(name, key, path)


def _write_new(path: Path, data: bytes) -> None:
    """Never writes to an existing file, or through a link that somebody placed there. Raises `FileExistsError`."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        _write(handle, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _write(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), data)
    finally:
        os.unlink(temporary)


def _write(handle: int, data: bytes) -> None:
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def first_key(path: Path, name: str, seed: bytes, passphrase: Callable[[], str] | None = None) -> KeyFile:
    """The key in a file that may be missing: then it is made. Of two who begin at once, both get the same key.

    Raises `KeyFileError`.
    """
    if not path.exists():
        with contextlib.suppress(KeyExists):
            return create_key(path, name, seed)
    return load_key(path, passphrase)


def introduce(homes: Mapping[str, Path], random: Callable[[int], bytes], now: int) -> dict[str, PublicKey]:
    """Make the keys of stations, and let each know those of the others, so that no other of their names is taken for
    one of them: somebody on this network may have stations of the same names.

    homes: their folders, by their names
    now: milliseconds since 1970

    Raises `KeyFileError`; `KeyChanged` where one knows another by another key.
    """
    keys = {name: first_key(home / "station.key", name, random(32)).public for name, home in homes.items()}
    for name, home in homes.items():
        pins = load_pins(home / PINS_FILE)
        for other in homes:
            pins = pins if other == name else pins.see(other, keys[other], now)
        save_pins(home / PINS_FILE, pins)
    return keys


def load_key(path: Path, passphrase: Callable[[], str] | None = None) -> KeyFile:
    """Read a key file; `passphrase` is called only if needed. Raises `KeyFileError`."""
    name, public, rest = _read_key(path)
    word, _, value = rest.partition(" ")
    if word == "secret":
        seed = _octets(value, 32, path)
    elif passphrase is None:
        raise KeyFileError(f"the key in {path} is protected by a passphrase")
    else:
        seed = _unseal(value.split(" "), passphrase(), path)
    key = SecretKey(seed)
    if key.public != public:
        raise KeyFileError(f"the secret and the public key in {path} do not belong together")
    return KeyFile(name, key, path)


def show_key(path: Path) -> tuple[str, PublicKey, bool]:
    """Name, public key, and whether a passphrase protects it; does not need the secret. Raises `KeyFileError`."""
    name, public, rest = _read_key(path)
    return name, public, rest.startswith("sealed ")


def list_keys(folder: Path) -> list[tuple[Path, str, PublicKey, bool]]:
    """The key files (`*.key`) in `folder`, sorted by name. Raises `KeyFileError` for an unreadable one."""
    return [(path, *show_key(path)) for path in sorted(folder.glob("*.key"))]


def _read_key(path: Path) -> tuple[str, PublicKey, str]:
    """Name, public key and the line with the secret."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"the key in {path} cannot be read: {error.strerror}") from error
    # Windows has no such permission bits; there the user's folder is private.
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"the key in {path} is open to other users of this machine: chmod 600 {path}")
    lines = data.decode("ascii", "replace").split("\n")
    heads = [line.partition(" ")[0] for line in lines[1:]]
    if len(data) > MAX_KEY_FILE_BYTES or lines[0] != _VERSION or heads[:2] != ["name", "public"] or len(lines) != 5:
        raise KeyFileError(f"{path} is not a key file ({_VERSION})")
    if heads[2] not in ("secret", "sealed") or lines[4] != "" or not NAME_PATTERN.match(lines[1][5:]):
        raise KeyFileError(f"{path} is not a key file ({_VERSION})")
    try:
        return lines[1][5:], PublicKey.from_text(lines[2][7:]), lines[3]
    except CredentialError as error:
        raise KeyFileError(f"the public key in {path} is damaged: {error.reason}") from error


def _seal(seed: bytes, protection: Protection) -> str:
    if len(protection.entropy) != ENTROPY_SIZE:
        raise ValueError(f"{ENTROPY_SIZE} bytes of entropy are needed")
    salt, nonce = protection.entropy[:16], protection.entropy[16:]
    key = _stretch(protection.passphrase, salt, protection.operations, protection.memory_bytes)
    box = nonce + sodium.crypto_secretbox(seed, nonce, key)
    return f"sealed argon2id {protection.operations} {protection.memory_bytes} {text_of(salt)} {text_of(box)}"


def _unseal(words: list[str], passphrase: str, path: Path) -> bytes:
    if len(words) != 5 or words[0] != "argon2id" or not (words[1].isdecimal() and words[2].isdecimal()):
        raise KeyFileError(f"the protection of the key in {path} is damaged")
    operations, memory = int(words[1][:12]), int(words[2][:12])
    # Otherwise a file could demand all memory of the machine.
    if not 1 <= operations <= MAX_KDF_OPERATIONS or not 8192 <= memory <= MAX_KDF_MEMORY_BYTES:
        raise KeyFileError(
            f"the protection of the key in {path} asks for more than {MAX_KDF_MEMORY_BYTES} bytes or passes"
        )
    salt, box = _octets(words[3], 16, path), _octets(words[4], 24 + 16 + 32, path)
    try:
        return sodium.crypto_secretbox_open(box[24:], box[:24], _stretch(passphrase, salt, operations, memory))
    except nacl.exceptions.CryptoError as error:
        raise KeyFileError(f"the passphrase of the key in {path} is wrong") from error


def _stretch(passphrase: str, salt: bytes, operations: int, memory: int) -> bytes:
    return sodium.crypto_pwhash_alg(
        32, passphrase.encode(), salt, operations, memory, sodium.crypto_pwhash_ALG_ARGON2ID13
    )


def _octets(text: str, size: int, path: Path) -> bytes:
    try:
        data = bytes_of(text)
    except CredentialError as error:
        raise KeyFileError(f"the key in {path} is damaged") from error
    if len(data) != size:
        raise KeyFileError(f"the key in {path} is damaged")
    return data


@frozen
class Pin:
    """The key that belongs to a name. `since`: when it was first seen or accepted, ms; `accepted`: by a person."""

    key: PublicKey
    since: int
    accepted: bool = False


@frozen
class Pins:
    """The keys of peers by name. The first key seen is recorded and trusted from then on; a change is refused."""

    pins: Mapping[str, Pin] = field(factory=dict, repr=brief)

    def see(self, name: str, key: PublicKey, now: int) -> Pins:
        """The pins after a station named `name` proved that it has `key`. Raises `KeyChanged`."""
        pin = self.pins.get(check_name(name))
        if pin is None:
            return evolve(self, pins={**self.pins, name: Pin(key, now)})
        if pin.key != key:
            raise KeyChanged(name, pin.key.text, key.text)
        return self

    def accept(self, name: str, key: PublicKey, now: int) -> Pins:
        """The pins after a person confirmed that `name` now has `key`."""
        return evolve(self, pins={**self.pins, check_name(name): Pin(key, now, accepted=True)})

    def forget(self, name: str) -> Pins:
        """The pins without `name`."""
        return evolve(self, pins={known: pin for known, pin in self.pins.items() if known != name})

    def key(self, name: str) -> PublicKey | None:
        """The key of `name`, or None if it was never met."""
        pin = self.pins.get(name)
        return None if pin is None else pin.key

    def names(self, key: PublicKey) -> list[str]:
        """The names under which `key` was met, sorted."""
        return self._by_key.get(key, [])

    @functools.cached_property
    def _by_key(self) -> dict[PublicKey, list[str]]:
        found: dict[PublicKey, list[str]] = {}
        for name in sorted(self.pins):
            found.setdefault(self.pins[name].key, []).append(name)
        return found


def load_pins(path: Path) -> Pins:
    """Read the file that `save_pins` wrote; a missing file means no pins.

    Raises `KeyFileError` for a damaged file: it must not mean that every station is met for the first time again.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_PINS_FILE_BYTES else b""
    except FileNotFoundError:
        return Pins()
    except OSError as error:
        raise KeyFileError(f"the known stations in {path} cannot be read: {error.strerror}") from error
    try:
        whole = json.loads(data)
        if whole.pop("format") != "portcall-pins/1":
            raise ValueError
        pins = {
            check_name(name): Pin(PublicKey.from_text(str(key)), _time(since), accepted is True)
            for name, (key, since, accepted) in whole.pop("pins").items()
        }
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        CredentialError,
        IdentityError,
    ) as e:
        raise KeyFileError(f"the known stations in {path} are damaged: restore or remove the file") from e
    return Pins(pins)


def save_pins(path: Path, pins: Pins) -> None:
    """Write `pins`, atomically and durably. Raises `KeyFileError`."""
    rows = {name: [pin.key.text, pin.since, pin.accepted] for name, pin in sorted(pins.pins.items())}
    text = json.dumps({"format": "portcall-pins/1", "pins": rows}, indent=1)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise KeyFileError(f"the known stations cannot be written to {path}: {error.strerror}") from error


def _time(value: object) -> int:
    if type(value) is not int or not 0 <= value <= LATEST_MS:
        raise ValueError
    return value
