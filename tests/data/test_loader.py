"""The loader: the same batches from every position on, fair shares, every item, random frames."""

from __future__ import annotations

import os
import signal
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from discern.clip import Batch, Kind
from discern.data import decoders
from discern.data.badfiles import BadFiles
from discern.data.clipset import ClipSet
from discern.data.loader import (
    START,
    Loader,
    LoaderConfig,
    Position,
    as_batch,
    evaluation_batches,
)
from discern.errors import ConfigError, DataError
from tests.tiny import MadeUp

Row = tuple[Position, bytes, bytes, bytes]


def _sets(images: int, clips: int, *, loaded: bool = True) -> dict[Kind, ClipSet]:
    source = MadeUp(images, clips)
    sets = {k: source.clip_set(k) for k, n in ((Kind.IMAGE, images), (Kind.CLIP, clips)) if n}
    for one in sets.values() if loaded else ():
        one.load(BadFiles(None))
    return sets


def _loader(images: int = 10, clips: int = 7, *, loaded: bool = True, **settings: float) -> Loader:
    config = LoaderConfig(**({"batch_size": 3, "clip_batch_size": 2} | settings))  # type: ignore[arg-type]
    return Loader(_sets(images, clips, loaded=loaded), config, seed=1)


def _rows(loader: Loader, start: Position, count: int) -> list[Row]:
    return [
        (position, _bytes(batch.clip), _bytes(batch.label), _bytes(batch.index))
        for position, batch in islice(loader.batches(start), count)
    ]


def _bytes(values: torch.Tensor | None) -> bytes:
    assert values is not None
    return values.numpy().tobytes()


def _epoch(loader: Loader, epoch: int = 0) -> list[Batch]:
    count = len(loader.plan(epoch))
    return [batch for _, batch in islice(loader.batches(Position(epoch, 0)), count)]


def _is_clip(batch: Batch) -> bool:
    return batch.clip.shape[2] > 1


# ---------------------------------------------------------------- position


def test_every_position_leads_to_the_very_same_batches() -> None:
    loader = _loader()
    count = 2 * len(loader.plan(0)) + 2  # into the third epoch
    straight = _rows(loader, Position(), count)
    positions = [Position(), *(row[0] for row in straight)]
    size = len(loader.plan(0))
    assert positions == [Position(number // size, number % size) for number in range(count + 1)]
    for number, start in enumerate(positions[:-1]):
        assert _rows(_loader(), start, count - number) == straight[number:]


def test_decoder_processes_give_the_very_same_batches() -> None:
    plain = _rows(_loader(loaded=False), Position(), 8)
    for start in (0, 3):
        positions = [Position(), *(row[0] for row in plain)]
        found = _rows(_loader(loaded=False, workers=2), positions[start], 5)
        assert found == plain[start : start + 5]
    assert plain == _rows(_loader(), Position(), 8)  # and memory too


class Deadly(MadeUp):
    """Sends a signal to the process that reads the third item, `times` times."""

    def __init__(self, flags: Path, number: int, times: int) -> None:
        super().__init__(images=30)
        self.flags, self.number, self.main = flags, number, os.getpid()
        for name in range(times):
            (flags / str(name)).touch()

    def read(self, index: int) -> bytes | list[bytes]:
        for flag in self.flags.iterdir() if index == 3 and os.getpid() != self.main else ():
            flag.unlink()
            os.kill(os.getpid(), self.number)
        return super().read(index)

    def rows(self, workers: int) -> list[Row]:
        config = LoaderConfig(batch_size=3, workers=workers)
        return _rows(Loader({Kind.IMAGE: self.clip_set(Kind.IMAGE)}, config, seed=1), START, 15)


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, "it died"), (signal.SIGSTOP, "no answer for 1 s")]
)
def test_a_decoder_process_that_dies_or_hangs_is_replaced(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "HANG_SECONDS", 1.0)
    source = Deadly(tmp_path, number, times=1)
    children = psutil.Process().children()
    with pytest.warns(UserWarning, match=said):
        found = source.rows(workers=2)
    assert found == source.rows(workers=0)  # the same batches, none twice
    assert not list(tmp_path.iterdir())  # it did happen
    assert psutil.Process().children() == children


