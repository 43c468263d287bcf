"""The state of one agent's virtual WASI: plain data that is captured and restored with the agent.

What does not travel, because it belongs to the station: the wall clock, randomness, the destination of output, granted
host directories. These come with each call (`ctx.ambient`) or with `launch` and `decode` (`grants`).

Invariants:
- the guest's monotonic clock starts above 0, counts all time from the first `begin` on, including the time between two
  stations, and never goes back, whatever the stations' clocks do;
- descriptor 3 is `/`, the luggage; then come the granted directories, by name. `/portcall` is a name in `/`;
- `encode` is deterministic, `decode(encode())` encodes to the same values, and `decode` raises only
  `BadSnapshot`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from agents import canonical
from agents.errors import BadSnapshot, CallFailed, NotCanonical

from .abi import ALL_RIGHTS, DIRECTORY, DIRECTORY_RIGHTS, EINVAL, OFFSET_MAX, REGULAR_FILE, U64
from .descriptors import Descriptor, DescriptorTable
from .devices import DEVICES_MOUNT as DEVICES
from .devices import DeviceFolder, decode_device
from .file_blocks import FileBlocks, FileContents
from .limits import WasiLimits
from .luggage import LuggageDirectory, LuggageFile, open_node, open_root, top_directories
from .luggage_codec import check_open, checked_int, decode_luggage, encode_luggage, fields, fill
from .nodes import Luggage, Node
from .paths import Route, parse_text, valid_name
from .portcall_files import CALLS_MOUNT, CallFolder, decode_call_file, decode_call_folder, held
from .streams import STDERR, STDOUT, InputStream, OutputStream
from .vfs import Directory, File, Grant

STATE_VERSION = (
    2  # of a state whose agent has started; before that, as in an image's luggage, 1: without the time of capture
)
_NEW = 1
_DEPTH = 16  # of containers in an encoded state
# ns that the monotonic clock shows when an agent starts: programs take 0 for "never" (Go's scheduler does), and also
# 0 seconds.
MONOTONIC_START_NS = 1_000_000_000
# The most ns between two stations that are believed: a station whose calendar is years off must not make them pass.
MAX_AWAY_NS = 7 * 86_400 * 1_000_000_000


class Clock(Protocol):
    """The part of the station that supplies the time."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that never goes back, from any origin."""


