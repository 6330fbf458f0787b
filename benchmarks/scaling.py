"""How accuracy grows: with minutes, with the size of the encoder, with images that have no label.

    python benchmarks/scaling.py

CIFAR-10 with 100 labels a class, on one thread.  Each cell is a pre-training of its own (a schedule
ends with its minutes, so a longer one cannot be cut short) and a tuning of the same minutes for
all.  A cell that is in the JSON is not run again.  The test split is read once per cell.
"""

from __future__ import annotations

import argparse
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import few_labels
from cells import Filled
from few_labels import HERE, discern, unpacked

TABLE = HERE / "results" / "scaling.json"
DATA, LABELS, ALL = "cifar10", 100, 5000
MINUTES, TUNE, SEED = (1.0, 2.0, 4.0), 1.5, 0  # of pre-training, of tuning
SIZES = ("pico", "nano")
PER_CLASS = (500, 1500)  # images of a class without labels, beside all of them
OF_IMAGES = ("pico", 4.0)  # size and minutes, for the curve over images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    args.data, args.minutes = DATA, TUNE
    few_labels.SETS[DATA] = {"labels": LABELS, "settings": []}
    table = Filled(TABLE, args, lambda cells: {"labels": LABELS, "threads": 1})
    size, minutes = OF_IMAGES
    wanted = [(one, many, ALL) for many in MINUTES for one in SIZES]
    wanted += [(size, minutes, count) for count in PER_CLASS]
    for one, many, count in wanted:
        table.fill(f"{one}/{many:g}/{count}", partial(cell, args, one, many, count))


def cell(args: argparse.Namespace, size: str, minutes: float, per_class: int) -> dict[str, Any]:
    """k-NN accuracy after the pre-training, test accuracy after the tuning."""
    folder = unpacked(DATA, args.out, None if per_class == ALL else per_class)
    work = args.out / "scaling" / f"{size}-{minutes:g}-{per_class}-{SEED}"
    first = discern("pretrain", folder, args, work / "p", SEED, minutes, "--size", size)
    words = ["--from", str(work / "p"), "--labels", str(LABELS)]
    tuned = discern("train", folder, args, work / "t", SEED, TUNE, *words)
    for name in ("p", "t"):
        shutil.rmtree(work / name / "checkpoints", ignore_errors=True)
    return {
        "size": size,
        "minutes": minutes,
        "images": first["samples"],
        "knn": first["knn"]["knn_images"],
        "pretrain_steps": first["steps"],
        "accuracy": tuned["accuracy"],
        "tune_steps": tuned["steps"],
        "test_items": tuned["samples"],
        "commands": [first["command"], tuned["command"]],
    }


if __name__ == "__main__":
    main()
