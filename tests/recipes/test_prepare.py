"""Shape and parts of a run, settled from its source."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.data.items import Source
from discern.data.sources import open_source
from discern.recipes.images import masked_gan, sized, supervised
from discern.recipes.prepare import divide, shaped_for
from discern.train.settings import DataConfig


def folder(root: Path, sizes: list[tuple[int, int]], per_class: int = 20) -> Source:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            height, width = sizes[number % len(sizes)]
            pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:03d}.png")
    return open_source(str(root))


@pytest.mark.parametrize(
    ("sizes", "canvas", "patch"),
    [
        ([(32, 32)], (32, 32), 8),
        ([(120, 160)], (48, 64), 16),  # aspect kept, the longer side at most 64
        ([(64, 160), (160, 64)], (64, 64), 16),  # all shapes: square
        ([(28, 28)], (32, 32), 8),  # what poolings halve
        ([(40, 40)], (32, 32), 8),
        ([(41, 41)], (64, 64), 16),
        ([(8, 8)], (8, 8), 2),
        ([(4, 4)], (8, 8), 2),
    ],
)
def test_canvas_and_patch_fit_the_source(
    tmp_path: Path, sizes: list[tuple[int, int]], canvas: tuple[int, int], patch: int
) -> None:
    config = shaped_for(masked_gan(), folder(tmp_path, sizes))
    preprocess = config.data.preprocess
    assert (preprocess.height, preprocess.width) == canvas
    assert config.backbone.patch == patch


@pytest.mark.parametrize(
    ("size", "sizes", "canvas", "patch"),
    [
        ("pico", [(32, 32)], (32, 32), 8),
        ("pico", [(120, 160)], (48, 64), 16),
        ("pico", [(64, 160), (160, 64)], (64, 64), 16),
        ("pico", [(28, 28)], (28, 28), 7),
        ("nano", [(32, 32)], (32, 32), 4),
        ("nano", [(120, 160)], (48, 64), 8),
        ("nano", [(28, 28)], (32, 32), 4),
        ("nano", [(8, 8)], (16, 16), 2),
    ],
)
def test_other_sizes_have_patches_of_any_number(
    tmp_path: Path, size: str, sizes: list[tuple[int, int]], canvas: tuple[int, int], patch: int
) -> None:
    config = shaped_for(sized(masked_gan(), size), folder(tmp_path, sizes))
    preprocess = config.data.preprocess
    assert (preprocess.height, preprocess.width) == canvas
    assert config.backbone.patch == patch


def test_few_labels_pay_for_their_own_validation(tmp_path: Path) -> None:
    source = folder(tmp_path / "data", [(16, 16)], per_class=40)
    parts = divide(source, DataConfig(), tmp_path, labels=10, seed=3)
    assert len(parts.labelled) + len(parts.val) == 20  # two classes of ten, nothing beyond
    assert len(parts.val) == 2
    everything = [*parts.labelled, *parts.val, *parts.rest, *parts.splits.test]
    assert sorted(everything) == list(range(80))  # each item in exactly one part


def test_all_runs_on_a_source_share_one_test_split(tmp_path: Path) -> None:
    source = folder(tmp_path / "data", [(16, 16)], per_class=40)
    tests = []
    for seed, labels in ((0, None), (1, None), (2, 5)):
        out = tmp_path / f"{seed}-{labels}"
        out.mkdir()
        tests.append(divide(source, DataConfig(), out, labels=labels, seed=seed).splits.test)
    assert tests[0] == tests[1] == tests[2]


def test_parts_are_read_again_on_resume(tmp_path: Path) -> None:
    source = folder(tmp_path / "data", [(16, 16)])
    first = divide(source, DataConfig(), tmp_path, labels=5, seed=0)
    again = divide(source, DataConfig(), tmp_path, labels=5, seed=99)
    assert again.splits == first.splits


def test_recipes_do_not_share_their_parts() -> None:
    assert masked_gan().objective == "masked_gan"
    assert supervised().objective == "supervised"
