"""The agent of journeys with sessions in the simulator, and its files of blocks on a simulated disk.

See `tests.crash.live_world`.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

import agents
from agents import canonical
from agents.ambient import StandaloneHost
from agents.blocks import BLOCK_BYTES, INITIAL, BlockTree
from agents.canonical import Buffer
from agents.execution import Execution
from agents.image import AgentImage
from agents.snapshot import MemoryRoot
from agents.waits import Wait
from docking.live.block_file import BlockFile
from docking.residents.berth import Standing
from tests.crash.world import AGENT, EXPIRES

if TYPE_CHECKING:
    from tests.crash.live_world import LiveStation

MEMORY = 10 << 16  # bytes that the agent may have
HISTORY = 2048  # where the names of the stations at which it woke lie in its memory
PROGRAM = """(module
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (memory (export "memory") 9)
  (global $all (mut i64) (i64.const 0))
  (func (export "_start") (local $x i64) (local $n i32) (local $at i32)
    (local.set $x (i64.const 88172645463325252))
    (loop $on
      (local.set $n (i32.load (i32.const 1024)))
      (loop $write
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
        (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
        (local.set $at (i32.add (i32.const 65536) (i32.and (i32.wrap_i64 (local.get $x)) (i32.const 0x7fff8))))
        (i64.store (local.get $at) (local.get $x))
        (global.set $all (i64.add (global.get $all) (local.get $x)))
        (br_if $write (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0))))
      (drop (call $sleep (i32.const 1)))
      (br $on))))"""
ZEROS = bytes(BLOCK_BYTES)
ENGINE = agents.load()
NOBODY = StandaloneHost(lambda: 0, lambda: 0, bytes)


class Tracked(BlockFile):
    """A file of blocks, whose writes are places where a crash is interesting."""

    @classmethod
    def make(cls, path: Path, capacities: Sequence[int]) -> Tracked:
        made = super().make(path, capacities)
        Disk.of(path).synced(path)
        return made  # type: ignore[return-value]

    def write(self, memory: int, blocks: Sequence[tuple[int, bytes, Buffer | None]]) -> None:
        Disk.of(self.path).point("before writing blocks")
        super().write(memory, blocks)

    def sync(self) -> None:
        Disk.of(self.path).point("before syncing blocks")
        super().sync()
        Disk.of(self.path).synced(self.path)


@define
class Disk:
    """What is certainly on a disk, of the files of blocks in one folder."""

    point: Callable[[str], None]
    files: dict[str, bytes] = field(factory=dict)

    @staticmethod
    def of(path: Path) -> Disk:
        return DISKS[path.parent]

    def synced(self, path: Path) -> None:
        self.files[path.name] = path.read_bytes()


DISKS: dict[Path, Disk] = {}
PAPERS = types.SimpleNamespace(terms=types.SimpleNamespace(expires=EXPIRES))
_image: list[AgentImage] = []


def image() -> AgentImage:
    """The agent's."""
    if not _image:
        _image.append(agents.pack(PROGRAM))
    return _image[0]


@define(eq=False)
class Guest:
    """The agent where it has an instance: what moves ask of a berth."""

    station: LiveStation
    life: Execution
    failures: int = 0
    agent: bytes = AGENT
    begun: bool = True
    moving: bool = False
    running: bool = False
    halting: asyncio.Future[Any] | None = None
    standing: Standing = Standing.READY
    wait: Wait | None = None
    until: int = 0
    order: None = None
    owed: None = None
    prepared: None = None
    barred: str = ""
    to: str = ""
    inbox: tuple[()] = ()
    state: None = None
    occupied: int = 0
    credentials: Any = PAPERS
    going: str | None = None
    """The station to which it goes by itself, at the end of a turn."""
    turns: int = 0

    @property
    def image(self) -> AgentImage:
        return image()

    @property
    def history(self) -> tuple[str, ...]:
        memory = self.memory()
        size = int.from_bytes(memory[HISTORY : HISTORY + 4], "little")
        return tuple(bytes(memory[HISTORY + 4 : HISTORY + 4 + size]).decode().split()) if size else ()

    @history.setter
    def history(self, names: Sequence[str]) -> None:
        data = " ".join(names).encode()
        self.memory()[HISTORY : HISTORY + 4 + len(data)] = len(data).to_bytes(4, "little") + data

    @property
    def hop(self) -> int:
        return len(self.history)

    def memory(self) -> memoryview:
        assert self.life.instance is not None
        return self.life.instance.memory("memory")

    def detach(self) -> Execution:
        """Its instance, which has blocks that come later: it is closed when they are not needed any more."""
        return self.life

    def become_whole(self) -> None:
        """It is: no blocks come later."""

    def interrupt(self) -> None:
        """Its turns are short."""


def rooted(life: Execution, wait: Wait) -> bytes:
    """All of its state, in the form in which one state has one encoding; with what is left of its sleep as told."""
    instance = life.instance
    assert instance is not None
    memory, initial = instance.memory("memory"), life.initial("memory")
    tree = BlockTree(len(memory) >> 16)
    for block in range(tree.blocks):
        contents = memory[BLOCK_BYTES * block : BLOCK_BYTES * (block + 1)]
        # The program has no data beyond its first page.
        fresh = contents == ZEROS if block >= 4 else initial.has(BLOCK_BYTES * block, contents)
        tree[block] = INITIAL if fresh else canonical.digest(contents)
    snapshot = life.snapshot((MemoryRoot(tree.pages, tree.root()),))
    assert snapshot.pending is not None
    return evolve(snapshot, pending=evolve(snapshot.pending, wait=wait)).encode()
