"""Preprocessing: how frames fit the canvas, and which frames of a clip are kept."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from discern.clip import Clip, Kind
from discern.data.decode import decode
from discern.data.limits import Limits
from discern.data.preprocess import GREY, PreprocessConfig, even_frames, fit_frame, prepare
from tests.data.broken import picture, scene


def _frame(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    planes = [x * 255 / max(1, width - 1), y * 255 / max(1, height - 1), np.full_like(x, 50)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def _fit(frame: np.ndarray, height: int, width: int, fit: Any) -> np.ndarray:
    return fit_frame(frame, PreprocessConfig(height=height, width=width, fit=fit))


def _clip(frames: int, side: int = 8) -> Clip:
    values = np.arange(frames, dtype=np.uint8)[:, None, None, None]
    still = np.broadcast_to(values, (frames, side, side, 3)).copy()
    kind = Kind.IMAGE if frames == 1 else Kind.CLIP
    return Clip(frames=still, times=np.arange(frames) / 8, kind=kind)


@pytest.mark.parametrize("fit", ["letterbox", "crop", "stretch"])
@pytest.mark.parametrize("size", [(8, 8), (5, 40), (40, 5), (1, 1), (33, 17), (1000, 3)])
def test_every_frame_becomes_the_canvas(size: tuple[int, int], fit: str) -> None:
    found = _fit(_frame(*size), 16, 24, fit)
    assert found.shape == (16, 24, 3) and found.dtype == np.uint8


def test_a_frame_of_the_right_size_is_not_touched() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    for fit in ("letterbox", "crop", "stretch"):
        assert np.array_equal(_fit(frame, 16, 24, fit), frame)


def test_letterbox_keeps_everything_between_grey_bars() -> None:
    found = _fit(_frame(20, 40), 16, 16, "letterbox")
    bars, picture = found[[0, 1, 2, 3, 12, 13, 14, 15]], found[4:12]
    assert (bars == GREY).all() and (picture[..., 2] == 50).all()
    assert picture[0, 0, 0] < 20 and picture[0, -1, 0] > 235  # left to right
    assert picture[0, 0, 1] < 25 and picture[-1, 0, 1] > 230  # top to bottom
    found = _fit(_frame(40, 20), 16, 16, "letterbox")
    assert (found[:, :4] == GREY).all() and (found[:, 12:] == GREY).all()
    assert (found[:, 4:12, 2] == 50).all()


def test_crop_cuts_the_longer_side_alike_on_both_ends() -> None:
    found = _fit(_frame(20, 40), 16, 16, "crop").astype(int)
    assert (found[..., 2] == 50).all()
    assert abs(found[0, 0, 0] - 64) < 6 and abs(found[0, -1, 0] - 191) < 6
    assert found[0, 0, 1] < 15 and found[-1, 0, 1] > 240


def test_stretch_shows_all_of_both_sides() -> None:
    found = _fit(_frame(20, 40), 16, 16, "stretch")
    assert (found[..., 2] == 50).all()
    assert found[0, 0, 0] < 15 and found[0, -1, 0] > 240 and found[-1, 0, 1] > 240


def test_small_details_are_averaged_and_not_picked() -> None:
    """A fine chequerboard becomes grey: shrinking is antialiased."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    found = _fit(np.repeat(board[..., None], 3, axis=2), 16, 16, "letterbox")
    assert np.abs(found.astype(int) - 127).max() < 12


@pytest.mark.parametrize(
    ("available", "wanted", "expected"),
    [
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (16, 4, [2, 6, 10, 14]),
        (5, 2, [1, 3]),
        (2, 6, [0, 0, 0, 1, 1, 1]),
        (1, 3, [0, 0, 0]),
        (7, 1, [3]),
    ],
)
def test_even_frames(available: int, wanted: int, expected: list[int]) -> None:
    assert even_frames(available, wanted).tolist() == expected


@pytest.mark.parametrize("available", [1, 2, 3, 7, 30, 1001])
@pytest.mark.parametrize("wanted", [1, 2, 8, 16])
def test_even_frames_are_in_order_and_even(available: int, wanted: int) -> None:
    found = even_frames(available, wanted)
    assert found.min() >= 0 and found.max() < available
    steps = np.diff(found)
    assert (steps >= 0).all()
    assert len(steps) == 0 or steps.max() - steps.min() <= 1
    middle = (found + 0.5).mean()  # as much from the first half as from the second
    assert middle == pytest.approx(available / 2, abs=0.5)


def test_prepare() -> None:
    config = PreprocessConfig(height=4, width=6, frames=2, stored_frames=4, fit="stretch")
    image = prepare(_clip(1), config)
    assert image.shape == (1, 4, 6, 3)
    clip = prepare(_clip(16), config)
    assert clip.shape == (4, 4, 6, 3)
    assert clip[:, 0, 0, 0].tolist() == [2, 6, 10, 14]
    short = prepare(_clip(2), config)
    assert short[:, 0, 0, 0].tolist() == [0, 0, 1, 1]


def test_the_kind_that_a_name_promised_counts() -> None:
    config = PreprocessConfig(height=4, width=4, stored_frames=4, fit="stretch")
    assert prepare(_clip(16), config, Kind.IMAGE).shape == (1, 4, 4, 3)
    assert prepare(_clip(1), config, Kind.CLIP).shape == (4, 4, 4, 3)


def test_a_decoder_keeps_what_the_canvas_needs() -> None:
    assert PreprocessConfig(height=4, width=6).detail.size(60, 30) == (6, 3)
    assert PreprocessConfig(height=4, width=6, fit="stretch").detail.size(60, 30) == (12, 6)
    assert PreprocessConfig(height=4, width=6, fit="crop").detail.size(30, 60) == (6, 12)
    assert PreprocessConfig(height=4, width=6).detail.size(5, 3) == (5, 3)  # never enlarged


@pytest.mark.parametrize("fit", ["letterbox", "crop", "stretch"])
@pytest.mark.parametrize("size", [(1600, 400), (400, 1600), (800, 600)])
def test_a_picture_that_was_decoded_smaller_is_the_same_picture(
    fit: Literal["letterbox", "crop", "stretch"], size: tuple[int, int]
) -> None:
    config = PreprocessConfig(height=96, width=96, fit=fit)
    data = picture("JPEG", scene(*size), quality=95)
    whole = prepare(decode(data, Limits()), config).astype(int)
    small = decode(data, Limits(), detail=config.detail)
    assert small.frames.shape[1] < size[1]
    assert np.abs(prepare(small, config) - whole).mean() < 2
