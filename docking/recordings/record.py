"""The record of one stay: the state with which it began, and what the agent's calls returned there.

    ["portcall stay", 1, {1: agent, 2: visit, 3: passport, 4: station, 5: its name, 6: began, 7: state, 8: entries,
                          9: tape, 10: ended?, 11: entries that were dropped, 12: memory, 13: limits of files,
                          14: engine, 15: directories, 16: after a restart}]

Nothing here is signed: the trail says which state an agent came with and which it left with, and a replay shows whether
the one follows from the other. Invariants: `StayRecord.decode` reads what `encode` writes, raises only `BadRecord`, and
compares nothing with the trail: `docking.replay` does.
"""

from __future__ import annotations

from typing import Any

from attrs import astuple, field, fields, frozen

from agents import canonical
from agents.brief import brief
from agents.canonical import DIGEST_SIZE
from agents.credentials.fields import AMOUNT, array, byte_string, uint
from agents.errors import BadRecord, CredentialError, MalformedCredential, NotCanonical
from agents.recording import MAX_TAPE_BYTES, MAX_TAPE_ENTRIES, Entry, read_tape
from agents.snapshot import MAX_SNAPSHOT_BYTES
from agents.wasi.limits import WasiLimits

STAY_FORMAT, STAY_VERSION = "portcall stay", 1
MAX_STAY_BYTES = 256 << 20  # of one record that is read
MAX_NAMES = 64
MAX_TEXT = 256
_BOUNDS = canonical.DecodeBounds(MAX_STAY_BYTES, 5, 1000)
_LIMITS = len(fields(WasiLimits))


@frozen
class StayRecord:
    """One stay of one agent.

    agent: its id; visit: the index of the stay in its trail
    passport: the envelope
    station, name: the key (32 bytes) and the name of the station
    began, ended: when, in ms since 1970; `ended` is 0 while it is there, and where nobody knows
    state: the snapshot with which the record begins; empty where it was not kept
    entries, tape: of the record of its calls, see `agents.recording`
    dropped: entries after those, for which there was no room
    memory: bytes of memory that it could have there; wasi: the limits of its files
    engine: which engine ran it, for people
    directories: of the station that it could use, whose contents are not recorded
    restarted: whether the station was restarted in this stay: the record begins after that
    """

    agent: bytes
    visit: int
    passport: bytes = field(repr=brief)
    station: bytes
    name: str
    began: int
    state: bytes = field(repr=brief)
    entries: int = 0
    tape: bytes = field(default=b"", repr=brief)
    ended: int = 0
    dropped: int = 0
    memory: int = 0
    wasi: WasiLimits = field(factory=WasiLimits)
    engine: str = ""
    directories: tuple[str, ...] = field(default=(), repr=brief)
    restarted: bool = False

    def calls(self) -> tuple[Entry, ...]:
        """The entries of the tape. Raises `BadRecord`."""
        return read_tape(self.tape, self.entries)

    def encode(self) -> bytes:
        """As bytes."""
        values: list[Any] = [
            *(self.agent, self.visit, self.passport, self.station, self.name, self.began, self.state, self.entries),
            *(self.tape, self.ended, self.dropped, self.memory, list(astuple(self.wasi)), self.engine),
            *(list(self.directories), self.restarted),
        ]
        return canonical.encode([STAY_FORMAT, STAY_VERSION, dict(enumerate(values, 1))])

    @classmethod
    def decode(cls, data: bytes) -> StayRecord:
        """The inverse of `encode`. Raises `BadRecord`."""
        try:
            name, version, values = array(canonical.decode(data, _BOUNDS), "stay", 3)
            if name != STAY_FORMAT or type(version) is not int or version != STAY_VERSION:
                raise BadRecord("not the record of a stay, or of another version")
            if not isinstance(values, dict) or list(values) != list(range(1, 17)):
                raise BadRecord("the record of a stay has other fields")
            v = values
            return cls(
                agent=byte_string(v[1], "agent", DIGEST_SIZE),
                visit=uint(v[2], "visit"),
                passport=byte_string(v[3], "passport", 1, 1 << 20),
                station=byte_string(v[4], "station", 32),
                name=_text(v[5]),
                began=uint(v[6], "time", AMOUNT),
                state=byte_string(v[7], "state", 0, MAX_SNAPSHOT_BYTES),
                entries=uint(v[8], "entries", MAX_TAPE_ENTRIES),
                tape=byte_string(v[9], "tape", 0, MAX_TAPE_BYTES),
                ended=uint(v[10], "time", AMOUNT),
                dropped=uint(v[11], "entries", AMOUNT),
                memory=uint(v[12], "memory", AMOUNT),
                wasi=read_limits(v[13]),
                engine=_text(v[14]),
                directories=tuple(_text(each) for each in array(v[15], "directories", MAX_NAMES)),
                restarted=_yes(v[16]),
            )
        except (NotCanonical, CredentialError, ValueError, TypeError) as error:
            raise BadRecord(f"not the record of a stay: {error}") from None


def read_limits(value: object) -> WasiLimits:
    """The limits of files, from their list. Raises `MalformedCredential`."""
    numbers = array(value, "limits", _LIMITS)
    if len(numbers) != _LIMITS:
        raise MalformedCredential("limits of another shape")
    return WasiLimits(*(uint(each, "limit", 1 << 30) for each in numbers))


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise BadRecord("a name that is none")
    return value


def _yes(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadRecord("neither true nor false")
    return value
