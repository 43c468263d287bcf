"""Itineraries through real stations: alternatives, loops, sets in any order, and stops for whoever is certified."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agents import canonical
from agents.credentials.itinerary import Alt, CertifiedStop, Itinerary, Loop, Seq, Set, Stop
from agents.credentials.keys import SecretKey
from agents.credentials.logbook import sign_certificate
from agents.credentials.ways import Way
from agents.errors import WayError
from docking import Policy, Station
from docking.errors import StationError
from docking.handle import Report
from docking.letters.orders import OrderKind
from docking.residents.berth import Standing
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, begin, harbour, meet, numbers, packed, places, program, run, settled, station

# Goes on to what comes next until it cannot, and tells where it is each time; at last, why.
ON = program(
    """(loop $l (call $tell_here) (local.set $n (call $go (s 0))) (br_if $l (i32.eqz (local.get $n))))
       (call $tell (i32.const 101) (local.get $n))""",
    "next",
    "(local $n i32)",
)
NOWHERE = -23  # EHOSTUNREACH
CERTIFIER = SecretKey(canonical.digest(b"test certifier"))
DAY = 86_400_000


async def tour(home: Station, itinerary: Itinerary, wat: str = ON) -> Report:
    agent = await home.launch(packed(wat), owner=OWNER, itinerary=itinerary)
    return await agent.wait(PATIENCE)


def at(*stations: Station) -> list[Stop]:
    return [Stop(each.key) for each in stations]


@run
async def test_an_alternative_that_refuses_or_is_down_makes_way_for_the_next() -> None:
    async with harbour("home", "beta", "gamma", "delta") as (home, beta, gamma, delta):
        await beta.replace_policy(Policy())  # admits nobody
        await gamma.close()
        report = await tour(home, Itinerary(Alt(at(beta, gamma, delta))))
        assert places(report) == ["home", "delta"]
        assert numbers(report, "e") == [NOWHERE]
        assert [stay.station for stay in report.trail] == ["home", "delta"]


@run
async def test_when_all_alternatives_are_gone_the_agent_hears_why() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        for each in (beta, gamma):
            await each.replace_policy(Policy())
        report = await tour(home, Itinerary(Alt(at(beta, gamma))))
        assert places(report) == ["home"]
        assert numbers(report, "e") == [-2]  # EACCES


@run
async def test_a_loop_goes_round_as_often_as_it_says() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        report = await tour(home, Itinerary(Seq([Loop(3, Seq(at(beta, gamma))), *at(home)])))
        assert places(report) == ["home", *["beta", "gamma"] * 3, "home"]
        assert numbers(report, "e") == [NOWHERE]


@run
async def test_a_set_is_visited_in_any_order_and_each_stop_once() -> None:
    chosen = program(
        "".join(f"(call $tell (i32.const 103) (call $go (s {n}))) (call $tell_here)" for n in (0, 1, 0, 2, 3)),
        "delta|beta|gamma|home",
    )
    async with harbour("home", "beta", "gamma", "delta") as (home, *others):
        report = await tour(home, Itinerary(Seq([Set(at(*others)), *at(home)])), chosen)
        assert places(report) == ["delta", "beta", "beta", "gamma", "home"]
        assert numbers(report, "g") == [0, 0, -63, 0, 0]  # EPERM: it was there
        by_itself = await tour(home, Itinerary(Set(at(*others))))
        assert sorted(places(by_itself)) == ["beta", "delta", "gamma", "home"]


@run
async def test_parts_within_parts() -> None:
    async with harbour("home", "beta", "gamma", "delta") as (home, beta, gamma, delta):
        await beta.close()
        inner = Loop(2, Alt([Stop(beta.key), Seq(at(gamma, delta))]))
        report = await tour(home, Itinerary(Seq([inner, *at(home)])))
        assert places(report) == ["home", *["gamma", "delta"] * 2, "home"]


def certificate(name: str, begin: int = -DAY, end: int = DAY, certifier: SecretKey = CERTIFIER) -> bytes:
    """For the station that the harbour calls so."""
    key = SecretKey(canonical.digest(b"test station " + name.encode())).public
    now = time.time_ns() // 1_000_000
    return sign_certificate(key, now + begin, now + end, name, certifier).envelope


GO = program(
    """(call $tell (i32.const 103) (call $go (s 0))) (call $tell_here)
       (call $tell (i32.const 103) (call $go (s 1))) (call $tell_here)""",
    "beta|home",
)


@run
async def test_any_station_that_was_certified_and_no_other() -> None:
    other = SecretKey(canonical.digest(b"another certifier"))
    cases = [
        ((certificate("beta"),), 0, ["beta", "home"]),
        ((certificate("beta", certifier=other), certificate("beta")), 0, ["beta", "home"]),
        ((), -63, ["home", "home"]),
        ((certificate("beta", certifier=other),), -63, ["home", "home"]),
        ((certificate("beta", -2 * DAY, -DAY),), -63, ["home", "home"]),
        ((certificate("beta", DAY, 2 * DAY),), -63, ["home", "home"]),
    ]
    for certificates, error, been in cases:
        async with harbour("home") as (home,), station("beta", certificates=certificates) as beta:
            await meet(home, beta)
            report = await tour(home, Itinerary(Seq([CertifiedStop(CERTIFIER.public), *at(home)])), GO)
            assert (numbers(report, "g")[0], places(report)) == (error, been), certificates
            # Trail and results verified offline: the visit shows the certificate.
            assert [stay.station for stay in report.trail] == (
                ["home", "beta", "home"] if been[0] == "beta" else ["home"]
            )


@run
async def test_an_agent_at_a_certified_station_goes_on_after_a_restart(tmp_path: Path) -> None:
    wait = program(
        "(drop (call $go (s 0))) (drop (call $sleep (i32.const 3600000))) (drop (call $go (s 1))) (call $tell_here)",
        "beta|home",
    )
    folder = tmp_path / "beta"
    async with harbour("home") as (home,):
        async with station("beta", folder) as beta:
            key = beta.key
        now = time.time_ns() // 1_000_000
        (folder / "certificates").mkdir()
        (folder / "certificates" / "fleet").write_bytes(
            sign_certificate(key, now - DAY, now + DAY, "beta", CERTIFIER).envelope
        )
        async with station("beta", folder) as beta:
            await meet(home, beta)
            itinerary = Itinerary(Seq([CertifiedStop(CERTIFIER.public), *at(home)]))
            agent = await home.launch(packed(wait), owner=OWNER, itinerary=itinerary)
            await settled(beta, agent, Standing.WAITING)
        async with station("beta", folder) as beta:
            await meet(home, beta)
            beta.core.commands.order(agent.key, OrderKind.WAKE)
            report = await agent.wait(PATIENCE)
            assert places(report) == ["home"]
            assert [stay.station for stay in report.trail] == ["home", "beta", "home"]


@run
async def test_certificates_that_are_none_or_anothers_are_said_when_the_station_starts(tmp_path: Path) -> None:
    for wrong in (b"nothing", certificate("gamma")):
        with pytest.raises(StationError, match="a certificate of this station cannot be used"):
            await station("beta", certificates=[wrong]).start()
    (tmp_path / "beta" / "certificates").mkdir(parents=True)
    (tmp_path / "beta" / "certificates" / "x").write_bytes(bytes(5000))
    with pytest.raises(Exception, match="too large"):
        await station("beta", tmp_path / "beta").start()


@run
async def test_who_goes_where_the_itinerary_does_not_lead_hears_of_the_name_and_of_the_way_on() -> None:
    goer = program("(call $tell (i32.const 103) (call $go (s 0)))", "beta")
    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, goer)
        await agent.wait(PATIENCE)
        (said,) = agent.logs()
        assert "does not lead to 'beta' from here" in said
        assert "--via" in said
        assert beta.key.id not in said


# Follows its itinerary, as agents do that know no station by name.
FOLLOWER = program(
    """(call $tell_here)
       (block $end (loop $again
         (local.set $n (call $next_stop (i32.const 300) (i32.const 64)))
         (br_if $end (i32.eqz (local.get $n)))
         (local.set $e (call $go (i32.const 300) (local.get $n)))
         (if (local.get $e) (then (call $tell (i32.const 101) (local.get $e)) (br $end)))
         (call $tell_here)
         (br $again)))""",
    "",
    "(local $n i32) (local $e i32)",
)


@pytest.mark.parametrize("wat", [ON, FOLLOWER])
@pytest.mark.parametrize(
    ("route", "went"),
    [
        ("bb", "hb"),
        ("bbb", "hb"),
        ("hhb", "hb"),
        ("hh", "h"),
        ("bbg", "hbg"),
        ("bgggb", "hbgb"),
        ("bhhb", "hbhb"),
    ],
)
@run
async def test_stops_at_one_station_after_each_other_are_one_visit(wat: str, route: str, went: str) -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        of = {"h": home, "b": beta, "g": gamma}
        report = await tour(home, Itinerary.via([of[each].key for each in route]), wat)
        assert [place[0] for place in places(report)] == list(went)
        assert [stay.station[0] for stay in report.trail] == list(went)


@run
async def test_turns_at_one_station_are_one_visit_and_lead_on() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        (b, g) = at(beta, gamma)
        for way in (Seq([Loop(1000, b), g]), Seq([b, Alt([b, g]), g]), Seq([b, Alt([b, b]), g])):
            report = await tour(home, Itinerary(way), FOLLOWER)
            assert places(report) == ["home", "beta", "gamma"]
        report = await tour(home, Itinerary(Seq([b, Set([b, g])])), FOLLOWER)
        assert places(report) == ["home", "beta", "gamma", "beta"]  # the set may begin with either: none is left out


@run
async def test_a_way_as_text_and_as_a_value() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        await beta.replace_policy(Policy())  # admits nobody
        for way in ("beta?,gamma|beta,home", Way.read("(beta?,gamma)*1,home"), f"{beta.key.text}?,{gamma.key.id},home"):
            agent = await home.launch(packed(ON), owner=OWNER, via=way)
            assert places(await agent.wait(PATIENCE)) == ["home", "gamma", "home"], way
        roaming = program(
            "(drop (call $go (s 0))) (call $tell_here) (drop (call $go (s 1))) (call $tell_here)", "gamma|home"
        )
        agent = await home.launch(packed(roaming), owner=OWNER, via="roam")
        report = await agent.wait(PATIENCE)
        assert places(report) == [stay.station for stay in report.trail][1:] == ["gamma", "home"]
        with pytest.raises(WayError, match="write the whole key"):
            await home.itinerary("any@me")
        with pytest.raises(WayError, match="name is missing"):
            await home.launch(packed(ON), owner=OWNER, via="beta,,gamma")
