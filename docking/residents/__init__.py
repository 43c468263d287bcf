"""The agents that are here."""
