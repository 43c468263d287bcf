"""Linux's userfaultfd(2) and the `PAGEMAP_SCAN` ioctl, called through libc.

Nothing here decides what a page means: `writes` asks which pages were written, `missing` has pages that are not there
yet, and neither uses what is here for the other. Names and numbers are those of the kernel's headers
`linux/userfaultfd.h`, `linux/fs.h` and `asm/unistd.h`; the structures are written as arrays of their 64-bit fields.

Invariants: descriptors are closed on exec; they are opened for faults of user code only, which needs no privilege; a
refusal of the kernel's is an `OSError`, also on systems that have nothing of this.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import sys
from collections.abc import Iterator
from ctypes import c_uint64

from .pages import HOST_PAGE_BYTES, Runs

# asm/unistd.h: __NR_userfaultfd. Other processors take what is unknown here as refused.
_NR_USERFAULTFD = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "loongarch64": 282}
_UFFD_USER_MODE_ONLY = 1
_UFFD_API = 0xAA
FEATURE_WP_UNPOPULATED, FEATURE_WP_ASYNC = 1 << 13, 1 << 15  # UFFD_FEATURE_*
MODE_MISSING, MODE_WP = 1 << 0, 1 << 1  # UFFDIO_REGISTER_MODE_*
_WRITEPROTECT_MODE_WP = 1 << 0
_PAGE_IS_WRITTEN = 1 << 1
_PM_SCAN_WP_MATCHING, _PM_SCAN_CHECK_WPASYNC = 1 << 0, 1 << 1
_REGIONS = 1024  # struct page_region, in one call of PAGEMAP_SCAN


def _ioc(direction: int, group: int, number: int, size: int) -> int:
    """asm-generic/ioctl.h: _IOC. Directions: 2 read, 3 read and write."""
    return direction << 30 | size << 16 | group << 8 | number


_UFFDIO_API = _ioc(3, 0xAA, 0x3F, 24)
_UFFDIO_REGISTER = _ioc(3, 0xAA, 0x00, 32)
_UFFDIO_UNREGISTER = _ioc(2, 0xAA, 0x01, 16)
_UFFDIO_WRITEPROTECT = _ioc(3, 0xAA, 0x06, 24)
_UFFDIO_WAKE = _ioc(2, 0xAA, 0x02, 16)
_UFFDIO_COPY = _ioc(3, 0xAA, 0x03, 40)
_UFFDIO_ZEROPAGE = _ioc(3, 0xAA, 0x04, 32)
_UFFD_EVENT_PAGEFAULT = 0x12
_MESSAGE = struct.Struct("=B7xQQ8x")  # struct uffd_msg of a page fault: event, flags, address, thread
_MESSAGES = 64  # in one read
_PAGEMAP_SCAN = _ioc(3, ord("f"), 16, 96)

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def possible() -> bool:
    """Whether this system may have it at all: the kernel is still to be asked."""
    known = _libc is not None and platform.machine() in _NR_USERFAULTFD
    return known and sys.maxsize > 1 << 32 and mmap.PAGESIZE == HOST_PAGE_BYTES


def open_userfault(features: int) -> int:
    """A descriptor of userfaultfd with these features. Raises `OSError`."""
    if _libc is None or not possible():
        raise OSError("this system has no userfaultfd")
    flags = os.O_CLOEXEC | os.O_NONBLOCK | _UFFD_USER_MODE_ONLY
    descriptor = int(_libc.syscall(ctypes.c_long(_NR_USERFAULTFD[platform.machine()]), ctypes.c_int(flags)))
    if descriptor < 0:
        raise _refused()
    try:
        _ioctl(descriptor, _UFFDIO_API, _UFFD_API, features, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def register(descriptor: int, mode: int, address: int, size: int) -> None:
    """Have this range handled. In write-protect mode nothing is protected yet. Raises `OSError`."""
    _ioctl(descriptor, _UFFDIO_REGISTER, address, size, mode, 0)


def unregister(descriptor: int, address: int, size: int) -> None:
    """The end of it; whoever waits for a page of it goes on. Raises `OSError`."""
    _ioctl(descriptor, _UFFDIO_UNREGISTER, address, size)


def faults(descriptor: int) -> list[int]:
    """The addresses of pages for which threads wait since this was asked last."""
    try:
        messages = os.read(descriptor, _MESSAGES * _MESSAGE.size)
    except BlockingIOError:
        return []
    return [address for event, _, address in _MESSAGE.iter_unpack(messages) if event == _UFFD_EVENT_PAGEFAULT]


def wake(descriptor: int, address: int, size: int) -> None:
    """Have whoever waits for these pages look again. Raises `OSError`."""
    _ioctl(descriptor, _UFFDIO_WAKE, address, size)


def fill(descriptor: int, address: int, size: int, source: int | None) -> None:
    """Put the pages that are at `source`, or zeros, into a missing range, and wake who waits for them.

    Pages that are there already stay as they are. Raises `OSError`.
    """
    done, step = 0, size
    while done < size:
        step = min(step, size - done)
        # struct uffdio_zeropage and uffdio_copy: range, or target, source and size; mode; the answer
        request, fields = _UFFDIO_ZEROPAGE, [address + done, step, 0, 0]
        if source is not None:
            request, fields = _UFFDIO_COPY, [address + done, source + done, step, 0, 0]
        argument = (c_uint64 * len(fields))(*fields)
        try:
            _call(descriptor, request, argument)
            done += step
        except FileExistsError:
            done += HOST_PAGE_BYTES  # the first of these is there
        except BlockingIOError:  # some were put there, or mappings change just now
            done += max(0, ctypes.c_int64(argument[-1]).value)
        except FileNotFoundError:
            if step == HOST_PAGE_BYTES:
                raise
            step = HOST_PAGE_BYTES  # they lie in two mappings, which the kernel does not do at once


def protect(descriptor: int, address: int, size: int) -> None:
    """Begin: take each page of a registered range as not written. Raises `OSError`."""
    _ioctl(descriptor, _UFFDIO_WRITEPROTECT, address, size, _WRITEPROTECT_MODE_WP)


def written(address: int, size: int) -> Runs:
    """Runs of 4 KiB pages of a registered range that are not protected, and are from now on. Raises `OSError`."""
    # Opened each time: after a fork, an already open page map would still be the parent's.
    descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return list(_joined(descriptor, address, address + size))
    finally:
        os.close(descriptor)


def _joined(pagemap: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    first, count = 0, 0
    for begins, ends in _regions(pagemap, start, end):
        page, pages = (begins - start) // HOST_PAGE_BYTES, (ends - begins) // HOST_PAGE_BYTES
        if page == first + count:
            count += pages
            continue
        if count:
            yield first, count
        first, count = page, pages
    if count:
        yield first, count


def _regions(pagemap: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    regions = (c_uint64 * (3 * _REGIONS))()  # struct page_region: start, end, categories
    flags = _PM_SCAN_WP_MATCHING | _PM_SCAN_CHECK_WPASYNC
    at = start
    while at < end:
        # Asked for anything more than PAGE_IS_WRITTEN, kernels before 2026 take a page that was discarded as unwritten.
        # struct pm_scan_arg: size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted,
        # category_mask, category_anyof_mask, return_mask
        vec = ctypes.addressof(regions)
        asked = (96, flags, at, end, 0, vec, _REGIONS, 0, 0, _PAGE_IS_WRITTEN, 0, _PAGE_IS_WRITTEN)
        found, answered = _ioctl(pagemap, _PAGEMAP_SCAN, *asked)
        for index in range(0, 3 * found, 3):
            yield regions[index], regions[index + 1]
        if answered[4] <= at:
            raise OSError("PAGEMAP_SCAN goes no further")
        at = answered[4]


def _ioctl(descriptor: int, request: int, *fields: int) -> tuple[int, ctypes.Array[c_uint64]]:
    """The result, and the fields as the kernel left them."""
    argument = (c_uint64 * len(fields))(*fields)
    return _call(descriptor, request, argument), argument


def _call(descriptor: int, request: int, argument: ctypes.Array[c_uint64]) -> int:
    assert _libc is not None
    result = int(_libc.ioctl(ctypes.c_int(descriptor), ctypes.c_ulong(request), argument))
    if result < 0:
        raise _refused()
    return result


def _refused() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
