"""The key `guard` on made-up scores, beside scikit-learn's measures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from discern.evaluate.metrics import clopper_pearson
from discern.evaluate.unknown import METHODS, Scored, guard_block, joined, unknown_block


def scored(count: int, shift: float, seed: int) -> Scored:
    scores = np.random.default_rng(seed).normal(shift, 1, (3, count)).round(1)  # with ties
    return Scored(scores=dict(zip(METHODS, scores, strict=True)), flagged=scores[0] > 2)


def test_areas_are_those_of_scikit_learn() -> None:
    known, unknown = scored(400, 0, 0), scored(300, 1.5, 1)
    block = unknown_block(known, unknown, 0.05)
    truth = np.repeat([0, 1], [400, 300])
    for name in METHODS:
        values = np.concatenate([known.scores[name], unknown.scores[name]])
        found = block if name == "guard" else block[name]
        assert found["auroc"] == pytest.approx(roc_auc_score(truth, values))
        limit = np.sort(known.scores[name])[-20]
        assert found["detected"] <= float((unknown.scores[name] >= limit).mean())
        curve = np.array(block["curves"][name])
        assert (np.diff(curve, axis=0) >= 0).all() and curve[0].tolist() == [0, 0]
        assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(found["auroc"], abs=0.02)
    assert block["flagged"] == unknown.flagged.mean() and block["samples"] == 300


def test_what_is_stated_stands_beside_what_is_found() -> None:
    known = scored(200, 0, 0)
    facts = {
        "false_alarms": 0.05,
        "threshold": 2.0,
        "calibrated_on": "validation",
        "items": 120,
        "alarms": 3,
        "curve": [[0.05, 1.6], [0.5, 0.0]],
    }
    block = guard_block(facts, known)
    count = int(known.flagged.sum())
    assert block["flagged"] == count / 200 and block["samples"] == 200
    assert block["flagged_interval"] == clopper_pearson(count, 200)
    assert block["alarms_interval"] == clopper_pearson(3, 120)
    assert block["curve"][1] == [0.5, float((known.scores["guard"] > 0).mean())]
    assert block["quantiles"]["0.5"] == np.median(known.scores["guard"])
    assert block["false_alarms"] == 0.05 and block["calibrated_on"] == "validation"


def test_kinds_are_taken_together() -> None:
    both = joined([scored(20, 0, 0), None, scored(30, 0, 1)])
    assert both is not None and len(both.flagged) == 50 == len(both.scores["knn"])
    assert joined([None]) is None
