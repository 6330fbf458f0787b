"""Benchmarks of exports and servers: the models they take, and what they say of time and memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discern.predict import load, predict_files

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_what_memory_does_lately_is_told_of_long_runs_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from serving_tables import _lately

    assert _lately([300.0] * 7) == ""
    grown = [100.0, 200.0, 300.0, 310.0, 320.0, 330.0, 326.0, 328.0]
    assert "changed by +2.0 MB" in _lately(grown)  # 327 on average, after 325


def test_ours_has_patches_as_large_as_the_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from peers import our_shape

    shape = our_shape("nano", 8)
    assert (shape.patch, shape.width, shape.depth, shape.stem) == (8, 128, 4, "conv")


def test_an_untrained_model_answers_of_its_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from untrained import CLASSES, untrained

    model, picture = untrained(tmp_path, side=16, patch=8)
    (found,) = predict_files(model, [picture], top=CLASSES)
    assert load(model).model.config.backbone.patch == 8
    assert len(found["top"]) == CLASSES, found


def test_memory_is_what_a_server_keeps_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import soak

    # a leak of 2 MB an hour, read each second, most often while 7 MB more are held
    reads = [
        {"seconds": second, "memory": 2**20 * (300 + 2 * second / 3600 + 7 * (second % 9 > 0))}
        for second in range(3600)
    ]
    kept = soak.least(reads)
    assert len(kept) == 120 and max(kept) < 303
    found = soak.growth({"memory_megabytes": kept, "look_seconds": soak.LOOK, "minutes": 60})
    assert found["megabytes_per_hour"] == pytest.approx(2, abs=0.05) and not found["reached"]
    flat = soak.least([read | {"memory": 300 * 2**20} for read in reads])
    found = soak.growth({"memory_megabytes": flat, "look_seconds": soak.LOOK, "minutes": 60})
    assert found["reached"]


def test_exports_say_where_both_ratios_were_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from serving_tables import _reached

    def row(batch: int, whole: tuple[float, float], few: tuple[float, float]) -> dict[str, Any]:
        ratios = {"times_as_fast_as": whole, "int8_times_as_fast_as": few}
        return {"batch": batch, "size": "tiny"} | {
            of: {
                f"timm, torch {peer}": {"mean": one}
                for peer, one in zip(("fp32", "bf16"), both, strict=True)
            }
            for of, both in ratios.items()
        }

    by_turns = row(8, (3.6, 1.5), (3.4, 1.7))  # each once, and never both
    assert _reached({"rows": [by_turns]}) == ""
    found = {"rows": [by_turns, row(1, (1.0, 1.0), (3.5, 1.6))]}
    assert _reached(found) == ", and both reached with 1 of `tiny` at once"
    assert _reached({"rows": found["rows"][1:]}) == ", and reached in all of them"


def test_exports_say_how_far_ahead_one_could_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from serving_tables import _most

    row = {"batch": 8, "size": "nano"}
    row |= {"milliseconds": {"timm, torch fp32": 10.0, "timm, torch bf16": 6.0}}
    assert _most({"rows": [row]}) == ""  # a table of before
    row |= {"least_milliseconds": {"fp32": 8.0, "bf16": 4.0}}
    said = _most({"rows": [row], "rates": {"fp32": 1e11, "bf16": 2e11}})
    assert "8 of `nano` 2.50 times its fp32 and 1.50 times its bf16" in said
    assert "the 200 GFLOP/s of one large product in bf16" in said


def test_operations_of_an_export_are_those_of_its_products(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import export as exports

    bundle = exports.a_bundle(tmp_path / "model", "nano", 32, 4)
    once, twice = (
        exports.operations(bundle, np.zeros((n, 1, 32, 32, 3), np.uint8)) for n in (1, 2)
    )
    tokens, width, depth = 64, 128, 4
    blocks = depth * 2 * (12 * width**2 * tokens + 2 * tokens**2 * width)  # Kaplan et al. 2020
    assert blocks < once < 1.1 * blocks  # and a small stem
    assert twice == 2 * once
