"""The two transition tables of the handoff: THE protocol. Everything else carries them out.

Not what a step does in detail (`sender`, `receiver`), and not how events are told apart (there too): a
table knows only that a verified receipt is `RECEIPT` and one that does not verify is `BAD_RECEIPT`.

A row says `event: (next state, step)`. An event that is not in a row is late, doubled or none of that
state's business: `IGNORE`, and the state stays. What is written to the store is a state that will be, so
COMMITTING, ABORTING, HOLDING and RUNNABLE are never found there: after a crash the write happened, or it
did not.

Why at most one agent lives:
- The source decides. Its decision is one durable row: COMMITTED, or none. It leaves COMMITTING only when
  that row is durable, and only then says COMMIT to anyone; until then it answers "pending".
- The destination starts the agent only from HELD, and only upon a commit that verifies (or a person's word).
- The source lets the agent go on only from ABORTING, when that is durable, or when it restarts and finds no
  COMMITTED.

Why at least one does: HELD is durable before the receipt is sent, and nothing is committed without a
receipt; HELD is given up only when the source says ABORT (or a person does), and COMMITTED only when the
destination says DONE, which it does when its RUNNING is durable.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Word(enum.Enum):
    """Members are hashed by identity: `Enum` does it in Python, a hundred times in a handoff."""

    __hash__ = object.__hash__


class Source(Word):
    """States of the station that the agent leaves."""

    FROZEN = "frozen"  # the agent is stopped; nothing was sent
    OFFERED = "offered"  # the destination was asked
    COMMITTING = "committing"  # its receipt is verified; the decision is being written
    COMMITTED = "committed"  # the agent is the destination's, and it may not know yet
    GONE = "gone"  # the destination has confirmed
    ABORTING = "aborting"  # the decision to keep the agent is being written
    ABORTED = "aborted"  # the agent lives on here


class Destination(Word):
    """States of the station that the agent goes to."""

    NONE = "none"  # nothing known
    WANTED = "wanted"  # the offer is good; parts are missing
    HOLDING = "holding"  # admitted; being written
    HELD = "held"  # durable, receipt given, must not run
    RUNNABLE = "runnable"  # committed: the agent is started; being written
    RUNNING = "running"  # that is durable: the agent is this station's like any other
    DISCARDED = "discarded"  # what was held is dropped
    REFUSED = "refused"  # not admitted


class SourceEvent(Word):
    """What can happen at the source: local events, then messages."""

    BEGIN = "begin"  # the station wants the agent to leave
    GIVE_UP = "give up"  # the station wants it no more
    DURABLE = "durable"  # what was being written is on the disk
    TIMER = "timer"  # no answer for a while
    DEADLINE = "deadline"  # no receipt in time
    RESTART = "restart"  # the station starts, and finds this record
    RECLAIM = "reclaim"  # a person decides that the destination will never run it
    WANT = "WANT"
    REFUSE = "REFUSE"
    RECEIPT = "RECEIPT"
    BAD_RECEIPT = "RECEIPT that does not verify"
    DONE = "DONE"
    STATUS = "STATUS"
    PENDING = "STATE pending"
    FORGOTTEN = "STATE unknown or discarded"


class DestinationEvent(Word):
    """What can happen at the destination: local events, then messages."""

    DURABLE = "durable"
    UNWRITTEN = "could not be written"
    INCOMPLETE = "not written: a part that was here is here no more"
    TIMER = "timer"
    RESTART = "restart"
    ADOPT = "adopt"  # a person decides that the agent shall live here
    DISCARD = "discard"  # a person decides that it shall not
    SHORT = "OFFER or TRANSFER, parts missing"
    ADMITTED = "OFFER or TRANSFER, admitted"
    DECLINED = "OFFER or TRANSFER, refused"
    AGAIN = "OFFER or TRANSFER, again"
    STRAY = "TRANSFER without an offer"
    COMMIT = "COMMIT"
    BAD_COMMIT = "COMMIT that does not verify"
    ABORT = "ABORT"
    STATUS = "STATUS"
    PENDING = "STATE pending"
    DOUBT = "STATE unknown or settled"


S, D = Source, Destination
SE, DE = SourceEvent, DestinationEvent
IGNORE = "ignore"

SOURCE: Mapping[Source, Mapping[SourceEvent, tuple[Source, str]]] = {
    S.FROZEN: {
        SE.BEGIN: (S.OFFERED, "first_offer"),
        SE.GIVE_UP: (S.ABORTING, "write_aborted"),
        SE.RESTART: (S.ABORTING, "write_aborted"),
        SE.STATUS: (S.FROZEN, "say_pending"),
    },
    S.OFFERED: {
        SE.WANT: (S.OFFERED, "transfer"),
        SE.RECEIPT: (S.COMMITTING, "write_committed"),
        SE.BAD_RECEIPT: (S.OFFERED, "alarm_bad_receipt"),
        SE.REFUSE: (S.ABORTING, "write_aborted"),
        SE.GIVE_UP: (S.ABORTING, "write_aborted"),
        SE.DEADLINE: (S.ABORTING, "write_aborted"),
        SE.TIMER: (S.OFFERED, "offer_again"),
        SE.FORGOTTEN: (S.OFFERED, "offer_soon"),
        SE.STATUS: (S.OFFERED, "say_pending"),
    },
    S.COMMITTING: {
        SE.DURABLE: (S.COMMITTED, "leave"),
        SE.STATUS: (S.COMMITTING, "say_pending"),
    },
    S.COMMITTED: {
        SE.DONE: (S.GONE, "release"),
        SE.RECEIPT: (S.COMMITTED, "commit"),
        SE.STATUS: (S.COMMITTED, "commit"),
        SE.TIMER: (S.COMMITTED, "commit"),
        SE.RESTART: (S.COMMITTED, "commit"),
        SE.FORGOTTEN: (S.COMMITTED, "alarm_lost"),
        SE.REFUSE: (S.COMMITTED, "alarm_lost"),
        SE.RECLAIM: (S.ABORTING, "write_aborted"),
    },
    S.GONE: {
        SE.RECEIPT: (S.GONE, "say_settled"),
        SE.STATUS: (S.GONE, "say_settled"),
    },
    S.ABORTING: {
        SE.DURABLE: (S.ABORTED, "keep"),
        SE.STATUS: (S.ABORTING, "say_pending"),
    },
    S.ABORTED: {
        SE.RECEIPT: (S.ABORTED, "abort"),
        SE.STATUS: (S.ABORTED, "abort"),
        SE.WANT: (S.ABORTED, "abort"),
    },
}

DESTINATION: Mapping[Destination, Mapping[DestinationEvent, tuple[Destination, str]]] = {
    D.NONE: {
        DE.SHORT: (D.WANTED, "want"),
        DE.ADMITTED: (D.HOLDING, "write_held"),
        DE.DECLINED: (D.REFUSED, "refuse"),
        DE.STRAY: (D.NONE, "say_unknown"),
        DE.COMMIT: (D.NONE, "alarm_amnesia"),
        DE.ABORT: (D.NONE, "say_discarded"),
        DE.STATUS: (D.NONE, "say_unknown"),
    },
    D.WANTED: {
        DE.SHORT: (D.WANTED, "want"),
        DE.ADMITTED: (D.HOLDING, "write_held"),
        DE.DECLINED: (D.REFUSED, "refuse"),
        DE.TIMER: (D.NONE, "forget"),
        DE.ABORT: (D.NONE, "say_discarded"),
        DE.STATUS: (D.WANTED, "say_pending"),
    },
    D.HOLDING: {
        DE.DURABLE: (D.HELD, "receipt"),
        DE.UNWRITTEN: (D.REFUSED, "refuse"),
        DE.INCOMPLETE: (D.WANTED, "want"),
        DE.STATUS: (D.HOLDING, "say_pending"),
    },
    D.HELD: {
        DE.COMMIT: (D.RUNNABLE, "start"),
        DE.BAD_COMMIT: (D.HELD, "alarm_bad_commit"),
        DE.ABORT: (D.DISCARDED, "drop"),
        DE.AGAIN: (D.HELD, "receipt"),
        DE.STATUS: (D.HELD, "receipt"),
        DE.TIMER: (D.HELD, "ask"),
        DE.RESTART: (D.HELD, "ask"),
        DE.DOUBT: (D.HELD, "doubt"),
        DE.ADOPT: (D.RUNNABLE, "start"),
        DE.DISCARD: (D.DISCARDED, "drop"),
    },
    D.RUNNABLE: {
        DE.DURABLE: (D.RUNNING, "done"),
        DE.STATUS: (D.RUNNABLE, "say_pending"),
        DE.ABORT: (D.RUNNABLE, "alarm_contradiction"),
    },
    D.RUNNING: {
        DE.COMMIT: (D.RUNNING, "done"),
        DE.STATUS: (D.RUNNING, "done"),
        DE.AGAIN: (D.RUNNING, "done"),
        DE.ABORT: (D.RUNNING, "alarm_contradiction"),
    },
    D.DISCARDED: {
        DE.AGAIN: (D.DISCARDED, "say_discarded"),
        DE.COMMIT: (D.DISCARDED, "alarm_contradiction"),
        DE.ABORT: (D.DISCARDED, "say_discarded"),
        DE.STATUS: (D.DISCARDED, "say_discarded"),
    },
    D.REFUSED: {
        DE.AGAIN: (D.REFUSED, "refuse"),
        DE.COMMIT: (D.REFUSED, "alarm_amnesia"),
        DE.ABORT: (D.REFUSED, "say_discarded"),
        DE.STATUS: (D.REFUSED, "refuse"),
    },
}
