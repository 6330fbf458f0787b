"""TFRecord reading and Example parsing against tf.data: one process, one thread, in turns.

    PYTHON benchmarks/tfrecord.py [--rounds 9] [--megabytes 24] [--out FILE.json]

PYTHON has tensorflow, numpy and crc32c (TensorFlow is no dependency of Discern, so it has a virtual
environment of its own); discern is found beside this folder.  The process is pinned to one core and
TensorFlow gets one thread of each kind.  In each round every contender reads the same file, from
the page cache, in an order that is drawn anew; the claims are medians over rounds of the ratio
within a round, so that a busy machine troubles both sides alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rounds import one_core, summary  # noqa: E402

from discern.data.example import encode_example, parse_example  # noqa: E402
from discern.data.tfrecord import RecordFile, read_records, write_records  # noqa: E402

IMAGE, LABEL = "image/encoded", "image/class/label"
SIZES = {"2 kB (CIFAR-10 PNG)": 2_400, "24 kB": 24_000, "110 kB (ImageNet JPEG)": 110_000}
BATCH = 128
SINGLES = 1000  # records that the slowest contender reads of each file

# claim -> ours, theirs, ratio to reach
CLAIMS = {
    "read, per record": ("discern read", "tf.data read, per record", 3.0),
    "read, against batches": ("discern read", "tf.data read, batched", 1.0),
    "read and parse, against batched parse_example": (
        "discern read and parse",
        "tf.data batched parse_example",
        1.0,
    ),
    "read and parse, per record": (
        "discern read and parse",
        "tf.data parse_single_example",
        1.0,
    ),
}


def write_file(path: Path, size: int, count: int) -> None:
    """Images of about `size` bytes, each of its own length, with the usual features."""
    draw = random.Random(size)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "van"]
    write_records(
        path,
        (
            encode_example(
                {
                    IMAGE: draw.randbytes(size + draw.randrange(-size // 8, size // 8)),
                    LABEL: number % 10,
                    "image/class/text": names[number % 10],
                    "image/format": "JPEG",
                }
            )
            for number in range(count)
        ),
    )


def contenders(path: str) -> dict[str, Callable[[], int]]:
    """What each does with the file: returns how many records it has seen."""
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    spec = {
        IMAGE: tf.io.FixedLenFeature([], tf.string),
        LABEL: tf.io.FixedLenFeature([], tf.int64),
    }
    records = tf.data.TFRecordDataset(path).with_options(options)
    batches = records.batch(BATCH)
    parsed = batches.map(lambda batch: tf.io.parse_example(batch, spec))
    singles = records.map(lambda record: tf.io.parse_single_example(record, spec)).take(SINGLES)

    def ours() -> int:
        return sum(1 for _ in read_records(path))

    def ours_parsed() -> int:
        count = 0
        for record in read_records(path):
            example = parse_example(record)
            example.blob(IMAGE)
            example.number(LABEL)
            count += 1
        return count

    file = RecordFile(path)
    order = list(range(len(file)))
    random.Random(0).shuffle(order)

    def ours_random() -> int:
        return sum(1 for number in order if file[number] is not None)

    return {
        "discern read": ours,
        "discern read and parse": ours_parsed,
        "discern random access": ours_random,
        "tf.data read, per record": lambda: sum(1 for _ in records),
        "tf.data read, batched": lambda: sum(len(batch) for batch in batches),
        "tf.data batched parse_example": lambda: sum(len(batch[LABEL]) for batch in parsed),
        "tf.data parse_single_example": lambda: sum(1 for _ in singles),
    }


def measure(size: int, count: int, rounds: int) -> dict[str, Any]:
    """Microseconds per record of each contender, in each round."""
    draw = random.Random(1)
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.tfrecord"
        write_file(path, size, count)
        runs = contenders(str(path))
        for number in range(rounds + 1):
            order = list(runs)
            draw.shuffle(order)
            for name in order:
                start, used = time.perf_counter(), time.process_time()
                seen = runs[name]()
                used, start = time.process_time() - used, time.perf_counter() - start
                assert seen in (count, SINGLES)
                if number:  # the first round warms up
                    wall.setdefault(name, []).append(start / seen * 1e6)
                    cpu.setdefault(name, []).append(used / seen * 1e6)
    claims = {}
    for claim, (ours, theirs, bar) in CLAIMS.items():
        ratios = [their / our for our, their in zip(wall[ours], wall[theirs], strict=True)]
        on_cpu = [their / our for our, their in zip(cpu[ours], cpu[theirs], strict=True)]
        claims[claim] = {
            "ratio": summary(ratios),
            "ratio_of_cpu_time": summary(on_cpu),
            "to_reach": bar,
            "reached": statistics.median(ratios) >= bar,
        }
    return {
        "records": count,
        "bytes_of_a_record": size,
        "microseconds_per_record": {name: summary(values) for name, values in wall.items()},
        "cpu_microseconds_per_record": {name: summary(values) for name, values in cpu.items()},
        "claims": claims,
    }


def processor() -> str:
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--megabytes", type=int, default=24, help="size of each file")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/tfrecord.json")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    one_core()

    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    results = {}
    for name, size in SIZES.items():
        count = arguments.megabytes * 1_000_000 // size
        results[name] = measure(size, count, arguments.rounds)
        for claim, found in results[name]["claims"].items():
            ratio = found["ratio"]
            print(
                f"{name:24} {claim:48} {ratio['median']:6.2f} x  {ratio['interval']}"
                f"  of CPU time {found['ratio_of_cpu_time']['median']:.2f} x",
                flush=True,
            )
        for each, found in results[name]["microseconds_per_record"].items():
            print(f"{'':24} {each:48} {found['median']:8.2f} us", flush=True)
    report = {
        "command": f"python benchmarks/tfrecord.py --rounds {arguments.rounds}"
        f" --megabytes {arguments.megabytes}",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("tensorflow-cpu", "numpy", "crc32c")},
        },
        "hardware": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "cores_used": 1,
            "load_before": round(load, 2),
        },
        "rounds": arguments.rounds,
        "results": results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
