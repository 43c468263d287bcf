"""The two transition tables of the handoff. They are the protocol; all other code carries them out.

Not here: what a step does in detail, and how events are told apart (`sender` and `receiver` do both). A table
knows only that a receipt that verifies is `RECEIPT` and one that does not is `BAD_RECEIPT`.

A row says `event: (next state, step)`. An event without a row in a state is late, duplicated or irrelevant there:
it is ignored (`IGNORED`), and the state stays. The store records the state that holds once the write is done, so
COMMITTING, ABORTING, HOLDING and RUNNABLE are never found in it: after a crash, the write either happened or did
not.

Why at most one copy of the agent lives:
- The source decides. Its decision is one durable row: COMMITTED, or none. It leaves COMMITTING only when
  that row is durable, and only then sends COMMIT to anyone; until then it answers "pending".
- The destination starts the agent only from HELD, and only on a commit that verifies (or when an operator says so).
- The source lets the agent go on only from ABORTING, once that is durable, or when it restarts and finds no
  COMMITTED.

Why at least one does: HELD is durable before the receipt is sent, and nothing is committed without a
receipt. The destination gives up HELD only when the source says ABORT (or an operator does); the source gives up
COMMITTED only when the destination says DONE, which it does once its RUNNING is durable.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class StateName(enum.Enum):
    """Hashes members by identity and keeps each value as the plain attribute `text`.

    `Enum` does both in Python code, and a handoff does both about a hundred times.
    """

    __hash__ = object.__hash__
    text: str

    def __init__(self, text: str) -> None:
        self.text = text


class Source(StateName):
    """States of the station that the agent leaves."""

    FROZEN = "frozen"  # the agent is stopped; nothing was sent
    OFFERED = "offered"  # the offer is sent
    COMMITTING = "committing"  # the receipt is verified; the decision is being written
    COMMITTED = "committed"  # the agent belongs to the destination, which may not know it yet
    GONE = "gone"  # the destination has confirmed
    ABORTING = "aborting"  # the decision to keep the agent is being written
    ABORTED = "aborted"  # the agent goes on here


class Destination(StateName):
    """States of the station that the agent goes to."""

    NONE = "none"  # nothing known
    WANTED = "wanted"  # the offer is acceptable; parts are missing
    HOLDING = "holding"  # admitted; being written
    HELD = "held"  # durable, receipt given, must not run
    RUNNABLE = "runnable"  # committed: the agent is started; that is being written
    RUNNING = "running"  # durable: the agent belongs to this station like any other
    DISCARDED = "discarded"  # what was held is deleted
    REFUSED = "refused"  # not admitted


class SourceEvent(StateName):
    """What can happen at the source: local events, then messages."""

    BEGIN = "begin"  # the station wants the agent to leave
    GIVE_UP = "give up"  # the station no longer wants the agent to leave
    DURABLE = "durable"  # what was being written is on disk
    TIMER = "timer"  # no answer for a while
    DEADLINE = "deadline"  # no receipt in time
    RESTART = "restart"  # the station starts and finds this record
    RECLAIM = "reclaim"  # an operator decides that the destination will never run it
    WANT = "WANT"
    REFUSE = "REFUSE"
    RECEIPT = "RECEIPT"
    BAD_RECEIPT = "RECEIPT that does not verify"
    DONE = "DONE"
    STATUS = "STATUS"
    PENDING = "STATE pending"
    FORGOTTEN = "STATE unknown or discarded"


class DestinationEvent(StateName):
    """What can happen at the destination: local events, then messages."""

    DURABLE = "durable"
    UNWRITTEN = "could not be written"
    INCOMPLETE = "not written: a part that was here is here no more"
    TIMER = "timer"
    RESTART = "restart"
    ADOPT = "adopt"  # an operator decides that the agent is to live here
    DISCARD = "discard"  # an operator decides that it is not
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
IGNORED = "ignore"

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
