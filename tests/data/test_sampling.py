"""Sampling: frames by time, not by number; few frames; sizes."""

from __future__ import annotations

import numpy as np
import pytest

from discern.data.sampling import Detail, displayed, repeat_last


def test_even_times_give_the_middle_of_each_part() -> None:
    assert displayed(np.arange(8) / 10, 0.8, 4).tolist() == [1, 3, 5, 7]
    assert displayed(np.arange(9) / 9, 1.0, 3).tolist() == [1, 4, 7]


def test_a_frame_that_stays_on_screen_is_chosen_several_times() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.3, 0.4])  # the last is shown until 4.0
    assert displayed(times, 4.0, 4).tolist() == [4, 4, 4, 4]
    assert displayed(np.array([0.0, 3.0, 3.1, 3.2, 3.3]), 4.0, 4).tolist() == [0, 0, 0, 4]


def test_few_frames_are_all_chosen() -> None:
    assert displayed(np.array([0.0, 1.0, 5.0]), 6.0, 3).tolist() == [0, 1, 2]
    assert displayed(np.array([0.0, 1.0]), 6.0, 9).tolist() == [0, 1]


def test_an_offset_does_not_matter() -> None:
    times = np.arange(20) / 7
    assert (displayed(times, 20 / 7, 6) == displayed(times + 100, 100 + 20 / 7, 6)).all()


def test_milliseconds_choose_like_exact_times() -> None:
    exact = np.arange(60) / 30
    rounded = np.round(exact, 3)
    for count in (4, 8, 15, 16, 20):
        assert (displayed(exact, 2.0, count) == displayed(rounded, 2.0, count)).all()


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((160, 120), 32, (32, 24)),
        ((120, 160), 32, (24, 32)),
        ((160, 120), 160, (160, 120)),
        ((160, 120), 500, (160, 120)),
        ((30000, 1), 32, (32, 1)),
    ],
)
def test_the_longer_side_is_shrunk_and_never_enlarged(size, side, expected) -> None:
    assert Detail(side).size(*size) == expected


def test_or_the_shorter_side_is() -> None:
    assert Detail(30, shorter=True).size(60, 120) == (30, 60)
    assert Detail(70, shorter=True).size(60, 120) == (60, 120)


def test_repeat_last() -> None:
    frames, times = repeat_last(np.arange(3)[:, None], np.array([0.0, 0.5, 1.0]), 5)
    assert frames.ravel().tolist() == [0, 1, 2, 2, 2]
    assert times.tolist() == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert len(repeat_last(frames, times, 2)[0]) == 5
