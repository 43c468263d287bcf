"""Whether a frozen agent can go on with another module, and how.

Memories, globals and tables come first, then the stack, from the outermost frame inwards.
"""

from __future__ import annotations

from collections import Counter

from attrs import define, evolve, field, frozen

from agents.brief import brief
from agents.errors import BadImage, BadSnapshot, CannotUpgrade, ModuleError
from agents.image import AgentImage
from agents.rewrite.machinery import frame_width
from agents.rewrite.metadata import Frame, check_frames
from agents.snapshot import MemoryState, Pending, Snapshot, TableState
from agents.upgrade.layout import moved
from agents.upgrade.modules import Different, Pairs, Side, same_signature
from agents.upgrade.state import (
    InitialMemory,
    check_memories,
    first_values,
    map_global,
    map_table,
    merge_memory,
    pair_globals,
    pair_tables,
    state_globals,
)
from agents.wasm.syntax import Export

MAX_PROBLEMS = 20  # that are told
MAX_FRAMES = 200  # different ones that are told
_CANNOT = {
    -1: "be stopped at the entry of this function, where the agent is just now: try again",
    0: "be stopped at this loop: pack it with the --polls of the old one",
    1: "wait in this call",
}
LAUNCH = "retract or dispose of the agent and launch the new program, or wait until it is elsewhere in its code"


@frozen
class FramePlan:
    """A place on the stack: in `function`, at `site`, on the stack `times` times. In the new module it is site `to`.

    why: what keeps it from going on there; empty if nothing does
    """

    function: str
    site: int
    to: int
    times: int
    why: str = ""


@frozen
class Plan:
    """What an upgrade would do. It can be done if there are no `problems`; each is a sentence.

    old, new: the digests of the images
    frames: the places on the stack, outermost first
    begun: whether the agent has begun at all
    weak: whether it leaves its stack behind: it waits at the export that will be called next
    """

    old: bytes
    new: bytes
    begun: bool
    weak: bool
    frames: tuple[FramePlan, ...] = field(repr=brief)
    problems: tuple[str, ...] = field(repr=brief)

    @property
    def possible(self) -> bool:
        """Whether nothing is in the way."""
        return not self.problems


def plan(old: AgentImage, new: AgentImage, snapshot: Snapshot) -> Plan:
    """What an upgrade of the agent that is frozen in `snapshot` would do. Raises `BadSnapshot`, `BadImage`."""
    return _Mapping(old, new, snapshot).plan


def mapped(old: AgentImage, new: AgentImage, snapshot: Snapshot) -> tuple[Plan, Snapshot | None]:
    """The plan, and what comes of it if it is possible. Raises as `plan`."""
    mapping = _Mapping(old, new, snapshot)
    if mapping.made is not None:
        mapping.made.check(new)
    return mapping.plan, mapping.made


def upgraded(old: AgentImage, new: AgentImage, snapshot: Snapshot) -> Snapshot:
    """The same agent, frozen with the new image. Raises `CannotUpgrade`, `BadSnapshot`, `BadImage`."""
    found, made = mapped(old, new, snapshot)
    if made is None:
        raise CannotUpgrade(found.problems)
    return made


