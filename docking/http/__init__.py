"""Stations talk over HTTP/1.1: an ASGI application and a client, both carrying sealed bodies.

No TLS: bodies are sealed to the recipient's key, and only the holder of the sender's key can have made them
(`sealing`). No handoff logic either: `docking.handoff` decides, and is safe whatever the network does.
"""
