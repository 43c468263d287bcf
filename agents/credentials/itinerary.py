"""Where an agent may go: a tree of stops, and positions in it that are checked one step at a time.

    Stop(station)     this station              Any(certifier)   any station that `certifier` certified
    Seq(a, b, c)      each, in this order       Alt(a, b, c)     one of them; the order is the preference
    Set(a, b, c)      each once, in any order   Loop(n, a)       `a` once, and again up to n times in all

Not here: who was where (`trail`), nor how an agent gets there.

How a position works. A position is the path from the root to the stop where the agent is, with what each part
must remember: for Seq and Alt which part, for Set which part and which are done (as bits), for Loop which
turn. A visit states its position, signed. So a verifier never searches: from one position the next ones are
read off the tree, by walking up from the stop, in time linear in its size, and the claimed one must be among
them. Simulating the tree as an automaton without claims would need 2^n states for a Set of n ambiguous parts:
an owner could stall every station. The price: where two positions fit one station (`Alt(Seq(a, b), Seq(a,
c))`), the station must choose on departure; it chooses one from which the agent's next stop can be reached.

Coming home is always a legal next stop: an owner can recall the agent from anywhere. It ends the journey,
unless home is the stop that the itinerary asks for.

Invariants: every part has at least one stop, so each step consumes exactly one; sizes and depth are bounded
when a tree is made, decoded or not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import Enum
from typing import Any as AnyValue

from attrs import field, frozen

from agents.credentials.fields import COUNT, LATEST, array, byte_string, uint
from agents.credentials.keys import KEY_SIZE, PublicKey
from agents.errors import CredentialError, MalformedCredential

# Each step looks at every stop at most once per level: these bound the work that a hostile owner causes per
# hop.
MAX_NODES = 1024
MAX_DEPTH = 12
# The done parts of a Set are bits of one CBOR integer.
MAX_SET = 64
MAX_PATH = 2 * MAX_DEPTH


def _nodes(value: tuple[Node, ...] | list[Node]) -> tuple[Node, ...]:
    return tuple(value)


@frozen
class Stop:
    """One station. `until`: the latest arrival, in milliseconds since 1970, or None."""

    station: PublicKey
    until: int | None = None


@frozen
class Any:
    """One station of the agent's choice that `certifier` certified (see `trail.Certificate`)."""

    certifier: PublicKey
    until: int | None = None


@frozen
class Seq:
    """Each part, in this order."""

    parts: tuple[Node, ...] = field(converter=_nodes)


@frozen
class Alt:
    """Exactly one part; the first is preferred."""

    parts: tuple[Node, ...] = field(converter=_nodes)


@frozen
class Set:
    """Each part exactly once, in any order. At most 64 parts."""

    parts: tuple[Node, ...] = field(converter=_nodes)


@frozen
class Loop:
    """`part`, at least once and at most `turns` times."""

    turns: int
    part: Node


Node = Stop | Any | Seq | Alt | Set | Loop


class Place(Enum):
    """The kind of a position: before the first stop, at a stop, or recalled home."""

    START = 0
    STOP = 1
    HOME = 2


@frozen
class Position:
    """Where in the itinerary an agent is. `path`: one or two integers per part from the root to the stop."""

    place: Place
    path: tuple[int, ...] = ()

    def value(self) -> list[int]:
        """As an array for CBOR: the place, then the path."""
        return [self.place.value, *self.path]

    @classmethod
    def from_value(cls, value: object) -> Position:
        """The inverse of `value`; `MalformedCredential`."""
        numbers = [uint(n, "position", 2**64 - 1) for n in array(value, "position", MAX_PATH + 1)]
        if not numbers or numbers[0] > 2 or (numbers[0] != 1 and len(numbers) > 1):
            raise MalformedCredential("position: not a place in an itinerary")
        return cls(Place(numbers[0]), tuple(numbers[1:]))


START = Position(Place.START)
HOME = Position(Place.HOME)


@frozen
class Step:
    """One way on: the position it leads to, and the stop that stands there."""

    position: Position
    stop: Stop | Any

    def admits(self, station: PublicKey, at: int, certifiers: Collection[PublicKey] = ()) -> bool:
        """Whether `station`, certified by `certifiers`, may be this stop at time `at` (ms)."""
        if self.stop.until is not None and at > self.stop.until:
            return False
        if isinstance(self.stop, Stop):
            return self.stop.station == station
        return self.stop.certifier in certifiers


