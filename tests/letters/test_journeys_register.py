"""What is told of a journey builds on what was told before it, also while that is still on its way to the disk."""

from __future__ import annotations

import pytest
from attrs import evolve

from agents.errors import CredentialError
from docking.letters.journeys import Journey, Journeys, JourneyStanding
from docking.store.changes import PutJourney
from docking.store.store import Store
from docking.trust.verified_trails import VerifiedTrails
from tests.credentials.journeys import Journey as Travels
from tests.credentials.journeys import public


def test_a_late_word_is_not_written_over_a_newer_one() -> None:
    store = Store.open(None, new_epoch=bytes(16), clock=lambda: 0)
    journeys = Journeys(public("home"), store, VerifiedTrails(store), lambda: 0)
    passport = Travels.via("alpha", "beta").passport
    agent = passport.body.agent
    store.commit([[journeys.opened(agent, passport, public("home"))]])
    opened = journeys.get(agent)
    assert opened is not None
    changes = [
        journeys._put(
            evolve(opened, place=public("beta"), hop=2, standing=JourneyStanding.FINISHED)
        ),  # as `ended` does in the end
        journeys.told(public("alpha"), journeys.word(agent, passport.digest, 1, JourneyStanding.TRAVELLING, "")),
        journeys.told(public("alpha"), journeys.word(agent, passport.digest, 3, JourneyStanding.TRAVELLING, "")),
    ]
    written = [change for change in changes if change is not None]
    assert [Journey.decode(change.record).standing for change in written] == [JourneyStanding.FINISHED]
    assert all(isinstance(change, PutJourney) for change in written)
    before = journeys.get(agent)
    assert before is not None
    assert before.standing == JourneyStanding.TRAVELLING  # what is on the disk is what others may rely on
    store.commit([written])
    after = journeys.get(agent)
    assert after is not None
    assert after.standing == JourneyStanding.FINISHED


@pytest.mark.parametrize("standing", [JourneyStanding.FINISHED, JourneyStanding.DISPOSED, "", "gone", 1, None])
def test_nobody_ends_a_journey_with_a_word(standing: object) -> None:
    """The end comes with a trail and results that verify; a word that claimed it would make home deaf to the truth."""
    store = Store.open(None, new_epoch=bytes(16), clock=lambda: 0)
    journeys = Journeys(public("home"), store, VerifiedTrails(store), lambda: 0)
    passport = Travels.via("alpha", "beta").passport
    store.commit([[journeys.opened(passport.body.agent, passport, public("home"))]])
    with pytest.raises(CredentialError):
        journeys.told(public("beta"), [passport.body.agent, passport.digest, 2, standing, ""])
