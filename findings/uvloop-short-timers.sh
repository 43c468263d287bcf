#!/bin/sh
# uvloop 0.23.0: `call_later` and `call_at` give an asyncio.TimerHandle, as the documentation of asyncio says, except for
# a time less than half a millisecond ahead: that gives a plain Handle, which has no `when()`. Whoever keeps handles by
# `when()` meets an AttributeError now and then, when a timer happens to be set shortly before it is due.
# Documented: docs.python.org, library/asyncio-eventloop, "loop.call_later ... An instance of asyncio.TimerHandle is returned".
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" install -qq --disable-pip-version-check uvloop==0.23.0
cat >"$dir/show.py" <<'P'
import asyncio, sys
from importlib.metadata import version
import uvloop

seen = []
for name, loop in (("asyncio", asyncio.new_event_loop()), (f"uvloop {version('uvloop')}", uvloop.new_event_loop())):
    for delay in (0.0004, 0.0006):
        handle = loop.call_later(delay, print)
        seen.append((type(handle).__name__, hasattr(handle, "when")))
        print(f"{name}: call_later({delay}) gives a {seen[-1][0]}, when() {'is' if seen[-1][1] else 'is not'} there")
    loop.close()
wanted = [("TimerHandle", True), ("TimerHandle", True), ("Handle", False), ("TimerHandle", True)]
sys.exit("this has changed" if seen != wanted else 0)
P
"$dir/venv/bin/python" "$dir/show.py"
# Seen, 2026-11-29, CPython 3.11:
#   asyncio: call_later(0.0004) gives a TimerHandle, when() is there
#   asyncio: call_later(0.0006) gives a TimerHandle, when() is there
#   uvloop 0.23.0: call_later(0.0004) gives a Handle, when() is not there
#   uvloop 0.23.0: call_later(0.0006) gives a TimerHandle, when() is there
