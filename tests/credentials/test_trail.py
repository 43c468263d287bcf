"""Trails: what honest stations make is accepted, whole and in pieces; what is bent is refused by its code."""

from __future__ import annotations

import pytest
from attrs import evolve

from agents import canonical
from agents.credentials import envelope, logbook
from agents.credentials.itinerary import CertifiedStop, Itinerary, Loop, Seq, Stop
from agents.credentials.keys import PublicKey
from agents.credentials.trail import Trail, close, conflicting, follow, is_complete, verify_trail
from agents.credentials.trailpoint import Phase, TrailPoint, launch_point
from agents.credentials.visits import Head, certifier
from agents.errors import CredentialError, MalformedCredential
from tests.credentials.journeys import HOUR, NOW, PERMIT, Journey, fresh, key, make_passport, public, state


def tour() -> Journey:
    """home -> alpha -> beta, open."""
    journey = Journey.via("alpha", "beta")
    journey.hop("alpha")
    journey.leave("beta")
    return journey


def refused(journey: Journey, code: str, here: str = "beta", sender: str = "alpha", **arrival: object) -> str:
    with pytest.raises(CredentialError) as caught:
        verify_trail(journey.trail(), journey.passport, arrival=journey.arrival(here, sender, **arrival))
    assert caught.value.code == code, caught.value
    # A sentence for people: no codes, no dumps.
    assert len(caught.value.reason) > 20
    return caught.value.reason


def test_an_honest_trail_is_accepted() -> None:
    journey = tour()
    followed = verify_trail(journey.trail(), journey.passport, arrival=journey.arrival("beta", "alpha"))
    assert followed.point.phase is Phase.RECEIPT
    assert [v.body.station for v in followed.visits] == [public("home"), public("alpha")]
    assert followed.point.used.cpu == 2000
    assert len(followed.here) == 1


def test_a_whole_journey_audits() -> None:
    journey = Journey.via("alpha", "beta")
    journey.hop("alpha")
    journey.hop("beta")
    journey.leave(None)
    followed = verify_trail(journey.trail(), journey.passport)
    assert followed.point.phase is Phase.ENDED
    assert is_complete(journey.passport.body, followed.point)
    with pytest.raises(CredentialError, match="trail-ended"):
        verify_trail(journey.trail(), journey.passport, arrival=journey.arrival("beta", "alpha"))
    with pytest.raises(CredentialError, match="trail-ended"):
        follow(followed.point, journey.links[-1])


@pytest.mark.parametrize("index", range(4))
def test_a_link_of_another_key_is_refused(index: int) -> None:
    journey = tour()
    link = bytearray(journey.links[index])
    link[-1] ^= 1
    journey.links[index] = bytes(link)
    refused(journey, "trail-signature")


def test_every_altered_byte_is_refused() -> None:
    journey = tour()
    for index, link in enumerate(journey.links):
        for at in range(0, len(link), 7):
            bent = bytearray(link)
            bent[at] ^= 0x20
            links = (*journey.links[:index], bytes(bent), *journey.links[index + 1 :])
            with pytest.raises(CredentialError):
                verify_trail(Trail(links), journey.passport, arrival=journey.arrival("beta", "alpha"))


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ([1, 2, 3], "trail-order"),
        ([0, 2, 1, 3], "trail-order"),
        ([0, 1, 3], "trail-order"),
        ([0, 3], "trail-order"),
        ([0, 1, 2, 2, 3], "trail-order"),
        ([0, 1, 2, 0], "trail-next"),
        ([3], "trail-next"),
        ([0, 1, 2], "trail-order"),
        ([0, 1], "trail-order"),
        ([0], "not-for-us"),
        ([], "trail-order"),
    ],
)
def test_links_that_are_dropped_or_moved_are_refused(order: list[int], code: str) -> None:
    journey = tour()
    journey.links = [journey.links[i] for i in order]
    refused(journey, code)


