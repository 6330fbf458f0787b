"""Decoded items to fingerprints, and fingerprints to pairs that look the same.

A fingerprint is a 64-bit difference hash, which finds candidates fast, and a thumbnail, which
judges them: small flat pictures share hashes by chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from discern.clip import Clip

HAMMING = 4  # bits in which the hashes of two copies may differ, of 64
MEAN_DIFFERENCE = 10.0  # of the thumbnails, of 255
OF_CONTRAST = 0.2  # and as a share of the standard deviation: in the dark all faces are alike
LARGEST_DIFFERENCE = 48  # in any cell of the thumbnails
FLAT = 4.0  # standard deviation below which a picture shows nothing that could be recognized
CANDIDATES = 4096  # that one item is compared with, in a crowd of the same hash and brightness
LINKS = 16  # that one item needs to be joined with a crowd of like ones

# at most HAMMING differing bits leave one of HAMMING + 1 pieces of the hash equal
PIECES = [(0, 13), (13, 13), (26, 13), (39, 13), (52, 12)]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is kept of a decoded item."""

    hash: int  # 64 bits, of the middle frame
    thumbnail: np.ndarray  # uint8 [M, 8, 8, 3]: of first, middle and last frame; an image has one

    @property
    def is_flat(self) -> bool:
        """Whether there is next to nothing in the picture, as in a black frame."""
        return float(self.thumbnail.std(axis=(1, 2)).max()) < FLAT


def fingerprint(clip: Clip) -> Fingerprint:
    """The fingerprint of an image or clip."""
    count = len(clip.frames)
    shown = [0, count // 2, count - 1] if count > 1 else [0]
    return Fingerprint(
        hash=difference_hash(clip.frames[count // 2]),
        thumbnail=np.stack([_resize(clip.frames[place], 8, 8) for place in shown]),
    )


def difference_hash(frame: np.ndarray) -> int:
    """Whether each of 8 x 8 cells is brighter than its right neighbour.  [H, W, 3] -> 64 bits"""
    grey = _resize(frame, 9, 8).astype(np.int32) @ np.array([299, 587, 114])  # [8, 9]
    bits = grey[:, :-1] > grey[:, 1:]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def alike_pairs(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Pairs of positions that look the same, enough of them to join all that belong together."""
    kept: dict[tuple[int, bytes], int] = {}
    for place, each in enumerate(prints):
        first = kept.setdefault((each.hash, each.thumbnail.tobytes()), place)
        if first != place:
            yield first, place
    places = list(kept.values())
    for left, right in _alike_among([prints[place] for place in places]):
        yield places[left], places[right]


def clusters(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Positions joined by pairs, directly or through others; only groups of two or more."""
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    for left, right in pairs:
        parent[max(root(left), root(right))] = min(root(left), root(right))
    members: dict[int, list[int]] = defaultdict(list)
    for place in range(count):
        members[root(place)].append(place)
    return [group for group in members.values() if len(group) > 1]


def _alike_among(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    if not prints:
        return
    hashes = np.array([each.hash for each in prints], dtype=np.uint64)
    thumbnails = np.stack([each.thumbnail for each in prints]).reshape(len(prints), -1)
    brightness = thumbnails.mean(axis=1)
    by_brightness = np.argsort(brightness, kind="stable")
    for shift, width in PIECES:
        pieces = (hashes[by_brightness] >> np.uint64(shift)) & np.uint64(2**width - 1)
        order = by_brightness[np.argsort(pieces, kind="stable")]
        sorted_pieces = np.sort(pieces)
        edges = np.flatnonzero(np.diff(sorted_pieces)) + 1
        for bucket in np.split(order, edges):
            yield from _alike_in(bucket, hashes, thumbnails, brightness)


def _alike_in(
    bucket: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray, brightness: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Pairs within a bucket that is sorted by brightness: alike items are neighbours in it."""
    reach = np.searchsorted(brightness[bucket], brightness[bucket] + MEAN_DIFFERENCE, side="right")
    for place in range(len(bucket) - 1):
        others = bucket[place + 1 : min(reach[place], place + 1 + CANDIDATES)]
        if not len(others):
            continue
        one = bucket[place]
        others = others[_bits_set(hashes[others] ^ hashes[one]) <= HAMMING]
        if not len(others):
            continue
        difference = np.abs(thumbnails[others].astype(np.int16) - thumbnails[one])
        allowed = min(MEAN_DIFFERENCE, OF_CONTRAST * thumbnails[one].std())
        same = (difference.mean(axis=1) <= allowed) & (difference.max(axis=1) <= LARGEST_DIFFERENCE)
        for other in others[same][:LINKS]:
            yield int(one), int(other)


def _bits_set(words: np.ndarray) -> np.ndarray:
    """How many bits are set in each.  uint64 [N] -> [N]"""
    return np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)


def _resize(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))