def test_decoder_processes_that_die_again_and_again_end_the_run(tmp_path: Path) -> None:
    source = Deadly(tmp_path, signal.SIGKILL, times=20)
    with (
        pytest.warns(UserWarning),
        pytest.raises(DataError, match=r"4 times in a row .* data.loader.workers"),
    ):
        source.rows(workers=1)


def test_seeds_and_epochs_differ() -> None:
    first = _loader()
    second = Loader(_sets(10, 7), first.config, seed=2)
    assert _rows(first, Position(), 5) != _rows(second, Position(), 5)
    indices = [[batch.index.tolist() for batch in _epoch(first, epoch)] for epoch in range(3)]  # type: ignore[union-attr]
    assert indices[0] != indices[1] != indices[2]
    kinds = [[request.kind for request in first.plan(epoch)] for epoch in range(4)]
    assert len({tuple(order) for order in kinds}) > 1  # another order of images and clips
    seeds = [request.seed for epoch in range(3) for request in first.plan(epoch)]
    assert len(set(seeds)) == len(seeds)  # and other frames in every batch


def test_the_shared_random_numbers_are_not_touched() -> None:
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()
    _rows(_loader(), Position(), 12)
    assert np.random.get_state()[1].tolist() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


# ---------------------------------------------------------------- shares


def test_every_item_once_per_epoch() -> None:
    for epoch in range(3):
        batches = _epoch(_loader(9, 0), epoch)
        seen = np.concatenate([batch.index for batch in batches])
        assert sorted(seen.tolist()) == list(range(9)) and len(batches) == 3
    # what is left over when the batches are full has its turn in another epoch
    epochs = [np.concatenate([b.index for b in _epoch(_loader(10, 0), e)]) for e in range(12)]
    assert all(len(set(seen.tolist())) == len(seen) == 9 for seen in epochs)
    assert set(np.concatenate(epochs).tolist()) == set(range(10))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.75])
def test_share_of_clips(share: float) -> None:
    loader = _loader(30, 6, clip_share=share)
    kinds = [_is_clip(batch) for batch in _epoch(loader)]
    clips = sum(kinds)
    assert len(kinds) - clips == 10  # images: as many as there are
    assert clips == max(3, round(10 * share / (1 - share)))
    assert clips / len(kinds) >= share - 0.02
    # mixed, and not one kind after the other
    assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)


def test_many_clips_keep_their_natural_share() -> None:
    kinds = [_is_clip(batch) for batch in _epoch(_loader(6, 40, clip_share=0.1))]
    assert (len(kinds), sum(kinds)) == (22, 20)


def test_clips_that_are_repeated_all_have_their_turn() -> None:
    batches = [batch for batch in _epoch(_loader(30, 4, clip_share=0.5)) if _is_clip(batch)]
    counts = np.bincount(np.concatenate([batch.index for batch in batches]), minlength=4)
    assert len(batches) == 10 and counts.tolist() == [5, 5, 5, 5]


def test_batches_say_how_often_the_data_was_seen_before() -> None:
    loader = _loader()
    size = len(loader.plan(0))
    found = [batch for _, batch in islice(loader.batches(Position(2, 1)), size + 1)]
    expected = [2 + number / size for number in range(1, size)] + [3.0, 3 + 1 / size]
    assert [batch.passes for batch in found] == pytest.approx(expected)
    assert {found[0].part(0, 2).passes, found[0].with_clip(found[0].clip).passes} == {
        found[0].passes
    }


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    batches = _epoch(_loader(2, 0, batch_size=64))
    assert [batch.index.tolist() for batch in batches] == [[0, 1]]  # type: ignore[union-attr]
    assert [len(b.clip) for b in _epoch(_loader(2, 1, batch_size=64, clip_batch_size=64))] != []


def test_clip_batches_hold_about_as_many_tokens() -> None:
    sets = _sets(4, 4)
    loader = Loader(sets, LoaderConfig(batch_size=256), seed=0, clip_tokens_per_image=4)
    assert loader.batch_size == {Kind.IMAGE: 256, Kind.CLIP: 64}
    loader = Loader(sets, LoaderConfig(batch_size=16), seed=0, clip_tokens_per_image=4)
    assert loader.batch_size[Kind.CLIP] == 8


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="clip_share"):
        _loader(clip_share=share)


# ---------------------------------------------------------------- what is in a batch


