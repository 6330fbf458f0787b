"""A made-up run folder with everything a report can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def block(accuracy: float = 0.8, **more: Any) -> dict[str, Any]:
    right = round(100 * accuracy)
    return {
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.05, accuracy + 0.04],
        "balanced_accuracy": accuracy,
        "macro_f1": 0.7,
        "top5": 1.0,
        "ece": 0.03,
        "per_class": {
            name: {
                "precision": 0.7,
                "recall": recall,
                "f1": 0.7,
                "support": support,
                "recall_interval": None if recall is None else [0.6, 0.95],
            }
            for name, recall, support in (
                ("cat", accuracy, 100),
                ("dog", 0.9, 100),
                ("owl", None, 0),
            )
        },
        "confusion": [[right, 100 - right, 0], [10, 90, 0], [0, 0, 0]],
        "samples": 200,
        "temperature": 1.4,
        "ece_uncalibrated": 0.09,
        "reliability": {
            "before": [[0.6, 0.5, 40], [0.95, 0.85, 160]],
            "after": [[0.5, 0.5, 60], [0.85, 0.86, 140]],
        },
        **more,
    }


def guard() -> dict[str, Any]:
    """What `evaluate --unknown` writes of a guard."""
    method = {"auroc": 0.8, "detected": 0.4}
    curve = [[0.0, 0.0], [0.1, 0.7], [1.0, 1.0]]
    return {
        "flagged": 0.015,
        "flagged_interval": [0.003, 0.043],
        "samples": 200,
        "false_alarms": 0.01,
        "calibrated_on": "validation",
        "items": 500,
        "curve": [[0.01, 0.015], [0.1, 0.12]],
        "unknown": {
            "flagged": 0.62,
            "samples": 300,
            "auroc": 0.91,
            "detected": 0.6,
            "knn": method,
            "max_softmax": method,
            "curves": {"guard": curve, "knn": curve, "max_softmax": curve},
        },
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished comparison."""
    folder = tmp_path / "a-run"
    for part in ("wrong", "unsure"):
        (folder / "samples" / part).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 48, 3), np.uint8)
    picture = Image.fromarray(pixels)
    telling = ("wrong/0001.png", "unsure/0001.png")
    for name in ("generated_images.png", "reconstruction_images.png", *telling):
        picture.save(folder / "samples" / name)
    picture.save(folder / "samples" / "generated_clips.gif", save_all=True)
    results = {
        "images": {
            "pretrained": block(
                0.8, microseconds_per_item=251.0, train_seconds=200.0, guard=guard()
            ),
            "scratch": block(0.6, microseconds_per_item=251.0, train_seconds=20.0),
            "hog_svm": block(0.78, microseconds_per_item=133.0, train_seconds=0.9),
        },
        "clips": {"pretrained": block(0.5), "motion": block(0.7)},
        "labels": {
            count: {"images": {"pretrained": {"accuracy": share}}}
            for count, share in (("10", 0.4), ("all", 0.8))
        },
        "verb": "compare",
        "seconds": 222.0,
        "stopped_by": "target",
        "target": 0.75,
        "model": "runs/a run/model",
    }
    log = [
        {"step": i, "minutes": i / 10, "epoch": 0, "phase": "pretrain", "loss": 3 - i / 10}
        for i in range(20)
    ]
    log.append({"step": 20, "minutes": 2.0, "phase": "tune", "accuracy": 0.77})
    prediction = {"key": "test/cat/1.png", "kind": "image", "label": "cat", "predicted": "dog"}
    prediction |= {"probability": 0.93, "thumbnail": "samples/wrong/0001.png", "split": "test"}
    config = {
        "verb": "compare",
        "settings": {"seed": 0, "backbone": {"width": 192}},
        "versions": {"torch": "2.13.0", "discern": "0.1.0"},
        "started": 1_700_000_000.0,
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.json").write_text(json.dumps(config))
    # the last line was cut off by a kill
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)) + '\n{"step": 21, "mi')
    barely = {**prediction, "key": "test/dog/2.png", "label": "dog", "probability": 0.31}
    rows = [prediction, barely | {"thumbnail": "samples/unsure/0001.png"}]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
