"""The process of node, and its threads: one for each instance, used again when that is closed.

One process for all engines of this process. Frames go through two pipes per thread, so that agent code, which
JavaScript cannot suspend, just waits for what it reads; the process itself reads its standard input meanwhile, and so
can tell a thread that its host wants to be asked. No signal of a terminal reaches it: it has a session of its own, and
ends with its standard input.

Invariants: every wait ends, with an error when the process or the thread has ended, or does not answer in time; then
whatever ran there is lost, as with any failure of an engine, and the next instance gets another process.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import select
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from agents.budget import helped
from agents.errors import EngineError, EngineLost

from .finding import find_node
from .link import CLOSE, HOST_CALL, LOAD, OK, PATIENCE_S, TICK, UNLOAD, Asked, TooLate, command, u32

MAX_THREADS = 1024  # instances at once; each thread takes some MiB
IDLE_THREADS = 8  # kept for the next instances
KEPT_PROGRAMS = 8  # in each thread
_START, _RAISE, _END = range(3)
_RECORD = struct.Struct("<BII")
_HEAD = struct.Struct("<Id")
_REQUEST, _ANSWER = b"\x00", b"\x01"
_PIPE_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_F_SETPIPE_SZ = 1031
_STEP_MS = 1000  # between two looks at whether the process still runs
_SCRIPT = Path(__file__).with_name("process.cjs")
_ASKS = (HOST_CALL, TICK)


class Node:
    """A process of node."""

    def __init__(self) -> None:
        """Start it. Raises `EngineError`."""
        path, self.version = find_node()
        self.owner = os.getpid()
        self._folder = Path(tempfile.mkdtemp(prefix="portcall-v8-"))
        self._said = (self._folder / "stderr").open("w+b")
        self._lock = threading.Lock()
        self._idle: list[NodeThread] = []
        self._numbers = list(range(MAX_THREADS - 1, -1, -1))
        try:
            self._process = subprocess.Popen(
                [path, str(_SCRIPT), str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,
                env={},
            )
        except OSError as error:
            self._tidy()
            raise EngineError(f"node cannot be started: {error.strerror}") from None
        assert self._process.stdin is not None
        self._input = self._process.stdin.fileno()
        os.set_blocking(self._input, False)

    @property
    def ended(self) -> bool:
        """Whether it no longer runs, or is another process's."""
        return self.owner != os.getpid() or self._process.poll() is not None

    @property
    def process_id(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def threads(self) -> int:
        """How many threads there are, idle ones too."""
        return MAX_THREADS - len(self._numbers)

    def why(self) -> str:
        """How it ended, with what it said."""
        code = self._process.poll()
        if self._said.closed:
            return "was stopped"
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - 1000))
        said = self._said.read().decode("utf-8", "replace").strip()
        how = "runs" if code is None else f"ended with code {code}" if code >= 0 else f"was ended by signal {-code}"
        return f"{how}{': ' if said else ''}{said}"

    def thread(self, stack: int) -> NodeThread:
        """A thread for an instance whose code may use `stack` bytes of stack. Raises `EngineError`."""
        with self._lock:
            for position, thread in enumerate(self._idle):
                if thread.stack == stack:
                    del self._idle[position]
                    return thread
            if not self._numbers:
                raise EngineError(f"{MAX_THREADS} agents have an instance in V8: no more at once")
            number = self._numbers.pop()
        try:
            return NodeThread(self, number, self._folder, stack)
        except BaseException:
            self.forget(number)
            raise

    def take_back(self, thread: NodeThread) -> None:
        """Keep a thread for the next instance, or end it."""
        with self._lock:
            if not self.ended and len(self._idle) < IDLE_THREADS:
                self._idle.append(thread)
                return
        thread.end()

    def forget(self, number: int) -> None:
        """The thread with this number is gone."""
        with self._lock:
            self._numbers.insert(0, number)

    def tell(self, what: int, number: int, operand: int = 0) -> bool:
        """Write a record, and say whether it went: not if so many are unread, or if the process has ended."""
        try:
            return os.write(self._input, _RECORD.pack(what, number, operand)) == _RECORD.size
        except (BlockingIOError, BrokenPipeError, OSError):
            return False

    def insist(self, what: int, number: int, operand: int = 0) -> None:
        """Write a record. Raises `EngineError` if it does not go."""
        until = time.monotonic() + PATIENCE_S
        while not self.tell(what, number, operand):
            if self.ended or time.monotonic() > until:
                raise EngineLost(f"the process of the engine v8 {self.why()}")
            select.select([], [self._input], [], 0.1)

    def wait(self, seconds: float) -> None:
        """Wait so long for its end."""
        if self.owner == os.getpid():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)

    def stop(self) -> None:
        """End the process. It has nothing that is worth keeping."""
        if self.owner != os.getpid():
            return
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        for thread in self._idle:
            thread.close()
        self._tidy()

    def _tidy(self) -> None:
        self._said.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class NodeThread:
    """One thread: the place of one instance at a time. A `Link`."""

    def __init__(self, node: Node, number: int, folder: Path, stack: int) -> None:
        self.stack, self._node, self._number = stack, node, number
        self._programs: dict[int, None] = {}
        self._poked = 0.0  # when the agent's code was told to ask, and has not yet
        self._open = True
        there, back = folder / f"{number}.in", folder / f"{number}.out"
        for each in (there, back):
            os.mkfifo(each, 0o600)
        # Both ends at first, so that opening waits for nobody.
        self._incoming = os.open(back, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        both = os.open(there, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._outgoing = -1
        try:
            node.insist(_START, number, -(-stack >> 20) + 1)
            self._receive(PATIENCE_S)  # it has opened them
            self._outgoing = os.open(there, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            for descriptor in (self._incoming, self._outgoing):
                with contextlib.suppress(OSError):  # only faster
                    fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(both)
            for each in (there, back):
                each.unlink()

    def program(self, number: int, code: bytes) -> list[bytes]:
        """The commands that load a program."""
        if number in self._programs:
            del self._programs[number]
            self._programs[number] = None
            return []
        self._programs[number] = None
        commands = [command(LOAD, u32(number), code)]
        while len(self._programs) > KEPT_PROGRAMS:
            oldest = next(iter(self._programs))
            del self._programs[oldest]
            commands.append(command(UNLOAD, u32(oldest)))
        return commands

    def request(self, commands: Sequence[bytes], asked: Asked, patience: float | None = PATIENCE_S) -> memoryview:
        """Have commands carried out."""
        try:
            self._send(_REQUEST, commands)
            while True:
                reply = self._receive(patience)
                if reply[0] not in _ASKS:
                    self._poked = 0.0
                    return reply
                if reply[0] == TICK:
                    self._poked = 0.0
                self._send(_ANSWER, asked(reply))
        except BaseException:
            self.end()  # in the middle of an exchange: what comes next could belong to this one
            raise

    def poke(self, reasons: int) -> None:
        """Have the agent's code ask soon."""
        if self._node.tell(_RAISE, self._number, reasons) and not self._poked:
            self._poked = time.monotonic()

    def release(self) -> None:
        """Free the instance, and keep the thread."""
        if self._node.ended:
            self.end()
        if not self._open:
            return
        self._poked = 0.0
        reply = self.request([command(CLOSE)], _nothing)
        if reply[0] == OK:
            self._node.take_back(self)
        else:
            self.end()

    def end(self) -> None:
        """End the thread."""
        if self._open:
            self.close()
            self._node.tell(_END, self._number)
            self._node.forget(self._number)

    def close(self) -> None:
        """Close the pipes."""
        self._open = False
        for descriptor in (self._incoming, self._outgoing):
            if descriptor >= 0:
                os.close(descriptor)
        self._incoming = self._outgoing = -1

    def _send(self, kind: bytes, commands: Sequence[bytes]) -> None:
        if not self._open:
            raise self._gone() if self._node.ended else EngineError("the instance is closed")
        size = 1 + sum(map(len, commands))
        data = memoryview(b"".join((u32(size), kind, *commands)))
        until = time.monotonic() + PATIENCE_S
        while data:
            try:
                data = data[os.write(self._outgoing, data) :]
            except BlockingIOError:
                self._wait(self._outgoing, select.POLLOUT, until)
            except BrokenPipeError:
                raise self._gone() from None

    def _receive(self, patience: float | None) -> memoryview:
        """The next reply. The processor time that it took is counted as this thread's."""
        until = None if patience is None else time.monotonic() + patience
        data = self._read(_READ_BYTES, until)
        while len(data) < _HEAD.size:
            data += self._read(_READ_BYTES, until)
        size, used = _HEAD.unpack_from(data)
        helped(max(0, int(used * 1000)))
        if len(data) == _HEAD.size + size:
            return memoryview(data)[_HEAD.size :]
        whole = memoryview(bytearray(_HEAD.size + size))
        whole[: len(data)] = data
        have = len(data)
        until = time.monotonic() + PATIENCE_S
        while have < len(whole):
            try:
                got = os.readv(self._incoming, [whole[have:]])
            except BlockingIOError:
                self._wait(self._incoming, select.POLLIN, until)
                continue
            if not got:
                raise self._gone()
            have += got
        return whole[_HEAD.size :]

    def _read(self, size: int, until: float | None) -> bytes:
        while True:
            self._wait(self._incoming, select.POLLIN, until)
            with contextlib.suppress(BlockingIOError):
                data = os.read(self._incoming, size)
                if not data:
                    raise self._gone()
                return data

    def _wait(self, descriptor: int, events: int, until: float | None) -> None:
        """Until the descriptor is ready, the process has ended, or it is too late."""
        poll = select.poll()
        poll.register(descriptor, events)
        while not poll.poll(_STEP_MS):
            now = time.monotonic()
            late = now > until if until is not None else 0 < self._poked < now - PATIENCE_S
            if self._node.ended:
                raise self._gone()
            if late:
                raise TooLate("the engine v8 does not answer: what ran there was given up")

    def _gone(self) -> EngineError:
        if not self._node.ended:
            self._node.wait(0.5)  # it may be about to
        what = "thread of the agent in the process" if not self._node.ended else "process"
        return EngineLost(f"the {what} of the engine v8 {self._node.why()}; what ran in it is lost")


def _nothing(message: memoryview) -> Sequence[bytes]:
    raise EngineError("agent code runs in an instance that is being closed")


_lock = threading.Lock()
_node: Node | None = None


def the_node() -> Node:
    """The process of all engines, started if it does not run. Raises `EngineError`."""
    global _node
    with _lock:
        if _node is None or _node.ended:
            if _node is not None:
                _node.stop()
            _node = Node()
            atexit.register(_node.stop)
        return _node