def test_pixels_labels_and_numbers_belong_together() -> None:
    loader = _loader(10, 7)
    for batch in _epoch(loader):
        kind = Kind.CLIP if _is_clip(batch) else Kind.IMAGE
        chosen = loader.sets[kind]
        assert batch.clip.dtype == torch.uint8
        assert batch.clip.shape[1:] == (3, 4 if kind is Kind.CLIP else 1, 8, 8)
        assert batch.index is not None and batch.label is not None
        assert batch.clip[:, 2, 0, 0, 0].tolist() == chosen.indices[batch.index].tolist()
        assert batch.label.tolist() == chosen.labels[batch.index].tolist()


def test_frames_of_a_clip_are_a_random_even_stretch() -> None:
    """Six stored frames, four wanted: in order, from stretches of four to six frames."""
    loader = _loader(0, 8)
    seen = set()
    for epoch in range(30):
        for batch in _epoch(loader, epoch):
            for frames in (batch.clip[:, 0, :, 0, 0] // 10).tolist():  # the red channel counts
                assert frames == sorted(set(frames))
                seen.add(tuple(frames))
    assert {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 2, 3, 5)} <= seen
    assert max(last - first for first, *_, last in seen) == 5


def test_a_clip_of_few_frames_repeats_them() -> None:
    sets = _sets(0, 4)
    chosen = sets[Kind.CLIP]
    assert chosen.memory is not None
    chosen.memory = chosen.memory[:, :2]
    batch = next(iter(Loader(sets, LoaderConfig(clip_batch_size=4), seed=0).batches()))[1]
    assert batch.clip.shape[2] == 4
    assert (batch.clip[:, 0, :, 0, 0] // 10).tolist() == 4 * [[0, 0, 1, 1]]


def test_a_bad_item_is_replaced_by_a_neighbour_with_its_label() -> None:
    loader = _loader(8, 0, loaded=False, batch_size=8)
    loader.sets[Kind.IMAGE].source.broken = {3}  # type: ignore[attr-defined]
    (batch,) = _epoch(loader)
    assert batch.label is not None
    assert batch.clip[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 5, 4, 5, 6, 7]
    assert batch.label.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


def test_evaluation_takes_each_item_once_in_order() -> None:
    for kind in Kind:
        chosen = _sets(7, 7)[kind]
        batches = list(evaluation_batches(chosen, 3))
        assert [len(batch.clip) for batch in batches] == [3, 3, 1]
        assert np.concatenate([b.index for b in batches]).tolist() == list(range(7))
        assert np.concatenate([b.label for b in batches]).tolist() == chosen.labels.tolist()
        if kind is Kind.CLIP:  # four of six frames, evenly spread
            frames = (batches[0].clip[:, 0, :, 0, 0] // 10).tolist()
            assert frames == 3 * [[0, 2, 3, 5]]


def test_as_batch_turns_axes() -> None:
    frames = np.arange(2 * 2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 2, 3, 3)
    batch = as_batch(frames, np.array([1, 2]), np.array([5, 6]))
    assert batch.clip.shape == (2, 3, 2, 2, 3) and batch.clip.is_contiguous()
    assert batch.clip[1, 2, 0, 1, 2].item() == frames[1, 0, 1, 2, 2]
    assert batch.label is not None and batch.label.tolist() == [1, 2]


def _uneven(balance: float) -> dict[int, int]:
    """How often items of each class come in one epoch, where class 1 is rare."""
    items = MadeUp(images=64).clip_set(Kind.IMAGE)
    items.labels = (np.arange(64) < 4).astype(np.int64)
    items.memory = np.zeros((64, 1, 8, 8, 3), dtype=np.uint8)
    loader = Loader({Kind.IMAGE: items}, LoaderConfig(batch_size=8, balance=balance), seed=0)
    positions = np.concatenate([request.positions for request in loader.plan(0)])
    seen = np.bincount(positions, minlength=64)[items.labels == 1]
    assert seen.max() - seen.min() <= 1  # each before any comes again
    return dict(zip(*np.unique(items.labels[positions], return_counts=True), strict=True))


def test_rare_classes_come_as_often_as_asked() -> None:
    assert _uneven(0.0) == {0: 60, 1: 4}
    assert _uneven(1.0) == {0: 32, 1: 32}
    assert sum(_uneven(0.9).values()) == 64  # rounding cuts no epoch
    half = _uneven(0.5)
    assert 4 < half[1] < 32 and sum(half.values()) == 64
