from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from discern.clip import Kind
from discern.data.items import Item
from discern.data.splits import (
    Splits,
    make_splits,
    pick_labels,
    read_splits,
    short_classes,
    write_splits,
)
from discern.errors import DataError, UsageError


def many(**counts: int) -> list[Item]:
    return [
        Item(key=f"{label}/{number:04}.png", kind=Kind.IMAGE, labels=(label,))
        for label, count in counts.items()
        for number in range(count)
    ]


def keys(items: Sequence[Item], indices: Sequence[int]) -> list[str]:
    return [items[index].key for index in indices]


def labels(items: Sequence[Item], indices: Sequence[int]) -> Counter[str]:
    return Counter(label for index in indices for label in items[index].labels)


def test_shares_are_exact_per_class() -> None:
    items = many(cat=100, dog=50, emu=3)
    splits = make_splits(items, seed=1)
    assert labels(items, splits.test) == {"cat": 20, "dog": 10, "emu": 1}
    assert labels(items, splits.val) == {"cat": 10, "dog": 5, "emu": 1}
    assert labels(items, splits.train) == {"cat": 70, "dog": 35, "emu": 1}
    assert sorted(splits.train + splits.val + splits.test) == list(range(len(items)))


def test_same_parts_in_any_order_other_parts_for_another_seed() -> None:
    items = many(cat=60, dog=30)
    shuffled = random.Random(0).sample(items, len(items))
    one, two = make_splits(items, seed=3), make_splits(shuffled, seed=3)
    for name in ("train", "val", "test"):
        assert keys(items, getattr(one, name)) == keys(shuffled, getattr(two, name))
    assert keys(items, make_splits(items, seed=4).test) != keys(items, one.test)


def test_images_and_clips_are_stratified_apart() -> None:
    items = [
        Item(key=f"{kind}{number}", kind=kind, labels=("x",))
        for kind, count in ((Kind.IMAGE, 90), (Kind.CLIP, 10))
        for number in range(count)
    ]
    splits = make_splits(items, seed=0)
    assert Counter(items[index].kind for index in splits.test) == {"image": 18, "clip": 2}


def test_what_the_source_says_is_kept() -> None:
    items = [
        Item(key=f"{split}{number}", kind=Kind.IMAGE, labels=(f"c{number % 2}",), split=split)
        for split, count in (("train", 40), ("test", 10))
        for number in range(count)
    ]
    splits = make_splits(items, seed=0)
    assert {items[index].split for index in splits.test} == {"test"} and len(splits.test) == 10
    assert {items[index].split for index in splits.val} == {"train"} and len(splits.val) == 4
    only_test = [item for item in items if item.split == "test"]
    assert make_splits(only_test, seed=0) == Splits([], [], list(range(10)), [])


def test_val_without_test_cuts_test_from_train() -> None:
    items = [
        Item(key=f"{split}{number}", kind=Kind.IMAGE, labels=("c",), split=split)
        for split, count in (("train", 40), ("val", 10))
        for number in range(count)
    ]
    splits = make_splits(items, seed=0)
    assert len(splits.val) == 10 and len(splits.test) == 8 and len(splits.train) == 32


def test_unlabelled_items_of_a_test_part_are_left_out() -> None:
    items = [
        Item(key="a", kind=Kind.IMAGE),
        Item(key="b", kind=Kind.IMAGE, split="train"),
        Item(key="c", kind=Kind.IMAGE, split="test"),
    ]
    assert make_splits(items, seed=0) == Splits([], [], [], [0, 1])


def grouped(count: int, size: int) -> list[Item]:
    return [
        Item(
            key=f"film{group}_{number}",
            kind=Kind.CLIP,
            labels=(f"c{group % 3}",),
            group=f"film{group}",
        )
        for group in range(count)
        for number in range(size)
    ]


def test_groups_stay_whole_and_shares_nearly_right() -> None:
    items = grouped(60, 5)
    for seed in range(5):
        splits = make_splits(items, seed=seed)
        sides = [
            {items[index].group for index in part}
            for part in (splits.train, splits.val, splits.test)
        ]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        assert labels(items, splits.test) == {"c0": 20, "c1": 20, "c2": 20}
        assert labels(items, splits.val) == {"c0": 10, "c1": 10, "c2": 10}


def test_group_by_a_pattern_on_the_key() -> None:
    items = grouped(30, 4)
    bare = [Item(key=item.key, kind=item.kind, labels=item.labels) for item in items]
    splits = make_splits(bare, seed=0, group_by=r"^(film\d+)_")
    test = {items[index].group for index in splits.test}
    assert test and not test & {items[index].group for index in splits.train + splits.val}
    whole = make_splits(bare, seed=0, group_by=r"^film\d+_")
    assert len(whole.test) == len(splits.test)
    with pytest.raises(UsageError, match="matches no key"):
        make_splits(bare, seed=0, group_by="nothing")
    with pytest.raises(UsageError, match="not a regular expression"):
        make_splits(bare, seed=0, group_by="(")


