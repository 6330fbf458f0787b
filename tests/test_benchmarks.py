"""Published numbers come from committed JSON."""

import argparse
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_readme_and_results_say_what_the_json_says() -> None:
    page = [sys.executable, str(ROOT / "benchmarks" / "page.py"), "--check"]
    found = subprocess.run(page, capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"run python benchmarks/page.py; {found.stderr}"


def test_every_result_says_how_it_was_made() -> None:
    results = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    assert results
    for path in results:
        found = json.loads(path.read_text())
        assert found["command"], path
        assert str(ROOT.parent) not in path.read_text(), f"{path.name} holds a path of a machine"


def test_margins_say_by_how_much_a_bar_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from few_labels import BARS, margins

    cells = {
        "pretrain-0": {"steps": 3},
        "pretrained-0": {"accuracy": 0.6},
        "scratch-0": {"accuracy": 0.5},
        "handcrafted-0": {"methods": {"hog_svm": {"accuracy": 0.7}}},
        "pretrained-1": {"accuracy": 0.5},
        "scratch-1": {"accuracy": 0.5},
        "scratch-2": {"accuracy": 0.9},  # nothing to compare it with yet
    }
    found = margins(cells, {"scratch": 0.08, "hog_svm": -0.2})
    assert found["scratch"]["mean"] == pytest.approx(0.05) and found["scratch"]["seeds"] == 2
    assert found["scratch"]["missed_by"] == pytest.approx(0.03)
    assert found["hog_svm"]["mean"] == pytest.approx(-0.1) and found["hog_svm"]["missed_by"] == 0
    for path in (ROOT / "benchmarks" / "results").glob("few_labels_*.json"):
        result = json.loads(path.read_text())
        assert result["margins"] == margins(result["cells"], BARS[result["data"]]), path


GRID = {
    "all/pretrain/0": {"steps": 100},
    "all/pretrain/1": {"steps": 60},  # something else had the machine
    "all/pretrain/2": {"steps": 98},
    "all/10/0": {"accuracy": 0.40, "steps": 9},
    "all/10/1": {"accuracy": 0.44, "steps": 9},
    "all/all/0": {"accuracy": 0.80, "steps": 9},
    "mae_view/10/0": {"accuracy": 0.39, "steps": 9},
    "mae_view/10/1": {"accuracy": 0.41, "steps": 9},
    "scratch/10/0": {"accuracy": 0.20, "steps": 9},
    "scratch/all/0": {"accuracy": 0.70, "steps": 9},
    "handcrafted/10/1": {"methods": {"hog_svm": {"accuracy": 0.30}}},
}


def test_the_grid_pairs_by_seed_and_names_what_was_disturbed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import page
    import pretraining

    table = tmp_path / "pretraining_cifar10_15+5.json"
    done = {"cells": GRID, "command": "C", "data": "cifar10"}
    pretraining.save(table, done | {"minutes": {"pretrain": 15.0, "tune": 5.0}})
    found = json.loads(table.read_text())
    assert found["summary"]["10"]["all"]["mean"] == pytest.approx(0.42)
    assert found["margins"]["10"]["scratch"] == {"mean": pytest.approx(0.2), "seeds": 1}
    assert found["margins"]["10"]["hog_svm"]["mean"] == pytest.approx(0.14)
    assert found["margins"]["all"]["scratch"]["mean"] == pytest.approx(0.1)
    share = found["adversary"]["10"]["mae_view"]  # 1 and 3 points
    assert share["mean"] == pytest.approx(0.02) and share["seeds"] == 2
    assert share["interval"] == pytest.approx([0.02 - 0.12706, 0.02 + 0.12706], abs=1e-4)
    assert "all" not in found["adversary"]
    assert found["disturbed"] == ["all/pretrain/1"]

    text, pictures = page.grid(table)
    assert "| from scratch, for all minutes | 20.0 (one seed) | 70.0 (one seed) |" in text
    assert "10: +2.0 (-10.7 to +14.7)" in text and "all/pretrain/1" in text
    (picture,) = pictures.values()
    drawn = ElementTree.fromstring(picture)
    lines = [one for one in drawn.iter() if one.tag.endswith("polyline")]
    assert len(lines) == 4  # one per method
    ends = [one for one in drawn.iter() if one.text == "from scratch, for all minutes"]
    assert len(ends) == 1
    # one number of labels is a table and no picture
    few = {name: cell for name, cell in GRID.items() if "/all/" not in name}
    pretraining.save(table, done | {"cells": few, "minutes": {"pretrain": 15.0, "tune": 5.0}})
    text, pictures = page.grid(table)
    assert "| 10 per class |" in text and "all labels" not in text
    assert not pictures and "![" not in text


def test_the_grid_runs_a_pretraining_once_for_all_numbers_of_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from pretraining import METHODS, cells, minutes_of

    order = list(cells(["scratch", "mae", "handcrafted"], ["10", "all"], [0, 1]))
    assert [cell.name for cell in order[:7]] == [
        *("scratch/10/0", "scratch/all/0", "mae/pretrain/0", "mae/10/0", "mae/all/0"),
        *("handcrafted/10/0", "handcrafted/all/0"),
    ]
    assert len(order) == 14
    # from scratch has all the minutes
    spent = {cell.name: minutes_of(cell, 15, 5) for cell in order}
    assert spent["scratch/10/0"] == 20 == spent["mae/pretrain/0"] + spent["mae/10/0"]
    for words in METHODS.values():
        assert words is None or all(isinstance(word, str) for word in words)


@pytest.mark.parametrize("at_once", [1, 3, 9])
def test_a_tuning_waits_for_its_pretraining_and_for_no_other(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from pretraining import Cell, cells, side_by_side

    order = list(cells(["scratch", "mae", "view"], ["10", "all"], [0, 1]))
    slow = Cell("mae", None, 0)
    begun: list[Cell] = []
    ended: list[Cell] = []
    others_ended = threading.Event()

    def fill(cell: Cell) -> None:
        begun.append(cell)
        if cell.labels is not None and cell.method != "scratch":
            assert cell._replace(labels=None) in ended
        if cell == slow and at_once > 1:  # the others go on meanwhile
            assert others_ended.wait(10)
        ended.append(cell)
        if cell == Cell("view", "all", 1):
            others_ended.set()

    side_by_side(order, at_once, fill)
    assert sorted(map(str, ended)) == sorted(map(str, order))
    assert at_once > 1 or begun == order

    def fails(cell: Cell) -> None:
        raise RuntimeError(cell.name)

    with pytest.raises(RuntimeError, match="scratch/10/0"):
        side_by_side(order, at_once, fails)


@pytest.mark.parametrize("method", ["mae_view", "mae_adversary", "gan", "contrad", "view", "mae"])
def test_the_methods_of_the_grid_are_settings_of_ours(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from discern import config as configuration
    from discern.recipes import images

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from pretraining import METHODS

    words = METHODS[method] or []
    name = words[words.index("--recipe") + 1] if "--recipe" in words else None
    settings = [word for before, word in zip(words, words[1:], strict=False) if before == "--set"]
    found = configuration.override(images.recipe(name), settings)
    weights = found.masked_gan
    assert (found.objective == "gan") == (method in ("gan", "contrad"))
    if method == "mae_view":
        assert weights.view > 0 and weights.reconstruction > 0
        assert weights.patch_adversary == weights.global_adversary == weights.code == 0
    if method == "mae_adversary":
        assert weights.view == 0 and weights.patch_adversary > 0 and weights.global_adversary > 0
    if method == "gan":
        assert found.gan.view == 0


@pytest.mark.parametrize(
    ("method", "objective"), [("scratch", "supervised"), ("scratch_semi", "semi"), ("all", None)]
)
def test_from_scratch_the_grid_says_what_a_tuning_learns_from(
    method: str, objective: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pretraining

    told: list[str] = []
    monkeypatch.setattr(pretraining, "discern", lambda *words: told.extend(words[6:]) or {})
    given = {"out": tmp_path, "table": None, "data": "cifar10", "size": None, "tune_set": []}
    args = argparse.Namespace(**given, pretrain=15.0, tune=5.0)
    pretraining.run(pretraining.Cell(method, "100", 0), args, tmp_path)
    assert [word for word in told if "objective" in word] == (
        [] if objective is None else [f"objective={objective}"]
    )


def test_a_pipeline_is_as_fast_as_its_slowest_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from forecast import paced

    assert paced(0.1, [0.05], workers=0) == pytest.approx(0.15)
    assert paced(0.1, [0.05], workers=1) == pytest.approx(0.1)
    assert paced(0.1, [0.4], workers=1) == pytest.approx(0.4)
    assert paced(0.1, [0.4], workers=2) == pytest.approx(0.2, rel=0.01)
    assert paced(0.1, [0.4], workers=8) == pytest.approx(0.1)
    # batches are taken in order: one that is slow holds up those behind it, a queue evens it out
    uneven = paced(0.1, [0.02, 0.16], workers=1)
    assert 0.1 < uneven < 0.15


def test_an_exchange_is_found_again_from_its_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from forecast import Link, fitted

    link = Link(latency=2e-4, per_byte=3e-10)
    assert link.all_reduce(1e9, 1) == 0
    # two ranks: each sends half of it twice; many: nearly all of it twice
    assert link.all_reduce(1e9, 2) == pytest.approx(2 * 2e-4 + 0.3)
    assert link.all_reduce(1e9, 1000) == pytest.approx(1998 * 2e-4 + 1.998 * 0.3)
    sizes = [1e4, 1e6, 1e8]
    found = fitted(sizes, [link.all_reduce(size, 4) for size in sizes], 4)
    assert found.latency == pytest.approx(link.latency)
    assert found.per_byte == pytest.approx(link.per_byte)


def test_a_plan_names_what_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from forecast import Cluster, Link, Work, plan

    work = Work(items=1e6, epochs=2, flops=1e12, decode=0.01, size=1e5, parameters=1e7, batch=1000)
    far = Link(latency=0.0, per_byte=0.0)
    one = plan(work, Cluster(devices=10, flops=1e14, cores=1, link=far, device_hour=2.0))
    assert one["step_ms"] == pytest.approx(1000) and one["compute_share"] == pytest.approx(1)
    assert one["reading_share"] == pytest.approx(1)
    assert one["hours"] == pytest.approx(2000 / 3600)
    assert one["dollars"] == pytest.approx(2000 / 3600 * 10 * 2)
    assert one["terabytes"] == pytest.approx(0.1)
    slow = plan(work, Cluster(devices=10, flops=1e14, cores=0.5, link=far))
    assert slow["step_ms"] == pytest.approx(2000) and slow["compute_share"] == pytest.approx(0.5)
    held = plan(work, Cluster(devices=10, flops=1e14, cores=1, link=Link(0.0, 1 / 72e6)))
    assert held["exchange_share"] == pytest.approx(0.5)


def test_a_cell_is_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["benchmarks/it.py", "--out", str(tmp_path)])
    from cells import Filled

    args = argparse.Namespace(out=tmp_path, minutes=2.0)
    measured = []

    def measure() -> dict[str, float]:
        measured.append(1)
        return {"accuracy": 0.5}

    for _ in range(2):  # a second start goes on where the first one ended
        table = Filled(tmp_path / "it.json", args, lambda cells: {"summary": len(cells)})
        table.fill("one", measure)
    table.fill("two", measure)
    found = json.loads((tmp_path / "it.json").read_text())
    assert len(measured) == 2 and found["summary"] == 2
    assert found["command"] == "python benchmarks/it.py --out OUT" and found["minutes"] == 2.0
    assert found["cells"]["one"]["accuracy"] == 0.5 and found["cells"]["one"]["commit"]


def test_a_use_is_trained_once_and_measured_in_more_ways_than_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import uses

    import discern.evaluate.evaluate as evaluation

    told: list[tuple[Any, ...]] = []

    def discern(verb: str, *given: Any) -> dict[str, Any]:
        told.append((verb, *given[2:]))
        return dict.fromkeys(uses.KEPT, 1) | {"command": f"{verb} {given[2].name}"}

    def evaluate(run: Path, source: str, out: Path, **words: Any) -> dict[str, Any]:
        return {
            "accuracy": 0.5 + 0.1 * words.get("views", 0),
            "microseconds_per_item": len(run.name),
        }

    monkeypatch.setattr(uses, "discern", discern)
    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    use = uses.Use(recipe="videos", data="jhmdb", pico_minutes=(5.0, 9.0))
    trainings = uses.Trainings(use, argparse.Namespace(out=tmp_path, minutes=25.0), tmp_path)
    plain = uses.measured(trainings.shipped, 3, tmp_path)
    more = uses.measured(trainings.shipped, 3, tmp_path, views=2)
    small = uses.measured(trainings.pico, 3, tmp_path)
    assert (plain["accuracy"], more["accuracy"]) == (0.5, pytest.approx(0.7))
    assert "run" not in plain and plain["command"] == "train 3"
    home, recipe = tmp_path / "videos", ("--recipe", "videos")
    from_shipped = ("train", home / "3", 3, 25.0, *recipe, "--from", "discern-nano")
    pico = home / "pico-3"
    assert told == [
        from_shipped,
        from_shipped,
        ("pretrain", pico / "p", 3, 5.0, *recipe, "--size", "pico"),
        ("train", pico / "t", 3, 9.0, *recipe, "--from", str(pico / "p")),
    ]
    assert small["pretrain_command"] == "pretrain p"

    cells = {"discern/0": plain, "discern/1": more, "motion/0": small | {"accuracy": 0.55}}
    found = uses.summary(cells, ("discern", "pico"), ("motion",), 0.10)
    assert found["ahead_of_the_best"] == {"discern": pytest.approx(0.05)}
    assert found["missed_by"] == {"discern": pytest.approx(0.05)}
    assert found["summary"]["discern"]["accuracy"]["seeds"] == 2
    assert set(uses.summary(cells, ("discern",), ("motion", "flow"), 0.1)) == {"summary"}


def test_the_readme_shows_what_was_not_won_and_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import headline

    plain, whole = headline.read, headline.headline()
    assert "Hugging Face Trainer" in whole and "all motion features + RBF SVM" in whole

    def fewer(name: str) -> Any:
        found = plain(name)
        if name == "few_labels_jhmdb_15+5.json":
            found["summary"]["pretrained"]["seeds"] = 2
        if name == "vehicles.json":
            found["summary"]["discern"]["accuracy"]["seeds"] = 2
        if name == "item_time.json":
            for one in found["sets"]["jhmdb"]["ours"].values():
                one["accuracy"]["seeds"] = 2
        return None if name == "overload.json" else found

    monkeypatch.setattr(headline, "read", fewer)
    gone = set(whole.splitlines()) - set(headline.headline().splitlines())
    assert {line.split(" | ")[0] for line in gone} == {
        "| The same with size `nano`, pre-trained for 15 minutes and tuned for 5, 2 cores",
        "| Vehicles of Tiny-ImageNet, 25 minutes from the weights that ship",
        "| J-HMDB, size `hybrid_pico`, 10 minutes: right in %, and the time of an item on one core",
        "| Answers in time at twice the capacity",
    }


def test_kmeans_features_are_those_of_the_paper_and_know_digits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import kmeans
    from sklearn.datasets import load_digits

    from discern.baselines.linear import SvmConfig, fit_svm

    monkeypatch.setattr(kmeans, "DRAWN", 10_000)
    digits = load_digits()
    big = np.kron(digits.images / 16 * 255, np.ones((1, 2, 2)))
    frames = big[:, None, :, :, None].repeat(3, axis=-1).astype(np.uint8)
    words = kmeans.learn(frames[:1000], words=30)
    features = words.features(frames)
    # one item, as section 3 of the paper reads
    near = np.zeros((11, 11, 30))
    for row, column in np.ndindex(11, 11):
        patch = frames[0, 0, row : row + 6, column : column + 6].astype(np.float32).ravel()
        patch = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
        distances = np.linalg.norm((patch - words.mean) @ words.whiten - words.centers, axis=1)
        near[row, column] = np.maximum(0, distances.mean() - distances)
    quarters = [
        near[a, b].sum((0, 1)) for a in (slice(5), slice(5, 11)) for b in (slice(5), slice(5, 11))
    ]
    assert features[0] == pytest.approx(np.concatenate(quarters), abs=1e-3)
    # a clip of one picture again and again is that picture
    still = words.features(frames[:3].repeat(8, axis=1))
    assert still == pytest.approx(features[:3], abs=1e-3)

    svm = fit_svm(features[:1000], digits.target[:1000], 10, config=SvmConfig(kernel="linear"))
    right = svm.probabilities(features[1000:]).argmax(1) == digits.target[1000:]
    assert right.mean() > 0.9


def test_operations_of_a_gpu_benchmark_are_those_that_torch_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import torch
    from gpu import forward_operations, networks
    from torch.utils.flop_counter import FlopCounterMode

    args = argparse.Namespace(size="nano", side=64)
    ours, theirs = networks(args, torch.device("cpu"))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        ours(torch.zeros(2, 3, 1, 64, 64))
    assert counted.get_total_flops() / 2 == pytest.approx(forward_operations(args), rel=0.04)
    sizes = [sum(one.numel() for one in net.parameters()) for net in (ours, theirs)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
