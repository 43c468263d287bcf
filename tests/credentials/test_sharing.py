"""Equal values are held once, and not longer than somebody holds them."""

from __future__ import annotations

import gc

from attrs import frozen

from agents import sharing
from agents.credentials.itinerary import Itinerary, Seq, Stop
from agents.credentials.passport import Passport
from agents.credentials.permit import Budget, Permit
from agents.sharing import shared
from tests.credentials.journeys import make_passport, public


@frozen
class Other:
    """Not a permit."""

    value: int

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash(Permit(Budget(), ("service:x",)))


def test_equal_values_are_one() -> None:
    first, second = Permit(Budget(), ("service:x",)), Permit(Budget(), ("service:x",))
    assert first is not second
    assert shared(first) is first
    assert shared(second) is first
    assert shared(Permit(Budget(), ("service:y",))) is not first


def test_another_type_is_another_value() -> None:
    permit = Permit(Budget(), ("service:x",))
    assert shared(permit) is permit
    other = Other(1)
    assert shared(other) is other


def test_what_nobody_holds_is_forgotten() -> None:
    gc.collect()
    before = len(sharing._HELD)
    held = [shared(Permit(Budget(cpu=number), ("service:z",))) for number in range(1, 50)]
    assert len(sharing._HELD) == before + 49
    held.clear()
    gc.collect()
    assert len(sharing._HELD) == before


def test_agents_of_one_owner_share_what_their_passports_have_in_common() -> None:
    issued = make_passport(Itinerary(Seq((Stop(public("alpha")), Stop(public("beta"))))))
    one, two = (Passport.from_payload(issued.payload()) for _ in range(2))
    assert one.permit is two.permit
    assert one.itinerary is two.itinerary
    assert one.home is two.home
    assert one == two == issued
