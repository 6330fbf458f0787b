"""How faithful each explanation is: deletion and insertion, against raw attention and chance.

    python benchmarks/explain.py RUN --count 200

RUN is a run folder of `discern train`; its validation items are explained, for the class the model
gives them, so that the default may be chosen by the outcome.  Differences are paired by item, with
95 % intervals (Student's t).  Writes results/explain_KIND.json for each kind of item.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from few_labels import HERE, commit, hardware, interval, versions

from discern.clip import Kind
from discern.data.badfiles import BadFiles
from discern.data.loader import evaluation_batches
from discern.explain.faithful import faithfulness
from discern.explain.subject import subject_of
from discern.explain.table import CONTROLS, EXPLAINERS
from discern.models.weights import load_bundle
from discern.recipes.compare import settings_of
from discern.recipes.prepare import divide, load_sets, open_checked

AT_ONCE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=200, help="items of each kind, at most")
    args = parser.parse_args()
    bundle, config = load_bundle(args.run), settings_of(args.run)
    given = json.loads((args.run / "config.json").read_text())["settings"]
    source = open_checked(given["source"])
    parts = divide(source, config.data, args.run)
    sets = load_sets(source, parts.val, config, BadFiles(None, allowed=1.0), classes=parts.classes)
    subject = subject_of(bundle.model)
    for kind, items in sets.items():
        chosen = np.random.default_rng(0).permutation(len(items))[: args.count]
        few = items.subset(np.sort(chosen))
        scores: dict[str, dict[str, list[float]]] = {}
        spent = dict.fromkeys(EXPLAINERS, 0.0)
        for batch in evaluation_batches(few, AT_ONCE):
            clip = batch.clip.float() / 127.5 - 1
            with torch.no_grad():
                target = subject.logits(clip).argmax(dim=1)
            for name, explain in EXPLAINERS.items():
                started = time.perf_counter()
                heat = explain(subject, clip, target)
                spent[name] += time.perf_counter() - started
                found = faithfulness(subject, clip, target, heat)
                block = scores.setdefault(name, {"deletion": [], "insertion": []})
                block["deletion"] += found.deletion.tolist()
                block["insertion"] += found.insertion.tolist()
        write(kind, args, len(few), scores, spent, given)


def write(
    kind: Kind,
    args: argparse.Namespace,
    count: int,
    scores: dict[str, dict[str, list[float]]],
    spent: dict[str, float],
    given: dict[str, Any],
) -> None:
    """Means, and how far each method is ahead of the controls."""
    rows: dict[str, Any] = {}
    for name, block in scores.items():
        rows[name] = {key: float(np.mean(values)) for key, values in block.items()}
        rows[name]["milliseconds"] = 1e3 * spent[name] / count
        for control in CONTROLS if name not in CONTROLS else ():
            other = scores[control]
            ahead = {
                "deletion": np.subtract(other["deletion"], block["deletion"]),
                "insertion": np.subtract(block["insertion"], other["insertion"]),
            }
            rows[name][f"ahead_of_{control}"] = {
                key: interval(values.tolist()) for key, values in ahead.items()
            }
    tuned = json.loads((args.run / "results.json").read_text())
    about = {"command": " ".join(["python", "benchmarks/explain.py", "RUN", *sys.argv[2:]])}
    about |= {"items": count, "accuracy": tuned["accuracy"], "steps": tuned["steps"]}
    about |= {"labels": given.get("labels"), "commit": commit(), "versions": versions()}
    path = HERE / "results" / f"explain_{kind}.json"
    path.write_text(json.dumps(about | {"hardware": hardware(), "rows": rows}, indent=1) + "\n")
    print(kind, json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
