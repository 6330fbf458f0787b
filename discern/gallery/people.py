"""Enrol, identify, verify, calibrate: a gallery, a model and files in, answers out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from discern.clip import Batch, Kind
from discern.data.augment import to_float
from discern.data.badfiles import BadFiles
from discern.data.clipset import clip_sets, load_all
from discern.data.items import Source
from discern.data.limits import Limits
from discern.data.loader import evaluation_batches
from discern.data.sources import open_source
from discern.errors import BadItem, DataError, UsageError
from discern.gallery.rates import threshold_at
from discern.gallery.search import Index, middle, normalised
from discern.gallery.store import Gallery, editing, read
from discern.models.weights import Bundle, load_bundle
from discern.predict import one_batch, preprocessing, read_file

AT_ONCE = {Kind.IMAGE: 64, Kind.CLIP: 16}
MEMORY = 2**30  # bytes of decoded items
TEMPLATES = 5  # pictures of a person that calibration enrols; the others are questions
# before calibration: what two vectors of nothing in common hardly ever reach
UNCALIBRATED = 0.6


def enroll(
    path: Path | str,
    name: str | None,
    files: Sequence[Path | str],
    *,
    model: Path | str,
    source: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Enrol a name by files, or every class of a source.  The first call makes the gallery.

    Raises UsageError (another model than the gallery's), DataError (a file cannot be read).
    """
    bundle = load_bundle(model)
    if source is not None:
        found = _by_class(bundle, open_source(list(source), Limits()))
    else:
        assert name is not None
        found = {name: np.stack([_file_vector(bundle, Path(file)) for file in files])}
    identity = bundle.weights
    width = bundle.model.config.backbone.width
    with editing(Path(path), Gallery.empty(identity, width)) as gallery:
        _require_same(Path(path), gallery, identity, bundle)
        for one, vectors in found.items():
            gallery.add(one, vectors)
        people, pictures = len(gallery), len(gallery.vectors)
    added = sum(map(len, found.values()))
    return {
        "verb": "enroll",
        "out": str(path),
        "added": added,
        "names": people,
        "vectors": pictures,
    }


def enroll_vectors(
    path: Path, name: str, vectors: np.ndarray, *, identity: str, most: int
) -> dict[str, int]:
    """Enrol vectors [n, D] of a name; a gallery that is not there is made.

    `identity` is that of the model's weights.  -> `pictures` of the name, and `names` in all.
    Raises UsageError, also beyond `most` vectors.
    """
    with editing(path, Gallery.empty(identity, vectors.shape[1])) as gallery:
        if gallery.model != identity:
            raise UsageError("the gallery is of another model by now")
        if len(gallery.vectors) + len(vectors) > most:
            raise UsageError(f"the gallery is full: {most} vectors are the most")
        gallery.add(name, vectors)
        owner = gallery.number(name)
        return {"pictures": int((gallery.owners == owner).sum()), "names": len(gallery)}


def require_same_model(path: Path, bundle: Bundle) -> None:
    """Raise UsageError for a gallery that was enrolled with another model, or is none."""
    _require_same(path, read(path), bundle.weights, bundle)


def remove(path: Path | str, name: str) -> dict[str, Any]:
    """Forget a name and all that was kept of it.  Raises UsageError."""
    with editing(Path(path)) as gallery:
        gone = gallery.remove(name)
        return {"verb": "remove", "out": str(path), "removed": gone, "names": len(gallery)}


def listed(path: Path | str) -> dict[str, Any]:
    """Who is enrolled, with how many vectors, and the threshold."""
    gallery = read(Path(path))
    counts = np.bincount(gallery.owners, minlength=len(gallery))
    return {
        "verb": "list",
        "names": {name: int(count) for name, count in zip(gallery.names, counts, strict=True)},
        "model": gallery.model,
        "threshold": gallery.threshold,
        "calibration": gallery.calibration,
    }


def identify(
    path: Path | str, files: Sequence[Path | str], *, model: Path | str, top: int = 1
) -> list[dict[str, Any]]:
    """The likeliest names of each file, with scores; `name` is None where nobody is near enough."""
    gallery, bundle = _opened(path, model)
    index, threshold = Index(gallery), _threshold(gallery)
    answers: list[dict[str, Any]] = []
    for file in files:
        try:
            ranked = index.ranked(_file_vector(bundle, Path(file)), top)
        except DataError as error:
            answers.append({"file": str(file), "error": str(error).partition(": ")[2]})
            continue
        known = bool(ranked) and ranked[0][1] >= threshold
        answers.append(
            {
                "file": str(file),
                "name": ranked[0][0] if known else None,
                "enrolled": known,
                "score": ranked[0][1] if ranked else None,
                "top": [{"name": one, "score": score} for one, score in ranked],
                "threshold": threshold,
                "calibrated": gallery.threshold is not None,
            }
        )
    return answers


def verify(path: Path | str, name: str, file: Path | str, *, model: Path | str) -> dict[str, Any]:
    """Whether a file shows this name.  Raises UsageError, DataError."""
    gallery, bundle = _opened(path, model)
    owner, threshold = gallery.number(name), _threshold(gallery)
    score = float(Index(gallery).scores(_file_vector(bundle, Path(file)))[owner])
    said: dict[str, Any] = {
        "verb": "verify",
        "file": str(file),
        "name": name,
        "same": score >= threshold,
    }
    return said | {
        "score": score,
        "threshold": threshold,
        "calibrated": gallery.threshold is not None,
    }


