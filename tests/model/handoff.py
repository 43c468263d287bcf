"""Checks the handoff in every state that it can reach: `python -m tests.model.handoff [--handoffs 3] [--crashes 2]`.

The two tables of `docking.handoff.states` are taken as they are. Here stands what a step of them does, in a few lines
for each: what is sent, what is written, whether the agent starts or goes on (`test_steps` compares that with the code).
Two stations, one agent, which departs whenever it can. The network may lose, repeat and reorder anything: what was once
sent can be received at any time, any number of times, or never. A station crashes between any two steps; of its writes
that wait, it keeps as many as it pleases, in order. A disk can be set back to what it was at some earlier time.

Checked in each state:
- `one`: at most one copy of the agent lives;
- `commit`: a commit was sent only when the decision is on the source's disk;
- `receipt`: a receipt was given only for what was on the destination's disk;
- `release`: a source gives up its copy only when the destination has its own on its disk;
and of all of them together:
- `alive`: from each, the agent can come to live again, without any further crash.

Not here: time (a deadline may pass at any moment), signatures, the contents of offers, people who decide.
"""

from __future__ import annotations

import argparse
import enum
import time
from collections.abc import Callable, Iterator, Mapping

from attrs import define, field, frozen

from agents.evolve import evolve
from docking.handoff.states import DESTINATION, SOURCE
from docking.handoff.states import Destination as D
from docking.handoff.states import DestinationEvent as DE
from docking.handoff.states import Source as S
from docking.handoff.states import SourceEvent as SE
from tests.model.explore import Found, changed, explore


class Said(enum.IntEnum):
    """What is sent. The first ones to the destination, from `WANT` on to the source."""

    OFFER, TRANSFER, COMMIT, ABORT, ASKED, PENDING, UNSURE = range(7)  # ASKED: STATUS; UNSURE: unknown or settled
    WANT, REFUSE, RECEIPT, DONE, QUESTION, WAITING, FORGOTTEN = range(7, 14)  # QUESTION: STATUS


KINDS = len(Said)
TO_DESTINATION = tuple(each for each in Said if each < Said.WANT)
TO_SOURCE = tuple(each for each in Said if each >= Said.WANT)

# What each step sends, writes and does with the agent.
SENT: Mapping[str, Said] = {
    "first_offer": Said.OFFER,
    "offer_again": Said.OFFER,
    "transfer": Said.TRANSFER,
    "leave": Said.COMMIT,
    "commit": Said.COMMIT,
    "keep": Said.ABORT,
    "abort": Said.ABORT,
    "want": Said.WANT,
    "refuse": Said.REFUSE,
    "receipt": Said.RECEIPT,
    "done": Said.DONE,
    "ask": Said.QUESTION,
    "drop": Said.FORGOTTEN,
    "say_unknown": Said.FORGOTTEN,
    "say_discarded": Said.FORGOTTEN,
    "alarm_amnesia": Said.FORGOTTEN,
    "say_settled": Said.UNSURE,
}
WRITTEN: Mapping[str, S | D] = {
    "first_offer": S.FROZEN,
    "write_committed": S.COMMITTED,
    "write_aborted": S.ABORTED,
    "release": S.GONE,
    "write_held": D.HELD,
    "start": D.RUNNING,
    "drop": D.DISCARDED,
}
STARTS, GOES_ON = "start", "keep"
# When what was written is on the disk, a machine in this state is told.
AWAITED = {S.COMMITTING: S.COMMITTED, S.ABORTING: S.ABORTED, D.HOLDING: D.HELD, D.RUNNABLE: D.RUNNING}
# A handoff of which the disks say this is over: neither row leads anywhere else, whatever is heard.
OVER = {(S.GONE, D.RUNNING), (S.ABORTED, D.DISCARDED)}
AFTER_OFFERS = (DE.SHORT, DE.ADMITTED, DE.DECLINED)


