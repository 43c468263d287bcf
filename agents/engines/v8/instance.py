"""A running instance: its code runs in a thread of node, its host calls come back here.

Invariant: after an `EngineError` of the link nothing of it can be reached any more.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import attrs

from agents.brief import brief
from agents.engines.interface import Interface, check_limits, first_places
from agents.engines.pages import HOST_PAGE_BYTES, Initial, Runs
from agents.engines.protocols import (
    ComesLater,
    Exported,
    Extension,
    HostCall,
    ImportedFunction,
    Limits,
    Rebound,
)
from agents.engines.raw import RawMemory
from agents.engines.writes import WriteWatch
from agents.errors import EngineError, EngineLost, LimitReached, WasmTrap
from agents.wasm.bounds import WASM_PAGE_BYTES

from . import link as wire
from .bits import call_of, turned
from .link import PATIENCE_S, Link, command, text, u32, u64
from .mirror import Mirror

if TYPE_CHECKING:  # it needs cffi, which is not everywhere
    from agents.engines.missing import MissingPages

_NUMBERS = "iIfFv"
_MASKS = {"i": 0xFFFFFFFF, "f": 0xFFFFFFFF, "I": (1 << 64) - 1, "F": (1 << 64) - 1, "v": (1 << 128) - 1}
_PAGES_MAX = 65536
# How V8 says why code trapped, from node 22 to 26.
_TRAPS = (
    ("unreachable", "unreachable", "the agent's code reached `unreachable`"),
    ("memory access out of bounds", "memory-bounds", "a memory access out of bounds"),
    ("data segment", "memory-bounds", "a memory access out of bounds"),
    ("table index is out of bounds", "table-bounds", "a table access out of bounds"),
    ("table access out of bounds", "table-bounds", "a table access out of bounds"),
    ("table initializer", "table-bounds", "a table access out of bounds"),
    ("element segment", "table-bounds", "a table access out of bounds"),
    ("null function or function signature", "signature", "an indirect call of null, or of a function of another type"),
    ("function signature mismatch", "signature", "an indirect call with another type than the function's"),
    ("null function", "null", "an indirect call of a null element"),
    ("dereferencing a null pointer", "null", "a call of a null reference"),
    ("divide result unrepresentable", "integer-overflow", "an integer overflow"),
    ("divide by zero", "division", "an integer division by zero"),
    ("remainder by zero", "division", "an integer division by zero"),
    ("float unrepresentable in integer range", "conversion", "a float that has no integer"),
    ("operation does not support unaligned accesses", "misaligned", "a misaligned atomic access"),
    ("uncaught exception", "exception", "an exception that nothing caught"),
)


@attrs.frozen(eq=False, repr=False)
class V8Extension:
    """What instances of one program are extended by.

    number: of its code at links
    code: as it is compiled
    """

    number: int
    code: bytes = attrs.field(repr=brief)
    digest: bytes = attrs.field(repr=brief)
    exports: Mapping[str, Exported] = attrs.field(repr=brief)


class V8Program(Protocol):
    """What an instance needs of its program."""

    number: int
    code: bytes
    interface: Interface
    imports: Sequence[ImportedFunction]
    exports: Mapping[str, Exported]
    interruptions: int
    running: set[V8Instance]

    def link(self) -> Link:
        """A place for an instance."""


class V8Instance:
    """One instance, at one link."""

    def __init__(self, program: V8Program, host: HostCall, tick: Callable[[], None], limits: Limits) -> None:
        self.program, self._host, self._agent_tick = program, host, tick
        self._link: Link | None = None
        self._lost = ""  # why what ran here is lost
        self._pending: list[bytes] = []  # commands that go with the next request
        self._mirrors: dict[int, Mirror] = {}  # by the index of the memory
        check_limits(program.interface, limits)
        shown = "portcall.frames" in program.exports
        self._ceiling = limits.memory // max(1, len(program.interface.memories) - shown) // WASM_PAGE_BYTES
        self._elements = limits.table_elements
        for memory in program.interface.memories:
            if memory.limits.min > self._ceiling:
                raise LimitReached("memory", f"{memory.limits.min} pages of memory; {self._ceiling} are allowed")
        for table in program.interface.tables:
            if table.limits.min > self._elements:
                raise LimitReached("table", f"{table.limits.min} elements in a table")
        self._raised: BaseException | None = None
        self._depth = 0  # of agent code that runs
        self._seen = program.interruptions
        self._added: dict[str, Exported] = {}  # the exports of the extension
        # Of each memory, by its index: the export that reaches it, and its size in pages.
        self._memories = {each.index: name for name, each in program.exports.items() if each.kind == "memory"}
        self._pages = dict.fromkeys(self._memories, 0)
        self._flag: tuple[str, bool] | None = None  # the memory whose first word is the poll flag; what it is to be
        self._told: tuple[str, bool] | None = None
        self._known: dict[str, int] | None = None  # the globals, as long as no agent code runs
        self._globals: dict[str, int] = {
            name: index for index, name in enumerate(n for n, e in program.exports.items() if _is_number(e))
        }
        self._link = program.link()
        try:
            commands = self._link.program(program.number, program.code)
            self._run(*commands, self._beginning())
        except BaseException:
            self.close()
            raise

    def _beginning(self) -> bytes:
        program = self.program
        out = [u32(program.number), u32(min(self._ceiling, _PAGES_MAX)), u32(min(self._elements, 0xFFFFFFFF))]
        out.append(u32(len(program.imports)))
        for entry in program.imports:
            out += [text(turned(entry.params)), text(turned(entry.results))]
        out.append(u32(len(self._globals)))
        for name in self._globals:
            out += [text(program.exports[name].results), text(name)]
        out += [u32(len(self._memories)), *map(text, self._memories.values())]
        return command(wire.INSTANTIATE, *out)

    # --- the exchange ---

    def _ask(self, *commands: bytes, flush: bool = False) -> memoryview:
        """The reply to the last command, while no agent code runs. flush: what was written here is there first."""
        return self._exchange([*self._before(flush), *commands], PATIENCE_S, "memory")

    def _run(self, *commands: bytes, limit: str = "memory") -> memoryview:
        """The reply to the last command, for which agent code may run."""
        self._depth += 1
        self._known = None
        self.program.running.add(self)
        try:
            if self._seen != self.program.interruptions and self._link is not None:
                self._link.poke(wire.INTERRUPTED)
            return self._sized(self._exchange([*self._before(True, running=True), *commands], None, limit))
        finally:
            self._depth -= 1
            if not self._depth:
                self.program.running.discard(self)

    def _exchange(self, commands: list[bytes], patience: float | None, limit: str) -> memoryview:
        link = self._link
        if link is None:
            raise self._closed()
        try:
            reply = link.request(commands, self._asked, patience)
        except BaseException as error:
            self._lost = str(error) if isinstance(error, EngineLost) else ""
            self._raised = self._link = None
            self._mirrors.clear()
            raise
        if reply[0] != wire.OK:
            self._judge(reply[0], bytes(reply[1:]).decode("utf-8", "replace"), limit)
        return reply[1:]

    def _sized(self, message: memoryview) -> memoryview:
        """What follows the sizes of the memories."""
        for position, index in enumerate(self._pages):
            self._pages[index] = int.from_bytes(message[4 * position : 4 * position + 4], "little")
        return message[4 * len(self._pages) :]

    def _before(self, flush: bool, running: bool = False) -> list[bytes]:
        """What has to be done first: what waits, and what was written here."""
        out, self._pending = self._pending, []
        for index, mirror in self._mirrors.items() if flush else ():
            name = text(self._memories[index])
            out += [command(wire.WRITE, name, u64(at), bytes(part)) for at, part in mirror.give_back()]
        if running and self._flag is not None and self._flag != self._told:
            self._told = self._flag
            out.append(command(wire.WRITE, text(self._flag[0]), u64(0), u32(self._flag[1])))
        return out

    def _asked(self, message: memoryview) -> Sequence[bytes]:
        """Answer what the agent's code asks."""
        self._known = None
        try:
            number, rest = int.from_bytes(message[1:5], "little"), self._sized(message[5:])
            answer = self._tick(number) if message[0] == wire.TICK else self._host_call(number, rest)
        except BaseException as error:
            self._raised, answer = error, command(wire.RAISE)
        self._known = None
        return [*self._before(True, running=True), answer]

    def _tick(self, reasons: int) -> bytes:
        if reasons & wire.INTERRUPTED:
            self._seen = self.program.interruptions
            self._agent_tick()
        return command(wire.RETURN)

    def _host_call(self, index: int, data: memoryview) -> bytes:
        entry = self.program.imports[index]
        answer = self._host(index, wire.bits(entry.params, data))
        if not entry.results:
            return command(wire.RETURN)
        if len(entry.results) == 1:
            assert isinstance(answer, int)
            answer = (answer,)
        assert isinstance(answer, tuple)
        return command(wire.RETURN, wire.values(entry.results, answer))

    def _judge(self, status: int, said: str, limit: str) -> None:
        raised, self._raised = self._raised, None
        if raised is not None and status == wire.RAISED:
            try:
                raise raised
            finally:
                del raised  # else it and this frame keep each other, and the instance with them
        if status == wire.STACK:
            raise LimitReached("stack", "the agent's calls are nested too deeply for its stack")
        if status == wire.LIMIT:
            raise LimitReached(limit, said)
        if status == wire.TRAP:
            found = next(((word, reason) for part, word, reason in _TRAPS if part in said), ("other", said))
            raise WasmTrap(*found)
        raise EngineError(f"v8: {said}")

    def interrupt(self) -> None:
        """Have `tick` called soon. From any thread."""
        link = self._link
        if link is not None:
            link.poke(wire.INTERRUPTED)

    # --- calls ---

    def call(self, name: str, args: Sequence[int] = ()) -> tuple[int, ...]:
        """Call an export with bits."""
        exported = self._added.get(name) or self._of_kind(name, "func")
        if len(args) != len(exported.params):
            raise EngineError(f"{name!r} takes {len(exported.params)} arguments, not {len(args)}")
        if not set(exported.params + exported.results) <= set(_NUMBERS):
            raise EngineError(f"{name!r} takes or returns a reference, which cannot cross")
        params, results = turned(exported.params), turned(exported.results)
        as_they_are = (params, results) == (exported.params, exported.results)
        export = name if as_they_are else call_of(name)
        given = wire.values(exported.params, args)
        reply = self._run(command(wire.CALL, text(export), text(params), text(results), given), limit="stack")
        return wire.bits(exported.results, reply)

    def has(self, name: str) -> bool:
        """Whether there is an export with this name."""
        return name in self.program.exports or name in self._added

    def extend(self, extension: Extension) -> None:
        """Add the functions of an extension."""
        if self._link is None or self._added:
            raise EngineError("the instance is closed, or extended already")
        assert isinstance(extension, V8Extension)
        commands = self._link.program(extension.number, extension.code)
        self._run(*commands, command(wire.EXTEND, u32(extension.number)))
        self._added = dict(extension.exports)

    def rebind(self, module: str) -> Rebound | None:
        """Not possible: what answers would have to share a memory with Python."""
        return None

    def _of_kind(self, name: str, kind: str) -> Exported:
        exported = self.program.exports.get(name)
        if exported is None or exported.kind != kind:
            raise EngineError(f"the module exports no {kind} {name!r}")
        if self._link is None:
            raise self._closed()
        return exported

    def _closed(self) -> EngineError:
        return EngineLost(self._lost) if self._lost else EngineError("the instance is closed")

    # --- globals ---

    def get_global(self, name: str) -> tuple[str, int]:
        """Type letter and bits."""
        letter = self._of_kind(name, "global").results
        if letter not in _NUMBERS:
            return letter, int.from_bytes(self._ask(command(wire.GET_REFERENCE, text(name))), "little")
        if self._known is None:
            reply = self._ask(command(wire.GET_GLOBALS))
            self._known = {
                each: int.from_bytes(reply[16 * index : 16 * index + 16], "little")
                for each, index in self._globals.items()
            }
        return letter, self._known[name] & _MASKS[letter]

    def set_global(self, name: str, bits: int) -> None:
        """Set a mutable global of a number type."""
        exported = self._of_kind(name, "global")
        letter = exported.results
        if letter not in _NUMBERS or not exported.mutable:
            raise EngineError(f"the global {name!r} cannot be set to a number")
        bits &= _MASKS[letter]
        words = bits.to_bytes(16, "little")
        self._pending.append(command(wire.SET_GLOBAL, u32(self._globals[name]), words))
        if self._known is not None:
            self._known[name] = bits

    # --- memories ---

    def memory_pages(self, name: str) -> int:
        """Size in pages."""
        return self._pages[self._of_kind(name, "memory").index]

    def memory_grow(self, name: str, pages: int) -> None:
        """Grow to `pages` in total."""
        more = pages - self.memory_pages(name)
        if more <= 0:
            return
        if pages > self._ceiling:
            raise LimitReached("memory", f"{pages} pages of memory; {self._ceiling} are allowed")
        self._ask(command(wire.GROW, text(name), u32(more)))
        self._pages[self.program.exports[name].index] = pages

    def _mirror(self, name: str) -> Mirror:
        index = self._of_kind(name, "memory").index
        mirror, size = self._mirrors.get(index), self._pages[index] * WASM_PAGE_BYTES
        if mirror is None or mirror.size != size:
            if mirror is not None:
                self._pending = self._before(True)
            me = weakref.proxy(self)  # without a cycle
            mirror = self._mirrors[index] = Mirror(size, lambda at, length: me._fetch(name, at, length))
        return mirror

    def _fetch(self, name: str, at: int, length: int) -> memoryview:
        return self._ask(command(wire.READ, text(name), u64(at), u64(length)))

    def memory(self, name: str) -> memoryview:
        """Its bytes, writable."""
        mirror = self._mirror(name)
        mirror.make_present(0, mirror.size)
        return mirror.view

    def on_demand(self, name: str) -> tuple[memoryview, ComesLater | None]:
        """Its bytes, of which a range is there once it was made present."""
        mirror = self._mirror(name)
        return mirror.view, mirror

    def flag(self, name: str) -> Callable[[bool], None]:
        """What sets the first word of a memory."""
        self._of_kind(name, "memory")
        self._told = None

        def write(raised: bool) -> None:
            self._flag = (name, raised)
            link = self._link
            if self._depth and link is not None:
                link.poke(wire.FLAGGED)

        return write

    def changed(self, name: str) -> Runs:
        """Pages that differ from a fresh instance; their contents come too."""
        return self._changed(name, False)

    def _changed(self, name: str, from_zeros: bool) -> Runs:
        mirror = self._mirror(name)
        reply = self._ask(command(wire.CHANGED, text(name), bytes((from_zeros,))), flush=True)
        count = int.from_bytes(reply[:4], "little")
        runs = [
            (int.from_bytes(reply[at : at + 4], "little"), int.from_bytes(reply[at + 4 : at + 8], "little"))
            for at in range(4, 4 + 8 * count, 8)
        ]
        mirror.runs_taken(runs, reply[4 + 8 * count :])
        return runs

    def initial(self, name: str) -> Initial:
        """The contents of a memory, of which nothing has been looked at so far."""
        self._changed(name, True)
        mirror = self._mirror(name)
        return Initial(mirror.view, mirror.address)

    def expect(self, name: str, offset: int, size: int, whole: bool = False) -> None:
        """Announce that these bytes of a memory are about to be written."""
        if whole and not offset % HOST_PAGE_BYTES and not size % HOST_PAGE_BYTES:
            mirror = self._mirror(name)
            if offset + size <= mirror.size:
                mirror.announce(offset, size)

    def raw(self, name: str) -> RawMemory:
        """Not possible: the memory is in another process."""
        self._of_kind(name, "memory")
        raise EngineError("the memory of an instance in V8 cannot be read while it runs: use wasmtime")

    def watch_writes(self, name: str) -> WriteWatch:
        """Not possible."""
        self.raw(name)
        raise AssertionError("it can be read")

    def may_owe(self) -> bool:
        """Never."""
        return False

    def owe(self, name: str, owed: Runs) -> MissingPages:
        """Not possible."""
        raise EngineError("V8 cannot run an agent before all of its memory is there: use wasmtime")

    def missing(self, name: str) -> MissingPages | None:
        """None ever is."""
        return None

    # --- references ---

    def functions(self, table: str) -> dict[int, int]:
        """Identity -> index."""
        return first_places(self.table_elements(table))

    def table_elements(self, table: str) -> list[int]:
        """The identities of all elements."""
        self._of_kind(table, "table")
        return list(self._ask(command(wire.ELEMENTS, text(table))).cast("I"))

    def table_grow(self, table: str, elements: int) -> None:
        """Grow with nulls to `elements` in total."""
        self._of_kind(table, "table")
        if elements > self._elements:
            raise LimitReached("table", f"{elements} elements in a table; {self._elements} are allowed")
        self._ask(command(wire.GROW_TABLE, text(table), u32(elements)))

    def table_set(self, table: str, index: int, functions: str, function: int | None) -> None:
        """Set an element to a function or to null."""
        self._of_kind(table, "table")
        self._ask(command(wire.SET_ELEMENT, text(table), u32(index), *self._function(functions, function)))

    def set_reference(self, name: str, functions: str, function: int | None) -> None:
        """Set a mutable global to a function or to null."""
        self._of_kind(name, "global")
        self._ask(command(wire.SET_REFERENCE, text(name), *self._function(functions, function)))

    def _function(self, functions: str, function: int | None) -> tuple[bytes, bytes]:
        self._of_kind(functions, "table")
        return text(functions), u32(0xFFFFFFFF if function is None else function)

    def close(self) -> None:
        """Free everything. Harmless to repeat."""
        link, self._link = self._link, None
        self._mirrors.clear()
        self._pending.clear()
        if link is not None:
            self.program.running.discard(self)
            with contextlib.suppress(EngineError):
                link.release()

    def __del__(self) -> None:
        self.close()


def _is_number(exported: Exported) -> bool:
    return exported.kind == "global" and exported.results in _NUMBERS
