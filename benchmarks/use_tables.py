"""Tables about what people use it for, for RESULTS.md."""

from __future__ import annotations

from typing import Any

from tables import read

FACES = {
    "discern": "`train --recipe faces`, from scratch",
    "hog": "HOG + linear SVM",
    "lbp": "local binary patterns + linear SVM",
    "eigenfaces": "eigenfaces + RBF SVM",
}
ANGLES = ("to 25", "to 50", "to 77", "beyond 77")
# of strangers: what was measured -> its title
STRANGERS = {
    "equal_error": "Pairs: equal error",
    "true_match_1e-2": "true match at 1 % false",
    "true_match_1e-3": "at 0.1 %",
    "known_rank_1": "The enrolled, named right",
    "identified_at_0.01": "and found, 1 % of strangers let in",
    "identified_at_0.1": "10 % let in",
    "strangers_rank_1": "Strangers enrolled from 5 pictures, named right",
}


def faces() -> str:
    """Extended Yale B, half by half, by light, and people that no training saw."""
    found = read("faces.json")
    if found is None:
        return ""
    title = f"### Faces: Extended Yale B, {found['minutes']:g} minutes of training, one core"
    heads = [f"light {angle} degrees" for angle in ANGLES]
    heads = ["Method", "Half by half", *heads, "Microseconds an image"]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    summary = found["summary"]
    for method, name in FACES.items():
        half = summary.get("half", {}).get(method, {})
        light = summary.get("light", {}).get(method, {})
        cells = [half.get("accuracy"), *(light.get(angle) for angle in ANGLES)]
        taken = half.get("microseconds_per_item")
        cost = "" if taken is None else f"{taken['mean']:.0f}"
        rows.append(f"| {name} | " + " | ".join(map(_share, cells)) + f" | {cost} |")
    rows += ["", f"| Method, by cosines | {' | '.join(STRANGERS.values())} |"]
    rows.append("|---" * (len(STRANGERS) + 1) + "|")
    for method, name in FACES.items():
        block = summary.get("open", {}).get(method, {})
        cells = [_share(block.get(key)) for key in STRANGERS]
        rows.append(f"| {name.partition(' + ')[0]} | {' | '.join(cells)} |")
    very = summary.get("open", {}).get("eigenfaces", {}).get("trained_on_those_very_pictures")
    note = "By light, training sees angles up to 12 degrees. Strangers are a third of the people, "
    note += "another one for each seed. Eigenfaces and an SVM trained on the very pictures that "
    note += f"the gallery of strangers got: {_share(very)}. Mean over seeds, half of the 95 % "
    note += f"interval; half by half and by light the others have no seed. `{found['command']}`, "
    note += f"{found['hardware']['cpu']}."
    return "\n".join([title, "", *rows, "", note, ""])


VEHICLES = {
    "discern": "`train --recipe vehicles --from discern-nano`",
    "hog_svm": "HOG + RBF SVM",
    "hog_linear": "HOG + linear SVM",
    "color_histogram": "colour histogram + RBF SVM",
}


def vehicles() -> str:
    """Tiny-ImageNet's vehicles, beside hand-crafted features."""
    found = read("vehicles.json")
    if found is None or "discern" not in found["summary"]:
        return ""
    title = f"### Vehicles: 15 types of Tiny-ImageNet, {found['minutes']:g} minutes on one core"
    rows = ["| Method | Test accuracy | Microseconds an image |", "|---|---|---|"]
    for method, name in VEHICLES.items():
        block = found["summary"][method]
        cost = block["microseconds_per_item"]["mean"]
        rows.append(f"| {name} | {_share(block['accuracy'])} | {cost:.0f} |")
    note = f"{100 * found['ahead_of_the_best']:+.1f} points to the best of them. Mean over seeds, "
    note += f"half of the 95 % interval; the others have no seed. `{found['command']}`, "
    note += f"{found['hardware']['cpu']}."
    return "\n".join([title, "", *rows, "", note, ""])


def _share(block: dict[str, Any] | None) -> str:
    if block is None:
        return ""
    low_high = block.get("interval")
    half = f" \u00b1 {50 * (low_high[1] - low_high[0]):.1f}" if low_high else ""
    return f"{100 * block['mean']:.1f}{half}"
