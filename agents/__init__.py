"""Mobile agents: what an agent is, how it is packed, and how it runs.

Importing the package is cheap; the parts are imported when they are used.
"""
