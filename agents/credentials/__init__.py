"""Signed statements: who owns an agent, where it may go, what it may do, and where it has been.

No files, clocks, randomness or policy here: everything is a function of its arguments.
"""
