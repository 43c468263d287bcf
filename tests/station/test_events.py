"""Events: whoever listens gets them, and one listener that fails disturbs no other."""

from __future__ import annotations

import asyncio

import pytest

from docking.events import Event, Events, Subscription


async def all_of(subscription: Subscription) -> list[Event]:
    return [event async for event in subscription]


def test_a_filter_of_events_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It is called by the station, in the middle of its work."""

    def fails(event: Event) -> bool:
        raise StopIteration

    events = Events()
    bad, good = events.subscribe(fails), events.subscribe()
    events.tell(Event(0, "alarm"))
    for each in (bad, good):
        each.close()
        assert asyncio.run(all_of(each)) == [Event(0, "alarm")]
    (record,) = caplog.records
    assert "StopIteration" in record.getMessage()
