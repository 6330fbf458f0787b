"""`discern export`: a tuned model in; a folder with graphs that give the same answers out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from discern.clip import Kind
from discern.data.badfiles import BadFiles
from discern.errors import GateError, UsageError
from discern.evaluate.evaluate import measured_sets
from discern.export.graph import INPUT, Graph, example, kinds_of, outputs_of
from discern.export.run import ABOUT, FORMAT, GUARD, RUNNERS, Runner, openvino_capabilities
from discern.export.writers import SUFFIXES, WRITERS
from discern.files import TEMPORARY, sha256, sync_folder, write_bytes, write_json
from discern.models.weights import Bundle
from discern.predict import load, require_classifier
from discern.recipes.progress import progress_bar
from discern.repro import versions

BATCHES = (1, 2, 7)
PRECISIONS = {"fp32": tuple(WRITERS), "bf16": ("openvino",), "int8": ("onnx", "openvino")}
MOST_LOST = {"bf16": 0.002, "int8": 0.005}  # of accuracy
RANGED = 256  # items that ranges of int8 come from
MADE_UP = 32  # items of the parity check where no source is given
CHECKED = 1000  # items of a source
TOLERANCE = 1e-4  # of probabilities


class Items(NamedTuple):
    """What an export is checked on."""

    frames: Tensor  # uint8 [N, T, h, w, 3]
    labels: Tensor  # int64 [N]


def export(
    model: Path | str,
    to: str,
    out: Path | str,
    *,
    precision: str = "fp32",
    check: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Write the graphs of a model, and check that they give what it gives.

    Checked are items of the sources `check`, else made-up ones, in batches of 1, 2 and 7.  With
    fewer bits (`precision` bf16 or int8) accuracy on the items of `check`, which have labels, may
    fall by `MOST_LOST`; for int8 half of them set the ranges, and the others judge.  Raises
    UsageError, GateError (probabilities differ by more than 1e-4, or accuracy falls; nothing is
    left written).
    """
    started = time.monotonic()
    if to not in WRITERS:
        raise UsageError(f"--to {to}: there are {', '.join(WRITERS)}")
    if to not in PRECISIONS.get(precision, ()):
        known = [name for name, forms in PRECISIONS.items() if to in forms]
        raise UsageError(f"--precision {precision}: --to {to} knows {', '.join(known)}")
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out}: in use: choose another folder")
    bundle = load(model)
    require_classifier(bundle)
    if precision != "fp32" and (not check or bundle.certainty.several):
        raise UsageError(
            f"--precision {precision}: is kept only if it is as often right: give --check SOURCE, "
            "items with one label each"
        )
    if precision == "bf16" and "BF16" not in openvino_capabilities():
        raise UsageError(
            "--precision bf16: this CPU does not compute in it, so nothing can be checked here: "
            "export on one that does"
        )
    graph = Graph(bundle).eval()
    temporary = out.with_name(f"{TEMPORARY}{out.name[:40]}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        about = _written(bundle, graph, to, precision, temporary, check, seed)
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(out.parent)
    return {
        "verb": "export",
        "to": to,
        "precision": precision,
        "out": str(out),
        "graphs": {kind: one["file"] for kind, one in about["graphs"].items()},
        "parity": about["parity"],
        "bytes": sum(path.stat().st_size for path in out.iterdir()),
        "seconds": time.monotonic() - started,
    }


def _written(
    bundle: Bundle,
    graph: Graph,
    to: str,
    precision: str,
    folder: Path,
    check: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    graphs: dict[str, Any] = {}
    parity: dict[str, Any] = {}
    names: list[str] = []
    checked = _items(bundle, check, seed)
    if precision != "fp32":
        _require_labelled(checked)
    with progress_bar("exporting") as bar:
        for place, (kind, items) in enumerate(checked.items()):
            bar(place / len(checked), str(kind))
            two = example(bundle, kind, 2)  # a batch of one would be taken for a constant
            ranges = items.frames[::2][:RANGED] if precision == "int8" else None
            names += WRITERS[to](graph, two, folder / str(kind), ranges)
            path = folder / f"{kind}{SUFFIXES[to]}"
            graphs[str(kind)] = {"file": path.name, "frames": two.shape[1]}
            runner = _runner(to, path, graph, precision)
            if precision == "fp32":
                parity[str(kind)] = _parity(graph, runner, items.frames, path)
            else:
                if ranges is not None:  # what set the ranges does not judge them
                    items = Items(items.frames[1::2], items.labels[1::2])
                parity[str(kind)] = _as_often_right(graph, runner, items, path, precision)
    guards = bundle.certainty.tensors()
    if guards:
        write_bytes(folder / GUARD, safetensors.torch.save(guards))
        names.append(GUARD)
    about = {
        "format": FORMAT,
        "to": to,
        "precision": precision,
        "graphs": graphs,
        "input": {
            "name": INPUT,
            "type": "uint8",
            "shape": ["batch", "frames", "height", "width", 3],
        },
        "outputs": list(outputs_of(graph)),
        "labels": bundle.labels,
        "preprocess": bundle.preprocess,
        "certainty": bundle.certainty.settings(),
        "width": bundle.model.config.backbone.width,
        "early": bundle.model.backbone.early_width,
        "head": bundle.model.discriminator is not None,
        "parity": parity,
        "versions": versions(),
        "files": {name: sha256(folder / name) for name in names},
    }
    write_json(folder / ABOUT, about)
    return about


def _items(bundle: Bundle, check: Sequence[str], seed: int) -> dict[Kind, Items]:
    """Items of every kind that is exported; those that are made up have no label."""
    kinds = kinds_of(bundle)
    none = torch.full((MADE_UP,), -1)
    found = {kind: Items(example(bundle, kind, MADE_UP, seed + 1), none) for kind in kinds}
    if check:
        for kind, items in measured_sets(bundle, list(check), BadFiles(None)).items():
            if kind in found:
                # in an order of their own: sources come class by class
                order = np.random.default_rng(seed).permutation(len(items))[:CHECKED]
                frames = torch.from_numpy(np.ascontiguousarray(items.take_even(order)))
                found[kind] = Items(frames, torch.from_numpy(items.labels[order]))
    return found


def _require_labelled(checked: Mapping[Kind, Items]) -> None:
    """Of every kind two items at least, one for the ranges and one that judges."""
    for kind, items in checked.items():
        if items.labels[0] < 0:
            raise UsageError(f"--check: holds no {kind}, and the model takes them: add some")
        if len(items.labels) < 2:
            raise UsageError(f"--check: holds one {kind} only: add some")


def _runner(to: str, path: Path, graph: Graph, precision: str) -> Runner:
    if to in RUNNERS:
        return RUNNERS[to](path, precision)
    program = torch.export.load(path).module()
    names = outputs_of(graph)

    def run(frames: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            found = program(torch.from_numpy(frames))
        return {name: value.numpy() for name, value in zip(names, found, strict=True)}

    return run


def _parity(graph: Graph, runner: Runner, items: Tensor, path: Path) -> dict[str, Any]:
    """How far both are apart at most.  Raises GateError."""
    apart: dict[str, float] = {}
    for batch in BATCHES:
        most = 0.0
        # every batch size on some items, and the largest on all
        some = items if batch == max(BATCHES) else items[: 8 * batch]
        for first in range(0, len(some), batch):
            frames = some[first : first + batch]
            with torch.inference_mode():
                wanted = graph(frames)[0].numpy()
            found = runner(frames.numpy())["probabilities"]
            if found.shape != wanted.shape or not np.isfinite(found).all():
                raise GateError(f"{path.name}: gives {found.shape}, not {wanted.shape}")
            most = max(most, float(np.abs(found - wanted).max()))
        apart[str(batch)] = most
    if max(apart.values()) > TOLERANCE:
        raise GateError(
            f"{path.name}: probabilities differ from the model's by {max(apart.values()):.2g}, "
            f"more than {TOLERANCE:g}: not kept"
        )
    return {"items": len(items), "largest_difference": apart, "tolerance": TOLERANCE}


def _as_often_right(
    graph: Graph, runner: Runner, items: Items, path: Path, precision: str
) -> dict[str, Any]:
    """How much accuracy fewer bits cost.  Raises GateError."""
    wanted, found = [], []
    for frames in items.frames.split(max(BATCHES)):
        with torch.inference_mode():
            wanted.append(graph(frames)[0].numpy())
        found.append(runner(frames.numpy())["probabilities"])
    before, after = np.concatenate(wanted), np.concatenate(found)
    labels = items.labels.numpy()
    right = [float((chances.argmax(axis=1) == labels).mean()) for chances in (before, after)]
    lost = right[0] - right[1]
    if not np.isfinite(after).all() or lost > MOST_LOST[precision]:
        raise GateError(
            f"{path.name}: in {precision} {right[1]:.1%} of {len(labels)} items are right, and "
            f"{right[0]:.1%} without, {100 * lost:.1f} points more; {100 * MOST_LOST[precision]:g} "
            "are allowed: not kept"
        )
    return {
        "items": len(labels),
        "accuracy": right[1],
        "accuracy_fp32": right[0],
        "points_allowed": 100 * MOST_LOST[precision],
        "same_answer": float((before.argmax(axis=1) == after.argmax(axis=1)).mean()),
        "mean_difference": float(np.abs(before - after).mean()),
    }
