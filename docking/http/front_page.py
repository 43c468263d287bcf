"""What a browser sees at the address of a station: what this is, and how its operator sees more.

The same words at every station: no name, no key, no version. Invariant: nothing is loaded, and nothing runs.
"""

from __future__ import annotations

import base64
import hashlib

_STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;max-width:34em;margin:18vh auto;padding:0 24px}"
    "h1{font-size:22px;letter-spacing:-.01em}code{font-family:ui-monospace,monospace;font-size:14px}"
)
PAGE = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Portcall station</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>{_STYLE}</style>
<h1>This is a Portcall station</h1>
<p>Programs stay here that travel from station to station. Stations talk to each other at this address; there is nothing
to see for a browser.</p>
<p>If you run it, <code>portcall station --console</code> prints a link to its console, and <code>portcall agents</code>
lists who is here.</p>
</html>
""".encode()
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest())
HEADERS = (
    (b"content-security-policy", b"default-src 'none'; style-src 'sha256-" + _DIGEST + b"'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
