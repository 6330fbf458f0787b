"""Hand-crafted peers of the model: frames and labels go in, a fitted classifier comes out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from discern.baselines.color import color_histogram
from discern.baselines.linear import Svm, SvmConfig, fit_svm
from discern.baselines.motion import motion_difference, motion_flow, motion_hog
from discern.baselines.shape import hog
from discern.clip import Kind

MEASURED_ITEMS = 64  # how many items the speed is measured on


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A way to make features by hand, and the classifiers to choose from."""

    name: str
    kinds: tuple[Kind, ...]
    extract: tuple[Callable[[np.ndarray], np.ndarray], ...]  # of [N, H, W, 3] or [N, T, H, W, 3]
    svm: SvmConfig = SvmConfig()

    def features(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [N, T, H, W, 3] -> float32 [N, F]; of an image (T = 1) the one frame is used"""
        return np.concatenate(self._blocks(frames), axis=1)

    def fit(
        self,
        frames: np.ndarray,
        labels: np.ndarray,
        classes: int | None = None,
        groups: np.ndarray | None = None,
    ) -> Fitted:
        """Train on all items.  uint8 [N, T, H, W, 3], int [N] -> Fitted

        Pass the groups (int [N]) where items are near copies, as clips of one film are: without
        them cross-validation recognizes the film and picks the wrong settings.
        """
        start = time.perf_counter()
        blocks = self._blocks(frames)
        lengths = [block.shape[1] for block in blocks]
        features = np.concatenate(blocks, axis=1)
        svm = fit_svm(features, labels, classes, groups, lengths, self.svm)
        fitted = Fitted(baseline=self, svm=svm, train_seconds=time.perf_counter() - start)
        fitted.measure(frames[:MEASURED_ITEMS])
        return fitted

    def _blocks(self, frames: np.ndarray) -> list[np.ndarray]:
        assert frames.ndim == 5 and frames.shape[-1] == 3 and frames.dtype == np.uint8, frames.shape
        frames = frames[:, 0] if self.kinds == (Kind.IMAGE,) else frames
        return [extract(frames) for extract in self.extract]


@dataclass(kw_only=True)
class Fitted:
    """A trained baseline."""

    baseline: Baseline
    svm: Svm
    train_seconds: float
    seconds_per_item: float = 0.0  # features and classifier, one thread; measured when fitted

    def predict(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [N, T, H, W, 3] -> labels int [N], probabilities float [N, K]"""
        if len(frames) == 0:
            return np.zeros(0, np.intp), np.zeros((0, self.svm.classes))
        probabilities = self.svm.probabilities(self.baseline.features(frames))
        return probabilities.argmax(1), probabilities

    def measure(self, frames: np.ndarray, repeats: int = 3) -> float:
        """Seconds per item on one thread, the best of `repeats`; other load does not count."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        with threadpool_limits(1):
            self.predict(frames[:2])  # imports and caches are not what is measured
            times = []
            for _ in range(repeats):
                start = time.thread_time()
                self.predict(frames)
                times.append(time.thread_time() - start)
        self.seconds_per_item = min(times) / len(frames)
        return self.seconds_per_item


LINEAR, RBF = SvmConfig(kernel="linear"), SvmConfig(kernel="rbf")
IMAGES, CLIPS = (Kind.IMAGE,), (Kind.CLIP,)
MOTION = (motion_hog, motion_difference, motion_flow)

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline(name="color_histogram", kinds=IMAGES, extract=(color_histogram,), svm=RBF),
        Baseline(name="hog_linear", kinds=IMAGES, extract=(hog,), svm=LINEAR),
        Baseline(name="hog_svm", kinds=IMAGES, extract=(hog,), svm=RBF),
        Baseline(name="motion_hog", kinds=CLIPS, extract=(motion_hog,), svm=RBF),
        Baseline(name="motion_difference", kinds=CLIPS, extract=(motion_difference,), svm=RBF),
        Baseline(name="motion_flow", kinds=CLIPS, extract=(motion_flow,), svm=RBF),
        Baseline(name="motion", kinds=CLIPS, extract=MOTION, svm=RBF),
    )
}
