"""What is told of a journey builds on what was told before it, also while that is still on its way to the disk."""

from __future__ import annotations

import pytest
from attrs import evolve

from agents.errors import CredentialError
from docking.changes import PutJourney
from docking.knowledge import Knowledge
from docking.register import DISPOSED, FINISHED, TRAVELLING, Journey, Register
from docking.store import Store
from tests.credentials.journeys import Journey as Travels
from tests.credentials.journeys import public


def test_a_late_word_is_not_written_over_a_newer_one() -> None:
    store = Store.open(None, new_epoch=bytes(16), clock=lambda: 0)
    register = Register(public("home"), store, Knowledge(store), lambda: 0)
    passport = Travels.via("alpha", "beta").passport
    agent = passport.body.agent
    store.commit([[register.opened(agent, passport, public("home"))]])
    opened = register.get(agent)
    assert opened is not None
    changes = [
        register._put(evolve(opened, place=public("beta"), hop=2, standing=FINISHED)),  # as `ended` does in the end
        register.told(public("alpha"), register.word(agent, passport.digest, 1, TRAVELLING, "")),
        register.told(public("alpha"), register.word(agent, passport.digest, 3, TRAVELLING, "")),
    ]
    written = [change for change in changes if change is not None]
    assert [Journey.decode(change.record).standing for change in written] == [FINISHED]
    assert all(isinstance(change, PutJourney) for change in written)
    before = register.get(agent)
    assert before is not None
    assert before.standing == TRAVELLING  # what is on the disk is what others may rely on
    store.commit([written])
    after = register.get(agent)
    assert after is not None
    assert after.standing == FINISHED


@pytest.mark.parametrize("standing", [FINISHED, DISPOSED, "", "gone", 1, None])
def test_nobody_ends_a_journey_with_a_word(standing: object) -> None:
    """The end comes with a trail and results that verify; a word that claimed it would make home deaf to the truth."""
    store = Store.open(None, new_epoch=bytes(16), clock=lambda: 0)
    register = Register(public("home"), store, Knowledge(store), lambda: 0)
    passport = Travels.via("alpha", "beta").passport
    store.commit([[register.opened(passport.body.agent, passport, public("home"))]])
    with pytest.raises(CredentialError):
        register.told(public("beta"), [passport.body.agent, passport.digest, 2, standing, ""])
