"""The Dockerfile and the compose file of the examples: checked without Docker; `.ci/run image` builds where it runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from docking.cli.station import station
from docking.trust.policy import read_policy
from tests.credentials.journeys import public

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "docker"
HADOLINT = ROOT / "build" / "toolchains" / "hadolint" / "bin" / "hadolint"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is installed by .ci/toolchains")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([HADOLINT, "--no-color", FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def copied() -> list[str]:
    """What the build takes from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [name for line in lines for name in line.split()]


def test_all_that_is_copied_is_there_and_is_let_through() -> None:
    let = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in let if line.startswith("!")} == set(copied())
    assert all((ROOT / name).exists() for name in copied())


def test_the_wheel_can_be_built_of_that() -> None:
    """What the build needs beside the packages: pyproject.toml names it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.search(r'^readme = "(.+)"$', text, re.MULTILINE)
    licences = re.search(r'^license-files = \["(.+)"\]$', text, re.MULTILINE)
    packages = re.search(r"^packages = \[(.+)\]$", text, re.MULTILINE)
    assert named is not None
    assert licences is not None
    assert packages is not None
    needed = {"pyproject.toml", named[1], licences[1], *re.findall(r'"(\w+)"', packages[1]), ".ci/locks/run.txt"}
    assert set(copied()) == needed


def parsed(words: list[str]) -> dict[str, Any]:
    """The options of a command `station`. Raises `click.UsageError` for one that there is not."""
    assert words[0] == "station"
    return station.make_context("station", list(words[1:])).params


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_runs_its_station(name: str) -> None:
    options = parsed(SERVICES[name]["command"])
    assert (options["name"], options["port"]) == (name, 7707)
    mounted = dict(volume.split(":")[:2] for volume in SERVICES[name]["volumes"])
    assert str(options["home"]).startswith(mounted[name])
    assert str(options["policy"]) == mounted["./policy.toml"]
    assert name in COMPOSE["volumes"]
    for peer in options["peers"]:
        host, port = re.fullmatch(r"http://(\w+):(\d+)", peer).groups()  # type: ignore[union-attr]
        assert host in SERVICES
        assert port == "7707"
        assert host in SERVICES[name]["depends_on"]


def test_the_command_of_the_image_is_one() -> None:
    words = re.search(r"^CMD \[(.+)\]$", DOCKERFILE, re.MULTILINE)
    assert words is not None
    options = parsed(re.findall(r'"([^"]*)"', words[1]))
    assert str(options["home"]).startswith("/var/lib/portcall/")
    with pytest.raises(click.UsageError):
        parsed(["station", "--absent"])


def test_the_policy_admits_whom_it_is_told() -> None:
    text = (FOLDER / "policy.toml").read_text(encoding="utf-8")
    owner = public("somebody")
    assert [rule.key for rule in read_policy(text.replace("OWNER", owner.text)).owners] == [owner]


def test_the_page_and_the_files_speak_of_the_same() -> None:
    page = (ROOT / "docs" / "how-to" / "docker.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in SERVICES)
    assert "docker build -f examples/docker/Dockerfile -t portcall ." in page
    assert COMPOSE["x-station"]["image"] == "portcall"
    assert (FOLDER / COMPOSE["x-station"]["build"]["context"] / COMPOSE["x-station"]["build"]["dockerfile"]).is_file()
    assert (FOLDER / "../python/trip.py").is_file()
