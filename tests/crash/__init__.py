"""Crashes and bad networks, in a deterministic simulator with the real machines, codec and store."""
