"""Results: sealed to the owner, chained, pinned by the visits."""

from __future__ import annotations

import pytest
from attrs import evolve

from agents import canonical
from agents.credentials import envelope
from agents.credentials.keys import SecretKey
from agents.credentials.results import (
    MAX_VALUE_BYTES,
    OpenedReport,
    Opening,
    ReportEntry,
    Results,
    append,
    open_results,
    verify_results,
)
from agents.credentials.trail import Trail, verify_trail
from agents.credentials.visits import Head
from agents.errors import CannotOpen, CredentialError, MalformedCredential
from tests.credentials.journeys import NOW, Journey, fresh, key, public


def reported() -> Journey:
    """home and alpha reported; the agent is on its way to beta, then home."""
    journey = Journey.via("alpha", "beta")
    journey.report("start", b"0")
    journey.hop("alpha")
    journey.report("temperature", b"21.5")
    journey.report("temperature", b"21.6")
    journey.hop("beta")
    journey.leave("home")
    return journey


def check(journey: Journey, entries: list[bytes]) -> Head:
    followed = verify_trail(journey.trail(), journey.passport)
    return verify_results(Results(tuple(entries)), journey.passport, followed)


def test_results_verify_without_a_key_and_open_with_the_owners() -> None:
    journey = reported()
    assert check(journey, journey.entries) == journey.head == Head(3, journey.head.digest)
    reports = list(open_results(journey.entries[1:], key("owner").box()))
    assert [(r.key, r.value) for r in reports] == [
        ("start", b"0"),
        ("temperature", b"21.5"),
        ("temperature", b"21.6"),
    ]
    assert [r.entry.station for r in reports] == [public("home"), public("alpha"), public("alpha")]
    assert isinstance(reports[0], OpenedReport)
    with pytest.raises(CannotOpen, match="not-for-us"):
        list(open_results(journey.entries[1:], key("alpha").box()))


@pytest.mark.parametrize(
    "order",
    [
        [],
        [1, 2, 3],
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 2, 1, 3],
        [0, 1, 3, 2],
        [0, 1, 2, 2, 3],
        [0, 1, 2, 3, 3],
        [1, 0, 2, 3],
    ],
)
def test_entries_dropped_moved_or_added_are_refused(order: list[int]) -> None:
    journey = reported()
    with pytest.raises(CredentialError) as caught:
        check(journey, [journey.entries[i] for i in order])
    assert caught.value.code in ("results-chain", "results-signature", "malformed")


def test_every_altered_byte_is_refused() -> None:
    journey = reported()
    for index, entry in enumerate(journey.entries):
        for at in range(0, len(entry), 5):
            bent = bytearray(entry)
            bent[at] ^= 4
            entries = [*journey.entries[:index], bytes(bent), *journey.entries[index + 1 :]]
            with pytest.raises(CredentialError):
                check(journey, entries)


def entry(journey: Journey, number: int) -> ReportEntry:
    return envelope.verify(ReportEntry, journey.entries[number]).body


def test_an_inserted_entry_is_refused() -> None:
    journey = reported()
    # alpha adds one more after it sent the agent on, properly chained and signed.
    late, _ = append(
        journey.head, journey.point.agent, 1, NOW, ("x", b""), public("owner").box(), key("alpha"), fresh("x")
    )
    with pytest.raises(CredentialError, match="go on after"):
        check(journey, [*journey.entries, late.envelope])


@pytest.mark.parametrize(
    "changes",
    [
        {"agent": fresh("x")},
        {"index": 0},
        {"number": 3},
        {"previous": fresh("x")},
        {"station": public("mallory")},
        {"time": NOW + 5},
        {"sealed": b"x"},
    ],
)
def test_a_bent_entry_is_refused(changes: dict[str, object]) -> None:
    journey = reported()
    bent = envelope.sign(evolve(entry(journey, 2), **changes), key("alpha"))
    with pytest.raises(CredentialError) as caught:
        check(journey, [*journey.entries[:2], bent.envelope, journey.entries[3]])
    assert caught.value.code == "results-chain"


def test_a_stations_entries_are_its_own() -> None:
    journey = reported()
    forged = envelope.sign(evolve(entry(journey, 2), station=public("mallory")), key("mallory"))
    with pytest.raises(CredentialError) as caught:
        check(journey, [*journey.entries[:2], forged.envelope, journey.entries[3]])
    assert caught.value.code == "results-signature"


def test_a_ciphertext_opens_only_in_its_place() -> None:
    journey = reported()
    moved = envelope.sign(evolve(entry(journey, 2), sealed=entry(journey, 1).sealed), key("alpha"))
    with pytest.raises(CannotOpen, match="altered"):
        list(open_results([moved.envelope], key("owner").box()))


def test_the_opening_is_the_owners_and_this_agents() -> None:
    journey, other = reported(), Journey.via("alpha", "beta", nonce=fresh("another")[:16])
    with pytest.raises(CredentialError, match="another agent"):
        check(journey, [other.entries[0], *journey.entries[1:]])
    forged = envelope.sign(evolve(envelope.verify(Opening, journey.entries[0]).body, nonce=bytes(16)), key("mallory"))
    with pytest.raises(CredentialError) as caught:
        check(journey, [forged.envelope, *journey.entries[1:]])
    assert caught.value.code == "results-signature"


def test_only_the_new_part_is_verified() -> None:
    journey = reported()
    before = verify_trail(Trail(tuple(journey.links[:6])), journey.passport).point
    followed = verify_trail(journey.trail(6), journey.passport, before)
    whole = Results(tuple(journey.entries))
    assert before.results is not None
    part = whole.since(before.results)
    assert part.entries == ()
    assert verify_results(part, journey.passport, followed) == journey.head
    with pytest.raises(CredentialError, match="knowledge"):
        verify_results(whole, journey.passport, followed)
    first = verify_trail(Trail(tuple(journey.links[:3])), journey.passport).point
    assert first.results is not None
    part = whole.since(first.results)
    assert len(part.entries) == 2
    followed = verify_trail(journey.trail(3), journey.passport, first)
    assert verify_results(part, journey.passport, followed) == journey.head
    with pytest.raises(CredentialError, match="knowledge"):
        verify_results(evolve(part, head=fresh("x")), journey.passport, followed)
    assert Results.from_value(canonical.decode(canonical.encode(part.value()))) == part
    with pytest.raises(MalformedCredential):
        part.since(Head(0, fresh("x")))


def test_malformed_results() -> None:
    for value in ([], [0, b"", 1], [1, b"", []], [0, b"x", []], [0, b"", [b""]], None):
        with pytest.raises(MalformedCredential):
            Results.from_value(value)


def test_reports_are_bounded() -> None:
    signer: SecretKey = key("alpha")
    box = public("owner").box()
    for report in (("", b""), ("k" * 257, b""), ("k", bytes(MAX_VALUE_BYTES + 1))):
        with pytest.raises(MalformedCredential):
            append(Head(0, fresh("h")), fresh("a"), 0, NOW, report, box, signer, fresh("e"))
    largest, _ = append(
        Head(0, fresh("h")), fresh("a"), 0, NOW, ("k" * 256, bytes(MAX_VALUE_BYTES)), box, signer, fresh("e")
    )
    assert next(open_results([largest.envelope], key("owner").box())).value == bytes(MAX_VALUE_BYTES)
