"""Checks the messages of one agent to another in every state: `python -m tests.model.messages [--moves 2]`.

What decides is taken as it is: `docking.trust.mailbox.Streams` with its numbers and identities, and the codec by which
it travels. Here stands what a station does with that, in a few lines for each: what is written, what is sent, what is
told to the sender (as `docking.residents.talking`, `docking.residents.post` and `docking.letters.outbox` do).

Two stations; a sender at one of them, a receiver at one of them, and both move. The network may lose, repeat and
reorder anything: what was once sent can be received at any time, any number of times, anywhere, or never. A station
crashes between any two steps; of its writes that wait, it keeps as many as it pleases, in order. Its agents go on from
their stored state: the sender says the same again, or (`--other`) says other things. A disk can be set back.

Checked in each state:
- `once`: no message is in the receiver's mailbox twice;
- `order`: the messages of one life of the sender are there in their order, without a gap;
- `kept`: a message of which the sender was told that it is taken is on a disk: in an outbox, or with the receiver;
- `stored`: "taken" was answered only for what is on the disk with the receiver;
and of all of them together:
- `comes`: from each, whatever the sender was told is taken can come to the receiver, and the outboxes become empty,
  without any further crash.

Not here: time (a message that waits for another one for a day), routes (a message may come anywhere), the moves
themselves (`tests.model.handoff`: here an agent leaves, then stays or arrives).
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from attrs import define, field, frozen

from agents import canonical
from agents.evolve import evolve
from docking.trust.mailbox import Outflow, Streams, Turn, read_mailbox, write_mailbox
from tests.model.explore import Found, changed, explore

Ident: TypeAlias = "tuple[int, int]"
"""A message: its number in the stream, and the life of the sender in which it says it so."""
Write: TypeAlias = "tuple[str, tuple[Ident, ...], Ident | int | None, bool]"
"""What: `post` and `drop` a letter, `mail` (all that the receiver has), `state` of the sender; of it, what; and whether
the sender is told when it is written, or else the network."""
STREAM, RECEIVER = bytes(16), bytes(32)
OUT = -1
Take = Callable[["tuple[Ident, ...]", Ident], Turn]


def name_of(ident: Ident) -> bytes:
    """The identity of a message."""
    return canonical.digest(repr(ident).encode())


@functools.cache
def streams_of(got: tuple[Ident, ...]) -> Streams:
    """The streams of an agent that took these messages, after one more journey of its mailbox."""
    if not got:
        return Streams()
    streams = read_mailbox(write_mailbox([], [], streams_of(got[:-1]))).streams
    number, _ = got[-1]
    streams.take(STREAM, number, name_of(got[-1]))
    return streams


@functools.cache
def turn(got: tuple[Ident, ...], ident: Ident) -> Turn:
    """Whether a receiver that took these takes this one: what the code says."""
    streams = read_mailbox(write_mailbox([], [], streams_of(got))).streams
    return streams.turn(STREAM, ident[0], name_of(ident), False)


@functools.cache
def number_after(said: int) -> int:
    """The number of the next message of a sender that said so many: what the code says."""
    streams = Streams()
    for _ in range(said):
        flow = streams.sent.get(RECEIVER)
        streams.said(RECEIVER, Outflow(STREAM) if flow is None else Outflow(flow.name, flow.next))
    streams = read_mailbox(write_mailbox([], [], streams)).streams
    return streams.sent[RECEIVER].next if said else 1


@frozen(cache_hash=True)
class State:
    """All of it.

    sender: the station that it is at; said: how many messages it has said, and `stored`, as of its stored state;
        life: how often it was set back, where it says other things then; telling: the message that it is saying
    receiver: the station that it is at; got: what it took; kept: what of that is on the disk; offered: what it took
        when it began to leave, which is what travels; None while it stays
    letters: of each station, its outbox; waiting: of each station, the writes that wait; up: whether each runs
    sent, answered: messages that were sent, and of which "taken" was answered, ever
    told: messages of which the sender was told that they are taken
    old: of each station, a copy of its disk: letters, and what of `kept` and `stored` is there; None if none was made
    """

    sender: int = 0
    said: int = 0
    stored: int = 0
    life: int = 0
    telling: Ident | None = None
    receiver: int = 1
    got: tuple[Ident, ...] = ()
    kept: tuple[Ident, ...] = ()
    offered: tuple[Ident, ...] | None = None
    letters: tuple[tuple[Ident, ...], tuple[Ident, ...]] = ((), ())
    waiting: tuple[tuple[Write, ...], tuple[Write, ...]] = ((), ())
    up: tuple[bool, bool] = (True, True)
    sent: frozenset[Ident] = frozenset()
    answered: frozenset[Ident] = frozenset()
    told: frozenset[Ident] = frozenset()
    moves: int = 0
    crashes: int = 0
    old: tuple[tuple[tuple[Ident, ...], tuple[Ident, ...], int] | None, ...] = (None, None)
    restored: int = OUT


@define
class Model:
    """The rules. `messages`, `moves`, `crashes`: how many; `other`: whether a sender that was set back says other
    things; `set_back`: the station whose disk may be set back, once; `notices`: whether it notices, and stands still.

    The others are what the protocol does, and what a weaker one would not: `turn`: whether it is a message's turn;
    `travels`: whether the mailbox travels with the receiver; `bars`: whether one that is leaving takes nothing;
    `writes_first`: whether "taken" is answered, and the sender told, only when it is written; `again`: whether what was
    taken before is answered; `numbers`: whether the numbers that a sender used are stored with its state;
    `answers_drop`: whether a letter is dropped only when "taken" is answered.
    """

    messages: int = 2
    moves: int = 1
    crashes: int = 1
    other: bool = False
    set_back: int = OUT
    notices: bool = True
    turn: Take = turn
    travels: bool = True
    bars: bool = True
    writes_first: bool = True
    again: bool = True
    answers_drop: bool = True
    numbers: Callable[[int], int] = field(default=number_after)

    def next(self, state: State) -> Iterator[tuple[str, State]]:
        """Everything that can happen, and what is then."""
        for at in (0, 1):
            if state.up[at]:
                yield from self._at(state, at)
                if state.crashes < self.crashes:
                    yield from self._crashes(state, at)
            elif not (state.restored == at and self.notices):
                yield f"{at} starts", evolve(state, up=changed(state.up, at, True))

    def _at(self, state: State, at: int) -> Iterator[tuple[str, State]]:
        """What can happen at a station that runs."""
        if state.waiting[at]:
            yield f"{at} has written", self._written(state, at)
        if state.sender == at and state.telling is None:
            if state.said < self.messages:
                ident = self.numbers(state.said), state.life
                yield f"says {ident}", self._say(evolve(state, telling=ident), at, ident)
            if state.said != state.stored and not any(each[0] == "state" for each in state.waiting[at]):
                yield "its state is stored", self._write(state, at, ("state", (), state.said, False))
            if state.moves < self.moves and state.up[1 - at]:
                left = self._written(state, at)
                yield "the sender moves", evolve(left, sender=1 - at, stored=left.said, moves=left.moves + 1)
        if state.receiver == at:
            yield from self._receives(state, at)
        # One letter to an agent at a time, the first: what comes later waits for it.
        for ident in state.letters[at][:1]:
            if ident not in state.sent:
                yield f"{ident} is sent", evolve(state, sent=state.sent | {ident})
            dropped = ("drop", (), ident, False)
            over = ident in state.answered if self.answers_drop else ident in state.sent
            if over and dropped not in state.waiting[at]:
                yield f"{ident} is dropped", self._write(state, at, dropped)
        if self.set_back == at and state.old[at] is None:
            old = state.letters[at], state.kept if state.receiver == at else (), state.stored
            yield f"{at} is copied", evolve(state, old=changed(state.old, at, old))

    def _receives(self, state: State, at: int) -> Iterator[tuple[str, State]]:
        if state.offered is not None:
            yield "the receiver stays", evolve(state, offered=None)
            if state.up[1 - at]:
                got = state.offered if self.travels else ()
                left = self._written(state, at)
                yield "the receiver arrives", evolve(left, receiver=1 - at, offered=None, got=got, kept=got)
        elif state.moves < self.moves:
            yield "the receiver leaves", evolve(state, offered=state.got, moves=state.moves + 1)
        if state.offered is not None and self.bars:
            return
        for ident in state.sent:
            after = self._deliver(state, at, ident, False)
            if after is not None:
                yield f"{ident} comes", after

    def _say(self, state: State, at: int, ident: Ident) -> State:
        """As `Talking._send`: the receiver takes it, if it is here; else the outbox does."""
        if state.receiver == at and (state.offered is None or not self.bars):
            taken = self._deliver(state, at, ident, True)
            if taken is not None:
                return taken
        return self._write(state, at, ("post", (), ident, True))

    def _deliver(self, state: State, at: int, ident: Ident, told: bool) -> State | None:
        """As `Post.accept`; None if it is not its turn, or nothing changes."""
        judged = self.turn(state.got, ident)
        if judged is Turn.EARLY or (judged is Turn.AGAIN and not self.again):
            return None
        if judged is Turn.AGAIN and not told and ident in state.answered:
            return None
        got = (*state.got, ident) if judged is Turn.NEW else state.got
        return self._write(evolve(state, got=got), at, ("mail", got, ident, told))

    def _write(self, state: State, at: int, write: Write) -> State:
        if write in state.waiting[at]:
            return state
        if not self.writes_first:
            state = self._tell(state, at, write)
        return evolve(state, waiting=changed(state.waiting, at, (*state.waiting[at], write)))

    def _tell(self, state: State, at: int, write: Write) -> State:
        """Who waited for a write is told."""
        what, _, ident, told = write
        if what not in ("post", "mail") or not isinstance(ident, tuple):
            return state
        if not told:
            return evolve(state, answered=state.answered | {ident})
        if state.telling == ident:
            return evolve(state, telling=None, said=state.said + 1, told=state.told | {ident})
        return state

    def _stored(self, state: State, at: int, writes: tuple[Write, ...]) -> State:
        for what, got, ident, _ in writes:
            box = state.letters[at]
            if what == "post":
                state = evolve(state, letters=changed(state.letters, at, (*box, ident)))
            elif what == "drop" and box[:1] == (ident,):
                state = evolve(state, letters=changed(state.letters, at, box[1:]))
            elif what == "mail" and state.receiver == at:
                state = evolve(state, kept=got)
            elif what == "state" and state.sender == at:
                state = evolve(state, stored=ident)
        return state

    def _written(self, state: State, at: int) -> State:
        """All that waits is on the disk, and who waited for it is told."""
        writes = state.waiting[at]
        state = self._stored(evolve(state, waiting=changed(state.waiting, at, ())), at, writes)
        if self.writes_first:
            for write in writes:
                state = self._tell(state, at, write)
        return state

    def _crashes(self, state: State, at: int) -> Iterator[tuple[str, State]]:
        """It crashes; of the writes that wait, the first ones may be on the disk."""
        writes = state.waiting[at]
        for count in range(len(writes) + 1):
            after = self._stored(evolve(state, waiting=changed(state.waiting, at, ())), at, writes[:count])
            yield f"{at} crashes, with {count} of {len(writes)} writes", self._down(after, at)
            old = after.old[at]
            if old and count == 0 and state.restored == OUT:
                letters, kept, stored = old
                after = evolve(after, letters=changed(after.letters, at, letters), restored=at)
                if after.receiver == at:
                    after = evolve(after, kept=kept)
                if after.sender == at:
                    after = evolve(after, stored=min(stored, after.stored))
                yield f"{at} crashes, and its disk is set back", self._down(after, at)

    def _down(self, state: State, at: int) -> State:
        state = evolve(state, up=changed(state.up, at, False), crashes=state.crashes + 1)
        if state.receiver == at:
            state = evolve(state, got=state.kept, offered=None)
        if state.sender == at:
            back = self.other and (state.said != state.stored or state.telling is not None)
            state = evolve(state, said=state.stored, telling=None, life=state.life + back)
        return state


def _once(state: State) -> bool:
    return len(set(state.got)) == len(state.got)


def _order(state: State) -> bool:
    for life in {life for _, life in state.got}:
        numbers = [number for number, each in dict.fromkeys(state.got) if each == life]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or (life == 0 and numbers[0] != 1):
            return False
    return True


def _kept(state: State) -> bool:
    return state.told <= {*state.kept, *state.letters[0], *state.letters[1]}


def _stored(state: State) -> bool:
    return state.answered <= set(state.kept)


def _came(state: State) -> bool:
    """Everything has come, and nobody says it any more."""
    return all(state.up) and not any(state.letters) and state.told <= set(state.kept)


INVARIANTS: Mapping[str, Callable[[State], bool]] = {"once": _once, "order": _order, "kept": _kept, "stored": _stored}
# Of a station whose disk is set back nothing is on it that came later; it notices, and a person decides.
SET_BACK: Mapping[str, Callable[[State], bool]] = {"once": _once, "order": _order}


def check(model: Model, invariants: Mapping[str, Callable[[State], bool]] = INVARIANTS, comes: bool = True) -> Found:
    """Visit every state. `comes`: whether what the sender was told is taken must always be able to come."""
    return explore(State(), model.next, invariants, "comes" if comes else "", _came)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="every state that the messages of an agent to another can reach")
    parser.add_argument("--messages", type=int, default=2)
    parser.add_argument("--moves", type=int, default=1)
    parser.add_argument("--crashes", type=int, default=1)
    parser.add_argument("--other", action="store_true", help="a sender that was set back says other things")
    parser.add_argument("--set-back", type=int, default=OUT, choices=[0, 1], help="its disk may be set back")
    arguments = parser.parse_args()
    began = time.monotonic()
    model = Model(arguments.messages, arguments.moves, arguments.crashes, arguments.other, arguments.set_back)
    plain = arguments.set_back == OUT
    invariants = INVARIANTS if plain else SET_BACK
    found = check(model, invariants, comes=plain)
    print(f"{found.states} states, {found.steps} steps, {time.monotonic() - began:.0f} s")
    if found.broken is not None:
        print(f"does not hold: {found.broken}")
        raise SystemExit("\n".join(found.way))
    print("all hold:", *invariants, *(["comes"] if plain else []))


if __name__ == "__main__":
    main()
