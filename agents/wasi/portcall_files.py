"""The calls as files: `/portcall/go`, `/portcall/call/SERVICE` and so on, for programs that link nothing.

Each file leads to the same function of `agents.hostcalls` as the import of its name, so both give the
same answers and the same errors. The meaning of a write is decided when it reaches the host: one `fd_write` is
one call (docs/adr/one-write-is-one-call). Buffered writers therefore act at their flush or close, and a writer that
sends a name and its newline separately does no harm, since blank writes to `go`, `go_at` and `sleep` do nothing.

A read returns one answer and then an end of file. After that, `inbox` and `accept` go on to the next one; the others
answer again when they are reopened, or after a seek to 0. `call/SERVICE` is written (the request), then
read (the reply); a write after that begins another request. To read `send/AGENT` or `report/KEY` sends or reports
nothing, as bytes: some programs cannot write nothing. Four files take an optional argument:
`inbox/MS`, `accept/MS` and `go/MS` wait at most so many milliseconds, `log/LEVEL` is error, warning, info or detail.

Invariants: `MAX_BODY_BYTES` bounds what a file holds, `Limits.call_bytes` what all of an agent's files hold; a
file's state is plain data and travels with the agent, even in the middle of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from agents import hostcalls
from agents.errors import BadSnapshot, CallFailed
from agents.waits import MAX_ASK_ID_BYTES, MAX_BODY_BYTES, MAX_HOST_BYTES, Suspend

from .abi import (
    DIRECTORY,
    EAGAIN,
    EILSEQ,
    EINVAL,
    EMSGSIZE,
    ENAMETOOLONG,
    ENOENT,
    ENOSPC,
    EROFS,
    ETIMEDOUT,
    FD_READ,
    FD_SEEK,
    FD_TELL,
    FD_WRITE,
    REGULAR_FILE,
    STREAM_RIGHTS,
)
from .fixed import ResolvedFixedPath, descend
from .luggage_codec import checked_int, fields
from .paths import Route
from .vfs import Bytes, DirectoryEntry, Stat

if TYPE_CHECKING:
    from agents.hostcalls import CallContext

CALLS_MOUNT = "portcall"
_LOGGED = 1 << 16  # bytes of one write to `log`
CALLS_DEVICE = 2


@attrs.define(eq=False, repr=False)
class CallFile:
    """One open file below `/portcall/`. `content`: the answer being read, None before there is one."""

    name: str
    argument: str = ""
    content: bytes | None = None
    position: int = 0
    request: bytes = b""

    def read(self, ctx: CallContext, size: int, wait: bool) -> Bytes | Suspend:
        """See `vfs.Channel`."""
        if not size:
            return b""
        if self.content is None:
            if self.name in _LONG and ctx.event is None:
                _need(ctx, MAX_BODY_BYTES - len(self.request))
            found = _READ[self.name](ctx, self, wait)
            if isinstance(found, Suspend):
                return found
            self.content, self.position, self.request = found, 0, b""
        chunk = self.content[self.position : self.position + size]
        self.position += len(chunk)
        if not chunk and self.name in _NEXT:
            self.content = None
        return chunk

    def write(self, ctx: CallContext, data: bytes) -> int | Suspend:
        """See `vfs.Channel`."""
        return _WRITE[self.name](ctx, self, data) or len(data)

    def pending(self, ctx: CallContext) -> int | None:
        """See `vfs.Channel`. Only an empty inbox makes a poll wait; for the others, the read itself makes the call."""
        if self.content is not None:
            return len(self.content) - self.position
        if self.name in ("inbox", "select"):
            return None if ctx.kept.message is None else len(ctx.kept.message.body)
        return 0

    def seek(self, old: int, new: int) -> bool:
        """See `vfs.Channel`. A request is kept: C and Python seek between writing and reading."""
        if self.content is not None:
            if new == 0 and self.name not in ("call", "ask"):
                self.content, self.position = None, 0
            else:
                self.position = min(max(self.position + new - old, 0), len(self.content))
        return True

    def rights(self) -> int:
        """See `vfs.Channel`."""
        access = (FD_READ if self.name in _READ else 0) | (FD_WRITE if self.name in _WRITE else 0)
        return STREAM_RIGHTS | FD_SEEK | FD_TELL | access

    def stat(self) -> Stat:
        """See `vfs.Channel`."""
        return Stat(CALLS_DEVICE, _INODES[self.name], REGULAR_FILE, 1, len(self.content or b""), 0, 0, 0)

    def close(self) -> None:
        """See `vfs.Channel`."""

    @property
    def held(self) -> int:
        """Bytes that it holds."""
        return len(self.request) + len(self.content or b"")

    def encode(self) -> list[Any]:
        """See `vfs.Channel`."""
        return ["call", self.name, self.argument, self.content, self.position, self.request]


def held(channels: Iterable[object]) -> int:
    """Bytes that all files among these channels hold."""
    return sum(channel.held for channel in channels if isinstance(channel, CallFile))


def _need(ctx: CallContext, size: int) -> None:
    """Raises ENOSPC if the open files would hold too much with `size` bytes more."""
    now = held(descriptor.channel for descriptor in ctx.wasi.table.open.values())
    if now + size > ctx.wasi.limits.call_bytes:
        raise CallFailed(ENOSPC, f"the open files of /{CALLS_MOUNT} hold {now} bytes")


def decode_call_file(value: list[Any]) -> CallFile:
    """The file that `CallFile.encode` wrote. Raises `BadSnapshot`."""
    _, name, argument, content, position, request = fields(value, 6)
    if not isinstance(name, str) or name not in _INODES or not isinstance(argument, str):
        raise BadSnapshot("no such file below /portcall")
    given, good = bool(argument), _ARGUMENT.get(name, _anything)
    if given != (name in _FOLDERS) and not (given and name in _EITHER):
        raise BadSnapshot(f"/portcall/{name} with or without a name, as it cannot be")
    if len(argument.encode()) > MAX_HOST_BYTES or "\0" in argument or (given and not good(argument)):
        raise BadSnapshot(f"/portcall/{name} with a name that it cannot have")
    if not isinstance(request, bytes) or not isinstance(content, bytes | None):
        raise BadSnapshot(f"/portcall/{name} without bytes")
    if max(len(request), len(content or b"")) > MAX_BODY_BYTES:
        raise BadSnapshot(f"/portcall/{name} holds more than {MAX_BODY_BYTES} bytes")
    return CallFile(name, argument, content, checked_int(position, 0, MAX_BODY_BYTES), request)


# --- reading: (ctx, file, wait) -> the whole answer ---


def _read_here(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    return hostcalls.here(ctx).encode()


def _read_me(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    return hostcalls.me(ctx).encode()


def _read_next_stop(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    return hostcalls.next_stop(ctx).encode()


def _read_args(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    return b"".join(each + b"\0" for each in ctx.wasi.args)


def _read_environ(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    return b"".join(each + b"\0" for each in ctx.wasi.environ)


def _read_sender(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    return ctx.kept.sender.encode()


def _read_lookup(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    return "\n".join(hostcalls.lookup(ctx, file.argument)).encode()[:MAX_BODY_BYTES]


def _read_inbox(ctx: CallContext, file: CallFile, wait: bool) -> bytes | Suspend:
    message: hostcalls.Message | Suspend | None = ctx.kept.message
    if message is None or ctx.event is not None:
        timeout = int(file.argument) * 1_000_000 if file.argument else None
        message = hostcalls.recv(ctx, timeout if wait else 0)
    if isinstance(message, Suspend):
        return message
    if message is None and wait and file.argument:
        raise CallFailed(ETIMEDOUT, "no message came in time")
    if message is None:
        raise CallFailed(EAGAIN, "no message")
    ctx.kept.message = None
    return message.body


def _read_select(ctx: CallContext, file: CallFile, wait: bool) -> bytes | Suspend:
    message: hostcalls.Message | Suspend | None = ctx.kept.message
    if message is None or ctx.event is not None:
        ms, sender, topic = _select(file.argument)
        message = hostcalls.select(ctx, sender, topic, ms if wait else 0)
    if isinstance(message, Suspend):
        return message
    if message is None:
        raise CallFailed(ETIMEDOUT if wait else EAGAIN, "no such message came in time")
    ctx.kept.message = None
    return message.body


def _select(argument: str) -> tuple[int | None, str, str]:
    """Of `MS/SENDER/TOPIC`: nanoseconds, sender, topic. A `-` is none."""
    ms, sender, *topic = argument.split("/", 2)
    words = ["" if each == "-" else each for each in (sender, *topic, "-")]
    return None if ms == "-" else int(ms) * 1_000_000, words[0], words[1]


def _read_about(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    return "\n".join(hostcalls.about(ctx)).encode()


def _read_ask(ctx: CallContext, file: CallFile, wait: bool) -> bytes | Suspend:
    ms, to, topic = _select(file.argument)
    try:
        name = hostcalls.ask(ctx, to, file.request, topic, ms)
    except CallFailed:
        file.content, file.position = b"", 0  # reading on does not ask again
        raise
    return name if isinstance(name, Suspend) else name.encode()


def _read_find(ctx: CallContext, file: CallFile, wait: bool) -> bytes | Suspend:
    where, service, *label = file.argument.split("/", 2)
    words = ["" if each == "-" else each for each in (service, *label, "-")]
    return hostcalls.find(ctx, words[0], words[1], where == "everywhere")


def _where(argument: str) -> bool:
    """Whether it is `here/SERVICE/LABEL` or `everywhere/SERVICE/LABEL`; the label may be left out."""
    where, *names = argument.split("/", 2)
    return where in ("here", "everywhere") and bool(names and all(names)) and len(argument) <= MAX_HOST_BYTES


def _read_offer(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    hostcalls.offer(ctx, file.argument, "")
    return b""


def _read_send_here(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    hostcalls.send_here(ctx, file.argument, b"")
    return b""


def _read_answer(ctx: CallContext, file: CallFile, wait: bool) -> bytes | Suspend:
    ident, _, ms = file.argument.partition("/")
    given = hostcalls.answer(ctx, ident, (int(ms) * 1_000_000 if ms else None) if wait else 0)
    if given is None:
        raise CallFailed(ETIMEDOUT if wait else EAGAIN, "no answer came in time")
    return given


def _read_accept(ctx: CallContext, file: CallFile, wait: bool) -> bytes | Suspend:
    body = ctx.kept.request
    if body is None or ctx.event is not None:
        timeout = int(file.argument) * 1_000_000 if file.argument else None
        request = hostcalls.accept(ctx, timeout if wait else 0)
        if isinstance(request, Suspend):
            return request
        if request is None and wait and file.argument:
            raise CallFailed(ETIMEDOUT, "no request came in time")
        if request is None:
            raise CallFailed(EAGAIN, "no request")
        body = request.body
    ctx.kept.request = None
    return body


def _read_clone(ctx: CallContext, file: CallFile, wait: bool) -> bytes | Suspend:
    done = hostcalls.clone(ctx)
    if isinstance(done, Suspend):
        return done
    return b"" if done.child is None else done.child.encode()


def _read_fork(ctx: CallContext, file: CallFile, wait: bool) -> bytes | Suspend:
    done = hostcalls.fork(ctx, int(file.argument))
    if isinstance(done, Suspend):
        return done
    return "\n".join([str(done.number), *done.children]).encode()


def _read_notice(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    return hostcalls.notice(ctx).encode()


def _read_call(ctx: CallContext, file: CallFile, wait: bool) -> bytes | Suspend:
    try:
        return hostcalls.call(ctx, file.argument, file.request)
    except CallFailed:
        file.content, file.position = b"", 0  # reading on does not call again
        raise


def _read_send(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    hostcalls.send(ctx, file.argument, b"")
    return b""


def _read_report(ctx: CallContext, file: CallFile, wait: bool) -> bytes:
    hostcalls.report(ctx, file.argument, b"")
    return b""


# --- writing: (ctx, file, data) -> what to wait for, or how much was accepted (None: all) ---


def _text(data: bytes) -> str:
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise CallFailed(EILSEQ, "a name that is not UTF-8") from None


def _write_go(ctx: CallContext, file: CallFile, data: bytes) -> Suspend | None:
    host = _text(data[: MAX_HOST_BYTES + 2])
    return hostcalls.go(ctx, host, int(file.argument or 0) * 1_000_000) if host else None


def _write_go_at(ctx: CallContext, file: CallFile, data: bytes) -> Suspend | None:
    host = _text(data[: MAX_HOST_BYTES + 2])
    return hostcalls.go_at(ctx, host, file.argument) if host else None


def _write_sleep(ctx: CallContext, file: CallFile, data: bytes) -> Suspend | None:
    text = _text(data[:20])
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > 0xFFFFFFFF:
        raise CallFailed(EINVAL, "sleep takes a whole number of milliseconds")
    return hostcalls.sleep(ctx, int(text) * 1_000_000)


def _write_call(ctx: CallContext, file: CallFile, data: bytes) -> None:
    if file.content is not None:
        file.content, file.request = None, b""
    if len(file.request) + len(data) > MAX_BODY_BYTES:
        raise CallFailed(EMSGSIZE, f"a request of more than {MAX_BODY_BYTES} bytes")
    _need(ctx, len(data))
    file.request += data


def _write_send(ctx: CallContext, file: CallFile, data: bytes) -> None:
    hostcalls.send(ctx, file.argument, data)


def _write_reply(ctx: CallContext, file: CallFile, data: bytes) -> None:
    hostcalls.reply(ctx, file.argument, data)


def _write_subscribe(ctx: CallContext, file: CallFile, data: bytes) -> None:
    if topic := _text(data):
        hostcalls.subscribe(ctx, topic)


def _write_unsubscribe(ctx: CallContext, file: CallFile, data: bytes) -> None:
    if topic := _text(data):
        hostcalls.unsubscribe(ctx, topic)


def _write_publish(ctx: CallContext, file: CallFile, data: bytes) -> None:
    hostcalls.publish(ctx, file.argument, data, everywhere=file.name == "publish_all")


def _write_offer(ctx: CallContext, file: CallFile, data: bytes) -> None:
    hostcalls.offer(ctx, file.argument, _text(data))


def _write_withdraw(ctx: CallContext, file: CallFile, data: bytes) -> None:
    if service := _text(data):
        hostcalls.withdraw(ctx, service)


def _write_send_here(ctx: CallContext, file: CallFile, data: bytes) -> None:
    hostcalls.send_here(ctx, file.argument, data)


def _write_report(ctx: CallContext, file: CallFile, data: bytes) -> None:
    hostcalls.report(ctx, file.argument, data)


def _write_log(ctx: CallContext, file: CallFile, data: bytes) -> int:
    state = ctx.wasi
    if len(data) > _LOGGED:  # megabytes of line ends would be millions of lines; writers continue after a short write
        end = data.rfind(b"\n", 0, _LOGGED) + 1
        data = data[: end or _LOGGED]
    if state.logged + len(data) > state.limits.log_bytes:
        raise CallFailed(ENOSPC, "the log of this visit is full")
    state.logged += len(data)
    level = _LEVELS.index(file.argument or "info")
    for line in data.decode("utf-8", "replace").splitlines():
        if line:
            hostcalls.log(ctx, level, line[: hostcalls.MAX_LOG_BYTES])
    return len(data)


_READ: dict[str, Callable[[Any, CallFile, bool], bytes | Suspend]] = {
    "here": _read_here,
    "me": _read_me,
    "next_stop": _read_next_stop,
    "args": _read_args,
    "environ": _read_environ,
    "sender": _read_sender,
    "select": _read_select,
    "about": _read_about,
    "ask": _read_ask,
    "answer": _read_answer,
    "find": _read_find,
    "offer": _read_offer,
    "send_here": _read_send_here,
    "inbox": _read_inbox,
    "accept": _read_accept,
    "clone": _read_clone,
    "fork": _read_fork,
    "notice": _read_notice,
    "call": _read_call,
    "lookup": _read_lookup,
    "send": _read_send,
    "report": _read_report,
}
_WRITE: dict[str, Callable[[Any, CallFile, bytes], Suspend | int | None]] = {
    "go": _write_go,
    "go_at": _write_go_at,
    "sleep": _write_sleep,
    "log": _write_log,
    "call": _write_call,
    "ask": _write_call,
    "send": _write_send,
    "reply": _write_reply,
    "subscribe": _write_subscribe,
    "unsubscribe": _write_unsubscribe,
    "publish": _write_publish,
    "publish_all": _write_publish,
    "offer": _write_offer,
    "withdraw": _write_withdraw,
    "send_here": _write_send_here,
    "report": _write_report,
}
_LONG = ("call", "inbox", "select", "ask", "answer", "accept", "lookup")  # calls whose answer may be long
# The file's name below them is an argument.
_FOLDERS = ("call", "send", "reply", "report", "lookup", "go_at", "fork", "select", "ask", "answer",
            "publish", "publish_all", "offer", "find", "send_here")  # fmt: skip
_EITHER = ("log", "inbox", "accept", "go")  # a file that may also be named with an argument
_NEXT = ("inbox", "select", "accept")  # a read after the end of an answer is for the next one
_LEVELS = ("error", "warning", "info", "detail")


def _anything(argument: str) -> bool:
    return True


def _number(argument: str) -> bool:
    """Whether it is a whole number of milliseconds that fits into 31 bits."""
    return argument.isascii() and argument.isdigit() and len(argument) <= 10 and int(argument) < 1 << 31


def _choice(argument: str) -> bool:
    """Whether it is `MS/AGENT` or `MS/AGENT/TOPIC`."""
    ms, *names = argument.split("/", 2)
    return bool(names and all(names)) and len(argument) <= MAX_HOST_BYTES and (ms == "-" or _number(ms))


def _question(argument: str) -> bool:
    """Whether it is `ID` or `ID/MS`."""
    ident, slash, ms = argument.partition("/")
    return 0 < len(ident) <= MAX_ASK_ID_BYTES and (_number(ms) if slash else True)


_ARGUMENT: dict[str, Callable[[str], bool]] = {
    "log": _LEVELS.__contains__,
    "inbox": _number,
    "accept": _number,
    "select": _choice,
    "ask": _choice,
    "answer": _question,
    "find": _where,
    "go": _number,
    "fork": _number,
}
_NAMES = ("go", "go_at", "here", "me", "next_stop", "call", "send", "inbox", "sender", "sleep", "clone",
          "report", "log", "lookup", "args", "environ", "accept", "reply", "fork",
          "select", "about", "ask", "answer", "subscribe", "unsubscribe", "publish", "publish_all", "offer", "withdraw",
          "find", "send_here", "notice")  # fmt: skip
_INODES = {name: index for index, name in enumerate(_NAMES, 2)}


# --- the folders ---


@attrs.frozen(eq=False, repr=False)
class CallFolder:
    """`/portcall` itself (no name), or a folder in it, where a file of any name exists."""

    name: str = ""

    def walk(self, route: Route, follow: bool) -> ResolvedFixedPath:
        """See `vfs.Directory`."""
        above = (self.name,) if self.name else ()
        names = descend(route, above, (*_FOLDERS, *_EITHER))
        return ResolvedFixedPath(CALLS_MOUNT, lambda: _find(names), route.directory)

    def entries(self, cookie: int) -> Iterator[DirectoryEntry]:
        """See `vfs.Directory`. The files in a folder are not listed: any name works."""
        lines = [(self._inode, DIRECTORY, "."), (1, DIRECTORY, "..")]
        if not self.name:
            lines += [(_INODES[name], DIRECTORY if name in _FOLDERS else REGULAR_FILE, name) for name in _NAMES]
        for index, (inode, kind, name) in enumerate(lines):
            if index >= cookie:
                yield DirectoryEntry(index + 1, inode, kind, name.encode())

    @property
    def _inode(self) -> int:
        return _INODES.get(self.name, 1)

    def stat(self) -> Stat:
        """See `vfs.Directory`."""
        return Stat(CALLS_DEVICE, self._inode, DIRECTORY, 1, 0, 0, 0, 0)

    def set_times(self, atim: int | None, mtim: int | None, now: int) -> None:
        """See `vfs.Directory`."""
        raise CallFailed(EROFS, "/portcall does not change")

    def close(self) -> None:
        """See `vfs.Directory`."""

    def encode(self) -> list[Any]:
        """See `vfs.Directory`."""
        return ["calls", self.name]


def _find(names: tuple[str, ...]) -> CallFile | CallFolder:
    """What is at a path below `/portcall`. Raises ENOENT."""
    if not names:
        return CallFolder()
    name, argument = names[0], "/".join(names[1:])
    if name not in _INODES:
        raise CallFailed(ENOENT, f"/{CALLS_MOUNT}/{name}")
    if name in _FOLDERS and not argument:
        return CallFolder(name)
    if len(argument.encode()) > MAX_HOST_BYTES:  # as `decode_call_file`: it would not be found again after a hop
        raise CallFailed(ENAMETOOLONG, f"/{CALLS_MOUNT}/{name}/ and {len(argument)} characters")
    if argument and not _ARGUMENT.get(name, _anything)(argument):
        raise CallFailed(ENOENT, f"/{CALLS_MOUNT}/{name}/{argument}")
    return CallFile(name, argument)


def decode_call_folder(value: list[Any]) -> CallFolder:
    """The folder that `CallFolder.encode` wrote. Raises `BadSnapshot`."""
    _, name = fields(value, 2)
    if name not in ("", *_FOLDERS):
        raise BadSnapshot("no such folder in /portcall")
    return CallFolder(name)
