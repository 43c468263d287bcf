"""`portcall demo`: three stations on this machine, and a Python agent that hops through them.

`conductor` starts and watches them, `place` is one of the stations, `show` prints, `agent/trip.py` is the agent.
"""
