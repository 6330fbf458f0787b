"""What every verb does first: open the source, settle shape and parts, read the items."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from discern.clip import Kind
from discern.data.badfiles import BadFiles
from discern.data.clipset import ClipSet, clip_sets, load_all
from discern.data.decode import decode
from discern.data.items import Source
from discern.data.limits import Limits
from discern.data.sources import open_source
from discern.data.splits import Splits, make_splits, pick_labels, read_splits, write_splits
from discern.errors import BadItem, DataError
from discern.train.settings import DataConfig, RunConfig

PEEKED = 48  # items looked at to settle the shape
LONGEST = 64  # pixels of the longer side, by default: what a CPU can learn from in minutes
PROBE_BANK, PROBE_QUERIES = 2000, 1000  # items of the k-NN probe: a few seconds on two cores


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The items of a run by what they are for; labels are class numbers, -1 where there is none."""

    source: Source
    classes: list[str]
    splits: Splits
    labelled: list[int]  # of splits.train, with labels in use
    val: list[int]
    rest: list[int]  # of splits.train and the unlabelled: seen without labels
    several: bool = False  # whether an item may have more than one label


def shaped_for(config: RunConfig, source: Source) -> RunConfig:
    """The canvas and patch that fit a source: median size and aspect, at most 64 pixels.

    The longer side stays as many patches long as it is without a source: 4, with `nano` 8.
    """
    return shaped(config, np.array(_sizes(source)))


def shaped(config: RunConfig, sizes: np.ndarray) -> RunConfig:
    """The canvas and patch that fit frames of these heights and widths [n, 2]."""
    canvas = config.data.preprocess
    patches = max(canvas.height, canvas.width) // config.backbone.patch
    height, width = np.median(sizes, axis=0)
    longer = min(LONGEST, max(height, width))
    pixels = longer / patches
    patch = _power_of_two(pixels) if config.backbone.stem == "deep" else max(2, round(pixels))
    scale = patches * patch / max(height, width)
    fit = [max(1, round(side * scale / patch)) * patch for side in (height, width)]
    # images of all shapes: a square canvas wastes the least
    if np.std(np.log(sizes[:, 0] / sizes[:, 1])) > 0.2:
        fit = [patches * patch] * 2
    preprocess = replace(canvas, height=fit[0], width=fit[1])
    return replace(
        config,
        backbone=replace(config.backbone, patch=patch),
        data=replace(config.data, preprocess=preprocess),
    )


def _power_of_two(pixels: float) -> int:
    """A patch that poolings halve: the smallest that shows four fifths of the pixels or more."""
    return 2 ** max(1, math.ceil(math.log2(0.8 * pixels)))


def divide(
    source: Source, data: DataConfig, out: Path, *, labels: int | None = None, seed: int = 0
) -> Parts:
    """Cut a source into parts, or read the parts that an earlier start of this run wrote down.

    With `labels` N, N labels per class are in use, of which a part becomes the validation split
    (unless the source brings its own); all other training items count as unlabelled.
    """
    path = out / "splits.json"
    own_val = any(item.split == "val" and item.labels for item in source.items)
    if path.exists():
        splits = read_splits(path, source.items)
    else:
        cut = data.val if labels is None or own_val else 0.0
        splits = make_splits(source.items, data.split_seed, cut, data.test, data.group_by)
        if labels is not None:
            splits = _with_few_labels(source, splits, data, labels, seed, own_val)
        write_splits(splits, source.items, path)
    return Parts(
        source=source,
        classes=source.classes,
        splits=splits,
        labelled=list(splits.train),
        val=list(splits.val),
        rest=list(splits.unlabelled),
        several=has_several(source),
    )


def load_sets(
    source: Source,
    indices: Sequence[int],
    config: RunConfig,
    bad: BadFiles,
    *,
    classes: Sequence[str] = (),
    unlabelled: Sequence[int] = (),
    progress: Callable[[int, int], None] | None = None,
    total: int | None = None,
    several: bool = False,
) -> dict[Kind, ClipSet]:
    """Sets of items by kind, in memory when they fit.

    Raises DataError when too many of `total` items are broken (of these, when it is not said).
    """
    sets = clip_sets(
        source,
        indices,
        config.data.preprocess,
        classes=classes,
        unlabelled=unlabelled,
        limits=Limits(),
        several=several,
    )
    memory = int(psutil.virtual_memory().available * config.data.loader.memory_share)
    load_all(sets.values(), bad, memory, progress, total)
    sets = {kind: one for kind, one in sets.items() if len(one)}
    if not sets:
        raise DataError(f"{source.spec}: no item in it can be used")
    return sets


def has_several(source: Source) -> bool:
    """Whether any item has more than one label."""
    return any(len(item.labels) > 1 for item in source.items)


def fresh_list(out: Path, data: DataConfig, strict: bool) -> BadFiles:
    """The list of broken items of a start that reads all of them: those mended since are off it."""
    path = out / "bad_files.jsonl"
    path.unlink(missing_ok=True)
    return BadFiles(path, data.allowed_bad, strict)


def open_checked(specs: Sequence[str]) -> Source:
    """Open the source of a verb."""
    return open_source(list(specs), Limits())


def _with_few_labels(
    source: Source, splits: Splits, data: DataConfig, labels: int, seed: int, own_val: bool
) -> Splits:
    kept, rest = pick_labels(source.items, splits.train, labels, seed)
    val = list(splits.val)
    if not own_val:
        by_class: dict[str, list[int]] = {}
        for index in kept:
            by_class.setdefault(source.items[index].labels[0], []).append(index)
        rng = np.random.default_rng([seed, 3])
        for members in by_class.values():
            count = min(max(1, round(data.val * len(members))), len(members) - 1)
            chosen = set(rng.permutation(len(members))[:count].tolist())
            val += [index for place, index in enumerate(members) if place in chosen]
        kept = sorted(set(kept) - set(val))
    return replace(
        splits, train=sorted(kept), val=sorted(val), unlabelled=sorted([*splits.unlabelled, *rest])
    )


def _sizes(source: Source) -> list[tuple[int, int]]:
    """Height and width of some items, spread over the source."""
    chosen = np.linspace(0, len(source.items) - 1, min(PEEKED, len(source.items))).astype(int)
    sizes = []
    for index in chosen:
        try:
            frames = decode(source.read(int(index)), Limits(), frames=1).frames
        except BadItem:
            continue
        sizes.append((frames.shape[1], frames.shape[2]))
    if not sizes:
        raise DataError(
            f"{source.spec}: none of {len(chosen)} items can be read: "
            "`discern data check` lists the reasons"
        )
    return sizes
