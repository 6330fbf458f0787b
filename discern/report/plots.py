"""Plots as inline SVG: numbers go in, markup comes out that follows the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from discern.report.markup import Markup, join, tag
from discern.report.words import percent, short

POINTS = 240  # a curve with more points is drawn by the means of as many spans


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: a share, and the interval around it."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    tone: str = "peer"  # "ours", "control", "peer"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One curve over time."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    unit: str = "min"  # of x


def bars(items: Sequence[Bar], title: str, target: float | None = None) -> Markup:
    """Horizontal bars from 0 to 100 %, each with its 95 % interval."""
    width, label_width, row, top = 640, 176, 34, 8
    left, right = label_width, width - 64
    bottom = top + row * len(items)

    def at(share: float) -> float:
        return left + (right - left) * min(1.0, max(0.0, share))

    parts: list[Markup] = []
    values: list[Markup] = []  # over all else, or the target's line would run through them
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_line(at(tick), top, at(tick), bottom, "grid"))
        parts.append(
            _text(
                at(tick),
                bottom + 18,
                f"{100 * tick:.0f} %" if tick == 1 else f"{100 * tick:.0f}",
                "tick middle",
            )
        )
    for index, item in enumerate(items):
        middle = top + row * (index + 0.5)
        parts.append(
            _text(label_width - 12, middle + 4.5, _fit(item.label, 25), "end", title=item.label)
        )
        length = max(1.5, at(item.value) - left)
        parts.append(
            tag(
                "rect",
                x=left,
                y=middle - 9.0,
                width=length,
                height=18,
                rx=3,
                class_=f"bar {item.tone}",
            )
        )
        end = item.value
        if item.interval is not None:
            low, high = item.interval
            end = max(end, high)
            parts.append(_line(at(low), middle, at(high), middle, "whisker"))
            parts += [_line(at(x), middle - 5, at(x), middle + 5, "whisker") for x in (low, high)]
        values.append(_text(at(end) + 8, middle + 4.5, f"{100 * item.value:.1f}", "value"))
    if target is not None:
        parts.append(_line(at(target), top - 4, at(target), bottom, "target"))
    parts += values
    text = "; ".join(f"{item.label} {percent(item.value)}" for item in items)
    return _svg(width, bottom + 26, f"{title}: {text}", parts, "chart wide")


def curve(line: Curve, target: float | None = None, share: bool = False) -> Markup:
    """One small panel: the curve, its axes and the last value."""
    width, height, left, right, top, bottom = 320, 168, 44, 12, 12, 26
    x, y = _thin(line.x, line.y)
    low, high = min(y), max(y)
    if share:
        low, high = min(low, 0.0), max(high, 1.0)
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    start, end = min(0.0, *x), max(x)  # all panels of a phase begin with the run

    def at(a: float, b: float) -> tuple[float, float]:
        across = (a - start) / (end - start) if end > start else 0.5
        up = (b - low) / (high - low) if high > low else 0.5
        return left + across * (width - left - right), height - bottom - up * (
            height - top - bottom
        )

    parts = []
    for tick in ticks:
        level = at(start, tick)[1]
        parts.append(_line(left, level, width - right, level, "grid"))
        shown = f"{100 * tick:.0f} %" if share else short(tick)
        parts.append(_text(left - 6, level + 3.5, shown, "tick end"))
    marks = [(start, "tick"), (end, "tick end")] if end > start else [(start, "tick middle")]
    for value, look in marks:
        parts.append(_text(at(value, low)[0], height - 8, f"{short(value)} {line.unit}", look))
    if target is not None and low <= target <= high:
        level = at(start, target)[1]
        parts.append(_line(left, level, width - right, level, "target"))
    points = [at(a, b) for a, b in zip(x, y, strict=True)]
    if len(points) > 1:
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(tag("polyline", points=path, class_="curve"))
    parts.append(tag("circle", cx=points[-1][0], cy=points[-1][1], r=3.2, class_="dot"))
    last = percent(line.y[-1]) if share else short(line.y[-1])
    first = percent(line.y[0]) if share else short(line.y[0])
    description = f"{line.label}: from {first} to {last} in {short(end - min(x))} {line.unit}"
    return _svg(width, height, description, parts, "chart panel")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One line of shares against shares."""

    label: str
    points: Sequence[tuple[float, float]]  # each 0 to 1
    tone: str = "peer"  # "ours", "control", "peer"
    marked: bool = False  # a dot at each point


