"""Faces under hard light: Extended Yale B, half by half and by the angle of the light.

    python benchmarks/faces.py --minutes 1.5 --seeds 0 1 2

Half by half is the data's own split.  By light, training sees angles up to 12 degrees, and the test
is all that is lit from further aside; angles stand in the file names.  Ours is
`discern train --recipe faces` from scratch; beside it HOG and eigenfaces, on the same frames as
they are, and HOG on the frames without uneven light that ours sees.  Settings of the SVMs are
chosen by cross-validation on the training items.  Nothing is chosen on the test items.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import few_labels
import numpy as np
from few_labels import HERE, commit, discern, hardware, interval, unpacked, versions
from PIL import Image

TABLE = HERE / "results" / "faces.json"
ANGLE = re.compile(r"A([+-]\d+)E([+-]\d+)")
TRAINED = 12  # degrees
BUCKETS = {"to 25": (12, 25), "to 50": (25, 50), "to 77": (50, 77), "beyond 77": (77, 180)}
SIDE = (64, 56)  # rows and columns that the hand-crafted methods see: those of our own canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    folder = unpacked("extended_yaleb", args.out)
    sources = {"half": folder, "light": by_light(folder)}
    done = json.loads(TABLE.read_text()) if TABLE.exists() else {"cells": {}}
    command = " ".join(["python", "benchmarks/faces.py", *sys.argv[1:]])
    done |= {
        "command": command.replace(str(args.out), "OUT"),
        "minutes": args.minutes,
        "hardware": hardware(),
        "versions": versions(),
    }
    few_labels.SETS["faces"] = {"labels": None, "settings": []}
    args.data = "faces"
    for task, source in sources.items():
        for seed in args.seeds:
            name = f"{task}/discern/{seed}"
            if name not in done["cells"]:
                work = args.out / "faces" / name
                found = discern(
                    "train", source, args, work, seed, args.minutes, "--recipe", "faces"
                )
                shutil.rmtree(work / "checkpoints", ignore_errors=True)
                shares = by_angle(work / "predictions.jsonl")
                done["cells"][name] = {
                    "accuracy": found["accuracy"],
                    "validation_accuracy": found["validation_accuracy"],
                    "steps": found["steps"],
                    "microseconds_per_item": found["microseconds_per_item"],
                    "by_angle": shares if task == "light" else {},
                    "commit": commit(),
                }
                save(done)
                print(name, found["accuracy"], shares, flush=True)
        for method in ("hog_linear", "hog_linear_even", "eigenfaces"):
            name = f"{task}/{method}/0"
            if name not in done["cells"]:
                done["cells"][name] = handcrafted(method, source, task) | {"commit": commit()}
                save(done)
                print(name, done["cells"][name], flush=True)


def by_light(folder: Path) -> Path:
    """A manifest in which the angle of the light decides the split."""
    path = folder / "light.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for picture in sorted(folder.glob("t*/*/*.png")):
            split = "train" if angle(picture.name) <= TRAINED else "test"
            writer.writerow([picture.relative_to(folder), picture.parent.name, split])
    return path


def angle(name: str) -> int:
    """How far aside the light stands, in degrees.  Raises ValueError for a name without it."""
    found = ANGLE.search(name)
    if found is None:
        raise ValueError(f"{name}: no angle in it")
    return max(abs(int(one)) for one in found.groups())


def by_angle(predictions: Path) -> dict[str, float]:
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    return shares((row["key"], row["label"] == row["predicted"]) for row in rows)


def shares(rows: Any) -> dict[str, float]:
    """The share of right answers in each range of angles."""
    found: dict[str, list[bool]] = defaultdict(list)
    for key, right in rows:
        for name, (low, high) in BUCKETS.items():
            if low < angle(key) <= high:
                found[name].append(bool(right))
    return {name: float(np.mean(found[name])) for name in BUCKETS if found[name]}


def handcrafted(method: str, source: Path, task: str) -> dict[str, Any]:
    from discern.baselines.linear import SvmConfig, fit_svm
    from discern.baselines.shape import hog
    from discern.data.light import even_light

    items = files_of(source)
    names = sorted({label for _, label, _ in items})
    frames = {
        path: np.asarray(Image.open(path).convert("RGB").resize(SIDE[::-1])) for path, _, _ in items
    }
    if method == "hog_linear_even":
        frames = {path: even_light(frame) for path, frame in frames.items()}
    parts = {split: [one for one in items if one[2] == split] for split in ("train", "test")}
    pixels = {split: np.stack([frames[path] for path, _, _ in one]) for split, one in parts.items()}
    labels = {
        split: np.array([names.index(label) for _, label, _ in one]) for split, one in parts.items()
    }
    if method == "eigenfaces":
        from sklearn.decomposition import PCA
        from sklearn.pipeline import make_pipeline
        from sklearn.svm import SVC

        flat = {split: one[..., 0].reshape(len(one), -1) / 255 for split, one in pixels.items()}
        model = make_pipeline(PCA(150, whiten=True, random_state=0), SVC(C=10, gamma="scale"))
        guess = model.fit(flat["train"], labels["train"]).predict(flat["test"])
    else:
        svm = fit_svm(
            hog(pixels["train"]),
            labels["train"],
            len(names),
            None,
            None,
            SvmConfig(kernel="linear"),
        )
        guess = svm.probabilities(hog(pixels["test"])).argmax(1)
    right = guess == labels["test"]
    keys = [path.name for path, _, _ in parts["test"]]
    return {
        "accuracy": float(right.mean()),
        "by_angle": shares(zip(keys, right, strict=True)) if task == "light" else {},
    }


def files_of(source: Path) -> list[tuple[Path, str, str]]:
    """Path, person and split of every picture."""
    if source.suffix == ".csv":
        with open(source, newline="") as file:
            return [
                (source.parent / row["path"], row["label"], row["split"])
                for row in csv.DictReader(file)
            ]
    return [
        (one, one.parent.name, one.parent.parent.name) for one in sorted(source.glob("t*/*/*.png"))
    ]


def save(done: dict[str, Any]) -> None:
    done["summary"] = summary(done["cells"])
    TABLE.write_text(json.dumps(done, indent=1) + "\n")


def summary(cells: dict[str, Any]) -> dict[str, Any]:
    """task -> method -> accuracy, and by angle, each with its interval over seeds."""
    found: dict[str, Any] = {}
    for task in ("half", "light"):
        for name, _ in cells.items():
            if not name.startswith(f"{task}/"):
                continue
            method = name.split("/")[1]
            rows = [one for key, one in cells.items() if key.startswith(f"{task}/{method}/")]
            block = {"accuracy": interval([one["accuracy"] for one in rows])}
            for angles in rows[0]["by_angle"]:
                block[angles] = interval([one["by_angle"][angles] for one in rows])
            found.setdefault(task, {})[method] = block
    return found


if __name__ == "__main__":
    main()
