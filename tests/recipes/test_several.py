"""Several labels an item, from a manifest to answers: made-up pictures with any of three marks."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score

from discern.cli import main
from discern.clip import Batch, Kind
from discern.data.clipset import clip_sets
from discern.data.loader import Loader, LoaderConfig
from discern.data.preprocess import PreprocessConfig
from discern.data.sources import open_source
from discern.errors import DataError
from discern.models.backbone import Backbone
from discern.models.classifier import Classifier
from discern.objectives.supervised import Supervised, SupervisedConfig
from discern.predict import load
from discern.serve.engine import Engine
from discern.serve.settings import ServeConfig
from tests import tiny

MARKS = {"bar": (slice(2, 8), slice(2, 30)), "dot": (slice(20, 28), slice(4, 12))}
MARKS |= {"edge": (slice(12, 30), slice(24, 30))}
SMALL = ("backbone.width=32", "backbone.depth=1", "backbone.heads=2", "backbone.patch=8")
SETTINGS = (*SMALL, "precision=fp32", "threads=1", "strong.flip=0", "guard.false_alarms=0.05")


def write_marks(folder: Path, count: int = 240) -> Path:
    """A manifest of pictures, each with one to three marks."""
    rng = np.random.default_rng(0)
    (folder / "files").mkdir(parents=True)
    chosen = [c for n in (1, 2, 3) for c in itertools.combinations(MARKS, n)]
    with open(folder / "marks.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for number in range(count):
            labels = chosen[number % len(chosen)]
            picture = rng.integers(0, 70, (32, 32, 3), dtype=np.uint8)
            for label in labels:
                picture[MARKS[label]] = rng.integers(180, 255, 3)
            name = f"files/{number:04d}.png"
            Image.fromarray(picture).save(folder / name)
            writer.writerow([name, ";".join(labels)])
    return folder / "marks.csv"


def flags(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("several")
    data, run = write_marks(root / "data"), root / "run"
    words = ["train", str(data), "--out", str(run), "--steps", "150", "--batch", "32"]
    assert main([*words, *flags(*SETTINGS)]) == 0
    return data, run, json.loads((run / "results.json").read_text())


def test_it_learns_each_label_and_measures_as_scikit_learn_does(
    tuned: tuple[Path, Path, dict[str, Any]],
) -> None:
    _, run, results = tuned
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    names = sorted(MARKS)
    true, said = (
        np.array([[name in row[key].split(";") for name in names] for row in rows])
        for key in ("label", "predicted")
    )
    assert true.sum(axis=1).max() == 3  # the whole of a manifest's labels came through
    assert results["accuracy"] == pytest.approx(accuracy_score(true, said))
    assert results["macro_f1"] == pytest.approx(f1_score(true, said, average="macro"))
    # by lot each of the three labels would be right half of the time
    assert results["accuracy"] > 0.6 and results["mean_average_precision"] > 0.85
    assert results["confusion"] is None and set(results["per_class"]) == set(MARKS)
    assert "Mean average precision" in (run / "report.html").read_text()


def test_answers_name_all_labels_that_are_likelier_than_not(
    tuned: tuple[Path, Path, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    data, run, _ = tuned
    files = [str(path) for path in sorted((data.parent / "files").iterdir())[:14]]
    capsys.readouterr()
    assert main(["predict", str(run), *files, "--top", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for entry in found:
        chances = {one["label"]: one["probability"] for one in entry["top"]}
        assert set(entry["labels"]) == {name for name, chance in chances.items() if chance > 0.5}
    assert max(len(entry["labels"]) for entry in found) >= 2
    table = tmp_path / "answers.csv"
    assert main(["predict", str(run), *files, "--save", str(table)]) == 0
    assert ";" in table.read_text()
    engine = Engine(ServeConfig(model=str(run)))
    item = engine.item(Path(files[-1]).read_bytes())
    answer = engine.said(engine._answers(item.frames[None])[0], Kind.IMAGE, 1)
    assert sorted(answer["labels"]) == sorted(found[-1]["labels"])


def test_evaluate_and_export_keep_the_several_labels(
    tuned: tuple[Path, Path, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    data, run, results = tuned
    again = tmp_path / "again"
    assert main(["evaluate", str(run), str(data), "--out", str(again)]) == 0
    assert json.loads((again / "results.json").read_text())["accuracy"] == results["accuracy"]
    assert load(run).certainty.several
    pytest.importorskip("onnxruntime")
    out = tmp_path / "export"
    words = ["export", str(run), "--to", "onnx", "--out", str(out), "--check", str(data)]
    assert main(words) == 0
    picture = str(data.parent / "files" / "0006.png")
    answers = []
    for model in (run, out):
        capsys.readouterr()
        assert main(["predict", str(model), picture, "--top", "3", "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out)[0])
    assert answers[0]["labels"] == answers[1]["labels"]
    chances = [[one["probability"] for one in answer["top"]] for answer in answers]
    assert chances[0] == pytest.approx(chances[1], abs=1e-4)
    assert sum(chances[0]) > 1.01 or len(answers[0]["labels"]) < 2  # no softmax


def test_a_heat_map_is_about_one_of_the_labels(
    tuned: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    data, run, _ = tuned
    picture = str(data.parent / "files" / "0006.png")
    out = str(tmp_path / "why.png")
    assert main(["explain", str(run), picture, "--label", "dot", "--out", out]) == 0


def test_what_takes_one_label_says_so(
    tuned: tuple[Path, Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data, run, _ = tuned
    for words in (
        ["compare", str(data), "--out", str(tmp_path / "a")],
        ["attack", str(run), str(data)],
        ["train", str(data), "--out", str(tmp_path / "b"), "--harden", "linf:8/255"],
        ["train", str(data), "--out", str(tmp_path / "c"), "--unlabeled", str(data.parent)],
    ):
        assert main(words) == 2, words
        assert "several labels" in capsys.readouterr().err
    source = open_source([str(data)])
    with pytest.raises(DataError, match="one label per item"):
        clip_sets(source, range(7), PreprocessConfig(height=32, width=32), classes=sorted(MARKS))


def test_batches_carry_targets_and_the_loss_asks_each_class(tmp_path: Path) -> None:
    source = open_source([str(write_marks(tmp_path / "data", 14))])
    size = PreprocessConfig(height=tiny.SIDE, width=tiny.SIDE)
    sets = clip_sets(source, range(14), size, classes=sorted(MARKS), several=True)
    loader = Loader(sets, LoaderConfig(batch_size=7), seed=0)
    _, batch = next(loader.batches())
    assert batch.target is not None and batch.index is not None
    wanted = [sorted(source.items[i].labels) for i in batch.index.tolist()]
    assert [[sorted(MARKS)[k] for k in row.nonzero()[:, 0]] for row in batch.target] == wanted
    few = sets[Kind.IMAGE].subset(np.array([3, 1]))
    assert few.targets is not None
    assert (few.targets == sets[Kind.IMAGE].targets[[3, 1]]).all()  # type: ignore[index]

    torch.manual_seed(0)
    classifier = Classifier(Backbone(tiny.backbone_config()), 3)
    plain = SupervisedConfig(mix_chance=0.0)
    objective = Supervised(plain, classifier, lambda clip, rng: clip.float() / 127.5 - 1)
    losses = objective.loss("classifier", batch, tiny.rng(), 1.0)
    logits = classifier(batch.clip.float() / 127.5 - 1)
    chance = logits.sigmoid()
    by_hand = -(batch.target * chance.log() + (1 - batch.target) * (1 - chance).log()).sum(1).mean()
    assert losses.total.item() == pytest.approx(by_hand.item(), rel=1e-5)
    other = Batch(clip=batch.clip, label=batch.label)
    assert objective.loss("classifier", other, tiny.rng(), 1.0).total.item() != pytest.approx(
        losses.total.item(), rel=1e-3
    )
