"""Sets in, batches in a seeded order out.

A position is (epoch, index), so that a resumed run sees the very same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from discern.clip import Batch, Kind
from discern.data.clipset import ClipSet
from discern.data.decoders import Decoders
from discern.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """Batch sizes and the mix of images and clips."""

    batch_size: int = 256  # images
    clip_batch_size: int | None = (
        None  # clips; None: as many as hold about the same number of tokens
    )
    clip_share: float = 0.33  # at least this share of the batches are clips, where there are both
    # 0: classes come as often as they are in the data; 1: all alike often, the rare ones repeated
    balance: float = 0.0
    # decoder processes, none where everything is in memory; None: beside a GPU, a few
    workers: int | None = None
    memory_share: float = 0.4  # of the free memory may hold decoded items


class Position(NamedTuple):
    """The batch that comes next."""

    epoch: int = 0
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


START = Position()


class _Request(NamedTuple):
    """One batch: which set, which items, and the seed of its random frames."""

    kind: Kind
    positions: np.ndarray
    seed: tuple[int, ...]


class Loader:
    """Endless batches of one kind each, from one set per kind.

    `part` (r, n): of each batch every n-th item from the r-th on, so that n processes share it; a
    position means the same to any number of them.  Raises ConfigError where a batch has no n equal
    parts.
    """

    def __init__(
        self,
        sets: Mapping[Kind, ClipSet],
        config: LoaderConfig,
        *,
        seed: int,
        clip_tokens_per_image: int = 4,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        assert sets and all(len(one) for one in sets.values())
        if not 0.0 <= config.clip_share < 1.0:
            raise ConfigError(f"clip_share {config.clip_share}: choose a share from 0 to below 1")
        self.sets, self.config, self.seed, self.part = dict(sets), config, seed, part
        clip_batch = config.clip_batch_size or max(8, config.batch_size // clip_tokens_per_image)
        self.batch_size = {Kind.IMAGE: config.batch_size, Kind.CLIP: clip_batch}

    def batches(self, start: Position = START) -> Iterator[tuple[Position, Batch]]:
        """(position after it, batch) from `start` on, for ever.

        Frames are uint8 [B, 3, T, h, w].
        """
        epoch, index = start
        with self._fetched() as fetched:
            while True:
                plan = self.plan(epoch)
                left = plan[index:]
                for number, (request, frames) in enumerate(
                    zip(left, fetched(left), strict=True), start=index + 1
                ):
                    ended = number == len(plan)
                    after = Position(epoch + 1, 0) if ended else Position(epoch, number)
                    passes = epoch + (number - 1) / len(plan)
                    yield after, replace(self._batch(request, frames), passes=passes)
                epoch, index = epoch + 1, 0

    @contextmanager
    def _fetched(self) -> Iterator[Callable[[Sequence[_Request]], Iterable[np.ndarray]]]:
        """What gives the frames of requests, in order: this process, or others beside it."""
        if all(one.memory is not None for one in self.sets.values()) or not self.config.workers:
            yield lambda requests: map(self._frames, requests)
            return
        decoders = Decoders(self._frames, self.config.workers, max(map(self._most, self.sets)))
        try:
            yield decoders.frames
        finally:
            decoders.close()

    def _most(self, kind: Kind) -> int:
        """Bytes of the largest batch of a kind."""
        size = self.sets[kind].preprocess
        frames = 1 if kind is Kind.IMAGE else size.frames
        return self.batch_size[kind] * frames * size.height * size.width * 3

    def _frames(self, request: _Request) -> np.ndarray:
        """uint8 [B, T, h, w, 3]"""
        chosen = self.sets[request.kind]
        frames = chosen.take(request.positions)  # [B, S, h, w, 3]
        if request.kind is not Kind.CLIP:
            return frames
        rng = np.random.default_rng(request.seed)
        return _random_frames(frames, chosen.preprocess.frames, rng)

    def _batch(self, request: _Request, frames: np.ndarray) -> Batch:
        chosen = self.sets[request.kind]
        batch = as_batch(frames, chosen.labels[request.positions], request.positions)
        if chosen.targets is None:
            return batch
        target = torch.from_numpy(chosen.targets[request.positions]).float()
        return replace(batch, target=target)

    def plan(self, epoch: int) -> list[_Request]:
        """The batches of one epoch: each kind shuffled and cut, then all shuffled together."""
        per_kind = {kind: self._natural_batches(kind) for kind in self.sets}
        if len(per_kind) == 2:
            share = self.config.clip_share
            wanted = round(per_kind[Kind.IMAGE] * share / max(1e-9, 1 - share))
            per_kind[Kind.CLIP] = max(per_kind[Kind.CLIP], wanted)
        batches = [
            (kind, positions)
            for kind, count in per_kind.items()
            for positions in self._shuffled(kind, count, epoch)
        ]
        order = np.random.default_rng([self.seed, epoch, 7]).permutation(len(batches))
        return [
            _Request(kind, self._mine(positions), seed=(self.seed, epoch, number))
            for number, (kind, positions) in enumerate(batches[slot] for slot in order)
        ]

    def _mine(self, positions: np.ndarray) -> np.ndarray:
        rank, world = self.part
        if len(positions) % world:
            raise ConfigError(
                f"a batch of {len(positions)} items has no {world} equal parts for {world} ranks: "
                f"set data.loader.batch_size to a multiple of {world}, or start fewer"
            )
        return positions[rank::world]

    def _natural_batches(self, kind: Kind) -> int:
        return max(1, len(self.sets[kind]) // self.batch_size[kind])

    def _shuffled(self, kind: Kind, count: int, epoch: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch, list(Kind).index(kind)])
        size = min(self.batch_size[kind], len(self.sets[kind]))
        done = 0
        while done < count:
            order = self._order(kind, rng)
            for first in range(0, len(order) - size + 1, size):
                if done < count:
                    yield np.sort(order[first : first + size])
                    done += 1

    def _order(self, kind: Kind, rng: np.random.Generator) -> np.ndarray:
        """All positions of a set, shuffled; with `balance` those of rare classes more often.

        A class of n items gets a share that grows as n^(1 - balance); each of its items comes
        before any of them comes again.
        """
        labels = self.sets[kind].labels
        if self.config.balance == 0 or (labels < 0).any():
            return rng.permutation(len(labels))
        _, number, count = np.unique(labels, return_inverse=True, return_counts=True)
        weight = count ** (1.0 - self.config.balance)
        wanted = np.maximum(1, np.round(len(labels) * weight / weight.sum())).astype(np.int64)
        chosen = []
        for one, amount in enumerate(wanted):
            members = np.flatnonzero(number == one)
            rounds = [rng.permutation(members) for _ in range(-(-int(amount) // len(members)))]
            chosen.append(np.concatenate(rounds)[:amount])
        short = len(labels) - int(wanted.sum())  # by rounding; an epoch is never cut by it
        if short > 0:
            chosen.append(rng.integers(len(labels), size=short))
        return rng.permutation(np.concatenate(chosen))


def evaluation_batches(chosen: ClipSet, batch_size: int, moment: float = 0.0) -> Iterator[Batch]:
    """All items once, in order, evenly spaced frames, moved as `even_frames` does."""
    for first in range(0, len(chosen), batch_size):
        positions = np.arange(first, min(first + batch_size, len(chosen)))
        yield as_batch(chosen.take_even(positions, moment), chosen.labels[positions], positions)


def as_batch(frames: np.ndarray, labels: np.ndarray, positions: np.ndarray) -> Batch:
    """uint8 [B, T, h, w, 3] -> Batch of uint8 [B, 3, T, h, w]"""
    clip = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 4, 1, 2, 3)))
    return Batch(clip=clip, label=torch.from_numpy(labels), index=torch.from_numpy(positions))


def _random_frames(frames: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """A random window of each clip at a random even pace.  [B, S, ...] -> [B, wanted, ...]"""
    B, S = frames.shape[:2]
    span = rng.integers(min(wanted, S), S + 1, size=B)
    start = rng.integers(0, S - span + 1)
    chosen = start[:, None] + ((np.arange(wanted) + 0.5) * span[:, None] / wanted).astype(np.int64)
    return frames[np.arange(B)[:, None], chosen]
