"""Where an agent may go: a tree of stops, and positions in it that are checked one step at a time.

    Stop(station)     this station              CertifiedStop(key)   any station that `certifier` certified
    Seq(a, b, c)      each, in this order       Alt(a, b, c)     one of them; the order is the preference
    Set(a, b, c)      each once, in any order   Loop(n, a)       `a` once, and again up to n times in all
    Opt(a)            `a`, or nothing           FreeStop()       any station at all

Not here: who was where (`trail`), how an agent gets there, and how people write it (`ways`).

How a position works. A position is the path from the root to the agent's stop, with what each part
must remember: for Seq and Alt which part, for Set which part and which are done (as bits), for Loop which
turn. A visit states its position, signed, so a verifier never searches: it reads the possible next positions
off the tree, by walking up from the stop, in time linear in the tree's size, and the claimed one must be among
them. Simulating the tree as an automaton without claims would need 2^n states for a Set of n ambiguous parts, and
an owner could stall every station. The price: where two positions fit one station (`Alt(Seq(a, b), Seq(a,
c))`), the station must choose on departure; it chooses one from which the agent's next stop can be reached.
Why: docs/adr/itinerary-by-positions.

Coming home is always a legal next stop: an owner can recall the agent from anywhere. It ends the journey,
unless home is the next stop of the itinerary.

Invariants: every part has at least one stop, and each step leads to one: what may be left out leaves no trace in a
position. Sizes and depth are bounded when a tree is made, decoded or not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import Any

from attrs import field, frozen

from agents.brief import brief
from agents.credentials.fields import COUNT, LATEST_MS, array, byte_string, text, uint
from agents.credentials.keys import KEY_SIZE, PublicKey, public_key
from agents.errors import CredentialError, MalformedCredential

# Each step looks at every stop at most once per level, so these bound the work that a hostile owner causes per
# hop.
MAX_NODES = 1024
MAX_DEPTH = 12
# The parts of a Set that are done are bits of one CBOR integer.
MAX_SET = 64
MAX_POSITION_PATH = 2 * MAX_DEPTH
MAX_TASK_BYTES = 64


def _nodes(value: tuple[Node, ...] | list[Node]) -> tuple[Node, ...]:
    return tuple(value)


@frozen
class Stop:
    """One station.

    station: its key
    until: the latest arrival, milliseconds since 1970; None for any time
    task: the export that the station calls there, up to 64 bytes; empty if the agent travels by itself
    """

    station: PublicKey
    until: int | None = None
    task: str = ""


@frozen
class CertifiedStop:
    """One station of the agent's choice that a certifier vouches for (see `visits.Certificate`).

    certifier: the key that signed the station's certificate
    until: the latest arrival, milliseconds since 1970; None for any time
    """

    certifier: PublicKey
    until: int | None = None


@frozen
class FreeStop:
    """One station of the agent's choice, whichever it is.

    until: the latest arrival, milliseconds since 1970; None for any time
    """

    until: int | None = None


@frozen
class Seq:
    """Each part, in this order.

    parts: stops, or further parts
    """

    parts: tuple[Node, ...] = field(converter=_nodes, repr=brief)


@frozen
class Alt:
    """Exactly one part.

    parts: stops, or further parts; the first is preferred
    """

    parts: tuple[Node, ...] = field(converter=_nodes, repr=brief)


@frozen
class Set:
    """Each part exactly once, in any order.

    parts: stops, or further parts; at most 64
    """

    parts: tuple[Node, ...] = field(converter=_nodes, repr=brief)


@frozen
class Loop:
    """One part, again and again.

    turns: the most times; it is visited at least once
    part: a stop, or a further part
    """

    turns: int
    part: Node


@frozen
class Opt:
    """One part, or nothing.

    part: a stop, or a further part
    """

    part: Node


Leaf = Stop | CertifiedStop | FreeStop
Node = Leaf | Seq | Alt | Set | Loop | Opt
_LEAVES = (Stop, CertifiedStop, FreeStop)


class PositionKind(Enum):
    """The kind of a position: before the first stop, at a stop, or recalled home."""

    START = 0
    STOP = 1
    HOME = 2


@frozen
class Position:
    """Where in the itinerary an agent is. `path`: one or two integers per part from the root to the stop."""

    place: PositionKind
    path: tuple[int, ...] = field(default=(), repr=brief)

    def value(self) -> list[int]:
        """As an array for CBOR: the place, then the path."""
        return [self.place.value, *self.path]

    @classmethod
    def from_value(cls, value: object) -> Position:
        """The inverse of `value`. Raises `MalformedCredential`."""
        numbers = [uint(n, "position", 2**64 - 1) for n in array(value, "position", MAX_POSITION_PATH + 1)]
        if not numbers or numbers[0] > 2 or (numbers[0] != 1 and len(numbers) > 1):
            raise MalformedCredential("position: not a place in an itinerary")
        return cls(PositionKind(numbers[0]), tuple(numbers[1:]))


START = Position(PositionKind.START)
HOME = Position(PositionKind.HOME)


@frozen
class Step:
    """One possible step: the position it leads to, and the stop there."""

    position: Position
    stop: Leaf

    def admits(self, station: PublicKey, at: int, certifiers: Collection[PublicKey] = ()) -> bool:
        """Whether `station`, certified by `certifiers`, may be this stop at time `at` (ms)."""
        if self.stop.until is not None and at > self.stop.until:
            return False
        if isinstance(self.stop, Stop):
            return self.stop.station == station
        return isinstance(self.stop, FreeStop) or self.stop.certifier in certifiers


# Positions that one visit may stand for: anybody can write an itinerary with a million turns at one station. No more
# than `MAX_NODES` steps are looked at for them.
MOST_STAYS = 64
# Stops for which an itinerary remembers the ways on, and ways on from one of them.
MOST_STOPS, MOST_WAYS = 8, 16


@frozen
class Itinerary:
    """Where an agent may go: a tree of stops.

        Itinerary(Seq((Stop(alpha), Loop(10, Alt((Stop(beta), Stop(gamma)))))))

    root: the whole way, of up to 1024 parts, 12 deep

    Raises `MalformedCredential` if it is too large or too deep, or has an empty part; and, where stops name tasks, if
    one names none, or if one station may be two stops in a row.
    """

    root: Node
    # A hop asks four times for the steps from the same one or two stops.
    _ways: dict[tuple[int, ...], tuple[Step, ...]] = field(factory=dict, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if _measure(self.root, 1) > MAX_NODES:
            raise MalformedCredential(f"the itinerary has more than {MAX_NODES} parts")
        if self.has_tasks:
            if not all(isinstance(leaf, Stop) and leaf.task for leaf in _leaves(self.root)):
                raise MalformedCredential("the itinerary names tasks: then each stop is a station with a task")
            _edges(self.root)

    @property
    def has_tasks(self) -> bool:
        """Whether stations call a task at each stop, and send the agent on after it."""
        return any(isinstance(leaf, Stop) and leaf.task for leaf in _leaves(self.root))

    @property
    def all_tasks(self) -> frozenset[str]:
        """The tasks of all stops."""
        return frozenset(leaf.task for leaf in _leaves(self.root) if isinstance(leaf, Stop) and leaf.task)

    def tasks(self, positions: Sequence[Position]) -> frozenset[str]:
        """The tasks that may be called.

        positions: where the agent may be
        """
        stops = map(self.stop, positions)
        return frozenset(stop.task for stop in stops if isinstance(stop, Stop) and stop.task)

    def steps(self, position: Position) -> Iterator[Step]:
        """The possible steps from `position`, preferred first; none at the end and from `HOME`.

        Raises `CredentialError` `itinerary` if `position` is not in this itinerary.
        """
        if position.place is PositionKind.HOME:
            return iter(())
        if position.place is PositionKind.START:
            return _first(self.root, ())
        ways = self._ways.get(position.path)
        if ways is None:
            ways = tuple(self._after(position.path))
            # The cache is bounded: anybody can write an itinerary with a thousand steps from each stop.
            if len(ways) <= MOST_WAYS:
                if len(self._ways) >= MOST_STOPS:
                    self._ways.clear()
                self._ways[position.path] = ways
        return iter(ways)

    def _after(self, path: tuple[int, ...]) -> Iterator[Step]:
        for part, at in reversed(_resolve(self.root, path)):
            before, here = path[:at], path[at:]
            if isinstance(part, Seq):
                yield from _first_of(part.parts, here[0] + 1, before)
            elif isinstance(part, Set):
                for index, child in enumerate(part.parts):
                    if not here[1] >> index & 1:
                        yield from _first(child, (*before, index, here[1] | 1 << index))
            elif isinstance(part, Loop) and here[0] + 1 < part.turns:
                yield from _first(part.part, (*before, here[0] + 1))
            if not _may_end(part, here):
                return

    def reach(
        self,
        position: Position,
        station: PublicKey,
        at: int,
        home: PublicKey,
        certifiers: Collection[PublicKey] = (),
    ) -> tuple[Position, ...]:
        """The positions that an arrival may lead to; empty if the station may not be next.

        position: where the agent is
        station: where it arrives
        at: when, milliseconds since 1970
        home: the agent's home, where a recall leads from any stop
        certifiers: who is known to have certified the station

        Those of one step come first, then those of stops behind it that are this station too.
        """
        found = tuple(s.position for s in self.steps(position) if s.admits(station, at, certifiers))
        if found:
            return self._staying(found, station, at)
        if station == home and position.place is PositionKind.STOP:
            return (HOME,)
        return found

    def begin(self, home: PublicKey, at: int) -> tuple[Position, ...]:
        """The positions of an agent that is launched: at its first stop if that names its home, else before it.

        home: the agent's home
        at: when, milliseconds since 1970
        """
        found = self.reach(START, home, at, home)
        return tuple(position for position in found if isinstance(self.stop(position), Stop)) or (START,)

    def ahead(self, positions: Sequence[Position], here: PublicKey) -> list[Leaf]:
        """The stops that may be next, the preferred first.

        positions: where the agent may be
        here: the station at which it is

        Not `here`: who stays has been there (`reach`). What is preferred less than staying comes last.
        """
        first: list[Leaf] = []
        last: list[Leaf] = []
        for position in positions:
            found = first
            for step in self.steps(position):
                if isinstance(step.stop, Stop) and step.stop.station == here:
                    found = last
                else:
                    found.append(step.stop)
        return list(dict.fromkeys([*first, *last]))

    def toward(
        self,
        positions: Sequence[Position],
        to: PublicKey,
        at: int,
        home: PublicKey,
        certifiers: Collection[PublicKey] = (),
    ) -> Position | None:
        """The first of `positions`, where the agent may be, from which it may go to `to`; None if it may not.

        at, home, certifiers: as of `reach`; `certifiers` are those of `to`
        """
        recalled = None
        for position in positions:
            found = self.reach(position, to, at, home, certifiers)
            if found and found != (HOME,):
                return position
            recalled = position if found and recalled is None else recalled
        return recalled

    def _staying(self, found: tuple[Position, ...], station: PublicKey, at: int) -> tuple[Position, ...]:
        """`found`, and where an agent there comes by staying: stops that name one station, one after the other, are
        one visit, since nobody can go where they are."""
        stays, looks = list(found), MAX_NODES
        for position in stays:  # which grows
            for step in self.steps(position):
                looks -= 1
                if len(stays) >= MOST_STAYS or looks < 0:
                    return tuple(stays)
                named = isinstance(step.stop, Stop) and step.admits(station, at)
                if named and step.position not in stays:
                    stays.append(step.position)
        return tuple(stays)

    def complete(self, position: Position) -> bool:
        """Whether nothing is left at `position` that must still be visited."""
        if position.place is not PositionKind.STOP:
            return position.place is PositionKind.START and _skippable(self.root)
        return all(_may_end(part, position.path[at:]) for part, at in _resolve(self.root, position.path))

    def stop(self, position: Position) -> Leaf | None:
        """The stop at `position`; None at the start and after a recall.

        Raises `CredentialError` `itinerary` if there is no such position.
        """
        if position.place is not PositionKind.STOP:
            return None
        return _leaf(self.root, position.path)

    def value(self) -> list[Any]:
        """As nested arrays for CBOR; see docs/reference/credentials.md."""
        return _value(self.root)

    @classmethod
    def from_value(cls, value: object) -> Itinerary:
        """The inverse of `value`. Raises `MalformedCredential`."""
        return cls(_node(value, 1, [0]))

    @classmethod
    def via(cls, stations: Collection[PublicKey]) -> Itinerary:
        """One station after another.

        stations: their keys, in this order
        """
        return cls(Seq([Stop(s) for s in stations]))


def _measure(node: Node, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise MalformedCredential(f"the itinerary is nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, _LEAVES):
        if node.until is not None:
            uint(node.until, "itinerary: latest arrival", LATEST_MS)
        if isinstance(node, Stop) and node.task != "":
            text(node.task, "itinerary: task", MAX_TASK_BYTES)
        return 1
    if isinstance(node, Loop):
        if uint(node.turns, "itinerary: turns of a loop") == 0:
            raise MalformedCredential("itinerary: a loop of no turns")
        return 1 + _measure(node.part, depth + 1)
    if isinstance(node, Opt):
        return 1 + _measure(node.part, depth + 1)
    most = MAX_SET if isinstance(node, Set) else MAX_NODES
    if not 1 <= len(node.parts) <= most:
        raise MalformedCredential(f"itinerary: a part with {len(node.parts)} parts; from 1 to {most} are allowed")
    return 1 + sum(_measure(part, depth + 1) for part in node.parts)


def _leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, _LEAVES):
        yield node
    else:
        for part in [node.part] if isinstance(node, (Loop, Opt)) else node.parts:
            yield from _leaves(part)


def _edges(node: Node) -> tuple[frozenset[PublicKey], frozenset[PublicKey]]:
    """The stations where `node` may begin, and where it may end. Raises if one may be two stops in a row: they would be
    one visit, and which of the two tasks was done would stand nowhere."""
    if isinstance(node, Stop):
        return frozenset([node.station]), frozenset([node.station])
    if isinstance(node, (Loop, Opt)):
        first, last = _edges(node.part)
        if isinstance(node, Loop) and node.turns > 1:
            _apart(last, first)
        return first, last
    assert isinstance(node, (Seq, Alt, Set))
    edges = [_edges(part) for part in node.parts]
    if isinstance(node, Seq):
        first, last = frozenset[PublicKey](), frozenset[PublicKey]()
        begins = True
        for part, (begin, end) in zip(node.parts, edges, strict=True):
            _apart(last, begin)
            first = first | begin if begins else first
            begins = begins and _skippable(part)
            last = last | end if _skippable(part) else end
        return first, last
    if isinstance(node, Set):
        for index, (begin, _) in enumerate(edges):
            for other, (_, end) in enumerate(edges):
                if index != other:
                    _apart(end, begin)
    return frozenset().union(*(begin for begin, _ in edges)), frozenset().union(*(end for _, end in edges))


def _apart(before: frozenset[PublicKey], after: frozenset[PublicKey]) -> None:
    if not before.isdisjoint(after):
        raise MalformedCredential("one station may be two stops in a row: give it one task that does both")


def _skippable(node: Node) -> bool:
    """Whether `node` may be left out."""
    if isinstance(node, (Seq, Set)):
        return all(_skippable(part) for part in node.parts)
    if isinstance(node, Alt):
        return any(_skippable(part) for part in node.parts)
    return isinstance(node, Opt) or (isinstance(node, Loop) and _skippable(node.part))


def _may_end(part: Node, here: Sequence[int]) -> bool:
    """Whether what `part` still has may be left out. `here`: the rest of the path, from this part on."""
    if isinstance(part, Seq):
        return all(_skippable(part.parts[index]) for index in range(here[0] + 1, len(part.parts)))
    if isinstance(part, Set):
        return all(here[1] >> index & 1 or _skippable(child) for index, child in enumerate(part.parts))
    return True


def _first_of(parts: Sequence[Node], begin: int, path: tuple[int, ...]) -> Iterator[Step]:
    """The stops where the rest of a sequence may begin, from part `begin` on."""
    for index in range(begin, len(parts)):
        yield from _first(parts[index], (*path, index))
        if not _skippable(parts[index]):
            return


def _first(node: Node, path: tuple[int, ...]) -> Iterator[Step]:
    """The stops where `node` may begin, below `path`."""
    if isinstance(node, _LEAVES):
        yield Step(Position(PositionKind.STOP, path), node)
    elif isinstance(node, Seq):
        yield from _first_of(node.parts, 0, path)
    elif isinstance(node, Alt):
        for index, part in enumerate(node.parts):
            yield from _first(part, (*path, index))
    elif isinstance(node, Set):
        for index, part in enumerate(node.parts):
            yield from _first(part, (*path, index, 1 << index))
    elif isinstance(node, Opt):
        yield from _first(node.part, path)
    else:
        yield from _first(node.part, (*path, 0))


def _resolve(root: Node, path: tuple[int, ...]) -> list[tuple[Node, int]]:
    """The parts on the way to a stop, outermost first, each with the index of its numbers in `path`."""
    return _descend(root, path)[0]


def _leaf(root: Node, path: tuple[int, ...]) -> Leaf:
    return _descend(root, path)[1]


def _descend(root: Node, path: tuple[int, ...]) -> tuple[list[tuple[Node, int]], Leaf]:
    frames: list[tuple[Node, int]] = []
    node, at = root, 0
    try:
        while not isinstance(node, _LEAVES):
            if isinstance(node, Opt):
                node = node.part
                continue
            frames.append((node, at))
            index = path[at]
            if isinstance(node, Loop):
                if index >= node.turns:
                    raise IndexError
                node, at = node.part, at + 1
            elif isinstance(node, Set):
                done = path[at + 1]
                # Bits without the part itself, or beyond the parts, would let a stop be visited
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


# A stop with a task is a kind of its own: stations that know no tasks refuse it as malformed.
_STOP, _SEQ, _ALT, _SET, _LOOP, _ANY, _OPT, _FREE, _TASK = range(9)


def _value(node: Node) -> list[Any]:
    if isinstance(node, Stop) and node.task:
        return [_TASK, node.station.raw, node.task, *([] if node.until is None else [node.until])]
    if isinstance(node, Stop):
        return [_STOP, node.station.raw] if node.until is None else [_STOP, node.station.raw, node.until]
    if isinstance(node, CertifiedStop):
        return [_ANY, node.certifier.raw] if node.until is None else [_ANY, node.certifier.raw, node.until]
    if isinstance(node, FreeStop):
        return [_FREE] if node.until is None else [_FREE, node.until]
    if isinstance(node, Loop):
        return [_LOOP, node.turns, _value(node.part)]
    if isinstance(node, Opt):
        return [_OPT, _value(node.part)]
    tag = _SEQ if isinstance(node, Seq) else _ALT if isinstance(node, Alt) else _SET
    return [tag, [_value(part) for part in node.parts]]


def _node(value: object, depth: int, count: list[int]) -> Node:
    # Check while reading: the depth, for the stack; the count, since the constructor would refuse a wide tree only
    # once it is built.
    count[0] += 1
    if depth > MAX_DEPTH or count[0] > MAX_NODES:
        raise MalformedCredential(f"the itinerary has more than {MAX_NODES} parts or {MAX_DEPTH} levels")
    parts = array(value, "itinerary", 4)
    tag = uint(parts[0], "itinerary: kind of part", _TASK) if parts else -1
    if tag == _TASK and len(parts) >= 3:
        key = public_key(byte_string(parts[1], "itinerary: key", KEY_SIZE))
        task = text(parts[2], "itinerary: task", MAX_TASK_BYTES)
        return Stop(key, uint(parts[3], "itinerary: latest arrival", LATEST_MS) if len(parts) == 4 else None, task)
    if tag in (_STOP, _ANY) and 2 <= len(parts) <= 3:
        key = public_key(byte_string(parts[1], "itinerary: key", KEY_SIZE))
        until = uint(parts[2], "itinerary: latest arrival", LATEST_MS) if len(parts) == 3 else None
        return Stop(key, until) if tag == _STOP else CertifiedStop(key, until)
    if tag == _LOOP and len(parts) == 3:
        return Loop(uint(parts[1], "itinerary: turns of a loop", COUNT), _node(parts[2], depth + 1, count))
    if tag == _FREE and len(parts) <= 2:
        return FreeStop(uint(parts[1], "itinerary: latest arrival", LATEST_MS) if len(parts) == 2 else None)
    if tag == _OPT and len(parts) == 2:
        return Opt(_node(parts[1], depth + 1, count))
    if tag in (_SEQ, _ALT, _SET) and len(parts) == 2:
        children = [_node(p, depth + 1, count) for p in array(parts[1], "itinerary: parts", MAX_NODES)]
        return Seq(children) if tag == _SEQ else Alt(children) if tag == _ALT else Set(children)
    raise MalformedCredential("itinerary: not a part")