@attrs.define(eq=False, repr=False)
class WasiState:
    """One agent's virtual WASI."""

    limits: WasiLimits
    args: tuple[bytes, ...]
    environ: tuple[bytes, ...]  # NAME=value
    luggage: Luggage
    table: DescriptorTable
    stdin: InputStream
    elapsed_ns: int = 0  # what the monotonic clock showed last, ns
    captured: int | None = None  # wall time when it was captured, ns; None for an agent that has not started
    polling: tuple[int, int] | None = None  # monotonic and wall time when the current wait began, ns
    logged: int = 0  # bytes of output in this visit; does not travel
    _origin: int | None = None  # the station's clock when the guest's showed 0; does not travel

    @classmethod
    def launch(
        cls,
        args: Sequence[str | bytes] = (),
        environ: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        *,
        now: int = 0,
        stdin: bytes = b"",
        live_stdin: bool = False,
        limits: WasiLimits | None = None,
        grants: Mapping[str, Grant] | None = None,
    ) -> WasiState:
        """The state of an agent that starts.

        `files` maps paths to contents (see `luggage_codec.fill`); `now` is the files' time, ns since 1970;
        `grants` maps guest names of directories to host directories. Raises `CallFailed` if something
        exceeds `limits` or has an impossible name.
        """
        limits = limits or WasiLimits()
        luggage = Luggage.empty(limits, now)
        state = cls(limits, (), (), luggage, DescriptorTable(limits), InputStream())
        state._mount({})
        fill(luggage, files or {}, now)
        for channel in (state.stdin, OutputStream(STDOUT), OutputStream(STDERR)):
            state.table.add(Descriptor(channel.rights(), 0, channel=channel))
        state._preopen("/", open_root(luggage))
        state.equip(args, environ, stdin=stdin, live_stdin=live_stdin, grants=grants)
        return state

    def equip(
        self,
        args: Sequence[str | bytes] = (),
        environ: Mapping[str, str] | None = None,
        *,
        stdin: bytes = b"",
        live_stdin: bool = False,
        grants: Mapping[str, Grant] | None = None,
    ) -> None:
        """Add to an agent that has not started, such as one packed with its luggage: more
        arguments, variables (replacing those of the same name), input, and granted directories with a
        descriptor each.

        Raises `CallFailed` if something exceeds the limits or has an impossible name.
        """
        argv = (*self.args, *(_bytes(arg) for arg in args))
        variables = {entry.partition(b"=")[0]: entry for entry in self.environ}
        for name, value in (environ or {}).items():
            variables[_bytes(name)] = _bytes(f"{name}={value}")
        if not _fits(argv, tuple(variables.values()), self.limits) or len(stdin) > self.limits.stdin_bytes:
            raise CallFailed(EINVAL, "arguments, environment or input beyond this station's bounds")
        self.args, self.environ = argv, tuple(variables.values())
        if stdin or live_stdin:
            self.stdin.data, self.stdin.position, self.stdin.live = stdin, 0, live_stdin
        self._mount(grants or {})
        if any(_names(name) == () for name in grants or {}):  # a granted '/' hides the luggage's
            self._preopen(f"/{CALLS_MOUNT}", CallFolder())
            self._preopen(f"/{DEVICES}", DeviceFolder())
            for name, directory in top_directories(self.luggage):  # what was packed, including the agent's own code
                self._preopen(f"/{name}", directory)
        for name, grant in (grants or {}).items():
            self._preopen(name, grant.root())

    def _preopen(self, name: str, directory: Directory) -> None:
        self.table.add(Descriptor(DIRECTORY_RIGHTS, ALL_RIGHTS, directory=directory, preopen=name))

    def _mount(self, grants: Mapping[str, Grant]) -> None:
        self.luggage.mounts.update({CALLS_MOUNT: CallFolder(), DEVICES: DeviceFolder()})
        for name, grant in grants.items():
            names = _names(name)
            if names[:1] == (CALLS_MOUNT,):
                raise CallFailed(EINVAL, f"/{CALLS_MOUNT} cannot be a granted directory")
            if len(names) == 1:
                self.luggage.mounts[names[0]] = grant.root()

    def begin(self, clock: Clock) -> None:
        """The agent runs here: from now on its clock follows the station's. Harmless to repeat.

        The time since it was captured counts, as far as the stations' calendars agree that it passed.
        """
        if self._origin is not None:
            return
        away = 0 if self.captured is None else clock.wall_ns() - self.captured
        self.elapsed_ns = min(max(self.elapsed_ns, MONOTONIC_START_NS) + min(max(away, 0), MAX_AWAY_NS), U64)
        self._origin = clock.monotonic_ns() - self.elapsed_ns

    def pause(self, clock: Clock) -> None:
        """Stop the clock before `encode`; it goes on from there. Does nothing for an agent that has not started."""
        if self._origin is not None:
            self.monotonic(clock)
            self.captured = min(max(clock.wall_ns(), 0), U64)

    @property
    def times(self) -> tuple[int, int | None, int | None]:
        """Where its clocks stand: `elapsed_ns`, `captured`, and the station's clock when the guest's showed 0, if it
        runs here. To be set again by whoever captures it in the middle of a replay.
        """
        return self.elapsed_ns, self.captured, self._origin

    @times.setter
    def times(self, times: tuple[int, int | None, int | None]) -> None:
        self.elapsed_ns, self.captured, self._origin = times

    def monotonic(self, clock: Clock) -> int:
        """The guest's monotonic clock, ns."""
        origin = self.origin(clock)
        self.elapsed_ns = min(max(self.elapsed_ns, clock.monotonic_ns() - origin), U64)
        return self.elapsed_ns

    def origin(self, clock: Clock) -> int:
        """What the station's clock showed when the guest's showed 0, ns; it may be negative."""
        self.begin(clock)
        assert self._origin is not None
        return self._origin

    def wait_begins(self, clock: Clock) -> None:
        """Record the current time, for `waited`."""
        self.polling = (self.monotonic(clock), clock.wall_ns())

    def waited(self, clock: Clock, ns: int | None = None) -> None:
        """The wait is over; it took at least `ns`, if given: see `pass_time`."""
        began, self.polling = self.polling, None
        if began is not None and ns is not None:
            self.pass_time(clock, began[0] + ns)

    def pass_time(self, clock: Clock, until: int) -> None:
        """After a sleep: the guest's clock shows at least `until` (in its own ns), wherever it slept."""
        behind = until - self.monotonic(clock)
        if behind > 0 and self._origin is not None:
            self._origin -= behind
            self.elapsed_ns = min(until, U64)

    def close(self) -> None:
        """Release what the station lent: granted host directories. The state is not used again."""
        for _, descriptor in self.table:
            descriptor.close()
        self.table.open.clear()
        for mount in self.luggage.mounts.values():
            mount.close()
        self.luggage.mounts.clear()

    def open_nodes(self) -> list[Node]:
        """What is open in the luggage."""
        return [d.thing.node for _, d in self.table if isinstance(d.thing, LuggageFile | LuggageDirectory)]

    def written(self, files: FileBlocks) -> list[int]:
        """The blocks of large files that may have been written since this was asked last. The agent may run."""
        return files.written(self.luggage, self.open_nodes)

    def encode(self, files: FileBlocks | None = None) -> list[Any]:
        """Plain values that `agents.canonical` can encode. `files`: what of the luggage travels as blocks."""
        descriptors = [[fd, *descriptor.encode()] for fd, descriptor in self.table]
        return [
            _NEW if self.captured is None else STATE_VERSION,
            list(self.args),
            list(self.environ),
            encode_luggage(self.luggage, self.open_nodes(), files),
            descriptors,
            [self.stdin.data[self.stdin.position :], self.stdin.live],
            self.elapsed_ns if self.captured is None else [self.elapsed_ns, self.captured],
            None if self.polling is None else list(self.polling),
        ]

    @classmethod
    def read(
        cls,
        encoded: bytes,
        limits: WasiLimits | None = None,
        grants: Mapping[str, Grant] | None = None,
        contents: FileContents | None = None,
    ) -> WasiState:
        """`decode`, from bytes. Raises `BadSnapshot`."""
        limits = limits or WasiLimits()
        try:
            value = canonical.decode(encoded, canonical.DecodeBounds(limits.encoded, _DEPTH, limits.items))
        except NotCanonical as error:
            raise BadSnapshot(f"the WASI state cannot be read, or is beyond this station's bounds: {error}") from None
        return cls.decode(value, limits, grants, contents)

    @classmethod
    def decode(
        cls,
        value: object,
        limits: WasiLimits | None = None,
        grants: Mapping[str, Grant] | None = None,
        contents: FileContents | None = None,
    ) -> WasiState:
        """The state that `encode` wrote, at a station with these limits and granted directories.

        contents: of the files that travel as blocks; None where there are none

        A descriptor into a host directory is opened again if the station grants the same guest
        name and the file is still there; otherwise it is lost. Raises `BadSnapshot` for anything that `encode`
        would not write, or that exceeds `limits`.
        """
        limits, grants = limits or WasiLimits(), grants or {}
        version, args, environ, luggage, descriptors, stdin, elapsed, polling = fields(value, 8)
        if type(version) is not int or version not in (_NEW, STATE_VERSION):  # True equals 1, and would be written as 1
            raise BadSnapshot(f"WASI state of version {version!r}, not {_NEW} or {STATE_VERSION}")
        argv, env = _texts(args), _texts(environ)
        if not _fits(argv, env, limits):
            raise BadSnapshot("arguments or environment beyond this station's bounds")
        data, live = fields(stdin, 2)
        if not isinstance(data, bytes) or len(data) > limits.stdin_bytes or not isinstance(live, bool):
            raise BadSnapshot("standard input beyond this station's bounds, or without bytes")
        rebuilt, nodes = decode_luggage(luggage, limits, contents)
        shown, *captured = fields(elapsed, 2) if version == STATE_VERSION else [elapsed]
        state = cls(limits, argv, env, rebuilt, DescriptorTable(limits), InputStream(data, 0, live), checked_int(shown))
        state.captured = checked_int(captured[0]) if captured else None
        if polling is not None:
            began, wall = fields(polling, 2)
            state.polling = (checked_int(began), checked_int(wall))
        state._mount(grants)
        state._decode_descriptors(descriptors, nodes, grants)
        check_open(nodes)
        return state

    def _decode_descriptors(self, items: object, nodes: Mapping[int, Node], grants: Mapping[str, Grant]) -> None:
        if not isinstance(items, list) or len(items) > self.limits.descriptors:
            raise BadSnapshot("more open descriptors than this station takes")
        last = -1
        for item in items:
            fd, what, rights, inheriting, flags, offset, preopen = fields(item, 7)
            if checked_int(fd, 0, 0xFFFFFFFF) <= last:
                raise BadSnapshot("descriptors out of order")
            last = fd
            if preopen is not None and not (isinstance(preopen, str) and len(preopen) <= self.limits.path_bytes):
                raise BadSnapshot("a directory without a name, or with one that is too long")
            descriptor = Descriptor(
                checked_int(rights, 0, ALL_RIGHTS), checked_int(inheriting, 0, ALL_RIGHTS), checked_int(flags, 0, 31)
            )
            descriptor.offset, descriptor.preopen = checked_int(offset, 0, OFFSET_MAX), preopen
            self._attach(descriptor, what, nodes, grants)
            self.table.open[fd] = descriptor
        if held(descriptor.channel for descriptor in self.table.open.values()) > self.limits.call_bytes:
            raise BadSnapshot("open files of /portcall that hold more than this station takes")

    def _attach(
        self, descriptor: Descriptor, what: object, nodes: Mapping[int, Node], grants: Mapping[str, Grant]
    ) -> None:
        """Give the descriptor what it stands for."""
        if not isinstance(what, list) or not what:
            raise BadSnapshot("a descriptor of no known kind")
        kind = what[0]
        if kind in ("file", "directory"):
            node = nodes.get(checked_int(fields(what, 2)[1]))
            if node is None or node.kind != (REGULAR_FILE if kind == "file" else DIRECTORY):
                raise BadSnapshot("a descriptor that leads nowhere in the luggage")
            thing = open_node(self.luggage, node)
            if isinstance(thing, LuggageFile):
                descriptor.file = thing
            else:
                descriptor.directory = thing
        elif kind == "stdin" and len(what) == 1:
            descriptor.channel = self.stdin
        elif kind in ("stdout", "stderr") and len(what) == 1:
            descriptor.channel = OutputStream(STDOUT if kind == "stdout" else STDERR)
        elif kind == "call":
            descriptor.channel = decode_call_file(what)
        elif kind == "calls":
            descriptor.directory = decode_call_folder(what)
        elif kind == "device":
            descriptor.channel = decode_device(what)
        elif what == ["devices"]:
            descriptor.directory = DeviceFolder()
        elif kind in ("host-file", "host-directory"):
            self._reopen(descriptor, what, grants)
        elif what != ["lost"]:
            raise BadSnapshot("a descriptor of no known kind")

    def _reopen(self, descriptor: Descriptor, what: list[Any], grants: Mapping[str, Grant]) -> None:
        kind, name, names = fields(what, 3)
        if not isinstance(name, str) or not isinstance(names, list) or len(names) > self.limits.depth:
            raise BadSnapshot("a descriptor of a host directory without a path")
        if not all(valid_name(each, self.limits) for each in names):
            raise BadSnapshot("a descriptor of a host directory with an impossible path")
        if name not in grants:
            return
        try:
            thing: File | Directory = grants[name].reopen(
                tuple(names), REGULAR_FILE if kind == "host-file" else DIRECTORY
            )
        except CallFailed:
            return
        if kind == "host-file":
            descriptor.file = thing  # type: ignore[assignment]
        else:
            descriptor.directory = thing  # type: ignore[assignment]


def _names(guest: str) -> tuple[str, ...]:
    """The names in a granted directory's guest name: `/data` and `./data` are the same, and so are `/` and `.`."""
    text = guest.strip("/")
    names = parse_text(text, WasiLimits()).names if text else Route(()).names
    return names[:-1] if names[-1:] == (".",) else names


def _bytes(text: str | bytes) -> bytes:
    """UTF-8; invalid UTF-8 from the host's command line passes unchanged."""
    return text.encode(errors="surrogateescape") if isinstance(text, str) else bytes(text)


def _fits(args: Sequence[bytes], environ: Sequence[bytes], limits: WasiLimits) -> bool:
    texts = [*args, *environ]
    size = sum(len(text) + 16 for text in texts)
    return size <= limits.environment_bytes and not any(b"\0" in text for text in texts)


def _texts(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not all(isinstance(each, bytes) for each in value):
        raise BadSnapshot("arguments or environment that are not bytes")
    return tuple(value)
