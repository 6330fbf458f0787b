"""RESULTS.md and the table in README.md, from the JSON in `results/`; nothing is typed by hand.

python benchmarks/page.py            write both
python benchmarks/page.py --check    exit 1 when they are not what the JSON says
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
README, RESULTS = HERE.parent / "README.md", HERE / "RESULTS.md"
NAMES = {
    "pretrained": "**pre-trained, then tuned**",
    "scratch": "from scratch, tuned as long",
    "scratch_long": "from scratch, tuned for the whole time",
    "color_histogram": "colour histogram + RBF SVM",
    "hog_linear": "HOG + linear SVM",
    "hog_svm": "HOG + RBF SVM",
    "motion_hog": "HOG over time + RBF SVM",
    "motion_difference": "frame-difference HOG + RBF SVM",
    "motion_flow": "optical-flow histogram + RBF SVM",
    "motion": "all motion features + RBF SVM",
}
DATA = {"cifar10": "CIFAR-10, 100 labels per class", "jhmdb": "J-HMDB, all labels"}


def main() -> int:
    paths = sorted((HERE / "results").glob("few_labels_*.json"))
    tables = [few_labels(path) for path in paths]
    page = "# Results\n\nWritten by `benchmarks/page.py` from `benchmarks/results/*.json`.\n\n"
    page += "\n".join([*tables, tfrecord(), attention()])
    begin, end = "<!-- results -->", "<!-- /results -->"
    readme = README.read_text()
    # one seed is a trial, not a claim: it stands in RESULTS.md alone
    claims = [table for table, path in zip(tables, paths, strict=True) if is_claim(path)]
    waiting = "The runs with three seeds are not all done; trials stand in"
    inside = "\n".join(claims) or f"{waiting} [RESULTS.md](benchmarks/RESULTS.md).\n"
    wanted = re.sub(
        f"{begin}.*?{end}", lambda _: f"{begin}\n{inside}{end}", readme, count=1, flags=re.DOTALL
    )
    if "--check" in sys.argv:
        return int(readme != wanted or not RESULTS.exists() or RESULTS.read_text() != page)
    README.write_text(wanted)
    RESULTS.write_text(page)
    return 0


def is_claim(path: Path) -> bool:
    """Whether every method of a table was run with three seeds or more."""
    found = json.loads(path.read_text())["summary"]
    return all(block["seeds"] >= 3 for block in found.values())


def few_labels(path: Path) -> str:
    """Accuracy on the test split of each method, mean over seeds."""
    found = json.loads(path.read_text())
    pretraining, tuning = re.findall(r"_([\d.]+)\+([\d.]+)\.json$", path.name)[0]
    budget = f"{pretraining} minutes of pre-training, {tuning} of tuning, 2 cores"
    title = f"### {DATA[found['data']]}: {budget}"
    rows = ["| Method | Test accuracy | 95 % interval | Seeds |", "|---|---|---|---|"]
    for name, block in sorted(found["summary"].items(), key=lambda entry: -entry[1]["mean"]):
        low_high = block.get("interval")
        interval = f"{100 * low_high[0]:.1f} to {100 * low_high[1]:.1f}" if low_high else "one seed"
        numbers = f"{100 * block['mean']:.1f} | {interval} | {block['seeds']}"
        rows.append(f"| {NAMES.get(name, name)} | {numbers} |")
    load = max(cell["load_before"] for cell in found["cells"].values())
    note = f"`{found['command']}`"
    note += f"; intervals over seeds by Student's t; other load on the machine up to {load:.1f}."
    return "\n".join([title, "", *rows, "", note, ""])


def tfrecord() -> str:
    found = _read("tfrecord.json")
    if found is None:
        return ""
    rows = ["| Records | Compared | Ours is faster by | 95 % interval |", "|---|---|---|---|"]
    for size, block in found["results"].items():
        for what, claim in block["claims"].items():
            low, high = claim["ratio"]["interval"]
            times = f"{claim['ratio']['median']:.2f} | {low:.2f} to {high:.2f}"
            rows.append(f"| {size} | {what} | {times} |")
    return "\n".join(["### TFRecord reading, one core, against tf.data", "", *rows, ""])


def attention() -> str:
    found = _read("attention.json")
    if found is None:
        return ""
    rows = ["| Batch x tokens | Type | Plain, ms | Fused, ms | Ratio |", "|---|---|---|---|---|"]
    for row in found["rows"]:
        shape = f"{row['batch']} x {row['tokens']}"
        times = f"{row['plain']:.1f} | {row['fused']:.1f} | {row['ratio']:.2f}"
        rows.append(f"| {shape} | {row['dtype']} | {times} |")
    return "\n".join(["### Attention on a CPU, forward and backward, one thread", "", *rows, ""])


def _read(name: str) -> dict[str, Any] | None:
    path = HERE / "results" / name
    return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
