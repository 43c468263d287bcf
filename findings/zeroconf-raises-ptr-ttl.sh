#!/bin/sh
# zeroconf 0.154.0 (python-zeroconf): a PTR record that comes with a TTL below 1,125 s is kept for 1,125 s. A service that
# says "my records live for 60 s", so that it is forgotten soon when its machine dies without a goodbye, stays in the
# browsers of this library for almost 19 minutes; ServiceBrowser tells of its removal only then. RFC 6762 lets a
# host announce any TTL (section 10 recommends 75 minutes, and 120 s for records that name a host).
# A program that wants dead peers gone sooner must ask them itself.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" install -qq --disable-pip-version-check zeroconf==0.154.0
cat >"$dir/show.py" <<'P'
import sys
from importlib.metadata import version
from types import SimpleNamespace
from zeroconf import DNSCache, DNSIncoming, DNSOutgoing, DNSPointer, const
from zeroconf._handlers.record_manager import RecordManager

answer = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
answer.add_answer_at_time(DNSPointer("_demo._tcp.local.", const._TYPE_PTR, const._CLASS_IN, 60, "one._demo._tcp.local."), 0)
received = DNSIncoming(answer.packets()[0])
sent = [record.ttl for record in received.answers()]
cache = DNSCache()
RecordManager(SimpleNamespace(cache=cache, async_notify_all=lambda: None)).async_updates_from_response(received)
kept = [record.ttl for record in cache.entries_with_name("_demo._tcp.local.")]
print(f"zeroconf {version('zeroconf')}: sent with a TTL of {sent} s, kept for {kept} s")
sys.exit(0 if (sent, kept) == ([60], [1125]) else "this has changed")
P
"$dir/venv/bin/python" "$dir/show.py"
# Seen, 2026-11-29: zeroconf 0.154.0: sent with a TTL of [60] s, kept for [1125] s
