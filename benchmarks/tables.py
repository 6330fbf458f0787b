"""What all tables of RESULTS.md share: the JSON they come from, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SETS = {
    "cifar10": "CIFAR-10",
    "tiny_imagenet_vehicles": "Tiny-ImageNet vehicles",
    "jhmdb": "J-HMDB",
}
HANDCRAFTED = {
    "color_histogram": "colour histogram + RBF SVM",
    "hog_linear": "HOG + linear SVM",
    "hog_svm": "HOG + RBF SVM",
    "motion_hog": "HOG over time + RBF SVM",
    "motion_difference": "frame-difference HOG + RBF SVM",
    "motion_flow": "optical-flow histogram + RBF SVM",
    "motion": "all motion features + RBF SVM",
}
RESULTS = Path(__file__).resolve().parent / "results"


def read(name: str) -> dict[str, Any] | None:
    """What a benchmark has left; None where it was not run."""
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else None


def section(title: str, head: Sequence[str], rows: Sequence[Sequence[object]], note: str) -> str:
    """A heading, a table, and what is to be said about it."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    lines.insert(1, "|---" * len(head) + "|")
    return "\n".join([f"### {title}", "", *lines, "", note, ""])


def mean(block: dict[str, Any] | None, alone: str = "") -> str:
    """A mean of shares with half of its interval, or what is said where it stands alone."""
    if block is None:
        return ""
    low_high = block.get("interval")
    half = f" \u00b1 {50 * (low_high[1] - low_high[0]):.1f}" if low_high else alone
    return f"{points(block['mean'])}{half}"


def points(share: float) -> str:
    return f"{100 * share:.1f}"


def median(block: dict[str, Any]) -> tuple[str, str]:
    """The median of rounds, and its interval."""
    low, high = block["interval"]
    return f"{block['median']:.2f}", f"{low:.2f} to {high:.2f}"
