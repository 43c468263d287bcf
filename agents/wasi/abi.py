"""The numbers and record layouts of WASI preview 1 (`wasi_snapshot_preview1.witx`), and nothing else.

Invariants: every value here is fixed by the witx document; all records are little endian.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

U32: Final = 0xFFFFFFFF
U64: Final = 0xFFFFFFFFFFFFFFFF
OFFSET_MAX: Final = (1 << 63) - 1  # `filesize` is unsigned, `filedelta` signed: no offset is beyond

# `errno`, only those returned here.
SUCCESS: Final = 0
E2BIG: Final = 1
EACCES: Final = 2
EAGAIN: Final = 6
EBADF: Final = 8
EBUSY: Final = 10
EEXIST: Final = 20
EFAULT: Final = 21
EFBIG: Final = 22
EHOSTUNREACH: Final = 23
EILSEQ: Final = 25
EINVAL: Final = 28
EIO: Final = 29
EISDIR: Final = 31
ELOOP: Final = 32
EMFILE: Final = 33
EMLINK: Final = 34
EMSGSIZE: Final = 35
ENAMETOOLONG: Final = 37
ENOENT: Final = 44
ENOMEM: Final = 48
ENOSPC: Final = 51
ENOSYS: Final = 52
ENOTDIR: Final = 54
ENOTEMPTY: Final = 55
ENOTSOCK: Final = 57
ENOTSUP: Final = 58
EOVERFLOW: Final = 61
EPERM: Final = 63
EROFS: Final = 69
ESPIPE: Final = 70
ETIMEDOUT: Final = 73
EXDEV: Final = 75
ENOTCAPABLE: Final = 76

# `filetype`
UNKNOWN: Final = 0
CHARACTER_DEVICE: Final = 2
DIRECTORY: Final = 3
REGULAR_FILE: Final = 4
SYMBOLIC_LINK: Final = 7

# `rights`
FD_DATASYNC: Final = 1 << 0
FD_READ: Final = 1 << 1
FD_SEEK: Final = 1 << 2
FD_FDSTAT_SET_FLAGS: Final = 1 << 3
FD_SYNC: Final = 1 << 4
FD_TELL: Final = 1 << 5
FD_WRITE: Final = 1 << 6
FD_ADVISE: Final = 1 << 7
FD_ALLOCATE: Final = 1 << 8
PATH_CREATE_DIRECTORY: Final = 1 << 9
PATH_CREATE_FILE: Final = 1 << 10
PATH_LINK_SOURCE: Final = 1 << 11
PATH_LINK_TARGET: Final = 1 << 12
PATH_OPEN: Final = 1 << 13
FD_READDIR: Final = 1 << 14
PATH_READLINK: Final = 1 << 15
PATH_RENAME_SOURCE: Final = 1 << 16
PATH_RENAME_TARGET: Final = 1 << 17
PATH_FILESTAT_GET: Final = 1 << 18
PATH_FILESTAT_SET_SIZE: Final = 1 << 19
PATH_FILESTAT_SET_TIMES: Final = 1 << 20
FD_FILESTAT_GET: Final = 1 << 21
FD_FILESTAT_SET_SIZE: Final = 1 << 22
FD_FILESTAT_SET_TIMES: Final = 1 << 23
PATH_SYMLINK: Final = 1 << 24
PATH_REMOVE_DIRECTORY: Final = 1 << 25
PATH_UNLINK_FILE: Final = 1 << 26
POLL_FD_READWRITE: Final = 1 << 27
SOCK_SHUTDOWN: Final = 1 << 28
SOCK_ACCEPT: Final = 1 << 29

ALL_RIGHTS: Final = (1 << 30) - 1
# What can be done with an open file, with an open directory, and with a stream.
FILE_RIGHTS: Final = (
    FD_DATASYNC | FD_READ | FD_SEEK | FD_FDSTAT_SET_FLAGS | FD_SYNC | FD_TELL | FD_WRITE | FD_ADVISE
    | FD_ALLOCATE | FD_FILESTAT_GET | FD_FILESTAT_SET_SIZE | FD_FILESTAT_SET_TIMES | POLL_FD_READWRITE
)  # fmt: skip
DIRECTORY_RIGHTS: Final = (
    FD_DATASYNC | FD_FDSTAT_SET_FLAGS | FD_SYNC | PATH_CREATE_DIRECTORY | PATH_CREATE_FILE | PATH_LINK_SOURCE
    | PATH_LINK_TARGET | PATH_OPEN | FD_READDIR | PATH_READLINK | PATH_RENAME_SOURCE | PATH_RENAME_TARGET
    | PATH_FILESTAT_GET | PATH_FILESTAT_SET_SIZE | PATH_FILESTAT_SET_TIMES | FD_FILESTAT_GET
    | FD_FILESTAT_SET_TIMES | PATH_SYMLINK | PATH_REMOVE_DIRECTORY | PATH_UNLINK_FILE | POLL_FD_READWRITE
)  # fmt: skip
STREAM_RIGHTS: Final = FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE

# `fdflags`, `oflags`, `lookupflags`, `fstflags`
APPEND: Final = 1
DSYNC: Final = 2
NONBLOCK: Final = 4
RSYNC: Final = 8
SYNC: Final = 16
CREAT: Final = 1
O_DIRECTORY: Final = 2
EXCL: Final = 4
TRUNC: Final = 8
SYMLINK_FOLLOW: Final = 1
ATIM: Final = 1
ATIM_NOW: Final = 2
MTIM: Final = 4
MTIM_NOW: Final = 8

# `clockid`, `whence`, `eventtype`, `subclockflags`, `eventrwflags`
REALTIME: Final = 0
MONOTONIC: Final = 1
WHENCE_SET: Final = 0
WHENCE_CUR: Final = 1
WHENCE_END: Final = 2
EVENT_CLOCK: Final = 0
EVENT_READ: Final = 1
EVENT_WRITE: Final = 2
ABSTIME: Final = 1
HANGUP: Final = 1

SIZE: Final = Struct("<I")
IOVEC: Final = Struct("<II")  # buffer, length
FDSTAT: Final = Struct("<BxHxxxxQQ")  # filetype, flags, base rights, inheriting rights
FILESTAT: Final = Struct("<QQB7xQQQQQ")  # device, inode, filetype, links, size, atim, mtim, ctim
DIRENT: Final = Struct("<QQIB3x")  # next cookie, inode, length of the name, filetype
PRESTAT: Final = Struct("<B3xI")  # 0 = directory, length of its name
SUBSCRIPTION: Final = Struct("<QB7xI4xQQH6x")  # userdata, kind, clock or fd, timeout, precision, flags
EVENT: Final = Struct("<QHB5xQH6x")  # userdata, error, kind, bytes, flags
