"""The other stations."""
