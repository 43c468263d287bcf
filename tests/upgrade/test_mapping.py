"""Generated programs that get other modules in the middle of their run: what comes out is what the theory says."""

from __future__ import annotations

from random import Random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

import agents
from agents import upgrade
from agents.execution import Execution
from agents.hostcalls import CallContext, HostImport
from agents.image import AgentImage
from agents.outcomes import Finished, Stop, Trapped
from agents.snapshot import Snapshot
from agents.wasm import opcodes as op
from agents.wasm.encode import encode_module
from agents.wasm.syntax import Instr, Module
from agents.wasm.validate import validate_module
from tests.rewrite.generator import Generator
from tests.runtime.agents_at_work import place
from tests.thorough import examples

from .variants import marked, named, shuffled

ENDED = (Finished, Trapped)


class World:
    """What the programs import. `version()` is 1 from the `switch`-th tick on."""

    def __init__(self, switch: int = 1 << 30) -> None:
        self.ticks, self.switch = 0, switch

    def imports(self) -> dict[tuple[str, str], HostImport]:
        return {
            ("t", "tick"): HostImport("i", "i", self.tick),
            ("t", "version"): HostImport("", "i", self.version),
        }

    def tick(self, ctx: CallContext, argument: int) -> int:
        self.ticks += 1
        return (argument * 7 + self.ticks) & 0xFFFF

    def version(self, ctx: CallContext) -> int:
        return int(self.ticks >= self.switch)


def packed(module: Module, polls: str = "none") -> AgentImage:
    validate_module(module)
    return agents.pack(encode_module(module), entry="run", polls=polls, suspending=None)  # type: ignore[arg-type]


def life(image: AgentImage, world: World, argument: int, snapshot: Snapshot | None = None) -> Execution:
    given = {} if snapshot is not None else {"args": (argument,)}
    return Execution(image, engine=agents.load(), ambient=place(), snapshot=snapshot, imports=world.imports(), **given)


def to_the_end(run: Execution) -> Stop:
    run.always = False
    stop = run.advance()
    while not isinstance(stop, ENDED):
        stop = run.advance()
    return stop


def stopped(image: AgentImage, world: World, argument: int, opportunity: int) -> Snapshot | None:
    """At one of its opportunities, of the first hundred; None if it has none."""
    run, count = life(image, World(), argument), 0
    run.always = True
    while count < 100 and not isinstance(run.advance(), ENDED):
        count += 1
    run.close()
    if not count:
        return None
    with life(image, world, argument) as run:
        run.always = True
        for _ in range(opportunity % count + 1):
            run.advance()
        return Snapshot.decode(run.snapshot().encode())


def shown(stop: Stop) -> object:
    assert isinstance(stop, ENDED)
    return stop.results if isinstance(stop, Finished) else stop.code


@settings(max_examples=examples(25), deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    other=st.integers(0, 1 << 32),
    at=st.integers(1, 60),
    polls=st.sampled_from(["none", "loops", "calls"]),
    names=st.booleans(),
)
def test_other_indices_change_nothing(seed: int, other: int, at: int, polls: str, names: bool) -> None:
    module = Generator(seed).module()
    if names:
        module = named(module, "f{}".format)
    new = shuffled(module, other)
    if names:
        new = named_alike(module, new, other)
    argument, old_image, new_image = seed % 7, packed(module, polls), packed(new, polls)
    expected = shown(to_the_end(life(old_image, World(), argument)))
    world = World()
    snapshot = stopped(old_image, world, argument, at)
    if snapshot is None:
        return
    plan, mapped = upgrade.mapped(old_image, new_image, snapshot)
    # Which functions of a cycle poll at their entry depends on their order. Without names, some are alike.
    known = ("be stopped at the entry", *(() if names else ("several functions",)))
    assert all(any(each in problem for each in known) for problem in plan.problems), plan
    if mapped is None:
        return
    assert Snapshot.decode(mapped.encode()) == mapped
    assert shown(to_the_end(life(new_image, world, argument, mapped))) == expected


def named_alike(module: Module, new: Module, seed: int) -> Module:
    """The shuffled module with the names that its functions had."""
    count = len(module.funcs)
    # The order is found again by what `shuffled` does with a module whose functions can be told apart.
    tagged = attrs.evolve(
        module,
        funcs=tuple(
            attrs.evolve(func, body=(Instr(op.I32_CONST, 10**6 + n), Instr(op.DROP), *func.body), offset=None)
            for n, func in enumerate(module.funcs)
        ),
    )
    found = {}
    for place_, func in enumerate(shuffled(tagged, seed).funcs):
        first = func.body[0]
        known = first.code == op.I32_CONST and 0 <= first.imm - 10**6 < count and func.body[1].code == op.DROP
        found[place_] = f"f{first.imm - 10**6}" if known else f"more{place_}"
    return named(new, found.__getitem__)


@settings(max_examples=examples(40), deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    at=st.integers(1, 25),
    choice=st.integers(0, 1 << 32),
)
def test_functions_that_changed_are_the_new_ones_from_then_on(seed: int, at: int, choice: int) -> None:
    module = named(Generator(seed).module(), "f{}".format)
    random = Random(choice)
    count = len(module.funcs)
    changed = {n for n in range(1, count) if random.random() < 0.4}
    argument = seed % 7
    old_image = packed(marked(module, changed, "never"))
    new_image = packed(marked(module, changed, "always"))
    world = World()
    snapshot = stopped(old_image, world, argument, at)
    if snapshot is None:
        return
    metadata = old_image.metadata
    assert metadata is not None
    imported = module.imported("func")
    on_stack = {metadata.resumes[frame.resume].function - imported for frame in snapshot.frames}
    plan, mapped = upgrade.mapped(old_image, new_image, snapshot)
    # What changed and is on the stack is named, and nothing else is in the way.
    wrong = {each.function for each in plan.frames if each.why}
    assert wrong == {f"f{n}" for n in on_stack & changed}
    assert plan.possible == (not wrong)
    if mapped is None:
        return
    # The same program, whose functions ask their host which they are: it says "new" from the same call on.
    both = marked(module, changed, "asked")
    asking = World(switch=world.ticks + 1)
    whole = Execution(
        agents.pack(encode_module(both), entry="run", polls="none", suspending=frozenset([("t", "tick")])),
        engine=agents.load(),
        ambient=place(),
        imports=asking.imports(),
        args=(argument,),
    )
    assert shown(to_the_end(life(new_image, world, argument, mapped))) == shown(to_the_end(whole))
