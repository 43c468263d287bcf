"""The continuation of a running instance: how it is unwound, read, restored and resumed, in both profiles.

The host's side. The counterparts `agents.rewrite.machinery` and `agents.rewrite.portable` define the layout.
Nothing is decided here: the runtime decides when to suspend and what happens then.

A *stack* has the same methods in both profiles. Between `begin` and `unwound` the instance must not be
touched.
Invariant: `frames` of a suspended instance, passed to `restore` of a fresh one, continue the same computation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from agents.wasm.bounds import WASM_PAGE_BYTES

from .engines import Instance
from .errors import BadSnapshot, LimitReached
from .rewrite.machinery import HEADER_BYTES, SLOT_BYTES, TRANSFER_BYTES, frame_width
from .rewrite.metadata import Frame, Metadata, join_frames, split_frames

MAX_STACK_BYTES = 32 << 20  # bytes of all frames: hand-made code could make millions, and each becomes an object here


class Stack(Protocol):
    """The continuation of one instance."""

    def begin(self) -> None:
        """Inside a host call: from now on every call returns at once, and saves its frame."""

    def suspended(self) -> bool:
        """After a call of an export has returned: whether it unwound instead of finishing."""

    def unwound(self) -> None:
        """After unwinding: put the instance in order."""

    def frames(self) -> tuple[Frame, ...]:
        """The frames, innermost first. Raises `BadSnapshot` if they are not frames of this image."""

    def restore(self, frames: Sequence[Frame]) -> None:
        """Put frames into a fresh instance. Raises `BadSnapshot` or `RunStopped`."""

    def resume(self, types: str, results: Sequence[int]) -> None:
        """Continue the innermost frame with the results (bits) of the call that it waits for, and so on."""

    def results(self, types: str) -> tuple[int, ...]:
        """After all frames have finished: the results of the outermost."""

    def clear(self) -> None:
        """Forget all frames."""

    def park(self) -> object:
        """Hide the waiting frames, so that an export can be called inside a host function."""

    def unpark(self, parked: object) -> None:
        """Show them again."""


class StandardStack:
    """Frames in a memory of their own; the driver is in the module."""

    def __init__(self, instance: Instance, metadata: Metadata) -> None:
        self._instance, self._metadata = instance, metadata

    def begin(self) -> None:
        """See `Stack`."""
        self._instance.set_global("portcall.state", 1)

    def suspended(self) -> bool:
        """See `Stack`."""
        return self._instance.get_global("portcall.state")[1] != 0

    def unwound(self) -> None:
        """See `Stack`."""
        return

    def _span(self) -> tuple[int, int]:
        bottom = self._instance.get_global("portcall.bottom")[1]
        return bottom, self._instance.get_global("portcall.top")[1]

    def _reached(self, begin: int, end: int) -> memoryview:
        """This part of the frames memory."""
        return _reached(self._instance, "portcall.frames", begin, end)

    def frames(self) -> tuple[Frame, ...]:
        """See `Stack`."""
        bottom, top = self._span()
        size = self._instance.memory_pages("portcall.frames") * WASM_PAGE_BYTES
        # Agent code cannot forge the machinery's exports, but a hand-made image may hold anything here.
        if not bottom <= top <= size:
            raise BadSnapshot("the continuation does not lie in the frames memory")
        _check_size(top - bottom)
        return split_frames(self._metadata, self._reached(bottom, top))

    def restore(self, frames: Sequence[Frame]) -> None:
        """See `Stack`."""
        self._write(join_frames(self._metadata, frames))

    def _write(self, joined: bytes) -> None:
        instance = self._instance
        base = instance.get_global("portcall.base")[1]
        top = base + len(joined)
        instance.memory_grow("portcall.frames", -(-top // WASM_PAGE_BYTES))
        if top > instance.memory_pages("portcall.frames") * WASM_PAGE_BYTES:
            raise BadSnapshot("the frames do not fit into the frames memory")
        self._reached(base, top)[:] = joined
        instance.set_global("portcall.bottom", base)
        instance.set_global("portcall.top", top)

    def resume(self, types: str, results: Sequence[int]) -> None:
        """See `Stack`."""
        if types:
            memory = self._reached(0, TRANSFER_BYTES + SLOT_BYTES * len(types))
            for position, (letter, value) in enumerate(zip(types, results, strict=True)):
                slot = TRANSFER_BYTES + SLOT_BYTES * position
                memory[slot : slot + frame_width(letter)] = value.to_bytes(frame_width(letter), "little")
        if self._instance.has("portcall.resume"):
            self._instance.call("portcall.resume")
        else:  # no function of this image ever leaves a frame
            self._instance.set_global("portcall.state", 0)

    def results(self, types: str) -> tuple[int, ...]:
        """See `Stack`."""
        memory = self._reached(0, TRANSFER_BYTES + SLOT_BYTES * len(types))
        found = []
        for position, letter in enumerate(types):
            slot, size = TRANSFER_BYTES + SLOT_BYTES * position, {"i": 4, "f": 4, "v": 16}.get(letter, 8)
            found.append(int.from_bytes(memory[slot : slot + size], "little"))
        return tuple(found)

    def clear(self) -> None:
        """See `Stack`."""
        self._write(b"")

    def park(self) -> object:
        """See `Stack`."""
        bottom, top = self._span()
        waiting = bytes(self._reached(bottom, top))
        self._write(b"")
        state = self._instance.get_global("portcall.state")[1]
        self._instance.set_global("portcall.state", 0)
        return bottom, top, waiting, state

    def unpark(self, parked: object) -> None:
        """See `Stack`."""
        # Exactly where they were: the driver below the host function remembers the place.
        assert isinstance(parked, tuple)
        bottom, top, waiting, state = parked
        self._reached(bottom, top)[:] = waiting
        self._instance.set_global("portcall.state", state)
        self._instance.set_global("portcall.bottom", bottom)
        self._instance.set_global("portcall.top", top)


class PortableStack:
    """Frames pass through the agent's own memory when they are saved; the driver is here."""

    def __init__(self, instance: Instance, metadata: Metadata) -> None:
        self._instance, self._metadata = instance, metadata
        self._waiting: deque[Frame] = deque()
        self._covered = b""
        self._returned: dict[int, int] = {}  # words of results without a global

    def begin(self) -> None:
        """See `Stack`."""
        # How much the frames will cover is not known yet; more than this they may not.
        self._covered = bytes(_reached(self._instance, "portcall.memory.0", 0, MAX_STACK_BYTES))
        self._instance.set_global("portcall.top", 0)
        self._instance.set_global("portcall.state", 1)

    def suspended(self) -> bool:
        """See `Stack`."""
        return self._instance.get_global("portcall.state")[1] != 0

    def unwound(self) -> None:
        """See `Stack`."""
        top = self._instance.get_global("portcall.top")[1]
        covered, self._covered = self._covered, b""
        _check_size(top)
        if top > len(covered):
            raise BadSnapshot("the continuation does not lie in the memory")
        memory = _reached(self._instance, "portcall.memory.0", 0, top)
        saved = bytes(memory[:top])
        memory[:top] = covered[:top]
        self._instance.set_global("portcall.state", 0)
        self._waiting.extendleft(reversed(split_frames(self._metadata, saved)))
        _check_size(sum(HEADER_BYTES + len(frame.values) for frame in self._waiting))

    def frames(self) -> tuple[Frame, ...]:
        """See `Stack`."""
        return tuple(self._waiting)

    def restore(self, frames: Sequence[Frame]) -> None:
        """See `Stack`."""
        self._waiting = deque(frames)

    def resume(self, types: str, results: Sequence[int]) -> None:
        """See `Stack`."""
        instance = self._instance
        for position, (letter, value) in enumerate(zip(types, results, strict=True)):
            self._set("portcall.result", 2 * position, value & 0xFFFFFFFFFFFFFFFF)
            if letter == "v":
                self._set("portcall.result", 2 * position + 1, value >> 64)
        while self._waiting:
            frame = self._waiting.popleft()
            for word in range(len(frame.values) // 8):
                value = int.from_bytes(frame.values[8 * word : 8 * word + 8], "little")
                self._set("portcall.slot", word, value)
            instance.set_global("portcall.site", frame.site)
            instance.call("portcall.step", [frame.resume])
            if self.suspended():
                return

    def _set(self, prefix: str, position: int, value: int) -> None:
        name = f"{prefix}.{position}"
        if self._instance.has(name):  # a word that no function reads has no global
            self._instance.set_global(name, value)
        elif prefix == "portcall.result":  # but may be what the agent ends with, when nothing left a frame
            self._returned[position] = value

    def results(self, types: str) -> tuple[int, ...]:
        """See `Stack`."""
        found = []
        for position, letter in enumerate(types):
            value = self._word(2 * position)
            if letter == "v":
                value |= self._word(2 * position + 1) << 64
            found.append(value & 0xFFFFFFFF if letter in "if" else value)
        return tuple(found)

    def _word(self, position: int) -> int:
        name = f"portcall.result.{position}"
        return self._instance.get_global(name)[1] if self._instance.has(name) else self._returned.get(position, 0)

    def clear(self) -> None:
        """See `Stack`."""
        self._waiting.clear()

    def park(self) -> object:
        """See `Stack`."""
        waiting, self._waiting = self._waiting, deque()
        return waiting

    def unpark(self, parked: object) -> None:
        """See `Stack`."""
        assert isinstance(parked, deque)
        self._waiting = parked


def _reached(instance: Instance, name: str, begin: int, end: int) -> memoryview:
    """This part of a memory, as far as there is so much."""
    memory, later = instance.on_demand(name)
    if later is not None:
        later.make_present(begin, min(end, len(memory)) - begin)
    return memory[begin:end]


def _check_size(size: int) -> None:
    if size > MAX_STACK_BYTES:
        raise LimitReached("stack", f"the agent's frames take {size} bytes; {MAX_STACK_BYTES} are allowed")


def stack_of(instance: Instance, metadata: Metadata) -> Stack:
    """The stack of an instance of a rewritten module."""
    if metadata.profile == "portable":
        return PortableStack(instance, metadata)
    return StandardStack(instance, metadata)