def test_links_of_another_agent_are_refused() -> None:
    journey, other = tour(), Journey.via("alpha", "beta", nonce=fresh("another")[:16])
    other.hop("alpha")
    other.leave("beta")
    for index in range(4):
        links = [*journey.links[:index], other.links[index], *journey.links[index + 1 :]]
        with pytest.raises(CredentialError) as caught:
            verify_trail(Trail(tuple(links)), journey.passport)
        assert caught.value.code == ("trail-agent" if index in (0, 3) else "trail-link")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"agent": fresh("x")}, "trail-agent"),
        ({"passport": fresh("x")}, "trail-agent"),
        ({"index": 2}, "trail-index"),
        ({"previous": fresh("x")}, "trail-link"),
        ({"station": public("mallory")}, "trail-next"),
        ({"state_in": fresh("x")}, "state-chain"),
        ({"state_out": fresh("x")}, "state-digest"),
        ({"next": public("mallory")}, "not-for-us"),
        ({"arrived": NOW + 48 * HOUR, "departed": NOW + 49 * HOUR}, "itinerary"),
        ({"cloned": 3}, "clones"),
    ],
)
def test_a_bent_visit_is_refused(changes: dict[str, object], code: str) -> None:
    journey = Journey.via("alpha", "beta")
    journey.hop("alpha")
    journey.leave("beta", **changes)
    refused(journey, code)


def test_a_visit_by_a_station_that_was_not_next_is_refused() -> None:
    journey = Journey.via("alpha", "beta")
    journey.hop("alpha")
    journey.leave("beta", key("mallory"), station=public("mallory"))
    refused(journey, "trail-next", sender="mallory")


def test_a_receipt_or_commit_for_something_else_is_refused() -> None:
    cases = [
        ("receipt", {"visit": fresh("x")}, "trail-link"),
        ("receipt", {"handoff": fresh("x")}, "trail-link"),
        ("receipt", {"state": fresh("x")}, "state-chain"),
        ("receipt", {"station": public("mallory")}, "trail-link"),
        ("commit", {"agent": fresh("x")}, "trail-link"),
        ("commit", {"index": 7}, "trail-link"),
        ("commit", {"handoff": fresh("x")}, "trail-link"),
        ("commit", {"visit": fresh("x")}, "trail-link"),
        ("commit", {"receipt": fresh("x")}, "trail-link"),
    ]
    for kind, changes, code in cases:
        journey = Journey.via("alpha", "beta")
        journey.bend = lambda k, body, kind=kind, changes=changes: evolve(body, **changes) if k == kind else body
        journey.leave("alpha")
        journey.arrive("alpha")
        with pytest.raises(CredentialError) as caught:
            verify_trail(journey.trail(), journey.passport)
        assert caught.value.code == code, (kind, changes)


def test_receipt_and_commit_are_signed_by_the_right_station() -> None:
    journey = Journey.via("alpha", "beta")
    journey.leave("alpha")
    forged = logbook.sign_receipt(journey.point, NOW, key("mallory")).envelope
    with pytest.raises(CredentialError, match="trail-signer"):
        follow(journey.point, forged)
    journey.links.append(logbook.sign_receipt(journey.point, NOW, key("alpha")).envelope)
    point = close(journey.point, journey.links[-1])
    with pytest.raises(CredentialError, match="trail-signer"):
        follow(point, logbook.sign_commit(point, key("alpha")).envelope)


def test_only_home_may_launch() -> None:
    journey = Journey.via("alpha", "beta")
    journey.station = key("mallory")
    journey.leave("alpha")
    refused(journey, "trail-next", "alpha", "mallory")


def test_the_sender_is_the_last_visits_station() -> None:
    assert "another station offers it" in refused(tour(), "wrong-sender", sender="mallory")


def test_a_replay_to_a_third_station_is_refused() -> None:
    assert "not to this station" in refused(tour(), "not-for-us", here="gamma")


def test_hops_and_budgets_are_within_the_permit() -> None:
    journey = Journey(make_passport(Itinerary(Loop(50, Seq([Stop(public("alpha")), Stop(public("beta"))]))), hops=3))
    for name in ("alpha", "beta", "alpha"):
        journey.hop(name)
    journey.leave("beta")
    refused(journey, "hops")
    thirsty = Journey.via("alpha", "beta")
    thirsty.hop("alpha", used=thirsty.passport.body.permit.budget)
    thirsty.leave("beta")
    assert "more cpu" in refused(thirsty, "budget")


