"""`evaluate`, `predict` and `compare` through the command line: measures, names, unknown items."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.cli import main
from discern.clip import Kind
from tests.child import child
from tests.faults.killing import write_pictures
from tests.verbs.scene import (
    BUNDLE,
    CLIPS,
    COMMON,
    ENCODER,
    IMAGES,
    MEASURES,
    Scene,
    flags,
    results,
)


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
