from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.clip import Clip, Kind
from discern.data.check import check
from discern.data.limits import Limits
from discern.data.sources import open_source
from discern.data.videos import write_video
from discern.errors import DataError
from tests.data.test_fingerprint import picture


def save(path: Path, frame: np.ndarray, **options: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes in two splits with one fault of each sort."""
    for number in range(6):
        save(tmp_path / f"train/cat/{number}.png", picture(number, 40 + number))
        save(tmp_path / f"test/dog/{number}.png", picture(100 + number))
    copy = (tmp_path / "train/cat/0.png").read_bytes()
    (tmp_path / "test/cat").mkdir()
    (tmp_path / "test/cat/copy.png").write_bytes(copy)
    save(tmp_path / "test/dog/again.jpg", picture(1, 41), quality=70)
    (tmp_path / "train/cat/broken.jpg").write_bytes(b"\xff\xd8\xff garbage")
    (tmp_path / "train/cat/empty.jpg").write_bytes(b"")
    (tmp_path / "train/readme.txt").write_text("x")
    return tmp_path


def test_everything_is_found(folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = check(open_source(str(folder)), Limits(), progress=lambda *step: steps.append(step))
    assert (report["items"], report["images"], report["clips"]) == (16, 16, 0)
    assert report["classes"] == {"cat": 9, "dog": 7}
    assert report["splits"] == {"test": 8, "train": 8}
    assert [row["path"] for row in report["bad_files"]] == [
        "train/cat/broken.jpg",
        "train/cat/empty.jpg",
    ]
    assert all(row["reason"] for row in report["bad_files"])
    assert report["duplicates"] == [
        {"kind": "exact", "paths": ["test/cat/copy.png", "train/cat/0.png"]},
        {"kind": "near", "paths": ["test/dog/again.jpg", "train/cat/1.png"]},
    ]
    assert [leak["paths"] for leak in report["leaks"]] == [
        ["test/cat/copy.png", "train/cat/0.png"],
        ["test/dog/again.jpg", "train/cat/1.png"],
    ]
    assert report["conflicting_labels"] == [
        {
            "kind": "near",
            "labels": ["cat", "dog"],
            "paths": ["test/dog/again.jpg", "train/cat/1.png"],
        }
    ]
    assert report["sizes"]["width"] == {"min": 40, "median": 44.5, "max": 64}
    assert report["imbalance"]["largest"] == "cat" and not report["imbalance"]["is_imbalanced"]
    assert report["ignored"] == 1
    assert steps[-1] == (16, 16)
    json.dumps(report)


def test_strict_stops_at_the_first(folder: Path) -> None:
    with pytest.raises(DataError, match="train/cat/broken.jpg"):
        check(open_source(str(folder)), strict=True)


def test_clips_and_named_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        frames = np.stack([picture(int(rng.integers(1000))) for _ in range(12)])
        clip = Clip(frames=frames, times=np.arange(12) / 8, kind=Kind.CLIP)
        write_video(clip, tmp_path / f"{name}.mp4")
    for number, name in enumerate("xyz"):
        save(tmp_path / f"{name}.png", np.full((9 + number, 9, 3), 60, np.uint8))
    (tmp_path / "m.csv").write_text(
        "path,label,split,group\na.mp4,run,train,film\nb.mp4,run,test,film\n"
        "x.png,,,\ny.png,,,\nz.png,,,\n"
    )
    report = check(open_source(str(tmp_path / "m.csv")))
    assert (report["images"], report["clips"], report["unlabelled"]) == (3, 2, 3)
    assert report["sizes"]["seconds"]["max"] == pytest.approx(1.5, abs=0.2)
    assert report["duplicates"] == []  # flat pictures all look the same, and that says nothing
    assert report["leaks"] == [
        {"kind": "group", "splits": ["test", "train"], "paths": ["a.mp4", "b.mp4"]}
    ]
    assert report["groups"] == 1 and report["imbalance"] is None


def test_an_unlabelled_copy_is_no_conflict(tmp_path: Path) -> None:
    for name in ("cat/a.png", "unlabeled/a.png"):
        save(tmp_path / name, picture(0))
    report = check(open_source(str(tmp_path)))
    assert len(report["duplicates"]) == 1
    assert report["conflicting_labels"] == [] and report["leaks"] == []