def test_a_class_in_one_group_stays_in_training() -> None:
    items = grouped(9, 3) + [
        Item(key=f"rare{n}", kind=Kind.CLIP, labels=("rare",), group="r") for n in range(5)
    ]
    splits = make_splits(items, seed=0)
    assert labels(items, splits.train)["rare"] == 5


def test_the_last_of_a_class_stays_in_training() -> None:
    items = many(a=2, b=40)
    splits = make_splits(items, seed=0, val=0.45, test=0.45)
    assert labels(items, splits.train)["a"] == labels(items, splits.test)["a"] == 1


def test_several_labels() -> None:
    items = [
        Item(key=f"{n}", kind=Kind.IMAGE, labels=("a", "b") if n % 2 else ("a",))
        for n in range(100)
    ]
    found = labels(items, make_splits(items, seed=0).test)
    assert found["a"] == 20 and 8 <= found["b"] <= 12


def test_notes_on_thin_classes_and_torn_groups() -> None:
    items = [
        *many(cat=20, lone=1),
        Item(key="x", kind=Kind.IMAGE, labels=("only",), split="test", group="g"),
        Item(key="y", kind=Kind.IMAGE, labels=("only",), split="test"),
        Item(key="z", kind=Kind.IMAGE, labels=("cat",), split="train", group="g"),
    ]
    notes = make_splits(items, seed=0).notes
    assert any("class lone has a single item" in note for note in notes)
    assert any("class only has no training items" in note for note in notes)
    assert any("1 groups lie in several parts" in note for note in notes)


def test_wrong_shares() -> None:
    for val, test in ((0.5, 0.5), (-0.1, 0.2)):
        with pytest.raises(UsageError, match="together less than 1"):
            make_splits(many(a=3), seed=0, val=val, test=test)
    splits = make_splits(many(a=10), seed=0, val=0, test=0)
    assert len(splits.train) == 10 and not splits.notes


def test_picked_labels_are_nested_and_balanced() -> None:
    items = many(cat=200, dog=150, emu=5)
    indices = list(range(len(items)))
    few, rest = pick_labels(items, indices, 10, seed=0)
    more, _ = pick_labels(items, reversed(indices), 100, seed=0)
    assert set(few) < set(more)
    assert labels(items, few) == {"cat": 10, "dog": 10, "emu": 5}
    assert sorted(few + rest) == indices
    assert few != pick_labels(items, indices, 10, seed=1)[0]
    assert short_classes(items, indices, 10) == [
        "class emu has 5 labelled items, not 10: all are taken"
    ]
    with pytest.raises(UsageError):
        pick_labels(items, indices, 0, seed=0)


def test_stored_splits_come_back_in_another_order(tmp_path: Path) -> None:
    items = many(cat=20, dog=20) + [Item(key="u", kind=Kind.IMAGE)]
    splits = make_splits(items, seed=0)
    path = tmp_path / "splits.json"
    write_splits(splits, items, path)
    assert read_splits(path, items) == splits
    turned = items[::-1]
    back = read_splits(path, turned)
    assert keys(turned, back.val) == keys(items, splits.val)


def test_a_changed_data_set_is_named(tmp_path: Path) -> None:
    items = many(cat=20, dog=20)
    path = tmp_path / "splits.json"
    write_splits(make_splits(items, seed=0), items, path)
    with pytest.raises(DataError, match="1 items are gone, for example dog/0019.png"):
        read_splits(path, items[:-1])
    with pytest.raises(DataError, match="1 items are new, for example new"):
        read_splits(path, [*items, Item(key="new", kind=Kind.IMAGE)])
    with pytest.raises(DataError, match="1 items are labelled otherwise, for example cat/0000"):
        read_splits(path, [Item(key=items[0].key, kind=Kind.IMAGE, labels=("x",)), *items[1:]])
    unlabelled_test = Item(key="new", kind=Kind.IMAGE, split="test")
    read_splits(path, [*items, unlabelled_test])


def test_damaged_files_of_splits(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    with pytest.raises(UsageError, match="cannot be read"):
        read_splits(path, [])
    for text in ("", "[]", "{}", '{"format": 1, "train": 3}'):
        path.write_text(text)
        with pytest.raises(DataError, match="not a file of splits"):
            read_splits(path, [])
    parts = {name: {} for name in ("train", "val", "test", "unlabelled")}
    path.write_text(json.dumps({"format": 99, **parts}))
    with pytest.raises(DataError, match="format 99"):
        read_splits(path, [])


def test_equal_keys_are_refused(tmp_path: Path) -> None:
    items = [Item(key="a", kind=Kind.IMAGE)] * 2
    with pytest.raises(DataError, match="same key"):
        write_splits(make_splits(items, seed=0), items, tmp_path / "splits.json")
