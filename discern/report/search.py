"""What a search of settings found: a record goes in, markup comes out."""

from __future__ import annotations

from collections.abc import Mapping

from discern.report.markup import Markup, join, tag
from discern.report.records import Record
from discern.report.tables import table
from discern.report.words import number, percent, short


def search(record: Record) -> Markup | None:
    """The verdict, the winner's settings with what each one mattered, and every trial."""
    if record.results.get("verb") != "tune":
        return None
    settings = record.results.get("settings")
    weights = record.results.get("importance")
    weights = weights if isinstance(weights, Mapping) else {}
    parts = [tag("p", str(record.results.get("verdict", "")))]
    if isinstance(settings, Mapping) and settings:
        rows = [
            (name, short(float(value)), percent(number(weights.get(name))))
            for name, value in sorted(settings.items(), key=lambda one: -weights.get(one[0], 0.0))
        ]
        parts.append(table(("Setting", "Best", "Share of what mattered"), rows, "Best settings"))
    trials = [
        (str(line["step"]), percent(number(line.get("accuracy"))), _ended(line))
        for line in record.log
        if "pruned" in line
    ]
    if trials:
        parts.append(table(("Trial", "Validation accuracy", "Ended"), trials, "Trials"))
    return join(*parts)


def _ended(line: Mapping[str, object]) -> str:
    return "stopped early, behind the others" if line.get("pruned") else "whole"
