"""How sure, and the guard: a record goes in, markup comes out, None where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discern.report.markup import Markup, join, tag
from discern.report.plots import Trace, square
from discern.report.records import Record
from discern.report.sections import kind_title, main_blocks
from discern.report.tables import table
from discern.report.words import NONE, count, interval, number, percent, short

METHODS = {"guard": "The guard", "knn": "k-NN alone", "max_softmax": "Maximum softmax"}
TONES = {"guard": "ours", "knn": "control", "max_softmax": "peer"}


def calibration(record: Record) -> Markup | None:
    """Reliability before and after the temperature, by kind."""
    parts = []
    for block in main_blocks(record):
        found = block.values.get("reliability")
        if not isinstance(found, Mapping):
            continue
        temperature = number(block.values.get("temperature"))
        after, before = (_points(found.get(name)) for name in ("after", "before"))
        if not after:
            continue
        traces = [
            Trace(label=f"as answered, error {percent(block.values.get('ece'))}", points=after,
                  tone="ours", marked=True),
        ]  # fmt: skip
        if temperature is not None and before:
            error = percent(block.values.get("ece_uncalibrated"))
            label = f"without temperature, error {error}"
            traces.insert(0, Trace(label=label, points=before, tone="peer", marked=True))
            note = f"Temperature {short(temperature)}, fitted on validation items."
        else:
            note = "No temperature: there were no validation items to fit it on."
        plot = square(traces, "Reliability", "said probability", "right")
        caption = tag("figcaption", kind_title(block), tag("p", note, class_="note"))
        parts.append(tag("figure", plot, _legend(traces), caption))
    if not parts:
        return None
    lead = (
        "Of the answers given with 80 %, 80 % should be right: the dashed line. Each dot is a bin."
    )
    return join(tag("p", lead, class_="lead"), tag("div", parts, class_="squares"))


def guard(record: Record) -> Markup | None:
    """Stated against found false alarms, and known against unknown items."""
    parts = []
    for block in main_blocks(record):
        found = block.values.get("guard")
        if not isinstance(found, Mapping) or number(found.get("flagged")) is None:
            continue
        heading = tag("h3", kind_title(block)) if block.kind else None
        figures = [_stated(found), _told_apart(found.get("unknown"))]
        shown = [figure for figure in figures if figure is not None]
        parts.append(
            join(
                heading,
                tag("dl", _tiles(found), class_="tiles"),
                tag("div", shown, class_="squares") if shown else None,
                _methods(found.get("unknown")),
            )
        )
    if not parts:
        return None
    lead = (
        "The guard answers unknown where an item is unlike all that the model knows. "
        "Its threshold is set for a stated rate of false alarms on items that it does know."
    )
    return join(tag("p", lead, class_="lead"), parts)


def _tiles(found: Mapping[str, Any]) -> list[Markup]:
    facts = [
        ("Stated false alarms", percent(found.get("false_alarms"))),
        ("Test items called unknown", percent(found["flagged"], 2)),
        ("95 % interval", interval(found.get("flagged_interval"))),
        ("Test items", count(found.get("samples"))),
    ]
    if found.get("calibrated_on"):
        of = f"{count(found.get('items'))} items, {found['calibrated_on']}"
        facts.append(("Calibrated on", of))
    return [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts]


def _stated(found: Mapping[str, Any]) -> Markup | None:
    points = _points(found.get("curve"))
    if len(points) < 2:
        return None
    traces = [Trace(label="this model", points=points, tone="ours", marked=True)]
    plot = square(traces, "False alarms", "stated false alarms", "test items flagged")
    return tag("figure", plot, tag("figcaption", "False alarms, stated and found"))


def _told_apart(unknown: Any) -> Markup | None:
    curves = unknown.get("curves") if isinstance(unknown, Mapping) else None
    if not isinstance(curves, Mapping):
        return None
    traces = [
        Trace(label=title, points=_points(curves.get(key)), tone=TONES[key])
        for key, title in reversed(METHODS.items())
        if _points(curves.get(key))
    ]
    if not traces:
        return None
    plot = square(traces, "Unknown items", "known items flagged", "unknown items flagged")
    return tag("figure", plot, _legend(traces), tag("figcaption", "Known against unknown items"))


def _methods(unknown: Any) -> Markup | None:
    if not isinstance(unknown, Mapping):
        return None
    rows = []
    for key, title in METHODS.items():
        values = unknown if key == "guard" else unknown.get(key)
        if isinstance(values, Mapping):
            auroc = number(values.get("auroc"))
            area = NONE if auroc is None else f"{100 * auroc:.1f}"
            rows.append([title, area, percent(values.get("detected"))])
    note = (
        f"Of {count(unknown.get('samples'))} unknown items the stored threshold flags "
        f"{percent(unknown.get('flagged'))}."
    )
    head = ["Method", "AUROC", "Detected at the stated rate"]
    return join(table(head, rows, "Unknown items", numeric=1), tag("p", note, class_="note"))


def _legend(traces: list[Trace]) -> Markup:
    entries = [
        tag("span", tag("i", class_=f"swatch {trace.tone}"), trace.label) for trace in traces
    ]
    return tag("div", entries, class_="legend")


def _points(value: Any) -> list[tuple[float, float]]:
    """Pairs of shares; entries that are none are left out."""
    rows = value if isinstance(value, list) else []
    pairs = [row[:2] for row in rows if isinstance(row, list) and len(row) >= 2]
    numbers = [(number(x), number(y)) for x, y in pairs]
    return [(x, y) for x, y in numbers if x is not None and y is not None]
