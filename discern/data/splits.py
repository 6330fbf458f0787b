"""Items to training, validation, test and unlabelled parts: seeded, stratified, grouped, stored."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

from discern.clip import Kind
from discern.data.items import SPLITS, Item
from discern.errors import DataError, UsageError
from discern.files import write_json

FORMAT = 1

Stratum: TypeAlias = tuple[str, Kind]


@dataclass(frozen=True)
class Splits:
    """Positions in the items, each list in the order of the keys."""

    train: list[int]
    val: list[int]
    test: list[int]
    unlabelled: list[int]
    notes: tuple[str, ...] = field(
        default=(), compare=False
    )  # what a user should know, a sentence each


def make_splits(
    items: Sequence[Item],
    seed: int,
    val: float = 0.1,
    test: float = 0.2,
    group_by: str | None = None,
) -> Splits:
    """The same parts for the same keys and seed, in whatever order the items come.

    What the source says is kept.  A missing test or validation part is cut from the training items,
    class by class and never through a group.  `group_by` is a pattern on the key, for sources
    without groups, such as `film_(\\d+)`.  Unlabelled items of a validation or test part lie in no
    part: nothing may learn from them.
    """
    if min(val, test) < 0 or val + test >= 1:
        raise UsageError(
            f"val={val} and test={test}: shares of the training items, together less than 1"
        )
    groups = _groups(items, group_by)
    order = sorted(range(len(items)), key=lambda index: items[index].key)
    parts: dict[str, list[int]] = {name: [] for name in SPLITS}
    unlabelled = []
    for index in order:
        split = items[index].split or "train"
        if items[index].labels:
            parts[split].append(index)
        elif split == "train":
            unlabelled.append(index)
    notes = _notes(items, parts, groups)
    # shares of the whole, so that the order of the two cuts does not matter
    total = _strata(items, parts["train"])
    for name, share in (("test", test), ("val", val)):
        if share and not parts[name] and parts["train"]:
            parts["train"], parts[name] = _cut(
                items, parts["train"], groups, total, share, f"{seed} {name}"
            )
            if not parts[name]:
                notes.append(
                    f"too few items or groups to cut a {name} part from the training items"
                )
    return Splits(**parts, unlabelled=unlabelled, notes=tuple(notes))


def pick_labels(
    items: Sequence[Item], indices: Iterable[int], per_class: int, seed: int
) -> tuple[list[int], list[int]]:
    """(kept labelled, the rest): `per_class` of each class or all it has; 10 lie within 100."""
    if per_class < 1:
        raise UsageError(f"{per_class} labels per class: at least 1 is needed")
    indices = sorted(indices, key=lambda index: items[index].key)
    by_class: dict[str, list[int]] = defaultdict(list)
    for index in indices:
        for label in items[index].labels:
            by_class[label].append(index)
    kept: set[int] = set()
    for members in by_class.values():
        members.sort(key=lambda index: _draw(f"{seed} labels", items[index].key))
        kept.update(members[:per_class])
    return [index for index in indices if index in kept], [
        index for index in indices if index not in kept
    ]


def short_classes(items: Sequence[Item], indices: Iterable[int], per_class: int) -> list[str]:
    """A sentence for each class that has fewer than `per_class` items."""
    counts = Counter(label for index in indices for label in items[index].labels)
    return [
        f"class {label} has {count} labelled items, not {per_class}: all are taken"
        for label, count in sorted(counts.items())
        if count < per_class
    ]


def write_splits(splits: Splits, items: Sequence[Item], path: Path | str) -> None:
    """Write the parts as JSON, by key, with the labels they had."""
    parts = {
        name: {items[index].key: list(items[index].labels) for index in indices}
        for name, indices in _parts(splits).items()
    }
    if sum(map(len, parts.values())) != sum(map(len, _parts(splits).values())):
        raise DataError("two items have the same key: give the files different names")
    write_json(path, {"format": FORMAT, **parts, "notes": splits.notes})


def read_splits(path: Path | str, items: Sequence[Item]) -> Splits:
    """The parts that `write_splits` wrote.  Raises DataError when the data set has changed."""
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        parts = {name: dict(stored[name]) for name in (*SPLITS, "unlabelled")}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: not a file of splits: delete it, and a new one is made") from None
    if stored.get("format") != FORMAT:
        raise DataError(
            f"{path}: format {stored.get('format')!r} is not known: use a newer Discern"
        )
    index_of = {item.key: index for index, item in enumerate(items)}
    _refuse_changed(path, parts, items, index_of)
    return Splits(
        **{name: [index_of[key] for key in keys] for name, keys in parts.items()},
        notes=tuple(stored.get("notes", ())),
    )


def _parts(splits: Splits) -> dict[str, list[int]]:
    return {name: getattr(splits, name) for name in (*SPLITS, "unlabelled")}


def _refuse_changed(
    path: Path | str,
    parts: Mapping[str, Mapping[str, list[str]]],
    items: Sequence[Item],
    index_of: Mapping[str, int],
) -> None:
    stored = {key: tuple(labels) for part in parts.values() for key, labels in part.items()}
    gone = [key for key in stored if key not in index_of]
    relabelled = [
        key for key in stored if key in index_of and items[index_of[key]].labels != stored[key]
    ]
    new = [
        item.key
        for item in items
        if item.key not in stored and (item.labels or item.split in (None, "train"))
    ]
    for what, keys in (("gone", gone), ("new", new), ("labelled otherwise", relabelled)):
        if keys:
            raise DataError(
                f"{path}: the data set has changed: {len(keys)} items are {what}, for example"
                f" {min(keys)}: put it back, or start in a new folder"
            )


def _draw(seed: str, key: str) -> bytes:
    """A place in the lottery that depends on the seed and the key alone."""
    return blake2b(f"{seed}\0{key}".encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _groups(items: Sequence[Item], group_by: str | None) -> list[str]:
    """The group of each item; an item of its own group has its key."""
    if group_by is None:
        return [
            f"key {item.key}" if item.group is None else f"group {item.group}" for item in items
        ]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise UsageError(f"group_by {group_by!r}: not a regular expression: {error}") from None
    found = [pattern.search(item.key) for item in items]
    if not any(found):
        raise UsageError(f"group_by {group_by!r}: matches no key, for example not {items[0].key}")
    return [
        f"group {match[pattern.groups and 1]}" if match else f"key {item.key}"
        for match, item in zip(found, items, strict=True)
    ]


def _notes(
    items: Sequence[Item], parts: Mapping[str, list[int]], groups: Sequence[str]
) -> list[str]:
    counts = {
        name: Counter(label for index in indices for label in items[index].labels)
        for name, indices in parts.items()
    }
    everywhere = sum(counts.values(), Counter[str]())
    notes = [
        f"class {label} has a single item: it can be learned or tested, not both"
        for label, count in sorted(everywhere.items())
        if count == 1
    ]
    notes += [
        f"class {label} has no training items"
        for label, count in sorted(everywhere.items())
        if count > 1 and parts["train"] and not counts["train"][label]
    ]
    sides: dict[str, set[str]] = defaultdict(set)
    for name, indices in parts.items():
        for index in indices:
            sides[groups[index]].add(name)
    torn = sorted(group.partition(" ")[2] for group, names in sides.items() if len(names) > 1)
    if torn:
        notes.append(
            f"{len(torn)} groups lie in several parts of the source itself, such as {torn[0]}"
        )
    return notes


def _cut(
    items: Sequence[Item],
    indices: Sequence[int],
    groups: Sequence[str],
    total: Mapping[Stratum, int],
    share: float,
    seed: str,
) -> tuple[list[int], list[int]]:
    """(what stays, what is cut off): groups drawn by lot move while that helps the classes."""
    members: dict[str, list[int]] = defaultdict(list)
    for index in indices:
        members[groups[index]].append(index)
    left = _strata(items, indices)
    # a class of three items or more gets at least one item in each part
    need = {
        stratum: max(share * total[stratum], 1.0 if total[stratum] >= 3 else 0.0)
        for stratum in left
    }
    cut: set[int] = set()
    for group in sorted(members, key=lambda group: _draw(seed, group)):
        counts = _strata(items, members[group])
        if any(left[stratum] <= count for stratum, count in counts.items()):
            continue  # the last of a class stays
        if sum(count * (2 * need[stratum] - count) for stratum, count in counts.items()) <= 0:
            continue  # the squared distance to the shares would grow
        cut.update(members[group])
        for stratum, count in counts.items():
            need[stratum] -= count
            left[stratum] -= count
    return [index for index in indices if index not in cut], [
        index for index in indices if index in cut
    ]


def _strata(items: Sequence[Item], indices: Iterable[int]) -> Counter[Stratum]:
    """How many of each class; images and clips of a class are counted apart."""
    return Counter((label, items[index].kind) for index in indices for label in items[index].labels)