def test_the_itinerary_is_followed() -> None:
    journey = Journey.via("alpha", "beta")
    # home sends the agent straight to beta
    journey.leave("beta", position=journey.positions[0])
    refused(journey, "itinerary", "beta", "home")
    # alpha sends it to gamma
    journey = Journey.via("alpha", "beta")
    journey.hop("alpha")
    journey.leave("gamma", position=journey.positions[0])
    refused(journey, "itinerary", "gamma", "alpha")


def test_a_position_that_is_claimed_must_be_reached() -> None:
    journey = Journey(make_passport(Itinerary.via([public(n) for n in ("alpha", "beta", "alpha", "gamma")])))
    journey.hop("alpha")
    # alpha claims to be the third stop already
    third = evolve(journey.positions[0], path=(2,))
    journey.leave("gamma", position=third)
    refused(journey, "itinerary", "gamma", "alpha")
    for path in ((9,), (), (0, 0), (0, 2**63)):
        journey = Journey.via("alpha", "beta")
        journey.hop("alpha")
        journey.leave("beta", position=evolve(third, path=path))
        refused(journey, "itinerary")


def test_coming_home_is_always_legal_and_ends_the_journey() -> None:
    journey = Journey.via("alpha", "beta", "gamma")
    journey.hop("alpha")
    journey.leave("home")
    verify_trail(journey.trail(), journey.passport, arrival=journey.arrival("home", "alpha"))
    journey.arrive("home")
    with pytest.raises(CredentialError, match="does not lead"):
        journey.leave("beta")
    journey.leave("beta", position=journey.positions[0])
    refused(journey, "itinerary", "beta", "home")


def test_a_stop_may_close() -> None:
    stops = [Stop(public("alpha"), NOW + HOUR), Stop(public("beta"), NOW + 4000)]
    journey = Journey(make_passport(Itinerary(Seq(stops))))
    journey.hop("alpha")
    journey.leave("beta")
    assert journey.now > NOW + 4000
    verify_trail(journey.trail(), journey.passport, arrival=journey.arrival("beta", "alpha", at=NOW + 4000))
    refused(journey, "itinerary")


def test_any_certified_station() -> None:
    passport = make_passport(Itinerary(Seq([CertifiedStop(public("certifier")), Stop(public("beta"))])))
    certificate = logbook.sign_certificate(public("guest"), NOW - HOUR, NOW + HOUR, "guest", key("certifier")).envelope
    journey = Journey(passport)
    journey.leave("guest")
    with pytest.raises(CredentialError, match="itinerary"):
        verify_trail(journey.trail(), journey.passport, arrival=journey.arrival("guest", "home"))
    mine = frozenset([certifier(certificate, public("guest"), NOW)])
    verify_trail(journey.trail(), journey.passport, arrival=journey.arrival("guest", "home", certifiers=mine))
    journey.arrive("guest", certified=True)
    before, links = journey.point, list(journey.links)
    journey.leave("beta", certificate=certificate)
    verify_trail(journey.trail(), journey.passport, arrival=journey.arrival("beta", "guest"))
    stolen = logbook.sign_certificate(public("other"), NOW - HOUR, NOW + HOUR, "other", key("certifier")).envelope
    late = logbook.sign_certificate(public("guest"), NOW - 2 * HOUR, NOW - HOUR, "guest", key("certifier")).envelope
    forged = logbook.sign_certificate(public("guest"), NOW - HOUR, NOW + HOUR, "guest", key("mallory")).envelope
    for bad, code in (
        (stolen, "certificate"),
        (late, "certificate"),
        (forged, "itinerary"),
        (None, "itinerary"),
    ):
        journey.point, journey.links = before, list(links)
        journey.leave("beta", certificate=bad)
        refused(journey, code, sender="guest")


