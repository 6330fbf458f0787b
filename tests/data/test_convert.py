from __future__ import annotations

import os
from pathlib import Path

import pytest

from discern.clip import Kind
from discern.data.convert import convert
from discern.data.items import Item, Source
from discern.data.layout import Sample
from discern.data.limits import Limits
from discern.data.sources import open_source
from discern.errors import DataError, UsageError
from tests.data.test_folders import make

JPG, PNG, MP4 = b"\xff\xd8\xff jpg", b"\x89PNG\r\n\x1a\n png", b"\0\0\0\x18ftypmp42 mp4"


class Made(Source):
    """A source of samples that are given."""

    def __init__(self, *samples: Sample) -> None:
        super().__init__("made", Limits())
        self.samples = samples
        self.items = [
            Item(
                key=f"x#{number}",
                kind=sample.kind,
                labels=sample.labels,
                split=sample.split,
                group=sample.group,
            )
            for number, sample in enumerate(samples)
        ]

    def read(self, index: int) -> bytes | list[bytes]:
        return self.samples[index].encoded

    def sample(self, index: int) -> Sample:
        return self.samples[index]


def contents(source: Source) -> dict[tuple[object, ...], bytes | list[bytes]]:
    """What matters of a source, whatever its files are called."""
    found = {}
    for index, item in enumerate(source.items):
        sample = source.sample(index)
        name = (sample.key or "").rpartition("/")[2]
        found[name, item.labels, item.split, item.group, item.kind] = sample.encoded
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    make(root, "train/cat/a.jpg", data=JPG)
    make(root, "train/dog/b.mp4", data=MP4)
    make(root, "test/cat/c.png", data=PNG)
    make(root, "train/cat/d.frames/1.jpg", "train/cat/d.frames/2.jpg", data=JPG)
    make(root, "unlabelled/e.png", data=PNG)
    make(root, "train/cat/köln é.jpg", data=JPG + b"k")
    return root


@pytest.mark.parametrize("gzip", [False, True])
def test_there_and_back_again(folder: Path, tmp_path: Path, gzip: bool) -> None:
    source = open_source(str(folder))
    out = tmp_path / "records"
    report = convert(source, out, "tfrecord", shards=2, gzip=gzip)
    suffix = ".gz" if gzip else ""
    assert f"train-00000-of-00002.tfrecord{suffix}" in report["files"]
    assert sorted(path.name for path in out.iterdir()) == sorted(report["files"])
    assert (out / "labels.txt").read_text() == "cat\ndog\n"
    records = open_source(str(out))
    assert records.classes == ["cat", "dog"]
    assert contents(records) == contents(source)

    back = tmp_path / "back"
    convert(records, back, "folder")
    assert contents(open_source(str(back))) == contents(source)
    assert (back / "train/dog/b.mp4").read_bytes() == MP4
    assert not list(back.rglob("*.jsonl"))


def test_several_labels_and_groups_survive(tmp_path: Path) -> None:
    made = Made(
        Sample(encoded=JPG, kind=Kind.IMAGE, labels=("b", "a"), group="g", key="one.jpg"),
        Sample(encoded=PNG, kind=Kind.IMAGE, labels=("a",), split="val", key="two.png"),
        Sample(encoded=MP4, kind=Kind.CLIP, key="three.mp4"),
    )
    for to in ("tfrecord", "folder"):
        out = tmp_path / to
        report = convert(made, out, to)
        again = open_source(str(out / "manifest.jsonl" if to == "folder" else out))
        assert contents(again) == contents(made)
        assert report["items"] == 3
    assert (tmp_path / "tfrecord/val-00000-of-00001.tfrecord").exists()


def test_names_of_strangers_stay_in_the_folder(tmp_path: Path) -> None:
    hostile = ["../../up.jpg", "/etc/abs.jpg", "..", ".hidden.jpg", "a\0b\nc.jpg", "C:\\x\\y.jpg"]
    made = Made(
        *(
            Sample(encoded=JPG, kind=Kind.IMAGE, labels=(label,), key=key)
            for key in [*hostile, "x" * 300 + ".jpg", None, "same.jpg", "SAME.jpg", "same.jpg"]
            for label in ("../../up", "..", "/abs", "a/b", "", "y" * 300)
        )
    )
    out = tmp_path / "deep" / "out"
    convert(made, out, "folder")
    everywhere = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(out in path.parents for path in everywhere)
    assert len(everywhere) == len(made) + 1
    again = open_source(str(out / "manifest.jsonl"))
    assert sorted(item.labels for item in again.items) == sorted(
        tuple(filter(None, item.labels)) for item in made.items
    )


def test_extensions_follow_the_bytes(tmp_path: Path) -> None:
    heads = {
        "jpg": JPG,
        "png": PNG,
        "gif": b"GIF89a",
        "webp": b"RIFF\0\0\0\0WEBP",
        "avi": b"RIFF\0\0\0\0AVI ",
        "mkv": b"\x1aE\xdf\xa3xx",
        "webm": b"\x1aE\xdf\xa3xx\x42\x82\x84webm",
        "mp4": MP4,
        "mov": b"\0\0\0\x14ftypqt  ",
    }
    made = Made(
        *(
            Sample(encoded=data, kind=Kind.IMAGE, labels=("x",), key=f"number {suffix}")
            for suffix, data in heads.items()
        )
    )
    convert(made, tmp_path / "out", "folder")
    names = {path.name for path in (tmp_path / "out" / "x").iterdir()}
    assert names == {f"number {suffix}.{suffix}" for suffix in heads}


def test_a_folder_in_use_is_refused(folder: Path, tmp_path: Path) -> None:
    source = open_source(str(folder))
    for used in (folder, folder / "unlabelled" / "e.png"):
        with pytest.raises(UsageError, match="is in use"):
            convert(source, used, "folder")
    (tmp_path / "empty").mkdir()
    convert(source, tmp_path / "empty", "folder")
    with pytest.raises(UsageError, match="write one of tfrecord, folder"):
        convert(source, tmp_path / "new", "zip")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least 1"):
        convert(source, tmp_path / "new", "tfrecord", shards=0)
    with pytest.raises(UsageError, match="leave them out"):
        convert(source, tmp_path / "new", "folder", gzip=True)


def test_bad_items_are_listed_and_too_many_stop(folder: Path, tmp_path: Path) -> None:
    source = open_source(str(folder))
    (folder / "train/cat/a.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 6 items cannot be read.*train/cat/a.jpg"):
        convert(source, tmp_path / "out", "folder")
    assert "a.jpg" in (tmp_path / "out" / "bad_files.jsonl").read_text()


def test_a_full_disk_leaves_no_half_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(str(folder))

    def full(old: Path, new: Path) -> None:
        raise OSError(28, "No space left on device", str(new))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left on device"):
        convert(source, tmp_path / "out", "folder")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_class_names_of_two_lines_are_refused(tmp_path: Path) -> None:
    made = Made(Sample(encoded=JPG, kind=Kind.IMAGE, labels=("a\nb",)))
    with pytest.raises(DataError, match="must be one line"):
        convert(made, tmp_path / "out", "tfrecord")
