"""The table of acts: what each is called and shows, and where it is.

Not here: the acts, which are imported when one is run.
"""

from __future__ import annotations

from importlib import import_module

from attrs import frozen

from docking.lessons.stage import Stage


@frozen
class Act:
    """One act.

    name: the word that is typed
    title: what it shows, in a line
    question: what a class should ask before it watches
    """

    name: str
    title: str
    question: str

    def show(self, stage: Stage) -> None:
        """Run it. Raises `LessonFailed` where something is not as it says, and what stations raise."""
        from docking.lessons.land import alarms

        with alarms():
            import_module(f"docking.lessons.act_{self.name}").act(stage)


ACTS: tuple[Act, ...] = (
    Act("loop", "A frozen loop: a program is stopped in the middle, read, and continued elsewhere.",
        "What has to travel so that a loop goes on elsewhere?"),
    Act("weak", "Strong and weak: what travels with the stack, and what a program does without it.",
        "Who remembers where the program was: the system, or its author?"),
    Act("trust", "Who vouches for what: passport, itinerary, trail and results, and one bit of each altered.",
        "A stranger's program arrives. What would you want to see, and signed by whom?"),
    Act("agent", "A hostile agent tries twelve things, and each is refused.",
        "What would you try, if a station ran your program?"),
    Act("station", "A hostile station alters, cuts, replays and doubles, and is caught: by which check?",
        "The station has the agent in its power. What can it change without being noticed?"),
    Act("crash", "kill -9 in the middle of a handoff, at every point.",
        "At which moment does the agent change hands?"),
    Act("copies", "Two copies? Never: doubled messages, and a station put back from its backup.",
        "A message was sent twice, and a disk was restored. How many agents are there?"),
    Act("laptop", "The disconnected laptop: it is closed while its agent works, and hears the end later.",
        "Who keeps the results while nobody is there to take them?"),
)  # fmt: skip