def test_a_clone_has_its_own_name_and_its_parents_past() -> None:
    parent = Journey.via("alpha", "beta")
    parent.hop("alpha")
    fork = parent.point
    statement = logbook.sign_clone(fork, 0, canonical.digest(state(1)), parent.head, parent.now, parent.station)
    clone = Journey.via("alpha", "beta")
    clone.hop("alpha")
    clone.add(statement.body)
    clone.leave("beta")
    followed = verify_trail(clone.trail(), clone.passport, arrival=clone.arrival("beta", "alpha"))
    assert followed.point.agent == statement.body.agent != parent.passport.body.agent
    parent.leave("beta", cloned=1)
    verify_trail(parent.trail(), parent.passport, arrival=parent.arrival("beta", "alpha"))
    # a clone of the clone, a third clone, a clone that names another place
    cases = [
        ({"serial": 2}, "clones"),
        ({"previous": fresh("x")}, "trail-link"),
        ({"index": 5}, "trail-index"),
    ]
    for changes, code in cases:
        bent = Journey.via("alpha", "beta")
        bent.hop("alpha")
        bent.add(statement.body, **changes)
        if code == "clones":
            bent.leave("beta")
        refused(bent, code)
    clone = Journey.via("alpha", "beta")
    clone.hop("alpha")
    for _ in range(2):
        again = logbook.sign_clone(clone.point, 0, clone.point.state, clone.head, clone.now, clone.station)
        clone.add(again.body)
    clone.leave("beta")
    refused(clone, "clones")


def test_results_that_shrink_are_refused() -> None:
    journey = Journey.via("alpha", "beta")
    journey.report("a", b"1")
    journey.hop("alpha")
    journey.leave("beta", results=Head(0, fresh("x")))
    refused(journey, "results-chain")
    journey = Journey.via("alpha", "beta")
    journey.report("a", b"1")
    journey.hop("alpha")
    journey.leave("beta", results=Head(1, fresh("x")))
    refused(journey, "results-chain")


def test_what_is_known_is_not_verified_again() -> None:
    journey = Journey(make_passport(Itinerary(Loop(1000, Seq([Stop(public("alpha")), Stop(public("beta"))])))))
    known: dict[bytes, TrailPoint] = {}
    for _ in range(5):
        for name in ("alpha", "beta"):
            journey.hop(name)
    known[journey.point.head] = journey.point
    begun = len(journey.links)
    journey.leave("alpha")
    trail = journey.trail(begun)
    assert len(trail.links) == 1
    followed = verify_trail(trail, journey.passport, known, arrival=journey.arrival("alpha", "beta"))
    assert followed.start is known[trail.head]
    assert followed.point == verify_trail(journey.trail(), journey.passport).point
    with pytest.raises(CredentialError, match="trail-unknown"):
        verify_trail(trail, journey.passport, {})
    with pytest.raises(CredentialError, match="trail-unknown"):
        verify_trail(evolve(trail, start=4), journey.passport, known)
    with pytest.raises(CredentialError, match="trail-unknown"):
        verify_trail(evolve(trail, head=fresh("x")), journey.passport, journey.point)


