"""Writes the published test vectors: `python -m tests.vectors.generate`. A test checks that they are up to
date.

Every file is one JSON object: `about`, `vectors`. Bytes are in hexadecimal. `expect` is `ok` or the refusal's
code. Keys are made from names: the seed of NAME is BLAKE3-256 of `test key NAME`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import evolve

from agents import canonical
from agents.capsule import Capsule
from agents.credentials import envelope, logbook
from agents.credentials.amendments import Amendment, Lease, TopUp, Upgrade, sign_amendment
from agents.credentials.itinerary import (
    MAX_TASK_BYTES,
    Alt,
    CertifiedStop,
    FreeStop,
    Itinerary,
    Loop,
    Node,
    Opt,
    Position,
    PositionKind,
    Seq,
    Set,
    Stop,
)
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import Results
from agents.credentials.sealing import PIECE_BYTES, seal
from agents.credentials.trail import Trail
from agents.credentials.upgrades import Upgraded, sign_upgraded
from agents.credentials.visits import Head
from tests.credentials.journeys import HOUR, IMAGE, NOW, PERMIT, Journey, fresh, key, make_passport, public, state

HERE = Path(__file__).parent
POLICY = f'''
[[owner]]
key = "{public("owner").text}"
name = "owner"
capabilities = ["service:thermometer.*", "host:*"]
'''


def keys() -> Iterator[dict[str, Any]]:
    for name in ("owner", "home", "alpha", "beta", "mallory"):
        pair = key(name)
        yield {
            "name": name,
            "seed": pair.seed.hex(),
            "public": pair.public.raw.hex(),
            "text": pair.public.text,
            "id": pair.public.id,
            "x25519": pair.public.box().hex(),
            "message": b"message".hex(),
            "signature": pair.sign(b"message").hex(),
        }


def envelopes() -> Iterator[dict[str, Any]]:
    journey = Journey.via("alpha", "beta")
    journey.report("temperature", b"21.5")
    journey.hop("alpha")
    statements = {
        "passport": journey.passport.envelope,
        "visit": journey.links[0],
        "receipt": journey.links[1],
        "commit": journey.links[2],
        "results": journey.entries[0],
        "entry": journey.entries[1],
        "clone": logbook.sign_clone(journey.point, 0, journey.point.state, journey.head, NOW, key("alpha")).envelope,
        "certificate": logbook.sign_certificate(public("guest"), NOW, NOW + HOUR, "guest", key("certifier")).envelope,
        "checkpoint": logbook.sign_checkpoint(journey.point, NOW, key("home")).envelope,
        "amendment": amended(journey, TopUp(Budget(cpu=1_000_000), 3)),
    }
    for kind, data in statements.items():
        vector = {"kind": kind, "envelope": data.hex(), "digest": canonical.digest(data).hex()}
        yield {"name": kind, **vector, "expect": "ok"}
        for name, bent, code in [
            ("signature altered", data[:-1] + bytes([data[-1] ^ 1]), "signature"),
            ("cut", data[:-1], "malformed"),
            ("with a byte after it", data + b"\0", "malformed"),
        ]:
            yield {"name": f"{kind}, {name}", "kind": kind, "envelope": bent.hex(), "expect": code}
    visit = statements["visit"]
    yield {"name": "a visit as a receipt", "kind": "receipt", "envelope": visit.hex(), "expect": "malformed"}


def amended(journey: Journey, change: TopUp | Lease, by: str = "owner", number: int = 0) -> bytes:
    """An amendment for the agent of a journey."""
    body = journey.passport.body
    nonce = fresh("amendment", number)[:16]
    return sign_amendment(Amendment(body.agent, journey.passport.digest, nonce, NOW, change), key(by)).envelope


def itineraries() -> Iterator[dict[str, Any]]:
    a, b, c = (Stop(public(name)) for name in ("alpha", "beta", "gamma"))
    walks = [
        ("seq", Seq([a, b]), "alpha beta", True),
        ("seq out of order", Seq([a, b]), "beta", False),
        ("seq too long", Seq([a, b]), "alpha beta alpha", False),
        ("alt, second", Alt([a, b]), "beta", True),
        ("alt, both", Alt([a, b]), "alpha beta", False),
        ("set, backwards", Set([a, b, c]), "gamma beta alpha", True),
        ("set, one twice", Set([a, b, c]), "gamma beta gamma", False),
        ("set of ambiguous parts", Set([a, Seq([a, b])]), "alpha beta alpha", True),
        ("loop, three turns", Loop(3, Seq([a, b])), "alpha beta alpha beta alpha beta", True),
        ("loop, left early", Seq([Loop(3, a), b]), "alpha beta", True),
        ("loop, one turn too many", Loop(2, a), "alpha alpha alpha", False),
        ("any, certified", Seq([CertifiedStop(public("certifier")), b]), "guest beta", True),
        ("any, not certified", Seq([CertifiedStop(public("certifier")), b]), "mallory beta", False),
        ("opt, taken", Seq([a, Opt(b), c]), "alpha beta gamma", True),
        ("opt, left out", Seq([a, Opt(b), c]), "alpha gamma", True),
        ("opt, twice", Seq([a, Opt(b), c]), "alpha beta beta gamma", False),
        ("a seq of opts in a loop", Seq([Loop(2, Seq([Opt(a), Opt(b)])), c]), "beta alpha gamma", True),
        ("a set that may be left with a part undone", Seq([Set([a, Opt(b)]), c]), "alpha gamma", True),
        ("a set that may not", Seq([Set([a, Opt(b)]), c]), "beta gamma", False),
        ("free", Seq([FreeStop(), b]), "mallory beta", True),
        ("free, closed", Seq([FreeStop(NOW - 1), b]), "mallory beta", False),
        ("recalled home", Seq([a, b, c]), "alpha home", True),
        ("from home after a recall", Seq([a, b, c]), "alpha home beta", False),
        ("home before the first stop", Seq([a, b]), "home", False),
        ("closed stop", Seq([Stop(public("alpha"), NOW - 1)]), "alpha", False),
    ]
    for name, root, walk, legal in walks:
        yield walked(name, root, walk, legal)
    yield from tasks()


def walked(name: str, root: Node, walk: str, legal: bool, **more: Any) -> dict[str, Any]:
    """A walk through an itinerary, by the names of stations."""
    return {
        "name": name,
        "itinerary": canonical.encode(Itinerary(root).value()).hex(),
        "walk": [public(n).raw.hex() for n in walk.split()],
        "certified": {public("guest").raw.hex(): [public("certifier").raw.hex()]},
        "home": public("home").raw.hex(),
        "at": NOW,
        "legal": legal,
        **more,
    }


def tasks() -> Iterator[dict[str, Any]]:
    """Itineraries whose stops name tasks. `tasks`: those that may be called where the walk ends."""

    def stop(name: str, task: str, until: int | None = None) -> Stop:
        return Stop(public(name), until, task)

    a, b, c, d = stop("alpha", "count"), stop("beta", "tell"), stop("gamma", "count"), stop("delta", "zählen")
    again = stop("alpha", "again")
    longest = stop("beta", "x" * MAX_TASK_BYTES)
    either = Alt([Seq([a, b]), Seq([again, c])])
    walks: list[tuple[str, Node, str, bool, list[str]]] = [
        ("a task", a, "alpha", True, ["count"]),
        ("tasks, one after the other", Seq([a, b, c]), "alpha beta", True, ["tell"]),
        ("tasks, out of order", Seq([a, b, c]), "beta", False, []),
        ("a station with two tasks, and another between", Seq([a, b, again]), "alpha beta alpha", True, ["again"]),
        ("alternatives with a task each", Alt([a, b]), "beta", True, ["tell"]),
        ("alternatives that begin at one station with a task each", either, "alpha", True, ["again", "count"]),
        ("a set of tasks, backwards", Set([a, b, d]), "delta beta alpha", True, ["count"]),
        ("a loop of tasks, second turn", Loop(2, Seq([a, b])), "alpha beta alpha", True, ["count"]),
        ("a task left out", Seq([a, Opt(b), c]), "alpha gamma", True, ["count"]),
        ("a task by a latest arrival", Seq([stop("alpha", "count", NOW)]), "alpha", True, ["count"]),
        ("a task, closed", Seq([stop("alpha", "count", NOW - 1)]), "alpha", False, []),
        ("a task of the longest name", Seq([a, longest]), "alpha beta", True, [longest.task]),
        ("home as a stop with a task", Seq([stop("home", "tell"), a]), "home", True, ["tell"]),
        ("recalled home from a task", Seq([a, b]), "alpha home", True, []),
    ]
    for name, root, walk, legal, called in walks:
        yield walked(name, root, walk, legal, tasks=called)
    alpha, beta = (public(name).raw for name in ("alpha", "beta"))
    task, other = [8, alpha, "count"], [8, beta, "tell"]
    refused = {
        "a task without a name": [8, alpha, ""],
        "a task with a name that is too long": [8, alpha, "x" * (MAX_TASK_BYTES + 1)],
        "a task with a name of too many bytes": [8, alpha, "\u00e4" * (MAX_TASK_BYTES // 2 + 1)],
        "a task with a name that cannot be printed": [8, alpha, "count\n"],
        "a task with bytes for a name": [8, alpha, b"count"],
        "a task without a station": [8, "count"],
        "a task with a key that is too short": [8, alpha[1:], "count"],
        "a task with a part too many": [8, alpha, "count", NOW, 1],
        "a task with a text for the latest arrival": [8, alpha, "count", "never"],
        "a stop with a task in the form of one without": [0, alpha, "count"],
        "a stop without a task beside one": [1, [task, [0, beta]]],
        "a certified stop beside a task": [1, [task, [5, beta]]],
        "a free stop beside a task": [3, [task, [7]]],
        "one station twice in a row, with two tasks": [1, [task, [8, alpha, "tell"]]],
        "one station twice in a row where a task is left out": [1, [task, [6, other], task]],
        "one station twice in a row in a set": [3, [task, [1, [other, [8, alpha, "tell"]]]]],
        "one station twice in a row by a loop": [4, 2, task],
        "one station twice in a row after alternatives": [1, [[2, [task, other]], task]],
    }
    for name, value in refused.items():
        yield {"name": name, "itinerary": canonical.encode(value).hex(), "expect": "malformed"}


def sealings() -> Iterator[dict[str, Any]]:
    for size in (0, 1, 100, PIECE_BYTES, PIECE_BYTES + 1):
        plain = bytes(size)
        data = seal(plain, public("alpha").box(), b"context", fresh("ephemeral", size))
        yield {
            "name": f"{size} zero bytes",
            "secret": key("alpha").box().hex(),
            "context": b"context".hex(),
            "ephemeral": fresh("ephemeral", size).hex(),
            "size": size,
            "digest": canonical.digest(data).hex(),
            **({"sealed": data.hex()} if size <= 100 else {}),
            "expect": "ok",
        }
    data = seal(b"plain", public("alpha").box(), b"context", fresh("ephemeral"))
    bent = {
        "cut": (data[:-1], "alpha", b"context", "altered"),
        "last byte altered": (data[:-1] + bytes([data[-1] ^ 1]), "alpha", b"context", "altered"),
        "another key": (data, "beta", b"context", "not-for-us"),
        "another context": (data, "alpha", b"", "altered"),
        "another version": (b"portcall/s2" + data[11:], "alpha", b"context", "altered"),
    }
    for name, (sealed, who, context, code) in bent.items():
        yield {
            "name": name,
            "secret": key(who).box().hex(),
            "context": context.hex(),
            "sealed": sealed.hex(),
            "expect": code,
        }


def tour(**changes: Any) -> Journey:
    """home -> alpha -> beta, with a report."""
    journey = Journey.via("alpha", "beta", **changes)
    journey.report("start", b"0")
    journey.hop("alpha")
    return journey


class Case:
    """One arrival at beta, from alpha."""

    def __init__(self, name: str, expect: str, journey: Journey, capsule: Capsule | None = None, **more: Any) -> None:
        self.vector = {
            "name": name,
            "policy": more.pop("policy", POLICY),
            "here": public(more.pop("here", "beta")).raw.hex(),
            "sender": public(more.pop("sender", "alpha")).raw.hex(),
            "now": more.pop("now", NOW + 5000),
            "handoff": more.pop("handoff", journey.point.handoff).hex(),
            "copies": [copy.hex() for copy in more.pop("copies", [])],
            "load": {"residents": 0, "busy": 0, "memory": 0, **more.pop("load", {})},
            "capsule": (journey.capsule() if capsule is None else capsule).encode().hex(),
            "expect": expect,
        }
        assert not more


def admissions() -> Iterator[dict[str, Any]]:
    for case in (*owner_cases(), *amended_cases(), *body_cases(), *trail_cases(), *route_cases(), *station_cases()):
        yield case.vector


def sent(**changes: Any) -> Journey:
    journey = tour(**changes)
    journey.leave("beta")
    return journey


def owner_cases() -> Iterator[Case]:
    journey, capsule = sent(), sent().capsule()
    yield Case("an honest agent", "ok", journey)
    yield Case("an owner that nobody knows", "owner-unknown", journey, policy="")
    revoked = POLICY + f'[revoked]\nowners = ["{public("owner").text}"]\n'
    yield Case("an owner that was revoked", "revoked", journey, policy=revoked)
    yield Case("an expired passport", "expired", journey, now=NOW + 25 * HOUR)
    yield Case("a passport from the future", "not-yet-valid", journey, now=NOW - 2 * HOUR)
    bent = capsule.passport[:-1] + bytes([capsule.passport[-1] ^ 1])
    yield Case("a passport with another signature", "passport-signature", journey, evolve(capsule, passport=bent))
    forged = envelope.sign(journey.passport.body, key("mallory")).envelope
    yield Case("a passport signed by another", "passport-signature", journey, evolve(capsule, passport=forged))
    payload = {**journey.passport.body.payload(), 2: fresh("another id")}
    liar = _Signable("passport", payload)
    yield Case(
        "a passport with another agent's id",
        "agent-id",
        journey,
        evolve(capsule, passport=envelope.sign(liar, key("owner")).envelope),
    )
    extra = _Signable("passport", {**journey.passport.body.payload(), 99: True})
    yield Case(
        "a passport with a field from nowhere",
        "malformed",
        journey,
        evolve(capsule, passport=envelope.sign(extra, key("owner")).envelope),
    )


def amended_cases() -> Iterator[Case]:
    def under(journey: Journey, *amendments: bytes) -> Capsule:
        return evolve(journey.capsule(), amendments=canonical.encode(amendments))

    late = NOW + 25 * HOUR
    journey, greedy, leased = sent(), tour(), sent(lease=2 * HOUR)
    greedy.leave("beta", used=Budget(cpu=11_000_000))
    more = TopUp(Budget(cpu=2_000_000))
    yield Case("more used than the permit allows", "budget", greedy)
    yield Case("a top-up", "ok", greedy, under(greedy, amended(greedy, more)))
    yield Case("a top-up by a station", "amendment", greedy, under(greedy, amended(greedy, more, "alpha")))
    twice = under(greedy, *[amended(greedy, TopUp(Budget(cpu=600_000)))] * 2)
    yield Case("a top-up that is there twice", "malformed", greedy, twice)
    other = amended(tour(label="another"), more)
    yield Case("a top-up of another agent", "amendment", greedy, under(greedy, other))
    yield Case("an expired passport, renewed", "ok", journey, under(journey, amended(journey, Lease(late))), now=late)
    by_home = under(journey, amended(journey, Lease(late), "home"))
    yield Case("an expired passport, renewed by home", "expired", journey, by_home, now=late)
    yield Case("a lease that is over", "lease", leased, now=NOW + 3 * HOUR)
    renewed = under(leased, amended(leased, Lease(NOW + 4 * HOUR), "home"))
    yield Case("a lease that home has renewed", "ok", leased, renewed, now=NOW + 3 * HOUR)


class _Signable:
    """Any payload, to be signed as any kind."""

    def __init__(self, kind: str, payload: dict[int, Any]) -> None:
        self.KIND, self._payload = kind, payload

    def payload(self) -> dict[int, Any]:
        return self._payload


def body_cases() -> Iterator[Case]:
    journey, capsule = sent(), sent().capsule()
    other = b"\0asm another image"
    yield Case("another image", "image-digest", journey, evolve(capsule, image_bytes=other))
    renamed = evolve(capsule, image_bytes=other, image=canonical.digest(other))
    yield Case("another image under its own digest", "image-digest", journey, renamed)
    yield Case("no image", "image-missing", journey, evolve(capsule, image_bytes=None))
    yield Case("another state", "state-digest", journey, evolve(capsule, state_bytes=b"another"))
    renamed = evolve(capsule, state_bytes=b"another", state=canonical.digest(b"another"))
    yield Case("another state under its own digest", "state-digest", journey, renamed)
    yield Case("no state", "state-missing", journey, evolve(capsule, state_bytes=None))
    entries = capsule.results.entries
    yield Case("results cut off", "results-chain", journey, evolve(capsule, results=Results(entries[:1])))
    yield Case("results twice", "results-chain", journey, evolve(capsule, results=Results((*entries, entries[1]))))
    signature = bytes([entries[1][-1] ^ 1])
    bent = Results((entries[0], entries[1][:-1] + signature))
    yield Case("a result altered", "results-signature", journey, evolve(capsule, results=bent))
    foreign = tour(nonce=fresh("another")[:16])
    mixed = Results((foreign.entries[0], entries[1]))
    yield Case("results of another agent", "results-chain", journey, evolve(capsule, results=mixed))


def relinked(journey: Journey, *links: bytes) -> Capsule:
    return evolve(journey.capsule(), trail=Trail(tuple(links)))


def trail_cases() -> Iterator[Case]:
    journey = sent()
    v0, a0, k0, v1 = journey.links
    for name, links, code in [
        ("no trail", [], "trail-order"),
        ("the last visit cut off", [v0, a0, k0], "trail-order"),
        ("the first hop cut off", [v1], "trail-next"),
        ("receipt and commit left out", [v0, v1], "trail-order"),
        ("receipt and commit exchanged", [v0, k0, a0, v1], "trail-order"),
        ("a commit twice", [v0, a0, k0, k0, v1], "trail-order"),
        ("a visit twice", [v0, a0, k0, v0], "trail-next"),
        ("the agent as it left home", [v0], "not-for-us"),
        ("a visit altered", [v0, a0, k0, v1[:-1] + bytes([v1[-1] ^ 1])], "trail-signature"),
        ("a receipt altered", [v0, a0[:-1] + bytes([a0[-1] ^ 1]), k0, v1], "trail-signature"),
    ]:
        yield Case(name, code, journey, relinked(journey, *links))
    other = sent(nonce=fresh("another")[:16])
    yield Case("the trail of another agent", "trail-agent", journey, relinked(journey, *other.links))
    mixed = relinked(journey, v0, other.links[1], k0, v1)
    yield Case("the receipt of another agent", "trail-link", journey, mixed)
    known = evolve(journey.capsule(), trail=journey.trail(3))
    yield Case("a beginning that is not known here", "trail-unknown", journey, known)
    point = journey.trail(3)
    home = tour()
    checkpoint = logbook.sign_checkpoint(home.point, NOW, key("home")).envelope
    yield Case("a checkpoint by home", "ok", journey, _from(journey, point, checkpoint))
    forged = logbook.sign_checkpoint(home.point, NOW, key("alpha")).envelope
    yield Case("a checkpoint by another", "checkpoint", journey, _from(journey, point, forged))
    yield Case("offered by another station", "wrong-sender", journey, sender="mallory")
    yield Case("replayed to another station", "not-for-us", journey, here="gamma")
    yield Case("another handoff", "wrong-handoff", journey, handoff=fresh("x"))
    bends: list[tuple[str, str, dict[str, Any]]] = [
        ("a visit of another agent", "trail-agent", {"agent": fresh("x")}),
        ("a visit under another passport", "trail-agent", {"passport": fresh("x")}),
        ("a visit with a gap before it", "trail-index", {"index": 2}),
        ("a visit that links elsewhere", "trail-link", {"previous": fresh("x")}),
        ("a visit by a station that was not next", "trail-next", {"station": public("mallory")}),
        ("a state from nowhere", "state-chain", {"state_in": fresh("x")}),
        ("fewer results than before", "results-chain", {"results": Head(0, fresh("x"))}),
    ]
    for name, code, changes in bends:
        bent = tour()
        bent.leave("beta", **changes)
        yield Case(name, code, bent, handoff=journey.point.handoff)
    ended = tour()
    ended.leave(None)
    yield Case("an agent whose journey has ended", "trail-ended", ended)
    stolen = Journey.via("alpha", "beta")
    stolen.station = key("mallory")
    stolen.leave("alpha")
    yield Case("launched by another than home", "trail-next", stolen, here="alpha", sender="mallory")
    for kind, changes, code in [
        ("receipt", {"state": fresh("x")}, "state-chain"),
        ("receipt", {"visit": fresh("x")}, "trail-link"),
        ("commit", {"receipt": fresh("x")}, "trail-link"),
        ("commit", {"index": 3}, "trail-link"),
    ]:
        bent = _bent(kind, changes)
        yield Case(f"a {kind} with another {next(iter(changes))}", code, bent)
    crook = _signed_by_another()
    yield Case("a receipt by another station", "trail-signer", crook)


def _from(journey: Journey, trail: Trail, checkpoint: bytes) -> Capsule:
    # The results before the checkpoint were verified with it.
    results = Results(tuple(journey.entries)).since(journey.head)
    return evolve(journey.capsule(), trail=trail, checkpoint=checkpoint, results=results)


def _bent(kind: str, changes: dict[str, Any]) -> Journey:
    journey = Journey.via("alpha", "beta")
    bend: Callable[[str, Any], Any] = lambda k, body: evolve(body, **changes) if k == kind else body  # noqa: E731
    journey.bend = bend
    good = sent()
    journey.leave("alpha")
    journey.arrive("alpha")
    journey.bend = lambda k, body: body
    journey.point = evolve(journey.point, handoff=good.point.handoff)
    journey.positions = good.positions
    journey.leave("beta")
    return journey


def _signed_by_another() -> Journey:
    journey = Journey.via("alpha", "beta")
    journey.leave("alpha")
    receipt = logbook.sign_receipt(journey.point, NOW, key("alpha"))
    journey.links.append(envelope.sign(receipt.body, key("mallory")).envelope)
    return journey


def route_cases() -> Iterator[Case]:
    def stops(*names: str) -> list[Stop]:
        return [Stop(public(name)) for name in names]

    def bent(name: str, code: str, to: str = "beta", root: Any = None, **changes: Any) -> Case:
        root = root or Seq(stops("alpha", "beta"))
        journey = Journey(make_passport(Itinerary(root), **changes.pop("passport", {})))
        hops = changes.pop("hops", ["alpha"])
        for hop in hops:
            journey.hop(hop)
        journey.leave(to, **{"position": journey.positions[0], **changes})
        return Case(name, code, journey, here=to, sender=["home", *hops][-1])

    yield bent("a set in any order", "ok", root=Set(stops("beta", "alpha")))
    yield bent("a loop", "ok", root=Loop(9, Seq(stops("alpha", "beta"))), hops=["alpha", "beta", "alpha"])
    yield bent("home from anywhere", "ok", to="home", root=Seq(stops("alpha", "beta", "gamma")))
    yield bent("not the next stop", "itinerary", to="gamma")
    yield bent("a stop left out", "itinerary", root=Seq(stops("alpha", "gamma", "beta")))
    yield bent("the other alternative, too", "itinerary", root=Alt(stops("alpha", "beta")))
    yield bent("a set's stop twice", "itinerary", to="alpha", root=Set(stops("alpha", "beta")))
    yield bent(
        "one turn too many",
        "itinerary",
        root=Loop(1, Seq(stops("alpha", "beta"))),
        hops=["alpha", "beta"],
        to="alpha",
    )
    yield bent("a stop that has closed", "itinerary", root=Seq([Stop(public("alpha")), Stop(public("beta"), NOW)]))
    for name, path in [
        ("a position beyond the end", (7,)),
        ("no position", ()),
        ("a position too deep", (0, 0)),
    ]:
        yield bent(name, "itinerary", position=Position(PositionKind.STOP, path))
    yield bent(
        "a position further on",
        "itinerary",
        to="gamma",
        root=Seq(stops("alpha", "beta", "gamma")),
        position=Position(PositionKind.STOP, (1,)),
    )
    yield bent("a stay after the passport expired", "itinerary", arrived=NOW + 30 * HOUR, departed=NOW + 31 * HOUR)
    anyone = Seq([CertifiedStop(public("certifier")), Stop(public("beta"))])
    yield bent("a stop that nobody certified", "itinerary", root=anyone, hops=[], to="alpha")
    yield bent("more hops than allowed", "hops", passport={"hops": 1})
    yield bent("more computing than allowed", "budget", used=Budget(cpu=2**40))
    yield bent("more messages than allowed", "budget", used=Budget(messages=1001))
    yield bent("more clones than allowed", "clones", cloned=3)
    none_left = Permit(evolve(PERMIT.budget, cpu=2000), PERMIT.capabilities, PERMIT.needs)
    yield bent("no computing left", "budget", passport={"permit": none_left})
    for name, code, changes in [
        ("a clone", "ok", {}),
        ("a clone too many", "clones", {"serial": 2}),
        ("a clone from another place", "trail-link", {"previous": fresh("x")}),
    ]:
        journey = tour()
        clone = logbook.sign_clone(journey.point, 0, canonical.digest(state(1)), journey.head, NOW, key("alpha"))
        journey.add(clone.body, **changes)
        journey.leave("beta")
        yield Case(name, code, journey)
    yield from upgrade_cases()
    for name, signer, at, code in [
        ("a certified stop", "certifier", NOW, "ok"),
        ("a certificate by another", "mallory", NOW, "itinerary"),
        ("a certificate that was over", "certifier", NOW - 9 * HOUR, "certificate"),
    ]:
        journey = Journey(make_passport(Itinerary(anyone)))
        journey.leave("guest")
        journey.arrive("guest", certified=True)
        certificate = logbook.sign_certificate(public("guest"), at - HOUR, at + HOUR, "guest", key(signer)).envelope
        journey.leave("beta", certificate=certificate)
        yield Case(name, code, journey, sender="guest")


def upgrade_cases() -> Iterator[Case]:
    """Agents that got new code at alpha, and go to beta."""
    newer = IMAGE + b" 2"
    new = canonical.digest(newer)

    def upgraded(signer: str = "owner", link: dict[str, Any] | None = None, **changes: Any) -> Journey:
        journey = tour()
        point = journey.point
        change = Upgrade(canonical.digest(IMAGE), new, 1, NOW + 9 * HOUR)
        steps = {name: changes.pop(name) for name in ("old", "visit", "expires") if name in changes}
        asked = Amendment(point.agent, point.passport, fresh("upgrade")[:16], NOW, evolve(change, **steps))
        statement = envelope.sign(evolve(asked, **changes), key(signer)).envelope
        journey.add(sign_upgraded(point, statement, NOW + 5000, key("alpha")).body, **(link or {}))
        return journey

    def case(name: str, code: str, journey: Journey, image: bytes = newer) -> Case:
        journey.leave("beta")
        capsule = journey.capsule(image=canonical.digest(image), image_bytes=image)
        return Case(name, code, journey, capsule)

    yield case("new code", "ok", upgraded())
    yield case("new code, and the old one comes", "image-digest", upgraded(), IMAGE)
    yield case("new code that nobody ordered", "image-digest", tour())
    yield case("other code than was ordered", "image-digest", upgraded(), IMAGE + b" 3")
    yield case("new code by another than the owner", "amendment", upgraded("mallory"))
    yield case("new code by the station", "amendment", upgraded("alpha"))
    yield case("new code for another agent", "upgrade", upgraded(agent=fresh("x")))
    yield case("new code under another passport", "amendment", upgraded(passport=fresh("x")))
    yield case("new code for code that it had not", "upgrade", upgraded(old=fresh("x")))
    yield case("new code from a later visit on", "upgrade", upgraded(visit=2))
    yield case("new code after its time", "upgrade", upgraded(expires=NOW + 1))
    yield case("new code before its time", "upgrade", upgraded(time=NOW + 8 * HOUR))
    yield case("new code from another place", "trail-link", upgraded(link={"previous": fresh("x")}))
    twice = upgraded()
    first = twice.links[-1]
    step = Upgrade(new, canonical.digest(IMAGE), 1, NOW + 9 * HOUR)
    back = Amendment(twice.point.agent, twice.point.passport, fresh("back")[:16], NOW + 1, step)
    twice.add(sign_upgraded(twice.point, envelope.sign(back, key("owner")).envelope, NOW + 5001, key("alpha")).body)
    yield case("the old code again, by order", "ok", twice, IMAGE)
    again = envelope.look(first)
    statement = envelope.verify(Upgraded, again).body.statement
    replayed = upgraded()
    replayed.add(
        sign_upgraded(replayed.point, envelope.sign(back, key("owner")).envelope, NOW + 5001, key("alpha")).body
    )
    replayed.add(sign_upgraded(replayed.point, statement, NOW + 5002, key("alpha")).body)
    yield case("an order that was used before", "upgrade", replayed)


def station_cases() -> Iterator[Case]:
    journey = sent()
    yield Case("the same handoff again", "ok", journey, copies=[journey.point.handoff])
    yield Case("the same hop by another handoff", "duplicate", journey, copies=[fresh("other")])
    none = POLICY.replace('"service:thermometer.*", ', "")
    yield Case("a need that is not granted", "capability", journey, policy=none)
    small = POLICY + "[limits]\nstate = '3B'\n"
    yield Case("a state that is too large", "too-large", journey, policy=small)
    small = POLICY + "[limits]\nimage = '3B'\n"
    yield Case("an image that is too large", "too-large", journey, policy=small)
    yield Case("a full station", "busy", journey, load={"residents": 10_000})
    yield Case("a busy station", "busy", journey, load={"busy": 64})
    yield Case("a station whose disk is nearly full", "disk-full", journey, load={"free": 1_000_000})


FILES: dict[str, tuple[str, Callable[[], Iterator[dict[str, Any]]]]] = {
    "keys": ("Keys, their text forms and ids, and a signature.", keys),
    "envelopes": ("Each kind of statement, and what is wrong with bent ones.", envelopes),
    "itineraries": (
        "Walks through itineraries. `legal`: whether each step is; `tasks`: what may be called where it ends. With "
        "`expect`, one that is refused.",
        itineraries,
    ),
    "sealing": ("Sealed bytes. Without `sealed`, compare the digest of what you seal.", sealings),
    "admissions": ("Arrivals: what a station answers. The attack suite.", admissions),
}


def contents(name: str) -> str:
    """The text of one file."""
    about, vectors = FILES[name]
    return json.dumps({"about": about, "vectors": list(vectors())}, indent=1) + "\n"


def main() -> None:
    for name in FILES:
        (HERE / f"{name}.json").write_text(contents(name))
    assert len(IMAGE) < 100


if __name__ == "__main__":
    main()
