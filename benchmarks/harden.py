"""What hardening holds and costs on CIFAR-10, and what drawn images add to it.

    python benchmarks/harden.py --cells plain hardened --plain 10 --minutes 60
    python benchmarks/harden.py --cells without drawn --seeds 0 1 2 --share-minutes 4 --items 1000

`plain` and `hardened` learn from all labels, from the weights that ship; `without` and `drawn` from
100 labels a class in equal minutes, the second with a quarter of each batch drawn by the generator.
Each is one `discern train`, then one `discern attack` (L-inf, 8/255) on test images: by the
standard suite where a number stands for itself, by the quick one where two are compared, on more
images in the same time.  Cells are resumable; a cell that is in the table is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from few_labels import HERE, commit, hardware, interval, set_to, unpacked, versions

TABLE = HERE / "results" / "harden.json"
START, SIZE = "discern-nano", "linf:8/255"
FEW = 100  # labels per class of the A/B
SHARE = 0.25  # of a batch, drawn
HARD = ("--harden", SIZE)
SUITES = {"plain": "standard", "hardened": "standard", "without": "quick", "drawn": "quick"}
CELLS: dict[str, tuple[str, ...]] = {
    "plain": ("--set", "objective=supervised"),
    "hardened": HARD,
    "without": (*HARD, "--labels", str(FEW)),
    "drawn": (*HARD, "--labels", str(FEW), "--set", f"supervised.generated={SHARE:g}"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--plain", type=float, default=10.0, help="Minutes of `plain`.")
    parser.add_argument("--minutes", type=float, default=60.0, help="Of `hardened`.")
    parser.add_argument("--share-minutes", type=float, default=4.0, help="Of the A/B's two.")
    parser.add_argument("--items", type=int, default=500, help="Test images that are attacked.")
    parser.add_argument("--set", action="append", default=[], help="Of every training but plain's.")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    cifar = unpacked("cifar10", args.out)
    done: dict[str, Any] = {"cells": {}}
    if TABLE.exists():
        done = json.loads(TABLE.read_text())
    for seed in args.seeds:
        for cell in args.cells:
            if f"{cell}-{seed}" in done["cells"]:
                continue
            words = " ".join(["python", "benchmarks/harden.py", *sys.argv[1:]])
            command = words.replace(str(args.out), "OUT")
            done["cells"][f"{cell}-{seed}"] = measured(cell, seed, cifar, args) | {
                "command": command
            }
            done["summary"] = summary(done["cells"])
            done["command"] = command
            TABLE.write_text(json.dumps(done, indent=1) + "\n")
            print(cell, seed, json.dumps(done["cells"][f"{cell}-{seed}"]), flush=True)
    print(json.dumps(done["summary"], indent=1))


def measured(cell: str, seed: int, cifar: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train one model and attack it by the standard suite."""
    minutes = {"plain": args.plain, "hardened": args.minutes}.get(cell, args.share_minutes)
    run = args.out / "harden" / f"{cell}-{minutes:g}-{seed}"
    words = ["train", str(cifar), "--from", START, "--out", str(run), *CELLS[cell]]
    words += ["--minutes", f"{minutes:g}", "--seed", str(seed)]
    if cell != "plain":
        words += set_to(args.set)
    attack = ["attack", str(run), str(cifar), "--suite", SUITES[cell], "--eps", "8/255"]
    attack += ["--items", str(args.items), "--out", str(run.with_name(run.name + "-attack"))]
    trained = results(words, run)
    broken = results(attack, run.with_name(run.name + "-attack"))
    found = {k: trained[k] for k in ("accuracy", "accuracy_interval", "steps", "train_seconds")}
    names = ("worst_case", "worst_case_interval", "after", "steps", "flags")
    found |= {
        "minutes": minutes,
        "suite": SUITES[cell],
        "attacked": broken["samples"],
        "clean_of_attacked": broken["accuracy"],
        "attack": {name: broken["attack"][name] for name in names},
        "attack_seconds": broken["seconds"],
        "commands": [shown(words, args.out), shown(attack, args.out)],
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
    }
    return found


def results(words: list[str], out: Path) -> dict[str, Any]:
    if not (out / "results.json").exists():
        subprocess.run([sys.executable, "-m", "discern", *words], check=True)
    return json.loads((out / "results.json").read_text())  # type: ignore[no-any-return]


def shown(words: list[str], out: Path) -> str:
    return " ".join(["discern", *words]).replace(str(out), "OUT")


def summary(cells: dict[str, Any]) -> dict[str, Any]:
    """Of each kind of cell the robust accuracy; and what drawn images add, paired by seed."""
    found = {
        kind: interval([held(cells, name) for name in cells if name.rsplit("-", 1)[0] == kind])
        for kind in CELLS
        if any(name.rsplit("-", 1)[0] == kind for name in cells)
    }
    seeds = [name.rsplit("-", 1)[1] for name in cells if name.startswith("drawn-")]
    gains = [
        held(cells, f"drawn-{seed}") - held(cells, f"without-{seed}")
        for seed in seeds
        if f"without-{seed}" in cells
    ]
    return found | ({"drawn_adds": interval(gains)} if gains else {})


def held(cells: dict[str, Any], name: str) -> float:
    return float(cells[name]["attack"]["worst_case"])


if __name__ == "__main__":
    main()
