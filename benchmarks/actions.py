"""Actions in clips: J-HMDB's twenty-one, beside hand-crafted motion features in the same run.

    python benchmarks/actions.py --minutes 25 --seeds 0 1 2

On one thread.  Ours is `discern train --recipe videos --from discern-nano`; beside it the same from
scratch in the same minutes, the same models with four views of each clip averaged
(`evaluate --views 4`), and `--size pico`, pre-trained on the same clips and tuned.  The
hand-crafted methods are given the clips that ours are trained on.  The test split is read once per
cell; nothing is chosen by it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from cells import Filled
from few_labels import HERE, unpacked
from uses import Trainings, Use, arguments, measured, summary

TABLE = HERE / "results" / "actions.json"
METHODS = ("motion", "motion_flow", "motion_difference", "motion_hog")
AHEAD = 0.0  # of each of them, to reach
VIEWS = 4
USE = Use(recipe="videos", data="jhmdb", pico_minutes=(5.0, 9.0))
OURS = ("discern", "views_4", "pico", "scratch")


def main() -> None:
    args = arguments(__doc__)
    folder = unpacked(USE.data, args.out)
    trainings = Trainings(USE, args, folder)
    if args.train_only:
        for seed in args.seeds:
            trainings.shipped(seed)
            trainings.pico(seed)
            trainings.scratch(seed)
        return
    table = Filled(TABLE, args, lambda cells: summary(cells, OURS, METHODS, AHEAD))
    for seed in args.seeds:
        table.fill(f"discern/{seed}", partial(measured, trainings.shipped, seed, folder))
        views = partial(measured, trainings.shipped, seed, folder, views=VIEWS)
        table.fill(f"views_4/{seed}", views)
        table.fill(f"pico/{seed}", partial(measured, trainings.pico, seed, folder))
        table.fill(f"scratch/{seed}", partial(measured, trainings.scratch, seed, folder))
    hand = handcrafted(folder, trainings.home / str(args.seeds[0]))
    for method in METHODS:
        table.fill(f"{method}/0", partial(hand.__getitem__, method))


def handcrafted(folder: Path, run: Path) -> dict[str, dict[str, Any]]:
    """Each hand-crafted method on the clips of a run."""
    from discern.recipes.compare import handcrafted as fit

    names = ("accuracy", "microseconds_per_item", "labels_used")
    return {name: {key: one[key] for key in names} for _, name, one in fit([str(folder)], run)}


if __name__ == "__main__":
    main()