@define(eq=False, repr=False)
class _Mapping:
    """One upgrade, worked out."""

    old_image: AgentImage
    new_image: AgentImage
    snapshot: Snapshot
    old: Side = field(init=False)
    new: Side = field(init=False)
    plan: Plan = field(init=False)
    made: Snapshot | None = field(init=False, default=None)
    problems: list[str] = field(factory=list)
    places: list[FramePlan] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        snapshot = self.snapshot
        snapshot.check(self.old_image)
        if snapshot.roots:
            raise BadSnapshot("the memories of this agent are elsewhere")
        try:
            self.old, self.new = Side(self.old_image), Side(self.new_image)
        except ModuleError as error:
            raise BadImage(f"the module cannot be compared: {error}") from None
        except (KeyError, IndexError) as error:
            raise BadImage(f"the module is not what the rewriter writes: {error!r}") from None
        begun, weak = snapshot.stage != "new", snapshot.weak is not None
        try:
            self._entry()
            made = self._begun() if begun else evolve(snapshot, image=self.new_image.digest)
        except ModuleError as error:
            raise BadImage(f"the module cannot be compared: {error}") from None
        except (KeyError, IndexError, AttributeError, TypeError, OverflowError) as error:
            raise BadImage(f"the module is not what the rewriter writes: {error!r}") from None
        if not self.problems:
            self.made = made
        told = self.problems[:MAX_PROBLEMS]
        if len(self.problems) > MAX_PROBLEMS:
            told.append(f"and {len(self.problems) - MAX_PROBLEMS} more")
        images = self.old_image.digest, self.new_image.digest
        self.plan = Plan(*images, begun, weak, tuple(self.places[:MAX_FRAMES]), tuple(told))

    def _say(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _export(self, side: Side, name: str) -> Export | None:
        found = side.module.exports_by_name.get(name)
        return found if found is not None and found.kind == "func" else None

    def _entry(self) -> None:
        """What is called first, and what will be called at a weak entry."""
        name = self.snapshot.entry
        was, now = self._export(self.old, name), self._export(self.new, name)
        if was is None:
            raise BadSnapshot(f"the agent exports no function {name!r}")
        if now is None:
            self._say(f"the new module exports no function {name!r}, with which the agent began: export it")
        elif not same_signature(
            self.old.module,
            self.old.module.func_type(was.index),
            self.new.module,
            self.new.module.func_type(now.index),
        ):
            self._say(f"the export {name!r} has another type in the new module")
        weak = self.snapshot.weak
        if weak is not None and self._export(self.new, weak) is None:
            self._say(f"the new module exports no function {weak!r}, where the agent goes on: export it")
        elif weak is not None and not _callable(self.new, weak):
            self._say(f"the export {weak!r} of the new module takes something other than nothing or one i32")

    def _begun(self) -> Snapshot | None:
        old, new, snapshot = self.old, self.new, self.snapshot
        if old.metadata is not None and new.metadata is None:
            self._say("the new module was packed without being rewritten (--profile none): pack it as the agent was")
            return None
        for problem in check_memories(old, new, snapshot.memory_pages):
            self._say(problem)
        paired, problems = pair_globals(old, new)
        tags = self._tags()
        pairs = Pairs(old, new, paired, tags)
        pairs.by_name()
        for problem in [*problems, *pair_tables(pairs), *self._passive()]:
            self._say(problem)
        pending = self._pending(snapshot.pending)
        frames = self._frames(pairs)
        try:
            memories = self._memories(pairs)
            globals_, tables = self._globals(pairs), self._tables(pairs)
        except Different as different:
            self._say(str(different))
            return None
        if self.problems:
            return None
        return evolve(
            snapshot,
            image=self.new_image.digest,
            globals=globals_,
            memories=memories,
            tables=tables,
            frames=frames,
            pending=pending,
        )

    def _tags(self) -> dict[int, int]:
        """Tags by their order. One that has another type, or is missing, is none."""
        old, new = self.old.module, self.new.module
        return {
            index: index
            for index, (one, other) in enumerate(zip(old.all_tags, new.all_tags, strict=False))
            if same_signature(old, old.types[one.type], new, new.types[other.type])
        }

    def _passive(self) -> list[str]:
        """Passive segments that the program copies itself, once: those of the new one would not be copied again."""
        for what, was, now in (("data", self.old.module.datas, self.new.module.datas),):
            one, other = ([(k, s.bytes) for k, s in enumerate(each) if s.mode == "passive"] for each in (was, now))
            if one != other[: len(one)]:
                return [
                    f"a passive segment of {what} differs, which the program copies into its memory itself and has "
                    "perhaps copied already: leave these segments as they were, new ones last"
                ]
        return []

    def _pending(self, pending: Pending | None) -> Pending | None:
        """The call that the agent waits in, which the new module must import."""
        if pending is None or self.snapshot.weak is not None:
            return pending
        old, new = self.old, self.new
        called = (pending.module, pending.name)
        was = next((index for index in range(old.imported) if old.importing(index) == called), None)
        now = next((index for index in range(new.imported) if new.importing(index) == called), None)
        shown = ".".join(called)
        if was is None:
            raise BadSnapshot(f"the agent waits in {shown}, which it does not import")
        if now is None or new.metadata is None or now not in new.metadata.suspending:
            self._say(f"the agent waits in {shown}, which the new module does not call: keep the import")
        elif not same_signature(old.module, old.module.func_type(was), new.module, new.module.func_type(now)):
            self._say(f"the agent waits in {shown}, which has another type in the new module")
        return pending

    def _frames(self, pairs: Pairs) -> tuple[Frame, ...]:
        """The stack, from its outermost frame inwards: each caller may say which function it called."""
        old, new = self.old, self.new
        if not self.snapshot.frames:
            return ()
        assert old.metadata is not None
        assert new.metadata is not None
        times = Counter((frame.resume, frame.site) for frame in self.snapshot.frames)
        found: dict[tuple[int, int], tuple[int, int] | None] = {}
        mapped: list[Frame] = []
        for frame in reversed(self.snapshot.frames):
            key = (frame.resume, frame.site)
            if key not in found:
                found[key] = self._place(pairs, key, times[key])
            place = found[key]
            if place is not None:
                mapped.append(Frame(*place, self._values(pairs, frame)))
        if not self.problems:
            mapped.reverse()
            check_frames(new.metadata, mapped)
        return tuple(mapped)

    def _place(self, pairs: Pairs, key: tuple[int, int], times: int) -> tuple[int, int] | None:
        """Resume index and site in the new module of a place in the old one; None, and a problem, if it has none."""
        old, new = self.old, self.new
        assert old.metadata is not None
        assert new.metadata is not None
        info = old.metadata.resumes[key[0]]
        shown = old.shown(info.function)
        site = info.sites[key[1] - 1]
        try:
            other = pairs.counterpart(info.function)
            resume = new.resumes.get(other)
            sites = () if resume is None else new.metadata.resumes[resume].sites
            to = next(
                (n for n, each in enumerate(sites, 1) if (each.position, each.kind) == (site.position, site.kind)), None
            )
            if resume is None or to is None:
                raise Different(f"the new module cannot {_CANNOT[min(site.position, 0) if site.kind == 'poll' else 1]}")
            there = sites[to - 1]
            if there.layout != site.layout or there.results != site.results:
                raise Different("its frame holds other values there")
        except Different as different:
            self.places.append(FramePlan(shown, key[1], 0, times, str(different)))
            self._say(f"{shown} is on the stack and has changed: {different}; {LAUNCH}")
            return None
        self.places.append(FramePlan(shown, key[1], to, times))
        return resume, to

    def _values(self, pairs: Pairs, frame: Frame) -> bytes:
        """The values of a frame; the tag of an exception among them may have another index."""
        assert self.old.metadata is not None
        layout = self.old.metadata.resumes[frame.resume].sites[frame.site - 1].layout
        if "x" not in layout.below + layout.types:
            return frame.values
        out, at = bytearray(frame.values), 0
        for letter in layout.below + layout.types:
            tag = int.from_bytes(out[at : at + 4], "little")
            if letter == "x" and tag:
                other = pairs.tags.get(tag - 1)
                if other is None:
                    self._say(f"an exception with tag {tag - 1} is on the stack, and the new module has no such tag")
                else:
                    out[at : at + 4] = (other + 1).to_bytes(4, "little")
            at += frame_width(letter)
        return bytes(out)

    def _memories(self, pairs: Pairs) -> tuple[MemoryState, ...]:
        old, new = self.old.module, self.new.module
        made = []
        for index, live in enumerate(self.snapshot.memories):
            if index >= len(new.mem_types) or index >= len(old.mem_types):
                continue  # told already; or the memory that the portable profile adds
            was, now = InitialMemory.of(old, index), InitialMemory.of(new, index)
            if index == 0:
                for problem in moved(pairs, was, now):
                    self._say(problem)
            if self.problems:
                continue  # what is in it does not matter
            try:
                made.append(merge_memory(was, now, live, new.mem_types[index].limits.min))
            except Different as different:
                self._say(f"memory {index}: {different}")
        return tuple(made)

    def _globals(self, pairs: Pairs) -> dict[int, tuple[str, int | None]]:
        new, made = self.new, {}
        for index, (letter, bits) in self.snapshot.globals.items():
            other = pairs.globals.get(index)
            if other is not None:
                made[other] = map_global(pairs, letter, bits)
        for index in (*state_globals(new), *new.marks.values()):
            if index not in made:
                made[index] = first_values(new, index)
        return dict(sorted(made.items()))

    def _tables(self, pairs: Pairs) -> dict[int, TableState]:
        new, made = self.new.metadata, {}
        for index, live in self.snapshot.tables.items():
            if new is not None and index in new.tables:
                made[index] = map_table(pairs, index, live)
            elif live.changed or live.size > self.old.module.table_types[index].limits.min:
                raise Different(f"the agent has changed table {index}, which the new module never changes")
        for index in () if new is None else new.tables:
            if index not in made:
                made[index] = TableState(self.new.module.table_types[index].limits.min, ())
        return dict(sorted(made.items()))


def _callable(side: Side, name: str) -> bool:
    found = side.module.exports_by_name[name]
    params = side.module.func_type(found.index).params
    return not params or (len(params) == 1 and getattr(params[0], "name", "") == "I32")
