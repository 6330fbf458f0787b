"""Scores of very many items: the answers of `predict`, each once, whatever is killed on the way."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from discern.cli import main
from discern.errors import DiscernError
from discern.predict import predict_files
from discern.recipes.score import score
from discern.seal.keys import make_signing_key
from tests.tiny import a_model

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """57 pictures, two clips and a broken file."""
    folder = tmp_path_factory.mktemp("data") / "items"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(57):
        pixels = rng.integers(0, 256, (12 + number % 3, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    for number in range(2):
        frames = [Image.fromarray(f) for f in rng.integers(0, 256, (5, 16, 16, 3), np.uint8)]
        frames[0].save(
            folder / f"clip-{number}.gif", save_all=True, append_images=frames[1:], loop=0
        )
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted(out.glob("part-*.parquet")):
        found += parquet.read_table(path).to_pylist()
    return found


def test_answers_are_those_of_predict(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    words = ["score", str(data), "--model", str(model), "--out", str(out), "--chunk", "16"]
    assert main(words) == 0
    assert len(list(out.glob("part-*.parquet"))) == 4
    found = {row["key"]: row for row in rows(out)}
    assert len(found) == len(rows(out)) == 60
    wanted = predict_files(model, [data / key for key in found])
    for entry, row in zip(wanted, found.values(), strict=True):
        if "error" in entry:
            assert row["label"] is None and entry["error"] == row["error"]
        else:
            assert row["label"] == entry["label"] and row["kind"] == entry["kind"]
            assert row["probability"] == pytest.approx(entry["probability"], abs=1e-5)
            assert row["error"] is None and row["labels"] is None
    results = json.loads((out / "results.json").read_text())
    assert results["rows"] == results["samples"] == 60 and results["bad_files"] == 1
    assert main(words) == 2  # finished


def test_work_goes_on_with_what_is_missing_and_refuses_other_work(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    score(str(data), model, out, chunk=16)
    whole = [path.read_bytes() for path in sorted(out.glob("part-*"))]
    (out / "results.json").unlink()
    (out / "part-00002.parquet").unlink()
    (out / ".tmp-old").touch()
    kept = (out / "part-00001.parquet").stat().st_mtime_ns
    other = a_model(tmp_path / "other", seed=1)
    for words in (
        ["--chunk", "16", "--model", str(other)],
        ["--chunk", "8", "--model", str(model)],
    ):
        assert main(["score", str(data), "--out", str(out), *words]) == 2
        assert "begun with another" in capsys.readouterr().err
    score(str(data), model, out, chunk=16)
    assert [path.read_bytes() for path in sorted(out.glob("part-*"))] == whole
    assert (out / "part-00001.parquet").stat().st_mtime_ns == kept
    busy = tmp_path / "busy"
    busy.mkdir()
    (busy / "letter.txt").write_text("mine")
    assert main(["score", str(data), "--model", str(model), "--out", str(busy)]) == 2


def test_a_later_call_sees_the_model_and_the_items_of_its_time(
    model: Path, data: Path, tmp_path: Path
) -> None:
    """One process, two scorings: what was opened for the first is not used for the second."""
    one, photos = tmp_path / "model", Path(shutil.copytree(data, tmp_path / "photos"))
    shutil.copytree(model, one)
    score(str(photos), one, tmp_path / "first", chunk=16)
    shutil.rmtree(one)
    a_model(one, seed=1)
    shutil.copy(photos / "000.png", photos / "zzz.png")
    score(str(photos), one, tmp_path / "second", chunk=16)
    second = {row["key"]: row for row in rows(tmp_path / "second")}
    wanted = predict_files(one, [photos / "000.png"])[0]
    assert second["zzz.png"]["label"] == second["000.png"]["label"] == wanted["label"]
    assert second["000.png"]["probability"] == pytest.approx(wanted["probability"], abs=1e-5)


def test_processes_share_the_work(model: Path, data: Path, tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    score(str(data), model, alone, chunk=16)
    private, public = make_signing_key(tmp_path / "key")
    assert main(["seal", "sign", str(model), "--key", str(private)]) == 0
    try:
        score(str(data), model, shared, chunk=16, workers=2, require_signature=public)
        assert rows(shared) == rows(alone)
    finally:
        (model / "signature.json").unlink()
    with pytest.raises(DiscernError, match="signed"):
        score(str(data), model, tmp_path / "no", require_signature=public)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_twenty_kills_leave_each_item_answered_once(
    model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    words = ["score", str(data), "--model", str(model), "--out", str(out), "--chunk", "1"]
    rng = np.random.default_rng(0)
    kills = 0
    while kills < 20 and not (out / "results.json").exists():
        child = subprocess.Popen([sys.executable, "-m", "discern", *words])
        end, before = time.monotonic() + 60, len(list(out.glob("part-*")))
        while len(list(out.glob("part-*"))) < before + 1 and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(float(rng.random()) * 0.05)
        child.kill()
        kills += child.wait() == -signal.SIGKILL
    if not (out / "results.json").exists():
        assert main(words) == 0
    assert kills >= 3
    keys = [row["key"] for row in rows(out)]
    assert len(keys) == len(set(keys)) == 60
    assert not list(out.glob(".tmp-*"))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_cluster_that_loses_a_node_answers_all(model: Path, data: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lost = cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False)
        out = tmp_path / "scores"
        started = False

        def lose_a_node() -> None:
            nonlocal started
            if not started and len(list(out.glob("part-*"))) >= 3:
                started = True
                cluster.remove_node(lost, allow_graceful=False)

        import threading

        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                lose_a_node()
                time.sleep(0.01)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            score(str(data), model, out, chunk=1, ray="auto")
        finally:
            over.set()
            watcher.join()
        assert started
        keys = [row["key"] for row in rows(out)]
        assert len(keys) == len(set(keys)) == 60
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_predict_saves_what_other_tools_read(model: Path, data: Path, tmp_path: Path) -> None:
    files = [str(data / name) for name in ("000.png", "001.png", "broken.png")]
    for name in ("a.parquet", "a.json", "a.txt"):
        code = main(["predict", str(model), *files, "--save", str(tmp_path / name)])
        assert code == (2 if name == "a.txt" else 4)
    wanted = predict_files(model, files)
    table = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["label"] for row in table] == [entry.get("label") for entry in wanted]
    assert table[2]["error"] and table[0]["key"] == files[0]
    found = json.loads((tmp_path / "a.json").read_text())  # FiftyOne's image classification
    assert set(found["labels"]) == {"000", "001"}
    assert found["labels"]["000"]["label"] == wanted[0]["label"]
    assert set(found["classes"]) == {entry["label"] for entry in wanted[:2]}
