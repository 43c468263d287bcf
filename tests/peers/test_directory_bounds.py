"""Strangers by the thousand: what they say of themselves is bounded in number, in size and in writes."""

from __future__ import annotations

import pytest

from agents import canonical
from agents.credentials.keys import PublicKey, SecretKey
from docking.peers import directory as peers
from docking.peers.directory import NEW_PEER_BURST, NEW_PEER_INTERVAL_MS, PeerDirectory, Sighting, clean_services
from docking.peers.introductions import Introductions
from docking.trust.identity import Pins
from tests.credentials.journeys import public
from tests.wrong_types import bent


def key(number: int) -> PublicKey:
    """A key of a stranger."""
    return SecretKey(canonical.digest(b"stranger %d" % number)).public


class Book:
    """Peers with a clock that stands still."""

    def __init__(self) -> None:
        self.now, self.saved = 1_000_000, 0
        self.peers = PeerDirectory(key(0), "home", lambda: self.now, self._save)

    def _save(self, pins: Pins) -> None:
        self.saved += 1

    def met(self, number: int, name: str = "") -> bool:
        return self.peers.met(key(number), name or f"name{number}", ["http://10.0.0.1:1"]) is not None


def test_a_crowd_that_greets_is_believed_a_few_at_a_time() -> None:
    book = Book()
    assert sum(book.met(number) for number in range(1, 2 * NEW_PEER_BURST)) == NEW_PEER_BURST
    assert book.saved == NEW_PEER_BURST
    assert book.met(1)  # who is known is no crowd
    book.now += 3 * NEW_PEER_INTERVAL_MS
    assert sum(book.met(number) for number in range(1000, 1010)) == 3
    book.now -= 500_000  # set back: nothing is gained, and nothing lost for long
    assert not book.met(2000)
    book.now += NEW_PEER_INTERVAL_MS
    assert book.met(2000)
    book.now += 10**9
    assert sum(book.met(number) for number in range(3000, 3000 + 2 * NEW_PEER_BURST)) == NEW_PEER_BURST


def test_whom_a_person_named_is_believed_in_any_crowd() -> None:
    book = Book()
    while book.met(book.saved + 1):
        pass
    book.peers.configure(key(9999), "beta", "http://10.0.0.2:7707")
    assert book.met(9999, "beta")


def test_who_was_quiet_for_the_longest_makes_room_and_its_name_stays_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MAX_PEERS", 5)
    book = Book()
    for number in range(1, 6):
        book.now += NEW_PEER_INTERVAL_MS
        assert book.met(number)
    book.peers.works(key(1), "http://10.0.0.1:1")
    book.now += NEW_PEER_INTERVAL_MS
    assert book.met(6)
    assert {peer.name for peer in book.peers.all()} == {f"name{number}" for number in (1, 3, 4, 5, 6)}
    assert not book.met(7, "name2")  # still pinned to the one that was forgotten
    assert book.met(2)


def test_pins_are_bounded_and_none_is_given_up_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MAX_PINS", 3)
    book = Book()
    assert [book.met(number) for number in range(1, 6)] == [True, True, True, False, False]
    assert set(book.peers.pins.pins) == {"name1", "name2", "name3"}
    book.peers.accept("name4", key(4))  # a person decides
    assert book.met(4)


def test_one_key_with_thousands_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MAX_SOURCES", 10)
    book = Book()
    for number in range(100):
        book.peers.sight(Sighting(f"record {number}", "beta", key(1), ("http://10.0.0.1:1",)))
    assert len(book.peers.sources) == 10
    for number in range(100):
        book.peers.lose(f"record {number}")
    assert book.peers.all() == []


def test_names_of_services_are_bounded_together() -> None:
    names = clean_services(f"{number:03}" + "x" * 120 for number in range(256))
    assert 0 < sum(map(len, names)) <= peers.MAX_SERVICES_CHARS
    assert clean_services(["a", "a", "b\n", 5, "", "x" * 129, True]) == ("a",)


def test_a_card_of_another_protocol_says_nothing() -> None:
    book = Book()
    introductions = Introductions(book.peers)
    for number in (2, 0, True, "1", None, 1.0):  # True equals 1
        assert introductions.introduced(key(1), [number, "beta", [], []]) is None
    assert book.peers.all() == []


def test_values_of_other_types_in_a_card_are_no_obstacle() -> None:
    introductions = Introductions(PeerDirectory(public("home"), "home", lambda: 10**9, lambda pins: None))
    value = [1, "beta", ["http://10.0.0.1:7707"], ["thermometer.read"]]
    for number, other in enumerate(bent(value)):
        introductions.introduced(key(number), other)
