"""How well the guard of a CIFAR-10 model tells what it was never taught, beside two usual methods.

    python benchmarks/guard.py --minutes 3 --labels 0 --seeds 0 1 2
    python benchmarks/guard.py --pretrain 4 --minutes 3 --labels 0 --table guard_pretrained

Against vehicles that are no CIFAR-10 class, faces, digits, noise, and frames of J-HMDB; each is one
`discern evaluate MODEL cifar10 --unknown SET`.  A model is trained for each seed, for `--minutes`,
after `--pretrain` minutes of pre-training.  The test split is read for measuring only; threshold
and temperature are those in the bundle.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from few_labels import HERE, commit, hardware, interval, unpacked, versions
from PIL import Image

LABELS = 100  # per class, of a model that is trained here
ITEMS = 1000  # of each set, at most
# Tiny-ImageNet's names for what CIFAR-10 calls automobile, truck or ship
KNOWN = ("beach_wagon", "convertible", "sports_car", "limousine", "police_van", "moving_van")
KNOWN += ("lifeboat", "gondola")
METHODS = ("guard", "knn", "max_softmax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="Of training.")
    parser.add_argument("--pretrain", type=float, default=0.0, help="Minutes of it before that.")
    parser.add_argument("--labels", type=int, default=LABELS, help="Per class; 0: all.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--table", default="guard", help="Name of the JSON.")
    args = parser.parse_args()
    cifar = unpacked("cifar10", args.out)
    command = " ".join(["python", "benchmarks/guard.py", *sys.argv[1:]])
    models = []
    for seed in args.seeds:
        models.append({"seed": seed} | measured(trained(cifar, args, seed), cifar, args))
        print(json.dumps(models[-1], indent=1), flush=True)
    found = {
        "command": command.replace(str(args.out), "OUT"),
        "hardware": hardware(),
        "commit": commit(),
        "versions": versions(),
        "pretrain": args.pretrain,
        "minutes": args.minutes,
        "labels": args.labels,
        "models": models,
    }
    found |= summary(models)
    (HERE / "results" / f"{args.table}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["margins"], indent=1))


def trained(cifar: Path, args: argparse.Namespace, seed: int) -> Path:
    """A run that is tuned for some minutes, from scratch if none come before; or one there is."""
    home = args.out / "guard" / f"models-{args.labels}-{args.pretrain:g}+{args.minutes:g}"
    pretrained, run = home / f"{seed}-pretrained", home / str(seed)
    if (run / "results.json").exists():
        return run
    words = ["train", str(cifar), "--out", str(run), "--minutes", f"{args.minutes:g}"]
    words += ["--labels", str(args.labels)] if args.labels else []
    if args.pretrain > 0:
        before = ["pretrain", str(cifar), "--out", str(pretrained)]
        discern([*before, "--minutes", f"{args.pretrain:g}", "--seed", str(seed)])
        words += ["--from", str(pretrained)]
    discern([*words, "--seed", str(seed)])
    return run


def discern(words: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "discern", *words], check=True)


def measured(model: Path, cifar: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What one model makes of what it knows, and of each set of what it does not."""
    known: dict[str, Any] = {}
    sets = {}
    for name in args.sets:
        work = args.out / "guard" / f"{model.parent.name}_{model.name}_{name}"
        if not (work / "results.json").exists():
            words = ["evaluate", str(model), str(cifar), "--unknown", str(SETS[name](args.out))]
            discern([*words, "--out", str(work)])
        results = json.loads((work / "results.json").read_text())
        known = of_known(results)
        sets[name] = of_unknown(results["guard"]["unknown"])
    return known | {"sets": sets}


def of_known(results: dict[str, Any]) -> dict[str, Any]:
    """What a reader needs about the items that the model knows."""
    guard = results["guard"]
    names = ("accuracy", "accuracy_interval", "ece", "ece_uncalibrated", "temperature", "samples")
    chosen = ("false_alarms", "flagged", "flagged_interval", "calibrated_on", "items", "alarms")
    chosen += ("alarms_interval", "scores", "microseconds_per_item")
    low, high = guard["alarms_interval"]
    known = {name: results.get(name) for name in names}
    test_low, test_high = guard["flagged_interval"]
    return known | {
        "guard": {name: guard.get(name) for name in chosen},
        # few validation items leave the rate open: the first says that it is within what they allow
        "flagged_within_validation_interval": low <= guard["flagged"] <= high,
        "stated_within_test_interval": test_low <= guard["false_alarms"] <= test_high,
    }