def calibrate(
    path: Path | str, source: Sequence[str], *, model: Path | str, false_match: float = 0.001
) -> dict[str, Any]:
    """Settle the threshold at a false-match rate, from labelled items of other people.

    Of each class some items are enrolled and the others ask; a question that another class's items
    answer is an impostor's.  Raises DataError where there are fewer such pairs than the rate needs.
    """
    gallery, bundle = _opened(path, model)
    people = _by_class(bundle, open_source(list(source), Limits()))
    people = {name: vectors for name, vectors in people.items() if len(vectors) >= 2}
    if len(people) < 2:
        raise DataError(f"{', '.join(source)}: two classes with two items each are the least")
    if shared := set(people) & set(gallery.names):
        raise DataError(
            f"{', '.join(source)}: {', '.join(sorted(shared)[:3])} enrolled too: a threshold is "
            "settled on people who are not in the gallery"
        )
    centre = middle(np.concatenate(list(people.values())))
    genuine, impostor = pair_scores(people, centre)
    if len(impostor) * false_match < 1:
        raise DataError(
            f"{', '.join(source)}: {len(impostor)} pairs of different classes cannot show a rate "
            f"of {false_match:g}: give more items, or --false-match {2 / len(impostor):.2g}"
        )
    threshold = threshold_at(impostor, false_match)
    with editing(Path(path)) as current:
        _require_same(Path(path), current, gallery.model, bundle)
        current.centre, current.threshold = centre, threshold
        current.calibration = {
            "false_match": false_match,
            "false_match_found": float((impostor >= threshold).mean()),
            "true_match": float((genuine >= threshold).mean()),
            "impostor_pairs": len(impostor),
            "genuine_pairs": len(genuine),
            "classes": len(people),
        }
        said = dict(current.calibration)
    return {"verb": "calibrate", "out": str(path), "threshold": threshold, **said}


def pair_scores(people: dict[str, np.ndarray], centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of questions about the own class, and about each other one."""
    enrolled, questions = {}, {}
    for name, vectors in people.items():
        kept = min(TEMPLATES, (len(vectors) + 1) // 2)
        enrolled[name] = normalised(vectors[:kept], centre)
        questions[name] = normalised(vectors[kept:], centre)
    genuine: list[np.ndarray] = []
    impostor: list[np.ndarray] = []
    for asked, templates in enrolled.items():
        for name, vectors in questions.items():
            best = (vectors @ templates.T).max(axis=1)
            (genuine if name == asked else impostor).append(best)
    return np.concatenate(genuine), np.concatenate(impostor)


@torch.inference_mode()
def vectors_of(bundle: Bundle, batches: Sequence[Batch]) -> np.ndarray:
    """What the tuned model judges items by.  -> float32 [N, D]"""
    found = [bundle.model.features(to_float(batch.clip)).pooled.float() for batch in batches]
    return torch.cat(found).numpy()


def _by_class(bundle: Bundle, source: Source) -> dict[str, np.ndarray]:
    """The vectors of every class of a source; items without a label and broken ones left out."""
    chosen = [index for index, item in enumerate(source.items) if len(item.labels) == 1]
    if not chosen:
        raise DataError(f"{source.spec}: no item has a label: a folder for each name is needed")
    names = sorted({source.items[index].labels[0] for index in chosen})
    preprocess = preprocessing(bundle)
    sets = clip_sets(source, chosen, preprocess, classes=names, limits=Limits())
    load_all(sets.values(), BadFiles(None, allowed=1.0), MEMORY)
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for kind, items in sets.items():
        if len(items):
            vectors = vectors_of(bundle, list(evaluation_batches(items, AT_ONCE[kind])))
            for vector, label in zip(vectors, items.labels, strict=True):
                found[names[label]].append(vector)
    if not found:
        raise DataError(f"{source.spec}: no item in it can be read")
    return {name: np.stack(vectors) for name, vectors in found.items()}


def _file_vector(bundle: Bundle, file: Path) -> np.ndarray:
    preprocess = preprocessing(bundle)
    try:
        clip = read_file(file, preprocess, Limits())
    except BadItem as error:
        raise DataError(f"{file}: {error}") from None
    return np.asarray(vectors_of(bundle, [one_batch(clip, preprocess)])[0])


def _opened(path: Path | str, model: Path | str) -> tuple[Gallery, Bundle]:
    gallery, bundle = read(Path(path)), load_bundle(model)
    _require_same(Path(path), gallery, bundle.weights, bundle)
    return gallery, bundle


def _require_same(path: Path, gallery: Gallery, identity: str, bundle: Bundle) -> None:
    if gallery.model != identity:
        raise UsageError(
            f"{path}: enrolled with another model than {bundle.path}: vectors of two models cannot "
            "be compared: use that one, or enrol anew"
        )


def _threshold(gallery: Gallery) -> float:
    return UNCALIBRATED if gallery.threshold is None else gallery.threshold
