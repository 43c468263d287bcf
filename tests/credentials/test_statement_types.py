"""Values of other types in the statements that credentials consist of: refused, and True is not 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from agents.credentials.amendments import Amendment, Lease, TopUp, Upgrade
from agents.credentials.itinerary import Alt, CertifiedStop, Itinerary, Loop, Position, Seq, Set, Stop
from agents.credentials.passport import Passport
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import Opening, ReportEntry, Results
from agents.credentials.trail import Trail
from agents.credentials.trailpoint import Checkpoint, TrailPoint
from agents.credentials.upgrades import Upgraded
from agents.credentials.visits import Certificate, CloneStatement, Commit, Head, Receipt, Visit
from agents.errors import CredentialError
from docking.letters.orders import Order, OrderKind
from tests.credentials.journeys import Journey, make_passport, public
from tests.wrong_types import D, as_wire, bent, booleans

ITINERARY = Itinerary(
    Seq(
        [
            Stop(public("alpha"), 1_770_000_000_000),
            Alt([Stop(public("beta")), CertifiedStop(public("certifier"))]),
            Set([Stop(public("gamma")), Stop(public("delta"))]),
            Loop(1, Stop(public("alpha"))),
        ]
    )
)
PERMIT = Permit(Budget(1, 1, 0, 1), ("service:a", "host:clone"), ("service:a",))
PASSPORT = make_passport(ITINERARY, permit=PERMIT, hops=1)
BUDGET = Budget(1, 0, 1, 1)


def journey() -> Journey:
    """One that has hopped once."""
    found = Journey(make_passport(Itinerary.via([public("alpha"), public("beta")])))
    found.report("a", b"b")
    found.hop("alpha")
    return found


TOUR = journey()
STATEMENTS: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("passport", Passport.from_payload, PASSPORT.payload()),
    ("permit", Permit.from_payload, PERMIT.payload()),
    ("budget", Budget.from_payload, BUDGET.payload()),
    ("itinerary", Itinerary.from_value, ITINERARY.value()),
    ("position", Position.from_value, TOUR.positions[0].value()),
    ("head", lambda value: Head.of((value[0], value[1])) if type(value) is list and len(value) == 2 else _no(), [1, D]),
    ("results", Results.from_value, Results(tuple(TOUR.entries), 1, D).value()),
    ("trail", Trail.from_value, Trail(tuple(TOUR.links), 1, D).value()),
    ("point", TrailPoint.from_payload, TOUR.point.payload()),
    ("opening", Opening.from_payload, Opening(D, D, D[:16]).payload()),
    ("entry", ReportEntry.from_payload, ReportEntry(D, 1, 1, D, public("alpha"), 1, b"x").payload()),
    ("upgrade", Amendment.from_payload, Amendment(D, D, D[:16], 1, Upgrade(D, D[::-1], 1, 1)).payload()),
    ("upgraded", Upgraded.from_payload, Upgraded(D, D, 1, D, public("alpha"), b"x", 1).payload()),
    ("top-up", Amendment.from_payload, Amendment(D, D, D[:16], 1, TopUp(BUDGET, 1)).payload()),
    ("lease", Amendment.from_payload, Amendment(D, D, D[:16], 1, Lease(1)).payload()),
    ("leased passport", Passport.from_payload, evolve(PASSPORT, lease=1).payload()),
    ("order", Order.from_payload, Order(D, OrderKind.SLEEP, 1).payload()),
]


def _no() -> None:
    raise CredentialError("malformed", "not a pair")


def signed() -> list[tuple[str, Callable[[Any], Any], Any]]:
    """The statements of a trail, as they were signed."""
    found: list[tuple[str, Callable[[Any], Any], Any]] = []
    seen: list[Any] = []
    bending = Journey(make_passport(Itinerary.via([public("alpha"), public("beta")])))
    bending.bend = lambda kind, body: seen.append(body) or body  # type: ignore[func-returns-value]
    bending.hop("alpha")
    for body in seen:
        found.append((body.KIND, type(body).from_payload, body.payload()))
    assert {type(body) for body in seen} == {Visit, Receipt, Commit}
    return found


STATEMENTS += signed()
STATEMENTS += [
    ("clone", CloneStatement.from_payload, CloneStatement(D, D, 1, D, public("alpha"), 1, D, Head(1, D), 1).payload()),
    ("certificate", Certificate.from_payload, Certificate(public("alpha"), 0, 1, "x").payload()),
    ("checkpoint", Checkpoint.from_payload, Checkpoint(TOUR.point, 1).payload()),
]


@pytest.mark.parametrize(("name", "decode", "value"), STATEMENTS, ids=[name for name, _, _ in STATEMENTS])
def test_values_of_other_types_in_a_statement_are_refused(name: str, decode: Callable[[Any], Any], value: Any) -> None:
    decode(as_wire(value))
    for other in bent(as_wire(value)):
        try:
            decode(other)
        except CredentialError:
            continue
    for other in booleans(as_wire(value)):
        with pytest.raises(CredentialError):
            decode(other)