def of_unknown(block: dict[str, Any]) -> dict[str, Any]:
    """AUROC and detection of each method on one set."""
    found: dict[str, Any] = {"items": block["samples"], "flagged": block["flagged"]}
    for name in METHODS:
        values = block if name == "guard" else block[name]
        found[name] = {key: values[key] for key in ("auroc", "detected")}
    return found


def summary(models: list[dict[str, Any]]) -> dict[str, Any]:
    """AUROC by set and method over the models, and how far the guard is above each other method."""
    areas: dict[str, dict[str, Any]] = {}
    margins: dict[str, dict[str, Any]] = {}
    for name in models[0]["sets"]:
        by = {
            method: np.array([model["sets"][name][method]["auroc"] for model in models])
            for method in METHODS
        }
        areas[name] = {method: interval(list(values)) for method, values in by.items()}
        margins[name] = {method: interval(list(by["guard"] - by[method])) for method in METHODS[1:]}
    return {"auroc": areas, "margins": margins}


def vehicles(out: Path) -> Path:
    """Kinds of vehicles that CIFAR-10 has no class for."""
    folder = unpacked("tiny_imagenet_vehicles", out)
    files = [path for path in sorted(folder.glob("*/*/*.jpg")) if path.parent.name not in KNOWN]
    return linked(out / "guard" / "vehicles", spread(files))


def faces(out: Path) -> Path:
    files = sorted(unpacked("extended_yaleb", out).glob("*/*/*.png"))
    return linked(out / "guard" / "faces", spread(files))


def digits(out: Path) -> Path:
    """Handwritten digits that scikit-learn ships, grey, 8 x 8."""
    from sklearn.datasets import load_digits

    images = load_digits().images[:ITEMS] / 16 * 255
    return written(out / "guard" / "digits", images.astype(np.uint8))


def noise(out: Path) -> Path:
    """Uniform pixels, and normal ones around grey, in turn."""
    rng = np.random.default_rng(0)
    uniform = rng.integers(0, 256, (ITEMS // 2, 32, 32, 3))
    normal = rng.normal(128, 40, (ITEMS // 2, 32, 32, 3)).clip(0, 255)
    return written(out / "guard" / "noise", np.concatenate([uniform, normal]).astype(np.uint8))


def frames(out: Path) -> Path:
    """The middle frame of each clip of J-HMDB."""
    from discern.data.decode import decode
    from discern.data.limits import Limits

    folder = out / "guard" / "frames"
    if not folder.exists():
        clips = spread(sorted(unpacked("jhmdb", out).glob("*/*/*.mp4")))
        found = [decode(clip.read_bytes(), Limits(), frames=3).frames[1] for clip in clips]
        folder.mkdir(parents=True)
        for number, frame in enumerate(found):
            Image.fromarray(frame).save(folder / f"{number:04d}.png")
    return folder


# name -> a folder of items that are of no class of CIFAR-10
SETS: dict[str, Callable[[Path], Path]] = {
    "vehicles": vehicles,
    "faces": faces,
    "digits": digits,
    "noise": noise,
    "frames": frames,
}


def spread(files: list[Path]) -> list[Path]:
    """At most ITEMS of them, evenly spaced."""
    chosen = np.linspace(0, len(files) - 1, min(ITEMS, len(files))).round().astype(int)
    return [files[index] for index in chosen]


def linked(folder: Path, files: list[Path]) -> Path:
    """A flat folder with links to files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(files):
        link = folder / f"{number:04d}{path.suffix}"
        if not link.exists():
            link.symlink_to(path.resolve())
    return folder


def written(folder: Path, pictures: np.ndarray) -> Path:
    """A flat folder of PNG files.  uint8 [N, H, W] or [N, H, W, 3]"""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:04d}.png")
    return folder


if __name__ == "__main__":
    main()
