from __future__ import annotations

from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from discern.clip import Clip, Kind
from discern.data import fingerprint as module
from discern.data.fingerprint import (
    HAMMING,
    PIECES,
    Fingerprint,
    alike_pairs,
    clusters,
    difference_hash,
    fingerprint,
)


def picture(seed: int, size: int = 64) -> np.ndarray:
    """A picture with shapes in it: blurred noise.  [H, W, 3]"""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))


def printed(*frames: np.ndarray) -> Fingerprint:
    kind = Kind.CLIP if len(frames) > 1 else Kind.IMAGE
    return fingerprint(Clip(frames=np.stack(frames), times=np.arange(len(frames)) / 8, kind=kind))


def saved(frame: np.ndarray, quality: int, size: int) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(frame).resize((size, size)).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


def brute(prints: list[Fingerprint]) -> set[tuple[int, int]]:
    found = set()
    for left, right in combinations(range(len(prints)), 2):
        one, two = prints[left], prints[right]
        difference = np.abs(one.thumbnail.astype(int) - two.thumbnail)
        if (
            (one.hash ^ two.hash).bit_count() <= HAMMING
            and difference.mean() <= module.MEAN_DIFFERENCE
            and difference.max() <= module.LARGEST_DIFFERENCE
        ):
            found.add((left, right))
    return found


def test_hash_of_a_ramp() -> None:
    ramp = np.repeat(np.arange(72, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    assert difference_hash(ramp) == 0
    assert difference_hash(ramp[:, ::-1].copy()) == 2**64 - 1


def test_pieces_cover_the_hash() -> None:
    assert len(PIECES) == HAMMING + 1
    assert [bit for start, width in PIECES for bit in range(start, start + width)] == [*range(64)]


def test_saved_again_and_smaller_is_alike_others_are_not() -> None:
    prints = []
    for seed in range(40):
        frame = picture(seed)
        prints += [printed(frame), printed(saved(frame, 60, 48))]
    pairs = {tuple(sorted(pair)) for pair in alike_pairs(prints)}
    assert pairs == {(2 * seed, 2 * seed + 1) for seed in range(40)}


def test_pairs_are_those_of_comparing_all_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINKS", 10_000)
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 256, (5, 1, 8, 8, 3))
    prints = []
    for number in range(300):
        bits = rng.choice(64, rng.integers(0, 7), replace=False)
        noise = rng.integers(-8, 9, (1, 8, 8, 3))
        prints.append(
            Fingerprint(
                hash=sum(1 << int(bit) for bit in bits),
                thumbnail=np.clip(thumbnails[number % 5] + noise, 0, 255).astype(np.uint8),
            )
        )
    pairs = {tuple(sorted(pair)) for pair in alike_pairs(prints)}
    assert pairs == brute(prints) and len(pairs) > 100


def test_a_hash_alone_is_not_enough() -> None:
    dark, light = picture(1) // 4, 191 + picture(1) // 4
    one, two = printed(dark), printed(light)
    assert (one.hash ^ two.hash).bit_count() <= HAMMING
    assert not list(alike_pairs([one, two]))


def test_many_equal_ones_stay_fast_and_together() -> None:
    rng = np.random.default_rng(0)
    prints = [printed(picture(0, 8))] * 4000
    for _ in range(400):
        noise = rng.integers(0, 3, (1, 8, 8, 3), dtype=np.uint8)
        prints.append(Fingerprint(hash=prints[0].hash, thumbnail=prints[0].thumbnail // 2 + noise))
    pairs = list(alike_pairs(prints))
    assert len(pairs) <= len(prints) + len(PIECES) * module.LINKS * 401
    assert sorted(map(len, clusters(len(prints), pairs))) == [400, 4000]


def test_clips_are_judged_by_three_frames() -> None:
    shared = picture(3)
    one = printed(picture(1), shared, picture(2))
    two = printed(picture(4), shared, picture(5))
    assert one.hash == two.hash
    assert not list(alike_pairs([one, two]))
    assert list(alike_pairs([one, one]))


def test_faint_pictures_must_be_more_alike() -> None:
    base = picture(1).astype(int)
    frame, faint = base * 3 // 4, base // 16
    shift = (np.indices((64, 64)).sum(0) % 16 < 8)[..., None] * 8  # less than the mean allowed
    assert list(alike_pairs([printed(np.uint8(frame)), printed(np.uint8(frame + shift))]))
    one, two = printed(np.uint8(faint)), printed(np.uint8(faint + shift))
    two = Fingerprint(hash=one.hash, thumbnail=two.thumbnail)
    assert not list(alike_pairs([one, two]))


def test_one_cell_may_not_differ_much() -> None:
    one = printed(picture(1))
    thumbnail = one.thumbnail.copy()
    thumbnail[0, 3, 3] ^= 128
    assert not list(alike_pairs([one, Fingerprint(hash=one.hash, thumbnail=thumbnail)]))


def test_flat_pictures() -> None:
    assert printed(np.full((32, 32, 3), 7, np.uint8)).is_flat
    assert not printed(picture(0)).is_flat


def test_clusters() -> None:
    assert clusters(6, [(0, 1), (4, 1), (2, 3)]) == [[0, 1, 4], [2, 3]]
    assert clusters(3, []) == []
    assert list(alike_pairs([])) == []
