"""`train` with few labels: how many it takes, and when it learns from the other items."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from discern.cli import main
from discern.data.limits import Limits
from discern.data.sources import open_source
from discern.recipes.train import _rest_pays, train
from tests.verbs.scene import Scene, results


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
