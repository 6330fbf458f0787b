"""How long a gallery of 100,000 vectors takes to answer, on one core.

python benchmarks/gallery.py
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import json
import time

import numpy as np
from few_labels import HERE, commit, hardware, versions

from discern.gallery.search import Index
from discern.gallery.store import Gallery

VECTORS, NAMES, WIDTH, QUESTIONS = 100_000, 20_000, 128, 200


def main() -> None:
    drawn = np.random.default_rng(0)
    gallery = Gallery.empty("0" * 64, WIDTH)
    gallery.names = [f"name {number}" for number in range(NAMES)]
    gallery.owners = np.repeat(np.arange(NAMES), VECTORS // NAMES).astype(np.int32)
    gallery.vectors = drawn.normal(size=(VECTORS, WIDTH)).astype(np.float32)
    started = time.perf_counter()
    index = Index(gallery)
    ready = time.perf_counter() - started
    questions = gallery.vectors[drawn.integers(VECTORS, size=QUESTIONS)]
    times, right = [], 0
    for question in questions:
        started = time.perf_counter()
        name, score = index.ranked(question, 5)[0]
        times.append(1000 * (time.perf_counter() - started))
        right += score > 0.999
    found = {
        "command": "python benchmarks/gallery.py",
        "hardware": hardware() | {"threads": 1},
        "commit": commit(),
        "versions": versions() | {"numpy": np.__version__},
        "vectors": VECTORS,
        "names": NAMES,
        "width": WIDTH,
        "milliseconds": {
            "median": float(np.median(times)),
            "p99": float(np.quantile(times, 0.99)),
        },
        "ready_milliseconds": 1000 * ready,
        "found": right / QUESTIONS,
    }
    (HERE / "results" / "gallery.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
