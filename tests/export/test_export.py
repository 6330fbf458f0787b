"""Exported models: the same answers from the same files, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from discern.cli import main
from discern.errors import GateError, IntegrityError, UsageError
from discern.export import writers
from discern.export.graph import Graph, example, kinds_of, outputs_of
from discern.export.run import RUNNERS, load_exported, openvino_core
from discern.models.backbone import BackboneConfig
from discern.models.model import Model, ModelConfig
from discern.models.weights import load_bundle, save_bundle
from discern.predict import predict_files
from discern.recipes import export as recipe
from discern.recipes.export import export
from discern.seal.keys import make_signing_key
from discern.seal.sign import requiring
from tests.export.conftest import Exported, need


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_files_get_the_same_answers(
    to: str, place: Path, exported: Exported, tmp_path: Path
) -> None:
    out, found = exported(to)
    for kind in ("image", "clip"):
        assert max(found["parity"][kind]["largest_difference"].values()) <= 1e-4
        assert set(found["parity"][kind]["largest_difference"]) == {"1", "2", "7"}
    files = [*(place / f"{number}.png" for number in range(3)), place / "clip.mp4"]
    ours = predict_files(place / "model", files, top=3)
    theirs = predict_files(out, files, top=3)
    for one, other in zip(ours, theirs, strict=True):
        assert [x["label"] for x in one["top"]] == [x["label"] for x in other["top"]]
        for x, y in zip(one["top"], other["top"], strict=True):
            assert x["probability"] == pytest.approx(y["probability"], abs=1e-4)
        assert one["unknown"] == other["unknown"] and one["kind"] == other["kind"]
        assert one["guard_score"] == pytest.approx(other["guard_score"], abs=0.02)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    assert "error" in predict_files(out, [broken])[0]


@pytest.mark.parametrize(("to", "suffix"), [("onnx", "onnx"), ("openvino", "xml")])
def test_one_thread_is_one_thread(
    to: str, suffix: str, place: Path, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is called a time of one thread is one: variables of the environment limit neither."""
    graph = exported(to)[0] / f"image.{suffix}"
    frames = np.zeros((2, 1, 16, 16, 3), dtype=np.uint8)
    wanted, asked = RUNNERS[to](graph, "fp32")(frames), []
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession

        def opened(path: str, options: Any, **more: Any) -> Any:
            asked.append(options.intra_op_num_threads)
            return session(path, options, **more)

        monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    else:
        core = openvino_core()

        def compiled(*words: Any) -> Any:
            found = core.compile_model(*words)
            asked.append(found.get_property("INFERENCE_NUM_THREADS"))
            return found

        stand_in = SimpleNamespace(compile_model=compiled)
        monkeypatch.setattr("discern.export.run.openvino_core", lambda: stand_in)
    found = RUNNERS[to](graph, "fp32", threads=1)(frames)
    assert asked == [1]
    np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=1e-6)


def test_one_graph_may_be_named(
    place: Path, exported: Exported, tmp_path: Path, capsys: Any
) -> None:
    words = ["export", str(place / "model"), "--to", "program", "--out", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["graphs"]["image"] == "image.pt2"
    graph = str(exported("onnx")[0] / "image.onnx")
    capsys.readouterr()
    assert main(["predict", graph, str(place / "0.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] in "abc"
    assert main(words) == 2  # the folder is in use


def test_an_export_is_no_signed_model(place: Path, exported: Exported, tmp_path: Path) -> None:
    out, _ = exported("program")
    make_signing_key(tmp_path / "key")
    with requiring(tmp_path / "key.pub"), pytest.raises(IntegrityError, match="no signature"):
        predict_files(out, [place / "0.png"])


def test_a_program_gives_the_same(place: Path, exported: Exported) -> None:
    out, found = exported("program")
    assert max(found["parity"]["clip"]["largest_difference"].values()) <= 1e-4
    with pytest.raises(UsageError, match=r"torch\.export\.load"):
        predict_files(out, [place / "0.png"])


@pytest.mark.parametrize(
    ("more", "places"),
    [
        pytest.param({"stem": "linear", "sees": "edges"}, (4, 4), id="edges and places"),
        pytest.param({"merge": 0.5}, None, id="merged tokens", marks=pytest.mark.slow),
    ],
)
def test_what_an_encoder_does_goes_along(
    tmp_path: Path, more: dict[str, Any], places: tuple[int, int] | None
) -> None:
    torch.manual_seed(0)
    shape = BackboneConfig(width=16, depth=1, heads=2, patch=4, **more)
    model = Model(ModelConfig(backbone=shape, classes=3, places=places)).eval()
    size = {"height": 16, "width": 16, "frames": 2, "stored_frames": 2}
    save_bundle(tmp_path / "model", model, labels=list("abc"), preprocess=size, made={})
    need("onnx")
    found = export(tmp_path / "model", "onnx", tmp_path / "out")
    for kind in ("image", "clip"):
        assert max(found["parity"][kind]["largest_difference"].values()) <= 1e-4


def test_what_differs_is_not_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = recipe._runner

    def bent(*arguments: Any) -> Any:
        run = real(*arguments)

        def shifted(frames: np.ndarray) -> dict[str, np.ndarray]:
            found = run(frames)
            return found | {"probabilities": found["probabilities"] + 1e-3}

        return shifted

    monkeypatch.setattr(recipe, "_runner", bent)
    with pytest.raises(GateError, match="differ"):
        export(place / "model", "program", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_altered_exports_are_refused(exported: Exported, tmp_path: Path) -> None:
    shutil.copytree(exported("onnx")[0], tmp_path / "out")
    graph = tmp_path / "out" / "image.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"image\.onnx"):
        load_exported(tmp_path / "out")
    about = tmp_path / "out" / "discern.json"
    about.write_text("{}")
    with pytest.raises(IntegrityError, match="not an export"):
        load_exported(tmp_path / "out")


def test_the_graph_is_the_model(place: Path) -> None:
    bundle = load_bundle(place / "model")
    graph = Graph(bundle).eval()
    assert outputs_of(graph) == ("probabilities", "logits", "features", "stem", "verdict")
    for kind in kinds_of(bundle):
        frames = example(bundle, kind, 3)
        clip = frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        with torch.no_grad():
            found, logits = graph(frames)[:2], bundle.model(clip)
        torch.testing.assert_close(found[1], logits)
        expected = torch.from_numpy(bundle.certainty.probabilities(logits.numpy()))
        torch.testing.assert_close(found[0], expected.float())


def test_a_missing_extra_is_named(place: Path, tmp_path: Path, capsys: Any) -> None:
    def missing(*arguments: Any) -> list[str]:
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(writers.WRITERS, "onnx", missing)
        words = ["export", str(place / "model"), "--to", "onnx", "--out", str(tmp_path / "out")]
        assert main(words) == 2
    assert "discern[export]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["onnx", pytest.param("program", marks=pytest.mark.slow)])
def test_it_works_as_the_first_thing_that_a_process_does(to: str, tmp_path: Path) -> None:
    """Positions are kept over calls: the first must not be made while a graph is traced."""
    import subprocess
    import sys

    from tests.tiny import a_model

    model, out = a_model(tmp_path / "model"), tmp_path / "out"
    words = [sys.executable, "-m", "discern", "export", str(model), "--to", to, "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-1500:]
    assert (out / "discern.json").exists()
