"""Stations talk over HTTP/1.1: an ASGI application and a client, both carrying sealed bodies.

Not TLS: what is said is sealed to the key of whom it is for, and only the holder of the sender's key can have said
it (`sealed`). Not the handoff: that is decided elsewhere, and is safe whatever the network does.
"""
