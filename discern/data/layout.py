"""How one image or clip stands in a tf.train.Example: a record in, a `Sample` out, and back.

    image/encoded      bytes         the image file            (an image)
    image/format       text          JPEG, PNG, WEBP, BMP, GIF, TIFF
    clip/encoded       bytes         the video file            (a clip)
    clip/frames        bytes, many   encoded images in order   (a clip, instead of clip/encoded)
    KIND/class/text    text, many    names of its classes; one empty text where there is none
    KIND/class/label   ints, many    their numbers; -1 where there is none; left out if not known
    group, split, key  text          what it must not be torn from; train, val or test; its name

KIND is `image` or `clip`.  What others call these features is read too: see the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from discern.clip import Kind
from discern.data.decode import HEAD, sniff
from discern.data.example import Example, Value, encode_example, parse_example
from discern.data.items import SPLIT_NAMES
from discern.errors import BadItem

# in order of preference: ours first, then what TFDS, TF-slim and the usual tutorials write
IMAGE_KEYS = ("image/encoded", "image", "image_raw", "image_bytes", "jpeg", "jpg", "png", "img")
CLIP_KEYS = ("clip/encoded", "clip/frames", "video/encoded", "video/frames", "clip", "video")
FRAMES_KEYS = ("frames", "image/frames")
TEXT_KEYS = ("class/text", "class_name", "label_name", "label_text", "label/text", "class_text")
NUMBER_KEYS = ("class/label", "label", "labels", "class", "class_id", "class_label", "target")

FORMATS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"RIFF": "WEBP",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One image or clip as it is stored: still encoded."""

    encoded: bytes | list[bytes]  # a list holds the encoded frames of one clip
    kind: Kind
    labels: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None
    key: str | None = None


def sample_to_record(sample: Sample, classes: Mapping[str, int] | Sequence[str] = ()) -> bytes:
    """The Example of a sample.  `classes` (names in order, or name -> number) adds the numbers."""
    encoded, kind = sample.encoded, sample.kind
    features: dict[str, Value] = {f"{kind}/class/text": sample.labels or ("",)}
    if isinstance(encoded, bytes):
        features[f"{kind}/encoded"] = encoded
    else:
        assert kind == Kind.CLIP, "an image is not a list of frames"
        features["clip/frames"] = encoded
    if kind == Kind.IMAGE and isinstance(encoded, bytes):
        features["image/format"] = _format(encoded)
    if classes:
        if not isinstance(classes, Mapping):
            classes = {name: number for number, name in enumerate(classes)}
        features[f"{kind}/class/label"] = [classes[name] for name in sample.labels] or [-1]
    extras = {"group": sample.group, "split": sample.split, "key": sample.key}
    features |= {name: value for name, value in extras.items() if value is not None}
    return encode_example(features)


def record_to_sample(record: bytes, classes: Sequence[str] | None = None) -> Sample:
    """The sample in an Example, by our keys or usual foreign ones.  `classes` names numbers.

    Raises BadItem that names the keys looked for and the keys that are there.
    """
    example = parse_example(record)
    encoded, kind = _encoded(example)
    split = _extra(example, "split")
    return Sample(
        encoded=encoded,
        kind=kind,
        labels=_labels(example, kind, classes),
        group=_extra(example, "group"),
        split=SPLIT_NAMES.get(split.lower()) if split else None,
        key=_extra(example, "key"),
    )


def names_of(numbers: Iterable[int], classes: Sequence[str] | None) -> tuple[str, ...]:
    """The class names of numbers; below 0 means unlabelled.  Raises BadItem beyond the names."""
    numbers = [number for number in numbers if number >= 0]
    if classes is None:
        return tuple(str(number) for number in numbers)
    if numbers and max(numbers) >= len(classes):
        raise BadItem(f"label {max(numbers)}: there are {len(classes)} class names, from 0 on")
    return tuple(classes[number] for number in numbers)


def clip_of(blobs: list[bytes]) -> bytes | list[bytes]:
    """A clip from the values of one feature: a video file, or its frames one by one."""
    if not blobs:
        raise BadItem("a clip without any frame")
    return blobs[0] if len(blobs) == 1 and sniff(blobs[0][:HEAD]) != "image" else blobs


def _encoded(example: Example) -> tuple[bytes | list[bytes], Kind]:
    for key in IMAGE_KEYS:
        if key in example:
            return example.blob(key), Kind.IMAGE
    for key in CLIP_KEYS:
        if key in example:
            return clip_of(example.blobs(key)), Kind.CLIP
    for key in FRAMES_KEYS:
        if key in example:
            return example.blobs(key), Kind.CLIP
    raise BadItem(
        f"no image or clip: none of {', '.join(IMAGE_KEYS + CLIP_KEYS + FRAMES_KEYS)};"
        f" the record has: {', '.join(example.keys()[:20]) or 'nothing'}"
    )


def _labels(example: Example, kind: Kind, classes: Sequence[str] | None) -> tuple[str, ...]:
    for key in (f"{kind}/class/text", *TEXT_KEYS):
        if key in example and example.kind(key) == "bytes":
            names = tuple(name for name in example.texts(key) if name)
            if names:
                return names
    for key in (f"{kind}/class/label", *NUMBER_KEYS):
        if key in example:
            if example.kind(key) == "bytes":  # a name where others have a number
                return tuple(name for name in example.texts(key) if name)
            return names_of(example.ints(key), classes)
    return ()


def _extra(example: Example, key: str) -> str | None:
    if key not in example or example.kind(key) != "bytes":
        return None  # another's feature of that name
    return next(iter(example.texts(key)), None) or None


def _format(encoded: bytes) -> str:
    for magic, name in FORMATS.items():
        if encoded.startswith(magic):
            return name
    return ""
