"""Events of an agent's life, which it is told by functions that it may export: `portcall_on_arrived` and the others.

An event comes from a call that the agent makes (`go`, `sleep`, `recv` ...): it is told inside that call, when the
frames of its stack lie still. Two come from the station, as *notices*: they are asked for at the end of each call of
the module `portcall`. Not here: running those functions (`agents.execution`).
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.engines.protocols import Exported

CALLBACK_PREFIX = "portcall_on_"
NOTICES = ("retracted", "budget_low")
EVENTS = ("departing", "arrived", "sleeping", "woken", "cloned", "message", *NOTICES)
# Of a budget, in percent: when so much of it is used, the agent is told.
LOW_PERCENT = 90


def callbacks(exports: Mapping[str, Exported]) -> frozenset[str]:
    """The events for which a module with these exports has a function that takes and gives nothing."""
    found = ((event, exports.get(CALLBACK_PREFIX + event)) for event in EVENTS)
    return frozenset(
        event
        for event, each in found
        if each is not None and (each.kind, each.params, each.results) == ("func", "", "")
    )


def misfit(name: str, plain: bool) -> str:
    """What is wrong with an exported function of this name; empty: nothing. `plain`: it takes and gives nothing."""
    if not name.startswith(CALLBACK_PREFIX):
        return ""
    if name.removeprefix(CALLBACK_PREFIX) not in EVENTS:
        return f"the export {name!r} is for no event: there are {', '.join(EVENTS)}"
    return "" if plain else f"the export {name!r} is called without parameters, and gives nothing"
