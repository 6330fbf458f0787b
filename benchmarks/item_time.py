"""What an item costs on one core: our smallest models, and each hand-crafted method.

    python benchmarks/item_time.py

Frames as all methods see them, in memory, to probabilities; processor time, the best of three.  A
model is one of a single step (time does not hang on what it knows; how often each is right stands
in the tables of its data), the hand-crafted ones are fitted to the labels of those tables, for the
time of a kernel machine hangs on them.  Where the processor computes in bf16, OpenVINO's graph also
runs in it, as `discern export --precision bf16` has it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from few_labels import HERE, SETS, commit, film, hardware, unpacked, versions
from rounds import one_core

TABLE = HERE / "results" / "item_time.json"
DATA = ("cifar10", "jhmdb")
SIZES = ("pico", "nano")
ITEMS, AT_ONCE, REPEATS = {"images": 512, "clips": 64}, {"images": 64, "clips": 8}, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    one_core()
    os.environ["OMP_NUM_THREADS"] = "1"
    found: dict[str, Any] = {
        "command": "python benchmarks/item_time.py --out OUT",
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "sets": {},
    }
    for name in DATA:
        with tempfile.TemporaryDirectory(prefix="discern-item-") as home:
            found["sets"][name] = of_set(name, unpacked(name, args.out), Path(home))
        print(name, found["sets"][name], flush=True)
    TABLE.write_text(json.dumps(found, indent=1) + "\n")


def of_set(name: str, folder: Path, home: Path) -> dict[str, Any]:
    """Microseconds of an item, by method, and how often each hand-crafted one is right."""
    from discern.export.run import RUNNERS, openvino_capabilities
    from discern.recipes.compare import handcrafted
    from discern.recipes.export import export
    from discern.recipes.train import train

    labels, kind = SETS[name]["labels"], SETS[name]["kind"]
    settings = [one.replace("{film}", film(folder)) for one in SETS[name]["settings"]]
    settings += ["threads=1", "loop.evaluations=1", "guard.false_alarms=0"]
    ours: list[dict[str, Any]] = []
    for size in SIZES:
        run = home / size
        done = train(str(folder), run, steps=1, labels=labels, size=size, overrides=settings)
        ours.append({"size": size, "in": "torch", "microseconds": done["microseconds_per_item"]})
        frames = seen(folder, run, ITEMS[kind])
        runners = {}
        for to, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
            export(run, to, home / f"{size}-{to}")
            (graph,) = (home / f"{size}-{to}").glob(f"*{suffix}")
            runners[to] = RUNNERS[to](graph, "fp32", threads=1)
        if "BF16" in openvino_capabilities():  # precision is a hint to the last graph
            runners["openvino in bf16"] = RUNNERS["openvino"](graph, "bf16", threads=1)
        for to, runner in runners.items():
            cost = timed(runner, frames, AT_ONCE[kind])
            ours.append({"size": size, "in": to, "microseconds": cost})
    hand = {
        method: {key: block[key] for key in ("microseconds_per_item", "accuracy")}
        for _, method, block in handcrafted([str(folder)], home / SIZES[-1])
    }
    return {
        "kind": kind,
        "shape": list(frames.shape[1:]),
        "ours": ours,
        "handcrafted": hand,
        "scikit_image_hog": usual_hog(frames) if kind == "images" else None,
    }


def usual_hog(frames: np.ndarray) -> float:
    """Microseconds of processor time of an image's HOG by scikit-image, without a classifier."""
    from skimage.color import rgb2gray
    from skimage.feature import hog

    taken = []
    for _ in range(REPEATS):
        started = time.process_time()
        for frame in frames[:, 0]:
            hog(rgb2gray(frame), 9, pixels_per_cell=(8, 8), cells_per_block=(2, 2))
        taken.append(time.process_time() - started)
    return 1e6 * min(taken) / len(frames)


def seen(folder: Path, run: Path, count: int) -> np.ndarray:
    """Test items as a run sees them.  -> uint8 [N, T, h, w, 3]"""
    from discern.data.badfiles import BadFiles
    from discern.recipes.compare import settings_of
    from discern.recipes.prepare import divide, load_sets, open_checked

    source, config = open_checked([str(folder)]), settings_of(run)
    parts = divide(source, config.data, run)
    bad = BadFiles(None, allowed=1.0)
    (found,) = load_sets(
        source, parts.splits.test[:count], config, bad, classes=parts.classes
    ).values()
    return found.take_even()


def timed(runner: Callable[[np.ndarray], Any], frames: np.ndarray, at_once: int) -> float:
    """Microseconds of processor time of an item."""
    taken = []
    for _ in range(REPEATS + 1):  # the first pays for what is loaded
        started = time.process_time()
        for first in range(0, len(frames), at_once):
            runner(frames[first : first + at_once])
        taken.append(time.process_time() - started)
    return 1e6 * min(taken[1:]) / len(frames)


if __name__ == "__main__":
    main()
