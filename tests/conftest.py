"""What holds for all tests: nothing of the user's own is read or written."""

from __future__ import annotations

import os
import signal

from tests.programs import build_directory


def pytest_configure() -> None:
    # Compiled and packed code is kept from run to run, beside the built programs, and not in the user's cache.
    os.environ["XDG_CACHE_HOME"] = str(build_directory() / "cache")
    # A script's background job (`make test &`) ignores Ctrl-C and so would all that tests start, who send it to them.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
