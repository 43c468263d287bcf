"""Compiled code on disk, so that an image is compiled once and not at each start.

The engine that loads machine code trusts it completely, so this cache trusts nobody but its own
user: the directory must belong to the user and be closed to all others, each file likewise, and each
carries a digest, since a torn write after a power failure would otherwise run. Code never comes from a
peer.

Not a cache of programs in memory; each engine has its own. Invariants: `load` returns exactly the bytes that
`store` got under that key, or None; neither ever raises because of the state of a file.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import platform
import stat
import sys
from functools import cache
from pathlib import Path

from agents.canonical import DIGEST_SIZE, digest
from agents.errors import EngineError

_MAGIC = b"portcall compiled code 1\n"
_CPUINFO_BYTES = 1 << 16  # the first processor's part is enough
_FEATURES = (b"flags", b"Features", b"isa")  # as Linux calls them on x86, ARM and RISC-V
MAX_CODE_FILE_BYTES = 1 << 30  # bytes of one file: a sparse file must not fill memory
MAX_CACHE_BYTES = 2 << 30  # bytes of all files; the oldest are deleted first


@cache
def target() -> str:
    """For what machine code is made here: the system, the processor, and a digest of what that one can do.

    Part of the key of machine code: a folder may be shared by machines, or go from one to another.
    """
    features = b""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", "rb") as file:
        lines = file.read(_CPUINFO_BYTES).splitlines()
        features = next((line for line in lines if line.split(b":")[0].strip() in _FEATURES), b"")
    return f"{sys.platform}-{platform.machine().lower()}-{digest(features)[:6].hex()}"


def default_directory() -> Path:
    """`$XDG_CACHE_HOME/portcall/code`, or the platform's equivalent."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "portcall" / "code"


class NoCache(EngineError):
    """The directory cannot be created."""


def open_cache(cache: Path | str | None) -> CodeCache | None:
    """The cache in a directory; "" means the user's own, and None is returned if that cannot be created, as in a home
    that is not writable. None: no cache. Raises `EngineError`, also if others could have written into it."""
    if cache is None:
        return None
    if cache != "":
        return CodeCache(Path(cache))
    try:
        return CodeCache(default_directory())
    except NoCache:
        return None  # everything works without it, only slower


class CodeCache:
    """A directory of compiled code that only this user can write."""

    def __init__(self, directory: Path) -> None:
        """Open or create `directory`. Raises `EngineError` if others could have written into it."""
        self.directory = directory
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
            status = os.lstat(directory)
        except OSError as error:
            raise NoCache(f"the cache directory {directory} cannot be made: {error.strerror}") from None
        if not stat.S_ISDIR(status.st_mode) or not _private(status, 0o077):
            raise EngineError(
                f"{directory} is not this user's alone (mode 0700 is needed):"
                " compiled code from there cannot be trusted"
            )

    def load(self, key: str) -> memoryview | None:
        """The code stored under `key`, or None."""
        try:
            flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
            descriptor = os.open(self.directory / key, flags | getattr(os, "O_BINARY", 0))
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not _private(status, 0o022) or status.st_size > MAX_CODE_FILE_BYTES:
                return None
            try:
                content = memoryview(file.read())
            except OSError:
                return None
        start = len(_MAGIC) + DIGEST_SIZE
        body = content[start:]
        expected = _MAGIC + digest(key.encode(), body)
        return body if hmac.compare_digest(content[:start], expected) else None

    def store(self, key: str, body: bytes | bytearray | memoryview) -> None:
        """Keep `body` under `key`. On a full disk it is not kept, and nothing is raised."""
        if len(body) > MAX_CODE_FILE_BYTES - 4096:
            return
        temporary = self.directory / f".{key}.{os.getpid()}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(_MAGIC)
                file.write(digest(key.encode(), body))
                file.write(body)
            os.replace(temporary, self.directory / key)
            self._trim()
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _trim(self) -> None:
        entries = [(entry.stat(), entry.path) for entry in os.scandir(self.directory)]
        total = sum(status.st_size for status, _ in entries)
        for status, path in sorted(entries, key=lambda item: item[0].st_mtime):
            if total <= MAX_CACHE_BYTES:
                break
            os.unlink(path)
            total -= status.st_size


def _private(status: os.stat_result, forbidden: int) -> bool:
    """Ours, and none of the permission bits `forbidden`. On Windows the profile's access rules apply."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & forbidden
