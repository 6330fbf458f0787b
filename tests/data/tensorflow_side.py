"""Runs under a Python with TensorFlow: writes records for us, reads ours, prints JSON.

    tensorflow_side.py write FOLDER      shards: plain, gzip, zlib; packed and unpacked numbers
    tensorflow_side.py read FILE GZIP    each record by tf.io.parse_example; GZIP or an empty word
    tensorflow_side.py prepare FOLDER    small data sets by tensorflow_datasets

The files in `golden/` were written by `write` and `prepare`: TensorFlow 2.21 and
TFDS 4.9.10 (the version folders as `tfds/images` and `tfds/clips`).
"""

import base64
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

IMAGES = [bytes([number]) * (10 + 50 * number) for number in range(5)]
NUMBERS = [0, 1, 300, 2**40, -7]


def example(number):
    """One record, as a user of TensorFlow writes it."""

    def of_bytes(*values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    def of_ints(*values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def of_floats(*values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    return tf.train.Example(
        features=tf.train.Features(
            feature={
                "image/encoded": of_bytes(IMAGES[number]),
                "image/format": of_bytes(b"JPEG"),
                "image/class/label": of_ints(number),
                "image/class/text": of_bytes("Käfer".encode(), b"red"),
                "numbers": of_ints(*NUMBERS),
                "floats": of_floats(0.5, -2.25, 1e30),
                "nothing": tf.train.Feature(),
                "no_ints": of_ints(),
            }
        )
    )


def unpacked_example():
    """The class of tf.train.Example with `[packed = false]`, as other protobuf writers have it."""
    file = descriptor_pb2.FileDescriptorProto(name="u.proto", package="unpacked", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, (field, kind, label, type_name) in enumerate(fields, start=1):
            made.field.add(name=field, number=number, type=kind, label=label, type_name=type_name)
            if kind in (kinds.TYPE_FLOAT, kinds.TYPE_INT64):
                made.field[-1].options.packed = False
        return made

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    message("BytesList", ("value", kinds.TYPE_BYTES, many, None))
    message("FloatList", ("value", kinds.TYPE_FLOAT, many, None))
    message("Int64List", ("value", kinds.TYPE_INT64, many, None))
    inner = [("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")]
    fields = [(name, kinds.TYPE_MESSAGE, one, f".unpacked.{kind}") for name, kind in inner]
    feature = message("Feature", *fields)
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    message(
        "Entry",
        ("key", kinds.TYPE_STRING, one, None),
        ("value", kinds.TYPE_MESSAGE, one, ".unpacked.Feature"),
    )
    message("Features", ("feature", kinds.TYPE_MESSAGE, many, ".unpacked.Entry"))
    message("Example", ("features", kinds.TYPE_MESSAGE, one, ".unpacked.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("unpacked.Example"))


def unpacked(packed):
    """The bytes of the same Example with its numbers one by one."""
    made = unpacked_example()()
    for key in sorted(packed.features.feature):
        entry = made.features.feature.add(key=key)
        value = packed.features.feature[key]
        kind = value.WhichOneof("kind")
        if kind:
            getattr(entry.value, kind).value.extend(getattr(value, kind).value)
            getattr(entry.value, kind).SetInParent()
        entry.value.SetInParent()
    return made.SerializeToString()


def write(folder):
    """Shards of the same five records in all ways."""
    packed = [example(number).SerializeToString(deterministic=True) for number in range(5)]
    loose = [unpacked(example(number)) for number in range(5)]
    assert packed != loose
    assert all(tf.train.Example.FromString(one) == example(i) for i, one in enumerate(loose))
    for name, compression, records in [
        ("packed.tfrecord", "", packed),
        ("packed.tfrecord.gz", "GZIP", packed),
        ("packed.tfrecord.zlib", "ZLIB", packed),
        ("unpacked.tfrecord", "", loose),
        ("unpacked.tfrecord.gz", "GZIP", loose),
    ]:
        with tf.io.TFRecordWriter(os.path.join(folder, name), compression) as writer:
            for record in records:
                writer.write(record)
    return {"version": tf.__version__}


def read(path, compression):
    """What tf.data and tf.io.parse_example make of a shard that we wrote."""
    bytes_ = tf.io.RaggedFeature(tf.string)
    spec = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/class/text": bytes_,
        "numbers": tf.io.RaggedFeature(tf.int64),
        "floats": tf.io.RaggedFeature(tf.float32),
    }
    raw = tf.data.TFRecordDataset(path, compression_type=compression)
    seen = []
    for batch in raw.batch(2).map(lambda records: tf.io.parse_example(records, spec)):
        for row in range(len(batch["image/encoded"])):
            seen.append(
                {
                    "image": base64.b64encode(batch["image/encoded"][row].numpy()).decode(),
                    "label": int(batch["image/class/label"][row]),
                    "texts": [text.decode() for text in batch["image/class/text"][row].numpy()],
                    "numbers": batch["numbers"][row].numpy().tolist(),
                    "floats": batch["floats"][row].numpy().tolist(),
                }
            )
    records = [base64.b64encode(record).decode() for record in raw.as_numpy_iterator()]
    return {"version": tf.__version__, "records": records, "seen": seen}


def prepare(folder):
    """Two data sets as TFDS lays them out: images with names of classes, and clips."""
    import numpy as np
    import tensorflow_datasets as tfds

    def frame(number):
        return np.full((4, 6, 3), 40 * number, np.uint8)

    def image(number):
        return {
            "photo": frame(number),
            "kind": number if number < 3 else -1,
            "box": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
            "meta": {"id": f"item {number}", "numbers": np.array([0.5, number], np.float32)},
        }

    def clip(number):
        return {"video": np.stack([frame(each) for each in range(3 + number)]), "label": number}

    def store(name, version, features, splits):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version=version,
            features=tfds.features.FeaturesDict(features),
            split_datasets=splits,
            data_dir=os.path.join(folder, name),
            disable_shuffling=True,
        )

    names = tfds.features.ClassLabel(names=["cat", "dog", "blue heron"])
    photos = {
        "photo": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "kind": names,
        "box": tfds.features.BBoxFeature(),
        "meta": {
            "id": tfds.features.Text(),
            "numbers": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        },
    }
    splits = {
        "train": enumerate(map(image, range(4))),
        "validation": enumerate(map(image, range(2))),
    }
    store("prepared_images", "1.2.3", photos, splits)
    clips = {
        "video": tfds.features.Video(shape=(None, 4, 6, 3)),
        "label": tfds.features.ClassLabel(names=["run", "walk"]),
    }
    store(
        "prepared_clips",
        "1.0.0",
        clips,
        {"train": enumerate(map(clip, range(2))), "test": enumerate(map(clip, [1]))},
    )
    return {"version": tfds.__version__}


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    print(json.dumps({"write": write, "read": read, "prepare": prepare}[verb](*arguments)))
