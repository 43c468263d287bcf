"""The stations that are known: where each is reached first, and which of them are there."""

from __future__ import annotations

from agents.credentials.keys import PublicKey, SecretKey
from docking.peers.directory import MAX_PEER_ADDRESSES, PeerDirectory, Sighting, source_of
from docking.peers.introductions import HELLO_PROTOCOL, Introductions

BETA = SecretKey(bytes(31) + b"b").public
MANY = [f"http://172.{number}.0.1:7707" for number in range(16, 28)]
REACHED = "http://192.168.77.1:7707"


def book(now: int = 10**12) -> PeerDirectory:
    return PeerDirectory(SecretKey(bytes(31) + b"a").public, "alpha", lambda: now, lambda pins: None)


def card(*addresses: str, name: str = "beta") -> list[object]:
    return [HELLO_PROTOCOL, name, list(addresses), []]


def names(peers: PeerDirectory) -> list[str]:
    return [peer.name for peer in peers.all()]


def sighting(*addresses: str, key: PublicKey = BETA) -> Sighting:
    return Sighting("record", "beta", key, addresses)


def test_where_a_station_was_reached_stays_first_whatever_addresses_it_has() -> None:
    peers = book()
    peers.sight(sighting(REACHED))
    peers.works(BETA, REACHED)
    Introductions(peers).introduced(BETA, card(*MANY[:MAX_PEER_ADDRESSES]), best=REACHED)
    assert REACHED in peers.addresses(BETA)
    Introductions(peers).introduced(BETA, card(*MANY[: MAX_PEER_ADDRESSES - 1], REACHED), best=REACHED)
    assert peers.addresses(BETA)[0] == REACHED
    peers.sight(sighting(*MANY[:MAX_PEER_ADDRESSES]))
    assert REACHED in peers.addresses(BETA)


def test_the_address_that_a_card_came_from_is_first() -> None:
    for seen_at in ("192.168.77.1", "::ffff:192.168.77.1"):
        peers = book()
        Introductions(peers).introduced(BETA, card(*MANY[:3], REACHED), seen_at)
        assert peers.addresses(BETA)[0] == REACHED
    peers = book()
    Introductions(peers).introduced(BETA, card(*MANY[:3]), "10.9.9.9")  # a proxy's: nobody said that
    assert peers.addresses(BETA) == tuple(MANY[:3])


def test_an_address_that_means_another_machine_to_each_is_not_believed_from_afar() -> None:
    here = "http://127.0.0.1:7707"
    for seen_at, best in (("fe80::1%eth0", None), ("10.0.0.1", None), ("", "http://[fe80::1%eth0]:7707")):
        peers = book()
        Introductions(peers).introduced(BETA, card(here, "http://[::1]:7707", "http://localhost:7707"), seen_at, best)
        assert peers.addresses(BETA) == (() if best is None else (best,))
    peers = book()
    Introductions(peers).introduced(BETA, card(here), "127.0.0.1")
    assert peers.addresses(BETA) == (here,)


def test_a_station_that_moved_says_so() -> None:
    peers = book()
    Introductions(peers).introduced(BETA, card("http://192.168.77.1:7707"), "192.168.77.1")
    Introductions(peers).introduced(BETA, card("http://10.5.5.1:7707"), "10.5.5.1")
    assert peers.addresses(BETA) == ("http://10.5.5.1:7707", "http://192.168.77.1:7707")


def test_a_goodbye_that_comes_before_the_record_was_looked_into() -> None:
    """The station has introduced itself already: it is gone all the same."""
    peers = book()
    Introductions(peers).introduced(BETA, card(REACHED))
    source = source_of("beta", BETA)
    assert peers.announced(source) == BETA
    assert peers.lose(source) is not None
    assert names(peers) == []
    assert peers.announced("beta other") is None


def test_who_is_gone_is_not_listed_and_can_be_knocked_at() -> None:
    peers = book()
    peers.sight(sighting(REACHED))
    Introductions(peers).introduced(BETA, card(REACHED))
    peers.lose("record")
    assert (names(peers), peers.addresses(BETA), peers.offering("x")) == ([], (REACHED,), [])
    assert peers.lose("record") is None  # once
    peers.works(BETA, REACHED)  # an agent was waiting for it, and got through
    assert names(peers) == ["beta"]
    peers.silence(BETA)
    assert peers.sight(sighting(REACHED)) is not None  # it is worth a greeting again, and listed when it answers
    assert names(peers) == []


def test_whom_nothing_is_heard_of_is_asked_after() -> None:
    peers = book()
    other, third = (SecretKey(bytes(31) + bytes((number,))).public for number in (1, 2))
    Introductions(peers).introduced(BETA, card(REACHED))
    peers.sight(Sighting("gamma", "gamma", other, (REACHED,)))
    peers.configure(third, "delta", REACHED)
    assert [peer.name for peer in peers.quiet(0.0)] == ["beta", "delta", "gamma"]  # who has proven its key is first
    assert [peer.name for peer in peers.quiet(60.0)] == ["delta"]  # never heard of
    peers.silence(third)
    assert [peer.name for peer in peers.missed()] == ["delta"]


def test_what_was_known_before_a_restart_is_listed_when_it_answers() -> None:
    before, after = book(), book()
    Introductions(before).introduced(BETA, card(REACHED))
    after.restore(before.encode())
    assert (names(after), after.addresses(BETA)) == ([], (REACHED,))
    assert [peer.key for peer in after.quiet(0.0)] == [BETA]
    Introductions(after).introduced(BETA, card(REACHED))
    assert names(after) == ["beta"]


def test_a_card_says_what_a_station_runs_on_and_may_end_before_that() -> None:
    peers = book()
    introductions = Introductions(peers, runs="riscv64, wasmtime 1")
    assert introductions.card(BETA)[4] == "riscv64, wasmtime 1"
    for runs, shown in (("aarch64, v8 24", "aarch64, v8 24"), ("x" * 129, ""), ("\x1b[2J", ""), (b"bytes", "")):
        introductions.introduced(BETA, [*card(REACHED)[:4], runs])
        peer = peers.get(BETA)
        assert peer is not None
        assert peer.runs == shown
    assert introductions.introduced(BETA, card(REACHED)[:4]) is not None
    assert introductions.introduced(BETA, [*card(REACHED)[:4], "", ""]) is None
