"""Capsules: encoded, sealed, verified; checks 1 to 5 in their order."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from agents.capsule import CLOCK_SKEW_MS, Capsule, Trust
from agents.credentials import envelope, logbook
from agents.credentials.itinerary import Itinerary
from agents.credentials.passport import Passport, issue, verify_passport
from agents.credentials.results import Results
from agents.errors import BadImage, CannotOpen, CredentialError, MalformedCredential
from tests.credentials.journeys import HOUR, IMAGE, NOW, Journey, fresh, key, make_passport, public, trust
from tests.thorough import examples


def tour(**changes: Any) -> Journey:
    journey = Journey.via("alpha", "beta", **changes)
    journey.report("start", b"0")
    journey.hop("alpha")
    journey.leave("beta")
    return journey


def code(capsule: Capsule, believed: Trust, now: int = NOW + 5000) -> str:
    with pytest.raises(CredentialError) as caught:
        capsule.verify(believed, now)
    return caught.value.code


HERE = trust("beta", "alpha")


def test_an_honest_capsule() -> None:
    journey = tour()
    verified = journey.capsule().verify(HERE, NOW + 5000)
    assert verified.agent == journey.passport.body.agent
    assert verified.hop == 1
    assert verified.results == journey.head
    assert len(verified.positions) == 1
    assert verified.point == journey.point


def test_capsules_travel_as_bytes() -> None:
    capsule = tour().capsule()
    assert Capsule.decode(capsule.encode()) == capsule
    assert Capsule.decode(capsule.bare().encode()) == capsule.bare()
    assert capsule.digest == canonical.digest(capsule.encode())
    assert b"state" not in repr(capsule).encode().replace(b"state_bytes", b"").replace(b"state=", b"")


def test_capsules_travel_in_pieces() -> None:
    capsule = tour().capsule(checkpoint=b"x")
    parts = capsule.parts()
    assert set(parts) == {"passport", "trail", "results", "checkpoint", "image", "state"}
    assert Capsule.from_parts(parts, capsule.image, capsule.state) == capsule
    views = {name: memoryview(data) for name, data in parts.items()}
    again = Capsule.from_parts(views, capsule.image, capsule.state)
    assert again == capsule
    assert again.state_bytes is views["state"]
    evolve(again, checkpoint=None).verify(HERE, NOW)
    assert Capsule.decode(again.encode()) == capsule
    bare = capsule.bare().parts()
    assert Capsule.from_parts(bare, capsule.image, capsule.state) == capsule.bare()
    for name in ("passport", "trail", "results"):
        with pytest.raises(MalformedCredential, match=name):
            Capsule.from_parts({k: v for k, v in parts.items() if k != name}, capsule.image, capsule.state)
    for name in ("trail", "results"):
        for bad in (b"", b"\x80", b"\x9f", bytes(40 * 2**20)):
            with pytest.raises(MalformedCredential):
                Capsule.from_parts({**parts, name: bad}, capsule.image, capsule.state)


def test_capsules_are_sealed_to_a_station() -> None:
    capsule = tour().capsule()
    data = capsule.seal(public("beta"), fresh("e"))
    assert Capsule.open(data, key("beta")) == capsule
    assert IMAGE not in data
    with pytest.raises(CannotOpen) as caught:
        Capsule.open(data, key("gamma"))
    assert caught.value.code == "not-for-us"
    with pytest.raises(CannotOpen) as caught:
        Capsule.open(data[:-1] + bytes([data[-1] ^ 1]), key("beta"))
    assert caught.value.code == "altered"
    with pytest.raises(MalformedCredential):
        Capsule.open(data, key("beta"), max_bytes=100)


def test_check_1_the_owner() -> None:
    journey = tour()
    capsule = journey.capsule()
    assert code(capsule, evolve(HERE, owners=frozenset())) == "owner-unknown"
    assert code(capsule, evolve(HERE, revoked={public("owner").raw})) == "revoked"
    assert code(capsule, evolve(HERE, revoked={journey.passport.body.agent})) == "revoked"
    assert code(capsule, HERE, NOW + 25 * HOUR) == "expired"
    assert code(capsule, HERE, NOW - HOUR - CLOCK_SKEW_MS - 1) == "not-yet-valid"
    capsule.verify(HERE, NOW - HOUR - CLOCK_SKEW_MS)
    bent = bytearray(capsule.passport)
    bent[-1] ^= 1
    assert code(evolve(capsule, passport=bytes(bent)), HERE) == "passport-signature"
    forged = envelope.sign(journey.passport.body, key("mallory")).envelope
    assert code(evolve(capsule, passport=forged), HERE) == "passport-signature"


def test_a_passport_that_was_verified_before_is_not_verified_again() -> None:
    journey = tour()
    known = evolve(HERE, passports={journey.passport.digest: journey.passport})
    assert journey.capsule().verify(known, NOW).passport is journey.passport
    assert code(journey.capsule(), known, NOW + 25 * HOUR) == "expired"
    bent = evolve(journey.capsule(), passport=journey.passport.envelope[:-1] + b"x")
    assert code(bent, known) == "passport-signature"


def test_check_1_the_id() -> None:
    class Liar(Passport):
        @property
        def agent(self) -> bytes:
            return fresh("another id")

    body = make_passport(Itinerary.via([public("alpha")]))
    names = [a.name for a in Passport.__attrs_attrs__]
    liar = Liar(**{name: getattr(body, name) for name in names})
    forged = envelope.sign(liar, key("owner")).envelope
    with pytest.raises(CredentialError, match="agent-id"):
        verify_passport(forged)


def test_check_2_the_image() -> None:
    capsule = tour().capsule()
    assert code(evolve(capsule, image_bytes=b"another"), HERE) == "image-digest"
    swapped = evolve(capsule, image_bytes=b"another", image=canonical.digest(b"another"))
    assert code(swapped, HERE) == "image-digest"
    missing = evolve(capsule, image_bytes=None)
    assert code(missing, HERE) == "image-missing"
    missing.verify(evolve(HERE, images={capsule.image}), NOW)

    def invalid(data: bytes) -> None:
        raise BadImage("no module")

    assert code(capsule, evolve(HERE, validate=invalid)) == "image-invalid"
    capsule.verify(evolve(HERE, validate=invalid, images={capsule.image}), NOW)
    seen: list[bytes] = []
    capsule.verify(evolve(HERE, validate=seen.append), NOW)
    assert seen == [IMAGE]


def test_check_4_the_state() -> None:
    capsule = tour().capsule()
    assert code(evolve(capsule, state_bytes=b"another"), HERE) == "state-digest"
    swapped = evolve(capsule, state_bytes=b"another", state=canonical.digest(b"another"))
    assert code(swapped, HERE) == "state-digest"
    assert code(evolve(capsule, state_bytes=None), HERE) == "state-missing"
    assert code(swapped, Trust()) == "state-digest"


def test_the_results() -> None:
    capsule = tour().capsule()
    assert code(evolve(capsule, results=Results(capsule.results.entries[:-1])), HERE) == "results-chain"


def test_the_first_check_that_fails_is_told() -> None:
    """Everything is wrong at once; repairing one thing after the other shows the order."""
    journey = tour()
    good = journey.capsule()
    links = list(good.trail.links)
    links[0], links[1] = links[1], links[0]
    bad = evolve(
        good,
        image_bytes=b"x",
        trail=evolve(good.trail, links=tuple(links)),
        state_bytes=b"x",
        state=canonical.digest(b"x"),
        results=Results(()),
    )
    assert code(bad, evolve(HERE, owners=())) == "owner-unknown"
    assert code(bad, HERE) == "image-digest"
    bad = evolve(bad, image_bytes=IMAGE)
    assert code(bad, HERE) == "trail-order"
    bad = evolve(bad, trail=good.trail)
    assert code(bad, trust("beta", "mallory")) == "wrong-sender"
    assert code(bad, HERE) == "state-digest"
    bad = evolve(bad, state=good.state, state_bytes=good.state_bytes)
    assert code(bad, HERE) == "results-chain"
    evolve(bad, results=good.results).verify(HERE, NOW)


def test_an_offer_is_checked_before_bodies_travel() -> None:
    capsule = tour().capsule()
    capsule.bare().precheck(HERE, NOW)
    with pytest.raises(CredentialError, match="wrong-sender"):
        capsule.precheck(trust("beta", "mallory"), NOW)


def test_an_audit_needs_no_station_and_no_bodies() -> None:
    journey = tour()
    verified = journey.capsule().bare().verify(Trust(), NOW)
    assert len(verified.followed.visits) == 2
    assert verified.positions == ()
    with pytest.raises(ValueError, match="sender"):
        Trust(here=public("beta"))


def test_a_revoked_clone_is_refused() -> None:
    journey = Journey.via("alpha", "beta")
    journey.hop("alpha")
    clone = logbook.sign_clone(journey.point, 0, journey.point.state, journey.head, NOW, key("alpha"))
    journey.add(clone.body)
    journey.leave("beta")
    journey.capsule().verify(HERE, NOW)
    assert code(journey.capsule(), evolve(HERE, revoked={clone.body.agent})) == "revoked"


@pytest.mark.parametrize(
    "value",
    [
        [],
        ["portcall.capsule", 1],
        ["portcall.image", 1, {}],
        ["portcall.capsule", 2, {}],
        ["portcall.capsule", 1, {}],
        ["portcall.capsule", 1, []],
        {},
    ],
)
def test_malformed_capsules(value: object) -> None:
    with pytest.raises(MalformedCredential):
        Capsule.decode(canonical.encode(value))


@settings(max_examples=examples(40))
@given(st.data())
def test_altered_capsules_are_refused_or_unchanged(data: st.DataObject) -> None:
    good = tour().capsule().encode()
    bent = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        bent[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    if bytes(bent) == good:
        return
    with pytest.raises(CredentialError):
        Capsule.decode(bytes(bent)).verify(HERE, NOW)


def test_an_owner_signs_only_its_own_and_only_what_stations_read() -> None:
    body = make_passport(Itinerary.via([public("alpha")]))
    with pytest.raises(CredentialError, match="owner"):
        issue(body, key("mallory"))
    for changes in ({"label": ""}, {"label": "a\nb"}, {"nonce": b""}, {"hops": -1}, {"expires": 2**63}):
        with pytest.raises(MalformedCredential):
            issue(evolve(body, **changes), key("owner"))
