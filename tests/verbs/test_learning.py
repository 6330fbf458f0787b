"""`pretrain` and `train` through the command line: what they leave, go on with, and refuse."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discern.cli import main
from discern.security.guard import WEIGHTS
from discern.train import loop
from discern.train.checkpoint import load_latest
from tests.verbs.scene import (
    BUNDLE,
    CLIPS,
    COMMON,
    ENCODER,
    GENERATOR,
    GUARDED,
    IMAGES,
    MEASURES,
    RUN,
    Scene,
    flags,
    results,
)


def test_pretrain_leaves_a_run(scene: Scene) -> None:
    run = scene.pretrained
    assert {path.name for path in run.iterdir()} >= RUN
    assert {path.name for path in (run / "model").iterdir()} == BUNDLE
    found = results(run)
    assert found["stopped_by"] == "steps" and found["steps"] == 6 and found["target"] is None
    assert found["kinds"] == {"image": 60, "clip": 24} and found["samples"] == 84
    assert set(found["knn"]) == {"knn_images", "knn_clips"}
    assert set(found["sample_quality"]) == {"images", "clips"}
    for block in found["sample_quality"].values():
        assert block["frechet"] > 0 and block["frechet_of_real"] > 0 and block["kernel_error"] > 0
    logged = (run / "log.jsonl").read_text()
    assert "frechet_of_real_clips" in logged and "kernel_images" in logged
    answer = json.loads(scene.answers["pretrain"][1])
    assert found.items() <= answer.items()
    assert answer["next"].startswith("discern train LABELLED-FOLDER --from ")
    latest = load_latest(run / "checkpoints")
    assert latest is not None and latest.step == 6
    assert json.loads((run / "model" / "labels.json").read_text()) == []
    stored = json.loads((run / "config.json").read_text())
    assert stored["verb"] == "pretrain" and stored["settings"]["backbone"]["width"] == 32
    samples = {path.name for path in (run / "samples").iterdir()}
    assert {"generated_images.png", "generated_clips.gif"} <= samples


def test_train_leaves_a_model_and_its_measures(scene: Scene) -> None:
    run = scene.tuned
    assert {path.name for path in run.iterdir()} >= {*RUN, "predictions.jsonl", "splits.json"}
    assert {path.name for path in (run / "model").iterdir()} == GUARDED
    found = results(run)
    assert found.keys() >= {*MEASURES, "images", "clips"}
    assert found["samples"] == 36 == found["images"]["samples"] + found["clips"]["samples"]
    assert found["stopped_by"] == "steps" and found["target"] is None and found["steps"] == 8
    low, high = found["accuracy_interval"]
    assert 0 <= low <= found["accuracy"] <= high <= 1
    assert set(found["per_class"]) == IMAGES | CLIPS
    assert np.sum(found["confusion"]) == 36
    for block in (found["images"], found["clips"]):
        assert block["microseconds_per_item"] > 0
        assert block["guard"]["scores"] == list(WEIGHTS)[:-1]
        assert block["guard"]["microseconds_per_item"] > block["microseconds_per_item"]
        assert block["guard"]["samples"] == block["samples"]
    assert found["guard"]["samples"] == 36 and found["guard"]["false_alarms"] == 0.2
    assert found["temperature"] > 0 and found["ece_uncalibrated"] >= 0
    assert json.loads((run / "model" / "labels.json").read_text()) == sorted(IMAGES | CLIPS)
    said = json.loads(scene.answers["train"][1])
    assert found.items() <= said.items() and said["report"].endswith("report.html")


def test_the_test_split_is_what_is_measured(scene: Scene) -> None:
    lines = (scene.tuned / "predictions.jsonl").read_text().splitlines()
    keys = sorted(json.loads(line)["key"] for line in lines)
    test = [path.relative_to(scene.data).as_posix() for path in scene.data.glob("test/*/*")]
    assert keys == sorted(test)
    splits = json.loads((scene.tuned / "splits.json").read_text())
    seen = json.dumps({name: keys for name, keys in splits.items() if name != "test"})
    assert '"test/' not in seen and '"train/' in seen


def test_the_bundle_is_what_its_manifest_says(scene: Scene, tmp_path: Path) -> None:
    model = scene.tuned / "model"
    files = json.loads((model / "manifest.json").read_text())["files"]
    assert files.keys() == GUARDED - {"manifest.json"}
    for name, entry in files.items():
        data = (model / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for name in GUARDED:
        copy = tmp_path / name / "model"
        shutil.copytree(model, copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        assert main(["predict", str(copy), str(scene.one("test/*/*.png"))]) == 6, name


def test_a_finished_run_is_left_alone(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    before = (scene.tuned / "results.json").read_bytes()
    words = ["train", str(scene.data), "--from", str(scene.pretrained), "--out", str(scene.tuned)]
    assert main([*words, "--steps", "8", *flags(*COMMON)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "holds a finished run" in said
    assert (scene.tuned / "results.json").read_bytes() == before
    (scene.root / "mine").mkdir(exist_ok=True)
    (scene.root / "mine" / "letter.txt").write_text("dear")
    assert main(["train", str(scene.data), "--out", str(scene.root / "mine")]) == 2
    assert "letter.txt" in capsys.readouterr().err
    assert [path.name for path in (scene.root / "mine").iterdir()] == ["letter.txt"]


def test_an_unfinished_training_goes_on(
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step_rng = loop.step_rng

    def sending(seed: int, step: int, *more: Any) -> Any:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step_rng(seed, step, *more)

    run = tmp_path / "run"
    words = ["train", str(scene.data), "--from", str(scene.pretrained), "--out", str(run)]
    words += ["--steps", "8", *flags(*COMMON)]
    monkeypatch.setattr(loop, "step_rng", sending)
    assert main(words) == 143
    monkeypatch.undo()
    assert main([*words, "--rate", "0.5"]) == 2  # another rate would be another run
    assert "-> 0.5): use the same" in capsys.readouterr().err
    assert main(words) == 0
    again, whole = (out / "model" / "model.safetensors" for out in (run, scene.tuned))
    assert again.read_bytes() == whole.read_bytes()
    compared = {"accuracy", "confusion", "ece", "validation_accuracy"}
    one, other = results(run), results(scene.tuned)
    assert {key: one[key] for key in compared} == {key: other[key] for key in compared}


def test_other_forms_of_a_source(scene: Scene, tmp_path: Path) -> None:
    assert main(["data", "convert", str(scene.data), str(tmp_path / "tf"), "--to", "tfrecord"]) == 0
    lines = ["path,label,split"]
    for path in sorted(scene.data.rglob("*.png")):
        key = path.relative_to(scene.data)
        lines.append(f"{path},{'small' if key.parts[1] < 'digit-5' else 'large'},{key.parts[0]}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in sorted(scene.data.rglob("*.png"))[:20]:
        shutil.copy(path, flat)
    short = ["--steps", "2", *flags(*ENCODER, *COMMON)]
    runs = {
        "shards": (["train", f"{tmp_path}/tf/*.tfrecord"], 36, IMAGES | CLIPS),
        "listed": (["train", f"{tmp_path}/list.csv"], 20, {"small", "large"}),
    }
    for name, (words, samples, classes) in runs.items():
        assert main([*words, "--out", str(tmp_path / name), *short]) == 0
        found = results(tmp_path / name)
        assert found["samples"] == samples and set(found["per_class"]) == classes
    words = ["pretrain", str(flat), str(tmp_path / "tf"), "--out", str(tmp_path / "both")]
    assert main([*words, *short, *flags(*GENERATOR)]) == 0
    assert results(tmp_path / "both")["kinds"] == {"image": 80, "clip": 24}


def test_a_target_out_of_reach_exits_3(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(scene.data), "--from", str(scene.pretrained), *flags(*COMMON)]
    words += ["--target-accuracy", "1", "--steps", "2"]
    assert main([*words, "--out", str(tmp_path / "far")]) == 3
    shown = capsys.readouterr().out
    assert "stopped by  steps" in shown and "target  100.0%" in shown
    found = results(tmp_path / "far")
    assert found["stopped_by"] == "steps" and found["target"] == 1.0 and found["samples"] == 36
    words[words.index("1")] = "0.01"
    assert main([*words, "--out", str(tmp_path / "near"), "--set", "loop.evaluations=2"]) in (0, 3)
    near = results(tmp_path / "near")
    assert (near["stopped_by"] == "target") == (near["validation_accuracy"] >= 0.01)
