"""Mobile agents: what an agent is, how it is packed, and how it runs.

    image = agents.pack(wasm_bytes)
    outcome = agents.run(image)

Importing the package is cheap; its parts are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget import Budget, TimeBudget
    from .engines import Limits, load
    from .execution import Execution, Life
    from .image import AgentImage, Manifest
    from .outcomes import Departing, Exhausted, Finished, Outcome, Suspended, Trapped, Usage, Waiting
    from .packing import pack
    from .runtime import run
    from .snapshot import Snapshot
    from .version import VERSION

_HOMES = {
    "budget": ("Budget", "TimeBudget"),
    "engines": ("Limits", "load"),
    "image": ("AgentImage", "Manifest"),
    "outcomes": ("Departing", "Exhausted", "Finished", "Outcome", "Suspended", "Trapped", "Usage", "Waiting"),
    "packing": ("pack",),
    "execution": ("Execution", "Life"),
    "runtime": ("run",),
    "snapshot": ("Snapshot",),
    "version": ("VERSION",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "VERSION",
    "AgentImage",
    "Budget",
    "Departing",
    "Execution",
    "Exhausted",
    "Finished",
    "Life",
    "Limits",
    "Manifest",
    "Outcome",
    "Snapshot",
    "Suspended",
    "TimeBudget",
    "Trapped",
    "Usage",
    "Waiting",
    "load",
    "pack",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
