"""Keys of owners in files, the same that the command `portcall key` makes: make, load, save, list.

    me = docking.keys.make("me")                   # once
    me = docking.keys.load("me")                   # from then on
    docking.Policy(owners=[docking.keys.public("me")])

A name means the file NAME.key in `folder()`; a `pathlib.Path` any file. What a file holds, and who may read it, says
`docking.trust.identity`. Invariant: a file that is there is never overwritten.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from agents.credentials.keys import PublicKey, SecretKey
from docking.errors import KeyFileError
from docking.folders import key_folder
from docking.trust import identity

__all__ = ["Key", "folder", "list", "load", "make", "public", "save"]


@frozen
class Key:
    """A key file, as `list` tells of it, without the secret.

    name: what the key is called
    public: its public half, which stations admit
    protected: whether a passphrase protects the secret
    path: the file
    """

    name: str
    public: PublicKey
    protected: bool
    path: Path


def folder() -> Path:
    """Where the user's keys are: the variable `PORTCALL_KEYS`, or `keys` in the user's configuration folder."""
    return key_folder()


def make(name: str | Path, *, passphrase: str | None = None) -> SecretKey:
    """Make a key and write it to a new file.

    name: what it is called: lower case letters, digits, `_ . -`; or the `Path` of the file, NAME.key
    passphrase: protects the file; None leaves it to the file's permissions: it is readable by its user only

    Returns the key. Raises `KeyExists`, `KeyFileError`, `IdentityError` for an invalid name.
    """
    key = SecretKey(secrets.token_bytes(32))
    save(name, key, passphrase=passphrase)
    return key


def save(name: str | Path, key: SecretKey, *, passphrase: str | None = None) -> Path:
    """Write a key to a new file.

    name, passphrase: see `make`
    key: the key, such as one that a vault keeps: `docking.SecretKey(seed)`

    Returns the file. Raises as `make`, TypeError where `key` is not a `SecretKey`.
    """
    if not isinstance(key, SecretKey):
        raise TypeError(f"key is a docking.SecretKey, not {type(key).__name__}: docking.SecretKey(seed), of 32 bytes")
    path = _path(name)
    sealed = None
    if passphrase is not None:
        sealed = identity.Protection(passphrase, secrets.token_bytes(identity.ENTROPY_SIZE))
    return identity.create_key(path, path.stem, key.seed, sealed).path


def load(name: str | Path, *, passphrase: str | Callable[[], str] | None = None) -> SecretKey:
    """Read a key.

    name: what it is called, or the `Path` of its file
    passphrase: of a protected key: the passphrase, or a function that asks for it, called only if it is needed

    Raises `KeyFileError`: there is none, it is open to others, the passphrase is wrong or missing.
    """
    path = _existing(name)
    if passphrase is None and identity.show_key(path)[2]:
        raise KeyFileError(f"the key in {path} is protected: docking.keys.load({str(name)!r}, passphrase=...)")
    return identity.load_key(path, (lambda: passphrase) if isinstance(passphrase, str) else passphrase).key


def public(name: str | Path) -> PublicKey:
    """The public half of a key, for a policy; needs no passphrase.

    name: what it is called, or the `Path` of its file

    Raises `KeyFileError`.
    """
    return identity.show_key(_existing(name))[1]


def list() -> tuple[Key, ...]:
    """The user's keys, by name. Raises `KeyFileError` for one that cannot be read."""
    return tuple(Key(name, key, sealed, path) for path, name, key, sealed in identity.list_keys(folder()))


def _path(name: str | Path) -> Path:
    if isinstance(name, Path):
        if name.suffix != ".key":
            raise KeyFileError(f"{name} is no file of a key: call it {name.with_suffix('.key').name}")
        return name
    if not isinstance(name, str):
        raise TypeError(f"the name of a key is text, or the pathlib.Path of its file, not {type(name).__name__}")
    if "/" in name or name.endswith(".key"):
        raise KeyFileError(f"{name!r} is not the name of a key: for a file, give pathlib.Path({name!r})")
    return key_folder() / f"{identity.check_name(name)}.key"


def _existing(name: str | Path) -> Path:
    path = _path(name)
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.key"))[:8])
        there = f"; there are {known}" if known else ""
        raise KeyFileError(f"there is no key {path.stem!r} in {path.parent}{there}: docking.keys.make makes one")
    return path
