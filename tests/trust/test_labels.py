"""Clones are called by their number: whoever knows the passport and the id can tell which it is."""

from __future__ import annotations

from attrs import evolve

from agents.credentials.envelope import identify
from agents.credentials.passport import Clones
from docking.simulation import Simulation
from docking.testing import _TestWorld
from docking.trust.labels import label_of, number_of

PASSPORT = evolve(Simulation(_TestWorld(0), label="trip").passport, clones=Clones(16, 3))


def clone(parent: bytes, serial: int) -> bytes:
    return identify("clone", parent, serial)


def test_which_clone_an_id_is() -> None:
    first, last = clone(PASSPORT.agent, 0), clone(PASSPORT.agent, 15)
    assert label_of(PASSPORT, PASSPORT.agent) == "trip"
    assert label_of(PASSPORT, first) == "trip.1"
    assert label_of(PASSPORT, clone(last, 1)) == "trip.16.2"


def test_what_is_no_clone_has_no_number() -> None:
    assert number_of(PASSPORT, bytes(32)) is None
    assert number_of(PASSPORT, clone(PASSPORT.agent, 16)) is None  # more than its passport allows
    assert number_of(PASSPORT, clone(clone(clone(PASSPORT.agent, 0), 0), 0)) is None  # not looked for
    assert number_of(evolve(PASSPORT, clones=Clones(0, 0)), clone(PASSPORT.agent, 0)) is None
    assert label_of(PASSPORT, bytes(32)) == "trip"
