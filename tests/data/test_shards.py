from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import tarfile
from pathlib import Path

import fsspec
import pytest

from discern.clip import Kind
from discern.data import outline
from discern.data.example import encode_example
from discern.data.layout import Sample, sample_to_record
from discern.data.limits import Limits
from discern.data.outline import outline_path
from discern.data.shards import is_record_name, short_names
from discern.data.sources import open_source
from discern.data.tfrecord import write_records
from discern.errors import BadItem, DataError, Refused, UsageError

PNG = b"\x89PNG\r\n\x1a\n png"


def record(label: str | None, data: bytes = PNG, **more: str) -> bytes:
    labels = (label,) if label else ()
    return sample_to_record(Sample(encoded=data, kind=Kind.IMAGE, labels=labels, **more))


def shard(path: Path, *labels: str | None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, [record(label) for label in labels], gzip=path.suffix == ".gz")
    return path


def tar(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            file.addfile(about, io.BytesIO(data))
    return path


def test_shards_by_folder_file_and_pattern(tmp_path: Path) -> None:
    shard(tmp_path / "train-00000-of-00002.tfrecord", "cat", "dog")
    shard(tmp_path / "train-00001-of-00002.tfrecord", "cat")
    shard(tmp_path / "test-00000-of-00001.tfrecord.gz", None)
    (tmp_path / "readme.txt").write_text("x")
    source = open_source(str(tmp_path))
    assert [(item.key, item.labels, item.split) for item in source.items] == [
        ("test-00000-of-00001.tfrecord.gz#0", (), "test"),
        ("train-00000-of-00002.tfrecord#0", ("cat",), "train"),
        ("train-00000-of-00002.tfrecord#1", ("dog",), "train"),
        ("train-00001-of-00002.tfrecord#0", ("cat",), "train"),
    ]
    assert all(source.read(index) == PNG for index in range(4))
    assert len(open_source(str(tmp_path / "train-*"))) == 3
    assert len(open_source(str(tmp_path / "train-00001-of-00002.tfrecord"))) == 1
    assert source.ignored == 1


def test_shards_in_split_folders(tmp_path: Path) -> None:
    shard(tmp_path / "train" / "a.tfrecord", "cat")
    shard(tmp_path / "validation" / "a.tfrecord", "dog")
    items = open_source(str(tmp_path)).items
    assert [(item.key, item.split) for item in items] == [
        ("train/a.tfrecord#0", "train"),
        ("validation/a.tfrecord#0", "val"),
    ]


def test_numbers_are_named_by_labels_txt(tmp_path: Path) -> None:
    records = [
        encode_example({"image/encoded": PNG, "image/class/label": number}) for number in (1, 0)
    ]
    write_records(tmp_path / "x.tfrecord", records)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    items = open_source(str(tmp_path / "x.tfrecord")).items
    assert [item.labels for item in items] == [("dog",), ("cat",)]


def test_a_damaged_record_is_a_bad_item(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tfrecord", "cat", "dog", "cat")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    source = open_source(str(path))
    assert [item.labels for item in source.items] == [("cat",), (), ("cat",)]
    with pytest.raises(BadItem):
        source.read(1)
    assert source.read(2) == PNG


def test_a_truncated_shard_is_noted_and_counts_as_bad(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tfrecord", "cat", "dog", "cat")
    path.write_bytes(path.read_bytes()[:-20])
    source = open_source(str(path))
    assert len(source) == 3 and source.notes
    with pytest.raises(BadItem):
        source.read(2)
    path.write_bytes(b"this is no record file at all, but text")
    with pytest.raises(DataError, match="no record can be read"):
        open_source(str(path))


def test_a_foreign_record_without_an_image(tmp_path: Path) -> None:
    write_records(tmp_path / "x.tfrecord", [encode_example({"text": b"x"}), record("cat")])
    source = open_source(str(tmp_path / "x.tfrecord"))
    assert len(source) == 2
    with pytest.raises(BadItem, match="text"):
        source.read(0)


def test_limits_hold(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tfrecord", "cat")
    with pytest.raises(Refused):
        open_source(str(path), Limits(bytes=10)).read(0)


def test_the_outline_of_a_large_shard_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outline, "WORTH_KEEPING", 0)
    path = tmp_path / "x.tfrecord"
    write_records(path, [record("cat", split="val", group="g"), record(None)])
    first = open_source(str(path)).items
    assert outline_path(path).exists()
    with monkeypatch.context() as patch:
        patch.setattr(outline, "_scan", lambda *arguments: pytest.fail("read again"))
        assert open_source(str(path)).items == first
        assert len(open_source(str(tmp_path))) == 2
    outline_path(path).write_text('{"stamp": []}')
    assert open_source(str(path)).items == first
    # other class names, another outline
    (tmp_path / "labels.txt").write_text("cat\n")
    assert [item.group for item in open_source(str(path)).items] == ["g", None]
    write_records(path, [record("dog")])
    os.utime(path, (1, 1))
    assert [item.labels for item in open_source(str(path)).items] == [("dog",)]


def test_sources_travel_to_workers(tmp_path: Path) -> None:
    shard(tmp_path / "x.tfrecord", "cat", "dog")
    source = open_source(str(tmp_path / "x.tfrecord"))
    assert source.read(0) == PNG
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(source.read, [0, 1]) == [PNG, PNG]


def test_names() -> None:
    for name in (
        "a.tfrecord",
        "a.tfrecords.gz",
        "a.tfrec",
        "mnist-train.tfrecord-00000-of-00001",
        "train-00000-of-01024",
    ):
        assert is_record_name(name)
    for name in (".a.tfrecord", "a.tfrecord.png", "a.jpg", "a.tfrecordings", "tfrecord"):
        assert not is_record_name(name)
    assert short_names([Path("/x/a/1.tar"), Path("/x/b/2.tar")]) == ["1.tar", "2.tar"]
    assert short_names([Path("/x/a/1.tar"), Path("/x/b/1.tar")]) == ["a/1.tar", "b/1.tar"]


def test_webdataset_tars(tmp_path: Path) -> None:
    tar(
        tmp_path / "train-000.tar",
        **{"a.png": PNG, "a.cls": b"1", "../b.jpg": b"\xff\xd8\xff", "b.txt": b"x"},
    )
    tar(tmp_path / "val-000.tar", **{"c.mp4": b"\0\0\0\x18ftyp", "c.json": b'{"label": "dog"}'})
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    source = open_source(str(tmp_path))
    found = {item.key: (item.kind, item.split) for item in source.items}
    assert found["train-000.tar#a.png"] == (Kind.IMAGE, "train")
    assert found["val-000.tar#c.mp4"] == (Kind.CLIP, "val")
    assert source.items[0].labels == ("dog",)
    assert source.read(0) == PNG
    with pytest.raises(Refused):
        open_source(str(tmp_path / "train-000.tar"), Limits(bytes=3)).read(0)
    assert len(open_source(str(tmp_path / "*.tar"))) == len(source)


def test_prepared_by_tfds(tmp_path: Path) -> None:
    folder = tmp_path / "mini" / "1.0.0"
    folder.mkdir(parents=True)
    features = {
        "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "featuresDict": {
            "features": {
                "image": {
                    "pythonClassName": "tensorflow_datasets.core.features.image_feature.Image",
                    "image": {"shape": {"dimensions": ["-1", "-1", "3"]}, "dtype": "uint8"},
                },
                "label": {
                    "pythonClassName": (
                        "tensorflow_datasets.core.features.class_label_feature.ClassLabel"
                    ),
                    "classLabel": {"numClasses": "2"},
                },
            }
        },
    }
    about = {
        "name": "mini",
        "fileFormat": "tfrecord",
        "splits": [
            {
                "name": name,
                "shardLengths": ["2"],
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
            for name in ("train", "validation")
        ],
    }
    (folder / "features.json").write_text(json.dumps(features))
    (folder / "dataset_info.json").write_text(json.dumps(about))
    (folder / "label.labels.txt").write_text("cat\ndog\n")
    for split in ("train", "validation"):
        records = [encode_example({"image": PNG, "label": number}) for number in (0, 1)]
        write_records(folder / f"mini-{split}.tfrecord-00000-of-00001", records)
    for spec in (folder, folder.parent):
        source = open_source(str(spec))
        assert [(item.labels, item.split) for item in source.items] == [
            (("cat",), "train"),
            (("dog",), "train"),
            (("cat",), "val"),
            (("dog",), "val"),
        ]
        assert source.read(0) == PNG and not source.notes
    write_records(folder / "mini-train.tfrecord-00000-of-00001", records[:1])
    assert "3 records, where dataset_info.json says 4" in open_source(str(folder)).notes[0]
    second = tmp_path / "mini" / "2.0.0"
    second.mkdir()
    for name in ("features.json", "dataset_info.json"):
        (second / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(UsageError, match=r"name one of 1\.0\.0, 2\.0\.0"):
        open_source(str(tmp_path / "mini"))


def test_remote_shards_are_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    local = shard(tmp_path / "train-0.tfrecord.gz", "cat", "dog")
    assert gzip.decompress(local.read_bytes())
    fs.pipe_file("/shards/train-0.tfrecord.gz", local.read_bytes())
    fs.pipe_file("/shards/labels.txt", b"cat\ndog\n")
    for spec in ("memory://shards", "memory://shards/*.gz", "memory://shards/train-0.tfrecord.gz"):
        source = open_source(spec)
        assert [item.labels for item in source.items] == [("cat",), ("dog",)]
        assert source.items[0].split == "train" and source.read(1) == PNG
    monkeypatch.setattr(type(fs), "get_file", lambda *arguments: pytest.fail("fetched again"))
    open_source("memory://shards")
    fs.store.clear()


def test_a_record_lies_at_one_place_however_it_is_named(tmp_path: Path) -> None:
    shard(tmp_path / "a.tfrecord", "cat", "dog")
    whole, pattern = open_source(str(tmp_path)), open_source(str(tmp_path / "*.tfrecord"))
    here = [f"{(tmp_path / 'a.tfrecord').resolve()}#{number}" for number in range(2)]
    assert [[one.location(index) for index in range(2)] for one in (whole, pattern)] == [here, here]
    path = tar(tmp_path / "tars.tar", **{"x.png": PNG, "x.cls": b"cat"})
    assert open_source(str(path)).location(0) == f"{path.resolve()}#x.png"