@frozen
class Itinerary:
    """A bounded tree. `MalformedCredential` if it is too large or too deep, or has an empty part."""

    root: Node

    def __attrs_post_init__(self) -> None:
        if _measure(self.root, 1) > MAX_NODES:
            raise MalformedCredential(f"the itinerary has more than {MAX_NODES} parts")

    def steps(self, position: Position) -> Iterator[Step]:
        """The ways on from `position`, the preferred first; none at the end and from `HOME`.

        Raises `CredentialError` `itinerary` if `position` is not in this itinerary.
        """
        if position.place is Place.HOME:
            return
        if position.place is Place.START:
            yield from _first(self.root, ())
            return
        for part, at in reversed(_resolve(self.root, position.path)):
            before, here = position.path[:at], position.path[at:]
            if isinstance(part, Seq) and here[0] + 1 < len(part.parts):
                yield from _first(part.parts[here[0] + 1], (*before, here[0] + 1))
                return
            if isinstance(part, Set) and here[1] != (1 << len(part.parts)) - 1:
                for index, child in enumerate(part.parts):
                    if not here[1] >> index & 1:
                        yield from _first(child, (*before, index, here[1] | 1 << index))
                return
            if isinstance(part, Loop) and here[0] + 1 < part.turns:
                yield from _first(part.part, (*before, here[0] + 1))

    def reach(
        self,
        position: Position,
        station: PublicKey,
        at: int,
        home: PublicKey,
        certifiers: Collection[PublicKey] = (),
    ) -> tuple[Position, ...]:
        """The positions that arriving at `station` at time `at` (ms) may lead to; empty if it may not be
        next."""
        found = tuple(s.position for s in self.steps(position) if s.admits(station, at, certifiers))
        if not found and station == home and position.place is Place.STOP:
            return (HOME,)
        return found

    def complete(self, position: Position) -> bool:
        """Whether nothing that must still be visited is left at `position`."""
        if position.place is not Place.STOP:
            return False
        frames = _resolve(self.root, position.path)
        return not any(
            (isinstance(part, Seq) and position.path[at] + 1 < len(part.parts))
            or (isinstance(part, Set) and position.path[at + 1] != (1 << len(part.parts)) - 1)
            for part, at in frames
        )

    def stop(self, position: Position) -> Stop | Any | None:
        """The stop at `position`; None at the start and after a recall. `CredentialError` `itinerary` if none
        is."""
        if position.place is not Place.STOP:
            return None
        return _leaf(self.root, position.path)

    def value(self) -> list[AnyValue]:
        """As nested arrays for CBOR; see docs/reference/credentials.md."""
        return _value(self.root)

    @classmethod
    def from_value(cls, value: object) -> Itinerary:
        """The inverse of `value`; `MalformedCredential`."""
        return cls(_node(value, 1, [0]))

    @classmethod
    def via(cls, stations: Collection[PublicKey]) -> Itinerary:
        """One station after the other."""
        return cls(Seq([Stop(s) for s in stations]))

    def __str__(self) -> str:
        return _text(self.root)


