"""What fakes are worth: each way to learn from the generator's, against none, in equal minutes.

    python benchmarks/fakes.py --pretrain 2 --tune 0.5 --seeds 0 1 2

CIFAR-10, 2,000 training images of a class without labels, 100 with.  Six pre-trainings: without
an adversary, with the judge of patches and wholes that is the default, and with each of the terms
of `discern.objectives.forged` in its place.  Four tunings of the first of them: plain, with drawn
items of each class, with items without labels, and with these and a class for fakes.  Cells of a
seed take turns; one that is in the JSON is not run again.  The test split is read once per cell.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import few_labels
from few_labels import HERE, commit, discern, hardware, interval, set_to, unpacked, versions

TABLE = HERE / "results" / "fakes.json"
LABELS, PER_CLASS = 100, 2000
OFF = {"patch_adversary": 0.0, "global_adversary": 0.0}
EARLY = {"adversary_start": 0.25}  # of so short a training, so that each has some steps
# way -> settings of the pre-training
PRETRAINED: dict[str, dict[str, float]] = {
    "none": OFF,
    "judge": EARLY,
    "forged_views": OFF | EARLY | {"forged_views": 1.0},
    "forged_negatives": OFF | EARLY | {"forged_negatives": 1.0},
    "perceptual": OFF | EARLY | {"perceptual": 1.0},
    "hard_views": OFF | EARLY | {"hard_views": 1.0},
}
# way -> settings of the tuning that starts from `none`, and the tuning it is held against
TUNED: dict[str, tuple[list[str], str]] = {
    "generated_labels": (["supervised.generated=0.25"], "none"),
    "semi": (["objective=semi"], ""),
    "fake_class": (["objective=semi", "semi.fake=0.5"], "semi"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain", type=float, default=2.0, metavar="MINUTES")
    parser.add_argument("--tune", type=float, default=0.5, metavar="MINUTES")
    parser.add_argument("--threads", type=int, default=None, help="of each training")
    parser.add_argument("--note", default=None, help="what a reader of the table must know")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    threads = [] if args.threads is None else [f"threads={args.threads}"]
    few_labels.SETS["cifar10"] = {"labels": LABELS, "settings": threads}
    folder = unpacked("cifar10", args.out, PER_CLASS)
    done = json.loads(TABLE.read_text()) if TABLE.exists() else {"cells": {}}
    command = " ".join(["python", "benchmarks/fakes.py", *sys.argv[1:]])
    args.data = "cifar10"
    done |= {
        "command": command.replace(str(args.out), "OUT"),
        "minutes": {"pretrain": args.pretrain, "tune": args.tune},
        "labels": LABELS,
        "threads": args.threads,
        "note": args.note or done.get("note"),
        "images": 10 * PER_CLASS,
        "hardware": hardware(),
        "versions": versions(),
    }
    for seed in args.seeds:
        for way in (*PRETRAINED, *TUNED):
            if f"{way}/{seed}" not in done["cells"]:
                load = os.getloadavg()[0]
                found = cell(way, seed, args, folder)
                found |= {"load_before": load, "commit": commit()}
                done["cells"][f"{way}/{seed}"] = found
                done["gains"] = gains(done["cells"])
                save(done)
                print(way, seed, found["accuracy"], found.get("knn"), flush=True)
    print(json.dumps(done["gains"], indent=1))


def cell(way: str, seed: int, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Accuracy after tuning; pre-training first where the way is one."""
    work = args.out / "fakes" / f"{args.pretrain:g}+{args.tune:g}" / str(seed)
    found: dict[str, Any] = {}
    start = work / "none"
    if way in PRETRAINED:
        start = work / way
        words = set_to(f"masked_gan.{name}={value}" for name, value in PRETRAINED[way].items())
        first = discern("pretrain", folder, args, start, seed, args.pretrain, *words)
        found = {"knn": first["knn"]["knn_images"], "pretrain_steps": first["steps"]}
        found |= {"pretrain_command": first["command"]}
        shutil.rmtree(start / "checkpoints", ignore_errors=True)
    more = set_to(TUNED.get(way, ([], ""))[0])
    words = ["--from", str(start), "--labels", str(LABELS), *more]
    tuned = discern("train", folder, args, work / f"{way}-tuned", seed, args.tune, *words)
    shutil.rmtree(work / f"{way}-tuned" / "checkpoints", ignore_errors=True)
    names = ("accuracy", "validation_accuracy", "steps", "samples", "command")
    return found | {name: tuned.get(name) for name in names}


def gains(cells: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """way -> how far it is above what it is held against, paired by seed."""
    found: dict[str, dict[str, Any]] = {}
    for way in (*PRETRAINED, *TUNED):
        against = TUNED[way][1] if way in TUNED else "none"
        mine = {s: one for s in range(100) if (one := cells.get(f"{way}/{s}"))}
        if not mine:
            continue
        found[way] = {"accuracy": interval([one["accuracy"] for one in mine.values()])}
        pairs = [
            (one, cells[f"{against}/{s}"]) for s, one in mine.items() if f"{against}/{s}" in cells
        ]
        if pairs and way not in ("none", "semi"):
            found[way]["against"] = against
            found[way]["gain"] = interval([a["accuracy"] - b["accuracy"] for a, b in pairs])
            if "knn" in pairs[0][0]:
                found[way]["knn_gain"] = interval([a["knn"] - b["knn"] for a, b in pairs])
    return found


def save(done: dict[str, Any]) -> None:
    TABLE.parent.mkdir(exist_ok=True)
    draft = TABLE.with_suffix(".tmp")
    draft.write_text(json.dumps(done, indent=1) + "\n")
    draft.replace(TABLE)


if __name__ == "__main__":
    main()