@frozen(cache_hash=True)
class Handoff:
    """One handoff. `source`: the station that it begins at, or -1; `hop`: of the agent.

    leaving, arriving: what the machines are in, None where there is none in memory; left, came: what is on the disks
    """

    source: int = -1
    hop: int = 0
    leaving: S | None = None
    arriving: D | None = None
    left: S | None = None
    came: D | None = None


@frozen(cache_hash=True)
class State:
    """All of it.

    lives: at each station, the hop with which the agent lives, or -1; sent: what was sent, a bit for each handoff and
    kind; waiting: of each station, the writes that wait, each (handoff, state); up: whether each station runs;
    kept: of each station, a copy of its disk, or None
    """

    handoffs: tuple[Handoff, ...]
    lives: tuple[int, int] = (0, -1)
    sent: int = 0
    waiting: tuple[tuple[tuple[int, S | D], ...], ...] = ((), ())
    up: tuple[bool, bool] = (True, True)
    crashes: int = 0
    kept: tuple[tuple[tuple[S | D | None, ...], ...] | None, ...] = (None, None)
    restored: tuple[bool, bool] = (False, False)


@define
class Model:
    """The rules. `source`, `destination`: the tables; `handoffs`, `crashes`: how many; `set_back`: whether a disk may
    be set back, once; `notices`: whether a station notices that, and stands still.
    """

    handoffs: int = 3
    crashes: int = 1
    set_back: bool = False
    notices: bool = True
    source: Mapping[S, Mapping[SE, tuple[S, str]]] = field(default=SOURCE)
    destination: Mapping[D, Mapping[DE, tuple[D, str]]] = field(default=DESTINATION)
    effective: frozenset[Said] = field(init=False)
    """What is sent and can change anything: by itself, or by what it has others send. The rest is not looked at."""

    def __attrs_post_init__(self) -> None:
        self.effective = frozenset()
        while (found := frozenset(filter(self._changes, Said))) != self.effective:
            self.effective = found

    def _changes(self, said: Said) -> bool:
        rows: list[tuple[object, tuple[object, str] | None]] = []
        if said in (Said.OFFER, Said.TRANSFER):
            # What is judged like another offer is no more than that.
            return said is Said.OFFER
        if said in TO_SOURCE:
            rows += [(state, row.get(_SOURCE_HEARS[said])) for state, row in self.source.items()]
            if said in (Said.QUESTION, Said.RECEIPT):
                return True
        else:
            rows += [(state, row.get(_DESTINATION_HEARS[said])) for state, row in self.destination.items()]
        return any(
            row is not None and (row[0] is not state or row[1] in WRITTEN or SENT.get(row[1]) in self.effective)
            for state, row in rows
        )

    def first(self) -> State:
        """The agent lives at the first station."""
        return State((Handoff(),) * self.handoffs)

    def next(self, state: State) -> Iterator[tuple[str, State]]:
        """Everything that can happen, and what is then."""
        for what, after in self._next(state):
            yield what, self._short(after)

    @staticmethod
    def _short(state: State) -> State:
        """Without what cannot matter any more: messages and machines of a handoff that both disks know is over."""
        for number, handoff in enumerate(state.handoffs):
            if (handoff.left, handoff.came) in OVER:
                sent = state.sent & ~(((1 << KINDS) - 1) << (number * KINDS))
                over = evolve(handoff, leaving=None, arriving=None)
                if sent != state.sent or over != handoff:
                    state = evolve(state, sent=sent, handoffs=changed(state.handoffs, number, over))
        return state

    def _next(self, state: State) -> Iterator[tuple[str, State]]:
        for station in (0, 1):
            if state.up[station]:
                yield from self._at(state, station)
                if state.crashes < self.crashes:
                    yield from self._crashes(state, station)
                if self.set_back and state.kept == (None, None):
                    kept = tuple((each.left, each.came) for each in state.handoffs)
                    yield f"{station} is copied", evolve(state, kept=changed(state.kept, station, kept))
            elif not (state.restored[station] and self.notices):
                yield f"{station} starts", self._starts(state, station)

    def _at(self, state: State, station: int) -> Iterator[tuple[str, State]]:
        """What can happen at a station that runs."""
        if state.waiting[station]:
            yield f"{station} has written", self._written(state, station)
        hop = state.lives[station]
        fresh = next((n for n, each in enumerate(state.handoffs) if each.source < 0), None)
        if hop >= 0 and fresh is not None:
            begun = evolve(state, lives=changed(state.lives, station, -1))
            begun = self._with(begun, fresh, source=station, hop=hop, leaving=S.FROZEN)
            yield f"{station} offers {fresh}", self._leaving(begun, fresh, SE.BEGIN)
        for number, handoff in enumerate(state.handoffs):
            if handoff.source == station:
                yield from self._source_events(state, number)
            elif handoff.source >= 0:
                yield from self._destination_events(state, number)

    def _source_events(self, state: State, number: int) -> Iterator[tuple[str, State]]:
        handoff = state.handoffs[number]
        known = handoff.leaving
        local = {S.OFFERED: (SE.DEADLINE,), S.COMMITTED: (SE.TIMER,)}.get(known, ()) if known is not None else ()
        for event in local:
            yield f"{number}: {event.text}", self._leaving(state, number, event)
        for said in TO_SOURCE:
            if not state.sent >> (number * KINDS + said) & 1:
                continue
            event = _SOURCE_HEARS[said]
            if known is None:  # presumed abort: this store would know of a commit
                if said in (Said.QUESTION, Said.RECEIPT):
                    yield f"{number}: {said.name}, of which nothing is known", self._send(state, number, Said.ABORT)
            else:
                yield f"{number}: {said.name}", self._leaving(state, number, event)

    def _destination_events(self, state: State, number: int) -> Iterator[tuple[str, State]]:
        handoff = state.handoffs[number]
        known = handoff.arriving or D.NONE
        if known is D.WANTED:
            yield f"{number}: {DE.TIMER.text}", self._arriving(state, number, DE.TIMER)
        if known is D.HELD:
            yield f"{number}: {DE.TIMER.text}", self._arriving(state, number, DE.TIMER)
        if known is D.HOLDING:
            without = evolve(state, waiting=changed(state.waiting, 1 - handoff.source, self._less(state, number)))
            for event in (DE.UNWRITTEN, DE.INCOMPLETE):
                yield f"{number}: {event.text}", self._arriving(without, number, event)
        for said in TO_DESTINATION:
            if not state.sent >> (number * KINDS + said) & 1:
                continue
            if said in (Said.OFFER, Said.TRANSFER):
                for event in self._judged(state, number, said):
                    yield f"{number}: {said.name}, {event.text}", self._arriving(state, number, event)
                if (other := self._other(state, number)) is not None and known in (D.NONE, D.WANTED):
                    yield f"{number}: {said.name}, another copy", self._conflict(state, number, other)
            else:
                yield f"{number}: {said.name}", self._arriving(state, number, _DESTINATION_HEARS[said])

    def _judged(self, state: State, number: int, said: Said) -> tuple[DE, ...]:
        known = state.handoffs[number].arriving or D.NONE
        if known not in (D.NONE, D.WANTED):
            return (DE.AGAIN,)
        if said is Said.TRANSFER and known is D.NONE:
            return (DE.STRAY,)
        return () if self._other(state, number) is not None else AFTER_OFFERS

    def _less(self, state: State, number: int) -> tuple[tuple[int, S | D], ...]:
        station = 1 - state.handoffs[number].source
        return tuple(each for each in state.waiting[station] if each != (number, D.HELD))

    def _other(self, state: State, number: int) -> int | None:
        """Another handoff of this hop to this station that is held, or whose agent arrived."""
        mine = state.handoffs[number]
        for n, each in enumerate(state.handoffs):
            if n != number and (each.source, each.hop) == (mine.source, mine.hop):
                now = each.arriving or each.came
                if now in (D.HOLDING, D.HELD, D.RUNNABLE, D.RUNNING):
                    return n
        return None

    def _conflict(self, state: State, number: int, other: int) -> State:
        refused = self._send(state, number, Said.REFUSE)
        now = state.handoffs[other].arriving or state.handoffs[other].came
        return refused if now in (D.RUNNABLE, D.RUNNING) else self._send(refused, other, Said.QUESTION)

    # Steps

    def _leaving(self, state: State, number: int, event: SE) -> State:
        known = state.handoffs[number].leaving
        assert known is not None
        after, step = self.source[known].get(event, (known, ""))
        return self._step(self._with(state, number, leaving=after), number, state.handoffs[number].source, step)

    def _arriving(self, state: State, number: int, event: DE) -> State:
        known = state.handoffs[number].arriving or D.NONE
        after, step = self.destination[known].get(event, (known, ""))
        held = None if after is D.NONE else after
        return self._step(self._with(state, number, arriving=held), number, 1 - state.handoffs[number].source, step)

    def _step(self, state: State, number: int, station: int, step: str) -> State:
        handoff = state.handoffs[number]
        if step in WRITTEN:
            writes = (*state.waiting[station], (number, WRITTEN[step]))
            state = evolve(state, waiting=changed(state.waiting, station, writes))
        if step == STARTS:
            state = evolve(state, lives=changed(state.lives, station, handoff.hop + 1))
        if step == GOES_ON:
            state = evolve(state, lives=changed(state.lives, station, handoff.hop))
        if step == "say_pending":
            return self._send(state, number, Said.PENDING if station == handoff.source else Said.WAITING)
        return self._send(state, number, SENT[step]) if step in SENT else state

    def _send(self, state: State, number: int, said: Said) -> State:
        if said not in self.effective:
            return state
        return evolve(state, sent=state.sent | 1 << (number * KINDS + said))

    @staticmethod
    def _with(state: State, number: int, **changes: object) -> State:
        return evolve(state, handoffs=changed(state.handoffs, number, evolve(state.handoffs[number], **changes)))

    def _stored(self, state: State, writes: tuple[tuple[int, S | D], ...]) -> State:
        for number, value in writes:
            state = self._with(state, number, **{"left" if isinstance(value, S) else "came": value})
        return state

    def _written(self, state: State, station: int) -> State:
        """All that waits is on the disk, and who waited for it is told."""
        writes = state.waiting[station]
        state = self._stored(evolve(state, waiting=changed(state.waiting, station, ())), writes)
        for number, value in writes:
            handoff = state.handoffs[number]
            if isinstance(value, S) and handoff.leaving in AWAITED and AWAITED[handoff.leaving] is value:
                state = self._leaving(state, number, SE.DURABLE)
            elif isinstance(value, D) and handoff.arriving in AWAITED and AWAITED[handoff.arriving] is value:
                state = self._arriving(state, number, DE.DURABLE)
        return state

    # Crashes

    def _crashes(self, state: State, station: int) -> Iterator[tuple[str, State]]:
        """It crashes; of the writes that wait, the first ones may be on the disk."""
        writes = state.waiting[station]
        for count in range(len(writes) + 1):
            after = self._stored(state, writes[:count])
            for number, handoff in enumerate(after.handoffs):
                if handoff.source == station:
                    after = self._with(after, number, leaving=None)
                elif handoff.source >= 0:
                    after = self._with(after, number, arriving=None)
            after = evolve(
                after,
                waiting=changed(state.waiting, station, ()),
                lives=changed(state.lives, station, -1),
                up=changed(state.up, station, False),
                crashes=state.crashes + 1,
            )
            yield f"{station} crashes, with {count} of {len(writes)} writes", after
            if (kept := state.kept[station]) is not None and count == 0:
                for number, (left, came) in enumerate(kept):
                    if after.handoffs[number].source == station:
                        after = self._with(after, number, left=left)
                    else:
                        after = self._with(after, number, came=came)
                yield (
                    f"{station} crashes, and its disk is set back",
                    evolve(
                        after,
                        kept=changed(state.kept, station, ()),  # once
                        restored=changed(state.restored, station, True),
                    ),
                )

    def _starts(self, state: State, station: int) -> State:
        """It reads its disk."""
        state = evolve(state, up=changed(state.up, station, True))
        lives = 0 if station == 0 else -1
        for number, handoff in enumerate(state.handoffs):
            if handoff.source == 1 - station:
                if handoff.came is not None:
                    state = self._with(state, number, arriving=handoff.came)
                if handoff.came is D.RUNNING:
                    lives = max(lives, handoff.hop + 1)
        for handoff in state.handoffs:
            gone = handoff.source == station and handoff.left in (S.COMMITTED, S.GONE, S.FROZEN)
            if gone and handoff.hop == lives:  # or it goes on when that is decided
                lives = -1
        state = evolve(state, lives=changed(state.lives, station, lives))
        for number, handoff in enumerate(state.handoffs):
            if handoff.source == station and handoff.left is not None:
                state = self._leaving(self._with(state, number, leaving=handoff.left), number, SE.RESTART)
            elif handoff.source == 1 - station and handoff.came is D.HELD:
                state = self._arriving(state, number, DE.RESTART)
        return state


