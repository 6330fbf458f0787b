"""Vehicles by type: Tiny-ImageNet's fifteen, beside hand-crafted features in the same run.

    python benchmarks/vehicles.py --minutes 25 --seeds 0 1 2

On one thread.  Ours is `discern train --recipe vehicles --from discern-nano`, which sees 32 x 32;
the hand-crafted methods see all 64 x 64, on all training items where their SVM is linear, and else
on as many as `discern compare` gives them.  Beside it the same models with four views of each item
averaged (`evaluate --views 4`, chosen on validation items), and with tokens that merge in use; and
`--size pico`, pre-trained on the same items and tuned.  The test split is read once per cell.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import few_labels
import numpy as np
from cells import Filled
from few_labels import HERE, unpacked
from PIL import Image
from uses import Trainings, Use, arguments, measured, summary, train_all

TABLE = HERE / "results" / "vehicles.json"
METHODS = ("hog_linear", "hog_svm", "color_histogram")
AHEAD = 0.10  # of each of them, to reach
USE = Use(
    recipe="vehicles",
    data="tiny_imagenet_vehicles",
    pico_minutes=(5.0, 9.0),
    # as the shipped encoder does, it sees 32 x 32
    pico_words=(
        *("--size", "pico", "--set", "backbone.patch=8"),
        *("--set", "data.preprocess.height=32", "--set", "data.preprocess.width=32"),
    ),
)
# how the same model is used: name -> words of `evaluate`
USED = {"views_4": {"views": 4}, "merged_0.25": {"merge": 0.25}, "merged_0.5": {"merge": 0.5}}
OURS = ("discern", "pico", *USED)


def main() -> None:
    args = arguments(__doc__)
    folder = unpacked(USE.data, args.out)
    few_labels.SETS[USE.data] = {"labels": None, "settings": []}
    trainings = Trainings(USE, args, folder)
    kinds = {"discern": trainings.shipped, "pico": trainings.pico}
    if args.train_only:
        return train_all(kinds, args.seeds)
    table = Filled(TABLE, args, lambda cells: summary(cells, OURS, METHODS, AHEAD))
    for method in METHODS:
        table.fill(f"{method}/0", partial(handcrafted, method, folder))
    for seed in args.seeds:
        for name, training in kinds.items():
            table.fill(f"{name}/{seed}", partial(measured, training, seed, folder))
        for name, words in USED.items():
            table.fill(
                f"{name}/{seed}", partial(measured, trainings.shipped, seed, folder, **words)
            )


def handcrafted(method: str, folder: Path) -> dict[str, Any]:
    from discern.baselines.table import BASELINES
    from discern.recipes.compare import MAX_BASELINE_ITEMS

    parts = {split: sorted((folder / split).glob("*/*")) for split in ("train", "test")}
    classes = sorted({path.parent.name for path in parts["train"]})
    if not method.endswith("linear"):  # kernel machines grow with the square
        chosen = np.random.default_rng(0).permutation(len(parts["train"]))[:MAX_BASELINE_ITEMS]
        parts["train"] = [parts["train"][place] for place in chosen]
    frames = {
        split: np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        for split, paths in parts.items()
    }
    labels = {
        split: np.array([classes.index(path.parent.name) for path in paths])
        for split, paths in parts.items()
    }
    started = time.monotonic()
    fitted = BASELINES[method].fit(frames["train"][:, None], labels["train"], len(classes))
    seconds = time.monotonic() - started
    _, probabilities = fitted.predict(frames["test"][:, None])
    return {
        "accuracy": float((probabilities.argmax(1) == labels["test"]).mean()),
        "microseconds_per_item": 1e6 * fitted.seconds_per_item,
        "labels_used": len(parts["train"]),
        "train_seconds": seconds,
    }


if __name__ == "__main__":
    main()
