"""Where agents stay: stations, trust, transport, and the command `portcall`.

    async with docking.Station("alpha", home="alpha/", policy=docking.Policy(owners=[key])) as station:
        @station.service("thermometer.read")
        def read(request: bytes, visitor: docking.Visitor) -> bytes: ...
        agent = await station.launch(image, via=["beta", "gamma"], owner=key)

What an agent *is* (its formats, its execution) is the package `agents`, which knows nothing of this one. Importing
this package is cheap; its parts are imported when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.credentials.keys import PublicKey, SecretKey
    from agents.credentials.permit import Budget, Permit

    from . import itinerary, keys
    from .connection import AgentStatus, Connection, RemoteAgent, connect
    from .errors import AgentEnded, ControlError, DockingError, ServiceFailed, StationError
    from .events import Event
    from .handle import Agent, Report, Result
    from .launching import Terms
    from .letters.orders import OrderOutcome, SendOutcome
    from .options import Identity, Network, Running, Storage, Timing
    from .residents.services import Offering, Visitor
    from .station import Station
    from .threaded import Threaded
    from .trust.policy import OwnerRule, Policy, read_policy

_HOMES = {
    "agents.credentials.keys": ("PublicKey", "SecretKey"),
    "agents.credentials.permit": ("Budget", "Permit"),
    "docking.connection": ("AgentStatus", "Connection", "RemoteAgent", "connect"),
    "docking.handle": ("Agent", "Report", "Result"),
    "docking.trust.policy": ("OwnerRule", "Policy", "read_policy"),
    "docking.errors": ("AgentEnded", "ControlError", "DockingError", "ServiceFailed", "StationError"),
    "docking.events": ("Event",),
    "docking.launching": ("Terms",),
    "docking.letters.orders": ("OrderOutcome", "SendOutcome"),
    "docking.options": ("Identity", "Network", "Running", "Storage", "Timing"),
    "docking.station": ("Station",),
    "docking.threaded": ("Threaded",),
    "docking.residents.services": ("Offering", "Visitor"),
}
_MODULES = ("itinerary", "keys")
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Agent",
    "AgentEnded",
    "AgentStatus",
    "Budget",
    "Connection",
    "ControlError",
    "DockingError",
    "Event",
    "Identity",
    "Network",
    "Offering",
    "OrderOutcome",
    "OwnerRule",
    "Permit",
    "Policy",
    "PublicKey",
    "RemoteAgent",
    "Report",
    "Result",
    "Running",
    "SecretKey",
    "SendOutcome",
    "ServiceFailed",
    "Station",
    "StationError",
    "Storage",
    "Terms",
    "Threaded",
    "Timing",
    "Visitor",
    "connect",
    "itinerary",
    "keys",
    "read_policy",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
