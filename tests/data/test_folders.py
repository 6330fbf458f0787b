from __future__ import annotations

import os
from pathlib import Path

import pytest

from discern.clip import Kind
from discern.data.folders import walk
from discern.data.items import kind_by_name, printable, split_by_name
from discern.data.limits import Limits
from discern.data.sources import open_source, require_classes
from discern.errors import BadItem, DataError, Refused, UsageError

GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00"
LOOP = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"


def make(root: Path, *names: str, data: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def described(root: Path) -> dict[str, tuple[tuple[str, ...], str | None]]:
    return {item.key: (item.labels, item.split) for item in open_source(str(root)).items}


def test_class_folders_mixed_and_nested(tmp_path: Path) -> None:
    make(
        tmp_path, "cat/a.jpg", "cat/deep/er/b.MP4", "dog/c.png", "dog/notes.txt", "dog/.hidden.png"
    )
    source = open_source(str(tmp_path))
    assert [(item.key, item.kind, item.labels) for item in source.items] == [
        ("cat/a.jpg", Kind.IMAGE, ("cat",)),
        ("cat/deep/er/b.MP4", Kind.CLIP, ("cat",)),
        ("dog/c.png", Kind.IMAGE, ("dog",)),
    ]
    assert source.classes == ["cat", "dog"]
    assert source.ignored == 2
    assert source.read(2) == b"x"


def test_split_folders_are_honoured(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/a.jpg", "Validation/cat/b.jpg", "test/cat/c.jpg", "train/loose.jpg")
    assert described(tmp_path) == {
        "Validation/cat/b.jpg": (("cat",), "val"),
        "test/cat/c.jpg": (("cat",), "test"),
        "train/cat/a.jpg": (("cat",), "train"),
        "train/loose.jpg": ((), "train"),
    }


def test_a_train_among_other_classes_is_a_vehicle(tmp_path: Path) -> None:
    make(tmp_path, "train/a.jpg", "bus/b.jpg")
    assert described(tmp_path) == {"bus/b.jpg": (("bus",), None), "train/a.jpg": (("train",), None)}


def test_folders_beside_the_splits_are_counted_not_silent(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/a.jpg", "test/cat/b.jpg", "docs/logo.png")
    source = open_source(str(tmp_path))
    assert len(source) == 2 and source.ignored == 1
    assert "docs: 1 files passed over" in source.notes[0]


def test_flat_and_unlabelled_folders(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "unlabeled/b.jpg", "Unlabelled/deep/c.jpg", "cat/d.jpg")
    labels = {key: labels for key, (labels, _) in described(tmp_path).items()}
    assert labels == {
        "a.jpg": (),
        "unlabeled/b.jpg": (),
        "Unlabelled/deep/c.jpg": (),
        "cat/d.jpg": ("cat",),
    }
    assert open_source(str(tmp_path / "unlabeled")).classes == []


def test_a_folder_of_frames_is_one_clip(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        make(tmp_path, f"run/one.frames/{number}.jpg", data=bytes([number]))
    make(tmp_path, "run/two.mp4")
    source = open_source(str(tmp_path))
    assert [(item.key, item.kind) for item in source.items] == [
        ("run/one.frames", Kind.CLIP),
        ("run/two.mp4", Kind.CLIP),
    ]
    assert source.read(0) == [b"\x01", b"\x02", b"\x0a"]


def test_a_gif_that_moves_is_a_clip(tmp_path: Path) -> None:
    make(tmp_path, "x/still.gif", data=GIF)
    make(tmp_path, "x/moving.gif", data=GIF + LOOP)
    kinds = {item.key: item.kind for item in open_source(str(tmp_path)).items}
    assert kinds == {"x/moving.gif": Kind.CLIP, "x/still.gif": Kind.IMAGE}


def test_link_loops_end_and_nothing_counts_twice(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.jpg", "dog/b.jpg")
    os.symlink(tmp_path, tmp_path / "cat" / "loop")
    os.symlink(tmp_path / "dog", tmp_path / "a_link_to_dog")
    os.symlink(tmp_path / "gone.jpg", tmp_path / "cat" / "broken.jpg")
    source = open_source(str(tmp_path))
    assert [item.key for item in source.items] == ["cat/a.jpg", "cat/broken.jpg", "dog/b.jpg"]
    assert len(source.notes) == 2 and source.ignored == 2
    with pytest.raises(BadItem, match="cannot be read"):
        source.read(1)


def test_linked_class_folders_and_files_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "pool/a.jpg", "data/dog/b.jpg")
    os.symlink(tmp_path / "pool", tmp_path / "data" / "cat")
    os.symlink(tmp_path / "pool" / "a.jpg", tmp_path / "data" / "dog" / "c.jpg")
    assert set(described(tmp_path / "data")) == {"cat/a.jpg", "dog/b.jpg", "dog/c.jpg"}


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    with open(os.path.join(folder, b"b\xffd.jpg"), "wb") as file:
        file.write(b"bytes")
    source = open_source(str(tmp_path))
    (item,) = source.items
    assert item.key == r"caf\xe9/b\xffd.jpg" and item.labels == (r"caf\xe9",)
    item.key.encode("utf-8")
    assert source.read(0) == b"bytes"
    assert printable("köln") == "köln"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folders_are_noted(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.jpg", "dog/b.jpg")
    os.chmod(tmp_path / "dog", 0)
    try:
        source = open_source(str(tmp_path))
        assert len(source) == 1 and "dog: cannot be read" in source.notes[0]
    finally:
        os.chmod(tmp_path / "dog", 0o700)


def test_unreadable_folders_are_noted_for_anyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "cat/a.jpg", "dog/b.jpg")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("discern.data.folders.os.scandir", refuse)
    directories, ignored, notes = walk(tmp_path)
    assert [directory.parts for directory in directories] == [(), ("cat",)]
    assert ignored == 1 and "dog: cannot be read (Permission denied)" in notes[0]


def test_pipes_do_not_block(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.jpg")
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    source = open_source(str(tmp_path))
    assert len(source) == 1 and source.ignored == 1
    (tmp_path / "cat" / "a.jpg").unlink()
    os.mkfifo(tmp_path / "cat" / "a.jpg")
    with pytest.raises(BadItem, match="not a file"):
        source.read(0)


def test_reading_is_limited_and_vanished_files_are_bad(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.jpg", data=b"1" * 50)
    make(tmp_path, "cat/empty.jpg", data=b"")
    source = open_source(str(tmp_path), Limits(bytes=4))
    with pytest.raises(Refused, match="50 bytes: over the limit"):
        source.read(0)
    with pytest.raises(BadItem, match="empty"):
        source.read(1)
    (tmp_path / "cat" / "a.jpg").unlink()
    with pytest.raises(BadItem, match="No such file"):
        source.read(0)


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"nearest folder that does is {tmp_path}"):
        open_source(str(tmp_path / "a" / "b"))
    with pytest.raises(UsageError, match="not a path"):
        open_source("")
    make(tmp_path, "docs/readme.txt")
    with pytest.raises(DataError, match=r"no images or clips in it \(1 other"):
        open_source(str(tmp_path))


def test_one_class_only(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.jpg")
    with pytest.raises(DataError, match=r"one class only \(cat\)"):
        require_classes(open_source(str(tmp_path)))
    with pytest.raises(DataError, match="no labels"):
        require_classes(open_source(str(tmp_path / "cat")))
    make(tmp_path, "dog/a.jpg")
    assert require_classes(open_source(str(tmp_path))) == ["cat", "dog"]


def test_names() -> None:
    assert kind_by_name("a.JPeG") == Kind.IMAGE
    assert kind_by_name("a.txt") is None and kind_by_name("jpg") is None
    assert kind_by_name(".jpg") is None and kind_by_name(".a.jpg") is None
    assert split_by_name("train-00000-of-00004.tfrecord") == "train"
    assert split_by_name("validation_1.tar") == "val"
    assert split_by_name("trainer.tar") is None and split_by_name("data.tar") is None
