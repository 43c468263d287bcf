"""A WASI just large enough for the programs of the corpora: arguments, environment, standard streams, fixed
clocks.

It is not the product's WASI (`agents.wasi`), which has files and more: the oracle for the rewriting needs
an outside that is plain to see through. Clocks tick by reads and random bytes come from a counter, so
that two runs see the same world.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

EBADF, ENOSYS, ESPIPE = 8, 52, 29


class Exit(Exception):
    """The program called proc_exit."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Memory(Protocol):
    """The guest's memory, wherever the guest is now."""

    def read(self, at: int, size: int) -> bytes: ...

    def write(self, at: int, data: bytes) -> None: ...


@attrs.define
class SmallWasi:
    """The outside of one run. `memory` is set by whoever runs the program."""

    arguments: Sequence[str] = ()
    environment: Sequence[tuple[str, str]] = ()
    stdin: bytes = b""
    out: dict[int, bytearray] = attrs.field(factory=lambda: {1: bytearray(), 2: bytearray()})
    ticks: int = 0
    memory: Memory = attrs.field(init=False)

    def function(self, name: str) -> Callable[..., int | None]:
        """The function of that name; ENOSYS for what no program of the corpora needs."""
        return getattr(self, name, lambda *_: ENOSYS)

    # --- calls, named as in the specification of preview 1 ---

    def args_sizes_get(self, count: int, size: int) -> int:
        return self._sizes(self._arguments(), count, size)

    def args_get(self, pointers: int, buffer: int) -> int:
        return self._strings(self._arguments(), pointers, buffer)

    def environ_sizes_get(self, count: int, size: int) -> int:
        return self._sizes(self._environment(), count, size)

    def environ_get(self, pointers: int, buffer: int) -> int:
        return self._strings(self._environment(), pointers, buffer)

    def fd_write(self, fd: int, vectors: int, count: int, written: int) -> int:
        if fd not in self.out:
            return EBADF
        total = 0
        for at, size in self._vectors(vectors, count):
            self.out[fd] += self.memory.read(at, size)
            total += size
        self.memory.write(written, struct.pack("<I", total))
        return 0

    def fd_read(self, fd: int, vectors: int, count: int, received: int) -> int:
        if fd != 0:
            return EBADF
        total = 0
        for at, size in self._vectors(vectors, count):
            piece, self.stdin = self.stdin[:size], self.stdin[size:]
            self.memory.write(at, piece)
            total += len(piece)
        self.memory.write(received, struct.pack("<I", total))
        return 0

    def fd_fdstat_get(self, fd: int, at: int) -> int:
        if fd > 2:
            return EBADF
        self.memory.write(at, struct.pack("<BxHxxxxQQ", 2, 0, 0, 0))
        return 0

    def fd_seek(self, fd: int, offset: int, whence: int, at: int) -> int:
        return ESPIPE if fd <= 2 else EBADF

    def fd_close(self, fd: int) -> int:
        return 0 if fd <= 2 else EBADF

    def fd_prestat_get(self, fd: int, at: int) -> int:
        return EBADF

    def clock_time_get(self, clock: int, precision: int, at: int) -> int:
        self.ticks += 1000
        self.memory.write(at, struct.pack("<Q", self.ticks))
        return 0

    def random_get(self, at: int, size: int) -> int:
        self.memory.write(at, bytes((self.ticks + k * 37) & 0xFF for k in range(size)))
        self.ticks += size
        return 0

    def sched_yield(self) -> int:
        return 0

    def proc_exit(self, code: int) -> None:
        raise Exit(code)

    # --- parts ---

    def _arguments(self) -> list[bytes]:
        return [text.encode() + b"\0" for text in self.arguments]

    def _environment(self) -> list[bytes]:
        return [f"{key}={value}".encode() + b"\0" for key, value in self.environment]

    def _sizes(self, strings: Sequence[bytes], count: int, size: int) -> int:
        self.memory.write(count, struct.pack("<I", len(strings)))
        self.memory.write(size, struct.pack("<I", sum(map(len, strings))))
        return 0

    def _strings(self, strings: Sequence[bytes], pointers: int, buffer: int) -> int:
        for string in strings:
            self.memory.write(pointers, struct.pack("<I", buffer))
            self.memory.write(buffer, string)
            pointers += 4
            buffer += len(string)
        return 0

    def _vectors(self, at: int, count: int) -> list[tuple[int, int]]:
        return list(struct.iter_unpack("<II", self.memory.read(at, 8 * count)))
