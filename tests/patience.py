"""How long tests wait for what must come. It ends those that hang, and measures nothing: a machine may be busy."""

PATIENCE = 600.0  # seconds; pytest's own bound is above
