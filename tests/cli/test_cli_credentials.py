"""`portcall key` and `portcall verify`, as a person types them."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest
from attrs import evolve
from click.testing import CliRunner, Result

from agents.capsule import Capsule
from agents.credentials.keys import SecretKey, text_of
from agents.errors import PortcallError
from docking.cli.agents import doubt
from docking.cli.group import portcall
from docking.trust.certificates import Certificates
from docking.trust.identity import Pins, create_key, load_key, load_pins, save_pins
from tests.credentials.journeys import NOW, Journey, key, public


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PORTCALL_KEYS", str(tmp_path / "keys"))
    return tmp_path / "keys"


def run(*words: str, typed: str | None = None) -> Result:
    result = CliRunner().invoke(portcall, list(words), input=typed)
    if isinstance(result.exception, PortcallError):
        return result
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_key_is_made_shown_and_listed(keys: Path) -> None:
    assert "portcall key new" in run("key", "list").output
    made = run("key", "new", "alice", "--json")
    row = json.loads(made.output)
    path = keys / "alice.key"
    assert row["file"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = load_key(path)
    assert row["public"] == loaded.public.text
    assert row["id"] == loaded.public.id
    assert text_of(loaded.key.seed) not in made.output
    assert json.loads(run("key", "show", "alice", "--json").output) == row
    assert row["public"] in run("key", "show", "alice").output
    assert json.loads(run("key", "list", "--json").output) == [row]
    assert row["public"] in run("key", "list").output
    assert "not overwritten" in str(run("key", "new", "alice").exception)
    assert "not a name" in str(run("key", "new", "../alice").exception)
    assert "portcall key new bob makes one" in str(run("key", "show", "bob").exception)


def test_a_passphrase_is_asked_for(keys: Path) -> None:
    made = run("key", "new", "alice", "--passphrase", typed="secret\nsecret\n")
    assert made.exit_code == 0
    assert "secret" not in made.output
    assert load_key(keys / "alice.key", lambda: "secret").name == "alice"
    assert json.loads(run("key", "show", "alice", "--json").output)["passphrase"] == "yes"


def test_a_changed_key_is_accepted_by_a_person(tmp_path: Path, keys: Path) -> None:
    save_pins(tmp_path / "pins.json", Pins().see("beta", public("beta"), NOW))
    result = run("key", "accept", "beta", public("mallory").text, "--home", str(tmp_path))
    assert result.exit_code == 0
    assert public("beta").text in result.output
    assert load_pins(tmp_path / "pins.json").key("beta") == public("mallory")
    assert run("key", "accept", "beta", "nonsense", "--home", str(tmp_path)).exit_code == 2
    wrong = run("key", "accept", "beta", public("beta").text, "--home", str(tmp_path / "none"))
    assert "no station" in str(wrong.exception)


def journey() -> Journey:
    tour = Journey.via("alpha", "beta")
    tour.hop("alpha")
    tour.report("temperature", b"21.5")
    tour.hop("beta")
    tour.report("\x1b[2J", b"\xff\x1b[31m")
    tour.leave(None)
    return tour


def write(tmp_path: Path, capsule: Capsule) -> str:
    path = tmp_path / "tour.capsule"
    path.write_bytes(capsule.encode())
    return str(path)


def test_a_finished_journey_verifies(tmp_path: Path, keys: Path) -> None:
    file = write(tmp_path, journey().capsule().bare())
    result = run("verify", file)
    assert result.exit_code == 0, result.output
    assert "FAILS" not in result.output
    assert "ended, the itinerary completed" in result.output
    assert public("beta").id in result.output
    values = json.loads(run("verify", file, "--json").output)
    assert values["holds"] is True
    assert set(values["checks"].values()) == {True}
    assert [v["station"] for v in values["visits"]] == [public(n).text for n in ("home", "alpha", "beta")]
    assert values["entries"] == 2
    assert values["visits"][0]["arrived"].endswith("Z")


def test_results_are_opened_for_their_owner_and_obey_nothing(tmp_path: Path, keys: Path) -> None:
    file = write(tmp_path, journey().capsule())
    keys.mkdir()
    create_key(keys / "owner.key", "owner", key("owner").seed)
    result = run("verify", file, "--open", "owner", "--owner", "owner")
    assert result.exit_code == 0, result.output
    assert "21.5" in result.output
    assert "\x1b" not in result.output
    opened = json.loads(run("verify", file, "--open", "owner", "--json").output)["results"]
    assert [r["key"] for r in opened] == ["temperature", "\x1b[2J"]
    create_key(keys / "mallory.key", "mallory", key("mallory").seed)
    refused = run("verify", file, "--owner", "mallory")
    assert refused.exit_code == 1
    assert "owner-unknown" in refused.output
    assert "not-for-us" in str(run("verify", file, "--open", "mallory").exception)


@pytest.mark.parametrize(
    ("link", "code", "verdicts"),
    [
        (0, "trail-signature", {"passport": True, "image": True, "trail": False, "states": None}),
        (3, "trail-signature", {"trail": False, "itinerary": None, "results": None}),
    ],
)
def test_what_fails_is_said(tmp_path: Path, keys: Path, link: int, code: str, verdicts: dict[str, bool | None]) -> None:
    capsule = journey().capsule()
    links = list(capsule.trail.links)
    links[link] = links[link][:-1] + bytes([links[link][-1] ^ 1])
    file = write(tmp_path, evolve(capsule, trail=evolve(capsule.trail, links=tuple(links))))
    result = run("verify", file)
    assert result.exit_code == 1
    assert code in result.output
    assert "FAILS" in result.output
    values = json.loads(run("verify", file, "--json").output)
    assert values["holds"] is False
    assert {name: values["checks"][name] for name in verdicts} == verdicts
    # the visits before the failure are still shown
    assert len(values["visits"]) == (link + 2) // 3


def test_the_itinerary_and_results_are_told_apart(tmp_path: Path, keys: Path) -> None:
    tour = Journey.via("alpha", "beta")
    tour.leave("beta", position=tour.positions[0])
    tour.arrive("beta")
    tour.positions = (tour.point.position,)
    tour.leave(None)
    values = json.loads(run("verify", write(tmp_path, tour.capsule()), "--json").output)
    assert values["code"] == "itinerary"
    assert values["checks"]["states"] is True
    assert values["checks"]["results"] is None
    capsule = journey().capsule()
    cut = evolve(capsule, results=evolve(capsule.results, entries=capsule.results.entries[:-1]))
    values = json.loads(run("verify", write(tmp_path, cut), "--json").output)
    assert values["checks"]["itinerary"] is True
    assert values["checks"]["results"] is False


def test_a_forged_passport_shows_nothing_of_what_it_claims(tmp_path: Path, keys: Path) -> None:
    capsule = journey().capsule()
    bent = evolve(capsule, passport=capsule.passport[:-1] + bytes([capsule.passport[-1] ^ 1]))
    result = run("verify", write(tmp_path, bent))
    assert result.exit_code == 1
    assert "passport-signature" in result.output
    assert "tourist" not in result.output


def test_other_files(tmp_path: Path, keys: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"nonsense")
    assert "is no capsule" in run("verify", str(path)).output
    assert run("verify", str(tmp_path / "none")).exit_code == 1
    assert SecretKey(key("owner").seed).public.text not in run("verify", "--help").output


def test_a_certificate_is_written_for_a_station(keys: Path, tmp_path: Path) -> None:
    assert run("key", "new", "fleet").exit_code == 0
    station = SecretKey(bytes(31) + b"s").public
    target = tmp_path / "alpha.certificate"
    done = run("key", "certify", station.text, "--by", "fleet", "-o", str(target), "--days", "7")
    assert done.exit_code == 0, done.output
    held = Certificates.of(station, [target.read_bytes()])
    now = time.time_ns() // 1_000_000
    [certifier] = held.certifiers(now + 1000)
    assert certifier == load_key(keys / "fleet.key").public
    assert held.certifiers(now + 8 * 86_400_000) == frozenset()
    assert run("key", "certify", "alpha", "--by", "fleet", "-o", str(target)).exit_code == 2


def test_what_is_in_doubt_is_said_with_what_to_do() -> None:
    row = {"agent": "a" * 52, "peer": "beta", "handoff": "h" * 52, "at": "alpha", "side": "source"}
    assert "portcall decide reclaim " + "h" * 16 in doubt(row)
    assert "portcall decide adopt " + "h" * 16 in doubt({**row, "side": "destination"})
