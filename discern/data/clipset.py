"""Items of one kind, prepared for a model: a `Source` and indices in, uint8 [n, S, h, w, 3] out.

Everything is decoded once and kept in memory when it fits; else items are decoded when they are
asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np

from discern.clip import Kind
from discern.data.badfiles import BadFiles
from discern.data.decode import decode
from discern.data.limits import Limits
from discern.data.preprocess import PreprocessConfig, even_frames, prepare
from discern.data.sources import Source
from discern.errors import BadItem, DataError

UNLABELLED = -1
STAND_INS = 10  # items that are tried in place of one that cannot be read
DECODER_THREADS = 2  # Pillow and PyAV release the interpreter lock while they decode
# seconds of an item below which threads would lose more by waiting for that lock, and items tried
QUICK, TRIED = 1e-3, 32

Progress = Callable[[int, int], None]  # (done, total)


class ClipSet:
    """Items of one kind at one size.  `labels` int64 [n], `keys` [n]; frames by `take`.

    Where an item may have several labels, `targets` bool [n, K] says which, and `labels` its first.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        labels: np.ndarray,
        kind: Kind,
        preprocess: PreprocessConfig,
        *,
        limits: Limits | None = None,
        targets: np.ndarray | None = None,
    ) -> None:
        assert len(indices) == len(labels)
        self.source = source
        self.indices = np.asarray(indices, dtype=np.int64)
        self.labels = np.asarray(labels, dtype=np.int64)
        self.targets = targets
        self.kind = kind
        self.preprocess = preprocess
        self.limits = limits or Limits()
        self.memory: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def stored_frames(self) -> int:
        """S: frames kept of each item."""
        return 1 if self.kind is Kind.IMAGE else self.preprocess.stored_frames

    @property
    def bytes(self) -> int:
        """Memory that all items take once decoded."""
        return len(self) * self.stored_frames * self.preprocess.height * self.preprocess.width * 3

    def key(self, position: int) -> str:
        """The source's name of an item."""
        return self.source.items[self.indices[position]].key

    def read(self, position: int) -> np.ndarray:
        """Decode one item.  -> uint8 [S, h, w, 3].  Raises BadItem."""
        if self.memory is not None:
            return self.memory[position]
        encoded = self.source.read(int(self.indices[position]))
        frames = None if self.kind is Kind.IMAGE else self.stored_frames
        clip = decode(encoded, self.limits, frames=frames, detail=self.preprocess.detail)
        return prepare(clip, self.preprocess, self.kind)

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Items at `positions` [B].  -> uint8 [B, S, h, w, 3]"""
        if self.memory is not None:
            return self.memory[positions]
        return np.stack([self._read_or_next(int(position)) for position in positions])

    def take_even(self, positions: np.ndarray | None = None, moment: float = 0.0) -> np.ndarray:
        """Items as an evaluation sees them, clips by evenly spaced frames; all of them by default.

        `moment`: as in `even_frames`.
        -> uint8 [B, T, h, w, 3]
        """
        frames = self.take(np.arange(len(self)) if positions is None else positions)
        if self.kind is Kind.IMAGE:
            return frames
        return frames[:, even_frames(frames.shape[1], self.preprocess.frames, moment)]

    def load(self, bad: BadFiles, progress: Progress | None = None) -> None:
        """Decode everything into memory; what cannot be read is noted in `bad` and left out."""
        shape = (len(self), self.stored_frames, self.preprocess.height, self.preprocess.width, 3)
        memory = np.empty(shape, dtype=np.uint8)
        good = self._read_each(memory.__setitem__, bad, progress)
        self.memory = memory if good.all() else memory[good]
        self._keep(good)

    def leave_out_bad(self, bad: BadFiles, progress: Progress | None = None) -> None:
        """Decode everything once and keep nothing; what cannot be read is noted and left out."""
        self._keep(self._read_each(lambda position, frames: None, bad, progress))

    def _keep(self, good: np.ndarray) -> None:
        self.indices, self.labels = self.indices[good], self.labels[good]
        if self.targets is not None:
            self.targets = self.targets[good]

    def _read_each(
        self,
        store: Callable[[int, np.ndarray], None],
        bad: BadFiles,
        progress: Progress | None,
    ) -> np.ndarray:
        """Hand every item to `store`.  -> bool [n], whether it could be read"""
        good = np.ones(len(self), dtype=bool)

        def attempt(position: int) -> str | None:
            try:
                store(position, self.read(position))
            except BadItem as error:
                return str(error)
            return None

        started = time.perf_counter()
        first = [attempt(position) for position in range(min(TRIED, len(self)))]
        quick = time.perf_counter() - started < QUICK * len(first)
        with ThreadPoolExecutor(DECODER_THREADS) as pool:
            rest = range(len(first), len(self))
            others = map(attempt, rest) if quick else pool.map(attempt, rest, chunksize=64)
            for position, reason in enumerate(chain(first, others)):
                if reason is not None:
                    good[position] = False
                    bad.add(self.key(position), reason)
                if progress is not None and position % 64 == 0:
                    progress(position, len(self))
        return good

    def subset(self, positions: np.ndarray, labels: np.ndarray | None = None) -> ClipSet:
        """The items at `positions`, sharing nothing but the source."""
        chosen = ClipSet(
            self.source,
            self.indices[positions].tolist(),
            self.labels[positions] if labels is None else labels,
            self.kind,
            self.preprocess,
            limits=self.limits,
            targets=None if self.targets is None else self.targets[positions],
        )
        chosen.memory = None if self.memory is None else self.memory[positions]
        return chosen

    def some(self, most: int, seed: int) -> ClipSet:
        """So many items at most, in order; a seed draws the same ones each time."""
        drawn = np.random.default_rng([seed, 13]).permutation(len(self))[:most]
        return self.subset(np.sort(drawn))

    def _read_or_next(self, position: int) -> np.ndarray:
        # a file that breaks after it was checked must not end a long run: its neighbour stands in,
        # the next one of the same class, since the label stays
        same = self.labels == self.labels[position]
        if self.targets is not None:
            same = (self.targets == self.targets[position]).all(axis=1)
        alike = np.flatnonzero(same)
        here = int(np.searchsorted(alike, position))
        for stand_in in np.roll(alike, -here)[:STAND_INS]:
            try:
                return self.read(int(stand_in))
            except BadItem:
                continue
        raise DataError(
            f"{min(STAND_INS, len(alike))} items in a row cannot be read, "
            f"from {self.key(position)} on: is the data still there?"
        )


def clip_sets(
    source: Source,
    indices: Iterable[int],
    preprocess: PreprocessConfig,
    *,
    classes: Sequence[str] = (),
    unlabelled: Iterable[int] = (),
    limits: Limits | None = None,
    several: bool = False,
) -> dict[Kind, ClipSet]:
    """One set per kind that occurs.

    Items in `unlabelled` get label -1 whatever the source says.  With `several`, items may have any
    number of labels.  Raises DataError for an item of two labels without it.
    """
    number = {name: i for i, name in enumerate(classes)}
    labelled = {int(i): _class_of(source, int(i), number, several) for i in indices}
    chosen = {**labelled, **{int(i): UNLABELLED for i in unlabelled}}
    sets = {}
    for kind in Kind:
        mine = sorted(i for i in chosen if source.items[i].kind is kind)
        if mine:
            labels = np.array([chosen[i] for i in mine], dtype=np.int64)
            targets = _targets(source, mine, number) if several else None
            sets[kind] = ClipSet(
                source, mine, labels, kind, preprocess, limits=limits, targets=targets
            )
    return sets


def load_all(
    sets: Iterable[ClipSet],
    bad: BadFiles,
    memory_bytes: int,
    progress: Progress | None = None,
    total: int | None = None,
) -> None:
    """Decode the sets, into memory if they fit `memory_bytes`; then stop if too many were bad.

    What does not fit is decoded again whenever it is asked for, but once now, so that no broken
    item is trained on or counted as seen.

    `total` counts the items that `bad` has been or will be asked about, where these are not all.
    """
    sets = list(sets)
    fits = sum(one.bytes for one in sets) <= memory_bytes
    total = total or sum(len(one) for one in sets)
    for one in sets:
        (one.load if fits else one.leave_out_bad)(bad, progress)
    bad.check(total)


def _class_of(source: Source, index: int, number: Mapping[str, int], several: bool) -> int:
    item = source.items[index]
    if not item.labels or not number:
        return UNLABELLED
    if len(item.labels) > 1 and not several:
        raise DataError(
            f"{item.key} has {len(item.labels)} labels, and one label per item is taken here: "
            "keep one of them"
        )
    return number[item.labels[0]]


def _targets(source: Source, indices: Sequence[int], number: Mapping[str, int]) -> np.ndarray:
    """bool [n, K]: which labels each item has"""
    found = np.zeros((len(indices), len(number)), dtype=bool)
    for row, index in enumerate(indices):
        found[row, [number[label] for label in source.items[index].labels]] = True
    return found
