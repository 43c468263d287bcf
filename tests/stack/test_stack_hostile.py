"""Frozen memory is input from elsewhere: whatever it holds, a stack comes back, of bounded size, and soon."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.errors import Unreadable
from agents.image import AgentImage
from agents.rewrite.metadata import frame_values
from agents.snapshot import PAGE_BYTES, MemoryState, Snapshot
from agents.stack import Stack, stack_of
from agents.stack.memory import MAX_READS, FrozenMemory
from agents.stack.micropython_locals import MAX_SOURCE_BYTES, scopes_of
from agents.stack.values import MAX_CHARS, MAX_VARIABLES
from tests.thorough import examples

from .frozen import halted, own, packed, values

SCRIPT = """import portcall
class Thing:
    pass
def inner(a, *rest):
    text, big, table = "text", 2**80, {"a": [1, (2, {3})], 4: 1.5}
    thing = Thing(); thing.it = a; thing.self = thing
    def closed():
        for turn in rest:
            portcall.go("beta")
        return text
    return closed()
def outer(n):
    return [inner(n, 1, 2) for _ in range(3)]
outer("x" * 500)
"""
WORD = (1 << 32) - 1
DEEP = MAX_SOURCE_BYTES // 2 - 1


@cache
def victim() -> tuple[AgentImage, Snapshot, bytes]:
    """An agent, its snapshot, and its memory, as far as it is in use."""
    with TemporaryDirectory() as folder:
        image = packed(SCRIPT, Path(folder))
    snapshot = halted(image)
    memory = bytearray(snapshot.memories[0].pages << 16)
    snapshot.memories[0].restore(memoryview(memory))
    return image, snapshot, bytes(memory)


def places() -> list[int]:
    """The addresses of the words in pages that the agent has changed."""
    _, snapshot, _ = victim()
    runs = snapshot.memories[0].runs
    return [at for first, count in runs for at in range(first * PAGE_BYTES, (first + count) * PAGE_BYTES, 4)]


def changed(words: dict[int, int]) -> Snapshot:
    """The agent with other words in its memory."""
    _, snapshot, whole = victim()
    memory = bytearray(whole)
    for address, word in words.items():
        memory[address : address + 4] = word.to_bytes(4, "little")
    state = MemoryState.capture(memoryview(memory), snapshot.memories[0].runs)
    return attrs.evolve(snapshot, memories=(state,))


def read(snapshot: Snapshot) -> Stack:
    stack = stack_of(victim()[0], snapshot)
    assert stack.frames
    assert bool(stack.note) == (stack.language == "webassembly")
    if stack.language == "python":
        for frame in stack.frames:
            assert len(frame.variables) <= MAX_VARIABLES
            for text in (frame.function, frame.file, *(v.name for v in frame.variables)):
                assert len(text) <= MAX_CHARS
                assert text.isprintable()
            for variable in frame.variables:
                assert len(variable.value) <= MAX_CHARS
                assert variable.value.isprintable()
    return stack


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_any_words_anywhere(data: st.DataObject) -> None:
    everywhere = st.sampled_from(places())
    words = st.one_of(st.sampled_from([0, 1, 2, 4, 6, WORD, 1 << 31]), everywhere, st.integers(0, WORD))
    read(changed(data.draw(st.dictionaries(everywhere, words, min_size=1, max_size=400))))


@settings(max_examples=examples(20), deadline=None)
@given(st.integers(0, WORD), st.integers(0, 3))
def test_whole_pages_of_one_word(word: int, part: int) -> None:
    read(changed(dict.fromkeys(places()[part::4], word)))


@settings(max_examples=examples(20), deadline=None)
@given(st.integers(0, WORD))
def test_whole_pages_of_noise(seed: int) -> None:
    noise = random.Random(seed)
    read(changed({place: noise.getrandbits(32) for place in places()}))


def test_a_list_of_itself_and_lengths_that_are_lies() -> None:
    """Each word that looks like a length becomes huge, one after the other."""
    _, _, whole = victim()
    lengths = [at for at in places() if 1 <= int.from_bytes(whole[at : at + 4], "little") <= 64]
    for size in (WORD, 1 << 30, 1 << 16):
        for start in range(0, len(lengths), 200):
            read(changed(dict.fromkeys(lengths[start : start + 200], size)))


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.integers(0, WORD), min_size=1, max_size=8))
def test_states_that_are_anywhere(addresses: list[int]) -> None:
    image, snapshot, _ = victim()
    assert image.metadata is not None
    frames = []
    for number, frame in enumerate(snapshot.frames):
        site = image.metadata.site(frame.resume, frame.site)
        offset = 0
        for info, _ in frame_values(site, frame):
            if info.local == 0:
                word = addresses[number % len(addresses)].to_bytes(4, "little")
                frame = attrs.evolve(frame, values=frame.values[:offset] + word + frame.values[offset + 4 :])
            offset += 16 if info.type == "v" else 64 if info.type == "x" else 8
        frames.append(frame)
    read(attrs.evolve(snapshot, frames=tuple(frames)))


def test_a_memory_without_its_contents_is_said_to_be_so() -> None:
    _, snapshot, _ = victim()
    state = snapshot.memories[0]
    broken = attrs.evolve(state, blocks=tuple(bytes(len(block)) for block in state.blocks))
    assert "cannot be decompressed" in read(attrs.evolve(snapshot, memories=(broken,))).note


def test_a_snapshot_without_a_memory() -> None:
    _, snapshot, _ = victim()
    assert read(attrs.evolve(snapshot, memories=())).note == "its Python functions cannot be shown: no memory"


def test_reads_come_to_an_end() -> None:
    _, snapshot, _ = victim()
    memory = FrozenMemory.of((), snapshot)
    for _ in range(MAX_READS):
        memory.u8(0)
    with pytest.raises(Unreadable, match="more than is read"):
        memory.u8(0)


@pytest.mark.parametrize(("address", "size"), [(-1, 1), (1 << 40, 1), (0, 1 << 30), ((1 << 16) * 10_000, 4)])
def test_reads_outside_are_refused(address: int, size: int) -> None:
    _, snapshot, _ = victim()
    with pytest.raises(Unreadable):
        FrozenMemory.of((), snapshot).read(address, size)


@pytest.mark.parametrize(
    "source",
    [
        *(b"a" + b".b" * DEEP, b"-" * DEEP + b"1", b"1" + b"+1" * DEEP, b"f" + b"()" * DEEP),
        *(b"if a: pass\n" + b"elif b: pass\n" * 9_000, b"lambda: " * 20_000 + b"0", b"\0", b"\xff", b"def f(:"),
        b"x = 1\n" * MAX_SOURCE_BYTES,
    ],
)
def test_a_script_that_cannot_be_read_names_nothing(source: bytes) -> None:
    assert scopes_of(source) == []


def test_the_agent_is_readable_before_it_is_changed() -> None:
    frames = own(read(victim()[1]))
    assert [frame.function for frame in frames] == ["<module>", "outer", "<listcomp>", "inner", "closed"]
    assert values(frames[3])["big"] == str(2**80)
