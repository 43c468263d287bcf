"""How long a thread keeps the interpreter lock while others wait for it: short, while agents are copied.

Hashing and copying memory is work in Python's threads beside the event loop, which is woken a hundred times for each
client's request; with the interpreter's 5 ms each wake-up waits that long. A short interval costs a few per cent of
everything else, so it holds only while something is copied. It is the interpreter's, hence of the whole process.

Invariant: what was set before is set again when nothing is copied any more, unless somebody else has changed it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SHORT_S = 0.0005
_lock = threading.Lock()
_users = 0
_before = 0.0


@contextmanager
def short_turns() -> Iterator[None]:
    """Threads take turns quickly inside this block."""
    global _users, _before
    with _lock:
        _users += 1
        if _users == 1:
            _before = sys.getswitchinterval()
            sys.setswitchinterval(min(_before, SHORT_S))
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and abs(sys.getswitchinterval() - min(_before, SHORT_S)) < 1e-6:
                sys.setswitchinterval(_before)
