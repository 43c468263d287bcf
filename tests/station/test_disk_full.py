"""A disk that fills up: newcomers are sent away before it is full, nothing is lost when it is, and it goes on after."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from agents.errors import CredentialError
from docking import Policy
from docking.admission import Refusal, shed
from tests.station.harbour import OWNER, begin, harbour, journey, numbers, program, run, station

NEARLY_FULL = evolve(Policy(owners=[OWNER.public]), disk=1 << 60)
HOP = program("(call $tell (i32.const 103) (call $go (s 0)))", "beta")


@run
async def test_a_disk_that_is_nearly_full_sends_newcomers_away(tmp_path: Path) -> None:
    async with harbour("home", home=tmp_path) as (home,), station("beta", tmp_path / "beta", policy=NEARLY_FULL) as beta:
        await home.contacts.call_on(beta.url)
        assert numbers(await journey(home, HOP, "beta"), "g") == [-6]  # EAGAIN: the agent may try again
        with pytest.raises(CredentialError, match="disk-full: this station's disk is nearly full"):
            await begin(beta, HOP, "home")
        assert isinstance(shed(beta.policy, beta.office.load()), Refusal)
        assert beta.office.berths == {}


@run
async def test_a_station_that_forgets_needs_no_disk() -> None:
    async with harbour("home", policy=NEARLY_FULL) as (home,):
        assert home.office.load().free is None
        await begin(home, program(""))
