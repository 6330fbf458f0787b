"""RESULTS.md, the tables in README.md and the model card, from the JSON in `results/`.

Nothing is typed by hand.

python benchmarks/page.py            write them
python benchmarks/page.py --check    exit 1 when they are not what the JSON says
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from attack_tables import attacks, hardened
from cards import card, fakes, shipped
from fault_table import faults
from headline import headline
from plot import accuracy_against_labels
from scale_tables import curves, forecasts
from serving_tables import exports, requests, soak, watch, wheel
from speed_tables import speeds
from tables import HANDCRAFTED, SETS, mean, read
from use_tables import actions, faces, vehicles

HERE = Path(__file__).resolve().parent
README, RESULTS = HERE.parent / "README.md", HERE / "RESULTS.md"
CARD = HERE.parent / "docs" / "models.md"
NAMES = {
    "pretrained": "**pre-trained, then tuned**",
    "pretrained_labels_only": "pre-trained, then tuned on the labels alone",
    "scratch": "from scratch, tuned as long, on the labels alone",
    "scratch_semi": "from scratch, tuned in the same settings as the pre-trained",
    "scratch_long": "from scratch, tuned for the whole time",
    **HANDCRAFTED,
}
GRID = {
    "all": "masked adversarial + views (default)",
    "detached": "the same, judges on detached features",
    "mae_view": "the default without adversary",
    "view": "views alone",
    "mae": "MAE",
    "mae_adversary": "MAE + adversary",
    "contrad": "GAN + contrast",
    "gan": "pure GAN",
    "lightly": "SimCLR of lightly, same encoder",
    "scratch": "from scratch, for all minutes",
    "scratch_semi": "from scratch, unlabelled items too",
    "kmeans": "k-means features + linear SVM",
    **{name: HANDCRAFTED[name] for name in ("hog_svm", "hog_linear", "motion")},
}
# table -> what sets it apart
GUARDED = {
    "guard": "",
    "guard_pretrained": "",
    "guard_xeon": ", an earlier guard, on another processor",
}
COUNTS = ("10", "25", "100", "400", "500", "all")  # labels per class
PAIRED = 2  # seeds that an interval needs
DATA = {"cifar10": "CIFAR-10, 100 labels per class", "jhmdb": "J-HMDB, all labels"}


def main() -> int:
    paths = sorted((HERE / "results").glob("few_labels_*.json"))
    tables = [few_labels(path) for path in paths]
    page = (
        "# Results\n\nWritten by `benchmarks/page.py` from `benchmarks/results/*.json`. Where "
        "neither title nor command names a size, trainings are those of `nano`, which was the "
        "default, except in tables `hybrid`, of images explained and of actions: those are of "
        "`hybrid`.\n\n"
    )
    grids = [grid(path) for path in sorted((HERE / "results").glob("pretraining_*.json"))]
    measured = [
        shipped(),
        fakes(),
        joint(),
        *explain(),
        faces(),
        vehicles(),
        actions(),
        *guard(),
        tfrecord(),
        attention(),
        step(),
        gallery(),
        faults(),
        exports(),
        wheel(),
        requests(),
        soak(),
        watch(),
        hardened(),
        attacks(),
        curves(),
        *speeds(),
        *forecasts(),
    ]
    page += "\n".join(part for part in [*tables, *(text for text, _ in grids), *measured] if part)
    readme, about = README.read_text(), CARD.read_text()
    wanted, card_wanted = filled(readme, headline()), filled(about, f"\n{card()}\n\n")
    pictures = {path: text for _, drawn in grids for path, text in drawn.items()}
    if "--check" in sys.argv:
        stale = [p for p, text in pictures.items() if not p.exists() or p.read_text() != text]
        written = RESULTS.exists() and RESULTS.read_text() == page
        same = readme == wanted and about == card_wanted
        return int(not same or not written or bool(stale))
    for path, text in pictures.items():
        path.write_text(text)
    README.write_text(wanted)
    CARD.write_text(card_wanted)
    RESULTS.write_text(page)
    return 0


def filled(text: str, inside: str) -> str:
    """The text with what stands between its two marks put anew."""
    begin, end = "<!-- results -->", "<!-- /results -->"
    return re.sub(
        f"{begin}.*?{end}", lambda _: f"{begin}\n{inside}{end}", text, count=1, flags=re.DOTALL
    )


def few_labels(path: Path) -> str:
    """Accuracy on the test split, mean over seeds."""
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
    note = gain(found) + f"`{found['command']}`"
    note += f"; intervals over seeds by Student's t; other load on the machine up to {load:.1f}."
    return "\n".join([title, "", *rows, "", note, ""])


def gain(found: dict[str, Any]) -> str:
    """Pre-trained against from scratch, seed by seed; and where both learn from labels alone."""
    whole = found["margins"].get("scratch", {"seeds": 0})
    if whole["seeds"] < PAIRED:
        return ""
    said = f"Pre-trained is {_above(whole)} above from scratch on the labels alone"
    settings = found["margins"].get("scratch_semi")
    if settings is not None and settings["seeds"] >= PAIRED:
        said = f"Pre-trained is {_above(settings)} above from scratch in the same settings, "
        said += f"and {_above(whole)} above it on the labels alone, where it is better"
    same = found.get("same_tuning")
    if same is not None and same["seeds"] >= PAIRED:
        said += f"; where both learn from the labels alone, {_above(same)}"
    return f"{said} (paired, {whole['seeds']} seeds). "


def _above(block: dict[str, Any]) -> str:
    low, high = block["interval"]
    return f"{100 * block['mean']:.1f} points ({100 * low:.1f} to {100 * high:.1f})"


def grid(path: Path) -> tuple[str, dict[Path, str]]:
    """Every way to pre-train at every number of labels; the text, and its picture by path."""
    found = json.loads(path.read_text())
    minutes, data = found["minutes"], SETS[found["data"]]
    budget = f"{minutes['pretrain']:g} minutes of pre-training, {minutes['tune']:g} of tuning"
    if found.get("size"):
        data += f", size `{found['size']}`"
    counts = [count for count in COUNTS if count in found["summary"]]
    rows = ["| Method | " + " | ".join(f"{c} per class" for c in counts) + " |"]
    rows[0] = rows[0].replace("all per class", "all labels")
    rows.append("|---" * (len(counts) + 1) + "|")
    for method, name in GRID.items():
        blocks = [found["summary"][count].get(method) for count in counts]
        if any(blocks):
            rows.append(
                f"| {name} | " + " | ".join(mean(one, " (one seed)") for one in blocks) + " |"
            )
    shares = [
        f"{count}: {_margin(block['mae_view'])}" for count, block in found["adversary"].items()
    ]
    ahead = [
        f"{name}, {count}: {_margin(block[method])}"
        for count, block in found["margins"].items()
        for method, name in GRID.items()
        if block.get(method, {}).get("seeds", 0) >= PAIRED
    ]
    note = f"`{found['command']}`. Mean over seeds, half of the 95 % interval (Student's t)."
    if found.get("threads"):
        cores, cpu = found["hardware"]["cores"], found["hardware"]["cpu"]
        note += f" Trainings have {found['threads']} of {cores} cores of {cpu} each, side by side."
    if ahead:
        note += (
            f" How far the default is above, in points, by labels per class: {'; '.join(ahead)}."
        )
    if shares:
        note += f" The adversary's own share in points, by labels per class: {'; '.join(shares)}."
    if found["disturbed"]:
        note += f" The machine was disturbed during {', '.join(found['disturbed'])}."
    if found.get("note"):
        note += f" {found['note'][0].upper()}{found['note'][1:]}."
    if "gpu" in found.get("hardware", {}):
        data += f", on {found['hardware']['gpu']}"
    if found.get("table"):
        data += f", table `{found['table']}`"
    title = f"{data}: {budget}"
    lines, pictures = [*rows, "", note, ""], {}
    if len(counts) > 1:  # one number of labels is no line
        picture = path.with_suffix(".svg")
        plain = title.replace("`", "")
        pictures[picture] = accuracy_against_labels(found["summary"], GRID, counts, plain)
        lines = [f"![Accuracy against labels](results/{picture.name})", "", *lines]
    return "\n".join([f"### {title}", "", *lines]), pictures


def _margin(block: dict[str, Any]) -> str:
    """A difference of shares in points, and its interval."""
    low_high = block.get("interval")
    if low_high is None:
        return f"{_signed(block['mean'])}, one seed"
    return f"{_signed(block['mean'])} ({_signed(low_high[0])} to {_signed(low_high[1])})"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"


def joint() -> str:
    """One model for images and clips, against the same tuning from scratch."""
    parts = []
    for path in sorted((HERE / "results").glob("joint_*.json")):
        found = json.loads(path.read_text())
        minutes = found["minutes"]
        budget = f"{minutes['pretrain']:g} minutes of pre-training, {minutes['tune']:g} of tuning"
        title = f"### One model for CIFAR-10 images and J-HMDB clips: {budget}, one seed"
        rows = ["| Method | Images, test accuracy | Clips, test accuracy |", "|---|---|---|"]
        for name in ("pretrained", "scratch"):
            images, clips = (found[name][kind]["accuracy"] for kind in ("images", "clips"))
            rows.append(f"| {NAMES[name]} | {100 * images:.1f} | {100 * clips:.1f} |")
        parts.append("\n".join([title, "", *rows, "", f"`{found['command']}`", ""]))
    return "\n".join(parts)


def guard() -> list[str]:
    """Known against unknown items, by table; nothing until the benchmark has been run."""
    tables = {name: read(f"{name}.json") for name in GUARDED}
    return [guard_of(found, GUARDED[name]) for name, found in tables.items() if found]


def guard_of(found: dict[str, Any], where: str) -> str:
    """The table of the models of one run."""
    rows = [
        "| Unknown items | The guard, AUROC | k-NN | Maximum softmax | Guard above softmax |",
        "|---|---|---|---|---|",
    ]
    for name, one in found["auroc"].items():
        areas = (mean(one[of]) for of in ("guard", "knn", "max_softmax"))
        ahead = _margin(found["margins"][name]["max_softmax"])
        rows.append(f"| {name} | {' | '.join(areas)} | {ahead} |")
    models = found["models"]
    alarms = (
        f"{100 * known['flagged']:.2f} % ({100 * low:.2f} to {100 * high:.2f})"
        for known in (model["guard"] for model in models)
        for low, high in [known["flagged_interval"]]
    )
    note = (
        f"Models of {_listed(models, 'accuracy')} % test accuracy. "
        f"Stated false alarms {100 * models[0]['guard']['false_alarms']:g} %; of the test items "
        f"were called unknown: {', '.join(alarms)}. "
        f"Calibration error {_listed(models, 'ece_uncalibrated')} % before the temperature, "
        f"{_listed(models, 'ece')} % after. `{found['command']}`"
    )
    budget = f"{found['minutes']:g} minutes of training"
    if found["pretrain"]:
        budget = f"{found['pretrain']:g} minutes of pre-training, {found['minutes']:g} of training"
    labels = f"{found['labels']} labels per class" if found["labels"] else "all labels"
    count = f"{len(models)} seeds" if len(models) > 1 else "one seed"
    title = f"### Unknown items, CIFAR-10, size `hybrid`: {budget} on {labels}{where}, {count}"
    return "\n".join([title, "", *rows, "", note, ""])


def _listed(models: list[dict[str, Any]], name: str) -> str:
    return ", ".join(f"{100 * model[name]:.1f}" for model in models)


def tfrecord() -> str:
    found = read("tfrecord.json")
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
    found = read("attention.json")
    if found is None:
        return ""
    rows = ["| Batch x tokens | Type | Plain, ms | Fused, ms | Ratio |", "|---|---|---|---|---|"]
    for row in found["rows"]:
        shape = f"{row['batch']} x {row['tokens']}"
        times = f"{row['plain']:.1f} | {row['fused']:.1f} | {row['ratio']:.2f}"
        rows.append(f"| {shape} | {row['dtype']} | {times} |")
    return "\n".join(["### Attention on a CPU, forward and backward, one thread", "", *rows, ""])


def step() -> str:
    found = read("step.json")
    if found is None:
        return ""
    rows = [
        "| Pre-training step of 256 views | Milliseconds | Against the default |",
        "|---|---|---|",
    ]
    for name, row in found["rows"].items():
        rows.append(f"| {name} | {row['ms']:.0f} | {row['ratio']:.2f} |")
    return "\n".join(["### Cost of a pre-training step, 2 cores", "", *rows, ""])


def gallery() -> str:
    found = read("gallery.json")
    if found is None:
        return ""
    times = found["milliseconds"]
    text = (
        f"{found['vectors']:,} vectors of {found['names']:,} names, {found['width']} numbers each, "
        f"one core: {times['median']:.1f} ms for an answer (median; 99 % within "
        f"{times['p99']:.1f} ms). `{found['command']}`"
    )
    return "\n".join(["### Gallery", "", text, ""])


def explain() -> list[str]:
    """How faithful each explanation is to the model."""
    parts = []
    for path in sorted((HERE / "results").glob("explain_*.json")):
        found = json.loads(path.read_text())
        rows = ["| Method | Deletion | Insertion | Insertion ahead of raw attention | ms an item |"]
        rows.append("|---" * 5 + "|")
        ordered = sorted(found["rows"].items(), key=lambda entry: -entry[1]["insertion"])
        for name, row in ordered:
            ahead = row.get("ahead_of_attention", {}).get("insertion")
            shown = ""
            if ahead:
                low, high = ahead["interval"]
                shown = f"{ahead['mean']:.3f} ({low:.3f} to {high:.3f})"
            areas = f"{row['deletion']:.3f} | {row['insertion']:.3f}"
            rows.append(f"| `{name}` | {areas} | {shown} | {row['milliseconds']:.1f} |")
        kind = path.stem.partition("_")[2]
        title = f"### Explanations of {kind}s: {found['items']} validation items"
        note = f"A model of {100 * found['accuracy']:.1f} % test accuracy. `{found['command']}`"
        parts.append("\n".join([title, "", *rows, "", note, ""]))
    return parts


if __name__ == "__main__":
    sys.exit(main())
