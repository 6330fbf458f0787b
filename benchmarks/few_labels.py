"""Few labels, equal minutes: pre-trained and tuned, against from scratch and hand-crafted, on real
images and clips.

    python benchmarks/few_labels.py cifar10 --seeds 0 1 2 --pretrain 15 --tune 5
    python benchmarks/few_labels.py jhmdb --seeds 0 1 2 --pretrain 15 --tune 5

Every cell is one command of `discern` in a child process, one at a time.  A cell that is in the
JSON is not run again, so that a table can be filled over days; `--out` keeps the run folders.
Data: DISCERN_DATA (see CONTRIBUTING.md), unpacked once into `--out`.  The test split is read once
per cell, at its end; nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("DISCERN_DATA", HERE.parent.parent / "shared" / "data"))


# data set -> labels per class (None: all), settings of every run on it
SETS: dict[str, dict[str, Any]] = {
    "cifar10": {"labels": 100, "settings": [], "kind": "images"},
    "jhmdb": {"labels": None, "settings": ["data.group_by={film}"], "kind": "clips"},
}
LABELS_ALONE = ["--set", "objective=supervised"]
# data set -> method -> how far `pretrained` is meant to be above it, as a share of the test items
BARS: dict[str, dict[str, float]] = {
    # from scratch in the same settings, which learn from the unlabelled too; and in its best ones
    "cifar10": {"scratch_semi": 0.08, "scratch": 0.08, "hog_svm": 0.0},
    "jhmdb": {"scratch": 0.0, "motion": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=SETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain", type=float, default=15.0, metavar="MINUTES")
    parser.add_argument("--tune", type=float, default=5.0, metavar="MINUTES")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    table = HERE / "results" / f"few_labels_{args.data}_{args.pretrain:g}+{args.tune:g}.json"
    folder = unpacked(args.data, args.out)
    done = json.loads(table.read_text()) if table.exists() else {"cells": {}}
    command = " ".join(["python", "benchmarks/few_labels.py", *sys.argv[1:]])
    done |= {"command": command.replace(str(args.out), "OUT")}
    done |= {"data": args.data, "hardware": hardware()}
    for seed in args.seeds:
        for cell in args.cells:
            if f"{cell}-{seed}" in done["cells"]:
                continue
            if cell in NAMELESS and SETS[args.data]["labels"] is None:
                continue  # no item is without a label
            work = args.out / f"{args.data}_{args.pretrain:g}+{args.tune:g}" / str(seed)
            load = os.getloadavg()[0]
            started = time.time()
            found = CELLS[cell](args, folder, work, seed)
            found |= {
                "wall_minutes": (time.time() - started) / 60,
                "load_before": load,
                "load_after": os.getloadavg()[0],
                "commit": commit(),
                "versions": versions(),
            }
            done["cells"][f"{cell}-{seed}"] = found
            save(table, done)
            print(
                cell, seed, {k: v for k, v in found.items() if k in ("accuracy", "knn", "methods")}
            )
    save(table, done)  # a table filled over days: the command that fills it all
    print(json.dumps(done["summary"], indent=1))


def save(table: Path, done: dict[str, Any]) -> None:
    """The cells so far, what they say together, and by how much bars are missed."""
    done["summary"] = summary(done["cells"])
    done["margins"] = margins(done["cells"], BARS[done["data"]])
    # both tuned on labels alone: what the pre-training by itself is worth
    same = margins(done["cells"], {}, "pretrained_labels_only").get("scratch")
    if same is not None:
        done["same_tuning"] = same
    table.parent.mkdir(exist_ok=True)
    table.write_text(json.dumps(done, indent=1) + "\n")


def pretrain(args: argparse.Namespace, folder: Path, work: Path, seed: int) -> dict[str, Any]:
    found = discern("pretrain", folder, args, work / "pretrain", seed, args.pretrain)
    return {k: found[k] for k in ("knn", "steps", "train_seconds", "samples", "minutes", "command")}


def pretrained(args: argparse.Namespace, folder: Path, work: Path, seed: int) -> dict[str, Any]:
    start = ["--from", str(work / "pretrain")]
    return tuned(args, folder, work / "pretrained", seed, args.tune, start)


def pretrained_labels_only(
    args: argparse.Namespace, folder: Path, work: Path, seed: int
) -> dict[str, Any]:
    """The same minutes, learning from labels alone."""
    more = ["--from", str(work / "pretrain"), *LABELS_ALONE]
    return tuned(args, folder, work / "pretrained-labels-only", seed, args.tune, more)


def scratch(args: argparse.Namespace, folder: Path, work: Path, seed: int) -> dict[str, Any]:
    return tuned(args, folder, work / "scratch", seed, args.tune, LABELS_ALONE)


def scratch_semi(args: argparse.Namespace, folder: Path, work: Path, seed: int) -> dict[str, Any]:
    """What tunes the pre-trained one, from scratch."""
    more = ["--unlabeled", str(folder)]
    return tuned(args, folder, work / "scratch-semi", seed, args.tune, more)


def scratch_long(args: argparse.Namespace, folder: Path, work: Path, seed: int) -> dict[str, Any]:
    minutes = args.tune + args.pretrain
    return tuned(args, folder, work / "scratch-long", seed, minutes, LABELS_ALONE)


def handcrafted(args: argparse.Namespace, folder: Path, work: Path, seed: int) -> dict[str, Any]:
    return {"methods": handcrafted_on(folder, work / "pretrained")}


def handcrafted_on(folder: Path, run: Path) -> dict[str, dict[str, Any]]:
    """Every hand-crafted method on the items of a run."""
    from discern.recipes.compare import handcrafted as fit

    names = ("accuracy", "accuracy_interval", "microseconds_per_item", "labels_used")
    return {name: {n: block[n] for n in names} for _, name, block in fit([str(folder)], run)}


CELLS = {
    "pretrain": pretrain,
    "pretrained": pretrained,
    "pretrained_labels_only": pretrained_labels_only,
    "scratch": scratch,
    "scratch_semi": scratch_semi,
    "scratch_long": scratch_long,
    "handcrafted": handcrafted,
}


NAMELESS = ("pretrained_labels_only", "scratch_semi")  # cells that differ by items without labels


def tuned(
    args: argparse.Namespace, folder: Path, out: Path, seed: int, minutes: float, more: list[str]
) -> dict[str, Any]:
    labels = SETS[args.data]["labels"]
    if labels is not None:
        more = [*more, "--labels", str(labels)]
    found = discern("train", folder, args, out, seed, minutes, *more)
    names = ("accuracy", "accuracy_interval", "validation_accuracy", "steps", "train_seconds")
    more_names = ("samples", "labels_used", "microseconds_per_item", "ece", "minutes", "command")
    return {k: found.get(k) for k in names + more_names}


def discern(
    verb: str,
    folder: Path,
    args: argparse.Namespace,
    out: Path,
    seed: int,
    minutes: float,
    *more: str,
) -> dict[str, Any]:
    words = [
        verb,
        str(folder),
        "--out",
        str(out),
        "--minutes",
        f"{minutes:g}",
        "--seed",
        str(seed),
        *more,
    ]
    for setting in SETS[args.data]["settings"]:
        if "{film}" in setting:
            setting = setting.replace("{film}", film(folder))
        words += set_to([setting])
    if not (out / "results.json").exists():
        subprocess.run([sys.executable, "-m", "discern", *words], check=True)
    shown = " ".join(word.replace(str(args.out), "OUT") for word in words)
    return json.loads((out / "results.json").read_text()) | {"minutes": minutes, "command": shown}


def set_to(values: Iterable[str]) -> list[str]:
    """The words that tell a verb so: a.b=c."""
    return [word for one in values for word in ("--set", one)]


def film(folder: Path) -> str:
    """A pattern for the source film of a clip, its name before the action:

    films stay on one side of a split.
    """
    actions = "|".join(sorted(path.name for path in (folder / "train").iterdir()))
    return f"([^/]+)_(?:{actions})_[fuhl]_"


def unpacked(name: str, out: Path, per_class: int | None = None) -> Path:
    """A data set as folders, or the first so many items of each of its classes."""
    home, done = out / "data", out / "data" / f"{name}.done"
    words = [sys.executable, str(DATA / "unpack.py"), name]
    if per_class is not None:
        home, done = home / f"{name}_{per_class}", home / f"{name}_{per_class}.done"
        words += ["--per-class", str(per_class)]
    if not done.exists():
        subprocess.run([*words, "--to", str(home)], check=True)
        (home / name / "split.json").unlink(missing_ok=True)
        done.touch()
    return home / name


def summary(cells: dict[str, Any]) -> dict[str, Any]:
    """Mean over seeds with a 95 % interval (Student's t), per method."""
    found: dict[str, list[float]] = {}
    for name, cell in cells.items():
        kind = name.rsplit("-", 1)[0]
        if "accuracy" in cell:
            found.setdefault(kind, []).append(cell["accuracy"])
        for method, block in cell.get("methods", {}).items():
            found.setdefault(method, []).append(block["accuracy"])
    return {name: interval(values) for name, values in found.items()}


def margins(
    cells: dict[str, Any], bars: dict[str, float], ours: str = "pretrained"
) -> dict[str, dict[str, Any]]:
    """How far `ours` is above others, paired by seed, and by how much a bar is missed."""
    found: dict[str, list[float]] = {}
    for name, cell in cells.items():
        kind, seed = name.rsplit("-", 1)
        mine = cells.get(f"{ours}-{seed}")
        if mine is None or kind in ("pretrain", ours):
            continue
        others = {n: block["accuracy"] for n, block in cell.get("methods", {}).items()}
        if "accuracy" in cell:
            others[kind] = cell["accuracy"]
        for other, accuracy in others.items():
            found.setdefault(other, []).append(mine["accuracy"] - accuracy)
    blocks = {other: interval(values) for other, values in found.items()}
    for other, bar in bars.items():
        if other in blocks:
            missed = max(0.0, bar - blocks[other]["mean"])
            blocks[other] |= {"bar": bar, "missed_by": missed}
    return blocks


def interval(values: list[float]) -> dict[str, Any]:
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"mean": mean, "seeds": n}
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5)
    return {"mean": mean, "interval": [mean - half, mean + half], "seeds": n}


def hardware() -> dict[str, Any]:
    import torch

    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {"cpu": cpu_name(), "cores": os.cpu_count()} | gpu


def cpu_name() -> str:
    """The processor as Linux names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions() -> dict[str, str]:
    import torch

    import discern as package

    return {
        "discern": package.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def commit() -> str:
    """Of this checkout; a copy without its history is told by DISCERN_COMMIT."""
    if "DISCERN_COMMIT" in os.environ:
        return os.environ["DISCERN_COMMIT"]
    return subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


if __name__ == "__main__":
    main()
