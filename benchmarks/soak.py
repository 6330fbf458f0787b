"""A server for an hour: does its memory, do its open files grow?

    python benchmarks/soak.py --minutes 60

Five requests a second, most of them pictures and clips as people send them, some of the odd kinds
of `odd_requests.py`.  Memory is read once a second, and of every half minute the least counts: what
is kept, without what a request holds while it is answered.  The slope is that of a line through
these of the last three quarters.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from few_labels import HERE, commit, hardware, versions
from odd_requests import asked, grown, seeds, send, started
from scipy.stats import linregress, t

TABLE = HERE / "results" / "soak.json"
# requests a second; seconds of which the least memory counts, and between two reads of it
RATE, LOOK, READ = 5.0, 30.0, 1.0
ODD, EXPLAINED = 0.1, 0.05  # shares of the requests
MOST = 1.0  # MB an hour
SETTLING = 0.25  # share of the time that does not count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    sys.path.insert(0, str(HERE.parent))
    statuses: Counter[str] = Counter()
    reads: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="discern-soak-") as home:
        corpus = seeds(Path(home))
        child, port = started(Path(home))
        process = psutil.Process(child.pid)
        began = time.monotonic()
        number = 0
        while (passed := time.monotonic() - began) < 60 * args.minutes:
            if passed >= READ * len(reads):
                reads.append({"seconds": passed, **grown(process)})
            statuses[one(port, random.Random(number), corpus)] += 1
            number += 1
            time.sleep(max(0.0, began + number / RATE - time.monotonic()))
        lives = child.poll() is None and b"ok" in asked(port, "/health")
        child.terminate()
        child.wait(60)
    found = {
        "command": " ".join(["python", "benchmarks/soak.py", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "minutes": args.minutes,
        "requests": number,
        "statuses": dict(sorted(statuses.items())),
        "alive": lives,
        "memory_megabytes": least(reads),
        "files": [min(read["files"] for read in reads), max(read["files"] for read in reads)],
        "look_seconds": LOOK,
    }
    found |= growth(found)
    TABLE.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def least(reads: list[dict[str, float]]) -> list[float]:
    """MB, the least of each `LOOK` seconds."""
    of: dict[int, float] = {}
    for read in reads:
        look = int(read["seconds"] / LOOK)
        of[look] = min(of.get(look, read["memory"]), read["memory"])
    return [round(of[look] / 2**20, 2) for look in sorted(of)]


def growth(found: dict[str, Any]) -> dict[str, Any]:
    """The slope of the memory that was kept, MB an hour, with its 95 % interval."""
    memory = np.array(found["memory_megabytes"])
    hours = np.arange(len(memory)) * found["look_seconds"] / 3600
    late = hours >= SETTLING * found["minutes"] / 60
    line = linregress(hours[late], memory[late])
    error = line.stderr if np.ptp(memory[late]) else 0.0  # a flat line has none, scipy says nan
    slope, half = float(line.slope), float(t.ppf(0.975, late.sum() - 2) * error)
    return {
        "megabytes_per_hour": slope,
        "interval": [slope - half, slope + half],
        "limit": MOST,
        "reached": slope + half < MOST,
    }


def one(port: int, drawn: random.Random, corpus: list[bytes]) -> str:
    """A request, and the status of its answer."""
    if drawn.random() < ODD:
        return send(port, drawn, corpus)[0]
    path = "/v1/explain" if drawn.random() < EXPLAINED else "/v1/predict"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, drawn.choice(corpus[:5]))
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {type(error).__name__}"
    finally:
        connection.close()


if __name__ == "__main__":
    main()
