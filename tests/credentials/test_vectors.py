"""The published vectors: up to date, and every verdict holds when only the files are read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agents import canonical
from agents.capsule import Capsule
from agents.credentials import envelope
from agents.credentials.amendments import Amendment
from agents.credentials.itinerary import START, Itinerary
from agents.credentials.keys import PublicKey, SecretKey
from agents.credentials.passport import Passport
from agents.credentials.results import Opening, ReportEntry
from agents.credentials.sealing import open_sealed, seal
from agents.credentials.trailpoint import Checkpoint
from agents.credentials.visits import Certificate, CloneStatement, Commit, Receipt, Visit
from agents.errors import CredentialError
from docking.trust.admission import Admission, Load, consider, trust
from docking.trust.policy import read_policy
from tests.vectors import generate

KINDS = {
    c.KIND: c
    for c in (
        Passport,
        Visit,
        Receipt,
        Commit,
        CloneStatement,
        Certificate,
        Checkpoint,
        Opening,
        ReportEntry,
        Amendment,
    )
}
ROOT = Path(__file__).parents[2]


# What the vectors call fields of `Load`.
_LOAD = {"memory": "memory_bytes", "free": "free_bytes"}


def load(name: str) -> list[Any]:
    vectors = json.loads((generate.HERE / f"{name}.json").read_text())["vectors"]
    return [pytest.param(vector, id=vector["name"].replace(" ", "_")) for vector in vectors]


def octets(vector: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(vector[name])


@pytest.mark.parametrize("name", generate.FILES)
def test_the_files_are_up_to_date(name: str) -> None:
    assert (generate.HERE / f"{name}.json").read_text() == generate.contents(name), (
        "run: python -m tests.vectors.generate"
    )


@pytest.mark.parametrize("vector", load("keys"))
def test_keys(vector: dict[str, Any]) -> None:
    pair = SecretKey(octets(vector, "seed"))
    assert pair.public == PublicKey(octets(vector, "public")) == PublicKey.from_text(vector["text"])
    assert pair.public.id == vector["id"]
    assert pair.public.box().hex() == vector["x25519"]
    assert pair.sign(octets(vector, "message")).hex() == vector["signature"]


@pytest.mark.parametrize("vector", load("envelopes"))
def test_envelopes(vector: dict[str, Any]) -> None:
    try:
        signed = envelope.verify(KINDS[vector["kind"]], octets(vector, "envelope"))
    except CredentialError as error:
        assert error.code == vector["expect"], error
    else:
        assert vector["expect"] == "ok"
        assert signed.digest.hex() == vector["digest"]


@pytest.mark.parametrize("vector", load("itineraries"))
def test_itineraries(vector: dict[str, Any]) -> None:
    value = canonical.decode(octets(vector, "itinerary"))
    if "expect" in vector:
        with pytest.raises(CredentialError) as refused:
            Itinerary.from_value(value)
        assert refused.value.code == vector["expect"]
        return
    itinerary = Itinerary.from_value(value)
    assert canonical.encode(itinerary.value()) == octets(vector, "itinerary")
    here, home = {START}, PublicKey(octets(vector, "home"))
    for stop in vector["walk"]:
        certifiers = [PublicKey(bytes.fromhex(k)) for k in vector["certified"].get(stop, [])]
        station = PublicKey(bytes.fromhex(stop))
        here = {
            there for position in here for there in itinerary.reach(position, station, vector["at"], home, certifiers)
        }
    assert bool(here) == vector["legal"]
    assert sorted(itinerary.tasks(list(here))) == vector.get("tasks", [])


@pytest.mark.parametrize("vector", load("sealing"))
def test_sealing(vector: dict[str, Any]) -> None:
    secret, context = octets(vector, "secret"), octets(vector, "context")
    if "ephemeral" in vector:
        to = next(k for k in (generate.key("alpha").public.box(),))
        sealed = seal(bytes(vector["size"]), to, context, octets(vector, "ephemeral"))
        assert canonical.digest(sealed).hex() == vector["digest"]
        assert "sealed" not in vector or sealed == octets(vector, "sealed")
    else:
        sealed = octets(vector, "sealed")
    try:
        plain = open_sealed(sealed, secret, context)
    except CredentialError as error:
        assert error.code == vector["expect"]
    else:
        assert vector["expect"] == "ok"
        assert plain == bytes(vector["size"])


@pytest.mark.parametrize("vector", load("admissions"))
def test_admissions(vector: dict[str, Any]) -> None:
    policy = read_policy(vector["policy"])
    here, sender = PublicKey(octets(vector, "here")), PublicKey(octets(vector, "sender"))
    answer = consider(
        Capsule.decode(octets(vector, "capsule")),
        trust(policy, here, sender),
        policy,
        Load(**{_LOAD.get(name, name): value for name, value in vector["load"].items()}),
        vector["now"],
        octets(vector, "handoff"),
        [bytes.fromhex(copy) for copy in vector["copies"]],
    )
    assert ("ok" if isinstance(answer, Admission) else answer.code) == vector["expect"], answer


# Codes that no arrival at a station can show, or that need more than a file: each has its own test.
ELSEWHERE = {"signature", "signer", "key", "owner", "not-for-us", "altered", "image-invalid"}


def documented() -> set[str]:
    text = (ROOT / "docs/reference/credentials.md").read_text()
    table = text[text.index("## Codes") :]
    return set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE))


def test_every_code_is_documented_and_shown_by_a_vector() -> None:
    sources = [
        *(ROOT / "agents/credentials").glob("*.py"),
        ROOT / "agents/capsule.py",
        ROOT / "docking/trust/admission.py",
    ]
    sources.append(ROOT / "agents/errors.py")
    pattern = r'(?:CredentialError|CannotOpen|Refusal|__init__)\(\s*"([a-z-]+)",'
    codes = {code for path in sources for code in re.findall(pattern, path.read_text())}
    codes |= {"trail-signature", "trail-next", "trail-signer"}
    assert codes == documented()
    shown = {vector.values[0]["expect"] for vector in load("admissions")}
    assert codes - ELSEWHERE <= shown
