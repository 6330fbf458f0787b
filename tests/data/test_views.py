"""Views of an item: the plain one first, then mirrored, nearer and later ones of the same size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.data.preprocess import even_frames
from discern.data.views import MOST, NEAR, View, all_views


def test_the_first_view_is_the_plain_one() -> None:
    clip = torch.randn(2, 3, 2, 8, 8)
    (first,) = all_views(1)
    assert first == View() and torch.equal(first.of(clip), clip)
    assert torch.equal(all_views(2)[1].of(clip), clip.flip(-1))


def test_all_views_differ_and_keep_the_size() -> None:
    clip = torch.randn(2, 3, 2, 16, 12)
    found = all_views(MOST)
    assert len(set(found)) == MOST
    seen = [view.of(clip) for view in found]
    assert all(one.shape == clip.shape for one in seen)
    assert all(not torch.equal(one, other) for n, one in enumerate(seen) for other in seen[:n])
    moments = sorted(view.moment for view in found)
    assert moments[0] >= -0.5 and moments[-1] < 0.5 and np.diff(moments).max() < 0.2


def test_a_nearer_view_is_a_part_of_each_frame() -> None:
    column = torch.linspace(0, 1, 64).view(1, 1, 1, 1, 64).expand(1, 1, 3, 64, 64)
    left = View(place=(0.0, 0.0)).of(column)
    right = View(place=(0.0, 1.0), mirrored=True).of(column)
    assert left.min() == pytest.approx(0.0, abs=0.01) and left.max() == pytest.approx(
        NEAR, abs=0.02
    )
    assert torch.allclose(right, left.flip(-1), atol=1e-5)


def test_other_moments_are_other_frames() -> None:
    plain, early, late = (even_frames(16, 8, moment).tolist() for moment in (0.0, -0.5, 0.49))
    assert plain == [1, 3, 5, 7, 9, 11, 13, 15]
    assert early == [0, 2, 4, 6, 8, 10, 12, 14] and late == [1, 3, 5, 7, 9, 11, 13, 15]
    assert even_frames(4, 8, -0.5).min() == 0 and even_frames(4, 8, 0.49).max() == 3
