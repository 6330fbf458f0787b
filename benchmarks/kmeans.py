"""k-means features: the strongest of what learned from images without labels before deep networks.

Patches of 6 x 6 are whitened, k-means finds words for them, each place of a picture says how near
each word is (the "triangle"), and sums over four quarters go to a linear SVM.  Coates, Ng and Lee
2011, "An analysis of single-layer networks in unsupervised feature learning", section 3.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 6  # of a patch, in pixels
WORDS = 800
DRAWN = 200_000  # patches that words and whitening are learned from
PLACES = 32  # along the longer side of a frame, about
FRAMES = 4  # of a clip that are looked at
CONTRAST, WHITENING = 10.0, 0.1  # added to variances, the paper's
AT_ONCE = 64  # items


@dataclass(frozen=True)
class Words:
    """What was learned from items without labels."""

    mean: np.ndarray  # [P]
    whiten: np.ndarray  # [P, P]
    centers: np.ndarray  # [K, P]

    def features(self, frames: np.ndarray) -> np.ndarray:
        """Mean over frames of the sums over quarters.  uint8 [N, T, H, W, 3] -> [N, 4 K]"""
        T = frames.shape[1]
        chosen = np.unique(np.linspace(0, T - 1, min(FRAMES, T)).round().astype(int))
        parts = [
            np.mean([self._frame(some[:, one]) for one in chosen], axis=0)
            for some in np.array_split(frames, max(1, len(frames) // AT_ONCE))
        ]
        return np.concatenate(parts).astype(np.float32)

    def _frame(self, frames: np.ndarray) -> np.ndarray:
        """[n, H, W, 3] -> [n, 4 K]"""
        patches = _patches(frames)  # [n, h, w, P]
        shape = patches.shape[:3]
        x = (_normalized(patches.reshape(-1, patches.shape[-1])) - self.mean) @ self.whiten
        # distances to all words, by one matrix product
        squares = (x**2).sum(1)[:, None] - 2 * x @ self.centers.T + (self.centers**2).sum(1)
        distances = np.sqrt(np.maximum(squares, 0))
        near = np.maximum(distances.mean(1, keepdims=True) - distances, 0).reshape(*shape, -1)
        h, w = shape[1] // 2, shape[2] // 2
        quarters = (near[:, :h, :w], near[:, :h, w:], near[:, h:, :w], near[:, h:, w:])
        return np.concatenate([quarter.sum(axis=(1, 2)) for quarter in quarters], axis=1)


def learn(frames: np.ndarray, words: int = WORDS, seed: int = 0) -> Words:
    """Words for patches of frames that need no labels.  uint8 [N, T, H, W, 3]"""
    from sklearn.cluster import MiniBatchKMeans

    drawn = np.random.default_rng(seed)
    N, T, H, W, _ = frames.shape
    item, moment = drawn.integers(N, size=DRAWN), drawn.integers(T, size=DRAWN)
    top, left = drawn.integers(H - SIDE + 1, size=DRAWN), drawn.integers(W - SIDE + 1, size=DRAWN)
    down = top[:, None, None] + np.arange(SIDE)[:, None]
    along = left[:, None, None] + np.arange(SIDE)
    patches = frames[item[:, None, None], moment[:, None, None], down, along]
    x = _normalized(patches.reshape(DRAWN, -1).astype(np.float32))
    mean = x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    whiten = (vectors * (values + WHITENING) ** -0.5) @ vectors.T
    white = ((x - mean) @ whiten).astype(np.float32)
    found = MiniBatchKMeans(words, batch_size=4096, n_init=1, max_iter=30, random_state=seed)
    centers = found.fit(white).cluster_centers_
    return Words(*(one.astype(np.float32) for one in (mean, whiten, centers)))


def kmeans_svm(folder: Path, run: Path, seed: int) -> dict[str, Any]:
    """On the items of a run: words from all training items, the SVM from the labelled ones."""
    from discern.baselines.linear import SvmConfig
    from discern.baselines.table import Baseline
    from discern.clip import Kind
    from discern.data.badfiles import BadFiles
    from discern.evaluate.metrics import metrics
    from discern.recipes.compare import settings_of
    from discern.recipes.prepare import divide, load_sets, open_checked

    started = time.monotonic()
    source, config = open_checked([str(folder)]), settings_of(run)
    parts = divide(source, config.data, run)
    bad = BadFiles(None, allowed=1.0)

    def loaded(indices: list[int]) -> Any:
        """The only kind that such a data set has."""
        (found,) = load_sets(source, indices, config, bad, classes=parts.classes).values()
        return found

    labelled = loaded([*parts.labelled, *parts.val])
    every = loaded([*parts.labelled, *parts.val, *parts.rest])
    words = learn(every.take_even(), seed=seed)
    baseline = Baseline(
        name="kmeans_svm",
        kinds=tuple(Kind),  # frames of an image come as those of a clip do
        extract=(words.features,),
        svm=SvmConfig(kernel="linear"),
    )
    fitted = baseline.fit(labelled.take_even(), labelled.labels, len(parts.classes))
    test = loaded(list(parts.splits.test))
    _, probabilities = fitted.predict(test.take_even())
    said = metrics(test.labels, probabilities, parts.classes)
    return {
        "accuracy": said["accuracy"],
        "accuracy_interval": said["accuracy_interval"],
        "microseconds_per_item": 1e6 * fitted.seconds_per_item,
        "labels_used": len(labelled),
        "seconds": time.monotonic() - started,
    }


def _patches(frames: np.ndarray) -> np.ndarray:
    """Every patch, or every so many-th of a large frame.  [n, H, W, 3] -> float [n, h, w, P]"""
    step = max(1, max(frames.shape[1:3]) // PLACES)
    windows = np.lib.stride_tricks.sliding_window_view(frames, (SIDE, SIDE), axis=(1, 2))
    windows = windows[:, ::step, ::step].transpose(0, 1, 2, 4, 5, 3)  # [n, h, w, SIDE, SIDE, 3]
    return windows.reshape(*windows.shape[:3], -1).astype(np.float32)


def _normalized(patches: np.ndarray) -> np.ndarray:
    """Each patch without its brightness and contrast.  [M, P]"""
    centred = patches - patches.mean(1, keepdims=True)
    return centred / np.sqrt(centred.var(1, keepdims=True) + CONTRAST)
