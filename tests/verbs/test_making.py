"""`generate` and `reconstruct` through the command line: files of each kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from discern.cli import main
from discern.data.decode import decode
from discern.data.limits import Limits
from discern.data.sources import open_source
from tests.child import child
from tests.verbs.scene import Scene

SIDE, GAP, FRAMES = 32, 2, 4
ROW_OF_3 = 3 * SIDE + 2 * GAP


def read(path: Path) -> np.ndarray:
    """The frames of a file, 4 of a clip.  -> uint8 [T, H, W, 3]"""
    frames = FRAMES if path.suffix in (".mp4", ".gif") else None
    return decode(path.read_bytes(), Limits(), frames=frames).frames


def test_generate(scene: Scene, tmp_path: Path) -> None:
    code, out, said = child("generate", scene.tuned, "-n", 5, "-o", tmp_path / "a.png", "--json")
    assert code == 0, said
    assert json.loads(out)["count"] == 5
    assert read(tmp_path / "a.png").shape == (1, 2 * SIDE + GAP, ROW_OF_3, 3)
    make = ["generate", str(scene.tuned), "--count", "3", "--out"]
    for name in ("a.mp4", "a.gif", "folder", "b.tfrecord", "seeded.png", "seeded-again.png"):
        seed = ["--seed", "1"] if "seeded" in name else []
        assert main([*make, str(tmp_path / name), *seed]) == 0
    for name in ("a.mp4", "a.gif"):
        clip = read(tmp_path / name)
        assert clip.shape == (FRAMES, 2 * SIDE + GAP, 2 * SIDE + GAP, 3)
        assert clip[:, :SIDE, :SIDE].std() > 0
    pictures = [read(path) for path in sorted((tmp_path / "folder").iterdir())]
    assert [one.shape for one in pictures] == [(1, SIDE, SIDE, 3)] * 3
    source = open_source(str(tmp_path / "b.tfrecord"))
    assert len(source) == 3
    stored = [decode(source.read(number), Limits()).frames for number in range(3)]
    assert all(np.array_equal(one, other) for one, other in zip(stored, pictures, strict=True))
    assert not np.array_equal(pictures[0], pictures[1])
    seeded = [(tmp_path / f"{name}.png").read_bytes() for name in ("seeded", "seeded-again")]
    assert seeded[0] == seeded[1]
    sheet = read(tmp_path / "seeded.png")
    assert not np.array_equal(sheet[0, :SIDE, :SIDE], pictures[0][0])  # another seed than 0
    for out_name, code in (("a.txt", 2), ("a.png/b.png", 2)):
        assert main([*make, str(tmp_path / out_name)]) == code


def test_reconstruct(scene: Scene, tmp_path: Path) -> None:
    image, clip = scene.one("test/*/*.png"), scene.one("test/*/*.mp4")
    out = tmp_path / "r.png"
    code, answer, said = child("reconstruct", scene.tuned, image, "--out", out, "--json")
    assert code == 0, said
    assert json.loads(answer)["mask"] == 0.75
    row = read(out)
    assert row.shape == (1, SIDE, ROW_OF_3, 3)
    original, seen = row[0, :, :SIDE], row[0, :, SIDE + GAP : 2 * SIDE + GAP]
    assert np.array_equal(original, np.asarray(Image.open(image).convert("RGB")))
    hidden = (seen != original).any(axis=-1).mean()
    assert 0.4 < hidden <= 0.76  # some hidden pixels had the colour that stands for hidden
    for name in ("r.mp4", "r.gif"):
        words = ["reconstruct", str(scene.tuned), str(clip), "--out", str(tmp_path / name)]
        assert main([*words, "--mask", "0.5"]) == 0
        assert read(tmp_path / name).shape == (FRAMES, SIDE, ROW_OF_3, 3)
    assert main(["reconstruct", str(scene.tuned), str(clip), "--out", str(tmp_path / "r")]) == 2
