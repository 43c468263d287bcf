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

    from .agent import Agent, Report, Result
    from .config import OwnerRule, Policy, read_policy
    from .errors import DockingError, ServiceFailed, StationError
    from .events import Event
    from .launching import Terms
    from .serve import Station
    from .threaded import Threaded
    from .yellowpages import Visitor

_HOMES = {
    "agents.credentials.keys": ("PublicKey", "SecretKey"),
    "agents.credentials.permit": ("Budget", "Permit"),
    "docking.agent": ("Agent", "Report", "Result"),
    "docking.config": ("OwnerRule", "Policy", "read_policy"),
    "docking.errors": ("DockingError", "ServiceFailed", "StationError"),
    "docking.events": ("Event",),
    "docking.launching": ("Terms",),
    "docking.serve": ("Station",),
    "docking.threaded": ("Threaded",),
    "docking.yellowpages": ("Visitor",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Agent",
    "Budget",
    "DockingError",
    "Event",
    "OwnerRule",
    "Permit",
    "Policy",
    "PublicKey",
    "Report",
    "Result",
    "SecretKey",
    "ServiceFailed",
    "Station",
    "StationError",
    "Terms",
    "Threaded",
    "Visitor",
    "read_policy",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
