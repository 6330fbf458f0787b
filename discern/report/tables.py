"""Tables of a report: results go in, `<table>` elements come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from discern.report.markup import Markup, join, tag
from discern.report.plots import range_bar
from discern.report.records import Block
from discern.report.words import (
    NONE,
    OURS,
    count,
    duration,
    interval,
    interval_of,
    microseconds,
    name,
    number,
    percent,
)

LONGEST = 72  # letters of a name in a cell
MOST_ROWS = 60  # per-class rows shown at once; the rest folds away


def table(
    head: Sequence[object], rows: Sequence[Sequence[object]], caption: str, numeric: int = 1
) -> Markup:
    """A table that scrolls by itself when it is wide.  Columns from `numeric` on hold numbers."""
    header = [
        tag("th", cell, scope="col", class_="n" if index >= numeric else None)
        for index, cell in enumerate(head)
    ]
    body = []
    for row in rows:
        first, *rest = [_clipped(cell) for cell in row]
        cells = [tag("th", first, scope="row")]
        cells += [
            tag("td", cell, class_="n" if index >= numeric else None)
            for index, cell in enumerate(rest, start=1)
        ]
        body.append(tag("tr", cells))
    inner = tag(
        "table",
        tag("caption", caption, class_="hidden"),
        tag("thead", tag("tr", header)),
        tag("tbody", body),
    )
    # a region that scrolls must be reachable by keyboard
    return tag("div", inner, class_="scroll", role="region", aria_label=caption, tabindex=0)


def comparison_table(blocks: Sequence[Block], caption: str) -> Markup:
    """Methods side by side: accuracy, its interval, time per item, time of training."""
    best = max((block.accuracy or 0.0 for block in blocks), default=0.0)
    rows = []
    for block in blocks:
        values = block.values
        shown: object = percent(block.accuracy)
        if block.accuracy == best:
            shown = tag("strong", shown)
        rows.append(
            [
                method_name(block.method),
                shown,
                interval(values.get("accuracy_interval")),
                microseconds(values.get("microseconds_per_item")),
                _training(values),
                count(values.get("labels_used")),
                count(values.get("samples")),
            ]
        )
    head = ["Method", "Accuracy", "95 % interval", "Per item", "Training", "Labels", "Test items"]
    used = [i for i in range(len(head)) if i < 2 or any(row[i] != NONE for row in rows)]
    return table([head[i] for i in used], [[row[i] for i in used] for row in rows], caption)


def labels_table(
    by_count: Mapping[str, Mapping[str, Any]], kind: str, caption: str
) -> Markup | None:
    """Accuracy of each method for each number of labels per class."""
    counts = list(by_count)
    methods: dict[str, dict[str, Any]] = {}
    for labels, kinds in by_count.items():
        inner = kinds.get(kind) if isinstance(kinds, Mapping) else None
        for method, values in (inner if isinstance(inner, Mapping) else {}).items():
            if isinstance(values, Mapping):
                methods.setdefault(str(method), {})[labels] = values.get("accuracy")
    if not methods:
        return None
    rows = [
        [method_name(method), *(percent(found.get(labels)) for labels in counts)]
        for method, found in methods.items()
    ]
    return table(["Method", *(_labels_name(labels) for labels in counts)], rows, caption)


def class_table(per_class: Mapping[str, Any], caption: str) -> Markup:
    """Recall with its interval, precision and F1 of each class, the weakest first."""
    rows = []
    for label, values in per_class.items():
        if not isinstance(values, Mapping):
            continue
        recall = number(values.get("recall"))
        bounds = interval_of(values.get("recall_interval"))
        row = [
            label,
            percent(recall),
            range_bar(recall, bounds),
            interval(values.get("recall_interval")),
            percent(values.get("precision")),
            percent(values.get("f1")),
            count(values.get("support")),
        ]
        rows.append((2.0 if recall is None else recall, row))
    rows.sort(key=lambda pair: pair[0])
    lines = [row for _, row in rows]
    head = ["Class", "Recall", "", "95 % interval", "Precision", "F1", "Items"]
    shown = table(head, lines[:MOST_ROWS], caption)
    if len(lines) <= MOST_ROWS:
        return shown
    rest = table(head, lines[MOST_ROWS:], f"{caption}, further classes")
    return join(shown, fold(f"{len(lines) - MOST_ROWS} more classes", rest))


def confused_pairs(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], most: int = 8
) -> list[tuple[str, str, int, int]]:
    """The most frequent mistakes: true class, predicted class, times, items of the true class."""
    found = [
        (value, row, column)
        for row, values in enumerate(confusion)
        for column, value in enumerate(values)
        if row != column and value > 0
    ]
    found.sort(key=lambda one: (-one[0], one[1], one[2]))
    return [(classes[r], classes[c], value, sum(confusion[r])) for value, r, c in found[:most]]


def settings_table(values: Mapping[str, Any], caption: str) -> Markup:
    """Nested settings as lines of `a.b` and value."""
    rows = [[tag("code", key), tag("code", value)] for key, value in flatten(values)]
    return table(["Setting", "Value"], rows, caption, numeric=9)


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """{"a": {"b": 1}} -> [("a.b", "1")]"""
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value and prefix.count(".") < 12:
            found += flatten(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            found.append((f"{prefix}{key}", ", ".join(str(one) for one in value) or "none"))
        else:
            shown = "none" if value is None or value == {} else str(value)
            found.append((f"{prefix}{key}", shown.lower() if isinstance(value, bool) else shown))
    return found


def fold(title: object, *children: object) -> Markup:
    """A part that opens on demand."""
    return tag("details", tag("summary", title), children)


def method_name(method: str) -> object:
    """The title of a method; ours stand out."""
    return tag("b", name(method)) if method in OURS else name(method)


def _training(values: Mapping[str, Any]) -> str:
    """How long a model was trained, and before that pre-trained."""
    before, tuned = (duration(values.get(f"{of}_seconds")) for of in ("pretrain", "train"))
    return tuned if before == NONE else f"{before} + {tuned}"


def _clipped(cell: object) -> object:
    """A name that would fill the page is cut; the whole of it shows on demand."""
    if isinstance(cell, Markup) or not isinstance(cell, str) or len(cell) <= LONGEST:
        return cell
    return tag("span", cell[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}", title=cell)


def _labels_name(labels: str) -> str:
    if labels == "all":
        return "All labels"
    return "1 label" if labels == "1" else f"{labels} labels"
