"""Two guests that make the same WASI calls: one of the virtual WASI, one of wasmtime's own.

Both have the calls of preview 1 as methods over Python values (`open`, `write`, `readdir` ...), each of which lays
out its arguments in the guest's memory, makes the one call, and returns `(errno, what came back)`. So a test is
written once and run against both, and a list of calls can be compared step by step.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import wasmtime

from agents.errors import CallFailed, GuestFault
from agents.hostcalls import CallContext, GuestMemory
from agents.waits import Event, Suspend
from agents.wasi import WasiLimits, WasiState
from agents.wasi.abi import ALL_RIGHTS, DIRECTORY_RIGHTS, EFAULT, FD_READ, FD_WRITE, FILE_RIGHTS
from agents.wasi.calls import SIGNATURES, WASI_FUNCTIONS, WASI_MODULE

PAGES = 8
PATH, PATH2, DATA, RESULT, VECTOR = 1024, 8192, 65536, 16, 32  # where the rig puts things
READ_WRITE = FILE_RIGHTS
READ_ONLY = FILE_RIGHTS & ~FD_WRITE
DIRECTORY = DIRECTORY_RIGHTS


class Station:
    """A station's side: clocks that the test moves, random bytes that count up, everything kept."""

    station = "alpha"
    agent_id = "agent-1"
    next_stop = "beta"

    def __init__(self) -> None:
        self.wall, self.mono = 1_700_000_000_000_000_000, 5_000_000_000
        self.out: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self.logged: list[tuple[int, str]] = []
        self.reported: list[tuple[str, bytes]] = []
        self.sent: list[tuple[str, bytes]] = []

    def wall_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.mono

    def random(self, size: int) -> bytes:
        return bytes(index & 0xFF for index in range(size))

    def log(self, level: int, text: str) -> None:
        self.logged.append((level, text))

    def output(self, fd: int, data: bytes) -> None:
        self.out[fd] += data

    def report(self, key: str, value: bytes) -> None:
        self.reported.append((key, value))

    def lookup(self, service: str) -> tuple[str, ...]:
        return ("beta", "gamma") if service == "thermometer" else ()

    def send(self, to: str, body: bytes) -> None:
        if to == "nobody":
            raise CallFailed(44, "no such agent")
        self.sent.append((to, body))


