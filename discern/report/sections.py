"""Sections with numbers: a record goes in, markup comes out, None where there is none."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discern.report.curves import MACHINERY, curves_by_phase, events, is_share
from discern.report.markup import Markup, join, tag
from discern.report.plots import curve, heat_map
from discern.report.records import KINDS, Block, Record
from discern.report.tables import (
    class_table,
    confused_pairs,
    fold,
    settings_table,
    table,
)
from discern.report.words import (
    OURS,
    STOPPED,
    count,
    duration,
    interval,
    name,
    number,
    percent,
    short,
)

MOST_CLASSES = 60  # a larger matrix is no picture any more


def summary(record: Record) -> Markup | None:
    """The one number, how sure it is, and how the run ended."""
    heroes = [_hero(block, record) for block in main_blocks(record)]
    tiles = _tiles(record)
    if not heroes and not tiles:
        return None
    return join(
        tag("div", heroes, class_="heroes") if heroes else None,
        tag("dl", tiles, class_="tiles") if tiles else None,
        _watch(record),
    )


def learning(record: Record) -> Markup | None:
    """Curves of the log, a row of panels for each phase."""
    parts = []
    target = number(record.results.get("target"))
    for phase, found in curves_by_phase(record.log).items():
        panels: list[Markup] = []
        machinery: list[Markup] = []
        for key, one in found.items():
            share = is_share(key, one.y)
            last = percent(one.y[-1]) if share else short(one.y[-1])
            panel = tag(
                "figure",
                tag("figcaption", one.label, tag("span", last)),
                curve(one, target if key == "accuracy" else None, share),
                class_="panel-box",
            )
            (machinery if key in MACHINERY else panels).append(panel)
        more = (
            fold("Speed and learning rate", tag("div", machinery, class_="panels"))
            if machinery
            else None
        )
        heading = tag("h3", name(phase)) if phase else None
        parts.append(join(heading, tag("div", panels, class_="panels") if panels else None, more))
    return join(parts) if parts else None


def confusion(record: Record) -> Markup | None:
    """What is taken for what, by kind, for the model of the run."""
    parts = []
    for block in main_blocks(record):
        counts = _counts(block.values.get("confusion"))
        labels = list(block.values.get("per_class") or {})
        if counts is None or len(labels) != len(counts):
            continue
        # the classes of the other kind of input have neither items nor answers here
        used = [i for i in range(len(labels)) if sum(counts[i]) or any(row[i] for row in counts)]
        counts, labels = (
            [[counts[r][c] for c in used] for r in used],
            [str(labels[i]) for i in used],
        )
        if not labels:
            continue
        title = f"Confusion matrix, {len(labels)} classes, rows are true and columns predicted"
        plot = heat_map(counts, labels, title) if len(labels) <= MOST_CLASSES else None
        pairs = confused_pairs(counts, labels)
        rows = [
            [true, guess, count(times), percent(times / total, 0)]
            for true, guess, times, total in pairs
        ]
        listed = (
            table(
                ["True", "Predicted", "Times", "Of its class"],
                rows,
                "Most frequent mistakes",
                numeric=2,
            )
            if rows
            else tag("p", "No mistakes.")
        )
        heading = tag("h3", kind_title(block)) if block.kind else None
        plotted = tag(
            "div", plot, class_="scroll matrix-box", tabindex=0, role="region", aria_label=title
        )
        side = tag("div", tag("h4", "Most frequent mistakes"), listed)
        parts.append(
            join(
                heading,
                tag(
                    "div",
                    plotted if plot else None,
                    side,
                    class_="beside" if len(labels) <= 14 else "stacked",
                ),
            )
        )
    return join(parts) if parts else None


def classes(record: Record) -> Markup | None:
    """Recall, precision and F1 of each class."""
    parts = []
    for block in main_blocks(record):
        rows = block.values.get("per_class")
        if not isinstance(rows, Mapping) or not rows:
            continue
        seen = {
            k: v for k, v in rows.items() if isinstance(v, Mapping) and number(v.get("support"))
        }
        heading = tag("h3", kind_title(block)) if block.kind else None
        parts.append(
            join(heading, class_table(seen, f"Classes, {kind_title(block)}") if seen else None)
        )
        if seen and len(seen) < len(rows):
            parts.append(
                tag("p", f"{len(rows) - len(seen)} classes have no test items here.", class_="note")
            )
    lead = tag(
        "p",
        "Recall is the share of a class that was recognized; the weakest class first.",
        class_="lead",
    )
    return join(lead, parts) if parts else None


def settings(record: Record) -> Markup | None:
    """The resolved settings."""
    if not record.settings:
        return None
    return fold("Show all settings", settings_table(record.settings, "Settings"))


def environment(record: Record) -> Markup | None:
    """Versions and machine."""
    versions = record.config.get("versions") or record.config.get("environment")
    if not isinstance(versions, Mapping) or not versions:
        return None
    return fold("Show versions and machine", settings_table(versions, "Environment"))


def commands(record: Record) -> Markup | None:
    """What to type next."""
    given = record.results.get("next")
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        given = _next_commands(record)
    if not given:
        return None
    return tag("pre", tag("code", "\n".join(str(line) for line in given)), tabindex=0)


def _next_commands(record: Record) -> list[str]:
    model = record.results.get("model")
    if not isinstance(model, str) or not model:
        return []
    model = shlex.quote(model)
    if record.verb == "pretrain":
        source = record.settings.get("source")
        words = source if isinstance(source, list) else [source or "SOURCE"]
        sources = " ".join(shlex.quote(str(word)) for word in words)
        out = shlex.quote(str(Path(record.folder.name + "-tuned")))
        return [f"discern train {sources} --out {out} --from {model}"]
    if record.verb in ("train", "compare", "demo"):
        return [f"discern predict {model} FILE", f"discern evaluate {model} SOURCE --out DIR"]
    return [f"discern predict {model} FILE"]


def main_blocks(record: Record) -> list[Block]:
    """The model of the run: by kind where there are kinds, else over all."""
    blocks = record.blocks
    by_kind = []
    for kind in KINDS:
        mine = [block for block in blocks if block.kind == kind]
        ours = [block for block in mine if block.method in OURS]
        by_kind += (ours or mine)[:1]
    flat = [block for block in blocks if not block.kind]
    return flat + by_kind if len(by_kind) != 1 else (flat or by_kind)


def _hero(block: Block, record: Record) -> Markup:
    title = kind_title(block) if block.kind else "Accuracy"
    samples = count(block.values.get("samples"))
    bounds = block.interval
    note = f"{samples} test items"
    if bounds:
        note = f"95 % interval {interval(block.values['accuracy_interval'])}, {note}"
    target = number(block.values.get("target", record.results.get("target")))
    shown = Markup("")
    if block.accuracy is not None and 0 <= block.accuracy <= 1:
        low, high = bounds or (block.accuracy, block.accuracy)
        low, high = max(0.0, low), min(1.0, high)
        marks = [
            tag("i", class_="span", style=f"left:{100 * low:.2f}%;right:{100 - 100 * high:.2f}%"),
            tag("i", class_="point", style=f"left:{100 * block.accuracy:.2f}%"),
        ]
        if target is not None and 0 <= target <= 1:
            marks.append(tag("i", class_="goal", style=f"left:{100 * target:.2f}%"))
        shown = tag("div", marks, class_="meter", aria_hidden="true")
    return tag(
        "div",
        tag("p", title, class_="hero-title"),
        tag("p", percent(block.accuracy), class_="hero"),
        shown,
        tag("p", note, class_="hero-note"),
        class_="hero-box",
    )


def _tiles(record: Record) -> list[Markup]:
    values = record.results
    blocks = main_blocks(record)
    first = blocks[0].values if blocks else {}
    stopped = values.get("stopped_by", first.get("stopped_by"))
    facts: list[tuple[str, str]] = []
    target = number(values.get("target", first.get("target")))
    validation = number(values.get("validation_accuracy", first.get("validation_accuracy")))
    if target is not None:
        facts.append(("Target", percent(target)))
    if validation is not None:
        facts.append(("Validation accuracy", percent(validation)))
    if stopped:
        facts.append(("Stopped because", STOPPED.get(str(stopped), str(stopped))))
    if len(blocks) == 1:
        shares = ("mean_average_precision", "micro_f1", "answers_right", "top5", "ece")
        for key in ("balanced_accuracy", "macro_f1", *shares):
            if number(first.get(key)) is not None:
                title = "Top-5 accuracy" if key == "top5" else name(key)
                facts.append((title, percent(first[key])))
    knn = values.get("knn")
    if isinstance(knn, Mapping):
        facts += [
            (name(str(key)).replace("Knn", "k-NN"), percent(share)) for key, share in knn.items()
        ]
    quality = values.get("sample_quality")
    for kind, found in quality.items() if isinstance(quality, Mapping) else ():
        drawn, real = (number(found.get(key)) for key in ("frechet", "frechet_of_real"))
        if drawn is not None and real is not None:
            shown = f"{drawn:.1f} (real ones: {real:.1f})"
            facts.append((name(f"frechet_{kind}"), shown))
    for key in ("labels_per_class", "labels_used", "steps", "bad_files"):
        if number(values.get(key)) is not None:
            facts.append((name(key), count(values[key])))
    if number(values.get("train_seconds")) is not None:
        facts.append(("Training", duration(values["train_seconds"])))
    if number(values.get("seconds")) is not None:
        facts.append(("In all", duration(values["seconds"])))
    return [tag("div", tag("dt", title), tag("dd", shown)) for title, shown in facts]


def _watch(record: Record) -> Markup | None:
    """What the watch over the training found, if it found anything."""
    found = events(record.log)
    if not found:
        return None
    rows = [[step, words] for step, words in found[:50]]
    title = "A note" if len(found) == 1 else f"{len(found)} notes"
    title += " from the watch over the training"
    return fold(title, table(["Step", "Note"], rows, title, numeric=9))


def kind_title(block: Block) -> str:
    """The kind of input of a block, and the method where there are several."""
    words = name(block.kind) if block.kind else "All items"
    return words if block.method == "model" else f"{words}, {name(block.method).lower()}"


def _counts(value: Any) -> list[list[int]] | None:
    """A square matrix of counts, or None."""
    if not isinstance(value, list) or not value:
        return None
    rows = []
    for row in value:
        if not isinstance(row, list) or len(row) != len(value):
            return None
        numbers = [number(one) for one in row]
        if any(one is None or one < 0 for one in numbers):
            return None
        rows.append([int(one or 0) for one in numbers])
    return rows
