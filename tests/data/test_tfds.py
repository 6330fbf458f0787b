"""TFDS-prepared directories: two that TFDS wrote, older spellings, damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from discern.clip import Kind
from discern.data.example import encode_example
from discern.data.tfds import is_tfds, read_tfds, split_name
from discern.data.tfrecord import read_records, write_records
from discern.errors import BadItem, DataError

GOLDEN = Path(__file__).parent / "golden" / "tfds"
CORE = "tensorflow_datasets.core.features."
PNG = b"\x89PNG\r\n\x1a\n"


def test_images_that_tfds_wrote() -> None:
    folder = GOLDEN / "images"
    assert is_tfds(folder)
    assert not is_tfds(GOLDEN)
    dataset = read_tfds(folder)
    assert (dataset.name, dataset.image, dataset.video) == ("prepared_images", "photo", None)
    assert (dataset.label, dataset.classes) == ("kind", ["cat", "dog", "blue heron"])
    assert dataset.counts == {"train": 4, "validation": 2}
    train = [dataset.sample(record) for record in read_records(dataset.shards["train"][0])]
    assert [sample.labels for sample in train] == [("cat",), ("dog",), ("blue heron",), ()]
    assert all(sample.kind == Kind.IMAGE for sample in train)
    assert all(bytes(sample.encoded).startswith(PNG) for sample in train)  # type: ignore[arg-type]
    assert len(list(read_records(dataset.shards["validation"][0]))) == 2


def test_clips_that_tfds_wrote() -> None:
    dataset = read_tfds(GOLDEN / "clips")
    assert (dataset.image, dataset.video, dataset.label) == (None, "video", "label")
    samples = [dataset.sample(record) for record in read_records(dataset.shards["train"][0])]
    assert [sample.labels for sample in samples] == [("run",), ("walk",)]
    assert [len(sample.encoded) for sample in samples] == [3, 4]
    assert all(sample.kind == Kind.CLIP for sample in samples)
    assert all(frame.startswith(PNG) for frame in samples[0].encoded)  # type: ignore[union-attr]


def test_split_names() -> None:
    assert [split_name(name) for name in ("train", "validation", "test", "extra")] == [
        "train",
        "val",
        "test",
        None,
    ]


def prepared(folder: Path, features: object, splits: object = None, **info: object) -> Path:
    folder.mkdir(exist_ok=True)
    splits = [{"name": "train", "shardLengths": ["1"]}] if splits is None else splits
    (folder / "features.json").write_text(json.dumps(features))
    (folder / "dataset_info.json").write_text(json.dumps({"name": "x", "splits": splits} | info))
    record = encode_example({"image": PNG, "a/image": PNG, "label": 1, "a/label": 0, "id": "i"})
    write_records(folder / "x-train.tfrecord-00000-of-00001", [record])
    return folder


IMAGE = {"pythonClassName": CORE + "image_feature.Image", "image": {}}
LABEL = {"pythonClassName": CORE + "class_label_feature.ClassLabel", "classLabel": {}}
TEXT = {"pythonClassName": CORE + "text_feature.Text", "text": {}}


def dict_of(**features: object) -> dict[str, object]:
    return {
        "pythonClassName": CORE + "features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


OLD = {
    "type": CORE + "features_dict.FeaturesDict",
    "content": {
        "image": {"type": CORE + "image_feature.Image", "content": {"shape": [None, None, 3]}},
        "label": {"type": CORE + "class_label_feature.ClassLabel", "content": {"num_classes": 2}},
    },
}
OLDER = {
    "type": CORE + "features_dict.FeaturesDict",
    "content": json.dumps(dict_of(image=IMAGE, label=LABEL)["featuresDict"]),
    "proto_cls": "tensorflow_datasets.FeaturesDict",
}


@pytest.mark.parametrize("features", [dict_of(image=IMAGE, label=LABEL), OLD, OLDER])
def test_older_spellings(tmp_path: Path, features: object) -> None:
    dataset = read_tfds(prepared(tmp_path / "x", features))
    assert (dataset.image, dataset.label, dataset.classes) == ("image", "label", None)
    record = next(iter(read_records(dataset.shards["train"][0])))
    assert dataset.sample(record).labels == ("1",)
    splits = [{"name": "train", "numShards": "1"}]
    dataset = read_tfds(prepared(tmp_path / "x", features, splits=splits))
    assert len(dataset.shards["train"]) == 1


def test_nested_features_and_supervised_keys(tmp_path: Path) -> None:
    features = dict_of(a=dict_of(image=IMAGE, label=LABEL), id=TEXT)
    folder = prepared(tmp_path / "x", features)
    (folder / "a-label.labels.txt").write_text("cat\ndog\n")
    dataset = read_tfds(folder)
    assert (dataset.image, dataset.label, dataset.classes) == ("a/image", "a/label", ["cat", "dog"])
    keys = {"tuple": {"items": [{"featureKey": "second"}, {"featureKey": "fine"}]}}
    features = dict_of(image=IMAGE, second=IMAGE, label=LABEL, fine=LABEL)
    dataset = read_tfds(prepared(tmp_path / "x", features, supervisedKeys=keys))
    assert (dataset.image, dataset.label) == ("second", "fine")
    keys = {"input": "second", "output": "label"}
    dataset = read_tfds(prepared(tmp_path / "x", features, supervisedKeys=keys))
    assert (dataset.image, dataset.label) == ("second", "label")


def test_a_sequence_of_images_is_a_clip_and_of_labels_many(tmp_path: Path) -> None:
    many = {"pythonClassName": CORE + "sequence_feature.Sequence", "sequence": {"feature": IMAGE}}
    labels = {"pythonClassName": CORE + "sequence_feature.Sequence", "sequence": {"feature": LABEL}}
    dataset = read_tfds(prepared(tmp_path / "x", dict_of(pictures=many, tags=labels)))
    assert (dataset.image, dataset.video, dataset.label) == (None, "pictures", "tags")
    record = encode_example({"pictures": [PNG, PNG], "tags": [1, 0]})
    assert dataset.sample(record).labels == ("1", "0")


def test_a_record_without_the_image_names_the_keys() -> None:
    dataset = read_tfds(GOLDEN / "images")
    with pytest.raises(BadItem, match="no feature 'kind'; the record has: 'label'"):
        dataset.sample(encode_example({"label": 1}))
    with pytest.raises(BadItem, match="label 9: there are 3 class names"):
        dataset.sample(encode_example({"kind": 9, "photo": PNG}))


@pytest.mark.parametrize(
    ("file", "text", "what"),
    [
        ("features.json", "{", "features.json: is not JSON"),
        ("features.json", "[]", "features.json: is not a JSON object"),
        ("features.json", "[" * 100_000, "features.json: is not JSON"),
        ("dataset_info.json", "{}", "is not as TFDS writes it"),
        ("dataset_info.json", '{"name": "x", "splits": 3}', "is not as TFDS writes it"),
        ("features.json", json.dumps(dict_of(id=TEXT)), r"no image or video .*: id \(Text\)"),
        (
            "dataset_info.json",
            '{"name": "x", "splits": [], "fileFormat": "array_record"}',
            None,
        ),
        (
            "dataset_info.json",
            '{"name": "x", "fileFormat": "array_record", "splits": [{"name": "train"}]}',
            "files are array_record, only tfrecord",
        ),
        (
            "dataset_info.json",
            '{"name": "x", "splits": [{"name": "test", "shardLengths": ["1"]}]}',
            "x-test.tfrecord-00000-of-00001: is missing",
        ),
        (
            "dataset_info.json",
            '{"name": "../x", "splits": [{"name": "train", "shardLengths": ["1"]}]}',
            "leads out of the folder",
        ),
        (
            "dataset_info.json",
            '{"name": "x", "splits": [{"name": "a", "numShards": "1000000000"}]}',
            "1000000000 shards",
        ),
    ],
)
def test_damage_is_one_line(tmp_path: Path, file: str, text: str, what: str | None) -> None:
    folder = prepared(tmp_path / "x", dict_of(image=IMAGE, label=LABEL))
    (folder / file).write_text(text)
    if what is None:
        assert read_tfds(folder).shards == {}
        return
    with pytest.raises(DataError, match=what) as caught:
        read_tfds(folder)
    assert "\n" not in str(caught.value)


def test_features_too_deep(tmp_path: Path) -> None:
    deep: dict[str, object] = dict_of(image=IMAGE)
    for _ in range(40):
        deep = dict_of(a=deep)
    with pytest.raises(DataError, match="too deep"):
        read_tfds(prepared(tmp_path / "x", deep))


def test_missing_files(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "images", tmp_path / "x")
    (tmp_path / "x" / "features.json").unlink()
    assert not is_tfds(tmp_path / "x")
    with pytest.raises(DataError, match="features.json: cannot be read"):
        read_tfds(tmp_path / "x")
