"""What people are told of an agent that goes where its itinerary does not lead.

The sentence says what is allowed instead, and which `--via` would allow what was asked. Not here: the decision
(`Itinerary.toward`). Invariant: names of stations come from the caller; the length is bounded."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from agents.credentials.itinerary import (
    CertifiedStop,
    FreeStop,
    Itinerary,
    Leaf,
    Node,
    Opt,
    Position,
    PositionKind,
    Seq,
    Set,
    Stop,
)
from agents.credentials.keys import PublicKey
from agents.credentials.ways import Name, written
from agents.errors import CredentialError

MAX_NEXT = 5  # stops that are named
MAX_TEXT = 300  # characters of a way


def refusal(
    itinerary: Itinerary,
    positions: Sequence[Position],
    here: PublicKey,
    to: PublicKey,
    asked: str,
    name: Name,
    certifier: Name | None = None,
) -> str:
    """Why the agent may not go to a station, where it may go instead, and what would allow it.

    itinerary: its own
    positions: where in it the agent may be
    here: the station where it is, at its home or elsewhere
    to: the station
    asked: what the agent calls it
    name: what people call other stations
    certifier: what they call keys that certify; by default they are written whole
    """
    stops = [stop for stop in itinerary.ahead(positions, here) if not _names(stop, here)]
    where = f"leads to {_either(stops, name, certifier)}" if stops else "ends here"

    def called(key: PublicKey) -> str:
        return asked if key == to else name(key)

    way = _cut(written(itinerary, called, certifier))
    wider = _wider(itinerary, positions, here, to)
    said = f"its way does not lead to {asked[:80]!r} from here: it is {way}, and {where}. "
    if wider is None:
        return said + "--via of portcall launch names where it may go, in the order in which it may"
    return said + f"To allow it: portcall launch --via {shlex.quote(_cut(written(wider, called, certifier)))}"


def nowhere(
    itinerary: Itinerary, positions: Sequence[Position], here: PublicKey, name: Name, certifier: Name | None = None
) -> str:
    """Why there is no next station to go to. The arguments are those of `refusal`."""
    stops = [stop for stop in itinerary.ahead(positions, here) if not _names(stop, here)]
    if stops:
        return f"its way leads to {_either(stops, name, certifier)} from here: the agent must say which station"
    way = _cut(written(itinerary, name, certifier))
    return f"its way is at its end: it is {way}, and --via of portcall launch names more stops"


def _names(stop: Leaf, station: PublicKey) -> bool:
    return isinstance(stop, Stop) and stop.station == station


def _either(stops: Sequence[Leaf], name: Name, certifier: Name | None) -> str:
    shown = [_called(stop, name, certifier) for stop in stops[:MAX_NEXT]]
    if len(stops) > MAX_NEXT:
        shown.append(f"{len(stops) - MAX_NEXT} more")
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _called(stop: Leaf, name: Name, certifier: Name | None) -> str:
    if isinstance(stop, Stop):
        return repr(name(stop.station))
    if isinstance(stop, CertifiedStop):
        return f"any station certified by {certifier(stop.certifier) if certifier else stop.certifier.id}"
    return "any station"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def _wider(itinerary: Itinerary, positions: Sequence[Position], here: PublicKey, to: PublicKey) -> Itinerary | None:
    """The itinerary with one more stop, where it is clear at which place; else None."""
    try:
        return Itinerary(_with_stop(itinerary, positions, here, Stop(to)))
    except (LookupError, CredentialError):  # not clear, or too large
        return None


def _with_stop(itinerary: Itinerary, positions: Sequence[Position], here: PublicKey, more: Stop) -> Node:
    root = itinerary.root
    if isinstance(root, Seq) and len(root.parts) == 1:
        root = root.parts[0]
    if _names(root, here) if isinstance(root, (Stop, CertifiedStop, FreeStop)) else False:
        return more  # it was launched to stay
    if any(itinerary.complete(position) for position in positions):
        return Seq([*root.parts, more]) if isinstance(root, Seq) else Seq([root, more])
    if isinstance(root, Set):
        return Set([*root.parts, more])
    if isinstance(root, Seq):
        begun = [position.path[0] + 1 for position in positions if position.place is PositionKind.STOP]
        at = max(begun, default=0)
        return Seq([*root.parts[:at], Opt(more), *root.parts[at:]])
    raise LookupError


__all__ = ["nowhere", "refusal"]
