"""Agents whose homes are not heard of: told of at half of the time, then put to sleep or disposed of."""

from __future__ import annotations

import asyncio
import secrets
import time

import pytest

from docking import Policy
from docking.aio.clocks import Clocks
from docking.errors import ConfigError
from docking.residents.berth import Standing
from docking.trust.policy import read_policy
from tests.station.harbour import OWNER, begin, key_of, meet, program, run, settled, station

GUEST = program(
    "(drop (call $go (s 0))) (drop (call $recv (i32.const 300) (i32.const 100) (i32.const -1)))",
    "beta",
)
HOUR_NS = 3_600 * 10**9


@pytest.mark.parametrize("then", ["sleep", "dispose"])
def test_an_orphan_is_told_of_and_then_put_away(then: str) -> None:
    @run
    async def main() -> None:
        ahead = [0]
        clocks = Clocks(lambda: time.time_ns() + ahead[0], time.monotonic_ns, secrets.token_bytes)
        policy = Policy(owners=[OWNER.public], orphans_after=10 * 3600, orphans_then=then)
        async with station("home") as home, station("beta", policy=policy, clocks=clocks) as beta:
            await meet(home, beta)
            agent = await begin(home, GUEST, "beta")
            while agent.key not in beta.core.here.berths:
                await asyncio.sleep(0.01)
            await settled(beta, beta.agent(agent.id), Standing.WAITING)
            counts, tidy = beta.core.here.counts, beta.core.upkeep.tidy
            await home.close()
            ahead[0] = 4 * HOUR_NS
            tidy()
            assert counts["alarm"] == 0
            ahead[0] = 6 * HOUR_NS
            tidy()
            tidy()  # told once
            assert counts["alarm"] == 1
            beta.core.here.peers.met(key_of("home").public, "home", [])  # heard of: the time begins anew
            ahead[0] = 12 * HOUR_NS
            tidy()
            assert agent.key in beta.core.here.berths
            assert beta.core.here.berths[agent.key].standing is Standing.WAITING
            ahead[0] = 17 * HOUR_NS
            tidy()
            if then == "sleep":
                await settled(beta, beta.agent(agent.id), Standing.ASLEEP)
                alarms = counts["alarm"]
                tidy()
                assert counts["alarm"] == alarms
            else:
                assert beta.core.here.berths == {}

    main()


def test_the_policy_says_when() -> None:
    policy = read_policy('[orphans]\nafter = "48h"\nthen = "dispose"\n')
    assert (policy.orphans_after, policy.orphans_then) == (48 * 3600, "dispose")
    assert read_policy("").orphans_after == 0
    with pytest.raises(ConfigError, match="sleep"):
        read_policy('[orphans]\nthen = "forget"\n')
