"""The guard beside usual methods: which models are trained, and how they are held against it."""

import argparse
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_a_guard_is_tried_on_few_labels_or_on_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import guard

    told: list[list[str]] = []
    monkeypatch.setattr(guard, "discern", told.append)
    for labels, before in ((25, 0.0), (0, 0.0), (0, 4.0)):
        args = argparse.Namespace(out=tmp_path, labels=labels, minutes=3.0, pretrain=before)
        run = guard.trained(Path("data"), args, 1)
        assert told[-1][:6] == ["train", "data", "--out", str(run), "--minutes", "3"]
        assert told[-1][-2:] == ["--seed", "1"]
    assert told[0][6:8] == ["--labels", "25"] and "--labels" not in told[1]
    assert len({words[3] for words in told}) == 4  # no run stands in for another
    assert told[2][0] == "pretrain" and told[3][told[3].index("--from") + 1] == told[2][3]


def test_a_guard_is_held_against_the_others_model_by_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import guard

    def model(ours: float, softmax: float) -> dict[str, Any]:
        areas = {"guard": ours, "knn": 0.5, "max_softmax": softmax}
        return {"sets": {"faces": {name: {"auroc": area} for name, area in areas.items()}}}

    found = guard.summary([model(0.9, 0.7), model(0.7, 0.5), model(0.8, 0.6)])
    assert found["auroc"]["faces"]["guard"]["mean"] == pytest.approx(0.8)
    ahead = found["margins"]["faces"]
    # models differ, and the guard is ahead by the same in each
    assert ahead["max_softmax"]["interval"] == pytest.approx([0.2, 0.2])
    assert ahead["knn"]["interval"][0] < 0.2 < ahead["knn"]["interval"][1]
