"""The embedded digits, still and moving."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from discern.clip import Kind
from discern.data.decode import decode
from discern.data.limits import Limits
from discern.data.sources import open_source
from discern.data.synthetic import DIRECTIONS, DigitsConfig, moving, write_digits

FEW = DigitsConfig(train_clips=16, test_clips=8, images=60, frames=8)


def test_both_kinds_in_both_parts(tmp_path: Path) -> None:
    source = open_source(str(write_digits(tmp_path, seed=1, config=FEW)))
    counts = {
        (item.kind, item.split): sum(
            other.kind is item.kind and other.split == item.split for other in source.items
        )
        for item in source.items
    }
    assert counts == {
        (Kind.IMAGE, "train"): 45,
        (Kind.IMAGE, "test"): 15,
        (Kind.CLIP, "train"): 16,
        (Kind.CLIP, "test"): 8,
    }
    assert {"odd-left", "even-up"} <= {label for item in source.items for label in item.labels}


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    first, second = (
        open_source(str(write_digits(tmp_path / name, seed=4, config=FEW))) for name in "ab"
    )
    assert [item.key for item in first.items] == [item.key for item in second.items]
    assert all(first.read(i) == second.read(i) for i in range(0, len(first.items), 7))


def test_digits_move_where_the_class_says() -> None:
    digit = load_digits().images[0]
    for name, (down, right) in DIRECTIONS.items():
        clip = moving(digit, name, 8, np.random.default_rng(0)).astype(float)[..., 0]
        bright = np.where(clip > 110, clip, 0.0)
        rows = (bright.sum(2) * np.arange(32)).sum(1) / bright.sum((1, 2))
        columns = (bright.sum(1) * np.arange(32)).sum(1) / bright.sum((1, 2))
        assert np.sign(round(rows[-1] - rows[0])) == down, name
        assert np.sign(round(columns[-1] - columns[0])) == right, name


def test_clips_survive_their_codec(tmp_path: Path) -> None:
    source = open_source(str(write_digits(tmp_path, seed=1, config=FEW)))
    index = next(i for i, item in enumerate(source.items) if item.kind is Kind.CLIP)
    clip = decode(source.read(index), Limits(), frames=8)
    assert clip.frames.shape == (8, 32, 32, 3) and clip.frames.max() > 150