class Calls:
    """The calls over Python values; `raw(name, *numbers)` and the memory are the guest's."""

    def raw(self, name: str, *args: int) -> Any:
        raise NotImplementedError

    def get(self, pointer: int, size: int) -> bytes:
        raise NotImplementedError

    def put(self, pointer: int, data: bytes) -> None:
        raise NotImplementedError

    def number(self, pointer: int = RESULT, size: int = 4) -> int:
        return int.from_bytes(self.get(pointer, size), "little")

    def put_path(self, path: str | bytes, at: int = PATH) -> tuple[int, int]:
        """Put a path into the memory; returns where it is and its size."""
        data = path.encode() if isinstance(path, str) else path
        self.put(at, data)
        return at, len(data)

    def _vector(self, sizes: Sequence[int]) -> tuple[int, int]:
        start, records = DATA, b""
        for size in sizes:
            records += struct.pack("<II", start, size)
            start += size
        self.put(VECTOR, records)
        return VECTOR, len(sizes)

    def open(
        self,
        path: str | bytes,
        oflags: int = 0,
        rights: int = READ_ONLY,
        flags: int = 0,
        *,
        fd: int = 3,
        follow: bool = True,
        inheriting: int = ALL_RIGHTS,
    ) -> tuple[int, int]:
        error = self.raw("path_open", fd, int(follow), *self.put_path(path), oflags, rights, inheriting, flags, RESULT)
        return error, -1 if error else self.number()

    def write(self, fd: int, *parts: bytes) -> Any:
        self.put(DATA, b"".join(parts))
        error = self.raw("fd_write", fd, *self._vector([len(part) for part in parts]), RESULT)
        return error if isinstance(error, Suspend) else (error, 0 if error else self.number())

    def read(self, fd: int, *sizes: int) -> Any:
        error = self.raw("fd_read", fd, *self._vector(sizes or (4096,)), RESULT)
        return error if isinstance(error, Suspend) else (error, b"" if error else self.get(DATA, self.number()))

    def pwrite(self, fd: int, data: bytes, offset: int) -> tuple[int, int]:
        self.put(DATA, data)
        error = self.raw("fd_pwrite", fd, *self._vector([len(data)]), offset, RESULT)
        return error, 0 if error else self.number()

    def pread(self, fd: int, size: int, offset: int) -> tuple[int, bytes]:
        error = self.raw("fd_pread", fd, *self._vector([size]), offset, RESULT)
        return error, b"" if error else self.get(DATA, self.number())

    def seek(self, fd: int, offset: int, whence: int) -> tuple[int, int]:
        error = self.raw("fd_seek", fd, offset, whence, RESULT)
        return error, 0 if error else self.number(size=8)

    def tell(self, fd: int) -> tuple[int, int]:
        error = self.raw("fd_tell", fd, RESULT)
        return error, 0 if error else self.number(size=8)

    def close(self, fd: int) -> int:
        return self.raw("fd_close", fd)

    def stat(self, path: str | bytes, follow: bool = False, fd: int = 3) -> tuple[int, tuple[int, ...]]:
        """Filetype, links, size, and the three times."""
        error = self.raw("path_filestat_get", fd, int(follow), *self.put_path(path), DATA)
        return error, () if error else self._stat()

    def fstat(self, fd: int) -> tuple[int, tuple[int, ...]]:
        error = self.raw("fd_filestat_get", fd, DATA)
        return error, () if error else self._stat()

    def _stat(self) -> tuple[int, ...]:
        return struct.unpack("<B7xQQQQQ", self.get(DATA + 16, 48))

    def inode(self, path: str) -> int:
        assert self.raw("path_filestat_get", 3, 0, *self.put_path(path), DATA) == 0
        return self.number(DATA + 8, 8)

    def fdstat(self, fd: int) -> tuple[int, tuple[int, ...]]:
        error = self.raw("fd_fdstat_get", fd, DATA)
        return error, () if error else struct.unpack("<BxHxxxxQQ", self.get(DATA, 24))

    def mkdir(self, path: str | bytes, fd: int = 3) -> int:
        return self.raw("path_create_directory", fd, *self.put_path(path))

    def rmdir(self, path: str, fd: int = 3) -> int:
        return self.raw("path_remove_directory", fd, *self.put_path(path))

    def unlink(self, path: str, fd: int = 3) -> int:
        return self.raw("path_unlink_file", fd, *self.put_path(path))

    def symlink(self, text: str | bytes, path: str, fd: int = 3) -> int:
        return self.raw("path_symlink", *self.put_path(text), fd, *self.put_path(path, PATH2))

    def readlink(self, path: str, size: int = 4096, fd: int = 3) -> tuple[int, bytes]:
        error = self.raw("path_readlink", fd, *self.put_path(path), DATA, size, RESULT)
        return error, b"" if error else self.get(DATA, self.number())

    def link(self, old: str, new: str, follow: bool = False, fd: int = 3, new_fd: int = 3) -> int:
        return self.raw("path_link", fd, int(follow), *self.put_path(old), new_fd, *self.put_path(new, PATH2))

    def rename(self, old: str, new: str, fd: int = 3, new_fd: int = 3) -> int:
        return self.raw("path_rename", fd, *self.put_path(old), new_fd, *self.put_path(new, PATH2))

    def readdir(self, fd: int, size: int = 4096, cookie: int = 0) -> tuple[int, list[tuple[int, int, bytes]]]:
        """Whole lines of one call: next cookie, filetype, name."""
        error = self.raw("fd_readdir", fd, DATA, size, cookie, RESULT)
        lines, at, end = [], DATA, 0 if error else DATA + self.number()
        while at + 24 <= end:
            following, _, length, kind = struct.unpack("<QQIB3x", self.get(at, 24))
            if at + 24 + length > end:
                break
            lines.append((following, kind, self.get(at + 24, length)))
            at += 24 + length
        return error, lines

    def listing(self, path: str = "", fd: int = 3) -> list[bytes]:
        """All names in a directory, with several small reads."""
        if path:
            error, fd = self.open(path, 2, DIRECTORY, fd=fd)
            assert error == 0
        names, cookie = [], 0
        while True:
            _, lines = self.readdir(fd, 300, cookie)
            names += [name for _, _, name in lines]
            if not lines:
                break
            cookie = lines[-1][0]
        if path:
            self.close(fd)
        return sorted(names)

    def make(self, path: str, data: bytes = b"") -> None:
        """A file with these contents."""
        error, fd = self.open(path, 1 | 8, READ_WRITE)
        assert error == 0, error
        if data:
            assert self.write(fd, data) == (0, len(data))
        assert self.close(fd) == 0

    def contents(self, path: str) -> bytes:
        """All of a file."""
        error, fd = self.open(path)
        assert error == 0, error
        found = b""
        while chunk := self.read(fd, 4096)[1]:
            found += chunk
        assert self.close(fd) == 0
        return found


