"""The bounds of one agent's virtual WASI: what a hostile guest, or a hostile snapshot, can make a station
hold.

Not the agent's permit (which the owner signs): a station derives `WasiLimits` from its own policy.
Invariant: every container in `agents.wasi` that the guest can make grow is bounded by a field here or by a
constant beside it.
"""

from __future__ import annotations

import attrs

_MIB = 1 << 20


@attrs.frozen
class WasiLimits:
    """Each field names the attack that it bounds; exceeding it gives the guest the errno in the comment."""

    luggage_bytes: int = 64 * _MIB  # gigabyte writes, sparse files: bytes of all files and link texts; ENOSPC
    files: int = 10_000  # a hundred thousand files or hard links: names in all directories; ENOSPC
    descriptors: int = 256  # open() in a loop: open descriptors; EMFILE
    name_bytes: int = 255  # UTF-8 of one name; ENAMETOOLONG
    path_bytes: int = 4096  # UTF-8 of one path; ENAMETOOLONG
    depth: int = 256  # steps of one path, links expanded: a/a/a/...; ENAMETOOLONG
    symlinks: int = 32  # links expanded in one path: loops and doubling; ELOOP
    log_bytes: int = 16 * _MIB  # log floods: bytes to stdout, stderr and /portcall/log in one visit; ENOSPC
    io_bytes: int = 16 * _MIB  # bytes of one read or write: overlapping buffers that multiply; a short count
    buffers: int = 1024  # buffers of one read or write; EINVAL
    subscriptions: int = 256  # of one poll_oneoff; EINVAL
    environment_bytes: int = _MIB  # arguments and environment together; checked at the launch and by decode only
    stdin_bytes: int = 16 * _MIB  # input that waits to be read; checked at the launch, by decode and on resumption only
    call_bytes: int = 8 * _MIB  # requests and answers in open files of /portcall, up to a megabyte each; ENOSPC

    @property
    def items(self) -> int:
        """The most values in an encoded state within these limits: a decoder makes an object of each."""
        per_descriptor = self.depth + 16  # the names of a path in a host directory
        strings = self.environment_bytes // 16
        return 64 + 16 * (self.files + self.descriptors) + per_descriptor * self.descriptors + strings

    @property
    def encoded(self) -> int:
        """The most bytes of an encoded state within these limits."""
        names = (self.files + self.descriptors) * (self.name_bytes + 64)
        paths = self.descriptors * (self.path_bytes + 1024)
        return self.luggage_bytes + self.stdin_bytes + self.call_bytes + self.environment_bytes + names + paths + 1024
