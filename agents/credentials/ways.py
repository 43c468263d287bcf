"""The language in which people write where an agent may go: `alpha,beta?,(gamma|delta)*3`.

    a,b,c       each, in this order        b?          it may be left out
    a|b         one of them                {a,b,c}     each once, in any order
    (...)*10    once, up to 10 times       any         any one station
    any@KEY     one that KEY certified     roam        any stations, as many as there are hops

`alpha:task` has the station call this export of the agent there, and send it on when that returns: at each stop, or at
none. `|` binds closer than `,`, and `?` and `*` closer still; parentheses group. `beta<2026-12-01T12:00Z` is there at
the latest then. Names with spaces or other signs than these, and stations called `any` or `roam`, stand in double
quotes, and so do names that look like a station and a task. `host:port`, `ed25519:...` and URLs do not.

Not here: what an itinerary allows (`itinerary`), and which key a name stands for. Invariants:
`Way.read(str(way)) == way`; reading takes time in proportion to the text's length, which is bounded; each error says
where it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from attrs import field, frozen

from agents.brief import brief
from agents.credentials.fields import COUNT, LATEST_MS
from agents.credentials.itinerary import (
    MAX_DEPTH,
    MAX_TASK_BYTES,
    Alt,
    CertifiedStop,
    FreeStop,
    Itinerary,
    Leaf,
    Loop,
    Node,
    Opt,
    Seq,
    Set,
    Stop,
)
from agents.credentials.keys import KEY_SIZE, PublicKey
from agents.errors import CredentialError, WayError

MAX_WAY_CHARS = 100_000
MAX_NESTING = 2 * MAX_DEPTH  # of parentheses and braces, which may be more than are needed
ANY, ROAM, CERTIFIED = "any", "roam", "any@"
_ROAM = Opt(Loop(COUNT, FreeStop()))
_PLAIN = re.compile(r"""[^\s,|?*(){}<>"@][^\s,|?*(){}<>"]*\Z""")
_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_.$-]*"
# A task comes after a name, `host:port`, `[address]:port` or a whole key; what follows the last colon is no port.
_TASKED = re.compile(rf"(ed25519:[^:]+|\[[^\]]*\](?::[0-9]+)?|(?!ed25519:)[^:\[\]]+(?::[0-9]+)?):({_IDENTIFIER})\Z")
_TASK = re.compile(rf':({_IDENTIFIER}|"(?:[^"\\]|\\.)*")', re.DOTALL)
_WORD = re.compile(r"""[^,|?*(){}<>"]*""")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_TIME = re.compile(r"[0-9T:.-]{1,30}Z")
_FORMS = ("%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
Name = Callable[[PublicKey], str]


@frozen
class Way:
    """Where an agent may go, as its owner writes it: an itinerary whose stations have names instead of keys.

        way = Way.read("alpha,beta?,(gamma|delta)*3")
        way.names                                              # ('alpha', 'beta', 'gamma', 'delta')
        way.itinerary({"alpha": key, ...})                     # what the owner signs

    draft: the itinerary with numbers as keys: the station with the key `Way.key(n)` is `names[n]`, the certifier with
        it `certifiers[n]`
    names, certifiers: as they were written, each once
    """

    draft: Itinerary
    names: tuple[str, ...] = field(default=(), repr=brief)
    certifiers: tuple[str, ...] = field(default=(), repr=brief)

    @classmethod
    def read(cls, text: str) -> Way:
        """The way that `text` describes.

        text: at most 100,000 characters

        Raises `WayError`, which shows the place, also for a way that is too large: more than 1024 parts, 12 levels, 64
        parts in any order.
        """
        reader = _Reader(text)
        root = reader.all()
        try:
            return cls(Itinerary(root), tuple(reader.names), tuple(reader.certifiers))
        except CredentialError as error:
            raise WayError(error.reason, text) from None

    @classmethod
    def through(cls, names: list[str]) -> Way:
        """One station after another.

        names: of at least one station, in this order
        """
        known = list(dict.fromkeys(names))
        return cls(Itinerary.via([cls.key(known.index(name)) for name in names]), tuple(known))

    @staticmethod
    def key(number: int) -> PublicKey:
        """What stands for a key in `draft`. Nobody has its secret.

        number: from 0
        """
        return PublicKey(number.to_bytes(KEY_SIZE, "big"))

    def itinerary(
        self, stations: Mapping[str, PublicKey], certifiers: Mapping[str, PublicKey] | None = None
    ) -> Itinerary:
        """The itinerary for the owner to sign.

        stations: the key of each of `names`
        certifiers: the key of each of `certifiers`; those written as whole keys, `ed25519:...`, need not be there

        Raises `WayError` for a name that is not there.
        """
        known = certifiers or {}
        missing = [name for name in self.names if name not in stations]
        if missing:
            raise WayError(f"no key is known for the station {missing[0]!r}", str(self))
        keys = [known[name] if name in known else self._whole_key(name) for name in self.certifiers]
        return Itinerary(_with_keys(self.draft.root, [stations[name] for name in self.names], keys))

    def _whole_key(self, name: str) -> PublicKey:
        try:
            return PublicKey.from_text(name)
        except CredentialError:
            said = f"no key is known for {CERTIFIED}{name}; write the whole key, {CERTIFIED}ed25519:..."
            raise WayError(said, str(self)) from None

    @property
    def named(self) -> bool:
        """Whether all its stops are stations with names: none is `any`, `any@KEY` or `roam`."""
        return _all_named(self.draft.root)

    def name(self, key: PublicKey) -> str:
        """The name of a station whose key in `draft` is `key`."""
        return self.names[int.from_bytes(key.raw, "big")]

    def __str__(self) -> str:
        return written(self.draft, self.name, lambda key: self.certifiers[int.from_bytes(key.raw, "big")])

    def value(self) -> dict[str, Any]:
        """The same for JSON; see `value`."""
        return value(self.draft, self.name, lambda key: self.certifiers[int.from_bytes(key.raw, "big")])


def _all_named(node: Node) -> bool:
    if isinstance(node, (Stop, CertifiedStop, FreeStop)):
        return isinstance(node, Stop)
    return all(map(_all_named, [node.part] if isinstance(node, (Loop, Opt)) else node.parts))


def _with_keys(node: Node, stations: list[PublicKey], certifiers: list[PublicKey]) -> Node:
    if isinstance(node, Stop):
        return Stop(stations[int.from_bytes(node.station.raw, "big")], node.until, node.task)
    if isinstance(node, CertifiedStop):
        return CertifiedStop(certifiers[int.from_bytes(node.certifier.raw, "big")], node.until)
    if isinstance(node, FreeStop):
        return node
    if isinstance(node, Loop):
        return Loop(node.turns, _with_keys(node.part, stations, certifiers))
    if isinstance(node, Opt):
        return Opt(_with_keys(node.part, stations, certifiers))
    return type(node)([_with_keys(part, stations, certifiers) for part in node.parts])


# Reading


class _Reader:
    """Reads one text from left to right. `names`, `certifiers`: their numbers, in the order in which they came."""

    def __init__(self, text: str) -> None:
        self.names: dict[str, int] = {}
        self.certifiers: dict[str, int] = {}
        self._text = text
        self._at = 0
        self._open: list[int] = []  # where the brackets are that are not closed yet
        if len(text) > MAX_WAY_CHARS:
            raise WayError(f"a way has at most {MAX_WAY_CHARS} characters, and this has {len(text)}", "")

    def all(self) -> Node:
        """The whole text."""
        node = self._sequence()
        if self._at < len(self._text):
            closing = self._text[self._at]
            raise self._wrong(
                f"no {'(' if closing == ')' else '{'} is open here"
                if closing in ")}"
                else "a comma or | belongs between two stations"
            )
        return node

    def _wrong(self, reason: str, at: int | None = None) -> WayError:
        return WayError(reason, self._text, self._at if at is None else at)

    def _space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _takes(self, sign: str) -> bool:
        self._space()
        found = self._text.startswith(sign, self._at)
        self._at += len(sign) * found
        return found

    def _sequence(self) -> Node:
        parts = self._list(self._choice, ",")
        return parts[0] if len(parts) == 1 else Seq(parts)

    def _choice(self) -> Node:
        parts = self._list(self._repeated, "|")
        return parts[0] if len(parts) == 1 else Alt(parts)

    def _list(self, part: Callable[[], Node], sign: str) -> list[Node]:
        parts = [part()]
        while self._takes(sign):
            parts.append(part())
        return parts

    def _repeated(self) -> Node:
        node = self._one()
        for _ in range(MAX_DEPTH):
            if self._takes("?"):
                node = Opt(node)
            elif self._takes("*"):
                node = Loop(self._turns(), node)
            else:
                return node
        raise self._wrong(f"the itinerary is nested deeper than {MAX_DEPTH} levels")

    def _turns(self) -> int:
        self._space()
        digits = re.compile("[0-9]*").match(self._text, self._at)
        assert digits is not None
        if not digits[0] or len(digits[0]) > 10 or not 1 <= int(digits[0]) <= COUNT:
            raise self._wrong(f"after * comes how many times at the most, 1 to {COUNT}, as in (alpha,beta)*10")
        self._at = digits.end()
        return int(digits[0])

    def _one(self) -> Node:
        if self._takes("("):
            return self._within(")", self._sequence)
        if self._takes("{"):
            return self._within("}", lambda: Set(self._list(self._choice, ",")))
        return self._stop()

    def _within(self, closing: str, inside: Callable[[], Node]) -> Node:
        begin = self._at - 1
        self._open.append(begin)
        if len(self._open) > MAX_NESTING:
            raise self._wrong(f"more than {MAX_NESTING} brackets within each other", begin)
        node = inside()
        if not self._takes(closing):
            if self._at < len(self._text) and self._text[self._at] not in ")}":
                raise self._wrong("a comma or | belongs between two stations")
            raise self._wrong(f"this {self._text[begin]} is not closed by a {closing}", begin)
        self._open.pop()
        return node

    def _stop(self) -> Node:
        self._space()
        begin = self._at
        quoted = _QUOTED.match(self._text, begin)
        if quoted is not None:
            self._at = quoted.end()
            name = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
            if not name.strip():
                raise self._wrong("a station's name is missing here", begin)
            return self._station(name, self._task())
        if self._text.startswith('"', begin):
            raise self._wrong('this " is not closed by another', begin)
        word = _WORD.match(self._text, begin)
        assert word is not None
        name = word[0].rstrip()
        self._at = begin + len(name)
        if len(name) > 1 and name.endswith(":") and self._text.startswith('"', self._at):
            self._at -= 1
            return self._station(name[:-1], self._task())
        if not name:
            raise self._wrong("a station's name is missing here")
        if name == ROAM:
            return _ROAM
        if name == ANY:
            return FreeStop(self._until())
        if name.startswith("@"):
            raise self._wrong("write any@KEY for a station that KEY certified", begin)
        if name.startswith(CERTIFIED):
            return self._certified(name.removeprefix(CERTIFIED).strip())
        space = re.search(r"\s", name)
        if space is not None:
            raise self._wrong("a comma or | belongs between two stations", begin + space.start())
        tasked = _TASKED.match(name)
        return self._station(name) if tasked is None else self._station(tasked[1], tasked[2])

    def _station(self, name: str, task: str = "") -> Stop:
        if len(task.encode(errors="replace")) > MAX_TASK_BYTES or not task.isprintable():
            raise self._wrong(f"a task is the printable name of an export, of at most {MAX_TASK_BYTES} bytes")
        return Stop(Way.key(self.names.setdefault(name, len(self.names))), self._until(), task)

    def _task(self) -> str:
        """After a name in quotes."""
        found = _TASK.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        task = re.sub(r"\\(.)", r"\1", found[1][1:-1], flags=re.DOTALL) if found[1].startswith('"') else found[1]
        if not task:
            raise self._wrong("the name of a task is missing here")
        return task

    def _certified(self, name: str) -> CertifiedStop:
        if not name:
            quoted = _QUOTED.match(self._text, self._at)
            if quoted is None or not quoted[1].strip():
                raise self._wrong("after any@ comes a key: the name of one of yours, or ed25519:...")
            self._at = quoted.end()
            name = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
        return CertifiedStop(Way.key(self.certifiers.setdefault(name, len(self.certifiers))), self._until())

    def _until(self) -> int | None:
        if not self._takes("<"):
            return None
        self._space()
        found = _TIME.match(self._text, self._at)
        for form in _FORMS if found is not None else ():
            assert found is not None
            try:
                moment = datetime.strptime(found[0], form).replace(tzinfo=timezone.utc) - _EPOCH
            except ValueError:
                continue
            if moment >= timedelta() and moment % timedelta(milliseconds=1) == timedelta():
                self._at = found.end()
                return min(moment // timedelta(milliseconds=1), LATEST_MS)
        raise self._wrong("after < comes the latest arrival, in UTC, as in beta<2026-12-01T12:00Z")


# Writing


def written(itinerary: Itinerary, station: Name, certifier: Name | None = None) -> str:
    """An itinerary in the language of ways.

    station, certifier: how keys are written; certifiers by default as whole keys
    """
    return _written(itinerary.root, station, certifier or _text_of_key, 0)


def _text_of_key(key: PublicKey) -> str:
    return key.text


def _written(node: Node, station: Name, certifier: Name, level: int) -> str:
    """`level`: what binds as closely needs no parentheses: 0 a sequence, 1 alternatives, 2 what may be repeated."""
    if isinstance(node, (Stop, CertifiedStop, FreeStop)):
        return _stop(node, station, certifier)
    if node == _ROAM:
        return ROAM
    if isinstance(node, Opt):
        return f"{_written(node.part, station, certifier, 2)}?"
    if isinstance(node, Loop):
        return f"{_written(node.part, station, certifier, 2)}*{node.turns}"
    if isinstance(node, Set):
        return f"{{{','.join(_written(part, station, certifier, 1) for part in node.parts)}}}"
    if len(node.parts) == 1:
        return _written(node.parts[0], station, certifier, level)
    own, sign = (0, ",") if isinstance(node, Seq) else (1, "|")
    text = sign.join(_written(part, station, certifier, own + 1) for part in node.parts)
    return f"({text})" if level > own else text


def _stop(node: Leaf, station: Name, certifier: Name) -> str:
    if isinstance(node, Stop):
        text = quoted(station(node.station))
        if node.task:
            # In quotes where the two would not be told apart again.
            whole = f"{text}:{node.task}"
            found = _TASKED.match(whole)
            plain = found is not None and (found[1], found[2]) == (text, node.task)
            in_quotes = text.startswith('"') and re.fullmatch(_IDENTIFIER, node.task) is not None
            text = whole if plain or in_quotes else f"{_in_quotes(station(node.station))}:{_in_quotes(node.task)}"
    elif isinstance(node, CertifiedStop):
        name = certifier(node.certifier)
        text = CERTIFIED + (name if _PLAIN.match(name) else _in_quotes(name))
    else:
        text = ANY
    return text if node.until is None else f"{text}<{_time(node.until)}"


def quoted(name: str) -> str:
    """A station's name as it is written in a way."""
    plain = (
        _PLAIN.match(name) and not _TASKED.match(name) and name not in (ANY, ROAM) and not name.startswith(CERTIFIED)
    )
    return name if plain else _in_quotes(name)


def _in_quotes(name: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def _time(milliseconds: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    precision = "milliseconds" if milliseconds % 1000 else "seconds" if moment.second else "minutes"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def value(itinerary: Itinerary, station: Name, certifier: Name | None = None) -> dict[str, Any]:
    """An itinerary for JSON: `{"sequence": [{"station": "alpha"}, {"optional": {"station": "beta"}}]}`.

    Further parts: `alternatives` and `any_order`, with lists; `loop`, with `turns` beside it; `any`: true, with
    `certified_by`; `task` beside a station; `until_ms` beside a stop, in milliseconds since 1970.

    station, certifier: as of `written`
    """
    return _json(itinerary.root, station, certifier or _text_of_key)


_LISTS: dict[type[Node], str] = {Seq: "sequence", Alt: "alternatives", Set: "any_order"}


def _json(node: Node, station: Name, certifier: Name) -> dict[str, Any]:
    if isinstance(node, (Seq, Alt, Set)):
        return {_LISTS[type(node)]: [_json(part, station, certifier) for part in node.parts]}
    if isinstance(node, Opt):
        return {"optional": _json(node.part, station, certifier)}
    if isinstance(node, Loop):
        return {"loop": _json(node.part, station, certifier), "turns": node.turns}
    shown: dict[str, Any] = {"any": True}
    if isinstance(node, Stop):
        shown = {"station": station(node.station), **({"task": node.task} if node.task else {})}
    elif isinstance(node, CertifiedStop):
        shown["certified_by"] = certifier(node.certifier)
    return shown if node.until is None else {**shown, "until_ms": node.until}


__all__ = ["Way", "quoted", "value", "written"]
