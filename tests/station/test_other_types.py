"""Values of other types than expected, everywhere in what arrives: refused with a declared error, and True is not 1.

Every value in a valid message, statement or letter is replaced by each of a few others: numbers by booleans that equal
them (Python takes `True == 1`), bytes by numbers (`bytes(10**12)` is a terabyte of zeros), containers by other ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents import canonical
from agents.credentials.itinerary import Alt, Itinerary, Loop, Position, Seq, Set, Stop
from agents.credentials.itinerary import Any as AnyStop
from agents.credentials.passport import Passport
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import Entry, Opening, Results
from agents.credentials.trail import Trail
from agents.credentials.trailpoint import Checkpoint, TrailPoint
from agents.credentials.visits import Certificate, Clone, Commit, Head, Receipt, Visit
from agents.errors import CredentialError
from agents.waits import Message
from docking.berth import Standing
from docking.contacts import Contacts
from docking.customs import read_mailbox, write_mailbox
from docking.deltas import completed
from docking.errors import MalformedMessage
from docking.handoff import codec
from docking.orders import Order
from docking.peers import Peers
from docking.resting import Note
from tests.credentials.journeys import Journey, fresh, key, make_passport, public
from tests.station.harbour import harbour, run
from tests.vectors.write_messages import messages

D = fresh("digest")
OTHERS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    10**12,
    2**64 - 1,
    b"",
    b"x",
    D,
    "",
    "x",
    "\x07",
    [],
    [0],
    {},
    {1: 1},
]


def bent(value: Any) -> Iterator[Any]:
    """`value` with one thing in it replaced."""
    for other in OTHERS:
        if type(other) is not type(value) or other != value:
            yield other
    if isinstance(value, list):
        for index, each in enumerate(value):
            for other in bent(each):
                yield [*value[:index], other, *value[index + 1 :]]
        yield from (value[:-1], [*value, 0], value + value)
    elif isinstance(value, dict):
        for name, each in value.items():
            for other in bent(each):
                yield {**value, name: other}
            yield {k: v for k, v in value.items() if k != name}


def booleans(value: Any) -> Iterator[Any]:
    """`value` with one 0 or 1 in it replaced by what equals it."""
    if type(value) is int and value in (0, 1):
        yield bool(value)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            for other in booleans(each):
                yield [*value[:index], other, *value[index + 1 :]]
    elif isinstance(value, dict):
        for name, each in value.items():
            for other in booleans(each):
                yield {**value, name: other}


def as_wire(value: Any) -> Any:
    """What `value` is when it has been encoded and decoded."""
    return canonical.decode(canonical.encode(value))


ITINERARY = Itinerary(
    Seq(
        [
            Stop(public("alpha"), 1_770_000_000_000),
            Alt([Stop(public("beta")), AnyStop(public("certifier"))]),
            Set([Stop(public("gamma")), Stop(public("delta"))]),
            Loop(1, Stop(public("alpha"))),
        ]
    )
)
PERMIT = Permit(Budget(1, 1, 0, 1), ("service:a", "host:clone"), ("service:a",))
PASSPORT = make_passport(ITINERARY, permit=PERMIT, hops=1)
BUDGET = Budget(1, 0, 1, 1)


def journey() -> Journey:
    """One that has hopped once."""
    found = Journey(make_passport(Itinerary.via([public("alpha"), public("beta")])))
    found.report("a", b"b")
    found.hop("alpha")
    return found


TOUR = journey()
STATEMENTS: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("passport", Passport.from_payload, PASSPORT.payload()),
    ("permit", Permit.from_payload, PERMIT.payload()),
    ("budget", Budget.from_payload, BUDGET.payload()),
    ("itinerary", Itinerary.from_value, ITINERARY.value()),
    ("position", Position.from_value, TOUR.positions[0].value()),
    ("head", lambda value: Head.of((value[0], value[1])) if type(value) is list and len(value) == 2 else _no(), [1, D]),
    ("results", Results.from_value, Results(tuple(TOUR.entries), 1, D).value()),
    ("trail", Trail.from_value, Trail(tuple(TOUR.links), 1, D).value()),
    ("point", TrailPoint.from_payload, TOUR.point.payload()),
    ("opening", Opening.from_payload, Opening(D, D, D[:16]).payload()),
    ("entry", Entry.from_payload, Entry(D, 1, 1, D, public("alpha"), 1, b"x").payload()),
    ("order", Order.from_payload, Order(D, "sleep", 1).payload()),
]


def _no() -> None:
    raise CredentialError("malformed", "not a pair")


def signed() -> list[tuple[str, Callable[[Any], Any], Any]]:
    """The statements of a trail, as they were signed."""
    found: list[tuple[str, Callable[[Any], Any], Any]] = []
    seen: list[Any] = []
    bending = Journey(make_passport(Itinerary.via([public("alpha"), public("beta")])))
    bending.bend = lambda kind, body: seen.append(body) or body  # type: ignore[func-returns-value]
    bending.hop("alpha")
    for body in seen:
        found.append((body.KIND, type(body).from_payload, body.payload()))
    assert {type(body) for body in seen} == {Visit, Receipt, Commit}
    return found


STATEMENTS += signed()
STATEMENTS += [
    ("clone", Clone.from_payload, Clone(D, D, 1, D, public("alpha"), 1, D, Head(1, D), 1).payload()),
    ("certificate", Certificate.from_payload, Certificate(public("alpha"), 0, 1, "x").payload()),
    ("checkpoint", Checkpoint.from_payload, Checkpoint(TOUR.point, 1).payload()),
]


@pytest.mark.parametrize(("name", "decode", "value"), STATEMENTS, ids=[name for name, _, _ in STATEMENTS])
def test_statements(name: str, decode: Callable[[Any], Any], value: Any) -> None:
    decode(as_wire(value))
    for other in bent(as_wire(value)):
        try:
            decode(other)
        except CredentialError:
            continue
    for other in booleans(as_wire(value)):
        with pytest.raises(CredentialError):
            decode(other)


@pytest.mark.parametrize("name", sorted(messages()))
def test_messages_of_the_handoff(name: str) -> None:
    head, *bodies = codec.encode(messages()[name])
    value = canonical.decode(bytes(head[codec.PREFIX_SIZE :]))

    def read(other: Any) -> None:
        data = canonical.encode(other)
        codec.decode(codec.PREFIX.pack(codec.MAGIC, codec.VERSION, len(data)) + data + b"".join(bodies))

    read(value)
    for other in bent(value):
        try:
            read(other)
        except MalformedMessage:
            continue
    for other in booleans(value):
        with pytest.raises(MalformedMessage):
            read(other)


def test_the_mailbox_of_an_agent() -> None:
    value = canonical.decode(write_mailbox([Message("alpha", b"one"), Message("beta", b"")]))
    for other in bent(value):
        try:
            found = read_mailbox(canonical.encode(other))
        except CredentialError:
            continue
        assert all(type(each.sender) is str and type(each.body) is bytes for each in found)
    with pytest.raises(CredentialError):
        read_mailbox(canonical.encode([["alpha", 10**15]]))
    with pytest.raises(CredentialError):
        read_mailbox(canonical.encode([["alpha", b""]] * 5000))


def test_differences_of_states() -> None:
    base = bytes(range(100))
    value = [1, [[0, 10], b"new", [50, 1]]]
    assert completed(base, canonical.encode(value), 14) is not None
    for other in [*bent(value), *booleans(value)]:
        made = completed(base, canonical.encode(other), 14)
        assert made is None or len(made) == 14
    assert completed(base, canonical.encode([True, value[1]]), 14) is None


def test_cards() -> None:
    contacts = Contacts(Peers(public("home"), "home", lambda: 10**9, lambda pins: None))
    value = [1, "beta", ["http://10.0.0.1:7707"], ["thermometer.read"]]
    for number, other in enumerate(bent(value)):
        contacts.introduced(key(f"card {number}").public, other)


def test_notes_of_the_store() -> None:
    value = canonical.decode(Note(Standing.WAITING, D, Head(1, D), 1, 1, 1, 1).encode())
    for other in bent(value):
        try:
            Note.decode(canonical.encode(other))
        except CredentialError:
            continue
    for other in booleans(value):
        with pytest.raises(CredentialError):
            Note.decode(canonical.encode(other))


@run
async def test_letters() -> None:
    async with harbour("home", "other") as (home, other):
        letters = {
            "message": [D, "alpha", b"body", 1],
            "order": [b"order", 1],
            "ended": [b"capsule", "finished", "0"],
            "told": [[D, D, 1, "travelling", ""]],
        }
        for kind, content in letters.items():
            for bad in [*bent(content), *booleans(content)]:
                answer = await home.office.letters.receive(other.key, [kind, D, bad])
                assert answer[0] in ("refused", "taken"), (kind, bad)
                if answer[0] == "refused":
                    assert answer[1]
                    assert answer[2].isprintable()
            for bad in booleans(content):
                answer = await home.office.letters.receive(other.key, [kind, D, bad])
                assert answer[0] == "refused", (kind, bad)
        for bad in bent(["message", D, letters["message"]]):
            assert (await home.office.letters.receive(other.key, bad))[0] == "refused"


@run
async def test_the_end_of_a_journey_is_said_in_its_words() -> None:
    """An exit code that is none would come up where an owner reads the report."""
    async with harbour("home", "other") as (home, other):
        for standing, said in (
            ("finished", "abc"),
            ("finished", ""),
            ("finished", "1" * 11),
            ("stopped", "x"),
            (1, "0"),
        ):
            answer = await other.contacts.letter(home.key, ["ended", D, [b"capsule", standing, said]])
            assert answer[:2] == ["refused", "malformed"], (standing, said)
        code = (await other.contacts.letter(home.key, ["ended", D, [b"\x80" * 100_000, "finished", "0"]]))[:2]
        assert code == ["refused", "malformed"]