def square(
    traces: Sequence[Trace], title: str, across: str, up: str, most: float | None = None
) -> Markup:
    """Shares against shares, both axes from 0 to 100 %, with the diagonal.

    Or shares of what `across` measures, up to `most` of it; then there is no diagonal.
    """
    side, left, top = 280, 52, 12
    right, bottom = left + side, top + side

    def at(x: float, y: float) -> tuple[float, float]:
        x, y = (min(1.0, max(0.0, value)) for value in (x, y))
        return left + side * x, bottom - side * y

    parts = [] if most is not None else [_line(*at(0, 0), *at(1, 1), "target")]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = at(tick, tick)
        parts += [_line(left, y, right, y, "grid"), _line(x, top, x, bottom, "grid")]
        value = 100 * tick if most is None else most * tick
        parts.append(_text(x, bottom + 16, f"{value:.3g}", "tick middle"))
        parts.append(_text(left - 6, y + 3.5, f"{100 * tick:.0f}", "tick end"))
    unit = ", %" if most is None else ""
    parts.append(_text((left + right) / 2, bottom + 34, f"{across}{unit}", "tick middle"))
    turned = f"translate(13 {(top + bottom) / 2}) rotate(-90)"
    parts.append(_text(0, 0, f"{up}, %", "tick middle", transform=turned))
    for trace in traces:
        points = [at(*point) for point in trace.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(tag("polyline", points=path, class_=f"trace {trace.tone}"))
        if trace.marked:
            parts += [
                tag("circle", cx=x, cy=y, r=3, class_=f"mark {trace.tone}") for x, y in points
            ]
    said = "; ".join(trace.label for trace in traces)
    return _svg(right + 14, bottom + 42, f"{title}: {said}", parts, "chart square")


def heat_map(counts: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Markup:
    """A confusion matrix: rows are true classes, columns predicted; colour is the row's share."""
    k = len(classes)
    cell = max(9, min(44, 640 // k))
    longest = max(len(_fit(one, 16)) for one in classes)
    margin = 22 + min(130, 7 * longest)
    side = margin + cell * k
    parts = [
        _text(margin + cell * k / 2, 12, "predicted", "tick middle"),
        _text(
            0,
            0,
            "true",
            "tick middle",
            transform=f"translate(11 {margin + cell * k / 2}) rotate(-90)",
        ),
    ]
    for index, label in enumerate(classes):
        centre = margin + cell * (index + 0.5)
        parts.append(_text(margin - 7, centre + 4, _fit(label, 16), "label end", title=label))
        turned = f"translate({centre + 4:.1f} {margin - 7}) rotate(-55)"
        parts.append(_text(0, 0, _fit(label, 16), "label", title=label, transform=turned))
    for row, values in enumerate(counts):
        total = sum(values)
        for column, value in enumerate(values):
            x, y = margin + cell * column, margin + cell * row
            share = value / total if total else 0.0
            look = "cell right" if row == column else "cell wrong"
            parts.append(tag("rect", x=x, y=y, width=cell - 1, height=cell - 1, class_="empty"))
            if not value:
                continue
            hint = f"{classes[row]}, predicted {classes[column]}: {value} of {total}"
            parts.append(
                tag(
                    "rect",
                    tag("title", hint),
                    x=x,
                    y=y,
                    width=cell - 1,
                    height=cell - 1,
                    class_=look,
                    fill_opacity=0.08 + 0.92 * math.sqrt(share),
                )  # fmt: skip
            )
            if cell >= 24:
                strong = "cell-text on" if share > 0.45 else "cell-text"
                parts.append(_text(x + (cell - 1) / 2, y + cell / 2 + 4, str(value), strong))
    # turned labels of the last columns reach over the edge
    return _svg(side + 0.6 * (margin - 20), side, title, parts, "chart matrix")


def range_bar(value: float | None, bounds: tuple[float, float] | None) -> Markup:
    """A share and its interval in one line of a table."""
    if value is None:
        return Markup("")
    parts = [tag("rect", x=0, y=6, width=100, height=4, rx=2, class_="rail")]
    if bounds is not None:
        low, high = (100 * x for x in bounds)
        parts.append(
            tag("rect", x=low, y=6, width=max(0.8, high - low), height=4, rx=2, class_="range")
        )
    parts.append(tag("circle", cx=100 * value, cy=8, r=3.4, class_="dot"))
    return tag("svg", parts, viewbox="-4 0 108 16", class_="spark", aria_hidden="true")


def _svg(width: float, height: float, label: str, parts: Sequence[Markup], look: str) -> Markup:
    return tag(
        "svg", join(*parts), viewbox=f"0 0 {width:.0f} {height:.0f}", width=round(width),
        height=round(height), class_=look, role="img", aria_label=label,
    )  # fmt: skip


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> Markup:
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=look)


def _text(
    x: float, y: float, text: str, look: str, title: str | None = None, transform: str | None = None
) -> Markup:
    hint = tag("title", title) if title is not None and title != text else None
    return tag("text", hint, text, x=float(x), y=float(y), class_=look, transform=transform)


def _fit(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _thin(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most POINTS points, each the mean of a span; the last one stays what it is."""
    if len(x) <= POINTS:
        return list(x), list(y)
    edges = [round(i * (len(x) - 1) / POINTS) for i in range(POINTS + 1)]
    spans = list(zip(edges, edges[1:], strict=False))
    means = [[sum(v[a:b]) / (b - a) for a, b in spans] for v in (x, y)]
    return [*means[0], x[-1]], [*means[1], y[-1]]


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that hold the values between them."""
    if high <= low:
        return [low]
    raw = (high - low) / 3
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next((m for m in (1, 2, 2.5, 5, 10) if m * unit >= raw), 10)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * i for i in range(first, last + 1)]
