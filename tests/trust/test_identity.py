"""Key files and pins: private from birth, never overwritten, bounded; changes are for people."""

from __future__ import annotations

import errno
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.credentials.keys import SecretKey
from docking.errors import IdentityError, KeyChanged, KeyExists, KeyFileError
from docking.trust.identity import (
    ENTROPY_SIZE,
    PINS_FILE,
    KeyFile,
    Pins,
    Protection,
    create_key,
    first_key,
    list_keys,
    load_key,
    load_pins,
    save_pins,
    show_key,
)
from tests.credentials.journeys import NOW, fresh, public
from tests.patience import PATIENCE
from tests.residents.guests import GOER
from tests.station.harbour import journey, meet, places, run, station
from tests.thorough import examples

SEED = fresh("seed")
# The smallest cost that argon2id takes: the tests are not about its strength.
CHEAP = Protection("correct horse", fresh("salt", 1) + fresh("salt", 2)[: ENTROPY_SIZE - 32], 1, 8192)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_file_is_private_and_reads_back(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = create_key(tmp_path / "keys" / "alpha.key", "alpha", SEED)
    finally:
        os.umask(old)
    assert mode(made.path) == 0o600
    assert mode(made.path.parent) == 0o700
    assert load_key(made.path) == made
    assert made.key == SecretKey(SEED)
    assert show_key(made.path) == ("alpha", made.public, False)
    assert list_keys(made.path.parent) == [(made.path, "alpha", made.public, False)]
    assert "secret" not in repr(made)


def test_an_existing_file_or_link_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "alpha.key"
    create_key(path, "alpha", SEED)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="not overwritten"):
        create_key(path, "alpha", fresh("other"))
    assert path.read_bytes() == before
    link = tmp_path / "beta.key"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError):
        create_key(link, "beta", SEED)
    assert not (tmp_path / "elsewhere").exists()


def test_of_many_who_begin_at_once_all_get_the_first_key(tmp_path: Path) -> None:
    """Two stations of a user without a key, or two workers of an application."""
    path, together = tmp_path / "keys" / "me.key", threading.Barrier(8)

    def begin(number: int) -> KeyFile:
        together.wait(PATIENCE)
        return first_key(path, "me", fresh(f"seed {number}"))

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(begin, range(8)))
    assert {each.public for each in made} == {load_key(path).public}
    assert [each.name for each in path.parent.iterdir()] == ["me.key"]
    assert mode(path) == 0o600


def test_a_key_is_made_where_files_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    made = create_key(tmp_path / "alpha.key", "alpha", SEED)
    assert load_key(made.path) == made
    assert mode(made.path) == 0o600
    with pytest.raises(KeyExists):
        create_key(made.path, "alpha", SEED)


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, bits: int) -> None:
    path = create_key(tmp_path / "alpha.key", "alpha", SEED).path
    path.chmod(bits)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key(path)


def test_a_passphrase(tmp_path: Path) -> None:
    path = create_key(tmp_path / "alpha.key", "alpha", SEED, CHEAP).path
    assert SecretKey(SEED).public.text in path.read_text()
    assert show_key(path) == ("alpha", SecretKey(SEED).public, True)
    assert load_key(path, lambda: "correct horse").key.seed == SEED
    with pytest.raises(KeyFileError, match="wrong"):
        load_key(path, lambda: "battery staple")
    with pytest.raises(KeyFileError, match="protected"):
        load_key(path)
    other = create_key(tmp_path / "b.key", "b", SEED, evolve(CHEAP, entropy=bytes(ENTROPY_SIZE))).path
    assert other.read_text().splitlines()[3] != path.read_text().splitlines()[3]


@pytest.mark.parametrize(
    "words",
    [
        "argon2id 1 99999999999 {salt} {box}",
        "argon2id 99 8192 {salt} {box}",
        "argon2id 0 8192 {salt} {box}",
        "argon2id 1 1 {salt} {box}",
        "argon2id -1 8192 {salt} {box}",
        "scrypt 1 8192 {salt} {box}",
        "argon2id 1 8192 {salt}",
        "argon2id 1 8192 aa {box}",
        "argon2id 1 8192 {salt} {box}aaaaaaaa",
        "",
    ],
)
def test_hostile_costs_are_refused_before_they_are_paid(tmp_path: Path, words: str) -> None:
    path = create_key(tmp_path / "alpha.key", "alpha", SEED, CHEAP).path
    lines = path.read_text().splitlines()
    salt, box = lines[3].split(" ")[4:6]
    lines[3] = "sealed " + words.format(salt=salt, box=box)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(KeyFileError):
        load_key(path, lambda: "correct horse")


