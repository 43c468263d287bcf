"""Calls that are answered without Python: the clocks, random bytes, seeking, and writing to standard output and error.

A call from the agent into Python takes about 2 µs. So a module of ours, beside the agent and with its memory, answers
the calls that are made most often, with what Python *lends* it: the difference between the station's clock and the
agent's, random bytes in advance, the offset of one file, and room for output. Whatever is not ordinary, such as a
pointer outside the memory, it leaves to Python (docs/adr/calls-answered-beside-the-agent).

Invariants:
- Python takes everything back before it does anything else for the agent, so `WasiState` is always right in Python, and
  output comes before what follows it;
- nothing here is part of a snapshot: random bytes that were drawn in advance are not either;
- an agent whose station wants it to leave asks Python each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .abi import FD_SEEK, FD_WRITE, OFFSET_MAX
from .calls import clock_time_get, random_get
from .descriptors import Descriptor
from .fd_calls import fd_seek, fd_write
from .state import WasiState
from .streams import OutputStream

if TYPE_CHECKING:
    from agents.engines import Rebound
    from agents.hostcalls import CallContext

BUFFERS = 16  # of one write; more are left to Python
POOL, POOL_BYTES = 1024, 4096  # where the random bytes are
OUTPUT, OUTPUT_BYTES = 8192, 4096  # where output is: few lines for the log of a station at once
# The other places, as indices: of 8 bytes each, then of 4.
STREAM, FILE, OFFSET, SHIFT, SHOWN, NOW = range(6)
USED, ROOM, RANDOM, CLOCKS = range(12, 16)
_NONE = -1  # no descriptor: these are 0 to 2**32 - 1
_FAR = 1 << 62  # ns: beyond, a clock is left to Python
CALLED_OFTEN = frozenset((clock_time_get, fd_seek, fd_write, random_get))
"""The functions that the module answers."""

# What each function does is what that of the same name does in `calls` and `fd_calls`. `$leave` is the poll flag.
MODULE = f"""
(module
  (import "host" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "host" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "host" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "host" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "late" "table" (table 4 funcref))
  (import "agent" "memory" (memory $agent 0))
  (import "agent" "frames" (memory $frames 1))
  (import "native" "clock_time_get" (func $native (param i32 i64 i32) (result i32)))
  (memory $own (export "memory") 1 1)
  (elem (i32.const 0) func $clock $seek $write $random)

  (func $leave (result i32) (i32.load $frames (i32.const 0)))

  (func $inside (param $pointer i32) (param $size i64) (result i32)
    (i64.le_u
      (i64.add (i64.extend_i32_u (local.get $pointer)) (local.get $size))
      (i64.shl (i64.extend_i32_u (memory.size $agent)) (i64.const 16))))

  (func $clock (param $id i32) (param $precision i64) (param $result i32) (result i32) (local $now i64)
    (if (i32.or (call $leave)
          (i32.or (i32.ge_u (local.get $id) (i32.load $own (i32.const {4 * CLOCKS})))
            (i32.eqz (call $inside (local.get $result) (i64.const 8)))))
      (then (return (call $clock_time_get (local.get $id) (local.get $precision) (local.get $result)))))
    (if (call $native (local.get $id) (i64.const 1) (i32.const {8 * NOW}))
      (then (return (call $clock_time_get (local.get $id) (local.get $precision) (local.get $result)))))
    (local.set $now (i64.load $own (i32.const {8 * NOW})))
    (if (local.get $id) (then
      (local.set $now (i64.add (local.get $now) (i64.load $own (i32.const {8 * SHIFT}))))
      (if (i64.lt_s (local.get $now) (i64.load $own (i32.const {8 * SHOWN})))
        (then (local.set $now (i64.load $own (i32.const {8 * SHOWN})))))))
    (i64.store $agent (local.get $result) (local.get $now))
    (i32.const 0))

  (func $seek (param $fd i32) (param $offset i64) (param $whence i32) (param $result i32) (result i32)
    (local $target i64)
    (local.set $target (local.get $offset))
    (if (local.get $whence)
      (then (local.set $target (i64.add (local.get $offset) (i64.load $own (i32.const {8 * OFFSET}))))))
    (if (i32.or
          (i32.or (call $leave) (i64.ne (i64.extend_i32_u (local.get $fd)) (i64.load $own (i32.const {8 * FILE}))))
          (i32.or
            (i32.or (i32.gt_u (local.get $whence) (i32.const 1)) (i64.lt_s (local.get $target) (i64.const 0)))
            (i32.eqz (call $inside (local.get $result) (i64.const 8)))))
      (then (return
        (call $fd_seek (local.get $fd) (local.get $offset) (local.get $whence) (local.get $result)))))
    (i64.store $own (i32.const {8 * OFFSET}) (local.get $target))
    (i64.store $agent (local.get $result) (local.get $target))
    (i32.const 0))

  ;; The bytes of all buffers, or -1 if one is outside the memory.
  (func $total (param $vector i32) (param $count i32) (result i64) (local $size i64) (local $total i64)
    (block $end (loop $next
      (br_if $end (i32.eqz (local.get $count)))
      (local.set $size (i64.load32_u $agent offset=4 (local.get $vector)))
      (if (i32.eqz (call $inside (i32.load $agent (local.get $vector)) (local.get $size)))
        (then (return (i64.const -1))))
      (local.set $total (i64.add (local.get $total) (local.get $size)))
      (local.set $vector (i32.add (local.get $vector) (i32.const 8)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next)))
    (local.get $total))

  ;; Python may take what is there between two turns of this loop: whatever it needs to know is in the memory by then.
  (func $append (param $vector i32) (param $count i32) (local $size i32) (local $used i32)
    (block $end (loop $next
      (br_if $end (i32.eqz (local.get $count)))
      (local.set $used (i32.load $own (i32.const {4 * USED})))
      (local.set $size (i32.load $agent offset=4 (local.get $vector)))
      (memory.copy $own $agent (i32.add (i32.const {OUTPUT}) (local.get $used))
        (i32.load $agent (local.get $vector)) (local.get $size))
      (i32.store $own (i32.const {4 * USED}) (i32.add (local.get $used) (local.get $size)))
      (local.set $vector (i32.add (local.get $vector) (i32.const 8)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next))))

  (func $write (param $fd i32) (param $vector i32) (param $count i32) (param $result i32) (result i32)
    (local $total i64)
    (block $ordinary
      (block $other
        (br_if $other (i64.ne (i64.extend_i32_u (local.get $fd)) (i64.load $own (i32.const {8 * STREAM}))))
        (br_if $other (call $leave))
        (br_if $other (i32.gt_u (local.get $count) (i32.const {BUFFERS})))
        (br_if $other (i32.eqz
          (call $inside (local.get $vector) (i64.extend_i32_u (i32.shl (local.get $count) (i32.const 3))))))
        (br_if $other (i32.eqz (call $inside (local.get $result) (i64.const 4))))
        (local.set $total (call $total (local.get $vector) (local.get $count)))
        (br_if $ordinary (i64.le_u (local.get $total) (i64.extend_i32_u
          (i32.sub (i32.load $own (i32.const {4 * ROOM})) (i32.load $own (i32.const {4 * USED})))))))
      (return (call $fd_write (local.get $fd) (local.get $vector) (local.get $count) (local.get $result))))
    (call $append (local.get $vector) (local.get $count))
    (i32.store $agent (local.get $result) (i32.wrap_i64 (local.get $total)))
    (i32.const 0))

  (func $random (param $buffer i32) (param $size i32) (result i32) (local $left i32)
    (local.set $left (i32.load $own (i32.const {4 * RANDOM})))
    (if (i32.or (call $leave)
          (i32.or (i32.gt_u (local.get $size) (local.get $left))
            (i32.eqz (call $inside (local.get $buffer) (i64.extend_i32_u (local.get $size))))))
      (then (return (call $random_get (local.get $buffer) (local.get $size)))))
    (local.set $left (i32.sub (local.get $left) (local.get $size)))
    (i32.store $own (i32.const {4 * RANDOM}) (local.get $left))
    (memory.copy $agent $own (local.get $buffer) (i32.add (i32.const {POOL}) (local.get $left)) (local.get $size))
    (i32.const 0))
)
"""


class FastPath:
    """What the module works with: lent by Python before the agent goes on, taken back before Python does anything."""

    def __init__(self, rebound: Rebound, ctx: CallContext) -> None:
        self._memory, self._origin, self._ambient = rebound.memory, rebound.origin, ctx.ambient
        self._state: WasiState = ctx.wasi
        self._open = self._state.table.open
        self._cells, self._wide = rebound.memory[:64].cast("i"), rebound.memory[:64].cast("q")
        self._wide[STREAM] = self._wide[FILE] = _NONE
        # By number, the stream that was written to last and the file whose offset was set last; what is lent of them.
        self._stream_fd = self._file_fd = _NONE
        self._stream: Descriptor | None = None
        self._file: Descriptor | None = None
        self._shown = 0
        self.resume()

    def resume(self) -> None:
        """The agent goes on, perhaps after a wait, when its clock may have been set."""
        self._set_clocks()
        self._lend()

    def returns(self, function: Callable[..., Any], args: Sequence[int], succeeded: bool) -> None:
        """The agent goes on after a call of `function`."""
        if self._state.elapsed_ns != self._shown:  # it may have shown the agent its clock
            self._set_clocks()
        if succeeded and function in CALLED_OFTEN:
            self._note(function, args)
        self._lend()

    def take_back(self) -> None:
        """Take back the file and the stream. Raises what the station raises about output."""
        if self._file is not None:
            self._file.offset = self._wide[OFFSET]
            self._file, self._wide[FILE] = None, _NONE
        if self._stream is not None:
            self.flush()
            self._stream, self._wide[STREAM] = None, _NONE

    def flush(self) -> None:
        """Give the station the output that there is. May be called between any two instructions of the agent."""
        used = self._cells[USED]
        if self._stream is None or not used:
            return
        self._cells[USED] = 0
        data = bytes(self._memory[OUTPUT : OUTPUT + used])
        self._stream.offset = min(self._stream.offset + used, OFFSET_MAX)
        self._state.logged += used
        self._cells[ROOM] = self._room()
        assert isinstance(self._stream.channel, OutputStream)
        self._ambient.output(self._stream.channel.fd, data)

    def _note(self, function: Callable[..., Any], args: Sequence[int]) -> None:
        """What is lent from now on: it may be asked for again."""
        if function is fd_seek:
            self._file_fd = args[0]
        elif function is fd_write:
            if isinstance(self._open[args[0]].channel, OutputStream) and self._state.limits.buffers >= BUFFERS:
                self._stream_fd = args[0]
        elif function is random_get and args[1] <= POOL_BYTES:
            self._memory[POOL : POOL + POOL_BYTES] = self._ambient.random(POOL_BYTES)
            self._cells[RANDOM] = POOL_BYTES

    def _lend(self) -> None:
        file, stream = self._open.get(self._file_fd), self._open.get(self._stream_fd)
        if file is not None and file.file is not None and file.rights & FD_SEEK:
            self._file, self._wide[OFFSET], self._wide[FILE] = file, file.offset, self._file_fd
        if stream is not None and isinstance(stream.channel, OutputStream) and stream.rights & FD_WRITE:
            self._stream, self._cells[ROOM], self._wide[STREAM] = stream, self._room(), self._stream_fd

    def _room(self) -> int:
        """How many bytes of output are taken, in one write or in several."""
        limits = self._state.limits
        return max(min(OUTPUT_BYTES, limits.log_bytes - self._state.logged, limits.io_bytes), 0)

    def _set_clocks(self) -> None:
        state = self._state
        shift, self._shown = self._origin - state.origin(self._ambient), state.elapsed_ns
        usual = abs(shift) < _FAR and self._shown < _FAR
        if usual:
            self._wide[SHIFT], self._wide[SHOWN] = shift, self._shown
        self._cells[CLOCKS] = 2 if usual else 1
