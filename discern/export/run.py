"""An exported model: its folder in, answers as the bundle gives them out."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch

from discern.clip import Kind
from discern.errors import IntegrityError, UsageError
from discern.files import parse_json
from discern.security.certainty import Certainty, read_certainty
from discern.security.scores import Evidence

FORMAT = "discern-export/1"
ABOUT, GUARD = "discern.json", "guard.safetensors"
MOST_ABOUT = 16 * 2**20  # bytes
Runner = Callable[[np.ndarray], dict[str, np.ndarray]]  # uint8 [B, T, h, w, 3] -> outputs by name


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Graphs by kind, and what a bundle says about its input and its answers."""

    folder: Path
    labels: list[str]
    preprocess: dict[str, Any]
    certainty: Certainty
    runners: Mapping[Kind, Runner]

    def answer(self, kind: Kind, frames: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Probabilities [K] and the guard's keys, of one item [T, h, w, 3].  Raises UsageError."""
        if kind not in self.runners:
            known = ", ".join(str(one) for one in self.runners)
            raise UsageError(f"{self.folder}: exported for {known} only, not for a {kind}")
        found = self.runners[kind](frames[None])
        chances = found["probabilities"][0]
        if not self.certainty.guards:
            return chances, {}
        seen = Evidence(**{n: torch.from_numpy(found[n]) for n in Evidence._fields if n in found})
        return chances, self.certainty.judge(kind, seen)


def exported_at(path: Path | str) -> Path | None:
    """The folder of an export, from itself or one of its graphs; None for anything else."""
    path = Path(path)
    folder = path.parent if path.is_file() else path
    return folder if (folder / ABOUT).is_file() else None


def load_exported(folder: Path) -> Exported:
    """Read and verify an export.  Raises UsageError, IntegrityError."""
    about = _about(folder)
    for name, said in about["files"].items():
        path = folder / name
        if name != Path(name).name or path.is_symlink() or not path.is_file():
            raise IntegrityError(f"{path}: missing, or not a plain file: copy the folder again")
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != said:
                raise IntegrityError(f"{path}: not the file that {ABOUT} names: copy it again")
    runner = RUNNERS.get(about["to"])
    if runner is None:
        raise UsageError(f"{folder}: a torch.export program: load it with torch.export.load")
    guard = folder / GUARD
    tensors = safetensors.torch.load_file(guard) if GUARD in about["files"] else {}
    return Exported(
        folder=folder,
        labels=[str(label) for label in about["labels"]],
        preprocess=dict(about["preprocess"]),
        certainty=read_certainty(
            about["certainty"],
            tensors,
            width=int(about["width"]),
            # where it does not say, the stem has as many
            early=int(about.get("early", about["width"])),
            head=bool(about["head"]),
            where=str(guard),
        ),
        runners={
            Kind(kind): runner(folder / one["file"], str(about.get("precision", "fp32")))
            for kind, one in about["graphs"].items()
        },
    )


def onnx_runner(path: Path, precision: str, threads: int = 0) -> Runner:
    """An onnxruntime session on the CPU, in the precision of its file; 0 threads: as it chooses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    (given,) = (one.name for one in session.get_inputs())
    return lambda frames: dict(zip(names, session.run(names, {given: frames}), strict=True))


@functools.cache
def openvino_core() -> Any:
    """OpenVINO's core, once and for the whole process.

    When the last one goes, its plugins are unloaded, and a process that forks later may die of what
    they have left behind.
    """
    import openvino

    return openvino.Core()


def openvino_capabilities() -> list[str]:
    """Number formats, among others, that OpenVINO computes in on this CPU."""
    return list(openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def openvino_runner(path: Path, precision: str, threads: int = 0) -> Runner:
    """A compiled OpenVINO model on the CPU.

    Single precision; or bf16, where the CPU computes in it, also for what lies between the products
    of int8 in a file of such.  0 threads: as it chooses.
    """
    halved = precision != "fp32" and "BF16" in openvino_capabilities()
    hint: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if halved else "f32"}
    if threads:
        hint["INFERENCE_NUM_THREADS"] = threads
    import openvino

    compiled = openvino_core().compile_model(path, "CPU", hint)
    names = [next(iter(one.get_names())) for one in compiled.outputs]
    # calling the compiled model itself sorts inputs and outputs by name in Python, a tenth of the
    # time of a small picture
    request = compiled.create_infer_request()

    def run(frames: np.ndarray) -> dict[str, np.ndarray]:
        given = openvino.Tensor(np.ascontiguousarray(frames), shared_memory=True)
        request.set_input_tensor(given)
        request.infer()
        return {n: request.get_output_tensor(at).data.copy() for at, n in enumerate(names)}

    return run


class MakesRunner(Protocol):
    """path of a graph, precision, threads -> what runs it"""

    def __call__(self, path: Path, precision: str, threads: int = 0) -> Runner: ...


RUNNERS: dict[str, MakesRunner] = {
    "onnx": onnx_runner,
    "openvino": openvino_runner,
}


def _about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    if path.is_symlink() or path.stat().st_size > MOST_ABOUT:
        raise IntegrityError(f"{path}: not a plain file of its size: copy the folder again")
    try:
        about = parse_json(path.read_bytes())
    except ValueError:
        about = None
    wanted = {"to", "files", "labels", "preprocess", "certainty", "width", "head", "graphs"}
    if not isinstance(about, dict) or about.get("format") != FORMAT or not wanted <= set(about):
        raise IntegrityError(f"{path}: not an export that this version reads ({FORMAT})")
    return about
