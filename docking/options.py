"""What a `Station` may be told when it is made, in groups.

Each group is an attrs class with defaults. `Station` takes a group whole (`network=Network(host="127.0.0.1")`) or any
of its fields by its name (`host="127.0.0.1"`), not both. Invariant: a field belongs to one group.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from attrs import evolve, field, fields_dict, frozen

from agents.brief import brief
from agents.credentials.keys import SecretKey
from docking.aio.clocks import Clocks
from docking.handoff.actions import Timing
from docking.store.store import Failpoint, never

__all__ = ["Identity", "Network", "Running", "StationFields", "StationOptions", "Storage", "Timing"]


@frozen
class Network:
    """How a station is reached, and whom it looks for.

    host: address to listen at ("0.0.0.0", every one of this machine)
    port: to listen at; 0 (the default) takes a free one, None listens nowhere: mount `Station.asgi()`, and give `url`
    url: where peers reach the station, if not at host and port: behind a proxy, or mounted with a path
    peers: URLs of stations to greet at the start, and again until they answer (none)
    mdns: announce the station on the local network, and browse for others (True)
    show_metrics: answer `/portcall/1/metrics` to anyone (False)
    docks: URLs of stations where what is meant for this one waits while it is away (none)
    """

    host: str = "0.0.0.0"
    port: int | None = 0
    url: str | None = None
    peers: Sequence[str] = field(default=(), repr=brief)
    mdns: bool = True
    show_metrics: bool = False
    docks: Sequence[str] = field(default=(), repr=brief)


@frozen
class Identity:
    """Who a station is.

    key: its secret key; None reads it from its home, or makes one
    certificates: envelopes by which others certify it; those in `certificates/` of its home are read too
    passphrase: called for the passphrase when the key at home has one
    """

    key: SecretKey | None = field(default=None, repr=False)
    certificates: Sequence[bytes] = field(default=(), repr=brief)
    passphrase: Callable[[], str] | None = None


@frozen
class Storage:
    """What a station keeps at home.

    volatile: keep the store in memory, although there is a home (False)
    record_mib: keep so many MiB of what agents were told here, for `portcall replay`, in the home; None for what the
        policy says, which is nothing by default
    control: answer the commands of the user who runs it, `portcall agents` and others; needs a home (True)
    failpoint: called between two steps of a write, for tests of crashes
    """

    volatile: bool = False
    control: bool = True
    failpoint: Failpoint = never
    record_mib: int | None = None


@frozen
class Running:
    """How a station runs agents.

    engine: "wasmtime" (the default), or "v8" or "wasmer" where they are installed
    threads: agents that run at once; None for one a processor, at least 2 and at most 16
    ahead_mib: agents with as many MiB of memory are sent ahead to their one next stop while they run, so that their
        `go` takes less long; None for none
    clocks: where time and chance come from; None for the machine's
    """

    engine: str = "wasmtime"
    threads: int | None = None
    ahead_mib: int | None = None
    clocks: Clocks | None = None


class StationFields(TypedDict, total=False):
    """Any field of a group, to be given to `Station` by its name."""

    host: str
    port: int | None
    url: str | None
    peers: Sequence[str]
    mdns: bool
    show_metrics: bool
    docks: Sequence[str]
    key: SecretKey | None
    certificates: Sequence[bytes]
    passphrase: Callable[[], str] | None
    volatile: bool
    control: bool
    failpoint: Failpoint
    record_mib: int | None
    engine: str
    threads: int | None
    ahead_mib: int | None
    clocks: Clocks | None
    patience_s: float
    patience: float


@frozen
class StationOptions:
    """All options of one station, in its groups: `network`, `identity`, `storage`, `running` and `timing`."""

    network: Network
    identity: Identity
    storage: Storage
    running: Running
    timing: Timing

    @classmethod
    def of(cls, groups: Mapping[str, object], fields: Mapping[str, object]) -> StationOptions:
        """The groups that were given (None: the default), with the fields that were given by name.

        Raises TypeError for a field that is in no group, or one whose group was given whole.
        """
        kinds: dict[str, type[Any]] = {
            "network": Network,
            "identity": Identity,
            "storage": Storage,
            "running": Running,
            "timing": Timing,
        }
        home = {name: group for group, kind in kinds.items() for name in fields_dict(kind)}
        fields = {("patience_s" if name == "patience" else name): value for name, value in fields.items()}
        made: dict[str, Any] = {}
        for group, kind in kinds.items():
            given = groups.get(group)
            if given is not None and not isinstance(given, kind):
                raise TypeError(f"Station: {group} is a docking.{kind.__name__}, not {type(given).__name__}")
            made[group] = kind() if given is None else given
        for name, value in fields.items():
            if name not in home:
                near = difflib.get_close_matches(name, [*home, *kinds], 1)
                raise TypeError(f"Station has no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
            group = home[name]
            if groups.get(group) is not None and group != "timing":
                raise TypeError(f"Station: give {name} in {group}, or by itself, not both")
            made[group] = evolve(made[group], **{name: value})
        return cls(**made)
