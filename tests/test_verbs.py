"""All verbs on made-up folders, through the command line: their files, keys and exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from discern.cli import main
from discern.clip import Kind
from discern.data.decode import decode
from discern.data.limits import Limits
from discern.data.sources import open_source
from discern.data.synthetic import DigitsConfig, write_digits
from discern.recipes.train import _rest_pays, train
from discern.security.guard import WEIGHTS
from discern.train import loop
from discern.train.checkpoint import load_latest
from tests.faults.killing import write_pictures

ENCODER = ("backbone.width=32", "backbone.depth=1", "backbone.heads=2", "backbone.patch=8")
GENERATOR = ("generator.width=32", "generator.depth=1", "generator.heads=2")
COMMON = (
    "precision=fp32",
    "threads=1",
    "data.preprocess.frames=4",
    "data.preprocess.stored_frames=6",
)

RUN = {"config.json", "log.jsonl", "events", "checkpoints", "model", "results.json", "report.html"}
BUNDLE = {"model.safetensors", "config.json", "labels.json", "preprocess.json", "manifest.json"}
GUARDED = BUNDLE | {"guard.safetensors"}
MEASURES = {
    *("accuracy", "accuracy_interval", "balanced_accuracy", "macro_f1", "ece"),
    *("per_class", "confusion", "seconds", "samples", "guard", "stopped_by", "target"),
}
IMAGES = {f"digit-{digit}" for digit in range(10)}
CLIPS = {f"{parity}-{way}" for parity in ("odd", "even") for way in ("left", "right", "up", "down")}


def flags(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def child(*words: object) -> tuple[int, str, str]:
    """A command line as a process of its own: exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "discern", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout, done.stderr


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())


@dataclass
class Scene:
    """What one user has after the first verbs."""

    root: Path
    data: Path
    pretrained: Path
    tuned: Path
    answers: dict[str, Any]

    def one(self, pattern: str) -> Path:
        return next(iter(sorted(self.data.glob(pattern))))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("verbs")
    data = write_digits(
        root / "data", config=DigitsConfig(train_clips=24, test_clips=16, frames=6, images=80)
    )
    made = Scene(root, data, root / "pretrained", root / "tuned", {})
    settings = flags(*ENCODER, *GENERATOR, *COMMON)
    words = ("pretrain", data, "--out", made.pretrained, "--steps", 6, *settings)
    made.answers["pretrain"] = child(*words, "--json")
    words = ("train", data, "--from", made.pretrained, "--out", made.tuned, "--steps", 8)
    # few items: a rate that they can tell
    made.answers["train"] = child(*words, *flags(*COMMON, "guard.false_alarms=0.2"), "--json")
    for code, _, said in made.answers.values():
        assert code == 0, said
    return made


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