_SOURCE_HEARS: Mapping[Said, SE] = {
    Said.WANT: SE.WANT,
    Said.REFUSE: SE.REFUSE,
    Said.RECEIPT: SE.RECEIPT,
    Said.DONE: SE.DONE,
    Said.QUESTION: SE.STATUS,
    Said.WAITING: SE.PENDING,
    Said.FORGOTTEN: SE.FORGOTTEN,
}
_DESTINATION_HEARS: Mapping[Said, DE] = {
    Said.COMMIT: DE.COMMIT,
    Said.ABORT: DE.ABORT,
    Said.ASKED: DE.STATUS,
    Said.PENDING: DE.PENDING,
    Said.UNSURE: DE.DOUBT,
}


def _was_sent(state: State, number: int, said: Said) -> bool:
    return bool(state.sent >> (number * KINDS + said) & 1)


def _commit(state: State) -> bool:
    return all(
        each.left in (S.COMMITTED, S.GONE) for n, each in enumerate(state.handoffs) if _was_sent(state, n, Said.COMMIT)
    )


def _receipt(state: State) -> bool:
    held = (D.HELD, D.RUNNING, D.DISCARDED)
    return all(each.came in held for n, each in enumerate(state.handoffs) if _was_sent(state, n, Said.RECEIPT))


