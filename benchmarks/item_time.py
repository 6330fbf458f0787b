"""What an item costs on one core, and how often each is right: our smallest size, and every
hand-crafted method, in the same run.

    python benchmarks/item_time.py --minutes 10 --seeds 0 1 2

Ours is `--size hybrid_pico`, trained for the minutes on one thread: images are pre-trained for half
of them and tuned for the other half with the labels of the tables of few labels, clips are tuned
for all.  Hand-crafted methods are fitted to the labels of those trainings.  Frames as all methods
see them, in memory, to probabilities; processor time, the best of three.  An exported graph is
asked about all test items itself.  Where the processor computes in bf16, OpenVINO's also runs in
it, as `discern export --precision bf16` has it.  `--train-only` trains now and leaves the rest to a
later run, when nothing else runs.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cells import Filled
from few_labels import HERE, SETS, discern, handcrafted_on, interval, unpacked
from rounds import one_core
from uses import arguments

TABLE = HERE / "results" / "item_time.json"
DATA = {"cifar10": "objects", "jhmdb": "videos"}  # and the recipe of each
SIZE = ("--size", "hybrid_pico")
ITEMS, AT_ONCE, REPEATS = {"images": 512, "clips": 64}, {"images": 64, "clips": 8}, 3
BY_HAND = "handcrafted"


def main() -> None:
    args = arguments(__doc__, minutes=10.0)
    folders = {name: unpacked(name, args.out) for name in DATA}
    if args.train_only:
        for seed in args.seeds:
            for name in DATA:
                trained(args, name, folders[name], seed)
        return
    one_core()
    table = Filled(
        TABLE, args, lambda cells: {"sets": {name: of_set(name, cells) for name in DATA}}
    )
    for name, folder in folders.items():
        for seed in args.seeds:
            table.fill(f"{name}/{seed}", partial(ours, args, name, folder, seed))
        run = trained(args, name, folder, args.seeds[0])["run"]
        table.fill(f"{name}/{BY_HAND}", partial(by_hand, name, folder, run))


def trained(args: argparse.Namespace, name: str, folder: Path, seed: int) -> dict[str, Any]:
    """The run of a seed, which is not trained again where it is there, and how it was made."""
    args.data = name
    home, labels = args.out / "item_time" / name / str(seed), SETS[name]["labels"]
    words = ["--recipe", DATA[name]]
    told, minutes = {}, args.minutes
    if SETS[name]["kind"] == "images":
        minutes /= 2
        first = discern("pretrain", folder, args, home / "p", seed, minutes, *words, *SIZE)
        told = {"pretrain_command": first["command"], "pretrain_minutes": minutes}
        words += ["--from", str(home / "p")]
    else:
        words += SIZE
    if labels is not None:
        words += ["--labels", str(labels)]
    found = discern("train", folder, args, home / "t", seed, minutes, *words)
    for verb in ("p", "t"):
        shutil.rmtree(home / verb / "checkpoints", ignore_errors=True)
    kept = ("command", "minutes", "steps", "validation_accuracy", "labels_used")
    return told | {key: found[key] for key in kept} | {"run": home / "t"}


def ours(args: argparse.Namespace, name: str, folder: Path, seed: int) -> dict[str, Any]:
    """How a trained model is made, and where it runs -> accuracy on test items and time of one."""
    from discern.evaluate.evaluate import evaluate

    found, kind = trained(args, name, folder, seed), SETS[name]["kind"]
    run = found.pop("run")
    with tempfile.TemporaryDirectory(prefix="discern-item-") as place:
        home = Path(place)
        torch_said = evaluate(run, str(folder), home / "found")
        keys = ("accuracy", "microseconds_per_item")
        ran = {"torch": {key: torch_said[key] for key in keys}}
        frames, labels = seen(folder, run)
        for where, runner in graphs(run, home):
            ask = partial(chances, runner, at_once=AT_ONCE[kind])
            ran[where] = {
                "accuracy": float(np.mean(ask(frames).argmax(1) == labels)),
                "microseconds_per_item": timed(ask, frames[: ITEMS[kind]]),
            }
    return found | {"ran": ran, "shape": list(frames.shape[1:])}


def by_hand(name: str, folder: Path, run: Path) -> dict[str, Any]:
    """Every hand-crafted method on the items of a run, and what scikit-image takes for an image."""
    usual = None
    if SETS[name]["kind"] == "images":
        usual = usual_hog(seen(folder, run)[0][: ITEMS["images"]])
    return {"methods": handcrafted_on(folder, run), "scikit_image_hog": usual}


def of_set(name: str, cells: dict[str, Any]) -> dict[str, Any]:
    """Ours by where it runs, over seeds, and against each hand-crafted method the cheapest one."""
    rows = [
        cells[key]["ran"] for key in cells if key.startswith(f"{name}/") and "ran" in cells[key]
    ]
    found: dict[str, Any] = {"ours": {}, "against": {}}
    for where in rows[0] if rows else ():
        found["ours"][where] = {
            key: interval([one[where][key] for one in rows]) for key in rows[0][where]
        }
    hand = cells.get(f"{name}/{BY_HAND}")
    if not rows or hand is None:  # not yet filled
        return found

    def cost(where: str) -> float:
        return found["ours"][where]["microseconds_per_item"]["mean"]

    least = min(found["ours"], key=cost)
    for method, block in hand["methods"].items():
        found["against"][method] = {
            "by": least,
            "points": interval([one[least]["accuracy"] - block["accuracy"] for one in rows]),
            "times_as_cheap": block["microseconds_per_item"] / cost(least),
        }
    return found


def graphs(run: Path, home: Path) -> list[tuple[str, Callable[[np.ndarray], Any]]]:
    """Where else a model runs, and what runs it there on one thread."""
    from discern.export.run import RUNNERS, openvino_capabilities
    from discern.recipes.export import export

    found = []
    for to, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
        export(run, to, home / to)
        (graph,) = (home / to).glob(f"*{suffix}")
        found.append((to, RUNNERS[to](graph, "fp32", threads=1)))
    if "BF16" in openvino_capabilities():  # precision is a hint to the last graph
        found.append(("openvino in bf16", RUNNERS["openvino"](graph, "bf16", threads=1)))
    return found


def usual_hog(frames: np.ndarray) -> float:
    """Microseconds of processor time of an image's HOG by scikit-image, without a classifier."""
    from skimage.color import rgb2gray
    from skimage.feature import hog

    def every(images: np.ndarray) -> None:
        for frame in images[:, 0]:
            hog(rgb2gray(frame), 9, pixels_per_cell=(8, 8), cells_per_block=(2, 2))

    return timed(every, frames)


