"""Whom a station trusts, and which agents it admits."""
