"""Policies: what a TOML file says, and that a misspelt limit is no limit left out."""

from __future__ import annotations

import contextlib

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from agents.credentials.keys import text_of
from agents.credentials.permit import Budget, Permit
from docking.errors import ConfigError
from docking.trust.policy import GIB, MIB, OwnerRule, Policy, development, read_permit, read_policy
from tests.credentials.journeys import fresh, public

FULL = f"""
[limits]
cpu = "30s"
memory = "64MiB"
carried = "1GiB"
messages = 500
state = "8MiB"
image = "4MiB"

[station]
residents = 100
busy = 8
memory = "2GiB"
shed = 0.5
retry = "1500ms"
disk = "1GiB"

[[owner]]
key = "{public("alice").text}"
name = "alice"
capabilities = ["service:*", "host:clone"]
cpu = "1min"
memory = "16MiB"
residents = 3

[[owner]]
key = "{public("bob").text}"
capabilities = []

[revoked]
owners = ["{public("eve").text}"]
agents = ["{text_of(fresh("agent"))}"]
"""


def test_a_full_policy() -> None:
    policy = read_policy(FULL)
    assert policy.budget == Budget(30_000_000, 64 * MIB, GIB, 500)
    assert (policy.state, policy.image, policy.memory) == (8 * MIB, 4 * MIB, 2 * GIB)
    assert (policy.residents, policy.busy, policy.shed, policy.retry, policy.disk) == (100, 8, 0.5, 2, GIB)
    assert policy.revoked == {public("eve").raw, fresh("agent")}
    alice = policy.rule(public("alice"))
    assert alice is not None
    assert alice.capabilities == ("host:clone", "service:*")
    # a rule is never wider than the limits
    assert alice.budget == Budget(30_000_000, 16 * MIB, GIB, 500)
    assert alice.residents == 3
    bob = policy.rule(public("bob"))
    assert bob is not None
    assert bob.capabilities == ()
    assert policy.rule(public("eve")) is None
    assert policy.loosened() == ()


def test_an_empty_policy_admits_nobody() -> None:
    for policy in (Policy(), read_policy("")):
        assert policy.rule(public("alice")) is None
        assert policy.owners == ()


def test_owners_in_code() -> None:
    policy = Policy(owners=[public("a"), public("b").text, OwnerRule(public("c"), capabilities=["service:x"])])
    assert [rule.key for rule in policy.owners] == [public("a"), public("b"), public("c")]


def test_what_is_loosened_is_said() -> None:
    policy = development(Policy())
    assert policy.rule(public("anyone")) is not None
    assert "ANY owner" in policy.loosened()[0]
    said = read_policy('[dev]\nany-owner = ["service:clock"]')
    assert "service:clock" in said.loosened()[0]
    rule = said.rule(public("anyone"))
    assert rule is not None
    assert rule.capabilities == ("service:clock",)
    assert said.rule(public("anyone")) == evolve(rule)


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        "[limit]\ncpu = '1s'",
        "[limits]\ncpus = '1s'",
        "[limits]\ncpu = 1",
        "[limits]\ncpu = '1'",
        "[limits]\ncpu = '1MiB'",
        "[limits]\ncpu = '-1s'",
        "[limits]\ncpu = '1 parsec'",
        "[limits]\nmessages = -1",
        "[limits]\nmessages = true",
        "[limits]\nmessages = '5'",
        "[limits]\nmemory = '999999999999GiB'",
        "limits = 3",
        "[station]\nshed = 0",
        "[station]\nshed = 1.5",
        "[station]\nshed = nan",
        "owner = 3",
        "[owner]\nkey = 'x'",
        "[[owner]]\nname = 'x'",
        "[[owner]]\nkey = 'x'",
        "[[owner]]\nkey = 3",
        f"[[owner]]\nkey = '{public('a').text}'\ncapabilities = ['everything']",
        f"[[owner]]\nkey = '{public('a').text}'\ncapabilities = [1]",
        f"[[owner]]\nkey = '{public('a').text}'\n[[owner]]\nkey = '{public('a').text}'",
        "[revoked]\nowners = ['x']",
        "[revoked]\nowners = [1]",
        "[revoked]\nagents = ['X']",
        "[dev]\nany-owner = 'yes'",
        "[dev]\nany-owner = ['yes']",
        "not toml",
        "a = [" * 3000,
        "#" * (2**20 + 1),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_policy(text)
    assert str(caught.value).startswith(("policy", "the policy", "a policy"))


@given(st.text(max_size=200))
def test_noise(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert not read_policy(text).owners


def test_permits_from_the_command_line() -> None:
    default = Permit(Budget(1, 2, 3, 4), ["service:*"])
    permit = read_permit(["cpu=10s", "memory=16MiB", "messages=7", "need=host:clone"], default)
    assert permit == Permit(Budget(10_000_000, 16 * MIB, 3, 7), ["service:*", "host:clone"], ["host:clone"])
    assert read_permit(["allow=service:a", "allow=service:b"], default).capabilities == (
        "service:a",
        "service:b",
    )
    for wrong in ("cpu", "cpu=", "cpu=5MiB", "x=1", "messages=-1", "allow=x", "memory=5"):
        with pytest.raises(ConfigError):
            read_permit([wrong], default)


LENDING = """
[wasi]
luggage = "8MiB"
files = 500
descriptors = 32
log = "1MiB"

[directories.charts]
path = "/srv/charts"

[directories."log.of-2026"]
path = "/srv/log"
writable = true
bytes = "1MiB"
names = 20
"""


def test_directories_and_file_systems() -> None:
    policy = read_policy(LENDING)
    wasi = policy.wasi
    assert (wasi.luggage_bytes, wasi.files, wasi.descriptors, wasi.log_bytes) == (8 * MIB, 500, 32, MIB)
    assert wasi.path_bytes == Policy().wasi.path_bytes
    charts, log = policy.directories
    assert (charts.guest, charts.capability, str(charts.path)) == ("/charts", "dir:charts", "/srv/charts")
    assert (charts.writable, log.writable, log.bytes, log.names) == (False, True, MIB, 20)
    assert log.capability == "dir:log.of-2026"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[directories.charts]\nwritable = true\n", "no path"),
        ('[directories.charts]\npath = "/srv"\nbytes = "1MiB"\n', "writable"),
        ('[directories.charts]\npath = "/srv"\nwriteable = true\n', "writeable"),
        ('[directories.charts]\npath = "/srv"\nwritable = 1\n', "bool"),
        ('[directories."a/b"]\npath = "/srv"\n', "a/b"),
        ('[directories."*"]\npath = "/srv"\n', "called"),
        ('[directories.Charts]\npath = "/srv"\n', "letters"),
        ('[directories.portcall]\npath = "/srv"\n', "called"),
        ('[directories.dev]\npath = "/srv"\n', "called"),
        ('[directories]\npath = "/srv"\n', "not dict"),
        ('[wasi]\nluggage = "120MiB"\n', "128MiB"),
        ("[wasi]\nfiles = 1000000\n", "128MiB"),
        ('[wasi]\nstdin = "1MiB"\n', "stdin"),
    ],
)
def test_directories_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_policy(text)
