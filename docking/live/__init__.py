"""Live moves: what travels of an agent while it still runs at its source (docs/topics/live-moves)."""
