"""The proof of the pre-training: each way to pre-train, at each number of labels, in equal minutes.

    python benchmarks/pretraining.py cifar10 --pretrain 15 --tune 5
    python benchmarks/pretraining.py cifar10 --methods all scratch view --labels 100 --seeds 0 1 2
    python benchmarks/pretraining.py cifar10 --size pico --at-once 2
    python benchmarks/pretraining.py cifar10 --table small --size small --device cuda --at-once 3
    python benchmarks/pretraining.py jhmdb --dry-run

A pre-training serves every number of labels; from scratch is tuned for the sum of the minutes.
Every cell is one command of `discern` in a child process, one at a time, or `--at-once` with an
equal part of the cores each.  A cell that is in the JSON is not run again, so that the grid can be
filled over days, on one machine.  The test split is read once per cell, at its end; nothing is
chosen by it.  `--device cuda` fills the same grid on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import few_labels
from few_labels import (
    HERE,
    LABELS_ALONE,
    commit,
    discern,
    handcrafted_on,
    hardware,
    interval,
    set_to,
    unpacked,
    versions,
)
from kmeans import kmeans_svm

# data set -> settings of every run on it
SETS: dict[str, list[str]] = {
    "cifar10": [],
    "tiny_imagenet_vehicles": [],
    "jhmdb": ["data.group_by={film}"],
}
PEER = "lightly"  # SimCLR of another library on our encoder; needs `--peers`
_NO_ADVERSARY = ("patch_adversary=0", "global_adversary=0", "code=0", "time_fakes=0")
_ADVERSARY = ("patch_adversary=0.2", "global_adversary=0.2")
# method -> what `discern pretrain` is told; None: there is no pre-training
METHODS: dict[str, list[str] | None] = {
    "scratch": None,
    "scratch_semi": None,
    "mae": ["--recipe", "mae"],
    "view": ["--recipe", "view"],
    "mae_view": set_to(f"masked_gan.{one}" for one in _NO_ADVERSARY),
    "mae_adversary": [
        *("--recipe", "mae"),
        *set_to(f"masked_gan.{one}" for one in _ADVERSARY),
    ],
    "all": [],
    "detached": set_to(["discriminator.detach_patch=true"]),
    "gan": ["--recipe", "gan", "--set", "gan.view=0"],
    "contrad": ["--recipe", "gan"],
    PEER: [],
}
# method -> what `discern train` is told, where that matters
TUNINGS = {
    "scratch": LABELS_ALONE,
    "scratch_semi": set_to(["objective=semi"]),  # as the pre-trained are tuned
}
OURS = "all"  # the default recipe
FITTED = ("handcrafted", "kmeans")  # methods that are no training of ours
LABELS = ("10", "100", "500", "all")  # per class
# a cell with a smaller share of its siblings' steps did not have its part of the machine alone
DISTURBED = 0.8


class Cell(NamedTuple):
    """One number of the table, or the pre-training behind a row of it."""

    method: str
    labels: str | None  # None: the pre-training
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}/{self.labels or 'pretrain'}/{self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=SETS)
    parser.add_argument(
        "--methods", nargs="+", default=[*(one for one in METHODS if one != PEER), *FITTED]
    )
    parser.add_argument("--labels", nargs="+", default=list(LABELS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain", type=float, default=15.0, metavar="MINUTES")
    parser.add_argument("--tune", type=float, default=5.0, metavar="MINUTES")
    parser.add_argument("--size", default=None, help="of the encoder; hybrid as it comes")
    parser.add_argument("--peers", default=None, help="a Python that has lightly")
    parser.add_argument("--at-once", type=int, default=1, help="trainings beside each other")
    parser.add_argument("--device", default=None)
    parser.add_argument("--cells", nargs="+", default=["*"], help="patterns, such as scratch/100/*")
    parser.add_argument("--pretrain-set", nargs="+", default=[], help="settings of pre-trainings")
    parser.add_argument("--tune-set", nargs="+", default=[], help="settings of tunings")
    parser.add_argument("--table", default=None, help="name of the JSON; tells machines apart")
    parser.add_argument("--note", default=None, help="what a reader of the table must know")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--dry-run", action="store_true", help="say what is left, and its minutes")
    args = parser.parse_args()
    for method in args.methods:
        if method not in (*METHODS, *FITTED):
            parser.error(f"--methods {method}: there are {', '.join((*METHODS, *FITTED))}")
    if PEER in args.methods and args.peers is None and not args.dry_run:
        parser.error(f"--methods {PEER}: give --peers, a Python that has lightly")
    table = HERE / "results" / f"pretraining_{grid_name(args)}.json"
    done = json.loads(table.read_text()) if table.exists() else {"cells": {}}
    left = [
        one
        for one in cells(args.methods, args.labels, args.seeds)
        if one.name not in done["cells"] and any(fnmatch(one.name, p) for p in args.cells)
    ]
    if args.dry_run:
        for cell in left:
            print(f"{minutes_of(cell, args.pretrain, args.tune):6.1f}  {cell.name}")
        whole = sum(minutes_of(cell, args.pretrain, args.tune) for cell in left)
        print(f"{len(left)} cells, {whole:.0f} minutes")
        return
    command = " ".join(["python", "benchmarks/pretraining.py", *sys.argv[1:]])
    done |= {"command": command.replace(str(args.out), "OUT"), "data": args.data}
    done |= {"minutes": {"pretrain": args.pretrain, "tune": args.tune}, "hardware": hardware()}
    done |= {"size": args.size, "table": args.table, "threads": threads_each(args.at_once)}
    done |= {"note": args.note or done.get("note")}
    few_labels.SETS[args.data] = {"labels": None, "settings": settings(args)}
    folder = unpacked(args.data, args.out)
    one_writes = threading.Lock()

    def fill(cell: Cell) -> None:
        load, started = os.getloadavg()[0], time.time()
        found = run(cell, args, folder)
        found |= {"wall_minutes": (time.time() - started) / 60, "load_before": load}
        with one_writes:
            done["cells"][cell.name] = found | {"commit": commit(), "versions": versions()}
            save(table, done)
        print(cell.name, found.get("accuracy"), flush=True)

    side_by_side(left, args.at_once, fill)
    save(table, done)
    print(json.dumps(done["adversary"], indent=1))


def grid_name(args: argparse.Namespace) -> str:
    """What tells this grid from others: data set, size, minutes, if it was not given a name."""
    if args.table is not None:
        return f"{args.data}_{args.table}"
    size = "" if args.size is None else f"{args.size}_"
    return f"{args.data}_{size}{args.pretrain:g}+{args.tune:g}"


def threads_each(at_once: int) -> int | None:
    """An equal part of the cores for each of several trainings; None: one has the machine."""
    return None if at_once == 1 else max(1, (os.cpu_count() or 1) // at_once)


def settings(args: argparse.Namespace) -> list[str]:
    """What every run of the data set is told."""
    threads, found = threads_each(args.at_once), list(SETS[args.data])
    found += [] if threads is None else [f"threads={threads}"]
    return found + ([] if args.device is None else [f"device={args.device}"])


def side_by_side(left: list[Cell], at_once: int, fill: Callable[[Cell], None]) -> None:
    """Fill cells in their order, so many at once; a tuning waits for its own pre-training alone.

    Raises what a `fill` raises, when the others have ended.
    """
    waiting, changed = list(left), threading.Condition()
    missing = {one for one in left if one.labels is None}

    def next_one() -> Cell | None:
        with changed:
            while waiting:
                for cell in waiting:
                    if cell.labels is None or cell._replace(labels=None) not in missing:
                        waiting.remove(cell)
                        return cell
                changed.wait()
        return None

    def work(_: int) -> None:
        while (cell := next_one()) is not None:
            try:
                fill(cell)
            finally:
                with changed:
                    missing.discard(cell)
                    changed.notify_all()

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(work, range(at_once)))


def cells(methods: list[str], labels: list[str], seeds: list[int]) -> Iterator[Cell]:
    """In the order in which they are run: seed by seed, so that a part is a table already."""
    for seed in seeds:
        for method in methods:
            if METHODS.get(method) is not None:
                yield Cell(method, None, seed)
            for count in labels:
                yield Cell(method, count, seed)


def minutes_of(cell: Cell, pretraining: float, tuning: float) -> float:
    """What the cell takes, without reading data."""
    if cell.labels is None:
        return pretraining
    if cell.method in FITTED:
        return 1.0
    return tuning if METHODS[cell.method] is not None else pretraining + tuning


def run(cell: Cell, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The cell's number; run folders of earlier starts are gone on with."""
    home = args.out / f"{grid_name(args)}_grid" / str(cell.seed)
    work = home / cell.method
    size = [] if args.size is None else ["--size", args.size]
    if cell.labels is None and cell.method == PEER:
        return with_lightly(folder, args, work / "pretrain", cell.seed, size)
    if cell.labels is None:
        words = [*size, *(METHODS[cell.method] or []), *set_to(args.pretrain_set)]
        found = discern(
            "pretrain", folder, args, work / "pretrain", cell.seed, args.pretrain, *words
        )
        names = ("knn", "steps", "train_seconds", "command")
        looks = probed(work / "pretrain" / "log.jsonl")
        return {name: found.get(name) for name in names} | {"probe": looks}
    count = [] if cell.labels == "all" else ["--labels", cell.labels]
    if cell.method in FITTED:
        discern("train", folder, args, work / cell.labels, cell.seed, 1.0, *count, "--steps", "1")
        if cell.method == "kmeans":
            return kmeans_svm(folder, work / cell.labels, cell.seed)
        return {"methods": handcrafted_on(folder, work / cell.labels)}
    start = size if METHODS[cell.method] is None else ["--from", str(work / "pretrain")]
    minutes = minutes_of(cell, args.pretrain, args.tune)
    words = [*start, *count, *TUNINGS.get(cell.method, []), *set_to(args.tune_set)]
    found = discern("train", folder, args, work / cell.labels, cell.seed, minutes, *words)
    shutil.rmtree(work / cell.labels / "checkpoints", ignore_errors=True)
    names = ("accuracy", "accuracy_interval", "validation_accuracy", "steps", "train_seconds")
    return {name: found.get(name) for name in (*names, "samples", "labels_used", "ece", "command")}


