"""A hostile station alters, cuts, redirects, replays and doubles what it holds; who notices, by which check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from agents import canonical
from agents.canonical import Buffer
from agents.credentials import envelope
from agents.credentials.keys import PublicKey
from agents.credentials.results import Results
from agents.credentials.trail import Trail, conflicting
from agents.credentials.visits import Commit
from docking.handoff.messages import Message
from docking.lessons.land import land, named, program, until
from docking.lessons.mallory import Mallory, answered
from docking.lessons.stage import Stage
from docking.testing import Stations
from docking.trust import agent_credentials

Attempt: TypeAlias = "tuple[str, str, Callable[[], Message | None]]"


def _bent(data: Buffer) -> bytes:
    """With one bit altered, in the middle."""
    at = len(data) // 2
    return bytes(data[:at]) + bytes([data[at] ^ 1]) + bytes(data[at + 1 :])


def attempts(mallory: Mallory, stations: Stations) -> Iterator[Attempt]:
    """What it is, to whom it is sent, and what sends it."""
    beta, gamma, delta = (stations[name].key for name in ("beta", "gamma", "delta"))

    def sent(to: PublicKey, **other: Buffer) -> Message | None:
        leaving = mallory.sign(beta)
        return mallory.offer(leaving, to, mallory.papers(leaving, beta) | other)

    def entries() -> tuple[bytes, ...]:
        return Results.from_value(canonical.decode(mallory.papers(mallory.sign(beta), beta)["results"])).entries

    def results(*kept: bytes) -> bytes:
        return canonical.encode(Results(kept).value())

    def quietly() -> Message | None:
        leaving = mallory.sign(beta)
        true = mallory.papers(leaving, beta)
        said = {"state": agent_credentials.part("state", mallory.state)}
        return mallory.offer(leaving, beta, true | {"state": _bent(mallory.state)}, said)

    def without_itself() -> Message | None:
        leaving = mallory.sign(beta)
        true = mallory.papers(leaving, beta)
        links = Trail.from_value(canonical.decode(true["trail"])).links
        return mallory.offer(leaving, beta, true | {"trail": canonical.encode(Trail(links[:-1]).value())})

    def elsewhere() -> Message | None:
        leaving = mallory.sign(delta, position=mallory.sign(beta).visit.body.position)
        return mallory.offer(leaving, delta, mallory.papers(leaving, delta))

    passport = mallory.berth.credentials.passport.envelope
    opening, alphas, own = entries()
    yield "alters the state by one bit", "beta", quietly
    yield "... and says its new digest", "beta", lambda: sent(beta, state=_bent(mallory.state))
    yield "alters what alpha's price is", "beta", lambda: sent(beta, results=results(opening, _bent(alphas), own))
    yield "leaves alpha's price out", "beta", lambda: sent(beta, results=results(opening, own))
    yield "alters the passport", "beta", lambda: sent(beta, passport=_bent(passport))
    yield "cuts its own visit off", "beta", without_itself
    yield "sends on what is for beta", "gamma", lambda: sent(gamma)
    yield "goes where the way does not lead", "delta", elsewhere


def act(stage: Stage) -> None:
    """See `docking.lessons.acts`."""
    stage.title("An agent comes from alpha, stays at mallory, and then goes to beta or to gamma:")
    stage.code(program("courier.py"))
    with land("alpha", "mallory", "beta", "gamma", "delta") as stations:
        keys = {name: stations[name].key for name in ("alpha", "mallory", "beta", "gamma", "delta")}
        agent = stations.launch("courier.py", via="mallory,(beta|gamma)")
        mallory = until("mallory has the agent", lambda: Mallory.holding(stations["mallory"], agent.key))
        stage.say(f"mallory has it now: its papers, its program, and its state of {len(mallory.state)} bytes")
        stage.pause()
        stage.title("Mallory is dishonest. It has a key that everybody knows, and tries with it:")
        headings, widths, rows = ("mallory", "to", "code", "noticed, since"), (33, 5, 18, 0), list[str]()
        for what, to, send in attempts(mallory, stations):
            code, reason = answered(send())
            stage.row(headings, widths, (what, to, code or "-", named(reason, keys)), not rows)
            rows.append(code)
        stage.holds("nobody took any of these", all(rows))
        stage.pause()
        stage.title("Then it behaves, and afterwards sends the agent once more:")
        doubled = mallory.sign(stations["gamma"].key)
        agent.send("go on")
        report = agent.wait(120)
        stage.say("the agent is at home, by " + ", ".join(stay.station for stay in report.trail))
        again = mallory.sign(stations["beta"].key)
        code, reason = answered(mallory.offer(again, stations["beta"].key, mallory.papers(again, stations["beta"].key)))
        stage.table(["mallory", "to", "code", "noticed, since"], [["replays it", "beta", code, reason]])
        stage.holds("beta had it before, and does not take it again", code == "duplicate")
        stage.pause()
        stage.title("The worst that it can do: it signs the same agent for gamma too, where it may also go.")
        taken = mallory.hand_over(doubled, stations["gamma"].key)
        stage.holds("gamma takes it: seen from there, everything is as it should be", taken)
        gamma = stations["gamma"]
        other = until("it is there", lambda: gamma.agent(agent.id).capsule())
        commits = [link for capsule in (agent.capsule(), other) for link in capsule.trail.links]
        pair = conflicting([envelope.verify(Commit, c) for c in commits if envelope.look(c).kind == "commit"])
        stage.holds("but two signatures of mallory say that it gave one visit away twice, and anybody can check them",
                    pair is not None and {each.signer for each in pair} == {stations["mallory"].key})  # fmt: skip
        home = [result.text for result in agent.results() if result.key == "ended at"]
        stage.holds("and home has one end of the journey, that of beta", home == ["beta"])
        stage.say("not defended: what a station computes with an agent that is there. It has it in its power")
