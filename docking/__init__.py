"""Where agents stay: stations, trust, transport, and the command `portcall`.

What an agent *is* (its formats, its execution) is the package `agents`, which knows nothing of this one.
"""
