"""Mobile agents: what an agent is, how it is packed, and how it runs.

    image = agents.pack(wasm_bytes)
    outcome = agents.run(image)

Importing the package is cheap; the parts are imported when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget import Budget
    from .engines import Limits, load
    from .image import AgentImage, Manifest
    from .life import Life
    from .outcomes import Departing, Exhausted, Finished, Outcome, Suspended, Trapped, Usage, Waiting
    from .packing import pack
    from .runtime import run
    from .snapshot import Snapshot
    from .version import VERSION

_HOMES = {
    "budget": ("Budget",),
    "engines": ("Limits", "load"),
    "image": ("AgentImage", "Manifest"),
    "outcomes": ("Departing", "Exhausted", "Finished", "Outcome", "Suspended", "Trapped", "Usage", "Waiting"),
    "packing": ("pack",),
    "life": ("Life",),
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
    "Exhausted",
    "Finished",
    "Life",
    "Limits",
    "Manifest",
    "Outcome",
    "Snapshot",
    "Suspended",
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