def _release(state: State) -> bool:
    return all(each.came is D.RUNNING for each in state.handoffs if S.GONE in (each.leaving, each.left))


INVARIANTS: Mapping[str, Callable[[State], bool]] = {
    "one": lambda state: sum(hop >= 0 for hop in state.lives) <= 1,
    "commit": _commit,
    "receipt": _receipt,
    "release": _release,
}


def check(model: Model, invariants: Mapping[str, Callable[[State], bool]] = INVARIANTS, alive: bool = True) -> Found:
    """Visit every state. `alive`: whether the agent must always be able to live again."""
    end = "alive" if alive else ""
    return explore(model.first(), model.next, invariants, end, lambda state: max(state.lives) >= 0)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="every state that the handoff can reach")
    parser.add_argument("--handoffs", type=int, default=3)
    parser.add_argument("--crashes", type=int, default=1)
    parser.add_argument("--set-back", action="store_true", help="a disk may be set back, and its station notices")
    arguments = parser.parse_args()
    began = time.monotonic()
    found = check(
        Model(arguments.handoffs, arguments.crashes, arguments.set_back),
        {"one": INVARIANTS["one"]} if arguments.set_back else INVARIANTS,
        alive=not arguments.set_back,
    )
    print(f"{found.states} states, {found.steps} steps, {time.monotonic() - began:.0f} s")
    if found.broken is not None:
        print(f"does not hold: {found.broken}")
        raise SystemExit("\n".join(found.way))
    print("all hold:", *(["one"] if arguments.set_back else [*INVARIANTS, "alive"]))


if __name__ == "__main__":
    main()
