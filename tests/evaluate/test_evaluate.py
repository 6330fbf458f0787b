"""What a model is measured on, and what is written."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from discern.data.augment import to_float
from discern.data.limits import Limits
from discern.data.views import MOST, all_views
from discern.errors import DataError, UsageError
from discern.evaluate.evaluate import evaluate
from discern.predict import load, one_batch, predict_files, preprocessing, read_file
from discern.recipes.train import train


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder without parts, and a run that was trained on it."""
    root = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 200)):
        (root / "data" / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.normal(level, 20, (16, 16, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "data" / label / f"{number:02d}.png")
    # strong augmentation keeps it unsure: what saturates would not tell one look from four
    settings = ["threads=1", "precision=fp32", "supervised.ease=0"]
    train(str(root / "data"), root / "run", steps=3, batch=8, overrides=settings)
    return root / "data", root / "run"


def test_the_source_of_the_training_is_measured_on_its_test_part(
    tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = tuned
    results = evaluate(run, str(data), tmp_path / "out")
    splits = json.loads((run / "splits.json").read_text())
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    keys = {json.loads(line)["key"] for line in lines}
    assert keys == set(splits["test"]) and results["samples"] == len(keys) == 8
    assert results["accuracy"] == json.loads((run / "results.json").read_text())["accuracy"]


def test_another_source_is_measured_whole(tuned: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = tuned
    (tmp_path / "other").symlink_to(data)  # the same files under another name
    assert evaluate(run, str(tmp_path / "other"), tmp_path / "out")["samples"] == 40


def test_classes_that_the_model_does_not_know_are_named(
    tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = tuned
    (tmp_path / "other" / "medium").mkdir(parents=True)
    (tmp_path / "other" / "dark").mkdir()
    picture = next(data.glob("dark/*.png")).read_bytes()
    for name in ("medium", "dark"):
        (tmp_path / "other" / name / "a.png").write_bytes(picture)
    with pytest.raises(DataError, match="medium"):
        evaluate(run, str(tmp_path / "other"), tmp_path / "out")


def test_a_folder_without_a_model_is_named(tuned: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model"):
        evaluate(tmp_path, str(tuned[0]), tmp_path / "out")


def test_looks_are_averaged_alike_by_evaluate_and_predict(
    tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = tuned
    assert evaluate(run, str(data), tmp_path / "out", views=4)["views"] == 4
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    wanted = {entry["key"]: entry["probability"] for entry in map(json.loads, lines)}
    bundle = load(run)
    size = preprocessing(bundle)
    for key, probability in list(wanted.items())[:3]:
        (found,) = predict_files(bundle, [data / key], views=4)
        assert found["probability"] == pytest.approx(probability, abs=1e-5)
        batch = one_batch(read_file(data / key, size, Limits()), size)
        seen = [view.of(to_float(batch.clip)) for view in all_views(4)]
        logits = torch.stack([bundle.model(clip) for clip in seen]).mean(dim=0)
        by_hand = bundle.certainty.probabilities(logits.detach().numpy()).max()
        assert found["probability"] == pytest.approx(by_hand, abs=1e-5)
        (plain,) = predict_files(bundle, [data / key])
        assert plain["probability"] != found["probability"]
    for views in (0, MOST + 1):
        with pytest.raises(UsageError, match="--views"):
            predict_files(bundle, [data / key], views=views)
        with pytest.raises(UsageError, match="--views"):
            evaluate(run, str(data), tmp_path / "none", views=views)


def test_tokens_may_merge_while_a_model_is_measured(
    tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = tuned

    def said(out: Path) -> list[float]:
        lines = (out / "predictions.jsonl").read_text().splitlines()
        return [entry["probability"] for entry in map(json.loads, lines)]

    assert evaluate(run, str(data), tmp_path / "plain")["merge"] == 0
    assert evaluate(run, str(data), tmp_path / "none", merge=0.0)["merge"] == 0
    merged = evaluate(run, str(data), tmp_path / "half", merge=0.5)
    assert merged["merge"] == 0.5 and merged["microseconds_per_item"] > 0
    assert said(tmp_path / "none") == said(tmp_path / "plain") != said(tmp_path / "half")
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match="--merge"):
            evaluate(run, str(data), tmp_path / "wrong", merge=share)
