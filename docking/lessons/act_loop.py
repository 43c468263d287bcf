"""A frozen loop: a program that computes is stopped in the middle, read as data, and continued at another station."""

from __future__ import annotations

from docking.lessons.land import frames, land, program, until
from docking.lessons.stage import Stage

FILE = "primes.py"
END = 6000


def act(stage: Stage) -> None:
    """See `docking.lessons.acts`."""
    stage.title("Two stations, alpha and beta, and a program that only computes:")
    stage.code(program(FILE))
    with land("alpha", "beta") as stations:
        stage.pause()
        agent = stations.launch(FILE, via="beta")
        until("the agent computes", lambda: "counting" in agent.logs())
        agent.sleep()
        until("the agent stands still", lambda: agent.standing == "asleep")
        stack = agent.stack()
        stage.title("Now it is stopped. Nobody asked the program; this is where it stands:")
        inner = next(frame for frame in stack.frames if frame.file.endswith(FILE))
        stage.code(program(FILE), at=inner.line)
        stage.pause()
        stage.title("And this is its stack, read from its memory, the innermost function first:")
        stage.code("\n".join(frames(stack, FILE)))
        names = {each.name for frame in stack.frames for each in frame.variables}
        stage.holds(
            "it is in the middle of two loops, and both loop variables are there", {"number", "divisor"} <= names
        )
        stage.pause()
        stage.title("It is sent to beta, and continues there:")
        agent.wake()
        report = agent.move("beta", precopy=False)
        stage.say(f"it stood still for {report.downtime_ms:.0f} ms")
        until("beta has the agent", lambda: agent.where() == "beta")
        stage.pause()
        ended = agent.wait(120)
        stage.table(["result", "value", "reported at"], [[r.key, r.text, r.station] for r in ended.results])
        right = sum(n for n in range(2, END) if all(n % d for d in range(2, int(n**0.5) + 1)))
        stage.holds(f"the sum is the one that a program gives that was never stopped: {right}",
                    ended.results[0].text == str(right))  # fmt: skip
        stage.holds("it began at alpha and ended at beta", ended.results[1].text == "beta")
