"""The native stack on which agent code runs: how large that of a thread is, and threads whose is large.

An engine stops code that has used up the stack it was given (`stack`). Where the thread has less, the process would
die instead, so engines check before they call. Recursion in an interpreter takes much more of the engine's stack than
of the interpreter's own, whose limit should be met first: that is the language's own error, which a program can catch.
QuickJS needs about 7 MiB for that, so what runs many agents gives `DEEP` to engines, in threads made by `deep_threads`.

Where the size of a stack cannot be asked for (neither glibc, musl nor macOS), a thread is taken to have 1 MiB more than
the default of engines. Invariant: no stack that exists is changed, but the main thread's on Linux, on request.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import threading
from collections.abc import Iterator

from agents.errors import EngineError

from .protocols import DEFAULT_STACK_BYTES

DEEP = 16 << 20
"""Bytes of stack for agent code in threads made by `deep_threads`."""
MARGIN = 256 << 10  # of a thread's stack, for what calls the engine and for what the engine calls
_THREAD = DEEP + (2 << 20)
_UNKNOWN = DEFAULT_STACK_BYTES + (1 << 20)  # what a thread is taken to have
_MAIN = 64 << 20  # the kernel keeps at least 128 MiB free below the main thread's stack
_local = threading.local()
_making = threading.Lock()


def check_stack(stack: int) -> None:
    """Raise `EngineError` unless the calling thread has `stack` bytes for agent code."""
    if getattr(_local, "enough", 0) >= stack:
        return
    size = thread_bytes()
    if size - MARGIN < stack:
        raise EngineError(
            f"this thread has {size >> 10} KiB of stack, too few for the engine's {stack >> 10} KiB: load the engine "
            f"with a smaller `stack`, or begin the thread after threading.stack_size({stack + (1 << 20)})"
        )
    _local.enough = size - MARGIN


def thread_bytes() -> int:
    """The size of the calling thread's stack."""
    found = _asked()
    return found() if found is not None else _UNKNOWN


@contextlib.contextmanager
def deep_threads() -> Iterator[None]:
    """Threads that are started inside have room for an engine with `DEEP` bytes of stack."""
    with _making:
        before = threading.stack_size(_THREAD)
        try:
            yield
        finally:
            threading.stack_size(before)


def deepen_main() -> int:
    """Let the main thread's stack grow as far as `DEEP` needs, where the system can.

    Gives the bytes that engines may have in it.
    """
    if sys.platform == "linux":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
        if soft != resource.RLIM_INFINITY and soft < _MAIN:
            with contextlib.suppress(ValueError, OSError):  # the hard limit is smaller
                resource.setrlimit(resource.RLIMIT_STACK, (_MAIN, hard))
    return DEEP if thread_bytes() - MARGIN >= DEEP else DEFAULT_STACK_BYTES


@functools.cache
def _asked() -> functools.partial[int] | None:
    """Asks the C library for the stack of the calling thread."""
    if sys.platform not in ("linux", "darwin"):
        return None
    library = ctypes.CDLL(None)
    try:
        if sys.platform == "darwin":
            library.pthread_self.restype = ctypes.c_void_p
            library.pthread_get_stacksize_np.argtypes = [ctypes.c_void_p]
            library.pthread_get_stacksize_np.restype = ctypes.c_size_t
            return functools.partial(_darwin, library)
        library.pthread_self.restype = ctypes.c_void_p
        library.pthread_getattr_np.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.pthread_attr_getstacksize.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)]
        library.pthread_attr_destroy.argtypes = [ctypes.c_void_p]
    except AttributeError:
        return None
    return functools.partial(_linux, library)


def _linux(library: ctypes.CDLL) -> int:
    attributes = ctypes.create_string_buffer(128)  # pthread_attr_t has 56 bytes, at most 64
    if library.pthread_getattr_np(library.pthread_self(), attributes):
        return _UNKNOWN
    size = ctypes.c_size_t()
    library.pthread_attr_getstacksize(attributes, ctypes.byref(size))
    library.pthread_attr_destroy(attributes)
    return size.value


def _darwin(library: ctypes.CDLL) -> int:
    return int(library.pthread_get_stacksize_np(library.pthread_self()))


__all__ = ["DEEP", "check_stack", "deep_threads", "deepen_main", "thread_bytes"]
