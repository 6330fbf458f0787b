"""Tables about fakes and shipped weights, for RESULTS.md and the model card, from their JSON."""

from __future__ import annotations

from typing import Any

from tables import read

SETS = {
    "tiny_imagenet_vehicles": "Tiny-ImageNet vehicles",
    "extended_yaleb": "Extended Yale B faces",
    "jhmdb": "J-HMDB actions",
}
WAYS = {
    "judge": "a judge of patches and wholes (the default)",
    "forged_views": "in-painted items as further views",
    "forged_negatives": "fakes as negatives (ContraD)",
    "perceptual": "painting hidden patches right in feature space",
    "hard_views": "views moved to look unlike their items",
    "generated_labels": "drawn items of each class in a quarter of the batch",
    "fake_class": "one class more, for fakes, beside items without labels",
}


def fakes() -> str:
    """What each way to learn from fakes gave."""
    found = read("fakes.json")
    if found is None:
        return ""
    minutes, gains = found["minutes"], found["gains"]
    title = (
        f"### What fakes are worth: CIFAR-10, {found['images']:,} images, {found['labels']} labels "
        f"per class, {minutes['pretrain']:g} minutes of pre-training, {minutes['tune']:g} of tuning"
    )
    rows = [
        "| Way | Held against | Accuracy | Gain in points | k-NN gain |",
        "|---|---|---|---|---|",
    ]
    for way, name in WAYS.items():
        block = gains.get(way)
        if block is None or "gain" not in block:
            continue
        against = "no adversary" if block["against"] == "none" else "the same without that class"
        knn = points(block["knn_gain"]) if "knn_gain" in block else ""
        accuracy = f"{100 * block['accuracy']['mean']:.1f}"
        rows.append(f"| {name} | {against} | {accuracy} | {points(block['gain'])} | {knn} |")
    note = f"Paired by seed, 95 % intervals (Student's t); no adversary: {_mean(gains['none'])}. "
    if found.get("note"):
        note += f"{found['note'][:1].upper()}{found['note'][1:]}. "
    return "\n".join([title, "", *rows, "", note + f"`{found['command']}`", ""])


def shipped() -> str:
    """The shipped weights against from scratch, for RESULTS.md."""
    table = transfer()
    found = (read("shipped.json") or {}).get("transfer", {"minutes": 0})
    title = (
        "### Shipped weights `discern-nano` on data that they never saw, "
        f"{found['minutes']:g} minutes of tuning"
    )
    return "\n".join([title, "", table, ""]) if table else ""


def transfer() -> str:
    found = (read("shipped.json") or {}).get("transfer")
    if not found:
        return ""
    rows = ["| Data | Labels per class | From `discern-nano` | From scratch | Gain in points |"]
    rows.append("|---|---|---|---|---|")
    for name, block in found["gains"].items():
        data, labels = name.split("/")
        both = " | ".join(f"{100 * block[of]['mean']:.1f}" for of in ("shipped", "scratch"))
        rows.append(f"| {SETS[data]} | {labels} | {both} | {points(block['gain'])} |")
    note = (
        f"{found['minutes']:g} minutes of tuning each, 2 cores, mean over seeds, paired 95 % "
        f"intervals. `{found['command']}`"
    )
    return "\n".join([*rows, "", note])


def card() -> str:
    """How the shipped weights were made, for the model card."""
    found = read("shipped.json")
    if not found or "made" not in found:
        return ""
    made = found["made"]
    kinds = made["kinds"]
    minutes = ", then ".join(
        f"{many:g} minutes on {what}" for what, many in made["minutes"].items()
    )
    rows = [
        "| | |",
        "|---|---|",
        f"| items | {kinds['image']:,} images, {kinds['clip']:,} clips |",
        f"| training | {minutes}; {made['steps']:,} steps |",
        f"| hardware | {made['hardware']['cores']} cores, {made['hardware']['cpu']} |",
        f"| k-NN on held-out CIFAR-10 images | {100 * made['knn']['knn_images']:.1f} % |",
        f"| size | {made['bytes'] / 2**20:.1f} MB |",
        f"| command | `{made['command']}` |",
    ]
    return "\n".join([*rows, "", transfer()])


def points(block: dict[str, Any]) -> str:
    """A gain in points, with its interval."""
    low_high = block.get("interval")
    if low_high is None:
        return f"{100 * block['mean']:+.1f} (one seed)"
    return f"{100 * block['mean']:+.1f} ({100 * low_high[0]:+.1f} to {100 * low_high[1]:+.1f})"


def _mean(block: dict[str, Any]) -> str:
    return f"{100 * block['accuracy']['mean']:.1f}"
