"""Items that a program holds: arrays of pixels or lists of paths in, prepared items by kind out."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from discern.clip import Clip, Kind
from discern.data.badfiles import BadFiles
from discern.data.clipset import UNLABELLED, ClipSet
from discern.data.items import Item, Source, file_kind, read_file
from discern.data.limits import Limits
from discern.data.preprocess import PreprocessConfig, prepare
from discern.errors import DataError

SMALL = 16  # pixels: squares up to this side get an even one, so that patches of 2 fit


class Given(Source):
    """Items by their place in what was given: number i is row i."""

    @abstractmethod
    def sets(
        self,
        preprocess: PreprocessConfig,
        positions: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> dict[Kind, ClipSet]:
        """The items at `positions` (all) by kind, in memory; `labels` belong to all items.

        Raises DataError when one cannot be read.
        """


class Arrays(Given):
    """Items that are pixels already.  clips uint8 [N, T, H, W, 3]"""

    def __init__(self, clips: np.ndarray, *, rows: bool = False) -> None:
        super().__init__("array", Limits())
        self.clips = clips
        self.rows = rows  # made by `squares`
        self.kind = Kind.IMAGE if clips.shape[1] == 1 else Kind.CLIP
        self.items = [Item(key=f"array#{row}", kind=self.kind) for row in range(len(clips))]

    def read(self, index: int) -> bytes | list[bytes]:
        raise AssertionError("an array has no encoded bytes")

    def sets(
        self,
        preprocess: PreprocessConfig,
        positions: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> dict[Kind, ClipSet]:
        chosen = _clip_set(self, _all(self, positions), labels, self.kind, preprocess)
        times = np.zeros(self.clips.shape[1])
        chosen.memory = np.stack(
            [
                prepare(Clip(frames=self.clips[row], times=times, kind=self.kind), preprocess)
                for row in chosen.indices
            ]
        )
        return {self.kind: chosen}


class Paths(Given):
    """Image and video files."""

    def __init__(
        self, paths: Sequence[str | os.PathLike[str]], limits: Limits | None = None
    ) -> None:
        super().__init__("paths", limits or Limits())
        self._paths = [Path(path).expanduser() for path in paths]
        self.items = []
        for path in self._paths:
            kind = file_kind(str(path))
            if kind is None:
                raise DataError(f"{path}: neither an image nor a video: take it off the list")
            self.items.append(Item(key=str(path), kind=kind))

    def read(self, index: int) -> bytes | list[bytes]:
        return read_file(self._paths[index], self.limits)

    def sets(
        self,
        preprocess: PreprocessConfig,
        positions: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> dict[Kind, ClipSet]:
        wanted = _all(self, positions)
        bad = BadFiles(None, allowed=0.0)
        found = {}
        for kind in Kind:
            mine = [row for row in wanted if self.items[row].kind is kind]
            if mine:
                found[kind] = _clip_set(self, np.array(mine), labels, kind, preprocess)
                found[kind].load(bad)
        bad.check(len(wanted))
        return found


def join(left: Mapping[Kind, ClipSet], right: Mapping[Kind, ClipSet]) -> dict[Kind, ClipSet]:
    """Both, kind by kind, without labels."""
    found = {**left, **right}
    for kind in left.keys() & right.keys():
        one, two = left[kind], right[kind]
        assert one.memory is not None and two.memory is not None
        indices = np.concatenate([one.indices, two.indices])
        found[kind] = _clip_set(one.source, indices, None, kind, one.preprocess)
        found[kind].memory = np.concatenate([one.memory, two.memory])
    return found


def to_clips(pixels: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Images [N, H, W] or [N, H, W, C], or clips [N, T, H, W, C] -> uint8 [N, T, H, W, 3].

    `span` holds the numbers of black and white.  Raises ValueError for other shapes.
    """
    shape = pixels.shape
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim == 4:
        pixels = pixels[:, None]
    if pixels.ndim != 5 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(
            f"an array of shape {list(shape)} is neither images [N, H, W] or [N, H, W, C] nor "
            "clips [N, T, H, W, C] with C = 1 or 3: bring the axes into this order"
        )
    low, high = span
    if pixels.dtype != np.uint8 or span != (0.0, 255.0):
        scale = 255.0 / (high - low) if high > low else 0.0
        scaled = (pixels.astype(np.float64) - low) * scale
        pixels = scaled.round().clip(0, 255).astype(np.uint8)
    return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))


def squares(rows: np.ndarray, black: float) -> np.ndarray:
    """Rows of numbers as square images, filled up with black.  [N, F] -> [N, S, S]"""
    N, F = rows.shape
    side = int(np.ceil(F**0.5))
    filled = np.pad(rows, [(0, 0), (0, side**2 - F)], constant_values=rows.dtype.type(black))
    extra = side % 2 if side < SMALL else 0
    return np.pad(
        filled.reshape(N, side, side),
        [(0, 0), (0, extra), (0, extra)],
        constant_values=rows.dtype.type(black),
    )


def span_of(pixels: np.ndarray) -> tuple[float, float]:
    """The numbers of black and white: those of bytes, 0 and 1, or the least and the greatest."""
    if pixels.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(pixels.min()), float(pixels.max())
    return (0.0, 1.0) if low >= 0.0 and high <= 1.0 else (low, high)


def are_paths(given: object) -> bool:
    """Is this a list of file names?"""
    if isinstance(given, str | bytes | os.PathLike):
        return False  # one name is no list
    if isinstance(given, np.ndarray) and given.dtype.kind not in "OU":
        return False
    if not isinstance(given, Sequence | np.ndarray) or len(given) == 0:
        return False
    return isinstance(given[0], str | os.PathLike)


def axes(given: object) -> int:
    """How many axes an array, or what can become one, has."""
    return given.ndim if isinstance(given, np.ndarray) else np.asarray(given).ndim


def _clip_set(
    source: Source,
    positions: np.ndarray,
    labels: np.ndarray | None,
    kind: Kind,
    preprocess: PreprocessConfig,
) -> ClipSet:
    mine = np.full(len(positions), UNLABELLED) if labels is None else labels[positions]
    return ClipSet(source, positions.tolist(), mine, kind, preprocess, limits=source.limits)


def _all(source: Given, positions: np.ndarray | None) -> np.ndarray:
    return np.arange(len(source.items)) if positions is None else positions
