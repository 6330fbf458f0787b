"""One pre-training on images and clips, one model that classifies both: CIFAR-10 and J-HMDB.

    python benchmarks/joint.py --pretrain 15 --tune 5

`discern pretrain` and `discern train` get both folders; 100 labels per image class, and all that a
class of clips has.  Clips of one film stay on one side of the validation split.  The control is
the same tuning from scratch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from few_labels import HERE, commit, film, hardware, unpacked, versions

LABELS = 100  # per class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pretrain", type=float, default=15.0, metavar="MINUTES")
    parser.add_argument("--tune", type=float, default=5.0, metavar="MINUTES")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    images, clips = (unpacked(name, args.out) for name in ("cifar10", "jhmdb"))
    work = args.out / f"joint_{args.pretrain:g}+{args.tune:g}" / str(args.seed)
    shared = [str(images), str(clips), "--seed", str(args.seed)]
    shared += ["--set", f"data.group_by={film(clips)}"]
    tuning = ["train", *shared, "--labels", str(LABELS), "--minutes", f"{args.tune:g}"]
    runs = {
        "pretrain": ["pretrain", *shared, "--minutes", f"{args.pretrain:g}"],
        "pretrained": [*tuning, "--from", str(work / "pretrain")],
        "scratch": tuning,
    }
    command = " ".join(["python", "benchmarks/joint.py", *sys.argv[1:]])
    found: dict[str, Any] = {
        "command": command.replace(str(args.out), "OUT"),
        "hardware": hardware(),
        "commit": commit(),
        "versions": versions(),
        "minutes": {"pretrain": args.pretrain, "tune": args.tune},
        "seed": args.seed,
    }
    for name, words in runs.items():
        found[name] = discern([*words, "--out", str(work / name)], work / name)
        print(name, json.dumps(found[name]), flush=True)
    path = HERE / "results" / f"joint_{args.pretrain:g}+{args.tune:g}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")


def discern(words: list[str], out: Path) -> dict[str, Any]:
    """What a reader needs of a run's results; a finished run is not run again."""
    if not (out / "results.json").exists():
        subprocess.run([sys.executable, "-m", "discern", *words], check=True)
    results = json.loads((out / "results.json").read_text())
    chosen = {name: results.get(name) for name in ("steps", "train_seconds", "knn", "kinds")}
    for kind in ("images", "clips"):
        if kind in results:
            block = results[kind]
            chosen[kind] = {name: block.get(name) for name in ("accuracy", "accuracy_interval")}
            chosen[kind]["items"] = block["samples"]
    return {name: value for name, value in chosen.items() if value is not None}


if __name__ == "__main__":
    main()
