"""The log of a run goes in, learning curves by phase come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from discern.report.plots import Curve
from discern.report.words import name, number

NOT_CURVES = ("step", "minutes", "epoch", "time", "progress")
MACHINERY = ("rate", "steps_per_second")  # shown on demand
LARGEST = 1e30  # beyond it a run has diverged, and an axis would show nothing else


def curves_by_phase(log: Sequence[dict[str, Any]]) -> dict[str, dict[str, Curve]]:
    """Each number of the log against minutes, by `phase` or `verb`; judgements come first."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    steps: set[str] = set()  # phases without minutes have steps on their axis
    for place, line in enumerate(log):
        phase = str(line.get("phase") or line.get("verb") or "")
        minutes = number(line.get("minutes"))
        if minutes is None:
            # events have no minutes of their own, and are no curves
            if "event" in line:
                continue
            minutes = number(line.get("step"))
            minutes = float(place) if minutes is None else minutes
            steps.add(phase)
        for key, value in line.items():
            shown = number(value)
            if key in NOT_CURVES or shown is None or abs(shown) > LARGEST:
                continue
            points.setdefault(phase, {}).setdefault(key, []).append((minutes, shown))
    return {
        phase: {
            key: _curve(key, found[key], "steps" if phase in steps else "min")
            for key in sorted(found, key=_order)
        }
        for phase, found in points.items()
    }


def events(log: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """What the watch over the training had to say: step and words."""
    return [(str(line.get("step", "")), str(line["event"])) for line in log if line.get("event")]


def is_share(key: str, values: Sequence[float]) -> bool:
    """True for accuracies and probes, which have 0 to 100 % as their axis."""
    return _is_judgement(key) and all(0 <= value <= 1 for value in values)


def _curve(key: str, points: Sequence[tuple[float, float]], unit: str) -> Curve:
    points = sorted(points, key=lambda point: point[0])
    return Curve(label=_title(key), x=[x for x, _ in points], y=[y for _, y in points], unit=unit)


def _title(key: str) -> str:
    if key == "accuracy":
        return "Validation accuracy"
    if key.startswith("knn_"):
        return f"k-NN probe, {key[4:].replace('_', ' ')}"
    return name(key)


def _is_judgement(key: str) -> bool:
    return "accuracy" in key or key.startswith("knn")


def _order(key: str) -> tuple[int, str]:
    if key in MACHINERY:
        return 9, key
    if key == "accuracy":
        return 0, key
    if key.startswith("knn"):
        return 1, key
    return (3 if "accuracy" in key else 2), key
