"""The state of one agent's virtual WASI: plain data that is captured and restored with the agent.

What does not travel, because it is the station's: the wall clock, randomness, where output goes, granted host
directories. These come with each call (`ctx.ambient`) or with `launch` and `decode` (`grants`).

Invariants:
- the guest's monotonic clock starts near 0, goes on across hops and never goes back, whatever the stations'
  clocks do;
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

from .abi import ALL_RIGHTS, DIRECTORY, DIRECTORY_RIGHTS, EINVAL, REGULAR_FILE, U64
from .descriptors import Descriptor, Table
from .devices import MOUNT as DEVICES
from .devices import DeviceFolder, decode_device
from .limits import Limits
from .luggage import LuggageDirectory, LuggageFile, open_node, open_root
from .luggage_codec import check_open, decode_luggage, encode_luggage, fields, fill, whole
from .nodes import Luggage, Node
from .paths import Route, parse_text, valid_name
from .portcall_files import MOUNT, CallFolder, decode_call_file, decode_call_folder, held
from .streams import STDERR, STDOUT, Input, Output
from .trees import Directory, File, Grant

VERSION = 1
_DEPTH = 16  # of containers in an encoded state
_OFFSET_MAX = (1 << 63) - 1


class Clock(Protocol):
    """The part of the station that time comes from."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that never goes back, from any origin."""


