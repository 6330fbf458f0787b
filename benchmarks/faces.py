"""Faces under hard light: Extended Yale B, half by half, by the angle of the light, and strangers.

    python benchmarks/faces.py --minutes 4 --seeds 0 1 2

Half by half is the data's own split.  By light, training sees angles up to 12 degrees of both
halves, and the test is what the test half has from further aside; angles stand in the file names.
For strangers, a third of the people is drawn by the seed: training sees the training half of the
others.  Then, of the test half, the strangers are told apart in pairs; those who are known are
enrolled from 5 pictures each and looked for among all; and the strangers are enrolled from 5
pictures each and identified.

Ours is `discern train --recipe faces` from scratch.  Beside it HOG, local binary patterns and
eigenfaces, on the same frames; linear SVMs are chosen by cross-validation on training items, and
eigenfaces are 150 with an SVM of C = 10.  Nothing is chosen on the test items: what `faces` does
was settled on the training half alone, by its own angles (docs/decisions).
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import few_labels
import numpy as np
from cells import Filled
from few_labels import HERE, discern, interval, unpacked
from PIL import Image

from discern.baselines.linear import SvmConfig, fit_svm
from discern.baselines.shape import hog
from discern.data.preprocess import PreprocessConfig, fit_frame
from discern.gallery.rates import equal_error, open_set, threshold_at, true_match
from discern.gallery.search import middle, normalised

TABLE = HERE / "results" / "faces.json"
ANGLE = re.compile(r"A([+-]\d+)E([+-]\d+)")
TRAINED = 12  # degrees
BUCKETS = {"to 25": (12, 25), "to 50": (25, 50), "to 77": (50, 77), "beyond 77": (77, 180)}
CANVAS = PreprocessConfig(height=64, width=56)  # what all methods see: our own canvas for these
MEASURED = (
    *("accuracy", "microseconds_per_item", "equal_error", "true_match_1e-2", "true_match_1e-3"),
    *("known_rank_1", "identified_at_0.01", "identified_at_0.1", "strangers_rank_1"),
    "trained_on_those_very_pictures",
)
ENROLLED = 5  # pictures of each person in a gallery


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    folder = unpacked("extended_yaleb", args.out)
    sources = {"half": folder, "light": by_light(folder)}
    for seed in args.seeds:
        sources[f"open{seed}"] = without_strangers(folder, seed)
    table = Filled(TABLE, args, summary)
    few_labels.SETS["faces"] = {"labels": None, "settings": ["threads=1"]}
    args.data = "faces"
    for task in ("half", "light", "open"):
        for seed in args.seeds:
            source = sources.get(task) or sources[f"open{seed}"]
            table.fill(f"{task}/discern/{seed}", partial(ours, args, folder, source, task, seed))
    for method in ("hog", "lbp", "eigenfaces"):
        for task in ("half", "light"):
            table.fill(f"{task}/{method}/0", partial(handcrafted, method, sources[task], task))
        for seed in args.seeds:
            table.fill(f"open/{method}/{seed}", partial(by_hand, method, folder, seed))


def ours(
    args: argparse.Namespace, folder: Path, source: Path, task: str, seed: int
) -> dict[str, Any]:
    work = args.out / "faces" / task / str(seed)
    found = discern("train", source, args, work, seed, args.minutes, "--recipe", "faces")
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    names = ("validation_accuracy", "steps", "microseconds_per_item", "command")
    cell = {name: found[name] for name in names}
    if task == "open":  # its own test split is the validation's people, not the strangers
        return cell | strangers(seed, folder, by_model(work, folder))
    cell |= {"accuracy": found["accuracy"], "by_angle": {}}
    if task == "light":
        cell["by_angle"] = by_angle(work / "predictions.jsonl")
    return cell


def by_light(folder: Path) -> Path:
    """A manifest in which the angle of the light decides the split."""
    path = folder / "light.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for picture in sorted(folder.glob("t*/*/*.png")):
            near, half = angle(picture.name) <= TRAINED, picture.parent.parent.name
            if near or half == "test":  # the rest of the training half is for choosing by
                split = "train" if near else "test"
                writer.writerow([picture.relative_to(folder), picture.parent.name, split])
    return path


def angle(name: str) -> int:
    """How far aside the light stands, in degrees.  Raises ValueError for a name without it."""
    found = ANGLE.search(name)
    if found is None:
        raise ValueError(f"{name}: no angle in it")
    return max(abs(int(one)) for one in found.groups())


def by_angle(predictions: Path) -> dict[str, float]:
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    return shares((row["key"], row["label"] == row["predicted"]) for row in rows)


def shares(rows: Any) -> dict[str, float]:
    """The share of right answers in each range of angles."""
    found: dict[str, list[bool]] = defaultdict(list)
    for key, right in rows:
        for name, (low, high) in BUCKETS.items():
            if low < angle(key) <= high:
                found[name].append(bool(right))
    return {name: float(np.mean(found[name])) for name in BUCKETS if found[name]}


def without_strangers(folder: Path, seed: int) -> Path:
    """A manifest of the training half of all who are no strangers."""
    path = folder / f"open{seed}.csv"
    away = people(folder, seed)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for picture in sorted((folder / "train").glob("*/*.png")):
            if picture.parent.name not in away:
                writer.writerow([picture.relative_to(folder), picture.parent.name])
    return path


def people(folder: Path, seed: int) -> set[str]:
    """The strangers of a seed: a third of all people."""
    names = sorted(path.name for path in (folder / "train").iterdir())
    return set(np.random.default_rng(seed).permutation(names)[: round(len(names) / 3)])


def strangers(seed: int, folder: Path, vectors: dict[Path, np.ndarray]) -> dict[str, Any]:
    """Verification, open-set identification and a gallery of strangers, by the vectors of a way."""
    away = people(folder, seed)
    halves = {
        half: {path.name: sorted(path.glob("*.png")) for path in sorted((folder / half).iterdir())}
        for half in ("train", "test")
    }
    known = [name for name in halves["train"] if name not in away]
    centre = middle(np.stack([vectors[one] for name in known for one in halves["train"][name]]))
    unit = {path: normalised(vector[None], centre)[0] for path, vector in vectors.items()}

    def stacked(paths: Iterable[Path]) -> np.ndarray:
        return np.stack([unit[path] for path in paths])

    # verification: all pairs of the strangers' test half
    asked = [(name, path) for name in sorted(away) for path in halves["test"][name]]
    owners = np.array([name for name, _ in asked])
    cosines = stacked(path for _, path in asked)
    cosines = cosines @ cosines.T
    same = owners[:, None] == owners[None]
    upper = np.triu(np.ones_like(same), 1)
    genuine, impostor = cosines[upper & same], cosines[upper & ~same]
    found: dict[str, Any] = {
        "pairs": [len(genuine), len(impostor)],
        "equal_error": equal_error(genuine, impostor),
        "true_match_1e-2": true_match(genuine, impostor, 1e-2),
        "true_match_1e-3": true_match(genuine, impostor, 1e-3),
    }
    some = enrolled(folder, seed)

    def best_scores(names: list[str], probes: list[Path]) -> np.ndarray:
        """The best cosine of each name.  -> [probes, names]"""
        questions = stacked(probes)
        return np.stack([(questions @ stacked(some[n]).T).max(axis=1) for n in names], axis=1)

    # open set: the known are enrolled and all ask, at a stated share of strangers let in
    probes = [(name, path) for name in halves["test"] for path in halves["test"][name]]
    scores = best_scores(known, [path for _, path in probes])
    owner = np.array([known.index(name) if name in known else -1 for name, _ in probes])
    found["known_rank_1"] = float((scores.argmax(1) == owner)[owner >= 0].mean())
    for rate in (1e-2, 1e-1):
        threshold = threshold_at(scores.max(axis=1)[owner < 0], rate)
        block = open_set(scores, owner, threshold)
        found[f"identified_at_{rate:g}"] = block["detection_and_identification"]
    # a gallery of strangers
    names = sorted(away)
    scores = best_scores(names, [path for _, path in asked])
    found["strangers_rank_1"] = float((np.array(names)[scores.argmax(1)] == owners).mean())
    return found


def enrolled(folder: Path, seed: int) -> dict[str, list[Path]]:
    """Of the training half of each person, the pictures that a gallery gets."""
    rng = np.random.default_rng([seed, 1])
    found = {}
    for person in sorted((folder / "train").iterdir()):
        paths = sorted(person.glob("*.png"))
        found[person.name] = [paths[place] for place in rng.permutation(len(paths))[:ENROLLED]]
    return found


def of_those_very_pictures(folder: Path, seed: int) -> float:
    """Strangers told by eigenfaces and an SVM that were trained on what the gallery got."""
    from sklearn.svm import SVC

    away, some = people(folder, seed), enrolled(folder, seed)
    learned = [(name, path) for name in sorted(away) for path in some[name]]
    asked = [(path.parent.name, path) for path in sorted((folder / "test").glob("*/*.png"))]
    asked = [one for one in asked if one[0] in away]

    def flat(paths: Iterable[Path]) -> np.ndarray:
        return np.stack([frame_of(path)[..., 0].ravel() / 255 for path in paths])

    seen = eigenfaces(flat(path for _, path in learned))
    names = [name for name, _ in learned]
    svm = SVC(C=10, gamma="scale").fit(seen.transform(flat(p for _, p in learned)), names)
    guess = svm.predict(seen.transform(flat(path for _, path in asked)))
    return float(np.mean(guess == np.array([name for name, _ in asked])))


def by_model(work: Path, folder: Path) -> dict[Path, np.ndarray]:
    """What the gallery would keep of each picture."""
    import torch

    from discern.clip import Batch
    from discern.gallery.people import vectors_of
    from discern.models.weights import load_bundle

    bundle = load_bundle(work)
    paths = sorted(folder.glob("t*/*/*.png"))
    frames = torch.from_numpy(np.stack([frame_of(path) for path in paths]))
    clips = frames.permute(0, 3, 1, 2)[:, :, None]
    found = vectors_of(bundle, [Batch(clip=part) for part in clips.split(128)])
    return dict(zip(paths, found, strict=True))


def by_hand(method: str, folder: Path, seed: int) -> dict[str, Any]:
    """What a hand-crafted way makes of strangers."""
    found = strangers(seed, folder, described(method, folder, seed))
    if method == "eigenfaces":
        found["trained_on_those_very_pictures"] = of_those_very_pictures(folder, seed)
    return found


def described(method: str, folder: Path, seed: int) -> dict[Path, np.ndarray]:
    """Vectors of a hand-crafted way; eigenfaces are those of the known people's training half."""
    paths = sorted(folder.glob("t*/*/*.png"))
    frames = np.stack([frame_of(path) for path in paths])
    if method == "eigenfaces":
        away = people(folder, seed)
        seen = [p.parent.parent.name == "train" and p.parent.name not in away for p in paths]
        flat = frames[..., 0].reshape(len(frames), -1) / 255
        found = eigenfaces(flat[np.array(seen)]).transform(flat)
    else:
        found = FEATURES[method](frames)
    return dict(zip(paths, found, strict=True))


