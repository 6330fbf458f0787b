"""Baselines from frames to predictions, and their speed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from discern.baselines import BASELINES
from discern.clip import Kind


def _bars(count: int, frames: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Bars that lie or stand, red or blue; in clips they move across themselves."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    clips = rng.integers(0, 40, (count, frames, side, side, 3), np.uint8)
    for clip, label in zip(clips, labels, strict=True):
        start = rng.integers(0, side // 2)
        for t in range(frames):
            at = start + t
            if label:
                clip[t, at : at + side // 4, :, 0] += 200
            else:
                clip[t, :, at : at + side // 4, 2] += 200
    return clips, labels


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("side", [8, 24])
def test_learns_and_reports_its_speed(name: str, side: int) -> None:
    baseline = BASELINES[name]
    assert baseline.name == name
    clips, labels = _bars(24, 1 if Kind.IMAGE in baseline.kinds else 4, side)
    fitted = baseline.fit(clips[:16], labels[:16])
    predicted, probabilities = fitted.predict(clips[16:])
    assert (predicted == labels[16:]).mean() >= 0.75
    assert probabilities.shape == (8, 2) and (probabilities.argmax(1) == predicted).all()
    assert 0 < fitted.seconds_per_item < 1 and fitted.train_seconds > 0
    assert baseline.features(clips).dtype == np.float32


def test_no_items_no_predictions() -> None:
    clips, labels = _bars(8, 1, 8)
    predicted, probabilities = BASELINES["hog_svm"].fit(clips, labels).predict(clips[:0])
    assert predicted.shape == (0,) and probabilities.shape == (0, 2)


@pytest.mark.slow
@pytest.mark.skipif("DISCERN_DATA" not in os.environ, reason="DISCERN_DATA names no folder")
def test_is_a_strong_peer_on_cifar10() -> None:
    from PIL import Image

    root = Path(os.environ["DISCERN_DATA"]) / "cifar10"
    sets = {}
    for split in ("train", "test"):
        classes = sorted(path for path in (root / split).iterdir() if path.is_dir())
        files = [(k, f) for k, c in enumerate(classes) for f in sorted(c.iterdir())[:100]]
        frames = [np.asarray(Image.open(file).convert("RGB")) for _, file in files]
        sets[split] = np.stack(frames)[:, None], np.array([k for k, _ in files])
    fitted = BASELINES["hog_svm"].fit(*sets["train"])
    assert (fitted.predict(sets["test"][0])[0] == sets["test"][1]).mean() > 0.48
