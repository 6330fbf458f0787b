"""Model bundles: safetensors and JSON in a folder, under a manifest of SHA-256 sums; no pickle.

model/  model.safetensors  config.json  labels.json  preprocess.json  manifest.json
        guard.safetensors, where the model has a guard; signature.json, where it was signed
The very bytes that were verified are the ones that are used.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from discern import config as configuration
from discern.errors import ConfigError, IntegrityError, UsageError
from discern.files import TEMPORARY, parse_json, sync_folder, write_bytes, write_json
from discern.models.model import Model, ModelConfig, named_tensors
from discern.seal.sign import check_bundle
from discern.security.certainty import Certainty, read_certainty
from discern.shipped import SHIPPED, shipped

FORMAT = "discern-model/1"
WEIGHTS, CONFIG, LABELS, PREPROCESS, MANIFEST = (
    "model.safetensors",
    "config.json",
    "labels.json",
    "preprocess.json",
    "manifest.json",
)
FILES = (WEIGHTS, CONFIG, LABELS, PREPROCESS)
GUARD = "guard.safetensors"  # not in every bundle
# what a configuration of strangers can raise while a model is made of it
ODD = (ConfigError, RuntimeError, ValueError, TypeError, ArithmeticError)
MAX_JSON = 16 * 2**20  # bytes of one JSON file of a bundle


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model and what is needed to use it."""

    model: Model
    labels: list[str]  # class names, in the order of the logits
    preprocess: dict[str, Any]  # settings of data.preprocess
    made: dict[str, Any]  # how it came to be: verb, data, versions, results
    path: Path
    certainty: Certainty = field(default_factory=Certainty)
    public: bool = False  # another library's encoder and nothing else
    weights: str = ""  # SHA-256 of the file of weights that was verified


def save_bundle(
    folder: Path,
    model: Model,
    *,
    labels: Sequence[str],
    preprocess: Mapping[str, Any],
    made: Mapping[str, Any],
    certainty: Certainty | None = None,
) -> None:
    """Write a bundle; an older one in the same place is replaced as a whole."""
    folder = Path(folder)
    temporary = folder.parent / f"{TEMPORARY}{folder.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in named_tensors(model).items()
    }
    write_bytes(temporary / WEIGHTS, safetensors.torch.save(tensors, metadata={"format": FORMAT}))
    settings = {"model": configuration.to_dict(model.config), "made": dict(made)}
    certainty = certainty or Certainty()
    settings["certainty"] = certainty.settings()
    write_json(temporary / CONFIG, {"format": FORMAT, **settings})
    write_json(temporary / LABELS, list(labels))
    write_json(temporary / PREPROCESS, dict(preprocess))
    guards = certainty.tensors()
    if guards:
        write_bytes(temporary / GUARD, safetensors.torch.save(guards))
    files = (*FILES, GUARD) if guards else FILES
    sums = {name: _entry((temporary / name).read_bytes()) for name in files}
    write_json(temporary / MANIFEST, {"format": FORMAT, "files": sums})
    if folder.exists():
        old = folder.parent / f"{TEMPORARY}old-{folder.name}"
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        try:
            temporary.rename(folder)
        except BaseException:
            old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        temporary.rename(folder)
    sync_folder(folder.parent)


def find_bundle(path: Path | str) -> Path:
    """The bundle's folder: itself, in the run folder around it, or one that ships with the package.

    A folder of that name goes before.  Raises UsageError.
    """
    path = Path(path).expanduser()
    if not path.exists():
        path = shipped(path) or path
    for folder in (path, path / "model"):
        # a kill between the two renames of `save_bundle` leaves the older one under its other name
        for one in (folder, folder.parent / f"{TEMPORARY}old-{folder.name}"):
            if (one / MANIFEST).is_file():
                return one
    if not path.exists():
        raise UsageError(
            f"{path}: does not exist: name a run folder, its model folder or {', '.join(SHIPPED)}"
        )
    raise UsageError(
        f"{path}: no model in it: name a run folder that has finished, or its model folder"
    )


