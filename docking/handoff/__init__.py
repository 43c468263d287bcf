"""The exactly-once handoff of an agent: two-phase commit between two stations, decided by the source.

Read in this order: `messages` (what is said), `states` (the two transition tables), `sender` and `receiver`
(what each step does), `table` (all handoffs of one station), `codec` (messages as bytes).

No sockets, files, clocks or randomness here: times come in as arguments, and work to be done goes out as
actions.
"""