def eigenfaces(flat: np.ndarray) -> Any:
    from sklearn.decomposition import PCA

    return PCA(min(150, len(flat) - 1), whiten=True, random_state=0).fit(flat)


def lbp(frames: np.ndarray) -> np.ndarray:
    """Histograms of uniform local binary patterns in cells (Ahonen et al. 2006), by scikit-image.

    Square roots of shares: cosines are then Bhattacharyya's.  uint8 [N, H, W, 3] -> [N, F]
    """
    from skimage.feature import local_binary_pattern

    found = []
    for frame in frames[..., 0]:
        codes = local_binary_pattern(frame, 8, 2, "nri_uniform").astype(int)  # 59 of them
        cells = [
            cell for row in np.array_split(codes, 8) for cell in np.array_split(row, 7, axis=1)
        ]
        counts = [np.bincount(cell.ravel(), minlength=59) / cell.size for cell in cells]
        found.append(np.sqrt(np.concatenate(counts)))
    return np.stack(found)


def frame_of(path: Path) -> np.ndarray:
    """uint8 [h, w, 3], as all methods see it: the canvas that ours is trained on."""
    return fit_frame(np.asarray(Image.open(path).convert("RGB")), CANVAS)


FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"hog": hog, "lbp": lbp}


def handcrafted(method: str, source: Path, task: str) -> dict[str, Any]:
    items = files_of(source)
    names = sorted({label for _, label, _ in items})
    parts = {split: [one for one in items if one[2] == split] for split in ("train", "test")}
    pixels = {
        split: np.stack([frame_of(path) for path, _, _ in one]) for split, one in parts.items()
    }
    labels = {
        split: np.array([names.index(label) for _, label, _ in one]) for split, one in parts.items()
    }
    if method == "eigenfaces":
        from sklearn.svm import SVC

        flat = {split: one[..., 0].reshape(len(one), -1) / 255 for split, one in pixels.items()}
        seen = eigenfaces(flat["train"])
        model = SVC(C=10, gamma="scale").fit(seen.transform(flat["train"]), labels["train"])
        guess = model.predict(seen.transform(flat["test"]))
    else:
        features = {split: FEATURES[method](one) for split, one in pixels.items()}
        linear = SvmConfig(kernel="linear")
        svm = fit_svm(features["train"], labels["train"], len(names), None, None, linear)
        guess = svm.probabilities(features["test"]).argmax(1)
    right = guess == labels["test"]
    keys = [path.name for path, _, _ in parts["test"]]
    return {
        "accuracy": float(right.mean()),
        "by_angle": shares(zip(keys, right, strict=True)) if task == "light" else {},
    }


def files_of(source: Path) -> list[tuple[Path, str, str]]:
    """Path, person and split of every picture."""
    if source.suffix == ".csv":
        with open(source, newline="") as file:
            return [
                (source.parent / row["path"], row["label"], row["split"])
                for row in csv.DictReader(file)
            ]
    return [
        (one, one.parent.name, one.parent.parent.name) for one in sorted(source.glob("t*/*/*.png"))
    ]


def summary(cells: dict[str, Any]) -> dict[str, Any]:
    """task -> method -> what was measured, each with its interval over seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, one in cells.items():
        task, method, _ = name.split("/")
        groups.setdefault((task, method), []).append(one)
    found: dict[str, Any] = {}
    for (task, method), rows in groups.items():
        block = {key: interval([one[key] for one in rows]) for key in MEASURED if key in rows[0]}
        for angles in rows[0].get("by_angle", {}):
            block[angles] = interval([one["by_angle"][angles] for one in rows])
        found.setdefault(task, {})[method] = block
    return {"summary": found}


if __name__ == "__main__":
    main()
