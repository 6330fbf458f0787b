"""What one user has after the first verbs, on made-up folders, and how tests ask for more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENCODER = ("backbone.width=32", "backbone.depth=1", "backbone.heads=2", "backbone.patch=8")
GENERATOR = ("generator.width=32", "generator.depth=1", "generator.heads=2")
COMMON = (
    "precision=fp32",
    "threads=1",
    "data.preprocess.frames=4",
    "data.preprocess.stored_frames=6",
)
RUN = {"config.json", "log.jsonl", "events", "checkpoints", "model", "results.json", "report.html"}
BUNDLE = {"model.safetensors", "config.json", "labels.json", "preprocess.json", "manifest.json"}
GUARDED = BUNDLE | {"guard.safetensors"}
MEASURES = {
    *("accuracy", "accuracy_interval", "balanced_accuracy", "macro_f1", "ece"),
    *("per_class", "confusion", "seconds", "samples", "guard", "stopped_by", "target"),
}
IMAGES = {f"digit-{digit}" for digit in range(10)}
CLIPS = {f"{parity}-{way}" for parity in ("odd", "even") for way in ("left", "right", "up", "down")}


def flags(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())


@dataclass
class Scene:
    """What one user has after the first verbs."""

    root: Path
    data: Path
    pretrained: Path
    tuned: Path
    answers: dict[str, Any]

    def one(self, pattern: str) -> Path:
        return next(iter(sorted(self.data.glob(pattern))))