def probed(log: Path) -> list[tuple[int, float]]:
    """The k-NN probe through a pre-training: (step, accuracy), as far as there were labels."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        (line["step"], round(line[name], 4))
        for line in lines
        for name in ("knn_images", "knn_clips")
        if name in line
    ]


def with_lightly(
    folder: Path, args: argparse.Namespace, out: Path, seed: int, size: list[str]
) -> dict[str, Any]:
    """The pre-training of the peer, in an environment of its own."""
    words = [str(folder), "--out", str(out), "--seed", str(seed)]
    words += ["--minutes", f"{args.pretrain:g}", *size]
    threads = threads_each(args.at_once)
    words += [] if threads is None else ["--threads", str(threads)]
    words += [] if args.device is None else ["--device", args.device]
    if not (out / "results.json").exists():
        subprocess.run([args.peers, str(HERE / f"{PEER}_peer.py"), *words], check=True)
    found = json.loads((out / "results.json").read_text())
    shown = " ".join(["PYTHON", f"benchmarks/{PEER}_peer.py", *words]).replace(str(args.out), "OUT")
    names = ("steps", "train_seconds", "lightly")
    return {name: found[name] for name in names} | {"command": shown}


def save(table: Path, done: dict[str, Any]) -> None:
    """The cells so far and what they say together; written at once or not at all."""
    done["summary"] = summary(done["cells"])
    done["margins"] = margins(done["cells"], OURS)
    done["adversary"] = margins(done["cells"], OURS, only="mae_view")
    done["disturbed"] = disturbed(done["cells"])
    table.parent.mkdir(exist_ok=True)
    draft = table.with_suffix(".tmp")
    draft.write_text(json.dumps(done, indent=1) + "\n")
    draft.replace(table)


def accuracies(cells: dict[str, Any]) -> dict[str, dict[str, dict[int, float]]]:
    """labels -> method -> seed -> accuracy"""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for name, cell in cells.items():
        method, labels, seed = name.split("/")
        numbers = {method: cell.get("accuracy")}
        numbers |= {other: block["accuracy"] for other, block in cell.get("methods", {}).items()}
        for other, accuracy in numbers.items():
            if accuracy is not None:
                found.setdefault(labels, {}).setdefault(other, {})[int(seed)] = accuracy
    return found


def summary(cells: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """labels -> method -> mean over seeds, with its interval."""
    return {
        labels: {method: interval(list(seeds.values())) for method, seeds in methods.items()}
        for labels, methods in accuracies(cells).items()
    }


def margins(cells: dict[str, Any], ours: str, only: str | None = None) -> dict[str, dict[str, Any]]:
    """labels -> method -> how far `ours` is above it, paired by seed."""
    found: dict[str, dict[str, Any]] = {}
    for labels, methods in accuracies(cells).items():
        mine = methods.get(ours, {})
        for other, theirs in methods.items():
            both = [mine[seed] - theirs[seed] for seed in sorted(set(mine) & set(theirs))]
            if other != ours and both and only in (None, other):
                found.setdefault(labels, {})[other] = interval(both)
    return found


def disturbed(cells: dict[str, Any]) -> list[str]:
    """Cells with far fewer steps than the same cell of other seeds, or other cells like it."""
    kinds: dict[tuple[str, str], dict[str, int]] = {}
    for name, cell in cells.items():
        method, labels, _ = name.split("/")
        if cell.get("steps"):
            kinds.setdefault((method, labels), {})[name] = cell["steps"]
    found = []
    for steps in kinds.values():
        usual = statistics.median(steps.values())
        found += [name for name, count in steps.items() if count < DISTURBED * usual]
    return sorted(found)


if __name__ == "__main__":
    main()