def _measure(node: Node, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise MalformedCredential(f"the itinerary is nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, (Stop, Any)):
        if node.until is not None:
            uint(node.until, "itinerary: latest arrival", LATEST)
        return 1
    if isinstance(node, Loop):
        if uint(node.turns, "itinerary: turns of a loop") == 0:
            raise MalformedCredential("itinerary: a loop of no turns")
        return 1 + _measure(node.part, depth + 1)
    most = MAX_SET if isinstance(node, Set) else MAX_NODES
    if not 1 <= len(node.parts) <= most:
        raise MalformedCredential(
            f"itinerary: a part with {len(node.parts)} parts; from 1 to {most} are allowed"
        )
    return 1 + sum(_measure(part, depth + 1) for part in node.parts)


def _first(node: Node, path: tuple[int, ...]) -> Iterator[Step]:
    """The stops where `node` may begin, below `path`."""
    if isinstance(node, (Stop, Any)):
        yield Step(Position(Place.STOP, path), node)
    elif isinstance(node, Seq):
        yield from _first(node.parts[0], (*path, 0))
    elif isinstance(node, Alt):
        for index, part in enumerate(node.parts):
            yield from _first(part, (*path, index))
    elif isinstance(node, Set):
        for index, part in enumerate(node.parts):
            yield from _first(part, (*path, index, 1 << index))
    else:
        yield from _first(node.part, (*path, 0))


def _resolve(root: Node, path: tuple[int, ...]) -> list[tuple[Node, int]]:
    """The parts on the way to a stop, outermost first, each with the index of its numbers in `path`."""
    return _descend(root, path)[0]


def _leaf(root: Node, path: tuple[int, ...]) -> Stop | Any:
    return _descend(root, path)[1]


def _descend(root: Node, path: tuple[int, ...]) -> tuple[list[tuple[Node, int]], Stop | Any]:
    frames: list[tuple[Node, int]] = []
    node, at = root, 0
    try:
        while not isinstance(node, (Stop, Any)):
            frames.append((node, at))
            index = path[at]
            if isinstance(node, Loop):
                if index >= node.turns:
                    raise IndexError
                node, at = node.part, at + 1
            elif isinstance(node, Set):
                done = path[at + 1]
                # A set of bits without the part itself, or beyond the parts, would let a stop be visited
                # twice.
                if not done >> index & 1 or done >> len(node.parts):
                    raise IndexError
                node, at = node.parts[index], at + 2
            else:
                node, at = node.parts[index], at + 1
    except IndexError:
        raise CredentialError("itinerary", "a visit states a position that is not in the itinerary") from None
    if at != len(path):
        raise CredentialError("itinerary", "a visit states a position that is not in the itinerary")
    return frames, node


_STOP, _SEQ, _ALT, _SET, _LOOP, _ANY = range(6)


def _value(node: Node) -> list[AnyValue]:
    if isinstance(node, Stop):
        return [_STOP, node.station.raw] if node.until is None else [_STOP, node.station.raw, node.until]
    if isinstance(node, Any):
        return [_ANY, node.certifier.raw] if node.until is None else [_ANY, node.certifier.raw, node.until]
    if isinstance(node, Loop):
        return [_LOOP, node.turns, _value(node.part)]
    tag = _SEQ if isinstance(node, Seq) else _ALT if isinstance(node, Alt) else _SET
    return [tag, [_value(part) for part in node.parts]]


def _node(value: object, depth: int, count: list[int]) -> Node:
    # Bounded while reading: depth against the stack, count against a wide tree that is refused only when
    # built.
    count[0] += 1
    if depth > MAX_DEPTH or count[0] > MAX_NODES:
        raise MalformedCredential(f"the itinerary has more than {MAX_NODES} parts or {MAX_DEPTH} levels")
    parts = array(value, "itinerary", 3)
    tag = uint(parts[0], "itinerary: kind of part", 5) if parts else -1
    if tag in (_STOP, _ANY) and len(parts) >= 2:
        key = PublicKey(byte_string(parts[1], "itinerary: key", KEY_SIZE))
        until = uint(parts[2], "itinerary: latest arrival", LATEST) if len(parts) == 3 else None
        return Stop(key, until) if tag == _STOP else Any(key, until)
    if tag == _LOOP and len(parts) == 3:
        return Loop(uint(parts[1], "itinerary: turns of a loop", COUNT), _node(parts[2], depth + 1, count))
    if tag in (_SEQ, _ALT, _SET) and len(parts) == 2:
        children = [_node(p, depth + 1, count) for p in array(parts[1], "itinerary: parts", MAX_NODES)]
        return Seq(children) if tag == _SEQ else Alt(children) if tag == _ALT else Set(children)
    raise MalformedCredential("itinerary: not a part")


def _text(node: Node) -> str:
    if isinstance(node, Stop):
        return str(node.station)
    if isinstance(node, Any):
        return f"any station certified by {node.certifier}"
    if isinstance(node, Loop):
        return f"up to {node.turns} times ({_text(node.part)})"
    word = " then " if isinstance(node, Seq) else " or " if isinstance(node, Alt) else " and "
    inner = word.join(_text(p) if isinstance(p, (Stop, Any, Loop)) else f"({_text(p)})" for p in node.parts)
    return f"all of {inner}, in any order" if isinstance(node, Set) else inner