def test_a_hop_costs_the_same_at_the_end_of_a_long_journey(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: signatures that are checked, and bytes that travel, at hop 10, 100 and 2,000."""
    permit = evolve(PERMIT, budget=evolve(PERMIT.budget, messages=10_000))
    stops = Seq([Stop(public("alpha")), Stop(public("beta"))])
    journey = Journey(make_passport(Itinerary(Loop(5000, stops)), hops=5000, permit=permit))
    verified: list[bytes] = []
    real = PublicKey.verify

    def counted(self: PublicKey, signature: bytes, message: bytes) -> bool:
        verified.append(signature)
        return real(self, signature, message)

    monkeypatch.setattr(PublicKey, "verify", counted)
    monkeypatch.setattr(
        envelope, "REMEMBERED_STATEMENT_BYTES", 0
    )  # what was signed in this process is not known to hold
    costs, names = [], ["home", "alpha", "beta"]
    for hop in range(1, 2001):
        here, source = names[1 + (hop + 1) % 2], names[0 if hop == 1 else 1 + hop % 2]
        before = journey.point
        journey.leave(here)
        if hop in (10, 100, 2000):
            trail = Trail((journey.links[-1],), before.links, before.head)
            verified.clear()
            arrival = journey.arrival(here, source)
            point = verify_trail(trail, journey.passport, {before.head: before}, arrival=arrival).point
            assert point == journey.point
            costs.append((len(verified), len(canonical.encode(trail.value()))))
        journey.arrive(here)
    assert [count for count, _ in costs] == [1, 1, 1]
    sizes = [size for _, size in costs]
    assert max(sizes) - min(sizes) < 16


def test_points_from_nowhere_are_malformed() -> None:
    good = tour().point.payload()
    for field in good:
        for value in (None, -1, "x", [], {}, b"short", 2**70):
            if field == 13 and value is None:
                continue
            with pytest.raises(MalformedCredential):
                TrailPoint.from_payload({**good, field: value})
    with pytest.raises(MalformedCredential):
        TrailPoint.from_payload({**good, 99: 0})


def test_a_known_beginning_of_another_agent_is_refused() -> None:
    journey, other = tour(), Journey.via("alpha", "beta", nonce=fresh("another")[:16])
    trail = Trail((), journey.point.links, journey.point.head)
    with pytest.raises(CredentialError, match="trail-agent"):
        verify_trail(trail, other.passport, {journey.point.head: journey.point})


def test_a_checkpoint_by_home_stands_for_the_beginning() -> None:
    journey = tour()
    journey.arrive("beta")
    begun = len(journey.links)
    signed = logbook.sign_checkpoint(journey.point, journey.now, key("home")).envelope
    journey.leave("home")
    trail = journey.trail(begun)
    arrival = journey.arrival("home", "beta")
    followed = verify_trail(trail, journey.passport, checkpoint=signed, arrival=arrival)
    assert followed.point == verify_trail(journey.trail(), journey.passport).point
    forged = logbook.sign_checkpoint(followed.start, NOW, key("beta")).envelope
    with pytest.raises(CredentialError, match="checkpoint"):
        verify_trail(trail, journey.passport, checkpoint=forged, arrival=arrival)
    other = Journey.via("alpha", "beta", nonce=fresh("another")[:16])
    foreign = logbook.sign_checkpoint(other.point, NOW, key("home")).envelope
    with pytest.raises(CredentialError, match="checkpoint"):
        verify_trail(trail, journey.passport, checkpoint=foreign, arrival=arrival)


def test_points_survive_a_store() -> None:
    journey = tour()
    point = launch_point(journey.passport)
    for link in [None, *journey.links]:
        point = point if link is None else close(point, link)
        data = canonical.encode(point.payload())
        assert TrailPoint.from_payload(canonical.decode(data)) == point
        assert len(data) < 600


def test_pieces_of_a_trail() -> None:
    journey = tour()
    middle = close(launch_point(journey.passport), *journey.links[:3])
    trail = journey.trail()
    assert trail.since(middle) == journey.trail(3)
    assert Trail.from_value(canonical.decode(canonical.encode(trail.value()))) == trail
    assert Trail.from_value(journey.trail(3).value()) == journey.trail(3)
    with pytest.raises(MalformedCredential):
        journey.trail(3).since(launch_point(journey.passport))
    for bad in ([], [0, b"", [b""]], [1, b"", []], [0, b"x", []], [0, b"", [1]], [-1, b"", []], {}):
        with pytest.raises(MalformedCredential):
            Trail.from_value(bad)


def test_two_commits_by_one_station_are_found() -> None:
    commits = []
    for to in ("alpha", "beta"):
        journey = Journey.via("alpha", "beta")
        journey.leave(to, position=journey.positions[0])
        journey.arrive(to)
        commits.append(journey)
    bodies = []
    for journey in commits:
        point = launch_point(journey.passport)
        for link in journey.links:
            point, signed = follow(point, link)
        bodies.append(signed)
    assert conflicting(bodies) == (bodies[0], bodies[1])
    assert conflicting([bodies[0], bodies[0]]) is None
