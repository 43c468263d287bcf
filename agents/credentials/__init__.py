"""Who an agent belongs to, where it may go, what it may do, and where it has been: signed statements.

Not here: files, clocks, randomness and policy. Everything is a function of its arguments.
"""
