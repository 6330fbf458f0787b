"""Actions in clips: J-HMDB's twenty-one, beside hand-crafted motion features in the same run.

    python benchmarks/actions.py --minutes 25 --seeds 0 1 2

On one thread.  Ours is `discern train --recipe videos`; beside it the same models with four views
of each clip averaged (`evaluate --views 4`), a start from `discern-nano` in the same minutes, and
`--size pico`, pre-trained on the same clips and tuned.  `--kinds` leaves some of them for a later
run.  The hand-crafted methods are given the clips that ours are trained on.  The test split is read
once per cell; nothing is chosen by it.
"""

from __future__ import annotations

from functools import cache, partial

from cells import Filled
from few_labels import HERE, handcrafted_on, unpacked
from uses import Trainings, Use, arguments, measured, summary, train_all

TABLE = HERE / "results" / "actions.json"
METHODS = ("motion", "motion_flow", "motion_difference", "motion_hog")
AHEAD = 0.0  # of each of them, to reach
VIEWS = 4
USE = Use(recipe="videos", data="jhmdb", pico_minutes=(5.0, 9.0))
OURS = ("discern", "views_4", "shipped", "pico")


def main() -> None:
    args = arguments(__doc__, kinds=("discern", "shipped", "pico"))
    folder = unpacked(USE.data, args.out)
    trainings = Trainings(USE, args, folder)
    every = {
        "discern": trainings.scratch,
        "shipped": trainings.shipped,
        "pico": trainings.pico,
    }
    kinds = {name: every[name] for name in args.kinds}
    if args.train_only:
        return train_all(kinds, args.seeds)
    table = Filled(TABLE, args, lambda cells: summary(cells, OURS, METHODS, AHEAD))
    for seed in args.seeds:
        for name, training in kinds.items():
            table.fill(f"{name}/{seed}", partial(measured, training, seed, folder))
        if "discern" in kinds:
            views = partial(measured, trainings.scratch, seed, folder, views=VIEWS)
            table.fill(f"views_{VIEWS}/{seed}", views)
    fitted = cache(handcrafted_on)  # all methods at once, where one is missing
    run = trainings.home / f"scratch-{args.seeds[0]}"  # whose items they are given
    for method in METHODS:
        table.fill(f"{method}/0", lambda method=method: fitted(folder, run)[method])


if __name__ == "__main__":
    main()