class Virtual(Calls):
    """A guest of the virtual WASI; calls that wait return `Suspend`, `resume` repeats them with an event."""

    def __init__(self, state: WasiState | None = None, station: Station | None = None, **launch: Any) -> None:
        self.station = station or Station()
        self.bytes = bytearray(PAGES * 65536)
        self.state = state or WasiState.launch(now=self.station.wall, **launch)
        self.ctx = CallContext(GuestMemory(memoryview(self.bytes)), self.station, self.state)
        self.waiting: tuple[str, tuple[int, ...]] | None = None

    def raw(self, name: str, *args: int) -> Any:
        bits = [
            arg & (0xFFFFFFFF if letter == "i" else (1 << 64) - 1)
            for arg, letter in zip(args, SIGNATURES[name][0], strict=True)
        ]
        try:
            answer = WASI_FUNCTIONS[name](self.ctx, *bits)
        except CallFailed as error:
            assert error.errno > 0
            answer = error.errno
        except GuestFault:
            answer = EFAULT
        self.waiting = (name, args) if isinstance(answer, Suspend) else None
        return answer

    def resume(self, event: Event) -> Any:
        """Bring what the last call waits for; the errno that the guest then sees."""
        assert self.waiting is not None
        self.ctx.event = event
        try:
            name, args = self.waiting
            return self.raw(name, *args)
        finally:
            self.ctx.event = None

    def hop(self, limits: WasiLimits | None = None, grants: Any = None, station: Station | None = None) -> Virtual:
        """This guest at another station: its WASI state through plain values, its memory as it is."""
        self.state.pause(self.station)
        state = WasiState.decode(self.state.encode(), limits or self.state.limits, grants)
        there = Virtual(state, station or Station())
        there.bytes[:] = self.bytes
        there.ctx.kept, there.waiting = self.ctx.kept, self.waiting
        return there

    def get(self, pointer: int, size: int) -> bytes:
        return bytes(self.bytes[pointer : pointer + size])

    def put(self, pointer: int, data: bytes) -> None:
        self.bytes[pointer : pointer + len(data)] = data

    def stdout(self) -> bytes:
        return bytes(self.station.out[1])


@cache
def trampolines() -> tuple[wasmtime.Engine, wasmtime.Module]:
    """A module that exports every WASI function as it imports it."""
    types = {"i": "i32", "I": "i64"}
    imports, exports = [], []
    for name, (params, results) in SIGNATURES.items():
        typed = "".join(f" (param {types[p]})" for p in params) + "".join(f" (result {types[r]})" for r in results)
        imports.append(f'(import "{WASI_MODULE}" "{name}" (func ${name}{typed}))')
        gets = " ".join(f"(local.get {index})" for index in range(len(params)))
        exports.append(f'(func (export "{name}"){typed} (call ${name} {gets}))')
    text = "\n".join(["(module", *imports, f'(memory (export "memory") {PAGES})', *exports, ")"])
    engine = wasmtime.Engine()
    return engine, wasmtime.Module(engine, wasmtime.wat2wasm(text))


class Native(Calls):
    """A guest of wasmtime's own WASI, with a host directory as `/`."""

    def __init__(self, root: Path, args: Sequence[str] = (), environ: Sequence[tuple[str, str]] = ()) -> None:
        engine, module = trampolines()
        self.store = wasmtime.Store(engine)
        config = wasmtime.WasiConfig()
        config.argv, config.env = list(args), list(environ)
        config.preopen_dir(str(root), "/")
        self.store.set_wasi(config)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        self.exports = linker.instantiate(self.store, module).exports(self.store)
        self.memory = self.exports["memory"]

    def raw(self, name: str, *args: int) -> Any:
        bits = []
        for arg, letter in zip(args, SIGNATURES[name][0], strict=True):
            width = 32 if letter == "i" else 64
            arg &= (1 << width) - 1
            bits.append(arg - (1 << width) if arg >> (width - 1) else arg)
        return self.exports[name](self.store, *bits)

    def get(self, pointer: int, size: int) -> bytes:
        return bytes(self.memory.read(self.store, pointer, pointer + size))

    def put(self, pointer: int, data: bytes) -> None:
        self.memory.write(self.store, data, pointer)


__all__ = ["DIRECTORY", "FD_READ", "READ_ONLY", "READ_WRITE", "Calls", "Native", "Station", "Virtual"]
