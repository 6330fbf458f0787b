"""The table of faults, for RESULTS.md and the README, from results/faults.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parent / "results" / "faults.json"
READERS = {
    "example": "TFRecord Examples",
    "tfrecord": "TFRecord files",
    "image": "images",
    "manifest": "manifests",
    "gallery": "galleries",
    "settings": "settings",
    "clip": "clips",
    "model": "models",
}


def faults() -> str:
    """What was done to it, how often, and what came through."""
    if not PATH.exists():
        return ""
    parts: dict[str, Any] = json.loads(PATH.read_text())["parts"]
    rows = ["| Fault | Times | What came of it |", "|---|---|---|"]
    if "kills" in parts:
        one = parts["kills"]
        lost = f"{one['checkpoints_lost']} checkpoints lost"
        exact = f"{one['not_exact']} of {one['rounds']} resumed runs not bit-exact"
        rows.append(
            f"| training killed (`kill -9`), {one['inside_a_save']} times inside a save "
            f"| {one['kills']:,} | {lost}, {exact} |"
        )
    if "flips" in parts:
        one = parts["flips"]
        rows.append(
            "| one bit flipped in a checkpoint, a model or a TFRecord "
            f"| {one['flips']:,} | {one['not_noticed']} not noticed |"
        )
    if "mutations" in parts:
        one = parts["mutations"]
        rows.append(f"| signed model altered | {one['mutations']:,} | {one['accepted']} accepted |")
    if "fuzz" in parts:
        one = parts["fuzz"]
        readers = ", ".join(READERS[name] for name in READERS if name in one)
        slowest = max(one[name]["slowest_seconds"] for name in READERS if name in one)
        largest = max(one[name]["largest_bytes"] for name in READERS if name in one)
        rows.append(
            f"| altered input for a reader: {readers} | {one['inputs']:,} "
            f"| {one['crashes']} crashes; at most {slowest:.2f} s and {largest / 2**20:.0f} MB |"
        )
    note = "`python benchmarks/faults.py`, drawn from a seed."
    return "\n".join(["### Faults", "", *rows, "", note, ""])
