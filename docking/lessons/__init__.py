"""Acts for a class, and for the curious: each runs real stations and agents, and shows what a page can only claim.

`docking.lessons.acts` has the table of them; the command is `portcall lesson`. Exercises and their checks are in
`docking.lessons.exercises`. Nothing here is needed to run a station.
"""
