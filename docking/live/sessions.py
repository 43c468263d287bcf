"""Sessions: agents on their way to this station while they still run at another one.

A session has an instance whose memories are written as their blocks come, the digests of these blocks, and on the disk
a file with the same. When the agent is offered (`complete`), what remains is the rest of the blocks; then the roots
that the source has signed are compared with what is here. Until the agent has been admitted it is nothing but bytes:
no code of it runs, and losing a session loses nothing.

Not here: whether an agent may come in (`admissions`, given as functions), and when it starts. Invariants: what
sessions hold is bounded in number, in memory, on the disk and in time, for each peer and in all; an instance is given
to an agent only if each byte of its memories is covered by a root that the agent's trail signs; a session that is held
is kept until the handoff is decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from attrs import define, field, frozen

from agents import canonical
from agents.ambient import StandaloneHost
from agents.blocks import BLOCK_BYTES, BLOCKS_PER_PAGE, INITIAL, BlockBatch, BlockTree, runs_of, spans
from agents.canonical import Buffer
from agents.credentials.keys import PublicKey, text_of
from agents.engines import Engine, Instance, Limits
from agents.engines.missing import MissingPages
from agents.engines.pages import populate
from agents.errors import BadSnapshot, EndOfRun, PortcallError
from agents.execution import Execution
from agents.image import AgentImage
from agents.snapshot import MAX_WASI_BYTES, MemoryRoot, Snapshot
from agents.wasi.file_blocks import ContentsHere, room_for
from agents.wasi.luggage_codec import with_contents
from agents.wasm.bounds import WASM_PAGE_BYTES
from docking.aio.threads import in_thread
from docking.aio.turns import short_turns
from docking.errors import LocalProtocolError, StoreUnusable
from docking.handoff.messages import Offer
from docking.handoff.refusal import Refusal
from docking.live.block_file import BlockFile, named
from docking.live.block_server import BlockServer
from docking.live.wire import (
    SESSION_BYTES,
    Answer,
    Blocks,
    Cancel,
    Fetch,
    ImageWanted,
    Opened,
    Owed,
    Prepare,
    Request,
    Rest,
    Settled,
    session_of,
)
from docking.store.store import Failpoint, never

_log = logging.getLogger(__name__)
_NOBODY = StandaloneHost(time.time_ns, time.monotonic_ns, os.urandom)  # of an agent of which no code runs
# Sessions that are open at once, and of one peer.
MAX_SESSIONS, MAX_OF_PEER = 8, 3
# Seconds without a message after which a session gives way to another, where there are as many as there may be.
YIELDS_S = 5.0
# Seconds without a message after which a session is given up, and after which it is in any case.
IDLE_S, LIFETIME_S = 30.0, 900.0
# Blocks that a session takes, for each block that its agent may have: a source that never finishes is sent away.
MAX_ROUNDS = 16


def blocks_folder(store: Path | None) -> Path | None:
    """The folder for the files of a station with this store, made if there is none; None for one in memory.

    Raises `StoreUnusable`.
    """
    if store is None:
        return None
    folder = store.with_name(store.name + ".blocks")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreUnusable(f"{folder} cannot be used ({error.strerror}): look at the disk") from error
    return folder


@frozen
class Preliminary:
    """What an agent would get here, if it came now. `memory`, `luggage`: bytes."""

    image: AgentImage
    memory: int
    luggage: int


class Admissions(Protocol):
    """How a station judges who is announced."""

    def announced(self, offer: Offer) -> Preliminary | Refusal | None:
        """What this agent would get here, or why it would not be admitted; None if its image is missing.

        In a thread.
        """


@define(eq=False, repr=False)
class Session:
    """One session. `name`: 16 bytes; `agent`: its id; `peer`: the source's key.

    trees, capacities: of each memory, and of the row of blocks of the agent's files: what is here, and the most blocks
    """

    name: bytes
    agent: bytes
    peer: bytes
    life: Execution
    trees: list[BlockTree]
    capacities: tuple[int, ...]
    file: BlockFile | None
    left: int
    """Blocks that it takes still."""
    ends: float = 0.0
    """When it is given up, on the machine's monotonic clock (seconds)."""
    touched: float = 0.0
    handoffs: set[bytes] = field(factory=set)
    """By which its agent is, or may become, held: from the first on, nothing is written any more."""
    owed: tuple[Owed, ...] = ()
    """The blocks that come when the agent runs here."""
    _row: mmap.mmap | None = None
    """The blocks of the agent's files."""
    _synced: bool = True
    _closed: bool = False
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def size(self) -> int:
        """Bytes of memory that its instance and its files have."""
        return sum(tree.pages for tree in self.trees) * WASM_PAGE_BYTES

    @property
    def held(self) -> bool:
        """Whether its agent is, or may become, held."""
        return bool(self.handoffs)

    def take(self, batch: BlockBatch) -> None:
        """Write blocks; return when they are on the disk too. In a thread.

        Raises `BadSnapshot`, `RunStopped`, `OSError`.
        """
        blocks = named(batch)
        with self._lock:
            if self.held:
                raise BadSnapshot("the agent was offered already")
            self._write(batch, blocks)
        self.sync()

    def _write(self, batch: BlockBatch, blocks: Sequence[tuple[int, bytes, Buffer | None]]) -> None:
        instance = self._open()
        if batch.memory >= len(self.trees):
            raise BadSnapshot("blocks of a memory that the agent does not have")
        self.left -= len(blocks)
        if self.left < 0:
            raise BadSnapshot("the session has taken as many blocks as it may")
        tree, most = self.trees[batch.memory], self.capacities[batch.memory]
        if batch.pages * BLOCKS_PER_PAGE > most:
            raise BadSnapshot("a memory, or luggage, that is larger than its agent may have here")
        if batch.memory < len(self.life.memories):
            name = self.life.memories[batch.memory]
            if batch.pages > tree.pages:
                instance.memory_grow(name, batch.pages)
            memory, later = instance.on_demand(name)
        else:
            if self._row is None:  # pages that nothing was written to take no memory
                self._row = mmap.mmap(-1, most * BLOCK_BYTES)
            memory, later = memoryview(self._row), None
        if batch.pages > tree.pages:
            tree.grow(batch.pages)
        if later is None:
            for first, last in spans([block for block, _, contents in blocks if contents is not None]):
                populate(memory[BLOCK_BYTES * first : BLOCK_BYTES * (last + 1)])
        for block, digest, contents in blocks:
            at = BLOCK_BYTES * block
            if later is not None:
                later.make_present(at, BLOCK_BYTES)
            if contents is None:
                if tree[block] != INITIAL:
                    memory[at : at + BLOCK_BYTES] = self._fresh(batch.memory, at)
            else:
                memory[at : at + BLOCK_BYTES] = contents
            tree[block] = digest
        if self.file is not None:
            self.file.write(batch.memory, blocks)
            self._synced = False

    def _fresh(self, memory: int, at: int) -> bytes:
        """What the block at this address is like at first. To look that up takes some milliseconds."""
        if memory == len(self.life.memories):  # of files
            return bytes(BLOCK_BYTES)
        return self.life.initial(self.life.memories[memory]).contents(at, BLOCK_BYTES)

    def _open(self) -> Instance:
        instance = self.life.instance
        if self._closed or instance is None:
            raise BadSnapshot("the session is over")
        return instance

    def sync(self) -> None:
        """Return when what came is on the disk. In a thread. Raises `OSError`."""
        if self.file is None or self._synced:
            return
        self._synced = True  # first: what comes meanwhile is not
        try:
            self.file.sync()
        except OSError:
            self._synced = False
            raise

    def complete(self, hid: bytes, snapshot: Snapshot, last: Rest) -> None:
        """The agent is offered in this state, by the handoff `hid`.

        Raises `BadSnapshot` unless its memories are here then, or their blocks come later with the digests that are
        signed; `EngineError` where they cannot come later; `OSError`.
        """
        with self._lock:  # all the while: two offers are one after the other, and no block comes between
            instance = self._open()
            if not self.held:
                self.sync()
                for batch in last.batches:
                    self._write(batch, named(batch))
                self._name(last.owed)
            elif last.owed != self.owed:
                raise BadSnapshot("the agent was offered in this session before, and otherwise")
            signed = [*snapshot.roots, *([] if snapshot.files is None else [snapshot.files])]
            here = [(tree.pages, tree.root()) for tree in self.trees[: len(signed)]]
            if len(snapshot.roots) != len(self.life.memories) or [(each.pages, each.root) for each in signed] != here:
                raise BadSnapshot("the blocks that came are not those of the agent's memories")
            if not self.held:
                for owed in last.owed:
                    instance.owe(self.life.memories[owed.memory], runs_of(owed.blocks))
                self.owed = last.owed
            self.handoffs.add(hid)
            self.touched = time.monotonic()

    def _name(self, later: Sequence[Owed]) -> None:
        for owed in later:
            if owed.memory >= len(self.life.memories) or owed.blocks[-1] >= self.trees[owed.memory].blocks:
                raise BadSnapshot("blocks that come later, of a memory that the agent does not have")
            self.trees[owed.memory].put(owed.blocks, owed.digests)

    def missing(self) -> dict[int, MissingPages]:
        """By memory, the pages that come when the agent runs here."""
        instance, found = self.life.instance, {}
        if instance is None:
            return {}
        for owed in self.owed:
            pages = instance.missing(self.life.memories[owed.memory])
            if pages is not None:
                found[owed.memory] = pages
        return found

    def give(self) -> Execution:
        """The instance, for the agent that has been admitted. The file stays."""
        with self._lock:
            self._closed = True
            if self.file is not None:
                self.file.close()
            if self._row is not None:
                self.life.contents = ContentsHere(memoryview(self._row)[: self.trees[-1].pages * WASM_PAGE_BYTES])
            return self.life

    def close(self) -> None:
        """Give up the instance and the file."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self.life.close()
                if self.file is not None:
                    with contextlib.suppress(OSError):
                        self.file.close(remove=True)


@define(eq=False, repr=False)
class Sessions:
    """The sessions of one station.

    `folder`: where their files are; None for a station whose store is in memory; `stored(digest)`: whether the store
    has this part; `random(n)`: fresh random bytes; `failpoint`: for tests of crashes; `open`: by their names.
    """

    _engine: Engine
    _folder: Path | None
    _random: Callable[[int], bytes]
    _stored: Callable[[bytes], bool]
    served: BlockServer
    """The blocks of agents that have left."""
    _failpoint: Failpoint = never
    admissions: Admissions = field(init=False)
    keep_image: Callable[[Offer], None] = field(init=False)
    """Stores the image that came with an offer."""
    may_fetch: Callable[[bytes], bool] = field(init=False)
    """Whether an agent from this peer may run here before all of its blocks have come."""
    undecided: Callable[[bytes], bool] = field(init=False)
    """Whether the agent of this handoff is held: the ledger knows."""
    open: dict[bytes, Session] = field(factory=dict)
    _making: dict[bytes, bytes] = field(factory=dict)
    """Sessions that are being opened, and for which peer."""
    _files: dict[bytes, bytes] = field(factory=dict)
    """By session, the digest of its agent's part `blocks`: as long as the store has this, the file is needed."""
    _timer: asyncio.Handle | None = None
    _doubtful: set[str] = field(factory=set)
    """Files that an agent may need whose part `blocks` was damaged."""
    _closed: bool = False

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that sessions hold. From any thread."""
        return sum(session.size for session in tuple(self.open.values()))

    def rows(self) -> list[dict[str, object]]:
        """The open sessions: agent, source's key, bytes of memory, and milliseconds since it began and since the last
        message.
        """
        now = time.monotonic()
        return [
            {
                "agent": text_of(each.agent),
                "from": PublicKey(each.peer).text,
                "bytes": each.size,
                "age_ms": round(1000 * (now - each.ends + LIFETIME_S)),
                "silent_ms": round(1000 * (now - each.touched)),
                "held": each.held,
            }
            for each in self.open.values()
        ]

    # Requests of peers

    async def handle(self, sender: bytes, request: Request) -> Answer:
        """Handle a request from the station with this key."""
        name = type(request).__name__.upper()
        self._failpoint(f"{name}.received")
        answer = await self._answer(sender, request)
        self._failpoint(f"{name}.answered")
        return answer

    async def _answer(self, sender: bytes, request: Request) -> Answer:
        match request:
            case Prepare():
                return await self._prepare(sender, request)
            case Blocks(name, batch):
                return await self._blocks(sender, name, batch)
            case Cancel(name):
                session = self.open.get(name)
                if session is not None and session.peer == sender and not session.held:
                    self._drop(session)
                return None
            case Fetch() | Settled():
                return await self.served.handle(sender, request)

    async def _prepare(self, sender: bytes, request: Prepare) -> Answer:
        offer = request.offer
        if offer.source != sender:
            return Refusal("stranger", "the offer is another station's")
        for session in [s for s in self.open.values() if s.agent == offer.agent and s.peer == sender and not s.held]:
            self._drop(session)
        self._make_room(sender)
        peers = [session.peer for session in self.open.values()] + list(self._making.values())
        if len(peers) >= MAX_SESSIONS or peers.count(sender) >= MAX_OF_PEER:
            return Refusal("busy", "this station prepares for as many agents as it can", 5)
        name = self._random(SESSION_BYTES)
        self._making[name] = sender
        try:
            made = await in_thread(self._make, name, request)
            if not isinstance(made, Session):
                return made
            if self._closed:
                made.close()
                return Refusal("busy", "this station is being stopped", 5)
            self.keep_image(offer)
            self.open[name] = made
        finally:
            del self._making[name]
        made.touched = time.monotonic()
        made.ends = made.touched + LIFETIME_S
        if self._timer is None:
            self._watch()
        return Opened(name, self._later(made))

    def _later(self, session: Session) -> bool:
        """Whether blocks of this session's agent may come when it runs here."""
        instance = session.life.instance
        return instance is not None and instance.may_owe() and self.may_fetch(session.peer)

    def _make_room(self, sender: bytes) -> None:
        """Where all places are taken, give up the session from which nothing came for longest: of an agent that is sent
        ahead, and loses bytes only.
        """
        rows = [session for session in self.open.values() if session.peer == sender]
        if len(rows) < MAX_OF_PEER:
            rows = list(self.open.values())
            if len(rows) + len(self._making) < MAX_SESSIONS:
                return
        silent = min((each for each in rows if not each.held), key=lambda each: each.touched, default=None)
        if silent is not None and time.monotonic() - silent.touched > YIELDS_S:
            self._drop(silent)

    def _make(self, name: bytes, request: Prepare) -> Session | Answer:
        """In a thread."""
        self.sweep()
        offer = request.offer
        found = self.admissions.announced(offer)
        if found is None:
            return ImageWanted()
        if isinstance(found, Refusal):
            return found
        life = None
        try:
            limits = Limits(memory=found.memory)
            life = Execution(found.image, engine=self._engine, ambient=_NOBODY, limits=limits, awaiting=True)
            instance = life.prepare()
            if len(life.memories) != len(request.pages):
                raise BadSnapshot("other memories than its image has")
            trees = []
            for export, pages in zip(life.memories, request.pages, strict=True):
                instance.memory_grow(export, pages)
                trees.append(BlockTree(instance.memory_pages(export)))
                instance.expect(export, 0, pages * WASM_PAGE_BYTES)
            most, files = found.memory // BLOCK_BYTES, room_for(found.luggage)
            if sum(tree.blocks for tree in trees) > most:
                raise BadSnapshot("more memory than the agent may have here")
            trees.append(BlockTree(0))
            capacities = (*(most for _ in life.memories), files)
            file = None if self._folder is None else BlockFile.make(self._folder / name.hex(), capacities)
        except (PortcallError, EndOfRun) as error:
            _close(life)
            return Refusal("bad-state", f"the agent cannot go on here: {error}"[:500])
        except OSError as error:
            _close(life)
            return Refusal("storage", f"the agent could not be stored here: {error.strerror}", 60)
        return Session(name, offer.agent, offer.source, life, trees, capacities, file, MAX_ROUNDS * (most + files))

    async def _blocks(self, sender: bytes, name: bytes, batch: BlockBatch) -> Answer:
        session = self.open.get(name)
        if session is None or session.peer != sender or session.held:
            return Refusal("no-session", "there is no such session here")
        session.touched = time.monotonic()
        try:
            with short_turns():
                await in_thread(session.take, batch)
        except OSError as error:
            self._drop(session)
            return Refusal("storage", f"the blocks could not be stored here: {error.strerror}", 60)
        except (PortcallError, EndOfRun) as error:
            self._drop(session)
            return Refusal("bad-state", f"the agent cannot go on here: {error}"[:500])
        return None

    # The handoff

    def complete(self, offer: Offer, snapshot: Snapshot, rest: Buffer | None, digest: bytes) -> Session | Refusal:
        """The session of an agent that is offered, with all of its memories. In a thread, or in the loop.

        rest, digest: the offer's part `blocks`, and its digest
        """
        if rest is None:
            return Refusal("no-session", "the blocks of the agent's memories are missing")
        try:
            last = Rest.decode(rest)
            session = self.open.get(last.session)
            if session is None or session.peer != offer.source or session.agent != offer.agent:
                return Refusal("no-session", "there is no such session here")
            if last.owed and not self.may_fetch(session.peer):
                return Refusal("busy", "blocks of as many agents as may be are on their way here", 5)
            session.complete(offer.hid, snapshot, last)
        except OSError as error:
            return Refusal("storage", f"the blocks could not be stored here: {error.strerror}", 60)
        except (PortcallError, EndOfRun) as error:
            return Refusal("bad-blocks", f"the agent cannot go on here: {error}"[:500])
        self.needs(session.name, digest)
        return session

    def needs(self, name: bytes, digest: bytes) -> None:
        """An agent that is in the store, with the part `blocks` of this digest, needs the file of this session."""
        self._files[name] = digest

    def taken(self, session: Session) -> Execution:
        """The agent belongs to this station: its instance."""
        self.open.pop(session.name, None)
        return session.give()

    def dropped(self, hid: bytes) -> None:
        """The handoff has failed: the agent stays at its source."""
        for session in [each for each in self.open.values() if hid in each.handoffs]:
            if session.handoffs == {hid}:  # else it may be held by another
                self._drop(session)
            else:
                session.handoffs.discard(hid)

    def whole(self, snapshot: Snapshot, rest: Buffer) -> Snapshot:
        """A state that was stored with its blocks beside, as a whole. From any thread.

        Raises `BadSnapshot`, `LocalProtocolError`.
        """
        last = Rest.decode(rest)
        if self._folder is None:
            raise LocalProtocolError("a station whose store is in memory keeps no blocks")
        try:
            file = BlockFile.open(self._folder / last.session.hex())
            try:
                files = snapshot.files or MemoryRoot(0, INITIAL)
                *memories, row = file.states((*snapshot.roots, files), last.batches)
            finally:
                file.close()
        except OSError as error:
            raise BadSnapshot(f"the blocks of the agent's memories cannot be read: {error.strerror}") from error
        wasi = snapshot.wasi
        if snapshot.files is not None:
            view = memoryview(bytearray(row.pages * WASM_PAGE_BYTES))
            row.restore(view)
            wasi = with_contents(wasi, ContentsHere(view), MAX_WASI_BYTES)
        return snapshot.with_memories(tuple(memories), wasi)

    # Care

    def restore(self, digests: Iterable[bytes], part: Callable[[bytes], bytes | None]) -> None:
        """The station starts: keep the files that the agents in its store need, and remove the others.

        digests: of the parts `blocks` in the store; part: gives the body of each

        If one was damaged, it is not known which file it needs: none of those that are there is removed before a start
        at which all are whole.
        """
        try:
            for digest in digests:
                rest = part(digest)
                if rest is None or canonical.digest(rest) != digest:
                    raise BadSnapshot("they are not in the store as they were written")
                self.needs(session_of(rest), digest)
        except PortcallError as error:
            _log.error("the blocks of an agent that came while it ran cannot be read: %s", error)
            self._doubtful = self._names()
        self.sweep()

    def sweep(self) -> None:
        """Remove the files that no agent needs any more. From any thread."""
        for name, digest in tuple(self._files.items()):
            if name not in self.open and not self._stored(digest):
                del self._files[name]
        used = {name.hex() for name in (*self.open, *self._making, *self._files)}
        for unused in self._names() - used - self._doubtful:
            assert self._folder is not None
            try:
                (self._folder / unused).unlink(missing_ok=True)
            except OSError as error:
                _log.warning("a file of blocks that is not needed could not be removed: %s", error)

    def _names(self) -> set[str]:
        """Of the files that are there."""
        try:
            return set() if self._folder is None else {path.name for path in self._folder.iterdir()}
        except OSError as error:
            _log.warning("the folder for files of blocks cannot be read: %s", error)
            return set()

    def close(self) -> None:
        """The station stops. The files of agents that are held stay."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for session in tuple(self.open.values()):
            self.open.pop(session.name, None)
            if session.held:
                session.give().close()
            else:
                session.close()

    def _drop(self, session: Session) -> None:
        self.open.pop(session.name, None)
        session.close()

    def _watch(self) -> None:
        now, self._timer = time.monotonic(), None
        for session in tuple(self.open.values()):
            silent = now - session.touched > IDLE_S
            # A held one is kept as long as its agent is: that may not have been written, or may have been refused.
            if (silent and not self._holds(session)) or (now > session.ends and not session.held):
                _log.info("a session of a live move is given up: nothing came for a while, or it took too long")
                self._drop(session)
        if self.open and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(IDLE_S / 4, self._watch)

    def _holds(self, session: Session) -> bool:
        return any(map(self.undecided, tuple(session.handoffs)))


def _close(life: Execution | None) -> None:
    if life is not None:
        life.close()
