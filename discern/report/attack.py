"""How a model breaks: a record goes in, markup comes out, None where it was not attacked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discern.report.markup import Markup, join, tag
from discern.report.plots import Trace, square
from discern.report.records import Record
from discern.report.sections import kind_title, main_blocks
from discern.report.tables import table
from discern.report.words import count, interval, number, percent, short

NAMES = {
    "fgsm": "One step (FGSM)",
    "pgd": "PGD",
    "apgd_ce": "APGD, cross-entropy",
    "apgd_dlr": "APGD, logits ratio, targeted",
    "square": "Square, black box",
}


def attacked(record: Record) -> Markup | None:
    """What stays right, red flags first."""
    parts = []
    for block in main_blocks(record):
        found = block.values.get("attack")
        if isinstance(found, Mapping):
            heading = tag("h3", kind_title(block)) if block.kind else None
            parts.append(join(heading, _attack(block.values, found)))
    return join(*parts) if parts else None


def _attack(values: Mapping[str, Any], found: Mapping[str, Any]) -> Markup:
    flags = found.get("flags") or []
    warned = None
    if flags:
        entries = [tag("li", str(flag)) for flag in flags]
        lead = tag("p", "Red flags: the numbers below may say too much good of this model.")
        warned = tag("div", lead, tag("ul", entries), class_="note")
    size = f"{found.get('norm')} {short(number(found.get('eps')) or 0.0)}"
    facts = [
        ("Right as they are", percent(values.get("accuracy"))),
        (f"Right under the worst change, {size}", percent(found.get("worst_case"))),
        ("95 % interval", interval(found.get("worst_case_interval"))),
        ("Items", count(values.get("samples"))),
    ]
    tiles = tag("dl", [tag("div", tag("dt", a), tag("dd", b)) for a, b in facts], class_="tiles")
    after, steps = _mapping(found.get("after")), _mapping(found.get("steps"))
    rows = [
        [NAMES.get(name, name), count(steps.get(name)), percent(left)]
        for name, left in after.items()
    ]
    attacks = table(["Attack", "Steps", "Right after it and those above"], rows, "Attacks")
    return join(
        warned,
        tiles,
        attacks,
        _curve(found),
        _spoiled(found),
        _guard(found),
        _proven(found),
        _fragile(found),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _curve(found: Mapping[str, Any]) -> Markup | None:
    pairs = [row for row in found.get("curve") or [] if isinstance(row, list) and len(row) == 2]
    points = [(number(x), number(y)) for x, y in pairs]
    kept = [(x, y) for x, y in points if x is not None and y is not None]
    most = max((x for x, _ in kept), default=0.0)
    if len(kept) < 2 or most <= 0:
        return None
    traces = [Trace(label="PGD", points=[(x / most, y) for x, y in kept], tone="ours", marked=True)]
    across = "length of the change"
    if found.get("norm") == "linf":  # of a pixel's value, as such attacks are usually stated
        across, most = "largest change, of 255", 255 * most
    plot = square(traces, "Size of the change", across, "right", most)
    return tag(
        "div", tag("figure", plot, tag("figcaption", "Right answers by size")), class_="squares"
    )


def _spoiled(found: Mapping[str, Any]) -> Markup | None:
    spoiled = found.get("corruptions")
    if not isinstance(spoiled, Mapping) or not spoiled:
        return None
    rows = [[name, *(percent(one, 0) for one in levels)] for name, levels in spoiled.items()]
    head = ["Corruption", *(f"severity {level}" for level in range(1, 6))]
    return join(tag("h4", "Bad cameras, weather and lines"), table(head, rows, "Corruptions"))


def _guard(found: Mapping[str, Any]) -> Markup | None:
    guard = found.get("guard")
    if not isinstance(guard, Mapping):
        return None
    names = {
        "clean": "as they are",
        "attacked": "attacked",
        "joint": "attacked, guard and all",
    }
    rows = [
        [title, *(percent(guard[key].get(one)) for one in ("wrong", "flagged", "wrong_and_passed"))]
        for key, title in names.items()
        if isinstance(guard.get(key), Mapping)
    ]
    head = ["Items", "Wrong", "Called unknown", "Wrong and not called unknown"]
    return join(tag("h4", "The guard under attack"), table(head, rows, "The guard under attack"))


def _proven(found: Mapping[str, Any]) -> Markup | None:
    proven = found.get("smoothing")
    if not isinstance(proven, Mapping):
        return None
    rows = [
        [short(number(radius) or 0.0), percent(share)]
        for radius, share in (row for row in proven.get("curve") or [] if len(row) == 2)
    ]
    said = (
        f"Under noise of {short(number(proven.get('sigma')) or 0.0)} the answer is the commonest: "
        f"{percent(proven.get('accuracy'))} right, {percent(proven.get('abstained'))} without one. "
        f"Of {count(proven.get('samples'))} items, from {count(proven.get('copies'))} copies each; "
        f"a proof is wrong with a chance of {short(number(proven.get('chance_of_error')) or 0.0)}."
    )
    head = ["L2 change, of pixels in [0, 1]", "Right, and proven up to it"]
    return join(
        tag("h4", "What is proven (randomized smoothing)"),
        tag("p", said),
        table(head, rows, "Proven accuracy", numeric=0),
    )


def _fragile(found: Mapping[str, Any]) -> Markup | None:
    rows = [
        [str(one.get("key")), str(one.get("label")), short(number(one.get("eps")) or 0.0)]
        for one in found.get("fragile") or []
        if isinstance(one, Mapping)
    ]
    if not rows:
        return None
    head = ["Item", "Class", "Falls at"]
    return join(tag("h4", "Most fragile items"), table(head, rows, "Most fragile items", numeric=2))
