"""Who is it: a gallery and a feature vector in, names with scores out.

The score is the cosine between centred vectors, of a name the best over its pictures: one picture
in like pose and light tells more than the mean over all.
"""

from __future__ import annotations

import numpy as np

from discern.gallery.store import Gallery

SHRINK = 8.0  # vectors of zero that a mean over few vectors is mixed with


class Index:
    """A gallery made ready for questions: one product and one maximum for each."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self.centre = gallery.centre if gallery.centre is not None else middle(gallery.vectors)
        self.unit = normalised(gallery.vectors, self.centre)  # [N, D]
        # vectors lie in order of their owners, so that a name is a stretch
        self.starts = np.flatnonzero(np.diff(gallery.owners, prepend=-1))

    def scores(self, vector: np.ndarray) -> np.ndarray:
        """The best cosine of each name.  [D] -> [names]"""
        if not len(self.unit):
            return np.zeros(0, dtype=np.float32)
        cosines = self.unit @ normalised(vector[None], self.centre)[0]
        return np.asarray(np.maximum.reduceat(cosines, self.starts))

    def ranked(self, vector: np.ndarray, top: int) -> list[tuple[str, float]]:
        """The `top` names, the likeliest first."""
        scores = self.scores(vector)
        top = min(top, len(scores))
        best = np.argpartition(-scores, top - 1)[:top] if top else np.zeros(0, dtype=np.int64)
        best = best[np.argsort(-scores[best], kind="stable")]
        return [(self.gallery.names[place], float(scores[place])) for place in best]


def middle(vectors: np.ndarray) -> np.ndarray:
    """What all vectors share, which tells nobody apart; of few vectors, less of it.  -> [D]"""
    if not len(vectors):
        return np.zeros(vectors.shape[1], dtype=np.float32)
    mean: np.ndarray = vectors.mean(axis=0) * (len(vectors) / (len(vectors) + SHRINK))
    return mean.astype(np.float32)


def normalised(vectors: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Centred, and of length 1.  [N, D] -> [N, D]"""
    off = vectors - centre
    unit: np.ndarray = off / np.maximum(np.linalg.norm(off, axis=1, keepdims=True), 1e-9)
    return unit
