"""Accuracy against the number of labels, one line per method: numbers in, an SVG out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 790, 420, 56, 230, 34, 48
# told apart also without colour: each line has a dash of its own
COLOURS = (
    *("#0b5fff", "#d1495b", "#2e933c", "#8f5bd6", "#b07d00", "#00798c", "#7a4419", "#555555"),
    *("#e36414", "#9d174d", "#3f6212"),
)
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4", "10 4", "4 4", "3 2", "12 2", "5 1", "1 2")


def accuracy_against_labels(
    summary: Mapping[str, Mapping[str, Mapping[str, Any]]],
    names: Mapping[str, str],
    labels: Sequence[str],
    title: str,
) -> str:
    """`summary` is labels -> method -> {mean, interval}; bands are the intervals."""
    columns = [count for count in labels if count in summary]
    methods = [name for name in names if any(name in summary[count] for count in columns)]
    highest = max(block["mean"] for count in columns for block in summary[count].values())
    top = min(1.0, (int(10 * highest) + 1) / 10)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(count: str) -> float:
        place = columns.index(count) / max(1, len(columns) - 1)
        return LEFT + 16 + (right - LEFT - 32) * place

    def y(share: float) -> float:
        return bottom - (bottom - TOP) * min(1.0, max(0.0, share / top))

    parts = [f'<text x="{LEFT}" y="20" font-weight="600">{escape(title)}</text>']
    for tenth in range(int(round(10 * top)) + 1):
        level = y(tenth / 10)
        parts.append(_line(LEFT, level, right, level, "#dddddd"))
        parts.append(_text(LEFT - 8, level + 4, str(10 * tenth), "end"))
    for count in columns:
        parts.append(_text(x(count), bottom + 20, count, "middle"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 8, "labels per class", "middle"))
    ends = []
    for number, name in enumerate(methods):
        colour = COLOURS[number % len(COLOURS)]
        dash = DASHES[number % len(DASHES)]
        known = [count for count in columns if name in summary[count]]
        blocks = [summary[count][name] for count in known]
        band = [block.get("interval") for block in blocks]
        if all(band) and len(known) > 1:
            high = [f"{x(c):.1f},{y(b[1]):.1f}" for c, b in zip(known, band, strict=True)]
            low = [f"{x(c):.1f},{y(b[0]):.1f}" for c, b in zip(known, band, strict=True)]
            points = " ".join(high + low[::-1])
            parts.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="0.10"/>')
        path = " ".join(
            f"{x(c):.1f},{y(b['mean']):.1f}" for c, b in zip(known, blocks, strict=True)
        )
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        for count, block in zip(known, blocks, strict=True):
            place = f'cx="{x(count):.1f}" cy="{y(block["mean"]):.1f}"'
            parts.append(f'<circle {place} r="3" fill="{colour}"/>')
        ends.append((y(blocks[-1]["mean"]), names[name], colour, x(known[-1])))
    for level, name, colour, end in _apart(ends):
        parts.append(_text(max(end, right) + 8, level + 4, name, "start", colour))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>\n'
        f"<title>{escape(title)}</title>\n{body}\n</svg>\n"
    )


def _apart(ends: list[tuple[float, str, str, float]]) -> list[tuple[float, str, str, float]]:
    """The names at the ends of the lines, moved down until none covers another."""
    placed: list[tuple[float, str, str, float]] = []
    for level, *rest in sorted(ends):
        above = placed[-1][0] + 15 if placed else level
        placed.append((max(level, above), *rest))  # type: ignore[arg-type]
    return placed


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333333") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{escape(text)}</text>'
