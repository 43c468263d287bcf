"""States as differences: what a peer has is not sent again, and nobody gets what is not theirs."""

from __future__ import annotations

import os

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from agents.credentials.itinerary import Itinerary, Loop, Seq, Stop
from agents.snapshot import MemoryState, Snapshot
from docking.differences import MIN_DELTA_BYTES, completed, difference
from docking.handoff.messages import Body, Offer, Part, Want
from docking.residents.berth import Standing
from docking.residents.deltas import Deltas
from docking.trust.admission_controller import AdmissionController
from tests.station.harbour import OWNER, Watch, harbour, numbers, packed, program, run, settled
from tests.wrong_types import bent, booleans

IMAGE = canonical.digest(b"an image")
AGENT, ALPHA, BETA = (canonical.digest(name) for name in (b"agent", b"alpha", b"beta"))


def snapshot(memory: bytes | bytearray) -> bytes:
    """A state with this memory, all of which differs from the image's."""
    view = memoryview(bytearray(memory))
    state = MemoryState.capture(view, [(0, len(view) // 4096)])
    return Snapshot(IMAGE, "run", stage="run", memories=(state,)).encode()


NOISE = os.urandom(1 << 20)


@settings(deadline=None)  # machines are busy
@given(changes=st.lists(st.tuples(st.integers(0, len(NOISE) - 9), st.binary(min_size=1, max_size=8)), max_size=6))
def test_what_changed_is_what_is_sent(changes: list[tuple[int, bytes]]) -> None:
    memory = bytearray(NOISE)
    for at, data in changes:
        memory[at : at + len(data)] = data
    base, state = snapshot(NOISE), snapshot(memory)
    delta = difference(base, state)
    touched = {place // (128 << 10) for at, data in changes for place in (at, at + len(data) - 1)}
    if len(touched) <= 5:
        assert delta is not None
        assert len(delta) <= len(touched) * ((128 << 10) + 64) + 1000
        assert completed(base, delta, len(state)) == state


def test_a_memory_that_grew_in_the_middle_of_its_pages() -> None:
    sparse = Snapshot(IMAGE, "run", stage="run", memories=(_sparse([0, 2, 3]),)).encode()
    denser = Snapshot(IMAGE, "run", stage="run", memories=(_sparse([0, 1, 2, 3]),)).encode()
    delta = difference(sparse, denser)
    assert delta is not None
    assert len(delta) < 150_000
    assert completed(sparse, delta, len(denser)) == denser


def _sparse(chunks: list[int]) -> MemoryState:
    view = memoryview(bytearray(NOISE[: 4 * (128 << 10)]))
    runs: list[tuple[int, int]] = []
    for chunk in chunks:
        if runs and sum(runs[-1]) == chunk * 32:
            runs[-1] = (runs[-1][0], runs[-1][1] + 32)
        else:
            runs.append((chunk * 32, 32))
    return MemoryState.capture(view, runs)


def test_a_difference_that_is_not_worth_it_is_none() -> None:
    assert difference(snapshot(NOISE), snapshot(os.urandom(1 << 20))) is None
    assert difference(b"no snapshot", snapshot(NOISE)) is None


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        b"\xff",
        canonical.encode([2, [[0, 10]]]),
        canonical.encode([1, [[0, 11]]]),
        canonical.encode([1, [[-1, 10]]]),
        canonical.encode([1, [[91, 10]]]),
        canonical.encode([1, [[0, 10], [0, 10]]]),
        canonical.encode([1, [[0, 9]]]),
        canonical.encode([1, [["0", 10]]]),
        canonical.encode([1, ["text"]]),
        canonical.encode([1, [[0, 5, 5]]]),
        canonical.encode([1, [[0, 100]] * 1000]),
        canonical.encode([1]),
        canonical.encode(5),
    ],
)
def test_hostile_differences_lead_nowhere(delta: bytes) -> None:
    assert completed(bytes(100), delta, 10) is None


def offer(state: bytes, *extra: tuple[Part, bytes]) -> Offer:
    """An offer of this state, which does not come along, and more parts."""
    parts = [Part("passport", canonical.digest(b"p"), 1), Part("state", canonical.digest(state), len(state))]
    bodies = [Body(0, b"p")]
    for part, body in extra:
        parts.append(part)
        if body:
            bodies.append(Body(len(parts) - 1, body))
    nonce, hid = bytes(16), bytes(32)
    return Offer(hid, AGENT, 1, ALPHA, BETA, nonce, nonce, hid, 0, tuple(parts), tuple(bodies))


def test_an_offer_is_completed_only_from_what_passed_with_this_agent_and_peer() -> None:
    base, state = snapshot(NOISE), snapshot(NOISE[:-1] + b"x")
    there, here = Deltas(), Deltas()
    there.passed(AGENT, BETA, canonical.digest(base), base)
    short = offer(state, *there.shortened(AGENT, BETA, state))
    whole = offer(state)
    assert sum(len(body.data) for body in short.bodies) < 200_000
    # Nothing remembered: the state has to be asked for, and nothing else is seen of the difference.
    assert here.completed(ALPHA, short) == whole
    # The state passed with another agent, or another station.
    here.passed(canonical.digest(b"another"), ALPHA, canonical.digest(base), base)
    here.passed(AGENT, BETA, canonical.digest(base), base)
    assert here.completed(ALPHA, short) == whole
    here.passed(AGENT, ALPHA, canonical.digest(base), base)
    assert here.completed(ALPHA, short) == evolve(whole, bodies=(Body(0, b"p"), Body(1, state)))
    # A difference that leads elsewhere is not used.
    lying = evolve(short, parts=(short.parts[0], evolve(short.parts[1], digest=bytes(32)), *short.parts[2:]))
    assert len(here.completed(ALPHA, lying).bodies) == 1  # type: ignore[union-attr]
    assert here.completed(ALPHA, Want(bytes(32), (1,))) == Want(bytes(32), (1,))


def test_comparing_in_vain_is_given_up_for_a_while_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counted(base: bytes, state: bytes) -> bytes | None:
        compared.append(number)
        return difference(base, state)

    monkeypatch.setattr("docking.residents.deltas.difference", counted)
    deltas, peer = Deltas(), b"p" * 32
    for number in range(12):  # noqa: B007 (`counted` looks at it)
        state = snapshot(os.urandom(MIN_DELTA_BYTES + 1000))
        assert deltas.shortened(AGENT, peer, state) == []
        deltas.passed(AGENT, peer, canonical.digest(state), state)
    assert compared == [1, 3, 6, 11]  # none before anything passed; then after 1, 2, 4 that were not compared
    tries = next(n for n in range(20) if deltas.shortened(AGENT, peer, state))
    assert tries == 8
    assert deltas.shortened(AGENT, peer, state)  # the memory of failures is gone


def test_what_is_remembered_is_bounded() -> None:
    deltas = Deltas(5 * MIN_DELTA_BYTES)
    for number in range(20):
        deltas.passed(bytes([number]) * 32, ALPHA, bytes(32), bytes(MIN_DELTA_BYTES))
    assert len(deltas.states) == 5
    assert deltas.size_bytes == 5 * MIN_DELTA_BYTES
    deltas.passed(bytes([19]) * 32, ALPHA, bytes(32), b"small")
    assert deltas.size_bytes == 4 * MIN_DELTA_BYTES


LARGE = program(
    """
    (drop (memory.grow (i32.const 31)))
    (local.set $x (i64.const 88172645463325252))
    (loop $fill
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (i64.store (i32.add (i32.const 65536) (local.get $n)) (local.get $x))
      (local.set $n (i32.add (local.get $n) (i32.const 8)))
      (br_if $fill (i32.lt_u (local.get $n) (i32.const 2000000))))
    (local.set $n (i32.const 0))
    (loop $bounce
      (drop (call $go (s 0)))
      (i64.store (i32.add (i32.const 65536) (i32.mul (local.get $n) (i32.const 1000))) (i64.const 1))
      (drop (call $go (s 1)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $bounce (i32.lt_s (local.get $n) (i32.const 10))))
    (call $tell (i32.const 110) (local.get $n))""",
    "beta|home",
    "(local $n i32) (local $x i64)",
)


@run
async def test_two_megabytes_that_hardly_change_are_sent_once() -> None:
    async with harbour("home", "beta") as (home, beta):
        route = Itinerary(Loop(20, Seq([Stop(beta.key), Stop(home.key)])))
        agent = await home.launch(packed(LARGE), owner=OWNER, itinerary=route)
        watch = Watch(home)
        await watch.until("left")
        first = home.client.sent_bytes
        report = await agent.wait()
        assert first > 1_900_000
        sent = home.client.sent_bytes - first
        assert sent < 9 * 300_000
        assert home.core.deltas.saved_bytes > 9 * 1_500_000
    assert numbers(report, "n") == [10]
    assert all(stay.carried > 1_900_000 for stay in report.trail[:-1])


@run
async def test_a_peer_that_remembers_nothing_asks_for_the_state() -> None:
    async with harbour("home", "beta") as (home, beta):
        route = Itinerary(Loop(20, Seq([Stop(beta.key), Stop(home.key)])))
        agent = await home.launch(packed(LARGE), owner=OWNER, itinerary=route)
        watch = Watch(beta)
        for _ in range(3):
            await watch.until("left")
            beta.core.deltas.states.clear()
        assert numbers(await agent.wait(), "n") == [10]


@run
async def test_a_state_that_is_only_named_is_not_taken_from_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody knows the digest of another agent's state, which is in every trail, and offers it as its own."""
    async with harbour("home", "beta") as (home, beta):
        sleeper = program("(drop (call $go (s 0))) (drop (call $sleep (i32.const 60000)))", "beta")
        agent = await home.launch(packed(sleeper), ["beta"], owner=OWNER)
        saved = (await settled(beta, agent, Standing.WAITING)).saved
        state = saved.state
        assert beta.core.here.store.has_part(state.digest)
        image = beta.core.here.berths[agent.key].image_part
        kinds = [Part(kind, canonical.digest(b"p"), 1) for kind in ("passport", "trail", "results")]
        bodies = tuple(Body(number, b"p") for number in range(3))
        asked = evolve(offer(b""), parts=(*kinds, image, state), bodies=bodies)
        # As if the papers were those of another agent, and good.
        monkeypatch.setattr(AdmissionController, "_precheck", lambda admissions, offer, kinds, policy: None)
        assert beta.core.admissions.destination().consider(asked) == (0, 1, 2, 4)


def test_values_of_other_types_in_a_difference_are_refused() -> None:
    base = bytes(range(100))
    value = [1, [[0, 10], b"new", [50, 1]]]
    assert completed(base, canonical.encode(value), 14) is not None
    for other in [*bent(value), *booleans(value)]:
        made = completed(base, canonical.encode(other), 14)
        assert made is None or len(made) == 14
    assert completed(base, canonical.encode([True, value[1]]), 14) is None
