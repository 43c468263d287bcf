"""The station's durable storage."""
