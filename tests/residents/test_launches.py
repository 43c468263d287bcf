"""What cannot be launched is refused with a reason."""

from __future__ import annotations

import asyncio

import pytest

from agents.credentials.permit import Budget, Permit
from docking import Terms
from docking.errors import StationError
from tests.patience import PATIENCE
from tests.residents.guests import SLEEPER
from tests.station.harbour import OWNER, harbour, packed, run


@run
async def test_what_cannot_be_launched_is_said() -> None:
    from agents.errors import CredentialError
    from tests.station.harbour import STRANGER

    async with harbour("home") as (home,):
        with pytest.raises(CredentialError, match="owner-unknown"):
            await home.launch(packed(SLEEPER), owner=STRANGER)
        with pytest.raises(StationError, match="no station 'nowhere'"):
            await asyncio.wait_for(home.launch(packed(SLEEPER), ["nowhere"], owner=OWNER), PATIENCE)
        tiny = Terms(permit=Permit(Budget(), ("host:*",)))
        with pytest.raises(CredentialError, match="budget"):
            await home.launch(packed(SLEEPER), owner=OWNER, terms=tiny)
