"""Labelled and unlabelled items in one batch: positions, shares, every item."""

from __future__ import annotations

from itertools import islice

import torch

from discern.clip import Batch, Kind
from discern.data.loader import Loader, LoaderConfig, Position
from discern.data.mixing import MixedLoader
from tests.tiny import random_sets

CONFIG = LoaderConfig(batch_size=6, clip_batch_size=3, clip_share=0.4)


def _mixed(images: int = 11, clips: int = 0, ratio: float = 2.0) -> MixedLoader:
    """10 labelled images and 5 clips, and some without labels."""
    return MixedLoader(random_sets(10, 5), random_sets(images, clips), CONFIG, ratio=ratio, seed=1)


def _rows(loader: MixedLoader, start: Position, count: int) -> list[tuple[Position, Batch]]:
    return list(islice(loader.batches(start), count))


def _same(one: Batch, other: Batch) -> bool:
    assert one.label is not None and other.label is not None
    return torch.equal(one.clip, other.clip) and torch.equal(one.label, other.label)


def test_every_position_leads_to_the_very_same_batches() -> None:
    straight = _rows(_mixed(11, 4), Position(), 24)
    epochs = {position.epoch for position, _ in straight}
    assert len(epochs) > 2
    positions = [Position(), *(position for position, _ in straight)]
    for number, start in enumerate(positions[:-1]):
        again = _rows(_mixed(11, 4), start, 24 - number)
        assert [position for position, _ in again] == positions[number + 1 :]
        assert all(
            _same(one, other) for (_, one), (_, other) in zip(again, straight[number:], strict=True)
        )


def test_labelled_items_first_and_unlabelled_ones_of_the_same_kind() -> None:
    kinds = set()
    for _, batch in _rows(_mixed(11, 4), Position(), 24):
        assert batch.label is not None
        is_clip = batch.clip.shape[2] > 1
        kinds.add(is_clip)
        known = (batch.label >= 0).tolist()
        assert known == ([True, False, False] if is_clip else [True] * 2 + [False] * 4)
    assert kinds == {True, False}


def test_a_kind_without_unlabelled_items_keeps_its_whole_batch() -> None:
    sizes = set()
    for _, batch in _rows(_mixed(11), Position(), 12):
        assert batch.label is not None
        if batch.clip.shape[2] > 1:
            sizes.add(len(batch.clip))
            assert (batch.label >= 0).all()
    assert sizes == {3}


def test_all_unlabelled_items_come_in_their_turn() -> None:
    loader = MixedLoader(random_sets(10), random_sets(12), CONFIG, ratio=2.0, seed=1)
    seen = [
        clip.numpy().tobytes()
        for _, batch in _rows(loader, Position(), 3)
        for clip in batch.clip[2:]
    ]
    assert len(seen) == len(set(seen)) == 12


def test_the_labelled_items_are_those_of_a_plain_loader() -> None:
    plain = Loader(random_sets(10), LoaderConfig(batch_size=2), seed=1)
    loader = MixedLoader(random_sets(10), random_sets(12), CONFIG, ratio=2.0, seed=1)
    for (_, batch), (_, other) in zip(
        _rows(loader, Position(), 9), plain.batches(Position()), strict=False
    ):
        assert torch.equal(batch.clip[:2], other.clip)


def test_any_ratio_leaves_room_for_both() -> None:
    for ratio, known in ((0.01, 5), (1.0, 3), (100.0, 1)):
        loader = MixedLoader(random_sets(10), random_sets(12), CONFIG, ratio=ratio, seed=1)
        (_, batch), *_ = _rows(loader, Position(), 1)
        assert batch.label is not None
        assert int((batch.label >= 0).sum()) == known and len(batch.clip) == 6
    assert Kind.CLIP not in loader.unlabelled
