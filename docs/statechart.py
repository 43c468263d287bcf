"""Draws a transition table as SVG: states in a column, in the table's order, transitions as arcs beside it.

Not a layout engine: it draws what the table says and nothing else, so that the picture is never out of date.
Forward arcs are to the right, backward ones to the left; the longer an arc, the further out it runs, and
events that lead from one state to the same next state share an arc. Events that leave a state as it is are
not drawn; the table below the picture has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

ROW = 64  # pixels from one state to the next
BOX_WIDTH, BOX_HEIGHT = 132, 34
LANE = 20  # between an arc's label and the next arc
LETTER = 7  # about the width of a letter of a label

Chart = Mapping[str, Mapping[str, str]]  # state -> event -> next state


def draw(chart: Chart, title: str) -> str:
    """An SVG element, on lines without an empty one between (Markdown takes it as one block)."""
    rows = {state: index for index, state in enumerate(chart)}
    arcs: dict[tuple[str, str], list[str]] = {}
    for state, events in chart.items():
        for event, after in events.items():
            if after != state:
                arcs.setdefault((state, after), []).append(event)
    forward = [(pair, events) for pair, events in arcs.items() if rows[pair[1]] > rows[pair[0]]]
    backward = [(pair, events) for pair, events in arcs.items() if rows[pair[1]] < rows[pair[0]]]
    left = _places(backward, rows)[1]
    right = _places(forward, rows)[1]
    width, height = left + BOX_WIDTH + right, ROW * len(rows)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}" font-family="monospace" font-size="11">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>',
    ]
    parts += _arcs(forward, rows, left + BOX_WIDTH, 1)
    parts += _arcs(backward, rows, left, -1)
    for state, row in rows.items():
        top = row * ROW + (ROW - BOX_HEIGHT) // 2
        parts.append(
            f'<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="none" '
            'stroke="currentColor"/>'
        )
        parts.append(
            f'<text x="{left + BOX_WIDTH // 2}" y="{top + 22}" text-anchor="middle" font-weight="bold" '
            f'fill="currentColor">{escape(state)}</text>'
        )
    return "\n".join([*parts, "</svg>"])


Arc = tuple[tuple[str, str], list[str]]


def _lanes(arcs: Sequence[Arc], rows: Mapping[str, int]) -> list[list[Arc]]:
    """The arcs by lane, inner lanes first: arcs whose rows overlap are in different ones."""
    lanes: list[list[Arc]] = []
    for arc in sorted(arcs, key=lambda arc: (_span(arc, rows)[1] - _span(arc, rows)[0], _span(arc, rows))):
        top, bottom = _span(arc, rows)
        for lane in lanes:
            if all(bottom <= start or end <= top for start, end in (_span(other, rows) for other in lane)):
                lane.append(arc)
                break
        else:
            lanes.append([arc])
    return lanes


def _span(arc: Arc, rows: Mapping[str, int]) -> tuple[int, int]:
    top, bottom = sorted(rows[state] for state in arc[0])
    return top, bottom


def _label(arc: Arc) -> list[str]:
    """The events of an arc as lines; an event with a comma takes two."""
    return [line.strip() for event in arc[1] for line in event.replace(", ", ",\n").split("\n")]


def _places(arcs: Sequence[Arc], rows: Mapping[str, int]) -> tuple[list[tuple[Arc, int]], int]:
    """How far from the column each arc runs, and how far the last label reaches, in pixels."""
    places = []
    at = LANE
    for lane in _lanes(arcs, rows):
        places += [(arc, at) for arc in lane]
        at += LANE + LETTER * max(len(line) for arc in lane for line in _label(arc))
    return places, at - LANE + 8 if arcs else 8


def _arcs(arcs: Sequence[Arc], rows: Mapping[str, int], edge: int, side: int) -> list[str]:
    """The arcs on one side of the column whose border is at x = `edge`."""
    parts = []
    for arc, distance in _places(arcs, rows)[0]:
        state, after = arc[0]
        down = 1 if rows[after] > rows[state] else -1
        start = rows[state] * ROW + ROW // 2 + 6 * down
        end = rows[after] * ROW + ROW // 2 - 6 * down
        out = edge + side * distance
        bend = out - side * 8
        path = f"M{edge} {start}H{bend}Q{out} {start} {out} {start + 8 * down}"
        path += f"V{end - 8 * down}Q{out} {end} {bend} {end}H{edge}"
        parts.append(f'<path d="{path}" fill="none" stroke="currentColor" marker-end="url(#tip)"/>')
        label = _label(arc)
        middle = start + 26 * down - 6 * (len(label) - 1) + 4  # near its start, clear of other arcs
        for number, line in enumerate(label):
            parts.append(
                f'<text x="{out + side * 4}" y="{middle + 13 * number}" '
                f'text-anchor="{"start" if side > 0 else "end"}" fill="currentColor">{escape(line)}</text>'
            )
    return parts
