"""Who vouches for what: the statements that an agent carries, who signed each, and what happens when one is altered."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from agents import audit as auditing
from agents.capsule import Capsule
from agents.credentials import envelope
from agents.credentials.keys import text_of
from agents.credentials.passport import verify_passport
from agents.credentials.results import Results
from agents.credentials.trail import Trail
from docking.lessons.land import land, named
from docking.lessons.stage import Stage
from docking.residents.services import Offering

PRICES = {"beta": "3.20", "gamma": "2.90"}


def _services(station: Offering) -> None:
    if station.name in PRICES:
        station.offer("price.ask", lambda request: PRICES[station.name])


def _bent(data: bytes) -> bytes:
    """With one bit altered, in the middle."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _says(kind: str) -> str:
    return {
        "visit": "it was here from .. to .., left with this state, for that station",
        "receipt": "I hold this state, and do not run it yet",
        "commit": "it is yours",
    }[kind]


def forgeries(capsule: Capsule) -> Iterator[tuple[str, Capsule]]:
    """What somebody might alter, and the capsule with that altered."""
    links, entries = capsule.trail.links, capsule.results.entries
    yield "the passport: one bit", evolve(capsule, passport=_bent(capsule.passport))
    yield "beta's visit: one bit", evolve(capsule, trail=Trail((*links[:3], _bent(links[3]), *links[4:])))
    yield "beta's visit: cut out", evolve(capsule, trail=Trail((*links[:3], *links[6:])))
    yield "gamma's visit: cut off", evolve(capsule, trail=Trail(links[:3]))
    yield "beta's price: one bit", evolve(capsule, results=Results((entries[0], _bent(entries[1]), *entries[2:])))
    yield "beta's price: left out", evolve(capsule, results=Results((entries[0], *entries[2:])))


def act(stage: Stage) -> None:
    """See `docking.lessons.acts`."""
    stage.title("An agent that asks for the price of bread goes from alpha to beta and gamma:")
    with land("alpha", "beta", "gamma", services=_services) as stations:
        agent = stations.launch("tour.py", via="beta,gamma")
        report = agent.wait(120)
        capsule: Capsule = agent.capsule()
        keys = {name: stations[name].key for name in ("alpha", "beta", "gamma")}
        names = {key: name for name, key in keys.items()}
        owner = stations.owner
    stage.say(
        f"it is home, with {len(report.results)} results and {len(capsule.trail.links)} signed links of its trail"
    )
    stage.pause()
    body = verify_passport(capsule.passport).body
    stage.title("1. The owner signed its passport, before it went anywhere:")
    stage.table(
        ["the passport says", ""],
        [
            ["whose it is", body.owner.id],
            ["which agent", text_of(body.agent)[:26] + "..."],
            ["which program", "BLAKE3 " + text_of(body.image)[:26] + "..."],
            ["its home", names[body.home.station]],
            ["where it may go", "beta, then gamma"],
            [
                "what it may use",
                f"{body.permit.budget.cpu / 1e6:.0f} s of CPU time, {body.permit.budget.memory >> 20} MiB",
            ],
        ],
    )
    stage.pause()
    stage.title("2. Each station signed what came in and what went out; three signatures make a hop:")
    rows = []
    for link in capsule.trail.links:
        found = envelope.look(link)
        rows.append([found.kind, names[found.signer], _says(found.kind)])
    stage.table(["link", "signed by", "says"], rows)
    stage.pause()
    stage.title("3. The results were sealed to the owner where they were found:")
    sealed = sum(len(entry) for entry in capsule.results.entries[1:])
    stage.say(f"to everybody else they are {sealed} bytes; with the owner's key they are")
    stage.table(["result", "value", "signed by"], [[r.key, r.text, r.station] for r in report.results])
    stage.holds("gamma carried beta's price, and could not read it", b"3.20" not in capsule.encode())
    stage.pause()
    stage.title("4. Whoever has the file can check it, without asking anybody:")
    audit = auditing.audit(capsule)
    stage.table(["check", ""], [[name, "holds" if so else "fails"] for name, so in audit.checks])
    stage.holds(
        "all of it holds, and the way is the one that the owner signed, to its end", audit.code is None and audit.whole
    )
    stage.pause()
    stage.title("5. Now somebody alters a copy of it:")
    rows, caught = [], True
    for what, forged in forgeries(capsule):
        found_out = auditing.audit(forged)
        short = found_out.code is None and not found_out.ended
        caught = caught and (found_out.code is not None or short)
        reason = found_out.reason or ("it does not end" if short else "NOT NOTICED")
        rows.append([what, found_out.code or "", named(reason, keys | {"the owner": owner.public})])
    stage.table(["altered", "code", "noticed, since"], rows)
    stage.holds("each of them was noticed", caught)
    stage.say("what nobody can prove: that beta's price is a good one. It only proves that beta said it")
    assert len(auditing.reports(capsule, owner.box())) == len(PRICES)
