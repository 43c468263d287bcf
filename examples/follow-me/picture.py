"""Draws the latency of requests over time, as SVG."""

from __future__ import annotations

from html import escape

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 15, 40, 40
SHADES = ("#f1f5f9", "#e2e8f0")


def picture(
    samples: list[tuple[float, float]], moves: list[tuple[float, float, str]], cells: list[tuple[float, str]]
) -> str:
    """A plot.

    samples: seconds and milliseconds of each request
    moves: when each began and when it was over, in seconds, and where to
    cells: since when (seconds) the phone was near which cell
    """
    end = max(at for at, _ in samples)
    highest = max(ms for _, ms in samples)
    top = next((step for step in (10, 20, 50, 100, 200, 500, 1000, 10_000) if step >= highest), highest)

    def x(seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * seconds / end, 1)

    def y(ms: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ms / top, 1)

    def text(at: float, height: float, said: str, more: str = "") -> str:
        return f'<text x="{at}" y="{height}" {more}>{escape(said)}</text>'

    drawn = []
    for number, (since, name) in enumerate(cells):
        until = cells[number + 1][0] if number + 1 < len(cells) else end
        size = f'width="{x(until) - x(since):.1f}" height="{HEIGHT - TOP - BOTTOM}"'
        drawn.append(f'<rect x="{x(since)}" y="{TOP}" {size} fill="{SHADES[number % 2]}"/>')
        drawn.append(text(x((since + until) / 2), TOP - 22, f"the phone is near {name}", 'text-anchor="middle"'))
    for part in range(6):
        ms = top * part / 5
        drawn.append(f'<path d="M{LEFT} {y(ms)}H{WIDTH - RIGHT}" stroke="#cbd5e1" stroke-width="0.5"/>')
        drawn.append(text(LEFT - 6, y(ms) + 4, f"{ms:g}", 'text-anchor="end"'))
    for began, over, to in moves:
        width = max(x(over) - x(began), 1.5)
        size = f'width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}"'
        drawn.append(f'<rect x="{x(began)}" y="{TOP}" {size} fill="#f59e0b" opacity="0.45"/>')
        drawn.append(text(x(over) + 3, TOP - 6, f"moved to {to}", 'fill="#b45309"'))
    drawn += [f'<circle cx="{x(at)}" cy="{y(ms)}" r="1.6" fill="#1d4ed8"/>' for at, ms in samples]
    for second in range(int(end) + 1):
        drawn.append(text(x(second), HEIGHT - BOTTOM + 15, str(second), 'text-anchor="middle"'))
    drawn.append(text((LEFT + WIDTH) / 2, HEIGHT - 8, "seconds", 'text-anchor="middle"'))
    drawn.append(text(4, TOP - 6, "ms"))
    inside = "\n".join(drawn)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<title>Latency of each request</title>'
    return f'{head}\n<rect width="100%" height="100%" fill="white"/>\n{inside}\n</svg>\n'