def test_evaluate(scene: Scene, tmp_path: Path) -> None:
    code, out, said = child("evaluate", scene.tuned, scene.data, "--out", tmp_path / "e", "--json")
    assert code == 0, said
    assert {path.name for path in (tmp_path / "e").iterdir()} >= {"results.json", "report.html"}
    found, trained = results(tmp_path / "e"), results(scene.tuned)
    assert found.keys() >= MEASURES
    for key in ("accuracy", "confusion", "ece", "samples", "macro_f1"):
        assert found[key] == trained[key], key
    assert json.loads(out)["accuracy"] == found["accuracy"]
    page = (tmp_path / "e" / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_evaluate_on_unknown_items(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = tmp_path / "strange"
    write_pictures(strange, count=30)
    words = ["evaluate", str(scene.tuned), str(scene.data), "--unknown", str(strange)]
    assert main([*words, "--out", str(tmp_path / "e")]) == 0
    guard, trained = results(tmp_path / "e")["guard"], results(scene.tuned)["guard"]
    assert guard["flagged"] == trained["flagged"] and guard["quantiles"] == trained["quantiles"]
    unknown = guard["unknown"]
    assert unknown["samples"] == 30
    for block in (unknown, unknown["knn"], unknown["max_softmax"]):
        assert 0 <= block["auroc"] <= 1 and 0 <= block["detected"] <= 1
    page = (tmp_path / "e" / "report.html").read_text()
    assert "Maximum softmax" in page and "stated false alarms" in page
    capsys.readouterr()
    # items of its own classes are not unknown
    known = ["evaluate", str(scene.tuned), str(scene.data), "--unknown", str(scene.data)]
    assert main([*known, "--out", str(tmp_path / "f")]) == 4
    assert "leave these out" in capsys.readouterr().err


def test_a_model_without_a_guard(
    scene: Scene,
    tmp_path: Path,
    make_run: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run("--set", "guard.false_alarms=0")
    assert {path.name for path in (run / "model").iterdir()} == BUNDLE
    assert results(run)["guard"] is None
    capsys.readouterr()
    image = scene.one("test/*/*.png")
    assert main(["predict", str(run), str(image), "--json"]) == 0
    assert "unknown" not in json.loads(capsys.readouterr().out)[0]
    words = ["evaluate", str(run), str(scene.data), "--unknown", str(image.parent)]
    assert main([*words, "--out", str(tmp_path / "e")]) == 2
    assert "has no guard (guard.false_alarms=0 asks for none)" in capsys.readouterr().err


def test_without_validation_items(scene: Scene, make_run: Callable[..., Path]) -> None:
    run = make_run("--set", "data.val=0", "--set", "guard.false_alarms=0.1")
    found = results(run)
    assert found["validation_labels"] == 0 and found["temperature"] is None
    assert found["ece"] == found["ece_uncalibrated"]
    assert found["images"]["guard"]["calibrated_on"] == "training folds"


def test_validation_items_that_cannot_be_read_are_left_out(scene: Scene, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(scene.data, data)
    (data / "val").mkdir()
    for number, folder in enumerate(sorted((data / "train").glob("digit-*"))):
        first = sorted(folder.glob("*.png"))[0]
        home = data / "val" / folder.name
        home.mkdir()
        first.rename(home / first.name)
        if number == 0:
            (home / first.name).write_bytes(first.name.encode())  # no picture
    words = ["train", str(data), "--from", str(scene.pretrained), "--steps", "1"]
    words += ["--out", str(tmp_path / "run"), *flags(*COMMON, "guard.false_alarms=0.1")]
    assert main([*words, "--set", "data.allowed_bad=0.2"]) == 0
    found = results(tmp_path / "run")
    assert found["bad_files"] == 1 and found["temperature"] > 0
    assert found["images"]["guard"]["calibrated_on"] == "validation"
    assert found["images"]["guard"]["items"] == 9


def test_a_model_is_not_measured_on_what_it_was_trained_on(tmp_path: Path) -> None:
    source = write_pictures(tmp_path / "pictures", count=30)  # without parts of its own
    words = ["train", str(source), "--out", str(tmp_path / "run"), "--steps", "1"]
    assert main([*words, *flags(*ENCODER[:3], *COMMON)]) == 0
    words = ["evaluate", str(tmp_path / "run"), str(source), "--out"]
    assert main([*words, str(tmp_path / "same")]) == 0
    assert results(tmp_path / "same")["samples"] == results(tmp_path / "run")["samples"] == 6
    source.rename(tmp_path / "other")  # as far as anyone can tell, other data
    assert main([*words[:2], str(tmp_path / "other"), "--out", str(tmp_path / "all")]) == 0
    assert results(tmp_path / "all")["samples"] == 30


def test_one_model_names_images_and_clips(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, clip = scene.one("test/*/*.png"), scene.one("test/*/*.mp4")
    code, out, _ = child("predict", scene.tuned, image, clip, "--top", 3, "--json")
    assert code == 0
    found = json.loads(out)
    assert [entry["file"] for entry in found] == [str(image), str(clip)]
    assert [entry["kind"] for entry in found] == [Kind.IMAGE, Kind.CLIP]
    for entry in found:
        chances = [one["probability"] for one in entry["top"]]
        assert len(chances) == 3 and chances == sorted(chances, reverse=True)
        assert entry["label"] == entry["top"][0]["label"] in IMAGES | CLIPS
        assert entry["unknown"] is (entry["guard_score"] > entry["threshold"])
    broken = tmp_path / "broken.png"
    broken.write_bytes(image.read_bytes()[:60])
    assert main(["predict", str(scene.tuned / "model"), str(broken), str(image)]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{broken}  ") and "%" not in lines[0] and "%" in lines[1]
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert main(["predict", str(scene.tuned), str(tmp_path / "noise.png")]) == 0
    assert "  unknown  (nearest: " in capsys.readouterr().out
    assert main(["predict", str(scene.pretrained), str(image)]) == 2
    assert "--from" in capsys.readouterr().err


SIDE, GAP, FRAMES = 32, 2, 4


def read(path: Path) -> np.ndarray:
    """The frames of a file, 4 of a clip.  -> uint8 [T, H, W, 3]"""
    frames = FRAMES if path.suffix in (".mp4", ".gif") else None
    return decode(path.read_bytes(), Limits(), frames=frames).frames


ROW_OF_3 = 3 * SIDE + 2 * GAP


def test_generate(scene: Scene, tmp_path: Path) -> None:
    code, out, said = child("generate", scene.tuned, "-n", 5, "-o", tmp_path / "a.png", "--json")
    assert code == 0, said
    assert json.loads(out)["count"] == 5
    assert read(tmp_path / "a.png").shape == (1, 2 * SIDE + GAP, ROW_OF_3, 3)
    make = ["generate", str(scene.tuned), "--count", "3", "--out"]
    for name in ("a.mp4", "a.gif", "folder", "b.tfrecord", "seeded.png", "seeded-again.png"):
        seed = ["--seed", "1"] if "seeded" in name else []
        assert main([*make, str(tmp_path / name), *seed]) == 0
    for name in ("a.mp4", "a.gif"):
        clip = read(tmp_path / name)
        assert clip.shape == (FRAMES, 2 * SIDE + GAP, 2 * SIDE + GAP, 3)
        assert clip[:, :SIDE, :SIDE].std() > 0
    pictures = [read(path) for path in sorted((tmp_path / "folder").iterdir())]
    assert [one.shape for one in pictures] == [(1, SIDE, SIDE, 3)] * 3
    source = open_source(str(tmp_path / "b.tfrecord"))
    assert len(source) == 3
    stored = [decode(source.read(number), Limits()).frames for number in range(3)]
    assert all(np.array_equal(one, other) for one, other in zip(stored, pictures, strict=True))
    assert not np.array_equal(pictures[0], pictures[1])
    seeded = [(tmp_path / f"{name}.png").read_bytes() for name in ("seeded", "seeded-again")]
    assert seeded[0] == seeded[1]
    sheet = read(tmp_path / "seeded.png")
    assert not np.array_equal(sheet[0, :SIDE, :SIDE], pictures[0][0])  # another seed than 0
    for out_name, code in (("a.txt", 2), ("a.png/b.png", 2)):
        assert main([*make, str(tmp_path / out_name)]) == code


def test_reconstruct(scene: Scene, tmp_path: Path) -> None:
    image, clip = scene.one("test/*/*.png"), scene.one("test/*/*.mp4")
    out = tmp_path / "r.png"
    code, answer, said = child("reconstruct", scene.tuned, image, "--out", out, "--json")
    assert code == 0, said
    assert json.loads(answer)["mask"] == 0.75
    row = read(out)
    assert row.shape == (1, SIDE, ROW_OF_3, 3)
    original, seen = row[0, :, :SIDE], row[0, :, SIDE + GAP : 2 * SIDE + GAP]
    assert np.array_equal(original, np.asarray(Image.open(image).convert("RGB")))
    hidden = (seen != original).any(axis=-1).mean()
    assert 0.4 < hidden <= 0.76  # some hidden pixels had the colour that stands for hidden
    for name in ("r.mp4", "r.gif"):
        words = ["reconstruct", str(scene.tuned), str(clip), "--out", str(tmp_path / name)]
        assert main([*words, "--mask", "0.5"]) == 0
        assert read(tmp_path / name).shape == (FRAMES, SIDE, ROW_OF_3, 3)
    assert main(["reconstruct", str(scene.tuned), str(clip), "--out", str(tmp_path / "r")]) == 2


def at_most_3(scene: Scene, classes: set[str]) -> int:
    return sum(min(3, len(list(scene.data.glob(f"train/{name}/*")))) for name in classes)


def test_compare(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compared"
    words = ["compare", str(scene.data), "--out", str(out), "--from", str(scene.pretrained)]
    assert main([*words, "--minutes", "0.01", "--labels", "3,all", "--json"]) == 0
    found = results(out)
    assert json.loads(capsys.readouterr().out).items() >= {"images": found["images"]}.items()
    for blocks in (found, found["labels"]["3"], found["labels"]["all"]):
        assert blocks["images"].keys() >= {"pretrained", "scratch", "hog_svm", "hog_linear"}
        assert blocks["clips"].keys() >= {"pretrained", "scratch", "motion"}
        for kind, samples in (("images", 20), ("clips", 16)):
            for method, block in blocks[kind].items():
                assert block.keys() >= {*MEASURES, "microseconds_per_item"}, (kind, method)
                assert block["samples"] == samples, (kind, method)
    assert found["images"] == found["labels"]["all"]["images"]
    few = found["labels"]["3"]
    # with those held out for validation; `pretrained` is one model for both kinds
    images, both = (at_most_3(scene, names) for names in (IMAGES, IMAGES | CLIPS))
    assert few["images"]["hog_svm"]["labels_used"] == images
    assert few["images"]["pretrained"]["labels_used"] == both
    assert (out / "report.html").exists()


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


def test_few_labels(scene: Scene, tmp_path: Path, make_run: Callable[..., Path]) -> None:
    found = results(make_run("--labels", "2"))
    assert found["labels_used"] == 36 and found["validation_labels"] == 18
    assert found["unlabelled"] == 84 - 36
    assert found["samples"] == 36  # the test split is whole


def test_few_labels_and_the_other_items(make_run: Callable[..., Path]) -> None:
    run = make_run("--labels", "2", "--set", "objective=semi", "--set", "semi.start=0")
    found = results(run)
    assert found["labels_used"] == 36 and found["unlabelled"] == 84 - 36
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert settings["data"]["loader"]["batch_size"] == 192  # the recipe of that objective


@pytest.mark.parametrize(
    ("clips", "more", "pays"),
    [
        (False, {"labels": 2}, True),
        (False, {"labels": 2, "minutes": 2.0}, True),
        (False, {"labels": 2, "minutes": 1.9}, False),
        (False, {"labels": 2, "steps": 499}, False),
        (False, {"labels": None}, False),  # every item has its label
        (False, {"labels": 1000}, False),  # and here
        (True, {"labels": 2}, False),
    ],
)
def test_when_items_without_labels_are_learned_from(
    scene: Scene, clips: bool, more: dict[str, Any], pays: bool
) -> None:
    specs = [str(scene.data)]
    if not clips:
        lines = [f"{path},{path.parent.name}" for path in (scene.data / "train").rglob("*.png")]
        manifest = scene.root / "images.csv"
        manifest.write_text("path,label\n" + "\n".join(lines) + "\n")
        specs = [str(manifest)]
    given = {"labels": None, "minutes": None, "steps": None} | more
    assert _rest_pays(open_source(specs, Limits()), **given) == pays


@pytest.mark.parametrize(
    ("given", "objective"),
    [
        ({"steps": 1000}, "semi"),
        ({"steps": 999}, "supervised"),
        ({"minutes": 4.0}, "semi"),
        ({"minutes": 3.9}, "supervised"),
        ({"steps": 1000, "overrides": ["backbone.stem=conv"]}, "supervised"),
        ({"steps": 1000, "size": "nano"}, "supervised"),
        ({"steps": 1000, "size": "nano", "overrides": ["backbone.stem=deep"]}, "semi"),
        ({"minutes": 4.0, "size": "auto"}, "supervised"),
        ({"steps": 1000, "recipe": "faces"}, "supervised"),
    ],
)
def test_from_scratch_the_rest_teaches_an_encoder_that_learns_fast(
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    objective: str,
) -> None:
    for path in (scene.data / "train").rglob("*.png"):
        folder = tmp_path / "images" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)

    class Chosen(Exception):
        """The recipe is settled."""

    def told(config: Any, **_: Any) -> None:
        raise Chosen(config.objective)

    monkeypatch.setattr("discern.recipes.train.within_bounds", told)
    with pytest.raises(Chosen, match=objective):
        train(str(tmp_path / "images"), tmp_path / "run", labels=2, **given)


def test_items_without_labels_of_another_source(
    scene: Scene, tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted((scene.data / "train").rglob("*.png"))[:20]):
        shutil.copy(path, flat / f"{number}.png")
    given = [str(flat), str(scene.data), f"{flat}/1*.png"]  # some of the twenty twice
    words = [word for each in given for word in ("--unlabeled", each)] + ["--set", "semi.start=0"]
    run = make_run("--labels", "2", *words)
    found = results(run)
    # its own without a label in use once, and the twenty; of the test items none
    assert found["unlabelled"] == 84 - 36 + 20 and found["samples"] == 36
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert settings["objective"] == "semi" and settings["unlabelled"] == given


def test_items_without_labels_are_not_passed_over_in_silence(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(scene.data), "--unlabeled", str(scene.data), "--steps", "1"]
    words += ["--out", str(tmp_path / "run"), "--from", str(scene.pretrained)]
    assert main(words) == 4 and "does not hold already" in capsys.readouterr().err
    assert main([*words, "--labels", "2", "--set", "objective=supervised"]) == 2
    assert "objective=supervised learns from labels only" in capsys.readouterr().err
    assert main([*words[:3], str(tmp_path / "nowhere"), *words[4:]]) == 2


@pytest.fixture
def make_run(scene: Scene, tmp_path: Path) -> Callable[..., Path]:
    def make(*more: str) -> Path:
        words = ["train", str(scene.data), "--from", str(scene.pretrained), "--steps", "1"]
        assert main([*words, "--out", str(tmp_path / "run"), *flags(*COMMON), *more]) == 0
        return tmp_path / "run"

    return make
