"""An item of our smallest size beside hand-crafted methods: what is trained, timed and held
against what.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_the_smallest_size_is_trained_once_for_each_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import item_time

    told: list[tuple[Any, ...]] = []

    def discern(verb: str, folder: Path, args: Any, *given: Any) -> dict[str, Any]:
        told.append((verb, args.data, *given))
        kept = ("minutes", "steps", "validation_accuracy", "labels_used")
        return dict.fromkeys(kept, 1) | {"command": f"{verb} {given[0].name}"}

    monkeypatch.setattr(item_time, "discern", discern)
    args = argparse.Namespace(out=tmp_path, minutes=10.0)
    image = item_time.trained(args, "cifar10", tmp_path, 3)
    clip = item_time.trained(args, "jhmdb", tmp_path, 3)
    size = ("--size", "hybrid_pico")
    home, clips = tmp_path / "item_time" / "cifar10" / "3", tmp_path / "item_time" / "jhmdb" / "3"
    objects, start = ("--recipe", "objects"), ("--from", str(home / "p"))
    assert told == [
        ("pretrain", "cifar10", home / "p", 3, 5.0, *objects, *size),
        ("train", "cifar10", home / "t", 3, 5.0, *objects, *start, "--labels", "100"),
        ("train", "jhmdb", clips / "t", 3, 10.0, "--recipe", "videos", *size),
    ]
    assert image["pretrain_command"] == "pretrain p" and image["run"] == home / "t"
    assert "pretrain_command" not in clip and clip["command"] == "train t"


def test_the_cheapest_of_ours_is_held_against_each_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import item_time
    import speed_tables

    def ran(torch: float, onnx: float) -> dict[str, Any]:
        said = {"torch": (torch, 200.0), "onnx": (onnx, 50.0)}
        keys = ("accuracy", "microseconds_per_item")
        return {"ran": {where: dict(zip(keys, one, strict=True)) for where, one in said.items()}}

    hand = {
        "hog_linear": {"accuracy": 0.5, "microseconds_per_item": 25.0},
        "hog_svm": {"accuracy": 0.55, "microseconds_per_item": 75.0},
        "color_histogram": {"accuracy": 0.59, "microseconds_per_item": 75.0},
    }
    cells = {
        "cifar10/0": ran(0.70, 0.58),
        "cifar10/1": ran(0.80, 0.62),
        "jhmdb/0": ran(0.10, 0.10),
        "cifar10/handcrafted": {"methods": hand, "scikit_image_hog": None},
    }
    found = item_time.of_set("cifar10", cells)
    assert found["ours"]["torch"]["accuracy"]["mean"] == pytest.approx(0.75)
    assert {one["by"] for one in found["against"].values()} == {"onnx"}
    assert found["against"]["hog_svm"]["times_as_cheap"] == pytest.approx(1.5)
    assert found["against"]["hog_svm"]["points"]["mean"] == pytest.approx(0.05)
    assert item_time.of_set("jhmdb", cells)["against"] == {}

    monkeypatch.setattr(speed_tables, "HANDCRAFTED", {name: name for name in hand})
    # hog_linear is cheaper, and how far above the histogram ours is holds zero
    said = speed_tables._not_beaten({"cifar10": found})
    assert said.startswith("On CIFAR-10 ours in ONNX is cheaper")
    assert said.endswith("except: hog_linear, hog_svm, color_histogram. ")
    surer = {"cifar10/0": ran(0.7, 0.61), "cifar10/1": ran(0.7, 0.611)}
    said = speed_tables._not_beaten({"cifar10": item_time.of_set("cifar10", cells | surer)})
    assert said.endswith("except: hog_linear. ")
    del surer["cifar10/0"], hand["hog_linear"]
    alone = {**surer, "cifar10/2": ran(0.7, 0.611), "cifar10/handcrafted": {"methods": hand}}
    said = speed_tables._not_beaten({"cifar10": item_time.of_set("cifar10", alone)})
    assert said.endswith("more often right. ")


def test_an_answer_is_timed_by_the_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import item_time

    moments = iter([0.0, 9.0, 9.0, 10.0, 10.0, 10.5, 10.5, 12.0])
    monkeypatch.setattr(item_time.time, "process_time", lambda: next(moments))
    asked: list[int] = []

    def runner(frames: np.ndarray) -> dict[str, np.ndarray]:
        asked.append(len(frames))
        return {"probabilities": frames[:, :2]}

    frames = np.arange(10.0).reshape(5, 2)
    assert item_time.chances(runner, frames, at_once=2).tolist() == frames.tolist()
    assert asked == [2, 2, 1]
    # the first of four is not counted, and of the others the shortest is
    assert item_time.timed(lambda frames: None, frames) == pytest.approx(0.5e6 / 5)
