"""Tables about what people use it for, for RESULTS.md."""

from __future__ import annotations

from tables import HANDCRAFTED, mean, read, section

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
    summary = found["summary"]
    if any(set(FACES) - set(summary.get(task, {})) for task in ("half", "light", "open")):
        return ""  # not yet filled
    half, light, strange = (summary[task] for task in ("half", "light", "open"))
    rows = [
        (name, mean(half[method]["accuracy"]), *(mean(light[method][angle]) for angle in ANGLES))
        for method, name in FACES.items()
    ]
    note = (
        "By light, training sees angles up to 12 degrees. Mean over seeds, half of the 95 % "
        f"interval; the others have no seed. `{found['command']}`, {found['hardware']['cpu']}."
    )
    head = ("Method", "Half by half", *(f"Light {angle} degrees" for angle in ANGLES))
    title = f"Faces: Extended Yale B, {found['minutes']:g} minutes of training, one core"
    known = section(title, head, rows, note)
    rows = [
        (name.partition(" + ")[0], *(mean(strange[method][key]) for key in STRANGERS))
        for method, name in FACES.items()
    ]
    very = strange["eigenfaces"]["trained_on_those_very_pictures"]
    note = (
        "Strangers are a third of the people, another one for each seed; all by cosines. "
        "Eigenfaces and an SVM trained on the very pictures that the gallery of strangers got name "
        f"{mean(very)} right."
    )
    return known + "\n" + section("Strangers", ("Method", *STRANGERS.values()), rows, note)


VEHICLES = {
    "discern": "`train --recipe vehicles --from discern-nano`",
    "views_4": "the same, four views of each item averaged",
    "merged_0.25": "the same, a quarter of its tokens merged",
    "merged_0.5": "the same, half of its tokens merged",
    "pico": "`--size pico`, pre-trained for {pretrain_minutes:g} minutes, tuned for {minutes:g}",
    **{name: HANDCRAFTED[name] for name in ("hog_svm", "hog_linear", "color_histogram")},
}


ACTIONS = {
    "discern": "`train --recipe videos`",
    "views_4": "the same, four views of each clip averaged",
    "shipped": "the same minutes `--from discern-nano`",
    "pico": VEHICLES["pico"],
    **{name: HANDCRAFTED[name] for name in ("motion", "motion_flow", "motion_hog")},
    "motion_difference": HANDCRAFTED["motion_difference"],
}


def vehicles() -> str:
    """Tiny-ImageNet's vehicles, beside hand-crafted features."""
    title = "Vehicles: 15 types of Tiny-ImageNet, {minutes:g} minutes on one core"
    return _use("vehicles.json", VEHICLES, title, "an image")


def actions() -> str:
    """J-HMDB's actions, beside hand-crafted features of motion."""
    title = "Actions: J-HMDB, {minutes:g} minutes on one core"
    return _use("actions.json", ACTIONS, title, "a clip")


def _use(name: str, names: dict[str, str], title: str, item: str) -> str:
    found = read(name)
    if found is None or "views_4" not in found.get("ahead_of_the_best", {}):
        return ""
    rows, ahead = [], found["ahead_of_the_best"]
    for method, said in names.items():
        block = found["summary"].get(method)
        if block is None:
            continue
        cost = block["microseconds_per_item"]["mean"]
        cell = next(one for key, one in found["cells"].items() if key.startswith(f"{method}/"))
        alone = " (one seed)" if method in ahead else ""  # the others have none
        rows.append((said.format(**cell), mean(block["accuracy"], alone), f"{cost:.0f}"))
    note = (
        f"{100 * ahead['discern']:+.1f} points to the best of the others, "
        f"{100 * ahead['views_4']:+.1f} with four views. Mean over seeds, half of the 95 % "
        f"interval; the others have no seed. `{found['command']}`, {found['hardware']['cpu']}."
    )
    head = ("Method", "Test accuracy", f"Microseconds {item}")
    return section(title.format(**found), head, rows, note)
