"""Samples as Examples and back; and what others call the same things."""

from __future__ import annotations

import pytest

from discern.clip import Kind
from discern.data.example import encode_example, parse_example
from discern.data.layout import Sample, names_of, record_to_sample, sample_to_record
from discern.errors import BadItem

JPEG = b"\xff\xd8\xff\xe0" + bytes(200)
MP4 = b"\0\0\0\x18ftypisom" + bytes(200)

SAMPLES = [
    Sample(encoded=JPEG, kind=Kind.IMAGE, labels=("cat",), group="g", split="val", key="a/b.jpg"),
    Sample(encoded=JPEG, kind=Kind.IMAGE),
    Sample(encoded=JPEG, kind=Kind.IMAGE, labels=("cat", "dög")),
    Sample(encoded=MP4, kind=Kind.CLIP, labels=("dög",), split="train"),
    Sample(encoded=[JPEG, JPEG + b"2"], kind=Kind.CLIP, labels=("cat",)),
    Sample(encoded=[JPEG], kind=Kind.CLIP),
]


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("classes", [(), ["cat", "dög"], {"dög": 1, "cat": 0}])
def test_round_trip(sample: Sample, classes: object) -> None:
    assert record_to_sample(sample_to_record(sample, classes)) == sample  # type: ignore[arg-type]


def test_the_documented_features() -> None:
    image = parse_example(sample_to_record(SAMPLES[2], ["cat", "dög"]))
    assert image.keys() == [
        "image/class/label",
        "image/class/text",
        "image/encoded",
        "image/format",
    ]
    assert image.ints("image/class/label") == [0, 1]
    assert image.texts("image/class/text") == ["cat", "dög"]
    assert image.text("image/format") == "JPEG"
    clip = parse_example(sample_to_record(SAMPLES[4], ["cat", "dög"]))
    assert clip.keys() == ["clip/class/label", "clip/class/text", "clip/frames"]
    assert clip.blobs("clip/frames") == SAMPLES[4].encoded
    unlabelled = parse_example(sample_to_record(SAMPLES[1], ["cat"]))
    assert unlabelled.number("image/class/label") == -1  # so that a fixed feature can be parsed
    assert unlabelled.text("image/class/text") == ""
    assert "image/class/label" not in parse_example(sample_to_record(SAMPLES[0]))


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        ({"image": JPEG, "label": 1}, ("dog",)),
        ({"image": JPEG, "label": -1}, ()),
        ({"image": JPEG, "label": "cat"}, ("cat",)),
        ({"image": JPEG, "label": ""}, ()),
        ({"image": JPEG}, ()),
        ({"image/encoded": JPEG, "image/class/label": 0, "image/class/text": ""}, ("cat",)),
        ({"image/encoded": JPEG, "image/class/label": 0, "image/class/text": "hen"}, ("hen",)),
        ({"image_raw": JPEG, "label": [0, 1]}, ("cat", "dog")),
        ({"jpeg": JPEG, "class": 1, "group": 7, "key": [1.5]}, ("dog",)),
    ],
)
def test_foreign_images(features: dict[str, object], labels: tuple[str, ...]) -> None:
    sample = record_to_sample(encode_example(features), ["cat", "dog"])  # type: ignore[arg-type]
    assert sample == Sample(encoded=JPEG, kind=Kind.IMAGE, labels=labels)


@pytest.mark.parametrize(
    ("features", "encoded"),
    [
        ({"video": MP4, "label": 1}, MP4),
        ({"video": [JPEG, JPEG], "label": 1}, [JPEG, JPEG]),
        ({"video": [JPEG], "label": 1}, [JPEG]),  # a clip of one frame
        ({"video/encoded": MP4, "label": 1}, MP4),
        ({"frames": [JPEG], "label": 1}, [JPEG]),
    ],
)
def test_foreign_clips(features: dict[str, object], encoded: object) -> None:
    sample = record_to_sample(encode_example(features))  # type: ignore[arg-type]
    assert sample == Sample(encoded=encoded, kind=Kind.CLIP, labels=("1",))  # type: ignore[arg-type]


def test_split_names_are_ours() -> None:
    for said, split in [("validation", "val"), ("TRAIN", "train"), ("extra", None), ("", None)]:
        assert record_to_sample(encode_example({"image": JPEG, "split": said})).split == split


def test_errors_say_what_is_there() -> None:
    with pytest.raises(
        BadItem, match=r"no image or clip: none of image/encoded, .*: label, pixels"
    ):
        record_to_sample(encode_example({"pixels": [1], "label": [2]}))
    with pytest.raises(BadItem, match="label 7: there are 2 class names"):
        record_to_sample(encode_example({"image": JPEG, "label": 7}), ["cat", "dog"])
    with pytest.raises(BadItem, match="'image' holds ints where bytes"):
        record_to_sample(encode_example({"image": [0, 255, 3]}))
    with pytest.raises(BadItem, match="without any frame"):
        record_to_sample(encode_example({"video": []}))
    with pytest.raises(BadItem, match="no protobuf"):
        record_to_sample(JPEG)


def test_numbers_without_names_are_their_own() -> None:
    assert names_of([3, -1], None) == ("3",)
