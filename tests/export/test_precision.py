"""Exports with fewer bits: smaller, as often right, or not kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from discern.cli import main
from discern.errors import GateError, UsageError
from discern.export import run as running
from discern.export.run import openvino_capabilities
from discern.predict import predict_files
from discern.recipes import export as recipe
from discern.recipes.export import MOST_LOST, export
from tests.export.conftest import Exported, need
from tests.test_docs import write_clip

IMAGES, CLIPS = 40, 6


@pytest.fixture(scope="module")
def labelled(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items under the answers that the model gives, so that it is always right."""
    folder = tmp_path_factory.mktemp("labelled")
    drawn = np.random.default_rng(0)
    files = [folder / f"{number}.png" for number in range(IMAGES)]
    for file in files:
        pixels = np.kron(drawn.integers(0, 256, (2, 2, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(file)
    clips = [folder / f"{number}.mp4" for number in range(CLIPS)]
    for clip in clips:
        write_clip(clip, drawn.integers(0, 256, (8, 32, 32, 3)))
    for said in predict_files(place / "model", [*files, *clips]):
        kept = folder / said["label"]
        kept.mkdir(exist_ok=True)
        Path(said["file"]).rename(kept / Path(said["file"]).name)
    return folder


@pytest.mark.parametrize("to", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_eight_bits_are_a_smaller_file_with_the_same_answers(
    to: str,
    place: Path,
    exported: Exported,
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need(to)
    monkeypatch.setitem(MOST_LOST, "int8", 0.2)  # a network of random weights is unsure
    whole, said = exported(to)
    found = export(place / "model", to, tmp_path / "few", precision="int8", check=[str(labelled)])
    assert found["precision"] == "int8" and said["precision"] == "fp32"
    weights = "image.onnx" if to == "onnx" else "image.bin"
    sizes = [(folder / weights).stat().st_size for folder in (tmp_path / "few", whole)]
    assert sizes[0] < 0.8 * sizes[1]
    image = found["parity"]["image"]
    assert image["items"] == IMAGES // 2 and image["accuracy_fp32"] == 1.0
    assert image["accuracy"] == image["same_answer"] >= 0.8
    assert 1e-6 < image["mean_difference"] < 0.05  # other numbers, but not by much
    files = sorted(labelled.glob("*/*.png"))[:8] + sorted(labelled.glob("*/*.mp4"))[:2]
    ours = predict_files(place / "model", files)
    theirs = predict_files(tmp_path / "few", files)
    apart = [abs(a["probability"] - b["probability"]) for a, b in zip(ours, theirs, strict=True)]
    assert max(apart) > 0 and np.mean(apart) < 0.1


@pytest.mark.slow
def test_half_precision_is_told_to_openvino(place: Path, labelled: Path, tmp_path: Path) -> None:
    need("openvino")
    check = [str(labelled)]
    if "BF16" not in openvino_capabilities():
        pytest.skip("this CPU does not compute in bf16")
    found = export(place / "model", "openvino", tmp_path / "out", precision="bf16", check=check)
    assert found["parity"]["image"]["items"] == IMAGES
    assert found["parity"]["image"]["points_allowed"] == pytest.approx(0.2)


def test_what_this_cpu_cannot_check_is_not_written(
    place: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("openvino")
    monkeypatch.setattr(recipe, "openvino_capabilities", lambda: ["FP32", "INT8"])
    with pytest.raises(UsageError, match="this CPU does not compute in it"):
        export(
            place / "model",
            "openvino",
            tmp_path / "out",
            precision="bf16",
            check=[str(labelled)],
        )
    assert list(tmp_path.iterdir()) == []


def test_what_is_less_often_right_is_not_kept(
    place: Path,
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need("onnx")
    real: Callable[..., Any] = recipe._runner

    def turned(*arguments: Any) -> Any:
        run = real(*arguments)
        return lambda frames: {
            name: np.roll(value, 1, axis=1) if name == "probabilities" else value
            for name, value in run(frames).items()
        }

    monkeypatch.setattr(recipe, "_runner", turned)
    with pytest.raises(GateError, match=r"in int8 .* are allowed: not kept"):
        export(place / "model", "onnx", tmp_path / "out", precision="int8", check=[str(labelled)])
    assert list(tmp_path.iterdir()) == []


def test_fewer_bits_ask_for_labelled_items_of_every_kind(
    place: Path,
    labelled: Path,
    tmp_path: Path,
    capsys: Any,
) -> None:
    model = place / "model"
    with pytest.raises(UsageError, match="--check SOURCE"):
        export(model, "onnx", tmp_path / "out", precision="int8")
    with pytest.raises(UsageError, match="--to onnx knows fp32, int8"):
        export(model, "onnx", tmp_path / "out", precision="bf16", check=[str(labelled)])
    with pytest.raises(UsageError, match="--to program knows fp32"):
        export(model, "program", tmp_path / "out", precision="int8", check=[str(labelled)])
    words = ["export", str(model), "--to", "onnx", "--out", str(tmp_path / "out")]
    assert main([*words, "--precision", "int4"]) == 2
    assert "--precision" in capsys.readouterr().err
    images = tmp_path / "images"
    for file in labelled.glob("*/*.png"):
        (images / file.parent.name).mkdir(parents=True, exist_ok=True)
        (images / file.parent.name / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UsageError, match="holds no clip"):
        export(model, "onnx", tmp_path / "out", precision="int8", check=[str(images)])
    (images / "a").mkdir(exist_ok=True)
    write_clip(images / "a" / "one.mp4", np.zeros((8, 32, 32, 3)))
    with pytest.raises(UsageError, match="holds one clip only"):
        export(model, "onnx", tmp_path / "out", precision="int8", check=[str(images)])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("precision", "capable", "hint"),
    [
        ("fp32", True, "f32"),
        ("bf16", True, "bf16"),
        ("int8", True, "bf16"),
        ("int8", False, "f32"),
    ],
)
def test_openvino_computes_in_bf16_what_may_have_fewer_bits(
    precision: str, capable: bool, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("openvino")
    told: list[dict[str, Any]] = []

    class Core:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32", "INT8", *(["BF16"] if capable else [])]

        def compile_model(self, _: Path, device: str, hints: dict[str, Any]) -> Any:
            told.append(hints)
            return SimpleNamespace(outputs=[], create_infer_request=lambda: None)

    monkeypatch.setattr(running, "openvino_core", Core)
    running.openvino_runner(Path("image.xml"), precision, threads=3)
    assert told == [{"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 3}]