@attrs.define(eq=False)
class WasiState:
    """One agent's virtual WASI."""

    limits: Limits
    args: tuple[bytes, ...]
    environ: tuple[bytes, ...]  # NAME=value
    luggage: Luggage
    table: Table
    stdin: Input
    elapsed: int = 0  # what the monotonic clock showed last, ns
    polling: tuple[int, int] | None = None  # monotonic and wall time when the poll that waits began, ns
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
        limits: Limits | None = None,
        grants: Mapping[str, Grant] | None = None,
    ) -> WasiState:
        """The state of an agent that starts.

        `files` maps paths to contents (see `luggage_codec.fill`); `now` is the files' time, ns since 1970;
        `grants` maps guest names of directories to host directories. Raises `CallFailed` when something is
        beyond `limits` or has an impossible name.
        """
        limits = limits or Limits()
        luggage = Luggage.empty(limits, now)
        state = cls(limits, (), (), luggage, Table(limits), Input())
        state._mount({})
        fill(luggage, files or {}, now)
        for channel in (state.stdin, Output(STDOUT), Output(STDERR)):
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
        """What is added to an agent that has not begun, such as one that was packed with its luggage: further
        arguments, variables (in place of those of the same name), input, and granted directories with a
        descriptor each.

        Raises `CallFailed` when something is beyond the limits or has an impossible name.
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
            self._preopen(f"/{MOUNT}", CallFolder())
            self._preopen(f"/{DEVICES}", DeviceFolder())
        for name, grant in (grants or {}).items():
            self._preopen(name, grant.root())

    def _preopen(self, name: str, directory: Directory) -> None:
        self.table.add(Descriptor(DIRECTORY_RIGHTS, ALL_RIGHTS, directory=directory, preopen=name))

    def _mount(self, grants: Mapping[str, Grant]) -> None:
        self.luggage.mounts.update({MOUNT: CallFolder(), DEVICES: DeviceFolder()})
        for name, grant in grants.items():
            names = _names(name)
            if names[:1] == (MOUNT,):
                raise CallFailed(EINVAL, f"/{MOUNT} cannot be a granted directory")
            if len(names) == 1:
                self.luggage.mounts[names[0]] = grant.root()

    def monotonic(self, clock: Clock) -> int:
        """The guest's monotonic clock, ns."""
        now = clock.monotonic_ns()
        if self._origin is None:
            self._origin = now - self.elapsed
        self.elapsed = min(max(self.elapsed, now - self._origin), U64)
        return self.elapsed

    def pass_time(self, clock: Clock, until: int) -> None:
        """After a sleep: the guest's clock shows at least `until` (its own ns), wherever it slept."""
        behind = until - self.monotonic(clock)
        if behind > 0 and self._origin is not None:
            self._origin -= behind
            self.elapsed = min(until, U64)

    def slept(self, clock: Clock, ns: int) -> None:
        """After a sleep of `ns` during which nobody looked at the clock; see `pass_time`."""
        self.pass_time(clock, self.elapsed + ns)

    def close(self) -> None:
        """Give up what the station lent: granted host directories. The state is not used again."""
        for _, descriptor in self.table:
            descriptor.close()
        self.table.open.clear()
        for mount in self.luggage.mounts.values():
            mount.close()
        self.luggage.mounts.clear()

    def encode(self) -> list[Any]:
        """Plain values that `agents.canonical` can encode."""
        descriptors = [[fd, *descriptor.encode()] for fd, descriptor in self.table]
        opened = [d.thing.node for _, d in self.table if isinstance(d.thing, LuggageFile | LuggageDirectory)]
        return [
            VERSION,
            list(self.args),
            list(self.environ),
            encode_luggage(self.luggage, opened),
            descriptors,
            [self.stdin.data[self.stdin.position :], self.stdin.live],
            self.elapsed,
            None if self.polling is None else list(self.polling),
        ]

    @classmethod
    def read(
        cls, encoded: bytes, limits: Limits | None = None, grants: Mapping[str, Grant] | None = None
    ) -> WasiState:
        """`decode`, from bytes. Raises `BadSnapshot`."""
        limits = limits or Limits()
        try:
            value = canonical.decode(encoded, canonical.Bounds(limits.encoded, _DEPTH, limits.items))
        except NotCanonical as error:
            raise BadSnapshot(f"the WASI state cannot be read, or is beyond this station's bounds: {error}") from None
        return cls.decode(value, limits, grants)

    @classmethod
    def decode(
        cls, value: object, limits: Limits | None = None, grants: Mapping[str, Grant] | None = None
    ) -> WasiState:
        """The state that `encode` wrote, at a station with these bounds and granted directories.

        A descriptor that leads into a host directory is opened again when the station grants the same guest
        name and the file is still there, else it is lost. Raises `BadSnapshot` for anything that `encode`
        would not write, or that is beyond `limits`.
        """
        limits, grants = limits or Limits(), grants or {}
        version, args, environ, luggage, descriptors, stdin, elapsed, polling = fields(value, 8)
        if type(version) is not int or version != VERSION:  # True equals 1, and would be written as 1
            raise BadSnapshot(f"WASI state of version {version!r}, not {VERSION}")
        argv, env = _texts(args), _texts(environ)
        if not _fits(argv, env, limits):
            raise BadSnapshot("arguments or environment beyond this station's bounds")
        data, live = fields(stdin, 2)
        if not isinstance(data, bytes) or len(data) > limits.stdin_bytes or not isinstance(live, bool):
            raise BadSnapshot("standard input beyond this station's bounds, or without bytes")
        rebuilt, nodes = decode_luggage(luggage, limits)
        state = cls(limits, argv, env, rebuilt, Table(limits), Input(data, 0, live), whole(elapsed))
        if polling is not None:
            began, wall = fields(polling, 2)
            state.polling = (whole(began), whole(wall))
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
            if whole(fd, 0, 0xFFFFFFFF) <= last:
                raise BadSnapshot("descriptors out of order")
            last = fd
            if preopen is not None and not (isinstance(preopen, str) and len(preopen) <= self.limits.path_bytes):
                raise BadSnapshot("a directory without a name, or with one that is too long")
            descriptor = Descriptor(whole(rights, 0, ALL_RIGHTS), whole(inheriting, 0, ALL_RIGHTS), whole(flags, 0, 31))
            descriptor.offset, descriptor.preopen = whole(offset, 0, _OFFSET_MAX), preopen
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
            node = nodes.get(whole(fields(what, 2)[1]))
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
            descriptor.channel = Output(STDOUT if kind == "stdout" else STDERR)
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
    """The names in a granted directory's guest name: `/data` and `./data` are the same."""
    text = guest.strip("/")
    return parse_text(text, Limits()).names if text else Route(()).names


def _bytes(text: str | bytes) -> bytes:
    """UTF-8; what the host's command line had that is none passes unchanged."""
    return text.encode(errors="surrogateescape") if isinstance(text, str) else bytes(text)


def _fits(args: Sequence[bytes], environ: Sequence[bytes], limits: Limits) -> bool:
    texts = [*args, *environ]
    size = sum(len(text) + 16 for text in texts)
    return size <= limits.environment_bytes and not any(b"\0" in text for text in texts)


def _texts(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not all(isinstance(each, bytes) for each in value):
        raise BadSnapshot("arguments or environment that are not bytes")
    return tuple(value)
