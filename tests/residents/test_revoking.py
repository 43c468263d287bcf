"""Revocations: who is believed, what they do at once, and how they reach the stations that are known, once each."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from agents import canonical
from agents.credentials.keys import SecretKey
from agents.credentials.revocations import sign_revocation
from agents.errors import CredentialError
from docking import Policy, Station
from docking.errors import StoreFull
from docking.residents.berth import Standing
from docking.residents.revoking import MAX_REVOCATIONS
from docking.store.group_commit import GroupCommit
from tests.residents.guests import GOER, LISTENER, RESTING, berth
from tests.residents.test_review import kept
from tests.station.harbour import OWNER, STRANGER, Watch, begin, harbour, key_of, meet, run, settled, station

REVOKER = SecretKey(canonical.digest(b"test revoker"))
TRUSTING = Policy(owners=[OWNER.public], revokers=[REVOKER.public])


async def believes(at: Station, key: SecretKey) -> None:
    """Wait until a station knows a key as revoked."""
    while key.public.raw not in at.policy.revoked:
        await asyncio.sleep(0.005)


@run
async def test_an_owner_s_key_that_revokes_itself_is_revoked_everywhere() -> None:
    async with harbour("home", "beta", "gamma") as (home, beta, gamma):
        agent, there = await begin(home, LISTENER), await begin(beta, RESTING)
        await settled(home, agent, Standing.WAITING)
        await settled(beta, there, Standing.WAITING)
        await home.revoke(OWNER.public, by=OWNER)
        assert "revoked" in await kept(home, agent)
        with pytest.raises(CredentialError, match="revoked"):
            await begin(home, LISTENER)
        for each in (beta, gamma):
            await believes(each, OWNER)
        assert "revoked" in await kept(beta, there)
        # Each was told once, by whom it was revoked first; nobody tells those who know.
        while home.core.here.store.letters(2**52, 100):
            await asyncio.sleep(0.01)
        again = sign_revocation(OWNER.public, 5, OWNER).envelope
        assert await home.core.revoking.revoke(again) is False
        for each in (home, beta, gamma):
            assert len(each.core.revoking.all) == 1


@run
async def test_a_revocation_outlasts_restarts_and_new_policies(tmp_path: Path) -> None:
    async with station("home", tmp_path / "home") as home:
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        await home.revoke(OWNER.public, by=OWNER)
        await kept(home, agent)
        await home.replace_policy(Policy(owners=[OWNER.public]))
        assert OWNER.public.raw in home.policy.revoked
        assert agent.key in home.core.arrivals.kept
    async with station("home", tmp_path / "home") as home:
        assert OWNER.public.raw in home.policy.revoked
        assert "revoked" in await kept(home, agent)


@run
async def test_only_the_key_itself_or_whom_the_policy_trusts_revokes() -> None:
    async with harbour("home", "beta") as (home, beta):
        for signer in (STRANGER, REVOKER, home.core.here.key):
            with pytest.raises(CredentialError, match="may not revoke") as refused:
                await home.revoke(OWNER.public, by=signer)
            assert refused.value.code == "revocation"
            letter = ["revoked", bytes(32), sign_revocation(OWNER.public, 1, signer).envelope]
            assert (await home.core.inbound.receive(beta.key, letter))[:2] == ["refused", "revocation"]
        bent = sign_revocation(OWNER.public, 1, OWNER).envelope[:-1] + b"\0"
        for content, code in ((bent, "signature"), (b"", "malformed"), (bytes(9999), "malformed"), (7, "malformed")):
            answer = await home.core.inbound.receive(beta.key, ["revoked", bytes(32), content])
            assert answer[:2] == ["refused", code]
        # Anybody can make a key and revoke it: of those that nobody has met, nothing is kept.
        strange = sign_revocation(STRANGER.public, 1, STRANGER).envelope
        answer = await home.core.inbound.receive(beta.key, ["revoked", bytes(32), strange])
        assert answer[:2] == ["refused", "unknown-key"]
        assert not home.core.revoking.all
        assert not home.policy.revoked


@run
async def test_a_revoker_counts_where_the_policy_trusts_it() -> None:
    trusting, other = station("home", policy=TRUSTING), station("beta")
    async with trusting as home, other as beta:
        await meet(home, beta)
        agent, there = await begin(home, LISTENER), await begin(beta, LISTENER)
        await settled(home, agent, Standing.WAITING)
        await home.revoke(OWNER.public, by=REVOKER)
        await kept(home, agent)
        while home.core.here.store.letters(2**52, 100):
            await asyncio.sleep(0.01)
        # It was told, and refused: there is nobody who may revoke there.
        assert OWNER.public.raw not in beta.policy.revoked
        await settled(beta, there, Standing.WAITING)
        # Whom it trusts no longer has revoked nothing any more.
        await home.replace_policy(evolve(TRUSTING, revokers=frozenset()))
        await settled(home, agent, Standing.WAITING)
        await home.replace_policy(TRUSTING)
        await kept(home, agent)


@run
async def test_agents_neither_go_to_a_revoked_station_nor_come_from_it() -> None:
    async with harbour("alfa", "beta") as (home, beta):
        at_beta = await begin(beta, LISTENER)
        await settled(beta, at_beta, Standing.WAITING)
        await home.revoke(beta.key, by=beta.core.here.key)
        await believes(home, key_of("beta"))
        watch = Watch(home)
        await begin(home, GOER, "beta")
        assert "revoked: the key of the station" in (await watch.until("refused")).text
        # Beta, which nobody has told, sends one.
        from_beta = Watch(beta)
        await begin(beta, GOER.replace("beta", "alfa"), "alfa")
        assert "revoked: " in (await from_beta.until("refused")).text
        # An agent whose home is revoked is not at home anywhere.
        await beta.revoke(beta.key)
        assert "the agent's home" in await kept(beta, at_beta)


@run
async def test_who_is_met_later_is_told_once() -> None:
    async with station("home") as home, station("beta") as beta:
        await home.revoke(OWNER.public, by=OWNER)
        assert not beta.policy.revoked
        await meet(home, beta)
        await believes(beta, OWNER)
        (signed,) = home.core.revoking.all
        assert beta.key.raw in home.core.revoking._told[signed.digest]
        before = beta.core.here.counts["alarm"]
        home.core.revoking.met(beta.key)
        while home.core.here.store.letters(2**52, 100):
            await asyncio.sleep(0.01)
        assert beta.core.here.counts["alarm"] == before


@run
async def test_who_did_not_take_it_is_told_again_after_a_restart(tmp_path: Path) -> None:
    async with station("beta") as beta:
        async with station("home", tmp_path / "home") as home:
            await home.replace_policy(TRUSTING)
            await meet(home, beta)
            await home.revoke(STRANGER.public, by=REVOKER)
            while home.core.here.store.letters(2**52, 100):
                await asyncio.sleep(0.01)
            assert STRANGER.public.raw not in beta.policy.revoked
            await beta.replace_policy(TRUSTING)
        async with station("home", tmp_path / "home") as home:
            await home.replace_policy(TRUSTING)
            await meet(home, beta)
            await believes(beta, STRANGER)


@run
async def test_what_could_not_be_written_is_not_believed() -> None:
    def full(*_: object) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(StoreFull("no room"))
        return future

    async with harbour("home", "beta") as (home, beta):
        agent = await begin(home, LISTENER)
        await settled(home, agent, Standing.WAITING)
        letter: Any = ["revoked", bytes(32), sign_revocation(OWNER.public, 1, OWNER).envelope]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(GroupCommit, "write", full)
            assert (await home.core.inbound.receive(beta.key, letter))[0] == "later"
        assert not home.policy.revoked
        assert berth(home, agent).standing is Standing.WAITING
        assert await home.core.inbound.receive(beta.key, letter) == ["taken"]
        await kept(home, agent)


@run
async def test_there_are_at_most_so_many() -> None:
    async with harbour("home", policy=TRUSTING) as (home,):
        for number in range(MAX_REVOCATIONS):
            victim = SecretKey(canonical.digest(b"victim %d" % number)).public
            await home.core.revoking.revoke(sign_revocation(victim, 1, REVOKER).envelope)
        with pytest.raises(CredentialError, match="no more"):
            await home.revoke(OWNER.public, by=OWNER)
        assert len(home.core.revoking.all) == MAX_REVOCATIONS
