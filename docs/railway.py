"""Draws the grammar of ways as a railway diagram in SVG, for `docs/reference/ways.md`.

A text is a way if it can be travelled from left to right. `walk` travels so at random: a test reads what it passes, so
that the picture shows what the program takes. It has the colour of the text around it, light or dark. Every part is
drawn by itself, on its own line, and says how much room it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from random import Random
from typing import Protocol

import attrs

LETTER, PAD, BOX = 8, 10, 14  # pixels: of a letter, beside it, and half a box
GAP, BEND = 14, 10  # between boxes; of a curve
STROKE = 'fill="none" stroke="currentColor"'


@attrs.frozen
class Room:
    """What a part takes: `width`, and what is above and below its line, in pixels."""

    width: int
    up: int = 0
    down: int = 0


class Part(Protocol):
    """A part of a diagram. It is drawn from (x, y) to (x + width, y)."""

    @property
    def room(self) -> Room: ...
    def draw(self, x: int, y: int) -> Iterator[str]: ...
    def walk(self, random: Random, depth: int) -> str: ...


def _track(x: int, y: int, *steps: str) -> str:
    return f'<path d="M{x} {y}{"".join(steps)}" {STROKE}/>'


@attrs.frozen
class Skip:
    """Nothing but the line."""

    room = Room(0)

    def draw(self, x: int, y: int) -> Iterator[str]:
        return iter(())

    def walk(self, random: Random, depth: int) -> str:
        return ""


@attrs.frozen
class Box:
    """Signs as they are typed, or the name of what stands here; `samples` are some of what that may be."""

    text: str
    samples: tuple[str, ...] = ()
    rule: Callable[[], Part] | None = None

    @property
    def room(self) -> Room:
        return Room(LETTER * len(self.text) + 2 * PAD, BOX, BOX)

    def draw(self, x: int, y: int) -> Iterator[str]:
        named = self.samples or self.rule
        width, round_ = self.room.width, 0 if named else BOX
        style = 'font-style="italic"' if named else 'font-weight="bold"'
        yield f'<rect x="{x}" y="{y - BOX}" width="{width}" height="{2 * BOX}" rx="{round_}" {STROKE}/>'
        yield (
            f'<text x="{x + width // 2}" y="{y + 5}" text-anchor="middle" {style} fill="currentColor">'
            f"{escape(self.text)}</text>"
        )

    def walk(self, random: Random, depth: int) -> str:
        if self.rule is not None:
            return self.rule().walk(random, depth + 1)
        return random.choice(self.samples) if self.samples else self.text


@attrs.frozen
class Line:
    """One after the other."""

    parts: tuple[Part, ...]

    @property
    def room(self) -> Room:
        rooms = [part.room for part in self.parts]
        width = sum(room.width for room in rooms) + GAP * (len(rooms) - 1)
        return Room(width, max(room.up for room in rooms), max(room.down for room in rooms))

    def draw(self, x: int, y: int) -> Iterator[str]:
        for number, part in enumerate(self.parts):
            if number:
                yield _track(x, y, f"h{GAP}")
                x += GAP
            yield from part.draw(x, y)
            x += part.room.width

    def walk(self, random: Random, depth: int) -> str:
        return "".join(part.walk(random, depth) for part in self.parts)


@attrs.frozen
class Fork:
    """One of several; the first on the line, the others below it."""

    parts: tuple[Part, ...]

    @property
    def room(self) -> Room:
        rooms = [part.room for part in self.parts]
        below = sum(GAP + room.up + room.down for room in rooms[1:])
        return Room(max(room.width for room in rooms) + 4 * BEND, rooms[0].up, rooms[0].down + below)

    def draw(self, x: int, y: int) -> Iterator[str]:
        inner, at = self.room.width - 4 * BEND, y
        for number, part in enumerate(self.parts):
            rest = inner - part.room.width
            if number:
                at += GAP + part.room.up
                drop = at - y - 2 * BEND
                curve = f"q{BEND} 0 {BEND} {BEND}v{drop}q0 {BEND} {BEND} {BEND}"
                yield _track(x, y, curve)
                back = f"q{BEND} 0 {BEND} {-BEND}v{-drop}q0 {-BEND} {BEND} {-BEND}"
                yield _track(x + 2 * BEND + part.room.width, at, f"h{rest}", back)
            else:
                yield _track(x, y, f"h{2 * BEND}")
                yield _track(x + 2 * BEND + part.room.width, y, f"h{rest + 2 * BEND}")
            yield from part.draw(x + 2 * BEND, at)
            at += part.room.down

    def walk(self, random: Random, depth: int) -> str:
        # Deep within, the first: it does not lead deeper.
        return (self.parts[0] if depth > 8 else random.choice(self.parts)).walk(random, depth)


@attrs.frozen
class Again:
    """Once or more, with something between."""

    part: Part
    between: Part

    @property
    def room(self) -> Room:
        one, two = self.part.room, self.between.room
        return Room(max(one.width, two.width) + 2 * BEND, one.up, one.down + GAP + two.up + two.down)

    def draw(self, x: int, y: int) -> Iterator[str]:
        inner, one, two = self.room.width - 2 * BEND, self.part.room, self.between.room
        yield _track(x, y, f"h{BEND}")
        yield from self.part.draw(x + BEND, y)
        yield _track(x + BEND + one.width, y, f"h{inner - one.width + BEND}")
        below = y + one.down + GAP + two.up
        drop = below - y - 2 * BEND
        side = (inner - two.width) // 2
        right = x + BEND + inner
        yield _track(right, y, f"q{BEND} 0 {BEND} {BEND}v{drop}q0 {BEND} {-BEND} {BEND}h{side + two.width - inner}")
        yield from self.between.draw(x + BEND + side, below)
        yield _track(x + BEND + side, below, f"h{-side}q{-BEND} 0 {-BEND} {-BEND}v{-drop}q0 {-BEND} {BEND} {-BEND}")

    def walk(self, random: Random, depth: int) -> str:
        text = self.part.walk(random, depth)
        while depth < 8 and random.random() < 0.3:
            text += self.between.walk(random, depth) + self.part.walk(random, depth)
        return text


NAME = Box("NAME", ("alpha", "beta", "127.0.0.1:7707", '"a name"', "anywhere"))
TASK = Box("TASK", ("count", "_start", '"a task"'))
KEY = Box("KEY", ("me", "ed25519:" + "a" * 52))
NUMBER = Box("NUMBER", ("1", "10", "4294967295"))
TIME = Box("TIME", ("2026-12-01T12:00Z", "2026-12-01T12:00:30Z", "2026-12-01T12:00:30.250Z"))


def way() -> Part:
    return Again(Box("choice", rule=choice), Box(","))


def choice() -> Part:
    return Again(Box("part", rule=part), Box("|"))


def part() -> Part:
    brackets = Line((Box("("), Box("way", rule=way), Box(")")))
    braces = Line((Box("{"), Again(Box("choice", rule=choice), Box(",")), Box("}")))
    more = Fork((Box("?"), Line((Box("*"), NUMBER))))
    return Line((Fork((Box("stop", rule=stop), brackets, braces)), Fork((Skip(), Again(more, Skip())))))


def stop() -> Part:
    named = Line((NAME, Fork((Skip(), Line((Box(":"), TASK))))))
    one = Fork((named, Box("any"), Line((Box("any@"), KEY))))
    return Fork((Line((one, Fork((Skip(), Line((Box("<"), TIME)))))), Box("roam")))


RULES: dict[str, Callable[[], Part]] = {"way": way, "choice": choice, "part": part, "stop": stop}


def draw() -> str:
    """An SVG element, on lines without an empty one between (Markdown takes it as one block)."""
    left, margin = 80, 12
    rows, y = [], margin
    width = left + max(rule().room.width for rule in RULES.values()) + 2 * GAP + 2 * margin
    for name, rule in RULES.items():
        track = rule()
        y += track.room.up
        end = left + GAP + track.room.width
        rows.append(f'<text x="{margin}" y="{y + 5}" font-style="italic" fill="currentColor">{name}</text>')
        rows.append(
            f'<circle cx="{left - 3}" cy="{y}" r="3" {STROKE}/><circle cx="{end + GAP + 3}" cy="{y}" r="3" {STROKE}/>'
        )
        rows += [_track(left, y, f"h{GAP}"), *track.draw(left + GAP, y), _track(end, y, f"h{GAP}")]
        y += track.room.down + 2 * GAP
    head = (
        f'<svg viewBox="0 0 {width} {y}" width="{width}" height="{y}" role="img" '
        'aria-label="the grammar of ways" font-family="monospace" font-size="13">'
    )
    return "\n".join([head, *rows, "</svg>"])
