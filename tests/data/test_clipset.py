"""Clip sets: what is read when, what stands in for what cannot be read, labels and keys."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discern.clip import Kind
from discern.data import clipset
from discern.data.badfiles import BadFiles
from discern.data.clipset import UNLABELLED, clip_sets, load_all
from discern.data.items import Item
from discern.data.preprocess import PreprocessConfig
from discern.errors import BadItem, DataError
from tests.tiny import MadeUp

SMALL = PreprocessConfig(height=8, width=8, frames=4, stored_frames=6)


def _numbers(frames: np.ndarray) -> list[int]:
    """Which items these are.  uint8 [B, S, h, w, 3]"""
    return frames[:, 0, 0, 0, 2].tolist()


def test_lazy_and_loaded_give_the_same() -> None:
    for kind in Kind:
        lazy, loaded = (MadeUp(5, 5).clip_set(kind) for _ in range(2))
        loaded.load(BadFiles(None))
        assert lazy.memory is None and loaded.memory is not None
        positions = np.array([3, 0, 3])
        assert np.array_equal(lazy.take(positions), loaded.take(positions))
        assert lazy.take(positions).shape == (3, loaded.stored_frames, 8, 8, 3)
        assert _numbers(loaded.take(positions)) == lazy.indices[positions].tolist()
        assert np.array_equal(lazy.read(2), loaded.read(2))
        assert loaded.bytes == loaded.memory.nbytes


def test_each_item_is_read_once_into_memory() -> None:
    source = MadeUp(5)
    items = source.clip_set(Kind.IMAGE)
    seen: list[tuple[int, int]] = []
    items.load(BadFiles(None), lambda done, total: seen.append((done, total)))
    items.take(np.arange(5))
    assert sorted(source.reads) == [0, 1, 2, 3, 4]
    assert seen == [(0, 5)]


def test_bad_items_are_listed_and_left_out(tmp_path: Path) -> None:
    source = MadeUp(6)
    source.broken = {1, 4}
    items, bad = source.clip_set(Kind.IMAGE), BadFiles(tmp_path / "bad.jsonl", allowed=0.5)
    items.load(bad)
    assert items.indices.tolist() == [0, 2, 3, 5] and items.labels.tolist() == [0, 0, 1, 1]
    assert len(items) == 4 and _numbers(items.take(np.arange(4))) == [0, 2, 3, 5]
    assert items.key(1) == "image-2"
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["image-1", "image-4"]


def test_too_many_bad_items_end_the_run() -> None:
    source = MadeUp(6)
    source.broken = {1, 4}
    with pytest.raises(DataError, match="2 of 6 items cannot be read"):
        load_all([source.clip_set(Kind.IMAGE)], BadFiles(None, allowed=0.3), 10**9)


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["threads", "none"])
def test_slow_items_are_read_by_threads_and_quick_ones_without(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipset, "QUICK", seconds)
    source = MadeUp(100)
    source.broken = {1, 64, 99}
    readers = set()
    read = source.read

    def noticed(index: int) -> Any:
        readers.add(threading.get_ident())
        return read(index)

    monkeypatch.setattr(source, "read", noticed)
    items, bad = source.clip_set(Kind.IMAGE), BadFiles(None, allowed=0.5)
    load_all([items], bad, 10**9)
    assert sorted(bad.reasons) == ["image-1", "image-64", "image-99"]
    assert sorted(source.reads) == list(range(100))  # each once
    assert _numbers(items.take(np.arange(97))) == [i for i in range(100) if i not in (1, 64, 99)]
    assert (len(readers) > 1) == (seconds == 0.0)


def test_what_does_not_fit_stays_where_it_is() -> None:
    source = MadeUp(3, 3)
    sets = [source.clip_set(kind) for kind in Kind]
    assert [one.bytes for one in sets] == [3 * 192, 3 * 6 * 192]
    load_all(sets, BadFiles(None), 7 * 3 * 192 - 1)
    assert sorted(source.reads) == [0, 1, 2, 3, 4, 5] and all(one.memory is None for one in sets)
    load_all(sets, BadFiles(None), 7 * 3 * 192)
    assert all(one.memory is not None for one in sets)


def test_bad_items_that_do_not_fit_are_listed_and_left_out_too() -> None:
    source = MadeUp(6)
    source.broken = {1, 4}
    items, bad = source.clip_set(Kind.IMAGE), BadFiles(None, allowed=0.5)
    load_all([items], bad, 0)
    assert items.memory is None and sorted(bad.reasons) == ["image-1", "image-4"]
    assert items.labels.tolist() == [0, 0, 1, 1]
    assert _numbers(items.take(np.arange(4))) == [0, 2, 3, 5]
    with pytest.raises(DataError, match="2 of 6 items cannot be read"):
        load_all([source.clip_set(Kind.IMAGE)], BadFiles(None, allowed=0.3), 0)


def test_a_neighbour_of_the_same_class_stands_in_for_a_bad_item() -> None:
    source = MadeUp(6)  # classes 0 1 0 1 0 1
    source.broken = {1, 4}
    items = source.clip_set(Kind.IMAGE)
    assert _numbers(items.take(np.arange(6))) == [0, 3, 2, 3, 0, 5]
    for position in (1, 4):
        with pytest.raises(BadItem):
            items.read(position)


def test_nothing_stands_in_for_everything() -> None:
    source = MadeUp(60)
    source.broken = set(range(0, 60, 2))  # all of class 0
    items = source.clip_set(Kind.IMAGE)
    assert _numbers(items.take(np.array([3]))) == [3]
    source.reads.clear()
    with pytest.raises(DataError, match="10 items in a row cannot be read, from image-58 on"):
        items.take(np.array([58]))
    assert source.reads == [58, 0, 2, 4, 6, 8, 10, 12, 14, 16]


def test_a_subset_is_its_own() -> None:
    items = MadeUp(6).clip_set(Kind.IMAGE)
    for _ in range(2):
        some = items.subset(np.array([4, 1]))
        assert some.indices.tolist() == [4, 1] and some.labels.tolist() == [0, 1]
        assert _numbers(some.take(np.array([0, 1]))) == [4, 1] and some.key(0) == "image-4"
        relabelled = items.subset(np.array([4, 1]), np.array([7, 8]))
        assert relabelled.labels.tolist() == [7, 8] and items.labels.tolist() == 3 * [0, 1]
        if some.memory is not None:
            some.memory[:] = 0
            assert _numbers(items.take(np.array([4]))) == [4]
        items.load(BadFiles(None))


def test_one_set_per_kind_with_labels_of_the_classes() -> None:
    source = MadeUp(4, 3, classes=2)
    sets = clip_sets(source, [5, 0, 3, 1], SMALL, classes=["class 1", "class 0"], unlabelled=[6, 2])
    assert list(sets) == [Kind.IMAGE, Kind.CLIP]
    images, clips = sets[Kind.IMAGE], sets[Kind.CLIP]
    assert images.indices.tolist() == [0, 1, 2, 3]
    assert images.labels.tolist() == [1, 0, UNLABELLED, 0]
    assert clips.indices.tolist() == [5, 6] and clips.labels.tolist() == [0, UNLABELLED]
    assert clips.stored_frames == 6 and images.stored_frames == 1
    only = clip_sets(source, [0, 1], SMALL)
    assert list(only) == [Kind.IMAGE] and only[Kind.IMAGE].labels.tolist() == 2 * [UNLABELLED]
    # a hidden label does not come back when an item is named twice
    both = clip_sets(source, [0, 1], SMALL, classes=source.classes, unlabelled=[1])
    assert both[Kind.IMAGE].labels.tolist() == [0, UNLABELLED]


def test_two_labels_of_one_item_are_refused() -> None:
    source = MadeUp(2)
    source.items = [source.items[0], Item(key="both", kind=Kind.IMAGE, labels=("cat", "dog"))]
    with pytest.raises(DataError, match="both has 2 labels"):
        clip_sets(source, [0, 1], SMALL, classes=["cat", "class 0", "dog"])
