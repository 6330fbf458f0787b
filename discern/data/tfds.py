"""TFDS-prepared directories: `features.json` and `dataset_info.json` in, shards and samples out.

TensorFlow is not needed.  Read are image classification sets (`Image` with `ClassLabel`) and clips
(`Video`, or a sequence of images) in TFRecord files; names of classes come from `LABEL.labels.txt`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.clip import Kind
from discern.data.example import parse_example
from discern.data.items import SPLIT_NAMES
from discern.data.layout import Sample, clip_of, names_of
from discern.errors import DataError

FEATURES = "features.json"
INFO = "dataset_info.json"
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
DEEPEST = 20  # features inside features
AGAIN = "prepare the data set again"


@dataclass(frozen=True, kw_only=True, slots=True)
class TfdsDataset:
    """What a prepared directory says about itself."""

    name: str
    folder: Path
    shards: dict[str, list[Path]]  # split as TFDS names it -> its files, in order
    counts: dict[str, int]  # split -> how many records it should hold
    image: str | None  # key of the image feature
    video: str | None  # key of the clip feature, where there is no image
    label: str | None  # key of the label feature
    classes: list[str] | None  # names of the label's numbers

    def sample(self, record: bytes) -> Sample:
        """The image or clip of one record.  Raises BadItem."""
        example = parse_example(record)
        labels: tuple[str, ...] = ()
        if self.label is not None:
            if example.kind(self.label) == "bytes":
                labels = tuple(name for name in example.texts(self.label) if name)
            else:
                labels = names_of(example.ints(self.label), self.classes)
        if self.image is not None:
            return Sample(encoded=example.blob(self.image), kind=Kind.IMAGE, labels=labels)
        assert self.video is not None
        return Sample(encoded=clip_of(example.blobs(self.video)), kind=Kind.CLIP, labels=labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Leaf:
    key: str
    kind: str  # the class of the feature: Image, Video, ClassLabel, ...
    many: bool  # inside a sequence


def is_tfds(folder: Path) -> bool:
    """Whether the folder holds both JSON files of a prepared data set."""
    return (folder / FEATURES).is_file() and (folder / INFO).is_file()


def split_name(split: str) -> str | None:
    """TFDS' split name as ours: train, val or test; None for any other."""
    return SPLIT_NAMES.get(split.lower())


def read_tfds(folder: Path) -> TfdsDataset:
    """Reads a prepared directory.  Raises DataError that names the file and the way out."""
    folder = Path(folder)
    info, features = _read_json(folder / INFO), _read_json(folder / FEATURES)
    try:
        leaves = list(_leaves(features, "", False, 0))
        supervised = _supervised(info)
        image = _pick(leaves, ("Image",), False, supervised, "image")
        video = _pick(leaves, ("Video",), None, supervised, "video")
        video = video or _pick(leaves, ("Image",), True, supervised, "video")
        label = _pick(leaves, ("ClassLabel",), None, supervised, "label")
        name = str(info["name"])
        found = {str(split["name"]): _shards(folder, info, split) for split in info["splits"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder}: {FEATURES} or {INFO} is not as TFDS writes it ({error!r}): {AGAIN}"
        ) from None
    if image is None and video is None:
        there = ", ".join(f"{leaf.key} ({leaf.kind})" for leaf in leaves[:20]) or "none"
        raise DataError(f"{folder / FEATURES}: no image or video among its features: {there}")
    return TfdsDataset(
        name=name,
        folder=folder,
        shards={split: [path for path, _ in files] for split, files in found.items()},
        counts={split: sum(count for _, count in files) for split, files in found.items()},
        image=image,
        video=None if image else video,
        label=label,
        classes=None if label is None else _class_names(folder, label),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): {AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}): {AGAIN}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: is not a JSON object: {AGAIN}")
    return value


def _leaves(node: dict[str, Any], key: str, many: bool, depth: int) -> Iterator[_Leaf]:
    """The features that hold values; a nested one has the key `outer/inner`."""
    if depth > DEEPEST:
        raise ValueError("features too deep")
    # "pythonClassName" since TFDS 4.5, "type" with "content" (an object, or JSON in text) before
    kind = str(node.get("pythonClassName") or node.get("type") or "").rpartition(".")[2]
    content = node.get("content", {})
    content = json.loads(content) if isinstance(content, str) and content else content
    if kind == "FeaturesDict":
        inner = node.get("featuresDict") or content
        for name, part in inner.get("features", inner).items():
            yield from _leaves(part, f"{key}/{name}" if key else name, many, depth + 1)
    elif kind in ("Sequence", "Dataset") and "feature" in (node.get("sequence") or content):
        inner = (node.get("sequence") or content)["feature"]
        yield from _leaves(inner, key, True, depth + 1)
    else:
        kind = {"LabeledImage": "Image"}.get(kind, kind)
        yield _Leaf(key=key, kind=kind, many=many)


def _supervised(info: dict[str, Any]) -> list[str]:
    """The keys of input and label, where the data set names them."""
    keys = info.get("supervisedKeys") or {}
    items = (keys.get("tuple") or {}).get("items") or []
    found = [keys.get("input"), keys.get("output"), *(item.get("featureKey") for item in items)]
    return [key for key in found if isinstance(key, str)]


def _pick(
    leaves: list[_Leaf], kinds: tuple[str, ...], many: bool | None, first: list[str], usual: str
) -> str | None:
    """The feature of a kind: the one named as input or label, the usual name, else the first."""
    keys = [leaf.key for leaf in leaves if leaf.kind in kinds and many in (None, leaf.many)]
    for key in (*first, usual):
        if key in keys:
            return key
    return keys[0] if keys else None


def _shards(folder: Path, info: dict[str, Any], split: dict[str, Any]) -> list[tuple[Path, int]]:
    """File and number of records of each shard of a split."""
    form = str(info.get("fileFormat") or "tfrecord")
    if form != "tfrecord":
        raise DataError(
            f"{folder / INFO}: its files are {form}, only tfrecord is read: prepare it with"
            " file_format=tfrecord"
        )
    counts = [int(count) for count in split.get("shardLengths") or []]
    total = len(counts) or int(split.get("numShards") or 0)
    if not 0 <= total <= 100_000:
        raise ValueError(f"{total} shards")
    shards = []
    for number in range(total):
        words = {
            "DATASET": str(info["name"]),
            "SPLIT": str(split["name"]),
            "FILEFORMAT": form,
            "SHARD_X_OF_Y": f"{number:05}-of-{total:05}",
            "SHARD_INDEX": f"{number:05}",
            "NUM_SHARDS": f"{total:05}",
        }
        template = split.get("filepathTemplate") or TEMPLATE
        name = re.sub(r"\{(\w+)\}", lambda found, words=words: words[found[1]], template)
        path = folder / name
        if path.parent != folder or name in ("", ".", ".."):
            raise DataError(f"{folder / INFO}: shard {name!r} leads out of the folder: {AGAIN}")
        if not path.is_file():
            raise DataError(f"{path}: is missing, {INFO} lists it: fetch it, or {AGAIN}")
        shards.append((path, counts[number] if counts else 0))
    return shards


def _class_names(folder: Path, label: str) -> list[str] | None:
    # a label inside other features has their names before its own
    for name in {label, label.replace("/", "-"), label.replace("/", ".")}:
        path = folder / f"{name}.labels.txt"
        if path.parent == folder and path.is_file():
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"{path}: cannot be read ({error}): {AGAIN}") from None
            return [line.strip() for line in lines if line.strip()]
    return None