def test_damaged_files(tmp_path: Path) -> None:
    path = create_key(tmp_path / "alpha.key", "alpha", SEED).path
    good = path.read_text()
    other = SecretKey(fresh("x")).public.text
    bad = [
        "",
        good[:-1],
        good + "more\n",
        good.replace("/1", "/2"),
        good.replace("name alpha", "name ../alpha"),
        good.replace("name alpha", "name"),
        good.replace(SecretKey(SEED).public.text, other),
        good.replace("ed25519:", "ed25519:A"),
        good.replace("secret ", "secret A"),
        good.replace("secret ", "secret aa"),
        good.replace("\n", "\r\n"),
        "é" + good,
        good * 200,
    ]
    for text in bad:
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(KeyFileError):
            load_key(path)
    with pytest.raises(KeyFileError, match="cannot be read"):
        load_key(tmp_path / "none.key")
    with pytest.raises(KeyFileError, match="cannot be read"):
        load_key(tmp_path)


@settings(max_examples=examples(40))
@given(st.binary(max_size=300))
def test_noise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "a.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(KeyFileError):
        load_key(path)
    with pytest.raises(KeyFileError):
        load_pins(path)


@pytest.mark.parametrize("name", ["", "A", "../a", "a/b", ".a", "a b", "a" * 64, "a\n", "é"])
def test_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(IdentityError):
        create_key(tmp_path / "x.key", name, SEED)
    with pytest.raises(IdentityError):
        Pins().see(name, public("a"), NOW)


def test_first_sight_is_pinned_and_a_change_is_refused() -> None:
    pins = Pins().see("alpha", public("alpha"), NOW)
    assert pins.key("alpha") == public("alpha")
    assert pins.see("alpha", public("alpha"), NOW + 1) is pins
    with pytest.raises(KeyChanged) as caught:
        pins.see("alpha", public("mallory"), NOW + 1)
    message = str(caught.value)
    assert public("alpha").text in message
    assert public("mallory").text in message
    assert "portcall key accept alpha" in message
    assert pins.key("alpha") == public("alpha")
    accepted = pins.accept("alpha", public("mallory"), NOW + 2)
    assert accepted.see("alpha", public("mallory"), NOW + 3) is accepted
    assert accepted.pins["alpha"].accepted
    with pytest.raises(KeyChanged):
        accepted.see("alpha", public("alpha"), NOW + 4)
    assert accepted.forget("alpha").key("alpha") is None
    assert pins.see("alias", public("alpha"), NOW).names(public("alpha")) == ["alias", "alpha"]


def test_pins_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "pins.json"
    assert load_pins(path) == Pins()
    pins = Pins().see("alpha", public("alpha"), NOW).accept("beta", public("beta"), NOW + 1)
    save_pins(path, pins)
    assert load_pins(path) == pins
    assert mode(path) == 0o600
    save_pins(path, pins.forget("alpha"))
    assert load_pins(path).key("alpha") is None
    assert [p.name for p in path.parent.iterdir()] == ["pins.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "portcall-pins/2", "pins": {}}',
        '{"format": "portcall-pins/1", "pins": {"alpha": []}}',
        '{"format": "portcall-pins/1", "pins": {"alpha": ["x", 1, true]}}',
        '{"format": "portcall-pins/1", "pins": {"../a": ["x", 1, true]}}',
        '{"format": "portcall-pins/1", "pins": []}',
        "[" * 100_000,
    ],
)
def test_damaged_pins_do_not_mean_that_everybody_is_new(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pins.json"
    path.write_text(text)
    with pytest.raises(KeyFileError, match="damaged"):
        load_pins(path)


@run
async def test_the_new_key_of_a_station_that_a_person_accepts_holds_while_the_station_runs(tmp_path: Path) -> None:
    home = station("home", tmp_path / "home")
    async with home, station("beta") as old:
        await meet(home, old)
    async with home, station("beta", key=SecretKey(bytes(range(32)))) as beta:
        await beta.introductions.call_on(home.url)  # greets, and is not believed
        with pytest.raises(KeyChanged):
            await home.introductions.call_on(beta.url)
        save_pins(pins := tmp_path / "home" / PINS_FILE, load_pins(pins).accept("beta", beta.key, 1))
        report = await journey(home, GOER.replace("(drop (call $sleep (i32.const 3600000)))", ""), "beta")
        assert places(report) == ["home", "beta"]
        assert [(peer.name, peer.key) for peer in home.core.here.peers.all()] == [("beta", beta.key)]
        assert home.core.here.peers.refused == {}