def seen(folder: Path, run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Test items as a run sees them.  -> uint8 [N, T, h, w, 3], labels [N]"""
    from discern.data.badfiles import BadFiles
    from discern.recipes.compare import settings_of
    from discern.recipes.prepare import divide, load_sets, open_checked

    source, config = open_checked([str(folder)]), settings_of(run)
    parts = divide(source, config.data, run)
    bad = BadFiles(None, allowed=1.0)
    (found,) = load_sets(source, parts.splits.test, config, bad, classes=parts.classes).values()
    return found.take_even(), found.labels


def chances(
    runner: Callable[[np.ndarray], dict[str, np.ndarray]], frames: np.ndarray, at_once: int
) -> np.ndarray:
    """Probabilities of all frames, so many items at once.  -> [N, K]"""
    starts = range(0, len(frames), at_once)
    return np.concatenate([runner(frames[at : at + at_once])["probabilities"] for at in starts])


def timed(work: Callable[[np.ndarray], Any], frames: np.ndarray) -> float:
    """Microseconds of processor time of an item."""
    taken = []
    for _ in range(REPEATS + 1):  # the first pays for what is loaded
        started = time.process_time()
        work(frames)
        taken.append(time.process_time() - started)
    return 1e6 * min(taken[1:]) / len(frames)


if __name__ == "__main__":
    main()