def load_bundle(path: Path | str) -> Bundle:
    """Read and verify a bundle.

    Raises UsageError when there is none, IntegrityError when it was altered, or is not signed as
    `requiring` asks.
    """
    folder = find_bundle(path)
    listed = _read(folder, MANIFEST)
    check_bundle(folder, listed)
    manifest = _json(folder / MANIFEST, listed)
    if manifest.get("format") != FORMAT:
        raise IntegrityError(
            f"{folder / MANIFEST}: format {manifest.get('format')!r}, this version reads {FORMAT!r}"
        )
    sums = manifest.get("files")
    if not isinstance(sums, dict) or set(sums) - {GUARD} != set(FILES):
        raise IntegrityError(
            f"{folder / MANIFEST}: must name exactly {', '.join(FILES)} and perhaps {GUARD}"
        )
    data = {name: _verified(folder, name, sums[name]) for name in sums}
    settings = _json(folder / CONFIG, data[CONFIG])
    tensors = _tensors(data[WEIGHTS], folder / WEIGHTS)
    model = _built(settings.get("model"), tensors, folder)
    _fill(model, tensors)
    model.eval().requires_grad_(False)
    sure = settings.get("certainty") or {}  # bundles of before have none
    if not isinstance(sure, dict):
        raise IntegrityError(f"{folder / CONFIG}: certainty must be an object")
    try:
        labels = parse_json(data[LABELS])
    except ValueError:
        labels = None
    if not isinstance(labels, list) or (
        model.config.classes and len(labels) != model.config.classes
    ):
        raise IntegrityError(f"{folder / LABELS}: must list {model.config.classes} class names")
    return Bundle(
        model=model,
        labels=[str(label) for label in labels],
        preprocess=_json(folder / PREPROCESS, data[PREPROCESS]),
        made=settings.get("made", {}),
        path=folder,
        weights=str(sums[WEIGHTS]["sha256"]),
        certainty=read_certainty(
            sure,
            _tensors(data[GUARD], folder / GUARD) if GUARD in data else {},
            width=model.config.backbone.width,
            early=model.backbone.early_width,
            head=model.discriminator is not None,
            where=str(folder / (GUARD if GUARD in data else CONFIG)),
        ),
    )


def _tensors(data: bytes, path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # safetensors raises several kinds, all of them about these bytes
        raise IntegrityError(f"{path}: not a safetensors file: {error}") from None


def _built(said: Any, tensors: Mapping[str, torch.Tensor], folder: Path) -> Model:
    """The model that config.json describes, once it is known that the weights are those of it.

    A configuration can ask for any size, and must not get memory that no weights stand behind: it
    is built without memory first.
    """
    try:
        config = configuration.from_dict(ModelConfig, said if isinstance(said, dict) else {})
        parts = (config.backbone, config.generator)
        if max(part.depth for part in parts if part is not None) > len(tensors):
            raise ConfigError("more layers than weights")
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes of 0
            wanted = named_tensors(Model(config))
    except ODD as error:
        raise IntegrityError(f"{folder / CONFIG}: not a model's: {_first(error)}") from None
    if set(tensors) != set(wanted):
        odd = sorted(set(tensors) ^ set(wanted))
        raise IntegrityError(
            f"{folder / WEIGHTS}: tensors do not fit the configuration: {', '.join(odd[:5])}"
        )
    for name, target in wanted.items():
        if tensors[name].shape != target.shape:
            raise IntegrityError(
                f"{folder / WEIGHTS}: {name} has shape {list(tensors[name].shape)}, "
                f"not {list(target.shape)}"
            )
    try:
        return Model(config)
    except ODD as error:  # of a number that only its first use refuses
        raise IntegrityError(f"{folder / CONFIG}: not a model's: {_first(error)}") from None


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _fill(model: Model, tensors: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, target in named_tensors(model).items():
            target.copy_(tensors[name])


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(f"{path}: missing, or not a plain file: copy the bundle again")
    if name.endswith(".json") and path.stat().st_size > MAX_JSON:
        raise IntegrityError(f"{path}: {path.stat().st_size} bytes are too many for this file")
    return path.read_bytes()


def _verified(folder: Path, name: str, said: Any) -> bytes:
    data = _read(folder, name)
    if said != _entry(data):
        raise IntegrityError(
            f"{folder / name}: not the file that the manifest names (SHA-256 differs): "
            "copy the bundle again"
        )
    return data


def _json(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = parse_json(data)
    except ValueError:
        raise IntegrityError(f"{path}: not valid JSON: copy the bundle again") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: must hold an object")
    return value
