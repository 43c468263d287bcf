"""Helpers for the event loop."""
